"""The Firehose sink against a service that misbehaves on request."""

from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from forwarder.aws import client
from forwarder.aws.session import AwsSession
from forwarder.config.connection import Connection
from forwarder.config.credentials import AccessKeys, AssumedRole, Credentials
from forwarder.config.targets import FirehoseTarget
from forwarder.model import DELIVERED, Outcome, OutcomeKind
from forwarder.sinks.firehose import FirehoseSink
from tests.services.fake_kinesis import (
    LOADER,
    Blank,
    Cut,
    Error,
    FakeKinesis,
    Garbled,
    Lost,
    Partial,
    batch,
)

# The HTTP client would rather be given a file than one piece of 4 MiB, which is copied in 1 ms.
pytestmark = pytest.mark.filterwarnings("ignore:Sending a large body directly:ResourceWarning")

PUT = "PutRecordBatch"
KEYS = AccessKeys("AKIA", "secret")
ROLE = AssumedRole("arn:aws:iam::111122223333:role/r", "orgid:1111")
LARGEST = 1000 * 1024 - 1
Open = Callable[..., FirehoseSink]


@pytest.fixture
async def opened(fake: FakeKinesis) -> AsyncIterator[Open]:
    aws = AwsSession(fake.clock, LOADER)
    sinks: list[FirehoseSink] = []

    def make(credentials: Credentials = KEYS, **keys: str) -> FirehoseSink:
        target = FirehoseTarget("archive", "eu-west-1", **keys)  # type: ignore[arg-type]  # text
        connection = Connection(name="acme", sink=target, credentials=credentials)
        sinks.append(FirehoseSink(connection, target, aws))
        return sinks[-1]

    yield make
    for sink in sinks:
        await sink.close()
    await aws.close()


def kinds(outcomes: Sequence[Outcome]) -> list[OutcomeKind]:
    return [outcome.kind for outcome in outcomes]


async def put(sink: FirehoseSink, number: int = 8) -> Sequence[Outcome]:
    return await sink.put([batch(n) for n in range(number)])


async def test_every_batch_is_a_line_of_its_own(opened: Open, fake: FakeKinesis) -> None:
    assert await put(opened(), 3) == [DELIVERED] * 3
    assert fake.values() == [b'{"number":0}\n', b'{"number":1}\n', b'{"number":2}\n']
    (call,) = fake.calls
    assert (PUT, "AKIA", "eu-west-1", "firehose") == call[:4]


async def test_a_document_with_line_breaks_is_one_line_all_the_same(
    opened: Open, fake: FakeKinesis
) -> None:
    await opened().put([batch(1, b'{\r\n  "a": "b\\n",\n  "c": 1\n}')])
    assert [b'{    "a": "b\\n",   "c": 1 }\n'] == fake.values()


async def test_a_failed_record_is_told_from_those_stored(opened: Open, fake: FakeKinesis) -> None:
    fake.answers(PUT, Partial({1: "ServiceUnavailableException", 4: "InternalFailure"}))
    outcomes = await put(opened(), 6)
    expected = [OutcomeKind.DELIVERED] * 6
    expected[1], expected[4] = OutcomeKind.THROTTLED, OutcomeKind.TRANSIENT
    assert kinds(outcomes) == expected
    assert ["ServiceUnavailable", "InternalFailure"] == [outcomes[n].code for n in (1, 4)]
    assert 4 == len(fake.stored)


@pytest.mark.parametrize(
    ("expected", "answer"),
    [
        (OutcomeKind.THROTTLED, Error("LimitExceededException")),
        (OutcomeKind.TRANSIENT, Error("InternalFailure", 500)),
        (OutcomeKind.TRANSIENT, Error("", 502)),
        (OutcomeKind.TRANSIENT, Lost(stored=False)),
        (OutcomeKind.TRANSIENT, Lost(stored=True)),
        (OutcomeKind.TRANSIENT, Blank()),
        (OutcomeKind.TRANSIENT, Garbled(b"<html>")),
        (OutcomeKind.TRANSIENT, Garbled(b'{"RequestResponses":7}')),
        (OutcomeKind.TRANSIENT, Garbled(b"")),
        (OutcomeKind.CONFIGURATION, Error("ResourceNotFoundException")),
        (OutcomeKind.CONFIGURATION, Error("InvalidKMSResourceException")),
        (OutcomeKind.CONFIGURATION, Error("NewThing", 418)),
    ],
)
async def test_a_failed_call_answers_for_its_batches(
    opened: Open, fake: FakeKinesis, expected: OutcomeKind, answer: Error | Lost | Blank | Garbled
) -> None:
    sink = opened()
    fake.answers(PUT, answer)
    assert kinds(await put(sink, 2)) == [expected] * 2
    assert await put(sink, 2) == [DELIVERED] * 2


