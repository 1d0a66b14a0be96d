"""The requests of Kinesis and Firehose as bytes: which record goes where, and the JSON.

Built by hand because a PutRecords of 500 records of 2 KB costs 24 ms by the library's serializer
and 10 ms this way (one core); base64 of ASCII needs no escaping, the rest is escaped once.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec
import orjson
import pybase64

from forwarder import native
from forwarder.config.targets import MAX_PARTITION_KEY_CHARS, KinesisTarget, PartitionKey
from forwarder.model import Batch
from forwarder.sinks.contract import Throughput

SHARD = Throughput(records=1_000, bytes=1_000_000)
"""What one shard of a Kinesis stream takes a second (AWS quota); Firehose is counted in it, too."""


class RequestRecord(msgspec.Struct, frozen=True, gc=False):
    """One record of a request, ``size`` in bytes; without a partition key where there is none."""

    batch: Batch
    data: bytes
    partition_key_json: bytes
    size: int


_NATIVE_RULES = {PartitionKey.DEVICE: 0, PartitionKey.MPID: 1, PartitionKey.BATCH: 2}
"""What the native core calls them."""


class RequestLimits(NamedTuple):
    """What one request may hold: records, and bytes of them. Each sink states its own."""

    records: int
    size: int


def partition_key(batch: Batch, rule: PartitionKey) -> str:
    """Return the partition key of a batch; an mpid that AWS cannot take gives way to the device."""
    if rule is PartitionKey.BATCH:
        return batch.id
    mpid = batch.mpid
    if rule is PartitionKey.DEVICE or not 0 < len(mpid) <= MAX_PARTITION_KEY_CHARS:
        return batch.key.hex()
    return mpid


def kinesis_record(batch: Batch, target: KinesisTarget) -> RequestRecord:
    """Return the record of a batch in a data stream.

    With ``newline`` a document is one line. One that was made to fill a record before that was
    set has no room for the line end, and goes without.
    """
    rule = target.partition_key
    try:
        partition_key_json = orjson.dumps(partition_key(batch, rule))
    except TypeError:
        # A lone surrogate is legal in JSON text and in nothing that AWS accepts.
        partition_key_json = orjson.dumps(batch.key.hex())
    data, key = batch.payload, len(partition_key_json) - 2
    if target.newline and len(data) + key < target.max_record_bytes:
        data = without_line_breaks(data) + b"\n"
    return RequestRecord(batch, data, partition_key_json, len(data) + key)


def firehose_record(batch: Batch) -> RequestRecord:
    """Return the record of a batch in a delivery stream, which writes records without a break."""
    data = without_line_breaks(batch.payload) + b"\n"
    return RequestRecord(batch, data, b"", len(data))


def without_line_breaks(document: bytes) -> bytes:
    """Return a document of one line and the same length: strings of JSON hold no line breaks."""
    if b"\n" not in document and b"\r" not in document:
        return document
    return document.replace(b"\n", b" ").replace(b"\r", b" ")


def split_requests(
    records: Sequence[RequestRecord], limits: RequestLimits
) -> Iterator[Sequence[RequestRecord]]:
    """Cut a run of records into requests within both limits; an oversize record goes alone."""
    start = filled = 0
    for index, one in enumerate(records):
        full = index - start == limits.records or filled + one.size > limits.size
        if full and index > start:
            yield records[start:index]
            start, filled = index, 0
        filled += one.size
    if start < len(records):
        yield records[start:]


def stream_parameter(target: KinesisTarget) -> bytes:
    """Return how requests name a stream: by its name, or by its ARN where that is given."""
    if target.arn:
        return b'"StreamARN":' + orjson.dumps(target.arn)
    return b'"StreamName":' + orjson.dumps(target.stream_name)


def put_records(stream: bytes, records: Sequence[RequestRecord]) -> bytes:
    """Return the body of a PutRecords request; ``stream`` is its ``stream_parameter``."""
    encode = pybase64.b64encode
    parts = [b"{", stream, b',"Records":[']
    for one in records:
        parts += (
            b'{"PartitionKey":',
            one.partition_key_json,
            b',"Data":"',
            encode(one.data),
            b'"},',
        )
    parts[-1] = b'"}]}'
    return b"".join(parts)


class WholePut:
    """Makes one PutRecords of all batches of a put, as is usual. There is a native twin.

    Caller: its sink, with what delivery gives it to put.
    """

    def __init__(self, target: KinesisTarget, limits: RequestLimits) -> None:
        """Prepare; ``limits`` are those of the action."""
        core = native.core()
        self._native = None if core is None else core.put_records
        self._target = target
        self._limits = limits
        self._stream = stream_parameter(target)
        self._rule = _NATIVE_RULES[target.partition_key]
        self._line_up_to = target.max_record_bytes if target.newline else 0

    def body(self, batches: list[Batch]) -> bytes | None:
        """Return the body; None: it is to be made of records, and maybe more than one request."""
        if self._native is not None:
            made: bytes | None = self._native(
                self._stream, batches, self._rule, self._line_up_to, *self._limits
            )
            return made
        if self._rule or self._line_up_to:
            return None
        size = sum([len(batch.payload) + 2 * len(batch.key) for batch in batches])
        if size > self._limits.size or not 0 < len(batches) <= self._limits.records:
            return None
        encode = pybase64.b64encode
        parts = [b"{", self._stream, b',"Records":[']
        for batch in batches:
            parts += (
                b'{"PartitionKey":"',
                batch.key.hex().encode(),
                b'","Data":"',
                encode(batch.payload),
                b'"},',
            )
        parts[-1] = b'"}]}'
        return b"".join(parts)


def put_record(stream: bytes, one: RequestRecord, after: str | None) -> bytes:
    """Return the body of a PutRecord request; ``after`` is the key's last sequence number."""
    ordering = b',"SequenceNumberForOrdering":' + orjson.dumps(after) if after else b""
    return b'{%b,"PartitionKey":%b%b,"Data":"%b"}' % (
        stream,
        one.partition_key_json,
        ordering,
        pybase64.b64encode(one.data),
    )


def put_record_batch(stream: str, records: Sequence[RequestRecord]) -> bytes:
    """Return the body of a PutRecordBatch request."""
    encode = pybase64.b64encode
    parts = [b'{"DeliveryStreamName":', orjson.dumps(stream), b',"Records":[']
    for one in records:
        parts += (b'{"Data":"', encode(one.data), b'"},')
    parts[-1] = b'"}]}'
    return b"".join(parts)


class WholeLines:
    """Makes one PutRecordBatch of all batches of a put, as is usual. Native code alone does so.

    Caller: its sink, with what delivery gives it to put.
    """

    def __init__(self, stream: str, limits: RequestLimits) -> None:
        """Prepare; ``limits`` are those of the action."""
        core = native.core()
        self._native = None if core is None else core.put_record_batch
        self._limits = limits
        self._stream = orjson.dumps(stream)

    def body(self, batches: list[Batch]) -> bytes | None:
        """Return the body; None: it is to be made of records, and maybe more than one request."""
        if self._native is None:
            return None
        made: bytes | None = self._native(self._stream, batches, *self._limits)
        return made
