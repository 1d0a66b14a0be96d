"""The compiled form of a connection, and its share in one partition: windows, gate, encoder."""

from collections import deque
from collections.abc import Iterable, Sequence

from forwarder.collect import keying, misfits, replay_filter
from forwarder.collect import redrive as redriven
from forwarder.collect.encode import Encoder
from forwarder.collect.fit import Fit
from forwarder.collect.misfits import Misfits
from forwarder.collect.windows import (
    saved,
    storage,
    store,  # a stage's name
)
from forwarder.collect.windows.sessions import Sessions
from forwarder.collect.windows.singles import Singles
from forwarder.collect.windows.window import Window
from forwarder.config.connection import BatchMode, Connection, Settings
from forwarder.formats import rawjson
from forwarder.formats.contract import Upload, digest
from forwarder.formats.mparticle import event_filter
from forwarder.formats.mparticle.decode import Decoder
from forwarder.formats.mparticle.document import Frames
from forwarder.formats.pieces import joined, last_of, singles
from forwarder.model import (
    STATUS,
    Batch,
    CloseReason,
    Closing,
    Collected,
    DeadLetter,
    Gate,
    Held,
    Partition,
    Piece,
    Position,
    Reason,
    Unopened,
    add,
)

JUDGEMENT = 1
"""To be raised by who changes what a filter or a transform makes of an event under the same
settings: windows saved before are judged anew then."""


MOST_ENCODED = 8 * 1024 * 1024
"""Bytes of documents that a poll or a slice makes, of all lanes; passed by one document. What
else has closed waits as it is (``Share.pending``)."""


def rule_of(settings: Settings) -> str:
    """Name by which rule events are kept and changed: stored with what was kept by it."""
    passes = sorted(
        (k, s is None or getattr(settings, s)) for k, s in event_filter.GOVERNING.items()
    )
    rest = settings.send_unknown_events, settings.send_batches_without_events
    told = (JUDGEMENT, passes, rest, event_filter.transform_of(settings))
    return digest(repr(told).encode()).hex()


class Lane:
    """The compiled form of one connection, shared by all partitions of a process."""

    def __init__(self, connection: Connection) -> None:
        """Compile the connection's settings."""
        settings = connection.settings
        self.connection = connection
        self.name = connection.name
        self.mode = settings.mode
        self.keying_rule = keying.keying_rule(settings.mode)
        self.transform = event_filter.transform_of(settings)
        self.filter = event_filter.Filter(connection.name, settings)
        self.rule = rule_of(settings)
        self.frames = Frames(connection)
        self._fit = Fit(self.frames)

    def windows(self) -> store.Windows:
        """Return an empty set of windows that closes as the connection's mode asks."""
        batching = self.connection.batching
        if self.mode is BatchMode.SESSION:
            return Sessions(batching, self._fit)
        if self.mode is BatchMode.SINGLE:
            return Singles(batching, self._fit)
        return store.Windows(batching, self._fit)


