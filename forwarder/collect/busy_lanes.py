"""Which lanes of a partition have work, so that nobody looks at all of them where few have any."""

import heapq
import sys
from collections.abc import Iterable, Mapping, Sequence

from forwarder.collect.lane import PartitionLane
from forwarder.collect.windows.shares import MOST_HOLDERS, NOTHING_FRESH, Shares
from forwarder.collect.windows.tails import ENOUGH_MEMORY_BYTES
from forwarder.formats.contract import Upload
from forwarder.model import Position

_NEVER = sys.maxsize

_FEW_STALE = 64
"""Deadlines that count no more and may stand among the others, besides as many as those are."""


class BusyLanes:
    """What is known of the lanes of one partition between two changes of them.

    Owner: the partition's pipeline, which notes every lane it has changed; all else is a query.
    ``pending``: numbers of lanes with windows whose documents are not all made. ``holding``: those
    of lanes in which anything is open or pending. A lane's number is its place among all.
    """

    def __init__(self, lanes: Sequence[PartitionLane], shares: Shares) -> None:
        """Begin with lanes of which none holds anything; ``shares``: what their windows share."""
        self.pending: set[int] = set()
        self.holding: set[int] = set()
        self._lanes = lanes
        self._shares = shares
        # The earliest deadline of each lane that has one: in a heap, in which a lane stands again
        # once it has an earlier one. ``_queued`` has the one that counts.
        self._deadlines: list[tuple[int, int]] = []
        self._queued: dict[int, int] = {}
        # By lane from which record time on what opens in it is due later than what counts.
        self._waits_from = [_NEVER] * len(lanes)
        # What was changed since it was last asked for, and what was said then.
        self._unweighed: set[int] = set()
        self._weights = [0] * len(lanes)
        self._memory = 0
        self._plain_bytes, self._is_short = ENOUGH_MEMORY_BYTES, False
        self._moved: set[int] = set(range(len(lanes)))
        self._unsaved: dict[str, Position] = {}
        self._with_unsaved: set[int] = set()

    # ------------------------------------------------------------------ commands

    def note(self, number: int) -> None:
        """Take note of what a lane holds, after every change of it."""
        self._unweighed.add(number)
        self.enter(self._lanes[number])

    def enter(self, lane: PartitionLane) -> None:
        """Do what is left of ``note`` for a lane that had its turn."""
        number, due = lane.number, lane.windows.next_deadline()
        self._moved.add(number)
        if lane.pending:
            self.pending.add(number)
        else:
            self.pending.discard(number)
        if due is None:
            (self.holding.add if lane.pending else self.holding.discard)(number)
            self._queued.pop(number, None)
        else:
            self.holding.add(number)
            self._queue(number, due)
        self._note_waiting(number)

    def _queue(self, number: int, due: int) -> None:
        """Have a lane's turn come at its earliest deadline, unless it comes before."""
        queued = self._queued.get(number)
        if queued is None or due < queued:
            self._queued[number] = due
            heapq.heappush(self._deadlines, (due, number))
            if len(self._deadlines) > 2 * len(self._queued) + _FEW_STALE:
                # A sorted list is a heap; a lane may have been emptied and filled with every poll.
                self._deadlines = sorted((due, number) for number, due in self._queued.items())

    def _note_waiting(self, number: int) -> None:
        """Note from when on ``waits`` is true of a lane: asked with every poll, it is one look."""
        due_in, queued = self._lanes[number].due_in, self._queued.get(number)
        first = number not in self._with_unsaved or number in self.pending
        # A saved window may be due after all that opens now: it was opened under another age.
        self._waits_from[number] = (
            _NEVER if due_in is None or queued is None or first else queued - due_in
        )

    def waits(self, number: int, opened: int) -> bool:
        """Tell whether a lane that had its turn need not be entered: nothing closed or closes.

        It stands among those with a deadline; what ``opened`` then or later is due later. What came
        is not its first that is in no snapshot. Caller: the pipeline, where nothing closed.
        """
        return opened >= self._waits_from[number]

    def turn(self, now: int, fed: Iterable[int] = ()) -> list[int]:
        """Return in order the lanes that have something to do; the caller enters each of them.

        What is due by ``now`` or pending, and those that are ``fed``. Until all are entered nothing
        else is asked.
        """
        lanes = self.pending.union(fed)
        deadlines, queued = self._deadlines, self._queued
        while deadlines and deadlines[0][0] <= now:
            due, number = heapq.heappop(deadlines)
            if queued.get(number) == due:
                del queued[number]
                self._waits_from[number] = _NEVER
                lanes.add(number)
        self._unweighed |= lanes
        return sorted(lanes) if len(lanes) > 1 else list(lanes)

    def compress_above(self, memory_bytes: int) -> None:
        """Have lanes compress also short tails while all together take more than this."""
        self._plain_bytes, self._is_short = memory_bytes, True
        self._share_room(range(len(self._lanes)))

    def begin_poll(self, wanted: Mapping[int, Sequence[Upload]], uploads: int) -> None:
        """Prepare lanes for a poll that is about to be added to them.

        Caller: the pipeline. ``wanted``: by lane the uploads it gets, one at least; ``uploads``:
        how many there are that any gets.
        """
        self._share_room(wanted)
        shares, fresh_from = self._shares, NOTHING_FRESH
        shares.taking = sum(map(len, wanted.values())) > uploads
        if shares.taking and len(wanted) > MOST_HOLDERS:
            fresh_from = min([one[0].offset for one in wanted.values()])
        shares.fresh_from = fresh_from

    def _share_room(self, fed: Iterable[int]) -> None:
        """Tell lanes how much may wait plain: all of it, or where that is too little their share.

        A lane counts in full what it shares, all together once. So none takes more than all, and
        while all take more than they may, each takes more than its share.
        """
        total, most = self.memory_bytes(), self._plain_bytes
        was_short, self._is_short = self._is_short, total > most
        if not self._is_short:
            fed = range(len(self._lanes)) if was_short else ()
        for number in fed:
            windows = self._lanes[number].windows
            windows.compress_above(most * windows.memory // total if self._is_short else most)

    # ------------------------------------------------------------------ queries

    def next_deadline(self) -> int | None:
        """Return the earliest deadline of any window; perhaps too early, never too late."""
        deadlines, queued = self._deadlines, self._queued
        while deadlines and queued.get(deadlines[0][1]) != deadlines[0][0]:
            heapq.heappop(deadlines)
        return deadlines[0][0] if deadlines else None

    def memory_bytes(self) -> int:
        """Return an estimate of the memory that all open and pending windows take.

        What several open windows hold counts once.
        """
        if self._unweighed:
            lanes, weights, more = self._lanes, self._weights, 0
            for number in self._unweighed:
                lane = lanes[number]
                weight = lane.memory_bytes() if lane.pending else lane.windows.memory
                more += weight - weights[number]
                weights[number] = weight
            self._memory += more
            self._unweighed.clear()
        return self._memory - self._shares.saved

    def unsaved(self) -> dict[str, Position]:
        """Return by lane the lowest position in an open or pending window that is in no snapshot.

        A lane that is not in it has none. For reading only, until the next change.
        """
        for number in self._moved:
            lane = self._lanes[number]
            if (first := lane.first_unsaved()) is None:
                self._unsaved.pop(lane.lane.name, None)
                self._with_unsaved.discard(number)
            else:
                self._unsaved[lane.lane.name] = first
                self._with_unsaved.add(number)
            self._note_waiting(number)
        self._moved.clear()
        return self._unsaved
