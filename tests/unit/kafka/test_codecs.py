"""Every codec unpacks into a bound, and what lies beyond it is never in memory."""

import tracemalloc
from collections.abc import Callable

import cramjam
import pytest
import zstandard
from aiokafka import codec
from hypothesis import given
from hypothesis import strategies as st

from forwarder.kafka import codecs
from forwarder.kafka.codecs import CorruptDataError, UnpackedTooLargeError

Pack = Callable[[bytes], bytes]


def raw_snappy(content: bytes) -> bytes:
    return bytes(codec.snappy_encode(content, xerial_compatible=False))


def members(content: bytes) -> bytes:
    half = len(content) // 2
    return b"".join(codec.gzip_encode(part) for part in (content[:half], content[half:]))


def frames(content: bytes) -> bytes:
    half = len(content) // 2
    return b"".join(codec.zstd_encode(part) for part in (content[:half], content[half:]))


def streamed(content: bytes) -> bytes:
    packer = zstandard.ZstdCompressor().compressobj()
    return packer.compress(content) + packer.flush()


def lz4_frames(content: bytes) -> bytes:
    half = len(content) // 2
    return b"".join(codec.lz4_encode(part) for part in (content[:half], content[half:]))


PACKED: dict[str, tuple[Pack, Callable[[bytes, int], bytes]]] = {
    "gzip": (codec.gzip_encode, codecs.gzip),
    "gzip of two members": (members, codecs.gzip),
    "snappy": (raw_snappy, codecs.snappy),
    "snappy in Java's blocks": (codec.snappy_encode, codecs.snappy),
    "lz4": (codec.lz4_encode, codecs.lz4),
    "lz4 of two frames": (lz4_frames, codecs.lz4),
    "zstd": (codec.zstd_encode, codecs.zstd),
    "zstd of two frames": (frames, codecs.zstd),
    "zstd that does not say how long it becomes": (streamed, codecs.zstd),
}


@pytest.mark.parametrize("name", PACKED)
@pytest.mark.parametrize("size", [1, 1000, 70_000, 5_000_000])
def test_what_is_within_the_bound_is_what_was_packed(name: str, size: int) -> None:
    pack, unpack = PACKED[name]
    content = bytes(i * i % 251 for i in range(1000)) * (size // 1000) or b"x"
    assert content == unpack(bytes(pack(content)), len(content))


@pytest.mark.parametrize("name", PACKED)
def test_one_byte_beyond_the_bound_is_refused(name: str) -> None:
    pack, unpack = PACKED[name]
    for size in (2, 70_000, 3_000_000):
        with pytest.raises(UnpackedTooLargeError):
            unpack(bytes(pack(b"a" * size)), size - 1)


@pytest.mark.parametrize("name", PACKED)
def test_what_lies_beyond_is_never_in_memory(name: str) -> None:
    pack, unpack = PACKED[name]
    packed = bytes(pack(b"\0" * 60_000_000))
    tracemalloc.start()
    try:
        with pytest.raises(UnpackedTooLargeError):
            unpack(packed, 1 << 20)
        assert tracemalloc.get_traced_memory()[1] < (24 << 20)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", PACKED)
def test_of_what_is_cut_off_no_more_comes_than_its_beginning(name: str) -> None:
    pack, unpack = PACKED[name]
    content = bytes(range(256)) * 300
    packed = bytes(pack(content))
    for cut in (packed[:-3], packed[:20], b""):
        try:
            found = unpack(cut, 1 << 20)
        except CorruptDataError:
            continue
        assert len(found) < len(content)
        assert content.startswith(found)


@pytest.mark.parametrize("name", PACKED)
def test_what_no_codec_wrote_is_damaged(name: str) -> None:
    with pytest.raises((CorruptDataError, UnpackedTooLargeError)):
        PACKED[name][1](b"\xff" * 40, 1 << 20)


@pytest.mark.parametrize("size", [-4, -1, 0, 1 << 30])
def test_a_snappy_block_of_an_odd_size_ends_the_reading(size: int) -> None:
    content = codecs.XERIAL + b"\0\0\0\1\0\0\0\1" + size.to_bytes(4, "big", signed=True) + b"xx"
    with pytest.raises(CorruptDataError):
        codecs.snappy(content, 1000)


def test_snappy_that_lies_about_its_length_takes_no_more() -> None:
    packed = bytearray(raw_snappy(b"a" * 100_000))
    assert 100_000 == cramjam.snappy.decompress_raw_len(bytes(packed))
    packed[:3] = b"\x64\x00\x00"
    with pytest.raises(CorruptDataError):
        codecs.snappy(bytes(packed), 1000)


@pytest.mark.parametrize("name", ["gzip", "snappy", "lz4", "zstd"])
@given(content=st.binary(max_size=300))
def test_any_bytes_are_refused_by_one_of_two_errors(name: str, content: bytes) -> None:
    try:
        found = getattr(codecs, name)(content, 5000)
    except (UnpackedTooLargeError, CorruptDataError):
        return
    assert len(found) <= 5000
