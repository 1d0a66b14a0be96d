"""Batches whose fields before the checksum, or whose lengths inside, are not what was written."""

import gzip
import signal
import struct
import zlib
from collections.abc import Iterator
from types import FrameType, SimpleNamespace

import pytest
from aiokafka.consumer import fetcher
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from aiokafka.record.util import calc_crc32c, encode_varint
from aiokafka.structs import TopicPartition
from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder.kafka import batch_layout
from forwarder.kafka.patches.batches import (
    AHEAD,
    DamagedBatchError,
    EndAwareFetchResult,
    FetchedBatches,
    SkippingPartitionRecords,
    install,
)
from forwarder.model import Reason, Sealed
from tests.services import kafka_batches
from tests.unit.kafka.patches.test_batches import ODD, batch, unpacked
from tests.unit.kafka.patches.test_records import fetched, filled, rebuilt
from tests.unit.kafka.patches.test_records import number as encoded
from tests.work import steps

pytestmark = pytest.mark.usefixtures("core")
WHERE = TopicPartition("raw-events", 0)
BOUND = 60
"""Seconds after which reading counts as endless."""

LENGTHS = [*range(-30, 61), -(1 << 31), -(1 << 16), 1 << 16, (1 << 31) - 1]


@pytest.fixture(autouse=True)
def bound() -> Iterator[None]:
    """Fail a test whose reading does not end."""

    def end(_number: int, _frame: FrameType | None) -> None:
        pytest.fail("reading does not end")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(BOUND)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def with_length(content: bytes, length: int) -> bytes:
    return content[:8] + struct.pack(">i", length) + content[12:]


def with_base(content: bytes, base: int) -> bytes:
    return struct.pack(">q", base) + content[8:]


def offsets(content: bytes, start: int = 0) -> list[int]:
    return [one.offset for one in unpacked(content, start)]


@pytest.mark.parametrize("length", LENGTHS)
def test_a_length_that_cannot_be_true_ends_what_is_read_of_a_fetch(length: int) -> None:
    damaged = with_length(batch(2, 1), length)
    found = unpacked(batch(0, 2) + damaged + batch(3, 1))
    assert [0, 1] == [one.offset for one in found]
    assert 2 == found.next_fetch_offset


@pytest.mark.parametrize("length", LENGTHS)
def test_in_the_first_batch_of_a_fetch_it_names_the_partition(length: int) -> None:
    found = unpacked(with_length(batch(2, 1), length) + batch(3, 1), 2)
    with pytest.raises(DamagedBatchError, match="raw-events/0: ") as damaged:
        list(found)
    assert (WHERE, 2) == (damaged.value.partition, found.next_fetch_offset)


@pytest.mark.parametrize("zeros", [1, 11, 12, 17, 61, 1000])
def test_zeros_behind_a_good_batch_take_nothing_of_it(zeros: int) -> None:
    assert [0, 1] == offsets(batch(0, 2) + bytes(zeros))
    with pytest.raises(DamagedBatchError):
        offsets(bytes(zeros), 2)


def test_what_comes_before_a_wrong_checksum_is_read_and_then_it_is_told() -> None:
    damaged = bytearray(batch(2, 1))
    damaged[-1] ^= 1
    assert [0, 1] == offsets(batch(0, 2) + damaged + batch(3, 1))
    with pytest.raises(DamagedBatchError, match="checksum"):
        offsets(bytes(damaged) + batch(3, 1), 2)


def test_a_batch_that_is_cut_off_is_fetched_again_and_nothing_else() -> None:
    following = batch(2, 3)
    for size in range(len(following)):
        assert [0, 1] == offsets(batch(0, 2) + following[:size])


@pytest.mark.parametrize("base", [3, 40, 1 << 40])
def test_a_batch_that_says_it_were_later_than_the_next_is_not_passed_on(base: int) -> None:
    content = batch(0, 2) + with_base(batch(2, 2), base) + batch(4, 2)
    assert [0, 1] == offsets(content)
    with pytest.raises(DamagedBatchError, match=f"offsets {base} to "):
        offsets(content[len(batch(0, 2)) :], 2)


@pytest.mark.parametrize("base", [-1, 0, 1])
def test_nor_is_one_that_the_next_overlaps_for_either_may_be_wrong(base: int) -> None:
    """The next alone, as the first of another fetch, would pass for one that begins there."""
    content = batch(0, 2) + with_base(batch(2, 2), base) + batch(4, 2)
    with pytest.raises(DamagedBatchError, match=f"before a batch that begins at {base}"):
        offsets(content)


@pytest.mark.parametrize("base", [-(1 << 63), -1, 0])
def test_nor_is_one_that_lies_before_what_was_asked_for(base: int) -> None:
    with pytest.raises(DamagedBatchError, match="where 2 is the next"):
        offsets(with_base(batch(2, 2), base), 2)


def test_gaps_between_batches_are_nothing_odd() -> None:
    assert [5, 6, 20, 21, 30] == offsets(batch(5, 2) + batch(20, 2) + batch(30, 1), 3)


