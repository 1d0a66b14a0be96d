"""The properties I1 to I24 of docs/protocol.md, asked of everything that is committed or put.

I22, the accounting, is asked of each process (``process.py``) whenever the world is at rest.

The oracle knows what is promised and nothing of how it is kept: it reads the stored records by
their documented form alone.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from forwarder.deliver import queue
from forwarder.journal import outbox
from forwarder.journal.commit import CommitMetadata
from forwarder.model import Address, Batch, DeadLetter, Reason
from tests import look_back
from tests.model.deploys import Deploy, Writer
from tests.model.input import LARGEST_NOTE, Event, tag
from tests.model.kafka import Stored, Transaction
from tests.model.loop import Fault
from tests.model.reader import Reading, buried, read

LEASE = 10.0
"""Seconds a worker cut off may go on putting (D3)."""

LANE_TTL_MS = 12_000
"""How long a lane that no process knows is kept (L1)."""

SKEW_MS = 1_000
"""More than any process's wall clock is wrong."""

LARGEST = 1_200
"""Bytes of a record that every destination takes."""

DEVICE_KEY = 32
LOOK = look_back.Look(block=3, identities=9)
"""How much is looked back on: little, so that small histories pass it."""

NOTING = {"acme", "solo"}
"""Lanes that forward notifications."""

_NUMBERS = re.compile(rb'"event_id":(\d+)')


class Committed(msgspec.Struct):
    """A batch in the outbox, and what became of it."""

    batch: Batch
    partition: int
    address: Address
    events: list[Event]
    landed: bool = False
    refusals: int = 0
    buried: bool = False
    settled: bool = False
    dropped: bool = False


