"""What is told of a lane's status, and how often."""

import pytest
from structlog.testing import capture_logs

from forwarder.standing import CALM, LaneStatus, Standing
from forwarder.testing import Notes

FLOWING, BACKING_OFF = LaneStatus.FLOWING, LaneStatus.BACKING_OFF
PAUSED, STOPPED = LaneStatus.PAUSED, LaneStatus.STOPPED


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture
def standing(notes: Notes) -> Standing:
    return Standing("acme", "raw/0", notes, active=True)


def test_a_change_is_told_once_with_its_reason_and_remedy(standing: Standing, notes: Notes) -> None:
    with capture_logs() as logs:
        assert standing.change(PAUSED, "no stream; create it", "create it", 0.0)
        assert not standing.change(PAUSED, "no stream; create it", "create it", 9.0)
    assert [("lane", "acme", "raw/0", "paused", "no stream; create it")] == notes.log
    (line,) = logs
    assert ("lane.status", "warning") == (line["event"], line["log_level"])
    assert ("paused", "create it") == (line["status"], line["remedy"])


def test_another_reason_is_told_and_not_logged(standing: Standing, notes: Notes) -> None:
    standing.change(PAUSED, "no stream", "", 0.0)
    with capture_logs() as logs:
        assert not standing.change(PAUSED, "no permission", "", 9.0)
    assert (2, []) == (len(notes.log), logs)


def test_a_lane_that_is_throttled_many_times_a_second_is_logged_calmly(
    standing: Standing, notes: Notes
) -> None:
    with capture_logs() as logs:
        for number in range(200):
            standing.change(BACKING_OFF, "slow down", "", number * 0.1)
            standing.change(FLOWING, "", "", number * 0.1 + 0.05)
    assert 400 == len(notes.log)
    assert ["backing_off", "flowing"] * 2 == [line["status"] for line in logs]


def test_a_lane_that_goes_on_backing_off_is_logged_at_last(standing: Standing) -> None:
    standing.change(BACKING_OFF, "a", "", 0.0)
    standing.change(FLOWING, "", "", 1.0)
    with capture_logs() as logs:
        for number in range(30):
            standing.change(BACKING_OFF, "b", "", 2.0 + number)
    assert ["backing_off"] == [line["status"] for line in logs]
    assert CALM < 30


def test_a_stopped_lane_stays_stopped(standing: Standing, notes: Notes) -> None:
    standing.change(STOPPED, "unreadable", "", 0.0)
    assert not standing.change(FLOWING, "", "", 1.0)
    assert (STOPPED, 1) == (standing.status, len(notes.log))
