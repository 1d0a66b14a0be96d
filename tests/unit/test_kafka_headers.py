"""Header names are bytes: one that is no UTF-8 must not end every worker that reads it."""

import struct

import pytest
from aiokafka.consumer import fetcher
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c
from aiokafka.structs import TopicPartition

from forwarder.config.settings import InputTopic, Kafka
from forwarder.journal import kafka_client
from forwarder.journal.kafka_headers import Fetched, Unpacked

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


def unpacked(content: bytes, start: int = 0, aborted: object = None) -> Unpacked:
    where = TopicPartition("raw-events", 0)
    return Unpacked(where, Fetched(content), aborted, start, None, None, True, COMMITTED)  # noqa: FBT003


def test_the_clients_own_way_fails() -> None:
    """If not, all of this can go."""
    records = fetcher.MemoryRecords(batch(0, 3, odd=1))
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
    kafka_client.arguments(Kafka(("127.0.0.1:1",), (InputTopic("t"),), "g"), "me")
    assert (Fetched, Unpacked) == (fetcher.MemoryRecords, fetcher.PartitionRecords)
