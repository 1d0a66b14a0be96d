"""One idempotent producer: appends batches of records to partitions, each of them once.

Unlike the transactional producer it is shared by everything a process writes to a few topics, and
several batches are under way at a time, one for each partition at most.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
)
from aiokafka.partitioner import murmur2

from forwarder import cancellation
from forwarder.config.settings import Kafka
from forwarder.errors import ForwarderError, JournalError
from forwarder.kafka import error_codes
from forwarder.kafka.admin import KafkaAdmin
from forwarder.kafka.client import FAILURES, client_arguments, client_error, close_producer
from forwarder.kafka.error_codes import ErrorContext, KafkaErrorClass
from forwarder.kafka.patches import producers, requests

BATCH_BYTES = 1024 * 1024
"""Bytes of a batch of more than one record."""

BATCH_OVERHEAD_BYTES = 61
RECORD_OVERHEAD_BYTES = 64
"""What a batch has besides its records (KIP-98), and a record besides key and value: 21 bytes at
most of lengths and differences, and room to spare."""

DEFAULT_MESSAGE_BYTES = 1_048_588
"""``max.message.bytes`` of a topic that does not say (Kafka's own default)."""

LEAST_MESSAGE_BYTES = 16 * 1024
"""Below this no limit is guessed, whatever brokers refuse."""

START_SECONDS = 15.0
REQUEST_MS = 8_000
"""How long brokers wait for replicas before they answer; below ``requests.IMPATIENCE``."""

REFUSED = (MessageSizeTooLargeError, RecordListTooLargeError)

OutgoingRecord = tuple[bytes, bytes]
"""Key and value."""


class ProduceError(ForwarderError):
    """Records were not stored, as far as is known; the producer is only good for ``close``.

    ``again``: another producer may be given them, with the same right to succeed. ``too_large``:
    the topic takes no batch of this size.
    """

    again = True
    too_large = False


class IdempotentProducer:
    """Appends to the topics it was started for; after any ProduceError only good for ``close``.

    A batch that was refused has taken its place in the numbering of its partition, so brokers
    refuse all later ones there.
    """

    def __init__(
        self,
        kafka: Kafka,
        client_id: str,
        admin: KafkaAdmin,
        topics: Sequence[str],
        limits: dict[str, int],
    ) -> None:
        """Prepare; raises StartupError for unusable files.

        ``admin`` is closed by its owner. ``limits``: what is known of ``max.message.bytes`` by
        topic; it is kept up here, and outlives the producer.
        """
        self._arguments = client_arguments(kafka, client_id) | {
            "acks": "all",
            "enable_idempotence": True,
            "linger_ms": 0,
            "max_batch_size": BATCH_BYTES,
            "request_timeout_ms": REQUEST_MS,
        }
        self._admin = admin
        self._topics = topics
        self._producer: Any = None
        self._counts: dict[str, int] = {}
        self._limits = limits

    async def start(self) -> None:
        """Learn of the topics, and get a producer id; raises ProduceError.

        Topics are not created, no more than the worker creates those that it reads.
        """
        await self.ask_limits()
        producer = self._producer = AIOKafkaProducer(**self._arguments)
        requests.limit_requests(producer.client)
        try:
            async with asyncio.timeout(START_SECONDS):
                await producer.start()
                for topic in self._topics:
                    self._counts[topic] = len(await producer.partitions_for(topic))
        except FAILURES as error:
            what = "no producer could be started"
            raise self._failure(what, error, "") from error

    async def ask_limits(self) -> None:
        """Ask what the topics take and whether they are there; raises ProduceError.

        Where the settings may not be read, the limit is what it was, at first Kafka's default.
        Caller: ``start``, and whoever keeps the producer running, once a minute or so.
        """
        try:
            known = await self._admin.partition_counts()
            granted = await self._admin.topic_rights(self._topics) or {}
            settings = await self._admin.settings(self._topics)
        except JournalError as error:
            raise ProduceError(error.what, error.remedy, lasting=error.lasting) from error
        for topic in self._topics:
            if topic not in known:
                text = f"there is no topic {topic}"
                remedy = error_codes.unknown_topic_remedy(topic)
                raise ProduceError(text, remedy, lasting=True)
            if "Write" not in granted.get(topic, "Write"):
                text, denied = f"nothing may be written to {topic}", TopicAuthorizationFailedError()
                raise client_error(ProduceError, text, denied, ErrorContext(topic, "Write"))
            told = settings.get(topic, "")
            limit = "" if isinstance(told, str) else told.get("max.message.bytes", "")
            if limit.isdigit():
                self._limits[topic] = int(limit)
            if self._producer is not None:
                found = self._producer.client.cluster.partitions_for_topic(topic)
                self._counts[topic] = len(found or ()) or self._counts[topic]

    def lower_limit(self, topic: str, refused: int) -> None:
        """Take note that a batch of so many bytes is too large, where nobody may ask."""
        self._limits[topic] = max(LEAST_MESSAGE_BYTES, min(refused, self.limit(topic)) // 2)

    def limit(self, topic: str) -> int:
        """Return how many bytes a batch of the topic may have."""
        return self._limits.get(topic, DEFAULT_MESSAGE_BYTES)

    def partition(self, topic: str, key: bytes) -> int:
        """Return the partition of a key, as Kafka's own clients choose it."""
        return int(murmur2(key) & 0x7FFFFFFF) % self._counts[topic]

    @property
    def ended(self) -> bool:
        """Tell whether nothing will be sent any more, nor anybody told."""
        sender = None if self._producer is None else producers.sender_task(self._producer)
        return sender is not None and sender.done()

    async def send(self, topic: str, number: int, records: Iterable[OutgoingRecord]) -> None:
        """Append a batch; returns once all replicas in sync have it. Raises ProduceError.

        The caller gives at most ``limit`` bytes, and ``BATCH_BYTES`` unless it is one record; and
        waits for the end of one batch before it gives the same partition the next.
        """
        producer = self._producer
        try:
            batch = producer.create_batch()
            taken = [batch.append(timestamp=None, key=k, value=v) for k, v in records]
            if None in taken:  # it would be missing from what is answered as stored
                raise _overfull(topic, number)
            size = batch.size()
            await (await producer.send_batch(batch, topic, partition=number))
        except FAILURES as error:
            failure = self._failure(f"{topic}/{number} takes nothing", error, topic)
            if isinstance(error, REFUSED):
                failure.too_large, failure.again = True, False
                self.lower_limit(topic, size)
            raise failure from error
        except asyncio.CancelledError as error:
            if cancellation.is_ending(error):
                raise
            text = f"{topic}/{number}: the producer was closed"
            raise ProduceError(text) from error

    async def close(self) -> None:
        """Give the producer up; what is on its way may still be stored. Raises nothing."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await close_producer(producer, flush=False)

    def _failure(self, what: str, error: BaseException, topic: str) -> ProduceError:
        cause = error
        if isinstance(error, TimeoutError) and self._producer is not None:
            topic, cause = producers.retried_error(self._producer) or (topic, error)
        failure = client_error(ProduceError, what, cause, ErrorContext(topic, "Write"))
        failure.again = error_codes.error_class(cause) is not KafkaErrorClass.OPERATOR
        return failure


def _overfull(topic: str, number: int) -> ProduceError:
    error = ProduceError(f"{topic}/{number}: a batch of more than {BATCH_BYTES} bytes was given")
    error.again = False
    return error
