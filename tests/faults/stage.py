"""Where a run takes place: a topic, the lanes, their streams and roles, a worker as a process."""

import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from forwarder.config import loader
from forwarder.config.connection import Connection
from tests.acceptance.cluster import Cluster
from tests.acceptance.harness import Site, Worker, group_sections
from tests.faults.aws import Aws
from tests.faults.judge import Case, Found
from tests.faults.lanes import lanes, needed
from tests.faults.rows import Row
from tests.soak.load import Load

READY = 120.0
"""Seconds in which a worker has to be ready; a busy machine takes a minute."""


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


@asynccontextmanager
async def opened(
    rows: Sequence[Row], plan: Plan, bootstrap: str, aws: Aws, folder: Path
) -> AsyncIterator[Stage]:
    """Start a worker with the lanes of these rows, and end it; the fake gets what they need."""
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
        streams, roles = needed(rows, stage.stream)
        await aws.make(streams=streams, roles=roles)
        try:
            stage.worker.start()
            await stage.worker.until_ready(READY)
            yield stage
        finally:
            site.close()


def case(stage: Stage, books: Path, made: Load) -> Case:
    """Return what is to be judged."""
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
