"""The records of the state topic: written, split, folded."""

import json
import os
from collections.abc import Mapping
from typing import Any
from unittest import mock

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder.errors import RefusedError
from forwarder.journal import packing
from forwarder.journal import state as states
from forwarder.journal.fold import fold_records
from forwarder.journal.state import LaneChange, LaneState, PartitionState, StateHeader
from forwarder.model import Position
from tests.batches import GROUP, TOPIC, digest, held

OFFSETS = st.integers(0, 50)
POSITIONS = st.tuples(OFFSETS, st.integers(0, 5))
KEYS = st.sampled_from("abcdef")
EXTRA = st.dictionaries(st.sampled_from(["shade", "mood"]), OFFSETS | st.text(max_size=3))
HELD = st.lists(OFFSETS, min_size=1, max_size=4, unique=True).map(sorted)


@st.composite
def lane_states(draw: st.DrawFn) -> LaneState:
    """Draw a lane of any release; held windows only above what their keys have closed."""
    cursor = draw(POSITIONS)
    waiting = {
        digest(key): {**states.window_form(held(key, *offsets)), **draw(EXTRA)}
        for key, offsets in draw(st.dictionaries(KEYS, HELD, max_size=3)).items()
    }
    closed = draw(st.dictionaries(KEYS.map(digest), POSITIONS, max_size=4))
    return LaneState(
        need=draw(POSITIONS),
        read=draw(OFFSETS),
        cursor=cursor,
        acked=frozenset(a for a in draw(st.frozensets(POSITIONS, max_size=5)) if a >= cursor),
        seen=draw(OFFSETS),
        closed={key: last for key, last in closed.items() if key not in waiting},
        held=waiting,
        keying=draw(st.lists(st.tuples(st.sampled_from(["a-1", "b-1"]), POSITIONS), max_size=3)),
        extra=draw(EXTRA),
    )


@st.composite
def partition_states(draw: st.DrawFn) -> PartitionState:
    """Draw what any base may say."""
    lanes = draw(st.dictionaries(st.sampled_from(["acme", "beta", "gone"]), lane_states()))
    return PartitionState(
        n=draw(st.integers(1, 99)),
        read=draw(OFFSETS),
        obend=draw(OFFSETS),
        lanes=lanes,
        base_offset=draw(OFFSETS),
        base_held={(name, key) for name, lane in lanes.items() for key in lane.held},
        extra=draw(EXTRA),
    )


def head(state: PartitionState, kind: str = states.BASE) -> StateHeader:
    return StateHeader(kind, state.n, GROUP, TOPIC, state.read, state.obend)


def base_of(state: PartitionState) -> list[tuple[int, bytes]]:
    """Return the records of a base that says all of a state, from its base offset on."""
    lanes = {name: states.lane_in_base(lane) for name, lane in state.lanes.items()}
    values = states.encode(head(state), state.extra, lanes)
    return list(enumerate(values, state.base_offset or 0))


def delta(n: int, lanes: Mapping[str, LaneChange], read: int = 9, obend: int = 9) -> bytes:
    [value] = states.encode(StateHeader(states.DELTA, n, GROUP, TOPIC, read, obend), {}, lanes)
    return value


def fold(records: list[tuple[int, bytes]]) -> PartitionState:
    return fold_records(records, GROUP, TOPIC)


def held_in(records: list[tuple[int, bytes]]) -> dict[str, Any]:
    """Return the only held window, of key a."""
    return fold(records).lanes["acme"].held[digest("a")]


def normal(state: PartitionState) -> PartitionState:
    """Return a state as if read: held windows as decoded, the base read that of the base."""
    lanes = {
        name: msgspec.structs.replace(
            lane, held=msgspec.msgpack.decode(msgspec.msgpack.encode(lane.held))
        )
        for name, lane in state.lanes.items()
    }
    return msgspec.structs.replace(state, lanes=lanes, base_read=state.read)


@settings(max_examples=40)
@given(partition_states())
def test_a_base_reads_back_as_what_it_replaces(state: PartitionState) -> None:
    assert normal(state) == normal(fold(base_of(state)))


@settings(max_examples=40)
@given(partition_states())
def test_folding_a_base_of_what_was_folded_changes_nothing(state: PartitionState) -> None:
    once = fold(base_of(state))
    assert normal(once) == normal(fold(base_of(once)))


@settings(max_examples=40)
@given(partition_states(), st.integers(1, 400))
def test_a_base_split_anywhere_reads_back_the_same(state: PartitionState, size: int) -> None:
    with mock.patch.object(states, "PART_BYTES", size):
        parts = base_of(state)
    assert normal(state) == normal(fold(parts))


