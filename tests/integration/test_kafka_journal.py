"""The Kafka journal on a real broker: topics, first starts, dead letters, outages."""

import asyncio
import gc
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import zstandard

from forwarder.clock import SystemClock
from forwarder.config.settings import Configuration, Start
from forwarder.errors import FencedError, JournalError, StartupError
from forwarder.journal.commit import CommitMetadata, encode_metadata, metadata_hint
from forwarder.journal.contract import Journal, OutboxEntry, Restored, Tick
from forwarder.journal.kafka import FIRST_START, KafkaJournals
from forwarder.kafka import client, producer
from forwarder.kafka.admin import KafkaAdmin
from forwarder.model import Commit, DeadLetter, Partition, Reason
from tests.services.kafka import own_broker
from tests.services.kafka_world import World

NOBODY: frozenset[Partition] = frozenset()


def a_tick(n: int, *letters: DeadLetter) -> Tick:
    return Tick([OutboxEntry("acme", b"batches")], letters, [b"state"], n, CommitMetadata(n, 0))


async def opening(journals: KafkaJournals, partition: Partition) -> Restored:
    journal = journals.journal(partition)
    restored = await journal.open()
    await journal.close()
    return restored


async def opened(journals: KafkaJournals, partition: Partition) -> tuple[Journal, Restored]:
    """Open a journal as soon as a broker that has come back lets it be opened."""
    async with asyncio.timeout(60):
        while True:
            journal = journals.journal(partition)
            try:
                return journal, await journal.open()
            except JournalError:
                await journal.close()
                await asyncio.sleep(0.2)  # between two looks


@pytest.fixture
async def world(kafka: str) -> World:
    world = World(kafka, partitions=2)
    await world.create_input()
    return world


@pytest.fixture
async def cluster(world: World) -> AsyncIterator[KafkaAdmin]:
    cluster = KafkaAdmin(world.settings().kafka, "look")
    yield cluster
    await cluster.close()


class Made:
    """Makes journals and closes them at the end."""

    def __init__(self) -> None:
        self.all: list[KafkaJournals] = []

    def __call__(self, settings: Configuration, name: str = "test") -> KafkaJournals:
        self.all.append(KafkaJournals(settings, name, SystemClock()))
        return self.all[-1]


@pytest.fixture
async def made() -> AsyncIterator[Made]:
    made = Made()
    yield made
    for journals in made.all:
        await journals.close()


# ------------------------------------------------------------------------------------ topics


async def test_missing_topics_are_created_with_their_settings(
    world: World, cluster: KafkaAdmin, made: Made
) -> None:
    await made(world.settings(outbox_retention_ms=3_600_000)).prepare(NOBODY)
    counts = await cluster.partition_counts()
    assert (counts[world.outbox], counts[world.state], counts[world.letters]) == (2, 2, 1)
    found = await cluster.settings([world.outbox, world.state, world.letters])
    expected = {
        world.outbox: {"cleanup.policy": "delete", "retention.ms": "3600000"},
        world.state: {"cleanup.policy": "delete", "retention.ms": "-1"},
        world.letters: {},
    }
    for topic, settings in expected.items():
        wanted = settings | {"max.message.bytes": "16777216"}
        actual = found[topic]
        assert not isinstance(actual, str)
        assert wanted == {key: actual[key] for key in wanted}


async def test_preparing_again_changes_nothing(world: World, made: Made) -> None:
    one, two = made(world.settings()), made(world.settings())
    await asyncio.gather(one.prepare(NOBODY), two.prepare(NOBODY))
    await one.prepare(frozenset({Partition(world.topic, 1)}))
    assert one.notes == two.notes == []


async def test_a_topic_that_was_deleted_is_there_again_for_the_next_opening(
    world: World, cluster: KafkaAdmin, made: Made
) -> None:
    journals, mine = made(world.settings()), frozenset({Partition(world.topic, 0)})
    await journals.prepare(mine)
    async with asyncio.timeout(30):
        for gone in (world.state, world.letters):
            await world.delete(gone)
            while gone in await cluster.partition_counts():  # noqa: ASYNC110  # Kafka's doing
                await asyncio.sleep(0.05)
            await journals.prepare(mine)
            assert gone in await cluster.partition_counts()


