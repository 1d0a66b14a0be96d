"""What lanes, refusals and limits do to one owned partition, in virtual time."""

import asyncio

import pytest

from forwarder.config.connection import Connection
from forwarder.errors import FencedError, RefusedError
from forwarder.model import CloseReason, Commit
from forwarder.ops.reporter import LaneStatus
from tests import doubles
from tests.partition_oracle import PARTITION
from tests.world import (
    BATCH,
    EVENT,
    SESSION,
    SINGLE,
    START_MS,
    World,
    connection,
    finished,
    opened,
    reopened,
    virtually,
)


def stopped(world: World) -> list[str]:
    """Return the lanes that an opening has reported as stopped."""
    return [entry[1] for entry in world.notes.log if entry[0] == "lane" and entry[3] == "stopped"]


@virtually
async def test_a_lane_begins_where_the_partition_stands_when_it_is_added() -> None:
    world = await opened(SINGLE)
    world.feed("d1", [EVENT])
    world.collect()
    await world.owner.ticks.tick()
    await reopened(world, [*SINGLE, *BATCH])
    later = world.feed("d1", [EVENT])
    await finished(world)
    assert [later] == world.documents("acme")


@virtually
async def test_a_removed_lane_holds_the_watermark_and_goes_on_when_it_comes_back() -> None:
    world = await opened([*SINGLE, *BATCH])
    numbers = world.feed("d1", [EVENT])
    world.collect()
    await world.owner.ticks.tick()
    await reopened(world, SINGLE)
    numbers += world.feed("d1", [EVENT])
    world.collect()
    await world.until_idle()
    assert 0 == world.oracle.watermark
    await reopened(world, [*SINGLE, *BATCH])
    await finished(world)
    assert [numbers] == world.documents("acme")
    assert [[n] for n in numbers] == world.documents("solo")


@pytest.mark.parametrize(("before", "after"), [(BATCH, SESSION), (SESSION, BATCH)])
def test_replayed_events_are_keyed_by_the_rule_of_their_position(
    before: list[Connection], after: list[Connection]
) -> None:
    async def story() -> None:
        world = await opened(before)
        numbers = world.feed("d1", [("custom_event", "s1"), ("custom_event", "s2")])
        world.collect()
        await world.owner.ticks.tick()
        await reopened(world, after)
        assert 2 == len(world.oracle.state.lanes["acme"].keying) + 1
        numbers += world.feed("d1", [("custom_event", "s1"), ("custom_event", "s2")])
        world.collect()
        await world.owner.ticks.tick()
        assert 2 == len(world.oracle.state.lanes["acme"].keying)
        await reopened(world, after)
        await finished(world)
        assert numbers == sorted(n for document in world.documents("acme") for n in document)
        assert 1 == len(world.oracle.state.lanes["acme"].keying)

    doubles.run_virtually(story())


@virtually
async def test_an_inactive_lane_closes_what_it_had_and_takes_nothing_new() -> None:
    world = await opened(BATCH)
    numbers = world.feed("d1", [EVENT])
    world.collect()
    await world.owner.ticks.tick()
    inactive = [connection("acme", active=False)]
    await reopened(world, inactive)
    world.feed("d1", [EVENT])
    world.collect()
    world.owner.close_all()
    await world.until_idle()
    assert ([numbers], {}) == (world.documents("acme"), world.oracle.landed)
    assert (0, 0) == world.oracle.state.lanes["acme"].cursor
    await reopened(world, BATCH)
    numbers += world.feed("d1", [EVENT])
    await finished(world)
    assert [numbers[:1], numbers[1:]] == world.documents("acme")


def test_an_inactive_lane_makes_no_dead_letters_of_what_it_does_not_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(_content: object) -> None:
        raise RecursionError

    monkeypatch.setattr("forwarder.formats.mparticle.event_filter._strip", fails)
    located = b'{"events":[{"event_type":"profile","data":{"location":{}}}],"mpid":1}'

    async def story(*, active: bool) -> int:
        strict = connection("strict", active=active, include_location_information=False)
        world = await opened([strict])
        world.feed_raw(located)
        world.collect()
        await world.until_idle()
        await world.close()
        return sum(world.letters().values())

    async def tried(*, active: bool) -> int:
        strict = connection("strict", active=active, include_location_information=False)
        world = await opened([*SINGLE, strict])
        found = world.owner.collect_sample([doubles.Message(0, START_MS, located)])
        await world.close()
        return len(found.dead_letters)

    for of in (story, tried):
        assert 1 == doubles.run_virtually(of(active=True))
        assert 0 == doubles.run_virtually(of(active=False))


