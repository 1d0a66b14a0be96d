"""No call begins once its put is too old to go on: whoever slept may have been replaced (D3)."""

import asyncio

import pytest
from botocore.credentials import ReadOnlyCredentials

from forwarder.aws.client import MAX_PUT_AGE_SECONDS
from forwarder.aws.http_connection import OneAnswerProtocol
from forwarder.aws.session import AwsSession
from forwarder.config.connection import Connection
from forwarder.config.targets import KinesisTarget, PutMode
from forwarder.sinks.kinesis import KinesisSink
from tests.services.fake_kinesis import LOADER, Call, Error, FakeKinesis, batch
from tests.services.kinesis_sinks import STORED, Open, fake, opened

__all__ = ["fake", "opened"]

SLEPT = MAX_PUT_AGE_SECONDS + 1


class SlowKeys:
    """Keys that take their time, once."""

    generation = 0

    def __init__(self, service: FakeKinesis) -> None:
        self.service = service
        self.slow = True

    async def get_frozen_credentials(self) -> ReadOnlyCredentials:
        if self.slow:
            self.slow = False
            self.service.clock.now += SLEPT
        return ReadOnlyCredentials("AKIA", "secret", None)

    async def renew(self, _generation: int) -> bool:
        self.service.clock.now += SLEPT
        self.generation += 1
        return True

    async def close(self) -> None:
        """Do nothing."""


class SlowSession(AwsSession):
    """A session all of whose connections sign with slow keys."""

    def __init__(self, service: FakeKinesis) -> None:
        super().__init__(service.clock, LOADER)
        self.keys = SlowKeys(service)

    def make_keyring(self, *_: object) -> SlowKeys:
        return self.keys


def slow_sink(aws: AwsSession, mode: PutMode) -> KinesisSink:
    target = KinesisTarget("acme", "eu-west-1", put=mode)
    return KinesisSink(Connection("acme", target), target, aws)


def sleep_at(service: FakeKinesis, number: int) -> None:
    """Let so long go by while the service reads its call ``number``."""
    read = service._read  # noqa: SLF001  # the test's own service

    async def slow(request: object) -> Call:
        call = await read(request)  # type: ignore[arg-type]
        if len(service.calls) + 1 == number:
            service.clock.now += SLEPT
        return call

    service._read = slow  # type: ignore[method-assign]  # noqa: SLF001


@pytest.mark.parametrize("mode", [PutMode.RECORD, PutMode.RECORDS])
async def test_nothing_is_sent_after_keys_that_came_too_late(
    fake: FakeKinesis, mode: PutMode
) -> None:
    sink = slow_sink(SlowSession(fake), mode)
    (outcome,) = await sink.put([batch(1)])
    assert [] == fake.actions()
    assert STORED != outcome
    assert [STORED] == await sink.put([batch(1)])
    await sink.close()


@pytest.mark.parametrize("mode", [PutMode.RECORD, PutMode.RECORDS])
async def test_renewed_keys_that_came_too_late_sign_nothing(
    fake: FakeKinesis, mode: PutMode
) -> None:
    aws = SlowSession(fake)
    aws.keys.slow = False
    sink = slow_sink(aws, mode)
    action = "PutRecord" if mode is PutMode.RECORD else "PutRecords"
    fake.answers(action, Error("ExpiredTokenException"))
    (outcome,) = await sink.put([batch(1)])
    assert [action] == fake.actions()
    assert STORED != outcome
    await sink.close()


async def test_a_number_that_is_refused_too_late_is_not_tried_without(
    fake: FakeKinesis, opened: Open
) -> None:
    sink = opened(PutMode.RECORD)
    assert [STORED] == await sink.put([batch(1)])
    fake.refuses_after = {f"{1:021d}"}
    sleep_at(fake, 2)
    (outcome,) = await sink.put([batch(1)])
    assert 2 == len(fake.actions())
    assert STORED != outcome


@pytest.mark.parametrize("mode", [PutMode.RECORD, PutMode.RECORDS])
async def test_nothing_is_sent_over_a_connection_that_came_too_late(
    fake: FakeKinesis, opened: Open, mode: PutMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = OneAnswerProtocol.connection_made

    def slow(self: OneAnswerProtocol, transport: asyncio.BaseTransport) -> None:
        made(self, transport)
        fake.clock.now += SLEPT

    monkeypatch.setattr(OneAnswerProtocol, "connection_made", slow)
    (outcome,) = await opened(mode).put([batch(1)])
    assert [] == fake.actions()
    assert STORED != outcome
