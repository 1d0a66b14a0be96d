"""Every record is accounted for, once, and every event of every connection."""

import json
import zlib
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder.collect import redrive
from forwarder.collect.duplicates import Duplicates
from forwarder.collect.pipeline import Pipeline
from forwarder.collect.replay_filter import ReplayFilter
from forwarder.config.connection import Batching, Match
from forwarder.config.targets import KinesisTarget
from forwarder.formats.mparticle import event_filter
from forwarder.model import Collected, DuplicateWindow, Reason, RecordOutcome, Unused
from tests import builders, oracle, streams
from tests.books import Books
from tests.builders import NOW, Rec, connection, event, records, upload

SMALL = KinesisTarget("s", "us-east-1", max_record_bytes=400)
LANES = [
    connection("batch", batching=Batching(max_events=3), send_screen_views=False),
    connection(
        "session", wait_for_complete_batch=True, send_unknown_events=False, sink=SMALL,
        match=Match(application=frozenset({"app"})),
    ),
    connection("single", send_as_batch=False, include_location_information=False),
    connection("empty", send_batches_without_events=True, send_custom_events=False),
    connection("resting", match=Match(environment=frozenset({"development"}))),
]  # fmt: skip
NAMES = [lane.name for lane in LANES]
READ = 12
"""Offset from which on records were not collected before; the lane ``resting`` takes less."""


@st.composite
def inputs(draw: st.DrawFn) -> list[Rec]:
    """Draw a stream with matches of its own, uploads without events, and records sent back."""
    drawn: list[Rec] = []
    for record in draw(streams.streams()):
        value: bytes | None = record.value
        headers: tuple[tuple[str, bytes | None], ...] = ()
        kind = draw(st.integers(0, 9))
        if value is not None and value[:2] == b'{"' and kind < 4:
            content = json.loads(value)
            content |= draw(st.sampled_from([
                {"environment": "development"},
                {"application_info": {"package": "app"}},
                {"events": []},
                {"events": None, "environment": "development"},
            ]))  # fmt: skip
            if draw(st.integers(0, 3)) == 0:
                content.pop("events")
            value = json.dumps(content, indent=draw(st.sampled_from([None, 2]))).encode()
        elif kind == 9:
            told = {
                redrive.REASON_HEADER: draw(st.sampled_from(["invalid_json", "refused_by_sink"])),
                redrive.CONNECTION_HEADER: draw(st.sampled_from(["", "gone", *NAMES])),
            }
            headers = tuple((name, text.encode()) for name, text in told.items() if text)
        drawn.append(replace(record, value=value, headers=headers))
    return drawn


def begun(read: int, taken: int, duplicates: Duplicates | None = None) -> Pipeline:
    """Return a pipeline that collected up to ``read`` before, ``resting`` only up to ``taken``."""
    replays = {
        name: ReplayFilter(
            (0, 0),
            read,
            keying=[("session-1" if name == "session" else "device-1", (0, 0))],
            accept_below=taken if name == "resting" else None,
        )
        for name in NAMES
    }
    return Pipeline(
        builders.PARTITION, builders.lane_set(*LANES), read, replays=replays, duplicates=duplicates
    )


@settings(max_examples=400, deadline=None)
@given(inputs(), st.lists(st.integers(0, 4), max_size=20), st.sampled_from([0, 6, READ, 13]))
def test_every_record_and_every_event_is_accounted_for_once(
    drawn: list[Rec], sizes: list[int], read: int
) -> None:
    pipeline, books, outs = begun(read, min(read, 6)), Books(), list[Collected]()
    polls = [poll for poll in streams.cut(drawn, sizes) if poll]
    for act in [*polls, None]:
        out = pipeline.finish(NOW) if act is None else pipeline.collect(act, NOW)
        books.collected(out)
        outs.append(out)
        assert [] == books.faults(waiting(pipeline, outs))
    whole = builders.merged(outs)
    assert len([record for record in drawn if record.offset < read]) == whole.replayed
    assert input_of(drawn, read) == (whole.records, whole.bytes, whole.outcome_bytes)


@settings(max_examples=200, deadline=None)
@given(inputs(), st.data())
def test_duplicates_are_accounted_for_too(drawn: list[Rec], data: st.DataObject) -> None:
    """Whole uploads that come again are an outcome of their own, and filtered by each lane."""
    again = [
        replace(one, offset=one.offset + len(drawn), timestamp=one.timestamp + 1_000)
        for one in drawn
        if data.draw(st.booleans())
    ]
    records = [replace(one, value=_requested(one.value)) for one in [*drawn, *again]]
    records = [replace(one, offset=offset) for offset, one in enumerate(records)]
    read = data.draw(st.sampled_from([0, 6, len(drawn)]))
    pipeline = begun(read, min(read, 6), Duplicates([DuplicateWindow(60_000, 0)], 0))
    books, outs = Books(), [pipeline.collect(records, NOW), pipeline.finish(NOW)]
    for out in outs:
        books.collected(out)
    assert [] == books.faults(waiting(pipeline, outs))
    events = Counter(outs[0].routed) - Counter(outs[0].accepted)
    assert events == sum_by_lane(outs[0].filtered)
    assert outs[0].duplicates <= outs[0].events


