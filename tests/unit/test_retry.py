from hypothesis import given
from hypothesis import strategies as st

from forwarder.retry import (
    PUT_PAUSED,
    PUT_TRANSIENT,
    REOPEN,
    REOPEN_REFUSED,
    REOPEN_RELAPSE,
    REOPEN_SETUP,
    Backoff,
    RepeatSuppressor,
)

SCHEDULES = [PUT_PAUSED, REOPEN_REFUSED, REOPEN_RELAPSE, REOPEN, REOPEN_SETUP, PUT_TRANSIENT]
backoffs = st.sampled_from([*SCHEDULES, Backoff(base=1.0, cap=1.0, floor=2.0)])
attempts = st.integers(0, 10_000)
randoms = st.floats(0.0, 1.0, exclude_max=True)


@given(backoffs, attempts, randoms)
def test_a_delay_lies_between_floor_and_cap(backoff: Backoff, attempt: int, random: float) -> None:
    delay = backoff.delay(attempt, random)
    assert backoff.floor <= delay <= max(backoff.floor, backoff.cap)


@given(backoffs, attempts, randoms)
def test_later_tries_wait_no_less(backoff: Backoff, attempt: int, random: float) -> None:
    assert backoff.delay(attempt, random) <= backoff.delay(attempt + 1, random)


def test_the_ceiling_doubles_until_the_cap() -> None:
    backoff = Backoff(base=1.0, cap=6.0)
    assert [backoff.delay(attempt, 0.5) for attempt in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_jitter_is_full() -> None:
    backoff = Backoff(base=8.0, cap=60.0)
    assert [backoff.delay(0, random) for random in (0.0, 0.25, 0.75)] == [0.0, 2.0, 6.0]


def test_a_paused_lane_is_tried_every_5_to_60_seconds() -> None:
    delays = [PUT_PAUSED.delay(attempt, random) for attempt in range(9) for random in (0.0, 0.999)]
    assert min(delays) == 5.0
    assert 59.0 < max(delays) < 60.0


def test_what_goes_on_is_news_once_in_a_while_and_what_is_new_at_once() -> None:
    said = RepeatSuppressor(60.0)
    told = [said.register("away", now) for now in (0.0, 1.0, 59.0, 60.0, 119.0)]
    assert [True, False, False, True, False] == told
    assert said.register("another", 119.0)


def test_kafka_is_asked_again_often_and_what_needs_a_person_seldom() -> None:
    longest = {
        name: max(schedule.delay(attempt, 0.999) for attempt in range(40))
        for name, schedule in (("reopen", REOPEN), ("refused", REOPEN_REFUSED))
    }
    assert longest["reopen"] <= 2.0
    assert 60.0 <= longest["refused"] <= 75.0
