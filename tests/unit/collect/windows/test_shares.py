"""What the windows of several lanes hold together counts once, and exactly so at every moment."""

from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder.collect.lane import CollectBounds
from forwarder.collect.pipeline import Pipeline
from forwarder.collect.windows import tails
from forwarder.collect.windows.shares import (
    ENTRY_BYTES,
    LIST_SLOT_BYTES,
    MOST_HOLDERS,
    NOTHING_FRESH,
    Shares,
    are_spread,
    make_shares,
)
from forwarder.collect.windows.tails import TailSizes
from forwarder.collect.windows.window import PIECE_OVERHEAD_BYTES
from forwarder.config.connection import Batching, Connection, Match
from forwarder.model import HeldWindow, Piece
from tests import builders, cores, streams
from tests.builders import NOW, START, Rec, connection, event, records, upload
from tests.unit.collect.windows.test_memory import small_blocks, small_packs

core = cores.core

HOUR = Batching(max_age_ms=3_600_000, max_events=10**6)
TEN = tuple(connection(f"lane{number}", batching=HOUR) for number in range(10))


def shares_of(pipeline: Pipeline) -> Shares:
    """Return what a pipeline's lanes share."""
    return pipeline._busy._shares  # noqa: SLF001  # nobody else sees what is entered


def held_pieces(pipeline: Pipeline) -> list[Piece]:
    """Return the pieces in the tails of all open windows of all lanes."""
    return [
        piece
        for lane in pipeline._lanes.values()  # noqa: SLF001
        for window in lane.windows.open.values()
        for piece in window.tail_pieces()
    ]


def check(pipeline: Pipeline) -> None:
    """Compare what is entered with what all tails hold, and the estimate with both."""
    shares, pieces = shares_of(pipeline), held_pieces(pipeline)
    holders = Counter(map(id, pieces))
    once = {id(piece): piece for piece in pieces}
    entered = {key: shares.holders(piece) for key, piece in once.items()}
    assert len(shares) == sum(count > 0 for count in entered.values())
    for key, count in holders.items():
        assert entered[key] in ({count} if count > 1 else {0, 1})
    plain = PIECE_OVERHEAD_BYTES - LIST_SLOT_BYTES
    saved = sum((count - 1) * (plain + len(once[key][4])) for key, count in holders.items())
    assert shares.saved == saved - ENTRY_BYTES * len(shares)
    lanes = pipeline._lanes.values()  # noqa: SLF001
    assert pipeline.memory_bytes() == sum(one.memory_bytes() for one in lanes) - shares.saved
    assert all(one.memory_bytes() <= pipeline.memory_bytes() for one in lanes)


MATCHES = st.sampled_from([Match(), Match(), Match(environment=frozenset({"production"}))])
CONNECTIONS = st.lists(
    st.builds(
        lambda batching, match, **chosen: connection(batching=batching, match=match, **chosen),
        st.just(HOUR) | streams.BATCHINGS,
        MATCHES,
        wait_for_complete_batch=st.booleans(),
        send_as_batch=st.sampled_from([True, True, True, False]),
        send_screen_views=st.booleans(),
        include_location_information=st.booleans(),
    ),
    min_size=2,
    max_size=6,
).map(lambda found: [replace(one, name=f"lane{number}") for number, one in enumerate(found)])
STEPS = st.lists(
    st.sampled_from([1, 2, 3, 5, "take", "settle", "shed", "expire", "short", "restore"]),
    max_size=25,
)


@pytest.mark.parametrize("which", cores.chosen())
@settings(max_examples=150, deadline=None)
@given(
    streams.streams(),
    CONNECTIONS,
    STEPS,
    st.sampled_from(["plain", "blocks", "packs", "pack"]),
)
def test_what_is_shared_is_what_the_tails_hold_together(
    which: str, drawn: list[Rec], chosen: list[Connection], steps: list[Any], how: str
) -> None:
    if which == cores.NATIVE and not cores.is_built():
        pytest.skip("the native core is not built")
    sizes: dict[str, AbstractContextManager[None]] = {
        "plain": nullcontext(), "blocks": small_blocks(), "packs": small_packs(2),
    }  # fmt: skip
    with cores.on(which), sizes.get(how) or small_packs():
        _take_steps(drawn, chosen, steps)