class Oracle:
    """Judges commits, puts and landings of one history; raises Fault."""

    def __init__(
        self, stored: Sequence[Stored], seen: dict[str, int], wall_ms: Callable[[], int]
    ) -> None:
        """Watch these partitions; ``seen`` counts what happened."""
        self._wall_ms = wall_ms
        self.stored = stored
        self.seen = seen
        self.events: list[Event] = []
        self.readings = [Reading() for _ in stored]
        self.batches: dict[tuple[str, str], Committed] = {}
        self.pending: dict[tuple[int, str], dict[Address, Committed]] = {}
        self.found: dict[tuple[str, int], int] = {}
        self.letters: dict[tuple[int, str, int, str], int] = {}
        self.large: set[tuple[str, int]] = set()
        self.newest: dict[tuple[int, str, bytes], Address] = {}
        self.lasts: dict[tuple[int, str, str], tuple[int, int]] = {}
        self.eras: dict[tuple[int, str], int] = {}
        self.rested: dict[tuple[int, str], list[tuple[int, int]]] = {}
        self.skips: dict[str, int] = {}
        self.narrowed = self.lowered = False
        self.watermarks = [0 for _ in stored]
        self.windows: list[dict[float, int]] = [{} for _ in stored]
        self.rules: dict[tuple[int, str], list[Any]] = {}

    def _note_windows(self, number: int, read: int, writer: Writer) -> None:
        """Note from where on which events count as having come before (C0)."""
        reading, known = self.readings[number], self.windows[number]
        told = reading.extra.get("look_back", {"n": -1})
        if told["n"] != reading.n:
            off = not known or not writer.deploy.duplicates_ms
            _require(off, "C0: no window is stored any more")
            if known:  # what was remembered is forgotten, though nothing may be read until it is on
                known[read - 0.5] = known[read] = 0
            return
        for window_ms, start in told["windows"]:
            if known.get(start) != window_ms and (window_ms or start or not known):
                new = (start, window_ms) in {(0, 0), (read, writer.deploy.duplicates_ms)}
                _require(new, f"C0: a window of {window_ms} ms from {start} on, read was {read}")
                known[start] = window_ms

    def came_before(self, number: int) -> set[int]:
        """Return the numbers of the events of a partition that had come before."""
        records = {
            offset: look_back.Stood(offset, message.timestamp, ())
            for offset, message in enumerate(self.stored[number].input)
            if message is not None
        }
        events = [event for event in self.events if event.partition == number]
        for event in events:
            one = records[event.position[0]]
            records[one.offset] = one._replace(identities=(*one.identities, event.once))
        found = look_back.within([*records.values()], self.windows[number], LOOK)
        dropped = {o: iter(marks) for o, marks in found.items()}
        return {event.number for event in events if next(dropped[event.position[0]])}

    def deployed(self, deploy: Deploy) -> None:
        """Note what a rollout allows from now on."""
        self.narrowed |= deploy.narrow
        self.lowered |= deploy.hasty
        if deploy.deliver_from_ms is not None:
            self.skips["solo"] = max(self.skips.get("solo", 0), deploy.deliver_from_ms)

    # ------------------------------------------------------------------ commits

    def committed(self, stored: Stored, transaction: Transaction) -> None:
        """Judge a transaction at the moment it is decided."""
        tick, writer = transaction.content, transaction.owner
        if tick is None:
            text = "I10: a transaction without offsets"
            raise Fault(text)
        number = stored.partition.number
        before, records = self.readings[number], []
        old = (before.read, before.n, before.base, before.base_read, before.lanes)
        old_lanes = {name: dict(lane) for name, lane in before.lanes.items()}
        base = False
        for offset, value in zip(transaction.state, tick.state, strict=True):
            record = before.take(offset, value)
            base |= record["kind"] == "base"
            records.append(record)
        self._judge_numbers(number, old, tick.offset, base=base)
        self._note_windows(number, old[0], writer)
        self._judge_lanes(number, old_lanes, old[0], base=base, writer=writer)
        if base and old[2] >= 0:
            self._judge_base(number, old_lanes, old[3], writer)
        self._judge_pointer(stored, tick.metadata, old[2])
        for offset, entry in zip(transaction.outbox, tick.outbox, strict=True):
            for address, batch in outbox.decode_record(offset, entry.value):
                self._judge_batch(number, address, batch)
        for letter in transaction.letters:
            self._judge_letter(number, letter)
        self._judge_acknowledgements(number, writer)

    def _judge_numbers(
        self, number: int, old: tuple[int, int, int, int, Any], offset: int, *, base: bool
    ) -> None:
        new = self.readings[number]
        follows = new.n > old[1] if base else new.n == old[1] + 1
        _require(follows, f"I10: tick {new.n} follows {old[1]}")
        _require(old[0] <= new.read, "I10: read fell")
        _require(new.read <= len(self.stored[number].input), "I10: read beyond the input")
        _require(self.watermarks[number] <= offset <= new.read, f"I10: W is {offset}")
        _require(offset == new.need(), f"I10: W is {offset}, the lowest need {new.need()}")
        self.watermarks[number] = offset
        self.seen["bases" if base else "deltas"] = (
            self.seen.get("bases" if base else "deltas", 0) + 1
        )

    def _judge_lanes(
        self, number: int, old: dict[str, Any], read: int, *, base: bool, writer: Writer
    ) -> None:
        reading, known = self.readings[number], set(writer.deploy.lanes)
        for name, lane in reading.lanes.items():
            if name not in old:
                self.eras[(number, name)] = read
                self.rules.setdefault((number, name), [])
            else:
                before = old[name]
                for field in {"need", "read", "cursor", "seen_from"} & before.keys() & lane.keys():
                    _require(before[field] <= lane[field], f"I10: {field} of {name} fell")
                if name not in known and base:
                    same = buried(before) == buried(lane)
                    _require(same, f"I12: unknown lane {name} is not what it was")
                    self._see("unknown_carried")
            if keying := lane.get("keying"):
                rules = self.rules[(number, name)]
                rules[:] = [rule for rule in rules if rule[1] < keying[0][1]] + keying
            _require(
                len(lane["acked"]) <= queue.MAX_UNCOMMITTED_ACKS + 1, "I13: too many acknowledged"
            )
            if lane["held"] and base:
                self._see("held")
        for name in old.keys() - reading.lanes.keys():
            self._dropped(number, name, old[name], writer)
        self._note_rest(number, writer)

    def _judge_base(self, number: int, old: dict[str, Any], base_read: int, writer: Writer) -> None:
        """Judge how far behind a lane that is fed may be at a base (I11)."""
        lanes = self.readings[number].lanes
        for name in lanes.keys() & old.keys() & set(writer.deploy.lanes):
            _require(lanes[name]["need"] >= [base_read, 0], f"I11: {name} was saved too little")

    def _dropped(self, number: int, name: str, lane: dict[str, Any], writer: Writer) -> None:
        """Judge that a base leaves a lane out (L1)."""
        retired = name in writer.deploy.retired
        age = self._wall_ms() + SKEW_MS - lane["seen"]
        allowed = name not in writer.deploy.lanes and (retired or age >= LANE_TTL_MS)
        _require(allowed, f"I12: lane {name} is gone from the state")
        self._see("lane_retired" if retired else "lane_expired")
        del self.eras[(number, name)]
        for committed in self.pending.pop((number, name), {}).values():
            committed.dropped = True

    def _note_rest(self, number: int, writer: Writer) -> None:
        """Note what an inactive connection passes over (D5)."""
        lane = self.readings[number].lanes.get("beta")
        if lane is not None and writer.deploy.beta == "inactive":
            span = (lane["read"], self.readings[number].read)
            spans = self.rested.setdefault((number, "beta"), [])
            if span not in spans:
                spans.append(span)

    def _judge_pointer(self, stored: Stored, metadata: CommitMetadata, base: int) -> None:
        """I12, I19: what an opening reads from here on is what everything says."""
        ptr = metadata.ptr
        assert ptr is not None
        reading = self.readings[stored.partition.number]
        if base >= 0:
            _require(ptr == base, f"I12: ptr is {ptr}, the newest base before was at {base}")
        _require(ptr >= stored.state.start, "I12: ptr lies below the log's start")
        if reading.n % 8 == 0:
            entries = [
                (o, v)
                for o, (t, v) in enumerate(stored.state.entries)
                if v and o >= ptr and t.status in {"done", "prepared"}
            ]
            _require(read(entries).whole() == reading.whole(), "I19: reading from ptr differs")

    def _judge_batch(self, number: int, address: Address, batch: Batch) -> None:
        name = batch.lane
        known = self.batches.get((name, batch.id))
        _require(known is None, f"I1, I8: batch {batch.id} of {name} is committed twice")
        events = [self.events[int(n)] for n in _NUMBERS.findall(batch.payload)]
        _require(len(events) == batch.count and bool(events), "I1: events are missing in a batch")
        self._judge_size(batch, events)
        self._judge_content(number, batch, events)
        found = Committed(batch, number, address, events)
        self.batches[(name, batch.id)] = found
        self.pending.setdefault((number, name), {})[address] = found

    def _judge_size(self, batch: Batch, events: Sequence[Event]) -> None:
        """Judge that a batch fits, and has the context of every upload that it has events of."""
        _require(len(batch.payload) + DEVICE_KEY <= LARGEST, "I23: a batch fits into no record")
        _require(all(_fits(batch.lane, e) for e in events), "I23: a batch of what fits into none")
        if batch.lane in NOTING:
            noted = {tag([event]).encode() for event in events if event.note}
            _require(all(one in batch.payload for one in noted), "I23: a context is not all there")

    def _judge_large(self, number: int, letter: DeadLetter, events: Sequence[Event]) -> None:
        """Judge a letter of what is too large.

        In acme a window may have outlived a larger limit, a replay want more than before.
        """
        if letter.connection == "acme" and (self.lowered or self.narrowed):
            return
        _require(not any(_fits(letter.connection, e) for e in events), "I24: a letter of what fits")
        value = self._value(number, letter.offset)
        _require(len(letter.value) <= len(value), "I24: a letter is larger than its record")
        for upload in {event.upload for event in events}:
            one = (letter.connection, upload)
            _require(one not in self.large, "I24: several letters of one upload")
            self.large.add(one)

    def _value(self, number: int, offset: int) -> bytes:
        message = self.stored[number].input[offset]
        return (message.value if message else None) or b""

    def _judge_content(self, number: int, batch: Batch, events: Sequence[Event]) -> None:
        positions = [event.position for event in events]
        _require(positions == sorted(set(positions)), "I2: events out of order in a batch")
        _require(batch.first == positions[0] and batch.last == positions[-1], "I1: F or L is wrong")
        _require(
            len({(e.partition, e.owner) for e in events} | {(number, events[0].owner)}) == 1,
            "I1: a batch mixes devices or their users",
        )
        rules = self.rules.get((number, batch.lane), ())
        for event in events:
            self._count(batch.lane, event)
            key = (number, batch.lane, _key(event, rules))
            _require(
                self.lasts.get(key, (-1, -1)) < event.position,
                f"I2: event {event.number} of {batch.lane} comes after a later one",
            )
            self.lasts[key] = event.position

    def _count(self, lane: str, event: Event) -> None:
        key = (lane, event.number)
        self.found[key] = self.found.get(key, 0) + 1
        _require(self.found[key] == 1, f"I1: {lane} has event {event.number} twice")

    def _judge_letter(self, number: int, letter: DeadLetter) -> None:
        events = [self.events[int(n)] for n in _NUMBERS.findall(letter.value)]
        self._see(f"letter.{letter.reason.value}")
        if letter.reason is Reason.REFUSED:
            self._bury(number, letter)
            return
        if letter.reason is Reason.EVENT_TOO_LARGE:
            self._judge_large(number, letter, events)
        what = ",".join(str(event.number) for event in events)
        key = (number, letter.connection, letter.offset, what)
        self.letters[key] = self.letters.get(key, 0) + 1
        _require(self.letters[key] == 1, f"I9: dead letter {key} comes twice")
        for event in events if letter.connection else ():
            self._count(letter.connection, event)

    def _bury(self, number: int, letter: DeadLetter) -> None:
        known = [
            c
            for c in self.pending.get((number, letter.connection), {}).values()
            if c.batch.payload == letter.value
        ]
        _require(len(known) == 1, "I9: a dead letter of no batch that waits, or a second one")
        _require(not known[0].buried, "I9: a refused batch became two dead letters")
        _require(known[0].refusals > 0, "I4: a dead letter of a batch nobody refused")
        known[0].buried = True

    def _judge_acknowledgements(self, number: int, writer: Writer) -> None:
        for name, lane in self.readings[number].lanes.items():
            waiting = self.pending.get((number, name))
            if not waiting:
                continue
            at, acked = tuple(lane["cursor"]), {tuple(a) for a in lane["acked"]}
            since = self.skips.get(name, 0) if name in writer.deploy.lanes else 0
            for address in [a for a in waiting if a < at or a in acked]:
                one = waiting.pop(address)
                skipped = one.batch.closed_at < since
                one.settled, one.dropped = True, skipped
                self.seen["skipped"] = self.seen.get("skipped", 0) + (skipped and not one.landed)
                _require(
                    one.landed or one.buried or skipped,
                    f"I4: {name} has an ack of {address} that never landed",
                )

    # ------------------------------------------------------------------ puts

    def put(self, lane: str, batch: Batch) -> Committed:
        """Judge that a put may be of this batch (I3)."""
        known = self.batches.get((lane, batch.id))
        if known is None:
            text = f"I3: {lane} puts a batch that is not committed"
            raise Fault(text)
        _require(known.batch.payload == batch.payload, "I3: other bytes than were committed")
        return known

    def land(self, one: Committed) -> None:
        """Judge a landing (I6)."""
        if one.landed:
            self._see("repeats")
            return
        one.landed = True
        batch = one.batch
        key = (one.partition, batch.lane, batch.key)
        excused = one.dropped or one.buried or one.refusals > 1
        excused |= batch.closed_at < self.skips.get(batch.lane, 0)
        _require(
            excused or self.newest.get(key, (-1, -1)) < one.address,
            f"I6: {batch.lane} lands {one.address} after a later batch of its device",
        )
        self.newest[key] = max(one.address, self.newest.get(key, (-1, -1)))

    # ------------------------------------------------------------------ the end

    def judge(self, lanes: Iterable[str]) -> None:
        """Judge a history after everything was read and delivered."""
        for stored, at in zip(self.stored, self.watermarks, strict=True):
            _require(at >= stored.end(), f"I14: W is {at} of {len(stored.input)}")
            for offset, message in enumerate(stored.input):
                if message is not None and message.value == b"{":
                    key = (stored.partition.number, "", offset, "")
                    _require(self.letters.get(key) == 1, f"I9: dead letter of {offset} is missing")
        again = {one for number, _ in enumerate(self.stored) for one in self.came_before(number)}
        self.seen["duplicates"] = self.seen.get("duplicates", 0) + len(again)
        for name in lanes:
            for event in self.events:
                if event.number not in again:
                    self._judge_event(name, event)
                elif self.found.get((name, event.number)):
                    text = f"I25: {name} has event {event.number}, which had come before"
                    raise Fault(text)
        for one in self.batches.values():
            done = one.landed or one.buried or one.dropped
            _require(done, f"I1: batch {one.address} of {one.batch.lane} was never delivered")

    def _judge_event(self, lane: str, event: Event) -> None:
        found = self.found.get((lane, event.number), 0)
        wanted = lane != "solo" or event.kind != "screen_view"
        _require(wanted or not found, f"I1: {lane} does not want event {event.number}")
        optional = lane == "acme" and self.narrowed and event.kind == "screen_view"
        offset = event.position[0]
        # One that was new at the end may not have been stored: it begins where reading stands.
        begun = self.eras.get((event.partition, lane), self.readings[event.partition].read)
        optional |= offset < begun
        optional |= any(a <= offset < b for a, b in self.rested.get((event.partition, lane), ()))
        _require(found == 1 or optional or not wanted, f"I1: {lane} lost event {event.number}")

    def _see(self, what: str) -> None:
        self.seen[what] = self.seen.get(what, 0) + 1


def _key(event: Event, rules: Sequence[Any]) -> str:
    """Return under which key an event was collected, by the rule of its position (L2)."""
    rule = "device-2"
    for name, start in rules:
        if tuple(start) <= event.position:
            rule = name
    return f"{event.owner}|{event.session}" if rule.startswith("session") else event.owner


def _fits(lane: str, event: Event) -> bool:
    """Tell whether an event fits into a record with the context of its upload."""
    return event.kind != "huge" and (event.note < LARGEST_NOTE or lane not in NOTING)


def _require(condition: bool, text: str) -> None:  # noqa: FBT001  # reads like an assertion
    if not condition:
        raise Fault(text)
