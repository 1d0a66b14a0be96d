"""The composition root: the only module that names concrete sources, journals and sinks."""

import math
import os
import random
import socket
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import structlog

from forwarder.aws.session import AwsSession
from forwarder.aws.static_keys import KeyRotation
from forwarder.clock import Clock, InputClock, SystemClock
from forwarder.collect.pipeline import compile_lanes
from forwarder.config.connection import Connection, Match, Status
from forwarder.config.key_rotation import reread_keys
from forwarder.config.settings import (
    INPUT_FORMATS,
    Configuration,
    JournalSettings,
    LimitSettings,
)
from forwarder.config.targets import FileTarget, FirehoseTarget, KinesisTarget
from forwarder.deliver.budget import Budget
from forwarder.deliver.context import DeliverContext
from forwarder.deliver.readback import ScanLimiter
from forwarder.errors import ForwarderError, StartupError
from forwarder.formats.contract import DUPLICATES, Formats
from forwarder.formats.registry import BUILT_IN
from forwarder.journal.contract import Journals
from forwarder.journal.kafka import KafkaJournals
from forwarder.journal.memory import MemoryJournals
from forwarder.journal.orphans import OrphanPolicy
from forwarder.journal.retention import OutboxRetention
from forwarder.kafka import client, patches
from forwarder.model import STATUS
from forwarder.ops import chores, logs, open_files, signals
from forwarder.ops.definition import ConfiguredLabels
from forwarder.ops.health import Health
from forwarder.ops.http_server import HttpLimits
from forwarder.ops.metrics import Metrics
from forwarder.ops.public import PublicView
from forwarder.ops.report import WorkerReport
from forwarder.ops.reporter import Chore, Reporter
from forwarder.ops.server import OpsServer
from forwarder.ops.tally import Tally
from forwarder.ops.version import version
from forwarder.sinks.contract import Sink
from forwarder.sinks.file import FileDeadLetters, FileSink
from forwarder.sinks.firehose import FirehoseSink
from forwarder.sinks.kinesis import KinesisSink
from forwarder.sources import file
from forwarder.sources.file import FileSource
from forwarder.sources.kafka import KafkaSource
from forwarder.worker import gauges, memory
from forwarder.worker.context import PartitionLimits, TickPolicy, WorkerContext
from forwarder.worker.reject_rate import RejectRate
from forwarder.worker.retired_topics import CheckLeftTopics, LeftTopicsMonitor
from forwarder.worker.worker import Worker, WorkerMode

log = structlog.get_logger()

MAX_FILE_BACKLOG = 128 * 1024 * 1024
"""Stored bytes that may wait for delivery in a run without Kafka."""

DEAD_LETTER_FILE = "dead-letters.ndjson"


class WorkerPlan(msgspec.Struct, frozen=True):
    """What a worker is made of, whatever it reads and wherever it writes.

    ``topics``: by name the format of what is in them, one of ``formats``. ``session_timeout``:
    seconds after which others take over from a silent worker, if there are. ``duplicates_ms``: by
    topic how far apart duplicates are looked for, where they are.
    """

    group: str
    connections: Sequence[Connection]
    journal: JournalSettings
    limits: LimitSettings
    topics: Mapping[str, str]
    session_timeout: float = math.inf
    formats: Formats = BUILT_IN
    duplicates_ms: Mapping[str, int] = {}


