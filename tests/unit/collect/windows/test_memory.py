"""How windows wait: what they take, what becomes of long ones, which go when memory is short."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder.collect import pipeline as flow
from forwarder.collect.lane import CollectBounds
from forwarder.collect.pipeline import Pipeline
from forwarder.collect.replay_filter import ReplayFilter
from forwarder.collect.windows import tails
from forwarder.collect.windows.eviction import rank_of
from forwarder.collect.windows.queues import CHUNK_ENTRIES
from forwarder.collect.windows.store import WindowStore
from forwarder.collect.windows.tails import TailSizes
from forwarder.config.connection import Batching, Connection
from forwarder.model import Batch, CloseReason, Collected, HeldWindow
from tests import builders, streams
from tests.builders import NOW, START, Json, Rec, connection, event, records, upload

PATIENT = connection(batching=Batching(max_age_ms=10**12, max_events=10**6))
MANY = settings(max_examples=150, deadline=None)


@contextmanager
def small_blocks(first_look: int = 1, **bounds: int) -> Iterator[None]:
    """Make a block of every few hundred bytes in all pipelines that begin."""
    sizes = TailSizes(first_look=first_look, short=500, long=500)
    with mock.patch.object(flow, "BOUNDS", CollectBounds(tails=sizes, **bounds)):
        yield


@contextmanager
def small_packs(packed: int = 1) -> Iterator[None]:
    """Pack windows at once, so many together, in all pipelines that begin."""
    bounds = CollectBounds(tails=TailSizes(packed=packed, first_look=1000))
    with (
        mock.patch.object(flow, "BOUNDS", bounds),
        mock.patch.object(tails, "ENOUGH_MEMORY_BYTES", 0),
    ):
        yield


def windows_of(pipeline: Pipeline, lane: str = "lane") -> WindowStore:
    """Return a lane's windows."""
    return pipeline._lanes[lane].windows  # noqa: SLF001  # how they wait is not to be seen outside


def stored_bytes(open_windows: WindowStore) -> int:
    """Return the bytes of everything the windows hold, headers and numbers left out."""
    size = 0
    for one in open_windows.open.values():
        size += len(one.key) + len(one.context) + sum(len(piece[4]) for piece in one.tail_pieces())
        size += sum(len(block.packed) for block in one.blocks or ())
        size += len(one.saved.context or b"") if one.saved else 0
        size += len(one.pending.part.context or b"") if one.pending else 0
    size += sum(
        len(one.packed)
        for one in {
            id(one.pack): one.pack for one in open_windows.open.values() if one.pack
        }.values()
    )
    return size


