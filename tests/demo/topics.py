"""The near end: the input topic, what is sent to it, and the dead letters."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from heapq import merge
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tests.demo.connections import Kafka
from tests.demo.figures import Figures
from tests.traffic import Malformed, Upload

PARTITIONS = 6
BROKEN_UNTIL = 60
"""Rounds of at most a second that reading dead letters may take."""


@asynccontextmanager
async def admin(kafka: Kafka) -> AsyncIterator[Any]:
    """Give a client that creates and deletes topics."""
    client = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await client.start()
    try:
        yield client
    finally:
        await client.close()


async def create(kafka: Kafka) -> None:
    """Create the input topic; the worker creates its own."""
    async with admin(kafka) as client:
        await client.create_topics([NewTopic(kafka.topic, PARTITIONS, 1)])


async def delete(kafka: Kafka) -> None:
    """Delete every topic the demo or its worker made."""
    async with admin(kafka) as client:
        existing = set(await client.list_topics())
        await client.delete_topics([name for name in kafka.topics if name in existing])


def in_order_of_time(
    uploads: Iterator[Upload], broken: Iterator[Malformed]
) -> Iterator[Upload | Malformed]:
    """Mix malformed records in among the uploads."""
    return merge(uploads, broken, key=lambda record: record.timestamp_ms)


async def send(
    kafka: Kafka, records: Iterator[Upload | Malformed], figures: Figures, start_ms: int
) -> None:
    """Send every record at its own time, ``start_ms`` being now, and wait until Kafka has all."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    producer = AIOKafkaProducer(
        bootstrap_servers=kafka.bootstrap, enable_idempotence=True, linger_ms=20
    )
    await producer.start()
    try:
        for record in records:
            await asyncio.sleep(begun + (record.timestamp_ms - start_ms) / 1000 - loop.time())
            enter(record, figures)
            await producer.send(
                kafka.topic, record.value, key=record.key, timestamp_ms=record.timestamp_ms
            )
        await producer.flush()
    finally:
        await producer.stop()


def enter(record: Upload | Malformed, figures: Figures) -> None:
    """Enter a record into the books."""
    if isinstance(record, Upload):
        figures.sent(record)
    else:
        figures.malformed += 1


async def count_dead_letters(kafka: Kafka) -> int:
    """Return how many dead letters were committed."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=kafka.bootstrap,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    )
    await consumer.start()
    try:
        numbers = consumer.partitions_for_topic(kafka.dead_letters) or await _known(
            consumer, kafka.dead_letters
        )
        partitions = [TopicPartition(kafka.dead_letters, number) for number in numbers]
        consumer.assign(partitions)
        return await _count(consumer, partitions)
    finally:
        await consumer.stop()


async def _known(consumer: Any, topic: str) -> set[int]:  # noqa: ANN401  # not typed
    await consumer.topics()
    return set(consumer.partitions_for_topic(topic) or ())


async def _count(consumer: Any, partitions: list[TopicPartition]) -> int:  # noqa: ANN401
    ends = await consumer.end_offsets(partitions)
    count = 0
    for _ in range(BROKEN_UNTIL):
        # Positions, not records: transaction markers take offsets too.
        behind = [p for p in partitions if await consumer.position(p) < ends[p]]
        if not behind:
            break
        polled = await consumer.getmany(*behind, timeout_ms=1_000)
        count += sum(map(len, polled.values()))
    return count
