"""Reads the input topics as a member of a Kafka consumer group."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    OffsetOutOfRangeError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)

from forwarder import native
from forwarder.config.settings import Configuration, Kafka
from forwarder.errors import ForwarderError
from forwarder.kafka import client
from forwarder.kafka.admin import KafkaAdmin
from forwarder.kafka.error_codes import ErrorContext
from forwarder.kafka.patches import connections, consumers, requests
from forwarder.kafka.patches.batches import DamagedBatchError
from forwarder.model import LogEnds, OpenTransaction, Partition, Record
from forwarder.sources.contract import Listener, PositionLostError

MAX_POLL_RECORDS = 1000
"""Records per poll: about 5 ms in the client; the loop breathes after each."""

POLL_BYTES = 1024 * 1024
"""Bytes a poll returns, passed by one record; the rest of what came waits for the next polls. A
fetch is of compressed batches: a thousand records may be gigabytes of uploads once taken apart,
and between two polls windows close that take too much memory."""

MAX_PARTITION_FETCH_BYTES = 256 * 1024
"""Per partition and request: parsing 1 MiB in one go stalls the loop for 200 ms, this for 12.
A larger record still passes, alone: brokers return a first batch whatever its size."""

FETCH_BYTES, FETCH_WAIT_MS = 64 * 1024, 100
"""How much a broker gathers for a fetch, and how long it may take for that: where little comes, ten
fetches a second for all partitions of a broker instead of one for every record."""

REBALANCE_MS = 25_000
"""How long a revoked member may take to finish its puts and to tick, a coordinator that moves
included. One whose tick hangs for longer loses its partitions to others, which costs repeats; the
whole group waits that long for a member of which only the broker still knows."""

REQUEST_MS = 30_000
"""Above the rebalance timeout: the answer to joining waits for the slowest member."""

METADATA_MAX_AGE_MS = 15_000
"""How long partitions and topics that are added may go unseen by a running group."""

HEARTBEAT_MS = 3_000
JOIN_SECONDS = 30.0
LEAVE_SECONDS = 5.0

OVERDUE_SECONDS = 0.1
"""What a poll may take beyond its timeout; a client in a rebalance forgets the timeout."""


class KafkaSource:
    """One member of the group; the id that the coordinator gave it is how it knows itself."""

    def __init__(
        self, settings: Configuration, client_id: str, cluster: KafkaAdmin | None = None
    ) -> None:
        """Create; ``start`` connects. ``cluster`` is closed by its owner."""
        self._kafka = settings.kafka
        self._client_id = client_id
        self._shared = cluster is not None
        self._cluster = cluster or KafkaAdmin(settings.kafka, client_id)
        self._names: dict[TopicPartition, Partition] = {}
        # The client's assignment that the listener was told of: positions hold while it is current.
        self._told_assignment: Any = None
        self._next: dict[Partition, int] = {}
        self._sought: dict[Partition, int] = {}
        self._unreturned_records: dict[TopicPartition, Sequence[Any]] = {}
        self._untold: set[Partition] = set()
        self._pending: asyncio.Task[Any] | None = None
        self._fault: BaseException | None = None
        self._consumer: Any = None
        core = native.core()
        self._fitting = fitting if core is None else core.fitting

    async def start(self, listener: Listener) -> None:
        """Join; assignments reach the listener from the client's own task."""
        self._consumer = AIOKafkaConsumer(**_arguments(self._kafka, self._client_id))
        requests.limit_requests(connections.client_of(self._consumer), joining=REQUEST_MS / 1000)
        try:
            async with asyncio.timeout(JOIN_SECONDS):
                await self._consumer.start()
        except client.FAILURES as error:
            await client.close_consumer(self._consumer)
            where = ", ".join(self._kafka.bootstrap_servers)
            text, place = (
                f"Kafka at {where} cannot be reached",
                ErrorContext(group=self._kafka.group_id),
            )
            raise client.client_error(ForwarderError, text, error, place) from error
        topics = [topic.name for topic in self._kafka.topics]
        # Subscribed only now: a start with topics would last until the first rebalance ends.
        self._consumer.subscribe(topics, listener=_RebalanceListener(self, listener))

    async def poll(self, timeout_ms: int) -> Mapping[Partition, Sequence[Record]]:
        """Return what has arrived, record lists as the client made them.

        The client's own call is never cancelled (each time would leak a counter and in the end
        disable ``max.poll.interval.ms``), only left alone until the next poll.
        """
        if self._unreturned_records:
            await asyncio.sleep(0)
            return self._take_bounded()
        if (
            self._pending is None
            and (ended := consumers.restart_fetching(self._consumer)) is not None
        ):
            text = f"the consumer's fetching ended, and was begun anew: {ended!r}"
            raise ForwarderError(text)
        overdue, task = self._pending is not None, self._pending or self._poll_client(timeout_ms)
        self._pending = task
        done, _ = await asyncio.wait({task}, timeout=timeout_ms / 1000 + OVERDUE_SECONDS)
        if not done:
            return {}
        # With data buffered the client never suspends, and everything else would starve. Who looks
        # meanwhile must still find the records waiting: they are not collected yet.
        await asyncio.sleep(0)
        self._pending = None
        polled = self._result(task)
        for tp, records in polled.items():
            partition = self._partition_of(tp)
            if overdue or partition in self._sought:
                self._seek_back(tp, self._sought.get(partition, records[0].offset))
            else:
                self._unreturned_records[tp] = records
        return self._take_bounded()

    def _take_bounded(self) -> Mapping[Partition, Sequence[Record]]:
        """Return what waits, ``POLL_BYTES`` of it at most; nearly always that is all."""
        kept: dict[Partition, Sequence[Record]] = {}
        room = POLL_BYTES
        for tp in list(self._unreturned_records):
            partition = self._partition_of(tp)
            if room <= 0:
                break
            records = self._unreturned_records.pop(tp)
            if self._assigned(partition) is None:
                continue  # whoever has it next begins where it is collected
            count, room = self._fitting(records, room)
            if count < len(records):
                self._unreturned_records[tp] = records[count:]
                records = records[:count]
            kept[partition] = records
            self._next[partition] = records[-1].offset + 1
        return kept

    def resume_at(self, partition: Partition, offset: int) -> None:
        """Seek and go on; nothing happens to a partition that was lost meanwhile."""
        if (tp := self._assigned(partition)) is not None:
            self._unreturned_records.pop(tp, None)
            self._consumer.seek(tp, offset)
            self._consumer.resume(tp)
            self._next[partition] = self._sought[partition] = offset

    def pause(self, partition: Partition) -> None:
        """Return no more; what is buffered is dropped by the client and fetched again."""
        if (tp := self._assigned(partition)) is not None:
            if rest := self._unreturned_records.pop(tp, None):
                self._seek_back(tp, rest[0].offset)
            self._consumer.pause(tp)

    def resume(self, partition: Partition) -> None:
        """Go on where ``pause`` stopped."""
        if (tp := self._assigned(partition)) is not None and partition in self._next:
            self._consumer.resume(tp)

    def position(self, partition: Partition) -> int | None:
        """Return the offset up to which records were returned or markers stepped over.

        None while a rebalance is between its assignment and its callback, too.
        """
        tp = self._assigned(partition)
        if tp is None or partition not in self._next:
            return None
        if rest := self._unreturned_records.get(tp):
            return int(rest[0].offset)
        # What a poll brings that was under way when somebody sought is given back, and what one
        # moved that failed is sought back: before anybody may take either for read.
        if partition in self._sought or self._has_failed():
            return self._next[partition]
        if waiting := self._unreturned(tp):
            return int(waiting[0].offset)
        # The public way is a coroutine, and the contract is a plain look.
        return int(self._told_assignment.state_value(tp).position)

    async def end(self, partition: Partition) -> int:
        """Fetch the last stable offset now."""
        return await self._cluster.end(partition)

    async def ends(self, partitions: Collection[Partition]) -> Mapping[Partition, LogEnds]:
        """Fetch last stable offset and high watermark of each; who cannot be asked is left out."""
        # One without a leader takes as long as a question may: those that were not told the last
        # time are asked for one by one, so that it delays and hides no other.
        told = [partition for partition in partitions if partition not in self._untold]
        asked = [told, *([one] for one in partitions if one in self._untold)]
        answers = await asyncio.gather(*map(self._ends, asked))
        found = {partition: ends for one in answers for partition, ends in one.items()}
        self._untold = set(partitions) - found.keys()
        return found

    async def _ends(self, partitions: Collection[Partition]) -> Mapping[Partition, LogEnds]:
        """Ask for all at once, and where that fails for each by itself."""
        try:
            return await self._cluster.ends(partitions)
        except ForwarderError:
            if len(partitions) == 1:
                return {}
        answers = await asyncio.gather(*(self._ends([partition]) for partition in partitions))
        return {partition: ends for one in answers for partition, ends in one.items()}

    async def committed(self, partitions: Collection[Partition]) -> Mapping[Partition, int]:
        """Fetch what the group has committed; left out: no commit, or Kafka cannot be asked."""
        try:
            found = await self._cluster.committed(self._kafka.group_id, partitions)
        except ForwarderError:
            return {}
        return {partition: commit.offset for partition, commit in found.items() if commit}

    async def open_transaction(self, partition: Partition) -> OpenTransaction | None:
        """Ask who holds the last stable offset back; None: nobody, or it is not told."""
        try:
            return await self._cluster.open_transaction(partition)
        except ForwarderError:
            return None

    def refusal(self, partition: Partition) -> ForwarderError | None:
        """Return the error that fetches are answered with: the client asks again, and is silent."""
        tp = self._assigned(partition)
        error = None if tp is None else consumers.fetch_error(self._consumer, tp)
        if error is None:
            return None
        text, place = f"{partition} cannot be fetched", ErrorContext(partition.topic, "Read")
        return client.client_error(ForwarderError, text, error, place)

    def restart_fetching(self) -> None:
        """End the client's fetching: the next poll begins it anew."""
        consumers.end_fetching(self._consumer)

    async def is_owner(self, partition: Partition) -> bool:
        """Ask the coordinator whether the group is stable and this member holds it (R4)."""
        members = await self._cluster.members(self._kafka.group_id)
        # Not the client id: a static member that came back is described with its predecessor's.
        me = consumers.member_id(self._consumer)
        return any(
            member.member_id == me and partition in member.partitions for member in members or ()
        )

    async def is_member(self) -> bool:
        """Ask the coordinator whether the group knows this member."""
        me = consumers.member_id(self._consumer)
        return await self._cluster.knows(self._kafka.group_id, me)

    def unseen_input(self) -> ForwarderError | None:
        """Return that Kafka shows a topic no longer: the group lets its partitions go then."""
        if self._assignment() is None:
            return None  # not joined yet: nothing is known
        names = [topic.name for topic in self._kafka.topics]
        gone = [name for name in names if not self._consumer.partitions_for_topic(name)]
        if not gone:
            return None
        listed = ", ".join(gone)
        text = f"Kafka shows no partition of {listed}"
        place = ErrorContext(listed, "Describe")
        return client.client_error(ForwarderError, text, UnknownTopicOrPartitionError(), place)

    def is_exhausted(self) -> bool:
        """Return False: a topic never ends."""
        return False

    async def stop(self) -> None:
        """Leave the group within seconds, whatever the broker does."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.cancel()
            await asyncio.wait({pending})
        if self._consumer is not None:
            await client.close_consumer(self._consumer, LEAVE_SECONDS)
        if not self._shared:
            await self._cluster.close()

    # ------------------------------------------------------------- callbacks of the rebalance

    def pause_assigned(self, assigned: Collection[TopicPartition]) -> frozenset[Partition]:
        """Pause what was assigned, at no position yet. Caller: the rebalance, before anyone."""
        self._told_assignment = self._assignment()
        self._next.clear()
        self._unreturned_records.clear()
        self._sought.update((self._partition_of(tp), 0) for tp in assigned)
        self._consumer.pause(*assigned)
        for tp in assigned:
            # A partition without a position makes every poll raise (auto.offset.reset=none).
            self._consumer.seek(tp, 0)
        return frozenset(map(self._partition_of, assigned))

    def released(self, revoked: Collection[TopicPartition]) -> frozenset[Partition]:
        """Name what is being taken away. Caller: the rebalance."""
        return frozenset(map(self._partition_of, revoked))

    def fail(self, fault: BaseException) -> None:
        """Let the next poll raise what a listener raised: the client would only log it."""
        self._fault = fault

    # -------------------------------------------------------------------------------- inside

    def _poll_client(self, timeout_ms: int) -> "asyncio.Task[Any]":
        self._sought.clear()
        return asyncio.ensure_future(
            self._consumer.getmany(timeout_ms=timeout_ms, max_records=MAX_POLL_RECORDS)
        )

    def _result(self, task: "asyncio.Task[Any]") -> Mapping[TopicPartition, Sequence[Any]]:
        fault, self._fault = self._fault, None
        if task.cancelled():  # by the client itself: whoever is told to end waits for it elsewhere
            fault = fault or ForwarderError("the consumer failed: its client cancelled a poll")
        if fault is not None:
            _ = task.cancelled() or task.exception()
            self._rewind()  # what it brought goes with it
            raise fault
        try:
            polled: Mapping[TopicPartition, Sequence[Any]] = task.result()
        except OffsetOutOfRangeError as error:
            raise self._set_aside(error) from error
        except DamagedBatchError as error:
            self._rewind()
            raise self._set_damaged_aside(error) from error
        except TopicAuthorizationFailedError as error:
            self._rewind()
            raise self._not_allowed(error) from error
        except client.FAILURES as error:
            self._rewind()
            if isinstance(error, GroupAuthorizationFailedError):
                # The client's heartbeat has ended with it and begins again only with a new join.
                consumers.rejoin(self._consumer)
            place = ErrorContext(group=self._kafka.group_id)
            what = "the consumer failed"
            raise client.client_error(ForwarderError, what, error, place) from error
        return polled

    def _not_allowed(self, error: TopicAuthorizationFailedError) -> ForwarderError:
        """Pause the partitions of topics that may not be read, so that the others flow on."""
        named = error.args[0] if error.args else ()
        topics = {named} if isinstance(named, str) else set(named)
        gone = [tp for tp in self._consumer.assignment() if tp.topic in topics]
        place, what = ErrorContext(operation="Read"), "the input cannot be read"
        told = client.client_error(ForwarderError, what, error, place)
        for tp in gone:
            self.pause(self._partition_of(tp))
        if not gone:
            return told
        partitions = frozenset(map(self._partition_of, gone))
        return PositionLostError(told.what, partitions, told.remedy, lasting=told.lasting)

    def _rewind(self) -> None:
        """Seek every partition back to what was returned of it last, after a poll that failed.

        The client moves its positions while it unpacks, partition after partition: where one of
        them cannot be unpacked, what it had already unpacked is gone, and so is the part before
        the fault in the partition itself. Read on from there, these records would be lost.
        """
        for partition, offset in self._next.items():
            if (tp := self._assigned(partition)) is not None:
                self._consumer.seek(tp, offset)

    def _has_failed(self) -> bool:
        """Tell whether the poll under way has failed, and nobody has come back for that yet."""
        task = self._pending
        if task is None or not task.done():
            return False
        return task.cancelled() or task.exception() is not None

    def _unreturned(self, tp: TopicPartition) -> Sequence[Any]:
        """Return what a poll brought that nobody has come back for yet."""
        task = self._pending
        if task is None or not task.done() or task.cancelled() or task.exception() is not None:
            return ()
        found: Sequence[Any] = task.result().get(tp, ())
        return found

    def _set_aside(self, error: OffsetOutOfRangeError) -> ForwarderError:
        """Pause the partitions whose position is gone, so that the others flow on."""
        gone = dict(error.args[0]) if error.args else {}
        where = ", ".join(
            f"{self._partition_of(tp)} at offset {offset}" for tp, offset in gone.items()
        )
        what = f"the input no longer has what was to be read next: {where}"
        if not gone:
            return client.client_error(ForwarderError, what, error)
        for tp in gone:
            self.pause(self._partition_of(tp))
        return PositionLostError(what, frozenset(map(self._partition_of, gone)))

    def _set_damaged_aside(self, error: DamagedBatchError) -> PositionLostError:
        """Pause the partition with a batch that is not what was written: the others flow on.

        On the way a batch is damaged once and right when it is fetched again; on a broker's disk
        it stays so, and every poll would fail for it.
        """
        partition = self._partition_of(error.partition)
        self.pause(partition)
        what = f"a damaged batch of {partition} came: {error.what}"
        remedy = "if it stays so, its leader's disk is damaged: move leadership to another replica"
        return PositionLostError(what, frozenset({partition}), remedy)

    def _seek_back(self, tp: TopicPartition, offset: int) -> None:
        """Seek back before what arrived while nobody waited, or around a seek.

        Whether it was fetched before the seek or after it cannot be told from the records; read
        once more it is right in both cases.
        """
        if self._assigned(self._partition_of(tp)) is not None:
            self._consumer.seek(tp, offset)

    def _partition_of(self, tp: TopicPartition) -> Partition:
        name = self._names.get(tp)
        if name is None:
            name = self._names[tp] = Partition(tp.topic, tp.partition)
        return name

    def _assigned(self, partition: Partition) -> TopicPartition | None:
        """Name a partition to the client, if it is assigned by an assignment that was told.

        The client has a new assignment some steps of the loop before it calls back. Until then
        every partition of it is without a position, and what is known is of the one before.
        """
        tp = TopicPartition(partition.topic, partition.number)
        now = self._assignment()
        return tp if now is not None and now is self._told_assignment and tp in now.tps else None

    def _assignment(self) -> Any:  # noqa: ANN401  # the client ships no types
        """Return the client's assignment, None if it has none."""
        return None if self._consumer is None else consumers.assignment(self._consumer)


