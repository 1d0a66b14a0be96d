"""What is asked of the cluster as a whole: offsets, groups, topics and their settings."""

import asyncio
import struct
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    KafkaError,
    KafkaProtocolError,
    KafkaTimeoutError,
    TransactionalIdAuthorizationFailed,
    for_code,
)

from forwarder.config.settings import Kafka
from forwarder.errors import JournalError
from forwarder.kafka import partition_ends
from forwarder.kafka.client import (
    NOWHERE,
    UNKNOWN,
    client_arguments,
    client_error,
    close_all,
    close_consumer,
    error_text,
)
from forwarder.kafka.error_codes import ErrorContext, KafkaErrorClass, error_class
from forwarder.kafka.patches import connections, requests
from forwarder.kafka.protocol import (
    GroupRightsRequest,
    Operations,
    TopicMetadataRequest,
    group_rights,
    topic_id,
    topic_rights,
)
from forwarder.model import Commit, LogBounds, LogEnds, OpenTransaction, Partition

ANSWER_SECONDS = 15.0
"""How long a question may take, its repetitions included."""

AGAIN_SECONDS = 0.1
"""Between two tries while a coordinator is being elected or loaded."""

_TRANSACTION = 1
_NOBODY = frozenset({"Empty", "Dead"})
_RESTING = _NOBODY | {"Stable"}
_NO_LEADER = -1
_NO_COMMIT = -1

_Answer = TypeVar("_Answer")


class GroupMember(NamedTuple):
    """One member of a consumer group, and what it holds.

    ``client_id`` and ``host`` are the names an operator knows it under, ``member_id`` the one that
    the coordinator gave it.
    """

    client_id: str
    host: str
    partitions: frozenset[Partition]
    member_id: str = ""


class GroupState(NamedTuple):
    """How a group stands, in its coordinator's word; ``active`` while anybody is a member."""

    state: str
    members: Sequence[GroupMember]

    @property
    def active(self) -> bool:
        """Tell whether workers run."""
        return bool(self.members) or self.state not in _NOBODY


