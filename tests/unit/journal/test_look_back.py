"""What is stored of how duplicates are looked for, and where an opening begins to look back."""

from pathlib import Path

import msgspec
import pytest

from forwarder.journal import opening
from forwarder.journal import state as states
from forwarder.journal import tick as ticks
from forwarder.journal.fold import fold_records
from forwarder.journal.opening import Opening, Restored
from forwarder.journal.packing import unpack
from forwarder.journal.state import LaneState, LookBack, PartitionState, StateHeader
from forwarder.model import Commit, DuplicateWindow
from tests import story
from tests.batches import GROUP, TOPIC, lane_state

DATA = Path(__file__).parents[2] / "data" / "formats"
MINUTES = 600_000
OFF, ON = DuplicateWindow(0, 0), DuplicateWindow(MINUTES, 40)
RULES = {"acme": "device-1"}


def lane(need: int, read: int = 60, seen_from: int | None = None) -> LaneState:
    return msgspec.structs.replace(lane_state((need, 0), read), seen_from=seen_from)


def stored(look_back: LookBack | None, read: int = 60, **lanes: LaneState) -> PartitionState:
    return PartitionState(
        n=7, read=read, base_offset=0, look_back=look_back, lanes=lanes or {"acme": lane(57, read)}
    )


def looking(*windows: DuplicateWindow, seen_from: int = 50, since: int = 0) -> LookBack:
    return LookBack(7, since, seen_from, [*windows])


def opened(
    state: PartitionState, window_ms: int = MINUTES, commit: str | None = None, first: int = 0
) -> Opening:
    """Decide with this state; ``commit``: what stands beside an offset of 57."""
    found = Restored(
        commit=None if commit is None else Commit(57, commit),
        state_start=0,
        state_end=9,
        outbox_start=0,
        outbox_end=20,
        first=0,
        input_start=first,
        input_end=99,
    )
    return opening.decide_start(found, state, TOPIC, RULES, 9, duplicates_ms=window_ms)


def windows(start: Opening) -> list[DuplicateWindow] | None:
    return None if start.state.look_back is None else start.state.look_back.windows


# --------------------------------------------------------------------------- stored formats


def test_a_base_and_a_delta_with_the_field_are_read() -> None:
    records = [
        (at, (DATA / f"state-{kind}-v2-look-back.bin").read_bytes())
        for at, kind in enumerate(("base", "delta"), 30)
    ]
    state = fold_records(records[:1], GROUP, TOPIC)
    assert LookBack(7, 40, 46, [OFF, ON]) == state.look_back
    assert (44, 40, {"mood": 3}) == (
        state.lanes["acme-production"].seen_from,
        state.lanes["gone"].seen_from,
        state.extra,
    )
    state = fold_records(records, GROUP, TOPIC)
    assert LookBack(8, 40, 49, [ON]) == state.look_back
    assert (48, 40) == tuple(one.seen_from for one in state.lanes.values())


def test_what_an_older_release_carried_along_says_nothing() -> None:
    """It wrote ticks and dropped nothing: as a delta without the field, or a base with it."""
    base = (DATA / "state-base-v2-look-back.bin").read_bytes()
    later = states.encode(StateHeader("delta", 8, GROUP, TOPIC, 64, 18), {}, {})
    assert fold_records([(30, base), (31, later[0])], GROUP, TOPIC).look_back is None
    # Written by the release before, behind the two files above.
    carried = (DATA / "state-base-v2-carried.bin").read_bytes()
    assert 8 == msgspec.msgpack.decode(unpack(carried))["look_back"]["n"]
    state = fold_records([(32, carried)], GROUP, TOPIC)
    assert (10_008, 70, None) == (state.n, state.read, state.look_back)
    assert (48, 40) == tuple(one.seen_from for one in state.lanes.values())
    start = opened(msgspec.structs.replace(state, lanes={"acme": state.lanes["acme-production"]}))
    assert [OFF, DuplicateWindow(MINUTES, 70)] == windows(start)
    assert (70, 70, None) == (start.seek, start.begin, start.state.lanes["acme"].seen_from)


def test_where_none_are_looked_for_no_byte_is_another() -> None:
    start = opened(stored(None), window_ms=0)
    plan = ticks.plan_tick(start.state, story.snapshot(63))
    assert plan is not None
    record = msgspec.msgpack.decode(unpack(plan.values[0]))
    assert {"v", "kind", "n", "group", "topic", "read", "obend", "part", "lanes"} == record.keys()
    assert {"need", "read", "seen"} == record["lanes"]["acme"].keys()
    assert "seen_from" not in states.scalars(start.state.lanes["acme"])


def test_every_tick_says_it_even_one_that_proves_ownership_alone() -> None:
    state = stored(looking(ON))
    for plan in (ticks.plan_heartbeat(state, story.snapshot(60)), _planned(state, 63)):
        record = msgspec.msgpack.decode(unpack(plan.values[0]))
        assert (8, [[MINUTES, 40]]) == (record["look_back"]["n"], record["look_back"]["windows"])


def _planned(state: PartitionState, position: int, **reaches: int) -> ticks.TickPlan:
    """Plan a tick; ``reaches``: by ``at_OFFSET`` how far is looked back from there."""
    known = {int(name[3:]): start for name, start in reaches.items()}
    snap = msgspec.structs.replace(
        story.snapshot(position), seen_from=lambda offset: known.get(offset, offset)
    )
    return story.drawn(state, snap)


