"""What tests do to a Kafka beside the program: topics, input, and a look at what is stored."""

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from forwarder.config.settings import (
    Configuration,
    InputTopic,
    JournalSettings,
    Kafka,
    Start,
)
from forwarder.kafka.admin import KafkaAdmin

READ_SECONDS = 30.0


class World:
    """One group and one input topic with names of their own, so that a cluster can be shared."""

    def __init__(self, bootstrap: str, partitions: int = 2) -> None:
        name = uuid.uuid4().hex[:10]
        self.bootstrap = bootstrap
        self.partitions = partitions
        self.group = f"group-{name}"
        self.topic = f"input-{name}"
        self.letters = f"letters-{name}"

    def settings(
        self,
        *,
        start: Start = Start.EARLIEST,
        create_topics: bool = True,
        outbox_retention_ms: int = 604_800_000,
    ) -> Configuration:
        kafka = Kafka(
            bootstrap_servers=tuple(self.bootstrap.split(",")),
            topics=(InputTopic(self.topic),),
            group_id=self.group,
            session_timeout_ms=6_000,
            start=start,
            dead_letter_topic=self.letters,
        )
        journal = JournalSettings(
            create_topics=create_topics, outbox_retention_ms=outbox_retention_ms
        )
        return Configuration(kafka, (), journal)

    @property
    def outbox(self) -> str:
        return f"{self.group}.outbox.{self.topic}"

    @property
    def state(self) -> str:
        return f"{self.group}.state.{self.topic}"

    async def create_input(self) -> None:
        await self.create(self.topic, self.partitions)

    async def create(
        self,
        topic: str,
        partitions: int,
        settings: Mapping[str, str] | None = None,
        replicas: int = 1,
    ) -> None:
        cluster = KafkaAdmin(self.settings().kafka, "world")
        assert await cluster.create(topic, partitions, replicas, settings or {}) is None
        await _until_visible(cluster, topic, partitions)

    async def grow(self, topic: str, partitions: int) -> None:
        cluster = KafkaAdmin(self.settings().kafka, "world")
        assert await cluster.grow(topic, partitions) is None
        await _until_visible(cluster, topic, partitions)

    async def delete(self, topic: str) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await admin.start()
        await admin.delete_topics([topic])
        await admin.close()

    async def produce(
        self,
        values: Sequence[bytes],
        partition: int = 0,
        *,
        commit: bool = True,
        **arguments: str | int,
    ) -> None:
        """Send records to the input: in a transaction where ``arguments`` name one."""
        producer = AIOKafkaProducer(
            bootstrap_servers=self.bootstrap, max_request_size=17_000_000, **arguments
        )
        transactional = "transactional_id" in arguments
        await producer.start()
        if transactional:
            await producer.begin_transaction()
        sent = [await producer.send(self.topic, v, partition=partition) for v in values]
        await asyncio.gather(*sent)
        if transactional:
            await (producer.commit_transaction() if commit else producer.abort_transaction())
        await producer.stop()

    async def stored(self, topic: str, number: int = 0, least: int = 0) -> list[Any]:
        """Return every committed record of a partition, at least so many.

        A broker may say that a transaction is committed before readers see it.
        """
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.bootstrap,
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=17_000_000,
        )
        await consumer.start()
        partition = TopicPartition(topic, number)
        consumer.assign([partition])
        end = (await consumer.end_offsets([partition]))[partition]
        found: list[Any] = []
        async with asyncio.timeout(READ_SECONDS):
            while await consumer.position(partition) < end or len(found) < least:
                polled = await consumer.getmany(timeout_ms=200)
                found += polled.get(partition, [])
        await consumer.stop()
        return found


async def _until_visible(cluster: KafkaAdmin, topic: str, partitions: int) -> None:
    for _ in range(500):
        if (await cluster.partition_counts(led=True)).get(topic, 0) >= partitions:
            break
        await asyncio.sleep(0.02)
    else:
        pytest.fail(f"{topic} never had {partitions} partitions")
    await cluster.close()
