"""What the AWS emulator and the fake AWS answer alike, so that the fake cannot drift.

Where the emulator is known to answer otherwise than AWS, both answers stand in the test.
"""

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any, Protocol
from uuid import uuid4

import aiohttp
import pytest
from botocore.exceptions import ClientError

from tests.fake_aws import CUSTOMER_ACCOUNT, UNLIMITED, FakeAws, clients
from tests.services.ministack import MiniStack

# See tests/contract/test_sinks.py: the client library's advice about bodies of a few MiB.
pytestmark = pytest.mark.filterwarnings("ignore:Sending a large body directly:ResourceWarning")

MIB = 1024 * 1024

Session = tuple[str, str, str]


class Cloud(Protocol):
    """An AWS to make things in, with the same words for both."""

    name: str
    url: str

    def make_stream(self, name: str) -> None: ...
    def make_delivery_stream(self, name: str) -> None: ...
    def make_role(self, name: str, actions: Sequence[str], external_id: str | None) -> str: ...
    def make_user(self, name: str, actions: Sequence[str]) -> tuple[str, str]: ...


class Emulator:
    """MiniStack."""

    name = "emulator"

    def __init__(self, ministack: MiniStack) -> None:
        self._ministack = ministack
        self.url = ministack.endpoint()

    def make_stream(self, name: str) -> None:
        self._ministack.make_stream(name)

    def make_delivery_stream(self, name: str) -> None:
        self._ministack.make_delivery_stream(name)

    def make_role(self, name: str, actions: Sequence[str], external_id: str | None) -> str:
        return self._ministack.make_role(name, actions, external_id)

    def make_user(self, name: str, actions: Sequence[str]) -> tuple[str, str]:
        return self._ministack.make_user(name, actions)


class Fake:
    """The fake AWS, in this process."""

    name = "fake"

    def __init__(self, aws: FakeAws) -> None:
        self._aws = aws
        self.url = aws.url

    def make_stream(self, name: str) -> None:
        self._aws.make_stream(name, limits=UNLIMITED)

    def make_delivery_stream(self, name: str) -> None:
        self._aws.make_delivery_stream(name)

    def make_role(self, name: str, actions: Sequence[str], external_id: str | None) -> str:
        return self._aws.make_role(name, actions, external_id)

    def make_user(self, name: str, actions: Sequence[str]) -> tuple[str, str]:
        return self._aws.make_user(name, actions)


@pytest.fixture
async def fake() -> AsyncIterator[Cloud]:
    async with FakeAws() as aws:
        yield Fake(aws)


@pytest.fixture
def emulator(ministack: MiniStack) -> Cloud:
    return Emulator(ministack)


@pytest.fixture(params=["emulator", "fake"])
def cloud(request: pytest.FixtureRequest) -> Cloud:
    found: Cloud = request.getfixturevalue(request.param)
    return found


Connect = Callable[..., Awaitable[Any]]


@pytest.fixture
async def connect(cloud: Cloud) -> AsyncIterator[Connect]:
    """Yield what makes clients of the library for a service, of somebody's keys."""
    async with AsyncExitStack() as opened:

        async def made(service: str, key: str, secret: str, token: str | None = None) -> object:
            client = clients.connect(cloud.url, service, key, secret, token)
            return await opened.enter_async_context(client)

        yield made


@pytest.fixture
async def kinesis(connect: Connect) -> Any:  # noqa: ANN401  # the library makes it at run time
    return await connect("kinesis", CUSTOMER_ACCOUNT, "test")


@pytest.fixture
async def sts(connect: Connect) -> Any:  # noqa: ANN401  # as above
    return await connect("sts", "test", "test")


@pytest.fixture
async def firehose(connect: Connect) -> Any:  # noqa: ANN401  # as above
    return await connect("firehose", CUSTOMER_ACCOUNT, "test")


@pytest.fixture
def stream(cloud: Cloud) -> str:
    name = f"stream-{uuid4()}"
    cloud.make_stream(name)
    return name


