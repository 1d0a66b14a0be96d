"""THE ORDER: decode, drop duplicates, match, filter, window, encode.

Pure: lists in, lists out, time comes in as an argument. ``collect`` is the flow; the rest is what
the owner of a partition asks of the open windows.
"""

from collections.abc import Iterable, Mapping, Sequence

from msgspec.structs import replace

from forwarder.collect import outcomes, redrive
from forwarder.collect.busy_lanes import BusyLanes
from forwarder.collect.duplicates import Duplicates
from forwarder.collect.keying import need_sessions
from forwarder.collect.lane import (
    CollectBounds,
    Lane,
    LaneSet,
    PartitionLane,
    compile_lanes,
)
from forwarder.collect.replay_filter import ReplayFilter
from forwarder.collect.windows.checkpoint import Checkpoint
from forwarder.collect.windows.shares import make_shares
from forwarder.config.connection import Settings
from forwarder.formats.contract import DUPLICATE, Decoder, OddRecord, Reject, Scan, Upload
from forwarder.formats.ids import digest
from forwarder.model import (
    Batch,
    Collected,
    HeldWindow,
    Partition,
    Position,
    Record,
    RecordOutcome,
    add_count,
)
from forwarder.rules.match import Router

__all__ = [
    "Checkpoint",
    "CollectBounds",
    "Lane",
    "LaneSet",
    "Pipeline",
    "ReplayFilter",
    "compile_lanes",
]

BOUNDS = CollectBounds()
"""What a worker's pipelines do in one go."""

RELEASED_PER_POLL = 2_000
"""Entries of each replay filter that are let go after a poll."""


