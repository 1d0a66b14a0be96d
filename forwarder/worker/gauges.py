"""How things stand, looked at every few seconds: windows, lags, the oldest batch."""

import asyncio
from collections.abc import Callable, Iterable, Sequence

from forwarder.clock import Clock
from forwarder.journal.retention import Retention
from forwarder.model import add
from forwarder.ops.alarms import Lateness, is_late
from forwarder.ops.metrics import LaneGauges, Metrics, PartitionGauges
from forwarder.ops.reporter import Phase
from forwarder.sources.contract import Source
from forwarder.worker import window_memory as memory
from forwarder.worker.partition import OwnedPartition
from forwarder.worker.worker import Worker

EVERY = 5.0
"""Seconds between two looks; each asks the broker for the end of every owned partition."""


async def keep(
    worker: Worker, source: Source, metrics: Metrics, clock: Clock, retention: Retention
) -> None:
    """Set the gauges for ever, and say which connections are late."""
    lateness = Lateness()
    while True:
        await asyncio.sleep(EVERY)
        await retention.refresh()
        owned = [p for p in worker.partitions.values() if p.phase is Phase.OPEN]
        found = lanes(owned, clock.wall_ms(), retention.seconds)
        metrics.lanes(found)
        lateness.note(
            {lane: now.lag_seconds for lane, now in found.items()},
            {lane for lane, now in found.items() if now.late},
        )
        metrics.unknown_lanes(unknown(owned))
        metrics.window_memory(memory.used(owned))
        metrics.partitions(await lags(list(worker.partitions.values()), source))


def lanes(
    owned: Iterable[OwnedPartition], now_ms: int, kept: Callable[[str], float | None]
) -> dict[str, LaneGauges]:
    """Add up every connection over the partitions of this worker.

    ``kept``: for how many seconds the outbox of an input topic is kept.
    """
    gauges: dict[str, LaneGauges] = {}
    for partition in owned:
        for lane, delivery in partition.deliveries.lanes.items():
            total = gauges.setdefault(lane, LaneGauges())
            total.open_windows += partition.pipeline.open_windows(lane)
            total.window_bytes += partition.pipeline.waiting_bytes(lane)
            opened = partition.pipeline.oldest_opened(lane)
            total.oldest_window_seconds = max(total.oldest_window_seconds, _age(opened, now_ms))
            lag = delivery.lag()
            total.lag_batches += lag.batches
            total.lag_bytes += lag.bytes
            age = _age(lag.closed_at, now_ms)
            total.lag_seconds = max(total.lag_seconds, age)
            total.late |= is_late(age, kept(partition.partition.topic))
            total.rate = delivery.rate_limit.slowest()
    return gauges


def waiting(owned: Iterable[OwnedPartition]) -> dict[str, int]:
    """Return by connection how many events wait on all partitions, those that end included."""
    found: dict[str, int] = {}
    for partition in owned:
        for lane, events in partition.waiting().items():
            add(found, lane, events)
    return found


def unknown(owned: Iterable[OwnedPartition]) -> dict[str, float]:
    """Return which unknown lanes hold a watermark, and for how many seconds at least."""
    found: dict[str, float] = {}
    for partition in owned:
        for lane, left_ms in partition.holding().items():
            found[lane] = min(left_ms / 1000, found.get(lane, float("inf")))
    return found


async def lags(
    owned: Sequence[OwnedPartition], source: Source
) -> dict[tuple[str, str], PartitionGauges]:
    """Return by (topic, number) how far each partition is behind its high watermark.

    One that is not open lags from where the group has committed. Left out is one whose end Kafka
    does not tell, or which has never committed: no figure is better than an old or a made-up one.
    """
    ends = await source.ends([one.partition for one in owned])
    closed = [one.partition for one in owned if one.phase is not Phase.OPEN]
    committed = await source.committed(closed) if closed else {}
    found = {}
    for one in owned:
        if one.partition not in ends:
            continue
        high, at = ends[one.partition].high, committed.get(one.partition)
        settled = at
        if one.phase is Phase.OPEN:
            read = source.position(one.partition)
            # While the intake is stopped the source stands behind a sample that nobody collected.
            at = one.position if read is None or one.intake_stopped else read
            settled = one.watermark()
        if at is None or settled is None:
            continue
        name = (one.partition.topic, str(one.partition.number))
        found[name] = PartitionGauges(max(0, high - at), max(0, high - settled))
    return found


def _age(since_ms: int | None, now_ms: int) -> float:
    return 0.0 if since_ms is None else max(0, now_ms - since_ms) / 1000
