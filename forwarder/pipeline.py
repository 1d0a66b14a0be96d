"""THE ORDER OF THE STAGES: decode, route, filter, window, encode.

Pure: lists in, lists out, time comes in as an argument. ``collect`` is the flow; the rest is what
the owner of a partition asks of the open windows.
"""

from collections.abc import Callable, Iterable, Sequence

from forwarder.connection import BatchMode, Connection
from forwarder.model import (
    Closing,
    Collected,
    DeadLetter,
    Gate,
    Held,
    Partition,
    Position,
    Reason,
    Record,
)
from forwarder.stages import context, filter, gate, rawjson, transform, window  # noqa: A004
from forwarder.stages.decode import Decoder, Reject
from forwarder.stages.encode import Encoder
from forwarder.stages.route import Router
from forwarder.stages.session import Sessions
from forwarder.stages.shapes import Upload, Window, digest

_REPLAY = "replay"


class Lane:
    """The compiled form of one connection, shared by all partitions of a process."""

    def __init__(self, connection: Connection) -> None:
        """Compile the connection's settings."""
        settings = connection.settings
        self.connection = connection
        self.name = connection.name
        self.mode = settings.mode
        self.keying_rule = window.keying_rule(settings.mode)
        self.transform = filter.transform_of(settings)
        self.filter = filter.Filter(connection.name, settings)

    def windows(self) -> window.Windows:
        """Return an empty set of windows that closes as the connection's mode asks."""
        batching = self.connection.batching
        if self.mode is BatchMode.SESSION:
            return Sessions(batching)
        return (
            window.Singles(batching) if self.mode is BatchMode.SINGLE else window.Windows(batching)
        )


def compile_lane(connection: Connection) -> Lane:
    """Compile a connection; once per process."""
    return Lane(connection)


class _Share:
    """One lane's part in one partition: its open windows, its gate, its encoder."""

    def __init__(self, partition: Partition, lane: Lane) -> None:
        self.lane = lane
        self.windows = lane.windows()
        self.gate = gate.wide_open()
        self.encoder = Encoder(partition, lane.connection)


