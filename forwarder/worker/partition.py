"""One owned partition: open, collect, tick; docs/protocol.md gives the steps their numbers.

Everything between two awaits here is one step of the protocol: ``collect`` and the snapshot of
a tick never wait. Whatever goes wrong with the journal ends the object; its owner makes a new
one, and opening is the only recovery.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence

import structlog
from msgspec.structs import replace

from forwarder.collect.pipeline import MOST_ENCODED, Lane, LaneSet, Pipeline
from forwarder.config.connection import Connection
from forwarder.deliver.partition import PartitionDeliveries
from forwarder.errors import ForwarderError, JournalError, RefusedError
from forwarder.journal import commit as commits
from forwarder.journal import contract as journal
from forwarder.journal import opening, outbox, watermark
from forwarder.journal import state as states
from forwarder.journal import tick as ticks
from forwarder.journal.snapshot import Draft, Origin
from forwarder.journal.state import Fold, LaneState
from forwarder.model import (
    Batch,
    Closing,
    Collected,
    DeadLetter,
    Partition,
    Record,
)
from forwarder.ops.reporter import COMMITTED, Phase
from forwarder.worker import restore
from forwarder.worker.accounting import Stock
from forwarder.worker.context import Surroundings, roomy
from forwarder.worker.gc_tuning import NURSERY
from forwarder.worker.orphan_lanes import Unknown
from forwarder.worker.snapshots import Bases
from forwarder.worker.ticks import Rhythm

log = structlog.get_logger()

LEASE = 10.0
"""Seconds after the begin of a committed tick within which puts may start (D3), at most: never
longer than the group waits for a worker that is silent."""

SLICE = 200
"""Windows closed in one go when many expire at once, a few milliseconds' work."""


