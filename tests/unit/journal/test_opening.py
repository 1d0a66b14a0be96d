"""From what an opening found to where every lane stands."""

from collections.abc import Mapping

import msgspec
import pytest

from forwarder.errors import RefusedError
from forwarder.journal import opening
from forwarder.journal import state as states
from forwarder.journal.commit import CommitMetadata, encode_metadata
from forwarder.journal.fold import fold_records
from forwarder.journal.opening import Opening, Restored, StartOrigin
from forwarder.journal.state import LaneState, PartitionState, StateHeader
from forwarder.model import Commit
from tests.batches import GROUP, TOPIC, digest, held, lane_state

RULES = {"acme": "device-1"}


def base(state: PartitionState) -> bytes:
    head = StateHeader(states.BASE, state.n, GROUP, TOPIC, state.read, state.obend)
    lanes = {name: states.lane_in_base(lane) for name, lane in state.lanes.items()}
    [value] = states.encode(head, state.extra, lanes)
    return value


def delta(n: int, read: int) -> bytes:
    [value] = states.encode(StateHeader(states.DELTA, n, GROUP, TOPIC, read, 0), {}, {})
    return value


def stored(n: int = 3, read: int = 20, obend: int = 8, **lanes: LaneState) -> PartitionState:
    return PartitionState(n=n, read=read, obend=obend, lanes=lanes or {"acme": kept()})


def kept() -> LaneState:
    """Return a lane that needs from (15, 1), was fed to 20 and delivered up to 6."""
    lane = lane_state((15, 1), 20, (6, 0))
    lane.closed = {digest("a"): (17, 0)}
    lane.held = {digest("b"): states.window_form(held("b", 11, 13))}
    return lane


def found(
    lanes: PartitionState | None = None,
    commit: tuple[int, str] | None = (15, '{"v":1,"n":3,"ptr":30}'),
    **changes: object,
) -> Restored:
    """Return what a journal holds whose newest base lies at offset 30."""
    usual = Restored(
        commit=Commit(*commit) if commit else None,
        state=[(30, base(lanes))] if lanes else [],
        state_start=30,
        state_end=32,
        outbox_start=0,
        outbox_end=8,
        first=0,
        input_start=0,
        input_end=100,
    )
    return msgspec.structs.replace(usual, **changes)


def begin(what: Restored, rules: Mapping[str, str] = RULES) -> Opening:
    return opening.decide_stored(what, GROUP, TOPIC, rules, 99)


NOTHING = found(None, None, state_start=0, state_end=0, outbox_end=0, first=40)


class TestFirstStart:
    def test_a_group_that_stored_nothing_begins_where_it_was_told(self) -> None:
        start = begin(NOTHING)
        assert (StartOrigin.FIRST_START, 40, 40) == (start.origin, start.seek, start.state.read)

    def test_its_lanes_begin_there_and_deliver_from_the_outbox_end(self) -> None:
        lane = begin(NOTHING).state.lanes["acme"]
        expected = LaneState((40, 0), 40, (0, 0), seen=99, keying=[("device-1", (40, 0))])
        assert expected == lane

    def test_an_added_partition_begins_at_the_commit_stored_for_it(self) -> None:
        added = msgspec.structs.replace(NOTHING, commit=Commit(7, '{"v":1,"start":"earliest"}'))
        start = begin(added)
        assert (StartOrigin.FIRST_START, 7) == (start.origin, start.seek)

    def test_its_first_tick_has_to_be_a_base(self) -> None:
        assert begin(NOTHING).state.base_offset is None

    def test_without_connections_it_stands_at_the_start(self) -> None:
        assert 40 == begin(NOTHING, {}).seek


