"""What is left of input topics that are not configured: listed, counted, and what a start does."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from structlog.testing import capture_logs

from forwarder.admin import retired_topics
from forwarder.admin.status import LEFT_AT_ONCE, status
from forwarder.cli.status import _remarks
from forwarder.errors import ForwarderError, JournalError, StartupError
from forwarder.journal import opening
from forwarder.journal import state as states
from forwarder.journal.commit import CommitMetadata, encode_metadata
from forwarder.journal.opening import Restored
from forwarder.journal.state import PartitionState
from forwarder.model import Commit, Partition
from forwarder.ops.diagnosis import Finding, FindingGrade, fail
from forwarder.worker.retired_topics import LeftTopicsMonitor
from tests import doubles
from tests.batches import batch, held, lane_state
from tests.survey import P0, Kept, Survey, committed

RULES = {"acme": "device-1"}
NOW = 100_000
LEFT = Partition("raw-old", 0)


def leave(survey: Survey, batches: int, partition: Partition = LEFT, read: int = 90) -> None:
    """Have a partition of a topic that is not configured, with batches that are not delivered."""
    kept = survey.kept[partition] = Kept()
    for i in range(batches):
        kept.store(batch(f"old{i}", closed_at=60_000))
    state = PartitionState(n=5, read=read, obend=kept.outbox_end)
    state.lanes["acme"] = lane_state((read, 0), read, (0, 0))
    kept.state, kept.commit = state, committed(read, 5)


def surveyed(batches: int = 2) -> Survey:
    """Return a configured partition that is done, and one of another topic, read to 90 of 100."""
    survey = Survey(P0)
    leave(survey, batches)
    return survey


def finished() -> Survey:
    """Return a survey of which the other topic is finished."""
    survey = surveyed(0)
    survey.kept[LEFT].input.end = 90
    return survey


def silenced(survey: Survey, *silent: Partition) -> list[Partition]:
    """Let Kafka not answer for these partitions; return the list of those it was asked for."""
    find, asked = survey.find, []

    async def answer(
        partition: Partition, *, whole: bool = False, left_out: bool = False
    ) -> Restored:
        asked.append(partition)
        await asyncio.sleep(1.0)
        if partition in silent:
            text = f"Kafka did not tell {partition}"
            raise JournalError(text)
        return await find(partition, whole=whole, left_out=left_out)

    survey.find = answer  # type: ignore[method-assign]  # a Kafka that is partly away
    return asked


def stand(survey: Survey) -> dict[str, Any]:
    return doubles.run_virtually(status(survey, RULES, NOW, (), deep=False))


def rests(survey: Survey) -> list[retired_topics.LeftTopic]:
    return retired_topics.left_topics(stand(survey)["partitions"])


def start(
    survey: Survey, left_topics: retired_topics.LeftTopicsCheck
) -> retired_topics.LeftTopicsReport:
    return doubles.run_virtually(left_topics.check(survey, NOW))


def started(survey: Survey, retired: Sequence[str] = ()) -> retired_topics.LeftTopicsReport:
    """Start as a worker does: try again as long as the check asks for it."""
    left_topics = retired_topics.LeftTopicsCheck(RULES, retired)
    for _ in range(retired_topics.TRIES):
        try:
            return start(survey, left_topics)
        except StartupError:
            raise
        except ForwarderError:
            continue
    msg = "the worker waits for ever"
    raise AssertionError(msg)


NOTHING = retired_topics.LeftTopicsReport([], [])


class TestWhatIsListed:
    def test_what_is_left_of_a_topic_taken_out_is_listed_counted_and_said(self) -> None:
        document = stand(surveyed())
        assert [True, False] == [one["configured"] for one in document["partitions"]]
        [acme] = document["connections"]
        assert 2 == acme["batches_behind"]
        [remark] = _remarks(document)
        for part in ("raw-old", "2 batches", "acme", "10 records", "journal.retired_topics"):
            assert part in remark

    def test_a_topic_taken_out_and_deleted_is_counted_by_its_outbox(self) -> None:
        survey = surveyed()
        survey.deleted.add(LEFT)
        assert [(2, 0, [])] == [(one.batches, one.unsettled, one.faults) for one in rests(survey)]

    def test_nothing_is_said_of_a_topic_that_is_finished_or_was_never_read(self) -> None:
        survey = finished()
        assert [] == rests(survey)
        survey.kept[LEFT] = Kept()
        assert [] == rests(survey)

    def test_records_of_another_topic_under_the_same_name_are_not_what_is_left(self) -> None:
        survey = finished()
        survey.ids[LEFT] = "second"
        survey.kept[LEFT].input.end = 5_000
        state = survey.kept[LEFT].state
        assert state is not None
        state.extra = {opening.INPUT_ID: "first"}
        assert [] == rests(survey)
        state.extra = {}
        survey.kept[LEFT].input.end = 50
        assert [] == rests(survey), "shorter than it was read"
        state.lanes["acme"].held = {b"k" * 16: states.window_form(held("k", 80))}
        assert [(0, 1, 0, [])] == [
            (one.batches, one.held, one.unsettled, one.faults) for one in rests(survey)
        ]

    def test_what_kafka_does_not_tell_is_unknown_and_not_unfinished(self) -> None:
        survey = finished()
        silenced(survey, LEFT)
        document = stand(survey)
        [rest] = retired_topics.left_topics(document["partitions"])
        assert (False, FindingGrade.NOTE) == (
            rest.is_unfinished(),
            rest.finding(retired=False).grade,
        )
        [remark, _] = _remarks(document)
        assert "did not tell raw-old/0" in remark
        assert "put it back" not in remark
        assert FindingGrade.FAIL == rests(surveyed())[0].finding(retired=False).grade
        assert FindingGrade.NOTE == rests(surveyed())[0].finding(retired=True).grade


class TestTheStart:
    def test_a_worker_does_not_start_while_anything_is_left(self) -> None:
        with pytest.raises(StartupError, match=r"topic raw-old: 2 batches .* put it back"):
            started(surveyed())
        assert NOTHING == started(finished())
        assert NOTHING == started(Survey(P0))

    def test_what_is_given_up_is_named_and_not_read(self) -> None:
        survey = surveyed()
        asked = silenced(survey, LEFT)
        assert retired_topics.LeftTopicsReport(["raw-old"], []) == started(
            survey, ["raw-old", "long-gone"]
        )
        assert [] == asked

    def test_what_kafka_does_not_tell_is_tried_again_and_then_keeps_nobody(self) -> None:
        survey = finished()
        asked = silenced(survey, LEFT)
        retired, [one] = started(survey)
        assert (retired_topics.TRIES, []) == (len(asked), retired)
        assert "did not tell raw-old/0" in one.what
        assert "journal.retired_topics" in one.remedy

    def test_what_is_known_to_be_left_keeps_a_worker_beside_what_is_not_known(self) -> None:
        survey = surveyed()
        other = Partition("raw-older", 0)
        leave(survey, 0, other)
        silenced(survey, other)
        with pytest.raises(StartupError, match="raw-old: 2 batches"):
            started(survey)

    def test_a_state_that_cannot_be_read_is_unknown(self) -> None:
        survey = finished()
        text = encode_metadata(CommitMetadata(6, 0)).replace('"v":1', '"v":99')
        survey.kept[LEFT].commit = Commit(90, text)
        _, [one] = started(survey)
        assert "later release" in one.what

    def test_a_few_partitions_are_looked_at_together_and_none_of_a_topic_that_is_away(self) -> None:
        survey = Survey(P0)
        away = [Partition("away", number) for number in range(5 * LEFT_AT_ONCE)]
        there = [Partition("there", number) for number in range(2 * LEFT_AT_ONCE)]
        for partition in away + there:
            leave(survey, 0, partition, read=100)
        asked = silenced(survey, *away)
        together = 0

        async def main() -> None:
            nonlocal together
            looking = asyncio.ensure_future(
                retired_topics.LeftTopicsCheck(RULES, ()).check(survey, NOW)
            )
            await asyncio.sleep(0.5)
            together = len(asked)
            with pytest.raises(ForwarderError, match="did not tell"):
                await looking

        doubles.run_virtually(main())
        assert (LEFT_AT_ONCE, LEFT_AT_ONCE + 2 * LEFT_AT_ONCE) == (together, len(asked))


class Looks:
    """Finds one after the other of what it is given, and then nothing."""

    def __init__(self, *found: retired_topics.LeftTopicsReport | ForwarderError) -> None:
        self.found = list(found)
        self.times: list[float] = []

    async def __call__(self) -> retired_topics.LeftTopicsReport:
        self.times.append(asyncio.get_running_loop().time())
        found = self.found.pop(0) if self.found else NOTHING
        if isinstance(found, ForwarderError):
            raise found
        return found


UNKNOWN: list[Finding] = [fail("topic raw-old: what cannot be looked at: no leader", "look")]


def said(looks: Looks, seconds: float) -> list[tuple[str, str]]:
    """Let a worker begin and go on for so long; return what it logged."""

    async def main() -> None:
        left = LeftTopicsMonitor(looks)
        await left.check_start()
        chore = asyncio.create_task(left.run())
        await asyncio.sleep(seconds)
        chore.cancel()
        await asyncio.gather(chore, return_exceptions=True)

    with capture_logs() as lines:
        doubles.run_virtually(main())
    return [(line["event"], str(line.get("topic") or line.get("what"))) for line in lines]


class TestAWorkerThatRuns:
    def test_what_is_given_up_is_said_and_what_is_known_is_not_looked_at_again(self) -> None:
        looks = Looks(retired_topics.LeftTopicsReport(["raw-old"], []))
        assert [("left_topic.retired", "raw-old")] == said(looks, 1e5)
        assert 1 == len(looks.times)

    def test_what_was_unknown_is_looked_at_less_and_less_often_until_it_is_known(self) -> None:
        unknown = retired_topics.LeftTopicsReport([], UNKNOWN)
        looks = Looks(unknown, ForwarderError("Kafka is away"), *[unknown] * 8)
        assert [("left_topic.unknown", UNKNOWN[0].what)] == said(looks, 1e6)
        pauses = [b - a for a, b in zip(looks.times, looks.times[1:], strict=False)]
        assert [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600, 3600] == pauses

    def test_what_turns_out_to_be_left_is_said_and_ends_no_worker(self) -> None:
        left = StartupError("2 batches", "put it back")
        looks = Looks(retired_topics.LeftTopicsReport([], UNKNOWN), left, left)
        assert [
            ("left_topic.unknown", UNKNOWN[0].what),
            ("left_topic.unfinished", "2 batches"),
            ("left_topic.unfinished", "2 batches"),
        ] == said(looks, 1e6)
