"""Gather what is kept into windows, one per window key, and close them.

``Windows`` closes by age and size; ``Singles`` and ``Sessions`` beside it are the other two
batch modes. Nothing depends on how records were cut into polls: a window whose deadline the
record clock has passed is closed before an event joins it.
"""

from collections.abc import Callable, Iterable, Sequence

from forwarder.collect import misfits, replay_filter
from forwarder.collect.fit import Fit, is_worn
from forwarder.collect.keying import BY_DEVICE, BY_SESSION, keying_rule, replayed
from forwarder.collect.windows import saved, storage
from forwarder.collect.windows.deadlines import Deadlines
from forwarder.collect.windows.eviction import Ages, rank_of
from forwarder.collect.windows.lazy_queue import Row
from forwarder.collect.windows.siblings import Kin
from forwarder.collect.windows.storage import (
    FIRST_LOOK,
    LONG_TAIL,
    PACKED_AT_ONCE,
    PIECE_BYTES,
    SHORT_TAIL,
)
from forwarder.collect.windows.window import (
    Draft,
    Generation,
    Saved,
    Window,
    is_of_session,
    session_key,
)
from forwarder.config.connection import Batching, BatchMode
from forwarder.formats.contract import Kept, Names, Upload, digest
from forwarder.formats.mparticle import context
from forwarder.formats.pieces import cut, singles
from forwarder.model import CloseReason, Gate, Held, Piece, Position

ROOMY = 64 * 1024 * 1024
"""Bytes of windows up to which short tails are left as they are, where nobody says otherwise."""

_Take = Callable[[Upload, list[Piece], Gate | None], None]


