"""What holds for every stream, however it is cut, stopped and begun again."""

import dataclasses
import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder.collect.replay_filter import ReplayFilter
from forwarder.config.connection import Batching, Connection
from forwarder.config.targets import KinesisTarget
from forwarder.formats.ids import digest
from forwarder.model import LOWEST, Batch, Collected, HeldWindow, Position, Released
from tests import builders, heavy, oracle, streams
from tests.books import Books
from tests.builders import NOW, Rec, connection
from tests.unit.collect.windows.test_memory import small_blocks

if TYPE_CHECKING:
    from forwarder.collect.pipeline import Checkpoint

_THOROUGH = settings(max_examples=250, deadline=None)
_FILTERS: list[dict[str, Any]] = [
    {},
    {"send_screen_views": False, "include_location_information": False},
    {"send_custom_events": False, "send_batches_without_events": True},
    {"send_unknown_events": False, "send_lifecycle_events": False},
]
_CONNECTIONS = st.builds(
    lambda mode, kept, batching: connection(batching=batching, **mode, **kept),
    st.sampled_from(streams.MODES),
    st.sampled_from(_FILTERS),
    streams.BATCHINGS,
)


def forwarded(batches: list[Batch]) -> list[str]:
    """Return all events of the batches, in an order of their own."""
    found = [event for b in batches for event in oracle.exact(b.payload)["events"]]
    return sorted(json.dumps(event, default=str) for event in found)


def wanted(records: list[Rec], chosen: Connection) -> list[str]:
    """Return the events the oracle wants forwarded, in the same order."""
    events = oracle.events(records, chosen, NOW).values()
    return sorted(json.dumps(event, default=str) for event in events)


def in_order(batches: list[Batch]) -> bool:
    """Tell whether per window key no batch begins before the last one's end."""
    last: dict[bytes, Position] = defaultdict(lambda: LOWEST)
    for batch in batches:
        if not last[batch.window_key] < batch.first <= batch.last:
            return False
        last[batch.window_key] = batch.last
    return True


@_THOROUGH
@given(streams.streams(), _CONNECTIONS)
def test_every_kept_event_is_in_exactly_one_batch(drawn: list[Rec], chosen: Connection) -> None:
    out = builders.run(chosen, drawn)
    assert wanted(drawn, chosen) == forwarded(out.batches)
    assert oracle.read(drawn, NOW)[1] == [letter.offset for letter in out.dead_letters]
    assert in_order(out.batches)


@_THOROUGH
@given(streams.streams(), _CONNECTIONS, st.lists(st.integers(0, 4), max_size=20))
def test_cutting_polls_anywhere_gives_the_same_batches(
    drawn: list[Rec], chosen: Connection, sizes: list[int]
) -> None:
    whole = builders.run(chosen, drawn).batches
    cut = builders.run(chosen, streams.cut(drawn, sizes)).batches
    assert Counter(map(_plain, whole)) == Counter(map(_plain, cut))


def _plain(batch: Batch) -> tuple[object, ...]:
    return msgspec.structs.astuple(batch)


@_THOROUGH
@given(streams.streams(), streams.BATCHINGS, st.integers(250, 900))
def test_parts_of_a_split_batch_fit_and_join_back(
    drawn: list[Rec], batching: Batching, limit: int
) -> None:
    small = connection(
        batching=batching, sink=KinesisTarget("s", "us-east-1", max_record_bytes=limit)
    )
    out = builders.run(small, drawn)
    assert all(len(b.payload) + 32 <= limit for b in out.batches)
    letters = [x for x in out.dead_letters if x.connection]
    lost = [e for x in letters for e in oracle.exact(x.value)["events"]]
    found = forwarded(out.batches) + [json.dumps(event, default=str) for event in lost]
    assert wanted(drawn, small) == sorted(found)
    assert in_order(out.batches)
    assert len(out.batches) == len({b.id for b in out.batches})


def _events_in(out: Collected) -> int:
    return sum(letter.events for letter in out.dead_letters if letter.connection)


