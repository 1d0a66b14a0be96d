"""Finds events that have come before: client retries, told by ``Upload.duplicate_keys``.

An event is a duplicate if its identity stands at a lower offset of the partition, dropped or not,
with a record time at most the window apart, as far back as the partition looks. What is found
depends on the log alone, not on when it is read or by whom: a replay finds the same.

How far it looks back follows from the records, too, and only ever goes forward:

* Records are taken in blocks of 256 offsets each. A block's time is the median of its record times.
* When the first record behind a block comes, the oldest blocks are forgotten, up to the first that
  has an identity within the window of that block's time. So record times may be out of order, or
  those of a client whose clock is wrong: it takes half of a block to move what is forgotten.
* Beyond two million identities the oldest are forgotten, whatever their time, and blocks with them.
"""

from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from forwarder.formats.contract import DUPLICATE, Upload
from forwarder.formats.pieces import split_each
from forwarder.model import DuplicateWindow, Record


class LookBackSizes(msgspec.Struct, frozen=True):
    """How much is looked back on, besides the window.

    ``block``: offsets of a block, what is forgotten together and has a time together.
    ``identities``: of one partition that are remembered, passed by one record; two million are ten
    minutes of 3,333 events a second, and some 310 MB. ``times``: record times that are kept of one
    identity, the latest, two at least; nearly always the last one matters, more of them only where
    record times are out of order by more than the window.

    They decide what is dropped: another release with others may judge a replay differently.
    """

    block: int = 256
    identities: int = 2_000_000
    times: int = 64


SIZES = LookBackSizes()
"""What a worker's partitions look back on."""

IDENTITY_BYTES = 155
"""What an identity takes in memory with its record time and its place in a block, measured
(``python -m tests.bench.duplicates``); one of a record with many events takes 50 less."""

_TIME_BYTES = 8
_DIGEST_BYTES = 15  # 120 bits: of ten million identities two are equal once in 10^22 times
_FOR_EVER = 1 << 63
_ONE_TIME = 2
"""Length of the list of one record time: in front of them stands how many are not kept."""


class _SeenBlock:
    """What is remembered of one block: from ``start`` on, in the order it came.

    ``keys`` are digests of identities, each once for every record it stands in; the first
    ``forgotten`` of them are not remembered any more. ``times`` are those of the records with
    identities, sorted once the block has ended.
    """

    __slots__ = ("forgotten", "keys", "start", "times")

    def __init__(self, start: int) -> None:
        self.start = start
        self.keys: list[bytes] = []
        self.times: array[int] = array("q")
        self.forgotten = 0


class Marked(NamedTuple):
    """What became of a poll's uploads: those with events left, and those without.

    ``partial``: those of ``kept`` that have lost some.
    """

    kept: list[Upload]
    dropped: list[Upload]
    partial: list[Upload]


