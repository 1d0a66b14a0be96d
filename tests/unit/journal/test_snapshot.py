"""Bases made in slices beside the ticks: what an opening reads, wherever it comes in between."""

from collections.abc import Iterator
from unittest import mock

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder.journal import packing
from forwarder.journal import snapshot as drafts
from forwarder.journal import state as states
from forwarder.journal.snapshot import SnapshotBuilder
from forwarder.journal.state import CHUNK_ENTRIES, LaneState
from forwarder.model import Closing, HeldWindow, Position
from tests.batches import digest, held, lane_state
from tests.story import ORIGIN, Saved, Story, closing, complete, draft, snapshot, view

KEYS = "abc"


@pytest.fixture(autouse=True, scope="module")
def _one_window_at_a_time() -> Iterator[None]:
    with mock.patch.object(drafts, "SLICE_BYTES", 1):
        yield


class Owner:
    """Open windows of one lane beside the story of its ticks."""

    def __init__(self) -> None:
        self.story = Story(acme=lane_state())
        self.position = 0
        self.open: dict[str, list[int]] = {}
        self.saved: dict[str, int] = {}
        self.ended: dict[str, Position] = {}
        self.closings: list[Closing] = []
        self.steps: Iterator[None] | None = None
        self.taken: dict[str, list[int]] = {}
        self.tick()

    def feed(self, key: str) -> None:
        """Add an event to the window of a key."""
        self.open.setdefault(key, []).append(self.position)
        self.position += 1

    def close(self, key: str) -> None:
        """Close the window of a key, if there is one."""
        offsets = self.open.pop(key, None)
        if offsets is not None:
            self.saved.pop(key, None)
            self.closings.append(closing(key, (offsets[-1], 0)))

    def step(self) -> None:
        """Go on drafting, or begin."""
        if self.steps is None:
            self.taken = {}
            self.story.draft = SnapshotBuilder(ORIGIN, self.story.state, {"acme": self})
            self.steps = self.story.draft.steps()
        next(self.steps, None)

    def take(self, limit_bytes: int) -> list[HeldWindow]:
        """Give the next window that is open now (Saving)."""
        del limit_bytes
        for key, offsets in self.open.items():
            if key not in self.taken:
                self.taken[key] = list(offsets)
                return [held(key, *offsets)]
        return []

    def settle(self) -> None:
        """Count the events taken as saved where the window is still the same (Saving)."""
        for key, offsets in self.taken.items():
            if self.open.get(key, [])[:1] == offsets[:1]:
                self.saved[key] = offsets[-1]

    def tick(self) -> None:
        """Make a tick: the base, if it is drafted."""
        base = self.story.draft
        if base is not None and base.complete:
            base.settle()
            self.steps = None
        unsaved = [
            (offset, 0)
            for key, offsets in self.open.items()
            for offset in offsets
            if offset > self.saved.get(key, -1)
        ]
        closings, self.closings = self.closings, []
        views = {"acme": view(min(unsaved, default=None))}
        self.story.tick(snapshot(self.position, views, closings))
        for one in closings:
            [key] = [key for key in KEYS if digest(key) == one.window_key]
            self.ended[key] = one.last

    def judge(self) -> None:
        """Judge what an opening would find now."""
        found = self.story.folded().lanes["acme"]
        for key in KEYS:
            last = self.ended.get(key, (-1, 0))
            form = found.held.get(digest(key))
            if form is not None:
                assert last < (form["pieces"][0][0], 0), "a window comes back that was closed"
            if key in self.saved:
                kept = [] if form is None else [piece[0] for piece in form["pieces"]]
                saved = [o for o in self.open[key] if o <= self.saved[key]]
                assert kept == saved, "what counts as saved is not stored"
            if last >= found.need:
                assert last <= found.closed[digest(key)], "a replay would make a batch again"


