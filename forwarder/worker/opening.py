"""Opens one partition: takes it over from whoever had it, and puts back what was stored (O1 to O8).

Opening is the only recovery there is. It ends with an ``OpenPartition``, or by raising why not.
"""

import structlog

from forwarder.collect.pipeline import Lane, LaneSet, Pipeline
from forwarder.errors import RefusedError
from forwarder.journal import commit, opening
from forwarder.journal.contract import Restored
from forwarder.journal.fold import StateFold
from forwarder.journal.state import PartitionState
from forwarder.model import Partition
from forwarder.worker import restore
from forwarder.worker.context import WorkerContext
from forwarder.worker.partition import OpenPartition
from forwarder.worker.pending import Uncommitted
from forwarder.worker.ticks import Progress, TickLoop

log = structlog.get_logger()


class PartitionOpening:
    """One attempt to open one partition. Caller: its supervisor, which closes what did not open.

    What was put back so far counts: its windows take memory, and its events wait here.
    """

    def __init__(self, partition: Partition, context: WorkerContext) -> None:
        """Have taken nothing over yet; :meth:`run` does."""
        self.partition = partition
        self._context = context
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
        progress = Progress(position=start.seek, intake_stopped=self._intake_stopped(found))
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
        restore.report_opening(str(self.partition), start, self._context.reporter)
        return OpenPartition(
            self.partition,
            self._context,
            logs=self._journal,
            lanes=self._lanes,
            pipeline=self._pipeline,
            progress=progress,
            uncommitted=self._uncommitted,
            ticks=ticks,
        )

    def is_open(self) -> bool:
        """Tell that it is not open yet."""
        return False

    def memory_bytes(self) -> int:
        """Return about how many bytes what was put back so far takes."""
        indexes = sum([index.memory_bytes() for index in self._state.indexes.values()])
        return self._pipeline.memory_bytes() + indexes

    def waiting(self) -> dict[str, int]:
        """Return by lane how many events were put back so far."""
        return self._uncommitted.waiting(self._pipeline, self._lanes, {})

    async def close(self) -> None:
        """Drop what was put back, and leave the partition to whoever opens it next."""
        self._uncommitted.release(self.waiting(), failed=False)
        await self._journal.close()

    def _decide_start(self, found: Restored, fold: StateFold) -> opening.Opening:
        """Decide where every lane stands (O2 to O6)."""
        keying = {lane.name: lane.keying_rule for lane in self._configured.lanes}
        now_ms = self._context.clock.wall_ms()
        start = opening.decide_start(found, fold.state, self.partition.topic, keying, now_ms)
        if start.origin is not opening.StartOrigin.STATE:
            fold.forget_windows()
        return start

    async def _restore(self, start: opening.Opening, fold: StateFold) -> None:
        """Put windows back, in slices, when it is this partition's turn (O7)."""
        context, self._state = self._context, start.state
        fed = self._configured.without(start.unfed)
        self._lanes = fed.lanes
        replays = restore.replay_filters(self._lanes, start.state)
        self._pipeline = Pipeline(
            self.partition,
            fed,
            start.state.read,
            replays=replays,
            explains=context.explain_misses,
        )
        self._pipeline.compress_above(context.limits.plain_window_bytes)
        async with context.one_at_a_time.restores:
            await restore.restore_windows(
                self._pipeline, replays, self._lanes, start.state, fold, context.reporter
            )

    def _intake_stopped(self, found: Restored) -> int:
        """Return since when a former owner has collected nothing, in ms; 0: it has."""
        said = commit.decode(found.commit)
        return said.stopped if said and self._context.reject_rate.percent else 0
