"""The snapshots of one partition's state (stored as ``base``), and the lanes they leave out.

A snapshot holds all windows of the lanes: whatever the state's log says before it can be cut away.
It is built in slices beside the ticks, one partition of a worker at a time, and written by the next
tick once it is complete (K2).
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping

import structlog

from forwarder.errors import JournalError
from forwarder.journal import orphans
from forwarder.journal.contract import Journal
from forwarder.journal.snapshot import SnapshotBuilder
from forwarder.journal.state import LaneState
from forwarder.model import Partition
from forwarder.worker.context import WorkerContext

log = structlog.get_logger()

MAX_DELTA_BYTES = 64 * 1024 * 1024
"""Stored bytes of deltas after which a snapshot is due before its time: bounds a restore."""


class Snapshots:
    """Says when a snapshot is due, builds it, and cuts the log below. Caller: the tick loop.

    ``builder`` is the one in the making, None: there is none. ``wake_ticks`` is called when it is
    complete or given up, ``fail`` with what ended the building otherwise.
    """

    def __init__(
        self,
        name: str,
        context: WorkerContext,
        wake_ticks: Callable[[], None],
        fail: Callable[[JournalError], None],
    ) -> None:
        """Plan the first one at a random part of the interval.

        So partitions that were opened together do not write theirs together.
        """
        self.builder: SnapshotBuilder | None = None
        self._name = name
        self._clock = context.clock
        self._interval = context.ticks.base_interval
        self._turn = context.one_at_a_time.snapshots
        self._wake_ticks = wake_ticks
        self._fail = fail
        self._building: asyncio.Task[None] | None = None
        self._cutting: asyncio.Task[None] | None = None
        self._written = asyncio.Event()
        self._delta_bytes = 0
        self._ptrs: deque[int] = deque(maxlen=2)
        self._next = self._clock.steady() + (0.5 + 0.5 * context.random()) * self._interval
        self._owed = False

    def due(self) -> float | None:
        """Return when the building of the next is to begin, in steady seconds; None: it has."""
        return None if self._building is not None else self._next

    def is_ready(self) -> bool:
        """Tell whether the next tick writes a snapshot."""
        return self.builder is not None and self.builder.complete

    def is_restarting(self) -> bool:
        """Tell whether one that was abandoned is being built again: reading waits until it is.

        Else input that closes windows as :meth:`abandon` says would leave no time for any.
        """
        return self._owed and not self.is_ready()

    def request_now(self) -> None:
        """Have the next one at once: a lane is to be left out."""
        self._next = self._clock.steady()

    def start_if_due(self, make: Callable[[], SnapshotBuilder]) -> None:
        """Begin to build one with what ``make`` returns, if one is due and none in the making."""
        if self._building is not None:
            return
        if self._clock.steady() >= self._next or self._delta_bytes > MAX_DELTA_BYTES:
            self._written.clear()
            self._building = asyncio.create_task(self._build(make))
            self._building.add_done_callback(self._on_built)

    def build_now(self, builder: SnapshotBuilder) -> None:
        """Build one that is so small that nobody has to wait for it: the first of all."""
        for _ in builder.steps():
            pass
        self.builder = builder

    def settle_if_ready(self) -> None:
        """Count as saved what the next tick writes. Caller: the drawing of that tick (K2)."""
        if self.builder is not None and self.builder.complete:
            self.builder.settle()

    def abandon_if_outrun(self, n: int) -> None:
        """Abandon one whose number the tick after ``n`` would take; it is built anew."""
        builder = self.builder
        if builder is not None and not builder.complete and builder.n <= n + 1:
            log.warning("base.restarted", partition=self._name, n=n)
            self._stop_building()

    def abandon(self) -> None:
        """Abandon one in the making: windows have closed whose events no batch holds yet.

        One that it had not come to would be in neither, and its saved part be cut away. A complete
        one has them all, and is written.
        """
        if self._building is not None and not self.is_ready():
            self._owed = True
            self._stop_building()

    def on_committed(
        self, journal: Journal, written: SnapshotBuilder | None, ptr: int, size: int
    ) -> None:
        """Note a committed tick: the snapshot it wrote, the ``ptr`` in it, its state's bytes (K5).

        The log is cut below the last ``ptr`` but one: a fetch may return an older commit (I19).
        """
        self._delta_bytes += size
        if written is not None:
            self._next = self._clock.steady() + self._interval
            self._delta_bytes = 0
            self._owed = False
            self.builder = None
            self._written.set()
        if not self._ptrs or self._ptrs[-1] != ptr:
            self._ptrs.append(ptr)
            if len(self._ptrs) == self._ptrs.maxlen:
                self._cut(journal, self._ptrs[0])

    def cancel(self) -> None:
        """Drop what is in the making, without waiting for its end."""
        self._stop_building()
        if self._cutting is not None:
            self._cutting.cancel()

    async def close(self) -> None:
        """Drop what is in the making, and wait until its tasks have ended."""
        tasks = [task for task in (self._building, self._cutting) if task is not None]
        self.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._fail = _nobody_hears  # whom that belongs to would refer to itself

    def _stop_building(self) -> None:
        self.builder = None
        if self._building is not None:
            self._building.cancel()

    async def _build(self, make: Callable[[], SnapshotBuilder]) -> None:
        """Build one, and keep the turn until it is written: two at once would be twice as much."""
        async with self._turn:
            self.builder = builder = make()
            for _ in builder.steps():
                await asyncio.sleep(0)
            self._wake_ticks()
            await self._written.wait()

    def _on_built(self, task: asyncio.Task[None]) -> None:
        self._building = None
        self._wake_ticks()  # the time of the next one counts again
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("base.failed", partition=self._name, exc_info=error)
            self._fail(JournalError(f"{self._name}: no base can be drafted: {error}"))

    def _cut(self, journal: Journal, below: int) -> None:
        """Cut the state in the background; what is left over is cut after the next snapshot."""
        if self._cutting is None:
            self._cutting = asyncio.create_task(self._cut_below(journal, below))
            self._cutting.add_done_callback(self._on_cut)

    async def _cut_below(self, journal: Journal, below: int) -> None:
        try:
            await journal.cut(below)
        except JournalError as error:
            log.warning("state.cut_failed", partition=self._name, below=below, error=str(error))

    def _on_cut(self, task: asyncio.Task[None]) -> None:
        self._cutting = None
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("state.cut_failed", partition=self._name, exc_info=error)


def _nobody_hears(_: JournalError) -> None:
    """Do nothing: the opening has ended."""


class OrphanLanes:
    """What is done about lanes of one partition that no connection file names any more (L1).

    ``lanes`` are all that are stored, by name; nothing here changes them.
    """

    def __init__(self, partition: Partition, context: WorkerContext) -> None:
        """Create for one partition."""
        self._partition = str(partition)
        self._policy = context.orphan_policy
        self._clock = context.clock
        self._reporter = context.reporter
        self._configured = frozenset(lane.name for lane in context.lanes[partition.topic].lanes)

    def forgotten(self, lanes: Mapping[str, LaneState]) -> set[str]:
        """Return those whose time is over: the next snapshot leaves them out."""
        now_ms = self._clock.wall_ms()
        return orphans.expired_orphans(lanes, self._configured, self._policy, now_ms)

    def holding_watermark(self, lanes: Mapping[str, LaneState]) -> dict[str, int]:
        """Return those that hold the watermark, and for how many ms still."""
        now_ms = self._clock.wall_ms()
        return orphans.holding_watermark(lanes, self._configured, self._policy, now_ms)

    def report(self, names: Iterable[str], lanes: Mapping[str, LaneState], end: int) -> None:
        """Report what a committed snapshot left out, with what these lanes had still before them.

        ``end``: the offset where the outbox ends.
        """
        for name in sorted(names):
            lane = lanes[name]
            (uncollected, _), (undelivered, _) = lane.need, lane.cursor
            log.warning(
                "lane.forgotten",
                partition=self._partition,
                connection=name,
                seen_ms=lane.seen,
                uncollected_from=uncollected,
                undelivered_from=undelivered,
                outbox_end=end,
            )
            self._reporter.lane_forgotten(name)
