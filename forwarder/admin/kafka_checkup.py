"""Look at a Kafka as a worker would use it: topics, their limits, rights, transactions.

Runs beside live workers: it joins no group, fences nobody and creates nothing. Its one trace is a
transaction of a throw-away id that is aborted at once, as failed ticks leave them.
"""

import asyncio
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence

from forwarder.config.settings import Configuration, Kafka, outbox_topic
from forwarder.config.yaml.units import format_duration
from forwarder.errors import FencedError, ForwarderError, JournalError
from forwarder.journal.topics import (
    TopicNeed,
    TopicReportLine,
    TopicStatus,
    message_limit,
    topic_needs,
    topic_report,
)
from forwarder.kafka import client, error_codes
from forwarder.kafka.admin import KafkaAdmin
from forwarder.kafka.producer import TransactionalProducer
from forwarder.kafka.protocol import Operations
from forwarder.ops.diagnosis import Finding, FindingGrade, fail, note, ok

_LATER = frozenset({"Create", "Alter"})
"""Operations without which a worker works until something has to be created or to grow."""

KNOCK_SECONDS = 3.0
"""How long a broker may take to accept a connection and a login."""

SMALLEST = 4 * 1024
"""Bytes that a dead letter takes at least: its headers, where its value is left out."""

MIN_IN_SYNC_SETTING = "min.insync.replicas"

REPLAYED_INTERVALS = 2
"""Intervals between snapshots that an opening reads again at most (K2)."""

Settings = Mapping[str, Mapping[str, str] | str]


class KafkaCheckup:
    """One look at the Kafka of a configuration."""

    def __init__(self, settings: Configuration, client_id: str) -> None:
        """Create; connects in ``findings`` and ``complaints``."""
        self._settings = settings
        self._client_id = client_id
        self._cluster = KafkaAdmin(settings.kafka, client_id, KNOCK_SECONDS)
        self._writes = True

    async def findings(self) -> list[Finding]:
        """Return what was found; what does not answer is a finding, too."""
        found: list[Finding] = []
        try:
            await self._look(found)
        except ForwarderError as error:
            found.append(fail(error.what, error.remedy))
        finally:
            await self._cluster.close()
        return found

    async def complaints(self) -> list[Finding]:
        """Return what keeps a worker from its work, as far as it shows without a transaction.

        What this principal may not do says something of a worker only where it may write.
        """
        found: list[Finding] = []
        try:
            await self._standing(found, tries=False)
            if self._writes:
                found += await self._begin()
        except ForwarderError as error:
            found.append(fail(error.what, error.remedy))
        finally:
            await self._cluster.close()
        return [one for one in found if one.grade is FindingGrade.FAIL]

    async def _look(self, found: list[Finding]) -> None:
        found += await knock(self._settings.kafka, self._client_id)
        if all(one.grade is FindingGrade.FAIL for one in found):
            return
        counts = await self._standing(found, tries=True)
        found.append(await self._transaction(counts))

    async def _standing(self, found: list[Finding], *, tries: bool) -> Mapping[str, int]:
        """Look at topics, rights and brokers as they stand; return the partition counts."""
        counts = await self._cluster.partition_counts()
        wanted = topic_needs(self._settings, counts)
        settings = await self._cluster.settings(need.topic for need in wanted)
        for need in wanted:
            found += self._topic(need, counts, settings)
        found += self._letters(settings)
        found += self._look_backs(settings)
        topics = [need.topic for need in wanted if need.topic in counts]
        granted = await self._cluster.topic_rights(topics) if topics else {}
        self._writes = not granted or any("Write" in may for may in granted.values())
        if self._writes or tries:
            group = self._settings.kafka.group_id
            found += _rights(wanted, granted, group, await self._cluster.group_rights(group))
        written = [need.topic for need in wanted if "Write" in need.operations]
        found += replica_findings(written, settings, await self._cluster.in_sync())
        return counts

    async def _begin(self) -> list[Finding]:
        """Ask for a transactional id as a worker does, always the same; no transaction begins."""
        kafka = self._settings.kafka
        writer = TransactionalProducer(kafka, self._client_id, f"{kafka.group_id}/status")
        try:
            await writer.start()
        except FencedError:
            return []  # another look at the same moment
        except JournalError as error:
            return [fail(error.what, error.remedy)]
        finally:
            await writer.close()
        return []

    def _topic(
        self, need: TopicNeed, counts: Mapping[str, int], settings: Settings
    ) -> Iterator[Finding]:
        letters = self._settings.kafka.dead_letter_topic
        for row in topic_report([need], counts, settings, letters):
            if row.mark is TopicStatus.OK:
                size = message_limit(settings.get(need.topic))
                count = counts[need.topic]
                plural = "" if count == 1 else "s"
                yield ok(f"{row.text}: {count} partition{plural}, messages up to {size} bytes")
            else:
                yield self._amiss(need, row)

    def _amiss(self, need: TopicNeed, row: TopicReportLine) -> Finding:
        if row.mark is TopicStatus.MISSING and need.own and self._settings.journal.create_topics:
            return note(f"{row.text.partition(':')[0]} is not there: a worker creates it")
        remedy = {
            TopicStatus.MISSING: "create it so, or grant Describe on it",
            TopicStatus.WRONG: "set that right with kafka-configs or kafka-topics",
        }.get(row.mark, "grant DescribeConfigs on it")
        return fail(row.text, remedy)

    def _letters(self, settings: Settings) -> Iterator[Finding]:
        """Tell what is odd about the dead letter topic, which may be the users' own."""
        kafka = self._settings.kafka
        kept = settings.get(kafka.dead_letter_topic)
        if isinstance(kept, Mapping) and "compact" in kept.get("cleanup.policy", ""):
            what = (
                f"topic {kafka.dead_letter_topic} is compacted and takes no letter: none has a key"
            )
            yield fail(what, "set its cleanup.policy to delete: with a letter a partition stands")
        room = message_limit(kept)
        if room < SMALLEST:
            what = f"topic {kafka.dead_letter_topic} takes messages of {room} bytes: no letter fits"
            yield fail(what, error_codes.too_small_remedy(kafka.dead_letter_topic))
            return
        for topic in kafka.topics:
            if message_limit(settings.get(topic.name)) > room:
                what = f"topic {kafka.dead_letter_topic} takes smaller messages than {topic.name}"
                yield note(f"{what}: larger dead letters go compressed, or without their bytes")

    def _look_backs(self, settings: Settings) -> Iterator[Finding]:
        """Tell which input topics are kept for less than duplicates are looked for in.

        What is deleted counts as never seen: an event that came again is sent on then, where a
        replay judges it anew.
        """
        replay_ms = REPLAYED_INTERVALS * self._settings.journal.base_interval_ms
        for topic in self._settings.kafka.topics:
            told = settings.get(topic.name)
            if not topic.duplicates_ms or not isinstance(told, Mapping):
                continue
            wanted = topic.duplicates_ms + replay_ms
            if 0 <= (kept := int(told.get("retention.ms", -1))) < wanted:
                what = (
                    f"topic {topic.name} is kept for {format_duration(kept)}, and an opening looks "
                    f"back for duplicates by {format_duration(wanted)}"
                )
                remedy = f"set its retention.ms to {wanted} at least, or shorten its duplicates"
                yield fail(what, remedy)
            if "compact" in told.get("cleanup.policy", ""):
                what = f"topic {topic.name} is compacted: what is gone counts as never seen"
                yield note(f"{what}, and its duplicates are sent on")

    async def _transaction(self, counts: Mapping[str, int]) -> Finding:
        """Find out whether a transaction can be begun, by beginning one and aborting it."""
        kafka = self._settings.kafka
        name = f"{kafka.group_id}/doctor-{uuid.uuid4().hex[:8]}"
        topic = outbox_topic(kafka.group_id, kafka.topics[0].name)
        writer = TransactionalProducer(kafka, self._client_id, name)
        try:
            await writer.start()
            if topic not in counts:
                return note(
                    f"transactional id {name} is accepted; {topic} is not there to write to"
                )
            await writer.prove(topic, 0)
        except JournalError as error:
            return fail(f"no transaction is possible: {error.what}", error.remedy)
        finally:
            await writer.close()
        return ok(f"a transaction on topic {topic} was begun and aborted")