async def test_nothing_is_created_where_that_is_not_wanted(
    world: World, cluster: KafkaAdmin, made: Made
) -> None:
    journals = made(world.settings(create_topics=False))
    with pytest.raises(StartupError) as refused:
        await journals.prepare(NOBODY)
    text = str(refused.value)
    assert f"  ok       topic {world.topic}\n" in text
    assert f"  MISSING  topic {world.outbox}: 2 partitions, cleanup.policy=delete" in text
    assert f"  MISSING  topic {world.state}: 2 partitions" in text
    assert "retention.ms=-1" in text
    assert f"  MISSING  topic {world.letters}" in text
    assert f"transactional-id {world.group}/ (prefixed): Write, Describe" in text
    assert world.outbox not in await cluster.partition_counts()


async def test_topics_somebody_else_created_are_enough(world: World, made: Made) -> None:
    await made(world.settings()).prepare(NOBODY)
    other = made(world.settings(create_topics=False))
    await other.prepare(NOBODY)
    assert "MISSING" not in await other.describe()


async def test_a_missing_input_topic_is_not_created(kafka: str, made: Made) -> None:
    world = World(kafka)
    with pytest.raises(StartupError, match=f"MISSING +topic {world.topic}: it does not exist"):
        await made(world.settings()).prepare(NOBODY)


async def test_settings_that_would_lose_state_are_refused(world: World, made: Made) -> None:
    await world.create(world.state, 2, {"cleanup.policy": "compact", "retention.ms": "1000"})
    with pytest.raises(StartupError) as refused:
        await made(world.settings()).prepare(NOBODY)
    text = str(refused.value)
    assert f"WRONG    topic {world.state}: cleanup.policy is compact, must be delete" in text
    assert f"WRONG    topic {world.state}: retention.ms is 1000, must be -1" in text


async def test_a_smaller_dead_letter_topic_is_reported(world: World, made: Made) -> None:
    await world.create(world.letters, 1, {"max.message.bytes": "20000"})
    journals = made(world.settings())
    await journals.prepare(NOBODY)
    [note] = journals.notes
    assert f"dead letter topic {world.letters} takes messages of 20000 bytes" in note


async def test_topics_grow_with_the_input(world: World, cluster: KafkaAdmin, made: Made) -> None:
    journals = made(world.settings())
    await journals.prepare(NOBODY)
    await world.grow(world.topic, 5)
    added = Partition(world.topic, 4)
    await journals.prepare(frozenset({added}))
    counts = await cluster.partition_counts()
    assert (counts[world.outbox], counts[world.state]) == (5, 5)
    assert (await opening(journals, added)).commit is None


# ------------------------------------------------------------------------------ first starts


async def test_a_new_group_begins_at_the_start(world: World, made: Made) -> None:
    await world.produce([b"old"] * 3)
    journals = made(world.settings())
    await journals.prepare(NOBODY)
    restored = await opening(journals, Partition(world.topic, 0))
    assert restored.commit is None
    assert (restored.first, restored.input_start, restored.input_end) == (0, 0, 3)


async def test_a_new_group_begins_at_the_end_where_that_is_wanted(world: World, made: Made) -> None:
    await world.produce([b"old"] * 3)
    journals = made(world.settings(start=Start.LATEST))
    await journals.prepare(NOBODY)
    await world.produce([b"new"] * 4)
    restored = await opening(journals, Partition(world.topic, 0))
    assert restored.commit == Commit(3, encode_metadata(FIRST_START))
    assert restored.input_end == 7


async def test_the_end_is_settled_once_for_all_workers(world: World, made: Made) -> None:
    await world.produce([b"old"] * 3)
    settings = world.settings(start=Start.LATEST)
    one, two = made(settings, "one"), made(settings, "two")
    await asyncio.gather(one.prepare(NOBODY), two.prepare(NOBODY), return_exceptions=True)
    await world.produce([b"new"] * 4)
    late = made(settings, "late")
    await late.prepare(NOBODY)
    assert (await opening(late, Partition(world.topic, 0))).commit == Commit(
        3, encode_metadata(FIRST_START)
    )


async def test_a_partition_added_later_is_read_from_its_start(world: World, made: Made) -> None:
    settings = world.settings(start=Start.LATEST)
    await made(settings).prepare(NOBODY)
    await world.grow(world.topic, 3)
    await world.produce([b"first"] * 2, 2)
    journals = made(settings)
    added = Partition(world.topic, 2)
    await journals.prepare(frozenset({added}))
    restored = await opening(journals, added)
    assert restored.commit is None
    assert (restored.first, restored.input_end) == (0, 2)


