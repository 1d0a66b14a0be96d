"""Stored batches sent once more, in virtual time."""

import asyncio
from typing import Any

import pytest

from forwarder.admin.outbox_range import OutboxRange, parse_edge
from forwarder.admin.replay import ReplayTotals, measure, replay
from forwarder.model import DELIVERED, Batch, Outcome
from tests import doubles
from tests.batches import batch
from tests.lanes import CONFIGURATION, REFUSED, TRANSIENT, Answer, Sink, failing_first
from tests.survey import P0, P1, Survey

ALL = OutboxRange()


def surveyed(count: int = 12) -> Survey:
    """Return a survey whose outbox holds batches of three devices, three to a record."""
    survey = Survey(P0)
    for first in range(0, count, 3):
        survey.kept[P0].store(
            *(batch(str(n), key=f"d{n % 3}", closed_at=n * 1000) for n in range(first, first + 3))
        )
        survey.kept[P0].store(batch("other", lane="beta"))
    return survey


def ids(sink: Sink) -> list[str]:
    return [one.id for one in sink.landed]


def ran(
    survey: Survey,
    sink: Sink,
    stretch: OutboxRange = ALL,
    *,
    rate: float = 0.0,
    told: Any = None,  # noqa: ANN401
) -> tuple[dict[str, Any], float]:
    """Run a replay to its end; return what it says and how long it took."""

    async def main() -> tuple[dict[str, Any], float]:
        partitions = list(survey.kept)
        tell = told.append if told is not None else (lambda _: None)
        document = await replay(
            survey,
            partitions,
            "acme",
            stretch,
            sink,
            rate=rate,
            clock=doubles.LoopClock(),
            tell=tell,
        )
        return document, asyncio.get_running_loop().time()

    return doubles.run_virtually(main())


def sink(answer: Answer = lambda _batch, _tried: DELIVERED) -> Sink:
    return Sink(answer)


def test_everything_is_sent_in_the_order_of_the_outbox_per_device_and_no_cursor_moves() -> None:
    survey, target = surveyed(), sink()
    document, _ = ran(survey, target)
    assert (12, True, []) == (document["sent"], document["complete"], document["resume"])
    for device in range(3):
        expected = [str(n) for n in range(12) if n % 3 == device]
        assert expected == [one for one in ids(target) if int(one) % 3 == device]
    assert [] == survey.steps


def test_only_what_was_closed_in_between_is_sent() -> None:
    survey, target = surveyed(), sink()
    survey.times = {0: 0}
    since, until = (
        parse_edge("1970-01-01T00:00:03Z", "--from"),
        parse_edge("1970-01-01T00:00:06Z", "--to"),
    )
    ran(survey, target, OutboxRange(since, until))
    assert ["3", "4", "5"] == ids(target)


def test_the_rate_is_kept_over_all_partitions_together() -> None:
    survey = surveyed(12)
    survey.kept[P1] = surveyed(12).kept[P0]
    target = sink()
    _, seconds = ran(survey, target, rate=2.0)
    assert 11.0 <= seconds <= 13.0
    assert 24 == len(target.landed)


def test_what_fails_is_sent_again_before_anything_later_of_its_device() -> None:
    target = sink(failing_first(3, TRANSIENT))
    document, _ = ran(surveyed(), target)
    assert 12 == document["sent"]
    assert ["0", "3", "6", "9"] == [one for one in ids(target) if int(one) % 3 == 0]


@pytest.mark.parametrize("mood", [TRANSIENT, CONFIGURATION])
def test_a_destination_that_fails_for_minutes_gets_everything_all_the_same(mood: Outcome) -> None:
    target = sink(failing_first(15, mood))
    document, seconds = ran(surveyed(), target)
    assert seconds > 10
    assert (12, True) == (document["sent"], document["complete"])


def test_a_put_that_a_library_cancels_ends_the_replay_instead_of_leaving_it_waiting() -> None:
    def cancelled(_batch: Batch, _tried: int) -> Outcome:
        raise asyncio.CancelledError

    document, seconds = ran(surveyed(), sink(cancelled))
    assert seconds < 60
    assert (0, False, ["raw-events/0:0.0"]) == (
        document["sent"], document["complete"], document["resume"],
    )  # fmt: skip
    assert "a put of acme was cancelled" in document["error"]


def test_what_is_refused_for_good_is_counted_and_the_rest_goes_on() -> None:
    def answer(one: Batch, _tried: int) -> Outcome:
        return REFUSED if one.id == "4" else DELIVERED

    document, _ = ran(surveyed(), sink(answer))
    assert (11, 1, True) == (document["sent"], document["refused"], document["complete"])
    assert "4: Validation" in document["last_refusal"]


def test_why_it_does_not_get_on_is_told_meanwhile() -> None:
    told: list[ReplayTotals] = []
    seen: list[dict[str, str]] = []

    class Teller(list[ReplayTotals]):
        def append(self, tally: ReplayTotals) -> None:
            seen.append(dict(tally.trouble))
            told.append(tally)

    document, _ = ran(surveyed(), sink(failing_first(2, CONFIGURATION)), told=Teller())
    assert {"raw-events/0": "paused: not allowed"} in seen
    assert {} == document["waiting_for"]
    assert told


def test_one_that_is_stopped_says_where_to_go_on_and_going_on_leaves_nothing_out() -> None:
    survey, target = surveyed(), sink()

    async def main() -> dict[str, Any]:
        task = asyncio.create_task(
            replay(survey, [P0], "acme", ALL, target, rate=1.0, clock=doubles.LoopClock())
        )
        await asyncio.sleep(4.5)
        task.cancel()
        return await task

    document = doubles.run_virtually(main())
    assert not document["complete"]
    assert ["0", "1", "2", "3", "4"] == ids(target)
    assert ["raw-events/0:4.2"] == document["resume"]

    ran(survey, target, OutboxRange(resume=parse_edge(",".join(document["resume"]), "--resume")))
    assert sorted(map(str, range(12))) == sorted(ids(target))


def test_what_would_be_sent_is_counted_without_sending() -> None:
    found = asyncio.run(measure(surveyed(), [P0], "acme", ALL))
    assert {"batches": 12, "bytes": 24, "oldest_ms": 0, "newest_ms": 11_000} == found
