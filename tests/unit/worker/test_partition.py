"""One owned partition with the real pipeline over a journal in memory, in virtual time."""

import asyncio
from collections.abc import Awaitable, Callable
from unittest import mock

import pytest

from forwarder.errors import FencedError
from forwarder.journal import outbox
from forwarder.worker.ticks import LEASE_SECONDS
from tests import doubles
from tests.world import BATCH, EVENT, SESSION, SINGLE, World, finished, opened, reopened, virtually


@virtually
async def test_nothing_is_put_before_the_tick_that_commits_it() -> None:
    world = await opened()
    world.feed("d1", [EVENT])
    world.collect()
    await asyncio.sleep(5)
    assert {} == world.oracle.landed
    await world.owner.ticks.tick()
    await asyncio.sleep(1)
    assert 1 == len(world.oracle.landed["solo"])
    await world.close()


@virtually
async def test_an_acknowledgement_is_stored_with_the_tick_after_the_landing() -> None:
    world = await opened()
    world.feed("d1", [EVENT])
    world.collect()
    await world.owner.ticks.tick()
    assert (0, 0) == world.oracle.state.lanes["solo"].cursor
    await asyncio.sleep(1)
    assert (0, 0) == world.oracle.state.lanes["solo"].cursor
    await world.owner.ticks.tick()
    assert (1, 0) == world.oracle.state.lanes["solo"].cursor
    await world.close()


Step = Callable[[World], Awaitable[None]]


async def after_opening(world: World) -> None:
    await reopened(world, SINGLE)


async def after_collecting(world: World) -> None:
    world.collect()


async def before_the_tick_is_stored(world: World) -> None:
    world.collect()
    await interrupted(world, 0.01)


async def after_it_is_stored_before_the_answer(world: World) -> None:
    world.collect()
    await interrupted(world, 0.03)


async def interrupted(world: World, seconds: float) -> None:
    tick = asyncio.create_task(world.owner.ticks.tick())
    await asyncio.sleep(seconds)
    tick.cancel()
    await asyncio.gather(tick, return_exceptions=True)


async def after_the_tick(world: World) -> None:
    world.collect()
    await world.owner.ticks.tick()


async def after_the_put_before_it_lands(world: World) -> None:
    await after_the_tick(world)
    await asyncio.sleep(0.1)


async def after_the_landing_before_the_answer(world: World) -> None:
    await after_the_tick(world)
    await asyncio.sleep(0.3)


async def after_the_answer(world: World) -> None:
    await after_the_tick(world)
    await asyncio.sleep(0.5)


async def after_the_next_tick(world: World) -> None:
    await after_the_answer(world)
    await world.owner.ticks.tick()


@pytest.mark.parametrize(
    ("step", "stored", "puts"),
    [
        (after_opening, 0, 1),
        (after_collecting, 0, 1),
        (before_the_tick_is_stored, 0, 1),
        (after_it_is_stored_before_the_answer, 1, 1),
        (after_the_tick, 1, 2),
        (after_the_put_before_it_lands, 1, 2),
        (after_the_landing_before_the_answer, 1, 2),
        (after_the_answer, 1, 2),
        (after_the_next_tick, 1, 1),
    ],
)
def test_a_crash_at_any_step_loses_nothing_and_commits_nothing_twice(
    step: Step, stored: int, puts: int
) -> None:
    async def story() -> None:
        world = await opened()
        numbers = world.feed("d1", [EVENT])
        await step(world)
        await world.crash()
        assert stored == len(world.documents("solo"))
        await world.open(SINGLE)
        await finished(world)
        assert [numbers] == world.documents("solo")
        assert puts == len([entry for entry in world.puts if entry == "solo"])

    doubles.run_virtually(story())


@pytest.mark.parametrize(("outcome", "stored"), [("aborted", 0), ("unanswered", 1)])
def test_an_unknown_outcome_drops_the_memory(outcome: str, stored: int) -> None:
    async def story() -> None:
        world = await opened()
        numbers = world.feed("d1", [EVENT])
        world.collect()
        world.journals.outcomes.append(outcome)
        await world.owner.ticks.tick()
        assert (False, True) == (world.owner.is_open(), world.owner.ticks.end.has_failed())
        assert ({}, stored) == (world.oracle.landed, len(world.documents("solo")))
        await reopened(world, SINGLE)
        await finished(world)
        assert [numbers] == world.documents("solo")

    doubles.run_virtually(story())


