"""``forwarder replay``: send stored batches once more, to their destination or another one."""

import argparse
import asyncio
import contextlib
import signal
import sys
from pathlib import Path
from typing import Any

from forwarder import app
from forwarder.admin.contract import GroupSurvey
from forwarder.admin.outbox_range import WANTED, OutboxRange, format_time
from forwarder.admin.replay import ReplayTotals, measure, replay
from forwarder.cli import common, output
from forwarder.cli.outbox import parse_range
from forwarder.clock import SystemClock
from forwarder.config import loader
from forwarder.config.connection import Connection
from forwarder.config.loader import LoadedConfiguration
from forwarder.config.targets import FileTarget
from forwarder.errors import ConfigurationError
from forwarder.ops import logs

RATE = 100.0
FILE_PREFIX = "file:"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what to send, where to, and how fast."""
    common.add_common(parser)
    parser.add_argument("--connection", metavar="NAME", required=True, help="whose batches")
    parser.add_argument(
        "--from", dest="since", metavar="T", required=True, help=f"from here on: {WANTED}"
    )
    parser.add_argument(
        "--to", dest="until", metavar="T", required=True, help="up to here, and without it"
    )
    common.add_topics(parser)
    common.add_partition(parser)
    parser.add_argument(
        "--to-sink",
        metavar="SINK",
        help="file:DIR, or a connection file whose sink and credentials are used instead",
    )
    parser.add_argument(
        "--rate",
        type=parse_rate,
        metavar="N",
        default=RATE,
        help="batches a second; 100; 0: no limit",
    )
    parser.add_argument(
        "--resume", metavar="PLACES", help="go on where a replay stopped: what it printed"
    )
    parser.add_argument("--dry-run", action="store_true", help="only count what would be sent")
    parser.epilog = (
        "A time is that of a batch's closing. Cursors stay; a document keeps its message_id. "
        "Ctrl-C ends it: what is on its way is waited for, and where to go on is printed."
    )


def parse_rate(text: str) -> float:
    """Return what ``N`` or ``N/s`` says, up to a million; raises ArgumentTypeError."""
    with contextlib.suppress(ValueError):
        if 0 <= (value := float(text.removesuffix("/s"))) <= 1e6:  # noqa: PLR2004  # no nan either
            return value
    msg = f"invalid rate value: {text!r}"
    raise argparse.ArgumentTypeError(msg)


def run(args: argparse.Namespace) -> int:
    """Send, and print what became of it; raises ForwarderError."""
    loaded = common.load_for_command(args.config)
    between = parse_range(args.since, args.until, args.resume)
    target = _target(args, loaded)
    document = common.run_query(loaded, lambda survey: _replay(survey, args, between, target))
    if args.json:
        output.print_json(document)
    else:
        output.print_text("\n".join(_summary(args, document)) + "\n")
    if document.get("error"):
        sys.stderr.write(f"forwarder: {document['error']}\n")
    if not any(map(document.get, ("batches", "sent", "refused", "error", "resume"))):
        common.note_unknown(loaded, args.connection)
    return 0 if document.get("complete", True) else 1


def _target(args: argparse.Namespace, loaded: LoadedConfiguration) -> Connection:
    """Return the connection with the sink to send to; raises ConfigurationError."""
    name, sink = args.connection, args.to_sink
    if sink in {"", FILE_PREFIX}:
        complaint = "--to-sink: must be file:DIR or the path of a connection file"
        raise ConfigurationError([complaint])
    if sink is not None and sink.startswith(FILE_PREFIX):
        return Connection(name, FileTarget(str(Path(sink.removeprefix(FILE_PREFIX)).absolute())))
    if sink is not None:
        other = loader.load_connection(Path(sink))
        logs.configure("warning", "console", loaded.secrets | other.secrets)
        return other.connection
    known = {one.name: one for one in loaded.configuration.connections}
    if name not in known:
        complaint = f"--connection: {name} is not configured, so its sink is not known"
        raise ConfigurationError([f"{complaint}; give --to-sink, or one of {', '.join(known)}"])
    return known[name]


async def _replay(
    survey: GroupSurvey, args: argparse.Namespace, between: OutboxRange, target: Connection
) -> dict[str, Any]:
    partitions = await common.selected_partitions(survey, args.topic, args.partition)
    between.check_places(partitions)
    if args.dry_run:
        return await measure(survey, partitions, args.connection, between)
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with app.open_sinks([target]) as sinks:
        return await replay(
            survey,
            partitions,
            args.connection,
            between,
            sinks[target.name],
            rate=args.rate,
            clock=SystemClock(),
            tell=_progress,
        )


def _progress(tally: ReplayTotals) -> None:
    line = f"sent {tally.sent} batches, {tally.sent_bytes} bytes; refused {tally.refused}"
    waits = [f"; {partition} {reason}" for partition, reason in sorted(tally.trouble.items())]
    sys.stderr.write(line + "".join(waits) + "\n")


def _summary(args: argparse.Namespace, document: dict[str, Any]) -> list[str]:
    if args.dry_run:
        first, last = format_time(document["oldest_ms"]), format_time(document["newest_ms"])
        counted = f"{document['batches']} batches, {document['bytes']} bytes"
        return [f"would send {counted}, closed from {first} to {last}"]
    lines = [f"sent {document['sent']} batches, {document['sent_bytes']} bytes"]
    if document["refused"]:
        lines.append(f"refused {document['refused']}, the last one {document['last_refusal']}")
    lines += [f"{name} was {why}" for name, why in document["waiting_for"].items()]
    if not document["complete"]:
        lines.append(f"stopped; go on with: --resume {','.join(document['resume'])}")
    return lines
