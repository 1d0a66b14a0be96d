"""How everything stands, from what is stored alone."""

import asyncio
import dataclasses
from typing import Any

import pytest
from msgspec.structs import replace

from forwarder.admin import backlog
from forwarder.admin.status import AT_ONCE, status
from forwarder.cli.output import WIDTH
from forwarder.cli.status import _lines, _remarks
from forwarder.config.settings import LimitSettings
from forwarder.errors import JournalError
from forwarder.journal import state as states
from forwarder.journal.commit import CommitMetadata, encode_metadata, metadata_hint
from forwarder.journal.opening import Restored
from forwarder.journal.state import PartitionState
from forwarder.kafka.admin import GroupMember, GroupState
from forwarder.model import Commit, OpenTransaction, Partition
from forwarder.ops.diagnosis import fail
from tests import doubles
from tests.batches import batch, held, lane_state
from tests.survey import NOBODY, P0, P1, Kept, Survey, committed

RULES = {"acme": "device-1"}
NOW = 100_000


def stand(survey: Survey, *, deep: bool = False) -> dict[str, Any]:
    return doubles.run_virtually(status(survey, RULES, NOW, (), deep=deep))


def surveyed(records: int = 3) -> Survey:
    """Return a partition read to 90 of 100 whose outbox holds two batches to a record."""
    survey = Survey(P0)
    kept = survey.kept[P0]
    for i in range(records):
        closed = [batch(f"{i}{j}", closed_at=10_000 * (i + 1)) for j in "ab"]
        kept.store(*closed)
    state = PartitionState(n=5, read=90, obend=kept.outbox_end)
    state.lanes["acme"] = lane_state((80, 0), 90, (0, 1))
    state.lanes["acme"].acked = frozenset({(2, 0)})
    state.lanes["acme"].held = {b"k" * 16: states.window_form(held("k", 80))}
    kept.state, kept.commit = state, committed(80, 5)
    return survey


def test_lag_is_counted_from_what_was_read_and_from_what_is_committed() -> None:
    [one] = stand(surveyed())["partitions"]
    assert (100, 90, 80, 10, 20) == (
        one["input_end"], one["read"], one["watermark"], one["lag_read"], one["lag_commit"]
    )  # fmt: skip
    assert (5, 30, 1, True) == (
        one["tick"], one["base_offset"], one["held_windows"], one["opens"]
    )  # fmt: skip


def stalled(survey: Survey) -> dict[str, Any]:
    [one] = stand(survey)["partitions"]
    return one["stalled"] or {}


def test_an_open_transaction_is_lag_and_told_with_whose_it_is_and_since_when() -> None:
    survey = surveyed()
    kept = survey.kept[P0]
    kept.input.end = 90
    assert {} == stalled(survey)
    survey.high[P0] = 151
    [one] = stand(survey)["partitions"]
    assert (90, 151, 61, 71) == (
        one["input_end"], one["input_high_watermark"], one["lag_read"], one["lag_commit"]
    )  # fmt: skip
    assert ("open_transaction", None) == (stalled(survey)["reason"], stalled(survey)["since"])
    survey.open[P0] = OpenTransaction(4711, 50_000, "billing-7", 60_000)
    told = stalled(survey)
    assert ("billing-7", 4711, "1970-01-01T00:00:50Z") == (
        told["transactional_id"], told["producer_id"], told["since"]
    )  # fmt: skip
    [remark] = _remarks(stand(survey))
    assert "not read beyond 90" in remark
    assert "billing-7" in remark
    assert "transaction.timeout.ms" in remark


def test_what_nobody_owns_while_workers_run_is_told() -> None:
    survey = surveyed()
    survey.groups = [GroupState("Stable", [GroupMember("w", "h", frozenset({P1}))])]
    assert "unowned" == stalled(survey)["reason"]
    survey.groups = [GroupState("PreparingRebalance", [GroupMember("w", "h", frozenset())])]
    assert {} == stalled(survey), "it is being given out"
    survey.groups = [NOBODY]
    assert {} == stalled(survey), "no worker runs, as the first line says"


def test_a_transaction_that_a_producer_at_work_has_open_is_lag_and_nothing_more() -> None:
    survey = surveyed()
    survey.kept[P0].input.end = 90
    survey.high[P0] = 92
    survey.open[P0] = OpenTransaction(4711, NOW - 500)
    [one] = stand(survey)["partitions"]
    assert (2, None) == (one["lag_read"], one["stalled"])
    survey.open.clear()
    survey.later[P0] = 92
    assert {} == stalled(survey), "it has ended meanwhile"


