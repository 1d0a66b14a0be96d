"""The composition root: the only module that names concrete sources, journals and sinks."""

import asyncio
import math
import os
import random
import signal
import socket
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import structlog

from forwarder.aws.session import Aws
from forwarder.aws.static_keys import KeyRotation
from forwarder.clock import Clock, InputClock, SystemClock
from forwarder.collect.pipeline import compile_lanes
from forwarder.config.connection import Connection, Status
from forwarder.config.key_rotation import reread_keys
from forwarder.config.settings import (
    INPUT_FORMATS,
    Configuration,
    JournalSettings,
    LimitSettings,
)
from forwarder.config.targets import FileTarget, FirehoseTarget
from forwarder.deliver.budget import Budget
from forwarder.deliver.context import DeliverContext
from forwarder.deliver.readback import ScanLimiter
from forwarder.errors import ForwarderError, StartupError
from forwarder.formats.contract import Formats
from forwarder.formats.registry import BUILT_IN
from forwarder.journal.contract import Journals
from forwarder.journal.kafka import KafkaJournals
from forwarder.journal.memory import MemoryJournals
from forwarder.journal.orphans import Rules
from forwarder.journal.retention import Retention
from forwarder.kafka import client
from forwarder.model import STATUS
from forwarder.ops import logs, open_files
from forwarder.ops.catalogue import Known
from forwarder.ops.health import Health
from forwarder.ops.http_server import Bounds
from forwarder.ops.metrics import Metrics
from forwarder.ops.public import Public
from forwarder.ops.report import Report
from forwarder.ops.reporter import Chore, Reporter
from forwarder.ops.server import Server
from forwarder.ops.tally import Tally
from forwarder.ops.version import version
from forwarder.sinks.contract import Sink
from forwarder.sinks.file import FileDeadLetters, FileSink
from forwarder.sinks.firehose import FirehoseSink
from forwarder.sinks.kinesis import KinesisSink
from forwarder.sources import file
from forwarder.sources.file import FileSource
from forwarder.sources.kafka import KafkaSource
from forwarder.worker import chores, gauges, gc_tuning
from forwarder.worker.context import Pacing, Surroundings
from forwarder.worker.reject_rate import Guard
from forwarder.worker.retired_topics import LeftTopics, Look
from forwarder.worker.worker import Life, Worker, leave_at_once

log = structlog.get_logger()

CLOSED_FLOOR = 1024 * 1024
"""Bytes one partition may have closed and not yet committed, however many there are."""

FILE_BACKLOG = 128 * 1024 * 1024
"""Stored bytes that may wait for delivery in a run without Kafka."""

DEAD_LETTERS = "dead-letters.ndjson"


class Plan(msgspec.Struct, frozen=True):
    """What a worker is made of, whatever it reads and wherever it writes.

    ``topics``: by name the format of what is in them, one of ``formats``. ``session_timeout``:
    seconds after which others take over from a silent worker, if there are.
    """

    group: str
    connections: Sequence[Connection]
    journal: JournalSettings
    limits: LimitSettings
    topics: Mapping[str, str]
    session_timeout: float = math.inf
    formats: Formats = BUILT_IN


