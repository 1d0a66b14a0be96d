"""Fakes for tests: virtual time, a scripted sink, a source fed by hand, a silent reporter."""

import asyncio
import selectors
from collections.abc import Collection, Coroutine, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import msgspec

from forwarder.errors import ForwarderError
from forwarder.model import (
    DELIVERED,
    Batch,
    Collected,
    DeadLetter,
    LogEnds,
    OpenTransaction,
    Outcome,
    OutcomeKind,
    Partition,
    Record,
)
from forwarder.ops.reporter import Chore, LaneStatus, PartitionFailure, Phase, Reporter
from forwarder.ops.stall import Stall
from forwarder.sinks.requests import SHARD
from forwarder.sources.contract import Listener, PositionLostError

T = TypeVar("T")


class _JumpingSelector(selectors.DefaultSelector):
    """Never wait: tell the loop how long it would have waited instead."""

    def __init__(self) -> None:
        super().__init__()
        self.jumped = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        """Poll once and let the time pass at once."""
        ready = super().select(0)
        if not ready:
            if timeout is None:
                msg = "the test waits for something that can never happen"
                raise RuntimeError(msg)
            self.jumped += timeout
        return list(ready)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time jumps to the next timer instead of waiting for it."""

    def __init__(self) -> None:
        """Begin at time 0."""
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self._jumping.jumped


def run_virtually(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


class LoopClock:
    """A clock that shows the running loop's time, from ``start_ms`` on."""

    def __init__(self, start_ms: int = 1_700_000_000_000) -> None:
        """Begin at ``start_ms`` when the loop's time is 0."""
        self.start_ms = start_ms

    def wall_ms(self) -> int:
        """Return wall-clock milliseconds."""
        return self.start_ms + round(self.steady() * 1000)

    def steady(self) -> float:
        """Return the loop's seconds."""
        return asyncio.get_running_loop().time()


class Message(msgspec.Struct, frozen=True):
    """A record made by hand."""

    offset: int
    timestamp: int
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = ()


class ScriptedSink:
    """A sink that answers as told: an outcome, or an exception, for each batch it is given.

    ``answers`` is asked with the batch and how often it was put before; ``landed`` holds every
    batch that was delivered, in order, ``puts`` every call. ``gate``, if set, holds puts up.
    """

    max_batches = 500
    max_bytes = 5 * 1024 * 1024
    in_order = False
    throughput = SHARD

    def __init__(self) -> None:
        """Deliver everything."""
        self.puts: list[list[Batch]] = []
        self.times: list[float] = []
        self.landed: list[Batch] = []
        self.tries: dict[str, int] = {}
        self.gate: asyncio.Event | None = None
        self.closed = False

    def answer(self, batch: Batch, tried: int) -> Outcome:  # noqa: ARG002  # for subclasses
        """Return the outcome for one batch, ``tried`` times put before."""
        return DELIVERED

    async def put(self, batches: Sequence[Batch]) -> Sequence[Outcome]:
        """Answer for each batch."""
        self.puts.append(list(batches))
        self.times.append(asyncio.get_running_loop().time())
        if self.gate is not None:
            await self.gate.wait()
        outcomes = []
        for batch in batches:
            outcome = self.answer(batch, self.tries.get(batch.id, 0))
            self.tries[batch.id] = self.tries.get(batch.id, 0) + 1
            if outcome.kind is OutcomeKind.DELIVERED:
                self.landed.append(batch)
            outcomes.append(outcome)
        return outcomes

    async def close(self) -> None:
        """Note that it was closed."""
        self.closed = True


