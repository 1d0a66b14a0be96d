"""How one lane of one partition is doing, and when that is told: on changes only."""

from enum import StrEnum
from typing import Protocol


class LaneStatus(StrEnum):
    """How a lane is doing."""

    FLOWING = "flowing"
    BACKING_OFF = "backing_off"
    """A put failed and may succeed a moment later."""
    PAUSED = "paused"
    """Somebody must act: the oldest batch alone is tried every 5 to 60 s."""
    INACTIVE = "inactive"
    STOPPED = "stopped"


class Watcher(Protocol):
    """Who is told of every change."""

    def lane_status(
        self, lane: str, partition: str, status: str, reason: str, remedy: str = ""
    ) -> None:
        """Report that a lane of a partition changed its status, or the reason of it."""


class Standing:
    """The status of one lane on one partition. Caller: its delivery."""

    def __init__(self, lane: str, partition: str, watcher: Watcher, *, active: bool) -> None:
        """Begin as the connection's file says; nothing is told of that."""
        self.status = LaneStatus.FLOWING if active else LaneStatus.INACTIVE
        self.reason = ""
        self._lane = lane
        self._partition = partition
        self._watcher = watcher

    def change(self, status: LaneStatus, reason: str, remedy: str) -> bool:
        """Take a new status; tell whether it is another.

        A lane that was stopped stays so.
        """
        if self.status is LaneStatus.STOPPED:
            return False
        is_other = status is not self.status
        if is_other or reason != self.reason:
            self.status, self.reason = status, reason
            self._watcher.lane_status(self._lane, self._partition, status.value, reason, remedy)
        return is_other
