"""The order in which open windows close for want of memory: by age and size."""

import heapq
from itertools import count
from typing import NamedTuple

from forwarder.collect.windows.queues import LazyQueue
from forwarder.collect.windows.window import Window

_SMALLEST = 12
"""Bits of the sizes in the lowest class: below 4 KiB, where windows of a few events are."""

_BITS = 2
_YOUNGEST = 1000
_FEW_OLD = 1024
_CLEARED_AT_ONCE = 4

_Aged = tuple[int, int, Window]
"""When a window opened, a number of its own, the window."""


def rank_of(weight: int) -> int:
    """Return the size class of a window of so many bytes; each is four times the last."""
    return max(0, weight.bit_length() - _SMALLEST + _BITS - 1) // _BITS


class EvictionCandidate(NamedTuple):
    """A window that may close for want of memory; ``score``: age (ms) times size of its class."""

    score: int
    window: Window


class EvictionQueue:
    """The open windows of a lane in the order in which they close for want of memory.

    Windows stand in size classes, each four times the last, and by age inside a class: so nothing
    sorts a million of them. Caller: ``WindowStore``, when a window opens or changes its class.
    """

    def __init__(self) -> None:
        """Create it without windows."""
        self._lowest = _SizeClass(0)
        self._classes = {0: self._lowest}

    def put(self, window: Window) -> None:
        """Take in a window that opened, or that grew into another class."""
        found = self._classes.get(window.size_class) if window.size_class else self._lowest
        if found is None:
            found = self._classes[window.size_class] = _SizeClass(window.size_class)
        found.put(window)

    def put_run(self, windows: list[Window]) -> None:
        """Take in windows of the lowest class that opened one after the other."""
        self._lowest.put_run(windows)

    def oldest(self) -> Window | None:
        """Return the window that was opened first."""
        return min(self._heads(), key=lambda window: window.opened, default=None)

    def candidate(self, clock: int) -> EvictionCandidate | None:
        """Return the window to close first; None: none is open.

        Never one while another is open that is as old and of as high a class. ``clock`` is the
        record clock in milliseconds.
        """
        heads = [EvictionCandidate(_score(window, clock), window) for window in self._heads()]
        return max(heads, key=lambda head: head.score, default=None)

    def _heads(self) -> list[Window]:
        heads = [found.head() for found in self._classes.values()]
        return [window for window in heads if window is not None]


def _score(window: Window, clock: int) -> int:
    age = max(clock - window.opened, 0) + _YOUNGEST
    return age << _BITS * window.size_class


class _SizeClass:
    """One size class by age; windows that come out of order wait in a heap.

    A heap that was twice as long as what was left of the last one becomes the ``former``: with each
    window that comes a few are taken out of it, and put into the next unless they are stale. So no
    call looks at all of them.
    """

    def __init__(self, rank: int) -> None:

        # No method: a cycle would keep the windows of a partition that was given away.
        def alive(window: Window) -> bool:
            return not window.closed and window.size_class == rank

        self._alive = alive
        self._queue: LazyQueue[Window] = LazyQueue(alive)
        self._newest = -1
        self._heap: list[_Aged] = []
        self._former: list[_Aged] = []
        self._tiebreak = count()
        self._clear_at = _FEW_OLD

    def put(self, window: Window) -> None:
        if window.opened >= self._newest:
            self._newest = window.opened
            self._queue.append(window)
            return
        if self._former:
            self._clear_some()
        elif len(self._heap) >= self._clear_at:
            self._former, self._heap = self._heap, []
        heapq.heappush(self._heap, (window.opened, next(self._tiebreak), window))

    def put_run(self, windows: list[Window]) -> None:
        if windows[0].opened >= self._newest:
            self._newest = windows[-1].opened
            self._queue.extend(windows)
        else:
            for window in windows:
                self.put(window)

    def head(self) -> Window | None:
        first = self._queue.head()
        for heap in (self._heap, self._former):
            while heap and not self._alive(heap[0][2]):
                heapq.heappop(heap)
        heads = [heap[0] for heap in (self._heap, self._former) if heap]
        if heads and (first is None or min(heads)[0] <= first.opened):
            return min(heads)[2]
        return first

    def _clear_some(self) -> None:
        """Take a few out of the former heap, and drop what of them is stale."""
        for _ in range(min(_CLEARED_AT_ONCE, len(self._former))):
            entry = heapq.heappop(self._former)
            if self._alive(entry[2]):
                heapq.heappush(self._heap, entry)
        if not self._former:  # there have to be twice as many until the next time
            self._clear_at = max(_FEW_OLD, 2 * len(self._heap))