class HandFedSource:
    """A source whose log, assignments and faults the test decides."""

    def __init__(self) -> None:
        """Begin with empty logs and nothing assigned."""
        self.logs: dict[Partition, list[Record]] = {}
        self.positions: dict[Partition, int] = {}
        self.paused: set[Partition] = set()
        self.listener: Listener | None = None
        self.assigned: frozenset[Partition] = frozenset()
        self.holds: set[Partition] = set()
        self.ended = False
        self.fails = False
        self.unreachable = True
        self.denied = ""
        self.unseen: ForwarderError | None = None
        self.member = True
        self.gone: set[Partition] = set()
        self.polls = 0
        self.stopped = False
        self.stable: dict[Partition, int] = {}
        self.high: dict[Partition, int] = {}
        self.silent: set[Partition] = set()
        self.uncommitted: set[Partition] = set()
        self.open: dict[Partition, OpenTransaction] = {}
        self.refused: dict[Partition, ForwarderError] = {}
        self.begun_anew = 0

    async def start(self, listener: Listener) -> None:
        """Remember whom to tell."""
        self.listener = listener

    async def assign(self, *partitions: Partition) -> None:
        """Rebalance: revoke everything, then assign these."""
        if self.listener is None:
            msg = "assign before start"
            raise RuntimeError(msg)
        await self.listener.on_revoked(self.assigned)
        self.assigned = frozenset(partitions)
        self.holds = set(partitions)
        self.paused = set(partitions)
        await self.listener.on_assigned(self.assigned)

    def feed(self, partition: Partition, value: bytes | None, timestamp: int) -> int:
        """Append a record; return its offset."""
        log = self.logs.setdefault(partition, [])
        log.append(Message(len(log), timestamp, value))
        return len(log) - 1

    async def poll(self, timeout_ms: int) -> Mapping[Partition, Sequence[Record]]:
        """Return everything new on partitions that are not paused."""
        self.polls += 1
        if self.fails:
            msg = "the broker is away"
            raise ForwarderError(msg)
        if self.denied:
            msg = "the consumer failed"
            raise ForwarderError(msg, self.denied, lasting=True)
        if self.gone:
            gone, self.gone = frozenset(self.gone), set()
            self.paused |= gone
            msg = "the input lost records"
            raise PositionLostError(msg, gone)
        found: dict[Partition, Sequence[Record]] = {}
        for partition in self.assigned - self.paused:
            at = self.positions.get(partition, 0)
            records = self.logs.get(partition, [])[at:]
            if records:
                found[partition] = records
                self.positions[partition] = at + len(records)
        await asyncio.sleep(0 if found else timeout_ms / 1000)
        return found

    def resume_at(self, partition: Partition, offset: int) -> None:
        """Seek and resume."""
        self.positions[partition] = offset
        self.paused.discard(partition)

    def pause(self, partition: Partition) -> None:
        """Pause one partition."""
        self.paused.add(partition)

    def resume(self, partition: Partition) -> None:
        """Resume one partition."""
        self.paused.discard(partition)

    def position(self, partition: Partition) -> int | None:
        """Return the next offset."""
        return self.positions.get(partition)

    async def end(self, partition: Partition) -> int:
        """Return the log's end."""
        if self.fails:
            msg = "the broker is away"
            raise ForwarderError(msg)
        return self.stable.get(partition, len(self.logs.get(partition, [])))

    async def ends(self, partitions: Collection[Partition]) -> Mapping[Partition, LogEnds]:
        """Return the log's end, unless the test says otherwise."""
        if self.fails:
            return {}
        told = [partition for partition in partitions if partition not in self.silent]
        stable = {partition: await self.end(partition) for partition in told}
        return {p: LogEnds(end, max(end, self.high.get(p, end))) for p, end in stable.items()}

    async def committed(self, partitions: Collection[Partition]) -> Mapping[Partition, int]:
        """Return 0 for every partition, unless the test says that it has none."""
        return dict.fromkeys(set(partitions) - self.uncommitted, 0)

    def refusal(self, partition: Partition) -> ForwarderError | None:
        """Return what the test says that the leader answers."""
        return self.refused.get(partition)

    def restart_fetching(self) -> None:
        """Count it."""
        self.begun_anew += 1

    async def open_transaction(self, partition: Partition) -> OpenTransaction | None:
        """Return the transaction that the test opened."""
        return self.open.get(partition)

    async def is_owner(self, partition: Partition) -> bool:
        """Tell what the coordinator would say."""
        return partition in self.holds

    async def is_member(self) -> bool:
        """Tell what the coordinator would say of this member."""
        if self.fails and self.unreachable:
            msg = "the broker is away"
            raise ForwarderError(msg)
        return self.member

    def unseen_input(self) -> ForwarderError | None:
        """Return what the test says is not seen."""
        return self.unseen

    def is_exhausted(self) -> bool:
        """Tell whether the test said that the input has ended."""
        return self.ended

    async def stop(self) -> None:
        """Note that the group was left."""
        self.stopped = True


