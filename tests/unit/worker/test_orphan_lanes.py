"""Lanes that no worker knows any more: held for a time, then dropped (L1), in virtual time."""

import asyncio
from unittest import mock

import pytest

from forwarder.journal import orphans
from forwarder.journal.orphans import OrphanPolicy
from forwarder.worker import gauges, snapshots
from tests import doubles
from tests.batches import lane_state
from tests.world import (
    BATCH,
    EVENT,
    SINGLE,
    World,
    connection,
    finished,
    opened,
    reopened,
    virtually,
)

TTL = 60_000
STATES = {"known": lane_state((5, 0)), "low": lane_state((2, 0)), "high": lane_state((7, 0))}
BOTH = [*SINGLE, *BATCH]


async def removed(rules: OrphanPolicy, mood: str = "up") -> tuple[World, list[int]]:
    """Return a world from which acme was removed with an event in a window."""
    world = await opened(BOTH)
    world.moods["acme"] = mood
    numbers = world.feed("d1", [EVENT])
    world.collect()
    await world.owner.ticks.tick()
    world.rules = rules
    await reopened(world, SINGLE)
    world.collect()
    return world, numbers


async def base(world: World) -> None:
    """Let the next base be written."""
    before = world.oracle.state.base_offset
    await asyncio.sleep(3)
    while world.oracle.state.base_offset == before:
        await world.owner.ticks.tick()
        await asyncio.sleep(0.01)


@virtually
async def test_an_unknown_lane_holds_the_watermark_until_its_time_is_over() -> None:
    world, _ = await removed(OrphanPolicy(ttl_ms=TTL))
    await base(world)
    assert (0, True) == (world.owner.ticks.watermark(), "acme" in world.oracle.state.lanes)
    assert {"acme"} == world.owner.ticks.orphans_holding_watermark().keys()
    await asyncio.sleep(TTL / 1000)
    await base(world)
    assert (1, False) == (world.owner.ticks.watermark(), "acme" in world.oracle.state.lanes)
    assert {} == world.owner.ticks.orphans_holding_watermark()
    assert ("forgotten", "acme") in world.notes.log
    await world.close()


@virtually
async def test_bases_of_others_do_not_count_as_seeing_a_lane() -> None:
    world, _ = await removed(OrphanPolicy(ttl_ms=TTL))
    seen = world.oracle.state.lanes["acme"].seen
    for _ in range(5):
        await base(world)
    assert seen == world.oracle.state.lanes["acme"].seen
    await world.close()


@virtually
async def test_a_retired_lane_is_dropped_at_once() -> None:
    world, _ = await removed(OrphanPolicy(ttl_ms=TTL, retired=frozenset({"acme"})))
    await world.owner.ticks.tick()
    await asyncio.sleep(0.1)
    await world.owner.ticks.tick()
    assert ["solo"] == list(world.oracle.state.lanes)
    await world.close()


@virtually
async def test_a_lane_that_comes_back_after_it_was_dropped_is_new() -> None:
    world, _ = await removed(OrphanPolicy(ttl_ms=TTL, retired=frozenset({"acme"})))
    await base(world)
    world.rules = OrphanPolicy()
    await reopened(world, BOTH)
    later = world.feed("d1", [EVENT])
    await finished(world)
    assert [later] == world.documents("acme")


@virtually
async def test_a_lane_that_comes_back_in_time_goes_on_where_it_was() -> None:
    world, numbers = await removed(OrphanPolicy(ttl_ms=TTL))
    await base(world)
    await reopened(world, BOTH)
    await finished(world)
    assert [numbers] == world.documents("acme")


@virtually
async def test_a_renamed_lane_is_a_new_one_and_the_old_one_holds_its_place() -> None:
    world = await opened(BATCH)
    world.feed("d1", [EVENT])
    world.collect()
    await world.owner.ticks.tick()
    await reopened(world, [connection("acme-2")])
    later = world.feed("d2", [EVENT])
    world.collect()
    world.owner.close_all()
    await world.until_idle()
    assert ({}, [later]) == (world.oracle.batches.get("acme", {}), world.documents("acme-2"))
    assert 0 == world.oracle.watermark
    await world.close()