class TestKnownState:
    def test_a_known_lane_goes_on_as_stored(self) -> None:
        lane = begin(found(stored())).state.lanes["acme"]
        assert msgspec.msgpack.encode(kept()) == msgspec.msgpack.encode(lane)

    def test_collecting_goes_on_from_the_lowest_need(self) -> None:
        start = begin(found(stored()))
        assert (StartOrigin.STATE, 15) == (start.origin, start.seek)

    def test_the_state_is_believed_whatever_the_commit_says(self) -> None:
        behind = found(stored(), (2, '{"v":1,"n":1,"ptr":30}'))
        without = found(stored(), None)
        assert begin(found(stored())) == begin(behind) == begin(without)

    def test_an_unknown_lane_is_kept_and_does_not_set_the_place_to_read_from(self) -> None:
        gone = lane_state((4, 0), 10)
        start = begin(found(stored(acme=kept(), gone=gone)))
        assert (["gone"], gone, 15) == (start.unknown, start.state.lanes["gone"], start.seek)

    def test_a_new_lane_begins_at_what_the_partition_has_read(self) -> None:
        start = begin(found(stored()), {**RULES, "beta": "session-1"})
        lane = start.state.lanes["beta"]
        expected = LaneState((20, 0), 20, (8, 0), seen=99, keying=[("session-1", (20, 0))])
        assert (["beta"], expected) == (start.new, lane)

    def test_a_new_lane_is_written_with_the_next_tick(self) -> None:
        start = begin(found(stored()), {**RULES, "beta": "session-1"})
        assert {"beta"} == start.state.unwritten

    def test_a_changed_keying_holds_from_what_the_lane_has_read(self) -> None:
        start = begin(found(stored()), {"acme": "session-1"})
        expected = [("device-1", (0, 0)), ("session-1", (20, 0))]
        assert expected == start.state.lanes["acme"].keying
        assert {"acme"} == start.state.unwritten

    def test_an_unchanged_keying_is_not_written_again(self) -> None:
        assert set() == begin(found(stored())).state.unwritten


class TestOperatorsMove:
    MOVED = found(stored(acme=kept(), gone=lane_state((4, 0), 10)), (50, ""))

    def test_an_offset_without_metadata_is_obeyed(self) -> None:
        start = begin(self.MOVED)
        assert (StartOrigin.OPERATOR, 50, 50) == (start.origin, start.seek, start.state.read)

    @pytest.mark.parametrize("text", ["", "by hand", "123", "[]", '{"n":4}', "null", '"v"'])
    def test_whatever_no_tick_wrote_is_an_operators_word(self, text: str) -> None:
        assert StartOrigin.OPERATOR is begin(found(stored(), (50, text))).origin

    def test_every_lane_known_or_not_begins_there(self) -> None:
        lanes = begin(self.MOVED).state.lanes
        assert {"acme": ((50, 0), 50), "gone": ((50, 0), 50)} == {
            name: (lane.need, lane.read) for name, lane in lanes.items()
        }

    def test_open_windows_are_dropped_and_cursors_stay(self) -> None:
        lane = begin(self.MOVED).state.lanes["acme"]
        assert ({}, {}, (6, 0)) == (lane.closed, lane.held, lane.cursor)

    def test_the_next_tick_is_a_base_and_goes_on_counting(self) -> None:
        state = begin(self.MOVED).state
        assert (None, 3, set()) == (state.base_offset, state.n, state.base_held)

    def test_it_may_point_back(self) -> None:
        assert 2 == begin(found(stored(), (2, ""))).seek


