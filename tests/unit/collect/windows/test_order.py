"""Documents of one device that close at once leave in the order of their first events."""

from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder.collect.pipeline import Pipeline
from forwarder.collect.replay_filter import ReplayFilter
from forwarder.collect.windows.window import Window
from forwarder.config.connection import Batching
from forwarder.formats.ids import digest
from forwarder.model import LOWEST, Batch, Position
from tests import builders, streams
from tests.builders import NOW, START, Rec, connection, encoded, event, records, upload
from tests.unit.collect.windows.test_memory import small_blocks

_SESSIONS: dict[str, Any] = {"wait_for_complete_batch": True}
_PEOPLE = [None, {"email": "a"}, {"email": "b"}]


@st.composite
def shared(draw: st.DrawFn) -> list[Rec]:
    """Draw a stream of devices whose users change, some with an mpid."""
    drawn, time = [], START
    for i in range(draw(st.integers(1, 30))):
        time += draw(st.sampled_from([0, 1, 400, 1000, 5000, 30_000]))
        content = upload(
            *draw(st.lists(streams.events(), min_size=1, max_size=3)),
            device=draw(st.sampled_from(["a", "b"])),
            user_identities=draw(st.sampled_from(_PEOPLE)),
            mpid=draw(st.sampled_from([None, None, 0, 7])),
        )
        drawn.append(Rec(i, time, encoded(content)))
    return drawn


def in_order(batches: Iterable[Batch]) -> bool:
    """Tell whether no batch of a device begins before an earlier one of it began."""
    latest: dict[bytes, Position] = {}
    for batch in batches:
        if batch.first < latest.get(batch.key, LOWEST):
            return False
        latest[batch.key] = batch.first
    return True


def expired(pipeline: Pipeline, due: int, limit: int) -> list[Batch]:
    """Return all that closes at one moment, in slices."""
    found: list[Batch] = []
    while True:
        out = pipeline.expire(due, limit, NOW)
        found += out.batches
        if not out.closings:
            return found


_TIMES = st.builds(
    Batching,
    max_age_ms=st.sampled_from([1, 1000, 10_000]),
    max_events=st.integers(1, 6),
    session_timeout_ms=st.sampled_from([1000, 12_000, 60_000]),
    session_grace_ms=st.sampled_from([0, 2000]),
    session_max_ms=st.sampled_from([2000, 100_000]),
)


@settings(max_examples=400, deadline=None)
@given(
    shared(), st.sampled_from(streams.MODES[:2]), _TIMES, st.lists(st.integers(0, 9), max_size=20)
)
def test_batches_of_one_device_leave_in_order_however_polls_and_slices_are_cut(
    drawn: list[Rec], mode: dict[str, Any], times: Batching, cuts: list[int]
) -> None:
    pipeline = builders.pipeline(connection(batching=times, **mode))
    pipeline.compress_above(0)
    found: list[Batch] = []
    with small_blocks():
        for number, poll in enumerate(streams.cut(drawn, cuts)):
            found += pipeline.collect(poll, NOW).batches
            found += pipeline.expire(pipeline.clock + 500, number % 3, NOW).batches
            if number % 4 == 3:
                found += pipeline.shed(1, 1, NOW).batches
        found += pipeline.finish(NOW).batches
    assert in_order(found)


@settings(max_examples=400, deadline=None)
@given(shared(), _TIMES, st.integers(0, 40_000), st.integers(1, 3), st.sampled_from("efs"))
def test_what_closes_at_once_in_session_mode_leaves_in_order(
    drawn: list[Rec], times: Batching, later: int, limit: int, how: str
) -> None:
    pipeline = builders.pipeline(connection(batching=times, **_SESSIONS))
    pipeline.compress_above(0)
    with small_blocks():
        for one in drawn:
            pipeline.collect([one], NOW)
        waiting = pipeline.open_windows()
        if how == "e":
            found = expired(pipeline, pipeline.clock + later, limit)
        elif how == "f":
            found = pipeline.finish(NOW).batches
        else:
            found = []
            while out := pipeline.shed(1, limit, NOW).batches:
                found += out
    assert in_order(found)
    assert how == "e" or waiting == len(found)


