"""The Kafka source between an assignment and its callback, and after a poll that failed."""
# ruff: noqa: SLF001  # the client's own rebalance is played step by step

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.errors import (
    CorruptRecordException,
    GroupAuthorizationFailedError,
    KafkaTimeoutError,
    OffsetOutOfRangeError,
    TopicAuthorizationFailedError,
)
from aiokafka.protocol.fetch import FetchRequest

from forwarder import clock
from forwarder.errors import ForwarderError
from forwarder.kafka.patches import consumers
from forwarder.kafka.patches.batches import DamagedBatchError, install
from forwarder.model import Partition
from forwarder.sources import kafka as sources
from forwarder.sources.contract import PositionLostError
from forwarder.sources.kafka import KafkaSource
from tests.doubles import Message
from tests.services.kafka_world import World
from tests.unit.kafka.patches.test_batches import batch

NUMBERS = (0, 1)


class Told:
    """A listener that goes on at offset 7, as a worker does."""

    def __init__(self) -> None:
        self.source: KafkaSource | None = None

    async def on_revoked(self, partitions: frozenset[Partition]) -> None:
        """Accept."""

    async def on_assigned(self, partitions: frozenset[Partition]) -> None:
        assert self.source is not None
        for partition in partitions:
            self.source.resume_at(partition, 7)


class Rig:
    """A source over a client that is never connected; the test plays the coordinator."""

    def __init__(self) -> None:
        settings = World("127.0.0.1:1").settings()
        self.topic = settings.kafka.topics[0].name
        self.source = KafkaSource(settings, "rig")
        listener = Told()
        listener.source = self.source
        self.client = AIOKafkaConsumer(**sources._arguments(settings.kafka, "rig"))
        self.client._fetcher = Fetched(self.client._subscription)
        self.client._coordinator = Calm()
        self.source._consumer = self.client
        self.back = sources._RebalanceListener(self.source, listener)
        self.client._subscription.subscribe({self.topic}, listener=self.back)

    @property
    def partitions(self) -> list[Partition]:
        return [Partition(self.topic, number) for number in NUMBERS]

    def assign(self) -> list[TopicPartition]:
        """Give the client a new assignment, as its coordinator does before it calls back."""
        found = [TopicPartition(self.topic, number) for number in NUMBERS]
        self.client._subscription.assign_from_subscribed(found)
        return found

    async def rebalance(self) -> None:
        await self.back.on_partitions_assigned(self.assign())

    def state(self, number: int) -> Any:  # noqa: ANN401  # the client is not typed
        assignment = self.client._subscription.subscription.assignment
        return assignment.state_value(TopicPartition(self.topic, number))


class Calm:
    """A coordinator without an error."""

    def __init__(self) -> None:
        self.rejoins = 0

    def check_errors(self) -> None:
        """Find none."""

    def request_rejoin(self) -> None:
        self.rejoins += 1


class Fetched:
    """A fetcher whose answers are made by hand; it moves positions as the client's own does."""

    def __init__(self, subscription: Any) -> None:  # noqa: ANN401
        self.subscription = subscription
        self._fetch_task = asyncio.get_running_loop().create_future()
        self.script: list[tuple[dict[TopicPartition, int], BaseException | None]] = []
        self.found: dict[TopicPartition, Sequence[Any]] = {}

    def seek_to(self, tp: TopicPartition, offset: int) -> None:
        self.subscription.seek(tp, offset)

    async def fetched_records(
        self, *_: object, **__: object
    ) -> dict[TopicPartition, Sequence[Any]]:
        moved, fault = self.script.pop(0)
        for tp, offset in moved.items():
            self.subscription.subscription.assignment.state_value(tp).consumed_to(offset)
        if fault is not None:
            raise fault
        return self.found


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig()
    yield rig
    rig.client._closed = True


async def test_between_an_assignment_and_its_callback_nothing_is_known_and_nothing_raises(
    rig: Rig,
) -> None:
    first = rig.partitions[0]
    await rig.rebalance()
    assert 7 == rig.source.position(first)
    told = rig.assign()
    assert rig.source.position(first) is None
    for act in (rig.source.pause, rig.source.resume):
        act(first)
    rig.source.resume_at(first, 99)
    assert not rig.state(0).paused
    assert not rig.state(0).has_valid_position
    await rig.back.on_partitions_assigned(told)
    assert 7 == rig.source.position(first)


