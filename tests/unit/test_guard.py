"""When too much is rejected: counted over a minute and all partitions, whatever the polls."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder import guard
from forwarder.guard import LEAST, WITHIN, Guard
from forwarder.model import Collected, DeadLetter, Reason

Poll = tuple[float, int, int]
polls = st.lists(
    st.tuples(st.floats(0, 30, allow_nan=False), st.integers(0, 800), st.integers(0, 800)).map(
        lambda it: (it[0], it[1], min(it[1], it[2]))
    ),
    max_size=30,
)


def poll(records: int, rejected: int, lane: str = "") -> Collected:
    letters = [DeadLetter(Reason.INVALID_JSON, n, lane, "", b"") for n in range(rejected)]
    return Collected(records=records, dead_letters=letters)


@given(polls, st.integers(1, 100))
def test_it_trips_just_when_the_share_of_the_last_minute_is_too_large(
    given_polls: list[Poll], percent: int
) -> None:
    watch, now, seen = Guard(percent), 0.0, []
    for later, records, rejected in given_polls:
        now += later
        seen.append((now, records, rejected))
        watch.note(poll(records, rejected), now)
        # What is older than a minute by less than a second may still count.
        sure = [one for one in seen if int(one[0]) > now - WITHIN - 1]
        total, bad = sum(one[1] for one in sure), sum(one[2] for one in sure)
        assert (total >= LEAST and bad * 100 > total * percent) == bool(watch.tripped(now))


def test_it_never_trips_when_it_is_off_or_just_at_the_limit() -> None:
    off = Guard(0)
    off.note(poll(5000, 5000), 1.0)
    assert off.tripped(1.0) is None
    assert off.judge(poll(10, 10)) is None
    even = Guard(50)
    even.note(poll(2000, 1000), 1.0)
    assert even.tripped(1.0) is None
    even.note(poll(0, 1), 1.5)
    assert even.tripped(1.5) == (2000, 1001)


def test_a_few_odd_records_are_no_deploy() -> None:
    watch = Guard(50)
    watch.note(poll(LEAST - 1, LEAST - 1), 1.0)
    assert watch.tripped(1.0) is None


def test_what_was_answered_for_does_not_count_again() -> None:
    watch = Guard(50)
    watch.note(poll(LEAST, LEAST), 1.0)
    assert watch.tripped(1.0)
    watch.reset()
    assert watch.tripped(1.0) is None


@pytest.mark.parametrize(("lanes", "tripped"), [(1, True), (2, False), (10, False)])
def test_a_lane_that_rejects_everything_counts_for_its_part_alone(
    lanes: int,
    tripped: bool,  # noqa: FBT001
) -> None:
    watch = Guard(50, lanes)
    watch.note(poll(LEAST, LEAST, "acme"), 1.0)
    assert tripped == bool(watch.tripped(1.0))


def test_events_of_one_record_count_once_for_a_lane() -> None:
    letters = [DeadLetter(Reason.NOT_ENCODABLE, 7, lane, "", b"") for lane in ("a", "a", "b")]
    assert guard.share(Collected(records=1, dead_letters=letters), 2) == (1, 1.0)


def test_what_an_operator_sent_back_and_failed_again_stops_nobody() -> None:
    again = [DeadLetter(Reason.INVALID_JSON, n, "", "", b"", redriven=True) for n in range(LEAST)]
    watch = Guard(50)
    watch.note(Collected(records=LEAST, dead_letters=again), 1.0)
    assert watch.tripped(1.0) is None


def test_a_sample_is_judged_however_small_it_is() -> None:
    watch = Guard(50)
    assert watch.judge(poll(1, 1)) == (1, 1)
    assert watch.judge(poll(2, 1)) is None
    assert watch.judge(poll(0, 0)) is None
