"""A stored frame that says it becomes more than any value is not believed."""

import tracemalloc

import pytest
import zstandard

from forwarder.errors import RefusedError
from forwarder.journal import dead_letters, packing
from tests.letters import Stored


def bomb() -> bytes:
    """Return a few KiB that become a byte more than the largest value."""
    packer = zstandard.ZstdCompressor().compressobj(size=packing.LARGEST_VALUE + 1)
    part = bytes(1 << 20)
    parts = [packer.compress(part) for _ in range(packing.LARGEST_VALUE >> 20)]
    return b"".join([*parts, packer.compress(b"\0"), packer.flush()])


def test_neither_a_value_of_the_journal_nor_a_letter_becomes_more_than_the_largest() -> None:
    value = bomb()
    headers = [("reason", b"invalid_json"), ("encoding", b"zstd")]
    tracemalloc.start()
    try:
        with pytest.raises(RefusedError, match="would become more"):
            packing.unpack(value)
        letter = dead_letters.parse_letter(0, Stored(0, 0, value, headers))
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert letter is not None
    assert (b"", True) == (letter.value, letter.truncated)


def test_what_is_smaller_is_read() -> None:
    assert b"a" * 1000 == packing.decompressed(zstandard.ZstdCompressor().compress(b"a" * 1000))
