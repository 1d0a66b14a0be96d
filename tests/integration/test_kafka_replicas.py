"""A topic whose replicas are out of sync takes nothing: that is said, with what to do."""

import asyncio
from pathlib import Path

import pytest

from forwarder.admin.kafka_checkup import KafkaCheckup
from forwarder.config.settings import Configuration, Kafka
from forwarder.errors import JournalError
from forwarder.kafka.producer import OutgoingMessage, TransactionalProducer
from forwarder.ops.diagnosis import Finding, FindingGrade
from tests.services.kafka import own_cluster
from tests.services.kafka_world import World

pytestmark = pytest.mark.service


async def test_too_few_replicas_are_named_until_there_are_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("forwarder.kafka.producer.TICK_SECONDS", 10.0)
    brokers = await asyncio.to_thread(own_cluster, tmp_path)
    try:
        world = World(",".join(broker.bootstrap for broker in brokers), partitions=1)
        for topic in (world.topic, world.outbox, world.state, world.letters):
            await world.create(topic, 1, {"min.insync.replicas": "3"}, 3)
        message = [OutgoingMessage(world.outbox, 0, b"x")]
        settings = world.settings()
        await recovered(settings.kafka, message, f"{world.group}/x")
        await asyncio.to_thread(brokers[2].kill)
        complaint = await complained(settings, f"topic {world.outbox}: 2 of 3 replicas")
        assert FindingGrade.FAIL is complaint.grade
        assert "start the brokers" in complaint.remedy
        writer = TransactionalProducer(settings.kafka, "me", f"{world.group}/z")
        await writer.start()
        with pytest.raises(JournalError, match="NotEnoughReplicas") as told:
            await writer.commit(message, {})
        assert f"replicas of topic {world.outbox} are in sync" in told.value.remedy
        await writer.close()
        await asyncio.to_thread(brokers[2].start)
        await recovered(settings.kafka, message, f"{world.group}/y")
    finally:
        for broker in brokers:
            await asyncio.to_thread(broker.kill)


async def complained(settings: Configuration, beginning: str) -> Finding:
    """Return the complaint that begins so, once the brokers know it."""
    async with asyncio.timeout(60):
        while True:
            for one in await KafkaCheckup(settings, "doctor").complaints():
                if one.what.startswith(beginning):
                    return one


async def recovered(kafka: Kafka, message: list[OutgoingMessage], name: str) -> None:
    """Wait until a transaction goes through, each try with a producer of its own."""
    async with asyncio.timeout(60):
        while True:
            writer = TransactionalProducer(kafka, "me", name)
            try:
                await writer.start()
                await writer.commit(message, {})
            except JournalError:
                continue
            else:
                return
            finally:
                await writer.close()
