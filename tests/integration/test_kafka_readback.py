"""Lanes read back from a real broker's outbox together."""

import gc

import pytest
from aiokafka.consumer.fetcher import PartitionRecords

from forwarder.clock import SystemClock
from forwarder.deliver.budget import Budget
from forwarder.journal import outbox
from forwarder.journal.commit import CommitMetadata
from forwarder.journal.contract import OutboxEntry, Tick
from forwarder.journal.kafka import KafkaJournals
from forwarder.kafka import reader
from forwarder.model import Partition
from tests.lagging import Partition as Lanes
from tests.lagging import of, some
from tests.services.kafka_world import World

pytestmark = pytest.mark.service

KIB = 1024
NAMES = ["one", "two", "three"]


async def test_lanes_far_apart_get_every_batch_in_order_and_no_other(kafka: str) -> None:
    world = World(kafka)
    await world.create_input()
    journals = KafkaJournals(world.settings(), "readback", SystemClock())
    await journals.prepare(frozenset())
    journal = journals.journal(Partition(world.topic, 0))
    await journal.open()
    lanes = Lanes(Budget(200 * KIB), read=journal.read)
    cursors = {}
    for n in range(1, 25):
        batches = {
            name: some(f"{name}.{n}", 4, 8 * KIB) for name in NAMES if n % 8 or name == "one"
        }
        entries = [
            OutboxEntry(k, outbox.encode_record([of(k, b) for b in v])) for k, v in batches.items()
        ]
        metadata = CommitMetadata(n, 0)
        stored = await journal.commit(Tick(entries, (), [b"state"], n, metadata))
        lanes.advance(stored.outbox[-1] + 1)
        if n in {1, 5, 9}:
            cursors[NAMES[n // 4]] = (stored.outbox[0], 0)
        for name in cursors:
            if name in batches:
                lanes.committed.setdefault(name, []).extend(b.id for b in batches[name])
    for name, cursor in cursors.items():
        lanes.lane(name, cursor=cursor)
    for delivery in lanes.lanes.values():
        delivery.wake()
    await lanes.until_idle(60)
    await lanes.close()
    await journal.close()
    await journals.close()
    assert not lanes.results.failed.done()
    for name, ids in lanes.committed.items():
        landed = [b.id for b in lanes.sinks[name].landed]
        assert sorted(ids) == sorted(landed)
        for device in range(4):
            mine = [i for i in landed if i.endswith(f".{device}")]
            assert [i for i in ids if i.endswith(f".{device}")] == mine


async def test_what_was_fetched_for_another_place_does_not_wait_for_the_garbage_collector(
    kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "POLL_RECORDS", 1)
    world = World(kafka)
    await world.create_input()
    journals = KafkaJournals(world.settings(), "pieces", SystemClock())
    await journals.prepare(frozenset())
    journal = journals.journal(Partition(world.topic, 0))
    await journal.open()
    offsets = []
    for n in range(1, 20):
        entries = [
            OutboxEntry(
                "one", outbox.encode_record([of("one", b) for b in some(f"{n}", 4, 8 * KIB)])
            )
        ]
        metadata = CommitMetadata(n, 0)
        stored = await journal.commit(Tick(entries, (), [b"state"], n, metadata))
        offsets.append(stored.outbox[0])
    gc.collect()
    gc.disable()
    try:
        for offset in offsets[:10]:
            stretch = await journal.read(["one"], offset, offsets[-1] + 1, 1)
            assert [offset] == [record.offset for record in stretch.records]
        kept = [one for one in gc.get_objects() if isinstance(one, PartitionRecords)]
    finally:
        gc.enable()
    await journal.close()
    await journals.close()
    assert len(kept) <= 1
