"""One partition with everything around it, in virtual time, watched by an oracle."""

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from forwarder.config.connection import Batching, Connection, Settings, Status
from forwarder.config.targets import FileTarget
from forwarder.errors import JournalError
from forwarder.journal.contract import Committed, Restored, Take, Tick
from forwarder.journal.memory import MemoryJournal, MemoryJournals
from forwarder.journal.orphans import OrphanPolicy
from forwarder.model import (
    DELIVERED,
    Address,
    Batch,
    CloseReason,
    Collected,
    Commit,
    Outcome,
    OutcomeKind,
    Partition,
)
from forwarder.sinks.requests import SHARD
from forwarder.worker.context import OneAtATime, PartitionLimits, TickPolicy, WorkerContext
from forwarder.worker.opening import PartitionOpening
from forwarder.worker.partition import OpenPartition
from tests import doubles
from tests.batches import GROUP
from tests.builders import lane_set
from tests.lanes import deliver_context
from tests.partition_oracle import PARTITION, Oracle, numbers

START_MS = 1_700_000_000_000
BATCHING = Batching(
    max_age_ms=10_000,
    max_events=5,
    session_timeout_ms=8_000,
    session_grace_ms=2_000,
    session_max_ms=40_000,
)


def virtually(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    """Run an asynchronous test in virtual time."""

    def run() -> None:
        async def main() -> None:
            await test()

        doubles.run_virtually(main())

    run.__name__ = test.__name__
    return run


def connection(name: str, *, active: bool = True, **changes: Any) -> Connection:  # noqa: ANN401
    """Return a connection with short windows; ``changes`` go into its settings."""
    deliver_from_ms = changes.pop("deliver_from_ms", None)
    return Connection(
        name=name,
        sink=FileTarget("unused"),
        status=Status.ACTIVE if active else Status.INACTIVE,
        deliver_from_ms=deliver_from_ms,
        settings=Settings(**changes),
        batching=BATCHING,
    )


def upload(device: str, *events: tuple[int, str, str]) -> bytes:
    """Return one upload; an event is (its number, its type, its session)."""
    content = {
        "events": [
            {"event_type": kind, "data": {"event_id": number, "session_uuid": session}}
            for number, kind, session in events
        ],
        "mp_deviceid": device,
        "mpid": 7,
    }
    return json.dumps(content).encode()


class Journal(MemoryJournal):
    """A journal whose commits end as told: well, unknown, or late."""

    def __init__(self, journals: "Journals", partition: Partition) -> None:
        """Watch over the commits of ``journals``."""
        super().__init__(journals, partition)
        self._world = journals

    async def open(self, take: Take | None = None) -> Restored:
        """Open; the commit found may be the last but one, as an early fetch's is (I19)."""
        newest, old = self._log.commit, self._world.last_but_one
        if self._world.stale and old is not None:
            self._log.commit = old
        try:
            return await super().open(take)
        finally:
            self._log.commit = newest

    async def prove(self) -> None:
        """Prove ownership, unless another owner came just before."""
        if self._world.overtaken:
            self._log.epoch += 1
        await super().prove()

    async def commit(self, tick: Tick) -> Committed:
        """Commit, or fail with the outcome unknown; either way only after a moment."""
        begun, before = self._world.assignments, self._log.commit
        await asyncio.sleep(self._world.seconds)
        how = self._world.outcomes.pop(0) if self._world.outcomes else "ok"
        if how == "aborted":
            self._world.unknown += 1
            msg = "no answer, and nothing was stored"
            raise JournalError(msg)
        committed = await super().commit(tick)
        self._world.last_but_one = before
        self._world.oracle.committed(tick, committed)
        if how == "unanswered":
            self._world.unknown += 1
            msg = "no answer, though everything was stored"
            raise JournalError(msg)
        await asyncio.sleep(self._world.seconds)
        self._world.proved = max(self._world.proved, begun)
        return committed


class Journals(MemoryJournals):
    """The stored logs; ``outcomes``: how the next commits end, ``seconds``: how long they take."""

    def __init__(self, oracle: Oracle) -> None:
        """Begin with empty logs."""
        super().__init__()
        self.oracle = oracle
        self.outcomes: list[str] = []
        self.seconds = 0.02
        self.unknown = 0
        self.overtaken = False
        self.stale = False
        self.last_but_one: Commit | None = None
        self.assignments = 0
        self.proved = 0
        oracle.journals = self

    def journal(self, partition: Partition) -> MemoryJournal:
        """Return a journal that is watched."""
        return Journal(self, partition)


class Destination:
    """A sink of one lane and one opening that reports to the oracle.

    ``mood`` is shared by all openings: ``up``, ``down``, ``mute`` (lands, never says so),
    ``closed`` (somebody must act) or ``picky`` (refuses some batches for good).
    """

    max_batches = 4
    max_bytes = 1 << 20
    throughput = SHARD

    def __init__(self, world: "World", lane: str, number: int) -> None:
        """Belong to opening ``number`` of ``world``."""
        self._world = world
        self._lane = lane
        self._number = number
        self._flying: set[bytes] = set()
        self.in_order = lane in world.in_order

    async def put(self, batches: Sequence[Batch]) -> Sequence[Outcome]:
        """Judge, wait, land or not, wait, answer."""
        keys = {b.key for b in batches}
        if self.in_order:
            assert not self._flying, "two puts at a time where all are in order"
        else:
            assert len(batches) == len(keys), "I7: one device twice in a request"
            assert not keys & self._flying, "I7: one device twice in flight"
        self._flying |= keys
        try:
            for batch in batches:
                self._world.puts.append(self._lane)
                self._world.judge_put(batch, owner=self._number == self._world.openings)
            await asyncio.sleep(0.2)
            outcomes = self._land_all(batches)
            await asyncio.sleep(0.2)
        except AssertionError as fault:
            self._world.faults.append(fault)
            raise
        finally:
            self._flying -= keys
        return outcomes

    def _land_all(self, batches: Sequence[Batch]) -> list[Outcome]:
        """Land what may; where all are in order, nothing behind what did not."""
        outcomes: list[Outcome] = []
        for batch in batches:
            if self.in_order and outcomes and outcomes[-1].kind is not OutcomeKind.DELIVERED:
                outcomes.append(Outcome(OutcomeKind.TRANSIENT, "Behind", "one before it failed"))
            else:
                outcomes.append(self._land(batch))
        return outcomes

    def _land(self, batch: Batch) -> Outcome:
        mood = self._world.moods.get(self._lane, "up")
        if mood == "picky" and batch.id[0] in "02468":
            return Outcome(OutcomeKind.REFUSED, "Validation", "not that one")
        if mood in {"up", "mute", "picky"}:
            self._world.oracle.land(batch)
        if mood in {"mute", "down"}:
            return Outcome(OutcomeKind.TRANSIENT, "Reset", "no answer")
        return Outcome(OutcomeKind.CONFIGURATION, "Denied", "no") if mood == "closed" else DELIVERED

    async def close(self) -> None:
        """Hold nothing."""


class Notes(doubles.Notes):
    """The log of what was reported, and why windows closed."""

    def __init__(self) -> None:
        """Begin with an empty log."""
        super().__init__()
        self.closed: list[tuple[str, CloseReason, int]] = []

    def collected(self, partition: str, collected: Collected) -> None:
        """Note why windows closed in one go, and how many."""
        super().collected(partition, collected)
        self.closed += [(lane, why, count) for (lane, why), count in collected.closed.items()]


class Owned:
    """A partition that somebody owns, as measures see it; it may be closed to them."""

    def __init__(self, owned: OpenPartition) -> None:
        """Show it open."""
        self.partition = owned.partition
        self.is_shut = False
        self._owned = owned

    def open_partition(self) -> OpenPartition | None:
        """Return it while it is open."""
        return self._owned if self._owned.is_open() and not self.is_shut else None

    def memory_bytes(self) -> int:
        """Return what its windows take."""
        return self._owned.memory_bytes()

    def waiting(self) -> dict[str, int]:
        """Return how many events wait."""
        return self._owned.waiting()


class World:
    """The input, the stored logs, the destinations, and whoever owns the partition."""

    def __init__(self) -> None:
        """Begin with an empty input and nobody in charge."""
        self.oracle = Oracle()
        self.journals = Journals(self.oracle)
        self.notes = Notes()
        self.clock = doubles.LoopClock(START_MS)
        self.input: list[doubles.Message] = []
        self.kinds: dict[int, tuple[int, str]] = {}
        self.moods: dict[str, str] = {}
        self.openings = 0
        self.owned: OpenPartition | None = None
        self.zombies: list[OpenPartition] = []
        self.faults: list[AssertionError] = []
        self.puts: list[str] = []
        self.in_order: set[str] = set()
        self.base_interval = 2.5
        self.session_timeout = 30.0
        self.limits = PartitionLimits(1 << 20, 512 << 20, min_closed_bytes=0)
        self.rules = OrphanPolicy()
        self.one_at_a_time = OneAtATime()

    def context(self, connections: Iterable[Connection]) -> WorkerContext:
        """Return what one opening is given."""
        lanes = lane_set(*connections)
        return WorkerContext(
            group=GROUP,
            lanes=defaultdict(lambda: lanes),
            journals=self.journals,
            clock=self.clock,
            reporter=self.notes,
            random=lambda: 0.5,
            ticks=TickPolicy(1.0, self.base_interval, self.session_timeout),
            deliver=deliver_context(
                {lane.name: Destination(self, lane.name, self.openings) for lane in lanes.lanes},
                self.clock,
                self.notes,
                queue_bytes=2_000,
            ),
            limits=self.limits,
            orphan_policy=self.rules,
            one_at_a_time=self.one_at_a_time,
        )

    def judge_put(self, batch: Batch, *, owner: bool) -> None:
        """Judge a put that begins; ``owner``: by the one who opened last."""
        journals = self.journals
        assert not owner or journals.proved == journals.assignments, "I17: put without a proof"
        self.oracle.put(batch, owner=owner)

    @property
    def owner(self) -> OpenPartition:
        """Return the partition as its owner sees it."""
        assert self.owned is not None
        return self.owned

    def feed(self, device: str, kinds: Sequence[tuple[str, str]], late_ms: int = 0) -> list[int]:
        """Append an upload with events of (type, session); return their numbers."""
        offset, first = len(self.input), len(self.kinds)
        numbered = range(first, first + len(kinds))
        self.kinds |= {n: (offset, kind) for n, (kind, _) in zip(numbered, kinds, strict=True)}
        events = [(n, kind, session) for n, (kind, session) in zip(numbered, kinds, strict=True)]
        self.feed_raw(upload(device, *events), late_ms)
        return list(numbered)

    def feed_raw(self, value: bytes, late_ms: int = 0) -> None:
        """Append a record of any content."""
        time = self.clock.wall_ms() - late_ms
        self.input.append(doubles.Message(len(self.input), time, value))

    async def open(self, connections: Sequence[Connection]) -> OpenPartition:
        """Open the partition anew; a former owner that was not closed is a zombie from now on."""
        if self.owned is not None:
            self.zombies.append(self.owned)
        self.openings += 1
        self.journals.assignments += 1
        self.oracle.known = {one.name for one in connections}
        for one in connections:
            if one.deliver_from_ms is not None:
                was = self.oracle.dropped.get(one.name, 0)
                self.oracle.dropped[one.name] = max(was, one.deliver_from_ms)
        self.owned = None
        opening = PartitionOpening(PARTITION, self.context(connections))
        try:
            self.owned = await opening.run()
        except BaseException:
            await opening.close()
            raise
        self.owned.start()
        return self.owned

    async def rebalance(self) -> None:
        """Take the partition away from its owner and give it back (R1, R3)."""
        await self.owner.drain(1.0)
        self.journals.assignments += 1
        if self.owner.is_open():
            self.owner.resume()

    async def crash(self) -> None:
        """Lose the owner's memory; puts on their way may land or not, unheard."""
        if self.owned is not None:
            await self.owned.close()
            self.owned = None

    def collect(self, count: int = 10**6) -> None:
        """Hand the owner the next records, from its position on."""
        at = self.owner.position
        self.owner.collect(self.input[at : at + count])

    async def until_idle(self) -> None:
        """Tick and wait until everything committed is delivered, an hour at most."""
        for _ in range(3_600):
            await self.owner.ticks.tick()
            assert self.owner.is_open()
            if self.owner.is_idle():
                return
            await asyncio.sleep(1.0)
        msg = "the owner never comes to rest"
        raise AssertionError(msg)

    async def close(self) -> None:
        """End everybody; raise what the destinations found wrong."""
        await self.crash()
        for zombie in self.zombies:
            await zombie.close()
        if self.faults:
            raise self.faults[0]

    def letters(self) -> Counter[tuple[str, int]]:
        """Count the committed dead letters by connection and offset."""
        log = self.journals.log(PARTITION)
        return Counter((letter.connection, letter.offset) for letter in log.dead_letters)

    def ids(self, lane: str) -> list[str]:
        """Return the id of every committed batch of a lane, in outbox order."""
        found = self.oracle.batches.get(lane, {})
        return [found[address].id for address in sorted(found)]

    def documents(self, lane: str) -> list[list[int]]:
        """Return the event numbers of every committed batch of a lane, in outbox order."""
        found: Mapping[Address, Batch] = self.oracle.batches.get(lane, {})
        return [numbers(found[address].payload) for address in sorted(found)]


SINGLE = [connection("solo", send_as_batch=False)]
BATCH = [connection("acme")]
SESSION = [connection("acme", wait_for_complete_batch=True)]
EVENT = ("custom_event", "s1")


async def opened(connections: list[Connection] | None = None) -> World:
    """Return a world whose owner has stored its first base."""
    world = World()
    await world.open(connections or SINGLE)
    await world.owner.ticks.tick()
    return world


async def reopened(world: World, connections: list[Connection]) -> None:
    await world.crash()
    await world.open(connections)


async def finished(world: World) -> None:
    """Read everything, close every window, deliver it all."""
    world.collect()
    world.owner.close_all()
    await world.until_idle()
    await world.close()
