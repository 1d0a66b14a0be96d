"""The open windows of one lane of one partition: what joins which, and when one closes.

``WindowStore`` closes by age and size; ``SingleStore`` and ``SessionStore`` beside it are the
other two batch modes. Nothing depends on how records were cut into polls: a window whose deadline
the record clock has passed is closed before an event joins it.
"""

from collections.abc import Callable, Iterable, Sequence

import msgspec

from forwarder.collect.keying import BY_DEVICE, BY_SESSION, replayed
from forwarder.collect.replay_filter import ReplayFilter, owner_digest
from forwarder.collect.windows import misfits
from forwarder.collect.windows.fit import RecordFit, drop_merge_cache, has_used_its_work
from forwarder.collect.windows.joiner import JoinBounds, native_joiner
from forwarder.collect.windows.misfits import Misfits
from forwarder.collect.windows.opened import OpenWindows
from forwarder.collect.windows.queues import SECOND_MS
from forwarder.collect.windows.shares import Shares
from forwarder.collect.windows.table import SPLIT_FROM
from forwarder.collect.windows.tails import TailSizes
from forwarder.collect.windows.window import (
    LEAST_BYTES,
    PIECE_OVERHEAD_BYTES,
    Window,
    session_key,
)
from forwarder.config.connection import Batching
from forwarder.formats.contract import Kept, Upload
from forwarder.formats.ids import digest
from forwarder.formats.pieces import split_before, split_each
from forwarder.model import CloseReason, Piece, Position

Open = Callable[[Upload, bytes, bytes], Window]
"""Opens a window for an upload, under a window key, of a session."""


class Added(msgspec.Struct, frozen=True):
    """What came of the uploads of one ``add`` besides events that it accepted.

    ``closed``: windows that closed, in order. ``settled``: events of a replay that were settled
    before. ``misfits``: what fits into no document. ``touched``: positions of the uploads without
    events that changed a window.
    """

    closed: list[Window]
    settled: int
    misfits: list[Misfits]
    touched: set[Position]


