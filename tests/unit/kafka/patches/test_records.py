"""Records that are made many at once are those that the client makes one by one, in either core."""

import gc
import struct
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from aiokafka.consumer.fetcher import READ_COMMITTED
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c, encode_varint
from aiokafka.structs import TopicPartition
from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder import native
from forwarder.kafka import batch_layout
from forwarder.kafka.patches import records
from forwarder.kafka.patches.batches import (
    DamagedBatchError,
    FetchedBatches,
    SkippingPartitionRecords,
    install,
)
from forwarder.kafka.patches.records import RecordBatch
from forwarder.kafka.record_layout import ReadRecord
from forwarder.model import Sealed
from forwarder.sources import kafka
from tests import cores
from tests.services import kafka_batches
from tests.unit.kafka.patches.test_batches import batch, with_checksum

WHERE = TopicPartition("raw-events", 0)
CODECS = {"plain": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
APPENDED = 0x08
"""The attribute of a batch that the broker has dated (KIP-32)."""

Plain = tuple[int, int | None, bytes | None, bytes | None, tuple[tuple[str, bytes | None], ...]]


def fetched(content: bytes, start: int = 0, aborted: Any = None) -> SkippingPartitionRecords:  # noqa: ANN401
    taken, checked = FetchedBatches(content), True
    return SkippingPartitionRecords(
        WHERE, taken, aborted, start, None, None, checked, READ_COMMITTED
    )


def plain(record: Any) -> Plain:  # noqa: ANN401
    headers = tuple(record.headers)
    return record.offset, record.timestamp, record.key, record.value, headers


def taken(content: bytes, most: int, start: int = 0, aborted: Any = None) -> list[Plain]:  # noqa: ANN401
    """Return what is taken in pieces, each of them full but the last."""
    found, got = fetched(content, start, aborted), list[Any]()
    while some := found.take(most):
        got += some
        assert len(some) <= most
        assert got[-1].offset < found.next_fetch_offset
    return [plain(one) for one in got]


def by_client(content: bytes, start: int = 0, aborted: Any = None) -> list[Plain]:  # noqa: ANN401
    """Return what the client makes of it without a patch of ours."""
    read = SkippingPartitionRecords.__mro__[1]
    content = bytes(content)
    found = read(WHERE, MemoryRecords(content), aborted, start, None, None, True, READ_COMMITTED)  # noqa: FBT003
    return [plain(one) for one in found]


def filled(base: int, count: int, codec: int, *, attributes: int = 0, producer: int = -1) -> bytes:
    """Return a batch with keys and without, tombstones, and headers of all kinds."""
    builder = DefaultRecordBatchBuilder(2, codec, producer >= 0, producer, 0, 0, 1 << 24)
    headers: list[list[tuple[str, bytes | None]]] = [
        [], [("name", b"value")], [("", b""), ("ключ", None), ("a" * 300, b"b" * 300)],
    ]  # fmt: skip
    for i in range(count):
        key = [None, b"", b"device-%d" % i][i % 3]
        value = [b"{}", None, b"", b"x" * (i * 37 % 5000)][i % 4]
        assert builder.append(i, 1_700_000_000_000 - i * 7, key, value, headers[i % 3])
    content = bytearray(builder.build())
    content[:8] = struct.pack(">q", base)
    content[22] |= attributes
    return with_checksum(content)


@pytest.mark.usefixtures("core")
@pytest.mark.parametrize("codec", CODECS.values(), ids=list(CODECS))
@pytest.mark.parametrize("most", [1, 3, 7, 1000])
def test_they_are_those_of_the_client(codec: int, most: int) -> None:
    content = (
        filled(0, 7, codec)
        + filled(9, 14, codec, attributes=APPENDED)
        + filled(23, 3, codec, producer=7)
        + filled(40, 200, codec)
    )
    assert by_client(content) == taken(content, most)
    for start in (1, 6, 7, 8, 22, 30, 239):
        first = 0 if start < 7 else content.index(struct.pack(">q", 9)) if start < 23 else None
        if first is not None:
            assert by_client(content[first:], start) == taken(content[first:], most, start)


@pytest.mark.usefixtures("core")
@pytest.mark.parametrize("most", [1, 5, 1000])
def test_what_was_rolled_back_is_left_out(most: int) -> None:
    content = filled(0, 3, 0, producer=7) + filled(3, 3, 4, producer=8) + filled(6, 3, 3)
    for aborted in ([(7, 0)], [(8, 0)], [(7, 0), (8, 3)], [(9, 0)], []):
        assert by_client(content, 0, aborted) == taken(content, most, 0, aborted)


@pytest.mark.usefixtures("core")
def test_of_a_compacted_topic_what_is_left_comes_and_the_position_goes_behind_all() -> None:
    body = b"".join(record(n, b"v") for n in (0, 3, 4, 9))
    content = rebuilt(body, 4, last=12)
    found = fetched(content)
    assert [0, 3, 4, 9] == [one.offset for one in found.take(100)]
    assert 13 == found.next_fetch_offset
    found = fetched(content)
    assert 4 == len(found.take(4))
    assert 10 == found.next_fetch_offset
    assert [] == found.take(4)
    assert 13 == found.next_fetch_offset


@pytest.mark.usefixtures("core")
def test_a_record_not_above_the_one_before_it_is_passed_over() -> None:
    body = b"".join(record(n, b"v") for n in (0, 5, 2, 5, 6, 1))
    assert [0, 5, 6] == [one[0] for one in taken(rebuilt(body, 6, last=9), 100)]
    assert [5, 6] == [one[0] for one in taken(rebuilt(body, 6, last=9), 1, 1)]


@pytest.mark.usefixtures("core")
def test_a_record_without_a_time_has_minus_one() -> None:
    """The client makes None of it, which nothing can be compared with."""
    content = bytearray(batch(0, 3))
    content[27:35] = struct.pack(">q", -1001)  # of the first; each is one later than the last
    assert [-1001, -1000, -999] == [one[1] for one in taken(with_checksum(content), 100)]
    content[27:35] = struct.pack(">q", -1002 + 1000)
    times = [one[1] for one in taken(with_checksum(content), 100)]
    assert [-2, -1, 0] == times


@pytest.mark.usefixtures("core")
def test_nothing_that_was_fetched_keeps_itself_in_memory() -> None:
    found = fetched(filled(0, 30, 0) + filled(30, 30, 4))
    assert 40 == len(found.take(40))
    gone = weakref.ref(found)
    gc.disable()
    try:
        del found
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.skipif(native.core() is None, reason="the native core is not built")
def test_the_native_checksum_is_the_clients() -> None:
    core = native.core()
    assert core is not None
    content = bytes(range(256)) * 40
    for begin, end in ((0, 0), (0, 1), (3, 4000), (0, len(content))):
        assert calc_crc32c(content[begin:end]) == core.checksum(content, begin, end)
    with pytest.raises(ValueError, match="range"):
        core.checksum(content, 0, len(content) + 1)


# ------------------------------------------------------------------ whatever the bytes are


def record(number: int, value: bytes) -> bytes:
    return kafka_batches.record(number, value)


def rebuilt(body: bytes, count: int, *, last: int, codec: str = "") -> bytes:
    """Return a batch of these bytes, that says it has so many records."""
    if codec:
        content = bytearray(kafka_batches.packed(body, count, codec))
    else:
        content = bytearray(batch(0, 1)[:61]) + body
        content[8:12] = struct.pack(">i", len(content) - 12)
        content[57:61] = struct.pack(">i", count)
    content[23:27] = struct.pack(">i", last)
    return with_checksum(content)


class FaultError(Exception):
    """A record is malformed."""


class Oracle:
    """The layout of KIP-98, read as plainly as can be."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.at = 0

    def number(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            if self.at >= len(self.content):
                raise FaultError
            byte = self.content[self.at]
            self.at += 1
            value |= (byte & 0x7F) << shift
            if not byte & 0x80:
                value &= (1 << 64) - 1
                return (value >> 1) ^ -(value & 1)
        raise FaultError

    def part(self, size: int) -> bytes:
        if not 0 <= size <= len(self.content) - self.at:
            raise FaultError
        self.at += size
        return self.content[self.at - size : self.at]

    def nullable(self) -> bytes | None:
        size = self.number()
        return None if size < 0 else self.part(size)

    def record(self, base: int, time: int) -> Plain:
        size, begin = self.number(), self.at
        self.number()
        time, offset = wrapped(time + self.number()), wrapped(base + self.number())
        key, value = self.nullable(), self.nullable()
        count = self.number()
        if count < 0:
            raise FaultError
        headers = []
        for _ in range(count):
            name = self.part(self.number()).decode(errors="replace")
            headers.append((name, self.nullable()))
        if self.at - begin != size:
            raise FaultError
        return offset, time, key, value, tuple(headers)

    def records(self, count: int, first: int) -> Iterator[Plain]:
        for _ in range(count):
            found = self.record(0, 1000)
            if found[0] >= first:
                yield found
                first = found[0] + 1
        if self.at != len(self.content):
            raise FaultError


def wrapped(number: int) -> int:
    return (number + (1 << 63)) % (1 << 64) - (1 << 63)


def number(value: int) -> bytes:
    found = bytearray()
    encode_varint(value, found.append)
    return bytes(found)


def sized(content: bytes | None) -> bytes:
    return number(-1) if content is None else number(len(content)) + content


SIZES = st.integers(-(1 << 63), (1 << 63) - 1)
MAYBE = st.none() | st.binary(max_size=40)
HEADERS = st.lists(st.tuples(st.binary(max_size=8), MAYBE), max_size=3)


@st.composite
def bodies(draw: st.DrawFn) -> tuple[bytes, int]:
    """Return records as they may be written, and how many there are."""
    found = bytearray()
    count = draw(st.integers(0, 6))
    for at in range(count):
        headers: Sequence[tuple[bytes, bytes | None]] = draw(HEADERS)
        inside = b"\0" + number(draw(st.integers(-5, 5) | SIZES))
        inside += number(draw(st.just(at) | st.integers(0, 9) | SIZES))
        inside += sized(draw(MAYBE)) + sized(draw(MAYBE)) + number(len(headers))
        for name, value in headers:
            inside += number(len(name)) + name + sized(value)
        found += number(len(inside)) + inside
    return bytes(found), count


LIES = [number(lie) for lie in (-1, 3, 40, (1 << 31) - 1, (1 << 63) - 100, (1 << 63) - 1)]
"""Lengths that are not true; with the last but one a sum of 64 bits goes round, in C."""
OPEN = [b"\x80", b"\xff", b"\x80" * 10]
"""Numbers that do not end."""
CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["set", "cut", "add"]),
        st.integers(0, 200) | st.integers(-12, -1),
        st.binary(max_size=11) | st.sampled_from(LIES + OPEN),
    ),
    max_size=3,
)


def changed(body: bytes, changes: Sequence[tuple[str, int, bytes]]) -> bytes:
    content = bytearray(body)
    for what, at, value in changes:
        at = at % (len(content) + 1)  # noqa: PLW2901
        if what == "cut":
            del content[at : at + len(value)]
        elif what == "set":
            content[at : at + len(value)] = value
        else:
            content[at:at] = value
    return bytes(content)


@pytest.mark.parametrize("which", cores.chosen())
@settings(max_examples=600, deadline=None)
@given(
    built=bodies(),
    changes=CHANGES,
    more=st.integers(-2, 2),
    most=st.integers(1, 7),
    first=st.integers(0, 6),
    codec=st.sampled_from(["", "", "gzip", "snappy", "lz4", "zstd"]),
)
def test_whatever_the_bytes_are_they_are_read_by_the_letter(  # noqa: PLR0913  # what varies
    which: str,
    built: tuple[bytes, int],
    changes: Sequence[tuple[str, int, bytes]],
    *,
    more: int,
    most: int,
    first: int,
    codec: str,
) -> None:
    body, count = changed(built[0], changes), built[1] + more
    wanted: list[Plain] = []
    fault = False
    try:
        for one in Oracle(body).records(max(0, count), first):
            wanted.append(one)  # noqa: PERF402  # what came before a fault counts
    except FaultError:
        fault = True
    content = rebuilt(body, count, last=6, codec=codec)
    if codec:
        content = with_checksum(bytearray(content[:27] + struct.pack(">q", 1000) + content[35:]))
    with cores.on(which), pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "_AT_ONCE", 1)
        reader = RecordBatch(content + NEXT, 0, len(content)).open(first)
        got: list[Plain] = []
        try:
            while some := reader.take(most):
                assert len(some) <= most
                got += map(plain, some)
            failed = False
        except CorruptRecordException:
            failed = True
    assert (wanted, fault) == (got, failed)


NEXT = bytes.fromhex("00ff807f")
"""What stands behind a batch, and belongs to the next one."""


@pytest.mark.skipif(native.core() is None, reason="the native core is not built")
@settings(max_examples=600, deadline=None)
@given(
    built=bodies(),
    changes=CHANGES,
    codec=st.sampled_from(["", *kafka_batches.CODECS]),
    most=st.integers(1, 7),
    first=st.integers(0, 6),
    odd=st.booleans(),
)
def test_both_cores_read_what_somebody_wrote_alike(  # noqa: PLR0913  # as above
    built: tuple[bytes, int],
    changes: Sequence[tuple[str, int, bytes]],
    *,
    codec: str,
    most: int,
    first: int,
    odd: bool,
) -> None:
    body, count = changed(built[0], changes), built[1]
    content = rebuilt(body, count + odd, last=6, codec=codec) + filled(7, 3, 4)
    mine = outcome(content, most, first)
    with cores.on(cores.PYTHON):
        assert outcome(content, most, first) == mine


def outcome(content: bytes, most: int, first: int, high: int | None = None) -> list[object]:
    """Return all that can be told of a fetch, position after position."""
    found, told = fetched(content, first), list[object]()
    found.ends_at(high)
    try:
        while some := found.take(most):
            for one in some:
                told.append(plain(one))
                if isinstance(one.value, Sealed):
                    told.append((one.value.reason, one.value.error, one.value.first))
            told.append(found.next_fetch_offset)
    except DamagedBatchError as error:
        told.append(str(error))
    return [*told, found.next_fetch_offset]


@pytest.mark.skipif(native.core() is None, reason="the native core is not built")
@given(built=bodies(), changes=CHANGES, long=st.sampled_from([1, 20, 4096]))
def test_both_cores_count_alike(
    built: tuple[bytes, int], changes: Sequence[tuple[str, int, bytes]], long: int
) -> None:
    core = native.core()
    assert core is not None
    body = changed(built[0], changes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch_layout, "LONG_RECORD", long)
        in_python = batch_layout._counted(bytearray(body))  # noqa: SLF001  # the twin
    number, headers = in_python
    most = (1 << 63) - 1
    headers = max(-most - 1, min(headers, most))  # natively a sum ends there
    found = core.count_records(body, 0, len(body), long, batch_layout.MAX_RECORDS)
    assert (number, headers) == found


@st.composite
def fetches(draw: st.DrawFn) -> bytes:
    """Return batches one behind the other, with something wrong here and there."""
    found, base = bytearray(), draw(st.integers(0, 3))
    for _ in range(draw(st.integers(1, 5))):
        count = draw(st.integers(1, 5))
        attributes = draw(st.sampled_from([0, 0, 0, APPENDED, 0x20, 0x06]))
        content = bytearray(filled(base, count, draw(st.sampled_from([0, 0, 0, 4]))))
        content[22] |= attributes
        content[57:61] = struct.pack(
            ">i", count + draw(st.sampled_from([0] * 8 + [-1, 1, 1 << 30]))
        )
        content[23:27] = struct.pack(">i", count - 1 + draw(st.sampled_from([0] * 8 + [-1, 1, 7])))
        for at, value in draw(
            st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=1)
        ):
            content[at % len(content)] = value
        if draw(st.integers(0, 9)):
            content = bytearray(with_checksum(content))
        for at, value in draw(
            st.lists(st.tuples(st.integers(0, 20), st.integers(0, 255)), max_size=1)
        ):
            if not draw(st.integers(0, 3)):
                content[at] = value
        found += content
        base += count + draw(st.sampled_from([0, 0, 0, 2]))
    return bytes(found[: len(found) - draw(st.sampled_from([0, 0, 0, 1, 40, 70]))])


@pytest.mark.skipif(native.core() is None, reason="the native core is not built")
@settings(max_examples=600, deadline=None)
@given(
    content=fetches(),
    most=st.integers(1, 12),
    first=st.integers(0, 6),
    high=st.sampled_from([None, 0, 9, (1 << 63) - 1]),
)
def test_many_plain_batches_at_once_are_read_as_one_by_one(
    content: bytes, most: int, first: int, high: int | None
) -> None:
    at_once = outcome(content, most, first, high)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SkippingPartitionRecords, "_read_plain", lambda *_: None)
        assert outcome(content, most, first, high) == at_once


@pytest.mark.skipif(native.core() is None, reason="the native core is not built")
@pytest.mark.parametrize("room", [-1, 0, 1, 5, 6, 7, 4999, 100_000])
def test_both_cores_find_as_many_records_to_fit(room: int) -> None:
    core = native.core()
    assert core is not None
    own = fetched(filled(0, 30, 4)).take(100)
    others = [ReadRecord(n, 0, None, value) for n, value in enumerate([b"a" * 5, None, b"b"])]
    for some in (own, others, [], own[:1] + others):
        assert kafka.fitting(some, room) == core.fitting(some, room)


def test_the_bound_stands_where_a_configuration_sets_it() -> None:
    install(1000)
    assert 1000 == records.Bound.limit
    install()
    assert records.LIMIT == records.Bound.limit
