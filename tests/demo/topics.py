"""The near end: the input topic, what is sent to it, and the dead letters."""

import asyncio
from collections.abc import Iterator
from heapq import merge

from aiokafka import AIOKafkaProducer

from tests.acceptance.cluster import Cluster
from tests.demo.connections import Kafka
from tests.demo.figures import Figures
from tests.traffic import Malformed, Upload

PARTITIONS = 6


async def create(kafka: Kafka) -> None:
    """Create the input topic; the worker creates its own."""
    async with Cluster(kafka.bootstrap) as cluster:
        await cluster.create(kafka.topic, PARTITIONS)


async def count_dead_letters(kafka: Kafka) -> int:
    """Return how many dead letters were committed."""
    async with Cluster(kafka.bootstrap) as cluster:
        return len(await cluster.read(kafka.dead_letters))


async def delete(kafka: Kafka) -> None:
    """Delete every topic that the demo or its worker made."""
    async with Cluster(kafka.bootstrap) as cluster:
        existing = await cluster.topics()
        await cluster.admin.delete_topics([name for name in kafka.topics if name in existing])


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