@pytest.mark.parametrize("seconds", [0.01, 0.03])
def test_a_tick_that_is_interrupted_drops_the_memory(seconds: float) -> None:
    async def story() -> None:
        world = await opened()
        numbers = world.feed("d1", [EVENT])
        world.collect()
        await interrupted(world, seconds)
        assert (False, True) == (world.owner.is_open(), world.owner.ticks.end.has_failed())
        await reopened(world, SINGLE)
        await finished(world)
        assert [numbers] == world.documents("solo")

    doubles.run_virtually(story())


@virtually
async def test_after_a_fault_in_a_tick_no_other_tick_is_made() -> None:
    world = await opened()
    numbers = world.feed("d1", [EVENT])
    world.collect()
    with mock.patch.object(outbox, "encode_record", side_effect=[RuntimeError("a fault")]):
        ticks = [asyncio.create_task(world.owner.ticks.tick()) for _ in range(2)]
        first, second = await asyncio.gather(*ticks, return_exceptions=True)
    assert (RuntimeError, None) == (type(first), second)
    assert not world.owner.is_open()
    await reopened(world, SINGLE)
    world.collect()
    await finished(world)
    assert [numbers] == world.documents("solo")


async def expiring(world: World) -> None:
    await world.owner.expire(10**15)


async def collecting(world: World) -> None:
    world.collect()


async def shedding(world: World) -> None:
    world.owner.close_for_memory(1)


@pytest.mark.parametrize(
    ("step", "within"), [(collecting, "collect"), (expiring, "expire"), (shedding, "shed")]
)
def test_after_a_fault_in_collecting_no_tick_is_made(step: Step, within: str) -> None:
    async def story() -> None:
        world = await opened(BATCH)
        numbers = world.feed("d1", [EVENT])
        world.collect()
        await world.owner.ticks.tick()
        world.feed("d2", [EVENT])

        def interrupted(*_: object) -> None:
            world.owner.pipeline.finish(0)  # what has closed is lost with this exception
            raise MemoryError

        with mock.patch.object(world.owner.pipeline, within, interrupted):
            with pytest.raises(MemoryError):
                await step(world)
            await world.owner.drain(1.0)
        assert not world.owner.is_open()
        await reopened(world, BATCH)
        await finished(world)
        assert numbers in world.documents("acme")

    doubles.run_virtually(story())


@virtually
async def test_a_fenced_owner_changes_nothing_and_ends() -> None:
    world = await opened()
    world.feed("d1", [EVENT])
    world.collect()
    zombie = world.owner
    await world.open(SINGLE)
    await zombie.ticks.tick()
    assert (False, {}) == (zombie.is_open(), world.oracle.batches)
    assert isinstance(zombie.ticks.end.error.result(), FencedError)
    await finished(world)


@virtually
async def test_a_closed_owner_takes_no_records() -> None:
    world = await opened()
    world.feed("d1", [EVENT])
    await world.owner.close()
    world.collect()
    assert 0 == world.owner.position


@virtually
async def test_records_below_the_position_are_known_already() -> None:
    world = await opened()
    numbers = world.feed("d1", [EVENT]) + world.feed("d1", [EVENT])
    world.owner.collect(world.input[:1])
    world.owner.collect(world.input)
    world.owner.collect(world.input)
    await finished(world)
    assert [[n] for n in numbers] == world.documents("solo")


@virtually
async def test_memory_kept_over_a_rebalance_puts_only_after_a_new_tick() -> None:
    world = await opened()
    world.feed("d1", [EVENT])
    world.collect()
    await world.rebalance()
    await asyncio.sleep(1)
    assert {} == world.oracle.landed
    await world.owner.ticks.tick()
    await asyncio.sleep(1)
    assert 1 == len(world.oracle.landed["solo"])
    await world.close()


