"""Find the windows that are due, without a timer or a scan per window.

Windows wait in buckets of one second. One whose deadline moved back stays where it is and moves
on when its bucket comes up; one whose deadline moved forward is put into the earlier bucket too.
"""

import heapq
from collections import deque

from forwarder.stages.shapes import Window

_SECOND = 1000


class _Bucket:
    """Windows of one second; none of them is due before ``earliest``."""

    __slots__ = ("earliest", "windows")

    def __init__(self, earliest: int) -> None:
        self.earliest = earliest
        self.windows: deque[Window] = deque()


class Deadlines:
    """The open windows of a lane by deadline, in milliseconds."""

    def __init__(self) -> None:
        """Begin without windows."""
        self._buckets: dict[int, _Bucket] = {}
        self._seconds: list[int] = []

    def put(self, window: Window) -> None:
        """Make sure the window comes up at its deadline; call after every change of it."""
        second = window.deadline // _SECOND
        if 0 <= window.slot < second:
            return
        bucket = self._buckets.get(second)
        if bucket is None:
            bucket = self._buckets[second] = _Bucket(window.deadline)
            heapq.heappush(self._seconds, second)
        elif window.deadline < bucket.earliest:
            bucket.earliest = window.deadline
        if window.slot != second:
            window.slot = second
            bucket.windows.append(window)

    def next(self) -> int | None:
        """Return the earliest deadline; perhaps too early, never too late. None: no window."""
        return self._buckets[self._seconds[0]].earliest if self._seconds else None

    def due(self, now: int, limit: int | None = None) -> list[Window]:
        """Take out at most ``limit`` windows whose deadline is not after ``now``."""
        due: list[Window] = []
        while self._seconds and self._buckets[self._seconds[0]].earliest <= now:
            if limit is not None and len(due) >= limit:
                break
            self._take(due, now, limit)
        return due

    def _take(self, due: list[Window], now: int, limit: int | None) -> None:
        """Take what is due from the first bucket, and the bucket away once all was looked at.

        Where there are enough, the rest stays as it lies: a million windows of one second, taken
        in slices, are each looked at twice at most.
        """
        second = self._seconds[0]
        windows = self._buckets[second].windows
        later: list[Window] = []
        while windows:
            if limit is not None and len(due) >= limit:
                windows.extend(later)
                return
            window = windows.popleft()
            if window.closed or window.slot != second:
                continue
            if window.deadline <= now:
                window.slot = -1
                due.append(window)
            else:
                later.append(window)
        heapq.heappop(self._seconds)
        del self._buckets[second]
        for window in later:
            window.slot = -1
            self.put(window)
