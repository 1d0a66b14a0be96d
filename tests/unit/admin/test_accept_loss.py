"""Moving a partition and accepting a loss: what is looked at, and in which order it is written."""

import argparse
import asyncio
from typing import Any

import pytest

from forwarder.admin import accept_loss, reset
from forwarder.admin.accept_loss import AcceptLossRequest
from forwarder.admin.outbox import BatchFilter, show_batches
from forwarder.admin.outbox_range import OutboxRange
from forwarder.admin.repair import RepairPlan
from forwarder.admin.reset import Move, Target
from forwarder.cli import common
from forwarder.clock import SystemClock
from forwarder.errors import ConfigurationError, ForwarderError, JournalError
from forwarder.journal import opening
from forwarder.journal import state as states
from forwarder.journal.commit import CommitMetadata, encode_metadata
from forwarder.journal.state import PartitionState
from forwarder.kafka.admin import GroupMember, GroupState
from forwarder.model import Commit
from tests import doubles
from tests.batches import batch, digest, held, lane_state
from tests.survey import P0, P1, Kept, Survey, Writer, committed

RULES = {"acme": "device-1"}
BUSY = GroupState("Stable", [GroupMember("pod-1", "h", frozenset({P0}))])


def surveyed() -> Survey:
    """Return a partition read to 90 that holds a window from 80 on and delivered up to (2, 0)."""
    survey = Survey(P0)
    kept = survey.kept[P0]
    for ident in "abc":
        kept.store(batch(ident), batch(f"{ident}{ident}"))
    state = PartitionState(n=5, read=90, obend=kept.outbox_end)
    state.lanes["acme"] = lane_state((80, 0), 90, (2, 0))
    state.lanes["acme"].held = {digest("k"): states.window_form(held("k", 80))}
    kept.state, kept.commit = state, committed(80, 5)
    return survey


def planned(survey: Survey, target: Target) -> list[Move]:
    return asyncio.run(reset.plan(survey, list(survey.kept), target))