class KafkaAdmin:
    """The connections shared by everything that asks and nothing that streams.

    ListOffsets goes through a consumer that never fetches: a broker answers one connection in
    order, so behind a long poll every question would wait for that poll's end.
    """

    def __init__(self, kafka: Kafka, client_id: str, patience: float = ANSWER_SECONDS) -> None:
        """Prepare; connections are made by the first question, within ``patience`` seconds."""
        self._arguments = client_arguments(kafka, client_id)
        self._servers = ", ".join(kafka.bootstrap_servers)
        self._admin: Any = None
        self._offsets: Any = None
        self._patience = patience
        self._connecting = asyncio.Lock()

    async def committed(
        self, group: str, partitions: Iterable[Partition]
    ) -> dict[Partition, Commit | None]:
        """Return the group's commit of each partition, None where it has none (O2)."""
        wanted = [TopicPartition(p.topic, p.number) for p in partitions]

        async def ask() -> dict[Partition, Commit | None] | None:
            answer = await self._admin.list_consumer_group_offsets(group, partitions=wanted)
            # An entry that is missing means that the coordinator is not ready, not "no commit".
            if any(tp not in answer for tp in wanted):
                return None
            return {
                Partition(tp.topic, tp.partition): _commit(answer[tp].offset, answer[tp].metadata)
                for tp in wanted
            }

        if not wanted:
            return {}
        return await self._ask(f"the offsets of group {group}", ask, ErrorContext(group=group))

    async def bounds(self, partitions: Collection[Partition]) -> dict[Partition, LogBounds]:
        """Return where each partition starts and where its read_committed end is, asked now."""
        wanted = [TopicPartition(p.topic, p.number) for p in partitions]

        async def ask() -> dict[Partition, LogBounds]:
            starts, ends = await asyncio.gather(
                self._offsets.beginning_offsets(wanted), self._offsets.end_offsets(wanted)
            )
            return {
                Partition(tp.topic, tp.partition): LogBounds(
                    _checked_offset(starts[tp]), _checked_offset(ends[tp])
                )
                for tp in wanted
            }

        names = ", ".join(sorted({partition.topic for partition in partitions}))
        place = ErrorContext(names, "Describe")
        return await self._ask(f"the offsets of {', '.join(map(str, partitions))}", ask, place)

    async def end(self, partition: Partition) -> int:
        """Return the last stable offset of one partition, asked now."""
        wanted = TopicPartition(partition.topic, partition.number)

        async def ask() -> int:
            return _checked_offset((await self._offsets.end_offsets([wanted]))[wanted])

        place = ErrorContext(partition.topic, "Describe")
        return await self._ask(f"the end of {partition}", ask, place)

    async def offset_at(self, partition: Partition, time_ms: int) -> int | None:
        """Return the offset of the first record not older than a time; None: there is none."""
        wanted = TopicPartition(partition.topic, partition.number)

        async def ask() -> list[int | None]:
            # The client refuses times before 1970, where no record is.
            found = (await self._offsets.offsets_for_times({wanted: max(0, time_ms)}))[wanted]
            return [None if found is None else int(found.offset)]

        return (await self._ask(f"where {partition} stood at a time", ask))[0]

    async def ends(self, partitions: Collection[Partition]) -> dict[Partition, LogEnds]:
        """Return last stable offset and high watermark of each partition, asked now.

        In this order: the watermark is never found below a stable offset found before it.
        """
        wanted = [TopicPartition(p.topic, p.number) for p in partitions]

        async def ask() -> dict[Partition, LogEnds]:
            stable = await self._offsets.end_offsets(wanted)
            client = connections.client_of(self._offsets)
            high = await partition_ends.high_watermarks(client, wanted)
            return {
                Partition(tp.topic, tp.partition): LogEnds(
                    _checked_offset(stable[tp]), _checked_offset(high[tp])
                )
                for tp in wanted
            }

        if not wanted:
            return {}
        return await self._ask(f"the ends of {', '.join(map(str, partitions))}", ask)

    async def open_transaction(self, partition: Partition) -> OpenTransaction | None:
        """Return the oldest transaction open in a partition; None: none, or Kafka is too old."""

        async def ask() -> list[OpenTransaction | None]:
            # Learns who leads it, if that was never asked.
            await self._offsets.end_offsets([TopicPartition(partition.topic, partition.number)])
            client = connections.client_of(self._offsets)
            return [
                await partition_ends.oldest_transaction(client, partition.topic, partition.number)
            ]

        return (await self._ask(f"the transactions open in {partition}", ask))[0]

    async def topic_id(self, topic: str) -> str:
        """Return the id the topic got when it was created; empty where brokers give none."""

        async def ask() -> str:
            try:
                answer = await connections.send_request(self._admin, TopicMetadataRequest([topic]))
            except UNKNOWN:
                return ""
            return topic_id(answer)

        return await self._ask(f"the id of topic {topic}", ask)

    async def group(self, name: str) -> GroupState:
        """Return the group's state and members as the coordinator knows them now."""
        return await self._group(name, waits=True)

    async def members(self, group: str) -> Sequence[GroupMember] | None:
        """Return the members of the group, None unless it is stable."""
        found = await self._group(group, waits=False)
        return found.members if found.state == "Stable" else None

    async def knows(self, group: str, member_id: str) -> bool:
        """Tell whether a member is in the group; True while a rebalance leaves it open."""
        found = await self._group(group, waits=False)
        if found.state in _RESTING:
            return any(member.member_id == member_id for member in found.members)
        return True

    async def _group(self, name: str, *, waits: bool) -> GroupState:
        """Describe a group; a coordinator that cannot just now is asked again if one ``waits``.

        Else the state is empty, and nobody is a member.
        """

        async def ask() -> list[tuple[Any, ...]]:
            found = tuple((await self._admin.describe_consumer_groups([name]))[0].groups[0])
            if found[0] and (
                waits or error_class(for_code(found[0])()) is KafkaErrorClass.OPERATOR
            ):
                raise for_code(found[0])(name)
            return [found]

        answer = await self._ask(f"group {name}", ask, ErrorContext(group=name))
        error, _, state, _, _, members, *_ = answer[0]
        listed = [
            GroupMember(client, host.lstrip("/"), _assigned_partitions(held), member_id)
            for member_id, client, host, _, held, *_ in members or ()
        ]
        return GroupState("", ()) if error else GroupState(state, listed)

    async def partition_counts(self, *, led: bool = False) -> dict[str, int]:
        """Return every topic this client may see, with its number of partitions.

        All topics: asking for one by name makes some clusters create it. With ``led``, only
        partitions that have a leader are counted.
        """

        async def ask() -> dict[str, int]:
            return {
                topic["topic"]: sum(p["leader"] != _NO_LEADER or not led for p in parts)
                for topic in await self._admin.describe_topics()
                if (parts := topic["partitions"])
            }

        return await self._ask("the list of topics", ask)

    async def settings(self, topics: Iterable[str]) -> dict[str, Mapping[str, str] | str]:
        """Return the settings of each topic, or the name of the error where they are refused."""
        wanted = [ConfigResource(ConfigResourceType.TOPIC, topic) for topic in topics]

        async def ask() -> dict[str, Mapping[str, str] | str]:
            answers = await self._admin.describe_configs(wanted)
            return {
                resource[3]: for_code(resource[0]).__name__
                if resource[0]
                else {entry[0]: entry[1] for entry in resource[4]}
                for answer in answers
                for resource in answer.resources
            }

        return await self._ask("the settings of topics", ask) if wanted else {}

    async def in_sync(self) -> dict[str, tuple[int, int]]:
        """Return of each topic how many replicas its worst partition has in sync, of how many."""

        async def ask() -> dict[str, tuple[int, int]]:
            return {
                topic["topic"]: min((len(p["isr"]), len(p["replicas"])) for p in parts)
                for topic in await self._admin.describe_topics()
                if (parts := topic["partitions"])
            }

        return await self._ask("how many replicas are in sync", ask)

    async def topic_rights(self, topics: Sequence[str]) -> dict[str, Operations] | None:
        """Return what this principal may do with topics that are there; None: it is not told."""

        async def ask() -> list[dict[str, Operations] | None]:
            request = TopicMetadataRequest(topics, rights=True)
            try:
                return [topic_rights(await connections.send_request(self._admin, request))]
            except UNKNOWN:
                return [None]

        return (await self._ask("what is granted on topics", ask))[0]

    async def group_rights(self, group: str) -> Operations | None:
        """Return what this principal may do with a group; None where brokers are too old to say."""

        async def ask() -> list[Operations | None]:
            try:
                node = await self._admin.find_coordinator(group)
                request = GroupRightsRequest(group)
                return [group_rights(await connections.send_request(self._admin, request, node))]
            except GroupAuthorizationFailedError:
                return [frozenset()]
            except UNKNOWN:
                return [None]

        return (await self._ask(f"what is granted on group {group}", ask))[0]

    async def create(
        self, topic: str, partitions: int, replication: int, settings: Mapping[str, str]
    ) -> str | None:
        """Create a topic; return why it was refused, None if it is there now."""
        wanted = NewTopic(topic, partitions, 1, topic_configs=dict(settings))
        # The constructor takes -1, "the broker's default", for a contradiction.
        wanted.replication_factor = replication

        async def ask() -> list[tuple[Any, ...]]:
            return list((await self._admin.create_topics([wanted])).topic_errors)

        _, code, *text = (await self._ask(f"a new topic {topic}", ask))[0]
        error = for_code(code).__name__
        if not code or error == "TopicAlreadyExistsError":
            return None
        return f"{error}: {text[0]}" if text and text[0] else error

    async def grow(self, topic: str, partitions: int) -> str | None:
        """Give a topic more partitions; return why it was refused, None if it was done."""

        async def ask() -> list[str]:
            try:
                await self._admin.create_partitions({topic: NewPartitions(partitions)})
            except KafkaError as error:
                if _is_transient(error):
                    raise
                return [error_text(error)]
            return []

        refused = await self._ask(f"partitions of {topic}", ask)
        return refused[0] if refused else None

    async def cut(self, partition: Partition, below: int) -> str | None:
        """Delete a partition's records below an offset; return why that was refused."""
        wanted = {TopicPartition(partition.topic, partition.number): RecordsToDelete(below)}

        async def ask() -> list[str]:
            try:
                await self._admin.delete_records(wanted)
            except KafkaError as error:
                if _is_transient(error):
                    raise
                return [error_text(error)]
            return []

        refused = await self._ask(f"{partition} to be cut", ask)
        return refused[0] if refused else None

    async def denied(self, group: str, transactional_id: str) -> set[str]:
        """Return which of ``group`` and ``transactional-id`` this principal may not use."""

        async def ask() -> set[str]:
            return {
                *await self._denied("group", group, 0, GroupAuthorizationFailedError),
                *await self._denied(
                    "transactional-id",
                    transactional_id,
                    _TRANSACTION,
                    TransactionalIdAuthorizationFailed,
                ),
            }

        return await self._ask("the coordinators", ask)

    async def _denied(self, what: str, key: str, kind: int, denial: type[KafkaError]) -> set[str]:
        try:
            await self._admin.find_coordinator(key, kind)
        except denial:
            return {what}
        return set()

    async def close(self) -> None:
        """Give the connections up within seconds; raises nothing."""
        admin, self._admin = self._admin, None
        offsets, self._offsets = self._offsets, None
        if offsets is not None:
            await close_consumer(offsets)
        if admin is not None:
            await close_all(admin.close)

    async def _ask(
        self,
        what: str,
        question: Callable[[], Awaitable[_Answer | None]],
        place: ErrorContext = NOWHERE,
    ) -> _Answer:
        """Ask until there is an answer; raises JournalError after ``ANSWER_SECONDS``.

        Before there is a connection, after the patience of whoever asks; once there is one, it gets
        the answer's time on top of that.
        """
        problem: BaseException = KafkaTimeoutError("no answer")
        seconds = ANSWER_SECONDS if self._offsets is not None else self._patience
        try:
            async with asyncio.timeout(seconds) as limit:
                while True:
                    try:
                        if await self._connect():
                            limit.reschedule((limit.when() or 0.0) + ANSWER_SECONDS)
                        answer = await question()
                    except KafkaError as error:
                        problem = error
                        if not _is_transient(error):
                            break
                    except TimeoutError:
                        raise
                    except Exception as error:  # noqa: BLE001  # what is in an answer is not ours
                        said = f"an answer that makes no sense ({type(error).__name__}: {error})"
                        problem = KafkaProtocolError(said)
                    else:
                        if answer is not None:
                            return answer
                    await asyncio.sleep(AGAIN_SECONDS)
        except TimeoutError:
            pass
        text = f"Kafka at {self._servers} did not tell {what}"
        raise client_error(JournalError, text, problem, place)

    async def _connect(self) -> bool:
        """Connect unless that was done; tell whether it has been done now."""
        async with self._connecting:
            before = self._offsets
            if self._admin is None:
                admin = AIOKafkaAdminClient(**self._arguments)
                requests.limit_requests(connections.client_of(admin))
                await admin.start()
                self._admin = admin
            if self._offsets is None:
                offsets = AIOKafkaConsumer(isolation_level="read_committed", **self._arguments)
                requests.limit_requests(connections.client_of(offsets))
                try:
                    await offsets.start()
                except BaseException:
                    await close_consumer(offsets)
                    raise
                self._offsets = offsets
            return self._offsets is not before


def _is_transient(error: KafkaError) -> bool:
    return bool(error.retriable) or isinstance(error, KafkaTimeoutError)


def _checked_offset(offset: int) -> int:
    """Return the offset that an answer tells; raises ValueError for one that no log can have."""
    if offset < 0:
        message = f"offset {offset}"
        raise ValueError(message)
    return offset


def _commit(offset: int, metadata: str | None) -> Commit | None:
    return None if offset == _NO_COMMIT else Commit(_checked_offset(offset), metadata or "")


def _assigned_partitions(assignment: bytes) -> frozenset[Partition]:
    """Return what a member holds; nothing for one that writes it in a way of its own."""
    try:
        held = ConsumerProtocolMemberAssignment.decode(assignment or b"").partitions()
    except (ValueError, TypeError, struct.error):
        return frozenset()
    return frozenset(Partition(tp.topic, tp.partition) for tp in held)
