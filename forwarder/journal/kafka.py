"""The journal in Kafka: one transactional producer per owned partition.

Numbers such as O1 or K4 are the steps of docs/protocol.md.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import structlog
from msgspec.structs import replace

from forwarder.clock import Clock
from forwarder.config.settings import Configuration, Kafka, Start, state_topic
from forwarder.journal import dead_letters
from forwarder.journal.commit import CommitMetadata, encode_metadata, metadata_hint
from forwarder.journal.contract import Committed, OutboxSlice, Restored, Take, Tick
from forwarder.journal.partition_logs import PartitionLogs, risen_end
from forwarder.journal.topics import BROKER_MESSAGE_BYTES, Settings, TopicProvisioner, message_limit
from forwarder.kafka.admin import KafkaAdmin
from forwarder.kafka.producer import (
    BATCH_BYTES,
    MESSAGE_BYTES,
    OutgoingMessage,
    TransactionalProducer,
)
from forwarder.kafka.reader import PIECE_BYTES
from forwarder.model import Commit, Partition

log = structlog.get_logger()

TOPIC_CHECK_SECONDS = 1.0
"""Seconds a look at an input's topics holds for its other partitions: after an outage all of them
open again at once."""

CONNECT_SECONDS = 5.0
"""Seconds after which a worker that reaches no broker says so, and tries again."""

FIRST_START = CommitMetadata(start="latest")
"""What a commit says that only tells where a new group begins; there is no state yet."""


class DeadLetterTarget:
    """Where dead letters go: how large one may be, and over how many partitions they spread."""

    def __init__(self, topic: str) -> None:
        """Create with Kafka's default message size until the topic was asked."""
        self.topic = topic
        self.limit = BROKER_MESSAGE_BYTES
        self.partitions = 1

    def largest_message(self) -> int:
        """Return the bytes of the largest one that the topic takes, and the producer."""
        return min(self.limit, MESSAGE_BYTES)


class OnceLogger:
    """Says once what an operator should know and need not act upon at once."""

    def __init__(self) -> None:
        """Create with nothing logged yet."""
        self._said: set[str] = set()

    def once(self, note: str) -> None:
        """Log a note unless it was logged before."""
        if note not in self._said:
            self._said.add(note)
            log.warning("kafka.note", note=note)


class TopicCheckCache:
    """Which checks of an input's topics are fresh, and which partitions had the use of each."""

    def __init__(self) -> None:
        """Create with no topic checked yet."""
        self._served: dict[str, tuple[float, set[Partition]]] = {}

    def use(self, partition: Partition, now: float) -> bool:
        """Use a check for this partition, once each; tell whether there was a fresh one."""
        at, served = self._served.get(partition.topic, (float("-inf"), set()))
        if now - at > TOPIC_CHECK_SECONDS or partition in served:
            return False
        served.add(partition)
        return True

    def add(self, partitions: Collection[Partition], now: float) -> None:
        """Add a check of the topics of these."""
        for topic in {partition.topic for partition in partitions}:
            self._served[topic] = now, {p for p in partitions if p.topic == topic}


class JournalContext(NamedTuple):
    """What all journals of a worker have in common."""

    kafka: Kafka
    client_id: str
    cluster: KafkaAdmin
    letters: DeadLetterTarget
    notes: OnceLogger


