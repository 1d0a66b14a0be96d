"""The ticks of one opening of a partition: when each is due, and its transaction (K1 to K5).

A tick stores everything that was collected since the last one, the cursors of the lanes and the
offset to go on from, in one transaction. Everything from the drawing of a tick to the begin of its
commit is one step of the protocol: nothing waits in between. A tick that fails, or of which nobody
knows what became, ends the opening.
"""

import asyncio
import math
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import NamedTuple

import msgspec
import structlog
from msgspec.structs import replace

from forwarder.clock import Clock
from forwarder.collect.pipeline import Lane, Pipeline
from forwarder.config.connection import Status
from forwarder.deliver import lane_notes
from forwarder.deliver.partition import PartitionDeliveries
from forwarder.errors import ForwarderError, JournalError
from forwarder.journal import contract as journal
from forwarder.journal import opening, outbox
from forwarder.journal import tick as journal_tick
from forwarder.journal.snapshot import SnapshotBuilder, StateOrigin
from forwarder.model import Batch, Partition, Position
from forwarder.ops.reporter import COMMITTED
from forwarder.worker.context import PartitionLimits, WorkerContext
from forwarder.worker.pending import PendingOutput, Uncommitted
from forwarder.worker.snapshots import OrphanLanes, Snapshots

log = structlog.get_logger()

LEASE_SECONDS = 10.0
"""Seconds after the begin of a committed tick within which puts may start (D3), at most: never
longer than the group waits for a worker that is silent."""

MIN_TICK_SECONDS = 0.1
"""Seconds between two ticks at least: a transaction takes up to 75 ms of waiting."""

MIN_TICK_SECONDS_PER_PARTITION = 0.01
"""The same for every partition that the worker owns: a tick costs up to 2.5 ms of CPU."""

TICK_SECONDS_PER_PARTITION = 0.032
"""The same, but not beyond ``journal.tick``: 31 ticks of a worker in a second take 5 % of a core,
each 1.5 ms, and what has closed waits for no longer than what has not."""

MIN_WAIT_SECONDS = 0.001
"""Seconds that are waited at least: the clock and the loop's timers may differ by less."""


class OpeningEnd:
    """Whether an opening has ended, and what ended it.

    Written by whoever finds out (ticks, deliveries, snapshots, the worker), awaited by the
    supervisor. Nothing is collected, committed or put after it.
    """

    def __init__(self) -> None:
        """Create for an opening that has not ended."""
        self.is_over = False
        self.error: asyncio.Future[ForwarderError] = asyncio.get_running_loop().create_future()

    def fail(self, error: ForwarderError) -> None:
        """End the opening for this reason; the first one counts."""
        self.is_over = True
        if not self.error.done():
            self.error.set_result(error)

    def close(self) -> None:
        """End the opening because the partition is given up."""
        self.is_over = True

    def has_failed(self) -> bool:
        """Tell whether the opening ended with an error; one that was given up did not."""
        return self.error.done()


class TickSchedule:
    """When the next tick of one partition is due, in steady seconds, and who wakes its loop.

    ``earliest``: for changes that somebody waits for; ``regular``: for all others.
    """

    def __init__(self, clock: Clock, tick_seconds: float, limits: PartitionLimits) -> None:
        """Create with no tick made yet."""
        self._clock = clock
        self._tick_seconds = tick_seconds
        self._limits = limits
        self.earliest = self.regular = -math.inf
        self._woken = asyncio.Event()

    def start_tick(self) -> float:
        """Note that a tick begins; return the time."""
        now = self._clock.steady()
        owned = self._limits.owned
        each = min(TICK_SECONDS_PER_PARTITION * owned, self._tick_seconds)
        least = max(MIN_TICK_SECONDS, MIN_TICK_SECONDS_PER_PARTITION * owned, each)
        self.earliest, self.regular = now + least, now + max(self._tick_seconds, least)
        return now

    def wake(self) -> None:
        """Have :meth:`wait` ask again when the next tick is due. Caller: whoever changes that."""
        self._woken.set()

    async def wait(self, due: Callable[[], float | None]) -> None:
        """Wait until the time that ``due`` returns; None: until it is woken and returns another."""
        while (at := due()) is None or at > self._clock.steady():
            self._woken.clear()
            seconds = None if at is None else max(at - self._clock.steady(), MIN_WAIT_SECONDS)
            try:
                async with asyncio.timeout(seconds):
                    await self._woken.wait()
            except TimeoutError:
                return


