"""What waits for Kafka, on a broker that misbehaves."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from forwarder.gateway import producer
from forwarder.gateway.producer import EventProducer
from forwarder.gateway.waiting import ProduceFault
from forwarder.kafka.idempotent import ProduceError
from tests.doubles import LoopClock
from tests.unit.gateway.doubles import Broker, GatewayNotes, Room
from tests.world import virtually

DOWN = ProduceFault.UNAVAILABLE


@asynccontextmanager
async def running(broker: Broker, limit: int = 1 << 20) -> AsyncIterator[EventProducer]:
    """Run a producer on a broker; whatever happened, it owes the buffer nothing at the end."""
    buffer = Room(limit)
    made = EventProducer(broker.connect, buffer, LoopClock(), GatewayNotes())
    task = asyncio.ensure_future(made.run())
    await asyncio.sleep(0.1)
    yield made
    assert 0 == buffer.taken
    task.cancel()


def fault(*, again: bool) -> ProduceError:
    error = ProduceError("refused on purpose")
    error.again = again
    return error


@virtually
async def test_records_are_answered_once_they_are_stored_in_order() -> None:
    broker = Broker()
    async with running(broker) as made:
        first = made.submit("t", [(b"\0", b"1"), (b"\0", b"2")])
        second = made.submit("t", [(b"\0", b"3"), (b"\1", b"4")])
        assert [None, None] == await second.settled()
        assert [None, None] == await first.settled()
        assert [b"1", b"2", b"3"] == [value for _, value in broker.log["t", 0]]
        assert [3, 1] == broker.batches


@virtually
async def test_what_comes_while_a_batch_is_under_way_goes_with_the_next() -> None:
    broker = Broker(partitions=1)
    async with running(broker) as made:
        await asyncio.gather(*(send(made, b"%d" % n, n / 10_000) for n in range(30)))
    assert [b"%d" % n for n in range(30)] == [value for _, value in broker.log["t", 0]]
    assert len(broker.batches) < 6


async def send(made: EventProducer, value: bytes, after: float) -> None:
    await asyncio.sleep(after)
    assert [None] == await made.submit("t", [(b"k", value)]).settled()


@virtually
async def test_a_batch_is_at_most_as_large_as_the_topic_takes() -> None:
    broker = Broker(partitions=1, limit=1000)
    async with running(broker) as made:
        room = made.room("t", b"k")
        records = [(b"k", b"x" * room), (b"k", b"y" * 400), (b"k", b"z" * 400)]
        assert [None] * 3 == await made.submit("t", records).settled()
    assert [1, 2] == broker.batches


@virtually
async def test_what_passes_the_buffer_is_refused_as_a_whole() -> None:
    broker = Broker()
    async with running(broker, limit=1000) as made:
        kept = made.submit("t", [(b"k", b"x" * 500)])
        full = made.submit("t", [(b"k", b"x"), (b"k", b"x" * 800)])
        assert [ProduceFault.FULL] * 2 == await full.settled()
        assert [None] == await kept.settled()
    assert 1 == len(broker.records)


@virtually
async def test_a_failure_that_may_pass_is_tried_again_in_order_by_another_producer() -> None:
    broker = Broker(partitions=2)
    broker.answers[0] = [fault(again=True)]
    async with running(broker) as made:
        first = made.submit("t", [(b"\0", b"1")])
        await asyncio.sleep(0)
        second = made.submit("t", [(b"\0", b"2"), (b"\1", b"3")])
        assert [None] == await first.settled()
        assert [None, None] == await second.settled()
    assert [b"1", b"2"] == [value for _, value in broker.log["t", 0]]
    assert 2 == len(broker.writers)


@virtually
async def test_a_refusal_fails_what_waits_for_the_partition_and_no_other() -> None:
    broker = Broker(partitions=2)
    broker.answers[0] = [fault(again=False)]
    async with running(broker) as made:
        failed = made.submit("t", [(b"\0", b"1"), (b"\1", b"2")])
        assert [DOWN, None] == await failed.settled()
        trouble = made.trouble
        assert trouble is not None
        assert "refused on purpose" == trouble.reason
        assert [DOWN] == await made.submit("t", [(b"\0", b"3")]).settled()
        assert [None] == await made.submit("t", [(b"\1", b"4")]).settled()
        assert made.trouble is None, "others go on"
        await asyncio.sleep(2)
        assert made.trouble is None
        assert [None] == await made.submit("t", [(b"\0", b"5")]).settled()


@virtually
async def test_a_partition_that_does_not_answer_fails_in_time_and_delays_no_other() -> None:
    broker = Broker(partitions=2)
    never = asyncio.Event()
    broker.answers[0] = [never]
    async with running(broker) as made:
        loop = asyncio.get_running_loop()
        began = loop.time()
        stuck = made.submit("t", [(b"\0", b"1")])
        waits = made.submit("t", [(b"\0", b"2")])
        for _ in range(100):
            before = loop.time()
            assert [None] == await made.submit("t", [(b"\1", b"x")]).settled()
            assert loop.time() - before < 0.1, "nor does its replacement"
            await asyncio.sleep(0.2)
        assert [DOWN] == await stuck.settled()
        assert [DOWN] == await waits.settled()
        assert loop.time() - began < 25
    assert 100 == len(broker.log["t", 1])
    assert [] == broker.log["t", 0]


@virtually
async def test_while_kafka_is_down_answers_come_soon_and_it_comes_back_by_itself() -> None:
    broker = Broker(partitions=1)
    async with running(broker) as made:
        loop = asyncio.get_running_loop()
        broker.up.clear()
        under_way = made.submit("t", [(b"k", b"1")])
        assert [DOWN] == await under_way.settled()
        assert loop.time() < producer.ANSWER_SECONDS + 1
        await asyncio.sleep(producer.PATIENCE_SECONDS * 2)
        began = loop.time()
        assert not await made.available()
        assert [DOWN] == await made.submit("t", [(b"k", b"2")]).settled()
        assert loop.time() - began <= 2 * producer.PATIENCE_SECONDS + producer.LOOK_SECONDS
        broker.up.set()
        await asyncio.sleep(40)
        assert await made.available()
        assert [None] == await made.submit("t", [(b"k", b"3")]).settled()
    assert [b"3"] == [value for _, value in broker.records]


@virtually
async def test_what_lacks_a_topic_or_a_right_is_said_until_it_has_it() -> None:
    broker = Broker()
    broker.starts = [ProduceError("there is no topic t", "create it", lasting=True)] * 5
    async with running(broker) as made:
        trouble = made.trouble
        assert trouble is not None
        assert ("there is no topic t", "create it") == trouble
        assert [DOWN] == await made.submit("t", [(b"k", b"1")]).settled()
        await asyncio.sleep(20)
        assert made.trouble is None
        assert [None] == await made.submit("t", [(b"k", b"2")]).settled()


@virtually
async def test_a_producer_that_ended_without_a_word_is_replaced() -> None:
    broker = Broker()
    async with running(broker) as made:
        never = asyncio.Event()
        broker.answers[0] = [never]
        waits = made.submit("t", [(b"\0", b"1")])
        await asyncio.sleep(0.1)
        broker.writers[-1].ended = True
        assert [None] == await waits.settled()
    assert 2 == len(broker.writers)


@virtually
async def test_at_the_end_nobody_is_left_waiting() -> None:
    broker = Broker(partitions=2)
    memory = Room(1 << 20)
    made = EventProducer(broker.connect, memory, LoopClock(), GatewayNotes())
    task = asyncio.ensure_future(made.run())
    await asyncio.sleep(0.1)
    broker.up.clear()
    left = [made.submit("t", [(b"\0", b"1"), (b"\1", b"2")]) for _ in range(3)]
    await asyncio.sleep(0.1)
    task.cancel()
    for one in left:
        assert [DOWN, DOWN] == await one.settled()
    assert 0 == memory.taken


@virtually
async def test_limits_are_asked_again() -> None:
    broker = Broker()
    async with running(broker):
        await asyncio.sleep(3 * producer.LIMITS_SECONDS + 1)
    assert 2 <= broker.writers[-1].asked <= 3


@virtually
async def test_what_is_under_way_when_kafka_is_given_up_is_not_stored_later() -> None:
    broker = Broker(partitions=1)
    async with running(broker) as made:
        broker.up.clear()
        assert [DOWN] == await made.submit("t", [(b"k", b"1")]).settled()
        await asyncio.sleep(producer.PATIENCE_SECONDS + 1)
        broker.up.set()
        await asyncio.sleep(100)
    assert [] == broker.records


@virtually
async def test_a_replacement_that_cannot_start_is_tried_more_and_more_seldom() -> None:
    broker = Broker(partitions=2)
    broker.answers[0] = [fault(again=False)]
    broker.starts = [None, *[ProduceError("not yet")] * 1000]
    async with running(broker) as made:
        assert [DOWN] == await made.submit("t", [(b"\0", b"1")]).settled()
        for _ in range(100):  # the other partition goes on with what there is
            assert [None] == await made.submit("t", [(b"\1", b"x")]).settled()
            await asyncio.sleep(0.1)
        assert len(broker.writers) < 40


@virtually
async def test_a_fault_that_nobody_foresaw_fails_its_batch_alone() -> None:
    broker = Broker(partitions=1)
    async with running(broker) as made:
        odd = made.submit("t", [(b"k", b"no bytes")])
        broker.odd.append(ValueError("odd"))
        assert [DOWN] == await odd.settled()
        await asyncio.sleep(2)
        assert [None] == await made.submit("t", [(b"k", b"2")]).settled()


@virtually
async def test_readiness_waits_for_the_first_connection_before_it_calls_it_a_failure() -> None:
    made = EventProducer(Broker().connect, Room(1000), LoopClock(), GatewayNotes())
    asked = asyncio.ensure_future(made.check())
    await asyncio.sleep(producer.FIRST_SECONDS / 2)
    assert not asked.done()
    task = asyncio.ensure_future(made.run())
    await asked
    task.cancel()


@virtually
async def test_readiness_does_not_wait_long_for_a_connection_that_is_not_made() -> None:
    made = EventProducer(Broker().connect, Room(1000), LoopClock(), GatewayNotes())
    with pytest.raises(ProduceError, match="not connected"):
        await made.check()
