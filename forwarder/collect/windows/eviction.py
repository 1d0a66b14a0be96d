"""Find the oldest window, and the largest old one, without sorting a million of them.

Windows stand in classes of size, each four times the last, and in a class by age.
"""

import heapq
from itertools import count

from forwarder.collect.windows.lazy_queue import Row
from forwarder.collect.windows.window import Window

_SMALLEST = 12
"""Bits of the sizes in the lowest class: below 4 KiB, where windows of a few events are."""

_BITS = 2
_YOUNGEST = 1000
_FEW = 1024


def rank_of(weight: int) -> int:
    """Return the class of a window of so many bytes."""
    return max(0, weight.bit_length() - _SMALLEST + _BITS - 1) // _BITS


class Ages:
    """The open windows of a lane."""

    def __init__(self) -> None:
        """Begin without windows."""
        self._lowest = _Class(0)
        self._classes = {0: self._lowest}

    def put(self, window: Window) -> None:
        """Take in a window that opened, or that grew into another class."""
        found = self._classes.get(window.rank) if window.rank else self._lowest
        if found is None:
            found = self._classes[window.rank] = _Class(window.rank)
        found.put(window)

    def oldest(self) -> Window | None:
        """Return the window that was opened first."""
        return min(self._heads(), key=lambda window: window.opened, default=None)

    def heaviest(self, clock: int) -> tuple[int, Window] | None:
        """Return the largest old window and how much so: its age times the size of its class.

        No window goes while one is open that is as old and of as high a class. ``clock`` is the
        record clock in milliseconds.
        """
        return max(
            ((_score(window, clock), window) for window in self._heads()),
            key=lambda found: found[0],
            default=None,
        )

    def _heads(self) -> list[Window]:
        heads = [found.head() for found in self._classes.values()]
        return [window for window in heads if window is not None]


def _score(window: Window, clock: int) -> int:
    age = max(clock - window.opened, 0) + _YOUNGEST
    return age << _BITS * window.rank


class _Class:
    """Windows of one class by age; those that come out of their turn stand in a heap."""

    def __init__(self, rank: int) -> None:

        # No method: a cycle would keep the windows of a partition that was given away.
        def alive(window: Window) -> bool:
            return not window.closed and window.rank == rank

        self._alive = alive
        self._row: Row[Window] = Row(alive)
        self._newest = -1
        self._heap: list[tuple[int, int, Window]] = []
        self._turn = count()
        self._most = _FEW

    def put(self, window: Window) -> None:
        if window.opened >= self._newest:
            self._newest = window.opened
            self._row.append(window)
        else:
            if len(self._heap) >= self._most:
                self._clear()
            heapq.heappush(self._heap, (window.opened, next(self._turn), window))

    def head(self) -> Window | None:
        while self._heap and not self._alive(self._heap[0][2]):
            heapq.heappop(self._heap)
        first = self._row.head()
        if self._heap and (first is None or self._heap[0][0] <= first.opened):
            return self._heap[0][2]
        return first

    def _clear(self) -> None:
        """Drop what is dead in the heap; it has to double until the next time."""
        self._heap = [entry for entry in self._heap if self._alive(entry[2])]
        heapq.heapify(self._heap)
        self._most = max(_FEW, 2 * len(self._heap))
