"""Keyrings: when STS is called, when it is not, and what a client signs with."""

import asyncio
import os
import traceback
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from botocore.credentials import ReadOnlyCredentials
from botocore.exceptions import (
    ClientError,
    EndpointConnectionError,
    NoCredentialsError,
    NoRegionError,
    SSLError,
)

from forwarder.aws.credentials import AssumedKeys, RoleError, RoleKeys
from forwarder.aws.errors import UNANSWERED, AwsFailure
from forwarder.aws.session import AwsSession, describe_error, role_session_name
from forwarder.clock import SystemClock
from forwarder.config.credentials import AccessKeys, AssumedRole, DefaultCredentials
from forwarder.model import Outcome, OutcomeKind
from tests.services.fake_kinesis import LOADER, Error, FakeClock, FakeKinesis, Lost

REFUSED = RoleError(Outcome(OutcomeKind.CONFIGURATION, "AccessDenied", "cannot assume"))
ROLE = AssumedRole("arn:aws:iam::111122223333:role/r", "orgid:1111")


class Sts:
    """Counts calls; each gives keys named after it, an error, or waits to be let through."""

    def __init__(self) -> None:
        self.calls = 0
        self.error: RoleError | None = None
        self.open = asyncio.Event()
        self.open.set()

    async def assume(self) -> AssumedKeys:
        self.calls += 1
        number = self.calls
        await self.open.wait()
        if self.error is not None:
            raise self.error
        return AssumedKeys(ReadOnlyCredentials(f"ASIA{number}", "secret", "token"), 3600.0)


class Ring:
    """A role's keyring with a clock and an STS of its own."""

    def __init__(self, jitter: float = 0.0) -> None:
        self.clock = FakeClock()
        self.sts = Sts()
        self.keys = RoleKeys(self.sts.assume, self.clock, lambda: jitter)

    async def sign(self) -> str:
        return str((await self.keys.get_frozen_credentials()).access_key)

    async def sign_later(self, seconds: float) -> str:
        """Sign after some time, and let a refresh that this began finish."""
        self.clock.now += seconds
        name = await self.sign()
        await turns()
        return name


async def turns() -> None:
    """Let every task run until it waits for something outside."""
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture
async def ring() -> AsyncIterator[Ring]:
    made = Ring()
    yield made
    await made.keys.close()


async def test_any_number_of_first_puts_call_sts_once(ring: Ring) -> None:
    assert await asyncio.gather(*(ring.sign() for _ in range(50))) == ["ASIA1"] * 50
    assert ring.sts.calls == 1


async def test_keys_are_used_until_half_life_without_a_call(ring: Ring) -> None:
    assert await ring.sign() == "ASIA1"
    assert await ring.sign_later(1799) == "ASIA1"
    assert ring.sts.calls == 1


async def test_from_half_life_on_they_are_refreshed_behind_the_put(ring: Ring) -> None:
    await ring.sign()
    ring.sts.open.clear()
    assert await ring.sign_later(1801) == "ASIA1"
    assert await ring.sign_later(1) == "ASIA1"
    assert ring.sts.calls == 2
    ring.sts.open.set()
    await turns()
    assert await ring.sign_later(1) == "ASIA2"
    assert ring.sts.calls == 2


async def test_jitter_puts_off_a_refresh_by_a_tenth_at_most() -> None:
    ring = Ring(jitter=0.999)
    await ring.sign()
    await ring.sign_later(2150)
    assert ring.sts.calls == 1
    await ring.sign_later(10)
    assert ring.sts.calls == 2
    await ring.keys.close()


async def test_while_sts_is_down_keys_serve_until_they_expire(ring: Ring) -> None:
    await ring.sign()
    ring.sts.error = REFUSED
    for _ in range(17):
        assert await ring.sign_later(200) == "ASIA1"
    ring.clock.now += 200
    with pytest.raises(RoleError):
        await ring.sign()


async def test_a_failed_refresh_is_not_repeated_per_put(ring: Ring) -> None:
    await ring.sign()
    ring.sts.error = REFUSED
    for _ in range(10):
        await ring.sign_later(1801 / 10 if ring.sts.calls < 2 else 0.1)
    assert ring.sts.calls == 2


