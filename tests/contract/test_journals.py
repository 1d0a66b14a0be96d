"""What every journal promises, asked of each implementation."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

import pytest
from msgspec.structs import replace

from forwarder.clock import SystemClock
from forwarder.errors import FencedError, RefusedError
from forwarder.journal.commit import CommitMetadata, decode_metadata
from forwarder.journal.contract import Journal, Journals, OutboxEntry, Tick
from forwarder.journal.kafka import KafkaJournals
from forwarder.journal.memory import MemoryJournals
from forwarder.model import DeadLetter, Partition, Reason
from tests.services.kafka_world import World

EVERYTHING = 2**40
LETTER = DeadLetter(Reason.INVALID_JSON, 7, "acme", "it is no JSON", b"\x00\xff not json")


class Given(Protocol):
    """An empty journal factory, the partitions it may open, and a look at its dead letters."""

    @property
    def journals(self) -> Journals: ...
    @property
    def partition(self) -> Partition: ...
    @property
    def other(self) -> Partition: ...
    async def letters(self, least: int = 0) -> list[tuple[int, str, bytes]]: ...


class InMemory:
    def __init__(self) -> None:
        self.partition = Partition("input", 0)
        self.other = Partition("input", 1)
        self.journals = MemoryJournals()

    async def letters(self, least: int = 0) -> list[tuple[int, str, bytes]]:  # noqa: ARG002
        stored = self.journals.log(self.partition).dead_letters
        return [(letter.offset, letter.reason.value, letter.value) for letter in stored]


class InKafka:
    def __init__(self, world: World) -> None:
        self.world = world
        self.partition = Partition(world.topic, 0)
        self.other = Partition(world.topic, 1)
        self.journals = KafkaJournals(world.settings(), "contract", SystemClock())

    async def letters(self, least: int = 0) -> list[tuple[int, str, bytes]]:
        found = []
        for record in await self.world.stored(self.world.letters, least=least):
            headers = dict(record.headers)
            found.append((int(headers["offset"]), headers["reason"].decode(), record.value))
        return found


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.service)])
async def given(request: pytest.FixtureRequest) -> AsyncIterator[Given]:
    if request.param == "memory":
        yield InMemory()
        return
    world = World(request.getfixturevalue("kafka"))
    await world.create_input()
    stored = InKafka(world)
    await stored.journals.prepare(frozenset({stored.partition, stored.other}))
    yield stored
    await stored.journals.close()


@pytest.fixture
async def opened(given: Given) -> AsyncIterator["Openings"]:
    openings = Openings(given)
    yield openings
    await openings.close()


class Openings:
    """Opens journals and closes them all at the end."""

    def __init__(self, given: Given) -> None:
        self._given = given
        self._open: list[Journal] = []

    async def __call__(self, partition: Partition | None = None) -> Journal:
        journal = self._given.journals.journal(partition or self._given.partition)
        self._open.append(journal)
        await journal.open()
        return journal

    async def close(self) -> None:
        for journal in self._open:
            await journal.close()


def tick(
    n: int,
    outbox: Sequence[tuple[str, bytes]] = (),
    state: Sequence[bytes] = (b"state",),
    letters: Sequence[DeadLetter] = (),
    ptr: int = 0,
) -> Tick:
    entries = [OutboxEntry(*entry) for entry in outbox]
    return Tick(entries, letters, state, 100 + n, CommitMetadata(n, ptr))


async def read_all(
    journal: Journal, lane: str, end: int, max_bytes: int = EVERYTHING
) -> list[tuple[int, bytes]]:
    found: list[tuple[int, bytes]] = []
    at = 0
    for _ in range(1000):
        records, at, seen = await journal.read([lane], at, end, max_bytes)
        found += [(record.offset, record.value) for record in records]
        if at == end:
            return found
        assert seen
    pytest.fail("the read never came to its end")


async def test_a_partition_nobody_opened_before_is_empty(given: Given) -> None:
    journal = given.journals.journal(given.partition)
    restored = await journal.open()
    await journal.close()
    assert restored.commit is None
    assert list(restored.state) == []
    assert (restored.state_start, restored.state_end) == (0, 0)
    assert (restored.outbox_start, restored.outbox_end) == (0, 0)
    assert restored.first == restored.input_start == 0


async def test_an_opening_sees_exactly_what_was_committed_before(
    given: Given, opened: Openings
) -> None:
    first = await opened()
    one = await first.commit(tick(1, [("acme", b"batches")], [b"base", b"more of it"]))
    two = await first.commit(tick(2, [], [b"delta"]))
    second = given.journals.journal(given.partition)
    restored = await second.open()
    await second.close()
    expected = [*zip(one.state, [b"base", b"more of it"], strict=True), (two.state[0], b"delta")]
    assert expected == list(restored.state)
    assert restored.commit is not None
    assert restored.commit.offset == 102
    assert restored.state_end > two.state[-1]
    assert restored.outbox_end > one.outbox[-1]


async def test_what_metadata_says_comes_back(given: Given, opened: Openings) -> None:
    written = CommitMetadata(3, 0, stopped=70_000, paused="memory_short", paused_since=60_000)
    await (await opened()).commit(Tick([], [], [b"base"], 42, written))
    second = given.journals.journal(given.partition)
    restored = await second.open()
    await second.close()
    said = decode_metadata(restored.commit)
    assert said is not None
    # A journal may add where its outbox ends.
    assert written == replace(said, outbox=0)


async def test_state_is_read_from_the_base_the_commit_names(given: Given, opened: Openings) -> None:
    first = await opened()
    await first.commit(tick(1, state=[b"old base"]))
    base = await first.commit(tick(2, state=[b"new base"]))
    await first.commit(tick(3, state=[b"delta"], ptr=base.state[0]))
    second = given.journals.journal(given.partition)
    restored = await second.open()
    await second.close()
    assert [b"new base", b"delta"] == [value for _, value in restored.state]
    assert restored.state_start == 0


async def test_state_is_read_from_its_start_where_the_commit_names_no_base(
    given: Given, opened: Openings
) -> None:
    await (await opened()).commit(Tick([], [], [b"base"], 5, CommitMetadata(start="latest")))
    second = given.journals.journal(given.partition)
    restored = await second.open()
    await second.close()
    assert [b"base"] == [value for _, value in restored.state]


async def test_a_second_opening_fences_the_first(given: Given, opened: Openings) -> None:
    first = await opened()
    await first.commit(tick(1, [("acme", b"kept")], [b"kept"]))
    await opened()
    with pytest.raises(FencedError):
        await first.commit(tick(2, [("acme", b"lost")], [b"lost"], [LETTER]))
    third = given.journals.journal(given.partition)
    restored = await third.open()
    assert [b"kept"] == [value for _, value in restored.state]
    assert restored.commit is not None
    assert restored.commit.offset == 101
    kept = await read_all(third, "acme", restored.outbox_end)
    await third.close()
    assert [b"kept"] == [value for _, value in kept]
    assert await given.letters() == []


async def test_a_fenced_owner_cannot_prove_itself(opened: Openings) -> None:
    first = await opened()
    second = await opened()
    with pytest.raises(FencedError):
        await first.prove()
    await second.prove()


async def test_what_is_fenced_stays_fenced(opened: Openings) -> None:
    first = await opened()
    await opened()
    for _ in range(2):
        with pytest.raises(FencedError):
            await first.commit(tick(1))


async def test_a_proof_stores_nothing_and_the_owner_goes_on(given: Given, opened: Openings) -> None:
    first = await opened()
    await first.prove()
    await first.commit(tick(1, state=[b"base"]))
    await first.prove()
    second = given.journals.journal(given.partition)
    restored = await second.open()
    await second.close()
    assert [b"base"] == [value for _, value in restored.state]


async def test_partitions_are_opened_independently(given: Given, opened: Openings) -> None:
    first = await opened(given.partition)
    second = await opened(given.other)
    await first.commit(tick(1))
    await second.commit(tick(1))
    await first.commit(tick(2))


async def test_every_entry_gets_an_address_of_its_own_in_order(opened: Openings) -> None:
    journal = await opened()
    entries = [("acme" if i % 3 else "other", b"%d" % i) for i in range(50)]
    committed = await journal.commit(tick(1, entries, [b"a", b"b"]))
    assert sorted(set(committed.outbox)) == list(committed.outbox)
    assert len(entries) == len(committed.outbox)
    found = await read_all(journal, "acme", committed.outbox[-1] + 1)
    values = zip(committed.outbox, entries, strict=True)
    assert [(o, value) for o, (lane, value) in values if lane == "acme"] == found


async def test_a_lane_reads_only_its_own_records(opened: Openings) -> None:
    journal = await opened()
    for i in range(4):
        last = await journal.commit(tick(i, [("acme", b"a%d" % i), ("other", b"o%d" % i)]))
    end = last.outbox[-1] + 1
    assert [b"a0", b"a1", b"a2", b"a3"] == [v for _, v in await read_all(journal, "acme", end)]
    assert [b"o0", b"o1", b"o2", b"o3"] == [v for _, v in await read_all(journal, "other", end)]
    assert await read_all(journal, "nobody", end) == []


async def test_a_read_ends_below_the_offset_given(opened: Openings) -> None:
    journal = await opened()
    first = await journal.commit(tick(1, [("acme", b"1"), ("acme", b"2")]))
    await journal.commit(tick(2, [("acme", b"3")]))
    records, at, _ = await journal.read(["acme"], 0, first.outbox[1], EVERYTHING)
    assert [(first.outbox[0], "acme", b"1")] == list(records)
    assert at == first.outbox[1]


async def test_a_read_begins_with_the_record_at_its_start(opened: Openings) -> None:
    journal = await opened()
    committed = await journal.commit(tick(1, [("acme", b"1"), ("acme", b"2")]))
    start = committed.outbox[1]
    stretch = await journal.read(["acme"], start, start + 1, EVERYTHING)
    assert ([(start, "acme", b"2")], start + 1, 1) == stretch


async def test_a_read_serves_several_lanes_and_counts_what_it_saw_of_others(
    opened: Openings,
) -> None:
    journal = await opened()
    lanes = ["acme", "other", "third", "acme"]
    committed = await journal.commit(tick(1, [(lane, b"1234") for lane in lanes]))
    first, end = committed.outbox[0], committed.outbox[-1] + 1
    records, at, seen = await journal.read({"acme", "third"}, first, end, EVERYTHING)
    assert (["acme", "third", "acme"], end, 16) == ([r.lane for r in records], at, seen)
    records, at, seen = await journal.read({"third"}, first, end, 8)
    assert ([], first + 2, 8) == (records, at, seen)


async def test_a_limited_read_goes_on_where_it_stopped(opened: Openings) -> None:
    journal = await opened()
    values = [bytes([i]) * 1000 for i in range(40)]
    for i in range(0, 40, 10):
        last = await journal.commit(tick(i, [("acme", v) for v in values[i : i + 10]]))
    end = last.outbox[-1] + 1
    assert values == [v for _, v in await read_all(journal, "acme", end, max_bytes=2500)]
    some, at, seen = await journal.read(["acme"], 0, end, 2500)
    assert (3, 3000) == (len(some), seen)
    assert at < end


async def test_a_read_returns_one_record_however_large(opened: Openings) -> None:
    journal = await opened()
    committed = await journal.commit(tick(1, [("acme", b"x" * 5000), ("acme", b"y")]))
    some, at, _ = await journal.read(["acme"], 0, committed.outbox[-1] + 1, 1)
    assert [b"x" * 5000] == [record.value for record in some]
    assert committed.outbox[0] < at <= committed.outbox[1]


async def test_a_read_steps_over_what_is_no_record(opened: Openings) -> None:
    journal = await opened()
    committed = await journal.commit(tick(1, [("acme", b"1")]))
    for i in range(5):
        await journal.prove()
        await journal.commit(tick(i + 2))
    last = await journal.commit(tick(9, [("acme", b"2")]))
    assert [(committed.outbox[0], b"1"), (last.outbox[0], b"2")] == await read_all(
        journal, "acme", last.outbox[0] + 1
    )


async def test_reading_goes_on_beside_commits(opened: Openings) -> None:
    journal = await opened()
    first = await journal.commit(tick(0, [("acme", b"x" * 1000)] * 20))
    end = first.outbox[-1] + 1

    async def commits() -> None:
        for i in range(3):
            await journal.commit(tick(i + 1, [("acme", b"later")]))

    _, found = await asyncio.gather(commits(), read_all(journal, "acme", end, 3000))
    assert [b"x" * 1000] * 20 == [v for _, v in found]


async def test_dead_letters_are_stored_with_their_tick(given: Given, opened: Openings) -> None:
    journal = await opened()
    other = DeadLetter(Reason.EVENT_TOO_LARGE, 8, "", "too large", b"")
    await journal.commit(tick(1, letters=[LETTER, other]))
    await journal.commit(tick(2))
    expected = [(7, "invalid_json", LETTER.value), (8, "event_too_large", b"")]
    assert expected == await given.letters(least=2)


async def test_a_tick_may_be_large(given: Given, opened: Openings) -> None:
    journal = await opened()
    large, base = b"\x07" * (5 * 1024 * 1024), b"\x08" * (6 * 1024 * 1024)
    committed = await journal.commit(tick(1, [("acme", large), ("acme", b"small")], [base]))
    found = await read_all(journal, "acme", committed.outbox[-1] + 1)
    assert [large, b"small"] == [v for _, v in found]
    second = given.journals.journal(given.partition)
    restored = await second.open()
    await second.close()
    assert [base] == [value for _, value in restored.state]


async def test_an_opening_hands_the_state_over_record_by_record(
    given: Given, opened: Openings
) -> None:
    first = await opened()
    base = await first.commit(tick(1, state=[b"base", b"more"]))
    await first.commit(tick(2, state=[b"delta"], ptr=base.state[0]))
    second, taken = given.journals.journal(given.partition), []
    restored = await second.open(lambda *record: taken.append(record))
    await second.close()
    assert [b"base", b"more", b"delta"] == [value for _, value in taken]
    assert list(base.state) == [offset for offset, _ in taken[:2]]
    assert list(restored.state) == []


async def test_a_refused_record_ends_the_opening_and_the_owner_can_prove_itself(
    given: Given, opened: Openings
) -> None:
    first = await opened()
    await first.commit(tick(1, state=[b"one", b"two"]))
    second, taken = given.journals.journal(given.partition), []

    def take(offset: int, value: bytes) -> None:  # noqa: ARG001
        taken.append(value)
        what = "unreadable"
        raise RefusedError(what, "leave it")

    with pytest.raises(RefusedError, match="unreadable"):
        await second.open(take)
    await second.prove()
    with pytest.raises(FencedError):
        await first.prove()
    await second.close()
    assert taken == [b"one"]


async def test_a_cut_gives_up_what_lies_below_it(given: Given, opened: Openings) -> None:
    journal = await opened()
    await journal.commit(tick(1, state=[b"old base"]))
    base = await journal.commit(tick(2, state=[b"base", b"more"]))
    await journal.commit(tick(3, state=[b"delta"], ptr=base.state[0]))
    await journal.cut(base.state[0])
    await journal.cut(base.state[0])
    second = given.journals.journal(given.partition)
    restored = await second.open()
    await second.close()
    assert base.state[0] == restored.state_start
    assert [b"base", b"more", b"delta"] == [value for _, value in restored.state]


async def test_a_cut_above_the_end_gives_nothing_up_that_is_still_to_come(
    given: Given, opened: Openings
) -> None:
    journal = await opened()
    await journal.commit(tick(1, state=[b"base"]))
    await journal.cut(1000)
    later = await journal.commit(tick(2, state=[b"later"]))
    second = given.journals.journal(given.partition)
    restored = await second.open()
    await second.close()
    assert later.state[0] >= restored.state_start
    assert b"later" in [value for _, value in restored.state]


async def test_ticks_are_committed_beside_a_cut(given: Given, opened: Openings) -> None:
    journal = await opened()
    first = await journal.commit(tick(1, state=[b"base"]))
    commits = [journal.commit(tick(2, state=[b"delta"])), journal.cut(first.state[0] + 1)]
    await asyncio.gather(*commits)
    second = given.journals.journal(given.partition)
    restored = await second.open()
    await second.close()
    assert [b"delta"] == [value for _, value in restored.state]


async def test_closing_raises_nothing_and_may_be_repeated(given: Given, opened: Openings) -> None:
    first = await opened()
    await opened()
    with pytest.raises(FencedError):
        await first.prove()
    for _ in range(2):
        await first.close()
    await given.journals.journal(given.partition).close()
