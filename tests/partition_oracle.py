"""An oracle that watches what is committed of one partition, and put of its batches.

It asserts, whatever happens, the properties of docs/protocol.md it is named after. It knows the
protocol's promises and nothing of how they are kept.
"""

import json
from collections import Counter
from typing import TYPE_CHECKING

from forwarder.journal import outbox
from forwarder.journal.contract import Committed, Tick
from forwarder.journal.fold import fold_records
from forwarder.journal.state import PartitionState
from forwarder.model import Address, Batch, Partition, Position
from tests.batches import GROUP, TOPIC

if TYPE_CHECKING:
    from forwarder.journal.memory import MemoryJournals

PARTITION = Partition(TOPIC, 0)


def numbers(payload: bytes) -> list[int]:
    """Return the numbers of the events in a document."""
    return [event["data"]["event_id"] for event in json.loads(payload)["events"]]


class Oracle:
    """What was committed and what has landed, and the properties both must have."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self.journals: MemoryJournals | None = None
        self.batches: dict[str, dict[Address, Batch]] = {}
        self.bytes: dict[tuple[str, str], bytes] = {}
        self.landed: dict[str, set[str]] = {}
        self.newest: dict[tuple[str, bytes], Address] = {}
        self.settled: dict[str, set[str]] = {}
        self.excused: set[tuple[str, str]] = set()
        self.dropped: dict[str, int] = {}
        self.state = PartitionState()
        self.watermark = 0
        self.known: set[str] = set()
        self.events: Counter[tuple[str, int]] = Counter()
        self.lasts: dict[tuple[str, bytes, str], Position] = {}

    def committed(self, tick: Tick, committed: Committed) -> None:
        """Judge one committed tick."""
        for entry, offset in zip(tick.outbox, committed.outbox, strict=True):
            for address, batch in outbox.decode_record(offset, entry.value):
                self._committed_batch(address, batch)
        for letter in tick.dead_letters:
            if letter.connection:
                self.excused.update(
                    (letter.connection, b.id)
                    for b in self.batches.get(letter.connection, {}).values()
                    if b.payload == letter.value
                )
        self._judge_state(tick)

    def _committed_batch(self, address: Address, batch: Batch) -> None:
        known = self.bytes.setdefault((batch.lane, batch.id), batch.payload)
        assert known == batch.payload, "I8: one id, two contents"
        self.batches.setdefault(batch.lane, {})[address] = batch
        for number in numbers(batch.payload):
            self.events[(batch.lane, number)] += 1
            assert self.events[(batch.lane, number)] == 1, f"I1: {batch.lane} has {number} twice"

    def _judge_state(self, tick: Tick) -> None:
        assert self.journals is not None
        log = self.journals.log(PARTITION)
        ptr = tick.metadata.ptr
        assert ptr is not None
        records = [(o, v) for o, v in log.state.items() if o >= ptr]
        new = fold_records(records, GROUP, TOPIC)
        whole = fold_records(log.state.items(), GROUP, TOPIC)
        assert whole == new, "I12, I19: reading from ptr is not reading everything"
        old, self.state = self.state, new
        assert old.n < new.n
        assert self.watermark <= tick.offset <= new.read, "I10: W"
        assert tick.offset == min(lane.need[0] for lane in new.lanes.values()), "I10: W = min need"
        self.watermark = tick.offset
        assert old.read <= new.read, "I10: read"
        if old.base_offset not in {None, new.base_offset}:
            for name in self.known & new.lanes.keys():
                assert (old.base_read, 0) <= new.lanes[name].need, "I11: a base saved too little"
        assert not self.known & (old.lanes.keys() - new.lanes.keys()), (
            "L1: a known lane was dropped"
        )
        for name, lane in old.lanes.items():
            if name not in new.lanes:
                continue
            assert lane.need <= new.lanes[name].need, "I10: need"
            assert lane.read <= new.lanes[name].read, "I10: read of a lane"
            assert lane.cursor <= new.lanes[name].cursor, "a cursor fell"
        self._judge_acknowledgements(new)

    def _judge_acknowledgements(self, state: PartitionState) -> None:
        for name, lane in state.lanes.items():
            for address, batch in self.batches.get(name, {}).items():
                if address < lane.cursor or address in lane.acked:
                    self.settled.setdefault(name, set()).add(batch.id)
                    landed = batch.id in self.landed.get(name, ())
                    excused = (name, batch.id) in self.excused
                    dropped = batch.closed_at < self.dropped.get(name, 0)
                    assert landed or excused or dropped, "I4: an ack without a landing"

    def put(self, batch: Batch, *, owner: bool) -> None:
        """Judge a put that begins; ``owner``: the one who opened last."""
        assert (batch.lane, batch.id) in self.bytes, "I3: put before the commit"
        assert self.bytes[(batch.lane, batch.id)] == batch.payload, "I3: other bytes"
        if owner:
            assert batch.id not in self.settled.get(batch.lane, ()), "I5: its ack is stored"

    def land(self, batch: Batch) -> None:
        """Judge a landing."""
        landed = self.landed.setdefault(batch.lane, set())
        if batch.id in landed:
            return
        landed.add(batch.id)
        [address] = [a for a, b in self.batches[batch.lane].items() if b.id == batch.id]
        device = (batch.lane, batch.key)
        skipped = batch.closed_at < self.dropped.get(batch.lane, 0)
        assert skipped or self.newest.get(device, (-1, -1)) < address, "I6: out of order"
        self.newest[device] = max(address, self.newest.get(device, (-1, -1)))
