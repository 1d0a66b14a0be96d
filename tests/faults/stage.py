"""One run: a topic, a worker as a process, the load, the faults, and what came of it."""

import asyncio
import contextlib
import os
import re
import signal
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from forwarder.config import loader
from forwarder.connection import Connection
from tests.acceptance.cluster import Cluster
from tests.acceptance.harness import Missing, Site, Worker, group_sections, until
from tests.faults import judge, load
from tests.faults.aws import Aws
from tests.faults.judge import Case, Found
from tests.faults.lanes import lanes, needed, role_arn
from tests.faults.rows import Plot, Row
from tests.soak.load import Load, Producer

ARRIVAL = 240.0
"""Seconds after the load within which everything has to be there; a paused lane waits up to 60."""

LOOK = 0.25
SAMPLE = 1.0
"""Seconds between two looks at memory."""

GAUGES = 5.5
"""Seconds after which the worker has looked at all its gauges again."""

WARM = 2.0
"""Seconds of load before anything is measured: a worker's first puts wait for their clients."""

DRAIN = 40.0

ERRORS = re.compile(
    r'forwarder_put_errors_total\{code="(?P<code>\w+)",connection="(?P<lane>[^"]+)".*'
)
SETTLED = ("forwarder_open_windows", "forwarder_outbox_lag_batches")
"""What has to come to nothing once the load is over."""


@dataclass(frozen=True)
class Plan:
    """How large the runs are; ``rate`` in events a second, ``scale`` of all durations."""

    scale: float = 1.0
    rate: float = 100.0
    devices: int = 300
    partitions: int = 4
    seed: int = 1


class Span(NamedTuple):
    """When a row's fault began and ended, in wall-clock milliseconds."""

    began: int
    ended: int


@dataclass
class Outcome:
    """What a run found.

    ``warm`` is when it was under way; ``wrong`` is what is not counted elsewhere.
    """

    rows: Sequence[Row]
    found: Found
    warm: int
    spans: Mapping[str, Span]
    sent: int
    memory: list[tuple[int, int]]
    wrong: list[str]


@dataclass
class Stage:
    """Where a run takes place."""

    plan: Plan
    rows: Sequence[Row]
    aws: Aws
    cluster: Cluster
    site: Site
    worker: Worker
    group: str
    connections: dict[str, Connection] = field(default_factory=dict)
    warm: int = 0
    spans: dict[str, Span] = field(default_factory=dict)
    memory: list[tuple[int, int]] = field(default_factory=list)

    @property
    def topic(self) -> str:
        """Return the input topic."""
        return f"{self.group}-raw"

    def stream(self, lane: str) -> str:
        """Return the name of a lane's stream."""
        return f"{self.group}-{lane}"


async def run(
    rows: Sequence[Row],
    plan: Plan,
    place: tuple[str, Aws, Path],
    folder: Path,
    say: Callable[[str], None],
) -> Outcome:
    """Run these rows beside each other; ``place``: Kafka, the fake AWS and its books."""
    bootstrap, aws, books = place
    async with _stage(rows, plan, bootstrap, aws, folder) as stage:
        made = load.make(
            plan.seed, plan.devices, plan.rate,
            broken=max(row.broken for row in rows), large=max(row.large for row in rows),
        )  # fmt: skip
        producer = Producer(bootstrap, stage.topic)
        watching = asyncio.create_task(_watch_memory(stage))
        try:
            await _flow(stage, producer, made)
            say(f"sent {producer.sent.total():,} records; waiting for the rest")
            wrong = [*await _arrived(stage), *await _unproved(stage)]
        finally:
            watching.cancel()
        wrong += await _stopped(stage)
        case = _case(stage, books, made)
        found = await asyncio.to_thread(judge.judge, case, plan.partitions, producer.sent.total())
        wrong += _input(producer, found)
        strange = judge.strangers(case, found)
        wrong += [f"{len(strange)} stream records of no batch: {strange[:3]}"] if strange else []
        return Outcome(
            rows, found, stage.warm, stage.spans, producer.sent.total(), stage.memory, wrong
        )


@asynccontextmanager
async def _stage(
    rows: Sequence[Row], plan: Plan, bootstrap: str, aws: Aws, folder: Path
) -> AsyncIterator[Stage]:
    group = f"faults-{uuid.uuid4().hex[:8]}"
    folder.mkdir(parents=True, exist_ok=True)
    async with Cluster(bootstrap) as cluster:
        sections = group_sections(bootstrap, group, [f"{group}-raw"])
        site = Site(folder, sections, aws.variables)
        stage = Stage(plan, rows, aws, cluster, site, site.worker(), group)
        # The broker's own clock tells since when the worker could see a record.
        kinds = {"message.timestamp.type": "LogAppendTime"}
        await cluster.create(stage.topic, plan.partitions, **kinds)
        for name, content in lanes(rows, stage.stream).items():
            path = site.connect(content)
            stage.connections[name] = loader.load_connection(path).connection
        await _prepare(stage)
        try:
            stage.worker.start()
            await stage.worker.until_ready()
            yield stage
        finally:
            site.close()


