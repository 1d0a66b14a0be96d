"""Find the windows that are due, without a timer or a scan per window.

Windows wait in buckets of one second. One whose deadline moved back stays where it is and moves
on when its bucket comes up; one whose deadline moved forward is put into the earlier bucket too.
"""

import heapq
import sys

from forwarder.collect.windows.lazy_queue import CHUNK, Row
from forwarder.collect.windows.window import Window

_SECOND = 1000
_FEW = 16


class _Bucket:
    """Windows of one second; none of them is due before ``earliest``.

    ``gone`` closed before their time since the row was last cleared of such; ``most`` may.
    """

    __slots__ = ("earliest", "gone", "most", "second", "windows")

    def __init__(self, second: int, earliest: int) -> None:
        self.second = second
        self.earliest = earliest
        self.gone = 0
        self.most = _FEW
        self.windows: Row[Window] = Row(lambda one: not one.closed and one.slot == second)


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
            bucket = self._buckets[second] = _Bucket(second, window.deadline)
            heapq.heappush(self._seconds, second)
        elif window.deadline < bucket.earliest:
            bucket.earliest = window.deadline
        if window.slot != second:
            window.slot = bucket.second  # one number for all, not one each
            bucket.windows.append(window)

    def forget(self, window: Window) -> None:
        """Note that a window closed; what is left of it goes long before its deadline."""
        bucket = self._buckets.get(window.slot)
        if bucket is not None:
            bucket.gone += 1
            if bucket.gone >= bucket.most:
                bucket.windows.sweep()
                bucket.gone = 0
                bucket.most = max(_FEW, min(CHUNK, len(bucket.windows) // 2))

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
        most = sys.maxsize if limit is None else limit
        while found := windows.take(most - len(due)):
            for window in found:
                if window.closed or window.slot != second:
                    continue
                if window.deadline <= now:
                    window.slot = -1
                    due.append(window)
                else:
                    later.append(window)
        if windows.head() is not None:
            for window in later:
                windows.append(window)
            return
        heapq.heappop(self._seconds)
        del self._buckets[second]
        for window in later:
            window.slot = -1
            self.put(window)
