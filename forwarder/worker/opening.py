"""Opens one partition: takes it over from whoever had it, and puts back what was stored (O1 to O8).

Opening is the only recovery there is. It ends with an ``OpenPartition``, or by raising why not.
Windows and what is known of closed ones are put back in slices, for there may be gigabytes: the
loop goes round between them, and nothing is in memory in two forms at once.
"""

import asyncio
from collections.abc import Mapping
from itertools import islice
from typing import Any

import structlog

from forwarder.collect.duplicates import Duplicates
from forwarder.collect.pipeline import Lane, LaneSet, Pipeline, ReplayFilter
from forwarder.config.connection import Status
from forwarder.errors import RefusedError
from forwarder.journal import commit, opening, packing
from forwarder.journal import state as states
from forwarder.journal.contract import Restored
from forwarder.journal.fold import StateFold
from forwarder.journal.state import LaneState, PartitionState
from forwarder.model import HeldWindow, Partition
from forwarder.ops.reporter import LaneStatus
from forwarder.worker.context import WorkerContext
from forwarder.worker.partition import OpenPartition
from forwarder.worker.pending import Uncommitted
from forwarder.worker.ticks import Progress, TickLoop

log = structlog.get_logger()

SLICE_BYTES = 256 * 1024
"""Bytes of windows put back in one go, a few milliseconds' work."""

ENTRIES_PER_SLICE = 2_000
"""Entries of closed windows taken over in one go."""