async def run_worker(configuration: Configuration, look: CheckLeftTopics) -> int:
    """Be a worker until stopped; return the exit code. Raises ForwarderError.

    ``look``: at what is left of input topics that are not configured any more.
    """
    memory.tune_malloc()
    memory.tune_gc()
    clock = SystemClock()
    metrics = Metrics(version(), known=metric_labels(configuration))
    active = {c.name: c.status is Status.ACTIVE for c in configuration.connections}
    report = WorkerReport(metrics, Health(clock), clock, active)
    files = open_files.raise_limit()
    bounds = HttpLimits(open_files.probe_connections(files, HttpLimits().connections))
    server = OpsServer(report, PublicView(configuration.connections), bounds, clock)
    client.quiet_client_log()
    patches.install(configuration.kafka.max_unpacked_batch)
    # R4 knows this process by it; a restarted container has the same name and pid as before.
    client_id = f"forwarder-{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    journals = KafkaJournals(configuration, client_id, clock)
    source = KafkaSource(configuration, client_id, journals.cluster)
    plan = WorkerPlan(
        configuration.kafka.group_id,
        configuration.connections,
        configuration.journal,
        configuration.limits,
        {topic.name: topic.format for topic in configuration.kafka.topics},
        configuration.kafka.session_timeout_ms / 1000,
        duplicates_ms={one.name: one.duplicates_ms for one in configuration.kafka.topics},
    )
    async with open_sinks(configuration.connections) as sinks:
        context = make_context(plan, sinks, journals, clock, report)
        worker = Worker(source, context, WorkerMode(configuration.drain_timeout_ms / 1000))
        supervisors = worker.membership.supervisors.values()
        metrics.watch_waiting_events(partial(gauges.waiting_events, supervisors))
        signals.drain_on_signals(worker.stop, worker.is_stopping, "worker.drains")
        port = await server.start(configuration.server.host, configuration.server.port)
        log.info(
            "worker.starts",
            version=version(),
            client_id=client_id,
            port=port,
            group=configuration.kafka.group_id,
            topics=[topic.name for topic in configuration.kafka.topics],
            connections=len(configuration.connections),
            open_files=files,
        )
        retention = OutboxRetention(configuration, journals.cluster, clock)
        left = LeftTopicsMonitor(look)
        beside: dict[Chore, chores.ChoreRun] = {
            Chore.HEARTBEAT: report.run_heartbeat,
            Chore.LEFT_TOPICS: left.run,
            Chore.GAUGES: partial(gauges.run, worker.membership, source, metrics, clock, retention),
        }
        try:
            main = start_when_ready(worker, journals, left.check_start)
            await chores.run_with_chores(beside, main, clock, report.chore_failed)
        finally:
            await journals.close()
            await server.stop()
    log.info("worker.stopped")
    return 0


def metric_labels(configuration: Configuration) -> ConfiguredLabels:
    """Return what the configuration says of the labels of metrics."""
    topics, connections = configuration.kafka.topics, configuration.connections
    reasons: dict[str, list[str]] = {}
    for one in connections:
        filters = [
            BUILT_IN.inputs[form].event_filter(one.name, one.settings)
            for form in dict.fromkeys(topic.format for topic in topics)
        ]
        found = dict.fromkeys(reason for each in filters for reason in each.reasons)
        if any(topic.duplicates_ms for topic in topics):
            found[DUPLICATES] = None
        reasons[one.name] = [*found, *([] if one.status is Status.ACTIVE else [STATUS])]
    return ConfiguredLabels(
        [topic.name for topic in topics], reasons, configuration.journal.retired
    )


async def start_when_ready(
    worker: Worker, journals: KafkaJournals, look: Callable[[], Coroutine[Any, Any, None]]
) -> None:
    """Wait until Kafka has the topics and ``look`` passes, then work.

    Raises StartupError if the worker must not begin.
    """
    await worker.retry_until_stopped(lambda: journals.prepare(frozenset()))
    await worker.retry_until_stopped(look)
    for note in journals.notes:
        log.warning("kafka.note", note=note)
    await worker.run()


async def run_file(  # noqa: PLR0913  # what a file is read and written by, each given once
    connections: Sequence[Connection],
    source: str,
    folder: Path | None,
    form: str = INPUT_FORMATS[0],
    formats: Formats = BUILT_IN,
    *,
    topic: str | None = None,
    duplicates_ms: int = 0,
) -> Tally:
    """Read a file of uploads to its end, deliver everything, return the totals.

    With a ``folder`` every connection writes there instead of into its own sink, and what an
    earlier run left in it is replaced. ``form``: the format of the uploads, one of ``formats``.
    ``topic``: the input topic that the file stands for; None: any that a connection wants.
    ``duplicates_ms``: how far apart duplicates are looked for in it, 0: not at all.
    """
    if folder is not None:
        _clear_output(folder, connections)
    letters = FileDeadLetters((folder or Path()) / DEAD_LETTER_FILE)
    journals = MemoryJournals(trim=True, dead_letters=letters.append)
    tally = Tally(SystemClock(), [connection.name for connection in connections])
    read = FileSource(source, formats.inputs[form])
    # Nothing is skipped that a file holds: deliver_from is about what waits in Kafka.
    connections = [
        replace(one, deliver_from_ms=None, match=match_in_file(one.match, topic))
        for one in connections
    ]
    plan = WorkerPlan(
        "file",
        connections,
        JournalSettings(),
        LimitSettings(rejected_percent=0),
        {file.PARTITION.topic: form},
        formats=formats,
        duplicates_ms={file.PARTITION.topic: duplicates_ms},
    )
    async with open_sinks(connections, folder) as sinks:
        context = make_context(
            plan, sinks, journals, InputClock(read.now_ms), tally, explain_misses=True
        )
        mode = WorkerMode(
            drain=10.0,
            wall_clocked=False,
            has_room=lambda: journals.outbox_bytes() < MAX_FILE_BACKLOG,
        )
        worker = Worker(read, context, mode)
        signals.drain_on_signals(worker.stop, worker.is_stopping, "worker.drains")
        try:
            await worker.run()
        finally:
            letters.close()
    tally.remarks = read.remarks()
    if worker.is_stopping():
        msg = f"stopped before the end of the input\n{tally.text()}"
        raise ForwarderError(msg)
    if fault := read.fault():
        msg = f"{fault}\n{tally.text()}"
        raise ForwarderError(msg)
    return tally


