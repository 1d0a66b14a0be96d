"""No batch ends the workers that read it: odd header names, and what unpacks beyond a bound."""

import struct
from collections.abc import Iterator

import pytest
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c
from aiokafka.structs import TopicPartition

from forwarder.config.settings import InputTopic, Kafka
from forwarder.kafka import client
from forwarder.kafka.patches.batches import FetchedBatches, SkippingPartitionRecords, install
from forwarder.model import Reason, Sealed

pytestmark = pytest.mark.usefixtures("core")
COMMITTED = 1
ODD, NAME = b"\xff\xfeodd", b"_name"


def batch(base: int, count: int, *, odd: int = -1, codec: int = 0, transactional: int = 0) -> bytes:
    """Return a stored batch; one of its records has a header name that is no UTF-8."""
    producer = 7 if transactional else -1
    builder = DefaultRecordBatchBuilder(2, codec, transactional, producer, 0, 0, 1 << 20)
    for i in range(count):
        headers = [(NAME.decode(), b"x")] if i == odd else [("plain", b"y"), ("empty", None)]
        assert builder.append(i, 1000 + i, b"k", b"%d" % (base + i), headers)
    content = bytearray(builder.build())
    content[:8] = struct.pack(">q", base)
    if odd >= 0:
        at = content.index(NAME)
        content[at : at + len(NAME)] = ODD
        content[17:21] = struct.pack(">I", calc_crc32c(bytes(content[21:])))
    return bytes(content)


def unpacked(content: bytes, start: int = 0, aborted: object = None) -> SkippingPartitionRecords:
    where = TopicPartition("raw-events", 0)
    fetched, checked = FetchedBatches(content), True
    return SkippingPartitionRecords(where, fetched, aborted, start, None, None, checked, COMMITTED)


def test_the_clients_own_way_fails() -> None:
    """If not, all of this can go."""
    records = MemoryRecords(batch(0, 3, odd=1))
    with pytest.raises(UnicodeDecodeError):
        list(records.next_batch())


@pytest.mark.parametrize("start", [0, 4, 7])
def test_every_record_comes_once_and_in_order_around_an_odd_one(start: int) -> None:
    before = b"" if start else batch(0, 3)  # a fetch begins with the batch that was asked for
    content = before + batch(3, 5, odd=2) + batch(8, 4, odd=0) + batch(12, 2)
    found = unpacked(content, start)
    read = list(found)
    assert [(n, b"%d" % n) for n in range(start, 14)] == [(one.offset, one.value) for one in read]
    assert 14 == found.next_fetch_offset
    names = {one.offset: [name for name, _ in one.headers] for one in read}
    assert ["\ufffd\ufffdodd"] == names[8]
    assert ["plain", "empty"] == names[9]


def test_what_was_rolled_back_stays_out_before_and_behind_an_odd_record() -> None:
    content = batch(0, 2, transactional=1) + batch(2, 3, odd=1) + batch(5, 2, transactional=1)
    read = list(unpacked(content, 0, [(7, 0)]))
    assert [2, 3, 4] == [one.offset for one in read]


def test_every_client_reads_so() -> None:
    client.client_arguments(Kafka(("127.0.0.1:1",), (InputTopic("t"),), "g"), "me")
    assert (FetchedBatches, SkippingPartitionRecords) == (
        fetcher.MemoryRecords,
        fetcher.PartitionRecords,
    )


# ------------------------------------------------------------------ what unpacks beyond a bound

