"""Kinesis beside the puts: what tests and people need to make streams and to read them back."""

import base64
from collections.abc import Callable

import msgspec

from tests.fake_aws.errors import RESOURCE_IN_USE, RESOURCE_NOT_FOUND, UNKNOWN_OPERATION, AwsError
from tests.fake_aws.faults import Call
from tests.fake_aws.kinesis import malformed
from tests.fake_aws.shards import Shard, Stream
from tests.fake_aws.web import Reply
from tests.fake_aws.world import World

MOST = 10_000
"""AWS limit of GetRecords; it returns 10 MiB at most as well, which is not imitated."""


class Asked(msgspec.Struct, rename="pascal"):
    """Any of these calls."""

    stream_name: str = ""
    stream_arn: str = msgspec.field(name="StreamARN", default="")
    shard_count: int = 1
    shard_id: str = ""
    shard_iterator: str = ""
    shard_iterator_type: str = "TRIM_HORIZON"
    starting_sequence_number: str = ""
    limit: int = MOST


def read(body: bytes) -> Asked:
    """Read a call; raises AwsError for a body that is none."""
    try:
        asked = msgspec.json.decode(body, type=Asked)
    except msgspec.DecodeError as error:
        raise malformed(error) from None
    name = asked.shard_iterator.partition("|")[0] or asked.stream_arn.rpartition("/")[2]
    return msgspec.structs.replace(asked, stream_name=asked.stream_name or name)


def obey(world: World, call: Call, asked: Asked, account: str) -> Reply:
    """Answer a call; raises AwsError."""
    made = _ACTIONS.get(call.action)
    if made is None:
        raise AwsError(UNKNOWN_OPERATION)
    return Reply.of(made(world, call, asked, account))


def _create(world: World, call: Call, asked: Asked, account: str) -> object:
    if call.stream in world.streams:
        text = f"Stream {call.stream} under account {account} already exists."
        raise AwsError(RESOURCE_IN_USE, text)
    world.make_stream(call.stream, account, asked.shard_count)
    return {}


def _delete(world: World, call: Call, _: Asked, account: str) -> object:
    world.stream(call, account)
    del world.streams[call.stream]
    return {}


def _list(world: World, _: Call, __: Asked, account: str) -> object:
    names = sorted(name for name, one in world.streams.items() if one.account == account)
    return {"StreamNames": names, "HasMoreStreams": False}


def _describe(world: World, call: Call, _: Asked, account: str) -> object:
    stream = world.stream(call, account)
    summary = {
        "StreamName": stream.name,
        "StreamARN": f"arn:aws:kinesis:us-east-1:{account}:stream/{stream.name}",
        "StreamStatus": "ACTIVE",
        "RetentionPeriodHours": 24,
        "StreamCreationTimestamp": 0,
        "EnhancedMonitoring": [],
        "OpenShardCount": len(stream.shards),
    }
    return {"StreamDescriptionSummary": summary}


def _shards(world: World, call: Call, _: Asked, account: str) -> object:
    told = [
        {
            "ShardId": shard.name,
            "HashKeyRange": {
                "StartingHashKey": str(shard.start),
                "EndingHashKey": str(shard.end),
            },
            "SequenceNumberRange": {"StartingSequenceNumber": "0"},
        }
        for shard in world.stream(call, account).shards
    ]
    return {"Shards": told}


def _iterator(world: World, call: Call, asked: Asked, account: str) -> object:
    shard = _shard(world.stream(call, account), asked.shard_id)
    start = asked.starting_sequence_number
    numbers = [int(record.sequence_number) for record in shard.records]
    first = {
        "TRIM_HORIZON": 0,
        "LATEST": len(numbers),
        "AT_SEQUENCE_NUMBER": sum(one < int(start or 0) for one in numbers),
        "AFTER_SEQUENCE_NUMBER": sum(one <= int(start or 0) for one in numbers),
    }
    return {"ShardIterator": f"{call.stream}|{shard.name}|{first[asked.shard_iterator_type]}"}


def _records(world: World, call: Call, asked: Asked, account: str) -> object:
    _, name, first = asked.shard_iterator.split("|")
    shard = _shard(world.stream(call, account), name)
    found = shard.records[int(first) : int(first) + asked.limit]
    told = [
        {
            "SequenceNumber": record.sequence_number,
            "ApproximateArrivalTimestamp": record.at,
            "Data": base64.b64encode(record.value).decode(),
            "PartitionKey": record.partition_key,
        }
        for record in found
    ]
    following = f"{call.stream}|{name}|{int(first) + len(found)}"
    return {"Records": told, "NextShardIterator": following, "MillisBehindLatest": 0}


def _shard(stream: Stream, name: str) -> Shard:
    for shard in stream.shards:
        if shard.name == name:
            return shard
    text = f"Shard {name} in stream {stream.name} does not exist"
    raise AwsError(RESOURCE_NOT_FOUND, text)


_ACTIONS: dict[str, Callable[[World, Call, Asked, str], object]] = {
    "CreateStream": _create,
    "DeleteStream": _delete,
    "DescribeStreamSummary": _describe,
    "GetRecords": _records,
    "GetShardIterator": _iterator,
    "ListShards": _shards,
    "ListStreams": _list,
}