def test_a_transaction_whose_begin_is_not_told_is_told_however_late_its_producer_wrote() -> None:
    survey = surveyed()
    survey.kept[P0].input.end = 90
    survey.high[P0] = 151
    survey.open[P0] = OpenTransaction(4711, wrote_ms=50_000)
    told = stalled(survey)
    assert (None, "1970-01-01T00:00:50Z") == (told["since"], told["last_wrote"])
    assert "is open, and last wrote at 1970-01-01T00:00:50" in told["what"]
    survey.open[P0] = OpenTransaction(4711, wrote_ms=NOW - 500)
    assert "open_transaction" == stalled(survey)["reason"]
    survey.open[P0] = OpenTransaction(4711, NOW - 60_000, wrote_ms=NOW - 500)
    assert "since" in stalled(survey)["what"]
    survey.open[P0] = OpenTransaction(4711, wrote_ms=NOW - 500)
    survey.later[P0] = 92
    assert {} == stalled(survey), "it has ended meanwhile"


def test_what_only_the_owner_knows_is_told_by_its_commit() -> None:
    survey = surveyed()
    kept = survey.kept[P0]
    assert kept.commit is not None
    said = replace(metadata_hint(kept.commit), paused="memory_short", paused_since=70_000)
    kept.commit = Commit(kept.commit.offset, encode_metadata(said))
    assert {} == stalled(survey), "nobody owns it: that one has gone"
    survey.groups = [GroupState("Stable", [GroupMember("w", "h", frozenset({P1}))])]
    assert "unowned" == stalled(survey)["reason"]
    survey.groups = [GroupState("Stable", [GroupMember("w", "h", frozenset({P0}))])]
    assert ("memory_short", "1970-01-01T00:01:10Z") == (
        stalled(survey)["reason"], stalled(survey)["since"]
    )  # fmt: skip
    [remark] = _remarks(stand(survey))
    assert "limits.window_memory" in remark
    survey.kept[P0].input.end = 90
    assert {} == stalled(survey), "nothing is left to be read"


def test_a_stopped_intake_and_a_refusal_are_what_a_partition_stands_for() -> None:
    survey = surveyed()
    kept = survey.kept[P0]
    assert kept.commit is not None
    kept.commit = Commit(80, encode_metadata(CommitMetadata(5, 30, stopped=70_000)))
    assert "intake_stopped" == stalled(survey)["reason"]
    kept.commit = Commit(80, encode_metadata(CommitMetadata(6, 0)).replace('"v":1', '"v":99'))
    assert "refused" == stalled(survey)["reason"]


def test_what_waits_is_counted_from_the_cursor_without_what_was_acknowledged() -> None:
    [one] = stand(surveyed())["connections"]
    assert (4, True, 90.0) == (one["batches_behind"], one["exact"], one["seconds_behind"])


def test_a_backlog_too_long_to_be_read_is_a_lower_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "READ_BYTES", 1)
    monkeypatch.setattr(backlog, "LOOK_BYTES", 1)
    survey = surveyed(20)
    [bounded] = stand(survey)["connections"]
    assert (1, False, 90.0) == (
        bounded["batches_behind"], bounded["exact"], bounded["seconds_behind"]
    )  # fmt: skip
    [exact] = stand(survey, deep=True)["connections"]
    assert (38, True) == (exact["batches_behind"], exact["exact"])


def test_cursors_far_apart_are_each_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "READ_BYTES", 1)
    monkeypatch.setattr(backlog, "LOOK_BYTES", 1)
    survey = surveyed(20)
    kept = survey.kept[P0]
    kept.store(batch("late", lane="beta", closed_at=99_000))
    assert kept.state is not None
    kept.state.lanes["beta"] = lane_state((90, 0), 90, (40, 0))
    found = {one["connection"]: one for one in stand(survey)["connections"]}
    assert (1, 1.0) == (found["beta"]["batches_behind"], found["beta"]["seconds_behind"])
    assert (1, 90.0) == (found["acme"]["batches_behind"], found["acme"]["seconds_behind"])


def test_a_partition_that_would_not_open_says_why_and_shows_what_can_be_read() -> None:
    survey = surveyed()
    survey.kept[P0].input.end = 50
    [one] = stand(survey)["partitions"]
    assert not one["opens"]
    assert "the input ends at offset 50" in one["refusal"]
    assert 90 == one["read"]


def test_a_lane_is_known_new_or_unknown_and_its_error_is_told() -> None:
    survey = surveyed()
    kept = survey.kept[P0]
    kept.outbox_start = 4
    assert kept.state is not None
    kept.state.lanes["gone"] = lane_state((90, 0), 90, (6, 0))
    kept.state.lanes["gone"].seen = NOW
    kept.state.lanes["gone"].extra = {"trouble": {"reason": "AccessDenied: no", "since": NOW}}
    rules = {**RULES, "fresh": "device-1"}
    document = doubles.run_virtually(status(survey, rules, NOW, (), deep=False))
    found = {one["connection"]: one for one in document["connections"]}
    lanes = {name: one["lane"] for name, one in found.items()}
    assert {"acme": "known", "fresh": "new", "gone": "unknown"} == lanes
    assert "expired before they were delivered" in found["acme"]["error"]
    assert 1 == found["acme"]["partitions_stopped"]
    assert "AccessDenied: no" == found["gone"]["error"]
    [partition] = document["partitions"]
    kept_until = {one["connection"]: one["kept_until"] for one in partition["connections"]}
    assert {"acme": None, "fresh": None, "gone": "1970-01-02T00:01:40Z"} == kept_until


