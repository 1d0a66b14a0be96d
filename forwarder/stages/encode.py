"""Encode closed windows into batches that fit, each a document of its own."""

from collections.abc import Sequence

import msgspec

from forwarder.connection import Connection, FileTarget, FirehoseTarget, PartitionKey
from forwarder.model import Batch, DeadLetter, Partition, Piece, Reason
from forwarder.stages import blocks, rawjson
from forwarder.stages.govern import Governance
from forwarder.stages.ids import BATCH_ID_DIGITS, IdSource
from forwarder.stages.rawjson import ABSENT
from forwarder.stages.shapes import Window, digest, last_of, singles

MOST_BYTES = 10 * 1024 * 1024
"""The largest payload for any sink: the largest record a Kinesis stream can be set to take."""

_DEVICE_KEY = 32
_MESSAGE_ID = 36
_LINE_END = 1
_LONGEST_KEY = 256  # characters AWS takes; sinks use the device for a longer mpid
_SCHEMA_VERSION = 2


class _Frame(msgspec.Struct, frozen=True, gc=False):
    """What the parts of a window have in common; ``size`` is that of a document without events."""

    window: Window
    key: bytes
    window_key: bytes
    mpid: str
    closed_at: int
    tail: bytes
    size: int
    limit: int


class Encoder:
    """Encodes the windows of one connection on one partition."""

    def __init__(self, partition: Partition, connection: Connection) -> None:
        """Compile what all documents of the connection have in common."""
        settings = connection.settings
        self._lane = connection.name
        self._sink = connection.sink
        self._ids = IdSource(partition, connection)
        self._governance = Governance(settings)
        self._quote = settings.int64_as_string
        self._unique = b""
        if settings.unique_id is not None:
            self._unique = b',"unique_id":%b' % rawjson.quoted(settings.unique_id)

    def encode(self, window: Window, now_ms: int) -> tuple[list[Batch], list[DeadLetter]]:
        """Return a window's documents and the events that cannot be in one; never raises.

        ``now_ms`` becomes ``closed_at``; nothing in a document depends on it.
        """
        pieces = blocks.pieces(window)
        try:
            return self._encode(self._frame(window, now_ms), pieces)
        except Exception as error:  # noqa: BLE001  # one odd window must not stop the others
            text = f"cannot be encoded: {type(error).__name__}"
            return [], [self._letter(window, piece, Reason.NOT_ENCODABLE, text) for piece in pieces]

    def _frame(self, window: Window, now_ms: int) -> _Frame:
        """Encode everything but the events and the ids, whose length is known."""
        fields = rawjson.fields(window.context)
        mpid = _plain(bytes(fields.get("mpid", ABSENT)))
        rest = rawjson.encode(self._governance.apply(fields, window.identities_ms))[1:]
        tail = b',"timestamp_unixtime_ms":%d%b%b%b' % (
            window.newest_ms,
            self._unique,
            b"," if len(rest) > 1 else b"",
            rest,
        )
        key = digest(window.device)
        other = key if window.key == window.device else digest(window.key)
        size = len(self._document(b"", "0" * _MESSAGE_ID, 10 ** (BATCH_ID_DIGITS - 1), tail))
        return _Frame(window, key, other, mpid, now_ms, tail, size, self._limit(mpid))

    def _limit(self, mpid: str) -> int:
        """Return how large a payload may be, its partition key or line end counted."""
        sink = self._sink
        if isinstance(sink, FileTarget):
            return MOST_BYTES
        if isinstance(sink, FirehoseTarget):
            return sink.max_record_bytes - _LINE_END
        size = _DEVICE_KEY
        if sink.partition_key is PartitionKey.BATCH:
            size = _MESSAGE_ID
        elif sink.partition_key is PartitionKey.MPID and 0 < len(mpid) <= _LONGEST_KEY:
            size = len(mpid.encode())
        return min(sink.max_record_bytes - size, MOST_BYTES)

    def _encode(
        self, frame: _Frame, pieces: Sequence[Piece]
    ) -> tuple[list[Batch], list[DeadLetter]]:
        total = frame.size + sum([len(piece[4]) + 1 for piece in pieces])
        if total - 1 <= frame.limit:
            return [self._batch(frame, pieces)], []
        groups, misfits = _fit(pieces, frame.limit - frame.size)
        text = f"does not fit into a record: over {frame.limit} bytes with its context"
        return [self._batch(frame, group) for group in groups], [
            self._letter(frame.window, piece, Reason.EVENT_TOO_LARGE, text) for piece in misfits
        ]

    def _batch(self, frame: _Frame, pieces: Sequence[Piece]) -> Batch:
        window = frame.window
        first = (pieces[0][0], pieces[0][1])
        last = last_of(pieces[-1])
        count = sum([piece[2] for piece in pieces])
        ids = self._ids.derive(window.device, first, last, count, pieces[0][3])
        events = b",".join([piece[4] for piece in pieces if piece[2]])
        return Batch(
            self._lane, ids.message_id, frame.key, frame.window_key, first, last, count,
            frame.closed_at, window.newest_ms, frame.mpid, window.reason,
            self._document(events, ids.message_id, ids.batch_id, frame.tail),
        )  # fmt: skip

    def _document(self, events: bytes, message_id: str, batch_id: int, tail: bytes) -> bytes:
        number = b'"%d"' % batch_id if self._quote else b"%d" % batch_id
        return (
            b'{"events":[%b],"message_id":"%b","message_type":"events",'
            b'"schema_version":%d,"batch_id":%b%b'
            % (events, message_id.encode(), _SCHEMA_VERSION, number, tail)
        )

    def _letter(self, window: Window, piece: Piece, reason: Reason, error: str) -> DeadLetter:
        """Return events as an upload of their own, in the shape they came in."""
        value = rawjson.with_events(piece[4], window.context)
        return DeadLetter(reason, piece[0], self._lane, error, value, piece[3], events=piece[2])


def _plain(raw: bytes) -> str:
    """Return an mpid as text; none where there is no such text in UTF-8."""
    text = rawjson.text_of(raw) or ""
    return text if text.isascii() or not any("\ud800" <= c <= "\udfff" for c in text) else ""


def _fit(pieces: Sequence[Piece], room: int) -> tuple[list[list[Piece]], list[Piece]]:
    """Group events in order so that each group has at most ``room`` bytes, commas included.

    The second result is the events that do not fit alone.
    """
    groups: list[list[Piece]] = []
    misfits: list[Piece] = []
    left, comma = -1, 0
    for piece in [single for run in pieces for single in singles(run)]:
        size = len(piece[4])
        if size > room:
            misfits.append(piece)
            continue
        if not groups or size + (comma if size else 0) > left:
            groups.append([])
            left, comma = room, 0
        groups[-1].append(piece)
        if size:
            left -= size + comma
            comma = 1
    return groups, misfits
