"""What fits into a record: events with their own upload's context, windows that leave them room."""

import json
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from forwarder.collect.lane import CollectBounds
from forwarder.collect.windows import fit
from forwarder.collect.windows.fit import RecordFit
from forwarder.config.connection import Connection
from forwarder.config.targets import FileTarget, FirehoseTarget, KinesisTarget, PartitionKey
from forwarder.formats.ids import digest
from forwarder.formats.mparticle import document
from forwarder.formats.mparticle.document import MParticleDocuments
from forwarder.formats.registry import MPARTICLE
from forwarder.model import Batch, CloseReason, Collected, DeadLetter, Reason
from tests import builders, heavy, oracle, streams
from tests.builders import NOW, Json, Rec, connection, encoded, event, records, upload

_THOROUGH = settings(max_examples=300, deadline=None)
MODES = pytest.mark.parametrize("mode", streams.MODES)


def kinesis(limit: int, key: PartitionKey = PartitionKey.DEVICE) -> KinesisTarget:
    """Return a stream whose records may have ``limit`` bytes, partition key included."""
    return KinesisTarget("s", "us-east-1", partition_key=key, max_record_bytes=limit)


def noted(size: int, *events: Json, **context: Any) -> Json:  # noqa: ANN401  # any keys
    """Return an upload whose notifications take about so many bytes that do not compress."""
    text = random.Random(size).randbytes(size // 2).hex()  # noqa: S311  # no secret
    return upload(*events, system_notifications=[{"x": text}], **context)


def events_of(found: Sequence[Batch] | Sequence[DeadLetter]) -> list[Any]:
    """Return the events of documents or letters."""
    values = [one.payload if isinstance(one, Batch) else one.value for one in found]
    return [event for value in values for event in json.loads(value)["events"]]


# --------------------------------------------------------------- a window keeps room


@pytest.mark.parametrize(
    ("expected", "accumulating"),
    [
        (3, lambda n: {"system_notifications": [{"n": n, "x": "y" * 400}]}),
        (3, lambda n: {"deleted_user_attributes": [f"{n}-{i}-attribute" for i in range(25)]}),
        (3, lambda n: {f"new_{n}": "y" * 400}),
        (1, lambda n: {"user_attributes": {f"a{n}": "y" * 400}}),  # the newest alone counts
    ],
)
def test_a_window_closes_before_its_context_leaves_no_room_for_what_fits_alone(
    expected: int, accumulating: Callable[[int], Json]
) -> None:
    fed = [upload(event(n=n), **accumulating(n)) for n in range(3)]
    out = builders.run(connection(sink=kinesis(1024)), records(*fed))
    assert [] == out.dead_letters
    assert expected == len(out.batches)
    assert [e for one in fed for e in one["events"]] == events_of(out.batches)
    early = [CloseReason.SIZE] * (expected - 1)
    assert [*early, CloseReason.END] == [batch.reason for batch in out.batches]


def test_fifteen_large_uploads_become_as_few_documents_as_they_need() -> None:
    fed = [noted(90_000, event(n=n)) for n in range(15)]
    out = builders.run(connection(sink=kinesis(1 << 20)), records(*fed))
    assert ([], [11, 4]) == (out.dead_letters, [batch.count for batch in out.batches])


def test_a_context_without_events_closes_a_window_that_has_no_room_for_it() -> None:
    fed = [noted(600, event(n=1)), noted(600), upload(event(n=2), ip="1")]
    out = builders.run(connection(sink=kinesis(1024)), records(*fed))
    assert [event(n=1), event(n=2)] == events_of(out.batches)
    first, second = builders.documents(out.batches)
    assert fed[0]["system_notifications"] == first["system_notifications"]
    assert ("1", []) == (second["ip"], second["system_notifications"])
    assert CloseReason.SIZE == out.batches[0].reason


def test_a_small_context_is_repeated_in_every_part_of_a_large_window() -> None:
    fed = [upload(*(event(t="x" * 100) for _ in range(9)), ip=str(n)) for n in range(20)]
    out = builders.run(connection(sink=kinesis(2000)), records(*fed))
    assert {"19"} == {document["ip"] for document in builders.documents(out.batches)}
    assert {CloseReason.END} == {batch.reason for batch in out.batches}


def test_a_large_context_is_not_repeated_for_every_few_events() -> None:
    fed = [noted(4000 if n == 0 else 2, *[event(t="x" * 20)] * 8) for n in range(40)]
    out = builders.run(connection(sink=kinesis(5000)), records(*fed))
    came = sum(len(encoded(one)) for one in fed)
    assert sum(len(batch.payload) for batch in out.batches) < 3 * came


@pytest.mark.parametrize(
    "settings_of",
    [
        {"include_system_notifications": False},
        {"metadata_field_exclusion": ("system_notifications",)},
    ],
)
def test_what_is_not_forwarded_does_not_accumulate(settings_of: dict[str, Any]) -> None:
    chosen = connection(sink=kinesis(200_000), **settings_of)
    pipeline = builders.pipeline(chosen)
    for n in range(40):
        fed = records(noted(90_000, event(n=n)), start=n)
        assert [] == pipeline.collect(fed, NOW).batches
        assert pipeline.memory_bytes() < 400_000
    (batch,) = pipeline.finish(NOW).batches
    assert 40 == batch.count


@pytest.mark.parametrize(
    "accumulating",
    [
        lambda n: {"system_notifications": [f"{n}" * 40]},
        lambda n: {"deleted_user_attributes": [f"attribute {n}/{m}" for m in range(10)]},
        lambda n: {f"key {n}/{m}": m for m in range(10)},
    ],
)
@pytest.mark.parametrize("events", [1, 0])
def test_what_accumulates_takes_no_work_that_grows_with_the_square_of_the_input(
    accumulating: Callable[[int], Json], events: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked, merge = 0, document.merge_fields

    def counted(old: dict[str, Raw], new: dict[str, Raw]) -> dict[str, Raw]:
        nonlocal looked
        looked += sum(len(key) + len(raw) for key, raw in old.items())
        return merge(old, new)

    monkeypatch.setattr(document, "merge_fields", counted)
    monkeypatch.setattr(fit, "_FREE_RESCAN_BYTES", 0)
    counts = [1] + [events] * 2_999
    fed = [upload(*[event()] * count, **accumulating(n)) for n, count in enumerate(counts)]
    out = builders.run(connection(sink=kinesis(1024 * 1024)), records(*fed, step=1))
    assert ([], sum(counts)) == (out.dead_letters, sum(batch.count for batch in out.batches))
    assert looked <= 120 * sum(len(encoded(one)) for one in fed)


def test_an_upload_without_events_is_in_the_window_that_closes_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fit, "_FREE_RESCAN_BYTES", 0)
    monkeypatch.setattr(fit, "_RESCAN_FACTOR", 0)
    fed = [noted(40_000, event()), noted(500), noted(600)]
    (batch,) = builders.run(connection(sink=kinesis(1024 * 1024)), records(*fed)).batches
    told = json.loads(batch.payload)["system_notifications"]
    assert [one["system_notifications"][0] for one in fed[:2]] == told


# --------------------------------------------------------------- what does not fit alone


@MODES
def test_misfits_of_an_upload_are_one_letter_that_can_be_sent_again(mode: dict[str, Any]) -> None:
    large = [event(t="x" * 2000, session_uuid=f"s{n}") for n in range(3)]
    small = [event(n=n, session_uuid=f"s{n}") for n in range(3)]
    came = upload(large[0], small[0], large[1], small[1], small[2], large[2], ip="1", mpid=7)
    out = builders.run(connection(sink=kinesis(1500), **mode), records(came))
    (letter,) = out.dead_letters
    assert (Reason.EVENT_TOO_LARGE, 0, "lane", 3) == (
        letter.reason, letter.offset, letter.connection, letter.events
    )  # fmt: skip
    assert {**came, "events": large} == json.loads(letter.value)
    assert small == events_of(out.batches)
    again = builders.run(connection(sink=kinesis(9000), **mode), records(letter.value))
    assert (large, []) == (events_of(again.batches), again.dead_letters)


@MODES
def test_a_letter_holds_events_as_they_came_and_no_byte_more(mode: dict[str, Any]) -> None:
    large = event(t="x" * 2000, event_id=5, location={"latitude": 1})
    (record,) = records(upload(large, mpid=7))
    chosen = connection(
        sink=kinesis(1500), int64_as_string=True, include_location_information=False, **mode
    )
    (letter,) = builders.run(chosen, [record]).dead_letters
    assert record.value == letter.value


@MODES
def test_a_letter_is_as_long_as_its_upload_where_a_key_holds_half_a_surrogate_pair(
    mode: dict[str, Any],
) -> None:
    value = b'{"events":[%b],"mpid":7,"%b\\ud83d":1}' % (encoded(event()), "é".encode() * 1000)
    (letter,) = builders.run(connection(sink=kinesis(1500), **mode), records(value)).dead_letters
    assert value == letter.value


@MODES
@pytest.mark.parametrize("came", [{"events": []}, {"events": None, "mpid": 7}, {"mpid": 7}])
def test_a_letter_without_events_is_an_upload_and_no_longer_than_it_was(
    mode: dict[str, Any], came: Json
) -> None:
    (record,) = records({**came, "note": "x" * 2000})
    assert record.value is not None
    settings_of = {**mode, "send_batches_without_events": True}
    (letter,) = builders.run(connection(sink=kinesis(1500), **settings_of), [record]).dead_letters
    assert len(record.value) >= len(letter.value)
    (batch,) = builders.run(connection(**settings_of), records(letter.value)).batches
    assert ([], 0) == (json.loads(batch.payload)["events"], batch.count)


def test_a_window_without_events_that_fits_no_more_is_an_upload() -> None:
    whole = connection(sink=kinesis(9000), send_batches_without_events=True)
    before = builders.pipeline(whole)
    before.collect(records({"events": [], "mp_deviceid": "d", "note": "x" * 2000}), NOW)
    small = connection(sink=kinesis(1500), send_batches_without_events=True)
    after = builders.pipeline(
        small, read=1, replay=builders.replay(read=1, need=(1, 0)), held=builders.saved(before, 99)
    )
    (letter,) = after.finish(NOW).dead_letters
    assert [] == json.loads(letter.value)["events"]


@MODES
def test_letters_are_of_the_order_of_the_input(mode: dict[str, Any]) -> None:
    fed = [noted(2000, *[event(n=n)] * 80) for n in range(5)]
    out = builders.run(connection(sink=kinesis(1024), **mode), records(*fed))
    assert ([], 5) == (out.batches, len(out.dead_letters))
    assert sum(len(encoded(one)) for one in fed) >= sum(len(x.value) for x in out.dead_letters)


def test_a_letter_of_a_replayed_upload_is_made_once_whatever_the_limit_is_then() -> None:
    large, small = event(t="x" * 2000), event(n=1)
    fed = records(upload(small, large), upload(event(n=2)))
    for limit in (1500, 9000):
        pipeline = builders.pipeline(connection(sink=kinesis(1500)))
        first = pipeline.collect(fed, NOW)
        closed = {closing.window_key: closing.last for closing in first.closings}
        replay = builders.replay(read=2, closed=closed)
        after = builders.pipeline(connection(sink=kinesis(limit)), read=2, replay=replay)
        out = builders.merged([after.collect(fed, NOW), after.finish(NOW)])
        assert ([], [small, event(n=2)]) == (out.dead_letters, events_of(out.batches))


LARGE, SMALL = event(t="x" * 2000), event(n=1)
LETTERED = upload(*[LARGE] * 40, SMALL, *[LARGE] * 30, SMALL, LARGE)


@MODES
def test_a_letter_leaves_an_entry_for_each_run_of_events(mode: dict[str, Any]) -> None:
    pipeline = builders.pipeline(connection(sink=kinesis(1500), **mode))
    out = pipeline.collect(records(LETTERED), NOW)
    batched = {batch.window_key for batch in out.batches}
    assert 71 == out.dead_letters[0].events
    assert 1 + 3 == len([one for one in out.closings if one.window_key not in batched])


@pytest.mark.parametrize("limit", [1500, 9000])
@pytest.mark.parametrize("left_out", [{}, {"send_screen_views": False}])
def test_a_replay_finds_every_event_of_a_letter_in_runs(limit: int, left_out: Any) -> None:  # noqa: ANN401
    """Whatever the limit is then, and whatever the settings leave out then of a run's begin."""
    begin = event("screen_view", t="x" * 2000)
    fed = records(upload(begin, *LETTERED["events"]))
    before = builders.pipeline(connection(sink=kinesis(1500)))
    first = before.collect(fed, NOW)
    replay = builders.replay(read=1, closed={one.window_key: one.last for one in first.closings})
    after = builders.pipeline(connection(sink=kinesis(limit), **left_out), read=1, replay=replay)
    out = builders.merged([after.collect(fed, NOW), after.finish(NOW)])
    assert ([], [SMALL] * 2) == (out.dead_letters, events_of(out.batches))


@pytest.mark.parametrize("limit", [1500, 9000])
def test_entries_of_each_event_of_a_letter_are_still_read(limit: int) -> None:
    """Until this release a letter left one for every event."""
    fed = records(LETTERED)
    lettered = [n for n, one in enumerate(LETTERED["events"]) if one == LARGE]
    closed = {digest(b"!0/0"): (0, lettered[-1])}
    closed |= {digest(b"!0/%d." % n): (0, n) for n in lettered}
    after = builders.pipeline(
        connection(sink=kinesis(limit)), read=1, replay=builders.replay(read=1, closed=closed)
    )
    out = builders.merged([after.collect(fed, NOW), after.finish(NOW)])
    assert ([], [SMALL] * 2) == (out.dead_letters, events_of(out.batches))


def test_a_replayed_event_that_fits_no_more_becomes_a_letter() -> None:
    large = event(t="x" * 2000)
    fed = records(upload(event(n=1), large))
    after = builders.pipeline(
        connection(sink=kinesis(1500)), read=1, replay=builders.replay(read=1)
    )
    out = builders.merged([after.collect(fed, NOW), after.finish(NOW)])
    assert ([large], [event(n=1)]) == (events_of(out.dead_letters), events_of(out.batches))


def test_a_window_saved_under_a_larger_limit_makes_one_letter_of_what_fits_no_more() -> None:
    fed = [noted(300, event(n=n), event(t="x" * 1200)) for n in range(3)]
    before = builders.pipeline(connection(sink=kinesis(9000)))
    before.collect(records(*fed), NOW)
    held = builders.saved(before, 99)
    after = builders.pipeline(
        connection(sink=kinesis(1500)),
        read=3,
        replay=builders.replay(read=3, need=(3, 0)),
        held=held,
    )
    out = after.finish(NOW)
    (letter,) = out.dead_letters
    assert [event(t="x" * 1200)] * 3 == events_of([letter])
    assert [event(n=n) for n in range(3)] == events_of(out.batches)
    assert sum(len(encoded(one)) for one in fed) >= len(letter.value)


# --------------------------------------------------------------- documents in slices


@MODES
def test_documents_that_take_far_more_than_their_window_are_made_in_slices(
    mode: dict[str, Any],
) -> None:
    came = noted(900, *[event(n=n) for n in range(60)])
    chosen = connection(sink=kinesis(1300), **mode)
    pipeline = builders.pipeline(chosen, bounds=CollectBounds(encoded_bytes=5000))
    outs = [pipeline.collect(records(came), NOW), pipeline.finish(NOW)]
    while pipeline.has_pending_documents:
        assert outs[-1].closings[-1].last < (pipeline.unsaved().get("lane") or (9, 9))
        outs.append(pipeline.expire(0, 0, NOW))
    assert 3 < len(outs)
    assert all(sum(len(b.payload) for b in out.batches) <= 5000 + 1300 for out in outs)
    assert came["events"] == events_of(builders.merged(outs).batches)
    assert pipeline.unsaved().get("lane") is None


# --------------------------------------------------------------- whatever comes


_SINKS = st.one_of(
    st.builds(kinesis, st.integers(250, 3000), st.sampled_from(PartitionKey)),
    st.builds(lambda limit: FirehoseTarget("f", "eu-west-1", limit), st.integers(250, 3000)),
    st.just(FileTarget("out")),
)
_FURTHER: list[dict[str, Any]] = [
    {},
    {"int64_as_string": True, "unique_id": "é"},
    {"include_location_information": False, "include_mp_deviceid": True},
    {"include_system_notifications": False, "send_batches_without_events": True},
    {"include_metadata": False, "metadata_field_exclusion": ("user_attributes", "context.x")},
]
_CHOSEN = st.builds(
    lambda sink, mode, further, batching: connection(
        sink=sink, batching=batching, **mode, **further
    ),
    _SINKS,
    st.sampled_from(streams.MODES),
    st.sampled_from(_FURTHER),
    streams.BATCHINGS,
)


def seen(drawn: list[Rec], chosen: Connection) -> tuple[list[Any], dict[int, list[Any]]]:
    """Return the events that fit alone, and by offset those of an upload that do not."""
    fits: list[Any] = []
    misfits: dict[int, list[Any]] = {}
    for one in oracle.read(drawn, NOW)[0]:
        wanted = [e for e in one.events if oracle.wanted(e, chosen.settings)]
        for each in wanted:
            if oracle.fits_alone(one, each, chosen):
                fits.append(oracle.governed(each, chosen.settings))
            else:
                misfits.setdefault(one.offset, []).append(each)
        empty = not wanted and chosen.settings.send_batches_without_events
        if empty and not oracle.fits_alone(one, None, chosen):
            misfits[one.offset] = []
    return fits, misfits


def texts(values: Sequence[object]) -> list[str]:
    """Return values so that they can be sorted and compared."""
    return sorted(map(oracle.compact, values))


def run(chosen: Connection, drawn: list[Rec], sizes: list[int]) -> Collected:
    """Feed records cut into polls, and close everything."""
    return builders.run(chosen, streams.cut(drawn, sizes))


@_THOROUGH
@given(heavy.streams(), _CHOSEN, st.lists(st.integers(0, 4), max_size=10))
def test_what_fits_alone_is_delivered_once_and_the_rest_is_in_one_letter_an_upload(
    drawn: list[Rec], chosen: Connection, sizes: list[int]
) -> None:
    out = run(chosen, drawn, sizes)
    fits, misfits = seen(drawn, chosen)
    documents = [oracle.exact(batch.payload) for batch in out.batches]
    assert texts(fits) == texts([e for document in documents for e in document["events"]])
    limit = getattr(chosen.sink, "max_record_bytes", 10**7)
    assert all(oracle.record_bytes(document, chosen) <= limit for document in documents)
    letters = {letter.offset: oracle.exact(letter.value) for letter in out.dead_letters}
    assert misfits == {offset: content.get("events", []) for offset, content in letters.items()}
    came = {record.offset: record.value or b"" for record in drawn}
    assert all(len(x.value) <= len(came[x.offset]) for x in out.dead_letters)
    assert len(letters) == len(out.dead_letters)
    for offset, content in letters.items():
        assert {**oracle.exact(came[offset]), "events": 0} == {**content, "events": 0}


@_THOROUGH
@given(st.sampled_from(_FURTHER), st.integers(2000, 60_000), st.data())
def test_short_contexts_take_less_than_half_a_record(
    further: dict[str, Any], limit: int, data: st.DataObject
) -> None:
    chosen = connection(sink=kinesis(limit), **further)
    documents = MParticleDocuments(chosen, chosen.sink.record_limit)
    judge = RecordFit(documents, MPARTICLE)
    names = st.text(st.characters(codec="utf-8"), max_size=3)
    identities = data.draw(st.dictionaries(names, st.integers(0, 9), max_size=300))
    context = encoded({"user_identities": identities, "mpid": 1})
    if len(context) <= judge.small_context_bytes:
        assert documents.frame(context, 10**18, 10**18).size <= limit // 2