def _take_steps(drawn: list[Rec], chosen: list[Connection], steps: list[Any]) -> None:
    pipeline, at, held = builders.pipeline(*chosen), 0, list[HeldWindow]()
    name = chosen[0].name
    saving = pipeline.begin_checkpoint(name, 0)
    for step in steps:
        if isinstance(step, int):
            pipeline.collect(drawn[at : at + step], NOW)
            at += step
        elif step == "take":
            saving = pipeline.begin_checkpoint(name, 2 * at - 3)
            held = saving.take(10**9)
        elif step == "settle" and not saving.take(10**9):
            saving.settle()
        elif step == "shed":
            pipeline.shed(700, 3, NOW)
        elif step == "short":
            pipeline.compress_above(0)
        elif step == "restore":
            pipeline = builders.pipeline(*chosen)
            pipeline.restore(name, held)
            saving = pipeline.begin_checkpoint(name, 0)
        else:
            pipeline.expire(START + 50_000, 1)
        check(pipeline)
    pipeline.finish(NOW)
    while pipeline.has_pending_documents:
        pipeline.expire(NOW, 100)
    assert (0, 0, 0) == (
        len(shares_of(pipeline)), shares_of(pipeline).saved, pipeline.memory_bytes()
    )  # fmt: skip


def test_what_nobody_entered_is_passed_over(core: str) -> None:
    shares, piece = make_shares(), (1, 0, 1, 0, b"body")
    assert (type(shares) is Shares) == (core == cores.PYTHON)
    shares.release([piece])
    assert (0, 0, 0) == (len(shares), shares.saved, shares.holders(piece))


def test_ten_equal_lanes_take_little_more_than_one(core: str) -> None:
    polls = [records(*(upload(event(text="x" * 700)) for _ in range(30)))]
    one, ten = builders.pipeline(TEN[0]), builders.pipeline(*TEN)
    for pipeline in (one, ten):
        for poll in polls:
            pipeline.collect(poll, NOW)
    assert core
    assert one.memory_bytes() < ten.memory_bytes() < 1.6 * one.memory_bytes()
    check(ten)


@pytest.mark.parametrize("in_sessions", [0, 1, 2])
def test_usual_uploads_are_entered_by_windows_of_devices_and_of_sessions(
    core: str, in_sessions: int
) -> None:
    lanes = [
        connection(f"lane{number}", batching=HOUR, wait_for_complete_batch=number < in_sessions)
        for number in range(2)
    ]
    pipeline = builders.pipeline(*lanes)
    for start in (0, 3):
        uploads = [upload(event(session_uuid="s"), device=f"d{i}") for i in range(3)]
        pipeline.collect(records(*uploads, start=start), NOW)
        check(pipeline)
    assert core
    assert (12, 6) == (len(held_pieces(pipeline)), len(shares_of(pipeline)))


def test_where_no_upload_goes_to_several_lanes_nothing_is_entered(core: str) -> None:
    apart = [
        connection(app, batching=HOUR, match=Match(application=frozenset({app}))) for app in "ab"
    ]
    pipeline = builders.pipeline(*apart)
    uploads = [upload(event(), application_info={"package": app}) for app in "abab"]
    pipeline.collect(records(*uploads), NOW)
    assert core
    assert 4 == len(held_pieces(pipeline))
    assert 0 == len(shares_of(pipeline))


def test_what_a_filter_makes_for_a_lane_is_not_entered(core: str) -> None:
    lanes = [TEN[0], connection("other", batching=HOUR, send_screen_views=False)]
    pipeline = builders.pipeline(*lanes)
    uploads = records(upload(event(), event("screen_view")), upload(event()))
    pipeline.collect(uploads, NOW)
    assert core
    shares = shares_of(pipeline)
    found = sorted((piece[0], shares.holders(piece)) for piece in held_pieces(pipeline))
    assert [(0, 0), (0, 1), (1, 2), (1, 2)] == found
    check(pipeline)


def _short(lanes: int, packed: int = 4) -> Pipeline:
    """Return a pipeline of lanes with windows of one event, after memory became short."""
    pipeline = builders.pipeline(*TEN[:lanes], bounds=CollectBounds(tails=TailSizes(packed=packed)))
    pipeline.compress_above(0)
    for start in range(0, 40, 8):
        uploads = [upload(event(text="x" * 300), device=f"d{start + i}") for i in range(8)]
        pipeline.collect(records(*uploads, start=start), NOW)
        check(pipeline)
    return pipeline


