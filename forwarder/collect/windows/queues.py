"""Orders in which the open windows of a lane stand: by deadline, by what is unsaved, by device.

A window that closes in one of these orders is not looked for in the others: its entries there are
stale and dropped later (``LazyQueue``), so that nothing looks at all windows at once.
"""

import heapq
import sys
from bisect import bisect_right
from collections.abc import Callable, Iterator
from itertools import takewhile
from typing import Generic, TypeVar

from forwarder.collect.windows.window import CheckpointMark, Window
from forwarder.model import Position

T = TypeVar("T")

CHUNK_ENTRIES = 512
"""Entries looked at in one go, some 50 µs; looking at a million at once would stall everything."""

_FEW_CHUNKS = 2
"""Chunks that are cleared together."""

SECOND_MS = 1000
_FEW_GONE = 16


class LazyQueue(Generic[T]):
    """A first-in, first-out queue whose stale entries are dropped lazily.

    ``alive`` tells which entries still count; an entry that is stale must stay so. Stale entries
    at the front are dropped by ``head``. The rest is compacted two chunks at a time, with every
    chunk that fills up once the queue has grown by half since all of it was compacted last: so no
    call looks at many more entries than two chunks have, and about half of them are stale at most.
    """

    def __init__(self, alive: Callable[[T], bool], chunk: int = CHUNK_ENTRIES) -> None:
        """Create an empty queue; ``chunk``: entries that are looked at in one go."""
        self._alive = alive
        self._chunk = chunk
        self._chunks: list[list[T]] = [[]]
        self._at = 0
        self._next = 1
        self._due = 1

    def append(self, entry: T) -> None:
        """Put an entry at the end."""
        last = self._chunks[-1]
        if len(last) >= self._chunk:
            self.head()
            if self._next > 1 or len(self._chunks) >= self._due:
                self.compact()
            last = self._chunks[-1]
            if len(last) >= self._chunk:
                last = []
                self._chunks.append(last)
        last.append(entry)

    def extend(self, entries: list[T]) -> None:
        """Put entries at the end, in order."""
        at = 0
        while at < len(entries):
            last = self._chunks[-1]
            room = self._chunk - len(last)
            if room > 0:
                last += entries[at : at + room]
                at += room
            else:  # begins a chunk
                self.append(entries[at])
                at += 1

    def head(self) -> T | None:
        """Return the oldest entry that still counts, None if there is none.

        Stale ones before it are dropped; each entry is looked at once, as a rule.
        """
        chunks, alive = self._chunks, self._alive
        while True:
            first = chunks[0]
            for at in range(self._at, len(first)):
                if alive(first[at]):
                    self._at = at
                    return first[at]
            self._at = 0
            if len(chunks) == 1:
                if first:
                    chunks[0] = []
                return None
            del chunks[0]

    def take(self, most: int) -> list[T]:
        """Remove and return up to ``most`` of the oldest entries, stale ones included.

        An empty list means that the queue is empty.
        """
        chunks = self._chunks
        if self._at >= len(chunks[0]) and len(chunks) > 1:
            del chunks[0]
            self._at = 0
        found = chunks[0][self._at : self._at + most]
        self._at += len(found)
        return found

    def compact(self) -> None:
        """Drop the stale entries of two chunks.

        Callers: ``append``, and owners whenever about ``CHUNK_ENTRIES`` entries have become stale.
        """
        if len(self._chunks) > _FEW_CHUNKS:
            self._compact_next()
            if self._next > 1:  # else all of it was compacted
                self._compact_next()
            return
        entries = [entry for chunk in self._chunks for entry in chunk]
        living = [entry for entry in entries[self._at :] if self._alive(entry)]
        # Cut again: a chunk that grew would be looked at as a whole at every call.
        self._chunks = [
            living[at : at + self._chunk] for at in range(0, len(living), self._chunk)
        ] or [[]]
        self._at = 0
        self._end_compaction()

    def __iter__(self) -> Iterator[T]:
        """Yield all entries, stale ones included; perhaps those that are appended meanwhile."""
        for chunk in list(self._chunks):  # chunks are replaced or appended to, never changed
            yield from chunk

    def __len__(self) -> int:
        return sum(len(chunk) for chunk in self._chunks) - self._at

    def _compact_next(self) -> None:
        """Compact the next chunk and join it to the one before; never the first and the last."""
        chunks = self._chunks
        if self._next >= len(chunks) - 1:
            self._end_compaction()
            return
        living = [entry for entry in chunks[self._next] if self._alive(entry)]
        before = chunks[self._next - 1]
        if self._next > 1 and len(before) + len(living) <= self._chunk:
            chunks[self._next - 1 : self._next + 1] = [before + living]
        else:
            chunks[self._next] = living
            self._next += 1

    def _end_compaction(self) -> None:
        """Note that all of it was compacted: it begins again once it has grown by half."""
        self._next = 1
        self._due = 1 + 3 * len(self._chunks) // 2