def fitting(records: Sequence[Any], room: int) -> tuple[int, int]:
    """Return how many records fit into so many bytes, the last perhaps not, and what is left."""
    for at, record in enumerate(records):
        room -= len(record.value or b"")
        if room <= 0:
            return at + 1, room
    return len(records), room


class _RebalanceListener(ConsumerRebalanceListener):  # type: ignore[misc]  # the client ships no types
    """Passes the client's callbacks on to the worker."""

    def __init__(self, source: KafkaSource, listener: Listener) -> None:
        self._source = source
        self._listener = listener

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Tell what is about to go; also called for what is lost already."""
        try:
            await self._listener.on_revoked(self._source.released(revoked))
        except Exception as fault:  # noqa: BLE001  # the client would log it and go on
            self._source.fail(fault)

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Tell what is owned now, all of it paused."""
        try:
            await self._listener.on_assigned(self._source.pause_assigned(assigned))
        except Exception as fault:  # noqa: BLE001  # the client would log it and go on
            self._source.fail(fault)


def _arguments(kafka: Kafka, client_id: str) -> dict[str, Any]:
    """Return the consumer's arguments.

    The assignor is exactly one, ``range``: it needs no memory of earlier assignments. The sticky
    one is told no generation by this client, so that two members may claim one partition from
    the past; a cooperative one does not exist.
    """
    return client.client_arguments(kafka, client_id) | {
        "metadata_max_age_ms": METADATA_MAX_AGE_MS,
        "group_id": kafka.group_id,
        "group_instance_id": kafka.group_instance_id,
        "partition_assignment_strategy": (RangePartitionAssignor,),
        "enable_auto_commit": False,
        "auto_offset_reset": "none",
        "isolation_level": "read_committed",
        "session_timeout_ms": kafka.session_timeout_ms,
        "heartbeat_interval_ms": min(HEARTBEAT_MS, kafka.session_timeout_ms // 3),
        "rebalance_timeout_ms": REBALANCE_MS,
        "request_timeout_ms": REQUEST_MS,
        "max_partition_fetch_bytes": MAX_PARTITION_FETCH_BYTES,
        "fetch_min_bytes": FETCH_BYTES,
        "fetch_max_wait_ms": FETCH_WAIT_MS,
    }
