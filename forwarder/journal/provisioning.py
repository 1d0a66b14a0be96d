"""Makes sure that the topics are there, and like what they must be (T1)."""

import asyncio
from collections.abc import Collection, Mapping, Sequence

from forwarder.config.settings import Configuration, state_topic
from forwarder.errors import RefusedError, StartupError
from forwarder.journal import topics as kafka_topics
from forwarder.journal.topics import TopicNeed, TopicStatus
from forwarder.kafka.admin import KafkaAdmin
from forwarder.model import Partition

VISIBLE_SECONDS = 15.0
"""How long new topics and partitions may take to show up with a leader."""

_AGAIN_SECONDS = 0.1

Settings = Mapping[str, Mapping[str, str] | str]
"""By topic: its settings, or the name of the error where they are refused."""


class TopicProvisioner:
    """Compares what the cluster has with what is needed, and creates what it may."""

    def __init__(self, settings: Configuration, cluster: KafkaAdmin) -> None:
        """Ask nothing yet."""
        self._settings = settings
        self._cluster = cluster
        self._letters = settings.kafka.dead_letter_topic

    async def everything(self) -> tuple[Mapping[str, int], Settings]:
        """See to every topic; return partition counts and settings.

        Raises StartupError, whose text is the list of what is needed.
        """
        counts: Mapping[str, int] = await self._cluster.partition_counts()
        wanted = kafka_topics.topic_needs(self._settings, counts)
        refused: Mapping[str, str] = {}
        if _inputs_exist(wanted, counts):
            refused, counts = await self._provide(wanted, counts)
        found = await self._cluster.settings(need.topic for need in wanted)
        listed = kafka_topics.topic_report(wanted, counts, found, self._letters)
        if refused or any(row.mark is not TopicStatus.OK for row in listed):
            raise StartupError(await self._listed(wanted, counts, refused))
        return counts, found

    async def for_partitions(self, partitions: Collection[Partition]) -> dict[str, int]:
        """See to the topics of these alone, while others work; return what each input has now.

        That is the number of partitions whose outbox and state exist. Raises RefusedError for
        the first that has to wait for an operator.
        """
        counts: Mapping[str, int] = await self._cluster.partition_counts()
        topics = {partition.topic for partition in partitions}
        wanted = kafka_topics.topic_needs(self._settings, counts, topics)
        refused: Mapping[str, str] = {}
        if _inputs_exist(wanted, counts):
            refused, counts = await self._provide(wanted, counts)
        # Of the state's settings alone: what others changed in a topic that runs stops nothing
        # but a start, unless it would lose what cannot be had again.
        group = self._settings.kafka.group_id
        found = await self._cluster.settings(state_topic(group, topic) for topic in topics)
        for partition in sorted(partitions):
            for need in kafka_topics.topic_needs(self._settings, counts, {partition.topic}):
                self._check(need, partition, counts, found, refused.get(need.topic, ""))
        return {
            topic: min(
                counts.get(need.topic, 0)
                for need in kafka_topics.topic_needs(self._settings, counts, {topic})
                if need.topic != self._letters
            )
            for topic in topics
        }

    async def describe(self) -> str:
        """Return the list of topics, settings and ACLs needed, the missing ones marked."""
        counts = await self._cluster.partition_counts()
        return await self._listed(kafka_topics.topic_needs(self._settings, counts), counts, {})

    def _check(
        self,
        need: TopicNeed,
        partition: Partition,
        counts: Mapping[str, int],
        found: Settings,
        refused: str,
    ) -> None:
        """Raise RefusedError if what is there will not do for this partition."""
        least = 1 if need.topic == self._letters else partition.number + 1
        fault = kafka_topics.topic_fault(need, least, counts, found, self._letters)
        if fault is None:
            return
        if refused:
            why = f"Kafka refused that to the worker ({refused})"
        elif need.own and not self._settings.journal.create_topics:
            why = "the worker may not, for journal.create_topics is false"
        else:
            why = "everything else goes on"
        what, remedy = fault
        raise RefusedError(what, f"{remedy}; {why}. It is looked at again every minute")

    async def _provide(
        self, wanted: Sequence[TopicNeed], counts: Mapping[str, int]
    ) -> tuple[Mapping[str, str], Mapping[str, int]]:
        """Create and grow what is missing; return what was refused, and what is there then."""
        lacking = [n for n in wanted if n.own and counts.get(n.topic, 0) < n.partitions]
        if not lacking or not self._settings.journal.create_topics:
            return {}, counts
        answers = {need.topic: await self._create(need, counts) for need in lacking}
        refused = {topic: answer for topic, answer in answers.items() if answer is not None}
        return refused, await self._visible(wanted, refused)

    async def _create(self, need: TopicNeed, counts: Mapping[str, int]) -> str | None:
        """Create or grow one topic; return why it was refused."""
        if need.topic in counts:
            return await self._cluster.grow(need.topic, need.partitions)
        replication = self._settings.journal.replication_factor
        return await self._cluster.create(need.topic, need.partitions, replication, need.settings)

    async def _visible(
        self, wanted: Sequence[TopicNeed], refused: Collection[str]
    ) -> Mapping[str, int]:
        """Wait until what was created shows up."""
        created = [need for need in wanted if need.topic not in refused]
        for _ in range(int(VISIBLE_SECONDS / _AGAIN_SECONDS)):
            counts = await self._cluster.partition_counts(led=True)
            if all(counts.get(n.topic, 0) >= n.partitions for n in created):
                break
            await asyncio.sleep(_AGAIN_SECONDS)
        return counts

    async def _listed(
        self, wanted: Sequence[TopicNeed], counts: Mapping[str, int], refused: Mapping[str, str]
    ) -> str:
        found = await self._cluster.settings(need.topic for need in wanted)
        listed = kafka_topics.topic_report(wanted, counts, found, self._letters)
        group = self._settings.kafka.group_id
        denied = await self._cluster.denied(group, f"{group}/")
        rights = kafka_topics.acl_report(self._settings, wanted, denied)
        answers = [f"topic {topic}: {answer}" for topic, answer in refused.items()]
        return "\n".join([*answers, kafka_topics.format_report(self._settings, listed, rights)])


def _inputs_exist(wanted: Sequence[TopicNeed], counts: Mapping[str, int]) -> bool:
    return all(need.own or need.topic in counts for need in wanted)
