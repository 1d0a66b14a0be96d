"""Unpacks what is read from a file, by what it begins with: gzip, zstd, or as it is.

Members and frames may follow each other, as ``cat a.gz b.gz`` makes them. Whatever a few bytes
claim to unpack to, no more than some MiB of it are in memory.
"""

import re
import zlib
from typing import Protocol

import zstandard

PIECE_BYTES = 256 * 1024
"""How much is unpacked at a time."""

MOST_WINDOW_BYTES = 128 * 1024 * 1024
"""How far back a zstd frame may refer: what ``zstd --long`` asks for; it is kept in memory."""

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_SKIPPABLE = re.compile(rb"[\x50-\x5f]\x2a\x4d\x18")  # RFC 8878, 3.1.2
_MAGIC_BYTES = 4
# A block of 4 bytes can unpack to 128 KiB (RFC 8878, 3.1.1.2): 8 MiB for a slice at most.
_SLICE_BYTES = 256
_FROM_GZIP_HEADER = 31  # zlib's wbits: a gzip header and the largest window


class _Stream(Protocol):
    """One member or frame; ``rest`` is what it has not taken of its input."""

    rest: bytes
    ended: bool

    def read(self, data: bytes) -> bytes:
        """Take input after ``rest``; return some of what it unpacks to, nothing: it needs more."""


class _Gzip:
    def __init__(self) -> None:
        self.rest = b""
        self.ended = False
        self._inflate = zlib.decompressobj(_FROM_GZIP_HEADER)

    def read(self, data: bytes) -> bytes:
        """Unpack; raises zlib.error."""
        piece = self._inflate.decompress(data, PIECE_BYTES)
        self.ended = self._inflate.eof
        self.rest = self._inflate.unused_data if self.ended else self._inflate.unconsumed_tail
        return piece


class _Zstd:
    def __init__(self) -> None:
        self.rest = b""
        self.ended = False
        decompressor = zstandard.ZstdDecompressor(max_window_size=MOST_WINDOW_BYTES)
        self._frame = decompressor.decompressobj()

    def read(self, data: bytes) -> bytes:
        """Unpack; raises zstandard.ZstdError."""
        view = memoryview(data)
        at, pieces, size = 0, list[bytes](), 0
        while at < len(view) and size < PIECE_BYTES and not self.ended:
            piece = self._frame.decompress(view[at : at + _SLICE_BYTES])
            at += _SLICE_BYTES
            pieces.append(piece)
            size += len(piece)
            self.ended = self._frame.eof
        self.rest = (self._frame.unused_data if self.ended else b"") + bytes(view[at:])
        return b"".join(pieces)


class Unpacker:
    """What a file holds, whether packed or not.

    ``fault`` says what is wrong with it, once that is known; what came before it is good.
    ``fed_all``: no more will be fed.
    """

    def __init__(self) -> None:
        """Begin without knowing what it is."""
        self.fault = ""
        self._waiting = b""
        self.fed_all = False
        self._plain = False
        self._stream: _Stream | None = None
        self._packed = False

    def feed(self, data: bytes) -> None:
        """Take what was read; nothing: that was all."""
        self._waiting += data
        self.fed_all = self.fed_all or not data

    def read(self) -> bytes:
        """Return a piece of the content; nothing: feed more, or at the end, that was all."""
        while not self.fault:
            if self._plain:
                piece, self._waiting = self._waiting, b""
                return piece
            if self._stream is None:
                if not self._begin():
                    return b""
                continue
            piece = self._unpack(self._stream)
            if self._stream.ended:
                self._stream = None
            elif not piece:
                return b""
            if piece:
                return piece
        return b""

    def _begin(self) -> bool:
        """Look at what comes next; False where that needs more, or nothing comes."""
        if self._packed:  # tar and others fill up with zeros behind the last member
            self._waiting = self._waiting.lstrip(b"\0")
        if len(self._waiting) < _MAGIC_BYTES and not self.fed_all:
            return False
        if self._waiting.startswith(_GZIP):
            self._stream = _Gzip()
        elif self._waiting.startswith(_ZSTD) or _SKIPPABLE.match(self._waiting):
            self._stream = _Zstd()
        elif self._packed:
            if self._waiting:
                self.fault = "holds other bytes behind its compressed data; they are not read"
            return False
        else:
            self._plain = True
            return True
        self._packed = True
        return True

    def _unpack(self, stream: _Stream) -> bytes:
        """Return what comes next of a member or frame; a fault of it is noted."""
        try:
            piece = stream.read(self._waiting)
        except (zlib.error, zstandard.ZstdError) as error:
            self.fault = f"is damaged ({error}); what comes before was read, restore the rest"
            return b""
        self._waiting = stream.rest
        if not piece and not stream.ended and self.fed_all and not self._waiting:
            self.fault = "ends in the middle of its compressed data; what is there was read"
        return piece
