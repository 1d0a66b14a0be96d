"""The Kafka source on a real broker: groups, transactions, codecs and outages."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from forwarder.errors import ForwarderError
from forwarder.kafka.admin import KafkaAdmin
from forwarder.model import LogEnds, Partition
from forwarder.sources import kafka as sources
from forwarder.sources.contract import Listener, PositionLostError
from forwarder.sources.kafka import KafkaSource
from tests.services.kafka import own_broker
from tests.services.kafka_world import World

PATIENCE = 30.0


class Member:
    """A source that polls all the time, and what it was told and given, in order."""

    def __init__(self, world: World, name: str) -> None:
        self.name = name
        self.source = KafkaSource(world.settings(), name)
        self.calls: list[tuple[str, frozenset[Partition]]] = []
        self.owned: frozenset[Partition] = frozenset()
        self.records: dict[Partition, list[tuple[int, bytes | None]]] = {}
        self.errors: list[ForwarderError] = []
        self.start_at: int | None = None
        self._task: asyncio.Task[None] | None = None

    async def on_revoked(self, partitions: frozenset[Partition]) -> None:
        self.calls.append(("revoked", partitions))

    async def on_assigned(self, partitions: frozenset[Partition]) -> None:
        self.calls.append(("assigned", partitions))
        self.owned = partitions
        if self.start_at is not None:
            for partition in partitions:
                self.source.resume_at(partition, self.start_at)

    async def join(self) -> None:
        await self.source.start(self)
        self._task = asyncio.create_task(self._poll())

    async def _poll(self) -> None:
        while True:
            try:
                polled = await self.source.poll(50)
            except ForwarderError as error:
                self.errors.append(error)
                await asyncio.sleep(0.02)
                continue
            for partition, records in polled.items():
                got = self.records.setdefault(partition, [])
                got += [(record.offset, record.value) for record in records]

    async def leave(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        await self.source.stop()

    def values(self, partition: Partition) -> list[bytes | None]:
        return [value for _, value in self.records.get(partition, ())]


async def until(condition: Callable[[], bool]) -> None:
    """Let everything go on until the condition holds; ends in an error, never in luck."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110  # conditions over several members
            await asyncio.sleep(0.01)


@pytest.fixture
async def world(kafka: str) -> World:
    world = World(kafka, partitions=2)
    await world.create_input()
    return world


@pytest.fixture
async def members(world: World) -> AsyncIterator[Callable[[str], Member]]:
    made: list[Member] = []

    def make(name: str) -> Member:
        made.append(Member(world, name))
        return made[-1]

    yield make
    for member in made:
        await member.leave()


Members = Callable[[str], Member]


def both(world: World) -> frozenset[Partition]:
    return frozenset({Partition(world.topic, 0), Partition(world.topic, 1)})


async def test_partitions_are_shared_among_members(world: World, members: Members) -> None:
    one, two = members("one"), members("two")
    await one.join()
    await until(lambda: one.owned == both(world))
    await two.join()
    await until(lambda: len(one.owned) == len(two.owned) == 1)
    assert both(world) == one.owned | two.owned
    everything = both(world)
    expected = [
        ("revoked", frozenset()),
        ("assigned", everything),
        ("revoked", everything),
        ("assigned", one.owned),
    ]
    assert expected == one.calls


async def test_a_member_that_leaves_hands_its_partitions_over(
    world: World, members: Members
) -> None:
    one, two = members("one"), members("two")
    await one.join()
    await two.join()
    await until(lambda: len(one.owned) == len(two.owned) == 1)
    assert await one.source.is_owner(next(iter(one.owned)))
    assert not await one.source.is_owner(next(iter(two.owned)))
    await two.leave()
    await until(lambda: one.owned == both(world))
    for partition in both(world):
        assert await one.source.is_owner(partition)


async def test_a_static_member_that_comes_back_knows_itself(world: World) -> None:
    settings = world.settings()
    kafka = dataclasses.replace(settings.kafka, group_instance_id="pod-0")
    settings = dataclasses.replace(settings, kafka=kafka)
    former, source = KafkaSource(settings, "former"), KafkaSource(settings, "later")
    for member in (former, source):
        listener = Slow()
        await member.start(listener)
        while not listener.owned:
            await member.poll(50)
        for partition in both(world):
            assert await member.is_owner(partition)
        await member.stop()


