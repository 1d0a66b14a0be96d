"""However an upload is built, what it takes in memory and work is of the order of its bytes."""

import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from msgspec import Raw

from forwarder.connection import KinesisTarget
from forwarder.stages import context
from forwarder.stages.frame import Frame, Frames
from tests import builders, streams
from tests.builders import NOW, connection, event, records, upload

MIB = 1024 * 1024
KINESIS = KinesisTarget("s", "us-east-1")
GATHERING = [mode for mode in streams.MODES if mode.get("send_as_batch", True)]


def traced(work: Callable[[], object]) -> int:
    """Return by how many bytes a call passes at most what was taken before it."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        work()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


# --------------------------------------------------------------- what one poll keeps


@pytest.mark.parametrize("mode", GATHERING)
def test_small_uploads_beside_large_contexts_keep_no_copy_of_them(mode: dict[str, Any]) -> None:
    people, large = 4, "x" * 400_000
    pipeline = builders.pipeline(connection(sink=KINESIS, **mode))
    first = [upload(event(), device=f"d{n}", user_attributes={"a": large}) for n in range(people)]
    pipeline.collect(records(*first), NOW)
    small = [
        upload(event(), device=f"d{n % people}", deleted_user_attributes=[f"k{n}"])
        for n in range(20 * people)
    ]
    taken = traced(lambda: pipeline.collect(records(*small, start=people, step=1), NOW))
    assert taken <= 4 * people * len(large)


def test_lanes_alike_share_what_is_merged(monkeypatch: pytest.MonkeyPatch) -> None:
    merges, merge = 0, context.merge

    def counted(old: dict[str, Raw], new: dict[str, Raw]) -> dict[str, Raw]:
        nonlocal merges
        merges += 1
        return merge(old, new)

    monkeypatch.setattr(context, "merge", counted)
    fed = [upload(event(), deleted_user_attributes=[f"k{n}"]) for n in range(5)]
    builders.run([connection("a"), connection("b")], records(*fed))
    assert 4 == merges


# --------------------------------------------------------------- an upload in many parts


def test_an_upload_is_held_against_a_window_once_however_many_parts_it_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pipeline = builders.pipeline(connection(sink=KINESIS, wait_for_complete_batch=True))
    framed, frame = 0, Frames.frame

    def counted(self: Frames, context: bytes, identities_ms: int, newest_ms: int) -> Frame:
        nonlocal framed
        framed += 1
        return frame(self, context, identities_ms, newest_ms)

    monkeypatch.setattr(Frames, "frame", counted)
    sessions, uploads = 3, 4
    parts = [event(session_id=1 + n % sessions) for n in range(300)]
    fed = [upload(*parts, user_attributes={"a": "x" * 90_000, f"{n}": n}) for n in range(uploads)]
    pipeline.collect(records(*fed), NOW)
    assert sessions == pipeline.open_windows()
    assert framed <= uploads * (1 + sessions)  # once alone, then for each session


@pytest.mark.parametrize("size", [1, 40_000])
def test_an_upload_in_many_parts_tells_a_session_its_notifications_once(size: int) -> None:
    fed = [
        upload(*[event(session_id=1 + n % 2, n=n) for n in range(6)], system_notifications=[told])
        for told in ("a" * size, "b" * size)
    ]
    chosen = connection(sink=KINESIS, wait_for_complete_batch=True)
    out = builders.run(chosen, records(*fed))
    told = [one["system_notifications"] for one in builders.documents(out.batches)]
    assert [["a" * size, "b" * size]] * 2 == told