@pytest.mark.parametrize(("high", "told"), [(0, True), (1000, True), (None, False), (-1, False)])
def test_a_batch_far_beyond_the_end_of_its_log_is_damaged(high: int | None, told: bool) -> None:  # noqa: FBT001
    found = unpacked(batch(AHEAD + 1001, 1))
    state = SimpleNamespace(highwater=high)
    EndAwareFetchResult(
        WHERE,
        assignment=SimpleNamespace(state_value=lambda _: state),
        partition_records=found,
        backoff=0.1,
    )
    if told:
        with pytest.raises(DamagedBatchError, match="log that ends at"):
            list(found)
    else:
        assert [AHEAD + 1001] == [one.offset for one in found]


def test_the_client_makes_results_that_tell_where_a_log_ends() -> None:
    install()
    assert fetcher.FetchResult is EndAwareFetchResult


COUNTS = (2, 3, 1, 4)
WRITTEN = [batch(sum(COUNTS[:i]), n, codec=i) for i, n in enumerate(COUNTS)]


@settings(max_examples=300, deadline=None)
@given(which=st.integers(0, 3), at=st.integers(0, 20), value=st.integers(0, 255))
def test_whatever_one_byte_before_the_checksum_becomes_nothing_is_skipped_or_read_twice(
    which: int, at: int, value: int
) -> None:
    """Of the last batch a base that grew cannot be told from a gap: its place is left alone."""
    if which == len(WRITTEN) - 1 and at < 8:
        return
    content = [bytearray(one) for one in WRITTEN]
    content[which][at] = value
    read, position = [], 0
    try:
        while position < sum(COUNTS):
            first = next(i for i in range(4) if sum(COUNTS[: i + 1]) > position)
            found = unpacked(b"".join(content[first:]), position)
            read += [(one.offset, one.value) for one in found]
            assert found.next_fetch_offset > position
            position = found.next_fetch_offset
    except DamagedBatchError:
        assert position in {sum(COUNTS[:which]), sum(COUNTS[: max(0, which - 1)])}
    assert [(n, b"%d" % n) for n in range(len(read))] == read


def control(count: int) -> bytes:
    """Return a batch that says it is a coordinator's, and how many records it has; it has one."""
    content = bytearray(batch(0, 1, transactional=1))
    content[22] |= 0x20
    content[57:61] = struct.pack(">i", count)
    content[17:21] = struct.pack(">I", calc_crc32c(bytes(content[21:])))
    return bytes(content)


def test_a_control_batch_whose_record_is_no_marker_is_damaged_and_no_unknown_fault() -> None:
    with pytest.raises(DamagedBatchError):
        offsets(control(1))


def test_a_control_batch_that_says_it_is_empty_ends_no_transaction() -> None:
    assert [] == offsets(control(0))


def test_no_set_of_records_at_all_is_an_empty_one() -> None:
    found = FetchedBatches(None)
    assert (False, 0) == (found.has_next(), found.size_in_bytes())


@pytest.mark.parametrize("size", [1 << 20, 1 << 40, (1 << 62) - 1])
def test_a_length_behind_an_odd_name_stops_only_its_batch(size: int) -> None:
    """The client's compiled way to read a number goes on beyond the bytes: the process ends."""
    far = bytearray()
    encode_varint(size, far.append)
    body = b"\0\0\0\1\1\4" + bytes([2 * len(ODD)]) + ODD + b"\1" + bytes(far)
    content = kafka_batches.packed(bytes([2 * len(body)]) + body, 1, "gzip")
    found = list(unpacked(content + batch(1, 1)))
    assert [0, 1] == [one.offset for one in found]
    assert isinstance(found[0].value, Sealed)


@pytest.mark.parametrize("size", [1 << 40, (1 << 62) - 1])
def test_a_length_beyond_a_large_batch_stops_only_the_batch(size: int) -> None:
    """Where its headers are counted."""
    far = bytearray()
    encode_varint(size, far.append)
    body = b"\0\0\0" + bytes(far) + bytes(batch_layout.COUNTED)
    head = bytearray()
    encode_varint(len(body), head.append)
    content = kafka_batches.packed(bytes(head) + body, 1, "zstd")
    found = list(unpacked(content + batch(1, 1)))
    assert [0, 1] == [one.offset for one in found]
    assert isinstance(found[0].value, Sealed)


# ------------------------------------------------------------------ the formats before headers


