"""What is told of a lane's status: changes."""

import pytest

from forwarder.deliver.lane import LaneStatusTracker
from forwarder.ops.reporter import LaneStatus
from tests.doubles import Notes

FLOWING, PAUSED, STOPPED = LaneStatus.FLOWING, LaneStatus.PAUSED, LaneStatus.STOPPED


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture
def lane(notes: Notes) -> LaneStatusTracker:
    return LaneStatusTracker("acme", "raw/0", notes, active=True)


def test_a_change_is_told_once_with_its_reason(lane: LaneStatusTracker, notes: Notes) -> None:
    assert lane.change(PAUSED, "no stream; create it", "create it")
    assert not lane.change(PAUSED, "no stream; create it", "create it")
    assert [("lane", "acme", "raw/0", "paused", "no stream; create it")] == notes.log


def test_another_reason_is_told_and_is_no_other_status(
    lane: LaneStatusTracker, notes: Notes
) -> None:
    lane.change(PAUSED, "no stream", "")
    assert not lane.change(PAUSED, "no permission", "")
    assert 2 == len(notes.log)


def test_a_stopped_lane_stays_stopped(lane: LaneStatusTracker, notes: Notes) -> None:
    lane.change(STOPPED, "unreadable", "")
    assert not lane.change(FLOWING, "", "")
    assert (STOPPED, 1) == (lane.status, len(notes.log))
