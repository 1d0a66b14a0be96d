"""What real SDKs send: none of it may stop the worker, lose an event or change one."""

import json
from typing import Any

import pytest
from msgspec import Raw

from forwarder.config.connection import Batching, Connection
from forwarder.formats import rawjson
from tests import builders, oracle
from tests.builders import NOW, connection, event, records, sample, upload

_EVENTS = sorted(p.name for p in builders.DATA.glob("*_event_*.json"))


def forwarded(*uploads: object, **settings: Any) -> list[Any]:  # noqa: ANN401  # of several types
    """Return the events that leave, checked against the oracle."""
    fed = records(*uploads)
    chosen = connection(**settings)
    out = builders.run(chosen, fed)
    found = [e for batch in out.batches for e in oracle.exact(batch.payload)["events"]]
    assert [*oracle.events(fed, chosen, NOW).values()] == found
    assert [] == out.dead_letters
    return [e for batch in out.batches for e in json.loads(batch.payload)["events"]]


@pytest.mark.parametrize("name", _EVENTS)
@pytest.mark.parametrize("settings", [{}, {"include_location_information": False}])
def test_real_events_pass_byte_for_byte(name: str, settings: dict[str, Any]) -> None:
    raw = (builders.DATA / name).read_bytes().strip()
    fed = records(b'{"mpid":"1","events":[%b,%b]}' % (raw, raw))
    (batch,) = builders.run(connection(**settings), fed).batches
    assert batch.payload.startswith(b'{"events":[%b,%b],"message_id"' % (raw, raw))


def test_a_real_upload_passes_with_its_attributes_and_identities() -> None:
    content = sample("14_in_mpjson_goodbatch.json")
    assert content["events"] == forwarded({**content, "mpid": 1})
    (batch,) = builders.run(connection(), records(content)).batches
    document = json.loads(batch.payload)
    assert content["user_attributes"] == document["user_attributes"]
    assert ["123456", "foo@example.com"] == [i["identity"] for i in document["user_identities"]]


def test_a_crash_report_labelled_as_commerce_event_goes_by_its_label() -> None:
    crash = event("commerce_event", stack_trace="at x", severity="fatal", product_action=None)
    assert [crash] == forwarded(upload(crash), send_crash_events=False)
    assert [] == forwarded(upload(crash), send_commerce_events=False)


def test_nul_characters_pass() -> None:
    odd = event("custom_event", event_name="a\u0000b", custom_attributes={"\u0000": "\u0000"})
    assert [odd] == forwarded(upload(odd, mpid="5\u00006"))


def test_mpids_are_one_user_as_text_and_as_number_and_keep_their_spelling() -> None:
    fed = records(upload(event(), mpid=-7), upload(event(), mpid="-7"))
    (batch,) = builders.run(connection(), fed).batches
    assert ("-7", "-7") == (batch.mpid, json.loads(batch.payload)["mpid"])


def test_profile_events_without_a_user_are_a_device_of_their_own() -> None:
    lone = {"events": [event("profile")]}
    assert 2 == len(builders.run(connection(), records(lone, lone)).batches)


def test_flags_and_attributes_of_every_type_pass() -> None:
    odd = event(
        custom_flags={"a": ["x", 1, None], "b": 1.50, "c": True},
        custom_attributes={"n": 1, "f": -0.0, "t": True, "l": [1], "o": {"location": 1}, "z": None},
    )
    assert [odd] == forwarded(upload(odd), include_location_information=False)


def test_heartbeats_without_events_change_nothing() -> None:
    beat = upload()
    assert [event()] == forwarded(beat, upload(event()), {**beat, "events": None}, beat)
    assert [] == forwarded(beat, beat)


def test_bad_records_stop_nothing_and_are_told_apart() -> None:
    good = upload(event())
    fed = records(good, b"\xff", good, b"{", good, event(), None, [good, good], [good, 5])
    out = builders.run(connection(), fed)
    assert 5 == sum(batch.count for batch in out.batches)
    letters = [(x.reason.value, x.offset, x.connection) for x in out.dead_letters]
    reasons = ["invalid_utf8", "invalid_json", "not_an_upload", "not_an_upload"]
    assert [*zip(reasons, (1, 3, 5, 8), [""] * 4, strict=True)] == letters
    assert [fed[x.offset].value for x in out.dead_letters] == [x.value for x in out.dead_letters]
    counts = (out.records, out.uploads, out.events, out.tombstones, out.unmatched)
    assert (9, 5, 5, 1, 0) == counts


def test_events_that_cannot_be_changed_are_never_forwarded_as_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(_content: object) -> None:
        raise RecursionError

    monkeypatch.setattr("forwarder.formats.mparticle.event_filter._strip", fails)
    open_lane = connection("open")
    strict = connection("strict", include_location_information=False)
    fed = records(upload(event(location=1), api_key="k"), upload(event()))
    out = builders.run([open_lane, strict], fed)
    assert {"open": 2, "strict": 1} == {b.lane: b.count for b in out.batches}
    (letter,) = out.dead_letters
    assert ("not_encodable", 0, "strict") == (letter.reason.value, letter.offset, letter.connection)
    assert json.loads(fed[0].value or b"") == json.loads(letter.value)


@pytest.mark.parametrize(
    ("batches", "chosen"),
    [
        (17, connection(batching=Batching(max_events=3))),
        (2, connection(wait_for_complete_batch=True)),
        (18, connection(batching=Batching(max_events=3), wait_for_complete_batch=True)),
    ],
)
def test_an_upload_of_many_events_is_taken_apart_once_not_once_for_each_part(
    monkeypatch: pytest.MonkeyPatch, batches: int, chosen: Connection
) -> None:
    lengths: list[int] = []
    split = rawjson.split_values

    def measuring(joined: bytes) -> list[Raw]:
        lengths.append(len(joined))
        return split(joined)

    monkeypatch.setattr(rawjson, "split_values", measuring)
    events = [event(n=n, session_uuid=f"s{n % 2}") for n in range(50)]
    out = builders.run(chosen, records(upload(*events)))
    assert (batches, 50) == (len(out.batches), sum(batch.count for batch in out.batches))
    assert 1 == len(lengths)
