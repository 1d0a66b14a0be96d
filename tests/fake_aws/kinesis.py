"""Kinesis Data Streams: PutRecord and PutRecords, with every limit AWS has."""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from tests.fake_aws.errors import (
    DRY_RUN,
    ERRORS,
    INVALID_ARGUMENT,
    SERIALIZATION,
    VALIDATION,
    AwsError,
    invalid,
)
from tests.fake_aws.faults import Call
from tests.fake_aws.shards import MAX_RECORDS, Shard, Stream
from tests.fake_aws.web import Reply
from tests.fake_aws.world import Gate, World

LONGEST_KEY = 256
BUFFER = "java.nio.HeapByteBuffer"
"""What AWS calls a value that it does not repeat."""
THROUGHPUT = "ProvisionedThroughputExceededException"


class Entry(msgspec.Struct, rename="pascal"):
    """One record of PutRecords."""

    partition_key: str
    data: bytes
    explicit_hash_key: str | None = None


class Many(msgspec.Struct, rename="pascal"):
    """PutRecords."""

    records: list[Entry]
    stream_name: str = ""
    stream_arn: str = msgspec.field(name="StreamARN", default="")
    dry_run: bool = False


class Single(Entry, rename="pascal", kw_only=True):
    """PutRecord."""

    stream_name: str = ""
    stream_arn: str = msgspec.field(name="StreamARN", default="")
    dry_run: bool = False
    sequence_number_for_ordering: str | None = None


class Put(NamedTuple):
    """A put as it came in, whichever of the two it is."""

    stream: str
    records: Sequence[Entry]
    dry_run: bool
    after: str | None
    alone: bool


class Stored(NamedTuple):
    """What is told of one record: its place, or a code and a message."""

    shard: str
    number: str
    code: str = ""
    message: str = ""


def read(action: str, body: bytes) -> Put:
    """Read a put; raises AwsError for a body that is none."""
    try:
        if action == "PutRecord":
            one = msgspec.json.decode(body, type=Single)
            after = one.sequence_number_for_ordering
            return Put(_name(one), [one], one.dry_run, after, alone=True)
        many = msgspec.json.decode(body, type=Many)
        return Put(_name(many), many.records, many.dry_run, None, alone=False)
    except msgspec.DecodeError as error:
        raise malformed(error) from None


def malformed(error: msgspec.DecodeError) -> AwsError:
    """Return AWS's error for a body that cannot be read."""
    if "missing required field" in str(error):
        return AwsError(VALIDATION, f"1 validation error detected: {error}")
    return AwsError(SERIALIZATION)


def put(world: World, call: Call, asked: Put, account: str) -> tuple[Reply, list[bytes]]:
    """Store what can be stored; return the answer, and what was stored in order."""
    stream = world.stream(call, account)
    _check(stream, asked)
    if asked.dry_run:
        raise AwsError(DRY_RUN)
    gate, at = world.gate(call), world.now()
    told = [_store(stream, entry, gate, at) for entry in asked.records]
    pairs = zip(asked.records, told, strict=True)
    values = [entry.data for entry, one in pairs if not one.code]
    if not asked.alone:
        return _many(told), values
    (one,) = told
    if one.code:
        raise AwsError(one.code, one.message)
    return Reply.of({"ShardId": one.shard, "SequenceNumber": one.number}), values


def _store(stream: Stream, entry: Entry, gate: Gate, at: float) -> Stored:
    shard = stream.shard(entry.partition_key, entry.explicit_hash_key)
    fault = gate.refuses()
    if fault is not None:
        code = fault.code or THROUGHPUT
        return Stored("", "", code, fault.message or _message(code, stream, shard))
    size = len(entry.data) + len(entry.partition_key.encode())
    if gate.throttles(shard.number, size, shard.bucket):
        stream.throttled += 1
        return Stored("", "", THROUGHPUT, _message(THROUGHPUT, stream, shard))
    return Stored(shard.name, stream.store(shard, entry.partition_key, entry.data, at))


def _message(code: str, stream: Stream, shard: Shard) -> str:
    if code != THROUGHPUT:
        return ERRORS.get(code, (0, "Internal Service Failure"))[1]
    where = f"shard {shard.name} in stream {stream.name} under account {stream.account}"
    return f"Rate exceeded for {where}."


def _many(told: Sequence[Stored]) -> Reply:
    failed = sum(1 for one in told if one.code)
    records = [
        {"ErrorCode": one.code, "ErrorMessage": one.message}
        if one.code
        else {"ShardId": one.shard, "SequenceNumber": one.number}
        for one in told
    ]
    return Reply.of({"FailedRecordCount": failed, "Records": records})


def _check(stream: Stream, asked: Put) -> None:
    """Refuse the whole request for any record that AWS would not take."""
    check_count(len(asked.records), "records")
    total = 0
    for index, entry in enumerate(asked.records, 1):
        where = "" if asked.alone else f"records.{index}.member."
        _check_key(entry.partition_key, f"{where}partitionKey")
        size = len(entry.data) + len(entry.partition_key.encode())
        if size > stream.limits.largest_record:
            most = f"have length less than or equal to {stream.limits.largest_record}"
            raise invalid(BUFFER, f"{where}data", most)
        total += size
    if total > stream.limits.request_bytes:
        mib = stream.limits.request_bytes // (1024 * 1024)
        raise AwsError(INVALID_ARGUMENT, f"Records size exceeds {mib} MB limit")
    if asked.after is not None and not stream.knows(asked.after):
        text = (
            f"ExclusiveMinimumSequenceNumber {asked.after} used in PutRecord on stream"
            f" {stream.name} under account {stream.account} is invalid."
        )
        raise AwsError(INVALID_ARGUMENT, text)


def check_count(count: int, field: str) -> None:
    """Refuse none at all, and more records than a request may hold."""
    if count == 0:
        raise invalid(count, field, "have length greater than or equal to 1")
    if count > MAX_RECORDS:
        raise invalid(count, field, f"have length less than or equal to {MAX_RECORDS}")


def _check_key(key: str, field: str) -> None:
    if not key:
        raise invalid(key, field, "have length greater than or equal to 1")
    if len(key) > LONGEST_KEY:
        raise invalid(key, field, f"have length less than or equal to {LONGEST_KEY}")


def _name(asked: Many | Single) -> str:
    return asked.stream_name or asked.stream_arn.rpartition("/")[2]
