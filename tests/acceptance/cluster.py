"""Kafka as tests see it: make topics, send records, read everything that is committed."""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, NamedTuple, Self

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tests.acceptance.harness import until

LARGEST = 20 * 1024 * 1024
IN_FLIGHT = 500
"""Records awaiting their acknowledgement at once."""
READ_SECONDS = 600.0
"""A bound on reading a topic to its end; an hour's load takes a minute or two."""


class Sent(NamedTuple):
    """A record of the input as Kafka accepted it; the key names the device."""

    key: bytes
    value: bytes | None
    timestamp_ms: int
    topic: str
    partition: int
    offset: int


class Stored(NamedTuple):
    """A record as it was read back."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: dict[str, bytes]


class Cluster:
    """Clients of one Kafka; an async context manager."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self.admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=20_000)
        self._producer: Any = None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self.admin.start()
        self._stack.push_async_callback(self.admin.close)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    async def create(self, topic: str, partitions: int, **configs: str) -> None:
        """Create a topic; returns once every partition has a leader."""
        answer = await self.admin.create_topics(
            [NewTopic(topic, partitions, 1, topic_configs=configs)]
        )
        for name, code, *_ in answer.topic_errors:
            assert code == 0, f"{name}: error {code}"
        await self._producer_once()
        await self.until_there(topic, partitions)

    async def until_there(self, topic: str, partitions: int) -> None:
        """Wait until a topic has so many partitions with a leader."""

        async def there() -> bool:
            return await self.partitions(topic) == partitions

        await until(there, f"{topic} has {partitions} partitions")

    async def partitions(self, topic: str) -> int:
        """Return how many partitions of a topic have a leader now; 0: there is no such topic."""
        (found,) = await self.admin.describe_topics([topic])
        return sum(1 for p in found["partitions"] if p["error_code"] == 0 and p["leader"] >= 0)

    async def topics(self) -> set[str]:
        """Return the names of all topics."""
        return set(await self.admin.list_topics())

    async def _producer_once(self) -> Any:  # noqa: ANN401  # the library is not typed
        if self._producer is None:
            self._producer = AIOKafkaProducer(
                bootstrap_servers=self.bootstrap,
                enable_idempotence=True,
                max_request_size=LARGEST,
                linger_ms=5,
                metadata_max_age_ms=2_000,
            )
            await self._producer.start()
            self._stack.push_async_callback(self._producer.stop)
        return self._producer

    async def send(
        self,
        topic: str,
        records: Iterable[tuple[bytes, bytes | None, int]],
        partition: int | None = None,
    ) -> list[Sent]:
        """Send (key, value, timestamp in ms) in order; return them as Kafka accepted them."""
        producer = await self._producer_once()
        sent: list[Sent] = []
        waiting: list[tuple[bytes, bytes | None, int, Any]] = []
        for key, value, timestamp in records:
            future = await producer.send(topic, value, key, partition, timestamp)
            waiting.append((key, value, timestamp, future))
            if len(waiting) >= IN_FLIGHT:
                sent += await _accepted(waiting)
                waiting.clear()
        return sent + await _accepted(waiting)

    async def ends(self, topic: str) -> dict[int, int]:
        """Return each partition's read_committed end."""
        async with self._reader() as reader:
            partitions = await self._assign(reader, topic)
            ends = await reader.end_offsets(partitions)
        return {tp.partition: end for tp, end in ends.items()}

    async def read(self, topic: str, partition: int | None = None) -> list[Stored]:
        """Read every committed record, or one partition's, ordered by partition and offset."""
        found: list[Stored] = []
        async with self._reader() as reader:
            partitions = await self._assign(reader, topic, partition)
            ends = await reader.end_offsets(partitions)
            await reader.seek_to_beginning(*partitions)
            async with asyncio.timeout(READ_SECONDS):
                while [tp for tp in partitions if await reader.position(tp) < ends[tp]]:
                    polled = await reader.getmany(timeout_ms=200)
                    found += [_stored(tp, r) for tp, records in polled.items() for r in records]
        return sorted(found, key=lambda r: (r.partition, r.offset))

    async def committed(self, group: str) -> dict[tuple[str, int], tuple[int, str]]:
        """Return (offset, metadata) of each partition the group has committed."""
        found = await self.admin.list_consumer_group_offsets(group)
        return {
            (tp.topic, tp.partition): (at.offset, at.metadata)
            for tp, at in found.items()
            if at.offset >= 0
        }

    def _reader(self) -> "_Reader":
        return _Reader(self.bootstrap)

    async def _assign(
        self,
        reader: Any,  # noqa: ANN401
        topic: str,
        partition: int | None = None,
    ) -> list[TopicPartition]:
        count = await self.partitions(topic)
        assert count, f"there is no topic {topic}"
        numbers = range(count) if partition is None else [partition]
        partitions = [TopicPartition(topic, number) for number in numbers]
        reader.assign(partitions)
        return partitions


class _Reader:
    """A consumer without a group that is stopped at the end."""

    def __init__(self, bootstrap: str) -> None:
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap,
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="none",
            max_partition_fetch_bytes=LARGEST,
        )

    async def __aenter__(self) -> Any:  # noqa: ANN401  # the library is not typed
        await self._consumer.start()
        return self._consumer

    async def __aexit__(self, *_: object) -> None:
        await self._consumer.stop()


async def _accepted(
    waiting: Sequence[tuple[bytes, bytes | None, int, Any]],
) -> list[Sent]:
    answers = await asyncio.gather(*(future for *_, future in waiting))
    return [
        Sent(key, value, timestamp, at.topic, at.partition, at.offset)
        for (key, value, timestamp, _), at in zip(waiting, answers, strict=True)
    ]


def _stored(where: TopicPartition, record: Any) -> Stored:  # noqa: ANN401
    return Stored(
        where.topic,
        where.partition,
        record.offset,
        record.timestamp,
        record.key,
        record.value,
        dict(record.headers),
    )
