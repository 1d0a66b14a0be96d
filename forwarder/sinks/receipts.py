"""Which acknowledgements a connection has had: each counts once, for the request it answers.

AWS's answers do not repeat what they answer, so that one which reaches the wrong request can only
be told by what it holds. A request id, a sequence number of a shard and a record id are given out
once. What was given before answers something else, and what it came for is put again.
"""

from collections.abc import Hashable

REMEMBERED = 32_768
"""Numbers of one generation, of which there are two, some 70 bytes each: what a worker is told of
in more than ten seconds, and no call lasts longer."""
SHARDS = 16_384
"""Shards whose highest forgotten number is remembered; 150 bytes each."""
LONGEST_NUMBER = 129
"""AWS limit of a sequence number, in digits."""

_Place = tuple[int, str]
"""Where a number stands among others of its shard: longer ones are higher."""


class Receipts:
    """What one connection was told of as stored, in bounded memory."""

    def __init__(self, remembered: int = REMEMBERED) -> None:
        """Begin with nothing seen; ``remembered`` values are kept, or up to twice as many."""
        self._most = remembered
        self._seen: set[int] = set()
        self._older: set[int] = set()
        self._highest: dict[str, _Place] = {}
        self._older_highest: dict[str, _Place] = {}
        self._floors: dict[str, _Place] = {}

    def takes_number(self, shard: str, number: str) -> bool:
        """Tell whether a shard gives out this sequence number for the first time, and note it.

        The numbers of a shard rise. So one that is not above the highest that was forgotten is
        taken for one of those that were forgotten.
        """
        if not is_number(number):
            return False
        place = (len(number), number)
        floor = self._floors.get(shard)
        if (floor is not None and place <= floor) or not self.takes((shard, number)):
            return False
        if place > self._highest.get(shard, (0, "")):
            self._highest[shard] = place
        return True

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
        for shard, place in self._older_highest.items():
            # The shard that was named last goes last when there are too many.
            self._floors[shard] = max(place, self._floors.pop(shard, place))
        while len(self._floors) > SHARDS:
            del self._floors[next(iter(self._floors))]
        self._older, self._seen = self._seen, set()
        self._older_highest, self._highest = self._highest, {}


def is_number(text: str) -> bool:
    """Tell whether a text is a sequence number as AWS writes them."""
    return 0 < len(text) <= LONGEST_NUMBER and text.isascii() and text.isdigit()