class Duplicates:
    """The identities that events of one partition may repeat. Owner: its pipeline.

    Every record is given to it once and in order, from ``begin`` on. ``settled``: the first offset
    of which anything is collected; what lies below is only looked back on. ``begin`` is what was
    stored as ``seen_from(settled)``, or nothing was remembered: so nothing of it is forgotten
    before ``settled``, and what is remembered there is what it was when that was stored.
    """

    def __init__(
        self,
        windows: Sequence[DuplicateWindow],
        begin: int,
        settled: int | None = None,
        sizes: LookBackSizes | None = None,
    ) -> None:
        """Remember nothing yet.

        ``windows``, one at least, are in the order of the offsets from which they hold; the first
        holds from wherever it begins.
        """
        self._sizes = sizes or SIZES
        self._windows = windows
        self.settled = begin if settled is None else settled
        self._window_ms = 0
        self._until = begin
        self._block_times: list[int] = []
        self._times: dict[bytes, int | list[int]] = {}
        self._blocks: deque[_SeenBlock] = deque()
        self._count = 0
        self._reaches: deque[tuple[int, int | None]] = deque([(begin, begin)])

    # ------------------------------------------------------------------ commands

    def mark(self, records: Sequence[Record], uploads: Sequence[Upload]) -> Marked:
        """Mark the duplicates among a poll's events as ``DUPLICATE``, and remember them all.

        ``uploads`` are those of these records whose events count, in order: not those of re-driven
        records. The uploads of a record are judged together: equal identities in it are none of
        each other's duplicates. An upload all of whose events go is among ``dropped``.
        """
        marked = Marked([], [], [])
        at, end = 0, len(uploads)
        for record in records:
            offset = record.offset
            if offset >= self._until:
                self._turn(offset)
            if self._window_ms:
                self._block_times.append(record.timestamp)
            if at < end and uploads[at].offset == offset:
                first = at
                at += 1
                while at < end and uploads[at].offset == offset:
                    at += 1
                if not self._window_ms:
                    marked.kept.extend(uploads[first:at])
                elif at - first > 1 or not self._is_new(uploads[first], offset, record.timestamp):
                    self._judge(uploads[first:at], offset, record.timestamp, marked)
                else:
                    marked.kept.append(uploads[first])
        return marked

    def forget_reaches(self, below: int) -> None:
        """Forget how far offsets below this one looked back: nobody will ask any more."""
        reaches = self._reaches
        while len(reaches) > 1 and reaches[1][0] <= below:
            reaches.popleft()

    # ------------------------------------------------------------------ queries

    def seen_from(self, offset: int) -> int:
        """Return the lowest offset that any position from ``offset`` on may look back to.

        All below ``offset`` was given; nothing was forgotten of how far that looked back.
        """
        reach: int | None = None
        for since, start in reversed(self._reaches):
            if since <= offset:
                reach = start
                break
        return offset if reach is None else reach

    def memory_bytes(self) -> int:
        """Return an estimate of the memory that all it remembers takes; cheap."""
        return self._count * IDENTITY_BYTES + len(self._blocks) * self._sizes.block * _TIME_BYTES

    def identities(self) -> int:
        """Return how many identities are remembered."""
        return self._count

    # ------------------------------------------------------------------ judging

    def _is_new(self, upload: Upload, offset: int, time: int) -> bool:
        """Tell whether a record's only upload has one event, of no identity that is remembered.

        If so, it is remembered, as ``_judge`` would at more cost: most records are such.
        """
        keys = upload.duplicate_keys
        if len(keys) != 1 or not (key := keys[0]):
            return False
        name = blake2b(key, digest_size=_DIGEST_BYTES).digest()
        if name in self._times:
            return False
        self._times[name] = time
        block = self._blocks[-1]
        block.keys.append(name)
        block.times.append(time)
        self._count += 1
        if self._count > self._sizes.identities:
            self._forget_oldest(1, offset)
        return True

    def _judge(self, uploads: Sequence[Upload], offset: int, time: int, marked: Marked) -> None:
        """Mark what the uploads of one record repeat, then remember them."""
        found: dict[bytes, bool] = {}
        last, again = b"", False
        for upload in uploads:
            repeated: list[int] = []
            for i, key in enumerate(upload.duplicate_keys):
                if key is not last:  # the events of an upload may have one in common
                    last, again = key, False
                    if key:
                        name = blake2b(key, digest_size=_DIGEST_BYTES).digest()
                        if name in found:
                            again = found[name]
                        else:
                            again = found[name] = self._stood(name, time)
                if again:
                    repeated.append(i)
            if not repeated:
                marked.kept.append(upload)
            elif len(repeated) == len(upload.types):
                upload.types[:] = [DUPLICATE] * len(upload.types)
                marked.dropped.append(upload)
            else:
                _mark_some(upload, repeated)
                marked.partial.append(upload)
                marked.kept.append(upload)
        if found:
            self._remember(found, offset, time)

    def _stood(self, name: bytes, time: int) -> bool:
        """Tell whether an identity stood before within the window of this time."""
        known = self._times.get(name)
        if known is None:
            return False
        window = self._window_ms
        if isinstance(known, int):
            return -window <= time - known <= window
        return any(-window <= time - one <= window for one in reversed(known[1:]))

    def _remember(self, names: dict[bytes, bool], offset: int, time: int) -> None:
        """Remember the identities of one record, and forget what are too many."""
        times = self._times
        for name in names:
            known = times.get(name)
            if known is None:
                times[name] = time
            elif isinstance(known, int):
                times[name] = [0, known, time]
            else:
                known.append(time)
                if len(known) > 1 + self._sizes.times:
                    known[0] += 1
                    del known[1]
        block = self._blocks[-1]
        block.keys += names
        block.times.append(time)
        self._count += len(names)
        if self._count > self._sizes.identities:
            self._forget_oldest(self._count - self._sizes.identities, offset)

    # ------------------------------------------------------------------ forgetting

    def _turn(self, offset: int) -> None:
        """Begin the block, or the window, that the record at ``offset`` is the first of."""
        blocks, block = self._blocks, self._sizes.block
        number = offset // block
        window_ms, upcoming = self._windows[0].window_ms, _FOR_EVER
        was_off = False
        for one in self._windows[1:]:
            if one.start > offset:
                upcoming = one.start
                break
            window_ms = one.window_ms
            if not window_ms and one.start >= self._until:  # perhaps where no record is
                was_off = True
        self._window_ms = window_ms
        self._until = min((number + 1) * block, upcoming)
        if was_off or not window_ms:
            blocks.clear()
            self._block_times.clear()
            self._times.clear()
            self._count = 0
        begins = not blocks or blocks[-1].start // block != number
        if window_ms and begins:
            if blocks:
                self._end_block(offset)
            blocks.append(_SeenBlock(offset))
        self._note_reach(offset)

    def _end_block(self, offset: int) -> None:
        """End the newest block, and forget the oldest that are out of its sight.

        ``offset``: of the first record behind it.
        """
        newest, times = self._blocks[-1], sorted(self._block_times)
        self._block_times.clear()
        newest.times = array("q", sorted(newest.times))
        if not newest.keys:
            self._blocks.pop()
        lowest = times[len(times) // 2] - self._window_ms
        highest = lowest + 2 * self._window_ms
        while offset >= self.settled and self._blocks:
            oldest = self._blocks[0]
            at = bisect_left(oldest.times, lowest)
            if at < len(oldest.times) and oldest.times[at] <= highest:
                return
            self._blocks.popleft()
            for name in oldest.keys[oldest.forgotten :]:
                self._forget(name)
            self._count -= len(oldest.keys) - oldest.forgotten

    def _forget_oldest(self, number: int, offset: int) -> None:
        """Forget the oldest identities; ``offset``: of the record that was one too many."""
        self._count -= number
        while number:
            block = self._blocks[0]
            end = min(len(block.keys), block.forgotten + number)
            for name in block.keys[block.forgotten : end]:
                self._forget(name)
            number -= end - block.forgotten
            block.forgotten = end
            if end == len(block.keys) and len(self._blocks) > 1:
                self._blocks.popleft()
        self._note_reach(offset + 1)

    def _forget(self, name: bytes) -> None:
        """Forget the earliest record time of an identity."""
        known = self._times[name]
        if isinstance(known, int):
            del self._times[name]
        elif known[0]:
            known[0] -= 1  # it is not there any more
        elif len(known) > _ONE_TIME:
            del known[1]
        else:
            del self._times[name]

    def _note_reach(self, offset: int) -> None:
        """Note how far is looked back from ``offset`` on, if it is another."""
        start = self._blocks[0].start if self._blocks else None
        if self._reaches[-1][1] != start:
            self._reaches.append((offset, start))


def without_duplicates(upload: Upload) -> tuple[bytes, int]:
    """Return the events of an upload that are no duplicates, joined, and how many they are."""
    if DUPLICATE not in upload.types:
        return upload.body, len(upload.types)
    whole = (upload.offset, upload.start, len(upload.types), upload.time, upload.body)
    events = zip(split_each(whole), upload.types, strict=True)
    left = [piece[4] for piece, kind in events if kind is not DUPLICATE]
    return b",".join(left), len(left)


def _mark_some(upload: Upload, repeated: Sequence[int]) -> None:
    """Mark some events of an upload; what they were of counts for no session any more.

    Each joins the run of the event before it that is left, those in front that of the first left:
    there a marked event neither begins nor ends, nor names, anything.
    """
    types, sessions = upload.types, upload.sessions
    for i in repeated:
        types[i] = DUPLICATE
    if not sessions:
        return
    first = next(i for i, kind in enumerate(types) if kind is not DUPLICATE)
    session = sessions[first]
    for i, kind in enumerate(types):
        if kind is DUPLICATE:
            sessions[i] = session
        else:
            session = sessions[i]
