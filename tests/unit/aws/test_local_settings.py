"""What is wrong on this machine pauses a lane, names the variable or file, and is found mended."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import certifi
import pytest
import structlog
from botocore.exceptions import EndpointConnectionError, HTTPClientError

from forwarder.aws import local_settings
from forwarder.aws.session import AwsSession
from forwarder.aws.time_limits import TimeLimits
from forwarder.config.connection import Connection
from forwarder.config.credentials import (
    AccessKeys,
    AssumedRole,
    Credentials,
    DefaultCredentials,
    KeyOrigin,
)
from forwarder.config.targets import FirehoseTarget as Line
from forwarder.config.targets import KinesisTarget, PutMode
from forwarder.model import Outcome, OutcomeKind
from forwarder.ops import logs
from forwarder.sinks.firehose import FirehoseSink
from forwarder.sinks.kinesis import KinesisSink
from tests.services.fake_kinesis import LOADER, Error, FakeKinesis, batch

ROLE = AssumedRole("arn:aws:iam::111122223333:role/r", "orgid:1111")
KEYS = AccessKeys("AKIA", "secret")


@pytest.fixture
async def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[FakeKinesis]:
    for name in list(os.environ):
        if name.startswith("AWS_") or name.upper() in {"HTTPS_PROXY", "HTTP_PROXY"}:
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIABASE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    service = FakeKinesis()
    await service.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", service.url)
    yield service
    await service.stop()


DEFAULT = DefaultCredentials()
LIMITS = TimeLimits()


class Lane:
    """A sink, and what it answers for one batch after the other."""

    def __init__(
        self,
        fake: FakeKinesis,
        credentials: Credentials = DEFAULT,
        url: str = "",
        limits: TimeLimits = LIMITS,
    ) -> None:
        self.clock = fake.clock
        self.aws = AwsSession(fake.clock, LOADER, limits=limits)
        target = KinesisTarget("acme", "eu-west-1", put=PutMode.RECORDS, endpoint_url=url or None)
        self.sink = KinesisSink(
            Connection("acme", target, credentials=credentials), target, self.aws
        )
        self.number = 0

    async def put(self) -> Outcome:
        self.number += 1
        self.clock.now += 60
        (outcome,) = await self.sink.put([batch(self.number)])
        return outcome

    async def close(self) -> None:
        await self.sink.close()
        await self.aws.close()


async def paused(lane: Lane, *named: str) -> None:
    outcome = await lane.put()
    assert (OutcomeKind.CONFIGURATION, "LocalSetting") == (outcome.kind, outcome.code), outcome
    for name in named:
        assert name in outcome.error
    assert outcome.remedy
    assert outcome.error.endswith(outcome.remedy)


@pytest.mark.parametrize("content", [None, "", "no certificate"])
async def test_authorities_that_cannot_be_loaded(
    fake: FakeKinesis, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str | None
) -> None:
    bundle = tmp_path / "authorities.pem"
    if content is not None:
        bundle.write_text(content)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))
    lane = Lane(fake, KEYS)
    await paused(lane, "AWS_CA_BUNDLE", str(bundle))
    bundle.write_text(Path(certifi.where()).read_text())
    assert OutcomeKind.DELIVERED is (await lane.put()).kind
    await lane.close()


@pytest.mark.parametrize("credentials", [DEFAULT, ROLE], ids=["chain", "role"])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AWS_ACCESS_KEY_ID", "AKIABASE\n"),
        ("AWS_ACCESS_KEY_ID", "AKIA\r\nX-Needle: 1"),
        ("AWS_SESSION_TOKEN", "token\n"),
    ],
)
async def test_keys_in_the_environment_that_no_header_holds(
    fake: FakeKinesis,
    monkeypatch: pytest.MonkeyPatch,
    credentials: Credentials,
    name: str,
    value: str,
) -> None:
    monkeypatch.setenv(name, value)
    lane = Lane(fake, credentials)
    await paused(lane, name)
    assert "Needle" not in (await lane.put()).error
    await lane.close()


async def test_keys_with_a_blank_that_aws_rejects_name_the_variable(
    fake: FakeKinesis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret ")
    fake.answers("PutRecords", *[Error("InvalidSignatureException", 403)] * 2)
    lane = Lane(fake)
    outcome = await lane.put()
    assert OutcomeKind.CONFIGURATION is outcome.kind
    assert "AWS_SECRET_ACCESS_KEY" in outcome.remedy
    await lane.close()


@pytest.mark.parametrize("content", [None, "", "  \n"])
@pytest.mark.parametrize("credentials", [DEFAULT, ROLE], ids=["chain", "role"])
async def test_a_web_identity_s_token_file(
    fake: FakeKinesis,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    credentials: Credentials,
    content: str | None,
) -> None:
    token = tmp_path / "token"
    if content is not None:
        token.write_text(content)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::111122223333:role/base")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token))
    lane = Lane(fake, credentials)
    await paused(lane, "AWS_WEB_IDENTITY_TOKEN_FILE", str(token))
    await lane.close()


async def test_a_credential_process_that_is_not_there(
    fake: FakeKinesis, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    config = tmp_path / "config"
    program = tmp_path / "program"
    config.write_text(f"[default]\ncredential_process = {program}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    lane = Lane(fake)
    await paused(lane, str(program), "credential_process")
    program.write_text("#!/bin/sh\necho needle >&2; exit 1\n")
    program.chmod(0o755)
    failed = await lane.put()
    assert (OutcomeKind.CONFIGURATION, "NoCredentials") == (failed.kind, failed.code)
    assert "credential_process" in failed.remedy
    keys = '{"Version": 1, "AccessKeyId": "AKIAX", "SecretAccessKey": "s"}'
    program.write_text(f"#!/bin/sh\necho '{keys}'\n")
    assert OutcomeKind.DELIVERED is (await lane.put()).kind
    await lane.close()


@pytest.mark.parametrize(
    "script",
    [
        "exec cat /dev/zero",
        "exec sleep 60",
        "exec cat /dev/zero >&2",
        "echo no json",
        "sleep 10 & exec cat /dev/zero",
    ],
)
async def test_a_credential_process_without_an_end(
    fake: FakeKinesis, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    program, config = tmp_path / "program", tmp_path / "config"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    config.write_text(f"[default]\ncredential_process = {program}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    lane = Lane(fake, limits=TimeLimits(program=1.0))
    outcome = await lane.put()
    assert OutcomeKind.CONFIGURATION is outcome.kind
    assert outcome.code in {"NoCredentials", "LocalSetting"}
    await lane.close()


async def test_a_config_file_that_cannot_be_parsed(
    fake: FakeKinesis, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = tmp_path / "config"
    config.write_text("not a section\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    lane = Lane(fake)
    await paused(lane, str(config))
    config.write_text("[default]\nregion = eu-west-1\n")
    assert OutcomeKind.DELIVERED is (await lane.put()).kind
    await lane.close()


async def test_a_profile_that_nobody_has_written(
    fake: FakeKinesis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    lane = Lane(fake)
    await paused(lane, "nobody", "AWS_PROFILE")
    await lane.close()


@pytest.mark.parametrize("url", ["http://[bad", "socks5://proxy.example:1", "http://x:port"])
async def test_a_proxy_that_is_none(
    fake: FakeKinesis, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", url)
    lane = Lane(fake, KEYS, url="https://127.0.0.1:9")
    await paused(lane, "HTTPS_PROXY")
    await lane.close()


@pytest.mark.parametrize(
    "name",
    [
        *("AWS_CA_BUNDLE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONFIG_FILE"),
        *("AWS_CREDENTIAL_FILE", "BOTO_CONFIG"),
    ],
)
@pytest.mark.parametrize("path", ["/dev/zero", "large"])
async def test_a_file_without_an_end_is_not_read(
    fake: FakeKinesis, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, path: str
) -> None:
    large = tmp_path / "large"
    with large.open("wb") as written:
        written.truncate(10 << 30)
    monkeypatch.setenv(name, str(tmp_path / path))
    lane = Lane(fake)
    await paused(lane, name, path)
    await lane.close()


@pytest.mark.parametrize("path", ["/dev/zero", "pipe", "large"])
async def test_authorities_that_a_profile_names(
    fake: FakeKinesis, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, path: str
) -> None:
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "large").open("wb") as written:
        written.truncate(local_settings.MAX_BUNDLE_BYTES + 1)
    config = tmp_path / "config"
    config.write_text(f"[default]\nca_bundle = {tmp_path / path}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    lane = Lane(fake, KEYS, url="https://127.0.0.1:9")
    await paused(lane, "ca_bundle", path)
    await lane.close()


async def test_what_the_library_says_of_it_has_no_traceback(
    fake: FakeKinesis,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::111122223333:role/base")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    logs.configure("info", "json")
    lane = Lane(fake)
    await paused(lane, "AWS_WEB_IDENTITY_TOKEN_FILE")
    await lane.close()
    structlog.reset_defaults()
    assert "traceback" not in capsys.readouterr().err.lower()


async def test_a_config_file_that_is_none_is_none(
    fake: FakeKinesis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    lane = Lane(fake)
    assert OutcomeKind.DELIVERED is (await lane.put()).kind
    await lane.close()


def test_what_is_in_order_has_no_fault(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("a token")
    fine = {
        "AWS_ACCESS_KEY_ID": "AKIA",
        "AWS_CA_BUNDLE": certifi.where(),
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(token),
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
        "HTTPS_PROXY": "http://user:password@proxy.example:3128",
        "HTTP_PROXY": "proxy.example:3128",
    }
    assert [] == list(local_settings.local_setting_faults(fine))
    assert local_settings.oversize_file(fine) is None


REJECTED = [
    "ExpiredTokenException",
    "InvalidClientTokenId",
    "UnrecognizedClientException",
    "InvalidSignatureException",
]


@pytest.mark.parametrize("code", REJECTED)
@pytest.mark.parametrize("action", ["PutRecords", "PutRecordBatch"])
async def test_keys_of_a_lane_s_own_are_the_ones_to_renew(
    fake: FakeKinesis, code: str, action: str
) -> None:
    keys = AccessKeys("AKIA", "secret", KeyOrigin(("/etc/acme.yaml", "/run/secret"), None))
    fake.answers(action, *[Error(code)] * 3)
    aws = AwsSession(fake.clock, LOADER)
    if action == "PutRecords":
        stream = KinesisTarget("acme", "eu-west-1", put=PutMode.RECORDS)
        sink: KinesisSink | FirehoseSink = KinesisSink(
            Connection("acme", stream, credentials=keys), stream, aws
        )
    else:
        line = Line("acme", "eu-west-1")
        sink = FirehoseSink(Connection("acme", line, credentials=keys), line, aws)
    (outcome,) = await sink.put([batch(1)])
    assert OutcomeKind.CONFIGURATION is outcome.kind
    for named in ("connection acme", "access_key_id", "/etc/acme.yaml", "/run/secret"):
        assert named in outcome.remedy
    assert "worker" not in outcome.remedy
    await sink.close()
    await aws.close()


@pytest.mark.parametrize("code", REJECTED)
async def test_a_role_s_lane_is_told_to_look_at_what_assumes_it(
    fake: FakeKinesis, code: str
) -> None:
    fake.answers("PutRecords", *[Error(code)] * 3)
    lane = Lane(fake, ROLE)
    outcome = await lane.put()
    assert ROLE.role_arn in outcome.remedy
    assert "the worker's own credentials" in outcome.remedy
    fake.answers("AssumeRole", *[Error(code)] * 3)
    await lane.close()
    other = Lane(fake, ROLE)
    assert "renew the worker's own credentials" in (await other.put()).remedy
    await other.close()


class BrokenError(OSError):
    """As the HTTP client tells of a broken connection, with whatever number TLS has for it."""


@pytest.mark.parametrize(
    "error",
    [
        HTTPClientError(error=UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")),
        HTTPClientError(error=BrokenError(1, "[SSL: BAD_RECORD_MAC]")),
        BrokenError(1, "[SSL: BAD_RECORD_MAC]"),
        OSError(24, "Too many open files"),
        TimeoutError(),
        EndpointConnectionError(endpoint_url="https://x"),
    ],
    ids=repr,
)
def test_what_the_network_says_is_no_fault_of_this_machine(error: Exception) -> None:
    assert local_settings.fault_of(error, {}) is None