@virtually
async def test_a_lane_active_again_does_not_fall_behind_what_it_needs() -> None:
    world = await opened([*BATCH, *SINGLE])
    world.feed("d1", [EVENT])
    inactive = [connection("solo", active=False, send_as_batch=False)]
    await reopened(world, [*BATCH, *inactive])
    world.collect()
    await world.owner.ticks.tick()
    assert (1, 0) == world.oracle.state.lanes["solo"].need
    await reopened(world, [*BATCH, *SINGLE])
    later = world.feed("d1", [EVENT])
    await finished(world)
    assert [later] == world.documents("solo")


@virtually
async def test_batches_closed_before_a_time_are_acknowledged_without_a_put() -> None:
    world = await opened()
    world.moods["solo"] = "down"
    world.feed("d1", [EVENT])
    world.collect()
    await world.owner.ticks.tick()
    await asyncio.sleep(5)
    since = START_MS + 3_000
    await reopened(world, [connection("solo", send_as_batch=False, deliver_from_ms=since)])
    world.moods.clear()
    later = world.feed("d2", [EVENT])
    await finished(world)
    assert 2 == len(world.documents("solo"))
    landed = world.oracle.landed["solo"]
    assert [later] == [
        n for n, b in zip(world.documents("solo"), world.ids("solo"), strict=True) if b in landed
    ]


@virtually
async def test_an_operators_move_is_obeyed_and_cursors_stay() -> None:
    world = await opened()
    numbers = [world.feed("d1", [EVENT]) for _ in range(4)]
    world.collect(1)
    await world.owner.ticks.tick()
    await world.crash()
    world.journals.log(PARTITION).commit = Commit(2, "")
    assert 2 == (await world.open(SINGLE)).position
    await finished(world)
    assert [numbers[0], *numbers[2:]] == world.documents("solo")
    assert 3 == len(world.oracle.landed["solo"])


@virtually
async def test_lost_state_is_refused_and_nothing_is_stored() -> None:
    world = await opened()
    await world.crash()
    log = world.journals.log(PARTITION)
    log.state.clear()
    log.state_end = 0
    with pytest.raises(RefusedError, match="the state is empty"):
        await world.open(SINGLE)
    assert 0 == log.state_end


@virtually
async def test_a_fenced_worker_does_not_report_what_it_read_as_a_loss() -> None:
    world = await opened()
    await world.crash()
    world.journals.log(PARTITION).outbox_end = -1
    world.journals.overtaken = True
    with pytest.raises(FencedError):
        await world.open(SINGLE)


@virtually
async def test_a_lane_whose_input_is_gone_stops_and_is_left_as_it_was() -> None:
    world = await opened([*BATCH, connection("beta")])
    world.feed("d1", [EVENT])
    world.collect()
    await world.owner.ticks.tick()
    await world.crash()
    await world.open([connection("beta")])
    world.collect()
    world.owner.close_all()
    await world.until_idle()
    await world.crash()
    world.journals.input_start = 1
    await world.open([*BATCH, connection("beta")])
    assert (["acme"], ["beta"]) == (stopped(world), list(world.owner.deliveries.lanes))
    world.feed("d1", [EVENT])
    world.collect()
    world.owner.close_all()
    await world.until_idle()
    assert 2 == len(world.oracle.landed["beta"])
    assert ((0, 0), 0) == (world.oracle.state.lanes["acme"].need, world.owner.ticks.watermark())
    await world.close()


@virtually
async def test_a_lane_whose_batches_expired_stops_and_the_others_go_on() -> None:
    world = await opened([*SINGLE, *BATCH])
    world.moods |= {"solo": "down", "acme": "down"}
    world.feed("d1", [EVENT])
    world.collect()
    await world.owner.ticks.tick()
    await world.crash()
    log = world.journals.log(PARTITION)
    log.outbox_start = log.outbox_end
    log.outbox.clear()
    world.moods.clear()
    await world.open([*SINGLE, connection("beta")])
    assert ["solo"] == stopped(world)
    world.feed("d1", [EVENT])
    world.collect()
    world.owner.close_all()
    await world.until_idle()
    assert 1 == len(world.oracle.landed["beta"])
    assert (0, 0) == world.oracle.state.lanes["solo"].cursor
    await world.close()


@virtually
async def test_undecodable_records_are_dead_letters_once_whatever_is_replayed() -> None:
    world = await opened(BATCH)
    world.feed("d1", [EVENT])
    world.feed_raw(b"{")
    world.collect()
    await world.owner.ticks.tick()
    await reopened(world, BATCH)
    assert 0 == world.owner.position
    await finished(world)
    assert {("", 1): 1} == world.letters()


