"""Unpack what Kafka's codecs packed, never into more memory than a bound.

Kafka bounds a batch by its packed size alone: 45 KiB of zstd may become 1,000 MiB. Every function
takes the packed bytes and the most they may become, in bytes, and returns the unpacked ones; it
raises ``UnpackedTooLargeError`` once they are more, and ``CorruptDataError`` where they cannot be
unpacked.
"""

import gzip as gzip_file
import io
import zlib
from collections.abc import Iterator

import cramjam
import zstandard

XERIAL = b"\x82SNAPPY\0"
"""How the framing begins that Java's snappy writes: blocks, each behind its packed length."""

_XERIAL_HEAD = 16
_CHUNK = 1024 * 1024
_ROOM = 64 * 1024
_FIRST_GUESS = 16
"""Times its packed size that a batch is given room for at first; JSON takes 3 to 12."""
_NEXT_GUESS = 4
"""By how much that room grows where it does not do."""

_shared_unpacker = zstandard.ZstdDecompressor(max_window_size=8 * 1024 * 1024)
"""One that keeps what it needs, for to make another takes longer than to unpack 16 KiB; what a
frame of a larger window needs is not kept. Nobody unpacks in another thread than the loop's."""

_FULL = "failed to write whole buffer"
"""What cramjam says where the room it was given does not do."""


class UnpackedTooLargeError(ValueError):
    """The content unpacks to more than its bound."""


class CorruptDataError(ValueError):
    """The content is not what its codec writes."""


def gzip(content: bytes | memoryview, limit: int) -> bytes:
    """Unpack gzip, of one member or several."""
    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        found = unpacker.decompress(content, limit + 1)
        if len(found) <= limit and not (unpacker.eof and not unpacker.unused_data):
            # Several members, or cut off: seldom, and the library's own reader knows all of it.
            with gzip_file.GzipFile(fileobj=io.BytesIO(content)) as members:
                found = members.read(limit + 1)
    except (zlib.error, EOFError, OSError) as error:
        raise CorruptDataError(str(error)) from error
    return _within(found, limit)


def snappy(content: bytes, limit: int) -> bytes:
    """Unpack snappy, raw or in Java's framing; it says at its beginning how long it becomes."""
    blocks = list(_blocks(content)) if content.startswith(XERIAL) else [content]
    try:
        if sum(cramjam.snappy.decompress_raw_len(block) for block in blocks) > limit:
            raise UnpackedTooLargeError
        return b"".join(bytes(cramjam.snappy.decompress_raw(block)) for block in blocks)
    except cramjam.DecompressionError as error:
        raise CorruptDataError(str(error)) from error


def lz4(content: bytes, limit: int) -> bytes:
    """Unpack lz4 frames."""
    room = min(limit + 1, max(_ROOM, _FIRST_GUESS * len(content)))
    while True:
        space = bytearray(room)
        try:
            size = cramjam.lz4.decompress_into(content, space)
        except cramjam.DecompressionError as error:
            if _FULL not in str(error):
                raise CorruptDataError(str(error)) from error
            if room > limit:
                raise UnpackedTooLargeError from error
            room = min(limit + 1, room * _NEXT_GUESS)
            continue
        return _within(bytes(memoryview(space)[:size]), limit)


def zstd(content: bytes, limit: int) -> bytes:
    """Unpack zstd frames."""
    try:
        return _unpacked(_shared_unpacker, content, limit)
    except zstandard.ZstdError:  # a window too large for it, or nothing that can be unpacked
        pass
    try:
        return _unpacked(zstandard.ZstdDecompressor(), content, limit)
    except zstandard.ZstdError as error:
        raise CorruptDataError(str(error)) from error


def _unpacked(unpacker: zstandard.ZstdDecompressor, content: bytes, limit: int) -> bytes:
    found: list[bytes] = []
    size = 0
    room = min(_CHUNK, max(_ROOM, _FIRST_GUESS * len(content)))
    with unpacker.stream_reader(content, read_across_frames=True) as reader:
        while part := reader.read(min(room, limit + 1 - size)):
            found.append(part)
            size += len(part)
            if size > limit:
                raise UnpackedTooLargeError
    return found[0] if len(found) == 1 else b"".join(found)


def _blocks(content: bytes) -> Iterator[bytes]:
    at = _XERIAL_HEAD
    while at < len(content):
        if at + 4 > len(content):
            message = "snappy blocks that are cut off"
            raise CorruptDataError(message)
        size = int.from_bytes(content[at : at + 4], "big", signed=True)
        at += 4
        if not 0 < size <= len(content) - at:
            message = f"a snappy block of {size} bytes where {len(content) - at} are left"
            raise CorruptDataError(message)
        yield content[at : at + size]
        at += size


def _within(found: bytes, limit: int) -> bytes:
    if len(found) > limit:
        raise UnpackedTooLargeError
    return found
