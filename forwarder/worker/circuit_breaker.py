"""Whether a worker takes in anything more: the guard against a deploy that rejects the day.

What stops is collecting alone; ticks and deliveries go on, and the worker stays in the group. The
stop is committed with the partition, so that neither a restart nor another owner goes on by
itself. Each minute, and after every opening, a sample of what comes next is tried out and thrown
away: where it is good, collecting goes on where it stopped. So a release that is mended goes on
by itself, and one that is not makes no dead letter more.
"""

from collections.abc import Mapping, Sequence

import msgspec
import structlog

from forwarder.errors import ForwarderError
from forwarder.model import Partition, Record
from forwarder.ops.reporter import Phase
from forwarder.sources.contract import Source
from forwarder.worker.context import Surroundings
from forwarder.worker.partition import OwnedPartition
from forwarder.worker.reject_rate import Share

log = structlog.get_logger()

EVERY = 60.0
"""Seconds from one sample of a partition to the next."""

PATIENCE = 5.0
"""Seconds a sample may take; what has come by then is enough, if it is anything at all."""

SAMPLE_RECORDS = 1_000
SAMPLE_BYTES = 8 * 1024 * 1024

REMEDY = (
    "look at `forwarder dead-letters list`; mend or roll back what was deployed, here or where the "
    "records come from: it goes on by itself as soon as what comes next is good again. To let it "
    "all become dead letters, set limits.rejected_percent to 0 and restart"
)


class Trial(msgspec.Struct):
    """A sample in the making, of one opening of a partition."""

    owned: OwnedPartition
    until: float
    records: list[Record] = msgspec.field(default_factory=list)
    bytes: int = 0

    def is_enough(self) -> bool:
        """Tell whether there is no need to wait for more."""
        return len(self.records) >= SAMPLE_RECORDS or self.bytes >= SAMPLE_BYTES


class Intake:
    """Stops and resumes partitions. Caller: the worker's main loop."""

    def __init__(self, source: Source, around: Surroundings) -> None:
        """Let everything in."""
        self._source = source
        self._around = around
        self._trials: dict[Partition, Trial] = {}
        self._next: dict[Partition, float] = {}
        self._told: dict[Partition, int] = {}

    def holds(self, owned: OwnedPartition) -> bool:
        """Tell whether a partition must not be read now."""
        return bool(owned.intake_stopped) and self._trial(owned) is None

    def takes(self, owned: OwnedPartition, records: Sequence[Record]) -> bool:
        """Keep records from a partition that is stopped: a sample of them, or none."""
        if not owned.intake_stopped:
            return False
        if (trial := self._trial(owned)) is not None:
            trial.records += records
            trial.bytes += sum(len(record.value or b"") for record in records)
        return True

    def start_over(self) -> None:
        """Give samples up: a rebalance has moved where they were read. Caller: the worker."""
        self._trials.clear()

    async def attend(self, partitions: Mapping[Partition, OwnedPartition]) -> None:
        """Stop what has to be stopped, and try what is; after every poll."""
        guard, now = self._around.guard, self._around.clock.steady()
        if (counted := guard.tripped(now)) is not None:
            self._stop(list(partitions.values()), counted, now)
        for owned in list(partitions.values()):
            if owned.phase is Phase.OPEN and owned.intake_stopped:
                await self._try(owned, now)
        stopped = {p: it.intake_stopped for p, it in partitions.items() if it.intake_stopped}
        if stopped != self._told:
            self._tell(stopped)

    def _stop(self, owned: Sequence[OwnedPartition], counted: Share, now: float) -> None:
        """Stop every open partition: what is wrong with one is wrong with the release."""
        self._around.guard.reset()
        since = self._around.clock.wall_ms()
        for one in owned:
            if one.phase is Phase.OPEN and not one.intake_stopped:
                one.stop_intake(since)
                self._next[one.partition] = now + EVERY
        log.error(
            "intake.stopped",
            records=counted.records,
            rejected=round(counted.rejected, 1),
            limit_percent=self._around.guard.percent,
            remedy=REMEDY,
        )

    def _trial(self, owned: OwnedPartition) -> Trial | None:
        trial = self._trials.get(owned.partition)
        return trial if trial is not None and trial.owned is owned else None

    async def _try(self, owned: OwnedPartition, now: float) -> None:
        trial = self._trial(owned)
        if trial is None:
            if self._trials.pop(owned.partition, None) or now >= self._next.get(
                owned.partition, now
            ):
                self._trials[owned.partition] = Trial(owned, now + PATIENCE)
                self._source.resume_at(owned.partition, owned.trial_offset())
        elif trial.is_enough() or (trial.records and now >= trial.until):
            self._decide(trial, now)
        elif now >= trial.until:
            if await self._is_empty(owned) and owned.phase is Phase.OPEN:
                self._go_on(owned)
            else:
                trial.until = now + PATIENCE

    def _decide(self, trial: Trial, now: float) -> None:
        owned = trial.owned
        found = self._around.guard.judge(owned.try_out(trial.records))
        if found is None:
            self._go_on(owned)
            return
        del self._trials[owned.partition]
        self._next[owned.partition] = now + EVERY
        log.warning(
            "intake.tried",
            partition=str(owned.partition),
            records=found.records,
            rejected=round(found.rejected, 1),
            remedy=REMEDY,
        )

    def _go_on(self, owned: OwnedPartition) -> None:
        self._around.guard.reset()
        self._trials.pop(owned.partition, None)
        self._next.pop(owned.partition, None)
        owned.stop_intake(0)
        self._source.resume_at(owned.partition, owned.position)
        log.info("intake.resumed", partition=str(owned.partition), offset=owned.position)

    async def _is_empty(self, owned: OwnedPartition) -> bool:
        """Tell whether nothing comes next but markers: then nothing can be rejected."""
        try:
            end = await self._source.end(owned.partition)
        except ForwarderError:
            return False  # the broker is away: its records may be too
        read = self._source.position(owned.partition)
        return end <= max(owned.trial_offset(), read or 0)

    def _tell(self, stopped: dict[Partition, int]) -> None:
        for gone in self._told.keys() - stopped.keys():
            self._trials.pop(gone, None)
            self._next.pop(gone, None)
        self._told = stopped
        self._around.reporter.intake_stopped(stopped)
