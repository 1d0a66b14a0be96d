"""A line that lies about its time does not decide for the others."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.sources.file import LOOKAHEAD_LINES, MAX_LEAP_MS, InputTime, milliseconds

START = 1_767_225_600_000
MINUTE = 60_000


def told(times: Sequence[int]) -> list[int]:
    clock = InputTime()
    return [
        clock.advance(time, times[i + 1 : i + 1 + LOOKAHEAD_LINES]) for i, time in enumerate(times)
    ]


ODD = [
    START * 1_000,
    START * 1_000_000,
    START // 1_000,
    2**63 - 1,
    -(2**63),
    -1,
    0,
    START + 3 * 365 * 86_400_000,
    START - 20 * 365 * 86_400_000,
]


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("at", [0, 1, 5, 11])
@pytest.mark.parametrize("count", [1, 3])
def test_odd_lines_move_the_time_no_further_than_the_lines_around_them(
    odd: int, at: int, count: int
) -> None:
    times = [START + i * MINUTE for i in range(20)]
    found = told(times[:at] + [odd] * count + times[at:])
    assert times[:at] == found[:at]
    assert times[at:] == found[at + count :]
    assert max(found[at : at + count]) <= times[at]


@pytest.mark.parametrize("odd", ODD)
def test_odd_and_good_lines_in_turn_leave_the_time_to_the_good_ones(odd: int) -> None:
    times = [START + i * MINUTE for i in range(40)]
    found = told([time for pair in times for time in (pair, odd)])
    assert times[:-1] == found[:-2:2]


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=60))
def test_times_in_order_are_believed_as_they_are(steps: list[int]) -> None:
    times = [START + sum(steps[: i + 1]) for i in range(len(steps))]
    assert times == told(times)


@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=40))
def test_the_time_never_goes_back(times: list[int]) -> None:
    found = told(times)
    assert sorted(found) == found


def test_the_last_line_says_what_time_it_is() -> None:
    assert [START, START + 30 * MAX_LEAP_MS] == told([START, START + 30 * MAX_LEAP_MS])


def test_micro_and_nanoseconds_are_known_by_their_size() -> None:
    assert (
        START == milliseconds(START) == milliseconds(START * 10**3) == milliseconds(START * 10**6)
    )
    assert -5 == milliseconds(-5)
