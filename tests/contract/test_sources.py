"""What every source promises, asked of each implementation."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Protocol

import pytest

from forwarder.formats.registry import MPARTICLE
from forwarder.model import Partition
from forwarder.sources.contract import Source
from forwarder.sources.file import PARTITION, FileSource
from forwarder.sources.kafka import KafkaSource
from tests.services.kafka_world import World

pytestmark = pytest.mark.usefixtures("core")

QUIET_POLLS = 100
VALUES = [b'{"events":[],"n":%d}' % n for n in range(2500)]


class Assignments:
    """A listener that notes what it is told."""

    def __init__(self) -> None:
        self.assigned: list[frozenset[Partition]] = []
        self.revoked: list[frozenset[Partition]] = []
        self.told = asyncio.Event()

    async def on_revoked(self, partitions: frozenset[Partition]) -> None:
        self.revoked.append(partitions)

    async def on_assigned(self, partitions: frozenset[Partition]) -> None:
        self.assigned.append(partitions)
        self.told.set()


class Given(Protocol):
    """A source over one partition that holds ``VALUES`` at offsets 0 to 2499."""

    @property
    def source(self) -> Source: ...
    @property
    def partition(self) -> Partition: ...


class OfFile:
    def __init__(self, folder: Path) -> None:
        path = folder / "events.ndjson"
        path.write_bytes(b"\n".join(VALUES) + b"\n")
        self.partition = PARTITION
        self.source = FileSource(str(path), MPARTICLE)


class OfKafka:
    def __init__(self, world: World) -> None:
        self.partition = Partition(world.topic, 0)
        self.source = KafkaSource(world.settings(), "contract")


@pytest.fixture(params=["file", pytest.param("kafka", marks=pytest.mark.service)])
async def given(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Given]:
    found: Given
    if request.param == "file":
        found = OfFile(tmp_path)
    else:
        world = World(request.getfixturevalue("kafka"), partitions=1)
        await world.create_input()
        await world.produce(VALUES)
        found = OfKafka(world)
    yield found
    await found.source.stop()


@pytest.fixture
async def joined(given: Given) -> Given:
    listener = Assignments()
    await given.source.start(listener)
    async with asyncio.timeout(20):
        while not listener.told.is_set():
            await given.source.poll(50)
    assert listener.assigned == [frozenset({given.partition})]
    return given


async def take(given: Given, count: int) -> list[tuple[int, bytes | None]]:
    """Poll until ``count`` records are there; the last poll may bring more."""
    found: list[tuple[int, bytes | None]] = []
    quiet = 0
    while quiet < QUIET_POLLS:
        polled = await given.source.poll(100)
        quiet += not polled
        for partition, records in polled.items():
            assert partition == given.partition
            found += [(record.offset, record.value) for record in records]
        if len(found) >= count:
            return found
    pytest.fail(f"only {len(found)} of {count} records arrived")


def numbered(start: int, end: int) -> Sequence[tuple[int, bytes]]:
    return list(enumerate(VALUES))[start:end]


async def test_nothing_is_read_before_it_is_resumed(joined: Given) -> None:
    for _ in range(3):
        assert await joined.source.poll(50) == {}
    assert joined.source.position(joined.partition) is None
    assert not joined.source.is_exhausted()


async def test_records_come_in_order_and_none_is_missing(joined: Given) -> None:
    joined.source.resume_at(joined.partition, 0)
    assert numbered(0, 2500) == await take(joined, 2500)
    assert joined.source.position(joined.partition) == 2500


async def test_reading_begins_at_the_offset_given(joined: Given) -> None:
    joined.source.resume_at(joined.partition, 2000)
    assert numbered(2000, 2500) == await take(joined, 500)


async def test_the_position_is_what_was_asked_for_before_anything_came(joined: Given) -> None:
    joined.source.resume_at(joined.partition, 7)
    assert joined.source.position(joined.partition) == 7


async def test_reading_can_go_back(joined: Given) -> None:
    joined.source.resume_at(joined.partition, 0)
    await take(joined, 2500)
    joined.source.resume_at(joined.partition, 1200)
    assert numbered(1200, 2500) == await take(joined, 1300)


async def test_a_paused_partition_returns_nothing_and_loses_nothing(joined: Given) -> None:
    joined.source.resume_at(joined.partition, 0)
    first = await take(joined, 1)
    joined.source.pause(joined.partition)
    for _ in range(3):
        assert await joined.source.poll(50) == {}
    assert joined.source.position(joined.partition) == len(first)
    joined.source.resume(joined.partition)
    rest = await take(joined, 2500 - len(first))
    assert numbered(0, 2500) == first + rest


async def test_a_resume_alone_does_not_start_what_has_no_position(joined: Given) -> None:
    joined.source.resume(joined.partition)
    assert await joined.source.poll(50) == {}


async def test_a_poll_abandoned_by_its_caller_loses_nothing(joined: Given) -> None:
    joined.source.resume_at(joined.partition, 0)
    for _ in range(3):
        poll = asyncio.ensure_future(joined.source.poll(1000))
        await asyncio.sleep(0)
        poll.cancel()
        await asyncio.wait({poll})
    position = joined.source.position(joined.partition)
    assert position == 0
    assert numbered(0, 2500) == await take(joined, 2500)


async def test_the_end_lies_above_the_position_until_all_is_read(joined: Given) -> None:
    joined.source.resume_at(joined.partition, 0)
    assert await joined.source.end(joined.partition) > 0
    await take(joined, 2500)
    await joined.source.poll(50)
    assert await joined.source.end(joined.partition) == 2500


async def test_a_member_owns_what_it_was_assigned(joined: Given) -> None:
    assert await joined.source.is_owner(joined.partition)
    assert not await joined.source.is_owner(Partition("somewhere else", 0))


async def test_partitions_of_others_are_left_alone(joined: Given) -> None:
    other = Partition("somewhere else", 0)
    joined.source.pause(other)
    joined.source.resume(other)
    assert joined.source.position(other) is None


async def test_stopping_twice_does_no_harm(joined: Given) -> None:
    await joined.source.stop()
    await joined.source.stop()
