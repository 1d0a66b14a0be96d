"""Dead letters: as messages, as they are read back, and the receipts of those sent back."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec
import zstandard

from forwarder.journal.packing import VERSION, decompressed
from forwarder.model import DeadLetter, Partition, Reason, Record

OVERHEAD = 256
"""More than what Kafka adds to one message: 61 bytes of batch header, and lengths."""

_PER_HEADER = 10
_LONGEST_ERROR = 2000  # characters; for a person, and sometimes another service's text
_OPTIONAL = frozenset({"time", "device_key", "redriven", "first_offset"})
"""Left out where there is nothing to say; the first release wrote none of them."""

RECEIPT = "receipt"
"""Header of a receipt: it stands in the dead letters' partition, behind the letters it is for."""


class _Receipt(msgspec.Struct):
    """What stands in a receipt; a later release may say more."""

    redriven: list[tuple[int, int]] = []


_RECEIPT = msgspec.json.Decoder(_Receipt).decode

Span = tuple[int, int]
"""First and last offset; what lies between is meant, too."""

BATCH = Reason.REFUSED.value
WHOLE = frozenset(
    {
        Reason.INVALID_JSON.value,
        Reason.INVALID_UTF8.value,
        Reason.NOT_AN_UPLOAD.value,
        Reason.TOO_MANY_PARTS.value,
    }
)
"""Reasons whose bytes are the whole record, as it stands in the input."""

SEALED = frozenset({Reason.TOO_LARGE_UNPACKED.value, Reason.UNREADABLE_BATCH.value})
"""Reasons whose bytes are a batch of records as Kafka stores it."""


class Letter(msgspec.Struct, frozen=True):
    """One dead letter; ``number`` and ``offset`` are its place in the dead letter topic.

    ``origin`` and ``at`` tell where it came from: None where the headers do not say. ``time`` is
    the record time (0: not known), ``stored_ms`` when it became a letter. ``error`` and the other
    texts are as stored. ``value`` is uncompressed; of a ``truncated`` one it is empty.
    """

    number: int
    offset: int
    stored_ms: int
    reason: str
    connection: str
    origin: Partition | None
    at: int
    error: str
    group: str
    time: int
    device: str
    redriven: bool
    truncated: bool
    headers: dict[str, str]
    value: bytes

    @property
    def place(self) -> str:
        """Return how operators name it."""
        return f"{self.number}:{self.offset}"


class RedriveMessage(msgspec.Struct, frozen=True):
    """One message to write; ``to`` is a partition of an input topic, or of the letters' own."""

    to: Partition
    value: bytes
    headers: list[tuple[str, bytes]]


def parse_letter(number: int, stored: Record) -> Letter | None:
    """Return a letter; None for a receipt, and for what this program did not write."""
    texts = {name: (raw or b"").decode(errors="replace") for name, raw in stored.headers}
    if RECEIPT in texts or "reason" not in texts:
        return None
    topic, where = texts.get("topic", ""), _number(texts.get("partition", ""))
    value, whole = _value(stored.value or b"", texts)
    return Letter(
        number=number,
        offset=stored.offset,
        stored_ms=stored.timestamp,
        reason=texts["reason"],
        connection=texts.get("connection", ""),
        origin=None if not topic or where is None else Partition(topic, where),
        at=_number(texts.get("offset", "")) or 0,
        error=texts.get("error", ""),
        group=texts.get("group", ""),
        time=_number(texts.get("time", "")) or 0,
        device=texts.get("device_key", ""),
        redriven=texts.get("redriven") == "true",
        truncated=not whole,
        headers=texts,
        value=value,
    )


def make_receipt(spans: Sequence[Span], group: str) -> tuple[bytes, list[tuple[str, bytes]]]:
    """Return value and headers of the receipt for letters of one partition."""
    headers = {"v": str(VERSION), RECEIPT: "redriven", "group": group}
    value = msgspec.json.encode({"redriven": [list(span) for span in spans]})
    return value, [(name, text.encode()) for name, text in headers.items()]


def receipt_spans(stored: Record, group: str) -> list[Span]:
    """Return the spans of letters that a group's receipt is for; none of anything else."""
    texts = {name: raw or b"" for name, raw in stored.headers}
    if RECEIPT not in texts or texts.get("group", b"").decode(errors="replace") != group:
        return []
    try:
        return _RECEIPT(stored.value or b"").redriven
    except msgspec.DecodeError:
        return []


class RedrivenSpans:
    """Which letters of one partition were sent back: spans of offsets, joined where they touch."""

    def __init__(self) -> None:
        """Create without spans."""
        self._firsts: list[int] = []
        self._lasts: list[int] = []

    def add(self, spans: Iterable[Span]) -> None:
        """Note the letters of a receipt, or of a transaction."""
        for first, last in spans:
            low = bisect_right(self._lasts, first - 2)
            high = bisect_right(self._firsts, last + 1)
            if low < high:
                first = min(first, self._firsts[low])  # noqa: PLW2901  # they become one
                last = max(last, self._lasts[high - 1])  # noqa: PLW2901
            self._firsts[low:high], self._lasts[low:high] = [first], [last]

    def has(self, offset: int) -> bool:
        """Tell whether a letter was sent back."""
        at = bisect_right(self._firsts, offset) - 1
        return at >= 0 and offset <= self._lasts[at]


def _value(value: bytes, texts: Mapping[str, str]) -> tuple[bytes, bool]:
    """Return the bytes, uncompressed, and whether they are all there."""
    if texts.get("truncated") == "true":
        return b"", False
    if texts.get("encoding") != "zstd":
        return value, True
    try:
        opened = decompressed(value)
    except zstandard.ZstdError:
        return b"", False
    return opened, True


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None  # noqa: PLR2004  # 64 bits


class LetterMessage(NamedTuple):
    """The value and the headers to send."""

    value: bytes
    headers: list[tuple[str, bytes]]


def letter_message(
    letter: DeadLetter, partition: Partition, group: str, limit: int
) -> LetterMessage:
    """Return the message of a dead letter that fits a topic's ``max.message.bytes`` of ``limit``.

    What is too large goes compressed (header ``encoding: zstd``); what is still too large goes
    as a pointer to the input, without its bytes (header ``truncated: true``).
    """
    headers = _headers(letter, partition, group)
    if _size(letter.value, headers) <= limit:
        return LetterMessage(letter.value, headers)
    compressed = zstandard.ZstdCompressor().compress(letter.value)
    encoded = [*headers, ("encoding", b"zstd")]
    if _size(compressed, encoded) <= limit:
        return LetterMessage(compressed, encoded)
    return LetterMessage(b"", [*headers, ("truncated", b"true")])


def _headers(letter: DeadLetter, partition: Partition, group: str) -> list[tuple[str, bytes]]:
    texts = {
        "v": str(VERSION),
        "reason": letter.reason.value,
        "topic": partition.topic,
        "partition": str(partition.number),
        "offset": str(letter.offset),
        "connection": letter.connection,
        "error": letter.error[:_LONGEST_ERROR],
        "group": group,
        "time": str(letter.time) if letter.time else "",
        "device_key": letter.device.hex(),
        "redriven": "true" if letter.redriven else "",
        "first_offset": str(letter.first) if letter.first >= 0 else "",
    }
    return [
        (name, text.encode(errors="replace"))
        for name, text in texts.items()
        if text or name not in _OPTIONAL
    ]


def _size(value: bytes, headers: list[tuple[str, bytes]]) -> int:
    return (
        OVERHEAD + len(value) + sum(_PER_HEADER + len(name) + len(text) for name, text in headers)
    )
