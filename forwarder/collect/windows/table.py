"""A table by key that never stalls: CPython's ``dict`` looks at all its entries when it grows.

It does so again after every few hundred thousand entries that came and went: of a million windows
that is 30 to 50 ms. From ``SPLIT_FROM`` entries on the table is in sixteen parts, each with its own
growth, chosen by hash: so that they do not all grow at once.
"""

from collections.abc import Iterator
from itertools import chain
from typing import Generic, TypeVar

T = TypeVar("T")

SPLIT_FROM = 16_384
"""Entries from which on it is in parts: to split it takes some 4 ms."""

_PARTS = 16
SHIFT = 16
"""Bits of a hash that choose no part: by the lowest a dict chooses its place."""


class Table(Generic[T]):
    """What a dict is, as far as windows need it.

    ``whole`` is all of it, while it is in one part; callers in a hurry ask that, else ``part``.
    ``parts``: the one, or all of them; for reading only.
    """

    __slots__ = ("parts", "whole")

    def __init__(self) -> None:
        """Create it empty, in one part."""
        self.whole: dict[bytes, T] | None = {}
        self.parts = [self.whole]

    def part(self, key: bytes) -> dict[bytes, T]:
        """Return the part of a key."""
        return self.parts[hash(key) >> SHIFT & _PARTS - 1] if self.whole is None else self.whole

    def split(self) -> None:
        """Split it into parts if it has become large. Caller: its owner, once a poll."""
        whole = self.whole
        if whole is None or len(whole) < SPLIT_FROM:
            return
        self.whole, self.parts = None, [{} for _ in range(_PARTS)]
        for key, value in whole.items():
            self.part(key)[key] = value

    def get(self, key: bytes) -> T | None:
        """Return the entry of a key; None: it has none."""
        return self.part(key).get(key)

    def values(self) -> Iterator[T]:
        """Yield all entries; of one part in the order in which they came."""
        return chain.from_iterable([part.values() for part in self.parts])

    def __iter__(self) -> Iterator[bytes]:
        return chain.from_iterable(self.parts)

    def __getitem__(self, key: bytes) -> T:
        return self.part(key)[key]

    def __setitem__(self, key: bytes, value: T) -> None:
        self.part(key)[key] = value

    def __delitem__(self, key: bytes) -> None:
        del self.part(key)[key]

    def __contains__(self, key: bytes) -> bool:
        return key in self.part(key)

    def __len__(self) -> int:
        return sum(map(len, self.parts)) if self.whole is None else len(self.whole)
