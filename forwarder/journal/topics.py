"""The topics and rights the worker needs: what they must be like, what is missing, made (T1)."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from forwarder.config.settings import Configuration, outbox_topic, state_topic
from forwarder.errors import RefusedError, StartupError
from forwarder.kafka.admin import KafkaAdmin
from forwarder.kafka.producer import MESSAGE_BYTES
from forwarder.model import Partition

VISIBLE_SECONDS = 15.0
"""How long new topics and partitions may take to show up with a leader."""

_AGAIN_SECONDS = 0.1

Settings = Mapping[str, Mapping[str, str] | str]
"""By topic: its settings, or the name of the error where they are refused."""

BROKER_MESSAGE_BYTES = 1_048_588
"""Kafka's own default of ``max.message.bytes``."""

LIMIT = "max.message.bytes"
_READ = ("Read", "Describe", "DescribeConfigs")
_WRITE = ("Read", "Write", "Describe", "DescribeConfigs")


@dataclass(frozen=True, slots=True)
class TopicNeed:
    """One topic: how many partitions at least, with which settings, for which operations."""

    topic: str
    partitions: int
    operations: tuple[str, ...]
    settings: Mapping[str, str] = field(default_factory=dict)
    own: bool = True


class TopicStatus(StrEnum):
    """How a needed topic was found, as the list that is printed says it."""

    OK = "ok"
    MISSING = "MISSING"
    WRONG = "WRONG"
    DENIED = "DENIED"
    UNKNOWN = "needed"


@dataclass(frozen=True, slots=True)
class TopicReportLine:
    """One line of the list that is printed."""

    mark: TopicStatus
    text: str


def topic_needs(
    settings: Configuration, counts: Mapping[str, int], inputs: Collection[str] | None = None
) -> list[TopicNeed]:
    """Return every topic needed where the input topics have ``counts`` partitions.

    With ``inputs``, only what these input topics need.
    """
    kafka, found = settings.kafka, []
    may_create = ("Create", "Alter") if settings.journal.create_topics else ()
    kept = {"cleanup.policy": "delete", "retention.bytes": "-1", LIMIT: str(MESSAGE_BYTES)}
    for name in (topic.name for topic in kafka.topics):
        if inputs is not None and name not in inputs:
            continue
        count = max(counts.get(name, 0), 1)
        retention = str(settings.journal.outbox_retention_ms)
        found += [
            TopicNeed(name, count, _READ, own=False),
            TopicNeed(
                outbox_topic(kafka.group_id, name),
                count,
                _WRITE + may_create,
                kept | {"retention.ms": retention},
            ),
            TopicNeed(
                state_topic(kafka.group_id, name),
                count,
                (*_WRITE, "Delete", *may_create),
                kept | {"retention.ms": "-1"},
            ),
        ]
    letters = ("Write", "Describe", "DescribeConfigs", *may_create)
    return [*found, TopicNeed(kafka.dead_letter_topic, 1, letters, {LIMIT: str(MESSAGE_BYTES)})]


def topic_setting_faults(need: TopicNeed, found: Mapping[str, str]) -> list[str]:
    """Return what about an existing topic of the worker's own would lose or refuse its records."""
    wrong = []
    for key, wanted in need.settings.items():
        value = found.get(key, wanted)
        if value != wanted and not _harmless(key, value, wanted):
            wrong.append(f"{key} is {value}, must be {wanted}")
    return wrong


def _harmless(key: str, value: str, wanted: str) -> bool:
    """Tell whether a topic that keeps longer, or takes larger messages, is as good."""
    if key == "cleanup.policy":
        return False
    keeps_for_ever = key.startswith("retention.") and value == "-1"
    return keeps_for_ever or (wanted != "-1" and int(value) >= int(wanted))


def topic_report(
    wanted: Sequence[TopicNeed],
    counts: Mapping[str, int],
    found: Mapping[str, Mapping[str, str] | str],
    letters: str,
) -> list[TopicReportLine]:
    """Compare every need with what is there; ``letters`` is the users' own dead-letter topic."""
    return [row for need in wanted for row in _compare(need, counts, found, letters)]


def _compare(
    need: TopicNeed,
    counts: Mapping[str, int],
    found: Mapping[str, Mapping[str, str] | str],
    letters: str,
) -> list[TopicReportLine]:
    name = f"topic {need.topic}"
    asked = found.get(need.topic, {})
    if isinstance(asked, str) and "Authorization" in asked:
        return [TopicReportLine(TopicStatus.DENIED, f"{name}: DescribeConfigs is refused")]
    if need.topic not in counts:
        return [TopicReportLine(TopicStatus.MISSING, f"{name}: {_wanted(need)}")]
    if counts[need.topic] < need.partitions:
        count = f"it has {counts[need.topic]} partitions, needs {need.partitions}"
        return [TopicReportLine(TopicStatus.WRONG, f"{name}: {count}")]
    if isinstance(asked, str) or need.topic == letters:
        return [TopicReportLine(TopicStatus.OK, name)]
    wrong = topic_setting_faults(need, asked)
    return [TopicReportLine(TopicStatus.WRONG, f"{name}: {text}") for text in wrong] or [
        TopicReportLine(TopicStatus.OK, name)
    ]


