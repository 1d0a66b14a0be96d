"""Which acknowledgements a connection has had: each counts once, for the request it answers.

AWS's answers do not repeat what they answer, so that one which reaches the wrong request can only
be told by what it holds. A request id, a sequence number of a shard and a record id are given out
once. What was given before answers something else, and what it came for is put again.
"""

import itertools
from collections.abc import Hashable, Sequence

MAX_REMEMBERED_RECEIPTS = 131_072
"""Numbers of one generation, of which there are two, some 90 bytes each, for all connections of a
worker together: what it is told of in 30 s at 4,000 records a second, and no call lasts longer."""
MAX_REMEMBERED_SHARDS = 16_384
"""Shards of a connection of which the highest number is remembered; 150 bytes each."""
FEW = 4
"""Numbers of an answer up to which to look at each is faster than to look at all together."""
MAX_SHARD_ID_CHARS = 128
"""AWS limit of a shard's id, in characters."""
MAX_SEQUENCE_NUMBER_DIGITS = 129
"""AWS limit of a sequence number, in digits."""


class ReceiptMemory:
    """What all connections of a worker were told of as stored: two generations of hashes.

    A hash of 61 bits takes a third of the memory; that two meet costs a record put twice.
    """

    def __init__(self, remembered: int = MAX_REMEMBERED_RECEIPTS) -> None:
        """Create; the last ``remembered`` values are kept, or up to twice as many."""
        self.most = remembered
        self.seen: set[int] = set()
        self.older: set[int] = set()
        self.generation = 0
        self._salts = itertools.count(1)

    def next_salt(self) -> int:
        """Return what tells the values of one connection from the same ones of another."""
        return hash((next(self._salts), "connection"))

    def drop_older(self) -> None:
        """Forget the older generation."""
        self.older, self.seen = self.seen, set()
        self.generation += 1


class Receipts:
    """What one connection was told of as stored."""

    def __init__(self, memory: ReceiptMemory) -> None:
        """Create; ``memory`` is shared with the other connections."""
        self._memory = memory
        self._salt = memory.next_salt()
        self._generation = memory.generation
        self._highest: dict[str, str] = {}
        self._older_highest: dict[str, str] = {}
        self._floors: dict[str, str] = {}

    def register_all(self, numbers: Sequence[tuple[str, str]]) -> bool:
        """Tell whether shards give out all these numbers for the first time, and note them.

        The numbers of a shard rise. So one that is not above the highest that was forgotten is
        taken for one of those that were forgotten. Called for each answer with up to 500 numbers:
        a loop without calls, for it takes a tenth of what the answer costs at all.
        """
        memory, salt = self._memory, self._salt
        if self._generation != memory.generation:
            self._catch_up()
        found = {hash(number) ^ salt for number in numbers} if len(numbers) > FEW else set()
        if found and self._are_new(found, numbers):
            memory.seen |= found
            new = self._raise(numbers)
        else:
            new = self._register_each(numbers)
        _keep_last(self._highest)
        if len(memory.seen) >= memory.most:
            memory.drop_older()
        return new

    def _are_new(self, found: set[int], numbers: Sequence[tuple[str, str]]) -> bool:
        """Tell whether all are numbers of shards and none has been given, as is usual.

        ``found``: their hashes.
        """
        memory = self._memory
        if len(found) < len(numbers) or not memory.seen.isdisjoint(found):
            return False
        if not found or not memory.older.isdisjoint(found):
            return False
        shards, given = zip(*numbers, strict=True)
        digits, lengths = "".join(given), set(map(len, given))
        return (
            digits.isascii()
            and digits.encode().isdigit()  # of bytes: three times as fast
            and 0 not in lengths
            and max(lengths) <= MAX_SEQUENCE_NUMBER_DIGITS
            and max(map(len, set(shards))) <= MAX_SHARD_ID_CHARS
        )

    def _raise(self, numbers: Sequence[tuple[str, str]]) -> bool:
        """Note new numbers as their shards' highest; tell whether all lie above the floors."""
        highest, floors = self._highest, self._floors
        shards, given = zip(*numbers, strict=True)
        if not floors and len(set(shards)) == 1 and len(set(map(len, given))) == 1:
            numbers = ((shards[0], max(given)),)
        new = True
        for shard, digits in numbers:
            top = highest.get(shard, "")
            if floors and _is_above(floors.get(shard, ""), digits):
                new = False
            if digits > top if len(digits) == len(top) else len(digits) > len(top):
                highest[shard] = digits
        return new

    def _register_each(self, numbers: Sequence[tuple[str, str]]) -> bool:
        """Note each that is new, and tell that not all are, if they are not."""
        memory, salt = self._memory, self._salt
        seen, older, highest, floors = memory.seen, memory.older, self._highest, self._floors
        new = True
        for number in numbers:
            shard, digits = number
            known = hash(number) ^ salt
            if known in seen or known in older or not is_number(digits):
                new = False
                continue
            top = highest.get(shard, "")
            if not top and len(shard) > MAX_SHARD_ID_CHARS:
                new = False
                continue
            seen.add(known)
            if floors and _is_above(floors.get(shard, ""), digits):
                new = False
            if digits > top if len(digits) == len(top) else len(digits) > len(top):
                highest[shard] = digits
        return new

    def register(self, value: Hashable) -> bool:
        """Tell whether a value comes for the first time, and note it."""
        return self._note(hash(value) ^ self._salt)

    def register_request(self, pool: int, request_id: str) -> bool:
        """Tell whether a request id comes for the first time, and note it.

        ``pool``: the number of the connections' pool. Clients that share them hear of each other's
        requests: what was an answer to one is none to another.
        """
        return self._note(hash((pool, request_id)))

    def _note(self, known: int) -> bool:
        memory = self._memory
        if known in memory.seen or known in memory.older:
            return False
        memory.seen.add(known)
        if len(memory.seen) >= memory.most:
            memory.drop_older()
        return True

    def clear(self) -> None:
        """Forget everything: the stream is gone, and a new one may begin with any number."""
        self._salt = self._memory.next_salt()
        for places in (self._highest, self._older_highest, self._floors):
            places.clear()

    def _catch_up(self) -> None:
        """Forget what the memory has forgotten since: it lies below the floors from now on."""
        missed = min(2, self._memory.generation - self._generation)
        self._generation = self._memory.generation
        for _ in range(missed):
            for shard, top in self._older_highest.items():
                # The shard that was named last goes last when there are too many.
                floor = self._floors.pop(shard, top)
                self._floors[shard] = floor if _is_above(floor, top) else top
            _keep_last(self._floors)
            self._older_highest, self._highest = self._highest, {}


def _keep_last(places: dict[str, str]) -> None:
    while len(places) > MAX_REMEMBERED_SHARDS:
        del places[next(iter(places))]


def _is_above(number: str, other: str) -> bool:
    """Tell whether a number is not below another: longer ones are higher."""
    return (len(number), number) >= (len(other), other)


def is_number(text: str) -> bool:
    """Tell whether a text is a sequence number as AWS writes them."""
    return 0 < len(text) <= MAX_SEQUENCE_NUMBER_DIGITS and text.isascii() and text.isdigit()