@virtually
async def test_a_batch_refused_for_good_is_a_dead_letter_and_acknowledged_in_one_tick() -> None:
    world = await opened()
    world.moods["solo"] = "picky"
    for number in range(20):
        world.feed(f"d{number}", [EVENT])
    world.collect()
    for _ in range(60):
        await world.owner.ticks.tick()
        await asyncio.sleep(5)
    world.moods.clear()
    await finished(world)
    refused = sum(world.letters().values())
    assert 0 < refused < 20
    assert 20 == refused + len(world.oracle.landed["solo"])


@virtually
async def test_idle_windows_are_closed_by_the_clock_in_slices() -> None:
    world = await opened(BATCH)
    for number in range(450):
        world.feed(f"d{number}", [EVENT])
    world.collect()
    await world.owner.expire(world.clock.wall_ms() + 9_999)
    assert 450 == world.owner.pipeline.open_windows()
    await world.owner.expire(world.clock.wall_ms() + 10_000)
    assert 0 == world.owner.pipeline.open_windows()
    slices = [count for _, why, count in world.notes.closed if why is CloseReason.AGE]
    assert [200, 200, 50] == slices
    await world.close()


@virtually
async def test_windows_that_one_record_outdates_are_closed_in_slices_too() -> None:
    world = await opened(BATCH)
    for number in range(1_000):
        world.feed(f"d{number}", [EVENT])
    world.collect()
    await asyncio.sleep(60)
    world.feed("late", [EVENT])
    world.collect()
    assert 501 == world.owner.pipeline.open_windows()
    await world.owner.close_overdue()
    assert 1 == world.owner.pipeline.open_windows()
    slices = [count for _, why, count in world.notes.closed if why is CloseReason.AGE]
    assert [500, 200, 200, 100] == slices
    await world.close()


@virtually
async def test_what_one_record_outdates_waits_while_too_much_is_closed_and_not_committed() -> None:
    world = await opened(BATCH)
    for number in range(1_000):
        world.feed(f"d{number}", [EVENT])
    world.collect()
    await asyncio.sleep(60)
    world.feed("late", [EVENT])
    world.limits.closed_bytes = 100
    world.collect()
    await world.owner.close_overdue()
    assert 501 == world.owner.pipeline.open_windows()
    await world.owner.ticks.tick()
    await world.owner.close_overdue()
    assert 301 == world.owner.pipeline.open_windows()
    world.limits.closed_bytes = 1 << 20
    await world.owner.close_overdue()
    assert 1 == world.owner.pipeline.open_windows()
    await world.close()


@virtually
async def test_too_many_closed_bytes_ask_for_a_pause_until_they_are_committed() -> None:
    world = await opened()
    world.limits.closed_bytes = 100
    world.feed("d1", [EVENT])
    world.collect()
    assert world.owner.is_journal_behind()
    await world.owner.ticks.tick()
    assert not world.owner.is_journal_behind()
    await world.close()


@virtually
async def test_ticks_come_at_their_pace_and_only_if_something_changed() -> None:
    world = World()
    world.base_interval = 1_000.0
    await world.open(SINGLE)
    ticking = asyncio.create_task(world.owner.ticks.run())
    await asyncio.sleep(0.5)
    assert 1 == world.oracle.state.n
    await asyncio.sleep(100)
    assert 1 == world.oracle.state.n
    world.feed("d1", [EVENT])
    world.collect()
    await asyncio.sleep(0.05)
    assert 2 == world.oracle.state.n
    await asyncio.sleep(100)
    assert 4 >= world.oracle.state.n
    await world.close()
    await ticking


@virtually
async def test_a_failed_tick_ends_the_loop_of_ticks() -> None:
    world = await opened()
    world.journals.outcomes.append("aborted")
    ticking = asyncio.create_task(world.owner.ticks.run())
    world.feed("d1", [EVENT])
    world.collect()
    await asyncio.wait_for(ticking, 10)
    assert not world.owner.is_open()
    await world.close()


@virtually
async def test_a_broken_destination_delays_its_own_lane_alone() -> None:
    world = await opened([*SINGLE, *BATCH])
    world.moods["solo"] = "closed"
    world.feed("d1", [EVENT])
    world.collect()
    world.owner.close_all()
    await world.owner.ticks.tick()
    await asyncio.sleep(8)
    await world.owner.ticks.tick()
    assert {"acme"} == world.oracle.landed.keys()
    assert LaneStatus.PAUSED is world.owner.deliveries.lanes["solo"].status
    assert ((0, 0), 1) == (world.oracle.state.lanes["solo"].cursor, world.oracle.watermark)
    world.moods.clear()
    await finished(world)


@virtually
async def test_an_owner_in_the_middle_of_a_tick_is_not_idle() -> None:
    world = await opened()
    world.feed("d1", [EVENT])
    world.collect()
    tick = asyncio.create_task(world.owner.ticks.tick())
    await asyncio.sleep(0.01)
    assert not world.owner.is_idle()
    await tick
    await finished(world)
