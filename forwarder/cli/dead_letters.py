"""``forwarder dead-letters list|show|redrive``: what could not be processed, and the way back."""

import argparse
import asyncio
import re
import signal
import sys
from typing import Any

import pybase64

from forwarder.admin import dead_letters as letters
from forwarder.admin import redrive
from forwarder.admin.contract import GroupSurvey
from forwarder.admin.dead_letters import LetterFilter
from forwarder.admin.outbox_range import parse_time
from forwarder.admin.redrive import RedriveSelection, RedriveTotals
from forwarder.cli import common, output
from forwarder.cli.outbox import parse_limit
from forwarder.cli.replay import parse_rate
from forwarder.clock import SystemClock
from forwarder.config.connection import Status
from forwarder.config.loader import LoadedConfiguration
from forwarder.errors import ConfigurationError
from forwarder.journal.dead_letters import Letter
from forwarder.model import Reason

DEFAULT_LIST_LIMIT = 100
DEFAULT_LETTER_RATE = 100.0
NO_LIMIT = 10**9

_TIME = "a time with its zone (2026-01-31T12:00:00Z), or milliseconds since the epoch"
_MILLISECONDS = re.compile(r"[0-9]{10,15}")
_PLACE = re.compile(r"([0-9]{1,9}):([0-9]{1,15})")
_OFFSETS = re.compile(r"([0-9]{1,15})(?:-([0-9]{1,15}))?")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the three actions."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    about = "Count the group's dead letters by reason and connection, and list the first of them."
    lists = actions.add_parser("list", help="count and list them", description=about)
    _add_filters(lists)
    lists.add_argument(
        "--limit",
        type=parse_limit,
        metavar="N",
        default=DEFAULT_LIST_LIMIT,
        help=f"list at most so many; {DEFAULT_LIST_LIMIT}",
    )
    about = "Show one dead letter: its headers, and the bytes as they came."
    show = actions.add_parser("show", help="show one with its bytes", description=about)
    common.add_common(show)
    show.add_argument("place", metavar="PARTITION:OFFSET", help="where it is, as list prints it")
    show.add_argument("--raw", action="store_true", help="only its bytes, as they are")
    about = "Send dead letters back through the input, each once, for the connection they are of."
    back = actions.add_parser("redrive", help="send them back", description=about)
    _add_redrive(back)


def _add_filters(parser: argparse.ArgumentParser) -> None:
    common.add_common(parser)
    reasons = [reason.value for reason in Reason]
    parser.add_argument(
        "--reason", action="append", choices=reasons, help="only with this reason; repeatable"
    )
    parser.add_argument(
        "--connection", action="append", metavar="NAME", help="only of this one; repeatable"
    )
    parser.add_argument("--from", dest="since", metavar="T", help=f"made from here on: {_TIME}")
    parser.add_argument("--to", dest="until", metavar="T", help="made up to here, and without it")
    common.add_topics(parser)
    parser.add_argument("--partition", type=int, metavar="N", help="only from this input partition")
    parser.add_argument(
        "--offset", metavar="A[-B]", help="only from this offset of the input, or these"
    )
    parser.add_argument(
        "--letter", metavar="PARTITION:OFFSET", action="append", help="only this one; repeatable"
    )


def _add_redrive(parser: argparse.ArgumentParser) -> None:
    _add_filters(parser)
    parser.add_argument(
        "--limit", type=parse_limit, metavar="N", default=NO_LIMIT, help="at most so"
    )
    parser.add_argument(
        "--rate",
        type=parse_rate,
        metavar="N",
        default=DEFAULT_LETTER_RATE,
        help="letters a second; 100; 0: no limit",
    )
    parser.add_argument(
        "--again", action="store_true", help="also what was sent back once and failed again"
    )
    parser.add_argument(
        "--repeat",
        action="store_true",
        help="also what was sent back already: it comes a second time; needs --letter",
    )
    common.add_consent(parser)
    parser.epilog = (
        "Mend the cause first, and let every worker run a release that knows the marks. "
        "Run twice, it sends nothing twice; stopped half-way, it goes on where it stopped."
    )


