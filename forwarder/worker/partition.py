"""One open partition: what is collected of it, and when its windows close early or late (C1, C2).

Everything between two awaits here is one step of the protocol: ``collect`` never waits. Whatever
goes wrong with the journal ends the object; its supervisor opens the partition anew, and opening
is the only recovery.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import structlog

from forwarder.collect.pipeline import Pipeline
from forwarder.errors import ForwarderError, JournalError
from forwarder.journal import contract as journal
from forwarder.model import Collected, Partition, Record
from forwarder.worker.context import WorkerContext
from forwarder.worker.pending import Uncommitted
from forwarder.worker.ticks import PauseNote, Progress, TickLoop

log = structlog.get_logger()

WINDOWS_PER_SLICE = 200
"""Windows closed in one go when many expire at once, a few milliseconds' work."""


class OwnedPartition(Protocol):
    """A partition that the worker owns, open or not: what is measured of it."""

    @property
    def partition(self) -> Partition:
        """Return which partition it is."""

    def open_partition(self) -> "OpenPartition | None":
        """Return it while it is open, None while it is not."""

    def memory_bytes(self) -> int:
        """Return about what its windows take in memory, those that are being put back included."""

    def waiting(self) -> dict[str, int]:
        """Return by lane how many events wait here, those of an opening that ends included."""


