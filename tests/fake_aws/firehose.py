"""Data Firehose: PutRecord and PutRecordBatch, with limits and codes of their own."""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from tests.fake_aws.errors import INVALID_ARGUMENT, AwsError, invalid
from tests.fake_aws.faults import Call
from tests.fake_aws.kinesis import BUFFER, check_count, malformed
from tests.fake_aws.shards import DeliveryStream
from tests.fake_aws.web import Reply
from tests.fake_aws.world import Gate, World

BUSY = "ServiceUnavailableException"
SLOW_DOWN = "Slow down."


class Entry(msgspec.Struct, rename="pascal"):
    """One record."""

    data: bytes


class Many(msgspec.Struct, rename="pascal"):
    """PutRecordBatch."""

    delivery_stream_name: str
    records: list[Entry]


class Single(msgspec.Struct, rename="pascal"):
    """PutRecord."""

    delivery_stream_name: str
    record: Entry


class Put(NamedTuple):
    """A put as it came in, whichever of the two it is."""

    stream: str
    records: Sequence[Entry]
    alone: bool


class Stored(NamedTuple):
    """What is told of one record: its id, or a code and a message."""

    id: str
    code: str = ""
    message: str = ""


def read(action: str, body: bytes) -> Put:
    """Read a put; raises AwsError for a body that is none."""
    try:
        if action == "PutRecord":
            one = msgspec.json.decode(body, type=Single)
            return Put(one.delivery_stream_name, [one.record], alone=True)
        many = msgspec.json.decode(body, type=Many)
        return Put(many.delivery_stream_name, many.records, alone=False)
    except msgspec.DecodeError as error:
        raise malformed(error) from None


def put(world: World, call: Call, asked: Put, account: str) -> tuple[Reply, list[bytes]]:
    """Store what can be stored; return the answer, and what was stored in order."""
    stream = world.delivery_stream(call, account)
    _check(stream, asked)
    gate = world.gate(call)
    told = [_store(stream, entry.data, gate) for entry in asked.records]
    pairs = zip(asked.records, told, strict=True)
    values = [entry.data for entry, one in pairs if not one.code]
    if not asked.alone:
        return _many(told), values
    (one,) = told
    if one.code:
        raise AwsError(one.code, one.message)
    return Reply.of({"RecordId": one.id, "Encrypted": False}), values


def _store(stream: DeliveryStream, value: bytes, gate: Gate) -> Stored:
    fault = gate.refuses()
    if fault is not None:
        return Stored("", fault.code or BUSY, fault.message or SLOW_DOWN)
    if gate.throttles(0, len(value), stream.bucket):
        stream.throttled += 1
        return Stored("", BUSY, SLOW_DOWN)
    return Stored(stream.store(value))


def _many(told: Sequence[Stored]) -> Reply:
    failed = sum(1 for one in told if one.code)
    records = [
        {"ErrorCode": one.code, "ErrorMessage": one.message} if one.code else {"RecordId": one.id}
        for one in told
    ]
    content = {"FailedPutCount": failed, "Encrypted": False, "RequestResponses": records}
    return Reply.of(content)


def _check(stream: DeliveryStream, asked: Put) -> None:
    check_count(len(asked.records), "records")
    largest = stream.limits.largest_record
    for index, entry in enumerate(asked.records, 1):
        if len(entry.data) > largest:
            where = "record.data" if asked.alone else f"records.{index}.member.data"
            most = f"have length less than or equal to {largest}"
            raise invalid(BUFFER, where, most)
    if sum(len(entry.data) for entry in asked.records) > stream.limits.request_bytes:
        mib = stream.limits.request_bytes // (1024 * 1024)
        raise AwsError(INVALID_ARGUMENT, f"Records size exceeds {mib} MB limit")