async def test_nothing_raises_before_the_first_assignment_and_after_the_last(rig: Rig) -> None:
    first = rig.partitions[0]
    for _ in range(2):
        assert rig.source.position(first) is None
        rig.source.pause(first)
        rig.source.resume(first)
        rig.source.resume_at(first, 1)
        rig.client._subscription.unsubscribe()
    unstarted = KafkaSource(World("127.0.0.1:1").settings(), "unstarted")
    assert unstarted.position(first) is None


async def test_a_poll_that_fails_gives_back_what_its_client_had_already_moved_over(
    rig: Rig,
) -> None:
    await rig.rebalance()
    await poll(rig, {}, None)  # the seeks are behind it
    with pytest.raises(ForwarderError, match="KafkaTimeoutError"):
        await poll(rig, {0: 50, 1: 31}, KafkaTimeoutError("no answer"))
    assert [7, 7] == [rig.source.position(partition) for partition in rig.partitions]


async def test_a_poll_that_the_client_cancels_itself_is_one_that_failed(rig: Rig) -> None:
    await rig.rebalance()
    await poll(rig, {}, None)
    with pytest.raises(ForwarderError, match="cancelled a poll"):
        await poll(rig, {0: 50, 1: 31}, asyncio.CancelledError())
    assert [7, 7] == [rig.source.position(partition) for partition in rig.partitions]
    rig.source.fail(KeyError("an answer without members"))
    with pytest.raises(KeyError):
        await poll(rig, {0: 50, 1: 31}, asyncio.CancelledError())
    await poll(rig, {}, None)


async def test_a_partition_with_a_damaged_batch_is_set_aside_and_the_others_flow(rig: Rig) -> None:
    await rig.rebalance()
    await poll(rig, {}, None)
    tp = TopicPartition(rig.topic, 1)
    with pytest.raises(PositionLostError, match="checksum is wrong; if it stays so") as lost:
        await poll(rig, {0: 50, 1: 31}, DamagedBatchError(tp, "its checksum is wrong"))
    assert {rig.partitions[1]} == lost.value.partitions
    assert [7, 7] == [rig.source.position(partition) for partition in rig.partitions]
    assert [False, True] == [rig.state(number).paused for number in NUMBERS]


async def test_a_fault_that_names_no_partition_fails_the_poll(rig: Rig) -> None:
    """As one of a partition it would reopen none, and the next poll would follow at once."""
    await rig.rebalance()
    for error in (OffsetOutOfRangeError(), CorruptRecordException("of no partition")):
        await poll(rig, {}, None)
        with pytest.raises(ForwarderError) as told:
            await poll(rig, {}, error)
        assert not isinstance(told.value, PositionLostError)


class Broker:
    """A client whose every question is answered alike."""

    def __init__(self, answer: object) -> None:
        self._loop = asyncio.get_running_loop()
        self._metadata_max_age_ms = 1000
        self._answer = answer

    async def send(self, _node: int, _request: object) -> object:
        return self._answer