class WindowStore(OpenWindows):
    """The open windows of a lane, closed by age and size. Caller: ``PartitionLane``."""

    def __init__(
        self,
        batching: Batching,
        fit: RecordFit,
        replay: ReplayFilter,
        sizes: TailSizes,
        shares: Shares,
    ) -> None:
        """Create a store without windows; ``replay``: what an opening found to be settled."""
        super().__init__(batching, fit, sizes, shares)
        self._fit = fit
        self._replay = replay
        self._joiner = native_joiner(
            JoinBounds(
                self._small_context, self._small_events, batching.max_events, batching.max_age_ms,
                sizes.first_look,
            )
        )  # fmt: skip
        # What has come of the current call, besides what closed and was accepted.
        self._settled = 0
        self._misfits: list[Misfits] = []
        self._touched: set[Position] = set()

    # ------------------------------------------------------------------ what the lane asks for

    def add(self, kept: Iterable[Kept]) -> tuple[int, Added | None]:
        """Add a poll's uploads in stream order; return as ``add_whole`` does."""
        self._begin_poll()
        read, below = self._replay.read, self._replay.accept_below
        taking = self._taking
        for upload, pieces in kept:
            if taking is not None:  # what a filter has made for this lane alone is not entered
                is_whole = len(pieces) == 1 and pieces[0] is upload.piece
                self._taking = taking if is_whole else None
            if below is not None and upload.offset >= below:
                continue
            if upload.offset < read:
                self._add_again(upload, pieces)
                if upload.merged is not None:
                    drop_merge_cache(upload)
            else:
                self._take_one(upload, pieces)
            self._clock = upload.clock
        return self._added()

    def add_whole(self, uploads: list[Upload]) -> tuple[int, Added | None]:
        """Add a poll's uploads, of which every event is kept as it came, in stream order.

        None of them comes again (a replay), or is one that the lane does not take any more.
        Returns how many events joined a window or are misfits, and what else came of the uploads;
        None: nothing else, as nearly always.
        """
        self._begin_poll()
        self._take_whole(uploads)
        if uploads:
            self._clock = uploads[-1].clock
        return self._added()

    def wants_whole(self, upload: Upload) -> bool:
        """Tell whether nothing of a replayed upload is settled, and its rule is today's.

        Then ``add_whole`` may take it like one that comes for the first time.
        """
        first, replay = (upload.offset, upload.start), self._replay
        if first < replay.need or not replay.entries():
            return first >= replay.need
        if first <= replay.settled_to(upload.name or owner_digest(upload)):
            return False
        return not misfits.is_lettered(replay, upload)

    def wants_all(self, uploads: Sequence[Upload]) -> bool:
        """Tell whether ``wants_whole`` holds of each of a replay's uploads; False: ask it of each.

        They come in order, one at least.
        """
        first, replay = uploads[0], self._replay
        if self.RULE != BY_DEVICE or replay.entries():
            return False
        return (first.offset, first.start) >= replay.need

    def _added(self) -> tuple[int, Added | None]:
        """Return what came of the current call.

        It makes nothing where nothing came: of a thousand lanes each has its turn in every poll.
        """
        if self.memory > self._plain_bytes:
            self._pack_oldest()
        if len(self.open.whole or ()) >= SPLIT_FROM:
            self.open.split()
        accepted, self._accepted = self._accepted, 0
        if not (self._closed or self._settled or self._misfits or self._touched):
            return accepted, None
        added = Added(self._take_closed(), self._settled, self._misfits, self._touched)
        self._settled, self._misfits, self._touched = 0, [], set()
        return accepted, added

    # ------------------------------------------------------------------ what joins which window

    def _take_whole(self, uploads: list[Upload]) -> None:
        """Add whole uploads that come for the first time."""
        if self._joiner is None:
            self._join_whole(uploads)
            return
        events, size, memory = self._joiner.join(self, uploads, self.open.parts, self._taking)
        self.memory += memory
        self._accepted += events
        self.waiting_events += events
        self.waiting_bytes += size

    def _join_whole(self, uploads: list[Upload]) -> None:  # noqa: C901, PLR0912, PLR0915
        """Add whole uploads that come for the first time; native twin: ``windows.rs``.

        The usual cases of ``_take_one`` stand here in one loop without a call for each event: the
        only piece of an upload opens a window of its device, in the place of one that is due, or
        joins one that then has its context and is not full. Counts are kept aside meanwhile, and
        windows that opened (``fresh``) wait for their queues.
        """
        whole, part_of = self.open.whole, self.open.part
        small_context, small_events = self._small_context, self._small_events
        half_context = small_context // 2  # no cold window has a larger one
        most, max_age_ms = self._batching.max_events, self._batching.max_age_ms
        first_look, age, least = self._first_look, CloseReason.AGE, LEAST_BYTES
        take = None if self._taking is None else self._taking.take
        events = size = memory = 0
        clock = deadline = second = -1
        fresh: list[Window] = []
        for upload in uploads:
            piece, key, context = upload.piece, upload.owner, upload.context
            part = part_of(key) if whole is None else whole
            window, length = part.get(key), len(context)
            if piece is None or (filled := len(piece[4])) > small_events:
                pass  # unusual
            elif window is None or window.deadline <= upload.clock:
                weight = least + length + len(key) + filled
                if (
                    weight < first_look
                    and piece[2] < most
                    and key is upload.device
                    and length <= small_context
                ):
                    if window is not None:
                        self.close(window, window.reason)
                    if upload.clock != clock:
                        clock = upload.clock
                        deadline = clock + max_age_ms
                        if deadline // SECOND_MS != second:
                            self._queue(fresh)
                            second = deadline // SECOND_MS
                    position, time = (piece[0], piece[1]), upload.time
                    part[key] = window = Window(
                        key, key, b"", context, upload.shape, time, time, clock, clock, deadline,
                        age, piece[2], piece, weight, first_look, second, position, position,
                        position,
                    )  # fmt: skip
                    fresh.append(window)
                    if take is not None:
                        take(piece)
                    events += piece[2]
                    size += filled
                    memory += weight
                    continue
            elif (
                window.shape is (shape := upload.shape)
                and shape.plain
                and piece[2] < most - window.count
                and not window.narrow
                and (before := len(window.context)) + length
                <= (half_context if window.cold else small_context)
            ):
                if window.cold:
                    self._note_warm(window)
                more = filled + PIECE_OVERHEAD_BYTES + length - before
                window.context = context
                window.newest_ms = upload.time
                if shape.dated:
                    window.identities_ms = upload.time
                if (tail := window.tail) is None:
                    window.append(piece)
                else:
                    tail.append(piece)
                if take is not None:
                    take(piece)
                window.count += piece[2]
                window.touched = position = (piece[0], piece[1])
                window.weight = weight = window.weight + more
                events += piece[2]
                size += filled
                memory += more
                if window.unsaved is None or window.pending is not None:
                    self._note_change(window, position)
                if weight >= window.look_at:
                    self.memory += memory
                    memory = 0
                    self._look(window)
                continue
            self._queue(fresh)
            self.memory += memory
            memory = 0
            self._take_one(upload, [] if piece is None else [piece])
        self._queue(fresh)
        self.memory += memory
        self._accepted += events
        self.waiting_events += events
        self.waiting_bytes += size

    def _take_one(self, upload: Upload, pieces: list[Piece]) -> None:
        """Add an upload that comes for the first time."""
        if len(upload.context) > self._small_context or len(upload.body) > self._small_events:
            upload, pieces = self._fitting(upload, pieces)
        self._take(upload, pieces)
        if upload.merged is not None:
            drop_merge_cache(upload)

    def _take(self, upload: Upload, pieces: list[Piece]) -> None:
        """Add what fits alone of an upload that comes for the first time."""
        self._join(upload, pieces)

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
        if window is not None and window.cold:
            self._warm(window)
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
        if window.cold:
            self._warm(window)
        if (
            not window.narrow
            and len(window.context) + len(upload.context) <= self._small_context
            and len(upload.body) <= self._small_events
        ):
            return True
        before = len(window.context)
        found = self._fit.try_join(window, upload, pieces)
        self._weigh(window, len(window.context) - before)
        sums = window.sums
        window.narrow = sums is not None and sums.event_bytes >= 0
        if sums is not None and not window.narrow:
            sums.framed_context = b""  # what joins it now is not judged any more
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
