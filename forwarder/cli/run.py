"""``forwarder run``: the worker, or the same pipeline over a file."""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import structlog

from forwarder import app
from forwarder.admin.contract import GroupSurvey
from forwarder.admin.retired_topics import LeftTopicsCheck, LeftTopicsReport
from forwarder.cli import common, output
from forwarder.clock import SystemClock
from forwarder.config import loader, masking
from forwarder.config.settings import DUPLICATES_MS, INPUT_FORMATS, InputTopic
from forwarder.errors import ConfigurationError, ForwarderError
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
    parser.add_argument(
        "--format",
        choices=INPUT_FORMATS,
        help="what the file holds; else what --topic does, or all kafka.topics, or mparticle",
    )
    parser.add_argument(
        "--topic", metavar="T", help="the input topic that the file stands for, of kafka.topics"
    )
    parser.set_defaults(usage=parser.error)


def run(args: argparse.Namespace) -> int:
    """Run until stopped, or until the file is done; raises ForwarderError."""
    if args.source is None:
        if args.connection or args.sink or args.format or args.topic:
            args.usage("--connection, --sink, --format and --topic need --source")
        return _work(args.config)
    if args.topic and args.connection:
        args.usage("--topic is one of kafka.topics, and so needs --config")
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
        topics: Sequence[InputTopic] = loaded.configuration.kafka.topics
        form = _file_format(args, topics)
        connections = loaded.configuration.connections
        secrets, notes, suspects = loaded.secrets, loaded.notes, loaded.suspects
    else:
        single = loader.load_connection(args.connection, offline=offline)
        topics, form = (), args.format or INPUT_FORMATS[0]
        connections = (single.connection,)
        secrets, notes, suspects = single.secrets, single.notes, single.suspects
    # For a terminal: the summary is the result.
    logs.configure("warning", "console", secrets)
    output.hide_suspects(suspects)
    for note in notes:
        sys.stderr.write(f"note: {note}\n")
    if args.topic is None and any(one.match.topic for one in connections):
        sys.stderr.write("note: match.topic is left out of account: --topic names the file's\n")
    window = _duplicates_ms(topics, args.topic, form)
    run = app.run_file(
        connections, args.source, args.sink, form, topic=args.topic, duplicates_ms=window
    )
    tally = asyncio.run(run)
    sys.stderr.write(output.mask_suspects(tally.text()) + "\n")
    return 1 if tally.is_useless() else 0


def _file_format(args: argparse.Namespace, topics: Sequence[InputTopic]) -> str:
    """Return what a file holds: what is said, else the format of its topic, or that of all."""
    formats = {topic.name: topic.format for topic in topics}
    if args.topic is not None and args.topic not in formats:
        known = ", ".join(formats)
        raise ConfigurationError(
            [f"--topic: {args.topic} is not in kafka.topics; give one of {known}"]
        )
    meant = {formats[args.topic]} if args.topic is not None else {*formats.values()}
    if args.format is None and len(meant) > 1:
        text = "kafka.topics have several formats: say by --topic or --format what the file holds"
        raise ConfigurationError([text])
    if args.topic is not None and args.format not in {None, *meant}:
        text = f"--format: {args.topic} holds {formats[args.topic]}; give no other, or no --topic"
        raise ConfigurationError([text])
    return args.format or meant.pop()


def _duplicates_ms(topics: Sequence[InputTopic], topic: str | None, form: str) -> int:
    """Return how far apart duplicates are looked for in a file, as in the topics it may be of."""
    meant = [one for one in topics if one.format == form and topic in {None, one.name}]
    return max([one.duplicates_ms for one in meant], default=DUPLICATES_MS.get(form, 0))
