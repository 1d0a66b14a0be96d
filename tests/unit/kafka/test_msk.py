"""Tokens for Amazon MSK: made by AWS's signer, shared, renewed in time."""

import asyncio
import base64
import contextlib
import os
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from aiokafka.errors import AuthenticationFailedError

from forwarder.aws import msk_token
from forwarder.aws.time_limits import TimeLimits
from forwarder.clock import SystemClock
from forwarder.config.settings import Mechanism, Security, SecurityProtocol
from forwarder.errors import TokenError
from forwarder.kafka import client, msk
from forwarder.kafka.msk import MskToken, MskTokenCache
from tests.services.fake_kinesis import Error, FakeClock, FakeKinesis

MSK = Security(SecurityProtocol.SASL_SSL, Mechanism.AWS_MSK_IAM, region="eu-west-1")
ROLE = "arn:aws:iam::111122223333:role/kafka"


class Signer:
    """Counts its tokens, which live for 15 minutes of the clock's, or fails."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.made = 0
        self.error: Exception | None = None

    async def sign(self) -> MskToken:
        self.made += 1
        if self.error is not None:
            raise self.error
        return MskToken(f"token-{self.made}", self.clock.wall_ms() + 900_000)


class Kept:
    """Tokens with a clock and a signer of their own."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.signer = Signer(self.clock)
        self.tokens = MskTokenCache(self.signer.sign, "MSK in eu-west-1", self.clock)

    async def later(self, seconds: float) -> str:
        self.clock.now += seconds
        return await self.tokens.get()


@pytest.fixture
def kept() -> Kept:
    return Kept()


async def test_clients_that_connect_at_once_share_one_token(kept: Kept) -> None:
    found = await asyncio.gather(*(kept.tokens.get() for _ in range(50)))
    assert {"token-1"} == set(found)
    assert 1 == kept.signer.made


async def test_a_token_is_made_anew_at_half_its_life(kept: Kept) -> None:
    assert "token-1" == await kept.later(0)
    assert "token-1" == await kept.later(449)
    assert "token-2" == await kept.later(2)


async def test_a_token_serves_until_shortly_before_its_end_while_none_can_be_made(
    kept: Kept,
) -> None:
    await kept.later(0)
    kept.signer.error = TimeoutError()
    assert "token-1" == await kept.later(869)
    with pytest.raises(AuthenticationFailedError, match="no token for Kafka, MSK in eu-west-1"):
        await kept.later(2)
    kept.signer.error = None
    assert "token-4" == await kept.later(2)


async def test_a_failure_is_not_repeated_for_every_connection(kept: Kept) -> None:
    kept.signer.error = TimeoutError()
    for _ in range(20):
        with pytest.raises(AuthenticationFailedError):
            await kept.later(0.1)
    assert 1 == kept.signer.made


async def test_a_token_that_the_broker_refuses_is_replaced(kept: Kept) -> None:
    assert "token-1" == await kept.later(0)
    kept.tokens.refused("token-1")
    assert "token-1" == await kept.later(0), "it was made a moment ago"
    kept.clock.now += 2
    kept.tokens.refused("another")
    assert "token-1" == await kept.later(0)
    kept.tokens.refused("token-1")
    assert "token-2" == await kept.later(0)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (TokenError("no AWS credentials found"), "MSK in eu-west-1: no AWS credentials found"),
        (OSError("a-secret"), "OSError; check the worker's own AWS credentials"),
    ],
)
async def test_what_failed_is_said_without_what_was_sent(
    error: Exception, expected: str, kept: Kept
) -> None:
    kept.signer.error = error
    with pytest.raises(AuthenticationFailedError) as told:
        await kept.tokens.get()
    assert expected in str(told.value)
    assert "a-secret" not in str(told.value)


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sign with keys of the test, whatever the caller has."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAOWN")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def claims(token: str) -> dict[str, list[str]]:
    """Return what a token says, as the broker reads it: a signed URL in base64."""
    url = urlsplit(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode())
    assert ("https", "kafka.eu-west-1.amazonaws.com") == (url.scheme, url.netloc)
    return parse_qs(url.query)