class OpenPartition:
    """One opening of one partition, from its last step (O8) until it fails or is closed.

    Callers: the worker's poll loop and clock, and the supervisor, which has it made by an opening.
    ``position``: everything below it is collected. ``intake_stopped``: since which wall-clock
    milliseconds nothing is collected any more, 0: it is.
    """

    def __init__(  # noqa: PLR0913  # the parts of an opening, each given once
        self,
        partition: Partition,
        context: WorkerContext,
        *,
        logs: journal.Journal,
        pipeline: Pipeline,
        progress: Progress,
        uncommitted: Uncommitted,
        ticks: TickLoop,
    ) -> None:
        """Put nothing yet: :meth:`start` lets deliveries go."""
        self.partition = partition
        self.pipeline = pipeline
        self.ticks = ticks
        self.deliveries = ticks.deliveries
        self._context = context
        self._clock = context.clock
        self._journal = logs
        self._progress = progress
        self._uncommitted = uncommitted
        self._suspended = False

    @property
    def position(self) -> int:
        """Return the offset to collect from."""
        return self._progress.position

    @property
    def intake_stopped(self) -> int:
        """Return since which wall-clock milliseconds nothing is collected; 0: it is."""
        return self._progress.intake_stopped

    # ------------------------------------------------------------------ life

    def is_open(self) -> bool:
        """Tell whether nothing has ended this opening."""
        return not self.ticks.end.is_over

    def start(self) -> None:
        """Let deliveries begin: the first tick that commits allows their puts."""
        self.deliveries.wake()

    async def run(self) -> None:
        """Make ticks as they fall due; ends only by raising ForwarderError, why the opening did.

        Caller: the supervisor.
        """
        ticks = asyncio.create_task(self.ticks.run())
        failed = self.ticks.end.error
        ends: list[asyncio.Future[Any]] = [ticks, failed]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if ticks.done():
                ticks.result()  # a fault of a tick says more than that the tick was interrupted
            raise await failed
        finally:
            ticks.cancel()
            await asyncio.gather(ticks, return_exceptions=True)

    def suspend(self) -> None:
        """Start no more puts until :meth:`resume`, not even after it was opened anew (R1)."""
        self._suspended = True
        self.deliveries.hold()

    async def drain(self, seconds: float) -> None:
        """Wait for puts in flight, ``seconds`` at most, then make a last tick (R1)."""
        self.suspend()
        try:
            async with asyncio.timeout(seconds):
                await self.deliveries.finish_puts()
        except TimeoutError:
            log.warning("puts.unfinished", partition=str(self.partition), waited=seconds)
        self.set_pause_reason("", 0)
        await self.ticks.tick()

    def resume(self) -> None:
        """Go on with this memory; no put before a tick begun from now on has committed (R3)."""
        self.ticks.require_proof()
        self._suspended = False
        if self.is_open():
            self.deliveries.release()

    def fail(self, error: ForwarderError) -> None:
        """End this opening for a reason that others found; its supervisor opens another."""
        self.ticks.fail(error)

    async def close(self) -> None:
        """Drop everything held in memory (R2); what was committed is all that counts."""
        try:
            await self.ticks.close()
            self._uncommitted.release(self.waiting(), failed=self.ticks.end.has_failed())
        finally:  # whatever that ran into: its producer must not outlive it
            await self._journal.close()

    # ------------------------------------------------------------------ collect, C1 and C2

    def collect(self, records: Sequence[Record]) -> None:
        """Take one poll of this partition, in order; what lies below the position is known."""
        if records and records[0].offset < self.position:
            records = [record for record in records if record.offset >= self.position]
        if self.ticks.end.is_over or not records:
            return
        with self._ended_by_faults():
            self._add(self.pipeline.collect(records, self._clock.wall_ms()))
        self._advance(records[-1].offset + 1)

    def advance_past_markers(self, position: int) -> None:
        """Go past markers and gaps: below ``position`` no record is left to be collected.

        Caller: the worker's clock. Without it an input that goes idle after a transaction, or whose
        last one was aborted, would keep a lag for ever.
        """
        if self.is_open() and not self.intake_stopped and position > self.position:
            self._advance(position)

    async def expire(self, deadline_ms: int) -> None:
        """Close the windows due at ``deadline_ms`` wall-clock time, in slices (C1, C2)."""
        while not self.is_journal_behind() and await self._close_slice(deadline_ms):
            pass

    async def close_overdue(self) -> None:
        """Close what the record clock has passed and the last poll left open, in slices (C2).

        What is left because too much waits for the journal closes after the next poll, and so do
        documents of closed windows that are still to be made.
        """
        while not self.is_journal_behind() and await self._close_slice(self.pipeline.clock):
            pass

    def close_all(self) -> None:
        """Close every window: the input has ended for good."""
        self._progress.is_finished = True
        with self._ended_by_faults():
            self._add(self.pipeline.finish(self._clock.wall_ms()))
        self.ticks.schedule.wake()

    def close_for_memory(self, bytes_wanted: int) -> bool:
        """Close some large old windows for want of memory; False if there are none (C1)."""
        now_ms = self._clock.wall_ms()
        with self._ended_by_faults():
            collected = self.pipeline.shed(bytes_wanted, WINDOWS_PER_SLICE, now_ms)
            self._add(collected)
        self.ticks.schedule.wake()
        return bool(collected.closings)

    async def _close_slice(self, deadline_ms: int) -> bool:
        due = self.pipeline.next_deadline()
        late = due is not None and due <= deadline_ms
        if not self.is_open() or not (late or self.pipeline.has_pending_documents):
            return False
        now_ms = self._clock.wall_ms()
        with self._ended_by_faults():
            self._add(self.pipeline.expire(deadline_ms, WINDOWS_PER_SLICE, now_ms))
        self.ticks.schedule.wake()
        await asyncio.sleep(0)
        return True

    @contextmanager
    def _ended_by_faults(self) -> Iterator[None]:
        """End this opening if something nobody expected interrupts what is done within.

        Windows may have closed then, and nothing holds what came of them: the next tick, a last
        one before a restart included, would commit positions without it.
        """
        try:
            yield
        except BaseException:
            self.fail(JournalError("collecting was interrupted"))
            raise

    def _add(self, collected: Collected) -> None:
        """Have the next tick store what was closed."""
        self._uncommitted.add(collected)
        if self.pipeline.has_pending_documents:
            self.ticks.snapshots.abandon()
        self._context.reject_rate.add(collected, self._clock.steady())

    def _advance(self, position: int) -> None:
        self._progress.position = position
        self._progress.moved = True
        self.pipeline.release_replay(position)
        self.ticks.schedule.wake()

    # ------------------------------------------------------------------ what holds it back

    def has_pending_documents(self) -> bool:
        """Tell whether documents of closed windows are still to be made by ``close_overdue``."""
        return self.is_open() and self.pipeline.has_pending_documents

    def is_journal_behind(self) -> bool:
        """Tell whether so many bytes are closed and not committed that nothing may close (C2)."""
        most = self._context.limits.closed_bytes
        if self.pipeline.has_pending_documents:  # documents may be many times what came in
            most = min(most, self.pipeline.bounds.encoded_bytes)
        return self._uncommitted.closed_bytes + self.deliveries.results.refused_bytes > most

    def has_room(self) -> bool:
        """Tell whether reading may go on: nothing waits that has to be stored first (C2, K2)."""
        return not (
            self.is_journal_behind()
            or self.has_pending_documents()
            or self.ticks.snapshots.is_restarting()
        )

    def set_pause_reason(self, reason: str, since_ms: int) -> None:
        """Have the next commit say why this partition is not read, or with "" that it is.

        Caller: the watchdog. Only a commit shows it to who looks from outside. Nothing is said
        while it is suspended (R1): that commit may stand long after its owner has gone.
        """
        note = PauseNote() if self._suspended else PauseNote(reason, since_ms)
        if note != self._progress.pause:
            self._progress.pause = note
            self.ticks.request()

    # ------------------------------------------------------------------ the circuit breaker

    def stop_intake(self, since_ms: int) -> None:
        """Note that nothing is collected any more, or with 0 that it is, and commit that."""
        self._progress.intake_stopped = since_ms
        self.ticks.request()

    def sample_offset(self) -> int:
        """Return where what was never collected begins: what a sample is taken of."""
        return max(self.position, self.ticks.read())

    def collect_sample(self, records: Sequence[Record]) -> Collected:
        """Collect a sample into windows of its own, close them, and keep nothing of it."""
        return self.pipeline.collect_sample(records, self._clock.wall_ms())

    # ------------------------------------------------------------------ queries

    def is_idle(self) -> bool:
        """Tell whether nothing waits for a tick or for an acknowledgement."""
        return self.ticks.is_idle() and not self.has_pending_documents()

    def memory_bytes(self) -> int:
        """Return about what open windows, and what is kept of closed ones, take in memory."""
        if not self.is_open():
            return 0
        return self.pipeline.memory_bytes() + self.ticks.memory_bytes()

    def waiting(self) -> dict[str, int]:
        """Return by lane how many events wait here, from windows to deliveries."""
        delivering = self.deliveries.waiting_events()
        return self._uncommitted.waiting(self.pipeline, delivering)
