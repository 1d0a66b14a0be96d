"""When too much is rejected: counted over a minute and all partitions, whatever the polls."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder import app
from forwarder.config.connection import Connection, Status
from forwarder.config.settings import JournalSettings, LimitSettings
from forwarder.config.targets import FileTarget
from forwarder.journal.memory import MemoryJournals
from forwarder.model import Collected, DeadLetter, Reason
from forwarder.worker import reject_rate
from forwarder.worker.reject_rate import (
    MAX_AGE_SECONDS,
    MIN_RECORDS,
    RATE_WINDOW_SECONDS,
    RejectRate,
    RejectShare,
)
from tests.doubles import LoopClock, Notes

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


def exceeded(rate: RejectRate, now: float) -> RejectShare | None:
    rate.expire(now)
    return rate.exceeded()


@given(polls, st.integers(1, 100))
def test_it_trips_just_when_the_share_of_the_last_minute_or_thousand_is_too_large(
    given_polls: list[Poll], percent: int
) -> None:
    watch, now, seen = RejectRate(percent), 0.0, []
    for later, records, rejected in given_polls:
        now += later
        seen.append((now, records, rejected))
        watch.add(poll(records, rejected), now)
        total, bad = counted(seen, now)
        assert (total >= MIN_RECORDS and bad * 100 > total * percent) == bool(exceeded(watch, now))


def counted(seen: list[Poll], now: float) -> tuple[int, int]:
    """Return what counts: the last minute in whole seconds, or longer for a thousand records."""
    total = bad = 0
    for second in sorted({int(one[0]) for one in seen}, reverse=True):
        if second <= now - RATE_WINDOW_SECONDS - 1 and (
            total >= MIN_RECORDS or second <= now - MAX_AGE_SECONDS - 1
        ):
            break
        total += sum(one[1] for one in seen if int(one[0]) == second)
        bad += sum(one[2] for one in seen if int(one[0]) == second)
    return total, bad


def test_a_worker_that_gets_ten_records_a_second_is_guarded_as_well() -> None:
    """They never make a thousand within a minute, but a day of them makes 864,000 letters."""
    watch, letters = RejectRate(50), 0
    for second in range(86_400):
        watch.add(poll(10, 10), float(second))
        letters += 10
        if exceeded(watch, float(second)):
            break
    assert letters == MIN_RECORDS


def test_what_came_more_than_an_hour_ago_is_forgotten() -> None:
    watch = RejectRate(50)
    watch.add(poll(MIN_RECORDS - 1, MIN_RECORDS - 1), 1.0)
    watch.add(poll(1, 1), 3_700.0)
    assert exceeded(watch, 3_700.0) is None


def test_it_never_trips_when_it_is_off_or_just_at_the_limit() -> None:
    off = RejectRate(0)
    off.add(poll(5000, 5000), 1.0)
    assert exceeded(off, 1.0) is None
    assert off.sample_exceeds(poll(10, 10)) is None
    even = RejectRate(50)
    even.add(poll(2000, 1000), 1.0)
    assert exceeded(even, 1.0) is None
    even.add(poll(0, 1), 1.5)
    assert exceeded(even, 1.5) == (2000, 1001)


def test_a_few_odd_records_are_no_deploy() -> None:
    watch = RejectRate(50)
    watch.add(poll(MIN_RECORDS - 1, MIN_RECORDS - 1), 1.0)
    assert exceeded(watch, 1.0) is None


def test_what_was_answered_for_does_not_count_again() -> None:
    watch = RejectRate(50)
    watch.add(poll(MIN_RECORDS, MIN_RECORDS), 1.0)
    assert exceeded(watch, 1.0)
    watch.reset()
    assert exceeded(watch, 1.0) is None


@pytest.mark.parametrize(("lanes", "tripped"), [(1, True), (2, False), (10, False)])
def test_a_lane_that_rejects_everything_counts_for_its_part_alone(
    lanes: int,
    tripped: bool,  # noqa: FBT001
) -> None:
    watch = RejectRate(50, lanes)
    watch.add(poll(MIN_RECORDS, MIN_RECORDS, "acme"), 1.0)
    assert tripped == bool(exceeded(watch, 1.0))


def test_events_of_one_record_count_once_for_a_lane() -> None:
    letters = [DeadLetter(Reason.NOT_ENCODABLE, 7, lane, "", b"") for lane in ("a", "a", "b")]
    assert reject_rate.reject_share(Collected(records=1, dead_letters=letters), 2) == (1, 1.0)


def test_records_without_a_key_events_of_which_nothing_came_count_as_rejected() -> None:
    watch = RejectRate(50)
    watch.add(Collected(records=MIN_RECORDS, idle=MIN_RECORDS // 2), 1.0)
    assert exceeded(watch, 1.0) is None
    watch.add(Collected(records=1, idle=1), 1.0)
    assert (MIN_RECORDS + 1, MIN_RECORDS // 2 + 1) == exceeded(watch, 1.0)
    assert (3, 2.0) == reject_rate.reject_share(
        Collected(
            records=3, idle=1, dead_letters=[DeadLetter(Reason.INVALID_JSON, 0, "", "", b"")]
        ),
        1,
    )


def test_what_an_operator_sent_back_and_failed_again_stops_nobody() -> None:
    again = [
        DeadLetter(Reason.INVALID_JSON, n, "", "", b"", redriven=True) for n in range(MIN_RECORDS)
    ]
    watch = RejectRate(50)
    watch.add(Collected(records=MIN_RECORDS, dead_letters=again), 1.0)
    assert exceeded(watch, 1.0) is None


def test_a_sample_is_judged_however_small_it_is() -> None:
    watch = RejectRate(50)
    assert watch.sample_exceeds(poll(1, 1)) == (1, 1)
    assert watch.sample_exceeds(poll(2, 1)) is None
    assert watch.sample_exceeds(poll(0, 0)) is None


async def test_a_connection_that_is_inactive_has_no_part() -> None:
    """The one that takes anything rejects all of it; nine others take nothing."""
    idle = [Connection(f"{n}", FileTarget("out"), status=Status.INACTIVE) for n in range(9)]
    connections = [Connection("acme", FileTarget("out")), *idle]
    plan = app.WorkerPlan("g", connections, JournalSettings(), LimitSettings(), {"t": "mparticle"})
    context = app.make_context(plan, {}, MemoryJournals(), LoopClock(), Notes())
    assert context.reject_rate.sample_exceeds(poll(MIN_RECORDS, MIN_RECORDS, "acme"))