def test_members_own_partitions_and_connections_are_summed_over_them() -> None:
    survey = surveyed()
    survey.kept[P1] = Kept()
    survey.groups = [GroupState("Stable", [GroupMember("w", "h", frozenset({P1}))])]
    document = stand(survey)
    assert [None, "w"] == [one["owner"] for one in document["partitions"]]
    assert [P0, P1] == sorted(survey.left)
    [acme] = document["connections"]
    assert (4, "known") == (acme["batches_behind"], acme["lane"])


def test_a_cursor_below_the_outbox_is_counted_from_the_start_of_the_outbox() -> None:
    survey = surveyed()
    kept = survey.kept[P0]
    kept.outbox_start = 4
    del kept.outbox[0], kept.outbox[2]
    [one] = stand(survey)["connections"]
    assert (2, True) == (one["batches_behind"], one["exact"])


def test_a_commit_seen_before_its_records_does_not_make_a_partition_look_broken() -> None:
    survey = surveyed()
    kept = survey.kept[P0]
    kept.commit = committed(80, 6)

    async def main() -> dict[str, Any]:
        looking = asyncio.create_task(status(survey, RULES, NOW, (), deep=False))
        await asyncio.sleep(0.3)
        kept.commit = committed(80, 5)
        return await looking

    [one] = doubles.run_virtually(main())["partitions"]
    assert one["opens"]


def test_a_stopped_intake_is_told_with_since_when_and_what_to_do() -> None:
    survey = surveyed()
    survey.kept[P1] = Kept()
    stopped = CommitMetadata(5, 30, stopped=77_000)
    survey.kept[P0].commit = Commit(80, encode_metadata(stopped))
    document = stand(survey)
    since = [one["intake_stopped"] for one in document["partitions"]]
    assert ["1970-01-01T00:01:17Z", None] == since
    [remark] = _remarks(document)
    assert remark.startswith("raw-events/0 is not collected since 1970-01-01T00:01:17Z: more rec")
    assert "forwarder dead-letters list" in remark
    off = LimitSettings(rejected_percent=0)
    survey.settings = dataclasses.replace(survey.settings, limits=off)
    assert [] == list(_remarks(stand(survey)))


def silenced(survey: Survey, *silent: Partition) -> list[Partition]:
    """Let Kafka not answer for these partitions; return the list of those it was asked for."""
    find, asked = survey.find, []

    async def answer(
        partition: Partition, *, whole: bool = False, left_out: bool = False
    ) -> Restored:
        asked.append(partition)
        if partition in silent:
            text = f"Kafka did not tell {partition}"
            raise JournalError(text)
        return await find(partition, whole=whole, left_out=left_out)

    survey.find = answer  # type: ignore[method-assign]  # a Kafka that is partly away
    return asked


def test_a_partition_that_kafka_does_not_answer_for_leaves_the_others_alone() -> None:
    survey = surveyed()
    survey.kept[P1] = Kept()
    asked = silenced(survey, P1)
    one, other = stand(survey)["partitions"]
    assert (True, False) == (one["opens"], other["opens"])
    assert "did not tell raw-events/1" in other["refusal"]
    assert [P0, P1] == asked


def test_a_kafka_that_falls_silent_is_not_taken_for_partitions_that_would_not_open() -> None:
    many = [Partition(P0.topic, number) for number in range(5 * AT_ONCE)]
    survey = Survey(*many)
    asked = silenced(survey, *many)
    with pytest.raises(JournalError, match="did not tell"):
        stand(survey)
    assert many[:AT_ONCE] == asked


def test_what_keeps_a_worker_from_its_work_stands_below_the_tables() -> None:
    survey = surveyed()
    survey.found = [fail("topic t: Write not granted", "grant Write on topic t")]
    document = stand(survey)
    assert [{"what": "topic t: Write not granted", "remedy": "grant Write on topic t"}] == (
        document["complaints"]
    )
    assert "Kafka: topic t: Write not granted; grant Write on topic t" in list(_remarks(document))


def test_an_error_that_is_cut_in_the_table_stands_whole_below_it() -> None:
    document = stand(surveyed())
    document["connections"][0]["error"] = "why " * 100
    text = "\n".join(_lines(document, every=True))
    assert max(map(len, text.splitlines())) <= WIDTH
    assert 100 <= text.count("why")
