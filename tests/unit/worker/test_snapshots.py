"""Bases of one owned partition: drafted beside its ticks, restored in slices, the state cut."""

import asyncio
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import msgspec
import pytest

from forwarder.collect import lane, pipeline
from forwarder.collect.lane import CollectBounds
from forwarder.collect.windows.tails import TailSizes
from forwarder.errors import JournalError
from forwarder.formats.contract import Decoder
from forwarder.journal import packing
from forwarder.journal import snapshot as drafts
from forwarder.journal import state as states
from forwarder.journal.memory import MemoryJournal
from forwarder.journal.orphans import OrphanPolicy
from forwarder.model import HeldWindow, Piece
from forwarder.worker import opening
from tests import doubles
from tests.partition_oracle import PARTITION
from tests.world import (
    EVENT,
    SESSION,
    SINGLE,
    World,
    connection,
    finished,
    opened,
    reopened,
    virtually,
)

DEVICES = 5


@pytest.fixture(autouse=True)
def _small_slices() -> Iterator[None]:
    """Draft and restore one window at a time, each in a record of its own."""
    with (
        mock.patch.object(drafts, "SLICE_BYTES", 1),
        mock.patch.object(opening, "SLICE_BYTES", 1),
        mock.patch.object(states, "PART_BYTES", 1),
    ):
        yield


async def with_windows() -> tuple[World, list[list[int]]]:
    """Return a world whose next base will save the windows of five devices, and their events."""
    world = await opened(SESSION)
    numbers = [world.feed(f"d{number}", [EVENT]) for number in range(DEVICES)]
    world.collect()
    await until_based(world)
    return world, numbers


async def until_based(world: World) -> None:
    """Let the time of the next base come, and tick until it is written."""
    before = world.oracle.state.base_offset
    await asyncio.sleep(3)
    for _ in range(50):
        await world.owner.ticks.tick()
        if world.oracle.state.base_offset != before:
            return
        await asyncio.sleep(0.01)
    pytest.fail("no base was written")


async def drafting(world: World, rounds: int) -> None:
    """Let the next base be due, and the loop go round so often while it is drafted."""
    await asyncio.sleep(3)
    await world.owner.ticks.tick()
    for _ in range(rounds):
        await asyncio.sleep(0)


def held(world: World) -> int:
    """Return how many windows an opening would find in the state."""
    return sum(len(lane.held) for lane in world.oracle.state.lanes.values())


@virtually
async def test_a_base_is_drafted_beside_the_ticks_and_written_by_a_later_one() -> None:
    world, _ = await with_windows()
    before = world.oracle.state.base_offset
    await drafting(world, 1)
    world.feed("d9", [EVENT])
    world.collect()
    await world.owner.ticks.tick()
    assert before == world.oracle.state.base_offset
    await until_based(world)
    assert DEVICES == held(world)
    await world.close()


@pytest.mark.parametrize("rounds", range(0, 24, 2))
def test_a_crash_at_any_step_of_drafting_loses_nothing_and_makes_nothing_twice(
    rounds: int,
) -> None:
    async def story() -> None:
        world, numbers = await with_windows()
        await drafting(world, rounds)
        numbers[0] += world.feed("d0", [EVENT])
        world.collect()
        await reopened(world, SESSION)
        await finished(world)
        assert numbers == sorted(world.documents("acme"))

    doubles.run_virtually(story())


@pytest.mark.parametrize("crash", ["at once", "after a delta", "after the base"])
@pytest.mark.parametrize("rounds", range(0, 24, 3))
def test_a_window_that_closes_at_any_step_of_drafting_does_not_come_back(
    rounds: int, crash: str
) -> None:
    async def story() -> None:
        world, numbers = await with_windows()
        await drafting(world, rounds)
        numbers[0] += world.feed("d0", [("session_end", "s1")])
        world.collect()
        await world.owner.expire(world.clock.wall_ms() + 3_000)
        assert 1 < DEVICES > world.owner.pipeline.open_windows()
        if crash != "at once":
            await world.owner.ticks.tick()
        if crash == "after the base":
            await until_based(world)
        await reopened(world, SESSION)
        await finished(world)
        assert numbers == sorted(world.documents("acme"))

    doubles.run_virtually(story())


@virtually
async def test_an_event_that_joins_a_drafted_window_is_replayed_on_top_of_what_was_saved() -> None:
    world, numbers = await with_windows()
    await drafting(world, 20)
    numbers[0] += world.feed("d0", [EVENT])
    world.collect()
    await world.owner.ticks.tick()
    assert (DEVICES, 0) == world.oracle.state.lanes["acme"].need
    await reopened(world, SESSION)
    assert DEVICES == world.owner.position
    await finished(world)
    assert numbers == sorted(world.documents("acme"))


