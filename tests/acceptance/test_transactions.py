"""Producers with transactions: what is open is told, and what has ended leaves no lag behind.

The group's own commit is held against the log's end as ``kafka-consumer-groups`` does it.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from tests.acceptance.commands import status
from tests.acceptance.harness import Worker, until
from tests.acceptance.scene import Scene
from tests.builders import encoded, event, upload

pytestmark = pytest.mark.service

SINGLY = {"send_as_batch": False}
KNOWN = 60.0
"""Seconds within which a standstill has to be told, by the issue that asked for it."""


@asynccontextmanager
async def transaction(
    scene: Scene, which: range, timeout_ms: int = 600_000
) -> AsyncIterator[AIOKafkaProducer]:
    """Give a producer with a transaction open in partition 0 that holds these numbers."""
    producer = AIOKafkaProducer(
        bootstrap_servers=scene.kafka.bootstrap,
        transactional_id=f"{scene.name}-billing",
        transaction_timeout_ms=timeout_ms,
    )
    await producer.start()
    await producer.begin_transaction()
    for n in which:
        value = encoded(upload(event(n=n), device="d1"))
        await producer.send_and_wait(scene.topic, value, partition=0)
    yield producer
    await producer.stop()


async def plain(scene: Scene, which: range) -> None:
    """Send numbers without a transaction, into partition 0."""
    now = time.time_ns() // 1_000_000
    rows = [(b"d1", encoded(upload(event(n=n), device="d1")), now) for n in which]
    await scene.kafka.send(scene.topic, rows, partition=0)


async def lag(scene: Scene) -> int:
    """Return the LAG that Kafka's own tool would show for partition 0."""
    tp = TopicPartition(scene.topic, 0)
    consumer = AIOKafkaConsumer(bootstrap_servers=scene.kafka.bootstrap)
    await consumer.start()
    try:
        end: int = (await consumer.end_offsets([tp]))[tp]
    finally:
        await consumer.stop()
    committed = await scene.kafka.committed(scene.name)
    return end - committed.get((scene.topic, 0), (0, ""))[0]


def gauge(worker: Worker, name: str, scene: Scene) -> float | None:
    return worker.metrics().get(f'forwarder_{name}{{partition="0",topic="{scene.topic}"}}')


def is_zero(worker: Worker, name: str, scene: Scene) -> bool:
    return gauge(worker, name, scene) == 0


def stalled(worker: Worker, scene: Scene) -> dict[str, Any]:
    code, text = worker.get("/readyz")
    assert code == 200, "ready it is all the while"
    found: dict[str, Any] = json.loads(text)["partitions"][f"{scene.topic}/0"].get("stalled", {})
    return found


async def caught_up(worker: Worker, scene: Scene) -> None:
    """Wait until nothing lags: by the worker's metrics, by Kafka's tool, and by status."""

    async def settled() -> bool:
        return await lag(scene) == 0

    await worker.until(settled, "the committed offset steps over markers")
    for name in ("read_lag_records", "commit_lag_records"):
        await worker.until(partial(is_zero, worker, name, scene), f"{name} is 0")
    told = await status(scene)
    [one] = [p for p in told["partitions"] if p["number"] == 0]
    assert (0, 0, None) == (one["lag_read"], one["lag_commit"], one["stalled"])


@pytest.fixture
async def worker(scene: Scene) -> Worker:
    scene.to_file(settings=SINGLY)
    worker = scene.worker()
    worker.start()
    await worker.until_ready()
    return worker


async def test_an_input_that_goes_idle_after_transactions_has_no_lag(
    scene: Scene, worker: Worker
) -> None:
    async with transaction(scene, range(5)) as producer:
        await producer.commit_transaction()
        await worker.until(lambda: scene.numbers() == [*range(5)], "what is committed arrives")
        await caught_up(worker, scene)
        await producer.begin_transaction()
        await producer.send_and_wait(scene.topic, b"never", partition=0)
        await producer.abort_transaction()
        await caught_up(worker, scene)
    assert [*range(5)] == scene.numbers()


async def test_an_open_transaction_is_told_everywhere_within_a_minute_and_forgotten_at_its_end(
    scene: Scene, worker: Worker
) -> None:
    began = time.monotonic()
    async with transaction(scene, range(1)) as producer:
        await plain(scene, range(1, 62))
        await worker.until(lambda: gauge(worker, "read_lag_records", scene) == 62, "it is lag")
        await worker.until(lambda: stalled(worker, scene), "it is told", KNOWN)
        assert time.monotonic() - began < KNOWN
        assert [] == scene.numbers(), "nothing flows"
        told = stalled(worker, scene)
        assert ("open_transaction", 0, 62) == (
            told["reason"], told["position"], told["high_watermark"]
        )  # fmt: skip
        name = f"{scene.name}-billing"
        assert name in told["what"]
        [line] = worker.logged("input.stalled")
        assert (name in line["what"], "open_transaction") == (True, line["reason"])
        sample = "forwarder_read_stalled_seconds"
        labels = f'partition="0",reason="open_transaction",topic="{scene.topic}"'
        assert worker.metrics()[f"{sample}{{{labels}}}"] >= 20
        told = await status(scene)
        [one] = [p for p in told["partitions"] if p["number"] == 0]
        assert (62, 62) == (one["lag_read"], one["input_high_watermark"])
        assert ("open_transaction", name) == (
            one["stalled"]["reason"], one["stalled"]["transactional_id"]
        )  # fmt: skip
        await producer.commit_transaction()
        await worker.until(lambda: scene.numbers() == [*range(62)], "everything arrives")
    await caught_up(worker, scene)
    await worker.until(lambda: not stalled(worker, scene), "it is told no more")
    assert worker.logged("input.resumed")


async def test_what_a_dead_producer_left_open_ends_with_its_timeout(
    scene: Scene, worker: Worker
) -> None:
    async with transaction(scene, range(1), timeout_ms=5_000) as producer:
        await plain(scene, range(1, 4))
        producer._sender._sender_task.cancel()  # noqa: SLF001  # it dies without a word
        await asyncio.wait([producer._sender._sender_task])  # noqa: SLF001
        await producer.client.close()
    await worker.until(lambda: scene.numbers() == [1, 2, 3], "what lies behind it arrives", KNOWN)
    await caught_up(worker, scene)
    await until(worker.running.__bool__, "it lives")