class Windows:
    """The open windows of one lane on one partition, closed by age and size.

    ``memory`` estimates the bytes they take, ``waiting_bytes`` are those of their
    ``waiting_events`` as they came. ``roomy``: bytes of memory up to which only long tails are
    compressed. For ``Saving``: ``fresh`` are the windows never saved, in the order of their first
    position, ``saved`` those of the last base, ``generation`` is the newest saving. ``misfits`` are
    events that fit into no document, ``informed`` the positions of uploads without events that
    touched a window, both until somebody takes them; ``knows`` tells of an upload that it would.
    """

    def __init__(self, batching: Batching, fit: Fit, mode: BatchMode = BatchMode.BATCH) -> None:
        """Begin without windows; ``mode`` says how today's events are keyed."""
        self._batching = batching
        self._fit = fit
        self._slim = fit.slim
        self._lean = fit.lean
        self.misfits: list[misfits.Misfits] = []
        self.informed: set[Position] = set()
        self.knows: Callable[[Upload], bool] = lambda upload: upload.owner in self.open
        self._today = keying_rule(mode)
        self._rules: dict[str, _Take] = {BY_DEVICE: self.by_device, BY_SESSION: self._by_session}
        self._gate = replay_filter.wide_open()
        self._deadlines = Deadlines()
        self._done: list[Window] = []
        self._ages = Ages()
        self._changed: Row[tuple[Position, Window]] = Row(_is_unsaved)
        self._kin = Kin()
        self.open: dict[bytes, Window] = {}
        self.fresh: Row[Window] = Row(saved.is_fresh)
        self.saved: list[Window] = []
        self.generation = Generation()
        self.roomy = ROOMY
        self._packable = PACKED_AT_ONCE
        self.memory = 0
        self.waiting_bytes = 0
        self.waiting_events = 0
        self.accepted = 0
        self.replayed = 0

    def guard(self, gated: Gate) -> None:
        """Keep out what this gate does not admit; called before the first ``add``."""
        self._gate = gated

    def unsettled(self, uploads: list[Upload]) -> list[Upload]:
        """Leave out what a replay need not look at again; for its polls only."""
        read, wanted = self._gate.read, []
        for upload in uploads:
            if upload.offset < read:
                rule, keyed = replayed(self._gate, upload, self._today)
                if replay_filter.is_settled(self._gate, keyed, by_device=rule == BY_DEVICE):
                    self.replayed += len(upload.types)
                    continue
            wanted.append(upload)
        return wanted

    def add(self, kept: Iterable[Kept]) -> list[Window]:
        """Add uploads in stream order; return the windows that closed, in order."""
        self._packable = PACKED_AT_ONCE
        take, read, below = self._rules[self._today], self._gate.read, self._gate.accept_below
        for upload, pieces in kept:
            if below is not None and upload.offset >= below:
                continue
            if upload.offset < read:
                self._replay(upload, pieces)
            elif len(upload.context) > self._slim or len(upload.body) > self._lean:
                take(*self._sorted(upload, pieces), None)
            else:
                take(upload, pieces, None)
            if upload.merged is not None:
                context.release(upload)
        return self._drain()

    def expire(self, now: int, limit: int | None = None) -> list[Window]:
        """Close at most ``limit`` windows whose deadline is not after ``now`` (milliseconds).

        Those of one device leave in the order of their first events, also over several calls.
        """
        for window in self._deadlines.due(now, limit):
            if not window.closed:  # closing one closes what its device opened before, due or not
                self.close(window, window.reason)
        return self._drain()

    def finish(self) -> list[Window]:
        """Close every window because the input has ended."""
        for window in sorted(self.open.values(), key=storage.first):
            if not window.closed:
                self.close(window, CloseReason.END)
        return self._drain()

    def next_deadline(self) -> int | None:
        """Return the earliest deadline; perhaps too early, never too late."""
        return self._deadlines.next() if self.open else None

    def first_unsaved(self) -> Position | None:
        """Return the lowest position that is in an open window and in no base."""
        fresh, changed = self.fresh.head(), self._changed.head()
        first = None if fresh is None else fresh.unsaved
        if changed is None:
            return first
        return changed[0] if first is None else min(first, changed[0])

    def oldest_opened(self) -> int | None:
        """Return when the oldest open window was opened, in milliseconds of record time."""
        oldest = self._ages.oldest()
        return None if oldest is None else oldest.opened

    def heaviest(self, clock: int) -> tuple[int, Window] | None:
        """Return the largest old window and by how much it is that, to compare with other lanes."""
        return self._ages.heaviest(clock)

    def shed(self, window: Window) -> list[Window]:
        """Close a window for want of memory."""
        self.close(window, CloseReason.MEMORY)
        return self._drain()

    def restore(self, held: Held, pieces: list[Piece], names: Names) -> None:
        """Open a saved window again with those of its pieces that today's filter keeps.

        Where that was known before (``Unopened``), they stand in the window itself.
        """
        self._packable = PACKED_AT_ONCE  # an opening has its own slices
        window, largest = saved.taken_up(held, pieces, names)
        window.narrow = len(held.context) > self._slim or largest > self._lean
        self.saved.append(window)
        if self._today == BY_DEVICE and is_of_session(held.key, held.session):
            window.deadline = min(window.deadline, window.opened + self._batching.max_age_ms)
        self._register(window, None)
        self.waiting_events += window.count
        self.waiting_bytes += sum([len(piece[4]) for piece in window.pieces])
        self.waiting_bytes += storage.packed_bytes(window)
        self._weigh(window, storage.tail_weight(window.pieces) + storage.further_weight(window))
        self._look(window)

    def resolve(self, window: Window) -> None:
        """Make a settled draft the saved part; a million of them at once would take too long."""
        draft = window.draft
        if draft is not None and draft.generation.settled:
            if window.saved is not None:
                self._weigh(window, -storage.saved_weight(window.saved))
            window.saved, window.unsaved, window.draft = draft.saved, draft.after, None

    def draft(self, window: Window, part: Saved, generation: Generation) -> None:
        """Note what is going to be the saved part, in place of a draft that came to nothing."""
        if window.draft is not None:
            self._weigh(window, -storage.saved_weight(window.draft.saved))
        window.draft = Draft(part, generation)
        self._weigh(window, storage.saved_weight(part))

    def by_device(self, upload: Upload, pieces: list[Piece], replay: Gate | None) -> None:
        """Add an upload to the window of its owner."""
        if replay is not None:
            passed = self.admit(replay, upload, replay_filter.name_of(upload), pieces)
            if passed is None:
                return
            pieces = passed
        self._join(upload, upload.owner, b"", pieces)

    def _by_session(self, upload: Upload, pieces: list[Piece], replay: Gate | None) -> None:
        """Add events that were keyed by session when they came first (L2); they close by age."""
        for piece in [single for run in pieces for single in singles(run)]:
            session = upload.sessions[piece[1] - upload.start] if upload.types else b""
            key = session_key(upload.owner, session)
            passed = (
                [piece] if replay is None else replay_filter.admit(replay, digest(key), [piece])
            )
            self.replayed += piece[2] if not passed else 0
            if passed:
                self._join(upload, key, session, passed)

    def admit(
        self, replay: Gate, upload: Upload, name: bytes, pieces: list[Piece]
    ) -> list[Piece] | None:
        """Return the pieces that pass the gate; None if the upload must not touch the key.

        ``name`` is the digest of the window key.
        """
        position = (upload.offset, upload.start)
        if (
            replay.need <= position > replay_filter.settled_to(replay, name)
        ):  # all of it, nearly always
            return pieces
        if not pieces:
            return None
        passed = replay_filter.admit(replay, name, pieces)
        self.replayed += sum(p[2] for p in pieces) - sum(p[2] for p in passed)
        return passed or None

    def fill(
        self,
        upload: Upload,
        window: Window | None,
        fresh: Callable[[], Window],
        pieces: list[Piece],
    ) -> Window | None:
        """Put pieces into the window, or new ones, closing each that is full."""
        informed: Window | None = None
        most = self._batching.max_events
        for whole in pieces:
            # One taken up again may have more events than a size set since.
            room = most if window is None else max(0, most - window.count)
            for piece in cut(whole, range(room or most, whole[2], most)):
                if window is not None and window.count >= most:
                    self.close(window, CloseReason.SIZE)
                    window = None
                if window is None:
                    window = informed = fresh()
                elif informed is not window:
                    self._absorb(window, upload)
                    informed = window
                self._put(window, piece)
        if window is not None and window.count >= most:
            self.close(window, CloseReason.SIZE)
            return None
        return window

    def new(
        self, upload: Upload, key: bytes, session: bytes, deadline: int, reason: CloseReason
    ) -> Window:
        """Open a window under a key that has none."""
        window = Window(
            key, upload.device, session, [], 0, upload.context, upload.names, upload.time,
            upload.time, upload.clock, upload.clock, deadline, reason,
        )  # fmt: skip
        window.narrow = len(upload.context) > self._slim or len(upload.body) > self._lean
        self._register(window, upload.offset)
        return window

    def joins(self, window: Window, upload: Upload, pieces: Sequence[Piece] = ()) -> bool:
        """Tell whether a window has room for an upload; else it has to close first.

        Where it has, the pieces have to be put into it.
        """
        if (
            not window.narrow
            and len(window.context) + len(upload.context) <= self._slim
            and len(upload.body) <= self._lean
        ):
            return True
        before = len(window.context)
        found = self._fit.joins(window, upload, pieces)
        self._weigh(window, len(window.context) - before)
        window.narrow = window.filled >= 0
        if not window.narrow:
            window.framed = b""  # what joins it now is not judged any more
        return found

    def inform(self, window: Window, upload: Upload, position: Position) -> None:
        """Update the context alone; a replay has to see that position of the upload again, too.

        Where it has no room for it, the window closes: what comes later has a newer context.
        """
        if not upload.types:
            self.informed.add((upload.offset, upload.start))
        if not self.joins(window, upload):
            self.close(window, CloseReason.SIZE)
            return
        self._absorb(window, upload)
        window.touched = position
        self._note(window, position)
        if is_worn(window):
            self.close(window, CloseReason.SIZE)

    def due_at(self, window: Window, deadline: int, reason: CloseReason) -> None:
        """Change when and why a window is going to close."""
        window.deadline, window.reason = deadline, reason
        self._deadlines.put(window)

    def close(self, window: Window, reason: CloseReason) -> None:
        """Close a window; the next ``add``, ``expire`` or ``finish`` returns it."""
        if self._kin.devices:
            self.close_kin(window.device, storage.first(window))
            self._kin.forget(window)
        self.shut(window, reason)

    def shut(self, window: Window, reason: CloseReason) -> None:
        """Close a window whatever else its device has open; callers see to the order."""
        window.reason, window.closed = reason, True
        del self.open[window.key]
        if window.slot >= 0:
            self._deadlines.forget(window)
        self.memory -= window.weight
        self.waiting_events -= window.count
        self.waiting_bytes -= sum([len(piece[4]) for piece in window.pieces])
        if window.blocks is not None:
            self.waiting_bytes -= storage.packed_bytes(window)
        self._done.append(window)

    def close_kin(self, device: bytes, before: Position) -> None:
        """Close what a device has open since before this position, in the order of first events."""
        for window in self._kin.before(device, before, self.open.get(device)):
            self._kin.forget(window)
            self.shut(window, window.reason)

    def _join(self, upload: Upload, key: bytes, session: bytes, pieces: list[Piece]) -> None:
        window = self.open.get(key)
        if window is not None and window.deadline <= upload.clock:
            self.close(window, window.reason)
            window = None
        if (
            window is not None
            and pieces
            and (  # as ``joins`` would ask first: a call an event is not free
                window.narrow
                or len(window.context) + len(upload.context) > self._slim
                or len(upload.body) > self._lean
            )
            and not self.joins(window, upload, pieces)
        ):
            self.close(window, CloseReason.SIZE)
            window = None
        if len(pieces) == 1:
            piece = pieces[0]
            if window is not None:
                if piece[2] < self._batching.max_events - window.count:  # the usual case
                    self._put(window, piece, context.absorb(window, upload))
                    return
            elif piece[2] < self._batching.max_events:
                deadline = upload.clock + self._batching.max_age_ms
                self._put(self.new(upload, key, session, deadline, CloseReason.AGE), piece)
                return
        if pieces:
            deadline = upload.clock + self._batching.max_age_ms
            self.fill(
                upload,
                window,
                lambda: self.new(upload, key, session, deadline, CloseReason.AGE),
                pieces,
            )
        elif window is not None:
            self.inform(window, upload, (upload.offset, upload.start))

    def _absorb(self, window: Window, upload: Upload) -> None:
        self._weigh(window, context.absorb(window, upload))

    def _weigh(self, window: Window, more: int) -> None:
        window.weight += more
        self.memory += more

    def _put(self, window: Window, piece: Piece, grown: int = 0) -> None:
        """Add a piece; ``grown`` is by how many bytes the context has become larger with it."""
        offset, index, count, _, body = piece
        size = len(body)
        more = size + PIECE_BYTES + grown
        window.pieces.append(piece)
        window.count += count
        window.touched = position = (offset, index)
        self.accepted += count
        self.waiting_events += count
        self.waiting_bytes += size
        self.memory += more
        window.weight = weight = window.weight + more
        if window.unsaved is None or window.draft is not None:
            self._note(window, position)
        if weight >= window.look:
            self._look(window)

    def _look(self, window: Window) -> None:
        """Note how large the window is, and compress a tail that has become long."""
        if window.weight >= LONG_TAIL // 2 or self.memory > self.roomy:
            self._squeeze(window)
        else:
            window.look = LONG_TAIL // 2
        rank = rank_of(window.weight)
        if rank > window.rank:
            window.rank = rank
            self._ages.put(window)

    def _squeeze(self, window: Window) -> None:
        """Compress the tail if it is long, and note when to look again."""
        tail = storage.tail_weight(window.pieces)
        if tail >= (SHORT_TAIL if self.memory > self.roomy else LONG_TAIL) and self._packable > 0:
            self._packable -= tail
            self._weigh(window, -storage.pack(window))
            tail = 0
        goal = LONG_TAIL if tail >= LONG_TAIL // 2 else max(2 * tail, LONG_TAIL // 2)
        if self.memory > self.roomy:
            goal = SHORT_TAIL
        goal = max(goal, tail + PIECE_BYTES)  # one that had to wait is looked at again soon
        window.look = window.weight + goal - tail

    def _note(self, window: Window, position: Position) -> None:
        """Note the first change since the window was opened, saved, or drafted to be saved."""
        if window.draft is not None:
            self.resolve(window)
        if window.unsaved is None:
            window.unsaved = position
            if window.saved is None:
                window.first = position
                self.fresh.append(window)
                return
        elif window.draft is not None and window.draft.after is None:
            window.draft.after = position
        else:
            return
        self._changed.append((position, window))

    def _register(self, window: Window, offset: int | None) -> None:
        """Take in a window that opens with the record at an offset, None: again."""
        self.open[window.key] = window
        window.look = FIRST_LOOK
        window.weight = weight = storage.least_weight(window)
        self.memory += weight
        self._deadlines.put(window)
        self._ages.put(window)
        if window.key is not window.device:
            if self._today is BY_DEVICE or not is_of_session(window.key, window.session):
                self._kin.put(window, offset)
        elif self._today is BY_SESSION:
            self._kin.put(window, offset)

    def _replay(self, upload: Upload, pieces: list[Piece]) -> None:
        rule, upload = replayed(self._gate, upload, self._today)
        pieces, gone = misfits.lettered(self._gate, upload, pieces)
        self.replayed += gone
        if len(upload.context) > self._slim or len(upload.body) > self._lean:
            upload, pieces = self._sorted(upload, pieces, by_session=rule == BY_SESSION)
        self._rules.get(rule, self._rules[self._today])(upload, pieces, self._gate)
        context.release(upload)

    def _sorted(
        self, upload: Upload, pieces: list[Piece], *, by_session: bool = False
    ) -> tuple[Upload, list[Piece]]:
        """Return an upload as it may wait, and what of it fits alone; note the rest."""
        fits, found = misfits.sort(self._fit, upload, pieces)
        if found is not None and upload.offset < self._gate.read:
            found = misfits.wanted(self._gate, found, by_session=by_session)
        if found is not None:
            self.accepted += found.events
            self.misfits.append(found)
        return self._fit.pruned(upload), fits

    def _drain(self) -> list[Window]:
        done, self._done = self._done, []
        return done


def _is_unsaved(entry: tuple[Position, Window]) -> bool:
    """Tell whether a window that was saved or drafted is unsaved from this position on."""
    position, window = entry
    draft = window.draft
    if window.closed:
        return False
    if draft is not None and draft.after == position:
        return True
    return window.unsaved == position and not saved.is_settled(window)
