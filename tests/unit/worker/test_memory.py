"""The memory of windows over all partitions of a worker, in virtual time."""

import asyncio
from collections.abc import Iterator
from unittest import mock

import pytest

from forwarder.model import CloseReason, Partition
from forwarder.worker import memory
from forwarder.worker.memory import WindowMemory, total_memory
from forwarder.worker.opening import PartitionOpening
from forwarder.worker.partition import OpenPartition
from tests.batches import TOPIC
from tests.membership import P0, P1, Scene
from tests.world import BATCH, EVENT, Owned, World, finished, opened, virtually


@pytest.fixture(autouse=True)
def _small_slices() -> Iterator[None]:
    """Let go of one window at a time."""
    with mock.patch.object(memory, "RELIEF_SLICE_BYTES", 1):
        yield


async def with_windows(count: int) -> tuple[World, list[list[int]]]:
    """Return a world with a window open for each of so many devices, the oldest first."""
    world = await opened(BATCH)
    numbers = []
    for number in range(count):
        numbers.append(world.feed(f"d{number}", [EVENT]))
        await asyncio.sleep(0.01)
    world.collect()
    return world, numbers


def why(world: World) -> set[CloseReason]:
    return {reason for _, reason, _ in world.notes.closed}


@virtually
async def test_windows_below_the_limit_are_left_alone() -> None:
    world, _ = await with_windows(3)
    assert await WindowMemory(world.owner.memory_bytes()).relieve([Owned(world.owner)])
    assert (3, set()) == (world.owner.pipeline.open_windows(), why(world))
    await world.close()


@virtually
async def test_windows_above_the_limit_close_before_their_time_and_nothing_is_lost() -> None:
    world, numbers = await with_windows(10)
    limit = world.owner.memory_bytes() // 2
    assert await WindowMemory(limit).relieve([Owned(world.owner)])
    assert world.owner.memory_bytes() <= limit
    assert 0 < world.owner.pipeline.open_windows() < 10
    assert {CloseReason.MEMORY} == why(world)
    await finished(world)
    assert numbers == sorted(world.documents("acme"))


@virtually
async def test_the_partition_with_most_gives_first() -> None:
    world, _ = await with_windows(10)
    other = await PartitionOpening(Partition(TOPIC, 1), world.context(BATCH)).run()
    other.collect(world.input[:1])
    small = other.memory_bytes()
    both = [Owned(other), Owned(world.owner)]
    await WindowMemory(total_memory(both) - 1).relieve(both)
    assert (1, small) == (other.pipeline.open_windows(), other.memory_bytes())
    assert 9 == world.owner.pipeline.open_windows()
    await other.close()
    await world.close()


@virtually
async def test_the_loop_goes_round_while_many_windows_close() -> None:
    world, _ = await with_windows(20)
    rounds = 0

    async def spin() -> None:
        nonlocal rounds
        while True:
            rounds += 1
            await asyncio.sleep(0)

    spinning = asyncio.create_task(spin())
    await WindowMemory(1).relieve([Owned(world.owner)])
    spinning.cancel()
    assert (0, True) == (world.owner.pipeline.open_windows(), rounds >= 20)
    await world.close()


@virtually
async def test_closing_early_stops_while_the_journal_is_behind_and_reading_waits() -> None:
    world, numbers = await with_windows(10)
    world.limits.closed_bytes = 300
    short = WindowMemory(1)
    assert not await short.relieve([Owned(world.owner)])
    assert world.owner.is_journal_behind()
    assert 0 < world.owner.pipeline.open_windows() < 10
    while not await short.relieve([Owned(world.owner)]):
        await world.owner.ticks.tick()
    assert 0 == world.owner.pipeline.open_windows()
    await finished(world)
    assert numbers == sorted(world.documents("acme"))


@virtually
async def test_nothing_waits_where_there_is_nothing_to_close() -> None:
    world, _ = await with_windows(1)
    world.owner.close_all()
    with mock.patch.object(OpenPartition, "memory_bytes", return_value=10):
        assert await WindowMemory(1).relieve([Owned(world.owner)])
    await world.close()


@virtually
async def test_it_is_said_when_memory_becomes_short_and_when_it_is_enough_again() -> None:
    world, _ = await with_windows(10)
    short = WindowMemory(world.owner.memory_bytes() - 1)
    with mock.patch.object(memory, "log") as log:
        for _ in range(3):
            await short.relieve([Owned(world.owner)])
        assert ["memory.short"] == [call.args[0] for call in log.warning.call_args_list]
        assert not log.info.called
        world.owner.close_all()
        for _ in range(3):
            await short.relieve([Owned(world.owner)])
        assert ["memory.enough"] == [call.args[0] for call in log.info.call_args_list]
        assert 1 == log.warning.call_count
    await world.close()


@virtually
async def test_a_partition_that_is_closed_takes_no_memory() -> None:
    world, _ = await with_windows(3)
    await world.owner.close()
    assert 0 == total_memory([Owned(world.owner)])


@virtually
async def test_what_counts_as_little_depends_on_the_limit_and_on_how_many_share_it() -> None:
    async with Scene(BATCH) as scene:
        scene.limits.window_memory = 80_000_000
        for assigned, expected in (([P0], 40_000_000), ([P0, P1], 20_000_000)):
            await scene.source.assign(*assigned)
            await asyncio.sleep(2)
            for partition in assigned:
                windows = scene.owned(partition).pipeline._lanes["acme"].windows  # noqa: SLF001
                assert expected == windows._tails._compress_above  # noqa: SLF001


@virtually
async def test_while_one_partition_is_put_back_another_waits_and_the_open_ones_give_way() -> None:
    world, numbers = await with_windows(10)
    opening = PartitionOpening(Partition(TOPIC, 1), world.context(BATCH))
    restored = mock.Mock(memory_bytes=lambda: 10**9, open_partition=lambda: None)
    async with world.one_at_a_time.restores:
        running = asyncio.create_task(opening.run())
        await asyncio.sleep(1)
        assert not running.done()
        assert await WindowMemory(10**9).relieve([Owned(world.owner), restored])
    assert 0 == world.owner.pipeline.open_windows()
    await (await running).close()
    await finished(world)
    assert numbers == sorted(world.documents("acme"))
