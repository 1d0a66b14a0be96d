"""The compiled form of a connection, and its share in one partition: windows, gate, encoder."""

from collections.abc import Sequence

from forwarder.connection import BatchMode, Connection, Settings
from forwarder.model import (
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
)
from forwarder.stages import filter, gate, rawjson, redriven, window  # noqa: A004  # a stage's name
from forwarder.stages.decode import Decoder
from forwarder.stages.encode import Encoder
from forwarder.stages.session import Sessions
from forwarder.stages.shapes import Upload, Window, digest, joined

_REPLAY = "replay"

JUDGEMENT = 1
"""To be raised by who changes what a filter or a transform makes of an event under the same
settings: windows saved before are judged anew then."""


def rule_of(settings: Settings) -> str:
    """Name by which rule events are kept and changed: stored with what was kept by it."""
    passes = sorted((k, s is None or getattr(settings, s)) for k, s in filter.GOVERNING.items())
    rest = settings.send_unknown_events, settings.send_batches_without_events
    told = (JUDGEMENT, passes, rest, filter.transform_of(settings))
    return digest(repr(told).encode()).hex()


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
        self.rule = rule_of(settings)

    def windows(self) -> window.Windows:
        """Return an empty set of windows that closes as the connection's mode asks."""
        batching = self.connection.batching
        if self.mode is BatchMode.SESSION:
            return Sessions(batching)
        if self.mode is BatchMode.SINGLE:
            return window.Singles(batching)
        return window.Windows(batching)


class Share:
    """One lane's part in one partition."""

    def __init__(self, partition: Partition, lane: Lane) -> None:
        """Begin with no open windows and a gate that keeps nothing out."""
        self.lane = lane
        self.windows = lane.windows()
        self.gate = gate.wide_open()
        self._encoder = Encoder(partition, lane.connection)

    def guard(self, gated: Gate) -> None:
        """Keep out what an opening says is settled."""
        self.gate = gated
        self.windows.guard(gated)

    def restore(self, held: Sequence[Held], decoder: Decoder) -> None:
        """Open saved windows again, with the events that today's filter keeps (O7)."""
        for stored in held:
            if isinstance(stored, Unopened):
                names = decoder.names(rawjson.fields(stored.context))
                self.windows.restore(stored, [], names)
            elif pieces := self._kept(stored, decoder):
                names = decoder.names(rawjson.fields(stored.context))
                self.windows.restore(stored, pieces, names)

    def _kept(self, stored: Held, decoder: Decoder) -> list[Piece]:
        """Return what today's filter keeps of a saved window; mostly it is all, judged at once."""
        if all(piece[2] for piece in stored.pieces):
            whole = decoder.waiting(joined(stored.pieces), stored)
            if self.lane.filter.keeps_all(whole):
                return list(stored.pieces)
        uploads = [decoder.waiting(piece, stored) for piece in stored.pieces]
        kept, _ = self.lane.filter.sift(uploads, {})
        return [piece for _, found in kept for piece in found]

    def encode(self, closed: Sequence[Window], now_ms: int, out: Collected) -> None:
        """Encode what closed, all of it before anybody takes a snapshot (C2)."""
        for one in closed:
            batches, letters = self._encoder.encode(one, now_ms)
            out.batches += batches
            out.dead_letters += letters
            self._settle(one, batches[0].window_key if batches else digest(one.key), out)

    def report(self, failed: Sequence[Upload], out: Collected) -> None:
        """Make dead letters of uploads that cannot be changed as the settings ask."""
        below = self.gate.accept_below
        for upload in failed:
            if upload.offset >= self.gate.read and (below is None or upload.offset < below):
                error = "the events cannot be changed as the settings ask"
                value = rawjson.with_events(upload.body, upload.context)
                letter = (Reason.NOT_ENCODABLE, upload.offset, self.lane.name, error, value)
                events = len(upload.types)
                out.dead_letters.append(DeadLetter(*letter, upload.time, events=events))

    def redrive(self, upload: Upload, now_ms: int, out: Collected) -> None:
        """Take a re-driven upload: batches of its own at once, whatever windows are open.

        It is older than what its device has sent since, and must not pass for the newest there.
        """
        key = redriven.window_key(upload.offset, upload.start)
        if not self._admits((upload.offset, upload.start), digest(key)):
            self.windows.replayed += len(upload.types)
            return
        kept, failed = self.lane.filter.sift([upload], out.filtered)
        self.report(failed, out)
        apart = self.lane.windows()
        closed = apart.add(kept) + apart.finish()
        self.windows.accepted += apart.accepted
        for one in closed:
            one.key, one.reason = key, CloseReason.REDRIVEN
        self.encode(closed, now_ms, out)

    def redrive_batch(self, batch: Batch, out: Collected) -> None:
        """Take a re-driven batch as it is: no filter, no window, its bytes and its id."""
        if self._admits(batch.first, batch.window_key):
            out.batches.append(batch)
            self.windows.accepted += batch.count
            self._note_closing(batch.window_key, batch.last, batch.reason, out)

    def takes(self, offset: int) -> bool:
        """Tell whether a record at an offset is taken at all: an inactive connection takes none."""
        below = self.gate.accept_below
        return below is None or offset < below

    def _admits(self, position: Position, name: bytes) -> bool:
        """Tell whether what closes at once is wanted here, and was not taken before (O8)."""
        return self.takes(position[0]) and gate.passes(self.gate, name, position)

    def count(self, out: Collected) -> None:
        """Report what was accepted and kept out since the last call."""
        windows, lane = self.windows, self.lane.name
        out.accepted[lane] = windows.accepted
        if windows.replayed:
            out.filtered[(lane, _REPLAY)] = windows.replayed
        windows.accepted = windows.replayed = 0

    def _settle(self, one: Window, key: bytes, out: Collected) -> None:
        """Note that a window closed, and let go of what it held."""
        # A saved piece may end with events that today's filter left out: the batch settles them.
        last = one.last if one.saved is None else max(one.last, one.saved.to)
        self._note_closing(key, last, one.reason, out)
        one.hollow()

    def _note_closing(
        self, key: bytes, last: Position, reason: CloseReason, out: Collected
    ) -> None:
        lane = self.lane.name
        out.closings.append(Closing(lane, key, last))
        out.closed[(lane, reason)] = out.closed.get((lane, reason), 0) + 1
        if last[0] < self.gate.read:  # later events of the key are not replayed any more
            self.gate.closed[key] = max(self.gate.closed.get(key, last), last)
