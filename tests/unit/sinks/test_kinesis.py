"""The Kinesis sink against a service that misbehaves on request."""

import asyncio

import pytest

from forwarder.aws.session import AwsSession
from forwarder.aws.time_limits import TimeLimits
from forwarder.config.connection import Connection
from forwarder.config.targets import KinesisTarget, PartitionKey, PutMode
from forwarder.model import OutcomeKind
from forwarder.sinks import bisect
from forwarder.sinks.kinesis import KinesisSink
from tests.services.fake_kinesis import (
    LOADER,
    Blank,
    Cut,
    Error,
    FakeKinesis,
    Garbled,
    Lost,
    Moved,
    Partial,
    Record,
    Silent,
    batch,
)
from tests.services.kinesis_sinks import (
    EIGHT,
    ROLE,
    STORED,
    Open,
    arrival,
    kinds,
    put,
)

# The HTTP client would rather be given a file than one piece of 5 MiB, which is copied in 1 ms.
pytestmark = pytest.mark.filterwarnings("ignore:Sending a large body directly:ResourceWarning")


async def test_a_failed_record_is_told_from_those_stored(opened: Open, fake: FakeKinesis) -> None:
    codes = {1: "ProvisionedThroughputExceededException", 4: "InternalFailure", 6: "NewThing"}
    fake.answers("PutRecords", Partial(codes))
    outcomes = await put(opened())
    expected = [OutcomeKind.DELIVERED] * 8
    expected[1], expected[4], expected[6] = (
        OutcomeKind.THROTTLED,
        OutcomeKind.TRANSIENT,
        OutcomeKind.TRANSIENT,
    )
    assert kinds(outcomes) == expected
    assert [outcomes[n].code for n in (1, 4, 6)] == [
        "ProvisionedThroughputExceeded",
        "InternalFailure",
        "Other",
    ]
    assert len(fake.stored) == 5
    assert fake.actions() == ["PutRecords"]


@pytest.mark.parametrize("code", ["KMSAccessDeniedException", "KMSNotFoundException"])
async def test_a_key_failing_for_one_record_waits_for_a_person(
    opened: Open, fake: FakeKinesis, code: str
) -> None:
    fake.answers("PutRecords", Partial({0: code}))
    outcomes = await put(opened(), 2)
    assert kinds(outcomes) == [OutcomeKind.CONFIGURATION, OutcomeKind.DELIVERED]


@pytest.mark.parametrize(
    ("expected", "answer"),
    [
        (OutcomeKind.THROTTLED, Error("ProvisionedThroughputExceededException")),
        (OutcomeKind.THROTTLED, Error("ThrottlingException")),
        (OutcomeKind.THROTTLED, Error("KMSThrottlingException")),
        (OutcomeKind.THROTTLED, Error("LimitExceededException")),
        (OutcomeKind.TRANSIENT, Error("InternalFailure", 500)),
        (OutcomeKind.TRANSIENT, Error("ServiceUnavailable", 503)),
        (OutcomeKind.TRANSIENT, Error("", 429)),
        (OutcomeKind.TRANSIENT, Error("", 502)),
        (OutcomeKind.TRANSIENT, Lost(stored=False)),
        (OutcomeKind.TRANSIENT, Lost(stored=True)),
        (OutcomeKind.CONFIGURATION, Error("AccessDeniedException")),
        (OutcomeKind.CONFIGURATION, Error("ResourceNotFoundException")),
        (OutcomeKind.CONFIGURATION, Error("ResourceInUseException")),
        (OutcomeKind.CONFIGURATION, Error("KMSDisabledException")),
        (OutcomeKind.CONFIGURATION, Error("UnrecognizedClientException")),
        (OutcomeKind.CONFIGURATION, Error("NewThing", 418)),
    ],
)
@pytest.mark.parametrize("mode", [PutMode.RECORD, PutMode.RECORDS])
async def test_a_failed_call_answers_for_its_batches(
    opened: Open, fake: FakeKinesis, expected: OutcomeKind, answer: Error | Lost, mode: PutMode
) -> None:
    action = "PutRecord" if mode is PutMode.RECORD else "PutRecords"
    sink = opened(mode)
    fake.answers(action, answer)
    assert kinds(await put(sink, 1)) == [expected]
    assert fake.actions() == [action]
    assert await put(sink, 1) == [STORED]


