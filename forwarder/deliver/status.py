"""The status of one lane of one partition: told on changes only."""

from forwarder.ops.reporter import LaneStatus, Reporter


class LaneStatusTracker:
    """How one lane of one partition is doing, and why. Caller: its delivery.

    A lane begins flowing or inactive, as its connection says; that is not told.
    """

    def __init__(self, lane: str, partition: str, reporter: Reporter, *, active: bool) -> None:
        """Begin as the connection says."""
        self.status = LaneStatus.FLOWING if active else LaneStatus.INACTIVE
        self.reason = ""
        self._lane = lane
        self._partition = partition
        self._reporter = reporter

    def change(self, status: LaneStatus, reason: str, remedy: str = "") -> bool:
        """Take a new status and report it if it or its reason is another.

        Returns whether the status is another. A lane that was stopped stays so.
        """
        if self.status is LaneStatus.STOPPED:
            return False
        is_other = status is not self.status
        if is_other or reason != self.reason:
            self.status, self.reason = status, reason
            self._reporter.lane_status(self._lane, self._partition, status, reason, remedy)
        return is_other