async def refused(call: Awaitable[object]) -> tuple[str, int]:
    """Return code and status of a call that has to fail, as the library tells them."""
    with pytest.raises(ClientError) as error:
        await call
    response = error.value.response
    assert response["Error"]["Message"]
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]


async def read(kinesis: Any, stream: str) -> dict[str, list[tuple[str, bytes]]]:  # noqa: ANN401
    """Read a stream to its end: key and value of each record by shard."""
    found = {}
    for shard in (await kinesis.list_shards(StreamName=stream))["Shards"]:
        where = {"StreamName": stream, "ShardId": shard["ShardId"]}
        started = await kinesis.get_shard_iterator(**where, ShardIteratorType="TRIM_HORIZON")
        told = await kinesis.get_records(ShardIterator=started["ShardIterator"])
        records = [(record["PartitionKey"], record["Data"]) for record in told["Records"]]
        found[shard["ShardId"]] = records
    return found


def shard_of(key: str, shards: int) -> str:
    number = int.from_bytes(hashlib.md5(key.encode(), usedforsecurity=False).digest(), "big")
    return f"shardId-{number * shards >> 128:012d}"


async def test_what_was_put_can_be_read_back(kinesis: Any, stream: str) -> None:  # noqa: ANN401
    values = {f"key-{n}": b"\x00 \xff %d" % n for n in range(20)}
    await kinesis.put_record(StreamName=stream, PartitionKey="key-0", Data=values["key-0"])
    records = [{"PartitionKey": key, "Data": values[key]} for key in list(values)[1:]]
    await kinesis.put_records(StreamName=stream, Records=records)
    found = await read(kinesis, stream)
    assert values == {key: value for records in found.values() for key, value in records}
    assert all(shard_of(key, 2) == shard for shard in found for key, _ in found[shard])


async def test_an_answer_names_the_place_of_each_record(kinesis: Any, stream: str) -> None:  # noqa: ANN401
    keys = ["a", "b", "a", "c", "a"]
    records = [{"PartitionKey": key, "Data": b"-"} for key in keys]
    told = await kinesis.put_records(StreamName=stream, Records=records)
    assert told["FailedRecordCount"] == 0
    assert [shard_of(key, 2) for key in keys] == [one["ShardId"] for one in told["Records"]]
    numbers = [int(one["SequenceNumber"]) for one in told["Records"]]
    assert numbers[0] < numbers[2] < numbers[4]
    assert len(set(numbers)) == 5
    assert all("ErrorCode" not in one for one in told["Records"])


async def test_a_put_may_name_the_number_it_follows(kinesis: Any, stream: str) -> None:  # noqa: ANN401
    put = {"StreamName": stream, "PartitionKey": "a", "Data": b"-"}
    first = await kinesis.put_record(**put)
    after = await kinesis.put_record(**put, SequenceNumberForOrdering=first["SequenceNumber"])
    assert first["ShardId"] == after["ShardId"]
    assert int(first["SequenceNumber"]) < int(after["SequenceNumber"])


@pytest.mark.parametrize(
    "records",
    [
        [{"PartitionKey": "a", "Data": b"-"}, {"PartitionKey": "k", "Data": b"x" * (MIB + 1)}],
        [{"PartitionKey": "a", "Data": b"-"}] * 501,
    ],
    ids=["too-large", "too-many"],
)
async def test_a_request_beyond_a_limit_stores_nothing(
    kinesis: Any,  # noqa: ANN401
    stream: str,
    records: list[dict[str, object]],
) -> None:
    put = kinesis.put_records(StreamName=stream, Records=records)
    assert await refused(put) == ("ValidationException", 400)
    assert not any((await read(kinesis, stream)).values())


async def test_a_partition_key_counts_towards_its_record(
    cloud: Cloud,
    kinesis: Any,  # noqa: ANN401
    stream: str,
) -> None:
    put = kinesis.put_record(StreamName=stream, PartitionKey="k", Data=b"x" * MIB)
    if cloud.name == "emulator":  # which, unlike AWS, counts the value alone
        await put
    else:
        assert await refused(put) == ("ValidationException", 400)