def old_set(lengths: list[int]) -> bytes:
    """Return a packed set of format 1 whose messages announce other lengths than they have."""
    inner = LegacyRecordBatchBuilder(1, 0, 1 << 20)
    for i in range(len(lengths)):
        inner.append(i, 1000, None, b"v")
    messages = bytearray(inner.build())
    for i, length in enumerate(lengths):
        struct.pack_into(">i", messages, i * len(messages) // len(lengths) + 8, length)
    packed = gzip.compress(bytes(messages))
    body = struct.pack(">bbqii", 1, 1, 1000, -1, len(packed)) + packed
    head = struct.pack(">qiI", len(lengths) - 1, len(body) + 4, zlib.crc32(body))
    return head + body


@pytest.mark.parametrize("length", [-30, -13, -12, 0, 5, 14, 22, 1 << 20])
def test_a_length_inside_a_packed_set_of_old_messages_stops_only_the_set(length: int) -> None:
    """The client's compiled form reads beyond its memory there, or for ever."""
    found = list(unpacked(old_set([23, length, 23]) + batch(3, 1)))
    assert [2, 3] == [one.offset for one in found]
    assert isinstance(found[0].value, Sealed)
    assert (Reason.UNREADABLE_BATCH, 0) == (found[0].value.reason, found[0].value.first)


def test_one_whose_lengths_fit_is_read() -> None:
    assert [0, 1, 2, 3] == offsets(old_set([23, 23, 23]) + batch(3, 1))


@pytest.mark.parametrize("size", [-2, -1000, 5, 1 << 30])
def test_a_size_inside_one_old_message_stops_only_the_message(size: int) -> None:
    body = struct.pack(">bbqii", 1, 0, 1000, -1, size) + b"value!"
    content = struct.pack(">qiI", 0, len(body) + 4, zlib.crc32(body)) + body
    found = list(unpacked(content + batch(1, 1)))
    assert [0, 1] == [one.offset for one in found]
    assert isinstance(found[0].value, Sealed)


# ------------------------------------------------------------------ records without number


def test_a_batch_of_more_records_than_can_be_passed_over_at_once_is_one_letter() -> None:
    content = bytearray(batch(0, 3))
    content[57:61] = struct.pack(">i", batch_layout.MAX_RECORDS + 1)
    content[17:21] = struct.pack(">I", calc_crc32c(bytes(content[21:])))
    found = list(unpacked(bytes(content) + batch(3, 1)))
    assert [2, 3] == [one.offset for one in found]
    assert Reason.TOO_LARGE_UNPACKED == found[0].value.reason
    assert "more than 1000000 records" in found[0].value.error


def test_so_is_one_that_hides_how_many_it_has() -> None:
    smallest = b"\x0c\0\0\0\1\1\0"
    packed = kafka_batches.packed(smallest * (batch_layout.MAX_RECORDS + 1), 3, "zstd")
    found = list(unpacked(packed + batch(3, 1)))
    assert [2, 3] == [one.offset for one in found]
    assert "more than 1000000 records" in found[0].value.error


def odd_last(count: int) -> bytes:
    """Return a batch of small records of which the last has a header name that is no UTF-8."""
    records = [kafka_batches.record(n, b"") for n in range(count - 1)]
    last = bytearray(kafka_batches.record(count - 1, b""))
    last[-1:] = b"\2" + bytes([2 * len(ODD)]) + ODD + b"\1"
    last[0] += 2 * (len(ODD) + 2)
    return kafka_batches.packed(b"".join(records) + bytes(last), count, "zstd")


def test_an_odd_name_behind_many_records_costs_little_for_each_of_them() -> None:
    """All of them are passed over in one go; to take one apart is 300 instructions."""
    few, many = 100, 2100
    read: dict[int, list[SkippingPartitionRecords]] = {}

    def work(count: int) -> int:
        found = unpacked(odd_last(count), count - 1)
        return steps(lambda: read.__setitem__(count, list(found)))

    assert 90 > (work(many) - work(few)) / (many - few)
    assert [many - 1] == [one.offset for one in read[many]]
    assert "\ufffd\ufffdodd" == read[many][0].headers[0][0]


@pytest.mark.parametrize("end", [b"\x80", b"\x01\x80", b"\x02\x00\x80"])
def test_a_record_does_not_go_on_in_the_next_batch(end: bytes) -> None:
    """The client reads a number to its end, be it beyond that of the batch."""
    good = kafka_batches.record(0, b"first")
    inside = b"\0\0\2\1\x0aabcde"  # of a record with no key, and a value
    lying = encoded(len(inside) + len(end) + 1) + inside + end
    assert inside + b"\0" == kafka_batches.record(1, b"abcde")[1:]
    content = rebuilt(good + lying, 2, last=1) + filled(2, 2, 0)
    first, told, *others = fetched(content).take(10)
    assert (0, b"first") == (first.offset, first.value)
    assert isinstance(told.value, Sealed)
    assert (1, 1, Reason.UNREADABLE_BATCH) == (told.offset, told.value.first, told.value.reason)
    assert [2, 3] == [one.offset for one in others]


def test_a_length_at_which_sums_go_round_asks_for_no_memory() -> None:
    """In C, the client's check of it passes then, and so many bytes are asked for."""
    good = kafka_batches.record(0, b"some bytes, so that the next one does not begin at once")
    lying = b"\x7e\0\0\2\1" + encoded((1 << 63) - 1 - 40) + b"x" * 40
    *_, told = fetched(rebuilt(good + lying, 2, last=1)).take(10)
    assert isinstance(told.value, Sealed)
