"""What Kafka lost is noticed, said with the way on, and stops nothing else."""

import asyncio
import dataclasses
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from forwarder import retry
from forwarder.kafka import client, producer
from forwarder.model import Partition
from tests.integration.losing import Group, Shift
from tests.services.kafka import Broker, own_broker

ACCEPT = "forwarder accept-loss --topic {} --partition {}"


def accept(partition: Partition, connection: str = "") -> str:
    command = ACCEPT.format(partition.topic, partition.number)
    return f"`{command} --connection {connection}`" if connection else f"`{command}`"


@pytest.fixture
async def group(kafka: str) -> AsyncIterator[Group]:
    topics = {"main": 5, "state": 1, "outbox": 1, "short": 1, "grown": 1}
    group = Group(kafka, topics)
    await group.create()
    yield group
    await group.close()


async def test_every_loss_is_said_by_the_next_owner_and_the_rest_goes_on(group: Group) -> None:
    main = [group.at("main", number) for number in range(5)]
    others = [group.at(name) for name in ("state", "outbox", "short", "grown")]
    healthy, no_state, no_batches, no_record, no_records = main
    await work_a_while(group, [*main, *others], blocked=no_batches)

    await group.cut(group.state(no_state))
    await group.cut(group.outbox(no_batches))
    await group.cut(no_record, 1)
    await group.feed([no_records], 2)
    await group.cut(no_records)
    await group.delete(group.state(group.at("state")).topic)
    await group.delete(group.outbox(group.at("outbox")).topic)
    for short in ("short", "grown"):
        await group.delete(group.names[short])
    await group.create(("short", "grown"))
    await group.feed([group.at("grown")], 5)

    async with Shift(group) as second:
        await second.until_settled([*main, *others])
        expected = {
            no_state: ("the state begins at offset", accept(no_state)),
            no_records: ("records 0 to 4 of the input were deleted", accept(no_records)),
            group.at("state"): ("the state is empty", accept(group.at("state"))),
            group.at("outbox"): ("the outbox ends at offset 0", accept(group.at("outbox"))),
            group.at("short"): ("was deleted and created again", "forwarder reset --to earliest"),
            group.at("grown"): ("was deleted and created again", "forwarder reset --to earliest"),
        }
        refused = {p for p in (*main, *others) if second.phase(p) == "refused"}
        assert expected.keys() == refused
        for partition, (what, remedy) in expected.items():
            assert what in second.reason(partition)
            assert remedy in second.reason(partition)

        stopped = second.stopped()
        assert {("acme", no_batches), ("held", no_record)} == stopped.keys()
        assert "expired before they were delivered" in stopped["acme", no_batches]
        assert accept(no_batches, "acme") in stopped["acme", no_batches]
        assert accept(no_record, "held") in stopped["held", no_record]

        await group.feed([healthy, no_record])
        await second.until(
            lambda: group.sink.numbers(healthy)[-1:] == group.sink.numbers(no_record)[-1:] == [3],
            "what lost nothing goes on",
        )
    assert [0, 1, 2, 3] == group.sink.numbers(healthy)


async def work_a_while(
    group: Group, partitions: list[Partition], blocked: Partition | None = None
) -> None:
    """Collect three events of each partition, deliver them unless blocked, and commit that."""
    async with Shift(group) as first:
        await first.until_settled(partitions)
        await group.feed(partitions, 2)
        flowing = [p for p in partitions if p != blocked]
        await first.until(
            lambda: all(group.sink.numbers(p) == [0, 1] for p in partitions), "delivered"
        )
        if blocked is not None:
            group.sink.blocked.add(blocked)
        await group.feed(partitions)
        await first.until(
            lambda: all(group.sink.numbers(p) == [0, 1, 2] for p in flowing), "delivered"
        )


async def test_opening_again_and_again_changes_nothing(group: Group) -> None:
    partition = group.at("main")
    await work_a_while(group, [partition])
    await group.cut(group.state(partition))
    before = await group.cluster.committed(group.world.group, [partition])
    outbox = await stored(group, group.outbox(partition))
    for _ in range(3):
        async with Shift(group) as shift:
            await shift.until(lambda s=shift: s.reason(partition), "refused")  # type: ignore[misc]
    assert before == await group.cluster.committed(group.world.group, [partition])
    assert [] == await stored(group, group.state(partition))
    assert outbox == await stored(group, group.outbox(partition)) != []


async def stored(group: Group, partition: Partition) -> list[tuple[int, bytes]]:
    records = await group.world.stored(partition.topic, partition.number)
    return [(record.offset, record.value) for record in records]