async def test_a_group_with_state_is_not_new_even_without_commits(world: World, made: Made) -> None:
    journals = made(world.settings())
    await journals.prepare(NOBODY)
    journal = journals.journal(Partition(world.topic, 0))
    await journal.open()
    await journal.commit(a_tick(1))
    await journal.close()
    await world.produce([b"while away"] * 3, 1)
    later = made(world.settings(start=Start.LATEST))
    await later.prepare(NOBODY)
    assert (await opening(later, Partition(world.topic, 1))).commit is None


# ------------------------------------------------------------------------------ dead letters


async def test_a_dead_letter_says_where_it_comes_from(world: World, made: Made) -> None:
    letter = DeadLetter(Reason.EVENT_TOO_LARGE, 41, "größe", "zu groß", b"\x00bytes")
    await write_letters(made(world.settings()), Partition(world.topic, 1), letter)
    [record] = await world.stored(world.letters, least=1)
    expected = {
        "v": "1",
        "reason": "event_too_large",
        "topic": world.topic,
        "partition": "1",
        "offset": "41",
        "connection": "größe",
        "error": "zu groß",
        "group": world.group,
    }
    assert expected == {name: value.decode() for name, value in record.headers}
    assert (record.key, record.value) == (None, b"\x00bytes")


async def test_dead_letters_fit_a_small_topic(world: World, made: Made) -> None:
    await world.create(world.letters, 1, {"max.message.bytes": "20000"})
    plain = [DeadLetter(Reason.INVALID_JSON, n, "", "x", b"%02d" % n * 4000) for n in range(10)]
    soft = DeadLetter(Reason.INVALID_JSON, 10, "", "x", b"soft" * 50_000)
    hard = DeadLetter(Reason.INVALID_JSON, 11, "", "x", incompressible(50_000))
    await write_letters(made(world.settings()), Partition(world.topic, 0), *plain, soft, hard)
    stored = await world.stored(world.letters, least=12)
    assert [letter.value for letter in plain] == [record.value for record in stored[:10]]
    assert dict(stored[10].headers)["encoding"] == b"zstd"
    assert zstandard.ZstdDecompressor().decompress(stored[10].value) == soft.value
    assert dict(stored[11].headers)["truncated"] == b"true"
    assert stored[11].value == b""
    assert "truncated" not in dict(stored[10].headers)


async def test_a_dead_letter_of_the_largest_input_fits(world: World, made: Made) -> None:
    huge = DeadLetter(Reason.INVALID_JSON, 1, "", "x" * 500, incompressible(15 * 1024 * 1024))
    await write_letters(made(world.settings()), Partition(world.topic, 0), huge)
    [record] = await world.stored(world.letters, least=1)
    assert record.value == huge.value


def incompressible(size: int) -> bytes:
    return hashlib.shake_256(b"noise").digest(size)


async def write_letters(
    journals: KafkaJournals, partition: Partition, *letters: DeadLetter
) -> None:
    await journals.prepare(NOBODY)
    journal = journals.journal(partition)
    await journal.open()
    await journal.commit(a_tick(1, *letters))
    await journal.close()


# ---------------------------------------------------------------------------------- failures


async def test_a_fenced_owner_leaves_nothing_behind(
    world: World, made: Made, caplog: pytest.LogCaptureFixture
) -> None:
    journals = made(world.settings())
    await journals.prepare(NOBODY)
    partition = Partition(world.topic, 0)
    first, second = journals.journal(partition), journals.journal(partition)
    await first.open()
    await first.commit(a_tick(1))
    await second.open()
    with pytest.raises(FencedError):
        await first.commit(a_tick(2, DeadLetter(Reason.REFUSED, 1, "", "", b"x")))
    tasks = asyncio.all_tasks()
    await first.close()
    gc.collect()
    await asyncio.sleep(0)
    assert "never retrieved" not in caplog.text
    assert asyncio.all_tasks() < tasks
    await second.prove()
    await second.close()


async def test_a_fence_that_is_found_between_two_sends_is_a_fence(world: World, made: Made) -> None:
    journals = made(world.settings())
    await journals.prepare(NOBODY)
    partition = Partition(world.topic, 0)
    first, second = journals.journal(partition), journals.journal(partition)
    await first.open()
    await second.open()
    find_out = asyncio.Event()
    send = first._writer._producer.send  # noqa: SLF001  # where the client would wait for metadata

    async def slow(topic: str, *arguments: object, **more: object) -> object:
        if topic == world.letters:
            await find_out.wait()
        sent = await send(topic, *arguments, **more)
        if topic == world.state:
            sent.add_done_callback(lambda _: find_out.set())
        return sent

    first._writer._producer.send = slow  # noqa: SLF001
    with pytest.raises(FencedError):
        await first.commit(a_tick(1, DeadLetter(Reason.REFUSED, 1, "", "", b"x")))
    await first.close()
    await second.close()


