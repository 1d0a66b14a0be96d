"""``forwarder outbox show``: which batches are stored for a connection, and what is in them."""

import argparse
import contextlib
from typing import Any

from forwarder.admin.contract import GroupSurvey
from forwarder.admin.outbox import BatchFilter, show_batches
from forwarder.admin.outbox_range import WANTED, OutboxRange, parse_edge
from forwarder.cli import common, output

LIMIT = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare ``show`` and what it is asked for."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    about = "List stored batches of a connection, oldest first, and print them on request."
    show = actions.add_parser("show", help="list stored batches", description=about)
    common.add_common(show)
    show.add_argument("--connection", metavar="NAME", required=True, help="whose batches")
    show.add_argument("--from", dest="since", metavar="T", help=f"from here on: {WANTED}")
    show.add_argument("--to", dest="until", metavar="T", help="up to here, and without it")
    common.add_topics(show)
    common.add_partition(show)
    show.add_argument(
        "--id", metavar="ID", action="append", default=[], help="this message_id; repeatable"
    )
    show.add_argument(
        "--device-key", metavar="HEX", default="", help="this device: DEVICE, or its beginning"
    )
    show.add_argument("--mpid", metavar="MPID", default="", help="of this mpid")
    show.add_argument(
        "--waiting", action="store_true", help="only what was not delivered as of the last tick"
    )
    show.add_argument(
        "--limit", type=parse_limit, metavar="N", default=LIMIT, help=f"at most so many; {LIMIT}"
    )
    show.add_argument("--payload", action="store_true", help="print the documents too")


def parse_limit(text: str) -> int:
    """Return how many batches are meant, at least one; raises ArgumentTypeError."""
    with contextlib.suppress(ValueError):
        if (value := int(text)) > 0:
            return value
    msg = f"invalid limit value: {text!r}"
    raise argparse.ArgumentTypeError(msg)


def run(args: argparse.Namespace) -> int:
    """Print the batches; raises ForwarderError if Kafka does not answer."""
    loaded = common.load_for_command(args.config)
    found, more = common.run_query(loaded, lambda survey: _collect_batches(survey, args))
    if args.json:
        output.print_json({"connection": args.connection, "batches": found, "more": more})
    else:
        _print(found, more=more, payload=args.payload)
    if not found:
        common.note_unknown(loaded, args.connection)
    return 0


async def _collect_batches(
    survey: GroupSurvey, args: argparse.Namespace
) -> tuple[list[dict[str, Any]], bool]:
    partitions = await common.selected_partitions(survey, args.topic, args.partition)
    wanted = BatchFilter(
        lane=args.connection,
        stretch=parse_range(args.since, args.until),
        ids=frozenset(args.id),
        key=args.device_key.lower(),
        mpid=args.mpid,
        waiting=args.waiting,
    )
    wanted.stretch.check_places(partitions)
    found: list[dict[str, Any]] = []
    async for document in show_batches(survey, partitions, wanted, payload=args.payload):
        if len(found) >= args.limit:
            return found, True
        found.append(document)
    return found, False


def parse_range(since: str | None, until: str | None, resume: str | None = None) -> OutboxRange:
    """Return the stretch that options name; raises ConfigurationError."""
    options = (("--from", since), ("--to", until), ("--resume", resume))
    found = OutboxRange(
        *(None if text is None else parse_edge(text, option) for option, text in options)
    )
    found.check()
    return found


def _print(found: list[dict[str, Any]], *, more: bool, payload: bool) -> None:
    heads = (
        *("PLACE", "ID", "STATE", "CLOSED AT", "WHY", "FIRST", "LAST"),
        *("EVENTS", "BYTES", "DEVICE"),
    )
    if payload:
        for one in found:
            output.print_text(output.format_table(heads, [_row(one)]) + one["payload"] + "\n")
    else:
        output.print_text(output.format_table(heads, map(_row, found)))
    counted = f"{len(found)} batch{'' if len(found) == 1 else 'es'}"
    output.print_text(f"{counted}, and there are more (--limit)\n" if more else f"{counted}\n")


def _row(one: dict[str, Any]) -> tuple[object, ...]:
    return (
        f"{one['partition']}:{_joined(one['address'])}",
        one["id"],
        one["state"],
        one["closed_at"],
        one["reason"],
        _joined(one["first"]),
        _joined(one["last"]),
        one["events"],
        one["bytes"],
        one["device_key"],
    )


def _joined(numbers: list[int]) -> str:
    return ".".join(map(str, numbers))