class Pipeline:
    """What one partition collects, for all lanes. Times are milliseconds since the epoch.

    The decoder's dead letters are made only at offsets from ``read`` on: those below were made
    before this opening.
    """

    def __init__(self, partition: Partition, lanes: Sequence[Lane], read: int = 0) -> None:
        """Begin with no open windows; call ``restore`` for what an opening found."""
        self._partition = partition
        self._read = read
        self._clock = 0
        self._shares = {lane.name: _Share(partition, lane) for lane in lanes}
        self._router = Router([lane.connection.match for lane in lanes])
        self._decoder = self._new_decoder()

    def restore(self, lane: str, gated: Gate, held: Sequence[Held]) -> None:
        """Take over what an opening found for a lane; before the first ``collect``."""
        share = self._shares[lane]
        share.gate = gated
        share.windows.guard(gated)
        self._decoder = self._new_decoder()
        for stored in sorted(held, key=lambda stored: stored.opened):
            uploads = [self._decoder.waiting(piece, stored) for piece in stored.pieces]
            kept, _ = share.lane.filter.sift(uploads, {})
            pieces = [piece for _, found in kept for piece in found]
            if pieces:
                names = context.names_of(rawjson.fields(stored.context))
                share.windows.restore(stored, pieces, names)

    def collect(self, records: Sequence[Record], now_ms: int) -> Collected:
        """Take one poll's records in order; return everything that closed."""
        out = Collected()
        uploads = self._decode(records, now_ms, out)
        routed, out.unmatched = self._router.route(uploads)
        for share, wanted in zip(self._shares.values(), routed, strict=True):
            kept, failed = share.lane.filter.sift(wanted, out.filtered)
            self._report(share, failed, out)
            closed = share.windows.add(kept)
            closed += share.windows.expire(self._clock)
            self._encode(share, closed, now_ms, out)
            self._count(share, out)
        return out

    def expire(self, now_ms: int, limit: int) -> Collected:
        """Close by the wall clock at most ``limit`` windows with a deadline not after ``now_ms``.

        If as many closed (``len(closings)``), more may be due.
        """
        out = Collected()
        for share in self._shares.values():
            closed = share.windows.expire(now_ms, limit - len(out.closings))
            self._encode(share, closed, now_ms, out)
        return out

    def finish(self, now_ms: int) -> Collected:
        """Close all windows: the input has ended."""
        out = Collected()
        for share in self._shares.values():
            self._encode(share, share.windows.finish(), now_ms, out)
        return out

    def next_deadline(self) -> int | None:
        """Return the earliest deadline of any window; perhaps too early, never too late."""
        return min(self._each(window.Windows.next_deadline), default=None)

    def first_unsaved(self, lane: str) -> Position | None:
        """Return the lowest position that is in an open window of the lane and in no base."""
        return self._shares[lane].windows.first_unsaved()

    def save(self, lane: str, below: int) -> list[Held]:
        """Return the windows a base stores; those with unsaved events below become saved (K2)."""
        return self._shares[lane].windows.save(below)

    def open_windows(self, lane: str | None = None) -> int:
        """Return how many windows are open, in a lane or in all."""
        return sum(len(share.windows.open) for share in self._chosen(lane))

    def waiting_bytes(self, lane: str | None = None) -> int:
        """Return how many bytes of events wait in open windows, in a lane or in all."""
        return sum(share.windows.waiting_bytes for share in self._chosen(lane))

    def oldest_opened(self, lane: str | None = None) -> int | None:
        """Return the record time at which the oldest open window was opened."""
        return min(self._each(window.Windows.oldest_opened, lane), default=None)

    def _chosen(self, lane: str | None) -> Iterable[_Share]:
        return self._shares.values() if lane is None else (self._shares[lane],)

    def _each(
        self, ask: Callable[[window.Windows], int | None], lane: str | None = None
    ) -> list[int]:
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
            sessions=window.BY_SESSION in rules,
            places=any(share.lane.transform & strip for share in shares),
        )

    def _decode(self, records: Sequence[Record], now_ms: int, out: Collected) -> list[Upload]:
        """Decode the poll; every upload carries the record clock of its moment."""
        uploads: list[Upload] = []
        decode, clock = self._decoder.decode, self._clock
        for record in records:
            time, value = record.timestamp, record.value
            clock = max(clock, min(time, now_ms))
            if value is None:
                out.tombstones += 1
                continue
            found = decode(value, record.offset, time, clock)
            if isinstance(found, Reject):
                self._reject(record.offset, value, found, out)
            else:
                uploads += found
        self._clock = clock
        out.records, out.uploads = len(records), len(uploads)
        out.events = sum([len(upload.types) for upload in uploads])
        return uploads

    def _reject(self, offset: int, value: bytes, found: Reject, out: Collected) -> None:
        if offset >= self._read:
            out.dead_letters.append(DeadLetter(found.reason, offset, "", found.error, value))

    def _report(self, share: _Share, failed: Sequence[Upload], out: Collected) -> None:
        """Make dead letters of uploads that a lane cannot change as it must."""
        for upload in failed:
            if upload.offset >= share.gate.read:
                value = rawjson.with_events(upload.body, upload.context)
                error = "the events cannot be changed as the settings ask"
                letter = (Reason.NOT_ENCODABLE, upload.offset, share.lane.name, error, value)
                out.dead_letters.append(DeadLetter(*letter))

    def _encode(self, share: _Share, closed: Sequence[Window], now_ms: int, out: Collected) -> None:
        """Encode what closed, all of it before anybody takes a snapshot (C2)."""
        for one in closed:
            batches, letters = share.encoder.encode(one, now_ms)
            out.batches += batches
            out.dead_letters += letters
            key = batches[0].window_key if batches else digest(one.key)
            self._settle(share, one, key, out)

    def _settle(self, share: _Share, one: Window, key: bytes, out: Collected) -> None:
        """Note that a window closed, and let go of what it held."""
        last, lane = one.last, share.lane.name
        out.closings.append(Closing(lane, key, last))
        why = (lane, one.reason)
        out.closed[why] = out.closed.get(why, 0) + 1
        if last[0] < share.gate.read:
            known = share.gate.closed
            known[key] = max(known.get(key, last), last)
        one.pieces, one.context, one.held = [], b"{}", None

    def _count(self, share: _Share, out: Collected) -> None:
        """Report a poll's counts of one lane once."""
        windows, lane = share.windows, share.lane.name
        out.accepted[lane] = windows.accepted
        if windows.replayed:
            out.filtered[(lane, _REPLAY)] = windows.replayed
        windows.accepted = windows.replayed = 0
