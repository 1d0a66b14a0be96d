"""Ticks: drawn up from a snapshot, true once committed."""

from collections import ChainMap
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder.journal import packing
from forwarder.journal import state as states
from forwarder.journal import tick as ticks
from forwarder.journal.commit import CommitMetadata
from forwarder.journal.fold import fold_records
from forwarder.journal.state import LaneState, LookBack, PartitionState, unpack_entries
from forwarder.model import LOWEST, DuplicateWindow
from tests.batches import GROUP, TOPIC, digest, held, lane_state
from tests.story import NOW, Story, closing, complete, draft, drawn, opened, snapshot, view


def test_nothing_changed_makes_no_tick() -> None:
    state = opened(5, acme=lane_state((5, 0), 5))
    assert ticks.plan_tick(state, snapshot(5)) is None


@pytest.mark.parametrize(
    "snap",
    [
        snapshot(6),
        snapshot(5, {"acme": view(cursor=(1, 0))}),
        snapshot(5, {"acme": view(acked=frozenset({(3, 0)}))}),
        snapshot(5, {"acme": view()}, [closing("a", (5, 0))]),
    ],
    ids=["position", "cursor", "acked", "closed"],
)
def test_every_change_makes_a_tick(snap: ticks.TickInput) -> None:
    assert drawn(opened(5, acme=lane_state((5, 0), 5)), snap).n == 2


def plain(state: PartitionState) -> bytes:
    """Return a state as bytes, entries of closed windows apart."""
    return msgspec.msgpack.encode(msgspec.structs.replace(state, indexes={}))


def test_drawing_up_a_tick_changes_nothing() -> None:
    state = opened(5, acme=lane_state((5, 0), 5))
    before = plain(state)
    snap = snapshot(9, {"acme": view()}, [closing("a", (8, 0))])
    drawn(state, snap)
    drawn(state, msgspec.structs.replace(snap, draft=complete(draft(state, {"acme": ()}))))
    assert before == plain(state)


def test_a_base_makes_a_tick_though_nothing_changed() -> None:
    state = opened(5, acme=lane_state((5, 0), 5))
    one = complete(draft(state, {"acme": ()}))
    assert one.n == drawn(state, msgspec.structs.replace(snapshot(5), draft=one)).n


def test_a_beat_says_nothing_but_its_number() -> None:
    story = Story(acme=lane_state())
    story.tick(snapshot(5))
    beat = ticks.plan_heartbeat(story.state, snapshot(9, end=3))
    [value] = beat.values
    before = story.folded()
    after = fold_records([*story.records, (9, value)], GROUP, TOPIC)
    assert (before.n + 1, before.lanes, before.read) == (after.n, after.lanes, after.read)


def test_a_beat_commits_the_watermark_of_the_tick_before() -> None:
    story = Story(acme=lane_state())
    story.tick(snapshot(5, {"acme": view((3, 0))}))
    assert 3 == ticks.plan_heartbeat(story.state, snapshot(9)).watermark


def test_the_metadata_names_the_tick_and_the_base_before_it() -> None:
    snap = msgspec.structs.replace(snapshot(6), ptr=4)
    assert CommitMetadata(2, 4) == drawn(opened(), snap).metadata


def test_the_watermark_is_the_lowest_need_known_or_unknown() -> None:
    state = opened(9, acme=lane_state((9, 0), 9), gone=lane_state((2, 1), 9))
    assert 2 == drawn(state, snapshot(12)).watermark


def test_a_delta_says_nothing_of_unknown_lanes() -> None:
    story = Story(acme=lane_state(), gone=lane_state((2, 1), 9))
    story.tick(snapshot(9))
    [value] = drawn(story.state, snapshot(12)).values
    assert ["acme"] == list(msgspec.msgpack.decode(packing.unpack(value))["lanes"])


def test_a_base_carries_unknown_lanes_as_they_are_stored() -> None:
    gone = lane_state((2, 1), 7)
    gone.extra = {"shade": "blue"}
    gone.seen = 77
    gone.closed = {digest("a"): (1, 0)}
    gone.held = {digest("b"): {**states.window_form(held("b", 3)), "tint": 4}}
    story = Story(acme=lane_state())
    story.leave("gone", gone)
    story.base(snapshot(9))
    story.base(snapshot(9))
    found = story.folded().lanes["gone"]
    assert msgspec.msgpack.encode(gone) == msgspec.msgpack.encode(found)


