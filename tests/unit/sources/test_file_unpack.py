"""What a file is packed with is known by its first bytes; nothing packed takes unbounded memory."""

import gzip
import io
import random
import tracemalloc
from collections.abc import Callable

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from forwarder.sources.file_lines import Unpacker

CONTENT = b"".join(b'{"mpid":%d}\n' % n for n in range(5_000))
MIB = 1024 * 1024


def as_it_is(content: bytes) -> bytes:
    return content


def zstd(content: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(content)


def zstd_of_no_stated_size(content: bytes) -> bytes:
    out = io.BytesIO()
    with zstandard.ZstdCompressor().stream_writer(out, closefd=False) as writer:
        writer.write(content)
    return out.getvalue()


PACKERS: list[Callable[[bytes], bytes]] = [gzip.compress, zstd, zstd_of_no_stated_size]


def unpacked(packed: bytes, chunk: int = 1_000_000) -> tuple[bytes, str]:
    """Return the content and the fault, if what is packed arrives in chunks."""
    unpacker, found = Unpacker(), list[bytes]()
    for at in range(0, len(packed), chunk):
        unpacker.feed(packed[at : at + chunk])
        while piece := unpacker.read():
            found.append(piece)
    unpacker.feed(b"")
    while piece := unpacker.read():
        found.append(piece)
    return b"".join(found), unpacker.fault


@pytest.mark.parametrize("pack", [as_it_is, *PACKERS])
@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 100, 1_000_000])
def test_content_comes_out_however_it_arrives(pack: Callable[[bytes], bytes], chunk: int) -> None:
    assert (CONTENT, "") == unpacked(pack(CONTENT), chunk)


@pytest.mark.parametrize("pack", PACKERS)
def test_members_and_frames_follow_each_other(pack: Callable[[bytes], bytes]) -> None:
    assert (b"ab" + CONTENT, "") == unpacked(pack(b"a") + pack(b"") + pack(b"b") + pack(CONTENT))


def test_both_kinds_and_skippable_frames_may_follow_each_other() -> None:
    skippable = b"\x50\x2a\x4d\x18" + (7).to_bytes(4, "little") + b"skipped"
    mixed = skippable + gzip.compress(b"a") + zstd(b"b") + skippable + gzip.compress(b"c")
    assert (b"abc", "") == unpacked(mixed)
    assert (b"abc", "") == unpacked(mixed, 1)


def test_zeros_behind_the_last_member_are_nothing() -> None:
    assert (b"a", "") == unpacked(gzip.compress(b"a") + bytes(512))


@pytest.mark.parametrize("pack", PACKERS)
@given(st.data())
def test_of_what_was_cut_off_the_beginning_counts_and_the_cut_is_named(
    pack: Callable[[bytes], bytes], data: st.DataObject
) -> None:
    packed = pack(CONTENT) + pack(CONTENT)
    at = data.draw(st.integers(4, len(packed) - 1))
    content, fault = unpacked(packed[:at])
    assert (CONTENT + CONTENT).startswith(content)
    assert ("" if at == len(packed) // 2 else "ends in the middle of its compressed data") in fault
    assert bool(fault) == (at != len(packed) // 2)
    assert at <= len(packed) // 2 or content.startswith(CONTENT)


@pytest.mark.parametrize("pack", PACKERS)
def test_other_bytes_behind_are_named_and_what_came_before_counts(
    pack: Callable[[bytes], bytes],
) -> None:
    content, fault = unpacked(pack(CONTENT) + b"something else")
    assert (CONTENT, True) == (content, "other bytes behind its compressed data" in fault)


def test_what_is_damaged_is_named() -> None:
    packed = bytearray(gzip.compress(CONTENT))
    packed[-5] ^= 1
    content, fault = unpacked(bytes(packed), 1_000)
    assert CONTENT.startswith(content)
    assert "is damaged" in fault


@pytest.mark.parametrize("start", [b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\x50\x2a\x4d\x18", b""])
@given(st.binary(max_size=300))
def test_no_bytes_whatever_raise(start: bytes, rest: bytes) -> None:
    unpacked(start + rest, 7)


def test_a_frame_that_refers_too_far_back_is_refused_and_takes_no_memory() -> None:
    # RFC 8878, 3.1.1.1: no single segment, a window of 2^41 bytes, then an empty last block.
    _, fault = unpacked(b"\x28\xb5\x2f\xfd" + b"\x00" + b"\xff" + b"\x01\x00\x00")
    assert "is damaged" in fault


@pytest.mark.parametrize("pack", PACKERS)
def test_however_much_it_claims_to_be_little_is_in_memory(pack: Callable[[bytes], bytes]) -> None:
    packed = pack(bytes(256 * MIB))
    tracemalloc.start()
    unpacker, size = Unpacker(), 0
    unpacker.feed(packed)
    while piece := unpacker.read():
        size += len(piece)
        del piece
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 256 * MIB == size
    assert peak < 24 * MIB


def test_what_cannot_be_packed_passes_through_it() -> None:
    noise = random.Random(3).randbytes(3 * MIB)  # noqa: S311  # any bytes do
    assert (noise, "") == unpacked(zstd(noise), 100_000)
