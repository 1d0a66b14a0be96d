"""``forwarder run``: the worker, or the same pipeline over a file."""

import argparse
import asyncio
import sys
from functools import partial
from pathlib import Path

import structlog

from forwarder import app
from forwarder.admin.contract import GroupSurvey
from forwarder.admin.retired_topics import LeftTopicsCheck, LeftTopicsReport
from forwarder.cli import common, output
from forwarder.clock import SystemClock
from forwarder.config import loader, masking
from forwarder.errors import ForwarderError
from forwarder.ops import logs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the configuration, and the file to read instead of Kafka."""
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--config", type=Path, metavar="FILE", help="forwarder.yaml")
    which.add_argument(
        "--connection", type=Path, metavar="FILE", help="a single connection file; needs --source"
    )
    parser.add_argument(
        "--source",
        metavar="FILE",
        help="read uploads from this NDJSON file, plain, gzip or zstd, - for stdin; no Kafka",
    )
    parser.add_argument(
        "--sink", type=Path, metavar="DIR", help="write batches into this folder; no AWS"
    )
    parser.set_defaults(usage=parser.error)


def run(args: argparse.Namespace) -> int:
    """Run until stopped, or until the file is done; raises ForwarderError."""
    if args.source is None:
        if args.connection or args.sink:
            args.usage("--connection and --sink need --source")
        return _work(args.config)
    return _read_file(args)


def _work(config: Path) -> int:
    loaded = loader.load_configuration(config)
    log = loaded.configuration.log
    logs.configure(log.level, log.format, loaded.secrets)
    for one in loaded.noted:
        at = {"file": one.file, "line": one.line, "key": one.key}
        structlog.get_logger().warning("configuration.note", note=one.text, **at)
    left_topics = LeftTopicsCheck(
        common.keying_rules(loaded), loaded.configuration.journal.retired_topics
    )

    async def check(survey: GroupSurvey) -> LeftTopicsReport:
        return await left_topics.check(survey, SystemClock().wall_ms())

    # Nothing may be left of a topic that was taken out, unless it is said to be given up.
    look = partial(common.query_survey, loaded, check)
    try:
        return asyncio.run(app.run_worker(loaded.configuration, look))
    except ForwarderError as error:
        # In the log as well: what reads it takes lines of JSON, and nothing else.
        what, remedy = map(masking.mask_line, (error.what, error.remedy))
        structlog.get_logger().error("worker.failed", error=what, remedy=remedy)
        raise


def _read_file(args: argparse.Namespace) -> int:
    offline = args.sink is not None
    if args.config:
        loaded = loader.load_configuration(args.config, offline=offline)
        connections = loaded.configuration.connections
        secrets, notes, suspects = loaded.secrets, loaded.notes, loaded.suspects
    else:
        single = loader.load_connection(args.connection, offline=offline)
        connections = (single.connection,)
        secrets, notes, suspects = single.secrets, single.notes, single.suspects
    # For a terminal: the summary is the result.
    logs.configure("warning", "console", secrets)
    output.hide_suspects(suspects)
    for note in notes:
        sys.stderr.write(f"note: {note}\n")
    tally = asyncio.run(app.run_file(connections, args.source, args.sink))
    sys.stderr.write(output.mask_suspects(tally.text()) + "\n")
    return 1 if tally.is_useless() else 0