class PartitionOpening:
    """One attempt to open one partition. Caller: its supervisor, which closes what did not open.

    What was put back so far counts: its windows take memory, and its events wait here.
    """

    def __init__(self, partition: Partition, context: WorkerContext) -> None:
        """Create; :meth:`run` takes the partition over."""
        self.partition = partition
        self._context = context
        self._reporter = context.reporter
        self._journal = context.journals.journal(partition)
        self._uncommitted = Uncommitted(str(partition), context.reporter)
        self._configured = context.lanes[partition.topic]
        self._lanes: tuple[Lane, ...] = ()
        self._pipeline = Pipeline(partition, LaneSet(self._configured.form))
        self._state = PartitionState()

    async def run(self) -> OpenPartition:
        """Take the partition over and return it open; once only.

        Raises RefusedError once ownership is proved, JournalError for everything else. Nothing is
        put before the partition is started.
        """
        fold = StateFold(self._context.group, self.partition.topic)
        try:
            found = await self._journal.open(fold.take)
            start = self._decide_start(found, fold)
            if start.stopped:
                await self._journal.prove()
        except RefusedError:
            await self._journal.prove()
            raise
        await self._restore(start, fold)
        progress = Progress(position=start.begin, intake_stopped=self._intake_stopped(found))
        ticks = TickLoop(
            self.partition,
            self._context,
            logs=self._journal,
            start=start,
            state_start=found.state_start,
            outbox_end=found.outbox_end,
            pipeline=self._pipeline,
            lanes=self._lanes,
            progress=progress,
            uncommitted=self._uncommitted,
        )
        self._report(start)
        return OpenPartition(
            self.partition,
            self._context,
            logs=self._journal,
            pipeline=self._pipeline,
            progress=progress,
            uncommitted=self._uncommitted,
            ticks=ticks,
        )

    def memory_bytes(self) -> int:
        """Return about how many bytes what was put back so far takes."""
        indexes = sum([index.memory_bytes() for index in self._state.indexes.values()])
        return self._pipeline.memory_bytes() + indexes

    def waiting(self) -> dict[str, int]:
        """Return by lane how many events were put back so far."""
        return self._uncommitted.waiting(self._pipeline, {})

    async def close(self) -> None:
        """Drop what was put back, and leave the partition to whoever opens it next."""
        try:
            self._uncommitted.release(self.waiting(), failed=False)
        finally:  # whatever that ran into: its producer must not outlive it
            await self._journal.close()

    # ------------------------------------------------------------------ what was stored

    def _decide_start(self, found: Restored, fold: StateFold) -> opening.Opening:
        """Decide where every lane stands (O2 to O6)."""
        keying = {lane.name: lane.keying_rule for lane in self._configured.lanes}
        now_ms = self._context.clock.wall_ms()
        topic = self.partition.topic
        start = opening.decide_start(
            found,
            fold.state,
            topic,
            keying,
            now_ms,
            duplicates_ms=self._context.duplicates_ms.get(topic, 0),
        )
        if start.origin is not opening.StartOrigin.STATE:
            fold.forget_windows()
        return start

    def _intake_stopped(self, found: Restored) -> int:
        """Return since when a former owner has collected nothing, in ms; 0: it has."""
        said = commit.decode_metadata(found.commit)
        return said.stopped if said and self._context.reject_rate.percent else 0

    def _report(self, start: opening.Opening) -> None:
        """Report where the partition goes on, and which of its lanes cannot."""
        name = str(self.partition)
        log.info(
            "partition.open",
            partition=name,
            origin=start.origin.value,
            position=start.seek,
            read=start.state.read,
            looks_back_to=start.begin,
            tick=start.state.n,
            new=start.new,
            unknown=start.unknown,
        )
        for lane, refusal in start.stopped.items():
            log.error("lane.stopped", partition=name, connection=lane, reason=str(refusal))
            self._reporter.lane_status(lane, name, LaneStatus.STOPPED, str(refusal))

    # ------------------------------------------------------------------ putting it back (O7, O8)

    async def _restore(self, start: opening.Opening, fold: StateFold) -> None:
        """Put everything back when it is this partition's turn."""
        context, state = self._context, start.state
        fed = self._configured.without(start.unfed)
        replays = {lane.name: _replay_filter(lane, state.lanes[lane.name]) for lane in fed.lanes}
        self._state, self._lanes = state, fed.lanes
        duplicates = None
        if state.look_back is not None:
            duplicates = Duplicates(state.look_back.windows, start.begin, start.seek)
        self._pipeline = Pipeline(
            self.partition,
            fed,
            state.read,
            replays=replays,
            explains=context.explain_misses,
            duplicates=duplicates,
        )
        self._pipeline.compress_above(context.limits.plain_window_bytes)
        async with context.one_at_a_time.restores:
            await self._restore_windows(fold, replays)
            for name, lane in state.lanes.items():
                await self._index_closed(name, lane, replays.get(name))

    async def _restore_windows(self, fold: StateFold, replays: Mapping[str, ReplayFilter]) -> None:
        """Put the windows of fed lanes into the pipeline, others aside for the next snapshot.

        Those that were kept by the rule of today's filter are not judged again.
        """
        size = 0
        waiting: dict[str, list[HeldWindow]] = {}
        aside: dict[str, dict[bytes, dict[str, Any]]] = {}
        for name, key, form in fold.windows({lane.name: lane.rule for lane in self._lanes}):
            if (replay := replays.get(name)) is None:
                aside.setdefault(name, {})[key] = form
            else:
                held = states.parse_window(form)
                replay.note_saved(key, held.to)
                if odd := states.unknown_fields(form):
                    self._state.odd[name, key] = (held.opened, odd)
                waiting.setdefault(name, []).append(held)
            size += len(form["context"]) + _piece_bytes(form)
            if size > SLICE_BYTES:
                self._put_back(waiting, aside)
                size = 0
                await asyncio.sleep(0)
        self._put_back(waiting, aside)

    def _put_back(
        self,
        waiting: dict[str, list[HeldWindow]],
        aside: dict[str, dict[bytes, dict[str, Any]]],
    ) -> None:
        """Put back one slice, and leave nothing of it behind."""
        for name, held in waiting.items():
            if events := self._pipeline.restore(name, held):
                self._reporter.taken_over(name, events)
        for name, forms in aside.items():
            self._state.kept.setdefault(name, []).append(packing.pack(forms))
        waiting.clear()
        aside.clear()

    async def _index_closed(self, name: str, lane: LaneState, replay: ReplayFilter | None) -> None:
        """Keep the entries packed from now on; the replay has them for as long as it goes on."""
        entries = iter(lane.closed.items())
        while some := dict(islice(entries, ENTRIES_PER_SLICE)):
            self._state.index(name).add(some)
            await asyncio.sleep(0)
        closed, lane.closed = lane.closed, {}
        if replay is not None:
            replay.take_closed(closed)


def _replay_filter(lane: Lane, stored: LaneState) -> ReplayFilter:
    """Return what a lane that is fed keeps out; putting windows back fills its tables."""
    return ReplayFilter(
        need=stored.need,
        # An inactive connection's need goes on rising while its read stays.
        read=max(stored.read, stored.need[0]),
        keying=stored.keying,
        accept_below=None if lane.connection.status is Status.ACTIVE else stored.read,
    )


def _piece_bytes(form: dict[str, Any]) -> int:
    if states.is_packed(form):
        return len(memoryview(form["pieces"]))
    return sum([len(piece[4]) for piece in form["pieces"]])
