"""How far connections lag, as the metrics are told."""

import asyncio

import pytest

from forwarder.ops.metrics import Metrics
from forwarder.worker import gauges
from tests.doubles import HandFedSource
from tests.membership import P0, Scene
from tests.partition_oracle import PARTITION
from tests.world import EVENT, SINGLE, Owned, finished, opened, virtually


@virtually
async def test_what_a_destination_has_not_taken_is_lag_and_late_after_half_of_what_is_kept() -> (
    None
):
    world = await opened(SINGLE)
    world.moods["solo"] = "closed"
    for number in range(3):
        world.feed(f"d{number}", [EVENT])
    world.collect()
    await world.owner.ticks.tick()
    await asyncio.sleep(100)
    now = world.clock.wall_ms()
    kept = {"long": 1_000.0, "short": 150.0, "ever": None}
    told = {
        name: gauges.connection_gauges([world.owner], now, lambda _topic, s=seconds: s)["solo"]  # type: ignore[misc]
        for name, seconds in kept.items()
    }
    assert 3 == told["long"].lag_batches
    assert (
        sum(len(b.payload) for b in world.oracle.batches["solo"].values()) == told["long"].lag_bytes
    )
    assert 99 <= told["long"].lag_seconds <= 101
    assert {"long": False, "short": True, "ever": False} == {n: it.late for n, it in told.items()}
    world.moods.clear()
    await finished(world)


@virtually
async def test_records_of_a_sample_still_count_as_unread() -> None:
    world = await opened(SINGLE)
    source = HandFedSource()
    source.positions[PARTITION], source.stable[PARTITION] = 900, 1000
    world.owner.stop_intake(77)
    source.high[PARTITION] = 1061
    [found] = (await gauges.partition_lags([Owned(world.owner)], source)).values()
    assert (1061, 1061) == (found.read_lag, found.commit_lag)
    world.owner.stop_intake(0)
    await finished(world)


@virtually
async def test_a_partition_that_is_not_open_lags_from_its_commit_and_without_one_not_at_all() -> (
    None
):
    world = await opened(SINGLE)
    source = HandFedSource()
    source.stable[PARTITION] = 1000
    owned = Owned(world.owner)
    owned.is_shut = True
    [found] = (await gauges.partition_lags([owned], source)).values()
    assert (1000, 1000) == (found.read_lag, found.commit_lag)
    source.uncommitted.add(PARTITION)
    assert {} == await gauges.partition_lags([owned], source)
    source.silent.add(PARTITION)
    assert {} == await gauges.partition_lags([owned], source)
    await finished(world)


class Broken:
    """Retention that cannot be asked for, in a way nobody foresaw."""

    async def refresh(self) -> None:
        raise LookupError

    def seconds(self, topic: str) -> float | None:
        raise LookupError(topic)


@virtually
async def test_what_workers_are_scaled_on_is_told_whatever_the_rest_runs_into() -> None:
    async with Scene() as scene:
        await scene.source.assign(P0)
        await asyncio.sleep(2)
        scene.source.high[P0] = 7
        metrics = Metrics("1")
        with pytest.raises(LookupError):
            await gauges.run(
                scene.worker.membership,
                scene.source,
                metrics,
                scene.clock,
                Broken(),  # type: ignore[arg-type]  # as much of it as is asked
            )
        labels = {"topic": P0.topic, "partition": str(P0.number)}
        assert 7 == metrics.registry.get_sample_value("forwarder_read_lag_records", labels)