async def test_a_refusal_is_remembered_and_then_asked_about_again(ring: Ring) -> None:
    ring.sts.error = REFUSED
    for _ in range(5):
        with pytest.raises(RoleError):
            await ring.sign()
    assert ring.sts.calls == 1
    ring.clock.now += 4.9
    with pytest.raises(RoleError):
        await ring.sign()
    assert ring.sts.calls == 1
    ring.sts.error = None
    ring.clock.now += 0.2
    assert await ring.sign() == "ASIA2"


async def test_concurrent_first_puts_are_all_refused_by_one_call(ring: Ring) -> None:
    ring.sts.error = REFUSED
    told = await asyncio.gather(*(ring.sign() for _ in range(9)), return_exceptions=True)
    assert [one.outcome for one in told if isinstance(one, RoleError)] == [REFUSED.outcome] * 9
    assert ring.sts.calls == 1


async def test_a_refusal_keeps_nothing_of_the_puts_it_answered(ring: Ring) -> None:
    ring.sts.error = REFUSED
    frames = []
    for _ in range(9):
        with pytest.raises(RoleError) as told:
            await ring.sign()
        frames.append(len(list(traceback.walk_tb(told.value.__traceback__))))
    assert len(set(frames[1:])) == 1
    assert ring.sts.calls == 1


async def test_refusals_wait_longer_each_time_up_to_20_seconds() -> None:
    ring = Ring(jitter=0.999999)
    ring.sts.error = REFUSED
    waits = []
    for calls in range(1, 6):
        began = ring.clock.now
        while ring.sts.calls < calls:
            ring.clock.now += 0.5
            with pytest.raises(RoleError):
                await ring.sign()
        waits.append(ring.clock.now - began)
    assert waits[1:] == [5.0, 10.0, 20.0, 20.0]
    await ring.keys.close()


async def test_keys_that_were_rejected_are_replaced_once_for_all(ring: Ring) -> None:
    await ring.sign()
    rejected = ring.keys.generation
    assert await asyncio.gather(*(ring.keys.renew(rejected) for _ in range(9))) == [True] * 9
    assert ring.sts.calls == 2
    assert await ring.keys.renew(rejected) is True
    assert await ring.sign() == "ASIA2"
    assert ring.sts.calls == 2


async def test_keys_rejected_again_at_once_are_not_replaced_again(ring: Ring) -> None:
    await ring.sign()
    assert await ring.keys.renew(ring.keys.generation) is True
    assert await ring.keys.renew(ring.keys.generation) is False
    assert ring.sts.calls == 2
    ring.clock.now += 5
    assert await ring.keys.renew(ring.keys.generation) is True
    assert ring.sts.calls == 3


async def test_a_renewal_that_fails_says_why(ring: Ring) -> None:
    await ring.sign()
    ring.sts.error = REFUSED
    with pytest.raises(RoleError, match="cannot assume"):
        await ring.keys.renew(ring.keys.generation)


async def test_a_cancelled_put_does_not_take_the_call_from_others(ring: Ring) -> None:
    ring.sts.open.clear()
    first, second = asyncio.create_task(ring.sign()), asyncio.create_task(ring.sign())
    await turns()
    first.cancel()
    await turns()
    ring.sts.open.set()
    assert await second == "ASIA1"
    assert first.cancelled()


async def test_closing_ends_a_call_under_way() -> None:
    ring = Ring()
    await ring.sign()
    ring.sts.open.clear()
    await ring.sign_later(1801)
    await ring.keys.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Leave nothing of the caller's AWS settings; return a shared credentials file of the test."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return tmp_path / "credentials"


def write_keys(file: Path, name: str) -> None:
    file.write_text(f"[default]\naws_access_key_id = {name}\naws_secret_access_key = secret\n")


@pytest.fixture
async def fake(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeKinesis]:
    service = FakeKinesis()
    await service.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", service.url)
    yield service
    await service.stop()