@pytest.mark.usefixtures("own")
async def test_a_token_is_a_signed_wish_to_connect_to_a_cluster_of_the_region() -> None:
    given = client.security_arguments(MSK)
    assert "OAUTHBEARER" == given["sasl_mechanism"]
    one = await given["sasl_oauth_token_provider"].token()
    other = client.security_arguments(MSK)["sasl_oauth_token_provider"]
    assert one == await other.token(), "the clients of a process share it"
    found = claims(one)
    assert ["kafka-cluster:Connect"] == found["Action"]
    assert ["900"] == found["X-Amz-Expires"]
    assert found["X-Amz-Credential"][0].startswith("AKIAOWN/")
    assert found["X-Amz-Credential"][0].endswith("/eu-west-1/kafka-cluster/aws4_request")
    assert 64 == len(found["X-Amz-Signature"][0])
    assert "X-Amz-Security-Token" not in found


@pytest.fixture
async def sts(own: None, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeKinesis]:  # noqa: ARG001  # set before
    service = FakeKinesis()
    await service.start()
    service.clock.now = 4_000_000_000.0
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", service.url)
    yield service
    await service.stop()


async def test_a_role_signs_where_one_is_named(sts: FakeKinesis) -> None:
    made = await msk.sign_token(Security(region="eu-west-1", role_arn=ROLE))
    found = claims(made.token)
    assert found["X-Amz-Credential"][0].startswith("ASIA1/")
    assert ["t"] == found["X-Amz-Security-Token"]
    [call] = sts.calls
    assert call.form is not None
    assert ROLE == call.form["RoleArn"]


async def test_a_role_that_is_refused_is_named(sts: FakeKinesis) -> None:
    sts.answers("AssumeRole", Error("AccessDenied", 403))
    provider = msk.token_provider(Security(region="eu-west-1", role_arn=ROLE))
    expected = "AssumeRole answered AccessDenied; check kafka.security.role_arn"
    with pytest.raises(AuthenticationFailedError, match=expected):
        await provider.token()


class Drip:
    """Answers with a byte now and then, until the client goes."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n")
            while not writer.is_closing():
                writer.write(b"<")
                await writer.drain()
                await asyncio.sleep(0.02)
        writer.close()
        self.gone.set()


@pytest.mark.usefixtures("own")
async def test_an_answer_without_an_end_keeps_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = ThreadPoolExecutor(1)
    asyncio.get_running_loop().set_default_executor(pool)
    drip = Drip()
    server = await asyncio.start_server(drip.answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"http://127.0.0.1:{port}")
    with pytest.raises(TokenError, match="AssumeRole was not answered"):
        await msk_token.sign_msk_token("eu-west-1", ROLE, SystemClock(), TimeLimits(assume=0.3))
    async with asyncio.timeout(10):
        assert 0 == await asyncio.to_thread(int)
        await drip.gone.wait()
    server.close()


@pytest.mark.usefixtures("own")
async def test_a_program_or_file_that_gives_no_keys_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    config = tmp_path / "config"
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    config.write_text("[default]\ncredential_process = sleep 60\n")
    for role in (None, ROLE):
        with pytest.raises(TokenError, match="check credential_process in the AWS config file"):
            await msk_token.sign_msk_token(
                "eu-west-1", role, SystemClock(), TimeLimits(program=0.2)
            )
    os.mkfifo(tmp_path / "token")
    named = f"web_identity_token_file = {tmp_path / 'token'}"
    config.write_text(f"[default]\nrole_arn = {ROLE}\n{named}\n")
    with pytest.raises(TokenError, match="correct web_identity_token_file"):
        await msk_token.sign_msk_token("eu-west-1", None, SystemClock())
    config.write_text("")
    with pytest.raises(TokenError, match="no AWS credentials found; give the worker some"):
        await msk_token.sign_msk_token("eu-west-1", ROLE, SystemClock())