async def work(configuration: Configuration, look: Look) -> int:
    """Be a worker until stopped; return the exit code. Raises ForwarderError.

    ``look``: at what is left of input topics that are not configured any more.
    """
    gc_tuning.collect_rarely()
    clock = SystemClock()
    metrics = Metrics(version(), known=known(configuration))
    active = {c.name: c.status is Status.ACTIVE for c in configuration.connections}
    report = Report(metrics, Health(clock), clock, active)
    files = open_files.raise_limit()
    bounds = Bounds(open_files.for_probes(files, Bounds().connections))
    server = Server(report, Public(configuration.connections), bounds)
    client.quiet()
    # R4 knows this process by it; a restarted container has the same name and pid as before.
    client_id = f"forwarder-{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    journals = KafkaJournals(configuration, client_id)
    source = KafkaSource(configuration, client_id, journals.cluster)
    plan = Plan(
        configuration.kafka.group_id,
        configuration.connections,
        configuration.journal,
        configuration.limits,
        {topic.name: topic.format for topic in configuration.kafka.topics},
        configuration.kafka.session_timeout_ms / 1000,
    )
    async with opened_sinks(configuration.connections) as sinks:
        around, owned = surroundings(plan, sinks, journals, clock, report)
        worker = Worker(source, around, Life(configuration.drain_timeout_ms / 1000))
        owned.append(worker)
        metrics.waiting_in(lambda: gauges.waiting(worker.partitions.values()))
        obey_signals(worker)
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
        retention = Retention(configuration, journals.cluster)
        left = LeftTopics(look)
        beside_it: dict[Chore, chores.Run] = {
            Chore.HEARTBEAT: report.keep_pulse,
            Chore.LEFT_TOPICS: left.keep,
            Chore.GAUGES: lambda: gauges.keep(worker, source, metrics, clock, retention),
        }
        try:
            await beside(beside_it, serve(worker, journals, left.begin), clock, report.chore_failed)
        finally:
            await journals.close()
            await server.stop()
    log.info("worker.stopped")
    return 0


def known(configuration: Configuration) -> Known:
    """Return what the configuration says of the labels of metrics."""
    topics, connections = configuration.kafka.topics, configuration.connections
    reasons: dict[str, list[str]] = {}
    for one in connections:
        filters = [
            BUILT_IN.inputs[form].event_filter(one.name, one.settings)
            for form in dict.fromkeys(topic.format for topic in topics)
        ]
        found = dict.fromkeys(reason for each in filters for reason in each.reasons)
        reasons[one.name] = [*found, *([] if one.status is Status.ACTIVE else [STATUS])]
    return Known([topic.name for topic in topics], reasons, configuration.journal.retired)


async def serve(
    worker: Worker, journals: KafkaJournals, look: Callable[[], Coroutine[Any, Any, None]]
) -> None:
    """Wait until Kafka has the topics and ``look`` passes, then work.

    Raises StartupError if the worker must not begin.
    """
    await worker.insist(lambda: journals.prepare(frozenset()))
    await worker.insist(look)
    for note in journals.notes:
        log.warning("kafka.note", note=note)
    await worker.run()


async def read_file(
    connections: Sequence[Connection],
    source: str,
    folder: Path | None,
    form: str = INPUT_FORMATS[0],
    formats: Formats = BUILT_IN,
) -> Tally:
    """Read a file of uploads to its end, deliver everything, return the totals.

    With a ``folder`` every connection writes there instead of into its own sink, and what an
    earlier run left in it is replaced. ``form``: the format of the uploads, one of ``formats``.
    """
    if folder is not None:
        _empty(folder, connections)
    letters = FileDeadLetters((folder or Path()) / DEAD_LETTERS)
    journals = MemoryJournals(trim=True, dead_letters=letters.append)
    tally = Tally(SystemClock(), [connection.name for connection in connections])
    read = FileSource(source, formats.inputs[form])
    # Nothing is skipped that a file holds: deliver_from is about what waits in Kafka.
    connections = [replace(connection, deliver_from_ms=None) for connection in connections]
    plan = Plan(
        "file",
        connections,
        JournalSettings(),
        LimitSettings(rejected_percent=0),
        {file.PARTITION.topic: form},
        formats=formats,
    )
    async with opened_sinks(connections, folder) as sinks:
        around, owned = surroundings(
            plan, sinks, journals, InputClock(read.now_ms), tally, explains=True
        )
        life = Life(drain=10.0, clocked=False, room=lambda: journals.outbox_bytes() < FILE_BACKLOG)
        worker = Worker(read, around, life)
        owned.append(worker)
        obey_signals(worker)
        try:
            await worker.run()
        finally:
            letters.close()
    tally.remarks = read.remarks()
    if worker.stopping():
        msg = f"stopped before the end of the input\n{tally.text()}"
        raise ForwarderError(msg)
    if fault := read.fault():
        msg = f"{fault}\n{tally.text()}"
        raise ForwarderError(msg)
    return tally


