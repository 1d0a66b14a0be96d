"""A topic with rounds of a load that become readable one after the other.

Each round is written in a transaction of its own, and a reader of committed records sees none of a
round before it is committed: so a worker can be brought to rest between two rounds, and nobody
waits for the producer.
"""

import zlib
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaProducer

from tests.acceptance.cluster import Cluster
from tests.bench.load import Row

OPEN_MS = 900_000
"""How long a round may wait until it is committed: the most that a broker grants by default."""

BATCH_BYTES = 16 * 1024
"""What producers send at a time by default."""


@asynccontextmanager
async def new_topic(cluster: Cluster, name: str, partitions: int) -> AsyncIterator["Topic"]:
    """Make a topic, and delete it in the end."""
    await cluster.create(name, partitions, **{"retention.ms": "-1"})
    try:
        async with AsyncExitStack() as stack:
            yield Topic(cluster, name, partitions, stack)
    finally:
        await cluster.admin.delete_topics([name])


class Topic:
    """One topic and its rounds; ``stack`` closes what writes them."""

    def __init__(self, cluster: Cluster, name: str, partitions: int, stack: AsyncExitStack) -> None:
        self.cluster = cluster
        self.name = name
        self.partitions = partitions
        self._open: list[AIOKafkaProducer] = []
        self._stack = stack

    async def write(self, rounds: Iterable[Iterator[Row]], begin_ms: int) -> None:
        """Write every round; none can be read yet. Times are counted from ``begin_ms``."""
        for number, rows in enumerate(rounds):
            producer = AIOKafkaProducer(
                bootstrap_servers=self.cluster.bootstrap,
                transactional_id=f"{self.name}-{number}",
                transaction_timeout_ms=OPEN_MS,
                max_batch_size=BATCH_BYTES,
            )
            await producer.start()
            self._stack.push_async_callback(producer.stop)
            await producer.begin_transaction()
            self._open.append(producer)
            await self._fill(producer, rows, begin_ms)

    async def commit(self) -> None:
        """Let the next round be read."""
        await self._open.pop(0).commit_transaction()

    async def commit_all(self) -> None:
        """Let every round be read that waits."""
        while self._open:
            await self.commit()

    async def _fill(self, producer: AIOKafkaProducer, rows: Iterator[Row], begin_ms: int) -> None:
        builders = [producer.create_batch() for _ in range(self.partitions)]
        sent: list[Any] = []
        for key, value, ms in rows:
            number = zlib.crc32(key) % self.partitions
            at = begin_ms + ms
            if builders[number].append(key=key, value=value, timestamp=at) is None:
                sent.append(await self._send(producer, builders[number], number))
                builders[number] = producer.create_batch()
                builders[number].append(key=key, value=value, timestamp=at)
        for number, builder in enumerate(builders):
            if builder.record_count():
                sent.append(await self._send(producer, builder, number))
        for future in sent:
            await future

    async def _send(self, producer: AIOKafkaProducer, builder: Any, number: int) -> Any:  # noqa: ANN401
        return await producer.send_batch(builder, self.name, partition=number)
