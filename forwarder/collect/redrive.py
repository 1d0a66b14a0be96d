"""What comes in once more: a dead letter that an operator has sent back, told by its headers."""

import re
from collections.abc import Sequence

import msgspec

from forwarder.config.targets import MAX_PAYLOAD_BYTES
from forwarder.formats.contract import DocumentMaker, Reject, Upload
from forwarder.formats.ids import digest
from forwarder.model import Batch, CloseReason, DeadLetter, Reason, Record

REASON_HEADER = "forwarder-redrive"
"""Header of a re-driven record: the reason of the dead letter."""

CONNECTION_HEADER = "forwarder-connection"
"""Header: the one connection that takes it; without it, all that match."""

LETTER_HEADER = "forwarder-letter"
"""Header: where the dead letter is, as topic/partition:offset; for people."""

DEVICE_HEADER = "forwarder-device-key"
"""Header of a re-driven batch: the digest of its device key, in hexadecimal digits."""

TIME_HEADER = "forwarder-time"
"""Header: the record time that it had, milliseconds. Its own is that of its return: a log that
keeps records for a time would otherwise delete an old one before it is read."""

_MAX_NAME_CHARS = 100
"""Characters of a connection's name; a longer one names none, and would not fit a dead letter."""

_MAX_ID_CHARS = 256
"""Characters of a batch's id; those made here have 36. It is stored beside the bytes it is in."""

_DIGEST_DIGITS = 32
_MILLISECONDS = re.compile("[0-9]{1,15}")


class RedriveHeaders(msgspec.Struct, frozen=True, gc=False):
    """What the headers of a re-driven record say.

    An empty connection: all that match. ``time`` 0: not known.
    """

    reason: str
    connection: str
    device: bytes
    time: int


def parse_headers(headers: Sequence[tuple[str, bytes | None]]) -> RedriveHeaders | None:
    """Return what the headers of a re-driven record say; None for every other record."""
    for name, _ in headers:
        if name == REASON_HEADER:
            found = {one: (raw or b"").decode(errors="replace") for one, raw in headers}
            device, time = _device(found.get(DEVICE_HEADER, "")), found.get(TIME_HEADER, "")
            known = int(time) if _MILLISECONDS.fullmatch(time) else 0
            connection = found.get(CONNECTION_HEADER, "")[:_MAX_NAME_CHARS]
            return RedriveHeaders(found[REASON_HEADER], connection, device, known)
    return None


def is_redriven(headers: Sequence[tuple[str, bytes | None]]) -> bool:
    """Tell whether headers are those of a re-driven record."""
    return any(name == REASON_HEADER for name, _ in headers)


def window_key(offset: int, start: int, session: bytes | None = None) -> bytes:
    """Return the key of a window that is closed at once; no device or session has such a one.

    ``session``: where an upload becomes a window for each, which are not made in their order.
    """
    key = b"^%d/%d" % (offset, start)
    return key if session is None else b"%b|%b" % (key, session)


def parse_batch(record: Record, told: RedriveHeaders, maker: DocumentMaker) -> Batch | None:
    """Return a re-driven batch, byte for byte as it was; None if the record does not hold one.

    ``maker`` makes the connection's documents, in a format that need not be that of the topic.
    ``closed_at`` is left to the caller, and ``key`` where no header tells it. The id is the
    document's own, the position the record's.
    """
    if told.reason != Reason.REFUSED or not told.connection:
        return None
    value = record.value
    if value is None or len(value) > MAX_PAYLOAD_BYTES:  # never a batch made here
        return None
    known = maker.recognize(value)
    # The header may be anybody's: half a surrogate pair, say, cannot be stored, and a tick fails.
    if known is None or len(known.id) > _MAX_ID_CHARS or not known.id.isprintable():
        return None
    position = (record.offset, 0)
    return Batch(
        told.connection, known.id, told.device, digest(window_key(*position)), position, position,
        known.events, 0, told.time or record.timestamp, known.user, CloseReason.REDRIVEN, value,
    )  # fmt: skip


def is_batch_or_upload(told: RedriveHeaders, found: Sequence[Upload] | Reject) -> bool:
    """Tell whether a record holds a batch, of whatever format, or what was read as uploads."""
    return told.reason == Reason.REFUSED or not isinstance(found, Reject)


def returned_letter(record: Record, told: RedriveHeaders, events: int) -> DeadLetter:
    """Return the letter of what came back for a connection that does not take it here.

    Its bytes are nowhere else: whoever sent them back took them for settled. ``events``: how many
    it holds.
    """
    known = told.reason in {reason.value for reason in Reason}
    error = "it was sent back, and its connection is not configured here, inactive or stopped"
    return DeadLetter(
        Reason(told.reason) if known else Reason.NOT_ENCODABLE, record.offset, told.connection,
        error, record.value or b"", told.time or record.timestamp, told.device, redriven=True,
        events=events,
    )  # fmt: skip


def _device(text: str) -> bytes:
    try:
        return bytes.fromhex(text) if len(text) == _DIGEST_DIGITS else b""
    except ValueError:
        return b""