class TestReset:
    def test_it_tells_what_comes_twice_and_what_is_left_out(self) -> None:
        back, on = (planned(surveyed(), Target(offset=at))[0].document() for at in (70, 95))
        assert (20, 0, 1, None) == (
            back["records_again"], back["records_left_out"], back["windows_dropped"],
            back["open_from"],
        )  # fmt: skip
        assert (0, 5, 1, 80) == (
            on["records_again"], on["records_left_out"], on["windows_dropped"], on["open_from"]
        )  # fmt: skip

    def test_words_and_times_are_resolved_for_each_partition(self) -> None:
        survey = surveyed()
        survey.kept[P1] = Kept()
        survey.times = {1_000: 33}
        assert [0, 0] == [move.to for move in planned(survey, Target(word="earliest"))]
        assert [100, 100] == [move.to for move in planned(survey, Target(word="latest"))]
        assert [33, 33] == [move.to for move in planned(survey, Target(time_ms=900))]
        late = planned(survey, Target(time_ms=2_000))[0]
        assert (100, "no record is as new: the end") == (late.to, late.note)

    def test_an_offset_is_of_one_partition_and_inside_its_log(self) -> None:
        survey = surveyed()
        with pytest.raises(ConfigurationError, match="holds offsets 0 to 100, not 101"):
            planned(survey, Target(offset=101))
        survey.kept[P1] = Kept()
        with pytest.raises(ConfigurationError, match="add --topic and --partition"):
            planned(survey, Target(offset=5))

    def test_it_is_committed_without_metadata_and_obeyed_by_the_next_opening(self) -> None:
        survey = surveyed()
        asyncio.run(reset.apply_reset(survey, planned(survey, Target(offset=70))))
        assert ["fence", "commit", "close"] == survey.steps
        assert Commit(70, "") == survey.kept[P0].commit
        found = asyncio.run(survey.find(P0))
        start = opening.decide_stored(found, survey.group_id, P0.topic, RULES, 1)
        assert (70, opening.StartOrigin.OPERATOR) == (start.seek, start.origin)
        assert (2, 0) == start.state.lanes["acme"].cursor

    def test_a_state_that_is_lost_is_not_hidden_by_a_move(self) -> None:
        survey = surveyed()
        survey.kept[P0].state = None
        for commit in (committed(80, 5), None):
            survey.kept[P0].commit = commit
            with pytest.raises(ForwarderError, match="let `forwarder accept-loss` go on"):
                planned(survey, Target(word="earliest"))

    def test_what_an_earlier_move_has_hidden_is_said(self) -> None:
        survey = surveyed()
        survey.kept[P0].state, survey.kept[P0].commit = None, Commit(80, "")
        [move] = planned(survey, Target(word="earliest"))
        assert "what waits in the outbox is left out" in move.note

    def test_a_group_that_has_stored_nothing_yet_may_be_moved(self) -> None:
        [move] = planned(Survey(P0), Target(word="latest"))
        assert (100, "") == (move.to, move.note)

    def test_another_groups_state_is_not_mended_by_an_offset(self) -> None:
        survey = surveyed()
        survey.group_id = "other"
        with pytest.raises(ForwarderError, match=r"cannot be moved: .*another group_id"):
            planned(survey, Target(word="earliest"))

    def test_a_commit_that_is_not_answered_may_have_moved_it(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def unanswered(*_: object) -> list[int]:
            text = "Kafka did not finish"
            raise JournalError(text)

        monkeypatch.setattr(Writer, "commit", unanswered)
        survey = surveyed()
        moves = planned(survey, Target(offset=70))
        with pytest.raises(ForwarderError, match=r"may be moved or not, .* did not finish"):
            asyncio.run(reset.apply_reset(survey, moves))

    def test_a_group_with_members_is_left_alone_even_if_they_came_at_the_last_moment(self) -> None:
        survey = surveyed()
        survey.groups = [BUSY]
        with pytest.raises(ForwarderError, match=r"is active .*pod-1"):
            asyncio.run(reset.refuse_if_active(survey))
        with pytest.raises(ForwarderError, match="was not moved"):
            asyncio.run(reset.apply_reset(survey, planned(survey, Target(offset=70))))
        assert ["fence", "close"] == survey.steps


class TestAcceptLoss:
    wish = AcceptLossRequest(P0, RULES)

    def agreed(self, survey: Survey, wish: AcceptLossRequest | None = None) -> RepairPlan:
        looking = accept_loss.find_losses(survey, wish or self.wish, SystemClock())
        return doubles.run_virtually(looking)

    def accept(self, survey: Survey, plan: RepairPlan) -> Any:  # noqa: ANN401
        return asyncio.run(accept_loss.accept_losses(survey, self.wish, SystemClock(), plan.losses))

    def test_the_owner_is_fenced_before_the_base_is_written_with_a_commit_that_points_to_it(
        self,
    ) -> None:
        survey = surveyed()
        survey.kept[P0].outbox_start = 4
        plan = self.agreed(survey)
        written = self.accept(survey, plan)
        assert ["fence", "commit", "close"] == survey.steps
        assert Commit(80, encode_metadata(CommitMetadata(6, 50))) == survey.kept[P0].commit
        document = accept_loss.document(self.wish, plan, written)
        assert (True, 6, 80) == (
            document["accepted"], document["tick"], document["collects_from"]
        )  # fmt: skip
        assert ["batches"] == [loss["kind"] for loss in document["losses"]]

    def test_what_was_not_shown_is_not_accepted(self) -> None:
        survey = surveyed()
        survey.kept[P0].outbox_start = 4
        plan = self.agreed(survey)
        survey.kept[P0].input.start = 85
        with pytest.raises(ForwarderError, match="changed meanwhile"):
            self.accept(survey, plan)
        assert ["fence", "close"] == survey.steps

    def test_a_choice_of_offset_is_taken_as_a_word_or_a_number(self) -> None:
        survey = surveyed()
        survey.kept[P0].input.end = 60
        assert self.agreed(survey).undecided
        for begin, expected in (("earliest", 0), ("latest", 60), ("7", 7)):
            plan = self.agreed(survey, AcceptLossRequest(P0, RULES, begin=begin))
            assert ("", expected) == (plan.undecided, plan.state.read)

    def test_one_connection_alone_is_not_let_go_on_where_all_of_the_partition_is_concerned(
        self,
    ) -> None:
        survey = surveyed()
        survey.kept[P0].input.end = 60
        with pytest.raises(ForwarderError, match="first, without --connection"):
            self.agreed(survey, AcceptLossRequest(P0, RULES, connection="acme"))

    def test_what_looks_lost_for_a_moment_only_is_no_loss(self) -> None:
        survey = surveyed()
        kept = survey.kept[P0]
        kept.commit = committed(80, 6)

        async def main() -> RepairPlan:
            looking = asyncio.create_task(accept_loss.find_losses(survey, self.wish, SystemClock()))
            await asyncio.sleep(0.3)
            kept.commit = committed(80, 5)
            return await looking

        assert [] == doubles.run_virtually(main()).losses

    def test_another_groups_state_is_no_loss(self) -> None:
        survey = surveyed()
        survey.group_id = "other"
        with pytest.raises(ForwarderError, match=r"cannot be accepted: .*another group_id"):
            self.agreed(survey)


def test_without_a_terminal_nobody_is_asked_and_nothing_is_done() -> None:
    args = argparse.Namespace(yes=False)
    with pytest.raises(ConfigurationError, match="add --yes"):
        common.confirm(args)
    assert common.confirm(argparse.Namespace(yes=True))


def shown(survey: Survey, wanted: BatchFilter) -> list[tuple[str, str]]:
    async def main() -> list[tuple[str, str]]:
        found = show_batches(survey, [P0], wanted, payload=True)
        return [(one["id"], one["state"]) async for one in found]

    return asyncio.run(main())


def test_what_is_stored_is_delivered_or_waiting_as_the_cursor_says() -> None:
    survey, everything = surveyed(), BatchFilter("acme", OutboxRange())
    states_of = [state for _, state in shown(survey, everything)]
    assert ["delivered"] * 2 + ["waiting"] * 4 == states_of
    waiting = everything._replace(waiting=True)
    assert ["b", "bb", "c", "cc"] == [ident for ident, _ in shown(survey, waiting)]
    assert [("cc", "waiting")] == shown(survey, everything._replace(ids=frozenset({"cc"})))
    assert [] == shown(survey, everything._replace(mpid="7"))
    assert 6 == len(shown(survey, everything._replace(key=digest("device").hex()[:6])))


def test_of_a_connection_nobody_knows_the_state_is_unknown() -> None:
    survey = surveyed()
    survey.kept[P0].store(batch("x", lane="gone"))
    assert [("x", "unknown")] == shown(survey, BatchFilter("gone", OutboxRange()))