ACTIONS = st.one_of(
    st.tuples(st.just("feed"), st.sampled_from(KEYS)),
    st.tuples(st.just("close"), st.sampled_from(KEYS)),
    st.tuples(st.just("step")),
    st.tuples(st.just("step")),
    st.tuples(st.just("tick")),
)


@settings(max_examples=300)
@given(st.lists(ACTIONS, max_size=40), st.sampled_from([1, 200, 1 << 20]))
def test_a_base_drafted_beside_ticks_and_closings_loses_nothing_and_revives_nothing(
    actions: list[tuple[str, ...]], part_bytes: int
) -> None:
    with mock.patch.object(states, "PART_BYTES", part_bytes):
        owner = Owner()
        for name, *arguments in actions:
            getattr(owner, name)(*arguments)
            owner.judge()


@pytest.mark.parametrize("when", range(6))
def test_a_window_drafted_and_closed_before_the_base_is_written_stays_closed(when: int) -> None:
    owner = Owner()
    for key in KEYS:
        owner.feed(key)
    for number in range(6):
        if number == when:
            owner.close("a")
            owner.tick()
        owner.step()
    owner.tick()
    owner.judge()
    assert owner.story.state.base_offset != 0
    assert {"b", "c"} == owner.saved.keys()


def test_a_base_is_written_by_the_tick_after_its_drafting_with_a_number_of_its_own() -> None:
    story = Story(acme=lane_state())
    story.tick(snapshot(5))
    story.draft = draft(story.state, {"acme": [held("a", 2)]})
    steps = story.draft.steps()
    next(steps)
    story.tick(snapshot(6))
    story.tick(snapshot(7))
    assert (3, 0) == (story.folded().n, story.state.base_offset)
    assert not list(steps)
    story.tick(snapshot(8))
    assert 1 + drafts.LEAP == story.folded().n == story.state.n
    story.tick(snapshot(9))
    assert (2 + drafts.LEAP, 9) == (story.folded().n, story.folded().read)


def test_a_delta_enters_what_closed_below_need_while_its_window_is_in_the_draft() -> None:
    story = Story(acme=lane_state())
    story.tick(snapshot(5))
    story.draft = draft(story.state, {"acme": [held("a", 2)]})
    next(story.draft.steps())
    story.tick(snapshot(9, closings=[closing("a", (2, 0)), closing("b", (3, 0))]))
    assert {digest("a"): (2, 0)} == story.folded().lanes["acme"].closed


def test_windows_taken_together_are_in_the_draft_before_anything_else_happens() -> None:
    class AllAtOnce(Saved):
        def take(self, limit_bytes: int) -> list[HeldWindow]:
            del limit_bytes
            taken, self.windows = self.windows, []
            return taken

    story = Story(acme=lane_state())
    story.tick(snapshot(5))
    story.draft = SnapshotBuilder(
        ORIGIN, story.state, {"acme": AllAtOnce(held("a", 1), held("b", 2))}
    )
    steps = story.draft.steps()
    next(steps)  # a is encoded, b is not; b closes now, below need
    story.tick(snapshot(9, closings=[closing("b", (2, 0))]))
    for _ in steps:
        pass
    story.tick(snapshot(9))
    assert {digest("a")} == story.folded().lanes["acme"].held.keys()


def test_a_draft_that_is_given_up_leaves_nothing_behind() -> None:
    story = Story(acme=lane_state())
    story.tick(snapshot(5))
    story.draft = complete(draft(story.state, {"acme": [held("a", 2)]}))
    story.draft = None
    story.tick(snapshot(9))
    assert (2, {}) == (story.folded().n, story.folded().lanes["acme"].held)


def test_a_million_entries_are_drafted_a_thousand_at_a_time() -> None:
    story = Story(acme=lane_state())
    story.tick(snapshot(5))
    many = {number.to_bytes(16): (5 + number, 0) for number in range(20 * CHUNK_ENTRIES)}
    story.state.index("acme").add(many)
    base = draft(story.state, {"acme": ()})
    assert 20 <= sum(1 for _ in base.steps())
    story.draft = base
    story.tick(snapshot(6))
    assert many == story.folded().lanes["acme"].closed