class Pipeline:
    """What one partition collects, for all lanes. Times are milliseconds since the epoch.

    The decoder's dead letters are made only at offsets from ``read`` on: those below were made
    before this opening. ``clock`` is the partition's record clock: the latest record time, but
    never later than the wall clock was; for reading only.
    """

    def __init__(  # noqa: PLR0913  # three are options
        self,
        partition: Partition,
        lanes: LaneSet,
        read: int = 0,
        *,
        replays: Mapping[str, ReplayFilter] | None = None,
        bounds: CollectBounds | None = None,
        explains: bool = False,
        besides: "Pipeline | None" = None,
        duplicates: Duplicates | None = None,
    ) -> None:
        """Begin with no open windows; ``restore`` opens those that an opening found.

        ``replays``: by lane what an opening found to be settled; nothing of a lane without.
        ``duplicates``: what finds events that have come before; None: nobody looks for any.
        ``explains``: count why uploads match nothing, for a run that somebody watches.
        ``besides``: of a sample, the pipeline whose windows are open.
        """
        self.bounds = bounds or BOUNDS
        self._partition = partition
        self._explains = explains
        self._besides = besides
        self._duplicates = duplicates
        self._read = read
        self.clock = 0
        self._form = lanes.form
        known, kinds, shares = replays or {}, dict[Settings, int](), make_shares()
        self._lanes: dict[str, PartitionLane] = {}
        for number, lane in enumerate(lanes.lanes):
            kind, replay = kinds.setdefault(lane.settings, number), known.get(lane.name)
            self._lanes[lane.name] = PartitionLane(
                number, kind, partition, lane, replay or ReplayFilter(), self.bounds, shares
            )
        self._in_order = list(self._lanes.values())
        self._replaying = self._in_order if read > 0 else []
        self._busy = BusyLanes(self._in_order, shares)
        matches = [lane.connection.match for lane in lanes.lanes]
        self._router = Router(matches, lanes.form, partition.topic)
        self._decoder = self._new_decoder()

    def restore(self, lane: str, held: Iterable[HeldWindow]) -> int:
        """Open some saved windows again (O7); call it as often as there are slices.

        Neither the order of the slices nor that of the windows in them matters. Returns how many
        events wait in them.
        """
        one = self._lanes[lane]
        events = one.restore(list(held), self._decoder)
        self._busy.note(one.number)
        return events

    def collect(self, records: Sequence[Record], now_ms: int) -> Collected:
        """Take one poll's records in order; return everything that closed."""
        out = Collected()
        if self._duplicates is not None:
            records = self._look_back(records, self._duplicates)
        scan = self._decode(records, now_ms, out)
        if self._duplicates is not None:
            self._drop_duplicates(records, scan, self._duplicates, out)
        uploads, whole, busy = scan.uploads, dict[int, bool](), self._busy
        wanted, unmatched = self._router.route(uploads)
        since = uploads[0].clock if uploads else self.clock
        busy.begin_poll(wanted, len(uploads) - len(unmatched))
        for number in busy.turn(self.clock, wanted):
            lane = self._in_order[number]
            added = lane.add(wanted[number], out, scan, whole) if number in wanted else None
            if added is None and busy.waits(number, since):
                continue
            limit = max(0, self.bounds.closed_windows - len(out.closings))
            closed = [] if added is None else added.closed
            lane.encode(closed + lane.expire(self.clock, limit), now_ms, out)
            busy.enter(lane)
            if added is not None and added.misfits:
                lane.add_misfit_letters(added.misfits, out)
        self._count_uploads(uploads, unmatched, out)
        return out

    def collect_sample(self, records: Sequence[Record], now_ms: int) -> Collected:
        """Collect a sample into windows of its own, close them, and keep nothing of it."""
        lanes = self._lanes.values()
        active = tuple(one.lane for one in lanes if one.replay.accept_below is None)
        apart = Pipeline(
            self._partition, LaneSet(self._form, active), bounds=self.bounds, besides=self
        )
        found, rest = apart.collect(records, now_ms), apart.finish(now_ms)
        found.dead_letters += rest.dead_letters
        return found

    def expire(self, due_ms: int, limit: int, now_ms: int | None = None) -> Collected:
        """Close at most ``limit`` windows with a deadline not after ``due_ms``.

        What is pending comes first. More may be due if as many closed (``len(closings)``), or if it
        ``has_pending_documents``. ``now_ms`` is the wall clock, if it is another time.
        """
        out = Collected()
        for number in self._busy.turn(due_ms):
            lane = self._in_order[number]
            closed = lane.expire(due_ms, limit - len(out.closings))
            lane.encode(closed, due_ms if now_ms is None else now_ms, out)
            self._busy.note(number)
        return out

    def shed(self, bytes_wanted: int, limit: int, now_ms: int) -> Collected:
        """Close the largest old windows for want of memory, at most ``limit`` of them (C1).

        Stops as soon as ``memory_bytes`` is lower by ``bytes_wanted``; closes one at least where
        any bytes are wanted and any window is open. ``now_ms`` is the wall clock.
        """
        out = Collected()
        goal = self.memory_bytes() - bytes_wanted
        candidates = {}
        for number in sorted(self._busy.holding):
            lane = self._in_order[number]
            candidates[lane] = lane.windows.eviction_candidate(self.clock)
            if lane.pending:
                lane.encode([], now_ms, out)
                self._busy.note(number)
        while self.memory_bytes() > goal and len(out.closings) < limit and not self._busy.pending:
            found = [(lane, one) for lane, one in candidates.items() if one is not None]
            if not found:
                break
            lane, first = max(found, key=lambda pair: pair[1].score)
            lane.encode(lane.windows.shed(first.window), now_ms, out)
            candidates[lane] = lane.windows.eviction_candidate(self.clock)
            self._busy.note(lane.number)
        return out

    def finish(self, now_ms: int) -> Collected:
        """Close all windows: the input has ended.

        ``expire`` makes the rest of the documents while it ``has_pending_documents``.
        """
        out = Collected()
        for number in sorted(self._busy.holding):
            lane = self._in_order[number]
            lane.encode(lane.windows.finish(), now_ms, out)
            self._busy.note(number)
        return out

    def begin_checkpoint(self, lane: str, below: int) -> Checkpoint:
        """Begin to save a lane's windows: in slices, settled in the tick that writes them (K2).

        Windows with unsaved events below that offset are taken whole, windows saved earlier with
        their saved part. One checkpoint of a lane at a time: a new one makes the last one void.
        """
        one = self._lanes[lane]
        return Checkpoint(one.windows, below, lambda: self._busy.note(one.number))

    def compress_above(self, memory_bytes: int) -> None:
        """Compress also short waiting while ``memory_bytes()`` is above this; long is always.

        It costs some 2 µs an event: worth it only where windows would have to be closed early.
        """
        self._busy.compress_above(memory_bytes)

    def release_replay(self, position: int) -> None:
        """Let some of what a replay must know go, once it is over; called after every poll."""
        if (known := self._replaying) and position >= self._read:
            self._replaying = [one for one in known if one.replay.release(RELEASED_PER_POLL)]

    def forget_reaches(self, below: int) -> None:
        """Forget how far offsets below this one looked back for duplicates."""
        if self._duplicates is not None:
            self._duplicates.forget_reaches(below)

    # ------------------------------------------------------------------ queries

    def seen_from(self, offset: int) -> int:
        """Return the lowest offset that positions from ``offset`` on look back to for duplicates.

        Everything below ``offset`` was collected.
        """
        return offset if self._duplicates is None else self._duplicates.seen_from(offset)

    def identities(self) -> int:
        """Return how many identities are remembered that what comes may repeat."""
        return 0 if self._duplicates is None else self._duplicates.identities()

    @property
    def has_pending_documents(self) -> bool:
        """Tell whether windows have closed whose documents are not all made.

        ``expire`` goes on; until then nothing should be collected, and no snapshot made: what is
        pending is in none.
        """
        return bool(self._busy.pending)

    def next_deadline(self) -> int | None:
        """Return the earliest deadline of any window; perhaps too early, never too late."""
        return self._busy.next_deadline()

    def unsaved(self) -> Mapping[str, Position]:
        """Return by lane the lowest position in an open window that is in no checkpoint, if any."""
        return self._busy.unsaved()

    def memory_bytes(self) -> int:
        """Return an estimate of the memory that open windows take, and identities; cheap."""
        size = 0 if self._duplicates is None else self._duplicates.memory_bytes()
        return size + self._busy.memory_bytes()

    def holding(self) -> list[str]:
        """Return the lanes in which any window is open, or closed with documents to be made."""
        return [self._in_order[number].lane.name for number in self._busy.holding]

    def open_windows(self, lane: str | None = None) -> int:
        """Return how many windows are open, in a lane or in all."""
        return sum([len(one.windows.open) for one in self._chosen(lane)])

    def waiting_bytes(self, lane: str | None = None) -> int:
        """Return how many bytes of events wait in open windows, in a lane or in all."""
        return sum([one.windows.waiting_bytes for one in self._chosen(lane)])

    def waiting_events(self) -> dict[str, int]:
        """Return by lane how many events wait in windows, those included that only just closed."""
        return {name: self._lanes[name].waiting_events() for name in self.holding()}

    def oldest_opened(self, lane: str | None = None) -> int | None:
        """Return the record time at which the oldest open window was opened."""
        opened = [one.windows.oldest_opened() for one in self._chosen(lane)]
        return min([time for time in opened if time is not None], default=None)

    def would_touch(self, upload: Upload) -> bool:
        """Tell whether an upload, had it no events, would change an open window."""
        return any(lane.windows.would_touch(upload) for lane in self._lanes.values())

    def _chosen(self, lane: str | None) -> Iterable[PartitionLane]:
        return self._lanes.values() if lane is None else (self._lanes[lane],)

    # ------------------------------------------------------------------ decoding and accounting

    def _new_decoder(self) -> Decoder:
        """Return a decoder that reads what today's lanes and their replays need."""
        lanes = self._lanes.values()
        rules = {a.lane.keying_rule for a in lanes} | {b for a in lanes for b, _ in a.replay.keying}
        return self._form.decoder(
            self._partition,
            [one.lane.filter for one in lanes],
            sessions=need_sessions(rules, self._form.former_rules),
            duplicates=self._duplicates is not None,
            matches=self._router.looks_inside,
        )

    def _look_back(self, records: Sequence[Record], duplicates: Duplicates) -> Sequence[Record]:
        """Read what is only looked back on for its identities; return the rest of the poll."""
        if not records or records[0].offset >= duplicates.settled:
            return records
        known = [record for record in records if record.offset < duplicates.settled]
        uploads: list[Upload] = []
        for record in known:
            if record.value is None or redrive.parse_headers(record.headers) is not None:
                continue
            time = record.timestamp
            found = self._decoder.decode(record.value, record.offset, time, time)
            if not isinstance(found, Reject):
                uploads += found
        duplicates.mark(known, uploads)
        return records[len(known) :]

    def _drop_duplicates(
        self, records: Sequence[Record], scan: Scan, duplicates: Duplicates, out: Collected
    ) -> None:
        """Leave the uploads that have events left, what has come before marked in them.

        What has none left changes nothing: no window has its context, and no session its time.
        """
        marked = duplicates.mark(records, scan.uploads)
        scan.uploads = marked.kept
        if marked.partial:
            scan.types.add(DUPLICATE)
        if marked.dropped or marked.partial:
            fresh = [one for one in marked.dropped if one.offset >= self._read]
            partial = [one for one in marked.partial if one.offset >= self._read]
            outcomes.count_duplicates(fresh, partial, out)
            routed, _ = self._router.route(marked.dropped)
            for number in sorted(routed):
                self._in_order[number].count_duplicates(routed[number], out)

    def _decode(self, records: Sequence[Record], now_ms: int, out: Collected) -> Scan:
        """Decode the poll; every upload carries the record clock of its moment."""
        scan = self._decoder.scan(records, self.clock, now_ms, redrive.is_redriven)
        if scan.odd:
            scan.uploads = self._with_odd(records, scan, now_ms, out)
        self.clock = scan.clock
        outcomes.count_records(records, self._read, out)
        return scan

    def _with_odd(
        self, records: Sequence[Record], scan: Scan, now_ms: int, out: Collected
    ) -> list[Upload]:
        """Return the uploads of a poll with those of its odd records, in order."""
        uploads: list[Upload] = []
        at = 0
        for one in scan.odd:
            uploads += scan.uploads[at : one.before]
            at = one.before
            for upload in self._decode_odd(records[one.index], one, now_ms, out):
                scan.types.update(upload.types)
                scan.governed |= bool(upload.governed)
                uploads.append(upload)
        return uploads + scan.uploads[at:]

    def _decode_odd(
        self, record: Record, odd: OddRecord, now_ms: int, out: Collected
    ) -> list[Upload]:
        """Return the uploads of a record that go the way of all others."""
        time, value = record.timestamp, record.value
        if value is None:
            if record.offset >= self._read:
                out.tombstones += 1
            return []
        if record.headers and (told := redrive.parse_headers(record.headers)) is not None:
            self._collect_redriven(record, told, odd.clock, now_ms, out)
            return []
        found = odd.found
        if found is None:
            found = self._decoder.decode(value, record.offset, time, odd.clock)
        if isinstance(found, Reject):
            self._reject(record, found, time, out)
            return []
        outcomes.share_out(found, len(value))
        return found

    def _count_uploads(
        self, uploads: Sequence[Upload], unmatched: Sequence[Upload], out: Collected
    ) -> None:
        """Count decoded uploads, and where their bytes went, once the lanes have had them."""
        if uploads and uploads[0].offset < self._read:
            uploads = [upload for upload in uploads if upload.offset >= self._read]
            unmatched = [upload for upload in unmatched if upload.offset >= self._read]
        out.uploads += len(uploads)
        out.events += sum([len(upload.types) for upload in uploads])
        out.unmatched += len(unmatched)
        if self._besides is not None:
            for upload in [one for one in uploads if not one.types]:
                upload.used |= self._besides.would_touch(upload)
        outcomes.count_outcomes(uploads, unmatched, out)
        if self._explains:
            names = list(self._lanes)
            for upload in unmatched:
                for lane, part, value in self._router.misses(upload):
                    add_count(out.missed, (names[lane], part, value), 1)

    def _collect_redriven(
        self, record: Record, told: redrive.RedriveHeaders, clock: int, now_ms: int, out: Collected
    ) -> None:
        """Take a dead letter that was sent back: at once, for its connection alone if it has one.

        What fails again is marked, so that it is not sent back for ever.
        """
        before = len(out.dead_letters)
        value, time = record.value or b"", told.time or record.timestamp
        lane = self._lanes.get(told.connection)
        if lane is not None and not lane.replay.takes(record.offset):
            lane = None
        batch = None
        if lane is not None:  # its document may be of another format than what is read here
            batch = redrive.parse_batch(record, told, lane.lane.documents)
        found: list[Upload] | Reject = []
        if batch is None or not batch.key:
            found = self._decoder.decode(value, record.offset, time, clock)
        if batch is not None and lane is not None:
            self._add_batch(lane, batch, found, now_ms, out)
        elif told.connection and lane is None and redrive.is_batch_or_upload(told, found):
            uploads = [] if isinstance(found, Reject) else found
            self._return_to_letters(record, told, uploads, out)
        elif isinstance(found, Reject):
            self._reject(record, found, time, out)
        else:
            outcomes.share_out(found, len(value))
            self._to_lanes(told, found, now_ms, out)
        out.dead_letters[before:] = [
            replace(letter, redriven=True, connection=letter.connection or told.connection)
            for letter in out.dead_letters[before:]
        ]

    def _add_batch(
        self,
        lane: PartitionLane,
        batch: Batch,
        found: Sequence[Upload] | Reject,
        now_ms: int,
        out: Collected,
    ) -> None:
        """Take a re-driven batch; ``found`` is asked whose it is where no header says so."""
        if not batch.key:
            one = None if isinstance(found, Reject) or len(found) != 1 else found[0]
            batch = replace(batch, key=digest(one.device) if one else batch.window_key)
        lane.add_redriven_batch(replace(batch, closed_at=now_ms), out)
        if batch.first[0] >= self._read:
            out.uploads += 1
            out.events += batch.count
            way = RecordOutcome.ROUTED if batch.count else RecordOutcome.CONTEXT_ONLY
            outcomes.settle(out, way, 1, len(batch.payload))

    def _to_lanes(
        self, told: redrive.RedriveHeaders, found: list[Upload], now_ms: int, out: Collected
    ) -> None:
        """Give re-driven uploads to the lanes that they are for."""
        idle, unused = out.idle, dict(out.unused)
        routed, unmatched = self._router.route(found)
        wanted = [(self._in_order[number], routed[number]) for number in sorted(routed)]
        meant = [(one, u) for one, u in wanted if told.connection in {"", one.lane.name}]
        for one, uploads in meant:
            for upload in uploads:
                one.collect_redriven(upload, now_ms, out)
            self._busy.note(one.number)
        if told.connection:
            taken = {id(upload) for _, uploads in meant for upload in uploads}
            unmatched = [upload for upload in found if id(upload) not in taken]
        self._count_uploads(found, unmatched, out)
        out.idle, out.unused = idle, unused  # what an operator sent back is no deploy's

    def _return_to_letters(
        self, record: Record, told: redrive.RedriveHeaders, found: Sequence[Upload], out: Collected
    ) -> None:
        """Make a letter again of what came back for a connection that does not take it here.

        Its events count as accepted by that connection, whose letter it becomes.
        """
        if record.offset < self._read:
            return
        events = sum([len(upload.types) for upload in found])
        out.dead_letters.append(redrive.returned_letter(record, told, events))
        out.uploads += len(found)
        out.events += events
        for counts in (out.routed, out.accepted):
            add_count(counts, told.connection, events)
        outcomes.settle(out, RecordOutcome.REJECTED, 1, len(record.value or b""))

    def _reject(self, record: Record, found: Reject, time: int, out: Collected) -> None:
        if record.offset < self._read:
            return
        out.dead_letters.append(outcomes.letter_of_reject(record, found, time))
        outcomes.settle(out, RecordOutcome.REJECTED, 1, len(record.value or b""))
