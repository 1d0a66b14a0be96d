"""How a stored value looks: one zstd frame around one msgpack map that begins with ``v``."""

import msgspec
import zstandard

from forwarder.errors import RefusedError

VERSION = 1
"""Format of the outbox, the commit and dead letters: what this release reads and writes."""

STATE_VERSION = 2
"""Format of the state: 2 says that its keying rules may be named ``device-2`` or ``session-2``. A
release that does not know them would take its own rule for them, and events come twice."""

READABLE = frozenset({VERSION})
STATE_READABLE = frozenset({1, STATE_VERSION})
"""Versions this release can read."""

LARGEST_VALUE = 256 * 1024 * 1024
"""Bytes after decompression; a guard against a damaged frame, far above any value written."""

_compressor = zstandard.ZstdCompressor(level=1)
_decompressor = zstandard.ZstdDecompressor()
_encoder = msgspec.msgpack.Encoder()
_encoded = bytearray()


def pack(content: object) -> bytes:
    """Encode and compress one value. Caller: the event loop alone, as there is one compressor."""
    # Into the same buffer each time: a new one would be grown, and then copied once more.
    _encoder.encode_into(content, _encoded)
    return _compressor.compress(_encoded)


def unpack(value: bytes) -> bytes:
    """Decompress one value to its msgpack bytes; raise RefusedError if it is damaged."""
    try:
        return decompressed(value)
    except zstandard.ZstdError as error:
        raise damaged(str(error)) from error


def decompressed(value: bytes) -> bytes:
    """Decompress one frame to ``LARGEST_VALUE`` at most; raises ZstdError, also beyond it.

    A frame says how much it becomes, and the library believes that whatever its own limit is.
    """
    if zstandard.frame_content_size(value) > LARGEST_VALUE:
        message = f"it would become more than {LARGEST_VALUE} bytes"
        raise zstandard.ZstdError(message)
    return _decompressor.decompress(value, max_output_size=LARGEST_VALUE)


def damaged(why: str) -> RefusedError:
    """Return the refusal for a value that cannot be read at all."""
    return RefusedError(
        f"a stored value cannot be read ({why})",
        "it was not written by this program or the topic is damaged; restore the topic, "
        "or start again under a new group_id",
    )


def is_readable(v: object, readable: frozenset[int] = READABLE) -> bool:
    """Tell whether this release knows format ``v``, which comes straight from a decoder."""
    return isinstance(v, int) and v in readable


def check_version(v: object, readable: frozenset[int] = READABLE) -> None:
    """Refuse a format this release does not know (L3)."""
    if not is_readable(v, readable):
        what = f"a stored value has format version {v!r}, this release reads {sorted(readable)}"
        raise RefusedError(
            what,
            "it was written by a later release: roll forward again",
        )
