"""A queue whose entries die where they stand, however many there are."""

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

CHUNK = 512
"""Entries looked at in one go, some 50 µs; looking at a million at once would stall everything."""

_FEW = 2
"""Chunks that are cleared together."""


class Row(Generic[T]):
    """Entries in the order they came; ``alive`` tells which of them still count.

    What died at the front goes as chunks fill up. Once the row is half as long again as the last
    time all of it was cleared, it is cleared again, two chunks for each that came.
    """

    def __init__(self, alive: Callable[[T], bool]) -> None:
        """Begin empty; once dead, an entry must stay so."""
        self._alive = alive
        self._chunks: list[list[T]] = [[]]
        self._at = 0
        self._next = 1
        self._due = 1

    def append(self, entry: T) -> None:
        """Put an entry at the end."""
        last = self._chunks[-1]
        if len(last) >= CHUNK:
            self.head()
            if self._next > 1 or len(self._chunks) >= self._due:
                self.sweep()
            last = self._chunks[-1]
            if len(last) >= CHUNK:
                last = []
                self._chunks.append(last)
        last.append(entry)

    def head(self) -> T | None:
        """Return the first living entry; None: there is none."""
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
        """Take out some of the first entries, dead ones too; none: there are none."""
        chunks = self._chunks
        if self._at >= len(chunks[0]) and len(chunks) > 1:
            del chunks[0]
            self._at = 0
        found = chunks[0][self._at : self._at + most]
        self._at += len(found)
        return found

    def sweep(self) -> None:
        """Clear two chunks of the dead; call it, too, whenever as many as a chunk holds died."""
        if len(self._chunks) > _FEW:
            self._sweep()
            if self._next > 1:  # else all of it was cleared
                self._sweep()
            return
        entries = [entry for chunk in self._chunks for entry in chunk]
        living = [entry for entry in entries[self._at :] if self._alive(entry)]
        # Cut again: a chunk that grew would be looked at as a whole at every call.
        self._chunks = [living[at : at + CHUNK] for at in range(0, len(living), CHUNK)] or [[]]
        self._at = 0
        self._passed()

    def __iter__(self) -> Iterator[T]:
        """Yield the entries, dead ones too, perhaps those that come meanwhile."""
        for chunk in list(self._chunks):  # chunks are replaced or appended to, never changed
            yield from chunk

    def __len__(self) -> int:
        return sum(len(chunk) for chunk in self._chunks) - self._at

    def _sweep(self) -> None:
        """Clear the next chunk of the dead and join it to the one before; never first and last."""
        chunks = self._chunks
        if self._next >= len(chunks) - 1:
            self._passed()
            return
        living = [entry for entry in chunks[self._next] if self._alive(entry)]
        before = chunks[self._next - 1]
        if self._next > 1 and len(before) + len(living) <= CHUNK:
            chunks[self._next - 1 : self._next + 1] = [before + living]
        else:
            chunks[self._next] = living
            self._next += 1

    def _passed(self) -> None:
        """Begin anew once the row has grown by half."""
        self._next = 1
        self._due = 1 + 3 * len(self._chunks) // 2
