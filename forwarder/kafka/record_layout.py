"""The records of a batch of format 2, read by the letter: the twin of ``native/src/records.rs``.

The client's compiled reader is many times as fast and trusts what records say of their lengths: it
reads beyond the end of its memory, and goes on with what stands there. So it reads while all is
well (``patches.records``); what it ran into, and what it may have made of lengths that lie, is read
here again. The layout is that of KIP-98.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from aiokafka.record.util import decode_varint

NUMBER = 10
"""Bytes that a number takes at most: 64 bits, seven in a byte. The client's compiled way to read
one does not look where the bytes end: nearer to the end it is not asked."""


class MalformedRecordError(ValueError):
    """A record is not what the layout says."""

    def __init__(self) -> None:
        super().__init__("malformed")


class ReadRecord(NamedTuple):
    """One record, where neither the client nor the native core has made it as it has to be."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = ()


class Dates(NamedTuple):
    """What a batch says of all its records: where its offsets begin, and its times, in ms.

    ``time`` is that of the first, or of each of them where they are dated ``alike``.
    """

    base_offset: int
    time: int
    alike: bool


def read_number(content: bytes | bytearray, at: int) -> tuple[int, int]:
    """Return the number that begins ``at``, of 64 bits, and where it ends.

    Raises MalformedRecordError if it does not end in ``content``, or takes more bytes than it may.
    """
    value = 0
    for shift, byte in enumerate(content[at : at + NUMBER]):
        value |= (byte & 0x7F) << (7 * shift)
        if byte < 0x80:  # noqa: PLR2004  # the bit that says that more bytes come
            value &= (1 << 64) - 1
            return (value >> 1) ^ -(value & 1), at + shift + 1
    raise MalformedRecordError


def read_records(content: bytes, number: int, count: int, dates: Dates) -> Iterator[ReadRecord]:
    """Yield the records of a batch from the one of this number on, ``count`` being all it says.

    Those before have to be well formed. Raises MalformedRecordError where one is not, and behind
    the last one if anything is left.
    """
    at = _place(content, number)
    for _ in range(number, count):
        record, at = _record(content, at, dates)
        yield record
    if at != len(content):
        raise MalformedRecordError


def _place(content: bytes, number: int) -> int:
    """Return where the record of this number begins."""
    at, near, view = 0, len(content) - NUMBER, bytearray(content)
    for _ in range(number):
        size, start = decode_varint(view, at) if at < near else read_number(content, at)
        at = start + size
    return at


def _record(content: bytes, at: int, dates: Dates) -> tuple[ReadRecord, int]:
    """Return the record that begins ``at``, and where it ends."""
    length, start = read_number(content, at)
    _, at = read_number(content, start)  # attributes, of which there are none yet
    time, at = read_number(content, at)
    offset, at = read_number(content, at)
    key, at = _nullable(content, at)
    value, at = _nullable(content, at)
    left, at = read_number(content, at)
    if left < 0:
        raise MalformedRecordError
    headers = []
    while left:
        name, at = _part(content, *read_number(content, at))
        told, at = _nullable(content, at)
        headers.append((name.decode(errors="replace"), told))
        left -= 1
    if at - start != length:
        raise MalformedRecordError
    time = dates.time if dates.alike else in_64_bits(dates.time + time)
    return ReadRecord(in_64_bits(dates.base_offset + offset), time, key, value, headers), at


def _nullable(content: bytes, at: int) -> tuple[bytes | None, int]:
    size, at = read_number(content, at)
    return (None, at) if size < 0 else _part(content, size, at)


def _part(content: bytes, size: int, at: int) -> tuple[bytes, int]:
    if not 0 <= size <= len(content) - at:
        raise MalformedRecordError
    return content[at : at + size], at + size


def in_64_bits(number: int) -> int:
    """Return a sum of numbers that somebody made up as it is in 64 bits: it goes round."""
    return (number + (1 << 63)) % (1 << 64) - (1 << 63)
