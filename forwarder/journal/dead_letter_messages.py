"""The form of a dead letter as a Kafka message."""

from typing import NamedTuple

import zstandard

from forwarder.journal.packing import VERSION
from forwarder.kafka.producer import MESSAGE_BYTES
from forwarder.model import DeadLetter, Partition

OVERHEAD = 256
"""More than what Kafka adds to one message: 61 bytes of batch header, and lengths."""

_PER_HEADER = 10
_LONGEST_ERROR = 2000  # characters; for a person, and sometimes another service's text
_OPTIONAL = frozenset({"time", "device_key", "redriven", "first_offset"})
"""Left out where there is nothing to say; the first release wrote none of them."""


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
    limit = min(limit, MESSAGE_BYTES)  # what the producer takes, however large the topic's is
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