async def test_a_damaged_answer_moves_no_position_before_or_after_it_is_polled(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who stepped over to there would take a record for read that nobody got."""

    async def idle(_: fetcher.Fetcher) -> None:
        await asyncio.sleep(3600)

    install()
    monkeypatch.setattr(fetcher.Fetcher, "_fetch_requests_routine", idle)
    await rig.rebalance()
    await poll(rig, {}, None)
    first = rig.partitions[0]
    for length in (-1, 3, 48, 1 << 20):
        content = bytearray(batch(7, 1))
        content[8:12] = length.to_bytes(4, "big", signed=True)
        rows: list[object] = [(0, 0, 8, 8, [], bytes(content))]
        broker = Broker(SimpleNamespace(API_VERSION=4, topics=[(rig.topic, rows)]))
        rig.client._fetcher = fetcher.Fetcher(
            broker, rig.client._subscription, auto_offset_reset="none"
        )
        request = SimpleNamespace(topics=[(rig.topic, [(0, 7, 1 << 18)])])
        held = rig.client._subscription.subscription.assignment
        await rig.client._fetcher._proc_fetch_request(held, 1, request)
        assert 7 == rig.source.position(first)
        with pytest.raises(PositionLostError, match=str(first)) as lost:
            await rig.source.poll(10)
        assert {first} == lost.value.partitions
        assert 7 == rig.source.position(first)
        rig.source.resume_at(first, 7)
        rig.client._fetcher._fetch_task.cancel()


class Answered(Broker):
    """A client whose fetches of partition 0 are answered with a code."""

    def __init__(self, topic: str) -> None:
        super().__init__(SimpleNamespace(API_VERSION=4, topics=[]))
        self._topic = topic
        self.code = 0

    def force_metadata_update(self) -> None:
        """Know all there is to know."""

    async def send(self, _node: int, _request: object) -> object:
        rows: list[object] = [(0, self.code, -1, -1, [], b"")]
        return SimpleNamespace(API_VERSION=4, topics=[(self._topic, rows)])


@pytest.mark.parametrize("code", [-1, 2, 3, 5, 6, 9, 56, 74, 76, 78, 29_000])
async def test_what_a_leader_answers_a_fetch_is_known_until_it_answers_otherwise(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """The client writes it into its log alone, and asks again for ever."""

    async def idle(_: fetcher.Fetcher) -> None:
        await asyncio.sleep(3600)

    monkeypatch.setattr(fetcher.Fetcher, "_fetch_requests_routine", idle)
    await rig.rebalance()
    await poll(rig, {}, None)
    broker, (first, second) = Answered(rig.topic), rig.partitions
    rig.client._fetcher = fetcher.Fetcher(
        broker, rig.client._subscription, auto_offset_reset="none"
    )
    request = FetchRequest(100, 1, 1 << 20, 1, [(rig.topic, [(0, 7, 1 << 18)])])
    held = rig.client._subscription.subscription.assignment
    for broker.code in (0, code, 0):
        await rig.client._fetcher._proc_fetch_request(held, 1, request)
        told = rig.source.refusal(first)
        assert (broker.code == 0) is (told is None)
        if told is not None:
            assert f"{first} cannot be fetched" in told.what
            assert f"code {code}" in told.what
        assert rig.source.refusal(second) is None
    broker.code = code
    await rig.client._fetcher._proc_fetch_request(held, 1, request)
    late = clock.monotonic() + consumers.FRESH
    monkeypatch.setattr(clock, "monotonic", lambda: late)
    assert rig.source.refusal(first) is None
    rig.client._fetcher._fetch_task.cancel()


async def test_a_group_that_may_not_be_read_is_joined_again_for_its_heartbeat_has_ended(
    rig: Rig,
) -> None:
    await rig.rebalance()
    await poll(rig, {}, None)
    with pytest.raises(ForwarderError, match="grant Read on group") as told:
        await poll(rig, {}, GroupAuthorizationFailedError("g"))
    assert told.value.lasting
    assert 1 == rig.client._coordinator.rejoins


@pytest.mark.parametrize("form", [str, lambda topic: {topic}])
async def test_a_topic_that_may_not_be_read_is_set_aside_with_its_remedy(
    rig: Rig, form: Callable[[str], object]
) -> None:
    await rig.rebalance()
    await poll(rig, {}, None)
    with pytest.raises(PositionLostError, match=f"grant Read on topic {rig.topic}") as told:
        await poll(rig, {}, TopicAuthorizationFailedError(form(rig.topic)))
    assert {*rig.partitions} == told.value.partitions
    assert told.value.lasting
    assert all(rig.state(number).paused for number in NUMBERS)


async def test_a_topic_that_is_not_read_here_fails_the_poll_alone(rig: Rig) -> None:
    await rig.rebalance()
    await poll(rig, {}, None)
    with pytest.raises(ForwarderError, match="grant Read on topic other"):
        await poll(rig, {}, TopicAuthorizationFailedError("other"))
    assert not any(rig.state(number).paused for number in NUMBERS)


async def test_a_topic_that_kafka_shows_no_longer_is_complained_of(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert rig.source.unseen_input() is None
    await rig.rebalance()
    shown: set[int] = {0, 1}
    monkeypatch.setattr(rig.client, "partitions_for_topic", lambda _: shown)
    assert rig.source.unseen_input() is None
    shown.clear()
    complaint = rig.source.unseen_input()
    assert complaint is not None
    assert f"Kafka shows no partition of {rig.topic}" in complaint.what
    assert f"create topic {rig.topic}, or grant Describe on it" in complaint.remedy


async def test_nobody_sees_a_position_that_a_failed_poll_moved(rig: Rig) -> None:
    """Who stepped over to there would have passed over what the poll had unpacked."""
    await rig.rebalance()
    await poll(rig, {}, None)
    polling = asyncio.create_task(poll(rig, {0: 50, 1: 31}, KafkaTimeoutError("no answer")))
    while not polling.done():
        assert [7, 7] == [rig.source.position(partition) for partition in rig.partitions]
        await asyncio.sleep(0)
    assert isinstance(polling.exception(), ForwarderError)


async def test_who_seeks_while_a_poll_has_come_back_stands_where_it_was_sought(rig: Rig) -> None:
    await rig.rebalance()
    await poll(rig, {}, None)
    first = rig.partitions[0]
    tp = TopicPartition(rig.topic, 0)
    rig.client._fetcher.found = {tp: [Message(500, 0, b"of before")]}
    polling = asyncio.create_task(poll(rig, {0: 501}, None))
    while rig.source._pending is None or not rig.source._pending.done():  # noqa: ASYNC110
        await asyncio.sleep(0)
    assert 500 == rig.source.position(first)
    rig.source.resume_at(first, 9)
    while not polling.done():
        assert 9 == rig.source.position(first)
        await asyncio.sleep(0)
    await polling
    assert 9 == rig.source.position(first)


async def poll(rig: Rig, moved: dict[int, int], fault: BaseException | None) -> None:
    positions = {TopicPartition(rig.topic, number): at for number, at in moved.items()}
    rig.client._fetcher.script.append((positions, fault))
    async with asyncio.timeout(10):
        assert {} == await rig.source.poll(50)


# --------------------------------------------------------------- a poll of many bytes


async def brings(rig: Rig, monkeypatch: pytest.MonkeyPatch, sizes: dict[int, list[int]]) -> None:
    """Have the client bring records of these sizes from offset 7 on; a poll may return ten."""
    monkeypatch.setattr(sources, "POLL_BYTES", 10)
    await rig.rebalance()
    await poll(rig, {}, None)
    rig.client._fetcher.found = {
        TopicPartition(rig.topic, number): [
            Message(7 + at, 0, b"x" * size) for at, size in enumerate(found)
        ]
        for number, found in sizes.items()
    }
    moved = {TopicPartition(rig.topic, number): 7 + len(found) for number, found in sizes.items()}
    rig.client._fetcher.script.append((moved, None))


async def polled(rig: Rig) -> list[tuple[int, int]]:
    """Poll once; return partition and offset of what came."""
    async with asyncio.timeout(10):
        found = await rig.source.poll(50)
    return [(p.number, one.offset) for p, records in found.items() for one in records]


async def test_a_poll_returns_so_many_bytes_and_the_next_ones_the_rest(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    await brings(rig, monkeypatch, {0: [4, 4, 30, 1], 1: [9, 0, 9]})
    assert [(0, 7), (0, 8), (0, 9)] == await polled(rig)
    assert [10, 7] == [rig.source.position(partition) for partition in rig.partitions]
    assert [(1, 7), (1, 8), (1, 9)] == await polled(rig)
    assert [10, 10] == [rig.source.position(partition) for partition in rig.partitions]
    assert [(0, 10)] == await polled(rig)
    assert [11, 10] == [rig.source.position(partition) for partition in rig.partitions]


async def test_what_waits_of_a_partition_that_is_paused_is_read_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    await brings(rig, monkeypatch, {0: [20, 20], 1: [20]})
    assert [(0, 7)] == await polled(rig)
    rig.source.pause(rig.partitions[0])
    assert (True, 8) == (rig.state(0).paused, rig.state(0).position)
    assert [(1, 7)] == await polled(rig)
    assert [8, 8] == [rig.source.position(partition) for partition in rig.partitions]


async def test_nothing_that_waits_outlives_a_seek_or_an_assignment(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    await brings(rig, monkeypatch, {0: [20, 20], 1: [20]})
    assert [(0, 7)] == await polled(rig)
    rig.source.resume_at(rig.partitions[0], 3)
    assert [3, 7] == [rig.source.position(partition) for partition in rig.partitions]
    rig.source.pause_assigned(rig.assign())
    rig.client._fetcher.found = {}
    rig.client._fetcher.script.append(({}, None))
    assert [] == await polled(rig)