class Deadlines:
    """The open windows of a lane by deadline, in milliseconds: no timer and no scan per window.

    Windows stand in buckets of one second. One whose deadline moved back stays where it is and
    moves on when its bucket comes up; one whose deadline moved forward is put into the earlier
    bucket, too.
    """

    def __init__(self) -> None:
        """Create it without windows."""
        self._buckets: dict[int, _Bucket] = {}
        self._seconds: list[int] = []

    def put(self, window: Window) -> None:
        """Make sure the window comes up at its deadline; call after every change of it."""
        second = window.deadline // SECOND_MS
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

    def put_run(self, windows: list[Window]) -> None:
        """Take in windows of one ``slot``: when they opened, if not now, they were due in it.

        Where all of them are due later by now, they come up at the end of it and move on: no bucket
        may hide what is due in those behind it.
        """
        second = windows[0].slot
        earliest = min((second + 1) * SECOND_MS - 1, *[window.deadline for window in windows])
        bucket = self._buckets.get(second)
        if bucket is None:
            bucket = self._buckets[second] = _Bucket(second, earliest)
            heapq.heappush(self._seconds, second)
        elif earliest < bucket.earliest:
            bucket.earliest = earliest
        bucket.windows.extend(windows)

    def remove(self, window: Window) -> None:
        """Note that a window closed; its entry is dropped long before its deadline."""
        bucket = self._buckets.get(window.slot)
        if bucket is not None:
            bucket.gone += 1
            if bucket.gone >= bucket.most:
                bucket.windows.compact()
                bucket.gone = 0
                bucket.most = max(_FEW_GONE, min(CHUNK_ENTRIES, len(bucket.windows) // 2))

    def earliest(self) -> int | None:
        """Return the earliest deadline; perhaps too early, never too late. None: no window."""
        return self._buckets[self._seconds[0]].earliest if self._seconds else None

    def take_due(self, now: int, limit: int | None = None) -> list[Window]:
        """Take out at most ``limit`` windows whose deadline is not after ``now``."""
        due: list[Window] = []
        while self._seconds and self._buckets[self._seconds[0]].earliest <= now:
            if limit is not None and len(due) >= limit:
                break
            self._take_first(due, now, limit)
        return due

    def _take_first(self, due: list[Window], now: int, limit: int | None) -> None:
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


class _Bucket:
    """Windows of one second; none of them is due before ``earliest``.

    ``gone`` closed before their time since stale entries were dropped last; ``most`` may.
    """

    __slots__ = ("earliest", "gone", "most", "second", "windows")

    def __init__(self, second: int, earliest: int) -> None:
        self.second = second
        self.earliest = earliest
        self.gone = 0
        self.most = _FEW_GONE
        self.windows: LazyQueue[Window] = LazyQueue(
            lambda one: not one.closed and one.slot == second
        )


class UnsavedQueue:
    """The open windows of a lane by the first position of each that is in no checkpoint (K2).

    Callers: ``WindowStore``, when a window first changes since it was opened, saved or taken to be
    saved; ``Checkpoint``.
    """

    def __init__(self) -> None:
        """Create it without windows."""
        self._fresh: LazyQueue[Window] = LazyQueue(Window.is_fresh)
        self._changed: LazyQueue[tuple[Position, Window]] = LazyQueue(_is_unsaved)
        self._saved: list[Window] = []
        self._checkpoint = CheckpointMark()

    def put(self, window: Window, position: Position) -> None:
        """Take in a window that changed; positions come in rising order."""
        if window.saved is None and window.pending is None:
            window.first = position
            self._fresh.append(window)
        else:
            self._changed.append((position, window))

    def put_run(self, windows: list[Window]) -> None:
        """Take in windows that opened one after the other; ``first`` is set."""
        self._fresh.extend(windows)

    def put_saved(self, window: Window) -> None:
        """Take in a window that was restored: all of it is saved."""
        self._saved.append(window)

    def first(self) -> Position | None:
        """Return the lowest position that no checkpoint has; None: they have all."""
        fresh, changed = self._fresh.head(), self._changed.head()
        first = None if fresh is None else fresh.unsaved
        if changed is None:
            return first
        return changed[0] if first is None else min(first, changed[0])

    def begin(self) -> CheckpointMark:
        """Begin a checkpoint; one that was begun before and is not settled becomes void."""
        self._checkpoint = CheckpointMark()
        return self._checkpoint

    def is_void(self, checkpoint: CheckpointMark) -> bool:
        """Tell whether another checkpoint was begun since."""
        return self._checkpoint is not checkpoint

    def to_save(self, below: int) -> Iterator[Window | None]:
        """Yield what a checkpoint is to look at: windows saved before, or unsaved below here.

        None stands for a stale entry: who takes them in slices counts looks.
        """
        yield from self._saved
        for window in self._fresh:
            if not window.is_fresh():
                yield None
            elif window.unsaved is not None and window.unsaved[0] < below:
                yield window
            else:
                return

    def settle(self, checkpoint: CheckpointMark, taken: list[Window]) -> None:
        """Count as saved the windows that a checkpoint took; none is looked at for it."""
        checkpoint.settled = True
        self._saved = taken


def _is_unsaved(entry: tuple[Position, Window]) -> bool:
    """Tell whether a window that was saved, or taken to be, is unsaved from this position on."""
    position, window = entry
    pending = window.pending
    if window.closed:
        return False
    if pending is not None and pending.after == position:
        return True
    return window.unsaved == position and not window.is_settled()


class Siblings:
    """By device, the open windows that are keyed otherwise than by the device alone.

    They are of other users of the device, or were keyed by another mode's rule. Their deadlines
    are independent, while the batches of a device have to stay in the order of first events, in
    which they stand here. Usually there are none: callers ask ``if siblings.devices`` first. A
    window that closes is the first of its device by then: so a hundred thousand people behind one
    placeholder of a device cost no more each than two. Caller: ``WindowStore``, when a window
    opens and when it has closed.
    """

    def __init__(self) -> None:
        """Create it without windows."""
        self.devices: dict[bytes, list[Window]] = {}

    def put(self, window: Window, offset: int | None) -> None:
        """Take in a window that opened: with an event of this record, or None: with what it has."""
        known = self.devices.setdefault(window.device, [])
        at = len(known)
        if known:
            first = window.first_position() if offset is None else (offset, sys.maxsize)
            if known[-1].first_position() > first:  # saved ones are restored in any order
                at = bisect_right(known, first, key=Window.first_position)
        known.insert(at, window)

    def remove(self, window: Window) -> None:
        """Remove a window that closed, if it is in here."""
        known = self.devices.get(window.device)
        if known is None:
            return
        for at, one in enumerate(known):
            if one is window:
                del known[at]
                break
        if not known:
            del self.devices[window.device]

    def before(self, device: bytes, position: Position, plain: Window | None) -> list[Window]:
        """Return the device's windows whose first event lies before a position, oldest first.

        ``plain`` is the one keyed by the device alone, if it is open.
        """
        known = self.devices.get(device, [])
        found = list(takewhile(lambda one: one.first_position() < position, known))
        if plain is None or plain.first_position() >= position or any(o is plain for o in found):
            return found
        return sorted([*found, plain], key=Window.first_position)