async def test_topics_deleted_under_a_running_worker_stop_their_partitions_alone(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(producer, "TICK_SECONDS", 3.0)
    monkeypatch.setattr(client, "CLOSE_SECONDS", 1.0)
    monkeypatch.setattr("forwarder.sources.kafka.METADATA_MAX_AGE_MS", 1_000)
    healthy, no_state, no_outbox, gone = map(group.at, ("main", "state", "outbox", "short"))
    async with Shift(group) as shift:
        await shift.until_settled([healthy, no_state, no_outbox, gone])
        for n in range(3):
            await group.feed([healthy, no_state, no_outbox, gone])
            await shift.until(lambda n=n: group.sink.numbers(no_outbox)[n:], "delivered")  # type: ignore[misc]
        await asyncio.gather(
            group.delete(group.state(no_state).topic),
            group.delete(group.outbox(no_outbox).topic),
            group.delete(gone.topic),
        )
        await group.feed([healthy, no_state, no_outbox])
        await shift.until(lambda: shift.reason(no_state), "the lost state is noticed")
        await shift.until(lambda: shift.reason(no_outbox), "the lost outbox is noticed")
        assert accept(no_state) in shift.reason(no_state)
        assert accept(no_outbox) in shift.reason(no_outbox)
        await shift.until(lambda: shift.phase(gone) == "", "the input's partition is let go")
        await group.feed([healthy])
        await shift.until(lambda: group.sink.numbers(healthy) == [*range(5)], "the rest goes on")


async def test_partitions_wait_for_topics_that_the_worker_may_not_make(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("forwarder.sources.kafka.METADATA_MAX_AGE_MS", 500)
    monkeypatch.setattr(retry, "REOPEN_REFUSED", retry.REOPEN)
    partition, added = group.at("state"), group.at("state", 1)
    await work_a_while(group, [partition])
    journal = dataclasses.replace(group.settings.journal, create_topics=False)
    async with Shift(group, dataclasses.replace(group.settings, journal=journal)) as shift:
        await shift.until_settled([partition])
        await group.world.grow(added.topic, 2)
        await shift.until(lambda: shift.reason(added), "the added partition waits")
        outbox = group.outbox(added).topic
        assert f"topic {outbox}: it has 1 partitions, needs 2" in shift.reason(added)
        assert "give it 2 partitions" in shift.reason(added)
        assert "journal.create_topics is false" in shift.reason(added)
        await group.feed([partition])
        await shift.until(lambda: group.sink.numbers(partition) == [0, 1, 2, 3], "others go on")
        for topic in (outbox, group.state(added).topic):
            await group.world.grow(topic, 2)
        await group.feed([added])
        await shift.until(lambda: group.sink.numbers(added) == [0], "it is read from its start")


async def test_topics_and_partitions_that_are_added_are_taken_up(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("forwarder.sources.kafka.METADATA_MAX_AGE_MS", 500)
    old, new, added = group.at("state"), group.at("outbox"), group.at("state", 1)
    fewer = [topic for topic in group.settings.kafka.topics if topic.name != new.topic]
    kafka = dataclasses.replace(group.settings.kafka, topics=tuple(fewer))
    before = dataclasses.replace(group.settings, kafka=kafka)
    await group.feed([old, new])
    async with Shift(group, before) as former:
        await former.until(lambda: group.sink.numbers(old) == [0], "the old pod reads its topics")
        async with Shift(group) as later:
            await later.until(lambda: group.sink.numbers(new) == [0], "the new pod reads them all")
            await group.world.grow(added.topic, 2)
            await group.feed([old, new, added])
            await later.until(
                lambda: (group.sink.numbers(old), group.sink.numbers(added)) == ([0, 1], [0]),
                "whoever owns the added partition reads it",
            )
            assert former.reason(added) == later.reason(added) == ""
    assert [0, 1] == group.sink.numbers(new)


# ---------------------------------------------------------------- a leader that lagged behind


@pytest.mark.service
async def test_logs_that_went_back_are_noticed_by_a_worker_that_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unclean election: the new leader never had the last records."""
    monkeypatch.setattr(client, "CLOSE_SECONDS", 1.0)
    broker = await asyncio.to_thread(own_broker, tmp_path)
    group = Group(broker.bootstrap, {"main": 4})
    try:
        await group.create()
        healthy, no_input, no_state, no_outbox = [group.at("main", n) for n in range(4)]
        everybody = [healthy, no_input, no_state, no_outbox]
        lagging = [no_input, group.state(no_state), group.outbox(no_outbox)]
        async with Shift(group) as shift:
            await shift.until_settled(everybody)
            await group.feed(everybody, 3)
            await shift.until(
                lambda: all(group.sink.numbers(p) == [0, 1, 2] for p in everybody), "fed"
            )
            set_aside(broker, lagging)
            await group.feed(everybody, 2)
            await shift.until(
                lambda: all(group.sink.numbers(p) == [0, 1, 2, 3, 4] for p in everybody), "fed"
            )
            await asyncio.to_thread(go_back, broker, lagging)
            # Not the input that went back: as long as before, nobody could tell it apart.
            await group.feed([healthy, no_state, no_outbox])
            for lost in (no_input, no_state, no_outbox):
                await shift.until(lambda p=lost: shift.reason(p), f"{lost}")  # type: ignore[misc]
            assert "the input ends at offset 3, but was read up to 5" in shift.reason(no_input)
            assert "forwarder reset --to earliest" in shift.reason(no_input)
            assert "the state ends with tick" in shift.reason(no_state)
            assert accept(no_state) in shift.reason(no_state)
            assert "the outbox ends at offset" in shift.reason(no_outbox)
            assert accept(no_outbox) in shift.reason(no_outbox)
            await shift.until(
                lambda: group.sink.numbers(healthy) == [0, 1, 2, 3, 4, 5], "the rest goes on"
            )
    finally:
        await group.close()
        await asyncio.to_thread(broker.kill)


def folder(broker: Broker, partition: Partition) -> Path:
    return broker.folder / "logs" / f"{partition.topic}-{partition.number}"


def set_aside(broker: Broker, partitions: list[Partition]) -> None:
    """Copy the logs as they are; what is written meanwhile is as good as lost."""
    for partition in partitions:
        there = folder(broker, partition)
        shutil.copytree(there, broker.folder / "aside" / there.name)


def go_back(broker: Broker, partitions: list[Partition]) -> None:
    """Kill the broker and start it with the logs set aside."""
    broker.kill()
    for partition in partitions:
        there = folder(broker, partition)
        shutil.rmtree(there)
        shutil.copytree(broker.folder / "aside" / there.name, there)
    broker.start()