@pytest.mark.parametrize("outcome", ["aborted", "unanswered"])
def test_a_failed_tick_drops_the_draft_and_the_next_opening_begins_its_own(outcome: str) -> None:
    async def story() -> None:
        world, numbers = await with_windows()
        await drafting(world, 20)
        world.journals.outcomes.append(outcome)
        await world.owner.ticks.tick()
        await asyncio.sleep(0)
        assert (False, False) == (world.owner.is_open(), world.one_at_a_time.snapshots.locked())
        await reopened(world, SESSION)
        world.collect()
        await until_based(world)
        await finished(world)
        assert numbers == sorted(world.documents("acme"))

    doubles.run_virtually(story())


@virtually
async def test_one_partition_of_a_worker_drafts_at_a_time() -> None:
    world, _ = await with_windows()
    async with world.one_at_a_time.snapshots:
        await drafting(world, 20)
        await world.owner.ticks.tick()
        before = world.oracle.state.base_offset
    await asyncio.sleep(0)
    await until_based(world)
    assert before != world.oracle.state.base_offset
    await asyncio.sleep(0)
    assert not world.one_at_a_time.snapshots.locked()
    await world.close()


@virtually
async def test_a_base_is_due_by_itself_and_written_though_nothing_else_happens() -> None:
    world, _ = await with_windows()
    seen = world.oracle.state.lanes["acme"].seen
    ticking = asyncio.create_task(world.owner.ticks.run())
    await asyncio.sleep(10)
    assert seen + 5_000 < world.oracle.state.lanes["acme"].seen
    await world.close()
    await ticking


@virtually
async def test_a_draft_that_the_ticks_have_outrun_is_begun_anew() -> None:
    world, numbers = await with_windows()
    right = drafts.SnapshotBuilder.steps

    def slowly(self: drafts.SnapshotBuilder) -> Iterator[None]:
        yield from itertools.repeat(None, 1_000)
        yield from right(self)

    with (
        mock.patch.multiple(drafts.SnapshotBuilder, steps=slowly),
        mock.patch.object(drafts, "LEAP", 3),
    ):
        world.journals.seconds = 0.0
        await drafting(world, 1)
        first, before = world.oracle.state.n, world.oracle.state.base_offset
        for _ in range(5):
            await tick_with_news(world)
        assert (first + 5, before) == (world.oracle.state.n, world.oracle.state.base_offset)
    await until_based(world)
    numbers.append(sorted(world.kinds.keys() - {n for some in numbers for n in some}))
    await reopened(world, SESSION)
    await finished(world)
    assert numbers == sorted(world.documents("acme"))


@virtually
async def test_bases_do_not_queue_up_while_the_journal_is_slow() -> None:
    world, _ = await with_windows()
    world.journals.seconds = 20.0
    before = world.oracle.state.n
    ticking = asyncio.create_task(world.owner.ticks.run())
    await asyncio.sleep(100)
    assert world.oracle.state.n <= before + 2 * drafts.LEAP
    await world.close()
    await ticking


@virtually
async def test_a_base_that_cannot_be_drafted_ends_the_opening() -> None:
    world, _ = await with_windows()
    with mock.patch.object(states, "encode_part", side_effect=ZeroDivisionError):
        await drafting(world, 20)
    assert isinstance(world.owner.ticks.end.error.result(), JournalError)
    await world.close()


@virtually
async def test_the_state_is_cut_below_the_base_before_the_last() -> None:
    world, _ = await with_windows()
    starts = []
    for _ in range(3):
        before = world.oracle.state.base_offset
        await until_based(world)
        world.feed("d9", [EVENT])
        world.collect()
        await world.owner.ticks.tick()
        await asyncio.sleep(0)
        starts.append((before, world.journals.log(PARTITION).state_start))
    assert all(base == start for base, start in starts), starts
    await world.close()


@virtually
async def test_a_cut_that_fails_is_made_up_for_after_the_next_base() -> None:
    world, _ = await with_windows()
    log = world.journals.log(PARTITION)
    with mock.patch.object(MemoryJournal, "cut", side_effect=JournalError("away")):
        await until_based(world)
        await tick_with_news(world)
    assert (0, True) == (log.state_start, world.owner.is_open())
    await until_based(world)
    await tick_with_news(world)
    assert 0 < log.state_start
    await finished(world)


async def tick_with_news(world: World) -> None:
    world.feed("d9", [EVENT])
    world.collect()
    await world.owner.ticks.tick()
    await asyncio.sleep(0)


@virtually
async def test_an_opening_goes_well_whether_it_finds_the_last_commit_or_the_one_before() -> None:
    for stale in (False, True):
        world, numbers = await with_windows()
        for _ in range(3):
            await until_based(world)
            await tick_with_news(world)
        world.journals.stale = stale
        await reopened(world, SESSION)
        await finished(world)
        assert numbers == sorted(world.documents("acme"))[:DEVICES]


