"""Which acknowledgements a connection has had: each counts once, for the request it answers.

AWS's answers do not repeat what they answer, so that one which reaches the wrong request can only
be told by what it holds. A request id, a sequence number of a shard and a record id are given out
once. What was given before answers something else, and what it came for is put again.
"""

from collections.abc import Hashable, Iterable

REMEMBERED = 32_768
"""Numbers of one generation, of which there are two, some 70 bytes each: what a worker is told of
in more than ten seconds, and no call lasts longer."""
SHARDS = 16_384
"""Shards whose highest forgotten number is remembered; 150 bytes each."""
LONGEST_NUMBER = 129
"""AWS limit of a sequence number, in digits."""


class Receipts:
    """What one connection was told of as stored, in bounded memory."""

    def __init__(self, remembered: int = REMEMBERED) -> None:
        """Begin with nothing seen; ``remembered`` values are kept, or up to twice as many."""
        self._most = remembered
        self._seen: set[int] = set()
        self._older: set[int] = set()
        self._highest: dict[str, str] = {}
        self._older_highest: dict[str, str] = {}
        self._floors: dict[str, str] = {}

    def takes_all(self, numbers: Iterable[tuple[str, str]]) -> bool:
        """Tell whether shards give out all these numbers for the first time, and note them.

        The numbers of a shard rise. So one that is not above the highest that was forgotten is
        taken for one of those that were forgotten. Called for each answer with up to 500 numbers:
        a loop without calls, for it takes a tenth of what the answer costs at all.
        """
        seen, older, highest, floors = self._seen, self._older, self._highest, self._floors
        new = True
        for number in numbers:
            shard, digits = number
            known = hash(number)
            if known in seen or known in older or not is_number(digits):
                new = False
                continue
            seen.add(known)
            if floors and _is_above(floors.get(shard, ""), digits):
                new = False
            top = highest.get(shard, "")
            if digits > top if len(digits) == len(top) else len(digits) > len(top):
                highest[shard] = digits
        if len(seen) >= self._most:
            self._turn()
        return new

    def takes(self, value: Hashable) -> bool:
        """Tell whether a value comes for the first time, and note it."""
        # A hash of 61 bits takes a third of the memory; that two meet costs a record put twice.
        known = hash(value)
        if known in self._seen or known in self._older:
            return False
        self._seen.add(known)
        if len(self._seen) >= self._most:
            self._turn()
        return True

    def clear(self) -> None:
        """Forget everything: the stream is gone, and one made anew may begin with any number."""
        for kept in (self._seen, self._older):
            kept.clear()
        for places in (self._highest, self._older_highest, self._floors):
            places.clear()

    def _turn(self) -> None:
        """Forget the older generation; what it saw lies below the floors from now on."""
        for shard, top in self._older_highest.items():
            # The shard that was named last goes last when there are too many.
            floor = self._floors.pop(shard, top)
            self._floors[shard] = floor if _is_above(floor, top) else top
        while len(self._floors) > SHARDS:
            del self._floors[next(iter(self._floors))]
        self._older, self._seen = self._seen, set()
        self._older_highest, self._highest = self._highest, {}


def _is_above(number: str, other: str) -> bool:
    """Tell whether a number is not below another: longer ones are higher."""
    return (len(number), number) >= (len(other), other)


def is_number(text: str) -> bool:
    """Tell whether a text is a sequence number as AWS writes them."""
    return 0 < len(text) <= LONGEST_NUMBER and text.isascii() and text.isdigit()
