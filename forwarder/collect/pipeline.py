"""THE ORDER OF THE STAGES: decode, route, filter, window, encode.

Pure: lists in, lists out, time comes in as an argument. ``collect`` is the flow; the rest is what
the owner of a partition asks of the open windows.
"""

from collections.abc import Callable, Iterable, Sequence

from msgspec.structs import replace

from forwarder.collect import outcomes
from forwarder.collect import redrive as redriven
from forwarder.collect.keying import SESSION_RULES
from forwarder.collect.lane import MOST_ENCODED, Lane, Share
from forwarder.collect.windows.checkpoint import Saving
from forwarder.collect.windows.store import Windows
from forwarder.config.connection import Connection
from forwarder.formats.contract import Upload
from forwarder.formats.mparticle import transform
from forwarder.formats.mparticle.decode import Decoder, Reject
from forwarder.model import (
    Collected,
    DeadLetter,
    Gate,
    Held,
    Partition,
    Position,
    Record,
    RecordOutcome,
    Sealed,
    add,
)
from forwarder.rules.match import Router

__all__ = ["MOST_ENCODED", "Lane", "Pipeline", "Saving", "compile_lane"]

MOST_CLOSED = 500
"""Windows that a poll closes at its end, of all lanes; the owner closes the rest in slices."""


def compile_lane(connection: Connection) -> Lane:
    """Compile a connection; once per process."""
    return Lane(connection)


