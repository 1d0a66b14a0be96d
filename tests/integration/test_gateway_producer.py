"""The gateway's producer on a real Kafka: nothing it answered for is lost, whatever dies."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from forwarder.clock import SystemClock
from forwarder.gateway.producer import EventProducer, ProduceFault
from forwarder.kafka.admin import KafkaAdmin
from forwarder.kafka.idempotent import IdempotentProducer
from forwarder.ops.gateway_reporter import GatewayReporter
from tests.services.kafka import Broker, own_broker
from tests.services.kafka_changes import Changes
from tests.services.kafka_world import World
from tests.unit.gateway.doubles import Room

pytestmark = pytest.mark.service

BUFFER = 64 * 1024 * 1024


@asynccontextmanager
async def producing(world: World) -> AsyncIterator[EventProducer]:
    """Run a producer for the input topic of a world."""
    kafka = world.settings().kafka
    admin = KafkaAdmin(kafka, "gateway")
    limits: dict[str, int] = {}
    buffer = Room(BUFFER)
    producer = EventProducer(
        lambda: IdempotentProducer(kafka, "gateway", admin, [world.topic], limits),
        buffer,
        SystemClock(),
        GatewayReporter(),
    )
    running = asyncio.ensure_future(producer.run())
    try:
        yield producer
    finally:
        running.cancel()
        await asyncio.wait([running])
        await admin.close()


async def until_available(producer: EventProducer) -> None:
    async with asyncio.timeout(60):
        while not await producer.available():
            pass


async def until(reached: Callable[[], bool]) -> None:
    for _ in range(600):
        if reached():
            return
        await asyncio.sleep(0.05)
    pytest.fail("not within 30 s")


async def values(world: World) -> list[bytes]:
    return [
        record.value
        for number in range(world.partitions)
        for record in await world.stored(world.topic, number)
    ]


async def send(
    producer: EventProducer, world: World, key: bytes, value: bytes
) -> Sequence[ProduceFault | None]:
    return await producer.submit(world.topic, [(key, value)]).settled()


async def test_records_of_a_key_are_stored_in_order_in_the_partition_of_kafkas_own_clients(
    kafka: str,
) -> None:
    world = World(kafka, partitions=3)
    await world.create_input()
    async with producing(world) as producer:
        await until_available(producer)
        sent = [producer.submit(world.topic, [(b"k%d" % (n % 7), b"%d" % n)]) for n in range(500)]
        for one in sent:
            assert [None] == await one.settled()
    for number in range(3):
        records = await world.stored(world.topic, number)
        for key in {record.key for record in records}:
            of_key = [int(record.value) for record in records if record.key == key]
            assert sorted(of_key) == of_key
    # ``k0`` to ``k6`` by murmur2, as the Java client spreads them.
    assert sorted(b"%d" % n for n in range(500)) == sorted(await values(world))


async def test_the_largest_record_that_fits_is_stored_and_the_limit_is_asked_of_the_topic(
    kafka: str,
) -> None:
    world = World(kafka, partitions=1)
    await world.create(world.topic, 1, {"max.message.bytes": "200000"})
    async with producing(world) as producer:
        await until_available(producer)
        room = producer.room(world.topic, b"k")
        assert 199_000 < room < 200_000
        large = [(b"k", b"x" * room), (b"k", b"y" * room), (b"k", b"z")]
        assert [None] * 3 == await producer.submit(world.topic, large).settled()
        await Changes(kafka).set_topic(world.topic, {"max.message.bytes": "20000"})
        assert [ProduceFault.UNAVAILABLE] == await send(producer, world, b"k", b"x" * room)
        await until(lambda: 19_000 < producer.room(world.topic, b"k") < 20_000)
        assert [None] == await send(producer, world, b"k", b"x" * producer.room(world.topic, b"k"))


async def test_a_topic_that_is_missing_is_named_and_taken_once_it_is_there(kafka: str) -> None:
    world = World(kafka, partitions=1)
    async with producing(world) as producer:
        wanted = f"create topic {world.topic}"
        await until(lambda: producer.trouble is not None and wanted in producer.trouble.remedy)
        assert [ProduceFault.UNAVAILABLE] == await send(producer, world, b"k", b"1")
        await world.create_input()
        await until_available(producer)
        assert [None] == await send(producer, world, b"k", b"2")
    assert [b"2"] == await values(world)


async def test_a_broker_killed_under_load_loses_nothing_that_was_answered_as_stored(
    tmp_path: Path,
) -> None:
    broker = await asyncio.to_thread(own_broker, tmp_path)
    try:
        await _killed_under_load(broker)
    finally:
        await asyncio.to_thread(broker.stop)


async def _killed_under_load(broker: Broker) -> None:
    world = World(broker.bootstrap, partitions=3)
    await world.create_input()
    stored: list[bytes] = []
    failed: list[bytes] = []
    ending = asyncio.Event()

    async def load(producer: EventProducer, device: int) -> None:
        number = 0
        while not ending.is_set():
            value = b"%d/%d" % (device, number)
            [fault] = await send(producer, world, b"%d" % device, value)
            (stored if fault is None else failed).append(value)
            number += 1
            await asyncio.sleep(0.005)

    async with producing(world) as producer:
        await until_available(producer)
        devices = [asyncio.ensure_future(load(producer, n)) for n in range(20)]
        for seconds in (0.5, 20.0):  # a short death is waited out, a long one is answered
            await asyncio.sleep(1)
            await asyncio.to_thread(broker.kill)
            await asyncio.sleep(seconds)
            await asyncio.to_thread(broker.start)
            await until_available(producer)
        await asyncio.sleep(2)
        ending.set()
        await asyncio.gather(*devices)
    counts = Counter(await values(world))
    assert len(stored) > 500
    assert failed, "a death of 20 s is longer than anybody waits"
    assert [] == [value for value in stored if not counts[value]]
    assert [] == [value for value in stored if counts[value] > 1]
