"""Keep what waits in a window small: long tails of pieces become compressed blocks.

Nothing but the memory they take tells a block from its pieces; who reads a window's pieces reads
them here.
"""

import msgspec
import zstandard

from forwarder.collect.windows.window import Block, Saved, Window, is_of_session
from forwarder.formats.pieces import last_of
from forwarder.model import Piece, Position, Unopened

SHORT_TAIL = 8 * 1024
"""Bytes of a tail that become a block while memory is short; smaller ones compress badly."""

LONG_TAIL = 32 * 1024
"""Bytes of a tail that become a block in any case: most windows close before they have them."""

PACKED_AT_ONCE = 1024 * 1024
"""Bytes of tails that one lane compresses in a poll, some 6 ms; the others wait for the next."""

FIRST_LOOK = 4 * 1024
"""Bytes of a window at which it is looked at first; smaller ones are in the lowest size class."""

# Measured as resident memory (tests/bench/windows.py, CPython 3.11): 20,000 to 1,000,000 windows
# of one event take 1.91 KB each, 1.10 of it events, context and key; every further event 222 B
# besides its bytes; a window of a session 1.1 KB more, one keyed by identities some 0.3. Up to as
# many closed ones as are open wait in rows to be cleared, 0.2 KB each.
WINDOW_BYTES = 900
PIECE_BYTES = 225
SESSION_BYTES = 1000
KIN_BYTES = 300
BLOCK_BYTES = 230
SAVED_BYTES = 400

_compressor = zstandard.ZstdCompressor(level=1, write_checksum=False)
_decompressor = zstandard.ZstdDecompressor()
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Piece]).decode


def pieces(window: Window) -> list[Piece]:
    """Return all pieces of a window, in order; not for changing."""
    if window.blocks is None:
        return window.pieces
    found: list[Piece] = []
    for block in window.blocks:
        found += _decode(_decompressor.decompress(block.packed))
    return found + window.pieces


def first_pieces(window: Window, count: int) -> list[Piece]:
    """Return the first pieces of a window, without reading blocks beyond them."""
    found: list[Piece] = []
    for block in window.blocks or ():
        if len(found) >= count:
            return found[:count]
        found += _decode(_decompressor.decompress(block.packed))
    return (found + window.pieces)[:count]


def first(window: Window) -> Position:
    """Return the first position of a window; it is remembered."""
    if window.first is None:
        offset, index, *_ = first_pieces(window, 1)[0]
        window.first = offset, index
    return window.first


def piece_count(window: Window) -> int:
    """Return how many pieces a window has."""
    if window.blocks is None:
        return len(window.pieces)
    return sum([block.count for block in window.blocks]) + len(window.pieces)


def packed_bytes(window: Window) -> int:
    """Return the bytes of the events in a window's blocks as they came, not as they are kept."""
    return sum([block.size for block in window.blocks or ()])


def pack(window: Window) -> int:
    """Make a block of the tail; return by how many bytes the window is lighter now."""
    tail = window.pieces
    packed = _compressor.compress(_encode(tail))
    size = sum([len(piece[4]) for piece in tail])
    # A copy of its exact size: what the compressor returns is a large buffer that was shrunk.
    block = Block(len(tail), size, last_of(tail[-1]), bytes(memoryview(packed)))
    if window.blocks is None:
        window.blocks = []
    window.blocks.append(block)
    window.pieces = []
    return tail_weight(tail) - BLOCK_BYTES - len(packed)


def unopened(stored: Unopened) -> tuple[list[Piece], Block | None]:
    """Return the pieces of a saved window, as a block from the start where they are many bytes."""
    known = stored.judged
    if known.bytes < LONG_TAIL:
        return _decode(stored.packed), None
    packed = bytes(memoryview(_compressor.compress(stored.packed)))
    return [], Block(known.pieces, known.bytes, known.last, packed)


def tail_weight(tail: list[Piece]) -> int:
    """Estimate the memory of pieces that are in no block."""
    return PIECE_BYTES * len(tail) + sum([len(piece[4]) for piece in tail])


def weight(window: Window) -> int:
    """Estimate the memory a window takes, in bytes; never below the bytes it keeps."""
    return frame_weight(window) + tail_weight(window.pieces)


def frame_weight(window: Window) -> int:
    """Estimate the memory of a window without its tail."""
    return least_weight(window) + further_weight(window)


def least_weight(window: Window) -> int:
    """Estimate the memory of a window that has nothing but its context."""
    size = WINDOW_BYTES + len(window.context) + len(window.key)
    if window.key is window.device:
        return size
    if is_of_session(window.key, window.session):
        return size + SESSION_BYTES + len(window.session)
    return size + KIN_BYTES + len(window.device)


def further_weight(window: Window) -> int:
    """Estimate the memory of what only few windows have: blocks and saved parts."""
    size = 0
    if window.blocks is not None:
        size += sum([BLOCK_BYTES + len(block.packed) for block in window.blocks])
    if window.saved is not None:
        size += saved_weight(window.saved)
    if window.draft is not None:
        size += saved_weight(window.draft.saved)
    return size


def saved_weight(saved: Saved) -> int:
    """Estimate the memory of a saved part, besides the pieces it shares with the window."""
    return SAVED_BYTES + len(saved.context)
