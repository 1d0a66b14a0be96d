"""Derive the ids of a document from where its events came from: one content, one id."""

from hashlib import blake2b
from typing import NamedTuple

from forwarder.config.connection import Connection
from forwarder.model import Partition, Position

ENCODER_VERSION = 1
"""Goes up whenever the same events would give other bytes."""

BATCH_ID_DIGITS = 19
_SMALLEST = 10 ** (BATCH_ID_DIGITS - 1)
_RANGE = 2**63 - _SMALLEST


class Ids(NamedTuple):
    """The ids of one document: UUID text, and a number of exactly 19 digits below 2**63."""

    message_id: str
    batch_id: int


class IdSource:
    """Derives the ids of one connection's documents on one partition."""

    def __init__(self, partition: Partition, connection: Connection) -> None:
        """Prepare what all ids of the connection begin with."""
        parts = (
            partition.topic.encode(),
            b"%d" % partition.number,
            connection.name.encode(),
            connection.fingerprint,
            b"%d" % ENCODER_VERSION,
        )
        self._base = blake2b(b"".join(b"%d:%b" % (len(p), p) for p in parts), digest_size=16)

    def derive(
        self, device: bytes, first: Position, last: Position, count: int, first_ms: int
    ) -> Ids:
        """Return the ids of the document that holds these events."""
        state = self._base.copy()
        state.update(b"%d,%d,%d,%d,%d,%d,%b" % (*first, *last, count, first_ms, device))
        text = state.hexdigest()
        # RFC 9562: version 8 is for ids derived in a way of one's own.
        variant = "89ab"[int(text[16], 16) & 3]
        uuid = f"{text[:8]}-{text[8:12]}-8{text[13:16]}-{variant}{text[17:20]}-{text[20:]}"
        return Ids(uuid, _SMALLEST + int(text, 16) % _RANGE)
