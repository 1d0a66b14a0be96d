"""Lanes of a partition that lag: over openings, out of the configuration and back, inactive."""

import asyncio

from forwarder.deliver.budget import Lag
from forwarder.journal.orphans import OrphanPolicy
from tests.world import EVENT, SINGLE, World, connection, finished, opened, reopened, virtually

OTHER = [connection("other", send_as_batch=False)]
BOTH = [*SINGLE, *OTHER]


async def lagging(count: int = 20) -> World:
    """Return a world whose lane solo could not deliver anything while other did."""
    world = await opened(BOTH)
    world.moods["solo"] = "closed"
    for number in range(count):
        world.feed(f"d{number % 4}", [EVENT])
        world.collect()
        await world.owner.ticks.tick()
        await asyncio.sleep(1)
    await asyncio.sleep(10)
    await world.owner.ticks.tick()
    return world


def lag(world: World, lane: str = "solo") -> Lag:
    return world.owner.deliveries.lanes[lane].lag()


def landed(world: World, lane: str = "solo") -> int:
    return len(world.oracle.landed.get(lane, ()))


@virtually
async def test_a_lane_that_waits_for_somebody_keeps_one_batch_while_others_deliver() -> None:
    world = await lagging()
    delivery = world.owner.deliveries.lanes["solo"]
    assert (1, 20, 20) == (len(delivery.queue), lag(world).batches, landed(world, "other"))
    assert Lag() == lag(world, "other")
    first = world.oracle.batches["solo"][min(world.oracle.batches["solo"])]
    assert first.closed_at == lag(world).closed_at
    world.moods["solo"] = "up"
    await finished(world)
    assert 20 == landed(world)


@virtually
async def test_how_far_a_lane_lags_is_known_at_once_after_an_opening() -> None:
    world = await lagging()
    before = lag(world)
    await world.crash()
    await world.open(BOTH)
    assert 0 == len(world.owner.deliveries.lanes["solo"].queue)
    assert before == lag(world)
    world.moods["solo"] = "up"
    await finished(world)
    assert 20 == landed(world)


@virtually
async def test_a_lane_that_lags_keeps_its_cursor_while_it_is_not_configured() -> None:
    world = await lagging()
    before = world.oracle.state.lanes["solo"].cursor
    world.rules = OrphanPolicy(ttl_ms=3_600_000)
    await reopened(world, OTHER)
    for number in range(5):
        world.feed(f"d{number}", [EVENT])
        world.collect()
        await world.owner.ticks.tick()
        await asyncio.sleep(1)
    assert ["other"] == list(world.owner.deliveries.lanes)
    assert before == world.oracle.state.lanes["solo"].cursor
    world.moods["solo"] = "up"
    await reopened(world, BOTH)
    await finished(world)
    assert 25 == landed(world)


@virtually
async def test_an_inactive_lane_keeps_nothing_in_memory_and_its_lag_is_known() -> None:
    world = await lagging()
    before = lag(world)
    await reopened(world, [connection("solo", active=False, send_as_batch=False), *OTHER])
    await asyncio.sleep(60)
    assert (0, before) == (len(world.owner.deliveries.lanes["solo"].queue), lag(world))
    world.moods["solo"] = "up"
    await reopened(world, BOTH)
    await finished(world)
    assert 20 == landed(world)