async def test_a_request_needs_records(
    cloud: Cloud,
    kinesis: Any,  # noqa: ANN401
    stream: str,
) -> None:
    put = kinesis.put_records(StreamName=stream, Records=[])
    if cloud.name == "emulator":  # which, unlike AWS, does not mind
        await put
    else:
        assert await refused(put) == ("ValidationException", 400)


async def test_a_dry_run_stores_nothing(
    cloud: Cloud,
    kinesis: Any,  # noqa: ANN401
    stream: str,
) -> None:
    put = kinesis.put_record(StreamName=stream, PartitionKey="a", Data=b"-", DryRun=True)
    if cloud.name == "emulator":  # which, unlike AWS, stores the record: it is no probe
        await put
    else:
        assert await refused(put) == ("DryRunOperationException", 400)
    stored = sum(len(records) for records in (await read(kinesis, stream)).values())
    assert stored == {"emulator": 1, "fake": 0}[cloud.name]


async def test_a_stream_that_is_not_there_is_named(kinesis: Any) -> None:  # noqa: ANN401
    put = kinesis.put_record(StreamName="nowhere", PartitionKey="a", Data=b"-")
    with pytest.raises(kinesis.exceptions.ResourceNotFoundException, match="nowhere"):
        await put


async def test_a_stream_belongs_to_its_account(connect: Connect, stream: str) -> None:
    other = await connect("kinesis", "444455556666", "test")
    put = other.put_record(StreamName=stream, PartitionKey="a", Data=b"-")
    assert await refused(put) == ("ResourceNotFoundException", 400)


async def test_a_policy_for_one_action_refuses_the_other(
    cloud: Cloud, connect: Connect, stream: str
) -> None:
    one = {"StreamName": stream, "PartitionKey": "a", "Data": b"-"}
    many = {"StreamName": stream, "Records": [{"PartitionKey": "a", "Data": b"-"}]}
    single = await connect("kinesis", *cloud.make_user(f"u-{uuid4()}", ["kinesis:PutRecord"]))
    several = await connect("kinesis", *cloud.make_user(f"u-{uuid4()}", ["kinesis:PutRecords"]))
    await single.put_record(**one)
    await several.put_records(**many)
    # The emulator answers with 403, AWS with 400.
    denied = {("AccessDeniedException", 403 if cloud.name == "emulator" else 400)}
    assert denied == {
        await refused(single.put_records(**many)),
        await refused(several.put_record(**one)),
    }


async def test_a_wrong_secret_is_refused(cloud: Cloud, connect: Connect, stream: str) -> None:
    key, _ = cloud.make_user(f"u-{uuid4()}", ["kinesis:PutRecord"])
    forged = await connect("kinesis", key, "not-the-secret")
    put = forged.put_record(StreamName=stream, PartitionKey="a", Data=b"-")
    assert await refused(put) == ("InvalidSignatureException", 400)


async def test_a_key_that_nobody_has_is_refused(connect: Connect, stream: str) -> None:
    stranger = await connect("kinesis", "AKIAIOSFODNN7EXAMPLE", "secret")
    put = stranger.put_record(StreamName=stream, PartitionKey="a", Data=b"-")
    assert await refused(put) == ("UnrecognizedClientException", 400)


async def test_the_right_external_id_opens_a_role(
    cloud: Cloud,
    connect: Connect,
    sts: Any,  # noqa: ANN401
    stream: str,
) -> None:
    arn = cloud.make_role(f"r-{uuid4()}", ["kinesis:PutRecord"], "orgid:1")
    told = await sts.assume_role(RoleArn=arn, RoleSessionName="acme", ExternalId="orgid:1")
    given = told["Credentials"]
    assert f":assumed-role/{arn.rpartition('/')[2]}/acme" in told["AssumedRoleUser"]["Arn"]
    keys: Session = given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"]
    kinesis = await connect("kinesis", *keys)
    await kinesis.put_record(StreamName=stream, PartitionKey="a", Data=b"-")
    identity = await (await connect("sts", *keys)).get_caller_identity()
    assert identity["Account"] == CUSTOMER_ACCOUNT
    assert identity["Arn"] == told["AssumedRoleUser"]["Arn"]