class PauseNote(NamedTuple):
    """Why a partition is not read just now, and since when; nothing: it is."""

    reason: str = ""
    since_ms: int = 0


class Progress(msgspec.Struct):
    """How far a partition has come: what a tick stores besides what was closed.

    ``position``: everything below it is collected; ``intake_stopped``: since which wall-clock
    milliseconds nothing is collected any more, 0: it is. ``moved``: another position, or a cursor,
    than at the last tick. ``is_finished``: the input has ended, so that everybody waits for the
    ticks that are left. Written by the partition.
    """

    position: int
    intake_stopped: int = 0
    pause: PauseNote = PauseNote()
    moved: bool = False
    is_finished: bool = False


class DrawnTick(NamedTuple):
    """A tick before its transaction: what it stores, and what becomes true with it."""

    plan: journal_tick.TickPlan
    content: journal.Tick
    records: list[list[Batch]]


class TickLoop:
    """Commits what one opening of a partition has come to, and lets deliveries put what is stored.

    Caller: its partition, on the event loop; :meth:`run` is a task of its own.
    It owns the state as the last committed tick left it, the end of the outbox, and the deliveries:
    they put what it has committed while their lease lasts, and it commits how far they are.
    """

    def __init__(  # noqa: PLR0913  # the parts of an opening, each given once
        self,
        partition: Partition,
        context: WorkerContext,
        *,
        logs: journal.Journal,
        start: opening.Opening,
        state_start: int,
        outbox_end: int,
        pipeline: Pipeline,
        lanes: Sequence[Lane],
        progress: Progress,
        uncommitted: Uncommitted,
    ) -> None:
        """Create with nothing committed: no put is allowed before the first tick.

        ``start`` is what the opening decided, ``state_start`` the offset where the state's log
        begins, ``outbox_end`` where the outbox ends.
        """
        self.end = OpeningEnd()
        self.first_commit: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._name = str(partition)
        self._context = context
        self._clock = context.clock
        self._journal = logs
        self._origin = StateOrigin(context.group, partition.topic)
        self._pipeline = pipeline
        self._lanes = lanes
        self._names = [lane.name for lane in lanes]
        self._frozen = {lane.name for lane in lanes if lane.connection.status is not Status.ACTIVE}
        self._progress = progress
        self._uncommitted = uncommitted
        self._state = start.state
        self._state_start = state_start
        self._outbox_end = outbox_end
        self._unfed = start.unfed
        known = start.state.lanes
        self._noted = {one for one in self._names if not lane_notes.is_quiet(known[one].extra)}
        self._lease_seconds = min(LEASE_SECONDS, context.ticks.session_timeout)
        self._assignment = 1
        self._tick_wanted = False
        self._ticking = asyncio.Lock()
        self.schedule = TickSchedule(context.clock, context.ticks.tick, context.limits)
        self._orphans = OrphanLanes(partition, context)
        self.snapshots = Snapshots(self._name, context, self.schedule.wake, self.fail)
        if self._orphans.forgotten(self._state.lanes):
            self.snapshots.request_now()
        self.deliveries = PartitionDeliveries(
            context.deliver,
            self._name,
            [lane.connection for lane in lanes if lane.name not in start.stopped],
            start.state.lanes,
            end=(outbox_end, 0),
            read=logs.read,
            notify=self.schedule.wake,
        )
        self.deliveries.results.failed.add_done_callback(self._on_deliveries_failed)
        undelivered = set(self._names) - self.deliveries.lanes.keys()
        self._never_settled = self._frozen | undelivered

    async def run(self) -> None:
        """Make ticks as they fall due, until the opening ends."""
        while not self.end.is_over:
            await self.schedule.wait(self._due)
            await self.tick()

    async def tick(self) -> None:
        """Make one tick now, if anything changed; one that fails ends the opening (K1 to K5).

        Raises what nobody expected; the opening has ended then, too: who else waits to tick would
        commit positions without what was drawn for them.
        """
        async with self._ticking:
            if self.end.is_over:
                return
            try:
                await self._tick()
            except BaseException:  # given up, or a fault: what became of it is unknown (K5)
                self.fail(JournalError("the tick was interrupted"))
                raise

    async def _tick(self) -> None:
        began, assignment = self.schedule.start_tick(), self._assignment
        self._plan_snapshot()
        self._collect_deliveries()
        if (drawn := self._draw()) is None:
            return
        reporter = self._context.reporter
        try:
            committed = await self._journal.commit(drawn.content)
        except JournalError as error:
            reporter.tick(self._name, self._clock.steady() - began, type(error).__name__)
            self.fail(error)
            return
        reporter.tick(self._name, self._clock.steady() - began, COMMITTED)
        if assignment == self._assignment:
            self.deliveries.lease.extend(began + self._lease_seconds)
        self._apply(drawn, committed)

    def request(self) -> None:
        """Have a tick made soon, though nothing may have changed: it proves ownership (K5)."""
        self._tick_wanted = True
        self.schedule.wake()

    def require_proof(self) -> None:
        """Allow no put before a tick begun from now on has committed (R3)."""
        self._assignment += 1
        self.deliveries.lease.revoke()

    def fail(self, error: ForwarderError) -> None:
        """End this opening: no tick and no put begins any more, and it is opened again."""
        self.end.fail(error)
        self.snapshots.cancel()
        self.deliveries.hold()
        self.schedule.wake()

    def _on_deliveries_failed(self, failed: asyncio.Future[JournalError]) -> None:
        if not failed.cancelled():
            self.fail(failed.result())

    async def close(self) -> None:
        """Drop what is in flight; what was committed is all that counts (R2)."""
        self.end.close()
        self.deliveries.hold()  # at once: closing them takes some steps of the loop
        self.schedule.wake()
        await asyncio.gather(self.snapshots.close(), self.deliveries.close())
        # What refers to itself would stay until a collection looks at all there is.
        self.deliveries.results.failed.remove_done_callback(self._on_deliveries_failed)

    # ------------------------------------------------------------------ queries

    def watermark(self) -> int:
        """Return W as of the last tick: everything below it is in the outbox or in the state."""
        return journal_tick.lowest_watermark(self._state.lanes.values(), self._state.read)

    def read(self) -> int:
        """Return the offset below which everything was collected, here or by a former owner."""
        return self._state.read

    def memory_bytes(self) -> int:
        """Return about what closed windows, and a snapshot in the making, take in memory."""
        builder = self.snapshots.builder
        indexes = sum([index.memory_bytes() for index in self._state.indexes.values()])
        return indexes + (builder.bytes if builder else 0)

    def is_idle(self) -> bool:
        """Tell whether nothing waits for a tick or for an acknowledgement."""
        if self._uncommitted.next.is_awaited or self._progress.moved or self._ticking.locked():
            return False
        return self.deliveries.is_idle()

    def orphans_holding_watermark(self) -> dict[str, int]:
        """Return the orphan lanes that hold the watermark, and for how many ms still (L1)."""
        return self._orphans.holding_watermark(self._state.lanes)

    # ------------------------------------------------------------------ when a tick is due

    def _due(self) -> float | None:
        """Return when the next tick is due, in steady seconds; None: nothing changed."""
        if self.end.is_over:
            return -math.inf
        results = self.deliveries.results
        wanted = self._uncommitted.next.is_awaited or self._tick_wanted
        if wanted or results.lease_wanted or results.refused:
            return self.schedule.earliest
        regular, base = self.schedule.regular, self.snapshots.due()
        moved = self._progress.moved or results.cursor_moved
        news = moved or self._state.unwritten or self._state.base_offset is None
        if moved and self._progress.is_finished:
            return self.schedule.earliest
        if news or self.snapshots.is_ready():
            return regular
        return None if base is None else max(base, regular)

    # ------------------------------------------------------------------ one tick, K1 to K5

    def _plan_snapshot(self) -> None:
        """Begin to build a snapshot if one is due and no replay going on; the first one at once."""
        state = self._state
        self.snapshots.abandon_if_outrun(state.n)
        if state.base_offset is None:
            self.snapshots.build_now(self._make_builder())
        elif self._progress.position >= state.read and not self._pipeline.has_pending_documents:
            self.snapshots.start_if_due(self._make_builder)

    def _make_builder(self) -> SnapshotBuilder:
        below = self._state.base_read
        savings = {
            lane.name: self._pipeline.begin_checkpoint(lane.name, below) for lane in self._lanes
        }
        forgotten = self._orphans.forgotten(self._state.lanes)
        rules = {lane.name: lane.rule for lane in self._lanes}
        return SnapshotBuilder(self._origin, self._state, savings, forgotten, rules)

    def _collect_deliveries(self) -> None:
        """Take over what the deliveries came to since the last tick, for the one being drawn."""
        results, now_ms = self.deliveries.results, self._clock.wall_ms()
        self._progress.moved |= results.cursor_moved
        self._tick_wanted |= results.lease_wanted
        self._uncommitted.add_letters(self.deliveries.collect_refused())
        for name in self._noted.union(self.deliveries.moving()):
            stored = self._state.lanes[name]
            extra = self.deliveries.notes(name, stored.extra, now_ms)
            if extra is not None:  # another lane may share what is stored of this one
                self._state.lanes[name] = replace(stored, extra=extra)
                self._state.unwritten.add(name)
                (self._noted.discard if lane_notes.is_quiet(extra) else self._noted.add)(name)

    def _draw(self) -> DrawnTick | None:
        """Draw up a tick from everything there is, all of one moment, without waiting (K1 to K3).

        None if nothing has changed and nobody asked for one.
        """
        state, progress = self._state, self._progress
        pending = self._uncommitted.next
        self.snapshots.settle_if_ready()
        unsaved = self._pipeline.unsaved()
        apart = self._never_settled.union(self._noted, self.deliveries.moving())
        views = {name: self._view(name, unsaved.get(name)) for name in self._names if name in apart}
        settled = {name: unsaved.get(name) for name in self._names if name not in apart}
        snap = journal_tick.TickInput(
            origin=self._origin,
            position=progress.position,
            end=self._outbox_end,
            ptr=self._state_start if state.base_offset is None else state.base_offset,
            now_ms=self._clock.wall_ms(),
            views=views,
            settled=settled,
            closings=pending.closings,
            seen_from=self._pipeline.seen_from,
            unfed=self._unfed,
            draft=self.snapshots.builder,
        )
        plan = journal_tick.plan_tick(state, snap)
        if plan is None and (pending.batches or pending.dead_letters or self._tick_wanted):
            plan = journal_tick.plan_heartbeat(state, snap)
        progress.moved = self._tick_wanted = False
        if plan is None:
            return None
        self._uncommitted.draw()
        records = outbox.group_by_lane(pending.batches)
        return DrawnTick(plan, self._content(plan, pending, records), records)

    def _view(self, name: str, first_unsaved: Position | None) -> journal_tick.LanePosition:
        at, acked = self.deliveries.cursor(name, self._state.lanes[name])
        return journal_tick.LanePosition(first_unsaved, at, acked, name in self._frozen)

    def _content(
        self, plan: journal_tick.TickPlan, pending: PendingOutput, records: list[list[Batch]]
    ) -> journal.Tick:
        """Return what the transaction stores."""
        reason, since_ms = self._progress.pause
        return journal.Tick(
            outbox=[journal.OutboxEntry(r[0].lane, outbox.encode_record(r)) for r in records],
            dead_letters=pending.dead_letters,
            state=plan.values,
            offset=plan.watermark,
            metadata=replace(
                plan.metadata,
                stopped=self._progress.intake_stopped,
                paused=reason,
                paused_since=since_ms,
            ),
            floor=min(map(attrgetter("cursor"), plan.lanes.values()), default=(0, 0)),
        )

    def _apply(self, drawn: DrawnTick, committed: journal.Committed) -> None:
        """Make the tick true with the values it was drawn with, its batches deliverable (K5)."""
        plan = drawn.plan
        if not self.first_commit.done():
            self.first_commit.set_result(None)
        if committed.outbox:
            self._outbox_end = committed.outbox[-1] + 1
        if plan.base is not None:
            self._orphans.report(plan.base.forgotten, self._state.lanes, self._outbox_end)
        journal_tick.apply_tick(
            self._state, plan, committed.state[0], self._outbox_end, self.snapshots.builder
        )
        size = sum([len(value) for value in plan.values])
        self.snapshots.on_committed(self._journal, plan.base, plan.ptr, size)
        fresh = outbox.addressed_by_lane(committed.outbox, drawn.records)
        self._uncommitted.commit(fresh, self.deliveries.lanes)
        if self._state.look_back is not None:
            needs = [self._state.lanes[name] for name in self._names]
            self._pipeline.forget_reaches(journal_tick.lowest_watermark(needs, self._state.read))
        self.deliveries.committed((self._outbox_end, 0), plan.lanes, fresh)