# --------------------------------------------------------------------------- ticks


def test_a_lane_stores_how_far_what_it_needs_looks_back() -> None:
    plan = _planned(stored(looking(ON), acme=lane(57, seen_from=44)), 63, at_63=52)
    assert 52 == plan.lanes["acme"].seen_from
    assert LookBack(8, 0, 52, [ON]) == plan.look_back


def test_what_is_not_read_yet_stays_as_it_is_stored() -> None:
    """While it looks back, and while a replay is below what another lane needs."""
    known = stored(looking(ON, seen_from=50), acme=lane(57, seen_from=44), new=lane(60))
    snap = story.snapshot(49, {"acme": story.view(), "new": story.view()})
    plan = ticks.plan_heartbeat(known, snap)
    assert LookBack(8, 0, 50, [ON]) == plan.look_back
    again = story.drawn(msgspec.structs.replace(known, unwritten={"new"}), snap)
    assert (44, 50) == (again.lanes["acme"].seen_from, again.lanes["new"].seen_from)


def test_how_far_is_looked_back_never_falls() -> None:
    plan = _planned(stored(looking(ON, seen_from=50), acme=lane(57, seen_from=49)), 61, at_61=3)
    assert (49, 50) == (plan.lanes["acme"].seen_from, plan.look_back and plan.look_back.seen_from)


@pytest.mark.parametrize(
    ("need", "left"),
    [(39, [OFF, ON, DuplicateWindow(7, 60)]), (59, [ON, DuplicateWindow(7, 60)]),
     (60, [DuplicateWindow(7, 60)])],
)  # fmt: skip
def test_a_window_goes_once_no_lane_needs_what_it_held_for(
    need: int, left: list[DuplicateWindow]
) -> None:
    """An orphan lane counts, too: it may come back."""
    known = looking(OFF, ON, DuplicateWindow(7, 60))
    state = stored(known, acme=lane(60), orphan=lane(need))
    plan = ticks.plan_heartbeat(state, story.snapshot(60))
    assert left == (plan.look_back and plan.look_back.windows)


def test_once_switched_off_nothing_is_stored_any_more() -> None:
    state = stored(looking(ON, DuplicateWindow(0, 60)), acme=lane(60))
    assert ticks.plan_heartbeat(state, story.snapshot(60)).look_back is None


# --------------------------------------------------------------------------- opening


def test_reading_begins_where_the_lowest_need_looks_back_to() -> None:
    start = opened(stored(looking(ON), acme=lane(57, seen_from=44), orphan=lane(3, seen_from=1)))
    assert (57, 44, [ON]) == (start.seek, start.begin, windows(start))


def test_what_retention_has_removed_is_not_looked_back_on() -> None:
    start = opened(stored(looking(ON), acme=lane(57, seen_from=44)), first=50)
    assert (57, 50) == (start.seek, start.begin)


def test_a_new_lane_looks_back_as_far_as_the_partition_does() -> None:
    state = stored(looking(ON, seen_from=52), orphan=lane(3, seen_from=1))
    start = opened(state)
    assert (["acme"], 60, 52) == (start.new, start.seek, start.begin)


def test_a_window_holds_from_where_reading_goes_on() -> None:
    start = opened(stored(None))
    assert [OFF, DuplicateWindow(MINUTES, 60)] == windows(start)
    assert (57, 57) == (start.seek, start.begin)
    longer = opened(stored(looking(ON), acme=lane(57, seen_from=44)), window_ms=3 * MINUTES)
    assert [ON, DuplicateWindow(3 * MINUTES, 60)] == windows(longer)
    assert 44 == longer.begin
    off = opened(stored(looking(ON), acme=lane(57, seen_from=44)), window_ms=0)
    assert ([ON, DuplicateWindow(0, 60)], 44) == (windows(off), off.begin)


def test_a_window_changed_twice_before_anything_is_read_leaves_one() -> None:
    """What is looked back on stays: the first window holds for that, too."""
    state = stored(looking(DuplicateWindow(5, 60)), acme=lane(60, seen_from=44))
    start = opened(state)
    assert [DuplicateWindow(5, 60), DuplicateWindow(MINUTES, 60)] == windows(start)
    assert 44 == start.begin
    twice = stored(looking(ON, DuplicateWindow(0, 60)), acme=lane(57, seen_from=44))
    assert [ON] == windows(opened(twice))[:1]  # type: ignore[index]
    assert [ON, DuplicateWindow(MINUTES, 60)] == windows(opened(twice))


def test_a_lane_that_comes_back_looks_back_on_nothing_of_before_it_was_switched_on() -> None:
    start = opened(stored(looking(ON, since=40), acme=lane(40, seen_from=12)))
    assert (40, 40) == (start.seek, start.begin)


def test_where_an_operator_has_moved_it_everything_begins() -> None:
    """Events are sent again on purpose: none of before counts."""
    start = opened(stored(looking(ON), acme=lane(57, seen_from=44)), commit="")
    assert [DuplicateWindow(MINUTES, 57)] == windows(start)
    assert (57, 57, None) == (start.seek, start.begin, start.state.lanes["acme"].seen_from)
    assert 57 == (start.state.look_back and start.state.look_back.since)