PLACES = st.sampled_from([(3, 0), (8, 0)])
READS, CURSORS = st.sampled_from([4, 6, 9]), st.sampled_from([1, 3])
SEEN_FROM = st.sampled_from([None, 2, 3])
NOTHING: frozenset[tuple[int, int]] = frozenset()
ONE_RULE = [("one", (0, 0))]
ANY_LANE = st.tuples(
    PLACES,
    READS,
    CURSORS,
    st.sampled_from([NOTHING, frozenset({(3, 0)})]),
    st.sampled_from([ONE_RULE, [*ONE_RULE, ("two", (5, 0))]]),
    SEEN_FROM,
    st.sampled_from([{}, {"shade": "blue"}]),
    st.none() | PLACES,
    st.booleans(),
    st.booleans(),
)
QUIET_LANE: st.SearchStrategy[Any] = st.tuples(
    st.sampled_from([(1, 0), (3, 0)]), READS, CURSORS, SEEN_FROM
).map(lambda it: (*it[:3], NOTHING, ONE_RULE, it[3], {}, it[0], False, False))
SOME_LANES = st.lists(QUIET_LANE, max_size=6) | st.lists(ANY_LANE, max_size=6)


@settings(max_examples=500)
@given(lanes=SOME_LANES, position=st.sampled_from([5, 9]), looks_back=st.booleans())
def test_lanes_that_are_settled_are_stored_as_if_each_was_looked_at(
    lanes: list[Any], position: int, *, looks_back: bool
) -> None:
    state, firsts, closings = opened(5), dict[str, Any](), []
    if looks_back:
        state.look_back = LookBack(1, 0, 1, [DuplicateWindow(9, 0)])
    for need, read, cursor, acked, keying, seen_from, extra, first, is_new, has_closed in lanes:
        name = f"{len(firsts)}"
        firsts[name] = first
        state.lanes[name] = LaneState(
            need, read, (cursor, 0), acked, 7, {}, {}, keying, seen_from, extra
        )
        if is_new:
            state.unwritten.add(name)
        if has_closed:
            closings.append(msgspec.structs.replace(closing("a", (9, 0)), lane=name))
    plain = snapshot(position, {}, closings, end=3)
    views = {
        name: ticks.LanePosition(first, (3, 0), frozenset(), frozen=False)
        for name, first in firsts.items()
    }
    expected = ticks.plan_tick(state, msgspec.structs.replace(plain, views=views))
    plan = ticks.plan_tick(state, msgspec.structs.replace(plain, views={}, settled=firsts))
    assert expected == plan


def test_an_inactive_lane_is_no_further_read() -> None:
    lanes = drawn(opened(5, acme=lane_state((5, 0), 5)), snapshot(9, {"acme": view(frozen=True)}))
    assert ((9, 0), 5) == (lanes.lanes["acme"].need, lanes.lanes["acme"].read)


def test_a_lane_seen_now_says_so_with_its_next_change() -> None:
    assert NOW == drawn(opened(), snapshot(6)).lanes["acme"].seen


class TestIndexEntries:
    """K3: what a replay has to be told about closed windows."""

    def test_a_batch_above_need_is_entered(self) -> None:
        found = drawn(opened(), snapshot(9, {"acme": view((3, 0))}, [closing("a", (5, 1))]))
        assert {"acme": {digest("a"): (5, 1)}} == found.entries

    def test_a_batch_below_need_is_not(self) -> None:
        found = drawn(opened(), snapshot(9, {"acme": view((5, 2))}, [closing("a", (5, 1))]))
        assert {} == found.entries

    def test_a_batch_at_need_is_entered(self) -> None:
        found = drawn(opened(), snapshot(9, {"acme": view((5, 1))}, [closing("a", (5, 1))]))
        assert {"acme": {digest("a"): (5, 1)}} == found.entries

    def test_a_batch_below_need_is_entered_if_the_newest_base_holds_its_window(self) -> None:
        state = opened()
        state.base_held = {("acme", digest("a"))}
        found = drawn(state, snapshot(9, closings=[closing("a", (5, 1)), closing("b", (6, 0))]))
        assert {"acme": {digest("a"): (5, 1)}} == found.entries

    def test_single_event_lanes_write_none(self) -> None:
        closings = [closing("a", (offset, 0)) for offset in range(9)]
        assert {} == drawn(opened(), snapshot(9, closings=closings)).entries

    def test_the_last_of_several_batches_of_a_key_counts(self) -> None:
        closings = [closing("a", (5, 1)), closing("a", (7, 0))]
        found = drawn(opened(), snapshot(9, {"acme": view((1, 0))}, closings))
        assert {"acme": {digest("a"): (7, 0)}} == found.entries

    def test_a_base_keeps_entries_from_need_on_and_forgets_the_rest(self) -> None:
        story = Story(acme=lane_state())
        closings = [closing("a", (2, 0)), closing("b", (4, 0))]
        story.tick(snapshot(5, {"acme": view((1, 0))}, closings))
        assert {digest("a"), digest("b")} == story.folded().lanes["acme"].closed.keys()
        story.tick(snapshot(6, {"acme": view((3, 0))}))
        story.base(snapshot(6, {"acme": view((3, 0))}))
        assert {digest("b"): (4, 0)} == story.folded().lanes["acme"].closed


