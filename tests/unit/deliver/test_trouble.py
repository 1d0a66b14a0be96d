"""Why a lane is not delivered, as stored."""

import asyncio
from typing import Any

from forwarder.deliver import trouble
from forwarder.journal import state as states
from forwarder.journal.state import LaneState
from tests import doubles
from tests.batches import GROUP, TOPIC
from tests.world import EVENT, PARTITION, World, opened

NOW = 1_000_000


def test_a_reason_is_noted_with_its_time_and_gone_when_it_is_over() -> None:
    lane = LaneState()
    assert not trouble.note(lane, "", NOW)
    assert trouble.note(lane, "AccessDenied: no", NOW)
    assert {"reason": "AccessDenied: no", "since": NOW} == lane.extra["trouble"]
    assert not trouble.note(lane, "AccessDenied: no", NOW + 60_000)
    assert trouble.note(lane, "", NOW + 60_000)
    assert {"reason": "", "since": NOW + 60_000} == lane.extra["trouble"]


def test_what_changes_all_the_time_is_not_written_all_the_time() -> None:
    lane = LaneState()
    changes = [trouble.note(lane, "slow down" if n % 2 else "", NOW + n * 100) for n in range(250)]
    assert 3 == sum(changes)


def test_a_long_reason_is_cut() -> None:
    lane = LaneState()
    assert trouble.note(lane, "x" * 1_000, NOW)
    assert trouble.LONGEST == len(lane.extra["trouble"]["reason"])
    assert not trouble.note(lane, "x" * 1_000, NOW + 60_000)


def test_it_is_stored_and_read_again() -> None:
    lane = LaneState(keying=[("device-1", (0, 0))])
    trouble.note(lane, "no such stream", NOW)
    head = states.Head(states.BASE, 1, GROUP, TOPIC, 0, 0)
    values = states.encode(head, {}, {"acme": states.whole(lane)})
    folded = states.fold(list(enumerate(values)), GROUP, TOPIC)
    assert lane.extra == folded.lanes["acme"].extra


def stored(world: World) -> dict[str, Any]:
    """Return what is stored of the trouble of the world's lane."""
    records = list(world.journals.log(PARTITION).state.items())
    [lane] = states.fold(records, world.around([]).group, PARTITION.topic).lanes.values()
    found: dict[str, Any] = lane.extra.get("trouble", {})
    return found


def test_a_lane_that_waits_for_somebody_says_why_until_it_flows_again() -> None:
    async def main() -> None:
        world = await opened()
        world.moods["solo"] = "closed"
        world.feed("d1", [EVENT])
        world.collect()
        for _ in range(3):
            await world.owner.tick()
            await asyncio.sleep(1.0)
        assert "no" == stored(world)["reason"]
        world.moods["solo"] = "up"
        await asyncio.sleep(90.0)
        await world.until_idle()
        await world.owner.tick()
        assert "" == stored(world)["reason"]
        await world.close()

    doubles.run_virtually(main())
