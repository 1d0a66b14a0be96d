"""A worker in this process over real Kafka, and what may be lost beneath it."""

import asyncio
import contextlib
import dataclasses
import json
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Self

from aiokafka import AIOKafkaProducer

from forwarder import app
from forwarder.clock import SystemClock
from forwarder.config.connection import Connection, Settings
from forwarder.config.settings import (
    Configuration,
    InputTopic,
    JournalSettings,
    LimitSettings,
    outbox_topic,
    state_topic,
)
from forwarder.config.targets import FileTarget
from forwarder.journal.kafka import KafkaJournals
from forwarder.kafka.admin import KafkaAdmin
from forwarder.model import DELIVERED, Batch, Outcome, OutcomeKind, Partition
from forwarder.ops.reporter import Phase
from forwarder.sources.kafka import KafkaSource
from forwarder.worker.worker import Worker, WorkerMode
from tests.builders import encoded, event, upload
from tests.doubles import Notes, ScriptedSink
from tests.services.kafka_world import World

PATIENCE = 60.0
DOWN = Outcome(OutcomeKind.TRANSIENT, "Down", "the destination is down")


async def nothing_left() -> None:
    """Find nothing of topics that are not configured."""


class Sink(ScriptedSink):
    """Delivers everything but what comes from partitions that are ``blocked``."""

    def __init__(self) -> None:
        super().__init__()
        self.blocked: set[Partition] = set()

    def answer(self, batch: Batch, tried: int) -> Outcome:  # noqa: ARG002
        [told] = {e["data"]["from"] for e in json.loads(batch.payload)["events"]}
        return DOWN if told in map(str, self.blocked) else DELIVERED

    def numbers(self, partition: Partition) -> list[int]:
        """Return the numbers of one partition's events in the order they landed."""
        events = [e["data"] for b in self.landed for e in json.loads(b.payload)["events"]]
        return [data["n"] for data in events if data["from"] == str(partition)]


class Group:
    """Input topics, one group, two connections: ``acme`` sends at once, ``held`` waits long."""

    def __init__(self, bootstrap: str, topics: dict[str, int]) -> None:
        self.world = World(bootstrap)
        self.names = {short: f"{short}-{self.world.topic}" for short in topics}
        self.counts = {self.names[short]: count for short, count in topics.items()}
        settings = self.world.settings()
        inputs = tuple(InputTopic(name) for name in self.names.values())
        self.settings = dataclasses.replace(
            settings, kafka=dataclasses.replace(settings.kafka, topics=inputs)
        )
        self.cluster = KafkaAdmin(self.settings.kafka, "look")
        self.sink = Sink()
        self._fed: dict[Partition, int] = {}

    async def create(self, only: Iterable[str] = ()) -> None:
        for short in only or self.names:
            await self.world.create(self.names[short], self.counts[self.names[short]])

    async def close(self) -> None:
        await self.cluster.close()

    def at(self, short: str, number: int = 0) -> Partition:
        return Partition(self.names[short], number)

    def outbox(self, partition: Partition) -> Partition:
        return Partition(outbox_topic(self.world.group, partition.topic), partition.number)

    def state(self, partition: Partition) -> Partition:
        return Partition(state_topic(self.world.group, partition.topic), partition.number)

    async def feed(self, partitions: Iterable[Partition], count: int = 1) -> None:
        """Send to each partition its next events, numbered from 0."""
        producer = AIOKafkaProducer(bootstrap_servers=self.world.bootstrap)
        await producer.start()
        for partition in partitions:
            for _ in range(count):
                n = self._fed.get(partition, 0)
                self._fed[partition] = n + 1
                row = upload(event(n=n, **{"from": str(partition)}), device=str(partition))
                now = time.time_ns() // 1_000_000
                await producer.send_and_wait(
                    partition.topic, encoded(row), partition=partition.number, timestamp_ms=now
                )
        await producer.stop()

    async def cut(self, partition: Partition, below: int | None = None) -> None:
        """Delete a partition's records below an offset, all of them without one."""
        bounds = (await self.cluster.bounds([partition]))[partition]
        assert await self.cluster.cut(partition, bounds.end if below is None else below) is None

    async def delete(self, topic: str) -> None:
        await self.world.delete(topic)
        async with asyncio.timeout(PATIENCE):
            while topic in await self.cluster.partition_counts():  # noqa: ASYNC110  # Kafka's doing
                await asyncio.sleep(0.05)


class Shift:
    """One worker of a group from its start to its end; an async context manager."""

    def __init__(self, group: Group, settings: Configuration | None = None) -> None:
        self.group = group
        self.notes = Notes()
        self._settings = settings or group.settings
        self._task: asyncio.Task[None] | None = None
        self.journals = KafkaJournals(self._settings, "shift", SystemClock())
        source = KafkaSource(self._settings, "shift", self.journals.cluster)
        sinks: dict[str, Sink] = {"acme": group.sink, "held": Sink()}
        plan = app.WorkerPlan(
            self._settings.kafka.group_id,
            connections(),
            JournalSettings(tick_ms=200),
            LimitSettings(),
            {topic.name: topic.format for topic in self._settings.kafka.topics},
        )
        context = app.make_context(plan, {**sinks}, self.journals, SystemClock(), self.notes)
        self.worker = Worker(source, context, WorkerMode(drain=20.0))

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(
            app.start_when_ready(self.worker, self.journals, nothing_left)
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        self.worker.stop()
        assert self._task is not None
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        await self.journals.close()

    def phase(self, partition: Partition) -> str:
        return self.notes.phases.get(partition, "")

    def reason(self, partition: Partition) -> str:
        """Return why a partition was refused; empty if it was not."""
        mine = ("partition", str(partition), Phase.REFUSED.value)
        told = [entry[3] for entry in self.notes.log if entry[:3] == mine]
        return str(told[-1]) if told else ""

    def stopped(self) -> dict[tuple[str, Partition], str]:
        """Return the lanes that stopped, by connection and partition, and why."""
        found = {}
        for kind, *rest in self.notes.log:
            if kind == "lane" and rest[2] == "stopped":
                topic, _, number = rest[1].rpartition("/")
                found[rest[0], Partition(topic, int(number))] = rest[3]
        return found

    async def until(self, condition: Callable[[], object], what: str) -> None:
        """Let the worker go on until a condition holds."""
        try:
            async with asyncio.timeout(PATIENCE):
                while not condition():
                    assert self._task is not None
                    assert not self._task.done(), self._task
                    await asyncio.sleep(0.02)
        except TimeoutError:
            tail = "\n".join(map(str, self.notes.log[-30:]))
            text = f"never: {what}\n{self.notes.phases}\n{tail}"
            raise AssertionError(text) from None

    async def until_settled(self, partitions: Iterable[Partition]) -> None:
        """Wait until every partition is open or refused."""
        final = {Phase.OPEN.value, Phase.REFUSED.value}
        await self.until(
            lambda: all(self.phase(p) in final for p in partitions), "all open or refused"
        )


def connections() -> Sequence[Connection]:
    """Return one connection that sends every event at once and one that keeps windows open."""
    nowhere = FileTarget("unused")
    return [
        Connection("acme", nowhere, settings=Settings(send_as_batch=False)),
        Connection("held", nowhere),
    ]