async def test_partitions_are_paused_by_every_rebalance(world: World, members: Members) -> None:
    await world.produce([b"0"] * 10, 0)
    await world.produce([b"1"] * 10, 1)
    one, two = members("one"), members("two")
    one.start_at = 0
    await one.join()
    await until(lambda: sum(map(len, one.records.values())) == 20)
    one.start_at = None
    await two.join()
    await until(lambda: len(one.owned) == len(two.owned) == 1)
    kept = next(iter(one.owned))
    assert one.source.position(kept) is None
    await world.produce([b"later"], kept.number)
    one.source.resume_at(kept, 10)
    await until(lambda: one.values(kept)[10:] == [b"later"])


async def test_aborted_and_open_transactions_are_not_read(world: World, members: Members) -> None:
    one = members("one")
    await world.produce([b"plain"])
    await world.produce([b"aborted"] * 5, transactional_id=f"{world.group}-a", commit=False)
    await world.produce([b"committed"], transactional_id=f"{world.group}-b")
    await world.produce([b"aborted"] * 5, transactional_id=f"{world.group}-c", commit=False)
    one.start_at = 0
    await one.join()
    first = Partition(world.topic, 0)
    await until(lambda: one.source.position(first) == 15)
    assert one.values(first) == [b"plain", b"committed"]
    assert await one.source.end(first) == 15


async def test_the_position_never_runs_ahead_of_what_was_returned(
    world: World, members: Members
) -> None:
    one, first = members("one"), Partition(world.topic, 0)
    one.start_at = 0
    await one.join()
    await until(lambda: one.source.position(first) == 0)
    await world.produce([b"%d" % n for n in range(50)])

    def returned() -> bool:
        read = len(one.values(first))
        assert one.source.position(first) == read
        return read == 50

    async with asyncio.timeout(PATIENCE):
        while not returned():  # noqa: ASYNC110  # looks between any two steps of the poll
            await asyncio.sleep(0)


