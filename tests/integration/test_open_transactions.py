"""Who holds a partition back, as a real broker tells it: requests that the client does not have."""

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from forwarder.kafka.admin import KafkaAdmin
from forwarder.model import LogEnds, Partition
from tests.acceptance.harness import until
from tests.services.kafka_world import World


@pytest.fixture
async def world(kafka: str) -> World:
    world = World(kafka, partitions=2)
    await world.create_input()
    return world


@pytest.fixture
async def cluster(world: World) -> AsyncIterator[KafkaAdmin]:
    cluster = KafkaAdmin(world.settings().kafka, "asking")
    yield cluster
    await cluster.close()


async def opened(world: World, name: str, timeout_ms: int = 60_000) -> Any:  # noqa: ANN401
    """Return a producer with a transaction of one record open in partition 0."""
    producer = AIOKafkaProducer(
        bootstrap_servers=world.bootstrap,
        transactional_id=f"{world.group}-{name}",
        transaction_timeout_ms=timeout_ms,
    )
    await producer.start()
    await producer.begin_transaction()
    await producer.send_and_wait(world.topic, b"open", partition=0)
    return producer


async def held_by(cluster: KafkaAdmin, partition: Partition, name: str | None) -> bool:
    found = await cluster.open_transaction(partition)
    return (found.transactional_id if found else None) == name


async def test_the_oldest_open_transaction_is_told_with_its_name_begin_and_limit(
    world: World, cluster: KafkaAdmin
) -> None:
    first, second = Partition(world.topic, 0), Partition(world.topic, 1)
    assert await cluster.open_transaction(first) is None
    before = round(time.time() * 1000)
    one = await opened(world, "one", 45_000)
    two = await opened(world, "two")
    await world.produce([b"committed"] * 61)
    found = await cluster.open_transaction(first)
    assert found is not None
    assert (f"{world.group}-one", 45_000) == (found.transactional_id, found.timeout_ms)
    assert before - 1000 <= found.since_ms <= time.time() * 1000 + 1000
    assert before - 1000 <= found.wrote_ms <= time.time() * 1000 + 1000
    assert {first: LogEnds(0, 63), second: LogEnds(0, 0)} == await cluster.ends([first, second])
    assert await cluster.open_transaction(second) is None

    # A transaction has ended for its producer a moment before its marker is in the log.
    await one.commit_transaction()
    await until(lambda: held_by(cluster, first, f"{world.group}-two"), "the other is told")
    await two.abort_transaction()
    await until(lambda: held_by(cluster, first, None), "none is open")
    assert {first: LogEnds(65, 65)} == await cluster.ends([first])
    for producer in (one, two):
        await producer.stop()