@pytest.fixture
async def aws(environment: Path, fake: FakeKinesis) -> AsyncIterator[AwsSession]:
    write_keys(environment, "AKIABASE")
    shared = AwsSession(fake.clock, LOADER)
    yield shared
    await shared.close()


async def test_a_role_is_asked_for_as_its_trust_policy_wants(
    aws: AwsSession, fake: FakeKinesis
) -> None:
    keys = aws.make_keyring(ROLE, "eu-west-1", "acme: prod/ü")
    assert (await keys.get_frozen_credentials()).access_key == "ASIA1"
    await keys.close()
    (call,) = fake.calls
    assert (call.action, call.signed_by, call.service) == ("AssumeRole", "AKIABASE", "sts")
    assert call.form is not None
    assert {
        "RoleArn": ROLE.role_arn,
        "ExternalId": "orgid:1111",
        "RoleSessionName": "forwarder-acme--prod--",
        "DurationSeconds": "3600",
    }.items() <= call.form.items()


async def test_no_external_id_is_sent_where_there_is_none(
    aws: AwsSession, fake: FakeKinesis
) -> None:
    keys = aws.make_keyring(AssumedRole(ROLE.role_arn, None), "eu-west-1", "acme")
    await keys.get_frozen_credentials()
    await keys.close()
    assert "ExternalId" not in (fake.calls[0].form or {})


async def test_a_refused_role_is_told_in_words(aws: AwsSession, fake: FakeKinesis) -> None:
    fake.denied.add("AssumeRole")
    keys = aws.make_keyring(ROLE, "eu-west-1", "acme")
    with pytest.raises(RoleError) as told:
        await keys.get_frozen_credentials()
    await keys.close()
    assert told.value.outcome.kind is OutcomeKind.CONFIGURATION
    assert "with ExternalId orgid:1111: AccessDenied" in told.value.outcome.error


async def test_sts_out_of_order_is_waited_for(aws: AwsSession, fake: FakeKinesis) -> None:
    for answer in (Lost(stored=False), Error("InternalFailure", 500), Error("", 503)):
        fake.answers("AssumeRole", answer)
        keys = aws.make_keyring(ROLE, "eu-west-1", "acme")
        with pytest.raises(RoleError) as told:
            await keys.get_frozen_credentials()
        await keys.close()
        assert told.value.outcome.kind is OutcomeKind.TRANSIENT


async def test_expired_keys_of_the_worker_are_looked_up_anew(
    aws: AwsSession, fake: FakeKinesis, environment: Path
) -> None:
    keys = aws.make_keyring(ROLE, "eu-west-1", "acme")
    await keys.get_frozen_credentials()
    fake.expired.add("AKIABASE")
    write_keys(environment, "AKIANEXT")
    await keys.renew(keys.generation)
    await keys.close()
    assert [call.signed_by for call in fake.calls] == ["AKIABASE", "AKIABASE", "AKIANEXT"]


async def test_regions_have_sts_clients_of_their_own(aws: AwsSession, fake: FakeKinesis) -> None:
    for region in ("eu-west-1", "eu-west-1", "us-gov-west-1"):
        keys = aws.make_keyring(ROLE, region, "acme")
        await keys.get_frozen_credentials()
        await keys.close()
    assert [call.region for call in fake.calls] == ["eu-west-1", "eu-west-1", "us-gov-west-1"]


@pytest.mark.parametrize(
    ("expected", "region"),
    [
        ("https://sts.eu-west-1.amazonaws.com", "eu-west-1"),
        ("https://sts.us-east-1.amazonaws.com", "us-east-1"),
        ("https://sts.cn-north-1.amazonaws.com.cn", "cn-north-1"),
        ("https://sts.us-gov-west-1.amazonaws.com", "us-gov-west-1"),
    ],
)
@pytest.mark.usefixtures("environment")
async def test_sts_is_called_in_the_region_and_partition_of_the_stream(
    expected: str, region: str
) -> None:
    aws = AwsSession(SystemClock(), LOADER)
    client = await aws.client("sts", region, aws.make_keyring(DefaultCredentials(), region, "acme"))
    assert client.meta.endpoint_url == expected
    await client.close()