def run(args: argparse.Namespace) -> int:
    """Do one of the three; raises ForwarderError."""
    action = {"list": _list, "show": _show, "redrive": _redrive}[args.action]
    return action(args)


# ------------------------------------------------------------------------------- list and show


def _list(args: argparse.Namespace) -> int:
    loaded = common.load_for_command(args.config)
    wanted = _filter(args, loaded)
    document = common.run_query(
        loaded, lambda survey: letters.list_letters(survey.dead_letters(), wanted, args.limit)
    )
    if args.json:
        output.print_json(document)
    else:
        output.print_text(_table(document))
    return 0


def _table(document: dict[str, Any]) -> str:
    if not document["counts"]:
        return "no dead letters\n"
    sums = ("REASON", "CONNECTION", "STATE", "LETTERS", "BYTES")
    counted = output.format_table(sums, map(_count, document["counts"]))
    heads = ("PLACE", "STORED AT", "STATE", "REASON", "CONNECTION", "FROM", "BYTES", "ERROR")
    rest = "and there are more (--limit)\n" if document["more"] else ""
    return f"{counted}\n{output.format_table(heads, map(_row, document['letters']))}{rest}"


def _count(one: dict[str, Any]) -> tuple[object, ...]:
    reason, connection = printable(one["reason"]), printable(one["connection"])
    return reason, connection or None, one["state"], one["letters"], one["bytes"]


def _row(one: dict[str, Any]) -> tuple[object, ...]:
    return (
        one["place"],
        one["stored_at"],
        one["state"],
        printable(one["reason"]),
        printable(one["connection"]) or None,
        one["from"] and printable(one["from"]),
        "truncated" if one["truncated"] else one["bytes"],
        printable(one["error"]),
    )


def _show(args: argparse.Namespace) -> int:
    loaded = common.load_for_command(args.config)
    number, offset = _parse_place(args.place, "PARTITION:OFFSET")
    group = loaded.configuration.kafka.group_id
    letter, state = common.run_query(
        loaded, lambda survey: letters.find_letter(survey.dead_letters(), number, offset, group)
    )
    if args.raw:
        output.print_bytes(letter.value)
    elif args.json:
        output.print_json(_letter_document(letter, state))
    else:
        heads = {"place": letter.place, "state": state, **letter.headers}
        lines = [f"{printable(name)}: {printable(text) or '-'}" for name, text in heads.items()]
        output.print_text("\n".join([*lines, "", _body(letter), ""]))
    return 0


def _letter_document(letter: Letter, state: str) -> dict[str, Any]:
    return {
        **letters.letter_document(letter, state),
        "headers": letter.headers,
        "value": printable(letter.value.decode(errors="backslashreplace")),
        "value_base64": pybase64.b64encode(letter.value).decode(),
    }


def _body(letter: Letter) -> str:
    if letter.truncated:
        where = printable(f"{letter.origin}:{letter.at}")
        return f"(its bytes were too large; they were at {where} of the input)"
    return printable(letter.value.decode(errors="backslashreplace"))