async def test_a_service_that_is_not_there_is_waited_for(opened: Open, fake: FakeKinesis) -> None:
    await fake.stop()
    (outcome,) = await put(opened(), 1)
    assert (outcome.kind, outcome.code) == (OutcomeKind.TRANSIENT, "Unanswered")
    assert "EndpointConnectionError" in outcome.error


PAGES = [
    b"<!DOCTYPE html><p>Dienst vor\xfcbergehend nicht verf\xfcgbar</p>",
    b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff",
    b'["not", "an", "object"]',
    b'"text"',
]


@pytest.mark.parametrize("page", PAGES, ids=["latin-1", "gzip", "list", "text"])
@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (503, OutcomeKind.TRANSIENT),
        (429, OutcomeKind.TRANSIENT),
        (403, OutcomeKind.CONFIGURATION),
        (413, OutcomeKind.REFUSED),
    ],
)
async def test_a_proxys_page_in_whatever_form_is_judged_by_its_status(
    opened: Open, fake: FakeKinesis, page: bytes, status: int, expected: OutcomeKind
) -> None:
    fake.answers("PutRecords", Garbled(page, status))
    outcomes = await put(opened(), 1)
    assert kinds(outcomes) == [expected]
    assert f"HTTP {status}" in outcomes[0].error


async def test_an_answer_that_is_no_text_is_put_again(opened: Open, fake: FakeKinesis) -> None:
    fake.answers("PutRecords", Garbled(b'{"Records":[{"ErrorMessage":"\xff"}]}'))
    assert kinds(await put(opened(), 1)) == [OutcomeKind.TRANSIENT]


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_not_followed(opened: Open, fake: FakeKinesis, status: int) -> None:
    """Else it would be given the records and the session token, and could say they are stored."""
    elsewhere = FakeKinesis(fake.clock)
    await elsewhere.start()
    sink = opened(credentials=ROLE)
    fake.answers("PutRecords", Moved(elsewhere.url, status))
    (outcome,) = await put(sink, 1)
    assert (outcome.kind, elsewhere.calls) == (OutcomeKind.CONFIGURATION, [])
    assert str(status) in outcome.error
    await elsewhere.stop()


async def test_a_lost_answer_is_put_again_as_the_same_bytes(
    opened: Open, fake: FakeKinesis
) -> None:
    sink = opened()
    fake.answers("PutRecords", Lost(stored=True))
    assert kinds(await put(sink, 1)) == [OutcomeKind.TRANSIENT]
    assert await put(sink, 1) == [STORED]
    first, second = fake.stored
    assert first == second


@pytest.mark.parametrize("limits", [TimeLimits(call=0.01)])
async def test_silence_ends_with_the_call(opened: Open, fake: FakeKinesis) -> None:
    heard = asyncio.Event()
    fake.answers("PutRecords", Silent(heard))
    (outcome,) = await put(opened(), 1)
    heard.set()
    assert outcome.kind is OutcomeKind.TRANSIENT


@pytest.mark.parametrize("named", [0, 7])
async def test_an_answer_for_fewer_records_acknowledges_none(
    opened: Open, fake: FakeKinesis, named: int
) -> None:
    fake.answers("PutRecords", Cut(named))
    outcomes = await put(opened())
    assert kinds(outcomes) == [OutcomeKind.TRANSIENT] * 8


