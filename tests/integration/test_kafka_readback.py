"""Lanes read back from a real broker's outbox together."""

import json

import pytest

from forwarder.journal.base import Entry, Tick
from forwarder.journal.kafka import KafkaJournals
from forwarder.ledger import outbox
from forwarder.ledger.budget import Budget
from forwarder.model import Partition
from forwarder.readback import Turns
from tests.lagging import Partition as Lanes
from tests.lagging import of, some
from tests.services.kafka_world import World

pytestmark = pytest.mark.service

KIB = 1024
NAMES = ["one", "two", "three"]


async def test_lanes_far_apart_get_every_batch_in_order_and_no_other(kafka: str) -> None:
    world = World(kafka)
    await world.create_input()
    journals = KafkaJournals(world.settings(), "readback")
    await journals.prepare(frozenset())
    journal = journals.journal(Partition(world.topic, 0))
    await journal.open()
    lanes = Lanes(Turns(Budget(200 * KIB)))
    lanes.readback._read = journal.read  # noqa: SLF001  # in the place of the one with a cost
    cursors = {}
    for n in range(1, 25):
        batches = {
            name: some(f"{name}.{n}", 4, 8 * KIB) for name in NAMES if n % 8 or name == "one"
        }
        entries = [Entry(k, outbox.encode([of(k, b) for b in v])) for k, v in batches.items()]
        metadata = json.dumps({"v": 1, "n": n, "ptr": 0})
        stored = await journal.commit(Tick(entries, (), [b"state"], n, metadata))
        lanes.end = stored.outbox[-1] + 1
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
    assert [] == lanes.failures
    for name, ids in lanes.committed.items():
        landed = [b.id for b in lanes.sinks[name].landed]
        assert sorted(ids) == sorted(landed)
        for device in range(4):
            mine = [i for i in landed if i.endswith(f".{device}")]
            assert [i for i in ids if i.endswith(f".{device}")] == mine
