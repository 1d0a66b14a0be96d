"""A lane: a connection compiled, once per process, and what of it lives in each partition."""

import dataclasses
from collections import deque
from collections.abc import Container, Iterable, Sequence

import msgspec
from msgspec.structs import replace

from forwarder.collect import keying, outcomes, redrive
from forwarder.collect.duplicates import without_duplicates
from forwarder.collect.encode import DocumentEncoder
from forwarder.collect.replay_filter import ReplayFilter
from forwarder.collect.windows import misfits
from forwarder.collect.windows.fit import RecordFit
from forwarder.collect.windows.misfits import Misfits
from forwarder.collect.windows.sessions import SessionStore
from forwarder.collect.windows.shares import Shares, make_shares
from forwarder.collect.windows.singles import SingleStore
from forwarder.collect.windows.store import Added, WindowStore
from forwarder.collect.windows.tails import TailSizes
from forwarder.collect.windows.window import Window
from forwarder.config.connection import BatchMode, Connection
from forwarder.errors import StartupError
from forwarder.formats.contract import (
    DUPLICATES,
    Decoder,
    Formats,
    InputFormat,
    Kept,
    Scan,
    Upload,
)
from forwarder.formats.ids import digest
from forwarder.formats.pieces import join_pieces, last_position, split_each
from forwarder.model import (
    STATUS,
    Batch,
    CloseReason,
    Closing,
    Collected,
    DeadLetter,
    HeldWindow,
    PackedWindow,
    Partition,
    Piece,
    Position,
    Reason,
    add_count,
)

_AT_ONCE = 500
"""Windows that are encoded in one go: what is pending may be a million."""


class CollectBounds(msgspec.Struct, frozen=True):
    """How much one poll or slice of a partition does, of all lanes together.

    ``closed_windows``: that a poll closes at its end; its owner closes the rest in slices.
    ``encoded_bytes``: of documents that are made, passed by one document; what else has closed
    waits as it is (``PartitionLane.pending``). ``tails``: of each lane, what is compressed.
    """

    closed_windows: int = 500
    encoded_bytes: int = 8 * 1024 * 1024
    tails: TailSizes = TailSizes()


class Lane:
    """The compiled form of one connection for uploads of one format.

    Shared by all partitions of a process that have this format. Raises StartupError where no
    documents of the connection's ``sink.format`` can be made of the uploads.
    """

    def __init__(self, connection: Connection, form: InputFormat, formats: Formats) -> None:
        """Compile the connection's settings."""
        settings, sink_format = connection.settings, connection.sink.format
        self.connection = connection
        self.name = connection.name
        self.mode = connection.mode
        self.keying_rule = keying.keying_rule(self.mode)
        if connection.has_one_event_documents:  # nothing can be made of no event
            settings = dataclasses.replace(settings, send_batches_without_events=False)
        self.form = form
        self.filter = form.event_filter(connection.name, settings)
        self.rule = self.filter.rule
        self.settings = settings
        make = formats.documents.get((form.name, sink_format))
        if make is None:
            message = f"{connection.name}: sink.format {sink_format} cannot be made of {form.name}"
            raise StartupError(message)
        self.documents = make(connection, connection.sink.record_limit)
        self._fit = RecordFit(self.documents, form)

    def new_store(self, replay: ReplayFilter, sizes: TailSizes, shares: Shares) -> WindowStore:
        """Return an empty store of windows that closes them as the connection's mode asks."""
        kind = _STORES.get(self.mode, WindowStore)
        return kind(self.connection.batching, self._fit, replay, sizes, shares)


_STORES = {BatchMode.SESSION: SessionStore, BatchMode.SINGLE: SingleStore}


class LaneSet(msgspec.Struct, frozen=True):
    """The lanes of all connections, compiled for the uploads of one format.

    All partitions of a process whose topics have this format share it.
    """

    form: InputFormat
    lanes: tuple[Lane, ...] = ()

    def without(self, names: Container[str]) -> "LaneSet":
        """Return those that have none of these names."""
        return LaneSet(self.form, tuple(one for one in self.lanes if one.name not in names))


