"""Kinesis sinks over a service that misbehaves on request, as fixtures."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from forwarder.aws.session import AwsSession
from forwarder.aws.time_limits import TimeLimits
from forwarder.config.connection import Connection
from forwarder.config.credentials import AccessKeys, AssumedRole, Credentials
from forwarder.config.targets import KinesisTarget, PartitionKey, PutMode
from forwarder.model import Outcome, OutcomeKind
from forwarder.sinks.kinesis import KinesisSink
from tests.services.fake_kinesis import (
    LOADER,
    FakeKinesis,
    batch,
)

KEYS = AccessKeys("AKIA", "secret")
ROLE = AssumedRole("arn:aws:iam::111122223333:role/r", "orgid:1111")
STORED = Outcome(OutcomeKind.DELIVERED, shard="shardId-000000000000")
EIGHT = [batch(number) for number in range(8)]
HOUR = 3600.0
Open = Callable[..., KinesisSink]


@pytest.fixture
async def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[FakeKinesis]:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIABASE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    service = FakeKinesis()
    await service.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", service.url)
    yield service
    await service.stop()


@pytest.fixture
async def opened(fake: FakeKinesis, limits: TimeLimits) -> AsyncIterator[Open]:
    aws = AwsSession(fake.clock, LOADER, limits=limits)
    sinks: list[KinesisSink] = []

    def make(
        put: PutMode = PutMode.RECORDS,
        credentials: Credentials = KEYS,
        partition_key: PartitionKey = PartitionKey.DEVICE,
    ) -> KinesisSink:
        target = KinesisTarget("acme", "eu-west-1", partition_key=partition_key, put=put)
        connection = Connection(name="acme", sink=target, credentials=credentials)
        sinks.append(KinesisSink(connection, target, aws))
        return sinks[-1]

    yield make
    for sink in sinks:
        await sink.close()
    await aws.close()
    assert asyncio.all_tasks() - tasks_of_the_server() == {asyncio.current_task()}


def tasks_of_the_server() -> set["asyncio.Task[object]"]:
    return {task for task in asyncio.all_tasks() if "RequestHandler" in repr(task)}


def kinds(outcomes: "list[Outcome] | tuple[Outcome, ...]") -> list[OutcomeKind]:
    return [outcome.kind for outcome in outcomes]


async def put(sink: KinesisSink, number: int = 8) -> list[Outcome]:
    return list(await sink.put([batch(n) for n in range(number)]))


async def arrival(fake: FakeKinesis, calls: int) -> None:
    while len(fake.calls) < calls:  # noqa: ASYNC110  # the fake only counts
        await asyncio.sleep(0.001)