@settings(max_examples=300, deadline=None)
@given(shared(), _TIMES, st.data())
def test_sessions_that_are_due_leave_in_order_before_what_comes_next(
    drawn: list[Rec], times: Batching, data: st.DataObject
) -> None:
    """One that is due closes at the device's next upload or at the end of a poll: either way."""
    pipeline = builders.pipeline(connection(batching=times, **_SESSIONS))
    for one in drawn:
        pipeline.collect([one], NOW)
    clock = pipeline.clock + data.draw(st.sampled_from([0, 1000, 2000, 12_000, 100_000]))
    last = encoded(upload(event(session_id=99), device="a", mpid=7))
    found = pipeline.collect([Rec(len(drawn), clock, last)], NOW).batches
    assert in_order(batch for batch in found if batch.first[0] < len(drawn))


def test_windows_saved_in_any_order_leave_in_order() -> None:
    stream = records(
        *(upload(event(session_id=n), user_identities=p) for n in (1, 2, 3) for p in _PEOPLE),
        step=1,
    )
    modes: list[dict[str, Any]] = [{}, _SESSIONS]
    for mode in modes:
        lane = connection(**mode)
        fed = builders.pipeline(lane)
        fed.collect(stream, NOW)
        held = builders.saved(fed, 99)[::-1]
        to = {digest(one.key): one.to for one in held}
        replay = ReplayFilter((9, 0), 9, {}, to, [(builders.keying_rule(lane), (0, 0))])
        again = builders.pipeline(lane, replay=replay, held=held)
        found = expired(again, NOW, 2)
        assert len(held) == len(found)
        assert in_order(found)


_PEOPLE_OF_ONE_DEVICE = [
    upload(event(n=n), device="d", user_identities={"email": f"e{n}"}) for n in range(500)
]


@pytest.mark.parametrize("how", ["finish", "expire", "size"])
def test_what_a_window_costs_to_close_does_not_grow_with_the_people_of_its_device(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = builders.pipeline(connection(batching=Batching(max_events=2)))
    pipeline.collect(records(*_PEOPLE_OF_ONE_DEVICE, step=1), NOW)
    looks, look = 0, Window.first_position

    def counted(window: Window) -> Position:
        nonlocal looks
        looks += 1
        return look(window)

    monkeypatch.setattr(Window, "first_position", counted)
    if how == "finish":
        found = pipeline.finish(NOW).batches
    elif how == "expire":
        found = expired(pipeline, NOW, 7)
    else:
        again = records(*_PEOPLE_OF_ONE_DEVICE, start=500, step=1)
        found = [batch for one in again for batch in pipeline.collect([one], NOW).batches]
    assert 500 == len(found)
    assert in_order(found)
    assert looks <= 4 * 500


def test_people_whose_windows_are_taken_up_in_any_order_close_in_order_with_new_ones() -> None:
    fed = builders.pipeline(connection())
    fed.collect(records(*_PEOPLE_OF_ONE_DEVICE[:9], step=1), NOW)
    held = builders.saved(fed, 99)
    replay = ReplayFilter((9, 0), 9, {}, {digest(one.key): one.to for one in held}, [])
    again = builders.pipeline(
        connection(batching=Batching(max_events=1)),
        read=9,
        replay=replay,
        held=[held[n] for n in (4, 8, 0, 2, 7, 1, 6, 3, 5)],
    )
    found = again.collect(records(_PEOPLE_OF_ONE_DEVICE[9], start=9), NOW).batches
    assert [(n, 0) for n in range(10)] == [batch.first for batch in found]


def test_sessions_due_in_one_second_leave_in_the_order_of_their_first_events() -> None:
    times = Batching(session_timeout_ms=12_000, session_grace_ms=2_000)
    turns: Sequence[tuple[int, str, list[tuple[str, str]]]] = [
        (0, "d1", [("session_start", "A")]),
        (11_400, "d1", [
            ("custom_event", "A"), ("session_end", "A"), ("session_start", "B"),
            ("application_state_transition", ""), ("session_end", "B"),
        ]),
        (12_600, "d3", [("session_start", "Y")]),
        (400_000, "d2", [("session_start", "X")]),
    ]  # fmt: skip
    drawn = [
        Rec(i, START + at, encoded(upload(*(event(k, session_uuid=s) for k, s in said), device=d)))
        for i, (at, d, said) in enumerate(turns)
    ]
    out = builders.run(connection(batching=times, **_SESSIONS), [[one] for one in drawn])
    found = [batch for batch in out.batches if batch.first[0] < 2]
    assert [(0, 0), (1, 2), (1, 3)] == [batch.first for batch in found]
