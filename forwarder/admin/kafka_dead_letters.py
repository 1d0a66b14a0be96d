"""The dead letter topic as the commands see it: read it, and send letters back."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing

from forwarder.config.settings import Kafka
from forwarder.errors import FencedError, ForwarderError, JournalError
from forwarder.journal.dead_letters import RedriveMessage
from forwarder.journal.topics import message_limit
from forwarder.kafka.admin import KafkaAdmin
from forwarder.kafka.producer import BATCH_BYTES, OutgoingMessage, TransactionalProducer
from forwarder.kafka.reader import PartitionReader
from forwarder.model import LogBounds, Partition, Record

SETTLED_SECONDS = 60.0
"""How long the transaction of a worker may keep records behind it from being read: its own limit
is 45 s."""

_AGAIN = 0.2


class KafkaDeadLetterTopic:
    """The dead letter topic of a configuration. Close it in the end; the cluster is another's."""

    def __init__(self, kafka: Kafka, client_id: str, cluster: KafkaAdmin) -> None:
        """Create; connects at the first question."""
        self.topic = kafka.dead_letter_topic
        self._kafka = kafka
        self._client_id = client_id
        self._cluster = cluster
        self._readers: dict[Partition, PartitionReader] = {}

    async def bounds(self) -> Mapping[int, LogBounds]:
        """Return where each of its partitions starts and where its read_committed end is."""
        count = (await self._cluster.partition_counts()).get(self.topic, 0)
        if not count:
            text = (
                f"the dead letter topic {self.topic} does not exist, or Describe on it is refused: "
                "a worker creates it when it starts"
            )
            raise ForwarderError(text)
        found = await self._cluster.bounds([Partition(self.topic, n) for n in range(count)])
        return {partition.number: bounds for partition, bounds in found.items()}

    async def written_ends(self) -> dict[int, int]:
        """Return where each of its partitions ends, what is not committed yet included."""
        partitions = [Partition(self.topic, number) for number in await self.bounds()]
        found = await self._cluster.ends(partitions)
        return {partition.number: ends.high for partition, ends in found.items()}

    async def at_time(self, number: int, time_ms: int) -> int | None:
        """Return the offset of the first letter stored at or after a time."""
        return await self._cluster.offset_at(Partition(self.topic, number), time_ms)

    async def records(self, number: int, start: int, end: int) -> AsyncIterator[Record]:
        """Yield what is stored in a partition, in order."""
        where = Partition(self.topic, number)
        async with aclosing(self._reader(where).records(where, start, end)) as records:
            async for record in records:
                yield record

    async def original(self, partition: Partition, offset: int) -> Record | None:
        """Return an input record, None if it is not there any more."""
        if partition.number >= (await self._cluster.partition_counts()).get(partition.topic, 0):
            return None
        bounds = (await self._cluster.bounds([partition]))[partition]
        if not bounds.start <= offset < bounds.end:
            return None
        reader = self._reader(partition)
        found = [it async for it in reader.records(partition, offset, offset + 1)]
        return found[0] if found else None

    async def limits(self) -> Mapping[Partition, int]:
        """Return how large a message each input partition takes, in bytes."""
        names = [topic.name for topic in self._kafka.topics]
        counts = await self._cluster.partition_counts()
        found = await self._cluster.settings(name for name in names if name in counts)
        return {
            Partition(name, number): message_limit(found.get(name))
            for name in names
            for number in range(counts.get(name, 0))
        }

    def redrive_producer(self) -> "KafkaRedriveProducer":
        """Return a producer that sends letters back; it is not started."""
        return KafkaRedriveProducer(self._kafka, self._client_id, self)

    async def close(self) -> None:
        """Give up every connection within seconds; raises nothing."""
        await asyncio.gather(*(reader.close() for reader in self._readers.values()))

    def _reader(self, where: Partition) -> PartitionReader:
        if where not in self._readers:
            # The topic is the users', who may write to it what they like; so is the input.
            reader = PartitionReader(self._kafka, self._client_id, [where], any_writer=True)
            self._readers[where] = reader
        return self._readers[where]


class KafkaRedriveProducer:
    """Sends letters back in transactions of one id: the last that a group starts may write."""

    def __init__(self, kafka: Kafka, client_id: str, letters: KafkaDeadLetterTopic) -> None:
        """Create; ``start`` fences every other one of the group."""
        self._kafka = kafka
        self._client_id = client_id
        self._letters = letters
        self._writer: TransactionalProducer | None = None

    async def start(self) -> dict[int, int]:
        """Fence the group's other redrive producers; wait until all they committed can be read.

        What they left open is ended before this returns; but the transaction of a worker that
        began earlier hides what lies behind it.
        """
        limits = (await self._letters.limits()).values()
        name, most = f"{self._kafka.group_id}/redrive", min([BATCH_BYTES, *limits])
        self._writer = TransactionalProducer(self._kafka, self._client_id, name, most, "gzip")
        await self._writer.start()
        ends = await self._letters.written_ends()
        try:
            async with asyncio.timeout(SETTLED_SECONDS):
                while True:
                    stable = await self._letters.bounds()
                    if all(stable[number].end >= end for number, end in ends.items()):
                        return ends
                    await asyncio.sleep(_AGAIN)
        except TimeoutError:
            text = (
                f"{self._letters.topic}: a transaction has stayed open for {SETTLED_SECONDS:.0f} s,"
                " so that what was sent back before cannot be known; run this again later"
            )
            raise JournalError(text) from None

    async def send(self, outgoing: Sequence[RedriveMessage]) -> None:
        """Write these in one transaction; raises JournalError, also before it was started.

        Cancelled, it ends the transaction first: one left open would keep everybody from reading
        on in the input partitions, until the broker ends it.
        """
        if self._writer is None:
            text = "a redrive producer that was not started sends nothing"
            raise JournalError(text)
        messages = [
            OutgoingMessage(one.to.topic, one.to.number, one.value, headers=one.headers)
            for one in outgoing
        ]
        writing = asyncio.ensure_future(self._writer.commit(messages, {}))
        try:
            await asyncio.shield(writing)
        except FencedError as error:
            text = "another redrive of this group has begun, and sends the rest of what it is to"
            raise FencedError(text) from error
        except asyncio.CancelledError:
            await asyncio.gather(writing, return_exceptions=True)
            raise

    async def close(self) -> None:
        """Give the producer up within seconds; raises nothing."""
        if self._writer is not None:
            await self._writer.close()