class Share:
    """One lane's part in one partition.

    ``pending`` are windows that closed and whose documents are not all made, in the order they
    closed; nothing of the partition is collected until they are.
    """

    def __init__(self, partition: Partition, lane: Lane) -> None:
        """Begin with no open windows and a gate that keeps nothing out."""
        self.pending: deque[Window] = deque()
        self.lane = lane
        self.windows = lane.windows()
        self.gate = replay_filter.wide_open()
        self._encoder = Encoder(partition, lane.connection, lane.frames)

    def guard(self, gated: Gate) -> None:
        """Keep out what an opening says is settled."""
        self.gate = gated
        self.windows.guard(gated)

    def restore(self, held: Sequence[Held], decoder: Decoder) -> int:
        """Open saved windows again, with the events that today's filter keeps (O7).

        Returns how many events that is.
        """
        before = self.windows.waiting_events
        for stored in held:
            if isinstance(stored, Unopened):
                names = decoder.names(rawjson.fields(stored.context))
                self.windows.restore(stored, [], names)
            elif pieces := self._kept(stored, decoder):
                names = decoder.names(rawjson.fields(stored.context))
                self.windows.restore(stored, pieces, names)
        return self.windows.waiting_events - before

    def _kept(self, stored: Held, decoder: Decoder) -> list[Piece]:
        """Return what today's filter keeps of a saved window; mostly it is all, judged at once."""
        if all(piece[2] for piece in stored.pieces):
            whole = decoder.waiting(joined(stored.pieces), stored)
            if self.lane.filter.keeps_all(whole):
                return list(stored.pieces)
        uploads = [decoder.waiting(piece, stored) for piece in stored.pieces]
        kept, _ = self.lane.filter.sift(uploads, {})
        return [piece for _, found in kept for piece in found]

    def take(self, uploads: list[Upload], out: Collected) -> list[Window]:
        """Take a poll's uploads that the lane's match wants; return the windows that closed.

        Those below the lane's ``read`` are a replay: they were counted when they came first.
        """
        closed: list[Window] = []
        read, below = self.gate.read, self.gate.accept_below
        if uploads and uploads[0].offset < read:
            again = [upload for upload in uploads if upload.offset < read]
            uploads = uploads[len(again) :]
            closed = self._take_again(again, out)
        name = self.lane.name
        add(out.routed, name, sum([len(upload.types) for upload in uploads]))
        if below is not None:
            left_out = [upload for upload in uploads if upload.offset >= below]
            uploads = uploads[: len(uploads) - len(left_out)]
            add(out.filtered, (name, STATUS), sum([len(upload.types) for upload in left_out]))
        kept, failed = self.lane.filter.sift(uploads, out.filtered)
        self._report(failed, out)
        closed += self.windows.add(kept)
        if self.windows.informed:
            self._note_used(uploads)
        if self.lane.connection.settings.send_batches_without_events:
            for upload, pieces in kept:
                if pieces and not upload.types:
                    upload.used = True
        add(out.accepted, name, self.windows.accepted)
        self.windows.accepted = 0
        return closed

    def _note_used(self, uploads: Sequence[Upload]) -> None:
        """Mark the uploads without events that touched a window; it may have had a copy."""
        informed, self.windows.informed = self.windows.informed, set()
        for upload in uploads:
            if not upload.types and (upload.offset, upload.start) in informed:
                upload.used = True

    def _take_again(self, uploads: list[Upload], out: Collected) -> list[Window]:
        """Take what a replay brings: what is not settled joins its window again (O8)."""
        windows, name = self.windows, self.lane.name
        kept, _ = self.lane.filter.sift(windows.unsettled(uploads), {})
        closed = windows.add(kept)
        add(out.taken_over, name, windows.accepted)
        add(out.settled, name, windows.replayed)
        windows.accepted = windows.replayed = 0
        return closed

    def encode(self, closed: Sequence[Window], now_ms: int, out: Collected) -> None:
        """Encode what closed, all of it before anybody takes a snapshot (C2), or as much as fits.

        What is left is pending, and holds ``first_unsaved``.
        """
        self.pending += closed
        while self.pending and out.encoded < MOST_ENCODED:
            if self._write(self.pending[0], now_ms, out):
                self.pending.popleft()

    def first_unsaved(self) -> Position | None:
        """Return the lowest position that is in an open or pending window and in no base."""
        found = [self.windows.first_unsaved(), *map(_unsaved, self.pending)]
        return min([position for position in found if position is not None], default=None)

    def memory_bytes(self) -> int:
        """Return an estimate of the memory that open and pending windows take."""
        return self.windows.memory + (_pending_bytes(self.pending) if self.pending else 0)

    def waiting_events(self) -> int:
        """Return how many events wait in open and pending windows."""
        return self.windows.waiting_events + sum([one.count for one in self.pending])

    def take_misfits(self, out: Collected) -> None:
        """Make dead letters of what was added since the last call and fits into no document."""
        if self.windows.misfits:
            found, self.windows.misfits = self.windows.misfits, []
            self._letter(found, out)

    def _letter(self, found: Sequence[Misfits], out: Collected) -> None:
        """Make a dead letter of each upload's events that do not fit alone."""
        for one in found:
            upload = one.upload
            out.dead_letters.append(
                DeadLetter(
                    one.reason, upload.offset, self.lane.name, one.error, one.value, upload.time,
                    events=one.events,
                )
            )  # fmt: skip
            for key, last in one.closings():
                self._note_closing(key, last, out)

    def _report(self, failed: Sequence[Upload], out: Collected) -> None:
        """Make dead letters of uploads that cannot be changed as the settings ask."""
        for upload in failed:
            error = "the events cannot be changed as the settings ask"
            value = rawjson.with_events(upload.body, upload.context)
            letter = (Reason.NOT_ENCODABLE, upload.offset, self.lane.name, error, value)
            events = len(upload.types)
            out.dead_letters.append(DeadLetter(*letter, upload.time, events=events))
            add(out.accepted, self.lane.name, events)

    def redrive(self, upload: Upload, now_ms: int, out: Collected) -> None:
        """Take a re-driven upload: batches of its own at once, whatever windows are open.

        It is older than what its device has sent since, and must not pass for the newest there.
        """
        lane, events, again = self.lane.name, len(upload.types), upload.offset < self.gate.read
        if not again:
            add(out.routed, lane, events)
        if not self.takes(upload.offset):
            if not again:
                add(out.filtered, (lane, STATUS), events)
            return
        if (upload.offset, upload.start + max(events, 1) - 1) < self.gate.need:
            add(out.settled, lane, events)
            return
        kept, failed = self.lane.filter.sift([upload], {} if again else out.filtered)
        if not again:
            self._report(failed, out)
        apart = self.lane.windows()
        closed = apart.add([(u, self._left(u, pieces, out)) for u, pieces in kept])
        closed += apart.finish()
        upload.used = bool(closed)
        add(out.taken_over if again else out.accepted, lane, apart.accepted)
        for one in closed:
            session = one.session if self.lane.mode is BatchMode.SESSION else None
            one.key = redriven.window_key(upload.offset, upload.start, session)
            one.reason = CloseReason.REDRIVEN
        self.encode(closed, now_ms, out)
        self._letter(apart.misfits, out)

    def _left(self, upload: Upload, pieces: list[Piece], out: Collected) -> list[Piece]:
        """Return what of a re-driven upload is in no batch and no letter, whatever the mode was."""
        name = digest(redriven.window_key(upload.offset, upload.start))
        admitted, _ = misfits.lettered(
            self.gate, upload, replay_filter.admit(self.gate, name, pieces)
        )
        if upload.offset < self.gate.read and (upload.sessions or not upload.types):
            every = [single for piece in admitted for single in singles(piece)]
            admitted = [piece for piece in every if self._is_left(upload, piece)]
        came = sum([piece[2] for piece in pieces])
        add(out.settled, self.lane.name, came - sum([piece[2] for piece in admitted]))
        return admitted

    def _is_left(self, upload: Upload, piece: Piece) -> bool:
        """Tell whether an event of a re-driven upload is in no batch of its session."""
        session = upload.sessions[piece[1] - upload.start] if upload.sessions else b""
        key = redriven.window_key(upload.offset, upload.start, session)
        return replay_filter.passes(self.gate, digest(key), last_of(piece))

    def redrive_batch(self, batch: Batch, out: Collected) -> None:
        """Take a re-driven batch as it is: no filter, no window, its bytes and its id."""
        name, again = self.lane.name, batch.first[0] < self.gate.read
        if not self._admits(batch.first, batch.window_key):
            add(out.settled, name, batch.count)
            return
        out.batches.append(batch)
        for counts in (out.taken_over,) if again else (out.routed, out.accepted):
            add(counts, name, batch.count)
        self._note_closing(batch.window_key, batch.last, out)
        add(out.closed, (name, batch.reason), 1)

    def takes(self, offset: int) -> bool:
        """Tell whether a record at an offset is taken at all: an inactive connection takes none."""
        below = self.gate.accept_below
        return below is None or offset < below

    def _admits(self, position: Position, name: bytes) -> bool:
        """Tell whether what closes at once is wanted here, and was not taken before (O8)."""
        return self.takes(position[0]) and replay_filter.passes(self.gate, name, position)

    def _write(self, one: Window, now_ms: int, out: Collected) -> bool:
        """Make documents of a window, and note how far they go; tell whether that is all of it."""
        made = self._encoder.encode(one, now_ms, MOST_ENCODED - out.encoded)
        out.batches += made.batches
        out.dead_letters += made.letters
        out.encoded += sum([len(batch.payload) for batch in made.batches])
        key = made.batches[0].window_key if made.batches else digest(one.key)
        closed = len(made.batches) if one.apart else 0 if made.rest else 1
        add(out.closed, (self.lane.name, one.reason), closed)
        if made.rest:
            one.pieces, one.blocks = made.rest, None
            one.count = sum([piece[2] for piece in made.rest])
            if one.unsaved is not None:
                one.unsaved = max(one.unsaved, (made.rest[0][0], made.rest[0][1]))
            self._note_closing(key, made.last, out)
            return False
        # A saved piece may end with events that today's filter left out: the batch settles them.
        self._note_closing(
            key, made.last if one.saved is None else max(made.last, one.saved.to), out
        )
        one.hollow()
        return True

    def _note_closing(self, key: bytes, last: Position, out: Collected) -> None:
        """Note up to where what was collected under a window key is in batches or letters."""
        out.closings.append(Closing(self.lane.name, key, last))
        if last[0] < self.gate.read:  # later events of the key are not replayed any more
            self.gate.closed[key] = max(self.gate.closed.get(key, last), last)


def _unsaved(window: Window) -> Position | None:
    """Return from where on a pending window is in no base."""
    if window.draft is not None and saved.is_settled(window):
        return window.draft.after
    if window.unsaved is None and window.saved is None:  # one event, never gathered
        return window.pieces[0][0], window.pieces[0][1]
    return window.unsaved


def _pending_bytes(pending: Iterable[Window]) -> int:
    """Estimate the memory of pending windows; events of one upload share its context."""
    size, context = 0, b""
    for one in pending:
        size += storage.weight(one)
        if one.context is context:
            size -= len(context)
        context = one.context
    return size