async def test_a_partition_whose_end_is_not_told_hides_no_other(
    world: World, members: Members, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("forwarder.kafka.admin.ANSWER_SECONDS", 1.0)
    one, absent = members("one"), Partition(world.topic, 9)
    await one.join()
    await world.produce([b"1"] * 3)
    expected = {Partition(world.topic, 0): LogEnds(3, 3), Partition(world.topic, 1): LogEnds(0, 0)}
    for _ in range(2):
        assert expected == await one.source.ends([*both(world), absent])


async def test_fetching_that_an_answer_ended_is_begun_anew_and_loses_nothing(
    world: World, members: Members, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, first = members("one"), Partition(world.topic, 0)
    one.start_at = 0
    await one.join()
    await world.produce([b"before"])
    await until(lambda: one.values(first) == [b"before"])
    fetcher = one.source._consumer._fetcher  # noqa: SLF001  # what an answer would end
    plain, ended = fetcher._get_actions_per_node, fetcher._fetch_task  # noqa: SLF001

    def surprised(assignment: object) -> object:
        monkeypatch.setattr(fetcher, "_get_actions_per_node", plain)
        raise KeyError(assignment)

    monkeypatch.setattr(fetcher, "_get_actions_per_node", surprised)
    await world.produce([b"after"])
    await until(ended.done)
    await until(lambda: one.values(first) == [b"before", b"after"])
    assert any("was begun anew" in str(error) for error in one.errors)


async def test_fetching_that_is_begun_anew_loses_and_repeats_nothing(
    world: World, members: Members
) -> None:
    one, first = members("one"), Partition(world.topic, 0)
    one.start_at = 0
    await one.join()
    values = [b"%d" % n for n in range(40)]
    for value in values:
        await world.produce([value])
        if value[-1:] == b"5":
            one.source.restart_fetching()
    await until(lambda: len(one.values(first)) >= len(values))
    assert values == one.values(first)
    assert one.source.refusal(first) is None
    assert any("was begun anew" in str(error) for error in one.errors)


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_compressed_input_is_read(world: World, members: Members, codec: str) -> None:
    values = [b"%d" % n * 50 for n in range(300)]
    await world.produce(values, compression_type=codec)
    one = members("one")
    one.start_at = 0
    await one.join()
    await until(lambda: len(one.values(Partition(world.topic, 0))) == 300)
    assert values == one.values(Partition(world.topic, 0))


async def test_records_larger_than_a_fetch_pass(members: Members, world: World) -> None:
    large = [bytes([n]) * (sources.MAX_PARTITION_FETCH_BYTES * 3) for n in range(1, 4)]
    for number in (0, 1):
        await world.produce(large, number)
    one = members("one")
    one.start_at = 0
    await one.join()
    for partition in both(world):
        await until(lambda p=partition: len(one.values(p)) == 3)  # type: ignore[misc]
        assert large == one.values(partition)


async def test_partitions_added_later_are_assigned(
    world: World, members: Members, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "METADATA_MAX_AGE_MS", 300)
    one = members("one")
    await one.join()
    await until(lambda: one.owned == both(world))
    await world.grow(world.topic, 3)
    await until(lambda: len(one.owned) == 3)


async def test_an_offset_that_is_gone_is_said_and_the_other_partition_flows(
    world: World, members: Members
) -> None:
    await world.produce([b"fine"], 1)
    one = members("one")
    await one.join()
    await until(lambda: one.owned == both(world))
    one.source.resume_at(Partition(world.topic, 0), 77)
    await until(lambda: bool(one.errors))
    lost = one.errors[0]
    assert isinstance(lost, PositionLostError)
    assert "at offset 77" in str(lost)
    assert {Partition(world.topic, 0)} == lost.partitions
    one.source.resume_at(Partition(world.topic, 1), 0)
    await until(lambda: one.values(Partition(world.topic, 1)) == [b"fine"])
    assert len(one.errors) <= 2  # one fetch more may be under way when it is put aside


async def test_a_poll_returns_in_time_while_a_rebalance_lasts(
    world: World, members: Members
) -> None:
    listener, source = Slow(), KafkaSource(world.settings(), "slow")
    await source.start(listener)
    while not listener.owned:
        await source.poll(50)
    two = members("two")
    await two.join()
    polls = 0
    async with asyncio.timeout(PATIENCE):
        while not listener.waiting:
            await source.poll(50)
        for polls in range(1, 6):  # noqa: B007
            assert await source.poll(10) == {}
    assert polls == 5
    listener.go_on.set()
    await until(lambda: len(two.owned) == 1)
    await source.stop()


class Slow(Listener):
    """Holds a rebalance up until told to go on."""

    def __init__(self) -> None:
        self.owned: frozenset[Partition] = frozenset()
        self.waiting = False
        self.go_on = asyncio.Event()

    async def on_revoked(self, partitions: frozenset[Partition]) -> None:
        if partitions:
            self.waiting = True
            await self.go_on.wait()

    async def on_assigned(self, partitions: frozenset[Partition]) -> None:
        self.owned = partitions


class Faulty(Listener):
    """Fails where the client would swallow it."""

    async def on_revoked(self, partitions: frozenset[Partition]) -> None:
        """Accept."""

    async def on_assigned(self, partitions: frozenset[Partition]) -> None:
        msg = f"no use for {len(partitions)} partitions"
        raise LookupError(msg)


async def poll_for_ever(source: KafkaSource) -> None:
    while True:
        await source.poll(50)


async def test_what_a_listener_raises_comes_out_of_the_next_poll(world: World) -> None:
    source = KafkaSource(world.settings(), "faulty")
    await source.start(Faulty())
    with pytest.raises(LookupError, match="no use for 2 partitions"):
        await asyncio.wait_for(poll_for_ever(source), PATIENCE)
    await source.stop()


async def test_connections_can_be_shared_and_are_left_open(world: World) -> None:
    cluster = KafkaAdmin(world.settings().kafka, "shared")
    source = KafkaSource(world.settings(), "shared", cluster)
    await source.start(Slow())
    assert await source.end(Partition(world.topic, 0)) == 0
    await source.stop()
    assert await cluster.end(Partition(world.topic, 0)) == 0
    await cluster.close()


@pytest.mark.service
async def test_reading_goes_on_after_the_broker_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("forwarder.kafka.admin.ANSWER_SECONDS", 2.0)
    broker = own_broker(tmp_path)
    try:
        world = World(broker.bootstrap, partitions=1)
        await world.create_input()
        await world.produce([b"before"])
        one = Member(world, "one")
        one.start_at = 0
        await one.join()
        first = Partition(world.topic, 0)
        await until(lambda: one.values(first) == [b"before"])
        await asyncio.to_thread(broker.kill)
        with pytest.raises(ForwarderError):
            await asyncio.wait_for(one.source.end(first), PATIENCE)
        await asyncio.to_thread(broker.start)
        await world.produce([b"after"])
        await until(lambda: one.values(first)[-1:] == [b"after"])
        await asyncio.to_thread(broker.kill)
        await asyncio.wait_for(one.leave(), PATIENCE)
    finally:
        await asyncio.to_thread(broker.kill)