async def knock(kafka: Kafka, client_id: str) -> list[Finding]:
    """Connect and log in to every broker that is configured; return what came of it."""
    security = kafka.security
    who = f" as {security.username}" if security.username else ""
    how = f", logged in{who} by {security.mechanism}" if security.mechanism else ""

    async def one(server: str) -> Finding:
        try:
            await client.try_login(kafka, client_id, server, KNOCK_SECONDS)
        except ForwarderError as error:
            return fail(error.what, error.remedy)
        return ok(f"{server} answers over {security.protocol}{how}")

    return await asyncio.gather(*map(one, kafka.bootstrap_servers))


def _rights(
    wanted: Sequence[TopicNeed],
    on_topics: Mapping[str, Operations] | None,
    group: str,
    on_group: Operations | None,
) -> Iterator[Finding]:
    """Compare what is needed with what is granted."""
    found: list[Finding] = []
    for need in wanted:
        granted = (on_topics or {}).get(need.topic)
        if granted is not None:
            found += _missing(f"topic {need.topic}", set(need.operations) - granted)
    if on_group is not None:
        found += _missing(f"group {group}", {"Read"} - on_group)
    if on_topics is None:
        yield note("this Kafka is too old to say what is granted")
    else:
        yield from found or [ok("every right that is needed is granted, as far as brokers say so")]


def replica_findings(
    topics: Iterable[str], settings: Settings, in_sync: Mapping[str, tuple[int, int]]
) -> Iterator[Finding]:
    """Tell which topics take nothing, for too few replicas are in sync.

    Where there are no more replicas than that, brokers since Kafka 4.0 ask for all there are.
    """
    for topic in topics:
        asked = settings.get(topic)
        least = int(asked.get(MIN_IN_SYNC_SETTING, 1)) if isinstance(asked, Mapping) else 1
        there, replicas = in_sync.get(topic, (least, least))
        if there < min(least, replicas):
            what = f"topic {topic}: {there} of {replicas} replicas are in sync"
            what += f", {MIN_IN_SYNC_SETTING} is {least}"
            yield fail(what, error_codes.replicas_remedy(topic))


def _missing(what: str, operations: set[str]) -> list[Finding]:
    """Tell apart what stops a worker and what it lacks only one day."""
    found = []
    now, later = sorted(operations - _LATER), sorted(operations & _LATER)
    if now:
        listed = ", ".join(now)
        found.append(fail(f"{what}: {listed} not granted", f"grant {listed} on {what}"))
    if later:
        listed = ", ".join(later)
        remedy = f"grant {listed} on {what}, or give the topic partitions by hand"
        text = f"{what}: {listed} not granted, so that it cannot grow with the input"
        found.append(Finding(FindingGrade.NOTE, text, remedy))
    return found