class Journal:
    """The least a journal has to keep for one lane, and a process that can die.

    ``former``: until the next deploy it is one of the release that keyed by the rules of before.
    """

    def __init__(self, chosen: Connection, *, former: bool = False) -> None:
        self.chosen = chosen
        self.former = former
        self.committed: list[Batch] = []
        self.letters: list[int] = []
        self.values: list[bytes] = []
        self.closed: dict[bytes, Position] = {}
        self.held: list[HeldWindow] = []
        self.need: Position = (0, 0)
        self.read = 0
        self.base_read = 0
        self.keying: list[tuple[str, Position]] = []
        self.books = Books()
        self.pipeline = builders.pipeline(self.chosen)
        self.pending: list[Collected] = []
        self.open()

    def waiting(self) -> int:
        """Return how many events of the lane wait in windows, or to be committed."""
        out = builders.merged(self.pending)
        closed = sum(b.count for b in out.batches)
        return self.pipeline.waiting_events().get("lane", 0) + closed + _events_in(out)

    def faults(self) -> list[str]:
        """Return what is not accounted for; what is committed counts as delivered."""
        return self.books.faults({"lane": self.waiting()})

    def open(self) -> None:
        """Begin again with what was committed (O4 to O8)."""
        self.books.released(Released({"lane": self.waiting()}, 0, 0, failed=True))
        self.saving: Checkpoint | None = None
        self.draft: list[HeldWindow] = []
        self.pending = []
        self.at = self.need[0]
        rule = builders.keying_rule(self.chosen)
        if self.former:
            rule = FORMER[rule]
        if not self.keying or self.keying[-1][0] != rule:
            self.keying.append((rule, (self.read, 0)))
        held = [self._left(one) for one in self.held]
        to = {digest(one.key): one.to for one in held}
        # What stands below ``read`` is keyed by the rule of its position: all, for one of before.
        read = 10**9 if self.former else self.read
        replay = ReplayFilter(self.need, read, self.closed, to, list(self.keying))
        self.pipeline = builders.pipeline(self.chosen, read=self.read, replay=replay)
        self.pipeline.compress_above(0)
        for some in (held[::2], held[1::2]):
            events = self.pipeline.restore("lane", [one for one in some if one.pieces])
            self.books.taken_over("lane", events)

    def _left(self, held: HeldWindow) -> HeldWindow:
        ended = self.closed.get(digest(held.key), LOWEST)
        pieces = [p for p in held.pieces if (p[0], p[1] + max(p[2], 1) - 1) > ended]
        assert all((p[0], p[1]) > ended for p in pieces)
        return msgspec.structs.replace(held, pieces=pieces)

    def feed(self, drawn: list[Rec], count: int) -> None:
        """Take one poll."""
        poll = [record for record in drawn if record.offset >= self.at][:count]
        self._absorb(self.pipeline.collect(poll, NOW))
        self.at = poll[-1].offset + 1 if poll else self.at

    def expire(self) -> None:
        """Let the wall clock close up to two windows."""
        self._absorb(self.pipeline.expire(NOW, 2))

    def shed(self) -> None:
        """Close a window or two because memory is short."""
        self._absorb(self.pipeline.shed(3000, 2, NOW))

    def _absorb(self, out: Collected) -> None:
        self.pending.append(out)
        self.books.collected(out)

    def take(self) -> None:
        """Draft a base, or go on with it by a slice of a window or two (K2)."""
        if self.at < self.read:
            return
        if self.pipeline.has_pending_documents:
            self.saving = None
            return
        if self.saving is None:
            self.saving = self.pipeline.begin_checkpoint("lane", self.base_read)
            self.draft = []
        self.draft += self.saving.take(700)

    def tick(self, *, base: bool) -> None:
        """Commit what came out, with or without a base (K1 to K5)."""
        out = builders.merged(self.pending)
        self.pending = []
        self.committed += out.batches
        self.books.delivered("lane", out.batches)
        self.books.dead_letters(out.dead_letters)
        self.letters += [letter.offset for letter in out.dead_letters]
        self.values += [letter.value for letter in out.dead_letters if letter.connection]
        for closing in out.closings:
            self.closed[closing.window_key] = max(
                self.closed.get(closing.window_key, LOWEST), closing.last
            )
        caught_up = self.at >= self.read and not self.pipeline.has_pending_documents
        self.read = max(self.read, self.at)
        if base and caught_up:
            self.take()
            while self.saving is not None and (taken := self.saving.take(700)):
                self.draft += taken
            assert self.saving is not None
            self.saving.settle()
            self.held, self.saving = self.draft, None
            assert all(one.pieces for one in self.held)
            self.base_read = self.read
        first = self.pipeline.unsaved().get("lane")
        behind = max((self.at, 0), self.need)
        self.need = max(self.need, behind if first is None else min(first, behind))
        if base and caught_up:
            kept = {digest(one.key) for one in self.held}
            self.closed = {k: x for k, x in self.closed.items() if x >= self.need or k in kept}

    def finish(self, drawn: list[Rec]) -> None:
        """Read to the end, close everything and commit."""
        self.feed(drawn, len(drawn))
        for out in builders.finished(self.pipeline):
            self._absorb(out)
        self.tick(base=False)


