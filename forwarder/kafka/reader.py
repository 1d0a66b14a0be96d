"""Reads partitions from one offset to another, read_committed: journals and dead letters."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import ConsumerStoppedError

from forwarder import cancellation
from forwarder.config.settings import Kafka
from forwarder.errors import JournalError
from forwarder.kafka import client
from forwarder.kafka.error_codes import ErrorContext
from forwarder.kafka.patches import connections, consumers, requests
from forwarder.model import Partition, Sealed

START_SECONDS = 15.0
STALL_SECONDS = 15.0
"""How long a reader may make no progress before it is given up."""

POLL_MS = 500
POLL_RECORDS = 100

FETCH_BYTES = 2 * 1024 * 1024
"""Stored bytes of one fetch, of what is read from end to end."""

PIECE_BYTES = 256 * 1024
"""The same for what is read in pieces, here and there: most of a longer fetch would be thrown away,
and until then the client holds two or three copies of it."""

_FOREIGN = (
    "only workers may write to this topic: restore it, and see who else is granted Write on it"
)

WAIT_MS = 100
"""A stretch that is read exists already, so a fetch has nothing to wait for but markers."""


class ReadRecords(NamedTuple):
    """What a read found, as the client made them (``offset``, ``key``, ``value`` …).

    ``upto``: where to go on, ``end`` once all below it was seen. ``seen``: the bytes of the values
    of all it passed, those of other keys included.
    """

    records: Sequence[Any]
    upto: int
    seen: int


class PartitionReader:
    """One consumer over the given partitions, all paused but the one being read."""

    def __init__(
        self,
        kafka: Kafka,
        client_id: str,
        partitions: Iterable[Partition],
        fetch_bytes: int = FETCH_BYTES,
        *,
        any_writer: bool = False,
    ) -> None:
        """Prepare; the connection is made by the first read.

        ``any_writer``: others may write there what they like, and batches that cannot be unpacked
        are returned ``Sealed``. Else they are refused: only workers write to a journal.
        """
        self._any_writer = any_writer
        self._arguments = client.client_arguments(kafka, client_id)
        self._fetch_bytes = fetch_bytes
        self._partitions = [TopicPartition(p.topic, p.number) for p in partitions]
        self._ahead: dict[TopicPartition, deque[Any]] = {p: deque() for p in self._partitions}
        self._next: dict[TopicPartition, int] = {}
        self._consumer: Any = None
        self._closing: asyncio.Task[None] | None = None
        self._one_at_a_time = asyncio.Lock()

    async def read(
        self,
        where: Partition,
        start: int,
        end: int,
        max_bytes: int,
        keys: Collection[bytes] | None = None,
    ) -> ReadRecords:
        """Return the records in [``start``, ``end``) with one of ``keys``; None: all of them.

        About ``max_bytes`` of values are seen, one record at least if there is one below ``end``.
        What was fetched beyond waits for a read that goes on there. Raises JournalError.
        """
        partition = TopicPartition(where.topic, where.number)
        found: list[Any] = []
        seen, upto = 0, end
        async with self._reading(partition, start):
            ahead = self._ahead[partition]
            while ahead or await self._fetch(partition, end):
                if ahead[0].offset >= end:
                    break
                record = ahead.popleft()
                if keys is None or record.key in keys:
                    found.append(record)
                seen += len(record.value)
                if seen >= max_bytes:
                    upto = record.offset + 1
                    break
            self._next[partition] = upto
        return ReadRecords(found, upto, seen)

    async def records(self, where: Partition, start: int, end: int) -> AsyncGenerator[Any, None]:
        """Yield every record in [``start``, ``end``); no more than one fetch is in memory.

        Whoever leaves it early closes it (``aclosing``): until then nothing else can be read.
        Raises JournalError.
        """
        partition = TopicPartition(where.topic, where.number)
        async with self._reading(partition, start):
            ahead = self._ahead[partition]
            while ahead or await self._fetch(partition, end):
                record = ahead.popleft()
                if record.offset >= end:
                    return
                yield record

    async def close(self) -> None:
        """Give the connection up within seconds; raises nothing.

        Whoever is cancelled meanwhile leaves it to end by itself; who closes again waits for that.
        """
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            self._closing = cancellation.unbroken(client.close_consumer(consumer))
        if self._closing is not None:
            await asyncio.shield(self._closing)

    @asynccontextmanager
    async def _reading(self, partition: TopicPartition, start: int) -> AsyncIterator[None]:
        """Let one stretch at a time be read; a failure of the client becomes a JournalError."""
        async with self._one_at_a_time:
            try:
                await self._begin(partition, start)
                yield
            except client.FAILURES as error:
                text = f"{partition.topic}/{partition.partition} cannot be read"
                place, why = ErrorContext(partition.topic, "Read"), self._why(partition, error)
                raise client.client_error(JournalError, text, why, place) from error
            finally:
                self._rest(partition)

    def _why(self, partition: TopicPartition, error: BaseException) -> BaseException:
        """Return what its leader answers, where waiting for records was in vain; else the error."""
        if self._consumer is None or not isinstance(error, TimeoutError):
            return error
        return consumers.fetch_error(self._consumer, partition) or error

    async def _begin(self, partition: TopicPartition, start: int) -> None:
        if self._consumer is None:
            self._consumer = await self._connect()
        if self._next.pop(partition, None) != start:
            self._ahead[partition].clear()
            self._consumer.seek(partition, start)
        self._consumer.resume(partition)

    async def _connect(self) -> Any:  # noqa: ANN401  # the client ships no types
        consumer = AIOKafkaConsumer(
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            max_partition_fetch_bytes=self._fetch_bytes,
            fetch_max_wait_ms=WAIT_MS,
            **self._arguments,
        )
        requests.limit_requests(connections.client_of(consumer))
        try:
            async with asyncio.timeout(START_SECONDS):
                await consumer.start()
        except BaseException:
            await client.close_consumer(consumer)
            raise
        consumer.assign(self._partitions)
        consumer.pause(*self._partitions)
        for partition in self._partitions:
            # A partition without a position is asked for its commit, and there is no group.
            consumer.seek(partition, 0)
        return consumer

    async def _fetch(self, partition: TopicPartition, end: int) -> bool:
        """Fetch what comes next; False once the position, which steps over markers, is ``end``."""
        if (consumer := self._consumer) is None:
            raise ConsumerStoppedError  # it was closed meanwhile
        async with asyncio.timeout(STALL_SECONDS):
            while await consumer.position(partition) < end:
                polled = await consumer.getmany(timeout_ms=POLL_MS, max_records=POLL_RECORDS)
                await asyncio.sleep(0)
                if records := polled.get(partition):
                    self._look_at(partition, records)
                    self._ahead[partition].extend(records)
                    return True
        return False

    def _look_at(self, partition: TopicPartition, records: Sequence[Any]) -> None:
        """Raise JournalError for a batch that cannot be unpacked: none that was written here is."""
        for record in records if not self._any_writer else ():
            if isinstance(record.value, Sealed):
                where = f"{partition.topic}/{partition.partition}"
                what = f"{where} cannot be read: {record.value.error}"
                raise JournalError(what, _FOREIGN, lasting=True)

    def _rest(self, partition: TopicPartition) -> None:
        if self._consumer is not None:
            self._consumer.pause(partition)