class Notes(Reporter):
    """A reporter that keeps an ordered log of what it was told."""

    def __init__(self) -> None:
        """Begin with an empty log."""
        self.log: list[tuple[Any, ...]] = []
        self.phases: dict[Partition, str] = {}
        self.stalls: dict[str, str] = {}
        self.standing: dict[Partition, Stall] = {}

    def names(self) -> list[str]:
        """Return the kinds of entries, in order."""
        return [entry[0] for entry in self.log]

    def put(self, lane: str, seconds: float, outcomes: Sequence[Outcome]) -> None:  # noqa: ARG002
        """Note a put."""
        self.log.append(("put", lane, [o.kind.value for o in outcomes]))

    def delivered(self, lane: str, batches: Sequence[Batch]) -> None:
        """Note acknowledged batches."""
        self.log.append(("delivered", lane, len(batches)))

    def lane_status(
        self,
        lane: str,
        partition: str,
        status: LaneStatus,
        reason: str,
        remedy: str = "",  # noqa: ARG002  # part of the reason
    ) -> None:
        """Note a change of a lane's status."""
        self.log.append(("lane", lane, partition, status.value, reason))

    def collected(self, partition: str, collected: Collected) -> None:
        """Note a poll."""
        self.log.append(("collected", partition, collected.records))

    def tick(self, partition: str, seconds: float, result: str) -> None:  # noqa: ARG002
        """Note a tick."""
        self.log.append(("tick", partition, result))

    def partition_phase(self, partition: str, phase: Phase, reason: str, remedy: str = "") -> None:
        """Note where a partition stands."""
        for owned in self.phases:
            if str(owned) == partition:
                self.phases[owned] = str(phase)
        text = f"{reason}; {remedy}" if remedy else reason
        self.log.append(("partition", partition, str(phase), text))

    def waiting_for(self, reason: str, remedy: str) -> None:
        """Note what the worker waits for, once."""
        if reason and (not self.log or self.log[-1] != ("waits", reason, remedy)):
            self.log.append(("waits", reason, remedy))

    def lane_forgotten(self, lane: str) -> None:
        """Note a lane that was left out."""
        self.log.append(("forgotten", lane))

    def dead_letters(self, partition: str, letters: Sequence[DeadLetter]) -> None:  # noqa: ARG002
        """Note committed dead letters."""
        self.log.append(("dead", [letter.reason.value for letter in letters]))

    def partitions_owned(self, partitions: Collection[Partition]) -> None:
        """Remember which are owned: those that are new are opening."""
        self.phases = {p: self.phases.get(p, "opening") for p in partitions}

    def partition_failed(self, partition: Partition, failure: PartitionFailure) -> None:
        """Note a failure of a partition."""
        self.log.append(("failed", str(partition), failure))

    def intake_stopped(self, partitions: Mapping[Partition, int]) -> None:
        """Note what is not collected."""
        self.log.append(("stopped", sorted(map(str, partitions))))

    def chore_failed(self, chore: Chore) -> None:
        """Note a failure of a chore."""
        self.log.append(("chore", chore))

    def stalled(self, partitions: Mapping[Partition, Stall]) -> None:
        """Note why which partitions stand still, when that is other than before."""
        self.standing = dict(partitions)
        told = {str(partition): str(stall.reason) for partition, stall in partitions.items()}
        if told != self.stalls:
            self.stalls = told
            self.log.append(("stalled", told))

    def rebalanced(self) -> None:
        """Note a rebalance."""
        self.log.append(("rebalanced",))


class Owning(Protocol):
    """Whoever is told what a worker owns, and how far that is."""

    def partitions_owned(self, partitions: Collection[Partition]) -> None:
        """Note which partitions are owned."""

    def partition_phase(self, partition: str, phase: Phase, reason: str, remedy: str = "") -> None:
        """Note how far one is."""


def own(told: Owning, phases: Mapping[Partition, Phase]) -> None:
    """Tell which partitions are owned, and how far each of them is."""
    told.partitions_owned(phases)
    for partition, phase in phases.items():
        told.partition_phase(str(partition), phase, "")