def match_in_file(match: Match, topic: str | None) -> Match:
    """Return a match as it is for a file that stands for a topic; None: for any it wants.

    A file is a topic of its own name, so what is wanted of its topic is wanted without one.
    """
    wanted = match.topic is None or topic is None or topic in match.topic
    return replace(match, topic=None if wanted else frozenset())


def make_context(  # noqa: PLR0913  # what is concrete, each given once
    plan: WorkerPlan,
    sinks: dict[str, Sink],
    journals: Journals,
    clock: Clock,
    reporter: Reporter,
    *,
    explain_misses: bool = False,
) -> WorkerContext:
    """Compile the lanes, and return what every partition of the worker is given."""
    lanes = {
        form: compile_lanes(plan.connections, form, plan.formats)
        for form in set(plan.topics.values())
    }
    active = sum(one.status is Status.ACTIVE for one in plan.connections)
    in_flight = plan.limits.in_flight
    return WorkerContext(
        group=plan.group,
        lanes={topic: lanes[form] for topic, form in plan.topics.items()},
        duplicates_ms=plan.duplicates_ms,
        journals=journals,
        clock=clock,
        reporter=reporter,
        random=random.random,
        ticks=TickPolicy(
            tick=plan.journal.tick_ms / 1000,
            base_interval=plan.journal.base_interval_ms / 1000,
            session_timeout=plan.session_timeout,
        ),
        limits=PartitionLimits(in_flight, plan.limits.window_memory),
        reject_rate=RejectRate(plan.limits.rejected_percent, active),
        orphan_policy=OrphanPolicy(plan.journal.lane_ttl_ms, frozenset(plan.journal.retired)),
        explain_misses=explain_misses,
        deliver=DeliverContext(
            sinks=sinks,
            clock=clock,
            reporter=reporter,
            random=random.random,
            queue_bytes=in_flight,
            scan_limiter=ScanLimiter(clock, Budget(in_flight)),
        ),
    )


@asynccontextmanager
async def open_sinks(
    connections: Sequence[Connection], folder: Path | None = None
) -> AsyncIterator[dict[str, Sink]]:
    """Make the sink of every connection, and close them all at the end, whatever one raises.

    What was raised last comes out once all are closed.
    """
    async with AsyncExitStack() as stack:
        aws = AwsSession(SystemClock(), rotation=KeyRotation(reread_keys, logs.hide))
        stack.push_async_callback(aws.close)
        sinks: dict[str, Sink] = {}
        for connection in connections:
            sinks[connection.name] = sink = _sink(connection, aws, folder)
            stack.push_async_callback(sink.close)
        yield sinks


def _sink(connection: Connection, aws: AwsSession, folder: Path | None) -> Sink:
    """Return the sink of a connection: the only place that knows which target wants which."""
    if folder is not None:
        return FileSink(folder, connection.name)
    match connection.sink:
        case FileTarget(path=path):
            return FileSink(Path(path), connection.name)
        case FirehoseTarget() as target:
            return FirehoseSink(connection, target, aws)
        case KinesisTarget() as target:
            return KinesisSink(connection, target, aws)


def _clear_output(folder: Path, connections: Sequence[Connection]) -> None:
    """Begin the output anew, so that the same run gives the same files; raises StartupError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in (*(f"{c.name}.ndjson" for c in connections), DEAD_LETTER_FILE):
            (folder / name).write_bytes(b"")
    except OSError as error:
        msg = f"{folder} cannot be written: {error.strerror}; name a folder that can"
        raise StartupError(msg) from error