class OwnedPartition:
    """One opening of one partition. Caller: worker; one poll loop and one tick loop."""

    def __init__(self, partition: Partition, around: Surroundings) -> None:
        """Own nothing yet; :meth:`open` does."""
        self.partition = partition
        self.phase = Phase.OPENING
        self.position = 0
        self.intake_stopped = 0
        self._configured = around.lanes[partition.topic]
        self._lanes: Sequence[Lane] = ()
        self.pipeline = Pipeline(partition, LaneSet(self._configured.form))
        self.stopped: dict[str, RefusedError] = {}
        loop = asyncio.get_running_loop()
        self.failed: asyncio.Future[ForwarderError] = loop.create_future()
        self.committed: asyncio.Future[None] = loop.create_future()
        self._around = around
        self._journal = around.journals.journal(partition)
        self._rhythm = Rhythm(around)
        self._bases = Bases(str(partition), around, self._rhythm.stir, self.journal_failed)
        self._stock = Stock(str(partition), around.reporter)
        self._unknown = Unknown(partition, around)
        self._state = states.PartitionState()
        self._end = 0
        self._batches: list[Batch] = []
        self._closings: list[Closing] = []
        self._dead_letters: list[DeadLetter] = []
        self._closed_bytes = 0
        self._assignment = 1
        self._held = False
        self._beat_wanted = False
        self._moved = False
        self._paused = ("", 0)
        self._ticking = asyncio.Lock()
        self.deliveries = self._make_deliveries((), {})

    # ------------------------------------------------------------------ open (O1 to O8)

    async def open(self) -> int:
        """Take the partition over and return the offset to collect from.

        Raises RefusedError once ownership is proved, JournalError for everything else.
        """
        fold = Fold(self._around.group, self.partition.topic)
        try:
            found = await self._journal.open(fold.take)
            start = self._decide(found, fold)
            if start.stopped:
                await self._journal.prove()
        except RefusedError as refusal:
            await self._journal.prove()
            self.phase = Phase.REFUSED
            self._around.reporter.partition_phase(
                str(self.partition), self.phase, refusal.what, refusal.remedy
            )
            raise
        await self._begin(start, found, fold)
        self.phase = Phase.OPEN
        restore.report(str(self.partition), start, self._around.reporter)
        self.deliveries.wake()
        return start.seek

    def _decide(self, found: journal.Restored, fold: Fold) -> opening.Opening:
        """Decide where every lane stands (O2 to O6)."""
        keying = {lane.name: lane.keying_rule for lane in self._configured.lanes}
        now = self._around.clock.wall_ms()
        start = opening.decide(found, fold.state, self.partition.topic, keying, now)
        if start.origin is not opening.Origin.STATE:
            fold.forget_windows()
        return start

    async def _begin(self, start: opening.Opening, found: journal.Restored, fold: Fold) -> None:
        """Put everything in its place (O7, O8)."""
        self._state, self._end = start.state, found.outbox_end
        self._state_start = found.state_start
        self.stopped = start.stopped
        self.position = start.seek
        if said := commits.decode(found.commit):
            self.intake_stopped = said.stopped if self._around.guard.percent else 0
        fed = self._configured.without(start.unfed)
        self._lanes = fed.lanes
        self._unfed = start.unfed
        replays = restore.replay_filters(self._lanes, start.state)
        self.pipeline = Pipeline(
            self.partition,
            fed,
            start.state.read,
            replays=replays,
            explains=self._around.explains,
        )
        self.pipeline.compress_above(roomy(self._around.window_memory, self._around.owned()))
        async with self._around.restoring:
            await restore.fill(
                self.pipeline, replays, self._lanes, start.state, fold, self._around.reporter
            )
        going = [lane.connection for lane in self._lanes if lane.name not in start.stopped]
        self.deliveries = self._make_deliveries(going, start.state.lanes)
        self.deliveries.results.failed.add_done_callback(
            lambda failed: self.journal_failed(failed.result())
        )
        if self._held:
            self.hold()
        if self._unknown.forgotten(self._state.lanes):
            self._bases.hurry()

    def _make_deliveries(
        self, connections: Iterable[Connection], stored: Mapping[str, LaneState]
    ) -> PartitionDeliveries:
        return PartitionDeliveries(
            self._around.deliver,
            str(self.partition),
            connections,
            stored,
            end=(self._end, 0),
            read=self._journal.read,
            notify=self._rhythm.stir,
        )

    # ------------------------------------------------------------------ collect, C1 and C2

    def collect(self, records: Sequence[Record]) -> None:
        """Take one poll of this partition, in order; what lies below the position is known."""
        if records and records[0].offset < self.position:
            records = [record for record in records if record.offset >= self.position]
        if self.phase is not Phase.OPEN or not records:
            return
        self._absorb(self.pipeline.collect(records, self._around.clock.wall_ms()))
        NURSERY.note(len(records))
        self.position = records[-1].offset + 1
        self.pipeline.release_replay(self.position)
        self._moved = True
        self._rhythm.stir()

    def step_over(self, position: int) -> None:
        """Go past markers and gaps: below ``position`` no record is left to be collected.

        Caller: the worker's clock. Without it an input that goes idle after a transaction, or whose
        last one was aborted, would keep a lag for ever.
        """
        if self.phase is Phase.OPEN and not self.intake_stopped and position > self.position:
            self.position = position
            self.pipeline.release_replay(position)
            self._moved = True
            self._rhythm.stir()

    def note_pause(self, reason: str, since_ms: int) -> None:
        """Have the next commit say why this partition is not read, or with "" that it is.

        Caller: the watchdog. Only a commit shows it to who looks from outside. Nothing is said
        while it is held (R1): that commit may stand long after its owner has gone.
        """
        if self._held:
            reason, since_ms = "", 0
        if (reason, since_ms) != self._paused:
            self._paused = (reason, since_ms)
            self._beat_wanted = True
            self._rhythm.stir()

    async def expire(self, deadline_ms: int) -> None:
        """Close the windows due at ``deadline_ms`` wall-clock time, in slices (C1, C2)."""
        while not self.crowded() and await self._expire_slice(deadline_ms):
            pass

    async def catch_up(self) -> None:
        """Close what the record clock has passed and the last poll left open, in slices (C2).

        What is left because too much waits for the journal closes after the next poll, and so do
        documents of closed windows that are still to be made.
        """
        while not self.crowded() and await self._expire_slice(self.pipeline.clock):
            pass

    async def _expire_slice(self, deadline_ms: int) -> bool:
        due = self.pipeline.next_deadline()
        late = due is not None and due <= deadline_ms
        if self.phase is not Phase.OPEN or not (late or self.pipeline.is_behind()):
            return False
        now = self._around.clock.wall_ms()
        self._absorb(self.pipeline.expire(deadline_ms, SLICE, now))
        self._rhythm.stir()
        await asyncio.sleep(0)
        return True

    def finish(self) -> None:
        """Close every window: the input has ended for good."""
        self._absorb(self.pipeline.finish(self._around.clock.wall_ms()))
        self._rhythm.stir()

    def shed(self, bytes_wanted: int) -> bool:
        """Close some large old windows for want of memory; False if there are none (C1)."""
        now = self._around.clock.wall_ms()
        collected = self.pipeline.shed(bytes_wanted, SLICE, now)
        self._absorb(collected)
        self._rhythm.stir()
        return bool(collected.closings)

    def memory_bytes(self) -> int:
        """Return about what open windows, and what is kept of closed ones, take in memory."""
        if self.phase not in {Phase.OPENING, Phase.OPEN}:
            return 0
        draft = self._bases.draft
        indexes = sum(index.memory_bytes() for index in self._state.indexes.values())
        return self.pipeline.memory_bytes() + indexes + (draft.bytes if draft else 0)

    def crowded(self) -> bool:
        """Tell whether so much waits for the next tick that nothing more may close (C2)."""
        most = self._around.closed_bytes()
        if self.pipeline.is_behind():  # documents may be many times what came in
            most = min(most, MOST_ENCODED)
        return self._closed_bytes + self.deliveries.results.refused_bytes > most

    def is_behind(self) -> bool:
        """Tell whether documents of closed windows are still to be made; ``catch_up`` goes on."""
        return self.phase is Phase.OPEN and self.pipeline.is_behind()

    def takes_more(self) -> bool:
        """Tell whether reading may go on: nothing waits that has to be stored first (C2, K2)."""
        return not (self.crowded() or self.is_behind() or self._bases.is_owed())

    def _absorb(self, collected: Collected) -> None:
        self._batches += collected.batches
        self._closings += collected.closings
        self._dead_letters += collected.dead_letters
        self._closed_bytes += sum(len(b.payload) for b in collected.batches)
        self._closed_bytes += sum(len(d.value) for d in collected.dead_letters)
        if self.pipeline.is_behind():
            self._bases.postpone()
        self._around.guard.note(collected, self._around.clock.steady())
        self._stock.collected(collected)

    # ------------------------------------------------------------------ the intake's stop

    def stop_intake(self, since_ms: int) -> None:
        """Note that nothing is collected any more, or with 0 that it is, and commit that."""
        self.intake_stopped = since_ms
        self._beat_wanted = True
        self._rhythm.stir()

    def trial_offset(self) -> int:
        """Return where what was never collected begins: what a sample is taken of."""
        return max(self.position, self._state.read)

    def try_out(self, records: Sequence[Record]) -> Collected:
        """Collect a sample into windows of its own, close them, and keep nothing of it."""
        return self.pipeline.try_out(records, self._around.clock.wall_ms())

    # ------------------------------------------------------------------ tick (K1 to K5)

    async def run(self) -> None:
        """Make ticks as they fall due, until the partition fails or is closed."""
        while self.phase is Phase.OPEN:
            await self._rhythm.wait(self._due)
            await self.tick()

    def ask_for_tick(self) -> None:
        """Have a tick made soon even if nothing changed: it proves that this is the owner."""
        self._beat_wanted = True
        self._rhythm.stir()

    async def tick(self) -> None:
        """Make one tick now, if anything changed; a failure is left in ``failed``."""
        async with self._ticking:
            if self.phase is Phase.OPEN:
                await self._tick()

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        began = self._rhythm.begin()
        lease, assignment = self._around.clock.steady(), self._assignment
        self._prepare_base()
        self._collect_deliveries()
        drawn, content, records = self._snapshot()
        if drawn is None or content is None:
            return
        name = str(self.partition)
        try:
            committed = await self._journal.commit(content)
        except JournalError as error:
            self._around.reporter.tick(name, loop.time() - began, type(error).__name__)
            self.journal_failed(error)
            return
        except BaseException:  # given up: what became of it is as unknown (K5)
            self.journal_failed(JournalError("the tick was interrupted"))
            raise
        self._around.reporter.tick(name, loop.time() - began, COMMITTED)
        if assignment == self._assignment:
            most = min(LEASE, self._around.pacing.session_timeout)
            self.deliveries.lease.extend(lease + most)
        self._commit_known(drawn, content, committed, records)

    def _collect_deliveries(self) -> None:
        """Take over what the deliveries came to since the last tick, for the one being drawn."""
        self._moved |= self.deliveries.results.cursor_moved
        self._beat_wanted |= self.deliveries.results.lease_wanted
        refused = self.deliveries.collect_refused()
        self._dead_letters += refused
        self._closed_bytes += sum(len(letter.value) for letter in refused)
        now = self._around.clock.wall_ms()
        for lane in self._lanes:
            stored = self._state.lanes[lane.name]
            extra = self.deliveries.notes(lane.name, stored.extra, now)
            if extra is not None:
                stored.extra = extra
                self._state.unwritten.add(lane.name)

    def _snapshot(
        self,
    ) -> tuple[ticks.Drawn | None, journal.Tick | None, list[list[Batch]]]:
        """Draw up a tick from everything there is, without waiting (K1 to K3)."""
        draft = self._bases.draft
        if draft is not None and draft.complete:
            draft.settle()
        snap = ticks.Snapshot(
            origin=Origin(self._around.group, self.partition.topic),
            position=self.position,
            end=self._end,
            ptr=self._state_start if self._state.base_offset is None else self._state.base_offset,
            now_ms=self._around.clock.wall_ms(),
            views={lane.name: self._view(lane) for lane in self._lanes},
            closings=self._closings,
            unfed=self._unfed,
            draft=draft,
        )
        drawn = ticks.draw(self._state, snap)
        if drawn is None and (self._dead_letters or self._batches or self._beat_wanted):
            drawn = ticks.beat(self._state, snap)
        self._moved = self._beat_wanted = False
        if drawn is None:
            return None, None, []
        records = outbox.group(self._batches)
        entries = [journal.OutboxEntry(r[0].lane, outbox.encode(r)) for r in records]
        reason, since = self._paused
        content = journal.Tick(
            outbox=entries,
            dead_letters=self._dead_letters,
            state=drawn.values,
            offset=drawn.watermark,
            metadata=replace(
                drawn.metadata, stopped=self.intake_stopped, paused=reason, paused_since=since
            ),
            floor=min((lane.cursor for lane in drawn.lanes.values()), default=(0, 0)),
        )
        self._stock.drawn(self._batches, self._dead_letters)
        self._batches, self._closings, self._dead_letters = [], [], []
        return drawn, content, records

    def _view(self, lane: Lane) -> ticks.View:
        first_unsaved = self.pipeline.first_unsaved(lane.name)
        stored = self._state.lanes[lane.name]
        at, acked = self.deliveries.cursor(lane.name, stored)
        return ticks.View(first_unsaved, at, acked, not restore.is_active(lane))

    def _commit_known(
        self,
        drawn: ticks.Drawn,
        content: journal.Tick,
        committed: journal.Committed,
        records: list[list[Batch]],
    ) -> None:
        """Make the tick true with the snapshot's values, and its batches deliverable (K5)."""
        if not self.committed.done():
            self.committed.set_result(None)
        if committed.outbox:
            self._end = committed.outbox[-1] + 1
        if drawn.base is not None:
            self._unknown.report(drawn.base.forgotten, self._state.lanes, (self._end, 0))
        ticks.apply(self._state, drawn, committed.state[0], self._end, self._bases.draft)
        self._closed_bytes -= sum(len(b.payload) for r in records for b in r)
        self._closed_bytes -= sum(len(d.value) for d in content.dead_letters)
        size = sum(len(v) for v in drawn.values)
        self._bases.committed(self._journal, drawn.base, drawn.ptr, size)
        fresh = outbox.by_lane(outbox.addresses(committed.outbox, records))
        self._stock.committed(content.dead_letters, fresh, self.deliveries.lanes)
        cursors = {name: lane.cursor for name, lane in drawn.lanes.items()}
        self.deliveries.committed((self._end, 0), cursors, fresh)

    # ------------------------------------------------------------------ bases, K2

    def _prepare_base(self) -> None:
        """Begin to draft a base if one is due and no replay going on; the first one is at once."""
        self._bases.outrun(self._state.n)
        if self._state.base_offset is None:
            self._bases.make(self._draft())
        elif self.position >= self._state.read and not self.pipeline.is_behind():
            self._bases.begin(self._draft)

    def _draft(self) -> Draft:
        below = self._state.base_read
        savings = {
            lane.name: self.pipeline.begin_checkpoint(lane.name, below) for lane in self._lanes
        }
        origin = Origin(self._around.group, self.partition.topic)
        forgotten = self._unknown.forgotten(self._state.lanes)
        return Draft(origin, self._state, savings, forgotten, restore.rules(self._lanes))

    def holding(self) -> dict[str, int]:
        """Return the unknown lanes that hold the watermark, and for how many ms still (L1)."""
        return self._unknown.holding(self._state.lanes)

    # ------------------------------------------------------------------ when ticks are due

    def _due(self) -> float | None:
        """Return when the next tick is due; None: nothing changed."""
        if self.phase is not Phase.OPEN:
            return float("-inf")
        results = self.deliveries.results
        hurries = self._beat_wanted or results.lease_wanted or results.refused
        if self._batches or self._closings or self._dead_letters or hurries:
            return self._rhythm.soon()
        usual, base = self._rhythm.usual(), self._bases.due()
        moved = self._moved or results.cursor_moved
        news = moved or self._state.unwritten or self._state.base_offset is None
        if news or self._bases.is_ready():
            return usual
        return None if base is None else max(base, usual)

    # ------------------------------------------------------------------ rebalance, end

    def hold(self) -> None:
        """Start no more puts until the next assignment, not even once it has opened (R1)."""
        self._held = True
        self.deliveries.hold()

    async def settle(self, seconds: float) -> None:
        """Wait for puts in flight, ``seconds`` at most, then make a last tick (R1)."""
        self.hold()
        try:
            async with asyncio.timeout(seconds):
                await self.deliveries.finish_puts()
        except TimeoutError:
            log.warning("puts.unfinished", partition=str(self.partition), waited=seconds)
        self.note_pause("", 0)
        await self.tick()

    def assigned_again(self) -> None:
        """Go on with this memory; no put before a tick begun from now on has committed (R3)."""
        self._assignment += 1
        self.deliveries.lease.revoke()
        self._held = False
        if self.phase is Phase.OPEN:
            self.deliveries.release()

    async def close(self) -> None:
        """Drop everything held in memory (R2); what was committed is all that counts."""
        self.phase = Phase.CLOSED
        self._rhythm.stir()
        try:
            await asyncio.gather(self._bases.close(), self.deliveries.close())
            self._stock.release(self.waiting(), failed=self.failed.done())
        finally:  # whatever that ran into: its producer must not outlive it
            await self._journal.close()

    def waiting(self) -> dict[str, int]:
        """Return by lane how many events wait here, from windows to deliveries."""
        return self._stock.waiting(
            self.pipeline,
            self._lanes,
            self._batches,
            self._dead_letters,
            self.deliveries.waiting_events(),
        )

    def watermark(self) -> int:
        """Return W as of the last tick: everything below it is in the outbox or in the state."""
        needs = (lane.need for lane in self._state.lanes.values())
        return watermark.watermark(needs, self._state.read)

    def idle(self) -> bool:
        """Tell whether nothing waits for a tick or for an acknowledgement."""
        waiting = self._batches or self._closings or self._dead_letters or self._moved
        if waiting or self._ticking.locked() or self.is_behind():
            return False
        return self.deliveries.is_idle()

    def journal_failed(self, error: ForwarderError) -> None:
        """End this opening: discard the memory, let the worker open again."""
        if not self.failed.done():
            self.failed.set_result(error)
        self.phase = Phase.CLOSED
        self._bases.drop()
        self.hold()
        self._rhythm.stir()
