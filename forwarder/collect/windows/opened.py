"""What is open of one lane of one partition: the windows' orders, their saving, their memory.

What joins which window is decided by the stores (``store``, ``sessions``, ``singles``), which are
kinds of ``OpenWindows``.
"""

from typing import ClassVar

from forwarder.collect.keying import BY_DEVICE, BY_SESSION
from forwarder.collect.windows.eviction import EvictionCandidate, EvictionQueue, rank_of
from forwarder.collect.windows.fit import RecordFit
from forwarder.collect.windows.packs import Pack
from forwarder.collect.windows.queues import (
    Deadlines,
    LazyQueue,
    Siblings,
    UnsavedQueue,
)
from forwarder.collect.windows.shares import Shares, are_spread
from forwarder.collect.windows.table import Table
from forwarder.collect.windows.tails import ENOUGH_MEMORY_BYTES, TailCompressor, TailSizes
from forwarder.collect.windows.window import (
    PIECE_OVERHEAD_BYTES,
    CheckpointMark,
    PendingPart,
    Window,
    is_of_session,
    reopened,
    tail_bytes,
)
from forwarder.config.connection import Batching
from forwarder.formats.contract import ContextShape, Upload
from forwarder.model import CloseReason, HeldWindow, Piece, Position

_MOST_SPREAD = 2
"""Times as many windows as a pack has that are passed over in search of those for one."""