@virtually
async def test_many_windows_are_restored_while_the_loop_goes_round() -> None:
    world, _ = await with_windows()
    await until_based(world)
    assert DEVICES == held(world)
    await world.crash()
    rounds = 0

    async def spin() -> None:
        nonlocal rounds
        while True:
            rounds += 1
            await asyncio.sleep(0)

    spinning = asyncio.create_task(spin())
    await world.open(SESSION)
    spinning.cancel()
    assert rounds > DEVICES
    assert DEVICES == world.owner.pipeline.open_windows()
    await finished(world)


@virtually
async def test_windows_of_a_lane_that_is_not_configured_outlive_the_bases_of_others() -> None:
    world, numbers = await with_windows()
    await until_based(world)
    world.rules = OrphanPolicy(ttl_ms=10**9)
    await reopened(world, SINGLE)
    world.collect()
    for _ in range(2):
        await until_based(world)
    assert DEVICES == held(world)
    await reopened(world, SESSION)
    await finished(world)
    assert numbers == sorted(world.documents("acme"))


def tinted(value: bytes) -> bytes:
    """Return a state record as a later release could have written it."""
    record = msgspec.msgpack.decode(packing.unpack(value))
    for stored in record["lanes"].values():
        for form in stored.get("held", {}).values():
            form["tint"] = 7
    return packing.pack(record)


@virtually
async def test_fields_of_a_later_release_survive_being_restored_and_saved_again() -> None:
    world, _ = await with_windows()
    await until_based(world)
    await world.crash()
    log = world.journals.log(PARTITION)
    log.state = {offset: tinted(value) for offset, value in log.state.items()}
    await world.open(SESSION)
    world.collect()
    await until_based(world)
    lane = world.oracle.state.lanes["acme"]
    assert [7] * DEVICES == [form["tint"] for form in lane.held.values()]
    await world.close()


@virtually
async def test_what_a_replay_had_to_know_is_let_go_when_it_is_over() -> None:
    world, _ = await with_windows()
    await until_based(world)
    await reopened(world, SESSION)
    replay = world.owner.pipeline._lanes["acme"].replay  # noqa: SLF001  # memory nobody can see
    assert DEVICES == replay.entries()
    world.feed("d9", [EVENT])
    world.collect()
    assert 0 == replay.entries()
    await finished(world)


NARROW = [connection("acme", wait_for_complete_batch=True, send_custom_events=False)]


@contextmanager
def judging() -> Iterator[list[int]]:
    """Count the stored windows that are judged, and take blocks for all that are not."""
    judged: list[int] = []
    right = lane.PartitionLane._filter_saved  # noqa: SLF001  # nothing else shows that nobody looked

    def kept(self: lane.PartitionLane, stored: HeldWindow, decoder: Decoder) -> list[Piece]:
        judged.append(len(stored.pieces))
        return right(self, stored, decoder)

    with (
        mock.patch.object(lane.PartitionLane, "_filter_saved", kept),
        mock.patch.object(pipeline, "BOUNDS", CollectBounds(tails=TailSizes(long=1))),
    ):
        yield judged


@pytest.mark.parametrize("small", [False, True])
def test_windows_that_today_s_filter_has_kept_are_taken_up_unseen(*, small: bool) -> None:
    async def story() -> None:
        with mock.patch.object(states, "PART_BYTES", 1 if small else 1 << 20), judging() as judged:
            world, numbers = await with_windows()
            await until_based(world)
            await reopened(world, SESSION)
            assert (DEVICES if small else 0) == len(judged)
            numbers[0] += world.feed("d0", [EVENT])
            world.collect()
            await until_based(world)
            await reopened(world, SESSION)
            await finished(world)
            assert numbers == sorted(world.documents("acme"))

    doubles.run_virtually(story())


@virtually
async def test_windows_that_another_filter_has_kept_are_judged() -> None:
    with mock.patch.object(states, "PART_BYTES", 1 << 20), judging() as judged:
        world, _ = await with_windows()
        await until_based(world)
        await reopened(world, NARROW)
        assert (DEVICES, 0) == (len(judged), world.owner.pipeline.open_windows())
        await world.close()


def carried(value: bytes, numbers: dict[int, int]) -> bytes:
    """Return a state record as a release that knows less would have written it again, later."""
    record = msgspec.msgpack.decode(packing.unpack(value))
    record["n"] = numbers.setdefault(record["n"], record["n"] + 1)
    return packing.pack(record)


@virtually
async def test_what_was_said_of_windows_counts_in_the_tick_that_said_it_alone() -> None:
    with mock.patch.object(states, "PART_BYTES", 1 << 20), judging() as judged:
        world, _ = await with_windows()
        await until_based(world)
        await world.crash()
        log = world.journals.log(PARTITION)
        numbers: dict[int, int] = {}
        newest = world.oracle.state.base_offset
        assert newest is not None
        log.state = {o: carried(v, numbers) for o, v in log.state.items() if o >= newest}
        await world.open(SESSION)
        assert DEVICES == len(judged)
        await world.close()
