"""What was lost, and the base that lets a partition open again."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder.admin import repair
from forwarder.admin.repair import LossDecision, LossKind, RepairCase, RepairPlan, Resend
from forwarder.errors import RefusedError
from forwarder.journal import opening
from forwarder.journal import state as states
from forwarder.journal.commit import CommitMetadata, decode_metadata, encode_metadata
from forwarder.journal.fold import fold_records
from forwarder.journal.opening import INPUT_ID, Restored
from forwarder.journal.state import (
    LaneChange,
    LaneState,
    LookBack,
    PartitionState,
    StateHeader,
)
from forwarder.model import Commit, DuplicateWindow
from tests.batches import GROUP, TOPIC, digest, held, lane_state

RULES = {"acme": "device-1", "beta": "device-1"}
BASE_AT = 30


def base(state: PartitionState, group: str = GROUP) -> bytes:
    head = StateHeader(states.BASE, state.n, group, TOPIC, state.read, state.obend)
    lanes = {name: states.lane_in_base(lane) for name, lane in state.lanes.items()}
    [value] = states.encode(head, state.extra, lanes)
    return value


def delta(n: int, read: int, **lanes: dict[str, object]) -> bytes:
    changes = {name: LaneChange(scalars) for name, scalars in lanes.items()}
    [value] = states.encode(StateHeader(states.DELTA, n, GROUP, TOPIC, read, 8), {}, changes)
    return value


def stored() -> PartitionState:
    """Return tick 3: acme holds a window from 15 on and has delivered up to 6, beta up to 4."""
    acme = lane_state((15, 1), 20, (6, 0))
    acme.closed = {digest("a"): (17, 0)}
    acme.held = {digest("b"): states.window_form(held("b", 11, 13))}
    beta = lane_state((20, 0), 20, (4, 2))
    beta.acked = frozenset({(5, 0), (7, 1)})
    gone = lane_state((12, 0), 12, (2, 0))
    gone.extra = {"shade": "blue"}
    lanes = {"acme": acme, "beta": beta, "gone": gone}
    return PartitionState(n=3, read=20, obend=8, lanes=lanes)


def found(**changes: object) -> Restored:
    """Return what is found of a partition that lost nothing; its last tick is 5."""
    later: dict[str, dict[str, object]] = {"acme": {"cursor": (7, 0), "acked": []}}
    usual = Restored(
        commit=Commit(12, encode_metadata(CommitMetadata(5, BASE_AT))),
        state=[(30, base(stored())), (31, delta(4, 22, **later)), (33, delta(5, 24))],
        state_start=30,
        state_end=34,
        outbox_start=0,
        outbox_end=8,
        first=0,
        input_start=0,
        input_end=100,
    )
    return msgspec.structs.replace(usual, **changes)


def case(what: Restored) -> RepairCase:
    return RepairCase(GROUP, TOPIC, what, RULES, 99)


def examine(what: Restored, choice: LossDecision | None = None) -> RepairPlan:
    return repair.plan_repair(case(what), choice or LossDecision())


def kinds(plan: RepairPlan) -> list[LossKind]:
    return [loss.kind for loss in plan.losses]


def opened(what: Restored, plan: RepairPlan) -> opening.Opening:
    """Return the opening after the repair, which must find everything in order."""
    start = repair.check_opens(case(what), repair.build_snapshot(case(what), plan))
    assert {} == start.stopped
    return start


def test_a_partition_that_lost_nothing_has_nothing_to_accept() -> None:
    assert [] == examine(found()).losses


def test_a_group_that_never_began_has_nothing_to_accept() -> None:
    fresh = found(commit=None, state=[], state_start=0, state_end=0, outbox_end=0, input_start=7)
    assert [] == examine(fresh).losses


def test_how_duplicates_are_looked_for_stays_as_it_was() -> None:
    """The repair writes a tick of another number: without that it would say nothing any more."""
    look_back = LookBack(3, 0, 12, [DuplicateWindow(600_000, 10)])
    kept = msgspec.structs.replace(stored(), look_back=look_back)
    kept.lanes["acme"].seen_from = 11
    written = repair.build_snapshot(case(found()), RepairPlan([], kept))
    again = fold_records([(40, value) for value in written.values], GROUP, TOPIC)
    assert LookBack(4, 0, 12, [DuplicateWindow(600_000, 10)]) == again.look_back
    assert 11 == again.lanes["acme"].seen_from


class TestExpiredBatches:
    cut = found(outbox_start=7)

    def test_the_cursor_goes_to_the_outbox_start_and_keeps_what_was_acknowledged(self) -> None:
        plan = examine(self.cut)
        assert [(LossKind.BATCHES, ("beta",))] == [(x.kind, x.connections) for x in plan.losses]
        start = opened(self.cut, plan)
        beta = start.state.lanes["beta"]
        assert ((7, 0), frozenset({(7, 1)})) == (beta.cursor, beta.acked)

    def test_a_lane_that_lost_nothing_keeps_its_place(self) -> None:
        lanes = opened(self.cut, examine(self.cut)).state.lanes
        assert ((15, 1), 20, (7, 0)) == (
            lanes["acme"].need,
            lanes["acme"].read,
            lanes["acme"].cursor,
        )
        assert [digest("b")] == list(lanes["acme"].held)
        assert {"shade": "blue"} == lanes["gone"].extra
        assert (2, 0) == lanes["gone"].cursor

    def test_a_lane_that_delivered_all_there_was_lost_nothing(self) -> None:
        known = Commit(12, encode_metadata(CommitMetadata(5, BASE_AT, 6)))
        state = stored()
        state.n, state.obend = 5, 6
        quiet = found(commit=known, state=[(30, base(state))], outbox_start=8)
        plan = examine(quiet)
        assert [("beta",)] == [loss.connections for loss in plan.losses]
        assert (8, 0) == opened(quiet, plan).state.lanes["acme"].cursor

    def test_one_connection_alone_can_be_let_go_on(self) -> None:
        both = found(outbox_start=8)
        plan = examine(both, LossDecision(connection="acme"))
        assert [("acme",)] == [loss.connections for loss in plan.losses]
        start = repair.check_opens(case(both), repair.build_snapshot(case(both), plan))
        assert ["beta"] == list(start.stopped)


class TestOutboxThatEndsEarlier:
    short = found(outbox_end=5)

    def test_its_end_is_accepted_and_no_cursor_lies_beyond_it(self) -> None:
        plan = examine(self.short)
        assert [LossKind.OUTBOX] == kinds(plan)
        start = opened(self.short, plan)
        assert 5 == start.state.obend
        assert ((5, 0), (4, 2)) == (
            start.state.lanes["acme"].cursor,
            start.state.lanes["beta"].cursor,
        )
        assert frozenset() == start.state.lanes["beta"].acked

    def test_the_end_that_only_the_commit_knows_counts_too(self) -> None:
        known = Commit(12, encode_metadata(CommitMetadata(5, BASE_AT, 11)))
        assert [LossKind.OUTBOX] == kinds(examine(found(commit=known)))

    @pytest.mark.parametrize(("resend", "cursor"), [(Resend.ALL, (0, 0)), (Resend.NONE, (5, 0))])
    def test_the_operator_may_have_all_of_it_sent_or_nothing(
        self, resend: Resend, cursor: tuple[int, int]
    ) -> None:
        plan = examine(self.short, LossDecision(resend=resend))
        cursors = {lane.cursor for lane in opened(self.short, plan).state.lanes.values()}
        assert {cursor} == cursors


class TestLostState:
    emptied = found(state=[], state_start=0, state_end=0)

    def test_collecting_goes_on_at_the_commit_and_everything_stored_is_sent(self) -> None:
        start = opened(self.emptied, examine(self.emptied))
        assert (12, 12) == (start.seek, start.state.read)
        for lane in (start.state.lanes[name] for name in RULES):
            assert ((12, 0), 12, (0, 0)) == (lane.need, lane.read, lane.cursor)

    def test_ticks_are_counted_on(self) -> None:
        assert 6 == repair.build_snapshot(case(self.emptied), examine(self.emptied)).n

    def test_what_is_given_up_can_be_sent_from_the_end_instead(self) -> None:
        plan = examine(self.emptied, LossDecision(resend=Resend.NONE))
        assert (8, 0) == opened(self.emptied, plan).state.lanes["acme"].cursor

    def test_cursors_in_what_is_left_are_kept(self) -> None:
        cut = found(state_start=31, state=found().state[1:])
        start = opened(cut, examine(cut))
        assert ((7, 0), (0, 0)) == (
            start.state.lanes["acme"].cursor,
            start.state.lanes["beta"].cursor,
        )

    def test_a_later_base_makes_it_whole(self) -> None:
        newer = stored()
        newer.n = 5
        cut = found(state_start=32, state=[(33, base(newer))])
        plan = examine(cut)
        assert [LossKind.STATE] == kinds(plan)
        assert "nothing" in plan.losses[0].given_up
        assert (15, 1) == opened(cut, plan).state.lanes["acme"].need

    def test_an_older_state_goes_on_from_where_it_stood(self) -> None:
        short = found(state=found().state[:1], state_end=31)
        plan = examine(short)
        start = opened(short, plan)
        assert ((15, 1), 20, 20) == (start.state.lanes["acme"].need, 20, start.state.read)
        assert [digest("b")] == list(start.state.lanes["acme"].held)
        assert start.state.n == 6

    def test_a_damaged_record_costs_what_follows_it_but_no_acknowledgement(self) -> None:
        last = delta(5, 24, acme={"cursor": (8, 0)})
        torn = found(state=[found().state[0], (31, b"torn"), (33, last)])
        plan = examine(torn)
        assert "offset 31 is damaged" in plan.losses[0].what
        start = opened(torn, plan)
        assert (20, (8, 0)) == (start.state.read, start.state.lanes["acme"].cursor)

    def test_without_a_commit_the_operator_has_to_say_from_where(self) -> None:
        nothing = found(commit=None, state=[], state_start=0, state_end=0, outbox_used=True)
        assert examine(nothing).undecided
        plan = examine(nothing, LossDecision(begin=40))
        assert "" == plan.undecided
        assert 40 == opened(nothing, plan).seek

    def test_after_a_move_without_a_state_the_outbox_is_sent_from_its_start(self) -> None:
        moved = found(commit=Commit(70, ""), state=[], state_start=0, state_end=0, outbox_used=True)
        start = opened(moved, examine(moved))
        assert (70, (moved.outbox_start, 0)) == (start.seek, start.state.lanes["acme"].cursor)

    def test_an_operators_move_is_still_obeyed(self) -> None:
        moved = found(commit=Commit(70, ""), state=found().state[1:])
        assert 70 == opened(moved, examine(moved)).seek


class TestLostInput:
    def test_deleted_records_are_stepped_over_by_those_who_needed_them(self) -> None:
        cut = found(input_start=18)
        plan = examine(cut)
        assert [(LossKind.RECORDS, ("acme",))] == [(x.kind, x.connections) for x in plan.losses]
        lanes = opened(cut, plan).state.lanes
        assert ((18, 0), (20, 0), (12, 0)) == tuple(
            lanes[name].need for name in ("acme", "beta", "gone")
        )
        assert [digest("b")] == list(lanes["acme"].held)

    def test_so_they_are_where_every_connection_needed_them(self) -> None:
        cut = found(input_start=50)
        start = opened(cut, examine(cut))
        assert (50, 50) == (start.seek, start.state.read)

    def test_a_shorter_input_needs_a_choice(self) -> None:
        short = found(input_end=10)
        plan = examine(short)
        assert [LossKind.INPUT] == kinds(plan)
        assert plan.undecided
        chosen = examine(short, LossDecision(begin=10))
        start = opened(short, chosen)
        assert (10, 10) == (start.seek, start.state.read)
        assert {} == start.state.lanes["acme"].held
        assert (7, 0) == start.state.lanes["acme"].cursor

    def test_another_topic_under_the_same_name_needs_one_too(self) -> None:
        state = stored()
        state.n, state.extra = 5, {INPUT_ID: "old"}
        other = found(state=[(30, base(state))], input_id="new")
        assert [LossKind.INPUT] == kinds(examine(other))
        plan = examine(other, LossDecision(begin=0))
        assert 0 == opened(other, plan).seek


class TestWhatCannotBeAccepted:
    def test_a_later_release_is_none_of_our_business(self) -> None:
        with pytest.raises(RefusedError, match="later release"):
            examine(found(commit=Commit(12, '{"v":9,"n":5,"ptr":30}')))

    def test_nor_is_the_state_of_another_group(self) -> None:
        with pytest.raises(RefusedError, match="another group_id"):
            examine(found(state=[(30, base(stored(), group="other"))]))


damages = st.fixed_dictionaries(
    {},
    optional={
        "outbox_start": st.integers(0, 8),
        "outbox_end": st.integers(0, 12),
        "input_start": st.integers(0, 40),
        "input_end": st.integers(0, 40),
        "commit": st.sampled_from(
            [
                None,
                Commit(12, ""),
                Commit(12, encode_metadata(CommitMetadata(9, 30))),
                found().commit,
            ]
        ),
        "first": st.just(0),
    },
)


@settings(max_examples=200)
@given(damages, st.lists(st.integers(0, 2), unique=True), st.sets(st.integers(0, 2)))
def test_whatever_is_damaged_the_repaired_partition_opens_and_a_second_look_finds_nothing(
    damage: dict[str, int], kept: list[int], torn: set[int]
) -> None:
    records = [found().state[i] for i in sorted(kept)]
    records = [(at, b"torn" if i in torn else value) for i, (at, value) in enumerate(records)]
    bounds = {"state_start": records[0][0], "state": records} if records else {"state": ()}
    what = found(**{**damage, **bounds})
    if what.outbox_start > what.outbox_end or what.input_start > what.input_end:
        return
    plan = examine(what, LossDecision(begin=what.input_start))
    assert "" == plan.undecided
    if not plan.losses:
        assert {} == opening.decide_stored(what, GROUP, TOPIC, RULES, 99).stopped
        return
    start = opened(what, plan)
    for name, lane in start.state.lanes.items():
        assert lane.cursor <= (what.outbox_end, 0), name
    written = repair.build_snapshot(case(what), plan)
    again = [(what.state_end + i, value) for i, value in enumerate(written.values)]
    later = msgspec.structs.replace(
        what,
        commit=written.commit(what.state_end),
        state=[*records, *again],
        state_end=what.state_end + len(again) + 1,
    )
    assert [] == examine(later).losses


@given(st.integers(0, 8), st.integers(0, 24))
def test_a_lane_that_lost_nothing_keeps_need_read_and_cursor(outbox: int, records: int) -> None:
    what = found(outbox_start=outbox, input_start=records)
    before = fold_records(what.state, GROUP, TOPIC).lanes
    plan = examine(what)
    lost = {name for loss in plan.losses for name in loss.connections}
    for name in RULES.keys() - lost:
        lane: LaneState = plan.state.lanes[name]
        assert (before[name].need, before[name].read, before[name].cursor) == (
            lane.need,
            lane.read,
            lane.cursor,
        )


def test_a_stopped_intake_stays_stopped_through_a_repair() -> None:
    stopped = encode_metadata(CommitMetadata(5, BASE_AT, stopped=1_700))
    what = found(commit=Commit(12, stopped), outbox_start=8)
    plan = examine(what)
    assert plan.losses
    again = decode_metadata(repair.build_snapshot(case(what), plan).commit(34))
    assert again is not None
    assert (6, 34, 1_700) == (again.n, again.ptr, again.stopped)
