"""The entries of a lane's closed windows, kept packed until the next base needs them (K2, K3)."""

import struct
from collections.abc import Mapping

from forwarder.model import LOWEST, Position

CHUNK = 1024
"""Entries that are packed, looked through or written in one go."""

_entry = struct.Struct("<16sqq")


class ClosedIndex:
    """Entries (digest of a window key -> last position), in the order they came.

    An owner only ever adds entries and writes them into the next base. A million of them are
    32 MB here and a quarter of a gigabyte in a dict.
    """

    def __init__(self) -> None:
        """Begin without entries."""
        self._chunks: list[bytes] = []
        self._fresh: dict[bytes, Position] = {}

    def add(self, entries: Mapping[bytes, Position]) -> None:
        """Add entries; of a key that comes again, the higher position counts."""
        fresh = self._fresh
        for key, last in entries.items():
            fresh[key] = max(last, fresh.get(key, LOWEST))
        if len(fresh) >= CHUNK:
            self._seal()

    def chunks(self) -> list[bytes]:
        """Return everything there is, packed, for ``unpacked``; later entries are not in it."""
        self._seal()
        return list(self._chunks)

    def memory_bytes(self) -> int:
        """Return about how much memory the entries take."""
        return len(self._chunks) * CHUNK * _entry.size

    def _seal(self) -> None:
        rest, most = packed(self._fresh), CHUNK * _entry.size
        self._chunks += [rest[at : at + most] for at in range(0, len(rest), most)]
        self._fresh = {}


def packed(entries: Mapping[bytes, Position]) -> bytes:
    """Return entries as one chunk."""
    return b"".join([_entry.pack(key, *last) for key, last in entries.items()])


def unpacked(chunk: bytes, need: Position) -> dict[bytes, Position]:
    """Return those entries of a chunk that lie at or above ``need``."""
    found: dict[bytes, Position] = {}
    for key, offset, index in _entry.iter_unpack(chunk):
        last = (offset, index)
        if last >= need:
            found[key] = max(last, found.get(key, LOWEST))
    return found