def padded(size: int, device: str = "d1") -> Json:
    """Return an upload of one event of about so many bytes that do not compress."""
    text = "".join(f"{i * 2654435761 % 2**32:08x}" for i in range(size // 8))
    return upload(event(pad=text), device=device)


def plain(batches: list[Batch]) -> list[tuple[object, ...]]:
    """Return the batches so that they can be compared."""
    return [msgspec.structs.astuple(batch) for batch in batches]


_CONNECTIONS = st.builds(
    lambda mode, batching: connection(batching=batching, **mode),
    st.sampled_from(streams.MODES),
    st.one_of(streams.BATCHINGS, st.just(Batching())),
)


@MANY
@given(streams.streams(), _CONNECTIONS)
def test_blocks_change_no_byte_of_any_batch(drawn: list[Rec], chosen: Connection) -> None:
    expected = builders.run(chosen, drawn)
    with small_blocks():
        found = builders.run(chosen, drawn)
    assert plain(expected.batches) == plain(found.batches)
    assert [letter.value for letter in expected.dead_letters] == [
        letter.value for letter in found.dead_letters
    ]


@MANY
@given(
    streams.streams(),
    _CONNECTIONS,
    st.lists(st.integers(1, 6), max_size=9),
    st.sampled_from([1, 2, 3]),
)
def test_packs_change_no_byte_of_any_batch(
    drawn: list[Rec], chosen: Connection, cuts: list[int], packed: int
) -> None:
    polls = streams.cut(drawn, cuts)
    expected = builders.run(chosen, polls)
    with small_packs(packed):
        found = builders.run(chosen, polls)
    assert plain(expected.batches) == plain(found.batches)
    assert [letter.value for letter in expected.dead_letters] == [
        letter.value for letter in found.dead_letters
    ]


def steps_done(
    drawn: list[Rec], chosen: Connection, steps: list[Any]
) -> tuple[list[HeldWindow], list[Batch]]:
    """Return what is saved of a stream, and its batches."""
    pipeline, at, held, outs = builders.pipeline(chosen), 0, list[HeldWindow](), list[Collected]()
    saving = pipeline.begin_checkpoint("lane", 0)
    for step in steps:
        if isinstance(step, int):
            outs.append(pipeline.collect(drawn[at : at + step], NOW))
            at += step
        elif step == "take":
            saving = pipeline.begin_checkpoint("lane", 2 * at - 3)
            held += saving.take(10**9)
        elif step == "settle" and not saving.take(10**9):
            saving.settle()
        else:
            outs.append(pipeline.expire(START + 50_000, 1))
    return held, [*builders.merged([*outs, pipeline.finish(NOW)]).batches]


@MANY
@given(
    streams.streams(),
    _CONNECTIONS,
    st.lists(st.sampled_from([1, 2, 3, "take", "settle", "expire"]), max_size=25),
    st.sampled_from([1, 2]),
)
def test_packs_change_no_byte_of_what_is_saved(
    drawn: list[Rec], chosen: Connection, steps: list[Any], packed: int
) -> None:
    expected = steps_done(drawn, chosen, steps)
    with small_packs(packed):
        assert expected == steps_done(drawn, chosen, steps)


@MANY
@given(
    streams.streams(),
    _CONNECTIONS,
    st.lists(st.sampled_from([1, 2, 3, "take", "settle", "shed", "expire"]), max_size=25),
    st.sampled_from([0, 1, 2500]),
)
def test_the_estimate_is_exact_in_its_terms_and_never_below_the_bytes_kept(
    drawn: list[Rec], chosen: Connection, steps: list[Any], first_look: int
) -> None:
    with small_blocks(first_look) if first_look else small_packs(2):
        pipeline, at = builders.pipeline(chosen), 0
        found = windows_of(pipeline)
        saving = pipeline.begin_checkpoint("lane", 0)
        for step in steps:
            if isinstance(step, int):
                pipeline.collect(drawn[at : at + step], NOW)
                at += step
            elif step == "take":
                saving = pipeline.begin_checkpoint("lane", 2 * at - 3)
                saving.take(10**9)
            elif step == "settle" and not saving.take(10**9):
                saving.settle()
            elif step == "shed":
                pipeline.shed(1, 1, NOW)
            else:
                pipeline.expire(START + 50_000, 1)
            for one in list(found.open.values()):
                found._resolve(one)  # noqa: SLF001  # what a settled part weighs shows then
            for one in found.open.values():
                assert one.memory_bytes() == one.weight
            weights = sum(one.weight for one in found.open.values())
            assert weights + found.beside == pipeline.memory_bytes()
            assert stored_bytes(found) <= pipeline.memory_bytes()
    pipeline.finish(NOW)
    assert (0, 0) == (pipeline.memory_bytes(), pipeline.waiting_bytes())


def test_a_long_tail_is_kept_compressed() -> None:
    pipeline = builders.pipeline(PATIENT)
    pipeline.collect(records(*(upload(event(text="x" * 500)) for _ in range(400))), NOW)
    assert 400 * 500 < pipeline.waiting_bytes()
    assert pipeline.waiting_bytes() // 4 > pipeline.memory_bytes()
    (batch,) = pipeline.finish(NOW).batches
    assert ((0, 0), (399, 0), 400) == (batch.first, batch.last, batch.count)


def test_a_short_tail_is_compressed_only_where_memory_is_short() -> None:
    uploads = records(*(upload(event(text="x" * 500)) for _ in range(24)))
    roomy, short = builders.pipeline(PATIENT), builders.pipeline(PATIENT)
    short.compress_above(0)
    assert [[], []] == [one.collect(uploads, NOW).batches for one in (roomy, short)]
    assert roomy.waiting_bytes() == short.waiting_bytes()
    assert roomy.memory_bytes() > 2 * short.memory_bytes()
    assert roomy.finish(NOW).batches == short.finish(NOW).batches


def test_a_poll_compresses_only_so_much_and_the_next_one_the_rest() -> None:
    bounds = CollectBounds(tails=TailSizes(at_once=100_000))
    pipeline = builders.pipeline(PATIENT, bounds=bounds)
    half = [padded(20_000, f"d{device}") for device in range(9)]
    pipeline.collect(records(*half), NOW)
    open_windows = windows_of(pipeline).open

    def compressed() -> int:
        return sum(one.blocks is not None for one in open_windows.values())

    pipeline.collect(records(*half, start=9), NOW)
    assert 3 == compressed()
    pipeline.collect(records(*(upload(event(), device=f"d{i}") for i in range(9)), start=18), NOW)
    assert 6 == compressed()
    (batch,) = [one for one in pipeline.finish(NOW).batches if one.first == (8, 0)]
    assert (8, 0, 3) == (*batch.first, batch.count)


def packed(pipeline: Pipeline) -> list[int]:
    """Return the first offsets of the windows that are in packs."""
    found = [one for one in windows_of(pipeline).open.values() if one.pack is not None]
    return sorted(one.first_position()[0] for one in found)


def test_a_poll_looks_only_at_so_many_windows_that_cannot_be_packed() -> None:
    sizes = TailSizes(packed=1, at_once=8 * tails._LOOK_BYTES)  # noqa: SLF001  # no trace outside
    pipeline = builders.pipeline(PATIENT, bounds=CollectBounds(tails=sizes))
    many = [upload(*[event(text="x" * 200) for _ in range(100)], device=f"m{i}") for i in range(60)]
    pipeline.collect(records(*many, upload(event(), device="one")), NOW)
    pipeline.compress_above(0)
    looked = list[int]()
    while not packed(pipeline):
        before = len(windows_of(pipeline)._unpacked)  # noqa: SLF001
        pipeline.collect(records(upload(event()), start=61 + len(looked), at=START + 10**6), NOW)
        looked.append(before - len(windows_of(pipeline)._unpacked))  # noqa: SLF001
    assert len(looked) >= 4
    assert max(looked) < 20


@pytest.mark.parametrize(("memory", "expected"), [(0, [0, 1, 2]), (2000, [1, 2])])
def test_what_closes_soon_is_packed_only_where_memory_is_very_short(
    memory: int, expected: list[int]
) -> None:
    sizes = TailSizes(packed=1)
    aged = connection(batching=Batching(max_age_ms=600_000))
    pipeline = builders.pipeline(aged, bounds=CollectBounds(tails=sizes))
    uploads = [upload(event(), device=f"d{i}") for i in range(3)]
    pipeline.collect(records(uploads[0], uploads[1], step=200_000), NOW)
    pipeline.compress_above(memory)
    pipeline.collect(records(uploads[2], start=2, at=START + 400_000), NOW)
    assert expected == packed(pipeline)


def test_a_saved_window_is_not_kept_twice() -> None:
    pipeline = builders.pipeline(PATIENT)
    pipeline.collect(records(*(padded(1000) for _ in range(100))), NOW)
    before = pipeline.memory_bytes()
    saving = pipeline.begin_checkpoint("lane", 1)
    assert [100] == [len(held.pieces) for held in saving.take(1)]
    assert [] == saving.take(1)
    saving.settle()
    assert before + 1000 > pipeline.memory_bytes()


def shed(pipeline: Pipeline, wanted: int, limit: int = 10**6) -> list[int]:
    """Return the first offsets of the windows that were closed, in order."""
    out: Collected = pipeline.shed(wanted, limit, NOW)
    assert {CloseReason.MEMORY} >= {batch.reason for batch in out.batches}
    return [batch.first[0] for batch in out.batches]


def test_of_windows_alike_the_oldest_go() -> None:
    pipeline = builders.pipeline(PATIENT)
    pipeline.collect(records(*(upload(event(), device=f"d{i}") for i in range(9))), NOW)
    assert [0, 1, 2] == shed(pipeline, pipeline.memory_bytes() // 9 * 2 + 9)
    assert [3] == shed(pipeline, 1)
    assert 5 == pipeline.open_windows()


def test_an_old_large_window_goes_before_young_ones_and_before_small_ones() -> None:
    pipeline = builders.pipeline(PATIENT)
    tiny = [upload(event(), device=f"d{i}") for i in range(3)]
    pipeline.collect(records(tiny[0], padded(30_000, "large"), tiny[1], tiny[2]), NOW)
    assert [1, 0] == shed(pipeline, 32_000)
    assert 2 == pipeline.open_windows()


def test_a_window_that_grew_goes_as_a_large_one() -> None:
    pipeline = builders.pipeline(PATIENT)
    uploads = [upload(event(), device="d1"), *(padded(900, "d2") for _ in range(16))]
    pipeline.collect(records(*uploads), NOW)
    assert [1] == shed(pipeline, 1)


def test_no_more_than_the_limit_are_closed_at_once() -> None:
    pipeline = builders.pipeline(PATIENT)
    pipeline.collect(records(*(upload(event(), device=f"d{i}") for i in range(9))), NOW)
    assert [0, 1] == shed(pipeline, 10**9, 2)
    assert ([], []) == (shed(pipeline, 0), shed(pipeline, 5, 0))
    assert 7 == len(shed(pipeline, 10**9))
    assert [] == shed(pipeline, 1)


def test_the_largest_old_window_of_all_lanes_goes_first() -> None:
    small = connection("small", send_custom_events=False, batching=PATIENT.batching)
    pipeline = builders.pipeline(small, PATIENT)
    pipeline.collect(records(upload(event("profile")), padded(20_000, "d2")), NOW)
    assert 1 == pipeline.open_windows("small")
    out = pipeline.shed(1, 9, NOW)
    assert [("lane", (1, 0))] == [(batch.lane, batch.first) for batch in out.batches]
    assert {("lane", CloseReason.MEMORY): 1} == out.closed


@MANY
@given(
    st.lists(st.tuples(st.integers(0, 5), st.sampled_from([10, 3000, 9000, 40_000])), max_size=30),
    st.lists(st.sampled_from([1, 5000, 50_000]), max_size=6),
)
def test_none_goes_while_one_as_old_and_of_as_large_a_class_is_open(
    fed: list[tuple[int, int]], wanted: list[int]
) -> None:
    pipeline = builders.pipeline(PATIENT)
    pipeline.collect(records(*(padded(size, f"d{device}") for device, size in fed)), NOW)
    found = windows_of(pipeline)
    for size in wanted:
        before = {one.key: (one.opened, one.size_class) for one in found.open.values()}
        pipeline.shed(size, 1, NOW)
        gone = [before[key] for key in before.keys() - found.open]
        assert len(gone) == min(len(before), 1)
        for opened, rank in gone:
            assert not any(
                one.opened < opened and one.size_class >= rank for one in found.open.values()
            )


@pytest.mark.parametrize(
    ("expected", "weight"), [(0, 0), (0, 4095), (1, 4096), (1, 16383), (2, 16384), (5, 2**20)]
)
def test_a_class_is_four_times_the_one_below(expected: int, weight: int) -> None:
    assert expected == rank_of(weight)


def test_windows_taken_up_again_in_any_order_have_their_age_and_their_turn() -> None:
    first = builders.pipeline(PATIENT)
    first.collect(records(*(upload(event(), device=f"d{i}") for i in range(6))), NOW)
    held = builders.saved(first, 9)
    again = builders.pipeline(PATIENT, replay=ReplayFilter((6, 0), 6))
    _resume(again, held[3:], held[:1], held[1:3])
    assert START == again.oldest_opened()
    again.collect(records(upload(event(), device="new"), start=6, at=START + 6000), NOW)
    assert [0, 1, 2, 3, 4, 5, 6] == shed(again, 10**9)


def test_windows_that_closed_early_are_forgotten_long_before_their_deadline() -> None:
    pipeline, found = builders.pipeline(PATIENT), 10 * CHUNK_ENTRIES
    pipeline.collect(records(*(upload(event(), device=f"d{i}") for i in range(found)), step=1), NOW)
    assert found - 3 == len(pipeline.shed(10**9, found - 3, NOW).closings)
    buckets = windows_of(pipeline)._deadlines._buckets.values()  # noqa: SLF001  # no trace outside
    assert 3 * CHUNK_ENTRIES > sum(len(bucket.windows) for bucket in buckets)


def _resume(pipeline: Pipeline, *slices: list[HeldWindow]) -> None:
    for held in slices:
        pipeline.restore("lane", held)
