"""A whole worker over a source fed by hand and journals that fail as told."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Self

from forwarder.config.connection import Connection
from forwarder.journal import outbox
from forwarder.journal.contract import Committed, Restored, Tick
from forwarder.journal.memory import MemoryJournal, MemoryJournals
from forwarder.model import Partition
from forwarder.worker.context import PartitionLimits, TickPolicy, WorkerContext
from forwarder.worker.partition import OpenPartition
from forwarder.worker.reject_rate import RejectRate
from forwarder.worker.worker import Worker, WorkerMode
from tests import doubles
from tests.batches import GROUP, TOPIC
from tests.builders import lane_set
from tests.lanes import deliver_context
from tests.partition_oracle import numbers
from tests.world import START_MS, connection, upload

P0 = Partition(TOPIC, 0)
P1 = Partition(TOPIC, 1)
SINGLE = [connection("solo", send_as_batch=False)]
BATCH = [connection("acme")]


class Journal(MemoryJournal):
    """A journal that fails as told."""

    def __init__(self, journals: "Journals", partition: Partition) -> None:
        super().__init__(journals, partition)
        self._told = journals
        self._where = partition

    async def open(self, take: Callable[[int, bytes], None] | None = None) -> Restored:
        self._told.opened.append(self._where)
        if self._told.gate is not None:
            await self._told.gate.wait()
        if self._told.open_failures:
            raise self._told.open_failures.pop(0)
        return await super().open(take)

    async def close(self) -> None:
        self._told.closed.append(self._where)
        await super().close()

    async def commit(self, tick: Tick) -> Committed:
        await asyncio.sleep(0.02)
        if self._told.commit_failures:
            raise self._told.commit_failures.pop(0)
        return await super().commit(tick)


class Journals(MemoryJournals):
    """Journals whose next openings and commits fail as told; openings wait for ``gate``."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: list[Partition] = []
        self.closed: list[Partition] = []
        self.gate: asyncio.Event | None = None
        self.open_failures: list[BaseException] = []
        self.commit_failures: list[Exception] = []

    def journal(self, partition: Partition) -> MemoryJournal:
        return Journal(self, partition)


class Scene:
    """A worker and everything around it; ``async with`` runs it."""

    def __init__(  # noqa: PLR0913  # options
        self,
        connections: Sequence[Connection] = SINGLE,
        *,
        drain: float = 20.0,
        clocked: bool = True,
        rejected_percent: int = 0,
        duplicates_ms: int = 0,
        after: "Scene | None" = None,
    ) -> None:
        """``after``: the worker before this one, whose input and journals it finds."""
        self.source = doubles.HandFedSource()
        self.journals: Journals = Journals() if after is None else after.journals
        if after is not None:
            self.source.logs = after.source.logs
        self.sink = doubles.ScriptedSink()
        self.notes = doubles.Notes()
        self.clock = doubles.LoopClock(START_MS)
        self.has_room = True
        self.surprising = False
        self.fed = 0
        self.limits = PartitionLimits(1 << 20, 512 << 20)
        lanes = lane_set(*connections)
        context = WorkerContext(
            group=GROUP,
            lanes=defaultdict(lambda: lanes),
            duplicates_ms={TOPIC: duplicates_ms},
            journals=self.journals,
            clock=self.clock,
            reporter=self.notes,
            random=lambda: 0.5,
            ticks=TickPolicy(tick=1.0, base_interval=600.0),
            deliver=deliver_context(
                {lane.name: self.sink for lane in lanes.lanes},
                self.clock,
                self.notes,
                queue_bytes=10_000,
            ),
            limits=self.limits,
            reject_rate=RejectRate(rejected_percent, len(lanes.lanes)),
        )
        mode = WorkerMode(drain=drain, wall_clocked=clocked, has_room=lambda: self.has_room)
        self.worker = Worker(self.source, context, mode)

    async def __aenter__(self) -> Self:
        self.running = asyncio.create_task(self.worker.run())
        await asyncio.sleep(0.01)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.worker.stop()
        finished = await asyncio.gather(self.running, return_exceptions=True)
        if kind is None and isinstance(finished[0], BaseException):
            raise finished[0]
        faults = [e for e in self.notes.log if e[0] == "chore" or e[0::2] == ("failed", "fault")]
        assert self.surprising or not faults, "what nobody expected"

    def owned(self, partition: Partition = P0) -> OpenPartition:
        """Return a partition that is open."""
        owned = self.worker.membership.open_partition(partition)
        assert owned is not None
        return owned

    def feed(self, partition: Partition = P0, device: str = "d1", request: str = "") -> int:
        """Append an upload of one event; return its number. ``request``: what it is known by."""
        number, self.fed = self.fed, self.fed + 1
        value = upload(device, (number, "custom_event", "s1"))
        if request:
            value = value[:-1] + b',"source_request_id":"%b"}' % request.encode()
        self.source.feed(partition, value, self.clock.wall_ms())
        return number

    def landed(self) -> list[int]:
        """Return the numbers of the events that were delivered, in order."""
        return [n for batch in self.sink.landed for n in numbers(batch.payload)]

    def committed(self) -> list[int]:
        """Return the numbers of the events in all outboxes, sorted."""
        found: list[int] = []
        for log in self.journals.logs.values():
            for offset, (_, value) in log.outbox.items():
                found += [
                    n for _, b in outbox.decode_record(offset, value) for n in numbers(b.payload)
                ]
        return sorted(found)

    def phases(self) -> dict[Partition, str]:
        return self.notes.phases