def topic_fault(
    need: TopicNeed,
    least: int,
    counts: Mapping[str, int],
    found: Mapping[str, Mapping[str, str] | str],
    letters: str,
) -> tuple[str, str] | None:
    """Return what is wrong with a topic that must have ``least`` partitions, and what to do."""
    for row in _compare(replace(need, partitions=least), counts, found, letters):
        if row.mark is TopicStatus.MISSING:
            what = f"topic {need.topic} does not exist, or Describe on it is refused"
            return what, f"create it: {_wanted(need)}" if need.own else "create it or grant that"
        if row.mark is not TopicStatus.OK:
            return row.text, _remedy(need, counts)
    return None


def _remedy(need: TopicNeed, counts: Mapping[str, int]) -> str:
    if counts[need.topic] < need.partitions:
        return f"give it {need.partitions} partitions"
    return "set that right with kafka-configs, or grant DescribeConfigs on it"


def _wanted(need: TopicNeed) -> str:
    if not need.own:
        return "it does not exist, or Describe is refused"
    settings = ", ".join(f"{key}={value}" for key, value in sorted(need.settings.items()))
    return f"{need.partitions} partitions, {settings}"


def acl_report(
    settings: Configuration, wanted: Sequence[TopicNeed], denied: set[str]
) -> list[TopicReportLine]:
    """Return the ACLs the worker's principal needs; those that were refused are marked."""
    group = settings.kafka.group_id
    listed = [(f"topic {need.topic}", ", ".join(need.operations), "") for need in wanted]
    listed += [
        (f"group {group}", "Read", "group"),
        (f"transactional-id {group}/ (prefixed)", "Write, Describe", "transactional-id"),
        ("cluster", "IdempotentWrite", ""),
    ]
    return [
        TopicReportLine(
            TopicStatus.DENIED if kind in denied else TopicStatus.UNKNOWN, f"{name}: {operations}"
        )
        for name, operations, kind in listed
    ]


def format_report(
    settings: Configuration, topics: Sequence[TopicReportLine], acls: Sequence[TopicReportLine]
) -> str:
    """Return the list for people: topics with their settings, then ACLs, one to a line."""
    lines = [f"What group {settings.kafka.group_id} needs on Kafka:"]
    lines += [f"  {row.mark.value:<8} {row.text}" for row in topics]
    lines += ["and the rights of its principal (ACLs):"]
    lines += [f"  {row.mark.value:<8} {row.text}" for row in acls]
    return "\n".join(lines)


def message_limit(found: Mapping[str, str] | str | None) -> int:
    """Return ``max.message.bytes`` from a topic's settings, Kafka's default where unknown."""
    if found is None or isinstance(found, str):
        return BROKER_MESSAGE_BYTES
    return int(found.get(LIMIT, BROKER_MESSAGE_BYTES))


class TopicProvisioner:
    """Compares what the cluster has with what is needed, and creates what it may."""

    def __init__(self, settings: Configuration, cluster: KafkaAdmin) -> None:
        """Create; asks nothing before ``provision_all``."""
        self._settings = settings
        self._cluster = cluster
        self._letters = settings.kafka.dead_letter_topic

    async def provision_all(self) -> tuple[Mapping[str, int], Settings]:
        """See to every topic; return partition counts and settings.

        Raises StartupError, whose text is the list of what is needed.
        """
        counts: Mapping[str, int] = await self._cluster.partition_counts()
        wanted = topic_needs(self._settings, counts)
        refused: Mapping[str, str] = {}
        if _inputs_exist(wanted, counts):
            refused, counts = await self._provide(wanted, counts)
        found = await self._cluster.settings(need.topic for need in wanted)
        listed = topic_report(wanted, counts, found, self._letters)
        if refused or any(row.mark is not TopicStatus.OK for row in listed):
            raise StartupError(await self._listed(wanted, counts, refused))
        return counts, found

    async def provision_partitions(self, partitions: Collection[Partition]) -> dict[str, int]:
        """See to the topics of these alone, while others work; return what each input has now.

        That is the number of partitions whose outbox and state exist. Raises RefusedError for
        the first that has to wait for an operator.
        """
        counts: Mapping[str, int] = await self._cluster.partition_counts()
        topics = {partition.topic for partition in partitions}
        wanted = topic_needs(self._settings, counts, topics)
        refused: Mapping[str, str] = {}
        if _inputs_exist(wanted, counts):
            refused, counts = await self._provide(wanted, counts)
        # Of the state's settings alone: what others changed in a topic that runs stops nothing
        # but a start, unless it would lose what cannot be had again.
        group = self._settings.kafka.group_id
        found = await self._cluster.settings(state_topic(group, topic) for topic in topics)
        for partition in sorted(partitions):
            for need in topic_needs(self._settings, counts, {partition.topic}):
                self._check(need, partition, counts, found, refused.get(need.topic, ""))
        return {
            topic: min(
                counts.get(need.topic, 0)
                for need in topic_needs(self._settings, counts, {topic})
                if need.topic != self._letters
            )
            for topic in topics
        }

    async def describe(self) -> str:
        """Return the list of topics, settings and ACLs needed, the missing ones marked."""
        counts = await self._cluster.partition_counts()
        return await self._listed(topic_needs(self._settings, counts), counts, {})

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
        fault = topic_fault(need, least, counts, found, self._letters)
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
        listed = topic_report(wanted, counts, found, self._letters)
        group = self._settings.kafka.group_id
        denied = await self._cluster.denied(group, f"{group}/")
        rights = acl_report(self._settings, wanted, denied)
        answers = [f"topic {topic}: {answer}" for topic, answer in refused.items()]
        return "\n".join([*answers, format_report(self._settings, listed, rights)])


def _inputs_exist(wanted: Sequence[TopicNeed], counts: Mapping[str, int]) -> bool:
    return all(need.own or need.topic in counts for need in wanted)