def _packed(pipeline: Pipeline) -> int:
    return sum(
        window.pack is not None
        for lane in pipeline._lanes.values()  # noqa: SLF001
        for window in lane.windows.open.values()
    )


@pytest.mark.parametrize("lanes", [1, 2, MOST_HOLDERS])
def test_what_few_hold_is_packed(core: str, lanes: int) -> None:
    assert core
    assert 30 * lanes < _packed(_short(lanes))


def test_what_many_hold_waits_plain_until_few_are_left(core: str) -> None:
    pipeline = _short(10)
    assert core
    assert 0 == _packed(pipeline)
    for number in range(8):  # their windows close
        for window in list(pipeline._lanes[f"lane{number}"].windows.open.values()):  # noqa: SLF001
            pipeline._lanes[f"lane{number}"].windows.shed(window)  # noqa: SLF001
            pipeline._busy.note(number)  # noqa: SLF001
    for start in range(40, 60, 2):
        pipeline.collect(records(upload(event(), device=f"e{start}"), start=start), NOW)
    assert 2 * 30 < _packed(pipeline)
    check(pipeline)


def test_a_tail_that_many_hold_stays_plain() -> None:
    uploads = records(*(upload(event(text="x" * 500)) for _ in range(400)))
    few, many = builders.pipeline(*TEN[:2]), builders.pipeline(*TEN)
    for pipeline in (few, many):
        pipeline.collect(uploads, NOW)
        check(pipeline)
    assert 2 * 100 > len(held_pieces(few))
    assert 10 * 400 == len(held_pieces(many))
    assert [400] * 10 == [batch.count for batch in many.finish(NOW).batches]


def test_shedding_what_is_shared_ends_where_memory_is_enough(core: str) -> None:
    pipeline = _short(10)
    before = pipeline.memory_bytes()
    out = pipeline.shed(before // 2, 10**6, NOW)
    assert core
    assert before // 2 - 20_000 < pipeline.memory_bytes() <= before - before // 2
    assert 100 < len(out.closings) < 400
    check(pipeline)
    while pipeline.shed(1, 7, NOW).closings:
        check(pipeline)
    assert 0 == pipeline.memory_bytes()


def test_a_few_pieces_tell_whether_a_tail_is_spread() -> None:
    shares = Shares()
    pieces: list[Piece] = [(number, 0, 1, 0, b"") for number in range(100)]
    assert not are_spread(shares, [])
    for _ in range(MOST_HOLDERS):
        list(map(shares.take, pieces))
    assert not are_spread(shares, pieces)
    list(map(shares.take, pieces[:40]))
    assert not are_spread(shares, pieces)
    list(map(shares.take, pieces[40:70]))
    assert are_spread(shares, pieces)
    assert are_spread(shares, pieces[:1])


def test_what_of_a_poll_all_lanes_are_about_to_hold_counts_as_spread() -> None:
    shares, piece = Shares(), (7, 0, 1, 0, b"")
    shares.take(piece)
    found = []
    for shares.fresh_from in (7, 8, NOTHING_FRESH):
        found.append(are_spread(shares, [piece]))
    assert [True, False, False] == found


def test_memory_is_enough_as_long_as_what_is_shared_counts_once(core: str) -> None:
    """A lane alone never thinks memory short while all together have enough."""
    pipeline = builders.pipeline(*TEN, bounds=CollectBounds(tails=TailSizes(packed=4)))
    pipeline.compress_above(tails.ENOUGH_MEMORY_BYTES)
    uploads = [upload(event(text="x" * 300), device=f"d{i}") for i in range(40)]
    pipeline.collect(records(*uploads), NOW)
    most = pipeline.memory_bytes() + 1
    pipeline.compress_above(most)
    for lane in pipeline._lanes.values():  # noqa: SLF001
        assert lane.windows._tails._compress_above >= lane.windows.memory  # noqa: SLF001
    pipeline.compress_above(most - 2)
    for lane in pipeline._lanes.values():  # noqa: SLF001
        assert lane.windows._tails._compress_above < lane.windows.memory  # noqa: SLF001
    assert core
