"""What the fake AWS does that no emulator does, each fault seen from the client's side."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError, HTTPClientError

from forwarder.aws import error_codes
from forwarder.aws import errors as classify
from tests.fake_aws import CUSTOMER_ROOT, ROOT, FakeAws, clients
from tests.fake_aws.errors import ERRORS
from tests.services.fake_kinesis import FakeClock

OURS = {
    classify.UNANSWERED,
    classify.LOCAL_SETTING,
    "CertificateError",
    "InvalidEndpoint",
    "NoCredentials",
}
"""Codes for what never reached AWS."""

Connect = Callable[..., Awaitable[Any]]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def aws(clock: FakeClock) -> AsyncIterator[FakeAws]:
    async with FakeAws(clock=clock) as aws:
        aws.make_stream("s")
        aws.make_stream("other")
        yield aws


@pytest.fixture
async def connect(aws: FakeAws) -> AsyncIterator[Connect]:
    async with AsyncExitStack() as opened:

        async def made(service: str, *keys: str) -> object:
            context = clients.connect(aws.url, service, *keys)
            return await opened.enter_async_context(context)

        yield made


@pytest.fixture
async def kinesis(connect: Connect) -> Any:  # noqa: ANN401  # the library makes it at run time
    return await connect("kinesis", *CUSTOMER_ROOT)


@pytest.fixture
async def sts(connect: Connect) -> Any:  # noqa: ANN401  # as above
    return await connect("sts", *ROOT)


def one(data: bytes = b"-", key: str = "a", stream: str = "s") -> dict[str, object]:
    return {"StreamName": stream, "PartitionKey": key, "Data": data}


def many(count: int, stream: str = "s", data: bytes = b"-") -> dict[str, object]:
    records = [{"PartitionKey": f"key-{n}", "Data": data} for n in range(count)]
    return {"StreamName": stream, "Records": records}


async def refused(call: Awaitable[object]) -> tuple[str, int]:
    with pytest.raises(ClientError) as error:
        await call
    response = error.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]


async def role(aws: FakeAws, sts: Any, connect: Connect, **faults: object) -> Any:  # noqa: ANN401
    """Return a client of Kinesis that signs with a new session of a role."""
    arn = aws.make_role("r", ["kinesis:*"], "orgid:1")
    assumed = {"RoleArn": arn, "RoleSessionName": "acme", "ExternalId": "orgid:1", **faults}
    given = (await sts.assume_role(**assumed))["Credentials"]
    keys = given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"]
    return await connect("kinesis", *keys)


def test_every_code_that_is_classified_can_be_made_to_happen() -> None:
    known = {classify.table_code(code) for code in ERRORS}
    assert error_codes.AWS_ERRORS.keys() - OURS <= known


async def test_an_error_is_told_as_the_service_tells_it(aws: FakeAws, kinesis: Any) -> None:  # noqa: ANN401
    for code, (status, message) in ERRORS.items():
        aws.fault("error", code=code, times=1)
        with pytest.raises(ClientError) as error:
            await kinesis.put_records(**many(2))
        response = error.value.response
        assert (code, message) == (response["Error"]["Code"], response["Error"]["Message"])
        assert status == response["ResponseMetadata"]["HTTPStatusCode"]
    assert aws.streams["s"].records == []


async def test_an_error_may_be_one_that_aws_does_not_have(aws: FakeAws, kinesis: Any) -> None:  # noqa: ANN401
    aws.fault("error", code="", status=502)
    assert ("502", 502) == await refused(kinesis.put_record(**one()))
    with pytest.raises(ValueError, match="unknown code 'NoSuchThing'"):
        aws.fault("error", code="NoSuchThing")


async def test_a_share_of_the_records_is_refused(aws: FakeAws, kinesis: Any) -> None:  # noqa: ANN401
    aws.fault("partial", stream="s", rate=0.2)
    told = await kinesis.put_records(**many(500))
    failed = [one for one in told["Records"] if "ErrorCode" in one]
    assert told["FailedRecordCount"] == len(failed)
    assert 50 < len(failed) < 150
    assert {one["ErrorCode"] for one in failed} == {"ProvisionedThroughputExceededException"}
    assert "Rate exceeded for shard shardId-00000000000" in failed[0]["ErrorMessage"]
    assert 500 - len(failed) == len(aws.streams["s"].records)


async def test_a_lost_answer_is_of_a_put_that_was_stored(aws: FakeAws, kinesis: Any) -> None:  # noqa: ANN401
    aws.fault("lost", times=1)
    with pytest.raises(HTTPClientError):
        await kinesis.put_records(**many(3))
    assert len(aws.streams["s"].records) == 3
    await kinesis.put_records(**many(3))
    assert len(aws.streams["s"].records) == 6


async def test_an_answer_instead_of_another_stores_nothing(aws: FakeAws, kinesis: Any) -> None:  # noqa: ANN401
    first = await kinesis.put_record(**one(b"1"))
    aws.fault("stray", moment="instead", times=1)
    again = await kinesis.put_record(**one(b"2"))
    assert first["SequenceNumber"] == again["SequenceNumber"]
    assert [b"1"] == aws.streams["s"].records


async def test_a_stray_answer_comes_where_nothing_was_asked(aws: FakeAws) -> None:
    host, port = aws.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    aws.fault("stray", service="sts", times=1)
    request = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 24\r\n\r\nAction=GetCallerIdentity"
    writer.write(request.encode())
    head = await reader.readuntil(b"\r\n\r\n")
    body = await reader.readexactly(int(head.split(b"Length: ")[1].split(b"\r\n")[0]))
    assert head == await reader.readuntil(b"\r\n\r\n")
    assert body == await reader.readexactly(len(body))
    writer.close()


async def test_a_reset_connection_stored_nothing(aws: FakeAws, kinesis: Any) -> None:  # noqa: ANN401
    aws.fault("reset", times=1)
    with pytest.raises(HTTPClientError):
        await kinesis.put_records(**many(3))
    assert aws.streams["s"].records == []


async def test_a_stalled_call_may_be_obeyed_later_or_never(aws: FakeAws, kinesis: Any) -> None:  # noqa: ANN401
    aws.fault("stall", delay=0.05, times=1)
    with pytest.raises(HTTPClientError):
        await kinesis.put_record(**one(b"never"))
    aws.fault("stall", delay=0.05, times=1, obeyed="late")
    await kinesis.put_record(**one(b"late"))
    assert aws.streams["s"].records == [b"late"]


async def test_a_slow_answer_comes(aws: FakeAws, kinesis: Any) -> None:  # noqa: ANN401
    aws.fault("slow", delay=0.05, shortest=0.01)
    await kinesis.put_record(**one())
    assert aws.streams["s"].records == [b"-"]


async def test_one_shard_alone_is_throttled(aws: FakeAws, kinesis: Any) -> None:  # noqa: ANN401
    aws.fault("throttle", stream="s", shard=1)
    told = await kinesis.put_records(**many(50))
    first, second = aws.streams["s"].shards
    assert told["FailedRecordCount"] == 50 - len(first.records) > 0
    assert second.records == []
    assert "shard shardId-000000000001" in str(told["Records"])


async def test_a_throttled_shard_may_take_a_few(
    aws: FakeAws,
    kinesis: Any,  # noqa: ANN401
    clock: FakeClock,
) -> None:
    aws.fault("throttle", stream="s", records_per_second=5)
    put = [{"PartitionKey": "a", "Data": b"-"}] * 20
    told = await kinesis.put_records(StreamName="s", Records=put)
    clock.now += 0.4
    again = await kinesis.put_records(StreamName="s", Records=put)
    assert [15, 18] == [told["FailedRecordCount"], again["FailedRecordCount"]]


async def test_a_fault_meets_what_it_was_asked_for(
    aws: FakeAws,
    kinesis: Any,  # noqa: ANN401
    sts: Any,  # noqa: ANN401
    clock: FakeClock,
) -> None:
    aws.fault("error", code="AccessDeniedException", stream="s", action="PutRecords", seconds=30)
    assert ("AccessDeniedException", 400) == await refused(kinesis.put_records(**many(1)))
    await kinesis.put_record(**one())
    await kinesis.put_records(**many(1, "other"))
    await sts.get_caller_identity()
    clock.now += 31
    await kinesis.put_records(**many(1))


async def test_faults_can_be_cleared(aws: FakeAws, kinesis: Any) -> None:  # noqa: ANN401
    first = aws.fault("error", code="InternalFailure")
    aws.fault("error", code="KMSDisabledException", stream="s")
    assert ("InternalFailure", 500) == await refused(kinesis.put_record(**one()))
    aws.clear(first)
    assert ("KMSDisabledException", 400) == await refused(kinesis.put_record(**one()))
    aws.clear(stream="s")
    await kinesis.put_record(**one())
    aws.fault("reset")
    aws.clear()
    await kinesis.put_record(**one())


async def test_a_session_ends(
    aws: FakeAws,
    connect: Connect,
    sts: Any,  # noqa: ANN401
    clock: FakeClock,
) -> None:
    aws.fault("lifetime", lifetime=5)
    kinesis = await role(aws, sts, connect)
    clock.now += 4.9
    await kinesis.put_record(**one())
    clock.now += 0.2
    assert ("ExpiredTokenException", 400) == await refused(kinesis.put_record(**one()))


async def test_sessions_can_be_revoked(aws: FakeAws, connect: Connect, sts: Any) -> None:  # noqa: ANN401
    before = await role(aws, sts, connect)
    aws.fault("revoke")
    after = await role(aws, sts, connect)
    assert ("ExpiredTokenException", 400) == await refused(before.put_record(**one()))
    await after.put_record(**one())


async def test_sts_can_be_down_alone(
    aws: FakeAws,
    connect: Connect,
    kinesis: Any,  # noqa: ANN401
    sts: Any,  # noqa: ANN401
) -> None:
    aws.fault("error", service="sts", code="ServiceUnavailable", times=1)
    aws.fault("error", service="sts", code="Throttling", times=1)
    aws.fault("reset", service="sts", times=1)
    await kinesis.put_record(**one())
    assert ("ServiceUnavailable", 503) == await refused(role(aws, sts, connect))
    assert ("Throttling", 400) == await refused(role(aws, sts, connect))
    with pytest.raises(HTTPClientError):
        await role(aws, sts, connect)
    await role(aws, sts, connect)


async def test_a_role_may_ask_for_another_external_id(
    aws: FakeAws,
    connect: Connect,
    sts: Any,  # noqa: ANN401
    clock: FakeClock,
) -> None:
    aws.fault("trust", external_id="orgid:2", seconds=10)
    assert ("AccessDenied", 403) == await refused(role(aws, sts, connect))
    await role(aws, sts, connect, ExternalId="orgid:2")
    clock.now += 11
    await role(aws, sts, connect)


async def test_a_stream_that_is_made_anew_knows_no_old_numbers(
    aws: FakeAws,
    kinesis: Any,  # noqa: ANN401
    clock: FakeClock,
) -> None:
    old = (await kinesis.put_record(**one()))["SequenceNumber"]
    aws.fault("deleted", stream="s", seconds=10)
    assert ("ResourceNotFoundException", 400) == await refused(kinesis.put_record(**one()))
    clock.now += 11
    after = kinesis.put_record(**one(), SequenceNumberForOrdering=old)
    assert ("InvalidArgumentException", 400) == await refused(after)
    told = await kinesis.put_record(**one(b"new"))
    assert int(old) < int(told["SequenceNumber"])
    assert aws.streams["s"].records == [b"new"]


@pytest.mark.parametrize(("by", "words"), [(900, "Signature expired"), (-900, "not yet current")])
async def test_a_clock_that_is_wrong_invalidates_signatures(
    aws: FakeAws,
    kinesis: Any,  # noqa: ANN401
    sts: Any,  # noqa: ANN401
    by: float,
    words: str,
) -> None:
    aws.fault("skew", by=by)
    assert ("SignatureDoesNotMatch", 403) == await refused(sts.get_caller_identity())
    with pytest.raises(ClientError, match=words) as error:
        await kinesis.put_record(**one())
    assert error.value.response["Error"]["Code"] == "InvalidSignatureException"


async def test_a_dry_run_checks_and_stores_nothing(aws: FakeAws, kinesis: Any) -> None:  # noqa: ANN401
    assert ("DryRunOperationException", 400) == await refused(
        kinesis.put_record(**one(), DryRun=True)
    )
    assert ("ValidationException", 400) == await refused(
        kinesis.put_records(**many(501), DryRun=True)
    )
    assert aws.streams["s"].records == []


def signed(aws: FakeAws, body: bytes, service: str = "kinesis") -> AWSRequest:
    headers = {"X-Amz-Target": "Kinesis_20131202.PutRecord"}
    request = AWSRequest("POST", f"{aws.url}/", headers=headers, data=body)
    SigV4Auth(Credentials(*CUSTOMER_ROOT), service, clients.REGION).add_auth(request)
    return request


async def sent(request: AWSRequest, body: bytes) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.post(request.url, data=body, headers=dict(request.headers.items())) as answer,
    ):
        told = await answer.json(content_type=None)
        return answer.status, told.get("__type", "")


async def test_a_signature_is_of_every_byte(aws: FakeAws) -> None:
    body = b'{"StreamName":"s","PartitionKey":"a","Data":"MTIz"}'
    assert await sent(signed(aws, body), body) == (200, "")
    forged = (400, "InvalidSignatureException")
    assert await sent(signed(aws, body), body.replace(b"MTIz", b"MTI0")) == forged
    other = signed(aws, body)
    other.headers.replace_header("X-Amz-Target", "Kinesis_20131202.PutRecords")
    assert await sent(other, body) == forged
    assert await sent(signed(aws, body, "firehose"), body) == forged
    assert aws.streams["s"].records == [b"123"]


async def test_a_body_that_cannot_be_read_is_refused(aws: FakeAws) -> None:
    assert await sent(signed(aws, b"{"), b"{") == (400, "SerializationException")
    assert await sent(signed(aws, b"{}"), b"{}") == (400, "ValidationException")


async def test_requests_may_come_in_pieces_or_together(aws: FakeAws) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(aws.url.rpartition(":")[2]))
    whole = b"POST /_control/clear HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}"
    for byte in whole:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0)
    writer.write(whole * 2)
    for _ in range(3):
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        assert await reader.readexactly(2) == b"{}"
    writer.close()
    await writer.wait_closed()