@pytest.mark.parametrize("given", [{}, {"ExternalId": "orgid:2"}], ids=["none", "wrong"])
async def test_another_external_id_does_not(
    cloud: Cloud,
    sts: Any,  # noqa: ANN401
    given: dict[str, str],
) -> None:
    arn = cloud.make_role(f"r-{uuid4()}", ["kinesis:PutRecord"], "orgid:1")
    assume = sts.assume_role(RoleArn=arn, RoleSessionName="acme", **given)
    assert await refused(assume) == ("AccessDenied", 403)


async def test_a_session_without_its_token_is_nobody(
    cloud: Cloud,
    connect: Connect,
    sts: Any,  # noqa: ANN401
    stream: str,
) -> None:
    arn = cloud.make_role(f"r-{uuid4()}", ["kinesis:PutRecord"], "orgid:1")
    told = await sts.assume_role(RoleArn=arn, RoleSessionName="acme", ExternalId="orgid:1")
    given = told["Credentials"]
    kinesis = await connect("kinesis", given["AccessKeyId"], given["SecretAccessKey"])
    put = kinesis.put_record(StreamName=stream, PartitionKey="a", Data=b"-")
    assert await refused(put) == ("UnrecognizedClientException", 400)


async def test_a_call_that_nobody_signed_is_refused_in_json(cloud: Cloud) -> None:
    headers = {
        "X-Amz-Target": "Kinesis_20131202.PutRecord",
        "Content-Type": "application/x-amz-json-1.1",
    }
    async with (
        aiohttp.ClientSession() as session,
        session.post(cloud.url, data=b"{", headers=headers) as answer,
    ):
        assert answer.status == 400
        assert answer.content_type == "application/x-amz-json-1.1"
        told = await answer.json(content_type=None)
    assert told == {
        "__type": "MissingAuthenticationTokenException",
        "message": "Missing Authentication Token",
    }


async def test_an_answer_has_an_id_for_each_line(cloud: Cloud, firehose: Any) -> None:  # noqa: ANN401
    name = f"archive-{uuid4()}"
    cloud.make_delivery_stream(name)
    records = [{"Data": b"%d\n" % n} for n in range(3)]
    told = await firehose.put_record_batch(DeliveryStreamName=name, Records=records)
    assert told["FailedPutCount"] == 0
    assert len({one["RecordId"] for one in told["RequestResponses"]}) == 3
    assert all("ErrorCode" not in one for one in told["RequestResponses"])
    alone = await firehose.put_record(DeliveryStreamName=name, Record=records[0])
    assert alone["RecordId"]


async def test_too_many_lines_are_refused_as_a_whole(cloud: Cloud, firehose: Any) -> None:  # noqa: ANN401
    name = f"archive-{uuid4()}"
    cloud.make_delivery_stream(name)
    put = firehose.put_record_batch(DeliveryStreamName=name, Records=[{"Data": b"-"}] * 501)
    # The emulator has another code for it than AWS.
    code = {"emulator": "InvalidArgumentException", "fake": "ValidationException"}[cloud.name]
    assert await refused(put) == (code, 400)


async def test_a_line_that_is_too_large_is_refused_with_all_others(
    cloud: Cloud,
    firehose: Any,  # noqa: ANN401
) -> None:
    name = f"archive-{uuid4()}"
    cloud.make_delivery_stream(name)
    records = [{"Data": b"-"}, {"Data": b"x" * (1000 * 1024 + 1)}]
    put = firehose.put_record_batch(DeliveryStreamName=name, Records=records)
    if cloud.name == "emulator":  # which, unlike AWS, takes it
        await put
    else:
        assert await refused(put) == ("ValidationException", 400)


async def test_a_delivery_stream_that_is_not_there_is_named(firehose: Any) -> None:  # noqa: ANN401
    put = firehose.put_record_batch(DeliveryStreamName="nowhere", Records=[{"Data": b"-"}])
    with pytest.raises(firehose.exceptions.ResourceNotFoundException, match="nowhere"):
        await put
