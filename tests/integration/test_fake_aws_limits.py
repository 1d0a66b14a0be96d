"""AWS's limits, as the fake AWS keeps them."""

from collections.abc import AsyncIterator, Awaitable
from itertools import pairwise
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.fake_aws import CUSTOMER_ACCOUNT, CUSTOMER_ROOT, FakeAws, Limits, clients
from tests.fake_aws.policy import allow, allows, root_arn, trust, trusts
from tests.fake_aws.shards import Bucket, Stream
from tests.services.fake_kinesis import FakeClock

# See tests/contract/test_sinks.py: the client library's advice about bodies of a few MiB.
pytestmark = pytest.mark.filterwarnings("ignore:Sending a large body directly:ResourceWarning")

KIB = 1024
MIB = 1024 * KIB


@pytest.fixture
async def aws() -> AsyncIterator[FakeAws]:
    async with FakeAws(clock=FakeClock()) as aws:
        yield aws


@pytest.fixture
async def kinesis(aws: FakeAws) -> AsyncIterator[Any]:
    async with clients.connect(aws.url, "kinesis", *CUSTOMER_ROOT) as client:
        yield client


@pytest.fixture
async def firehose(aws: FakeAws) -> AsyncIterator[Any]:
    async with clients.connect(aws.url, "firehose", *CUSTOMER_ROOT) as client:
        yield client


async def refused(call: Awaitable[object]) -> tuple[str, str]:
    with pytest.raises(ClientError) as error:
        await call
    told = error.value.response["Error"]
    return told["Code"], told["Message"]


def test_a_bucket_takes_what_a_second_holds_and_fills_again() -> None:
    bucket = Bucket(records=10, volume=None)
    assert [True] * 10 + [False] * 2 == [bucket.take(1, now=100.0) for _ in range(12)]
    assert [True] * 5 + [False] == [bucket.take(1, now=100.5) for _ in range(6)]


def test_a_bucket_counts_bytes_too() -> None:
    bucket = Bucket(records=None, volume=1000)
    assert [True, False, True] == [bucket.take(size, now=100.0) for size in (600, 600, 400)]


def test_what_is_larger_than_a_bucket_waits_for_a_full_one_and_is_owed() -> None:
    bucket = Bucket(records=None, volume=1000)
    assert bucket.take(3000, now=100.0)
    assert not bucket.take(1, now=101.9)
    assert bucket.take(1, now=102.1)


def test_shards_share_all_hashes() -> None:
    stream = Stream("s", "000000000000", 3, Limits())
    bounds = [(shard.start, shard.end) for shard in stream.shards]
    assert bounds[0][0] == 0
    assert bounds[-1][1] == 2**128 - 1
    assert all(before[1] + 1 == after[0] for before, after in pairwise(bounds))
    for shard in stream.shards:
        assert shard is stream.shard("any", str(shard.start))
        assert shard is stream.shard("any", str(shard.end))


async def test_a_shard_takes_a_thousand_records_a_second(aws: FakeAws, kinesis: Any) -> None:  # noqa: ANN401
    aws.make_stream("s", shards=1)
    put = {"StreamName": "s", "Records": [{"PartitionKey": "a", "Data": b"-"}] * 400}
    failed = [(await kinesis.put_records(**put))["FailedRecordCount"] for _ in range(4)]
    assert [0, 0, 200, 400] == failed
    code, message = await refused(kinesis.put_record(StreamName="s", PartitionKey="a", Data=b"-"))
    assert code == "ProvisionedThroughputExceededException"
    where = f"shard shardId-000000000000 in stream s under account {CUSTOMER_ACCOUNT}"
    assert message == f"Rate exceeded for {where}."


async def test_a_request_holds_ten_mib(aws: FakeAws, kinesis: Any) -> None:  # noqa: ANN401
    aws.make_stream("s")
    records = [{"PartitionKey": "a", "Data": b"x" * 1000 * KIB}] * 11
    told = await refused(kinesis.put_records(StreamName="s", Records=records))
    assert told == ("InvalidArgumentException", "Records size exceeds 10 MB limit")


async def test_a_stream_may_take_larger_records(aws: FakeAws, kinesis: Any) -> None:  # noqa: ANN401
    aws.make_stream("s", limits=Limits(largest_record=2 * MIB))
    await kinesis.put_record(StreamName="s", PartitionKey="a", Data=b"x" * (2 * MIB - 1))
    put = kinesis.put_record(StreamName="s", PartitionKey="a", Data=b"x" * 2 * MIB)
    assert (await refused(put))[0] == "ValidationException"


async def test_a_delivery_stream_has_limits_of_its_own(aws: FakeAws, firehose: Any) -> None:  # noqa: ANN401
    stream = aws.make_delivery_stream("d")
    put = firehose.put_record_batch
    largest = {"Data": b"x" * 1000 * KIB}
    assert (await put(DeliveryStreamName="d", Records=[largest]))["FailedPutCount"] == 0
    assert await refused(put(DeliveryStreamName="d", Records=[largest] * 5)) == (
        "InvalidArgumentException",
        "Records size exceeds 4 MB limit",
    )
    larger = [{"Data": largest["Data"] + b"x"}]
    for records in (larger, [{"Data": b"-"}] * 501, []):
        call = put(DeliveryStreamName="d", Records=records)
        assert (await refused(call))[0] == "ValidationException"
    assert [largest["Data"]] == stream.records


async def test_a_delivery_stream_asks_to_slow_down(aws: FakeAws, firehose: Any) -> None:  # noqa: ANN401
    stream = aws.make_delivery_stream("d", limits=Limits(records_per_second=3))
    records = [{"Data": b"%d\n" % n} for n in range(5)]
    told = await firehose.put_record_batch(DeliveryStreamName="d", Records=records)
    assert told["FailedPutCount"] == 2
    assert {"ErrorCode": "ServiceUnavailableException", "ErrorMessage": "Slow down."} == told[
        "RequestResponses"
    ][4]
    assert [b"0\n", b"1\n", b"2\n"] == stream.records
    aws.clear()
    aws.fault("partial", rate=1, code="InternalFailure")
    call = firehose.put_record(DeliveryStreamName="d", Record={"Data": b"-"})
    assert (await refused(call))[0] == "InternalFailure"


def test_a_policy_denies_before_it_allows() -> None:
    deny = {"Effect": "Deny", "Action": "kinesis:PutRecords", "Resource": "*"}
    both = {"Statement": [allow(["kinesis:Put*"])["Statement"][0], deny]}
    assert allows(both, "kinesis:PutRecord", "arn")
    assert not allows(both, "kinesis:PutRecords", "arn")
    assert not allows(allow(["kinesis:*"], "arn:aws:kinesis:*:*:stream/a"), "kinesis:Put", "b")


def test_a_role_trusts_whom_it_names() -> None:
    user = "arn:aws:iam::1:user/u", root_arn("1")
    assert trusts(trust(root_arn("1")), user, None)
    assert trusts(trust("arn:aws:iam::1:user/u"), user, "any")
    assert not trusts(trust("arn:aws:iam::1:user/v"), user, None)
    assert trusts(trust(root_arn("1"), "orgid:1"), user, "orgid:1")
    assert not trusts(trust(root_arn("1"), "orgid:1"), user, "orgid:2")
    assert not trusts(trust(root_arn("1"), "orgid:1"), user, None)


def test_a_condition_that_nobody_understands_opens_nothing() -> None:
    guarded = trust(root_arn("1"))
    guarded["Statement"][0]["Condition"] = {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}
    assert not trusts(guarded, (root_arn("1"),), None)