class KafkaJournals:
    """Prepares the topics of one group and makes a journal for each opening.

    ``notes`` says after ``prepare`` what an operator should know and need not act upon at once;
    ``cluster`` may be shared with the source, and is closed here.
    """

    def __init__(self, settings: Configuration, client_id: str, clock: Clock) -> None:
        """Create; connects in ``prepare``."""
        self._clock = clock
        self.notes: list[str] = []
        self.cluster = KafkaAdmin(settings.kafka, client_id, CONNECT_SECONDS)
        self._settings = settings
        self._client_id = client_id
        self._letters = DeadLetterTarget(settings.kafka.dead_letter_topic)
        self._shared = JournalContext(
            settings.kafka, client_id, self.cluster, self._letters, OnceLogger()
        )
        self._provision = TopicProvisioner(settings, self.cluster)
        self._provided: dict[str, int] = {}
        self._topic_checks = TopicCheckCache()
        self._prepared: frozenset[Partition] = frozenset()
        self._preparing = asyncio.Lock()

    async def prepare(self, partitions: frozenset[Partition]) -> None:
        """Make sure that outbox and state partitions exist for these (T1).

        The first call, also one without partitions, checks every topic and raises StartupError,
        whose text is the list of what is needed. Later ones look at what these partitions need
        alone, and only where there is something to see: more partitions than before, or one
        that opens again, whose topics somebody may have deleted. They raise RefusedError for
        what an operator has to mend. JournalError if Kafka does not answer.
        """
        async with self._preparing:
            if not self._provided:
                await self._check_all_topics()
            again, self._prepared = self._prepared & partitions, self._prepared | partitions
            now = self._clock.steady()
            unsure = {p for p in again if not self._topic_checks.use(p, now)}
            unsure |= {p for p in partitions if p.number >= self._provided.get(p.topic, 0)}
            if unsure:
                self._provided |= await self._provision.provision_partitions(unsure)
                self._topic_checks.add(unsure, now)

    async def _check_all_topics(self) -> None:
        """See to every topic, and settle once where a new group begins."""
        counts, found = await self._provision.provision_all()
        self._measure_letters(counts, found)
        topics = [topic.name for topic in self._settings.kafka.topics]
        if self._settings.kafka.start is Start.LATEST:
            for topic in topics:
                await self._start_at_latest(topic, counts[topic])
        self._provided = {topic: counts[topic] for topic in topics}

    async def describe(self) -> str:
        """Return the list of topics, settings and ACLs needed, the missing ones marked."""
        return await self._provision.describe()

    def journal(self, partition: Partition) -> "KafkaJournal":
        """Return a journal for one opening."""
        return KafkaJournal(self._shared, partition)

    async def close(self) -> None:
        """Release the connections the journals share."""
        await self.cluster.close()

    def _measure_letters(self, counts: Mapping[str, int], found: Settings) -> None:
        letters = self._letters
        letters.partitions = counts[letters.topic]
        letters.limit = message_limit(found.get(letters.topic))
        self.notes = [
            f"dead letter topic {letters.topic} takes messages of {letters.limit} bytes, input "
            f"topic {name} of {limit}: larger dead letters go compressed, or without their bytes"
            for name in (topic.name for topic in self._settings.kafka.topics)
            if (limit := message_limit(found.get(name))) > letters.limit
        ]

    async def _start_at_latest(self, topic: str, count: int) -> None:
        """Commit the end of every partition at once if the group never began on this topic.

        So that "latest" is resolved once: a partition without a commit was added later, and is
        read from its start. All in one transaction, of an id of its own: none of them can be
        open before this has returned, so nobody who owns one is fenced.
        """
        group = self._settings.kafka.group_id
        partitions = [Partition(topic, number) for number in range(count)]
        if not await self._has_no_history(partitions):
            return
        writer = TransactionalProducer(
            self._settings.kafka, self._client_id, f"{group}/{topic}/start"
        )
        try:
            await writer.start()
            # Another worker may have been first; what it wrote is settled now that it is fenced.
            if await self._has_no_history(partitions):
                bounds = await self.cluster.bounds(partitions)
                said = encode_metadata(FIRST_START)
                await writer.commit([], {p: Commit(b.end, said) for p, b in bounds.items()})
        finally:
            await writer.close()

    async def _has_no_history(self, partitions: Sequence[Partition]) -> bool:
        """Tell whether the group has neither commits nor state for any of these."""
        group = self._settings.kafka.group_id
        commits = await self.cluster.committed(group, partitions)
        if any(commit is not None for commit in commits.values()):
            return False
        states = [Partition(state_topic(group, p.topic), p.number) for p in partitions]
        return all(b.end == 0 for b in (await self.cluster.bounds(states)).values())


