"""Batches of records made by hand, as no producer of ours would send them."""

import gzip
import struct
import time
from collections.abc import Callable

from aiokafka import codec
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import NoError, for_code
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c, encode_varint

CODECS: dict[str, tuple[int, Callable[[bytes], bytes]]] = {
    "gzip": (1, lambda content: gzip.compress(content, 6)),
    "snappy": (2, codec.snappy_encode),
    "snappy-raw": (2, lambda content: bytes(codec.snappy_encode(content, xerial_compatible=False))),
    "lz4": (3, codec.lz4_encode),
    "zstd": (4, codec.zstd_encode),
}


def record(number: int, value: bytes) -> bytes:
    """Return one record of a batch in format 2, without key and headers."""
    body = bytearray(b"\0\0")  # attributes, and the time since the first record's
    encode_varint(number, body.append)
    body += b"\x01"  # no key
    encode_varint(len(value), body.append)
    body += value + b"\0"
    head = bytearray()
    encode_varint(len(body), head.append)
    return bytes(head + body)


def packed(records: bytes, count: int, codec_name: str) -> bytes:
    """Return the batch of ``count`` records that are packed with a codec, all dated now.

    Older than the topic's retention they would be gone before anybody has read them.
    """
    number, pack = CODECS[codec_name]
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 20)
    builder.append(0, time.time_ns() // 1_000_000, None, b"", [])
    content = bytearray(builder.build()[:61]) + pack(records)
    content[8:12] = struct.pack(">i", len(content) - 12)
    content[21:23] = struct.pack(">h", number)
    content[23:27] = struct.pack(">i", count - 1)
    content[57:61] = struct.pack(">i", count)
    content[17:21] = struct.pack(">I", calc_crc32c(bytes(content[21:])))
    return bytes(content)


async def send(bootstrap: str, topic: str, partition: int, batch: bytes) -> int:
    """Store a batch as it is, if the broker takes it; return the offset of its first record."""
    client = AIOKafkaClient(bootstrap_servers=bootstrap)
    await client.bootstrap()
    try:
        await client.force_metadata_update()
        nodes = client.cluster.brokers()
        request = ProduceRequest(
            transactional_id=None,
            required_acks=-1,
            timeout=30_000,
            topics=[(topic, [(partition, batch)])],
        )
        answer = await client.send(next(iter(nodes)).nodeId, request)
        _, code, offset, *_ = answer.topics[0][1][0]
        if for_code(code) is not NoError:
            raise for_code(code)
        return int(offset)
    finally:
        await client.close()