class TestRefusals:
    @pytest.mark.parametrize(
        ("what", "why"),
        [
            (found(None, state_start=31), "state begins at offset 31, its newest base was at 30"),
            (found(None, state_end=29), "state ends at offset 29, its newest base was at 30"),
            (found(stored(n=2)), "state ends with tick 2, tick 3 was committed"),
            (found(None, state_start=0, state_end=0), "state ends at offset 0"),
            (found(None), "state is empty, tick 3 was committed"),
            (found(stored(obend=9)), "outbox ends at offset 8, but ended at 9"),
            (found(stored(), input_start=16), "records 15 to 15 of the input were deleted"),
            (found(stored(), input_end=14), "input ends at offset 14, but was read up to 20"),
            (found(stored(), input_end=19), "input ends at offset 19, but was read up to 20"),
            (found(stored(), (15, '{"v":2,"n":3}')), "format version 2"),
            (found(stored(), (15, '{"v":[],"n":3}')), r"format version \[\]"),
            (found(None, state=[(30, delta(4, 1))]), "is no base"),
        ],
    )
    def test_what_contradicts_itself_is_refused(self, what: Restored, why: str) -> None:
        with pytest.raises(RefusedError, match=why):
            begin(what)

    @pytest.mark.parametrize(
        "what",
        [
            found(None, state_start=31, number=4),
            found(stored(obend=9), number=4),
            found(stored(), input_start=16, number=4),
            found(stored(), input_end=19, number=4),
        ],
    )
    def test_a_refusal_says_with_which_command_to_go_on(self, what: Restored) -> None:
        with pytest.raises(RefusedError) as refusal:
            begin(what)
        command = f"`forwarder accept-loss --topic {TOPIC} --partition 4`"
        assert command in refusal.value.remedy

    @pytest.mark.parametrize("kind", ["state", "delta"])
    def test_a_damaged_state_names_the_command_too(self, kind: str) -> None:
        records = [(30, base(stored())), (31, delta(9, 25))] if kind == "delta" else []
        records = records or [(30, delta(4, 1))]
        with pytest.raises(RefusedError, match="forwarder accept-loss"):
            begin(found(None, state=records))

    def test_an_input_that_was_replaced_is_begun_anew_by_command(self) -> None:
        with pytest.raises(RefusedError, match="forwarder reset --to earliest"):
            begin(found(stored(), input_end=19))

    def test_batches_of_the_last_tick_are_missed_though_the_state_cannot_know_them(self) -> None:
        commit = (15, encode_metadata(CommitMetadata(3, 30, 9)))
        with pytest.raises(RefusedError, match="outbox ends at offset 8, but ended at 9"):
            begin(found(stored(), commit))
        assert 15 == begin(found(stored(), commit, outbox_end=9)).seek

    @pytest.mark.parametrize("left", [{"outbox_used": True}, {"state_start": 4, "state_end": 4}])
    def test_a_group_that_lost_offsets_and_state_is_no_first_start(
        self, left: dict[str, object]
    ) -> None:
        with pytest.raises(RefusedError, match=f"accept-loss --topic {TOPIC} .*--from T`"):
            begin(msgspec.structs.replace(NOTHING, **left))

    @pytest.mark.parametrize("left", [{"outbox_used": True}, {"state_start": 4, "state_end": 4}])
    def test_an_offset_set_from_outside_does_not_hide_a_lost_state(
        self, left: dict[str, object]
    ) -> None:
        moved = msgspec.structs.replace(NOTHING, commit=Commit(70, ""), **left)
        with pytest.raises(RefusedError, match="an offset and no state"):
            begin(moved)

    def test_the_place_of_an_unknown_lane_in_the_input_may_be_gone(self) -> None:
        gone = lane_state((4, 0), 10)
        assert 15 == begin(found(stored(acme=kept(), gone=gone), input_start=10)).seek

    def test_a_lane_whose_input_is_gone_stops_alone(self) -> None:
        gone = lane_state((4, 0), 10)
        rules = {**RULES, "gone": "device-1"}
        start = begin(found(stored(acme=kept(), gone=gone), input_start=10), rules)
        assert (15, ["gone"], ["gone"]) == (start.seek, [*start.unfed], [*start.stopped])
        assert "records 4 to 9 of the input were deleted" in start.stopped["gone"].what

    def test_a_partition_whose_input_is_gone_for_every_lane_is_refused(self) -> None:
        rules = {**RULES, "gone": "device-1"}
        what = found(stored(acme=kept(), gone=lane_state((4, 0), 10)), input_start=16)
        with pytest.raises(RefusedError, match="records 4 to 15 of the input were deleted"):
            begin(what, rules)

    def test_an_outbox_may_have_grown_beyond_what_the_state_knew(self) -> None:
        assert 15 == begin(found(stored(), outbox_end=99)).seek

    def test_a_lane_whose_batches_expired_stops_alone(self) -> None:
        behind, beta = kept(), kept()
        beta.cursor = (7, 0)
        start = begin(
            found(stored(acme=behind, beta=beta), outbox_start=7), {**RULES, "beta": "device-1"}
        )
        assert ["acme"] == list(start.stopped)
        assert "batches from 6 on expired" in start.stopped["acme"].what

    def test_a_quiet_lane_misses_nothing_though_its_outbox_expired_to_the_end(self) -> None:
        quiet = found(
            stored(),
            (15, encode_metadata(CommitMetadata(3, 30, 6))),
            outbox_start=8,
        )
        start = begin(msgspec.structs.replace(quiet, state=[(30, base(stored(obend=6)))]))
        assert ({}, (8, 0)) == (start.stopped, start.state.lanes["acme"].cursor)

    @pytest.mark.parametrize("n", [2, 3])
    def test_an_old_or_missing_end_excuses_no_lane(self, n: int) -> None:
        commit = (15, encode_metadata(CommitMetadata(n, 30, 6 if n == 2 else 0)))
        assert ["acme"] == list(begin(found(stored(obend=6), commit, outbox_start=8)).stopped)


