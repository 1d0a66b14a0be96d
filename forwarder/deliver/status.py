"""How one lane of one partition is doing, and when that is told: on changes only."""

from forwarder.ops.reporter import LaneStatus, Reporter


class Standing:
    """The status of one lane on one partition. Caller: its delivery."""

    def __init__(self, lane: str, partition: str, reporter: Reporter, *, active: bool) -> None:
        """Begin as the connection's file says; nothing is told of that."""
        self.status = LaneStatus.FLOWING if active else LaneStatus.INACTIVE
        self.reason = ""
        self._lane = lane
        self._partition = partition
        self._reporter = reporter

    def change(self, status: LaneStatus, reason: str, remedy: str) -> bool:
        """Take a new status; tell whether it is another.

        A lane that was stopped stays so.
        """
        if self.status is LaneStatus.STOPPED:
            return False
        is_other = status is not self.status
        if is_other or reason != self.reason:
            self.status, self.reason = status, reason
            self._reporter.lane_status(self._lane, self._partition, status, reason, remedy)
        return is_other