async def test_an_expired_stretch_of_the_outbox_is_an_error(world: World, made: Made) -> None:
    journals = made(world.settings())
    await journals.prepare(NOBODY)
    journal = journals.journal(Partition(world.topic, 0))
    await journal.open()
    with pytest.raises(JournalError, match="OffsetOutOfRange"):
        await journal.read(["acme"], 50, 60, 1000)
    committed = await journal.commit(a_tick(1))
    end = committed.outbox[0] + 1
    stretch = await journal.read(["acme"], 0, end, 1000)
    assert ([(0, "acme", b"batches")], end, 7) == stretch
    await journal.close()


async def test_a_commit_says_where_the_last_batch_is_as_long_as_that_is_known(
    world: World, cluster: KafkaAdmin, made: Made
) -> None:
    journals, partition = made(world.settings()), Partition(world.topic, 0)
    await journals.prepare(NOBODY)

    async def said(journal: Journal, tick: Tick) -> int:
        await journal.commit(tick)
        while True:  # a commit may be fetched a moment before its markers are written
            commit = (await cluster.committed(world.group, [partition]))[partition]
            told = metadata_hint(commit)
            if told.n == tick.metadata.n:
                return told.outbox

    def empty(n: int) -> Tick:
        return msgspec.structs.replace(a_tick(n), outbox=[])

    first = journals.journal(partition)
    await first.open()
    assert [0, 1, 1] == [await said(first, t) for t in (empty(1), a_tick(2), empty(3))]
    await first.close()
    second = journals.journal(partition)
    await second.open()
    assert 1 == await said(second, empty(4))
    # A tick was missed: the commit that was read must have been an old one.
    assert 0 == await said(second, empty(6))
    assert 3 == await said(second, a_tick(7))
    await second.close()


async def test_a_tick_that_is_given_up_half_way_ends_the_journal(world: World, made: Made) -> None:
    journals = made(world.settings())
    await journals.prepare(NOBODY)
    partition = Partition(world.topic, 0)
    journal = journals.journal(partition)
    await journal.open()
    half = asyncio.ensure_future(journal.commit(a_tick(1)))
    await asyncio.sleep(0)
    half.cancel()
    await asyncio.wait({half})
    with pytest.raises(JournalError, match="given up half-way"):
        await journal.commit(a_tick(2))
    await journal.close()
    assert (await opening(journals, partition)).commit is None


@pytest.mark.service
async def test_a_broker_that_falls_silent_or_dies_ends_the_tick_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: Made
) -> None:
    monkeypatch.setattr(producer, "TICK_SECONDS", 2.0)
    monkeypatch.setattr(client, "CLOSE_SECONDS", 1.0)
    monkeypatch.setattr("forwarder.kafka.admin.ANSWER_SECONDS", 2.0)
    broker = await asyncio.to_thread(own_broker, tmp_path)
    try:
        world = World(broker.bootstrap, partitions=1)
        await world.create_input()
        journals = made(world.settings())
        await journals.prepare(NOBODY)
        partition = Partition(world.topic, 0)

        silent = journals.journal(partition)
        await silent.open()
        await silent.commit(a_tick(1))
        broker.suspend()
        with pytest.raises(JournalError, match="did not finish within 2 s"):
            await silent.commit(a_tick(2))
        await silent.close()
        broker.wake()

        dying, restored = await opened(journals, partition)
        assert restored.commit is not None
        assert restored.commit.offset in {1, 2}
        assert len(restored.state) == restored.commit.offset
        await dying.commit(a_tick(3))
        await asyncio.to_thread(broker.kill)
        with pytest.raises(JournalError):
            await dying.commit(a_tick(4))
        await dying.close()
        with pytest.raises(JournalError, match="did not tell"):
            await journals.prepare(frozenset({Partition(world.topic, 7)}))
        await asyncio.to_thread(broker.start)
        last, after = await opened(journals, partition)
        await last.close()
        assert after.commit is not None
        assert after.commit.offset == 3
        assert after.state[:-1] == restored.state
    finally:
        broker.wake()
        await asyncio.to_thread(broker.kill)