class TestKeying:
    """L2: which rule derived the keys of which positions."""

    def test_a_rule_goes_once_need_has_passed_its_successor(self) -> None:
        lane = lane_state((0, 0), 9)
        lane.keying = [("device-1", (0, 0)), ("session-1", (5, 0))]
        state = opened(9, acme=lane)
        held_up = drawn(state, snapshot(12, {"acme": view((4, 3))}))
        passed = drawn(state, snapshot(12, {"acme": view((5, 0))}))
        assert [("device-1", (0, 0)), ("session-1", (5, 0))] == held_up.lanes["acme"].keying
        assert [("session-1", (5, 0))] == passed.lanes["acme"].keying

    def test_a_changed_rule_is_written_with_the_next_tick(self) -> None:
        story = Story(acme=lane_state())
        story.tick(snapshot(5))
        story.state.lanes["acme"].keying = [("device-1", (0, 0)), ("session-1", (5, 0))]
        story.state.unwritten.add("acme")
        story.tick(snapshot(5, {"acme": view((4, 0))}))
        expected = [("device-1", (0, 0)), ("session-1", (5, 0))]
        assert (expected, set()) == (story.folded().lanes["acme"].keying, story.state.unwritten)


class TestBases:
    """K2: what a base holds."""

    def test_saved_windows_are_held_and_no_longer_needed(self) -> None:
        story = Story(acme=lane_state())
        story.tick(snapshot(5, {"acme": view((2, 0))}))
        story.base(snapshot(9, {"acme": view((6, 0))}), {"acme": [held("a", 2)]})
        found = story.folded()
        assert held("a", 2) == states.parse_window(found.lanes["acme"].held[digest("a")])
        assert {("acme", digest("a"))} == story.state.base_held == found.base_held
        assert 6 == story.marks[-1][0]

    def test_a_base_that_no_longer_holds_a_window_forgets_it(self) -> None:
        story = Story(acme=lane_state())
        story.base(snapshot(5), {"acme": [held("a", 2)]})
        story.base(snapshot(9))
        assert ({}, set()) == (story.folded().lanes["acme"].held, story.state.base_held)

    def test_the_newest_base_is_known_by_its_offset_and_read(self) -> None:
        story = Story(acme=lane_state())
        story.tick(snapshot(5))
        story.tick(snapshot(7))
        story.base(snapshot(9))
        found = story.folded()
        assert (2, 9) == (story.state.base_offset, story.state.base_read)
        assert (2, 9) == (found.base_offset, found.base_read)


STEPS = st.tuples(
    st.integers(0, 3),  # how far the position moves
    st.dictionaries(st.sampled_from(["acme", "beta"]), st.integers(0, 4), max_size=2),
    st.lists(st.tuples(st.sampled_from(["acme", "beta"]), st.sampled_from("ab"))),
    st.integers(0, 3),  # how far the cursors move
    st.booleans(),  # whether it is a base
)


@settings(max_examples=80)
@given(st.lists(STEPS, max_size=12))
def test_what_is_in_memory_is_what_an_opening_reads(
    steps: list[tuple[int, dict[str, int], list[tuple[str, str]], int, bool]],
) -> None:
    story = Story(acme=lane_state(), beta=lane_state(), gone=lane_state((1, 1), 1))
    position = cursor = 0
    for moved, waiting, closed, delivered, base in steps:
        position += moved
        cursor += delivered
        views = {}
        for name in ("acme", "beta"):
            need = story.state.lanes[name].need
            behind = waiting.get(name)
            first = None if behind is None else max(need, (position - behind, 0))
            views[name] = view(first, cursor=(cursor, 0))
        closings = [closing(key, (max(0, position - 1), 0), name) for name, key in closed]
        tick = story.base if base else story.tick
        tick(snapshot(position, views, closings, end=cursor))
    if story.records:
        found = story.folded()
        for name, lane in story.state.lanes.items():
            entries = [unpack_entries(chunk, LOWEST) for chunk in story.state.index(name).chunks()]
            assert found.lanes[name].closed == ChainMap(*reversed(entries))
            assert msgspec.structs.replace(found.lanes[name], closed={}) == lane
        assert (found.n, found.read) == (story.state.n, story.state.read)
        assert found.base_held == story.state.base_held
    assert story.marks == sorted(story.marks), "watermark or read fell"
    assert all(w <= read for w, read in story.marks if read)