def test_what_closes_while_entries_are_drafted_is_left_to_the_tick_only_if_it_is_little() -> None:
    story = Story(acme=lane_state())
    story.tick(snapshot(5, {"acme": view((0, 0))}))
    story.draft = draft(story.state, {"acme": [held("z", 1)]})
    steps = story.draft.steps()
    many = {number.to_bytes(16): (5, number) for number in range(3 * CHUNK_ENTRIES)}
    next(steps, None)
    story.draft.note({"acme": many})
    assert not story.draft.complete
    list(steps)
    story.tick(snapshot(6, {"acme": view((0, 0))}))
    assert many.items() <= story.folded().lanes["acme"].closed.items()


def test_fields_of_a_later_release_on_a_window_are_written_again_for_that_window_alone() -> None:
    story = Story(acme=lane_state())
    story.tick(snapshot(5))
    story.state.odd["acme", digest("a")] = (700, {"tint": 4})
    story.state.odd["acme", digest("b")] = (699, {"tint": 5})
    story.base(snapshot(6), {"acme": [held("a", 1), held("b", 2)]})
    found = story.folded().lanes["acme"].held
    assert 4 == found[digest("a")]["tint"]
    assert "tint" not in found[digest("b")]
    story.base(snapshot(7))
    assert {} == story.state.odd


def test_a_lane_that_is_left_out_is_gone_and_no_longer_holds_the_watermark() -> None:
    story = Story(acme=lane_state((5, 0), 5))
    gone = lane_state((1, 0), 1)
    gone.closed = {digest("a"): (1, 0)}
    story.leave("gone", gone)
    story.tick(snapshot(5))
    assert 1 == story.marks[-1][0]
    story.draft = complete(draft(story.state, {"acme": ()}, ["gone"]))
    story.tick(snapshot(6))
    assert 6 == story.marks[-1][0]
    assert ["acme"] == list(story.folded().lanes) == list(story.state.lanes)
    assert {} == story.state.kept
    assert "gone" not in story.state.indexes


def test_a_lane_that_is_configured_and_not_fed_is_seen_at_a_base() -> None:
    story = Story(acme=lane_state(), idle=lane_state())
    story.tick(snapshot(5))
    snap = msgspec.structs.replace(snapshot(6), unfed=frozenset({"idle"}))
    assert 0 == story.folded().lanes["idle"].seen
    story.base(snap)
    assert snap.now_ms == story.folded().lanes["idle"].seen == story.state.lanes["idle"].seen


def test_a_base_of_many_parts_says_last_what_is_true_of_the_partition() -> None:
    with mock.patch.object(states, "PART_BYTES", 1):
        story = Story(acme=lane_state())
        story.tick(snapshot(5))
        story.draft = complete(draft(story.state, {"acme": [held("a", 1), held("b", 2)]}))
        story.tick(snapshot(9, end=7))
    folded = story.folded()
    assert (9, 7, 9) == (folded.read, folded.obend, folded.base_read)
    parts = [msgspec.msgpack.decode(packing.unpack(value)) for _, value in story.records]
    assert [0, 1, 2, 3] == [part["part"] for part in parts if part["n"] == folded.n]


def test_windows_of_an_unknown_lane_are_written_again_however_many_there_are() -> None:
    gone = LaneState(held={digest(k): states.window_form(held(k, n)) for n, k in enumerate(KEYS)})
    story = Story(acme=lane_state())
    story.leave("gone", gone)
    story.base(snapshot(5))
    story.base(snapshot(6))
    assert gone.held == {
        key: states.window_form(states.parse_window(form))
        for key, form in story.folded().lanes["gone"].held.items()
    }