FORMER = {"device-2": "device-1", "session-2": "session-1"}

_STEPS = st.lists(
    st.one_of(
        st.integers(1, 4),
        st.sampled_from(["tick", "base", "take", "base", "crash", "expire", "deploy", "shed"]),
    ),
    max_size=40,
)


@_THOROUGH
@given(streams.streams(), _CONNECTIONS, _STEPS, st.booleans(), st.data())
def test_crashes_and_deploys_anywhere_lose_and_repeat_nothing(
    drawn: list[Rec],
    chosen: Connection,
    steps: list[int | str],
    former: bool,  # noqa: FBT001
    data: st.DataObject,
) -> None:
    journal = Journal(chosen, former=former)
    with small_blocks():
        _act(journal, drawn, steps, data)
    assert wanted(drawn, chosen) == forwarded(journal.committed)
    assert oracle.read(drawn, NOW)[1] == sorted(journal.letters)
    assert in_order(journal.committed)


def _act(
    journal: Journal,
    drawn: list[Rec],
    steps: Sequence[int | str],
    data: st.DataObject,
    *,
    end: bool = True,
) -> None:
    chosen = journal.chosen
    for step in steps:
        if isinstance(step, int):
            journal.feed(drawn, step)
        elif step in {"tick", "base"}:
            journal.tick(base=step == "base")
        elif step == "expire":
            journal.expire()
        elif step == "take":
            journal.take()
        elif step == "shed":
            journal.shed()
        else:
            if step == "deploy":
                journal.chosen, journal.former = _other_mode(chosen, data), False
            journal.open()
        assert [] == journal.faults()
    if end:
        journal.finish(drawn)
        assert [] == journal.faults()


@_THOROUGH
@given(streams.streams(), st.sampled_from(_FILTERS), _STEPS)
def test_a_window_that_outlives_crashes_becomes_the_same_document(
    drawn: list[Rec], kept: dict[str, Any], steps: list[int | str]
) -> None:
    patient = connection(batching=Batching(max_age_ms=10**12, max_events=10**6), **kept)
    journal = Journal(patient)
    for step in steps:
        if isinstance(step, int):
            journal.feed(drawn, step)
        elif step in {"tick", "base"}:
            journal.tick(base=step == "base")
        elif step == "take":
            journal.take()
        elif step == "crash":
            journal.open()
    journal.finish(drawn)
    expected = {batch.id: batch.payload for batch in builders.run(patient, drawn).batches}
    assert expected == {batch.id: batch.payload for batch in journal.committed}


def _other_mode(chosen: Connection, data: st.DataObject) -> Connection:
    """Return the connection in another mode and with other windows, but the same filter."""
    mode: dict[str, Any] = {"send_as_batch": True, "wait_for_complete_batch": False}
    mode |= data.draw(st.sampled_from(streams.MODES))
    return dataclasses.replace(
        chosen,
        settings=dataclasses.replace(chosen.settings, **mode),
        batching=data.draw(streams.BATCHINGS),
    )


_LIMITS = st.integers(300, 1500)


@_THOROUGH
@given(heavy.streams(), st.sampled_from(streams.MODES), streams.BATCHINGS, _STEPS, st.data())
def test_crashes_and_deploys_of_other_limits_deliver_each_event_or_make_it_a_letter_once(
    drawn: list[Rec],
    mode: dict[str, Any],
    batching: Batching,
    steps: list[int | str],
    data: st.DataObject,
) -> None:
    def limited(limit: int) -> Connection:
        sink = KinesisTarget("s", "us-east-1", max_record_bytes=limit)
        return connection(batching=batching, sink=sink, **mode)

    journal = Journal(limited(data.draw(_LIMITS)))
    with small_blocks(encoded_bytes=data.draw(st.integers(1, 3000))):
        for step in steps:
            if step == "deploy":
                journal.chosen = limited(data.draw(_LIMITS))
            _act(journal, drawn, ["crash" if step == "deploy" else step], data, end=False)
        journal.finish(drawn)
    lost = [oracle.exact(letter) for letter in journal.values]
    found = [json.dumps(e, default=str) for one in lost for e in one.get("events", [])]
    assert wanted(drawn, journal.chosen) == sorted([*forwarded(journal.committed), *found])
    assert in_order(journal.committed)
