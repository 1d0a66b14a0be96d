"""What a document says besides its events: its bytes, and the room they leave in a record."""

from collections.abc import Mapping

import msgspec
from msgspec import Raw

from forwarder.config.connection import Connection
from forwarder.config.targets import FileTarget, FirehoseTarget, KinesisTarget, PartitionKey
from forwarder.formats import rawjson
from forwarder.formats.mparticle.govern import Governance
from forwarder.formats.mparticle.ids import BATCH_ID_DIGITS
from forwarder.formats.mparticle.none_values import means_none
from forwarder.formats.rawjson import ABSENT

MOST_BYTES = 10 * 1024 * 1024
"""The largest payload for any sink: the largest record a Kinesis stream can be set to take."""

LONGEST_KEY = 256
"""Characters of a partition key that AWS takes; sinks use the device for a longer mpid."""

_DEVICE_KEY = 32
_MESSAGE_ID = 36
_LINE_END = 1
_SCHEMA_VERSION = 2


class Frame(msgspec.Struct, frozen=True, gc=False):
    """What the documents of one context have in common.

    ``tail`` is what follows the ids, ``size`` the bytes of a document without events, ``limit``
    how many it may have.
    """

    mpid: str
    tail: bytes
    size: int
    limit: int

    @property
    def room(self) -> int:
        """Return how many bytes of events fit, commas included; below 0: not even none."""
        return self.limit - self.size


class Frames:
    """Makes the frames of one connection. Callers: the encoder, and who judges what will fit."""

    def __init__(self, connection: Connection) -> None:
        """Compile what all documents of the connection have in common."""
        settings = connection.settings
        self._sink = connection.sink
        self._governance = Governance(settings)
        self._quote = settings.int64_as_string
        self._unique = b""
        if settings.unique_id is not None:
            self._unique = b',"unique_id":%b' % rawjson.quoted(settings.unique_id)

    def frame(self, context: bytes, identities_ms: int, newest_ms: int) -> Frame:
        """Encode everything but the events and the ids, whose length is known."""
        fields = rawjson.fields(context)
        mpid = mpid_of(fields)
        rest = rawjson.encode(self._governance.apply(fields, identities_ms))[1:]
        tail = b',"timestamp_unixtime_ms":%d%b%b%b' % (
            newest_ms,
            self._unique,
            b"," if len(rest) > 1 else b"",
            rest,
        )
        return Frame(mpid, tail, self._size(tail), self._limit(mpid))

    def document(self, events: bytes, message_id: str, batch_id: int, tail: bytes) -> bytes:
        """Return a document of these comma-joined events."""
        number = b'"%d"' % batch_id if self._quote else b"%d" % batch_id
        return (
            b'{"events":[%b],"message_id":"%b","message_type":"events",'
            b'"schema_version":%d,"batch_id":%b%b'
            % (events, message_id.encode(), _SCHEMA_VERSION, number, tail)
        )

    def prune(self, context: bytes, most: int) -> bytes:
        """Return a context without what is large and in no document (``Governance.prune``)."""
        fields = rawjson.fields(context)
        kept = self._governance.prune(fields, most)
        return context if kept is fields else rawjson.stored(kept)

    def least_limit(self) -> int:
        """Return how many bytes any document may have, whatever its partition key."""
        sink = self._sink
        if isinstance(sink, KinesisTarget) and sink.partition_key is PartitionKey.MPID:
            return min(sink.max_record_bytes - _line_end(sink) - 4 * LONGEST_KEY, MOST_BYTES)
        return self._limit("")

    def _size(self, tail: bytes) -> int:
        return len(self.document(b"", "0" * _MESSAGE_ID, 10 ** (BATCH_ID_DIGITS - 1), tail))

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
        elif sink.partition_key is PartitionKey.MPID and mpid:
            size = len(mpid.encode())
        return min(sink.max_record_bytes - _line_end(sink) - size, MOST_BYTES)


def mpid_of(fields: Mapping[str, Raw]) -> str:
    """Return the mpid by which a stream may choose the shard, as text; empty: none can.

    One that means none would send all without a user to one shard; AWS takes no key that is
    longer than ``LONGEST_KEY`` or no UTF-8.
    """
    text = rawjson.text_of(bytes(fields.get("mpid", ABSENT))) or ""
    if len(text) > LONGEST_KEY or means_none(text):
        return ""
    return text if text.isascii() or not any("\ud800" <= c <= "\udfff" for c in text) else ""


def _line_end(sink: KinesisTarget) -> int:
    return _LINE_END if sink.newline else 0
