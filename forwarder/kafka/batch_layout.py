"""Where the fields of a stored batch stand, and which of their values can be true.

The checksum of a batch says nothing of the fields before it: base offset, length, format. One byte
of them that was damaged on its way or on a disk, or a stretch of zeros behind the last batch, and
the client reads the same batch for ever, reads beyond the end of its memory, or goes on behind
records that nobody has read. So they are looked at here before the client sees them; and so are the
lengths inside a set of the format before headers, on which the client ends or does not end.

The layouts are those of KIP-98 (format 2) and of Kafka's documentation (0 and 1). What does not fit
raises CorruptDataError; what is too much to be read at once UnpackedTooLargeError.
"""

import contextlib
import struct

from aiokafka.record.util import decode_varint

from forwarder import native
from forwarder.kafka.codecs import CorruptDataError, UnpackedTooLargeError
from forwarder.kafka.record_layout import NUMBER, read_number

LONG_RECORD = 4 * 1024
"""Bytes from which on a record's headers are counted: what is shorter has few of them."""

MAX_HEADERS = 1_000_000
"""Headers that the long records of one batch may have together: each takes two bytes of the batch
at least, and 64 of memory."""

MAX_RECORDS = 1_000_000
"""Records of one batch. Whoever begins in the middle of a batch passes over those before, without a
pause: a million takes a quarter of a second. The least takes 7 bytes, so that 64 MiB hold nine
times as many; of uploads of 100 bytes they hold two thirds of a million."""

COUNTED = 4 * 1024 * 1024
"""Unpacked bytes of a batch from which on records and headers are counted: there is no room for
many below."""

RECORDS = 61
"""Where the records of a batch begin, packed or not, in format 2."""

_HEAD = 12
"""Bytes before what the length of a batch counts: its base offset, and that length."""

_BEGIN = struct.Struct(">qi4xB")
"""Base offset, length and format."""

_INT = struct.Struct(">i")
_LENGTH = 8
MAGIC = 16
"""Where a batch says in which format it is; from 2 on there are headers."""

_COUNT = 57
_FEWEST = {0: 14, 1: 22, 2: RECORDS - _HEAD}
"""By format: the least that the length of a batch can be."""

_NEVER = 1 << 31
"""More than any length: no format but those is known."""

_KEY = {0: 18, 1: 26}
"""By format: where the length of a message's key stands."""


def is_complete(content: bytes, at: int) -> bool:
    """Tell whether a batch begins ``at`` that ends in ``content`` by its own account, if untrue."""
    if len(content) - at < _HEAD:
        return False
    return at + _HEAD + int(_INT.unpack_from(content, at + _LENGTH)[0]) <= len(content)


def batch_end(content: bytes, at: int) -> int:
    """Return where the batch ends that begins ``at``; raises CorruptDataError: there is none."""
    left = len(content) - at
    if left <= MAGIC:
        message = f"{left} bytes are no batch"
        raise CorruptDataError(message)
    _, length, form = _BEGIN.unpack_from(content, at)
    if length < _FEWEST.get(form, _NEVER):
        message = f"a length of {length} bytes in format {form}"
        raise CorruptDataError(message)
    if _HEAD + length > left:
        message = f"{_HEAD + length} bytes are announced, and {left} came"
        raise CorruptDataError(message)
    return at + _HEAD + int(length)


def magic(batch: memoryview) -> int:
    """Return in which format a batch is: 0, 1 or 2."""
    return batch[MAGIC]


def record_count(batch: memoryview) -> int:
    """Return how many records a batch of format 2 says it has."""
    return _int(batch, _COUNT)


def next_base_offset(content: bytes, at: int) -> int | None:
    """Return the offset of the batch that begins ``at``, whole or not; None: nothing like it."""
    if len(content) - at <= MAGIC:
        return None
    base, length, form = _BEGIN.unpack_from(content, at)
    return int(base) if length >= _FEWEST.get(form, _NEVER) else None


def check_message(message: bytes | memoryview, at: int = 0) -> int:
    """Return where a message of format 0 or 1 ends that begins ``at``; raises CorruptDataError."""
    with contextlib.suppress(struct.error, IndexError):
        length, form = _int(message, at + _LENGTH), message[at + MAGIC]
        end = at + _HEAD + length
        if form in _KEY and length >= _FEWEST[form] and end <= len(message):
            key = _int(message, at + _KEY[form])
            value_at = at + _KEY[form] + 4 + max(0, key)
            value = _int(message, value_at)
            if key >= -1 and value >= -1 and value_at + 4 + max(0, value) == end:
                return end
    text = "a message whose lengths do not fit"
    raise CorruptDataError(text)


def check_messages(messages: bytes) -> None:
    """Raise CorruptDataError unless messages of format 0 or 1 follow each other up to the end."""
    at, number = 0, 0
    while at < len(messages):
        at = check_message(messages, at)
        number += 1
        check_count(number)


def check_records(records: bytes, begin: int = 0, end: int | None = None) -> None:
    """Raise UnpackedTooLargeError for more than ``MAX_RECORDS`` or ``MAX_HEADERS`` in format 2.

    The records are ``records[begin:end]``. What is malformed is left to whoever reads them.
    """
    end = len(records) if end is None else end
    if end - begin < COUNTED:
        return
    if (core := native.core()) is None:
        number, headers = _counted(bytearray(records[begin:end]))
    else:
        number, headers = core.count_records(records, begin, end, LONG_RECORD, MAX_RECORDS)
    check_count(number)
    if headers > MAX_HEADERS:
        message = f"{headers} headers"
        raise UnpackedTooLargeError(message)


def _counted(content: bytearray) -> tuple[int, int]:
    """Return how many records there are, up to one too many, and headers of the long ones."""
    at, number, headers = 0, 0, 0
    near = len(content) - NUMBER
    with contextlib.suppress(ValueError):
        while at < len(content) and number <= MAX_RECORDS:
            size, start = (decode_varint if at < near else read_number)(content, at)
            if size >= LONG_RECORD:
                headers += _headers(content, start)
            if size < 0:
                break
            number += 1
            at = start + size
    return number, headers


def _headers(content: bytearray, start: int) -> int:
    """Return how many headers the record has whose attributes are at ``start``."""
    at = start + 1
    for _ in ("timestamp", "offset"):
        _, at = read_number(content, at)
    for _ in ("key", "value"):
        size, at = read_number(content, at)
        at += max(0, size)
    return int(read_number(content, at)[0])


def check_count(number: int) -> None:
    """Raise UnpackedTooLargeError for more than ``MAX_RECORDS``."""
    if number > MAX_RECORDS:
        message = f"more than {MAX_RECORDS} records"
        raise UnpackedTooLargeError(message)


def _int(content: bytes | memoryview, at: int) -> int:
    return int(_INT.unpack_from(content, at)[0])