@settings(max_examples=40)
@given(partition_states())
def test_large_bases_are_split(state: PartitionState) -> None:
    lanes = state.lanes.values()
    pieces = sum(len(form["pieces"]) for lane in lanes for form in lane.held.values())
    entries = sum(len(lane.closed) for lane in lanes) + pieces
    with mock.patch.object(states, "PART_BYTES", 1):
        assert max(1, entries) <= len(base_of(state)) <= 2 * entries + len(lanes) + 1


def test_a_window_larger_than_a_message_is_split_and_joined() -> None:
    window = held("a", *range(50))
    pieces = [(n, 0, 1, 700, os.urandom(400_000)) for n in range(50)]
    stored = states.window_form(msgspec.structs.replace(window, pieces=pieces))
    state = PartitionState(lanes={"acme": LaneState(held={digest("a"): stored})})
    parts = base_of(state)
    assert max(len(value) for _, value in parts) < 2 * states.PART_BYTES
    assert normal(state).lanes == normal(fold(parts)).lanes


def test_a_context_is_stored_once_in_the_last_part_of_its_window() -> None:
    context = os.urandom(10 << 20)
    pieces = [(n, 0, 1, 700, os.urandom(900_000)) for n in range(4)]
    window = msgspec.structs.replace(held("a", *range(4)), pieces=pieces, context=context)
    state = PartitionState(
        lanes={"acme": LaneState(held={digest("a"): states.window_form(window)})}
    )
    parts = base_of(state)
    sizes = [len(value) for _, value in parts]
    assert [*[True] * 4, False] == [size < states.PART_BYTES for size in sizes]
    assert len(context) < sizes[-1] < len(context) + 10_000
    assert sum(sizes) < len(context) + 4 * 900_000 + 10_000
    assert window == states.parse_window(held_in(parts))


def test_a_window_that_an_earlier_release_cut_has_its_context_in_every_part() -> None:
    window = held("a", 1, 2)
    form = states.window_form(window)
    whole = PartitionState(lanes={"acme": LaneState()})
    (front,) = base_of(whole)
    head = states.StateHeader("base", 0, GROUP, TOPIC, 0, 0)
    cut = [{**form, "pieces": [piece]} for piece in form["pieces"]]
    parts = [
        (n, states.encode_part(head, {}, n, {"acme": {"held": {digest("a"): part}}}))
        for n, part in enumerate(cut, 1)
    ]
    assert window == states.parse_window(held_in([front, *parts]))


def test_lanes_that_acknowledged_much_out_of_order_share_no_record_beyond_its_size() -> None:
    acked = frozenset((2**40 + n, n) for n in range(4096))
    lanes = {f"lane{n}": LaneState(acked=acked, extra={"odd": "x" * 90_000}) for n in range(30)}
    parts = base_of(PartitionState(lanes=lanes))
    assert 3 < len(parts)
    raw = [len(packing.unpack(value)) for _, value in parts]
    assert max(raw) < 1.3 * states.PART_BYTES
    assert lanes == fold(parts).lanes


@settings(max_examples=40)
@given(partition_states(), partition_states())
def test_a_base_replaces_everything_before_it(old: PartitionState, new: PartitionState) -> None:
    new = msgspec.structs.replace(new, base_offset=1000)
    assert normal(new) == normal(fold([*base_of(old), *base_of(new)]))


def test_a_delta_changes_only_what_it_names() -> None:
    before = PartitionState(n=1, lanes={"acme": LaneState(read=3, cursor=(4, 1), seen=5)})
    change = LaneChange({"read": 8, "seen": 6}, {digest("a"): (7, 2)})
    found = fold([*base_of(before), (9, delta(2, {"acme": change}))])
    lane = LaneState(read=8, cursor=(4, 1), seen=6, closed={digest("a"): (7, 2)})
    assert (2, 9, 9, {"acme": lane}) == (found.n, found.read, found.obend, found.lanes)


def test_the_last_position_of_a_key_never_falls() -> None:
    before = PartitionState(n=1, lanes={"acme": LaneState(closed={digest("a"): (7, 2)})})
    late = LaneChange({}, {digest("a"): (5, 0)})
    found = fold([*base_of(before), (9, delta(2, {"acme": late}))])
    assert {digest("a"): (7, 2)} == found.lanes["acme"].closed