def printable(text: str) -> str:
    """Return text that no terminal takes for a command."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


# ------------------------------------------------------------------------------------- redrive


def _redrive(args: argparse.Namespace) -> int:
    loaded = common.load_for_command(args.config)
    choice = _choice(args, loaded)
    tally = common.run_query(loaded, lambda survey: redrive.plan(survey.dead_letters(), choice))
    if not args.json:
        output.print_text(
            _summary(tally, "would be sent back" if args.dry_run else "to be sent back")
        )
    if args.dry_run or not tally.letters:
        return _finish(args, tally, sent=False)
    if not common.confirm(args):
        _finish(args, tally, sent=False)
        return 1
    ends = tally.ends
    try:
        tally = common.run_query(loaded, lambda survey: _send(survey, args, choice, ends))
    except asyncio.CancelledError:  # SIGTERM; as after Ctrl-C, the transaction under way has ended
        raise KeyboardInterrupt from None
    return _finish(args, tally, sent=True)


async def _send(
    survey: GroupSurvey, args: argparse.Namespace, choice: RedriveSelection, ends: dict[int, int]
) -> RedriveTotals:
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    topic = survey.dead_letters()
    producer = topic.redrive_producer()
    try:
        return await redrive.redrive(
            topic, producer, choice, ends, rate=args.rate, clock=SystemClock(), tell=_progress
        )
    finally:
        await producer.close()


def _progress(tally: RedriveTotals) -> None:
    sys.stderr.write(f"sent back {tally.letters} letters, {tally.bytes} bytes\n")


def _finish(args: argparse.Namespace, tally: RedriveTotals, *, sent: bool) -> int:
    if args.json:
        output.print_json({"sent": sent, **tally.document()})
    elif sent:
        output.print_text(f"sent back {tally.letters} letters, {tally.bytes} bytes\n")
    elif not args.dry_run:
        output.print_text("nothing was sent back\n")
    return 0


def _summary(tally: RedriveTotals, verb: str) -> str:
    heads = ("REASON", "CONNECTION", "LETTERS")
    rows = [
        (printable(reason), printable(lane) or None, n)
        for (reason, lane), n in sorted(tally.counts.items())
    ]
    table = output.format_table(heads, rows) + "\n" if rows else ""
    lines = [f"{tally.letters} letters, {tally.bytes} bytes {verb}"]
    lines += [f"{count} stay: {printable(why)}" for why, count in sorted(tally.skipped.items())]
    return table + "\n".join(lines) + "\n"


def _choice(args: argparse.Namespace, loaded: LoadedConfiguration) -> RedriveSelection:
    if args.repeat and not args.letter:
        complaint = "--repeat: would send again what was sent back; name each with --letter"
        raise ConfigurationError([complaint])
    configured = loaded.configuration.connections
    return RedriveSelection(
        _filter(args, loaded),
        frozenset(one.name for one in configured if one.status is Status.ACTIVE),
        frozenset(topic.name for topic in loaded.configuration.kafka.topics),
        args.limit,
        again=args.again,
        repeat=args.repeat,
    )


# ------------------------------------------------------------------------------------- options


def _filter(args: argparse.Namespace, loaded: LoadedConfiguration) -> LetterFilter:
    first, last = _parse_offsets(args.offset)
    since = None if args.since is None else _parse_time(args.since, "--from")
    until = None if args.until is None else _parse_time(args.until, "--to")
    if since is not None and until is not None and since >= until:
        complaint = "--to: is not after --from, so that nothing lies between them"
        raise ConfigurationError([complaint])
    places = [_parse_place(text, "--letter") for text in args.letter or ()]
    return LetterFilter(
        group=loaded.configuration.kafka.group_id,
        reasons=frozenset(args.reason or ()),
        connections=frozenset(args.connection or ()),
        since_ms=since,
        until_ms=until,
        topics=frozenset(args.topic or ()),
        partition=args.partition,
        first=first,
        last=last,
        places=frozenset(f"{number}:{offset}" for number, offset in places),
    )


def _parse_time(text: str, option: str) -> int:
    return int(text) if _MILLISECONDS.fullmatch(text) else parse_time(text, option, _TIME)


def _parse_place(text: str, option: str) -> tuple[int, int]:
    match = _PLACE.fullmatch(text)
    if match is None:
        complaint = f"{option}: must be PARTITION:OFFSET of the dead letter topic, is {text!r}"
        raise ConfigurationError([complaint])
    return int(match[1]), int(match[2])


def _parse_offsets(text: str | None) -> tuple[int | None, int | None]:
    if text is None:
        return None, None
    match = _OFFSETS.fullmatch(text)
    if match is None:
        complaint = f"--offset: must be an offset, or two as in 100-200, is {text!r}"
        raise ConfigurationError([complaint])
    return int(match[1]), int(match[2] or match[1])