class KafkaJournal:
    """The journal of one partition for one opening."""

    def __init__(self, shared: JournalContext, partition: Partition) -> None:
        """Create unopened; ``open`` fences the former owner."""
        kafka, client_id = shared.kafka, shared.client_id
        group = kafka.group_id
        self._partition = partition
        self._group = group
        self._cluster = shared.cluster
        self._letters = shared.letters
        self._notes = shared.notes
        self._outbox_end = self._outbox_last = self._state_end = self._n = 0
        batch_bytes = min(BATCH_BYTES, shared.letters.limit)
        self._writer = TransactionalProducer(kafka, client_id, f"{group}/{partition}", batch_bytes)
        self._logs = PartitionLogs(kafka, client_id, shared.cluster, partition, PIECE_BYTES)

    async def open(self, take: Take | None = None) -> Restored:
        """Fence the former owner, then read commit and state (O1 to O3, O6)."""
        await self._writer.start()
        records: list[tuple[int, bytes]] = []
        found = await self._logs.restore(take or (lambda *record: records.append(record)))
        await self._logs.close_state()
        said = metadata_hint(found.commit)
        self._outbox_end, self._state_end = found.outbox_end, found.state_end
        self._outbox_last, self._n = said.outbox, said.n
        return replace(found, state=records)

    async def commit(self, tick: Tick) -> Committed:
        """Write one tick in one transaction (K4)."""
        outbox, state = self._logs.outbox, self._logs.state
        messages = [
            *(
                OutgoingMessage(outbox.topic, outbox.number, entry.value, entry.lane.encode())
                for entry in tick.outbox
            ),
            *(OutgoingMessage(state.topic, state.number, value) for value in tick.state),
            *self._dead_letters(tick),
        ]
        first, second = len(tick.outbox), len(tick.outbox) + len(tick.state)
        before, self._n = self._n, tick.metadata.n
        if self._n != before + 1:
            # The commit that was fetched was not the newest: what it says of the outbox is old.
            self._outbox_last = 0

        def settle(stored: Sequence[int]) -> Mapping[Partition, Commit]:
            self._outbox_end = risen_end(outbox, self._outbox_end, stored[:first])
            self._state_end = risen_end(state, self._state_end, stored[first:second])
            self._outbox_last = self._outbox_end if first else self._outbox_last
            said = replace(tick.metadata, outbox=self._outbox_last)
            return {self._partition: Commit(tick.offset, encode_metadata(said))}

        offsets = await self._writer.commit(messages, settle)
        return Committed(offsets[:first], offsets[first:second])

    async def read(
        self, lanes: Collection[str], start: int, end: int, max_bytes: int
    ) -> OutboxSlice:
        """Read outbox records of some lanes from ``start`` up to offset ``end`` (D2)."""
        return await self._logs.read_outbox(start, end, max_bytes, lanes)

    async def cut(self, below: int) -> None:
        """Give up the state records below an offset."""
        state = self._logs.state
        refused = await self._cluster.cut(state, below)
        if refused is not None:
            self._notes.once(
                f"the state keeps its history and grows, for Kafka refuses to cut it ({refused}): "
                f"grant Delete on topic {state.topic} to the worker's principal"
            )

    async def prove(self) -> None:
        """Raise FencedError unless this owner could still commit; stores nothing."""
        state = self._logs.state
        await self._writer.prove(state.topic, state.number)

    async def close(self) -> None:
        """Give up the producer and both readers within seconds, raising nothing."""
        await asyncio.gather(self._writer.close(), self._logs.close())

    def _dead_letters(self, tick: Tick) -> list[OutgoingMessage]:
        letters = self._letters
        number, largest = self._partition.number % letters.partitions, letters.largest_message()
        return [
            OutgoingMessage(letters.topic, number, value, headers=headers)
            for value, headers in (
                dead_letters.letter_message(letter, self._partition, self._group, largest)
                for letter in tick.dead_letters
            )
        ]