@pytest.mark.parametrize("mode", [PutMode.RECORD, PutMode.RECORDS])
async def test_only_a_sequence_number_acknowledges(
    opened: Open, fake: FakeKinesis, mode: PutMode
) -> None:
    fake.answers("PutRecord" if mode is PutMode.RECORD else "PutRecords", Blank())
    assert kinds(await put(opened(mode), 1)) == [OutcomeKind.TRANSIENT]


@pytest.mark.parametrize("culprits", [{0}, {7}, {3}, {2, 3}, {0, 7}, {1, 4, 6}, set(range(7))])
async def test_what_is_refused_for_good_is_found_among_the_rest(
    opened: Open, fake: FakeKinesis, culprits: set[int]
) -> None:
    bad = {batch(n).payload for n in culprits}
    fake.refuses = lambda record: record.data in bad
    outcomes = await put(opened())
    assert [
        n for n, outcome in enumerate(outcomes) if outcome.kind is OutcomeKind.REFUSED
    ] == sorted(culprits)
    assert [n for n, outcome in enumerate(outcomes) if outcome == STORED] == sorted(
        set(range(8)) - culprits
    )
    assert set(fake.values()) == {one.payload for one in EIGHT} - bad
    assert len(fake.stored) == 8 - len(culprits)


async def test_one_culprit_among_500_takes_19_calls(opened: Open, fake: FakeKinesis) -> None:
    bad = batch(321).payload
    fake.refuses = lambda record: record.data == bad
    outcomes = await put(opened(), 500)
    assert kinds(outcomes).count(OutcomeKind.DELIVERED) == 499
    assert outcomes[321].kind is OutcomeKind.REFUSED
    assert len(fake.calls) <= 19


async def test_a_refusal_never_quotes_what_was_sent(opened: Open, fake: FakeKinesis) -> None:
    fake.refuses = lambda _: True
    (outcome,) = await put(opened(), 1)
    assert (outcome.kind, outcome.code) == (OutcomeKind.REFUSED, "Validation")
    assert "a-secret" not in outcome.error


async def test_a_setting_that_refuses_everything_ends_the_search(
    opened: Open, fake: FakeKinesis
) -> None:
    fake.refuses = lambda _: True
    outcomes = await put(opened(), 500)
    assert set(kinds(outcomes)) == {OutcomeKind.REFUSED, OutcomeKind.CONFIGURATION}
    assert len(fake.calls) == 1 + bisect.BISECT_REQUESTS


async def test_too_many_culprits_for_one_put_leave_the_rest_for_the_next(
    opened: Open, fake: FakeKinesis
) -> None:
    fake.refuses = lambda record: int(record.data[10:-1]) % 3 == 1
    outcomes = await put(opened(), 500)
    assert {OutcomeKind.DELIVERED, OutcomeKind.REFUSED, OutcomeKind.TRANSIENT} == set(
        kinds(outcomes)
    )
    assert len(fake.calls) == 1 + bisect.BISECT_REQUESTS


async def test_trouble_during_a_search_is_told_of_its_part_alone(
    opened: Open, fake: FakeKinesis
) -> None:
    fake.answers("PutRecords", Error("ValidationException"), Error("InternalFailure", 500))
    assert kinds(await put(opened())) == [OutcomeKind.TRANSIENT] * 4 + [OutcomeKind.DELIVERED] * 4


async def test_a_record_at_the_limit_goes_and_one_byte_more_is_refused(
    opened: Open, fake: FakeKinesis
) -> None:
    fits = batch(1, b"x" * (1_048_576 - 32))
    over = batch(2, b"x" * (1_048_576 - 31))
    assert kinds(list(await opened().put([fits, over, batch(3)]))) == [
        OutcomeKind.DELIVERED,
        OutcomeKind.REFUSED,
        OutcomeKind.DELIVERED,
    ]
    assert len(fake.stored) == 2


