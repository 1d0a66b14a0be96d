"""Stops collecting where most records are rejected, and probes until they are good again.

A circuit breaker against a deploy that would make a day's input dead letters. What stops is
collecting alone; ticks and deliveries go on, and the worker stays in the group. The stop is
committed with the partition, so that neither a restart nor another owner goes on by itself. Each
minute, and after every opening, a probe collects a sample of what comes next and throws it away
(half-open): where it is good, collecting goes on where it stopped. So a release that is mended
goes on by itself, and one that is not makes no dead letter more.
"""

from collections.abc import Sequence

import msgspec
import structlog

from forwarder.errors import ForwarderError
from forwarder.model import Partition, Record
from forwarder.sources.contract import Source
from forwarder.worker.context import WorkerContext
from forwarder.worker.partition import OpenPartition
from forwarder.worker.reject_rate import RejectShare

log = structlog.get_logger()

PROBE_INTERVAL = 60.0
"""Seconds from one sample of a partition to the next."""

SAMPLE_SECONDS = 5.0
"""Seconds a sample may take; what has come by then is enough, if it is anything at all."""

SAMPLE_RECORDS = 1_000
SAMPLE_BYTES = 8 * 1024 * 1024

STOPPED_REMEDY = (
    "look at `forwarder dead-letters list`; mend or roll back what was deployed, here or where the "
    "records come from: it goes on by itself as soon as what comes next is good again. To let it "
    "all become dead letters, set limits.rejected_percent to 0 and restart"
)


class HalfOpenProbe(msgspec.Struct):
    """A sample in the making, of one opening of a partition; ``until``: steady seconds."""

    owned: OpenPartition
    until: float
    records: list[Record] = msgspec.field(default_factory=list)
    bytes: int = 0

    def is_enough(self) -> bool:
        """Tell whether there is no need to wait for more."""
        return len(self.records) >= SAMPLE_RECORDS or self.bytes >= SAMPLE_BYTES


class CircuitBreaker:
    """Stops and resumes partitions. Caller: the worker's main loop."""

    def __init__(self, source: Source, context: WorkerContext) -> None:
        """Create with every partition collected."""
        self._source = source
        self._context = context
        self._probes: dict[Partition, HalfOpenProbe] = {}
        self._next: dict[Partition, float] = {}
        self._reported: dict[Partition, int] = {}

    def is_stopped(self, owned: OpenPartition) -> bool:
        """Tell whether a partition must not be read now."""
        return bool(owned.intake_stopped) and self._probe_of(owned) is None

    def add_sample(self, owned: OpenPartition, records: Sequence[Record]) -> bool:
        """Add records of a stopped partition to its sample, if a probe is going on.

        Returns whether it is stopped: then they are not to be collected.
        """
        if not owned.intake_stopped:
            return False
        if (probe := self._probe_of(owned)) is not None:
            probe.records += records
            probe.bytes += sum(len(record.value or b"") for record in records)
        return True

    def drop_samples(self) -> None:
        """Give samples up: a rebalance has moved where they were read. Caller: the worker."""
        self._probes.clear()

    async def check(self, partitions: Sequence[OpenPartition]) -> None:
        """After every poll: stop all if too much was rejected, and probe what is stopped."""
        rate, now = self._context.reject_rate, self._context.clock.steady()
        rate.expire(now)
        if (counted := rate.exceeded()) is not None:
            self._stop(partitions, counted, now)
        for owned in partitions:
            if owned.is_open() and owned.intake_stopped:
                await self._probe(owned, now)
        stopped = {it.partition: it.intake_stopped for it in partitions if it.intake_stopped}
        if stopped != self._reported:
            self._report(stopped)

    def _stop(self, owned: Sequence[OpenPartition], counted: RejectShare, now: float) -> None:
        """Stop every open partition: what is wrong with one is wrong with the release."""
        self._context.reject_rate.reset()
        since = self._context.clock.wall_ms()
        for one in owned:
            if one.is_open() and not one.intake_stopped:
                one.stop_intake(since)
                self._next[one.partition] = now + PROBE_INTERVAL
        log.error(
            "intake.stopped",
            records=counted.records,
            rejected=round(counted.rejected, 1),
            limit_percent=self._context.reject_rate.percent,
            remedy=STOPPED_REMEDY,
        )

    def _probe_of(self, owned: OpenPartition) -> HalfOpenProbe | None:
        probe = self._probes.get(owned.partition)
        return probe if probe is not None and probe.owned is owned else None

    async def _probe(self, owned: OpenPartition, now: float) -> None:
        probe = self._probe_of(owned)
        if probe is None:
            if self._probes.pop(owned.partition, None) or now >= self._next.get(
                owned.partition, now
            ):
                self._probes[owned.partition] = HalfOpenProbe(owned, now + SAMPLE_SECONDS)
                self._source.resume_at(owned.partition, owned.sample_offset())
        elif probe.is_enough() or (probe.records and now >= probe.until):
            self._decide(probe, now)
        elif now >= probe.until:
            if await self._is_empty(owned) and owned.is_open():
                self._resume(owned)
            else:
                probe.until = now + SAMPLE_SECONDS

    def _decide(self, probe: HalfOpenProbe, now: float) -> None:
        owned = probe.owned
        found = self._context.reject_rate.sample_exceeds(owned.collect_sample(probe.records))
        if found is None:
            self._resume(owned)
            return
        del self._probes[owned.partition]
        self._next[owned.partition] = now + PROBE_INTERVAL
        log.warning(
            "intake.sample_rejected",
            partition=str(owned.partition),
            records=found.records,
            rejected=round(found.rejected, 1),
            remedy=STOPPED_REMEDY,
        )

    def _resume(self, owned: OpenPartition) -> None:
        self._context.reject_rate.reset()
        self._probes.pop(owned.partition, None)
        self._next.pop(owned.partition, None)
        owned.stop_intake(0)
        self._source.resume_at(owned.partition, owned.position)
        log.info("intake.resumed", partition=str(owned.partition), offset=owned.position)

    async def _is_empty(self, owned: OpenPartition) -> bool:
        """Tell whether nothing comes next but markers: then nothing can be rejected."""
        try:
            end = await self._source.end(owned.partition)
        except ForwarderError:
            return False  # the broker is away: its records may be too
        read = self._source.position(owned.partition)
        return end <= max(owned.sample_offset(), read or 0)

    def _report(self, stopped: dict[Partition, int]) -> None:
        for gone in self._reported.keys() - stopped.keys():
            self._probes.pop(gone, None)
            self._next.pop(gone, None)
        self._reported = stopped
        self._context.reporter.intake_stopped(stopped)
