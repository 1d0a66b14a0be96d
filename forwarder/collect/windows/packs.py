"""How windows of few events wait while memory is short: many of them in one compressed pack.

What two windows hold is alike, while one event compresses badly alone. A window leaves its pack by
forgetting it; the pack goes with the last of them.
"""

from array import array
from collections import deque
from collections.abc import Sequence

import msgspec
import zstandard

from forwarder.model import Piece

PACK_OVERHEAD_BYTES = 300
"""Of a pack, besides what is compressed."""

_READ_AT_ONCE = 16

Entry = tuple[bytes, list[Piece]]
"""What of a window is in a pack: its context by then, and its pieces, in order."""

_compressor = zstandard.ZstdCompressor(level=1, write_checksum=False)
_decompressor = zstandard.ZstdDecompressor()
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Entry]).decode


class Pack(msgspec.Struct, gc=False):
    """Entries of several windows, in msgpack, compressed with zstd.

    ``sizes``: by entry, bytes of events and how many pieces. ``living``: windows that refer to it.
    ``read``: the entries, of the packs that were read last: windows that are neighbours in a pack
    opened one after the other and close so.
    """

    packed: bytes
    sizes: Sequence[int]
    living: int
    read: list[Entry] | None = None

    def entry(self, place: int) -> Entry:
        """Return an entry as it was; not for changing."""
        if self.read is None:
            if len(_read_last) == _READ_AT_ONCE:
                _read_last.popleft().read = None
            _read_last.append(self)
            self.read = _decode(_decompressor.decompress(self.packed))
        return self.read[place]

    def events_bytes(self, place: int) -> int:
        """Return the bytes of events in an entry."""
        return self.sizes[2 * place]

    def piece_count(self, place: int) -> int:
        """Return how many pieces an entry has."""
        return self.sizes[2 * place + 1]

    def memory_bytes(self) -> int:
        """Estimate the memory of all of it."""
        return PACK_OVERHEAD_BYTES + len(self.packed)


_read_last: deque[Pack] = deque()


def pack(entries: Sequence[Entry]) -> Pack:
    """Compress what windows hold; every entry counts as referred to."""
    sizes = array("Q")
    for _, pieces in entries:
        sizes.append(sum([len(piece[4]) for piece in pieces]))
        sizes.append(len(pieces))
    # A copy of its exact size: what the compressor returns is a large buffer that was shrunk.
    packed = bytes(memoryview(_compressor.compress(_encode(entries))))
    return Pack(packed, sizes, len(entries))