class Pipeline:
    """What one partition collects, for all lanes. Times are milliseconds since the epoch.

    The decoder's dead letters are made only at offsets from ``read`` on: those below were made
    before this opening. ``clock`` is the partition's record clock: the latest record time, but
    never later than the wall clock was.
    """

    def __init__(
        self,
        partition: Partition,
        lanes: Sequence[Lane],
        read: int = 0,
        *,
        explains: bool = False,
        besides: "Pipeline | None" = None,
    ) -> None:
        """Begin with no open windows; call ``guard`` and ``resume`` for what an opening found.

        ``explains``: count why uploads match nothing, for a run that somebody watches.
        ``besides``: of a sample, the pipeline whose windows are open.
        """
        self._partition = partition
        self._explains = explains
        self._besides = besides
        self._read = read
        self.clock = 0
        self._shares = {lane.name: Share(partition, lane) for lane in lanes}
        self._router = Router([lane.connection.match for lane in lanes])
        self._decoder = self._new_decoder()

    def guard(self, lane: str, gated: Gate) -> None:
        """Keep out of a lane what an opening says is settled; before ``resume`` and ``collect``."""
        self._shares[lane].guard(gated)
        self._decoder = self._new_decoder()

    def resume(self, lane: str, held: Iterable[Held]) -> int:
        """Open some saved windows again (O7); call it as often as there are slices.

        Neither the order of the slices nor that of the windows in them matters. Returns how many
        events wait in them.
        """
        return self._shares[lane].restore(list(held), self._decoder)

    def collect(self, records: Sequence[Record], now_ms: int) -> Collected:
        """Take one poll's records in order; return everything that closed."""
        out = Collected()
        uploads = self._decode(records, now_ms, out)
        routed, unmatched = self._router.route(uploads)
        for share, wanted in zip(self._shares.values(), routed, strict=True):
            closed = share.take(wanted, out)
            closed += share.windows.expire(self.clock, max(0, MOST_CLOSED - len(out.closings)))
            share.encode(closed, now_ms, out)
            share.take_misfits(out)
        self._account(uploads, unmatched, out)
        return out

    def try_out(self, records: Sequence[Record], now_ms: int) -> Collected:
        """Collect a sample into windows of its own, close them, and keep nothing of it."""
        shares = self._shares.values()
        lanes = [share.lane for share in shares if share.gate.accept_below is None]
        apart = Pipeline(self._partition, lanes, besides=self)
        found, rest = apart.collect(records, now_ms), apart.finish(now_ms)
        found.dead_letters += rest.dead_letters
        return found

    def expire(self, due_ms: int, limit: int, now_ms: int | None = None) -> Collected:
        """Close at most ``limit`` windows with a deadline not after ``due_ms``.

        What is pending comes first. If as many closed (``len(closings)``), or ``is_behind``, more
        may be due. ``now_ms`` is the wall clock, if it is another time.
        """
        out = Collected()
        for share in self._shares.values():
            closed = share.windows.expire(due_ms, limit - len(out.closings))
            share.encode(closed, due_ms if now_ms is None else now_ms, out)
        return out

    def shed(self, bytes_wanted: int, limit: int, now_ms: int) -> Collected:
        """Close the largest old windows for want of memory, at most ``limit`` of them (C1).

        Stops as soon as ``memory_bytes`` is lower by ``bytes_wanted``; closes one at least where
        any bytes are wanted and any window is open. ``now_ms`` is the wall clock.
        """
        out = Collected()
        goal = self.memory_bytes() - bytes_wanted
        heaviest = {share: share.windows.heaviest(self.clock) for share in self._shares.values()}
        for share in self._shares.values():
            share.encode([], now_ms, out)
        while self.memory_bytes() > goal and len(out.closings) < limit and not self.is_behind():
            found = [(one[0], share, one[1]) for share, one in heaviest.items() if one is not None]
            if not found:
                break
            _, share, window = max(found, key=lambda one: one[0])
            share.encode(share.windows.shed(window), now_ms, out)
            heaviest[share] = share.windows.heaviest(self.clock)
        return out

    def finish(self, now_ms: int) -> Collected:
        """Close all windows: the input has ended; ``expire`` goes on while it ``is_behind``."""
        out = Collected()
        for share in self._shares.values():
            share.encode(share.windows.finish(), now_ms, out)
        return out

    def next_deadline(self) -> int | None:
        """Return the earliest deadline of any window; perhaps too early, never too late."""
        return min(self._each(Windows.next_deadline), default=None)

    def first_unsaved(self, lane: str) -> Position | None:
        """Return the lowest position that is in an open window of the lane and in no base."""
        return self._shares[lane].first_unsaved()

    def saving(self, lane: str, below: int) -> Saving:
        """Begin to save a lane's windows for a base: in slices, settled in the base's tick (K2).

        Windows with unsaved events below that offset are taken whole, windows saved earlier with
        their saved part. One saving of a lane at a time: a new one makes the last one void.
        """
        return Saving(self._shares[lane].windows, below)

    def memory_bytes(self, lane: str | None = None) -> int:
        """Return an estimate of the memory all open windows take, of a lane or of all; cheap."""
        return sum(share.memory_bytes() for share in self._chosen(lane))

    def is_behind(self) -> bool:
        """Tell whether windows have closed whose documents are not all made: ``expire`` goes on.

        Until then nothing should be collected, and no base drafted: what is pending is in none.
        """
        return any(share.pending for share in self._shares.values())

    def compress_above(self, memory_bytes: int) -> None:
        """Compress also short waiting while ``memory_bytes()`` is above this; long is always.

        It costs some 2 µs an event: worth it only where windows would have to be closed early.
        """
        for share in self._shares.values():
            share.windows.roomy = memory_bytes // len(self._shares)

    def open_windows(self, lane: str | None = None) -> int:
        """Return how many windows are open, in a lane or in all."""
        return sum(len(share.windows.open) for share in self._chosen(lane))

    def waiting_bytes(self, lane: str | None = None) -> int:
        """Return how many bytes of events wait in open windows, in a lane or in all."""
        return sum(share.windows.waiting_bytes for share in self._chosen(lane))

    def waiting_events(self, lane: str) -> int:
        """Return how many events wait in a lane's windows, those included that only just closed."""
        return self._shares[lane].waiting_events()

    def knows(self, upload: Upload) -> bool:
        """Tell whether an upload, had it no events, would touch an open window."""
        return any(share.windows.knows(upload) for share in self._shares.values())

    def oldest_opened(self, lane: str | None = None) -> int | None:
        """Return the record time at which the oldest open window was opened."""
        return min(self._each(Windows.oldest_opened, lane), default=None)

    def _chosen(self, lane: str | None) -> Iterable[Share]:
        return self._shares.values() if lane is None else (self._shares[lane],)

    def _each(self, ask: Callable[[Windows], int | None], lane: str | None = None) -> list[int]:
        answers = [ask(share.windows) for share in self._chosen(lane)]
        return [answer for answer in answers if answer is not None]

    def _new_decoder(self) -> Decoder:
        """Return a decoder that reads what today's lanes and their replays need."""
        shares = self._shares.values()
        rules = {share.lane.keying_rule for share in shares}
        rules |= {rule for share in shares for rule, _ in share.gate.keying}
        strip = transform.STRIP_LOCATION
        return Decoder(
            self._partition,
            sessions=not SESSION_RULES.isdisjoint(rules),
            places=any(share.lane.transform & strip for share in shares),
        )

    def _decode(self, records: Sequence[Record], now_ms: int, out: Collected) -> list[Upload]:
        """Decode the poll; every upload carries the record clock of its moment."""
        uploads: list[Upload] = []
        decode, clock = self._decoder.decode, self.clock
        for record in records:
            time, value = record.timestamp, record.value
            clock = max(clock, min(time, now_ms))
            if value is None:
                if record.offset >= self._read:
                    out.tombstones += 1
                continue
            if record.headers and (told := redriven.mark(record.headers)) is not None:
                self._redrive(record, told, clock, now_ms, out)
                continue
            found = decode(value, record.offset, time, clock)
            if isinstance(found, Reject):
                self._reject(record, found, time, out)
            elif len(found) == 1:
                found[0].size = len(value)
                uploads += found
            else:
                outcomes.share_out(found, len(value))
                uploads += found
        self.clock = clock
        self._count_records(records, out)
        return uploads

    def _count_records(self, records: Sequence[Record], out: Collected) -> None:
        """Count what was read, once: what lies below ``read`` was counted when it came first."""
        if records and records[0].offset < self._read:
            fresh = [record for record in records if record.offset >= self._read]
            out.replayed = len(records) - len(fresh)
            records = fresh
        out.records = len(records)
        out.bytes = sum([len(record.value) for record in records if record.value is not None])
        outcomes.settle(out, RecordOutcome.TOMBSTONE, out.tombstones, 0)

    def _account(
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
                upload.used |= self._besides.knows(upload)
        outcomes.count(uploads, unmatched, out)
        if self._explains:
            self._explain(unmatched, out)

    def _explain(self, unmatched: Sequence[Upload], out: Collected) -> None:
        """Count by lane which parts of its match the uploads missed that no lane wants."""
        names = list(self._shares)
        for upload in unmatched:
            for lane, part, value in self._router.misses(upload):
                add(out.missed, (names[lane], part, value), 1)

    def _redrive(
        self, record: Record, told: redriven.Mark, clock: int, now_ms: int, out: Collected
    ) -> None:
        """Take a dead letter that was sent back: at once, for its connection alone if it has one.

        What fails again is marked, so that it is not sent back for ever.
        """
        before = len(out.dead_letters)
        value, time = record.value or b"", told.time or record.timestamp
        found = self._decoder.decode(value, record.offset, time, clock)
        if isinstance(found, Reject):
            self._reject(record, found, time, out)
        else:
            outcomes.share_out(found, len(value))
            self._hand_over(record, told, found, now_ms, out)
        out.dead_letters[before:] = [
            replace(letter, redriven=True, connection=letter.connection or told.connection)
            for letter in out.dead_letters[before:]
        ]

    def _hand_over(
        self,
        record: Record,
        told: redriven.Mark,
        found: Sequence[Upload],
        now_ms: int,
        out: Collected,
    ) -> None:
        """Give re-driven uploads, or the batch, to the lanes that they are for."""
        share = self._shares.get(told.connection)
        if told.connection and (share is None or not share.takes(record.offset)):
            self._return(record, told, found, out)
            return
        idle, unused = out.idle, dict(out.unused)
        batch = redriven.document(record, found, told)
        if batch is not None and share is not None:
            share.redrive_batch(replace(batch, closed_at=now_ms), out)
            found[0].used = True
            self._account(found, (), out)
            return
        routed, unmatched = self._router.route(found)
        wanted = zip(self._shares.items(), routed, strict=True)
        meant = [(s, u) for (name, s), u in wanted if told.connection in {"", name}]
        for share, uploads in meant:
            for upload in uploads:
                share.redrive(upload, now_ms, out)
        if told.connection:
            taken = {id(upload) for _, uploads in meant for upload in uploads}
            unmatched = [upload for upload in found if id(upload) not in taken]
        self._account(found, unmatched, out)
        out.idle, out.unused = idle, unused  # what an operator sent back is no deploy's

    def _return(
        self, record: Record, told: redriven.Mark, found: Sequence[Upload], out: Collected
    ) -> None:
        """Make a letter again of what came back for a connection that does not take it here.

        Its events count as accepted by that connection, whose letter it becomes.
        """
        if record.offset < self._read:
            return
        events = sum([len(upload.types) for upload in found])
        out.dead_letters.append(redriven.returned(record, told, events))
        out.uploads += len(found)
        out.events += events
        for counts in (out.routed, out.accepted):
            add(counts, told.connection, events)
        outcomes.settle(out, RecordOutcome.REJECTED, 1, len(record.value or b""))

    def _reject(self, record: Record, found: Reject, time: int, out: Collected) -> None:
        if record.offset < self._read:
            return
        value, first = record.value or b"", -1
        if isinstance(value, Sealed):  # no JSON: what is wrong with it was known before
            found, first, value = Reject(value.reason, value.error), value.first, bytes(value)
        letter = DeadLetter(found.reason, record.offset, "", found.error, value, time, first=first)
        out.dead_letters.append(letter)
        outcomes.settle(out, RecordOutcome.REJECTED, 1, len(value))