async def _prepare(stage: Stage) -> None:
    """Let the fake have all streams and roles."""
    streams, roles = needed(stage.rows, stage.stream)
    await stage.aws.make(streams=streams, roles=roles)


async def _flow(stage: Stage, producer: Producer, made: Load) -> None:
    """Send the load while the rows' faults take their course."""
    flow = asyncio.create_task(producer.send(made))
    try:
        await asyncio.sleep(WARM)
        stage.warm = _now()
        await asyncio.gather(*(_play(stage, row) for row in stage.rows))
        producer.stop()
        await flow
    finally:
        flow.cancel()
        await asyncio.gather(flow, return_exceptions=True)


async def _play(stage: Stage, row: Row) -> None:
    calm = max(2.0, row.calm * stage.plan.scale)
    await asyncio.sleep(calm)
    began = _now()
    seconds = row.lasts(stage.plan.scale)
    await row.act(_plot(stage, row, seconds))
    stage.spans[row.name] = Span(began, _now())
    await asyncio.sleep(calm)


def _plot(stage: Stage, row: Row, seconds: float) -> Plot:
    async def last() -> None:
        await asyncio.sleep(seconds)
        with contextlib.suppress(Missing):
            await until(lambda: _met(stage, row), f"{row.meets} is met", ARRIVAL, LOOK)

    return Plot(
        stage.aws,
        lambda end: stage.stream(row.named(end)),
        lambda end: role_arn(stage.stream(row.named(end))),
        last,
        seconds,
    )


async def _met(stage: Stage, row: Row) -> bool:
    """Tell whether what a row is about has happened to somebody."""
    if not row.meets or row.meets in await stage.aws.codes():
        return True
    figures = await asyncio.to_thread(stage.worker.metrics)
    found = [ERRORS.fullmatch(name) for name, value in figures.items() if value]
    own = {row.named(end) for end in row.lanes}
    return any(one["code"] == row.meets and one["lane"] in own for one in found if one)


async def _watch_memory(stage: Stage) -> None:
    while True:
        with contextlib.suppress(OSError, ValueError):
            stage.memory.append((_now(), _resident(stage.worker.pid)))
        await asyncio.sleep(SAMPLE)


def _resident(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def _arrived(stage: Stage) -> list[str]:
    """Wait until nothing waits anywhere; return what still does in the end."""
    left: list[str] = []

    async def collected() -> bool:
        ends = await stage.cluster.ends(stage.topic)
        at = await stage.cluster.committed(stage.group)
        left[:] = [
            f"the watermark of partition {p} is not at the end, {end}"
            for p, end in ends.items()
            if at.get((stage.topic, p), (0, ""))[0] < end
        ]
        return not left

    async def delivered() -> bool:
        figures = await asyncio.to_thread(stage.worker.metrics)
        left[:] = [
            f"still there: {name} {value:.0f}"
            for name, value in figures.items()
            if value and name.startswith(SETTLED)
        ] or ([] if figures else ["the worker does not answer"])
        return not left

    try:
        await until(collected, "everything is collected", ARRIVAL, LOOK)
        await asyncio.sleep(GAUGES)
        await until(delivered, "everything has arrived", ARRIVAL, LOOK)
    except Missing:
        return left
    return []


async def _unproved(stage: Stage) -> list[str]:
    """Return the rows whose fault met nobody."""
    return [f"{r.name}: nothing met {r.meets}" for r in stage.rows if not await _met(stage, r)]


async def _stopped(stage: Stage) -> list[str]:
    """Let the worker drain; return what is not as it should be, in its log too."""
    if not stage.worker.running:
        return [f"the worker ended by itself:\n{stage.worker.tail()}"]
    stage.worker.signal(signal.SIGTERM)
    code = await stage.worker.ended(DRAIN)
    errors = Counter(
        str(line.get("event"))
        for line in stage.worker.log()
        if line.get("level") in {"error", "critical"}
    )
    wrong = [f"logged as error {count} times: {event}" for event, count in errors.items()]
    return wrong + ([f"the worker drained with exit code {code}"] if code else [])


def _case(stage: Stage, books: Path, made: Load) -> Case:
    return Case(
        stage.cluster.bootstrap,
        stage.topic,
        stage.group,
        books,
        {name: stage.stream(name) for name in stage.connections},
        stage.connections,
        frozenset(row.named(end) for row in stage.rows if row.large for end in row.lanes),
        made.reasons,
    )


def _input(producer: Producer, found: Found) -> list[str]:
    """Return what is wrong with the input itself: records lost, or there more than once."""
    there = Counter(found.values)
    lost, more = producer.sent - there, there - producer.sent
    told = [f"{lost.total()} confirmed records are not in the input"] if lost else []
    return told + ([f"{more.total()} records are in the input twice"] if more else [])


def _now() -> int:
    return time.time_ns() // 1_000_000
