"""Measures windows, lags and the oldest batch every few seconds, and sets the gauges."""

import asyncio
from collections.abc import Callable, Iterable

from forwarder.clock import Clock
from forwarder.journal.retention import OutboxRetention
from forwarder.model import add_count
from forwarder.ops.alarms import LatenessAlarm, is_late
from forwarder.ops.metrics import ConnectionGauges, Metrics, PartitionGauges
from forwarder.sources.contract import Source
from forwarder.worker.memory import total_memory
from forwarder.worker.partition import OpenPartition, OwnedPartition
from forwarder.worker.supervisor import Membership

GAUGE_SECONDS = 5.0
"""Seconds between two measurements; each asks the broker for the end of every owned partition."""


async def run(
    membership: Membership,
    source: Source,
    metrics: Metrics,
    clock: Clock,
    retention: OutboxRetention,
) -> None:
    """Set the gauges for ever, and say which connections are late. Caller: a chore."""
    lateness = LatenessAlarm()
    while True:
        await asyncio.sleep(GAUGE_SECONDS)
        supervisors = list(membership.supervisors.values())
        # What workers are scaled on comes first, whatever the rest runs into.
        metrics.set_partitions(await partition_lags(supervisors, source))
        metrics.set_window_memory(total_memory(supervisors))
        await retention.refresh()
        partitions = membership.open_partitions()
        found = connection_gauges(partitions, clock.wall_ms(), retention.seconds)
        metrics.set_connections(found)
        lateness.update(
            {lane: now.lag_seconds for lane, now in found.items()},
            {lane for lane, now in found.items() if now.late},
        )
        metrics.set_orphan_lanes(orphan_lanes(partitions))


def connection_gauges(
    partitions: Iterable[OpenPartition], now_ms: int, kept: Callable[[str], float | None]
) -> dict[str, ConnectionGauges]:
    """Add up every connection over the partitions of this worker.

    ``kept``: for how many seconds the outbox of an input topic is kept.
    """
    gauges: dict[str, ConnectionGauges] = {}
    for partition in partitions:
        lanes, pipeline = partition.deliveries.lanes, partition.pipeline
        for lane in lanes.keys() - gauges.keys():
            gauges[lane] = ConnectionGauges(rate=lanes[lane].rate_limit.slowest())
        for lane in pipeline.holding():
            if lane in lanes:
                total = gauges[lane]
                total.open_windows += pipeline.open_windows(lane)
                total.window_bytes += pipeline.waiting_bytes(lane)
                opened = _age(pipeline.oldest_opened(lane), now_ms)
                total.oldest_window_seconds = max(total.oldest_window_seconds, opened)
        for lane in partition.deliveries.moving():
            total, lag = gauges[lane], lanes[lane].lag()
            total.lag_batches += lag.batches
            total.lag_bytes += lag.bytes
            age = _age(lag.closed_at, now_ms)
            total.lag_seconds = max(total.lag_seconds, age)
            total.late |= is_late(age, kept(partition.partition.topic))
    return gauges


def waiting_events(owned: Iterable[OwnedPartition]) -> dict[str, int]:
    """Return by connection how many events wait on all partitions, those that end included."""
    found: dict[str, int] = {}
    for one in owned:
        for lane, events in one.waiting().items():
            add_count(found, lane, events)
    return found


def orphan_lanes(partitions: Iterable[OpenPartition]) -> dict[str, float]:
    """Return which orphan lanes hold a watermark, and for how many seconds at least."""
    found: dict[str, float] = {}
    for partition in partitions:
        for lane, left_ms in partition.ticks.orphans_holding_watermark().items():
            found[lane] = min(left_ms / 1000, found.get(lane, float("inf")))
    return found


async def partition_lags(
    partitions: Iterable[OwnedPartition], source: Source
) -> dict[tuple[str, str], PartitionGauges]:
    """Return by (topic, number) how far each partition is behind its high watermark.

    One that is not open lags from where the group has committed. Left out is one whose end Kafka
    does not tell, or which has never committed: no figure is better than an old or a made-up one.
    """
    owned = {one.partition: one for one in partitions}
    ends = await source.ends(list(owned))
    closed = [one for one in owned if owned[one].open_partition() is None]
    committed = await source.committed(closed) if closed else {}
    found = {}
    for partition, one in owned.items():
        if partition not in ends:
            continue
        identities, read = 0, committed.get(partition)
        settled = read
        if (opened := one.open_partition()) is not None:
            at = source.position(partition)
            # While the intake is stopped the source stands behind a sample that nobody collected.
            read = opened.position if at is None or opened.intake_stopped else at
            settled = opened.ticks.watermark()
            identities = opened.pipeline.identities()
        if read is None or settled is None:
            continue
        high, name = ends[partition].high, (partition.topic, str(partition.number))
        found[name] = PartitionGauges(max(0, high - read), max(0, high - settled), identities)
    return found


def _age(since_ms: int | None, now_ms: int) -> float:
    return 0.0 if since_ms is None else max(0, now_ms - since_ms) / 1000