def compile_lanes(connections: Iterable[Connection], form: str, formats: Formats) -> LaneSet:
    """Compile connections for topics of this format; once per process and format.

    Raises StartupError where one of them cannot make its documents of such uploads.
    """
    known = formats.inputs[form]
    return LaneSet(known, tuple(Lane(connection, known, formats) for connection in connections))


class PartitionLane:
    """One lane's part in one partition: its windows, and what of a replay is settled.

    ``number``: its place among the lanes of the partition; ``kind``: what those of equal settings
    have in common, and no others. ``due_in``: how long after its opening a window is due,
    None where that differs.
    ``pending`` are windows that closed and whose documents are not all made, in the order they
    closed; nothing of the partition is collected until they are. Caller: ``Pipeline``.
    """

    def __init__(  # noqa: PLR0913, PLR0917  # what it is part of, each given once
        self,
        number: int,
        kind: int,
        partition: Partition,
        lane: Lane,
        replay: ReplayFilter,
        bounds: CollectBounds,
        shares: Shares,
    ) -> None:
        """Begin with no open windows; ``replay`` tells what an opening found to be settled.

        ``shares``: what windows hold together with those of the partition's other lanes.
        """
        self.number, self.kind = number, kind
        self.pending: deque[Window] = deque()
        self.lane = lane
        self.replay = replay
        self.windows = lane.new_store(replay, bounds.tails, shares)
        is_by_age = lane.mode is BatchMode.BATCH
        self.due_in = lane.connection.batching.max_age_ms if is_by_age else None
        # What every poll asks, at hand: with a thousand lanes each look elsewhere is a cold one.
        self._name, self._read = lane.name, replay.read
        self._is_plain = replay.accept_below is None and not lane.filter.empty_too
        self._bounds = bounds
        self._encoder = DocumentEncoder(partition, lane.connection, lane.documents, lane.form)

    def restore(self, held: Sequence[HeldWindow], decoder: Decoder) -> int:
        """Open saved windows again, with the events that today's filter keeps (O7).

        Returns how many events that is.
        """
        before = self.windows.waiting_events
        for stored in held:
            if isinstance(stored, PackedWindow):
                self.windows.restore(stored, [], decoder.shape(stored.context))
            elif pieces := self._filter_saved(stored, decoder):
                self.windows.restore(stored, pieces, decoder.shape(stored.context))
        return self.windows.waiting_events - before

    def _filter_saved(self, stored: HeldWindow, decoder: Decoder) -> list[Piece]:
        """Return what today's filter keeps of a saved window; mostly it is all, judged at once."""
        if all(piece[2] for piece in stored.pieces):
            whole = decoder.from_piece(join_pieces(stored.pieces), stored)
            if self.lane.filter.keeps_all(whole):
                return list(stored.pieces)
        uploads = [decoder.from_piece(piece, stored) for piece in stored.pieces]
        kept, _ = self.lane.filter.sift(uploads, {})
        return [piece for _, found in kept for piece in found]

    def add(
        self, uploads: list[Upload], out: Collected, scan: Scan, whole: dict[int, bool]
    ) -> Added | None:
        """Add a poll's uploads that the lane's match wants, one at least; return what came of them.

        None: they have joined windows, and nothing else. ``scan``: the poll's, which knows of all
        their events. ``whole``: what filters have said of those, by the ``kind`` of lane. Uploads
        below the lane's ``read`` are a replay: they were counted when they came first.
        """
        if uploads[0].offset < self._read:
            return self._add_replayed(uploads, out, scan, whole)
        name, events = self._name, outcomes.events_of(uploads)
        if events:
            out.routed[name] = out.routed.get(name, 0) + events
        if (passes := whole.get(self.kind)) is None:
            passes = self._passes(scan, whole)
        if passes and self._is_plain:
            accepted, added = self.windows.add_whole(uploads)
        else:
            accepted, added = self._add_judged(uploads, out, passes=passes)
        if added is not None and added.touched:
            outcomes.note_used(uploads, added.touched)
        if accepted:
            out.accepted[name] = out.accepted.get(name, 0) + accepted
        return added

    def _add_judged(
        self, uploads: list[Upload], out: Collected, *, passes: bool
    ) -> tuple[int, Added | None]:
        """Add uploads of which some may not be taken; ``passes``: every event as it came."""
        if (below := self.replay.accept_below) is not None:
            left_out = [upload for upload in uploads if upload.offset >= below]
            uploads = uploads[: len(uploads) - len(left_out)]
            add_count(out.filtered, (self._name, STATUS), outcomes.events_of(left_out))
        if passes:
            return self._add_whole(uploads)
        kept, failed = self.lane.filter.sift(uploads, out.filtered)
        self._add_unchangeable_letters(failed, out)
        added = self.windows.add(kept)
        if self.lane.filter.empty_too:
            outcomes.note_empty(kept)
        return added

    def _add_whole(self, uploads: list[Upload]) -> tuple[int, Added | None]:
        """Add uploads of which every event passes as it came."""
        if not self.lane.filter.empty_too:
            return self.windows.add_whole(uploads)
        kept: list[Kept] = [(u, [u.piece or (u.offset, u.start, 0, u.time, b"")]) for u in uploads]
        outcomes.note_empty(kept)
        return self.windows.add(kept)

    def _add_replayed(
        self, uploads: list[Upload], out: Collected, scan: Scan, whole: dict[int, bool]
    ) -> Added:
        """Add uploads of which the first at least came before this opening."""
        known = [upload for upload in uploads if upload.offset < self.replay.read]
        again, fresh = self._add_again(known, out, scan, whole), uploads[len(known) :]
        added = self.add(fresh, out, scan, whole) if fresh else None
        if added is None:
            return again
        closed, letters = again.closed + added.closed, again.misfits + added.misfits
        return replace(added, closed=closed, misfits=letters)

    def expire(self, now: int, limit: int) -> list[Window]:
        """Close at most ``limit`` windows whose deadline is not after ``now``; return them."""
        due = self.windows.next_deadline()
        return self.windows.expire(now, limit) if due is not None and due <= now else []

    def count_duplicates(self, uploads: Sequence[Upload], out: Collected) -> None:
        """Count uploads that the lane's match wants and of which every event has come before."""
        for upload in uploads:
            if upload.offset >= self.replay.read:
                why = DUPLICATES if self.replay.takes(upload.offset) else STATUS
                add_count(out.routed, self.lane.name, len(upload.types))
                add_count(out.filtered, (self.lane.name, why), len(upload.types))

    def _add_again(
        self, uploads: list[Upload], out: Collected, scan: Scan, whole: dict[int, bool]
    ) -> Added:
        """Add what a replay brings: what is not settled joins its window again (O8)."""
        windows, passes = self.windows, self._is_plain and self._passes(scan, whole)
        runs, settled = self._split_replayed(uploads, passes=passes)
        closed, letters, accepted = list[Window](), list[Misfits](), 0
        for fresh, some in runs:
            if fresh:
                events, added = windows.add_whole(some)
            else:
                events, added = windows.add(self.lane.filter.sift(some, {})[0])
            accepted += events
            if added is not None:
                closed += added.closed
                letters += added.misfits
                settled += added.settled
        add_count(out.taken_over, self._name, accepted)
        add_count(out.settled, self._name, settled)
        return Added(closed, settled, letters, set())

    def _split_replayed(
        self, uploads: list[Upload], *, passes: bool
    ) -> tuple[list[tuple[bool, list[Upload]]], int]:
        """Return what of a replay is not settled, in runs, and how many events are.

        Of a run is told whether its uploads may be taken whole, as if they came for the first time.
        """
        windows, replay, today = self.windows, self.replay, self.lane.keying_rule
        rule, as_today = today, [one for one, _ in replay.keying] == [today]
        if passes and as_today and windows.wants_all(uploads):
            return [(True, uploads)], 0
        former, settled = self.lane.form.former_rules, 0
        runs: list[tuple[bool, list[Upload]]] = []
        for upload in uploads:
            keyed = upload
            if not as_today:
                rule, keyed = keying.replayed(replay, upload, today, former)
            if replay.is_settled(keyed, by_device=rule == keying.BY_DEVICE):
                settled += len(upload.types)
                continue
            fresh = passes and rule == today and keyed is upload and windows.wants_whole(upload)
            if not runs or fresh is not runs[-1][0]:
                runs.append((fresh, []))
            runs[-1][1].append(upload)
        return runs, settled

    def _passes(self, scan: Scan, whole: dict[int, bool]) -> bool:
        """Tell whether every event of a poll passes as it came; lanes of one kind ask once."""
        if (passes := whole.get(self.kind)) is None:
            passes = whole[self.kind] = self.lane.filter.passes(scan.types, governed=scan.governed)
        return passes

    def encode(self, closed: Sequence[Window], now_ms: int, out: Collected) -> None:
        """Encode what closed, all of it before anybody takes a snapshot (C2), or as much as fits.

        What is left is pending, and holds ``first_unsaved``.
        """
        pending, most = self.pending, self._bounds.encoded_bytes
        pending += closed
        while pending and out.encoded < most:
            windows = [pending.popleft() for _ in range(min(len(pending), _AT_ONCE))]
            for window in windows:
                if window.pack is not None:
                    window.unpack()
            at = 0
            while at < len(windows) and out.encoded < most:
                at = self._encode_ordinary(windows, at, now_ms, out)
                if at < len(windows) and out.encoded < most:
                    at += self._encode_window(windows[at], now_ms, out)
            pending.extendleft(reversed(windows[at:]))

    def _encode_ordinary(
        self, windows: list[Window], start: int, now_ms: int, out: Collected
    ) -> int:
        """Encode windows in one go as far as that can be done; return which comes next."""
        before, most = len(out.closings), self._bounds.encoded_bytes - out.encoded
        done = self._encoder.encode_ordinary(windows, start, now_ms, most, out)
        out.encoded += done.encoded
        if done.end > start and done.lowest < self.replay.read:
            for closing in out.closings[before:]:
                if closing.last[0] < self.replay.read:
                    self.replay.note_closed(closing.window_key, closing.last)
        return done.end

    def first_unsaved(self) -> Position | None:
        """Return the lowest position that is in an open or pending window and in no snapshot."""
        lowest = self.windows.unsaved.first()
        for window in self.pending:
            first = window.first_unsaved()
            if first is not None and (lowest is None or first < lowest):
                lowest = first
        return lowest

    def memory_bytes(self) -> int:
        """Return an estimate of the memory that open and pending windows take."""
        return self.windows.memory + (_pending_bytes(self.pending) if self.pending else 0)

    def waiting_events(self) -> int:
        """Return how many events wait in open and pending windows."""
        return self.windows.waiting_events + sum([one.count for one in self.pending])

    def add_misfit_letters(self, found: Sequence[Misfits], out: Collected) -> None:
        """Make a dead letter of each upload's events that do not fit alone."""
        for one in found:
            upload = one.upload
            out.dead_letters.append(
                DeadLetter(
                    one.reason, upload.offset, self.lane.name, one.error,
                    one.value(self.lane.form), upload.time, events=one.events,
                )
            )  # fmt: skip
            for key, last in one.closings():
                self._note_closing(key, last, out)

    def _add_unchangeable_letters(self, failed: Sequence[Upload], out: Collected) -> None:
        """Make dead letters of uploads that cannot be changed as the settings ask."""
        for upload in failed:
            error = "the events cannot be changed as the settings ask"
            body, events = without_duplicates(upload)
            value = self.lane.form.upload(body, upload.context)
            letter = (Reason.NOT_ENCODABLE, upload.offset, self.lane.name, error, value)
            add_count(out.filtered, (self.lane.name, DUPLICATES), len(upload.types) - events)
            out.dead_letters.append(DeadLetter(*letter, upload.time, events=events))
            add_count(out.accepted, self.lane.name, events)

    def collect_redriven(self, upload: Upload, now_ms: int, out: Collected) -> None:
        """Take a re-driven upload: batches of its own at once, whatever windows are open.

        It is older than what its device has sent since, and must not pass for the newest there.
        """
        lane, events, again = self.lane.name, len(upload.types), upload.offset < self.replay.read
        if not again:
            add_count(out.routed, lane, events)
        if not self.replay.takes(upload.offset):
            if not again:
                add_count(out.filtered, (lane, STATUS), events)
            return
        if (upload.offset, upload.start + max(events, 1) - 1) < self.replay.need:
            add_count(out.settled, lane, events)
            return
        kept, failed = self.lane.filter.sift([upload], {} if again else out.filtered)
        if not again:
            self._add_unchangeable_letters(failed, out)
        apart = self.lane.new_store(ReplayFilter(), self._bounds.tails, make_shares())
        accepted, added = apart.add([(u, self._undelivered(u, pieces, out)) for u, pieces in kept])
        closed = ([] if added is None else added.closed) + apart.finish()
        upload.used = bool(closed)
        add_count(out.taken_over if again else out.accepted, lane, accepted)
        for one in closed:
            session = one.session if self.lane.mode is BatchMode.SESSION else None
            one.key = redrive.window_key(upload.offset, upload.start, session)
            one.reason = CloseReason.REDRIVEN
        self.encode(closed, now_ms, out)
        if added is not None:
            self.add_misfit_letters(added.misfits, out)

    def _undelivered(self, upload: Upload, pieces: list[Piece], out: Collected) -> list[Piece]:
        """Return what of a re-driven upload is in no batch and no letter, whatever the mode was."""
        name = digest(redrive.window_key(upload.offset, upload.start))
        admitted, _ = misfits.without_lettered(
            self.replay, upload, self.replay.admitted(name, pieces)
        )
        if upload.offset < self.replay.read and (upload.sessions or not upload.types):
            every = [single for piece in admitted for single in split_each(piece)]
            admitted = [piece for piece in every if self._is_undelivered(upload, piece)]
        came = sum([piece[2] for piece in pieces])
        add_count(out.settled, self.lane.name, came - sum([piece[2] for piece in admitted]))
        return admitted

    def _is_undelivered(self, upload: Upload, piece: Piece) -> bool:
        """Tell whether an event of a re-driven upload is in no batch of its session."""
        session = upload.sessions[piece[1] - upload.start] if upload.sessions else b""
        key = redrive.window_key(upload.offset, upload.start, session)
        return self.replay.passes(digest(key), last_position(piece))

    def add_redriven_batch(self, batch: Batch, out: Collected) -> None:
        """Take a re-driven batch as it is: no filter, no window, its bytes and its id."""
        name, again = self.lane.name, batch.first[0] < self.replay.read
        if not (
            self.replay.takes(batch.first[0]) and self.replay.passes(batch.window_key, batch.first)
        ):
            add_count(out.settled, name, batch.count)
            return
        out.batches.append(batch)
        for counts in (out.taken_over,) if again else (out.routed, out.accepted):
            add_count(counts, name, batch.count)
        self._note_closing(batch.window_key, batch.last, out)
        add_count(out.closed, (name, batch.reason), 1)

    def _encode_window(self, one: Window, now_ms: int, out: Collected) -> bool:
        """Make documents of a window, and note how far they go; tell whether that is all of it."""
        made = self._encoder.encode(one, now_ms, self._bounds.encoded_bytes - out.encoded)
        out.batches += made.batches
        out.dead_letters += made.letters
        out.encoded += sum([len(batch.payload) for batch in made.batches])
        key = made.batches[0].window_key if made.batches else digest(one.key)
        closed = len(made.batches) if one.apart else 0 if made.rest else 1
        add_count(out.closed, (self.lane.name, one.reason), closed)
        if made.rest:
            one.keep_only(made.rest)
            if one.unsaved is not None:
                one.unsaved = max(one.unsaved, (made.rest[0][0], made.rest[0][1]))
            self._note_closing(key, made.last, out)
            return False
        # A saved piece may end with events that today's filter left out: the batch settles them.
        self._note_closing(
            key, made.last if one.saved is None else max(made.last, one.saved.to), out
        )
        one.release()
        return True

    def _note_closing(self, key: bytes, last: Position, out: Collected) -> None:
        """Note up to where what was collected under a window key is in batches or letters."""
        out.closings.append(Closing(self.lane.name, key, last))
        if last[0] < self.replay.read:
            self.replay.note_closed(key, last)


def _pending_bytes(pending: Iterable[Window]) -> int:
    """Estimate the memory of pending windows; events of one upload share its context."""
    size, context = 0, b""
    for one in pending:
        size += (one.weight or one.memory_bytes()) + one.packed_bytes()
        if one.context is context:
            size -= len(context)
        context = one.context
    return size
