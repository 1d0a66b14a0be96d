"""A look at what a group keeps in Kafka, from outside: no membership, no fence, nothing written.

The one exception is :meth:`KafkaSurvey.writer`, for the commands that repair or move a partition.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence

from msgspec.structs import replace

from forwarder.admin.kafka_checkup import KafkaCheckup
from forwarder.admin.kafka_dead_letters import KafkaDeadLetterTopic
from forwarder.config.settings import Configuration, outbox_topic, state_topic
from forwarder.errors import ConfigurationError, ForwarderError, JournalError
from forwarder.journal.opening import Restored
from forwarder.journal.partition_logs import PartitionLogs
from forwarder.kafka import error_codes
from forwarder.kafka.admin import GroupState, KafkaAdmin
from forwarder.kafka.producer import OutgoingMessage, TransactionalProducer
from forwarder.model import Commit, LogBounds, LogEnds, OpenTransaction, Partition
from forwarder.ops.diagnosis import Finding

PATIENCE = 3.0
"""How long a Kafka that does not answer at all is waited for: somebody sits there."""


class KafkaSurvey:
    """What one configuration's group keeps. Close it in the end."""

    def __init__(self, settings: Configuration, client_id: str) -> None:
        """Create; connects at the first question."""
        self.settings = settings
        self.group_id = settings.kafka.group_id
        self._client_id = client_id
        self._cluster = KafkaAdmin(settings.kafka, client_id, PATIENCE)
        self._known: dict[Partition, PartitionLogs] = {}
        self._letters: KafkaDeadLetterTopic | None = None

    async def partitions(self, topics: Iterable[str] = ()) -> list[Partition]:
        """Return the partitions of the named input topics, of all of them if none is named.

        Raises ConfigurationError for a topic that is not configured, ForwarderError for one that
        is not there.
        """
        configured = [topic.name for topic in self.settings.kafka.topics]
        counts = await self._cluster.partition_counts()
        names = list(topics) or configured
        for name in names:
            if name not in configured:
                text = f"topic {name} is not configured; the topics are {', '.join(configured)}"
                raise ConfigurationError([text])
            if name not in counts:
                what = f"topic {name} does not exist, or is not shown"
                raise ForwarderError(what, error_codes.unknown_topic_remedy(name))
        return [Partition(name, number) for name in names for number in range(counts[name])]

    async def left_out(self) -> list[Partition]:
        """Return the partitions the group keeps a journal of, and whose topic is not configured."""
        counts = await self._cluster.partition_counts()
        configured = {topic.name for topic in self.settings.kafka.topics}
        prefix = state_topic(self.group_id, "")
        named = (name.removeprefix(prefix) for name in counts if name.startswith(prefix))
        # Both: "a.state.b" may be the state of group "a", or a topic of a group "a.state".
        found = [n for n in named if n and outbox_topic(self.group_id, n) in counts]
        return [
            Partition(name, number)
            for name in sorted(set(found) - configured)
            for number in range(counts[state_topic(self.group_id, name)])
        ]

    async def exists(self, partition: Partition) -> bool:
        """Tell whether an input partition is there."""
        return partition.number < (await self._cluster.partition_counts()).get(partition.topic, 0)

    async def find(
        self, partition: Partition, *, whole: bool = False, left_out: bool = False
    ) -> Restored:
        """Return what an opening would find; with ``whole`` the state from its log start on.

        ``left_out``: it is of a topic that is not configured, and may not be there any more.

        Nobody is fenced, so a running worker may commit meanwhile.
        """
        there = not left_out or await self.exists(partition)
        logs = self._logs(partition)
        await self._check(*((partition,) if there else ()), logs.state, logs.outbox)
        records: list[tuple[int, bytes]] = []
        found = await logs.restore(
            lambda *record: records.append(record), whole_state=whole, input_exists=there
        )
        return replace(found, state=records)

    async def ends(self, partition: Partition) -> LogEnds:
        """Return where an input partition ends, without and with what is not committed yet."""
        return (await self._cluster.ends([partition]))[partition]

    async def open_transaction(self, partition: Partition) -> OpenTransaction | None:
        """Return the oldest transaction open in an input partition; None: none, or not told."""
        try:
            return await self._cluster.open_transaction(partition)
        except JournalError:
            return None  # the right to ask may be missing, and the rest is still worth showing

    async def outbox_bounds(self, partition: Partition) -> LogBounds:
        """Return start and read_committed end of a partition's outbox."""
        logs = self._logs(partition)
        await self._check(partition, logs.state, logs.outbox)
        return await logs.outbox_bounds()

    async def outbox(
        self, partition: Partition, start: int, end: int, max_bytes: int, lane: str | None = None
    ) -> tuple[Sequence[tuple[int, bytes]], int]:
        """Return outbox records (offset, value) from ``start`` on, and where to go on."""
        lanes = None if lane is None else [lane]
        found = await self._logs(partition).read_outbox(start, end, max_bytes, lanes)
        return [(record.offset, record.value) for record in found.records], found.upto

    async def outbox_at(self, partition: Partition, time_ms: int) -> int | None:
        """Return the offset of the first outbox record stored at or after a time."""
        return await self._cluster.offset_at(self._logs(partition).outbox, time_ms)

    async def input_at(self, partition: Partition, time_ms: int) -> int | None:
        """Return the offset of the first input record not older than a time."""
        return await self._cluster.offset_at(partition, time_ms)

    async def group(self) -> GroupState:
        """Return the group's state and members."""
        return await self._cluster.group(self.group_id)

    async def complaints(self) -> list[Finding]:
        """Return what a worker would find to be mended, as far as it shows without writing."""
        return await KafkaCheckup(self.settings, self._client_id).complaints()

    def dead_letters(self) -> KafkaDeadLetterTopic:
        """Return the look at the dead letter topic."""
        if self._letters is None:
            kafka, client_id = self.settings.kafka, self._client_id
            self._letters = KafkaDeadLetterTopic(kafka, client_id, self._cluster)
        return self._letters

    def writer(self, partition: Partition) -> "KafkaStateWriter":
        """Return the writer that fences a partition's owner once it is started."""
        name = f"{self.group_id}/{partition}"
        writer = TransactionalProducer(self.settings.kafka, self._client_id, name)
        return KafkaStateWriter(writer, partition, self._logs(partition).state)

    async def leave(self, partition: Partition) -> None:
        """Give up the connections of one partition: there may be thousands. Raises nothing."""
        if (logs := self._known.pop(partition, None)) is not None:
            await logs.close()

    async def close(self) -> None:
        """Give up every connection within seconds; raises nothing."""
        await asyncio.gather(*(logs.close() for logs in self._known.values()))
        if self._letters is not None:
            await self._letters.close()
        await self._cluster.close()

    def _logs(self, partition: Partition) -> PartitionLogs:
        """Return the logs that belong to an input partition."""
        if partition not in self._known:
            kafka, cluster = self.settings.kafka, self._cluster
            self._known[partition] = PartitionLogs(kafka, self._client_id, cluster, partition)
        return self._known[partition]

    async def _check(self, *partitions: Partition) -> None:
        """Raise ForwarderError where the group never worked on a partition, or lost its topics."""
        counts = await self._cluster.partition_counts()
        for kept in partitions:
            if kept.number >= counts.get(kept.topic, 0):
                text = (
                    f"{kept} does not exist, or Describe is refused: no worker of group "
                    f"{self.group_id} has opened that partition yet, or the topic was deleted; "
                    "a worker creates it when it starts, or create it by hand"
                )
                raise ForwarderError(text)


class KafkaStateWriter:
    """Writes under a partition's transactional id, as its owner does."""

    def __init__(
        self, writer: TransactionalProducer, partition: Partition, state: Partition
    ) -> None:
        """Create; ``start`` fences the owner."""
        self._writer = writer
        self._partition = partition
        self._state = state

    async def start(self) -> None:
        """Fence whoever owns the partition, ending its transaction."""
        await self._writer.start()

    async def commit(
        self, values: Sequence[bytes], settle: Callable[[Sequence[int]], Commit]
    ) -> list[int]:
        """Store state records and the group's offset in one transaction; return their offsets.

        ``settle`` gets those offsets and returns what the group commits.
        """
        messages = [
            OutgoingMessage(self._state.topic, self._state.number, value) for value in values
        ]
        return await self._writer.commit(messages, lambda at: {self._partition: settle(at)})

    async def close(self) -> None:
        """Give the producer up within seconds; raises nothing."""
        await self._writer.close()