class TestIdentity:
    """The id that Kafka gave the input topic when it was created."""

    KNOWN = PartitionState(3, 20, 8, {"acme": kept()}, extra={"input_id": "one"})

    def test_it_is_remembered_with_the_next_base(self) -> None:
        assert {"input_id": "one"} == begin(found(stored(), input_id="one")).state.extra

    def test_the_same_topic_is_taken_up_again(self) -> None:
        assert 15 == begin(found(self.KNOWN, input_id="one")).seek

    def test_another_topic_of_the_same_name_is_refused_however_long_it_is(self) -> None:
        with pytest.raises(RefusedError, match="created again: its id was one, is two") as refusal:
            begin(found(self.KNOWN, input_id="two"))
        assert "forwarder reset --to earliest" in refusal.value.remedy

    def test_an_operators_move_takes_up_the_other_topic(self) -> None:
        start = begin(found(self.KNOWN, (50, ""), input_id="two"))
        assert (StartOrigin.OPERATOR, {"input_id": "two"}) == (start.origin, start.state.extra)

    def test_a_broker_that_gives_no_ids_changes_nothing(self) -> None:
        assert {"input_id": "one"} == begin(found(self.KNOWN)).state.extra


def test_an_opening_twice_finds_the_same() -> None:
    once = begin(found(stored())).state
    again = begin(found(msgspec.structs.replace(once, base_offset=30))).state
    assert once == again


def test_deltas_after_the_base_count() -> None:
    records = [(30, base(stored())), (31, delta(4, 25))]
    state = begin(found(stored(), state=records)).state
    assert (4, 25) == (state.n, state.read)


def test_unknown_fields_of_a_known_lane_are_carried() -> None:
    lane = kept()
    lane.extra = {"shade": "blue"}
    assert {"shade": "blue"} == begin(found(stored(acme=lane))).state.lanes["acme"].extra


@pytest.mark.parametrize("commit", [(15, ""), None])
def test_what_was_stored_stays_as_it_is_whatever_is_decided(
    commit: tuple[int, str] | None,
) -> None:
    state = stored(acme=kept())
    what = found(state, commit, input_id="two") if commit else found(state)
    folded = fold_records(what.state, GROUP, TOPIC)
    before = msgspec.msgpack.encode(folded.lanes["acme"])
    start = opening.decide_start(what, folded, TOPIC, {**RULES, "new": "device-2"}, 99)
    assert before == msgspec.msgpack.encode(folded.lanes["acme"])
    assert (["acme"], {}, set()) == (list(folded.lanes), folded.extra, folded.unwritten)
    assert {"acme", "new"} == start.state.lanes.keys()