def surroundings(  # noqa: PLR0913  # what is concrete, each given once
    plan: Plan,
    sinks: dict[str, Sink],
    journals: Journals,
    clock: Clock,
    reporter: Reporter,
    *,
    explains: bool = False,
) -> tuple[Surroundings, list[Worker]]:
    """Compile the lanes; the worker is to be put into the list, it knows how many it owns."""
    workers: list[Worker] = []
    lanes = {
        form: compile_lanes(plan.connections, form, plan.formats)
        for form in set(plan.topics.values())
    }
    active = sum(one.status is Status.ACTIVE for one in plan.connections)
    share = _share(workers, plan.limits.in_flight)
    around = Surroundings(
        group=plan.group,
        lanes={topic: lanes[form] for topic, form in plan.topics.items()},
        journals=journals,
        clock=clock,
        reporter=reporter,
        random=random.random,
        pacing=Pacing(
            tick=plan.journal.tick_ms / 1000,
            base_interval=plan.journal.base_interval_ms / 1000,
            session_timeout=plan.session_timeout,
        ),
        deliver=DeliverContext(
            sinks=sinks,
            clock=clock,
            reporter=reporter,
            random=random.random,
            queue_bytes=plan.limits.in_flight,
            scan_limiter=ScanLimiter(clock, Budget(plan.limits.in_flight)),
        ),
        closed_bytes=lambda: max(CLOSED_FLOOR, share()),
        owned=lambda: sum(len(worker.partitions) for worker in workers),
        rules=Rules(plan.journal.lane_ttl_ms, frozenset(plan.journal.retired)),
        window_memory=plan.limits.window_memory,
        explains=explains,
        guard=Guard(plan.limits.rejected_percent, active),
    )
    return around, workers


def _share(workers: Sequence[Worker], in_flight: int) -> Callable[[], int]:
    def share() -> int:
        return in_flight // max(1, sum(len(worker.partitions) for worker in workers))

    return share


@asynccontextmanager
async def opened_sinks(
    connections: Sequence[Connection], folder: Path | None = None
) -> AsyncIterator[dict[str, Sink]]:
    """Make the sink of every connection, and close them all at the end, whatever one raises.

    What was raised last comes out once all are closed.
    """
    async with AsyncExitStack() as stack:
        aws = Aws(SystemClock(), rotation=KeyRotation(reread_keys, logs.hide))
        stack.push_async_callback(aws.close)
        sinks: dict[str, Sink] = {}
        for connection in connections:
            sinks[connection.name] = sink = _sink(connection, aws, folder)
            stack.push_async_callback(sink.close)
        yield sinks


def _sink(connection: Connection, aws: Aws, folder: Path | None) -> Sink:
    if folder is not None:
        return FileSink(folder, connection.name)
    if isinstance(connection.sink, FileTarget):
        return FileSink(Path(connection.sink.path), connection.name)
    if isinstance(connection.sink, FirehoseTarget):
        return FirehoseSink(connection, connection.sink, aws)
    return KinesisSink(connection, connection.sink, aws)


def _empty(folder: Path, connections: Sequence[Connection]) -> None:
    """Begin the output anew, so that the same run gives the same files; raises StartupError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in (*(f"{c.name}.ndjson" for c in connections), DEAD_LETTERS):
            (folder / name).write_bytes(b"")
    except OSError as error:
        msg = f"{folder} cannot be written: {error.strerror}; name a folder that can"
        raise StartupError(msg) from error


def obey_signals(worker: Worker) -> None:
    """Drain on the first SIGTERM or SIGINT, leave at once on the second."""

    def obey() -> None:
        if worker.stopping():
            leave_at_once()
        log.info("worker.drains")
        worker.stop()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, obey)


async def beside(
    runs: Mapping[Chore, chores.Run],
    main: Coroutine[Any, Any, None],
    clock: Clock,
    failed: Callable[[Chore], None],
) -> None:
    """Run ``main`` with chores beside it that are begun anew whatever they raise.

    The worker can do without them for a while, so that none of these ends it: a gauge that stands
    is logged and counted, and no reason to stop delivering.
    """
    tasks = [
        asyncio.create_task(chores.keep(name, run, clock, failed)) for name, run in runs.items()
    ]
    try:
        await main
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
