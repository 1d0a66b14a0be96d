"""What is saved of windows in slices while they live on, and what is still unsaved."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder.collect.pipeline import Checkpoint, Pipeline
from forwarder.collect.replay_filter import ReplayFilter
from forwarder.collect.windows.window import Window
from forwarder.config.connection import Batching, Connection
from forwarder.model import CloseReason, HeldWindow, Position
from tests import builders, streams
from tests.builders import NOW, START, Rec, connection, event, records, upload
from tests.unit.collect.windows.test_memory import PATIENT, small_blocks, windows_of


def fed(devices: int = 2) -> Pipeline:
    """Return a pipeline with a window of one event for each device."""
    pipeline = builders.pipeline(PATIENT)
    pipeline.collect(records(*(upload(event(), device=f"d{i}") for i in range(devices))), NOW)
    return pipeline


def more(pipeline: Pipeline, offset: int, device: int = 0) -> None:
    """Give a device another event."""
    pipeline.collect(records(upload(event(), device=f"d{device}"), start=offset), NOW)


def positions(held: list[HeldWindow]) -> list[list[int]]:
    """Return the offsets that are stored of each window."""
    return [[piece[0] for piece in one.pieces] for one in held]


def drained(saving: Checkpoint, limit: int = 1) -> list[HeldWindow]:
    """Take all that is left, in slices."""
    found: list[HeldWindow] = []
    while taken := saving.take(limit):
        found += taken
    return found


def test_slices_together_are_all_windows_that_are_to_be_saved() -> None:
    pipeline = fed(5)
    saving = pipeline.begin_checkpoint("lane", 4)
    assert [[0]] == positions(saving.take(1))
    assert [[1], [2], [3]] == positions(saving.take(10**6))
    assert [] == saving.take(1)


def test_what_was_taken_is_unsaved_until_it_is_settled() -> None:
    pipeline = fed(2)
    saving = pipeline.begin_checkpoint("lane", 9)
    drained(saving)
    assert (0, 0) == pipeline.unsaved().get("lane")
    saving.settle()
    assert None is pipeline.unsaved().get("lane")


def test_events_after_the_taking_are_unsaved_once_it_is_settled() -> None:
    pipeline = fed(2)
    saving = pipeline.begin_checkpoint("lane", 9)
    assert [[0], [1]] == positions(drained(saving))
    more(pipeline, 2)
    more(pipeline, 3)
    assert (0, 0) == pipeline.unsaved().get("lane")
    saving.settle()
    assert (2, 0) == pipeline.unsaved().get("lane")
    again = pipeline.begin_checkpoint("lane", 2)
    assert [[0], [1]] == positions(drained(again))
    again.settle()
    assert (2, 0) == pipeline.unsaved().get("lane")
    last = pipeline.begin_checkpoint("lane", 3)
    assert [[0, 2, 3], [1]] == positions(drained(last))
    last.settle()
    assert None is pipeline.unsaved().get("lane")


def test_a_window_that_closed_in_between_is_forgotten() -> None:
    pipeline = fed(2)
    saving = pipeline.begin_checkpoint("lane", 9)
    saving.take(1)
    pipeline.shed(1, 1, NOW)
    assert [[1]] == positions(drained(saving))
    saving.settle()
    more(pipeline, 2)
    assert (2, 0) == pipeline.unsaved().get("lane")
    assert [[1]] == positions(drained(pipeline.begin_checkpoint("lane", 2)))


def test_a_slice_ends_after_so_many_closed_windows_too() -> None:
    pipeline = fed(100)
    saving = pipeline.begin_checkpoint("lane", 100)
    drained(saving)
    saving.settle()
    store = windows_of(pipeline)
    for window in list(store.open.values())[1:99]:
        store.shed(window)
    again = pipeline.begin_checkpoint("lane", 100)
    assert [[0]] == positions(again.take(1_000))
    assert [[99]] == positions(again.take(1_000))


def test_a_window_that_opened_in_between_waits_for_the_next_base() -> None:
    pipeline = fed(2)
    saving = pipeline.begin_checkpoint("lane", 2)
    saving.take(1)
    more(pipeline, 2, device=9)
    assert [[1]] == positions(drained(saving))
    saving.settle()
    assert (2, 0) == pipeline.unsaved().get("lane")


def test_a_saving_that_is_dropped_has_changed_nothing() -> None:
    pipeline = fed(2)
    drained(pipeline.begin_checkpoint("lane", 9))
    more(pipeline, 2)
    assert (0, 0) == pipeline.unsaved().get("lane")
    saving = pipeline.begin_checkpoint("lane", 9)
    assert [[0, 2], [1]] == positions(drained(saving))
    saving.settle()
    assert None is pipeline.unsaved().get("lane")


def test_a_saving_is_settled_only_whole_and_only_the_newest() -> None:
    pipeline = fed(2)
    saving = pipeline.begin_checkpoint("lane", 9)
    saving.take(1)
    with pytest.raises(RuntimeError, match="before all was taken"):
        saving.settle()
    pipeline.begin_checkpoint("lane", 9)
    with pytest.raises(RuntimeError, match="made this one void"):
        saving.take(1)


def test_settling_touches_no_window() -> None:
    pipeline = fed(3)
    saving = pipeline.begin_checkpoint("lane", 9)
    drained(saving)
    before = [one.saved for one in windows_of(pipeline).open.values()]
    saving.settle()
    assert [None] * 3 == before == [one.saved for one in windows_of(pipeline).open.values()]


def test_a_window_taken_up_again_is_saved_as_it_was() -> None:
    pipeline = fed(2)
    held = drained(pipeline.begin_checkpoint("lane", 9))
    again = builders.pipeline(PATIENT, replay=ReplayFilter((2, 0), 2))
    again.restore("lane", held[1:])
    again.restore("lane", held[:1])
    assert None is again.unsaved().get("lane")
    more(again, 2)
    assert (2, 0) == again.unsaved().get("lane")
    saving = again.begin_checkpoint("lane", 2)
    assert held == sorted(drained(saving), key=lambda one: one.opened)


def test_sessions_taken_up_again_in_any_order_are_told_apart() -> None:
    chosen = connection(wait_for_complete_batch=True)
    names = [f"s{n}" for n in range(4)]
    pipeline = builders.pipeline(chosen)
    pipeline.collect(records(*(upload(event(session_uuid=name)) for name in names), step=9), NOW)
    held = drained(pipeline.begin_checkpoint("lane", 9))
    assert 3 == sum(one.reason is CloseReason.SESSION_END for one in held)
    found = []
    for order in (held, held[::-1]):
        replay = ReplayFilter((4, 0), 4, keying=[("session-2", (0, 0))])
        again = builders.pipeline(chosen, replay=replay)
        for one in order:
            again.restore("lane", [one])
        again.collect(records(upload(ip="1"), start=4, at=START + 99), NOW)
        (device,) = windows_of(again)._devices.values()  # type: ignore[attr-defined]  # noqa: SLF001
        found.append((device.current, device.ended))
        informed = [b'"ip":"1"' in batch.payload for batch in again.finish(NOW).batches]
        assert [False, False, False, True] == sorted(informed)
    assert [(b'"s3"', [b'"s0"', b'"s1"', b'"s2"'])] * 2 == found


_STEPS = st.lists(
    st.one_of(
        st.integers(1, 4),
        st.sampled_from(["begin", "take", "take", "settle", "settle", "drop", "expire", "shed"]),
    ),
    max_size=40,
)
_LANES = st.sampled_from([PATIENT, connection(wait_for_complete_batch=True), connection()])


class Saved:
    """A pipeline of one lane, and what the last base holds of its windows."""

    def __init__(self, drawn: list[Rec], lane: Connection) -> None:
        self.pipeline = builders.pipeline(lane)
        self.drawn = drawn
        self.at = self.base_at = self.next_at = 0
        self.base: list[HeldWindow] = []
        self.draft: list[HeldWindow] = []
        self.saving: Checkpoint | None = None

    def step(self, step: Any) -> None:  # noqa: ANN401
        """Do what the step says, where it can be done."""
        if isinstance(step, int):
            self.pipeline.collect(self.drawn[self.at : self.at + step], NOW)
            self.at += step
        elif step == "expire":
            self.pipeline.expire(START + 60_000, 1)
        elif step == "shed":
            self.pipeline.shed(1, 1, NOW)
        elif step in {"drop", "begin"}:
            below = 2 * self.base_at
            self.saving = self.pipeline.begin_checkpoint("lane", below) if step == "begin" else None
            self.draft, self.next_at = [], self.at
        elif self.saving is not None:
            self.draft += self.saving.take(1) if step == "take" else drained(self.saving)
            if step == "settle":
                self.saving.settle()
                self.base, self.saving, self.base_at = self.draft, None, self.next_at

    def check(self) -> None:
        """Compare what is stored or still to be read with all that waits."""
        stored = {(held.key, held.pieces[0][:2]): held for held in self.base if held.pieces}
        first = self.pipeline.unsaved().get("lane")
        for window in windows_of(self.pipeline).open.values():
            pieces = window.all_pieces()
            waiting = [(piece[0], piece[1]) for piece in pieces]
            held = stored.get((window.key, waiting[0]))
            kept = [] if held is None else [(piece[0], piece[1]) for piece in held.pieces]
            assert kept == waiting[: len(kept)]
            assert all(first is not None and p >= first for p in waiting[len(kept) :])
            self._check_context(window, held, first)

    def _check_context(
        self, window: Window, held: HeldWindow | None, first: Position | None
    ) -> None:
        """See that an upload which changed the context alone is read again, too."""
        if held is None or window.touched > held.to:
            assert first is not None
            assert first <= window.touched


@settings(max_examples=400, deadline=None)
@given(streams.streams(most=40), _LANES, _STEPS)
def test_what_is_saved_and_what_is_unsaved_is_all_that_waits(
    drawn: list[Rec], lane: Connection, steps: list[Any]
) -> None:
    with small_blocks():
        model = Saved(drawn, lane)
        for step in steps:
            model.step(step)
            model.check()


def test_a_narrowed_filter_settles_a_saved_piece_whole() -> None:
    wide, narrow = connection(), connection(send_screen_views=False)
    fed = builders.pipeline(wide)
    fed.collect(records(upload(event(n=1), event("screen_view", n=2)), start=5), NOW)
    [held] = builders.saved(fed, 100)
    again = builders.pipeline(narrow, read=6, replay=ReplayFilter((6, 0), 6), held=[held])
    [closing] = again.finish(NOW).closings
    # The batch ends at (5, 0); a piece that reaches beyond what is settled would come again.
    assert (5, 1) == closing.last


def test_a_window_taken_up_with_more_events_than_a_size_set_since_is_closed_first() -> None:
    large, small = (connection(batching=Batching(max_events=most)) for most in (100, 3))
    fed = builders.pipeline(large)
    fed.collect(records(upload(*(event(n=n) for n in range(8)))), NOW)
    [held] = builders.saved(fed, 100)
    again = builders.pipeline(small, read=1, replay=ReplayFilter((1, 0), 1), held=[held])
    out = again.collect(records(upload(*(event(n=n) for n in range(8, 16))), start=1), NOW)
    assert [8, 3, 3] == [batch.count for batch in out.batches]
    [rest] = again.finish(NOW).batches
    documents = [json.loads(batch.payload)["events"] for batch in [*out.batches, rest]]
    numbers = [one["data"]["n"] for document in documents for one in document]
    assert [*range(16)] == numbers


def test_what_is_stored_of_one_large_upload_is_cut_between_its_events() -> None:
    came = [event(n=n, text="x" * 300_000) for n in range(9)]
    pipeline = builders.pipeline(PATIENT)
    pipeline.collect(records(upload(*came), upload(event(n=9))), NOW)
    (held,) = builders.saved(pipeline, 99)
    assert [3, 3, 3, 1] == [piece[2] for piece in held.pieces]
    assert [(0, 0), (0, 3), (0, 6), (1, 0)] == [(piece[0], piece[1]) for piece in held.pieces]
    again = builders.pipeline(
        PATIENT, read=2, replay=builders.replay(read=2, need=(2, 0)), held=[held]
    )
    (batch,) = again.finish(NOW).batches
    (expected,) = pipeline.finish(NOW).batches
    assert expected.payload == batch.payload