def _requested(value: bytes | None) -> bytes | None:
    """Give an upload a request id of its own content; the same for what is sent again."""
    if value is None or value[:2] != b'{"' or not value.rstrip().endswith(b"}"):
        return value
    name = zlib.crc32(value) % 7
    return value.rstrip()[:-1] + b',"source_request_id":"r%d"}' % name


def sum_by_lane(filtered: dict[tuple[str, str], int]) -> Counter[str]:
    """Return by lane how many events its settings, or that they came before, left out."""
    found: Counter[str] = Counter()
    for (lane, _), count in filtered.items():
        found[lane] += count
    return found


def waiting(pipeline: Pipeline, outs: list[Collected]) -> dict[str, int]:
    """Return by lane what is in windows, and all that came out of them."""
    found = Counter({name: pipeline.waiting_events().get(name, 0) for name in NAMES})
    for out in outs:
        for batch in out.batches:
            found[batch.lane] += len(oracle.exact(batch.payload)["events"])
        for letter in out.dead_letters:
            if letter.connection:
                found[letter.connection] += held(letter.value)
    return dict(found)


def held(value: bytes) -> int:
    """Return how many events a letter's value holds."""
    uploads = oracle.uploads_of(value) or []
    return sum(len(one.get("events") or []) for one in uploads)


def input_of(drawn: list[Rec], read: int) -> tuple[int, int, dict[RecordOutcome, int]]:
    """Return what must be counted of the input: records, bytes, and bytes by where they went."""
    fresh = [record for record in drawn if record.offset >= read]
    found: Counter[RecordOutcome] = Counter()
    for record in fresh:
        if record.value is not None:
            for outcome, size in ways(record, record.value, min(read, 6)).items():
                found[outcome] += size
    whole = sum(len(record.value or b"") for record in fresh)
    return len(fresh), whole, {outcome: size for outcome, size in found.items() if size}


def ways(record: Rec, value: bytes, taken: int) -> Counter[RecordOutcome]:
    """Return where the bytes of one record go."""
    told = {name: (raw or b"").decode() for name, raw in record.headers}
    uploads, only = oracle.uploads_of(value), told.get(redrive.CONNECTION_HEADER, "")
    takes = not only or (only in NAMES and (only != "resting" or record.offset < taken))
    if uploads is None or not takes:
        return Counter({RecordOutcome.REJECTED: len(value)})
    found: Counter[RecordOutcome] = Counter()
    rest = len(value)
    whole = only and told[redrive.REASON_HEADER] == Reason.REFUSED and "message_id" in uploads[0]
    for content in reversed(uploads):
        size = rest if content is uploads[0] else len(compact(content))
        rest -= size
        lanes = [lane for lane in LANES if oracle.matches(content, lane)]
        if not whole and not [lane for lane in lanes if not only or lane.name == only]:
            found[RecordOutcome.UNMATCHED] += size
        elif not content.get("events"):
            found[RecordOutcome.CONTEXT_ONLY] += size
        else:
            found[RecordOutcome.ROUTED] += size
    return found


def compact(content: builders.Json) -> bytes:
    """Return the bytes of an upload's events and context, as they came from ``builders``."""
    context = {key: value for key, value in content.items() if key != "events"}
    plain = json.loads(json.dumps([content.get("events") or [], context], default=_number))
    events = ",".join(builders.encoded(one).decode() for one in plain[0])
    return events.encode() + builders.encoded(plain[1])


def _number(value: oracle.Number) -> float:
    return float(value.text) if "." in value.text else int(value.text)


def test_the_bytes_of_a_record_of_several_uploads_add_up() -> None:
    inner = [upload(event(), device="d2"), {"mpid": 5}, upload(event(n=1), environment="x")]
    lane = connection(match=Match(environment=frozenset({"production"})))
    value = b"[ %b ]" % b" ,\n ".join(map(builders.encoded, [upload(event()), *inner]))
    out = builders.run(lane, records(value))
    assert len(value) == out.bytes == sum(out.outcome_bytes.values())
    sizes = [len(compact(one)) for one in inner]
    assert {
        RecordOutcome.ROUTED: len(value) - sizes[1] - sizes[2],
        RecordOutcome.CONTEXT_ONLY: sizes[1],
        RecordOutcome.UNMATCHED: sizes[2],
    } == out.outcome_bytes
    assert {RecordOutcome.ROUTED: 1} == out.outcome_records