@virtually
async def test_a_tick_begun_before_the_assignment_proves_nothing() -> None:
    world = await opened()
    world.feed("d1", [EVENT])
    world.collect()
    world.owner.suspend()
    tick = asyncio.create_task(world.owner.ticks.tick())
    await asyncio.sleep(0.01)
    world.owner.resume()
    await tick
    await asyncio.sleep(1)
    assert (1, {}) == (len(world.documents("solo")), world.oracle.landed)
    await world.close()


@virtually
async def test_a_revoked_partition_finishes_its_puts_and_stores_their_acks() -> None:
    world = await opened()
    world.feed("d1", [EVENT])
    world.collect()
    await world.owner.ticks.tick()
    await asyncio.sleep(0.1)
    await world.owner.drain(5.0)
    assert (1, 0) == world.oracle.state.lanes["solo"].cursor
    await world.close()


@virtually
async def test_a_revoked_partition_does_not_wait_for_puts_for_ever() -> None:
    world = await opened()
    world.feed("d1", [EVENT])
    world.collect()
    await world.owner.ticks.tick()
    await asyncio.sleep(0.1)
    await world.owner.drain(0.05)
    assert (0, 0) == world.oracle.state.lanes["solo"].cursor
    await world.close()


@virtually
async def test_no_put_begins_once_the_lease_has_run_out() -> None:
    world = await opened()
    world.moods["solo"] = "down"
    world.feed("d1", [EVENT])
    world.collect()
    await world.owner.ticks.tick()
    await asyncio.sleep(LEASE_SECONDS + 30)
    before = len(world.puts)
    world.moods["solo"] = "up"
    await asyncio.sleep(30)
    assert (before, {}) == (len(world.puts), world.oracle.landed)
    await world.owner.ticks.tick()
    await asyncio.sleep(1)
    assert 1 == len(world.oracle.landed["solo"])
    await world.close()


@pytest.mark.parametrize(("asleep", "puts"), [(5, 1), (7, 0)])
def test_the_lease_is_no_longer_than_the_group_waits_for_a_silent_worker(
    asleep: float, puts: int
) -> None:
    async def story() -> None:
        world = World()
        world.session_timeout = 6.0
        await world.open(SINGLE)
        world.owner.suspend()
        world.feed("d1", [EVENT])
        world.collect()
        await world.owner.ticks.tick()
        await asyncio.sleep(asleep)
        world.owner.deliveries.release()
        await asyncio.sleep(0.5)
        assert puts == len(world.puts)
        await world.close()

    doubles.run_virtually(story())


@virtually
async def test_a_backlog_without_news_is_delivered_after_a_tick_of_nothing() -> None:
    world = await opened()
    world.feed("d1", [EVENT])
    world.collect()
    await world.owner.ticks.tick()
    await reopened(world, SINGLE)
    ticking = asyncio.create_task(world.owner.ticks.run())
    await asyncio.sleep(5)
    assert 1 == len(world.oracle.landed["solo"])
    assert (0, 0) < world.oracle.state.lanes["solo"].cursor
    await world.close()
    await ticking


@virtually
async def test_open_windows_stay_in_kafka_at_a_drain() -> None:
    world = await opened(BATCH)
    numbers = world.feed("d1", [EVENT, EVENT])
    world.collect()
    await world.owner.drain(1.0)
    assert ([], (0, 0)) == (world.documents("acme"), world.oracle.state.lanes["acme"].need)
    await reopened(world, BATCH)
    numbers += world.feed("d1", [EVENT])
    await finished(world)
    assert [numbers] == world.documents("acme")


@virtually
async def test_a_window_open_over_two_bases_is_saved_and_no_longer_replayed() -> None:
    world = await opened(SESSION)
    numbers = world.feed("d1", [EVENT])
    for _ in range(3):
        world.collect()
        await asyncio.sleep(3)
        await world.owner.ticks.tick()
        await world.owner.ticks.tick()
        numbers += world.feed("d1", [EVENT])
    assert world.oracle.state.lanes["acme"].held
    assert world.oracle.state.lanes["acme"].need > (0, 0)
    await reopened(world, SESSION)
    assert 0 < world.owner.position
    await finished(world)
    assert [numbers] == world.documents("acme")
