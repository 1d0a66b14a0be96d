"""However an upload is built, what it takes in memory and work is of the order of its bytes."""

import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from msgspec import Raw

from forwarder import native
from forwarder.collect.lane import CollectBounds
from forwarder.config.targets import KinesisTarget
from forwarder.formats import bounds, rawjson
from forwarder.formats.contract import Frame
from forwarder.formats.mparticle import document
from forwarder.formats.mparticle.document import MParticleDocuments
from forwarder.model import CloseReason, Collected, Reason, RecordOutcome
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
    merges, merge = 0, document.merge_fields

    def counted(old: dict[str, Raw], new: dict[str, Raw]) -> dict[str, Raw]:
        nonlocal merges
        merges += 1
        return merge(old, new)

    monkeypatch.setattr(document, "merge_fields", counted)
    fed = [upload(event(), deleted_user_attributes=[f"k{n}"]) for n in range(5)]
    builders.run([connection("a"), connection("b")], records(*fed))
    assert 4 == merges


# --------------------------------------------------------------- an upload in many parts


def test_an_upload_is_held_against_a_window_once_however_many_parts_it_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    framed, frame = 0, MParticleDocuments.frame

    def counted(
        self: MParticleDocuments, context: bytes, identities_ms: int, newest_ms: int
    ) -> Frame:
        nonlocal framed
        framed += 1
        return frame(self, context, identities_ms, newest_ms)

    monkeypatch.setattr(MParticleDocuments, "frame", counted)
    pipeline = builders.pipeline(connection(sink=KINESIS, wait_for_complete_batch=True))
    sessions, uploads = 3, 4
    parts = [event(session_id=1 + n % sessions) for n in range(300)]
    fed = [upload(*parts, user_attributes={"a": "x" * 90_000, f"{n}": n}) for n in range(uploads)]
    framed = 0
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


# --------------------------------------------------------------- a record of many parts


def uploads_of(number: int) -> bytes:
    """Return a record of so many uploads, two of which have an event."""
    told = [b'{"mpid":1,"events":[{}]}'] * min(2, number) + [b'{"mpid":1}'] * (number - 2)
    return b"[%b]" % b",".join(told)


def events_of(number: int) -> bytes:
    """Return an upload of so many events."""
    return b'{"mpid":1,"events":[%b]}' % b",".join([b"{}"] * number)


def shared_events(number: int) -> bytes:
    """Return a record of two uploads with so many events together."""
    return b"[%b,%b]" % (events_of(1), events_of(number - 1))


PARTS: dict[str, tuple[Callable[[int], bytes], str]] = {
    "uploads": (uploads_of, "MAX_UPLOADS"),
    "events": (events_of, "MAX_EVENTS"),
    "events of several uploads": (shared_events, "MAX_EVENTS"),
}


@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("mode", streams.MODES)
def test_a_record_of_too_many_parts_is_a_letter_and_one_of_as_many_as_may_be_is_not(
    parts: str, mode: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    make, limit = PARTS[parts]
    monkeypatch.setattr(bounds, limit, 50)
    monkeypatch.setattr(native, "_chosen", None)  # its bound stands in itself
    many, most = make(51), make(50)
    out = builders.run(connection(**mode), records(many, most))
    (letter,) = out.dead_letters
    assert (Reason.TOO_MANY_PARTS, 0, many) == (letter.reason, letter.offset, letter.value)
    assert {"lane": out.events} == out.accepted
    assert 1 == out.outcome_records[RecordOutcome.REJECTED]


@pytest.mark.parametrize("array", [False, True])
def test_a_record_is_not_even_taken_apart_where_it_has_a_million_commas(*, array: bool) -> None:
    value = b'{"mpid":1,"events":[%b]}' % b",".join([b"{}"] * (bounds.MAX_VALUES + 1))
    value = b"[%b]" % value if array else value
    pipeline = builders.pipeline(connection())
    outs: list[Collected] = []
    taken = traced(lambda: outs.append(pipeline.collect(records(value), NOW)))
    assert [Reason.TOO_MANY_PARTS] == [letter.reason for letter in outs[0].dead_letters]
    assert taken <= MIB


def test_what_fits_an_sdks_upload_is_never_too_much() -> None:
    """An upload has 256 KB at most, and an event three bytes at least with its comma."""
    assert 256_000 // len(b"{},") < bounds.MAX_EVENTS
    assert 100 < bounds.MAX_UPLOADS


# --------------------------------------------------------------- every event on its own


def test_events_that_wait_to_be_documents_take_no_more_than_they_did_in_their_upload() -> None:
    fed = records(*[events_of(20_000) for _ in range(5)])
    size = sum(len(one.value or b"") for one in fed)
    bounds = CollectBounds(encoded_bytes=1000)
    pipeline = builders.pipeline(connection(send_as_batch=False), bounds=bounds)
    pipeline.collect(fed[:1], NOW)
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    pipeline.collect(fed[1:], NOW)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 100_000 > pipeline.waiting_events().get("lane", 0) > 99_000
    assert after - before <= 2 * size


def test_each_event_is_counted_as_a_window_that_closed() -> None:
    out = builders.run(connection(send_as_batch=False), records(upload(*[event()] * 7)))
    assert {("lane", CloseReason.SINGLE): 7} == out.closed
    assert [(0, n) for n in range(7)] == [batch.first for batch in out.batches]


class _Counted(list[Raw]):
    """A list that counts what is copied out of it."""

    copied = 0

    def __getitem__(self, at: Any, /) -> Any:  # noqa: ANN401  # an index or a slice
        found = super().__getitem__(at)
        _Counted.copied += len(found) if isinstance(at, slice) else 1
        return found


def test_a_letter_of_many_runs_copies_each_event_once(monkeypatch: pytest.MonkeyPatch) -> None:
    count, split = 1000, rawjson.split_values
    monkeypatch.setattr(rawjson, "split_values", lambda body: _Counted(split(body)))
    small = KinesisTarget("s", "us-east-1", max_record_bytes=2048)
    pipeline = builders.pipeline(connection(sink=small))
    events = [event(pad="x" * (3000 if n % 2 else 1)) for n in range(count)]
    out = pipeline.collect(records(upload(*events)), NOW)
    assert [Reason.EVENT_TOO_LARGE] == [letter.reason for letter in out.dead_letters]
    assert count // 2 == out.dead_letters[0].events
    assert count // 2 == _Counted.copied