async def test_access_keys_are_used_as_they_are(aws: AwsSession) -> None:
    keys = aws.make_keyring(AccessKeys("AKIA", "secret"), "eu-west-1", "acme")
    given = await keys.get_frozen_credentials()
    assert (given.access_key, given.secret_key, given.token) == ("AKIA", "secret", None)
    assert await keys.renew(keys.generation) is False
    await keys.close()


async def test_a_chain_that_found_nothing_is_asked_again(environment: Path) -> None:
    aws = AwsSession(FakeClock(), LOADER)
    keys = aws.make_keyring(DefaultCredentials(), "eu-west-1", "acme")
    with pytest.raises(NoCredentialsError):
        await keys.get_frozen_credentials()
    write_keys(environment, "AKIALATE")
    assert (await keys.get_frozen_credentials()).access_key == "AKIALATE"
    await aws.close()


async def test_the_chain_is_searched_anew_once_its_keys_were_rejected(environment: Path) -> None:
    clock = FakeClock()
    aws = AwsSession(clock, LOADER)
    keys = aws.make_keyring(DefaultCredentials(), "eu-west-1", "acme")
    write_keys(environment, "AKIAOLD")
    await keys.get_frozen_credentials()
    write_keys(environment, "AKIANEW")
    assert (await keys.get_frozen_credentials()).access_key == "AKIAOLD"
    rejected = keys.generation
    assert await keys.renew(rejected) is True
    assert await keys.renew(rejected) is True
    assert await keys.renew(keys.generation) is False
    assert (await keys.get_frozen_credentials()).access_key == "AKIANEW"
    await aws.close()


@pytest.mark.parametrize("name", ["acme", "a:b", "ü" * 200, "x" * 200, ""])
def test_session_names_are_legal(name: str) -> None:
    made = role_session_name(name)
    assert 2 <= len(made) <= 64
    assert made.isascii()
    assert ":" not in made


def client_error() -> ClientError:
    told = {"Error": {"Code": "X", "Message": "m"}, "ResponseMetadata": {"HTTPStatusCode": 418}}
    return ClientError(told, "AssumeRole")


FAILURES: list[tuple[AwsFailure, Callable[[], Exception]]] = [
    (AwsFailure("AssumeRole", "X", 418, "m"), client_error),
    (
        AwsFailure("PutRecord", "NoCredentials", 0, "Unable to locate credentials"),
        NoCredentialsError,
    ),
    (
        AwsFailure(
            "PutRecord",
            "LocalSetting",
            0,
            "NoRegionError: You must specify a region.",
            "correct the AWS_… variable or the line of the AWS config file that says so",
        ),
        NoRegionError,
    ),
    (AwsFailure("PutRecord", "InvalidEndpoint", 0, "ValueError"), lambda: ValueError("endpoint")),
    (AwsFailure("PutRecord", UNANSWERED, 0, "TimeoutError"), TimeoutError),
    (AwsFailure("PutRecord", UNANSWERED, 0, "KeyError"), lambda: KeyError("needle")),
    (
        AwsFailure("PutRecord", UNANSWERED, 0, "EndpointConnectionError"),
        lambda: EndpointConnectionError(endpoint_url="http://x"),
    ),
    (
        AwsFailure("PutRecord", "CertificateError", 0, "SSLError"),
        lambda: SSLError(endpoint_url="https://x", error="certificate verify failed"),
    ),
    (
        AwsFailure("PutRecord", UNANSWERED, 0, "SSLError"),
        lambda: SSLError(endpoint_url="https://x", error="reset"),
    ),
]


@pytest.fixture(params=FAILURES, ids=lambda pair: pair[0].code + "-" + pair[0].message)
def failing(request: pytest.FixtureRequest) -> tuple[AwsFailure, Exception]:
    expected, make = request.param
    return expected, make()


def test_errors_of_the_library_become_failures(failing: tuple[AwsFailure, Exception]) -> None:
    expected, error = failing
    assert describe_error(error, "PutRecord") == expected