@pytest.mark.parametrize("named", [0, 7])
async def test_an_answer_for_fewer_records_acknowledges_none(
    opened: Open, fake: FakeKinesis, named: int
) -> None:
    fake.answers(PUT, Cut(named))
    assert kinds(await put(opened())) == [OutcomeKind.TRANSIENT] * 8


@pytest.mark.parametrize("culprits", [{0}, {3}, {2, 3}, {1, 4, 6}])
async def test_what_is_refused_for_good_is_found_among_the_rest(
    opened: Open, fake: FakeKinesis, culprits: set[int]
) -> None:
    bad = {batch(n).payload + b"\n" for n in culprits}
    fake.refuses = lambda record: record.data in bad
    outcomes = await put(opened())
    refused = [n for n, outcome in enumerate(outcomes) if outcome.kind is OutcomeKind.REFUSED]
    assert refused == sorted(culprits)
    assert [o for n, o in enumerate(outcomes) if n not in culprits] == [DELIVERED] * (
        8 - len(culprits)
    )
    assert len(fake.stored) == 8 - len(culprits)
    assert not any("a-secret" in outcome.error for outcome in outcomes)


async def test_a_record_at_the_limit_goes_and_one_byte_more_is_refused(
    opened: Open, fake: FakeKinesis
) -> None:
    batches = [batch(1, b"x" * LARGEST), batch(2, b"x" * (LARGEST + 1)), batch(3)]
    expected = [OutcomeKind.DELIVERED, OutcomeKind.REFUSED, OutcomeKind.DELIVERED]
    assert kinds(await opened().put(batches)) == expected
    assert 2 == len(fake.stored)


async def test_requests_keep_both_limits(opened: Open, fake: FakeKinesis) -> None:
    small = [batch(n) for n in range(1001)]
    large = [batch(n, b"x" * (1024 * 1024 // 2)) for n in range(9)]
    assert set(await opened().put([*small, *large])) == {DELIVERED}
    assert [500, 500, 8, 2] == [len(call.records) for call in fake.calls]


async def test_what_delivery_gives_at_most_is_one_request(opened: Open, fake: FakeKinesis) -> None:
    sink = opened()
    size = sink.max_bytes // sink.max_batches
    assert set(await sink.put([batch(n, b"x" * size) for n in range(sink.max_batches)])) == {
        DELIVERED
    }
    assert [500] == [len(call.records) for call in fake.calls]


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("allow firehose:PutRecordBatch on the delivery stream", "AccessDeniedException"),
        ("check delivery_stream_name, region and account", "ResourceNotFoundException"),
    ],
)
async def test_what_to_do_is_told_in_firehose_s_words(
    opened: Open, fake: FakeKinesis, words: str, answer: str
) -> None:
    fake.answers(PUT, Error(answer))
    (outcome,) = await put(opened(), 1)
    assert f"{PUT} on delivery stream archive in eu-west-1: " in outcome.error
    assert words in outcome.error


async def test_a_put_that_slept_makes_no_more_calls(opened: Open, fake: FakeKinesis) -> None:
    sink = opened()
    seen: list[bytes] = []

    def slow(record: object) -> bool:
        seen.append(b"")
        fake.clock.now += client.MAX_PUT_AGE_SECONDS
        return record is None

    fake.refuses = slow
    outcomes = await sink.put([batch(n, b"x" * LARGEST) for n in range(8)])
    assert kinds(outcomes) == [OutcomeKind.DELIVERED] * 4 + [OutcomeKind.TRANSIENT] * 4
    assert [client.NO_OUTCOME] * 4 == outcomes[4:]
    assert 1 == len(fake.calls)


async def test_an_expired_token_is_renewed_within_the_put(opened: Open, fake: FakeKinesis) -> None:
    sink = opened(ROLE)
    await put(sink, 1)
    fake.expired.add("ASIA1")
    assert await put(sink, 1) == [DELIVERED]
    assert ["AssumeRole", PUT, PUT, "AssumeRole", PUT] == fake.actions()


async def test_the_endpoint_of_the_connection_wins(
    opened: Open, fake: FakeKinesis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_FIREHOSE", "http://127.0.0.1:1")
    assert await put(opened(endpoint_url=fake.url), 1) == [DELIVERED]