@pytest.mark.parametrize(
    ("expected", "rule"),
    [
        ("0" * 31 + "1", PartitionKey.DEVICE),
        ("42", PartitionKey.MPID),
        ("00000000-0000-0000-0000-000000000001", PartitionKey.BATCH),
    ],
)
@pytest.mark.parametrize("mode", [PutMode.RECORD, PutMode.RECORDS])
async def test_records_carry_the_configured_key(
    opened: Open, fake: FakeKinesis, expected: str, rule: PartitionKey, mode: PutMode
) -> None:
    one = batch(1, mpid="42")
    assert await opened(mode, partition_key=rule).put([one]) == [STORED]
    assert fake.stored == [Record(expected, one.payload)]


async def test_the_endpoint_of_the_connection_wins_for_kinesis_alone(
    fake: FakeKinesis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_KINESIS", "http://127.0.0.1:1")
    aws = AwsSession(fake.clock, LOADER)
    target = KinesisTarget("acme", "eu-west-1", put=PutMode.RECORDS, endpoint_url=fake.url)
    sink = KinesisSink(Connection(name="acme", sink=target, credentials=ROLE), target, aws)
    assert await put(sink, 1) == [STORED]
    await sink.close()
    await aws.close()
    assert fake.actions() == ["AssumeRole", "PutRecords"]


async def test_an_expired_token_is_renewed_within_the_put(opened: Open, fake: FakeKinesis) -> None:
    sink = opened(credentials=ROLE)
    await put(sink, 1)
    fake.expired.add("ASIA1")
    assert await put(sink, 2) == [STORED] * 2
    assert fake.actions() == [
        *("AssumeRole", "PutRecords"),
        *("PutRecords", "AssumeRole", "PutRecords"),
    ]
    assert fake.calls[-1].signed_by.startswith("ASIA")
    assert fake.calls[-1].signed_by != "ASIA1"


async def test_concurrent_puts_renew_an_expired_token_once(opened: Open, fake: FakeKinesis) -> None:
    sink = opened(credentials=ROLE)
    await put(sink, 1)
    fake.expired.add("ASIA1")
    assert await asyncio.gather(*(put(sink, 1) for _ in range(10))) == [[STORED]] * 10
    assert fake.actions().count("AssumeRole") == 2


async def test_a_token_that_stays_rejected_is_a_matter_for_a_person(
    opened: Open, fake: FakeKinesis
) -> None:
    sink = opened(credentials=ROLE)
    await put(sink, 1)
    fake.calls.clear()
    fake.answers("PutRecords", *[Error("UnrecognizedClientException")] * 4)
    assert kinds(await put(sink, 2)) == [OutcomeKind.CONFIGURATION] * 2
    assert fake.actions() == ["PutRecords", "AssumeRole", "PutRecords"]
    assert kinds(await put(sink, 2)) == [OutcomeKind.CONFIGURATION] * 2
    assert fake.actions().count("AssumeRole") == 1


async def test_a_refused_role_answers_from_memory(opened: Open, fake: FakeKinesis) -> None:
    fake.denied.add("AssumeRole")
    sink = opened(PutMode.AUTO, credentials=ROLE)
    for _ in range(3):
        outcomes = await put(sink, 2)
        assert kinds(outcomes) == [OutcomeKind.CONFIGURATION] * 2
        assert "cannot assume arn:aws:iam::111122223333:role/r" in outcomes[0].error
    assert fake.actions() == ["AssumeRole"]
    fake.denied.clear()
    fake.clock.now += 30
    assert await put(sink, 2) == [STORED] * 2


async def test_a_put_that_is_cancelled_leaves_nothing_running(
    opened: Open, fake: FakeKinesis
) -> None:
    heard = asyncio.Event()
    fake.answers("PutRecord", *[Silent(heard)] * 4)
    sink = opened(PutMode.RECORD)
    call = asyncio.create_task(put(sink, 4))
    await arrival(fake, 4)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    heard.set()
    assert await put(sink, 1) == [STORED]