class OpenWindows:
    """The open windows of one lane on one partition.

    Callers: ``PartitionLane`` and ``Checkpoint``. ``open`` are the windows by key. ``memory``
    estimates the bytes they take, their ``weight`` and what is ``beside`` it: of no window alone;
    ``waiting_bytes`` are those of their ``waiting_events`` as they
    came; ``unsaved`` is where they stand until a checkpoint has them. All are for reading only.
    """

    RULE: ClassVar[str] = BY_DEVICE
    """The rule by which today's events are keyed."""

    def __init__(
        self, batching: Batching, fit: RecordFit, sizes: TailSizes, shares: Shares
    ) -> None:
        """Create it without windows; ``shares``: what they hold together with those of others."""
        self._batching = batching
        self._small_context = fit.small_context_bytes
        self._small_events = fit.small_events_bytes
        self.open: Table[Window] = Table()
        self.memory = self.beside = 0
        self.waiting_bytes = 0
        self.waiting_events = 0
        # The orders they stand in; see ``queues``.
        self._deadlines = Deadlines()
        self._by_age = EvictionQueue()
        self._siblings = Siblings()
        self.unsaved = UnsavedQueue()
        # Those of which something is in no pack, and what those weigh that are cold.
        self._unpacked: LazyQueue[Window] = LazyQueue(_is_open)
        self._next: list[Window] = []  # taken out of them, to be packed
        self._cold = 0
        self._clock = 0  # the record clock, as of what was added last
        self._packed = sizes.packed
        self._tails = TailCompressor(sizes)
        self._plain_bytes = ENOUGH_MEMORY_BYTES  # as the compressor has it, asked with every poll
        self._first_look, self._long_tail = sizes.first_look, sizes.long
        # ``_taking`` is that while pieces of a poll are entered, ``_has_taken``: any ever were.
        self._shares = shares
        self._taking: Shares | None = None
        self._has_taken = False
        # What has come of the current call.
        self._closed: list[Window] = []
        self._accepted = 0

    # ------------------------------------------------------------------ what the lane asks for

    def expire(self, now: int, limit: int | None = None) -> list[Window]:
        """Close at most ``limit`` windows whose deadline is not after ``now``; return them.

        Milliseconds. Those of one device leave in the order of their first events, also over
        several calls.
        """
        for window in self._deadlines.take_due(now, limit):
            if not window.closed:  # closing one closes what its device opened before, due or not
                self.close(window, window.reason)
        return self._take_closed()

    def finish(self) -> list[Window]:
        """Close every window because the input has ended; return them."""
        for window in sorted(self.open.values(), key=Window.first_position):
            if not window.closed:
                self.close(window, CloseReason.END)
        return self._take_closed()

    def shed(self, window: Window) -> list[Window]:
        """Close a window for want of memory; return what had to close with it."""
        self.close(window, CloseReason.MEMORY)
        return self._take_closed()

    def restore(self, held: HeldWindow, pieces: list[Piece], shape: ContextShape) -> None:
        """Open a saved window again with those of its pieces that today's filter keeps (O7).

        Those of a ``PackedWindow`` stand in the window itself. The order of the calls does not
        matter.
        """
        self._tails.begin_poll()  # an opening has its own slices
        window, largest = reopened(held, pieces, shape, self._long_tail)
        window.narrow = len(held.context) > self._small_context or largest > self._small_events
        self.unsaved.put_saved(window)
        if self.RULE == BY_DEVICE and is_of_session(held.key, held.session):
            window.deadline = min(window.deadline, window.opened + self._batching.max_age_ms)
        self._register(window, None)
        self.waiting_events += window.count
        self.waiting_bytes += window.events_bytes()
        self._weigh(window, tail_bytes(window.tail_pieces()) + window.further_bytes())
        self._look(window)
        self._pack_oldest()

    def compress_above(self, memory_bytes: int) -> None:
        """Compress also short tails while ``memory`` is above this; long ones are always."""
        self._plain_bytes = memory_bytes
        self._tails.compress_above(memory_bytes)

    def next_deadline(self) -> int | None:
        """Return the earliest deadline; perhaps too early, never too late."""
        return self._deadlines.earliest() if self.open else None

    def oldest_opened(self) -> int | None:
        """Return when the oldest open window was opened, in milliseconds of record time."""
        oldest = self._by_age.oldest()
        return None if oldest is None else oldest.opened

    def eviction_candidate(self, clock: int) -> EvictionCandidate | None:
        """Return the largest old window, with its score to compare it with those of other lanes."""
        return self._by_age.candidate(clock)

    def would_touch(self, upload: Upload) -> bool:
        """Tell whether an upload, had it no events, would change an open window."""
        return upload.owner in self.open

    def save(self, window: Window, below: int, checkpoint: CheckpointMark) -> HeldWindow | None:
        """Return the stored form of an open window (K2). Caller: ``Checkpoint``.

        All of it if events below the offset are unsaved: it is pending then, in place of a part
        whose checkpoint came to nothing. Else the part that was saved before; None: there is none.
        """
        self._resolve(window)
        part = window.saved
        if window.unsaved is not None and window.unsaved[0] < below:
            part = window.part_now()
            if window.pending is not None:
                self._weigh(window, -window.pending.part.memory_bytes())
            window.pending = PendingPart(part, checkpoint)
            self._weigh(window, part.memory_bytes())
        return None if part is None else window.stored(part)

    # ------------------------------------------------------------------ what changes

    def _begin_poll(self) -> None:
        """Begin to add a poll's uploads."""
        self._tails.begin_poll()
        self._taking = None
        if self._shares.taking:
            self._taking, self._has_taken = self._shares, True

    def _put(self, window: Window, piece: Piece, grown: int = 0) -> None:
        """Add a piece; ``grown`` is by how many bytes the context has become larger with it."""
        offset, index, count, _, body = piece
        size = len(body)
        more = size + PIECE_OVERHEAD_BYTES + grown
        window.append(piece)
        if self._taking is not None:
            self._taking.take(piece)
        window.count += count
        self._accepted += count
        window.touched = position = (offset, index)
        self.waiting_events += count
        self.waiting_bytes += size
        self.memory += more
        window.weight = weight = window.weight + more
        if window.unsaved is None or window.pending is not None:
            self._note_change(window, position)
        if weight >= window.look_at:
            self._look(window)

    def _note_change(self, window: Window, position: Position) -> None:
        """Note the first change of a window since it was opened, saved or taken to be saved."""
        if window.pending is not None:
            self._resolve(window)
        if window.unsaved is None:
            window.unsaved = position
        elif window.pending is not None and window.pending.after is None:
            window.pending.after = position
        else:
            return
        self.unsaved.put(window, position)

    def _resolve(self, window: Window) -> None:
        """Make a pending part the saved one if its checkpoint is settled by now."""
        pending = window.pending
        if pending is not None and pending.checkpoint.settled:
            if window.saved is not None:
                self._weigh(window, -window.saved.memory_bytes())
            window.saved, window.unsaved, window.pending = pending.part, pending.after, None

    # ------------------------------------------------------------------ opening and closing

    def open_window(
        self,
        upload: Upload,
        key: bytes,
        session: bytes,
        deadline: int | None = None,
        reason: CloseReason = CloseReason.AGE,
    ) -> Window:
        """Open a window under a key that has none; without a deadline it closes by age."""
        if deadline is None:
            deadline = upload.clock + self._batching.max_age_ms
        window = Window(
            key, upload.device, session, upload.context, upload.shape, upload.time,
            upload.time, upload.clock, upload.clock, deadline, reason,
        )  # fmt: skip
        window.narrow = (
            len(upload.context) > self._small_context or len(upload.body) > self._small_events
        )
        self._register(window, upload.offset)
        return window

    def _register(self, window: Window, offset: int | None) -> None:
        """Take in a window that opens with the record at an offset, None: again."""
        self.open[window.key] = window
        window.look_at = self._first_look
        window.weight = weight = window.least_bytes()
        self.memory += weight
        self._deadlines.put(window)
        self._by_age.put(window)
        self._unpacked.append(window)
        if window.key is not window.device:
            if self.RULE is BY_DEVICE or not is_of_session(window.key, window.session):
                self._siblings.put(window, offset)
        elif self.RULE is BY_SESSION:
            self._siblings.put(window, offset)

    def _queue(self, fresh: list[Window]) -> None:
        """Put windows into their orders, and empty the list: opened one after the other.

        They have their event, their deadlines lie in one second (``slot``), and none is one of
        several of its device.
        """
        if fresh:
            self._deadlines.put_run(fresh)
            self._by_age.put_run(fresh)
            self.unsaved.put_run(fresh)
            self._unpacked.extend(fresh)
            fresh.clear()

    def move_deadline(self, window: Window, deadline: int, reason: CloseReason) -> None:
        """Change when and why a window is going to close."""
        window.deadline, window.reason = deadline, reason
        self._deadlines.put(window)

    def close(self, window: Window, reason: CloseReason) -> None:
        """Close a window, and before it what its device opened earlier; the caller gets both."""
        if self._siblings.devices:
            self._close_siblings(window.device, window.first_position())
            self._siblings.remove(window)
        self._close_alone(window, reason)

    def _close_siblings(self, device: bytes, before: Position) -> None:
        """Close what a device has open since before this position, in the order of first events."""
        for window in self._siblings.before(device, before, self.open.get(device)):
            self._siblings.remove(window)
            self._close_alone(window, window.reason)

    def _close_alone(self, window: Window, reason: CloseReason) -> None:
        """Close a window whatever else its device has open; callers see to the order."""
        window.reason, window.closed = reason, True
        del (self.open.whole or self.open.part(window.key))[window.key]
        if window.slot >= 0:
            self._deadlines.remove(window)
        self.memory -= window.weight
        if self._has_taken:
            self._shares.release(window.tail_pieces())
        if window.pack is not None:
            if window.cold:
                self._cold -= window.weight
            self._leave(window.pack)
        self.waiting_events -= window.count
        self.waiting_bytes -= window.events_bytes()
        self._closed.append(window)

    def _take_closed(self) -> list[Window]:
        closed, self._closed = self._closed, []
        return closed

    # ------------------------------------------------------------------ memory

    def _weigh(self, window: Window, more: int) -> None:
        window.weight += more
        self.memory += more
        if window.cold:
            self._cold += more

    def _weigh_beside(self, more: int) -> None:
        self.beside += more
        self.memory += more

    def _look(self, window: Window) -> None:
        """Compress a tail that has become long, and note a class that has become higher."""
        shares = self._shares if self._has_taken else None
        self._weigh(window, -self._tails.look(window, self.memory, shares))
        rank = rank_of(window.weight)
        if rank > window.size_class:
            window.size_class = rank
            self._by_age.put(window)

    # ------------------------------------------------------------------ packs

    def _pack_oldest(self) -> None:
        """While memory is short, pack the windows that have waited longest for it."""
        while self._tails.should_pack(self.memory, self.memory - self.beside - self._cold):
            if not self._find_next():
                return
            self._pack(self._next)
            self._next = []

    def _find_next(self) -> bool:
        """Find the windows that are packed next; False: too few, and they wait for the next poll.

        Either there are no more, or a poll may not look at more, or of many others lanes hold what
        would be packed, too: that frees nothing, and they have another turn.
        """
        twice_now = 2 * self._clock if self._tails.may_wait(self.memory) else 0
        group: list[Window] = []
        spread: list[Window] = []
        found = self._next or self._take_unpacked(self._packed)
        while found:
            for window in found:
                if (
                    window.closed
                    or window.narrow
                    or 2 * len(window.context) > self._small_context
                    or window.deadline + window.last_activity < twice_now
                    or not self._tails.can_be_packed(window)
                ):
                    continue
                is_spread = self._has_taken and are_spread(self._shares, window.tail_pieces())
                (spread if is_spread else group).append(window)
            lacking = self._packed - len(group)
            goes_on = len(spread) < _MOST_SPREAD * self._packed
            found = self._take_unpacked(lacking) if lacking and goes_on else []
        self._unpacked.extend(spread)
        self._next = group
        return len(group) == self._packed

    def _take_unpacked(self, most: int) -> list[Window]:
        return self._unpacked.take(most) if self._tails.may_look(most) else []

    def _pack(self, group: list[Window]) -> None:
        pack = self._tails.pack([window.entry() for window in group])
        self._weigh_beside(pack.memory_bytes())
        known = look_at = 0
        for place, window in enumerate(group):
            former = window.pack
            if self._has_taken:
                self._shares.release(window.tail_pieces())
            window.enter(pack, place)
            if former is not None:
                self._leave(former)
            weight = window.memory_bytes()
            self.memory += weight - window.weight
            self._cold += weight
            if weight != known:  # one number for all that weigh the same, not one each
                known, look_at = weight, weight + self._first_look
            window.weight, window.look_at = known, look_at

    def _leave(self, pack: Pack) -> None:
        """Note that a window needs a pack no more."""
        pack.living -= 1
        if not pack.living:
            self._weigh_beside(-pack.memory_bytes())

    def _note_warm(self, window: Window) -> None:
        """Note that a cold window has, or is about to get, another context than its pack has."""
        self._cold -= window.weight
        window.cold = False
        self._unpacked.append(window)

    def _warm(self, window: Window) -> None:
        """Read a cold window's context again: it is to be merged, or compared."""
        window.warm()
        self._note_warm(window)
        self._weigh(window, len(window.context))


def _is_open(window: Window) -> bool:
    return not window.closed