def test_held_events_that_a_batch_holds_are_dropped() -> None:
    lane = LaneState(held={digest("a"): states.window_form(held("a", 3, 5, 8))})
    closing = LaneChange({}, {digest("a"): (5, 0)})
    found = fold(
        [*base_of(PartitionState(n=1, lanes={"acme": lane})), (9, delta(2, {"acme": closing}))]
    )
    left = states.parse_window(found.lanes["acme"].held[digest("a")])
    assert [8] == [piece[0] for piece in left.pieces]


@pytest.mark.parametrize(
    ("last", "left"),
    [((4, 7), [0, 1, 2, 3]), ((5, 0), [1, 2, 3]), ((5, 2), [3]), ((5, 3), []), ((6, 0), [])],
)
def test_what_a_batch_holds_of_a_piece_is_dropped(last: Position, left: list[int]) -> None:
    piece = (5, 0, 4, 700, b'{"n":0},{"n":1},{"n":2},{"n":3}')
    window = msgspec.structs.replace(held("a", 5), pieces=[piece])
    lane = LaneState(held={digest("a"): states.window_form(window)})
    closing = LaneChange({}, {digest("a"): last})
    found = fold(
        [*base_of(PartitionState(n=1, lanes={"acme": lane})), (9, delta(2, {"acme": closing}))]
    )
    forms = found.lanes["acme"].held.values()
    pieces = [piece for form in forms for piece in states.parse_window(form).pieces]
    assert [(5, n) for n in left[:1]] == [piece[:2] for piece in pieces]
    assert left == [event["n"] for piece in pieces for event in json.loads(b"[%b]" % piece[4])]


def test_a_held_window_with_no_event_left_is_dead() -> None:
    lane = LaneState(held={digest("a"): states.window_form(held("a", 3, 5))})
    closing = LaneChange({}, {digest("a"): (5, 0)})
    found = fold(
        [*base_of(PartitionState(n=1, lanes={"acme": lane})), (9, delta(2, {"acme": closing}))]
    )
    assert {} == found.lanes["acme"].held


def test_a_new_lane_may_begin_in_a_delta() -> None:
    lane = LaneState(need=(4, 0), read=4, cursor=(2, 0), keying=[("device-1", (4, 0))])
    change = states.new_lane_in_delta(lane, {})
    found = fold([*base_of(PartitionState(n=1)), (1, delta(2, {"beta": change}))])
    assert {"beta": lane} == found.lanes


def test_a_held_window_comes_back_as_it_was_saved() -> None:
    window = held("a", 3, 5, to=(6, 1))
    assert window == states.parse_window(states.window_form(window))


def test_fields_of_a_later_release_survive_a_delta_and_a_base() -> None:
    lane = LaneState(extra={"shade": "blue"})
    state = PartitionState(n=1, lanes={"acme": lane}, extra={"mood": 7})
    later = fold([*base_of(state), (9, delta(2, {"acme": LaneChange({"tint": [1, 2]})}))])
    again = fold(base_of(later))
    assert ({"mood": 7}, {"shade": "blue", "tint": [1, 2]}) == (
        again.extra,
        again.lanes["acme"].extra,
    )


def test_nothing_stored_folds_to_an_empty_state() -> None:
    assert PartitionState() == fold([])


REFUSALS = {
    "is no base": [(4, delta(1, {}))],
    "tick 4 at state offset 9 follows tick 1": [
        *base_of(PartitionState(n=1)),
        (9, delta(4, {})),
    ],
    "tick 1 at state offset 9 follows tick 1": [
        *base_of(PartitionState(n=1)),
        (9, delta(1, {})),
    ],
    "format version 3": [(0, packing.pack({"v": 3, "kind": "base"}))],
    "format version None": [(0, packing.pack({"kind": "base"}))],
    r"format version \[1\]": [(0, packing.pack({"v": [1]}))],
    "it has no group, kind": [(0, packing.pack({"v": 1}))],
    r"cannot be read \(.*content size": [(0, b"neither zstd nor msgpack")],
    r"cannot be read \(.*object": [(0, packing.pack([1]))],
}


@pytest.mark.parametrize("what", REFUSALS)
def test_state_that_contradicts_itself_is_refused(what: str) -> None:
    with pytest.raises(RefusedError, match=what):
        fold(REFUSALS[what])


@pytest.mark.parametrize(("group", "topic"), [("other", TOPIC), (GROUP, "other")])
def test_the_state_of_another_group_or_topic_is_refused(group: str, topic: str) -> None:
    with pytest.raises(RefusedError, match="never share"):
        fold_records(base_of(PartitionState(n=1)), group, topic)
