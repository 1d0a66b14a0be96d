"""Names derived from what they name: the ids of a batch, and the digests of keys."""

from hashlib import blake2b
from typing import NamedTuple

from forwarder.config.connection import Connection
from forwarder.model import Partition, Position

ID_CHARACTERS = 36
NUMBER_DIGITS = 19
_SMALLEST = 10 ** (NUMBER_DIGITS - 1)
_RANGE = 2**63 - _SMALLEST


class BatchIds(NamedTuple):
    """The ids of one batch: UUID text, and a number of exactly 19 digits below 2**63."""

    text: str
    number: int


MAX_ID_BYTES = 256
"""Bytes of a token that is kept as it came; a longer one is named by its digest: window keys are
stored with every window, several times, and have to fit."""

PLACEHOLDER_IDS = BatchIds("0" * ID_CHARACTERS, _SMALLEST)
"""Ids of the length that all have, to measure documents with."""


def digest(key: bytes) -> bytes:
    """Return the 16 bytes that stand for a key outside the process."""
    return blake2b(key, digest_size=16).digest()


def bounded_token(token: bytes) -> bytes:
    """Return a token as it is, or the one that stands for a long one."""
    if len(token) <= MAX_ID_BYTES:
        return token
    return b'"~%b"' % blake2b(token, digest_size=16).hexdigest().encode()


_VARIANTS = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


def uuid_of(digits: str) -> str:
    """Return the UUID text of 32 hexadecimal digits of a digest."""
    # RFC 9562: version 8 is for ids derived in a way of one's own.
    variant = _VARIANTS[digits[16]]
    return f"{digits[:8]}-{digits[8:12]}-8{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


class IdSource:
    """Derives the ids of one connection's batches on one partition. Caller: its encoder."""

    def __init__(self, partition: Partition, connection: Connection, version: bytes) -> None:
        """Hash what all ids of the connection begin with, ``prefix``; ``version``: the maker's."""
        parts = (
            partition.topic.encode(),
            b"%d" % partition.number,
            connection.name.encode(),
            connection.fingerprint,
            version,
        )
        self.prefix = b"".join(b"%d:%b" % (len(p), p) for p in parts)
        self._base = blake2b(self.prefix, digest_size=16)

    def derive(
        self, device: bytes, first: Position, last: Position, count: int, first_ms: int
    ) -> BatchIds:
        """Return the ids of the batch that holds these events.

        ``first_ms`` is the record time of the first of them.
        """
        state = self._base.copy()
        state.update(b"%d,%d,%d,%d,%d,%d,%b" % (*first, *last, count, first_ms, device))
        name = state.digest()
        number = _SMALLEST + int.from_bytes(name, "big") % _RANGE
        return BatchIds(uuid_of(name.hex()), number)
