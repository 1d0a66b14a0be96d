"""PutRecord, PutRecords, or whichever the policy allows."""

import asyncio

import pytest

from forwarder.aws import client
from forwarder.aws.session import CLIENT_CONFIG
from forwarder.config.targets import PutMode
from forwarder.model import OutcomeKind
from forwarder.sinks import kinesis
from tests.services.fake_kinesis import (
    FakeKinesis,
    Silent,
    batch,
)
from tests.services.kinesis_sinks import (
    EIGHT,
    HOUR,
    STORED,
    Open,
    arrival,
    kinds,
    put,
)

# The HTTP client would rather be given a file than one piece of 5 MiB, which is copied in 1 ms.
pytestmark = pytest.mark.filterwarnings("ignore:Sending a large body directly:ResourceWarning")


async def test_denied_put_records_become_put_record_at_once(
    opened: Open, fake: FakeKinesis
) -> None:
    fake.denied.add("PutRecords")
    sink = opened(PutMode.AUTO)
    assert await put(sink) == [STORED] * 8
    assert fake.actions() == ["PutRecords"] + ["PutRecord"] * 8
    assert sorted(fake.values()) == [one.payload for one in EIGHT]
    assert sink.max_batches == kinesis.RECORD_BATCHES


async def test_a_denial_of_put_records_is_believed_for_an_hour(
    opened: Open, fake: FakeKinesis
) -> None:
    fake.denied.add("PutRecords")
    sink = opened(PutMode.AUTO)
    await put(sink, 1)
    fake.denied.clear()
    fake.calls.clear()
    fake.clock.now += HOUR - 1
    await put(sink, 1)
    fake.clock.now += 1
    await put(sink, 1)
    await put(sink, 1)
    assert fake.actions() == ["PutRecord", "PutRecords", "PutRecords"]
    assert sink.max_batches == 500


async def test_auto_puts_few_batches_until_it_knows_that_put_records_is_allowed(
    opened: Open,
) -> None:
    sink = opened(PutMode.AUTO)

    assert sink.max_batches == kinesis.RECORD_BATCHES

    await put(sink, 1)

    assert sink.max_batches == 500


async def test_put_records_alone_is_enough_for_auto(opened: Open, fake: FakeKinesis) -> None:
    fake.denied.add("PutRecord")
    assert await put(opened(PutMode.AUTO)) == [STORED] * 8
    assert fake.actions() == ["PutRecords"]


async def test_with_both_denied_a_person_is_told_and_either_may_come(
    opened: Open, fake: FakeKinesis
) -> None:
    fake.denied.update({"PutRecord", "PutRecords"})
    sink = opened(PutMode.AUTO)
    outcomes = await put(sink, 100)
    assert set(kinds(outcomes)) == {OutcomeKind.CONFIGURATION}
    assert "allow kinesis:PutRecord, kinesis:PutRecords or both" in outcomes[0].error
    # One call at a time may be under way in each slot when the first denial arrives.
    assert len(fake.calls) <= 1 + kinesis.MAX_SINGLE_PUTS
    fake.denied.remove("PutRecords")
    assert await put(sink, 1) == [STORED]


@pytest.mark.parametrize("mode", [PutMode.RECORD, PutMode.RECORDS])
async def test_a_chosen_action_is_never_replaced(
    opened: Open, fake: FakeKinesis, mode: PutMode
) -> None:
    action = "PutRecord" if mode is PutMode.RECORD else "PutRecords"
    fake.denied.add(action)
    (outcome,) = await put(opened(mode), 1)
    assert outcome.kind is OutcomeKind.CONFIGURATION
    assert f"allow kinesis:{action} on the stream, or set put: auto" in outcome.error
    assert fake.actions() == [action]


async def test_put_record_runs_64_at_a_time(opened: Open, fake: FakeKinesis) -> None:
    sink = opened(PutMode.RECORD)
    heard = asyncio.Event()
    fake.answers("PutRecord", *[Silent(heard)] * 100)
    puts = asyncio.gather(put(sink, 50), put(sink, 50))
    await arrival(fake, kinesis.MAX_SINGLE_PUTS)
    heard.set()
    await puts
    assert fake.most_at_once == kinesis.MAX_SINGLE_PUTS
    assert len(fake.stored) == 100


def test_every_call_under_way_has_a_connection_of_its_own() -> None:
    assert kinesis.MAX_SINGLE_PUTS <= CLIENT_CONFIG.max_pool_connections


async def test_a_put_that_slept_makes_no_more_calls(opened: Open, fake: FakeKinesis) -> None:
    heard = asyncio.Event()
    fake.answers("PutRecord", *[Silent(heard)] * 100)
    slept = asyncio.create_task(put(opened(PutMode.RECORD), 100))
    await arrival(fake, kinesis.MAX_SINGLE_PUTS)
    fake.clock.now += client.MAX_PUT_AGE_SECONDS + 1
    heard.set()
    assert [STORED] * 64 + [client.NO_OUTCOME] * 36 == await slept


async def test_put_record_passes_the_last_number_of_the_device(
    opened: Open, fake: FakeKinesis
) -> None:
    sink = opened(PutMode.RECORD)
    for number in (1, 2, 1, 1):
        await sink.put([batch(number)])
    assert [call.after for call in fake.calls] == [None, None, f"{1:021d}", f"{3:021d}"]


async def test_a_number_that_the_stream_refuses_is_dropped(opened: Open, fake: FakeKinesis) -> None:
    sink = opened(PutMode.RECORD)
    await put(sink, 1)
    fake.refuses_after.add(f"{1:021d}")
    assert await put(sink, 1) == [STORED]
    assert [call.after for call in fake.calls] == [None, f"{1:021d}", None]