CODECS = {"gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
SMALL = 32 * 1024 * 1024


def bomb(base: int, codec: int, size: int = SMALL + 1) -> bytes:
    builder = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, -1, 1 << 30)
    for i in range(3):
        assert builder.append(i, 1000 + i, None, b"\0" * (size // 3 + 1), [])
    content = bytearray(builder.build())
    content[:8] = struct.pack(">q", base)
    return bytes(content)


def old(base: int, codec: int, count: int, size: int) -> bytes:
    """Return a message set of the format before headers: the wrapper has the last one's offset."""
    builder = LegacyRecordBatchBuilder(1, codec, 1 << 30)
    for i in range(count):
        assert builder.append(i, 1000 + i, None, b"\0" * size)
    content = bytearray(builder.build())
    content[:8] = struct.pack(">q", base + count - 1)
    return bytes(content)


@pytest.fixture
def bounded() -> Iterator[None]:
    install(SMALL)
    yield
    install()


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize("codec", CODECS.values(), ids=list(CODECS))
def test_a_batch_beyond_the_bound_is_one_record_and_the_next_ones_follow(codec: int) -> None:
    packed = bomb(3, codec)
    found = unpacked(batch(0, 3, codec=codec) + packed + batch(6, 2, codec=codec))
    read = list(found)
    assert [0, 1, 2, 5, 6, 7] == [one.offset for one in read]
    assert 8 == found.next_fetch_offset
    sealed = read[3].value
    assert isinstance(sealed, Sealed)
    assert packed == sealed
    assert (Reason.TOO_LARGE_UNPACKED, 3) == (sealed.reason, sealed.first)
    assert f"a batch of offsets 3 to 5 unpacks to more than {SMALL} bytes" in sealed.error
    assert (1002, ()) == (read[3].timestamp, read[3].headers)


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize("codec", [1, 2, 3], ids=["gzip", "snappy", "lz4"])
def test_so_is_one_of_the_format_before_headers(codec: int) -> None:
    content = old(0, codec, 3, 10) + old(3, codec, 3, SMALL // 3 + 1) + old(6, codec, 2, 10)
    read = list(unpacked(content))
    assert [0, 1, 2, 5, 6, 7] == [one.offset for one in read]
    assert Reason.TOO_LARGE_UNPACKED == read[3].value.reason


@pytest.mark.usefixtures("bounded")
def test_one_that_somebody_began_to_read_is_sealed_from_there_on() -> None:
    found = unpacked(bomb(3, 4) + batch(6, 1), 4)
    read = list(found)
    assert [(5, 4), (6, None)] == [(o.offset, getattr(o.value, "first", None)) for o in read]


@pytest.mark.usefixtures("bounded")
def test_one_that_was_rolled_back_is_not_even_unpacked() -> None:
    builder = DefaultRecordBatchBuilder(2, 4, 1, 7, 0, 0, 1 << 30)
    builder.append(0, 1, None, b"\0" * (SMALL + 1), [])
    read = list(unpacked(bytes(builder.build()) + batch(1, 1), 0, [(7, 0)]))
    assert [1] == [one.offset for one in read]


@pytest.mark.usefixtures("bounded")
def test_a_batch_that_becomes_all_that_is_allowed_is_read() -> None:
    read = list(unpacked(bomb(0, 4, SMALL - 3_000)))
    assert [0, 1, 2] == [one.offset for one in read]


def sealed_alone(content: bytes) -> Sealed:
    found = unpacked(batch(0, 1) + content + batch(9, 1))
    read = list(found)
    assert [0, 8, 9] == [one.offset for one in read]
    assert isinstance(read[1].value, Sealed)
    return read[1].value


def with_checksum(content: bytearray) -> bytes:
    content[17:21] = struct.pack(">I", calc_crc32c(bytes(content[21:])))
    return bytes(content)


@pytest.mark.parametrize("codec", CODECS.values(), ids=list(CODECS))
def test_a_batch_that_cannot_be_unpacked_stops_only_itself(codec: int) -> None:
    content = bytearray(batch(1, 8, codec=codec))
    content[61:] = b"\xff" * (len(content) - 61)
    sealed = sealed_alone(with_checksum(content))
    assert Reason.UNREADABLE_BATCH == sealed.reason
    assert "a batch of offsets 1 to 8 cannot be read" in sealed.error


def test_so_does_one_of_a_codec_that_nobody_knows() -> None:
    content = bytearray(batch(1, 8))
    content[22] |= 7
    assert Reason.UNREADABLE_BATCH == sealed_alone(with_checksum(content)).reason


def test_one_with_a_wrong_length_inside_is_sealed_from_there_on() -> None:
    content = bytearray(batch(1, 8))
    at = content.index(b"5", 61)  # the value of the record at offset 5, behind its length
    content[at - 1] = 0x7F
    found = list(unpacked(with_checksum(content)))
    assert [1, 2, 3, 4, 8] == [one.offset for one in found]
    assert (Reason.UNREADABLE_BATCH, 5) == (found[-1].value.reason, found[-1].value.first)


def test_a_wrong_checksum_is_no_batch_at_all() -> None:
    content = bytearray(batch(1, 8))
    content[-1] ^= 1
    with pytest.raises(CorruptRecordException, match="checksum is wrong"):
        list(unpacked(bytes(content)))


@pytest.mark.parametrize("codec", [0, 4], ids=["plain", "zstd"])
def test_headers_without_number_stop_only_their_batch(codec: int) -> None:
    builder = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, -1, 1 << 30)
    for i in range(8):
        builder.append(i, 1000, None, b"x" * 500_000, [("", None)] * 150_000)
    content = bytearray(builder.build())
    content[:8] = struct.pack(">q", 1)
    sealed = sealed_alone(bytes(content))
    assert Reason.TOO_LARGE_UNPACKED == sealed.reason
    assert "1200000 headers" in sealed.error


def test_some_headers_in_large_records_are_read() -> None:
    builder = DefaultRecordBatchBuilder(2, 4, 0, -1, -1, -1, 1 << 30)
    for i in range(8):
        builder.append(i, 1000, b"k", b"x" * 1_000_000, [("name", b"value")] * 100)
    assert [100] * 8 == [len(one.headers) for one in unpacked(bytes(builder.build()))]


def test_a_transaction_marker_of_which_a_cleaner_left_the_head_is_passed_over() -> None:
    head = bytearray(61)
    control = 0x10 | 0x20  # transactional, and of the coordinator (KIP-98)
    struct.pack_into(">qiibIhiqqqhii", head, 0, 0, 49, 5, 2, 0, control, 0, -1, -1, 7, 0, 0, 0)
    assert [1, 2, 3] == [one.offset for one in unpacked(with_checksum(head) + batch(1, 3))]
