"""What delivery may rely on, asked of every sink; a sink joins by a ``Destination`` of its own."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Protocol
from uuid import uuid4

import pytest

from forwarder.aws.session import AwsSession
from forwarder.clock import SystemClock
from forwarder.config.connection import Connection
from forwarder.config.credentials import AccessKeys, AssumedRole
from forwarder.config.credentials import Credentials as ConnectionCredentials
from forwarder.config.targets import FirehoseTarget, KinesisTarget, PutMode
from forwarder.model import Outcome, OutcomeKind
from forwarder.sinks.contract import Sink
from forwarder.sinks.file import FileSink
from forwarder.sinks.firehose import FirehoseSink
from forwarder.sinks.kinesis import KinesisSink
from tests.fake_aws import UNLIMITED, UNLIMITED_FIREHOSE, FakeAws, Terms
from tests.services.fake_kinesis import LOADER, batch
from tests.services.ministack import REGION, MiniStack

# The client library's HTTP client would rather be given a file than one piece of 5 MiB, whose
# copying takes 1 ms; outside of tests Python ignores the category.
pytestmark = [
    pytest.mark.usefixtures("core"),
    pytest.mark.filterwarnings("ignore:Sending a large body directly:ResourceWarning"),
]

MIB = 1024 * 1024
PUT_RECORD = ("kinesis:PutRecord",)
PUT_RECORDS = ("kinesis:PutRecords",)
PUT_RECORD_BATCH = ("firehose:PutRecordBatch",)
NOTHING = ("kinesis:ListStreams",)


def kinds(outcomes: Sequence[Outcome]) -> list[OutcomeKind]:
    return [outcome.kind for outcome in outcomes]


class Destination(Protocol):
    """Somewhere to deliver to, seen from both ends; ``largest``: bytes of a document it takes."""

    largest: int

    def sink(self) -> Sink:
        """Return a sink that may write there."""

    def barred(self) -> Sink:
        """Return a sink that may not."""

    def admit(self) -> None:
        """Let the barred sink write."""

    def stored(self) -> list[bytes]:
        """Return what has arrived, in order for any one device where the sink keeps it."""


class Value(Protocol):
    """What was stored."""

    @property
    def value(self) -> bytes: ...


class Cloud(Protocol):
    """An AWS to make things in: the emulator, or the fake, which must not differ from it."""

    def make_stream(self, name: str) -> object: ...
    def make_delivery_stream(self, name: str) -> object: ...
    def make_role(self, name: str, actions: Sequence[str], external_id: str | None) -> str: ...
    def set_role_policy(self, name: str, actions: Sequence[str]) -> None: ...
    def read(self, stream: str) -> Sequence[Value]: ...
    def objects(self, name: str) -> Sequence[bytes]: ...


class Folder:
    largest = MIB - 32

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._barrier = folder / "acme.ndjson"

    def sink(self) -> Sink:
        return FileSink(self._folder, "acme")

    def barred(self) -> Sink:
        self._barrier.mkdir()
        return FileSink(self._folder, "acme")

    def admit(self) -> None:
        self._barrier.rmdir()

    def stored(self) -> list[bytes]:
        return self._barrier.read_bytes().splitlines()


class Stream:
    """A stream in an AWS, and one way of being allowed to write into it."""

    largest = MIB - 32  # the partition key counts too

    def __init__(self, cloud: Cloud, aws: AwsSession, put: PutMode, grant: tuple[str, ...]) -> None:
        self._cloud = cloud
        self._aws = aws
        self._put = put
        self._grant = grant
        self._name = f"stream-{uuid4()}"
        self._role = f"role-{uuid4()}"
        cloud.make_stream(self._name)

    def sink(self) -> Sink:
        arn = self._cloud.make_role(self._role, self._grant, "orgid:1111")
        return self.with_credentials(AssumedRole(arn, "orgid:1111"))

    def barred(self) -> Sink:
        arn = self._cloud.make_role(self._role, NOTHING, "orgid:1111")
        return self.with_credentials(AssumedRole(arn, "orgid:1111"))

    def admit(self) -> None:
        self._cloud.set_role_policy(self._role, self._grant)

    def stored(self) -> list[bytes]:
        return [record.value for record in self._cloud.read(self._name)]

    def with_credentials(self, credentials: ConnectionCredentials) -> KinesisSink:
        target = KinesisTarget(self._name, REGION, put=self._put)
        connection = Connection(name="acme", sink=target, credentials=credentials)
        return KinesisSink(connection, target, self._aws)


class LinesByArn(Stream):
    """A stream named by its ARN, each document a line of it."""

    largest = MIB - 33  # the end of the line counts too

    def stored(self) -> list[bytes]:
        found = super().stored()
        assert all(value.endswith(b"\n") for value in found)
        return [value[:-1] for value in found]

    def with_credentials(self, credentials: ConnectionCredentials) -> KinesisSink:
        assert isinstance(credentials, AssumedRole)
        account = credentials.role_arn.split(":")[4]
        arn = f"arn:aws:kinesis:{REGION}:{account}:stream/{self._name}"
        target = KinesisTarget(arn, REGION, put=self._put, newline=True)
        connection = Connection(name="acme", sink=target, credentials=credentials)
        return KinesisSink(connection, target, self._aws)


class DeliveryStream:
    """A delivery stream in an AWS, and the bucket behind it."""

    largest = 1000 * 1024 - 1  # the end of the line counts too

    def __init__(self, cloud: Cloud, aws: AwsSession) -> None:
        self._cloud = cloud
        self._aws = aws
        self._name = f"archive-{uuid4()}"
        self._role = f"role-{uuid4()}"
        cloud.make_delivery_stream(self._name)

    def sink(self) -> Sink:
        return self._sink(PUT_RECORD_BATCH)

    def barred(self) -> Sink:
        return self._sink(NOTHING)

    def admit(self) -> None:
        self._cloud.set_role_policy(self._role, PUT_RECORD_BATCH)

    def stored(self) -> list[bytes]:
        found = b"".join(self._cloud.objects(self._name))
        assert found.endswith(b"\n")
        return found.splitlines()

    def _sink(self, grant: tuple[str, ...]) -> FirehoseSink:
        arn = self._cloud.make_role(self._role, grant, "orgid:1111")
        target = FirehoseTarget(self._name, REGION)
        connection = Connection("acme", target, credentials=AssumedRole(arn, "orgid:1111"))
        return FirehoseSink(connection, target, self._aws)


@pytest.fixture
def lone_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Leave nothing of the caller's AWS settings."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
async def aws(
    lone_environment: None,  # noqa: ARG001  # it has to be there first
    ministack: MiniStack,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[AwsSession]:
    for name, value in ministack.variables().items():
        monkeypatch.setenv(name, value)
    shared = AwsSession(SystemClock(), LOADER)
    yield shared
    await shared.close()


@pytest.fixture
def stream(ministack: MiniStack, aws: AwsSession) -> Callable[[PutMode, tuple[str, ...]], Stream]:
    return lambda put, grant: Stream(ministack, aws, put, grant)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.fixture
def stream_by_records(ministack: MiniStack, aws: AwsSession) -> Stream:
    return Stream(ministack, aws, PutMode.RECORDS, PUT_RECORDS)


@pytest.fixture
def stream_by_record(ministack: MiniStack, aws: AwsSession) -> Stream:
    return Stream(ministack, aws, PutMode.RECORD, PUT_RECORD)


@pytest.fixture
def stream_auto_record_only(ministack: MiniStack, aws: AwsSession) -> Stream:
    return Stream(ministack, aws, PutMode.AUTO, PUT_RECORD)


@pytest.fixture
def stream_auto_records_only(ministack: MiniStack, aws: AwsSession) -> Stream:
    return Stream(ministack, aws, PutMode.AUTO, PUT_RECORDS)


@pytest.fixture
def lines_by_arn(ministack: MiniStack, aws: AwsSession) -> LinesByArn:
    return LinesByArn(ministack, aws, PutMode.AUTO, PUT_RECORDS)


@pytest.fixture
def fake_lines_by_arn(fake: FakeAws, aws_of_fake: AwsSession) -> LinesByArn:
    return LinesByArn(fake, aws_of_fake, PutMode.RECORD, PUT_RECORD)


@pytest.fixture
def delivery_stream(ministack: MiniStack, aws: AwsSession) -> DeliveryStream:
    return DeliveryStream(ministack, aws)


@pytest.fixture
async def fake(
    lone_environment: None,  # noqa: ARG001  # it has to be there first
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[FakeAws]:
    async with FakeAws(Terms(limits=UNLIMITED, firehose_limits=UNLIMITED_FIREHOSE)) as fake:
        for name, value in fake.variables().items():
            monkeypatch.setenv(name, value)
        yield fake


@pytest.fixture
async def aws_of_fake(fake: FakeAws) -> AsyncIterator[AwsSession]:
    assert fake.url
    shared = AwsSession(SystemClock(), LOADER)
    yield shared
    await shared.close()


@pytest.fixture
def fake_by_records(fake: FakeAws, aws_of_fake: AwsSession) -> Stream:
    return Stream(fake, aws_of_fake, PutMode.RECORDS, PUT_RECORDS)


@pytest.fixture
def fake_by_record(fake: FakeAws, aws_of_fake: AwsSession) -> Stream:
    return Stream(fake, aws_of_fake, PutMode.RECORD, PUT_RECORD)


@pytest.fixture
def fake_auto_record_only(fake: FakeAws, aws_of_fake: AwsSession) -> Stream:
    return Stream(fake, aws_of_fake, PutMode.AUTO, PUT_RECORD)


@pytest.fixture
def fake_delivery_stream(fake: FakeAws, aws_of_fake: AwsSession) -> DeliveryStream:
    return DeliveryStream(fake, aws_of_fake)


IN_ORDER = [
    "folder",
    "stream_by_records",
    "stream_by_record",
    "stream_auto_record_only",
    "stream_auto_records_only",
    "lines_by_arn",
    "fake_lines_by_arn",
    "fake_by_records",
    "fake_by_record",
    "fake_auto_record_only",
    "fake_delivery_stream",
]


@pytest.fixture(params=[*IN_ORDER, "delivery_stream"])
def destination(request: pytest.FixtureRequest) -> Destination:
    found: Destination = request.getfixturevalue(request.param)
    return found


async def test_bytes_arrive_as_they_were(destination: Destination) -> None:
    payload = '{"a":9007199254740993,"b":"\\u0000 ä \\"é\\" 😀","c":1.10}'.encode()
    sink = destination.sink()
    assert kinds(await sink.put([batch(1, payload)])) == [OutcomeKind.DELIVERED]
    await sink.close()
    assert destination.stored() == [payload]


async def test_each_batch_has_its_answer(destination: Destination) -> None:
    batches = [batch(n) for n in range(40)]
    sink = destination.sink()
    assert kinds(await sink.put(batches)) == [OutcomeKind.DELIVERED] * 40
    await sink.close()
    assert sorted(destination.stored()) == sorted(one.payload for one in batches)


async def test_nothing_is_answered_for_nothing(destination: Destination) -> None:
    sink = destination.sink()
    assert list(await sink.put([])) == []
    await sink.close()


async def test_puts_may_overlap(destination: Destination) -> None:
    batches = [batch(n) for n in range(200)]
    sink = destination.sink()
    runs = [batches[n : n + 10] for n in range(0, 200, 10)]
    answers = await asyncio.gather(*map(sink.put, runs))
    assert [kinds(each) for each in answers] == [[OutcomeKind.DELIVERED] * 10] * 20
    await sink.close()
    assert sorted(destination.stored()) == sorted(one.payload for one in batches)


@pytest.mark.parametrize("destination", IN_ORDER, indirect=True)
async def test_batches_of_one_device_stay_in_the_order_put(destination: Destination) -> None:
    payloads = [b'{"turn":%d}' % turn for turn in range(12)]
    sink = destination.sink()
    for payload in payloads:
        assert kinds(await sink.put([batch(7, payload)])) == [OutcomeKind.DELIVERED]
    await sink.close()
    assert destination.stored() == payloads


async def test_the_largest_record_goes_through(destination: Destination) -> None:
    payload = b'{"pad":"%b"}' % (b"x" * (destination.largest - 10))
    assert len(payload) == destination.largest
    sink = destination.sink()
    assert kinds(await sink.put([batch(1, payload)])) == [OutcomeKind.DELIVERED]
    await sink.close()
    assert destination.stored() == [payload]


async def test_more_than_a_request_holds_is_split(destination: Destination) -> None:
    many = [batch(n, b"%d" % n) for n in range(600)]
    large = [batch(2000 + n, b"%d" % n * 600_000) for n in range(10)]
    sink = destination.sink()
    left = [*many, *large]
    while left:  # call by call, a put that takes long on a busy machine leaves some unsent
        outcomes = await sink.put(left)
        assert OutcomeKind.DELIVERED in kinds(outcomes)
        assert {OutcomeKind.DELIVERED, OutcomeKind.TRANSIENT} >= set(kinds(outcomes))
        pairs = zip(left, outcomes, strict=True)
        left = [one for one, outcome in pairs if outcome.kind is OutcomeKind.TRANSIENT]
    await sink.close()
    assert sorted(destination.stored()) == sorted(one.payload for one in [*many, *large])


async def test_what_is_not_allowed_waits_for_a_person(destination: Destination) -> None:
    sink = destination.barred()
    outcomes = await sink.put([batch(n, b'{"secret":%d}' % n) for n in range(30)])
    await sink.close()
    assert [outcome.kind for outcome in outcomes] == [OutcomeKind.CONFIGURATION] * 30
    assert all("; " in outcome.error and "\n" not in outcome.error for outcome in outcomes)
    assert not any("secret" in outcome.error for outcome in outcomes)


async def test_once_mended_the_same_sink_delivers(destination: Destination) -> None:
    sink = destination.barred()
    assert [outcome.kind for outcome in await sink.put([batch(1)])] == [OutcomeKind.CONFIGURATION]
    destination.admit()
    assert kinds(await sink.put([batch(1), batch(2)])) == [OutcomeKind.DELIVERED] * 2
    await sink.close()
    assert sorted(destination.stored()) == [batch(1).payload, batch(2).payload]


async def test_a_wrong_external_id_is_named(ministack: MiniStack, stream_by_record: Stream) -> None:
    arn = ministack.make_role(f"role-{uuid4()}", PUT_RECORD, "orgid:1111")
    for wrong, words in (("orgid:2222", "with ExternalId orgid:2222"), (None, "without an Ext")):
        sink = stream_by_record.with_credentials(AssumedRole(arn, wrong))
        (outcome,) = await sink.put([batch(1)])
        await sink.close()
        assert outcome.kind is OutcomeKind.CONFIGURATION
        assert outcome.code == "AccessDenied"
        assert outcome.error.startswith(f"cannot assume {arn} {words}")
        assert "trust policy" in outcome.error
    assert stream_by_record.stored() == []


async def test_access_keys_deliver(ministack: MiniStack, stream_auto_record_only: Stream) -> None:
    keys = ministack.make_user(f"user-{uuid4()}", PUT_RECORD)
    sink = stream_auto_record_only.with_credentials(AccessKeys(*keys))
    assert kinds(await sink.put([batch(1), batch(2)])) == [OutcomeKind.DELIVERED] * 2
    await sink.close()
    assert len(stream_auto_record_only.stored()) == 2


async def test_a_wrong_secret_is_told_without_it(
    ministack: MiniStack, stream_by_records: Stream
) -> None:
    keys = ministack.make_user(f"user-{uuid4()}", PUT_RECORDS)
    sink = stream_by_records.with_credentials(AccessKeys(keys.access_key_id, "not-the-secret"))
    (outcome,) = await sink.put([batch(1)])
    await sink.close()
    assert outcome.kind is OutcomeKind.CONFIGURATION
    assert "not-the-secret" not in outcome.error
    assert outcome.code in {"InvalidSignature", "SignatureDoesNotMatch"}


async def test_the_default_chain_delivers_into_its_own_account(
    ministack: MiniStack, aws: AwsSession
) -> None:
    name = f"stream-{uuid4()}"
    ministack.make_stream(name, account="000000000000")
    target = KinesisTarget(name, REGION)
    sink = KinesisSink(Connection(name="acme", sink=target), target, aws)
    assert kinds(await sink.put([batch(1)])) == [OutcomeKind.DELIVERED]
    await sink.close()
    stored = ministack.read(name, account="000000000000")
    assert [batch(1).payload] == [record.value for record in stored]


async def test_a_missing_stream_is_named(ministack: MiniStack, aws: AwsSession) -> None:
    target = KinesisTarget("nowhere", REGION, endpoint_url=ministack.endpoint())
    sink = KinesisSink(Connection(name="acme", sink=target), target, aws)
    (outcome,) = await sink.put([batch(1)])
    await sink.close()
    assert (outcome.kind, outcome.code) == (OutcomeKind.CONFIGURATION, "ResourceNotFound")
    assert "stream nowhere in us-east-1" in outcome.error


async def test_the_partition_key_is_the_hash_of_the_device(
    ministack: MiniStack, aws: AwsSession
) -> None:
    name = f"stream-{uuid4()}"
    ministack.make_stream(name, account="000000000000")
    target = KinesisTarget(name, REGION)
    sink = KinesisSink(Connection(name="acme", sink=target), target, aws)
    await sink.put([batch(255)])
    await sink.close()
    (stored,) = ministack.read(name, account="000000000000")
    assert stored.partition_key == "000000000000000000000000000000ff"