@virtually
async def test_what_a_dropped_lane_had_not_delivered_is_said() -> None:
    world = await opened(BOTH)
    world.moods["acme"] = "down"
    world.feed("d1", [EVENT])
    world.collect()
    world.owner.close_all()
    await world.owner.ticks.tick()
    world.rules = OrphanPolicy(retired=frozenset({"acme"}))
    await reopened(world, SINGLE)
    with mock.patch.object(snapshots, "log") as log:
        await base(world)
    [call] = [c for c in log.warning.call_args_list if c.args == ("lane.forgotten",)]
    undelivered = (call.kwargs["connection"], call.kwargs["undelivered_from"])
    assert ("acme", 0) == undelivered
    assert 0 < call.kwargs["outbox_end"]
    await world.close()


@virtually
async def test_known_lanes_are_seen_at_every_base_though_nothing_changed() -> None:
    world = await opened(BOTH)
    before = {name: lane.seen for name, lane in world.oracle.state.lanes.items()}
    await base(world)
    after = {name: lane.seen for name, lane in world.oracle.state.lanes.items()}
    assert all(before[name] < after[name] for name in before)
    await world.close()


@virtually
async def test_a_lane_whose_input_is_gone_is_known_and_never_dropped() -> None:
    world = await opened([*BATCH, connection("beta")])
    world.feed("d1", [EVENT])
    world.collect()
    await world.owner.ticks.tick()
    await reopened(world, [connection("beta")])
    world.collect()
    world.owner.close_all()
    await world.until_idle()
    await world.crash()
    world.journals.input_start = 1
    world.rules = OrphanPolicy(ttl_ms=1)
    await world.open([*BATCH, connection("beta")])
    world.oracle.known = {"beta"}  # what bases save is promised of lanes that are fed (I11)
    before = world.oracle.state.lanes["acme"].seen
    await base(world)
    await base(world)
    assert before < world.oracle.state.lanes["acme"].seen
    assert {} == world.owner.ticks.orphans_holding_watermark()
    await world.close()


@virtually
async def test_operators_see_for_how_long_an_unknown_lane_holds_the_watermark() -> None:
    world, _ = await removed(OrphanPolicy(ttl_ms=TTL))
    await world.owner.ticks.tick()
    [(name, seconds)] = gauges.orphan_lanes([world.owner]).items()
    assert "acme" == name
    assert 0 < seconds <= TTL / 1000
    await asyncio.sleep(10)
    assert seconds - 10 == pytest.approx(gauges.orphan_lanes([world.owner])["acme"])
    await world.close()


def test_a_narrowed_filter_applies_to_what_waits_in_windows() -> None:
    async def story() -> None:
        world = await opened(BATCH)
        kept = world.feed("d1", [EVENT])
        world.feed("d1", [("screen_view", "s1")])
        world.collect()
        await base(world)
        await base(world)
        await reopened(world, [connection("acme", send_screen_views=False)])
        await finished(world)
        assert [kept] == world.documents("acme")

    doubles.run_virtually(story())


@virtually
async def test_what_a_narrowed_filter_left_out_of_a_saved_window_is_settled_with_it() -> None:
    world = await opened(BATCH)
    kept = world.feed("d1", [EVENT])
    world.feed("d1", [("screen_view", "s1")])
    world.collect()
    await base(world)
    await base(world)
    await reopened(world, [connection("acme", send_screen_views=False)])
    world.collect()
    world.owner.close_all()
    await world.until_idle()
    await reopened(world, BATCH)  # the newest base still holds the window
    await finished(world)
    assert [kept] == world.documents("acme")


class TestRules:
    """Which lanes are dropped, and which hold the watermark."""

    def test_only_lanes_that_are_not_configured_are_dropped(self) -> None:
        found = orphans.expired_orphans(STATES, ["known"], OrphanPolicy(ttl_ms=10), 11)
        assert {"low", "high"} == found

    def test_a_lane_is_kept_for_its_whole_time(self) -> None:
        assert set() == orphans.expired_orphans(STATES, ["known"], OrphanPolicy(ttl_ms=10), 10)

    def test_a_retired_lane_that_is_configured_is_kept(self) -> None:
        rules = OrphanPolicy(retired=frozenset({"known", "low"}))
        assert {"low"} == orphans.expired_orphans(STATES, ["known"], rules, 0)

    def test_lanes_below_the_known_ones_hold_the_watermark(self) -> None:
        assert {"low": 7} == orphans.holding_watermark(
            STATES, ["known"], OrphanPolicy(ttl_ms=10), 3
        )

    def test_without_known_lanes_every_other_one_does(self) -> None:
        assert {"low", "high", "known"} == orphans.holding_watermark(
            STATES, [], OrphanPolicy(), 0
        ).keys()