def test_no_upload_of_a_record_has_more_bytes_than_the_record() -> None:
    key = "é".encode() * 1000 + b"\\ud83d"  # half a pair: the keys beside it are encoded anew
    value = b'[{"mpid":7,"events":[]},{"mpid":7,"events":[%b],"%b":1}]' % (
        builders.encoded(event()),
        key,
    )
    out = builders.run(connection(), records(value))
    first = len(b'[{"mpid":7,"events":[]},') + len(b'"events":[],') + len(b"]")
    assert len(value) == sum(out.outcome_bytes.values())
    assert first == out.outcome_bytes[RecordOutcome.CONTEXT_ONLY]


def test_tombstones_and_rejected_records_are_accounted_for() -> None:
    out = builders.run(connection(), records(None, b"{", b"[]", upload(event())))
    assert (4, 3 + len(builders.encoded(upload(event())))) == (out.records, out.bytes)
    assert {"tombstone": 1, "rejected": 2, "routed": 1} == out.outcome_records
    assert 3 == out.outcome_bytes[RecordOutcome.REJECTED]


def test_what_cannot_be_changed_is_accepted_and_a_letter_and_none_of_it_filtered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(_upload: object, _transform: int) -> bytes:
        raise RecursionError

    monkeypatch.setattr(event_filter, "changed_events", fails)
    lane = connection(send_screen_views=False)
    out = builders.run(lane, records(upload(event(), event("screen_view"))))
    assert ({"lane": 2}, {"lane": 2}, {}) == (out.routed, out.accepted, out.filtered)
    assert [2] == [letter.events for letter in out.dead_letters]


HEARTBEAT = upload(device="d1")
PROFILE = {"mp_deviceid": "d1", "mpid": 1, "user_attributes": {"a": "b"}}
OTHER = {**PROFILE, "environment": "development"}


@pytest.mark.parametrize(
    ("expected", "idle", "fed"),
    [
        ({Unused.EMPTY: 2}, 0, [HEARTBEAT, {**HEARTBEAT, "events": None}]),
        ({Unused.MISSING: 2}, 2, [PROFILE, OTHER]),
        ({}, 0, [{**PROFILE, "events": [event()]}, PROFILE]),
        ({Unused.MISSING: 2}, 1, [[PROFILE, PROFILE]]),
        ({Unused.MISSING: 1, Unused.EMPTY: 1}, 0, [[HEARTBEAT, PROFILE]]),
        ({Unused.MISSING: 1}, 0, [[upload(event(), device="d2"), PROFILE]]),
    ],
)
def test_uploads_without_events_that_touch_nothing_are_counted_by_reason(
    expected: dict[Unused, int], idle: int, fed: list[object]
) -> None:
    lane = connection(match=Match(environment=frozenset({"production"})))
    out = builders.pipeline(lane).collect(records(*fed), NOW)
    assert (expected, idle) == (out.unused, out.idle)


@pytest.mark.parametrize("mode", streams.MODES)
def test_what_joins_a_window_or_becomes_a_document_was_of_use(mode: builders.Json) -> None:
    sends_all = connection("empty", send_batches_without_events=True)
    told = builders.pipeline(connection(**mode), sends_all)
    out = told.collect(records(upload(event(), device="d1"), PROFILE, HEARTBEAT), NOW)
    assert ({}, 0) == (out.unused, out.idle)


def test_what_was_sent_back_and_came_to_nothing_is_no_deploys() -> None:
    again = Rec(0, NOW, builders.encoded(PROFILE), ((redrive.REASON_HEADER, b"invalid_json"),))
    out = builders.pipeline(connection()).collect([again], NOW)
    assert (0, {}) == (out.idle, out.unused)


def test_a_sample_counts_as_used_what_would_touch_an_open_window() -> None:
    real = builders.pipeline(connection())
    real.collect(records({**PROFILE, "events": [event()]}), NOW)
    lanes = builders.lane_set(connection())
    for besides, expected in ((real, 0), (None, 1)):
        sample = Pipeline(builders.PARTITION, lanes, besides=besides)
        assert expected == sample.collect(records(PROFILE, start=1), NOW).idle


def test_why_uploads_match_nothing_is_counted_where_it_is_asked_for() -> None:
    lanes = builders.lane_set(LANES[1], LANES[4])
    for explains, expected in (
        (True, {("session", "application", ""): 1, ("resting", "environment", "production"): 1}),
        (False, {}),
    ):
        told = Pipeline(builders.PARTITION, lanes, explains=explains)
        assert expected == told.collect(records(upload(event())), NOW).missed
