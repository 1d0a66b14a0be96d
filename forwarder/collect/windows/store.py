"""The open windows of one lane of one partition: what joins which, and when one closes.

``WindowStore`` closes by age and size; ``SingleStore`` and ``SessionStore`` beside it are the
other two batch modes. Nothing depends on how records were cut into polls: a window whose deadline
the record clock has passed is closed before an event joins it.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar

import msgspec

from forwarder.collect.keying import BY_DEVICE, BY_SESSION, replayed
from forwarder.collect.replay_filter import ReplayFilter, owner_digest
from forwarder.collect.windows import misfits
from forwarder.collect.windows.fit import RecordFit, drop_merge_cache, has_used_its_work
from forwarder.collect.windows.misfits import Misfits
from forwarder.collect.windows.queues import (
    Deadlines,
    EvictionCandidate,
    EvictionQueue,
    Siblings,
    UnsavedQueue,
    rank_of,
)
from forwarder.collect.windows.window import (
    PIECE_OVERHEAD_BYTES,
    CheckpointMark,
    PendingPart,
    TailCompressor,
    TailSizes,
    Window,
    is_of_session,
    reopened,
    session_key,
    tail_bytes,
)
from forwarder.config.connection import Batching
from forwarder.formats.contract import ContextShape, Kept, Upload
from forwarder.formats.ids import digest
from forwarder.formats.pieces import split_before, split_each
from forwarder.model import CloseReason, HeldWindow, Piece, Position

Open = Callable[[Upload, bytes, bytes], Window]
"""Opens a window for an upload, under a window key, of a session."""


class Added(msgspec.Struct, frozen=True):
    """What came of the uploads of one ``add``.

    ``closed``: windows that closed, in order. ``accepted``: events that joined a window or are
    among the ``misfits``, which fit into no document. ``settled``: events of a replay that were
    settled before. ``touched``: positions of the uploads without events that changed a window.
    """

    closed: list[Window]
    accepted: int
    settled: int
    misfits: list[Misfits]
    touched: set[Position]


class WindowStore:
    """The open windows of one lane on one partition, closed by age and size.

    Caller: ``PartitionLane``. ``open`` are the windows by key. ``memory`` estimates the bytes they
    take; ``waiting_bytes`` are those of their ``waiting_events`` as they came; ``unsaved`` is where
    they stand until a checkpoint has them. All are for reading only.
    """

    RULE: ClassVar[str] = BY_DEVICE
    """The rule by which today's events are keyed."""

    def __init__(
        self, batching: Batching, fit: RecordFit, replay: ReplayFilter, sizes: TailSizes
    ) -> None:
        """Create a store without windows; ``replay``: what an opening found to be settled."""
        self._batching = batching
        self._fit = fit
        self._small_context = fit.small_context_bytes
        self._small_events = fit.small_events_bytes
        self._replay = replay
        self.open: dict[bytes, Window] = {}
        self.memory = 0
        self.waiting_bytes = 0
        self.waiting_events = 0
        # The orders they stand in; see ``queues``.
        self._deadlines = Deadlines()
        self._by_age = EvictionQueue()
        self._siblings = Siblings()
        self.unsaved = UnsavedQueue()
        self._tails = TailCompressor(sizes)
        self._first_look, self._long_tail = sizes.first_look, sizes.long
        # What has come of the current call.
        self._closed: list[Window] = []
        self._accepted = 0
        self._settled = 0
        self._misfits: list[Misfits] = []
        self._touched: set[Position] = set()

    # ------------------------------------------------------------------ what the lane asks for

    def add(self, kept: Iterable[Kept]) -> Added:
        """Add a poll's uploads in stream order."""
        self._tails.begin_poll()
        take, read, below = self._taker(), self._replay.read, self._replay.accept_below
        for upload, pieces in kept:
            if below is not None and upload.offset >= below:
                continue
            if upload.offset < read:
                self._add_again(upload, pieces)
            elif len(upload.context) > self._small_context or len(upload.body) > self._small_events:
                take(*self._fitting(upload, pieces))
            else:
                take(upload, pieces)
            if upload.merged is not None:
                drop_merge_cache(upload)
        added = Added(
            self._take_closed(), self._accepted, self._settled, self._misfits, self._touched
        )
        self._accepted = self._settled = 0
        self._misfits, self._touched = [], set()
        return added

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
        self._weigh(window, tail_bytes(window.pieces) + window.further_bytes())
        self._look(window)

    def compress_above(self, memory_bytes: int) -> None:
        """Compress also short tails while ``memory`` is above this; long ones are always."""
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

    # ------------------------------------------------------------------ what joins which window

    def _taker(self) -> Callable[[Upload, list[Piece]], None]:
        """Return what takes an upload that comes for the first time."""
        return self._join

    def _add_again(self, upload: Upload, pieces: list[Piece]) -> None:
        """Add what of a replayed upload is not settled, keyed by the rule of its time (L2)."""
        rule, upload = replayed(self._replay, upload, self.RULE, self._fit.form.former_rules)
        pieces, gone = misfits.without_lettered(self._replay, upload, pieces)
        self._settled += gone
        if rule not in {BY_DEVICE, BY_SESSION}:
            rule = self.RULE
        if len(upload.context) > self._small_context or len(upload.body) > self._small_events:
            upload, pieces = self._fitting(upload, pieces, by_session=rule == BY_SESSION)
        if rule == BY_SESSION:
            self._add_again_by_session(upload, pieces)
        else:
            self._add_again_by_device(upload, pieces)
        drop_merge_cache(upload)

    def _add_again_by_device(self, upload: Upload, pieces: list[Piece]) -> None:
        admitted = self._admit(upload, owner_digest(upload), pieces)
        if admitted is not None:
            self._join(upload, admitted)

    def _add_again_by_session(self, upload: Upload, pieces: list[Piece]) -> None:
        """Add events that were keyed by session when they came first; they close by age."""
        for piece in [single for run in pieces for single in split_each(run)]:
            session = upload.sessions[piece[1] - upload.start] if upload.types else b""
            key = session_key(upload.owner, session)
            admitted = self._replay.admitted(digest(key), [piece])
            if admitted:
                self._join(upload, admitted, key, session)
            else:
                self._settled += piece[2]

    def _admit(self, upload: Upload, key: bytes, pieces: list[Piece]) -> list[Piece] | None:
        """Return the replayed pieces that are wanted, and count the others as settled.

        None if the upload must not touch the window. ``key`` is the digest of the window key.
        """
        replay, position = self._replay, (upload.offset, upload.start)
        if replay.need <= position > replay.settled_to(key):  # all of it, nearly always
            return pieces
        if not pieces:
            return None
        admitted = replay.admitted(key, pieces)
        self._settled += sum(p[2] for p in pieces) - sum(p[2] for p in admitted)
        return admitted or None

    def _fitting(
        self, upload: Upload, pieces: list[Piece], *, by_session: bool = False
    ) -> tuple[Upload, list[Piece]]:
        """Return an upload as it may wait, and what of it fits alone; note the rest."""
        fits, found = misfits.split_misfits(self._fit, upload, pieces)
        if found is not None and upload.offset < self._replay.read:
            found = misfits.unsettled_misfits(self._replay, found, by_session=by_session)
        if found is not None:
            self._accepted += found.events
            self._misfits.append(found)
        return self._fit.pruned(upload), fits

    def _join(
        self, upload: Upload, pieces: list[Piece], key: bytes = b"", session: bytes = b""
    ) -> None:
        """Add an upload to the window of a key, or without one of its owner."""
        key = key or upload.owner
        window = self.open.get(key)
        if window is not None and window.deadline <= upload.clock:
            self.close(window, window.reason)
            window = None
        if (
            window is not None
            and pieces
            and (  # as ``_make_room`` would ask first: a call an event is not free
                window.narrow
                or len(window.context) + len(upload.context) > self._small_context
                or len(upload.body) > self._small_events
            )
            and not self._make_room(window, upload, pieces)
        ):
            self.close(window, CloseReason.SIZE)
            window = None
        if len(pieces) == 1:  # the usual case
            piece = pieces[0]
            if window is not None:
                if piece[2] < self._batching.max_events - window.count:
                    self._put(window, piece, self._fit.absorb(window, upload))
                    return
            elif piece[2] < self._batching.max_events:
                self._put(self.open_window(upload, key, session), piece)
                return
        if pieces:
            self._fill(upload, window, self.open_window, pieces, key, session)
        elif window is not None:
            self._update_context(window, upload, (upload.offset, upload.start))

    def _fill(  # noqa: PLR0913, PLR0917  # where to put what
        self,
        upload: Upload,
        window: Window | None,
        open_new: Open,
        pieces: list[Piece],
        key: bytes,
        session: bytes,
    ) -> None:
        """Put pieces into the window, or into new ones, closing each that is full."""
        most = self._batching.max_events
        if window is not None and len(pieces) == 1 and pieces[0][2] < most - window.count:
            self._put(window, pieces[0], self._fit.absorb(window, upload))  # the usual case
            return
        informed: Window | None = None
        for whole in pieces:
            # A restored one may have more events than a size set since.
            room = most if window is None else max(0, most - window.count)
            for piece in split_before(whole, range(room or most, whole[2], most)):
                if window is not None and window.count >= most:
                    self.close(window, CloseReason.SIZE)
                    window = None
                if window is None:
                    window = informed = open_new(upload, key, session)
                elif informed is not window:
                    self._weigh(window, self._fit.absorb(window, upload))
                    informed = window
                self._put(window, piece)
        if window is not None and window.count >= most:
            self.close(window, CloseReason.SIZE)

    def _make_room(self, window: Window, upload: Upload, pieces: Sequence[Piece] = ()) -> bool:
        """Tell whether a window has room for an upload; else it has to close first.

        Where it has, the pieces have to be put into it: they are counted there by now.
        """
        if (
            not window.narrow
            and len(window.context) + len(upload.context) <= self._small_context
            and len(upload.body) <= self._small_events
        ):
            return True
        before = len(window.context)
        found = self._fit.try_join(window, upload, pieces)
        self._weigh(window, len(window.context) - before)
        window.narrow = window.event_bytes >= 0
        if not window.narrow:
            window.framed_context = b""  # what joins it now is not judged any more
        return found

    def _update_context(self, window: Window, upload: Upload, position: Position) -> None:
        """Update the context alone; a replay has to see that position of the upload again, too.

        Where it has no room for it, the window closes: what comes later has a newer context.
        """
        if not upload.types:
            self._touched.add((upload.offset, upload.start))
        if not self._make_room(window, upload):
            self.close(window, CloseReason.SIZE)
            return
        self._weigh(window, self._fit.absorb(window, upload))
        window.touched = position
        self._note_change(window, position)
        if has_used_its_work(window):
            self.close(window, CloseReason.SIZE)

    def _put(self, window: Window, piece: Piece, grown: int = 0) -> None:
        """Add a piece; ``grown`` is by how many bytes the context has become larger with it."""
        offset, index, count, _, body = piece
        size = len(body)
        more = size + PIECE_OVERHEAD_BYTES + grown
        window.pieces.append(piece)
        window.count += count
        window.touched = position = (offset, index)
        self._accepted += count
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
            key, upload.device, session, [], 0, upload.context, upload.shape, upload.time,
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
        if window.key is not window.device:
            if self.RULE is BY_DEVICE or not is_of_session(window.key, window.session):
                self._siblings.put(window, offset)
        elif self.RULE is BY_SESSION:
            self._siblings.put(window, offset)

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
        del self.open[window.key]
        if window.slot >= 0:
            self._deadlines.remove(window)
        self.memory -= window.weight
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

    def _look(self, window: Window) -> None:
        """Compress a tail that has become long, and note a class that has become higher."""
        self._weigh(window, -self._tails.look(window, self.memory))
        rank = rank_of(window.weight)
        if rank > window.size_class:
            window.size_class = rank
            self._by_age.put(window)
