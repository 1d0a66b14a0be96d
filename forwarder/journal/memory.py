"""A journal in memory: for the file source, and for tests of everything above it.

It keeps the promises of :mod:`forwarder.journal.contract` within one process: openings fence each
other, a tick is visible as a whole or not at all. Nothing survives the process.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence

import msgspec

from forwarder.errors import FencedError, JournalError
from forwarder.journal.commit import encode_metadata, metadata_hint
from forwarder.journal.contract import (
    Committed,
    OutboxRecord,
    OutboxSlice,
    Restored,
    Take,
    Tick,
)
from forwarder.model import Commit, DeadLetter, Partition

DeadLetterSink = Callable[[Partition, Sequence[DeadLetter]], Awaitable[None]]
"""Awaited inside a commit; may raise JournalError, and OSError for a broken disk."""


class PartitionLog(msgspec.Struct):
    """What one partition has stored; survives its openings."""

    outbox: dict[int, tuple[str, bytes]] = msgspec.field(default_factory=dict)
    outbox_start: int = 0
    outbox_end: int = 0
    outbox_bytes: int = 0
    state: dict[int, bytes] = msgspec.field(default_factory=dict)
    state_start: int = 0
    state_end: int = 0
    commit: Commit | None = None
    dead_letters: list[DeadLetter] = msgspec.field(default_factory=list)
    epoch: int = 0

    def cut(self, below: int) -> None:
        """Give up the state records below an offset."""
        for offset in range(self.state_start, min(below, self.state_end)):
            self.state.pop(offset, None)
        self.state_start = max(self.state_start, min(below, self.state_end))


class MemoryJournals:
    """The logs of all partitions, and a journal for each opening.

    ``first`` and ``input_end`` stand in for the input topic's offsets. With ``trim`` set,
    outbox records below every lane's cursor and state below the newest base are given up:
    right where no opening follows. ``dead_letters`` gets every committed dead letter.
    """

    def __init__(
        self,
        *,
        first: int = 0,
        input_start: int = 0,
        input_end: int = 2**62,
        trim: bool = False,
        dead_letters: DeadLetterSink | None = None,
    ) -> None:
        """Create without logs: each is made when its partition is asked for first."""
        self.logs: dict[Partition, PartitionLog] = {}
        self.first = first
        self.input_start = input_start
        self.input_end = input_end
        self.trim = trim
        self.dead_letters = dead_letters

    async def prepare(self, partitions: frozenset[Partition]) -> None:
        """Make a log for each partition."""
        for partition in partitions:
            self.log(partition)

    def log(self, partition: Partition) -> PartitionLog:
        """Return what a partition has stored."""
        return self.logs.setdefault(partition, PartitionLog())

    def journal(self, partition: Partition) -> "MemoryJournal":
        """Return a journal for one opening."""
        return MemoryJournal(self, partition)

    def outbox_bytes(self) -> int:
        """Return how many bytes wait in all outboxes."""
        return sum(log.outbox_bytes for log in self.logs.values())

    async def close(self) -> None:
        """Do nothing: no connection is held."""


class MemoryJournal:
    """One opening of one partition's log."""

    def __init__(self, journals: MemoryJournals, partition: Partition) -> None:
        """Create unopened; ``open`` fences the former one."""
        self._journals = journals
        self._partition = partition
        self._log = journals.log(partition)
        self._epoch: int | None = None

    async def open(self, take: Take | None = None) -> Restored:
        """Fence the former opening and read everything (O1 to O3)."""
        log = self._log
        log.epoch += 1
        self._epoch = log.epoch
        ptr = metadata_hint(log.commit).ptr
        since = log.state_start if ptr is None else ptr
        commit, records = log.commit, [r for r in log.state.items() if r[0] >= since]
        if take is not None:
            for offset, value in records:
                take(offset, value)
                await asyncio.sleep(0)
        return Restored(
            commit=commit,
            state=() if take else records,
            state_start=log.state_start,
            state_end=log.state_end,
            outbox_start=log.outbox_start,
            outbox_end=log.outbox_end,
            first=self._journals.first,
            input_start=self._journals.input_start,
            input_end=self._journals.input_end,
        )

    async def commit(self, tick: Tick) -> Committed:
        """Store one tick, all of it or nothing (K4)."""
        self._check()
        log = self._log
        if self._journals.dead_letters and tick.dead_letters:
            try:
                await self._journals.dead_letters(self._partition, tick.dead_letters)
            except OSError as error:
                msg = f"the dead letters cannot be written: {error}"
                raise JournalError(msg) from error
            self._check()  # it may have been fenced meanwhile
        log.dead_letters += () if self._journals.trim else tick.dead_letters
        outbox = range(log.outbox_end, log.outbox_end + len(tick.outbox))
        state = range(log.state_end, log.state_end + len(tick.state))
        for offset, entry in zip(outbox, tick.outbox, strict=True):
            log.outbox[offset] = (entry.lane, entry.value)
            log.outbox_bytes += len(entry.value)
        log.state.update(zip(state, tick.state, strict=True))
        # one more offset each, as a transaction's marker takes in Kafka
        log.outbox_end = outbox.stop + bool(outbox)
        log.state_end = state.stop + 1
        log.commit = Commit(tick.offset, encode_metadata(tick.metadata))
        if self._journals.trim:
            self._trim(tick)
        return Committed(outbox, state)

    async def read(
        self, lanes: Collection[str], start: int, end: int, max_bytes: int
    ) -> OutboxSlice:
        """Read records of some lanes from ``start`` up to ``end`` (D2)."""
        log = self._log
        found: list[OutboxRecord] = []
        seen = 0
        for offset in range(max(start, log.outbox_start), min(end, log.outbox_end)):
            if (entry := log.outbox.get(offset)) is None:
                continue
            lane, value = entry
            if lane in lanes:
                found.append(OutboxRecord(offset, lane, value))
            seen += len(value)
            if seen >= max_bytes:
                return OutboxSlice(found, offset + 1, seen)
        return OutboxSlice(found, end, seen)

    async def cut(self, below: int) -> None:
        """Give up the state records below an offset."""
        self._log.cut(below)

    async def prove(self) -> None:
        """Raise FencedError if another opening came after this one."""
        self._check()

    async def close(self) -> None:
        """End this opening: a later commit raises FencedError."""
        self._epoch = None

    def _check(self) -> None:
        if self._epoch != self._log.epoch:
            msg = f"{self._partition}: another owner has opened this partition"
            raise FencedError(msg)

    def _trim(self, tick: Tick) -> None:
        log = self._log
        floor = min(tick.floor[0], log.outbox_end)
        for offset in range(log.outbox_start, floor):
            _, value = log.outbox.pop(offset, ("", b""))
            log.outbox_bytes -= len(value)
        log.outbox_start = max(log.outbox_start, floor)
        log.cut(tick.metadata.ptr or 0)
