"""The gateway's producer on a real Kafka: nothing it answered for is lost, whatever dies."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from forwarder.clock import SystemClock
from forwarder.config.settings import Kafka
from forwarder.gateway.producer import ANSWER_SECONDS, EventProducer
from forwarder.gateway.waiting import ProduceFault
from forwarder.kafka.admin import KafkaAdmin
from forwarder.kafka.idempotent import IdempotentProducer
from forwarder.ops.gateway_reporter import GatewayReporter
from tests.integration.test_kafka_security import Secured, secured
from tests.services.kafka import Broker, own_broker, own_cluster
from tests.services.kafka_changes import Changes
from tests.services.kafka_world import World
from tests.unit.gateway.doubles import Room

pytestmark = pytest.mark.service

__all__ = ["secured"]  # the fixture

BUFFER = 64 * 1024 * 1024


@asynccontextmanager
async def producing(world: World, kafka: Kafka | None = None) -> AsyncIterator[EventProducer]:
    """Run a producer for the input topic of a world."""
    kafka = kafka or world.settings().kafka
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
        changes = Changes(kafka)
        await changes.set_topic(world.topic, {"max.message.bytes": "20000"})
        large_one = producer.submit(world.topic, [(b"k", b"x" * room)])
        while await large_one.settled() == [None]:  # the broker has not heard of it yet
            large_one = producer.submit(world.topic, [(b"k", b"x" * room)])
        await until(lambda: 19_000 < producer.room(world.topic, b"k") < 20_000)
        assert [None] == await send(producer, world, b"k", b"x" * producer.room(world.topic, b"k"))


async def test_a_record_may_be_larger_than_a_batch_of_several(kafka: str) -> None:
    world = World(kafka, partitions=1)
    await world.create(world.topic, 1, {"max.message.bytes": "4000000"})
    async with producing(world) as producer:
        await until_available(producer)
        room = producer.room(world.topic, b"k")
        records = [(b"k", b"1"), (b"k", b"x" * room), (b"k", b"2"), (b"k", b"3")]
        records += [(b"k", b"%d" % n + b"y" * 100) for n in range(20_000)]
        assert [None] * len(records) == await producer.submit(world.topic, records).settled()
    assert [value for _, value in records] == await values(world)


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


class Load:
    """Devices that send one record after the other, each counted as it is answered."""

    def __init__(self, producer: EventProducer, world: World, devices: int = 20) -> None:
        self.stored: list[bytes] = []
        self.failed: list[bytes] = []
        self.slowest = 0.0
        self._ending = asyncio.Event()
        self._producer = producer
        self._world = world
        self._tasks = [asyncio.ensure_future(self._device(n)) for n in range(devices)]

    async def _device(self, device: int) -> None:
        number = 0
        loop = asyncio.get_running_loop()
        while not self._ending.is_set():
            value, began = b"%d/%d" % (device, number), loop.time()
            [fault] = await send(self._producer, self._world, b"%d" % device, value)
            self.slowest = max(self.slowest, loop.time() - began)
            (self.stored if fault is None else self.failed).append(value)
            number += 1
            await asyncio.sleep(0.005)

    async def judge(self) -> None:
        """End the load; whatever was answered as stored is stored, once and in order."""
        self._ending.set()
        await asyncio.gather(*self._tasks)
        found = await values(self._world)
        counts = Counter(found)
        assert len(self.stored) > 500
        assert [] == [value for value in self.stored if counts[value] != 1]
        places: dict[bytes, list[int]] = defaultdict(list)
        kept = set(self.stored)
        for value in found:
            if value in kept:
                device, number = value.split(b"/")
                places[device].append(int(number))
        assert all(sorted(numbers) == numbers for numbers in places.values())


@asynccontextmanager
async def one_broker(folder: Path, extra: str = "") -> AsyncIterator[Broker]:
    broker = await asyncio.to_thread(own_broker, folder, extra)
    try:
        yield broker
    finally:
        await asyncio.to_thread(broker.stop)


async def test_a_broker_killed_under_load_loses_nothing_that_was_answered_as_stored(
    tmp_path: Path,
) -> None:
    async with one_broker(tmp_path) as broker:
        world = World(broker.bootstrap, partitions=3)
        await world.create_input()
        async with producing(world) as producer:
            await until_available(producer)
            load = Load(producer, world)
            for seconds in (0.5, 18.0):  # a short death is waited out, a long one is answered
                await asyncio.sleep(1)
                await asyncio.to_thread(broker.kill)
                await asyncio.sleep(seconds)
                await asyncio.to_thread(broker.start)
                await until_available(producer)
            await asyncio.sleep(2)
            await load.judge()
            assert load.failed, "a death of 18 s is longer than anybody waits"
            assert load.slowest < ANSWER_SECONDS + 2


async def test_a_broker_that_is_silent_is_answered_for_in_time_and_used_again(
    tmp_path: Path,
) -> None:
    async with one_broker(tmp_path) as broker:
        world = World(broker.bootstrap, partitions=3)
        await world.create_input()
        async with producing(world) as producer:
            await until_available(producer)
            load = Load(producer, world)
            await asyncio.sleep(1)
            broker.suspend()
            await asyncio.sleep(18)
            assert told(producer, "")
            broker.wake()
            await until_available(producer)
            await asyncio.sleep(2)
            assert not told(producer, "")
            await load.judge()
            assert load.slowest < ANSWER_SECONDS + 2


async def test_a_leader_that_dies_costs_no_answer_where_others_have_its_records(
    tmp_path: Path,
) -> None:
    brokers = await asyncio.to_thread(own_cluster, tmp_path)
    try:
        world = World(",".join(broker.bootstrap for broker in brokers), partitions=6)
        await world.create(world.topic, 6, replicas=3)
        async with producing(world) as producer:
            await until_available(producer)
            load = Load(producer, world)
            await asyncio.sleep(2)
            await asyncio.to_thread(brokers[1].kill)
            await asyncio.sleep(12)
            await asyncio.to_thread(brokers[1].start)
            await asyncio.sleep(3)
            await load.judge()
            assert [] == load.failed
    finally:
        for broker in brokers:
            await asyncio.to_thread(broker.kill)


async def test_rights_that_are_missing_or_taken_away_are_named(secured: Secured) -> None:
    world = World(secured.bootstrap, partitions=2)
    await world.create_input()
    changes, topic = Changes(secured.bootstrap), f"topic {world.topic}"
    kafka = secured.for_worker(world.settings(), "right").kafka
    async with producing(world, kafka) as producer:
        await until(lambda: told(producer, "grant Describe on it"))
        await changes.grant(topic, "Describe")
        await until(lambda: told(producer, f"grant Write on {topic}"))
        await changes.grant(topic, "Write")
        await until_available(producer)
        assert [None] == await send(producer, world, b"k", b"1")
        await changes.deny(topic, "Write")
        for _ in range(600):
            if not await producer.available():
                break
            await send(producer, world, b"k", b"2")
            await asyncio.sleep(0.05)
        await until(lambda: told(producer, f"grant Write on {topic}"))
        await changes.deny_no_more(topic, "Write")
        await until_available(producer)
        await until(lambda: not told(producer, ""))
        assert [None] == await send(producer, world, b"k", b"3")


def told(producer: EventProducer, words: str) -> bool:
    return producer.trouble is not None and words in producer.trouble.remedy
