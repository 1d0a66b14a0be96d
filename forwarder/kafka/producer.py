"""One transactional producer: the only thing that writes to Kafka."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.structs import OffsetAndMetadata

from forwarder import cancellation
from forwarder.config.settings import Kafka
from forwarder.errors import FencedError, JournalError
from forwarder.kafka import error_codes
from forwarder.kafka.client import (
    FAILURES,
    client_arguments,
    client_error,
    close_producer,
    error_text,
)
from forwarder.kafka.error_codes import ErrorContext, KafkaErrorClass
from forwarder.kafka.patches import producers, requests
from forwarder.model import Commit, Partition

MESSAGE_BYTES = 16 * 1024 * 1024
"""``max.message.bytes`` of outbox, state and dead letters: an incompressible batch of the
largest size, or a record with dead-letter headers, must never poison a tick."""

UNPACKED_BYTES = 256 * 1024 * 1024
"""Bytes of the largest message that is sent compressed: as large as what is read back may become
(``journal.packing.LARGEST_VALUE``)."""

TRANSACTION_MS = 45_000
"""After this the broker ends a transaction by itself; above the limit of a tick."""

START_SECONDS = 30.0
TICK_SECONDS = 30.0
"""How long one transaction may take before its outcome counts as unknown."""

BATCH_BYTES = 1024 * 1024
"""Messages of one partition travel together up to this size; one request is out at a time."""

_SLACK = 64 * 1024


class OutgoingMessage(NamedTuple):
    """One message of a transaction."""

    topic: str
    number: int
    value: bytes
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes]] = ()


Settle = Callable[[Sequence[int]], Mapping[Partition, Commit]]
"""Gets the offset of each message, returns what to commit; may raise JournalError."""


class TransactionalProducer:
    """Runs transactions one at a time; after any error it is only good for ``close``."""

    def __init__(
        self,
        kafka: Kafka,
        client_id: str,
        transactional_id: str,
        batch_bytes: int = BATCH_BYTES,
        compression: str | None = None,
    ) -> None:
        """Prepare; ``batch_bytes`` is at most what the smallest topic written to accepts."""
        self._group = kafka.group_id
        self._name = transactional_id
        self._arguments = client_arguments(kafka, client_id) | {
            "transactional_id": transactional_id,
            "transaction_timeout_ms": TRANSACTION_MS,
            # The client compares it with what is not compressed yet.
            "max_request_size": (UNPACKED_BYTES if compression else MESSAGE_BYTES) + _SLACK,
            "max_batch_size": batch_bytes,
            "acks": "all",
            "enable_idempotence": True,
            "linger_ms": 0,
            "compression_type": compression,
        }
        self._producer: Any = None
        self._closing: asyncio.Task[None] | None = None
        self._spoiled: JournalError | None = None
        self._sent: dict[asyncio.Future[Any], str] = {}

    async def start(self) -> None:
        """Fence whoever writes under this transactional id, ending its transaction (O1)."""
        self._producer = AIOKafkaProducer(**self._arguments)
        requests.limit_requests(self._producer.client)
        async with self._step(START_SECONDS) as producer:
            await producer.start()

    async def commit(
        self, messages: Sequence[OutgoingMessage], offsets: Mapping[Partition, Commit] | Settle
    ) -> list[int]:
        """Send messages and offsets in one transaction; return the offset of each message (K4).

        ``offsets`` may depend on where the messages are; what it raises ends the transaction.
        None at all: the group commits nothing with it.
        Returns only if it is known to be committed; raises FencedError or JournalError.
        """
        async with self._step(TICK_SECONDS) as producer:
            await producer.begin_transaction()
            found = await self._send(producer, messages)
            if -1 in found:
                text = f"{self._name}: Kafka did not say where a message was stored"
                raise JournalError(text)
            settled = offsets(found) if callable(offsets) else offsets
            if settled:
                await producer.send_offsets_to_transaction(_offsets(settled), self._group)
            await producer.commit_transaction()
            return found

    async def prove(self, topic: str, number: int) -> None:
        """Raise FencedError unless this writer could still commit; nothing becomes visible."""
        async with self._step(TICK_SECONDS) as producer:
            await producer.begin_transaction()
            await self._send(producer, [OutgoingMessage(topic, number, b"")])
            await producer.abort_transaction()

    async def close(self) -> None:
        """Give the producer up within seconds; raises nothing.

        Whoever is cancelled meanwhile leaves it to end by itself, and who closes again waits for
        that: a producer left alive would go on writing under this transactional id.
        """
        producer, self._producer = self._producer, None
        if producer is not None:
            self._closing = cancellation.unbroken(close_producer(producer, flush=True))
        if self._closing is not None:
            await asyncio.shield(self._closing)

    @asynccontextmanager
    async def _step(self, seconds: float) -> AsyncIterator[Any]:
        """Bound a step in time; after the first failure every further step fails alike.

        Gives the producer: while the step waits, another task may close this writer.
        """
        if self._spoiled is not None:
            raise self._spoiled
        if (producer := self._producer) is None:
            text = f"{self._name}: its producer is closed"
            raise JournalError(text)
        try:
            async with asyncio.timeout(seconds) as limit, _alive(producer, limit):
                yield producer
        except FAILURES as error:
            self._spoiled = self._failure(producer, seconds, producers.ended_by(producer, error))
            raise self._spoiled from error
        except JournalError as error:
            self._spoiled = error
            raise
        except asyncio.CancelledError as error:
            self._spoiled = JournalError(f"{self._name}: a transaction was given up half-way")
            if cancellation.is_ending(error):
                raise
            raise self._spoiled from error  # the client passed on what it has cancelled itself

    async def _send(self, producer: Any, messages: Sequence[OutgoingMessage]) -> list[int]:  # noqa: ANN401
        sent = []
        for m in messages:
            future = await producer.send(
                m.topic, m.value, m.key, partition=m.number, headers=list(m.headers)
            )
            # One that is left behind by an earlier failure must not warn about its own.
            future.add_done_callback(producers.read_exception)
            sent.append(future)
        self._sent = dict(zip(sent, (m.topic for m in messages), strict=True))
        return [metadata.offset for metadata in await asyncio.gather(*sent)]

    def _failure(self, producer: Any, seconds: float, error: BaseException) -> JournalError:  # noqa: ANN401
        """Return which of the program's two errors this is, with the topic that it is about."""
        if error_codes.error_class(error) is KafkaErrorClass.FENCED:
            text = f"{self._name}: another owner took over ({error_text(error)})"
            return FencedError(text)
        topic, what = self._refused(error), self._name
        if isinstance(error, TimeoutError):
            what = f"{what}: Kafka did not finish within {seconds:.0f} s"
            if (again := producers.retried_error(producer)) is not None:
                topic, error = again
        return client_error(JournalError, what, error, ErrorContext(topic, "Write", self._group))

    def _refused(self, error: BaseException) -> str:
        """Return the topic of the first message that was refused with an error of this kind."""
        for future, topic in self._sent.items():
            if future.done() and not future.cancelled():
                found = future.exception()
                if found is error or type(found) is type(error):
                    return topic
        return ""


@asynccontextmanager
async def _alive(producer: Any, limit: asyncio.Timeout) -> AsyncIterator[None]:  # noqa: ANN401
    """Let a step's time be up as soon as the client's sender has ended: nobody would answer it.

    A connection that breaks while the coordinator is looked up ends it, and what waits for the
    end of the transaction is not told.
    """
    sender = producers.sender_task(producer)

    def give_up(_: "asyncio.Task[None]") -> None:
        with contextlib.suppress(RuntimeError):  # the step has ended meanwhile
            limit.reschedule(0.0)  # at once

    if sender is None:  # it is only being started
        yield
        return
    sender.add_done_callback(give_up)
    try:
        yield
    finally:
        sender.remove_done_callback(give_up)


def _offsets(offsets: Mapping[Partition, Commit]) -> dict[Any, Any]:
    return {
        TopicPartition(p.topic, p.number): OffsetAndMetadata(c.offset, c.metadata)
        for p, c in offsets.items()
    }
