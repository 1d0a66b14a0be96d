"""What a gateway's record becomes in the event stream, byte for byte."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder.collect.pipeline import Pipeline, compile_lanes
from forwarder.config.connection import Connection, Settings
from forwarder.config.targets import FileTarget, KinesisTarget
from forwarder.formats import rawjson
from forwarder.formats.pinpoint.timestamps import milliseconds
from forwarder.formats.registry import BUILT_IN, PINPOINT
from forwarder.model import Collected, Partition, Reason
from tests.builders import NOW, START, Rec, finished, merged
from tests.unit.formats.pinpoint.samples import ENDPOINT, EVENT, Json, compact, event, record
from tests.unit.formats.pinpoint.test_decode import LIKE

PARTITION = Partition("events", 0)


def collected(
    *values: bytes,
    account: str | None = None,
    limit: int = 0,
    **chosen: Any,  # noqa: ANN401
) -> Collected:
    """Return what comes of records in a connection of format pinpoint."""
    sink = FileTarget("out", format="pinpoint", aws_account_id=account)
    stream = KinesisTarget("s", "us-east-1", max_record_bytes=limit, format="pinpoint")
    made = Connection("lane", stream if limit else sink, settings=Settings(**chosen))
    fed = Pipeline(PARTITION, compile_lanes([made], "pinpoint", BUILT_IN))
    records = [Rec(at, START, value) for at, value in enumerate(values)]
    return merged([fed.collect(records, NOW), *finished(fed)])


def made(value: bytes, **chosen: Any) -> Json:  # noqa: ANN401
    """Return the one record that comes of one event."""
    out = collected(value, **chosen)
    assert [] == out.dead_letters
    (batch,) = out.batches
    content: Json = json.loads(batch.payload)
    return content


def test_an_event_is_a_record_of_its_own() -> None:
    out = collected(record(EVENT), account="111122223333")
    (batch,) = out.batches
    assert batch.payload == (
        b'{"event_type":"_monetization.purchase","event_timestamp":1790856000123,'
        b'"arrival_timestamp":%d,"event_version":"3.1","application":{"app_id":"a1",'
        b'"package_name":"com.acme.shop","sdk":{"name":"amplify","version":"6.1"},"title":"Shop",'
        b'"version_name":"1.2","version_code":"7"},"client":{"client_id":"e-1"},"device":{"locale":'
        b'{"code":"en_us","country":"US","language":"en"},"make":"Apple","platform":{"name":"ios"}},'
        b'"session":{"session_id":"s-1","start_timestamp":1790855940000},"attributes":'
        b'{"_product_id":"p-1","n":"7"},"metrics":{"_item_price":1.5,"_quantity":2},"endpoint":%b,'
        b'"awsAccountId":"111122223333"}'
    ) % (START, compact(ENDPOINT))
    assert ("e-1", 1) == (batch.mpid, batch.count)


def test_what_is_not_told_has_no_key_and_containers_stay() -> None:
    content = made(record(event(), Endpoint=None))
    assert {
        "event_type": "tap",
        "event_timestamp": 1_790_856_000_000,
        "arrival_timestamp": START,
        "event_version": "3.1",
        "application": {"app_id": "a1", "sdk": {}},
        "client": {"client_id": "e-1"},
        "device": {"platform": {}},
        "session": {},
        "attributes": {},
        "metrics": {},
    } == content
    assert {} == made(record(event(), Endpoint={}))["endpoint"]


@pytest.mark.parametrize("origin", ["_campaign", "_journey"])
def test_campaigns_and_journeys_tell_their_endpoint_in_a_text(origin: str) -> None:
    content = made(record(event(f"{origin}.opened_notification", Attributes={"campaign_id": "c"})))
    assert [*content][-2:] == ["attributes", "client_context"]
    assert ENDPOINT == json.loads(content["client_context"]["custom"]["endpoint"])
    told = made(record(event(f"{origin}.send", Metrics={"n": 1})))
    assert {"n": 1} == told["metrics"]


@pytest.mark.parametrize("kind", ["_SMS.SUCCESS", "_email.open"])
def test_messages_of_other_channels_tell_no_endpoint(kind: str) -> None:
    assert "attributes" == [*made(record(event(kind)))][-1]
    assert {"price_in_millicents_usd": 645} == made(
        record(event(kind, Metrics={"price_in_millicents_usd": 645}))
    )["metrics"]


@pytest.mark.parametrize(
    ("locale", "expected"),
    [
        ("en_US", {"code": "en_US", "country": "US", "language": "en"}),
        ("de-at", {"code": "de-at", "country": "AT", "language": "de"}),
        ("EN", {"code": "EN", "language": "en"}),
        ("zh-Hans-CN", {"code": "zh-Hans-CN", "country": "CN", "language": "zh"}),
        ("es_419", {"code": "es_419", "country": "419", "language": "es"}),
        ("en_GB.UTF-8", {"code": "en_GB.UTF-8", "country": "GB", "language": "en"}),
        ("sr_RS@latin", {"code": "sr_RS@latin", "country": "RS", "language": "sr"}),
        ("_US", {"code": "_US", "country": "US"}),
    ],
)
def test_a_locale_is_its_code_and_what_that_says(locale: str, expected: Json) -> None:
    content = made(record(event(), Endpoint={"Demographic": {"Locale": locale}}))
    assert expected == content["device"]["locale"]


def test_a_device_without_a_locale_has_none() -> None:
    for locale in ({}, {"Locale": ""}, {"Locale": None}):
        told = {"Model": "m", "PlatformVersion": 9, **locale}
        content = made(record(event(), Endpoint={"Demographic": told}))
        assert {"model": "m", "platform": {"version": "9"}} == content["device"]


@pytest.mark.parametrize(
    ("expected", "text"),
    [
        (1_790_856_000_000, "2026-10-01T12:00:00Z"),
        (1_790_856_000_000, "2026-10-01T12:00:00"),
        (1_790_856_000_000, "2026-10-01T14:00:00+02:00"),
        (1_790_856_000_000, "2026-10-01T14:00:00+0200"),
        (1_790_856_000_000, "2026-10-01T14:00:00+02"),
        (1_790_856_000_000, "2026-10-01T08:30:00-03:30"),
        (1_790_856_000_000, "2026-10-01t12:00:00z"),
        (1_790_856_000_000, "2026-10-01 12:00:00"),
        (1_790_856_000_100, "2026-10-01T12:00:00.1Z"),
        (1_790_856_000_123, "2026-10-01T12:00:00.123456789Z"),
        (1_790_856_000_999, "2026-10-01T12:00:00.9999Z"),
        (1_790_856_000_500, "2026-10-01T12:00:00,5Z"),
        (1_790_812_800_000, "2026-10-01"),
        (1_790_856_000_000, "1790856000000"),
        (-1, "1969-12-31T23:59:59.999Z"),
        (None, "yesterday"),
        (None, ""),
        (None, "2026-13-01T12:00:00Z"),
        (None, "9" * 19),
        (None, "2026-10-01T12:00:00Z\ud800"),
    ],
)
def test_times_are_read_as_clients_write_them(expected: int | None, text: str) -> None:
    assert expected == milliseconds(text)


def test_a_time_that_cannot_be_read_is_when_the_event_arrived() -> None:
    times: list[object] = ["yesterday", None, [], ""]
    for odd in times:
        assert START == made(record(event(Timestamp=odd)))["event_timestamp"]
    assert 5 == made(record(event(Timestamp=5)))["event_timestamp"]
    arrivals: list[object] = [None, "x", 1.5, -1, 10**18]
    for odd in arrivals:
        assert START == made(record(event(), ArrivalTimestamp=odd))["arrival_timestamp"]


def test_a_session_has_the_times_that_it_was_sent_with_and_no_duration() -> None:
    sent = {
        "Id": "s",
        "StartTimestamp": "2026-10-01T12:00:00Z",
        "StopTimestamp": "2026-10-01T12:01:00Z",
        "Duration": 60_000,
    }
    assert {
        "session_id": "s",
        "start_timestamp": 1_790_856_000_000,
        "stop_timestamp": 1_790_856_060_000,
    } == made(record(event(Session=sent)))["session"]
    odd = {"Id": 7, "StartTimestamp": "x", "StopTimestamp": None}
    assert {"session_id": "7"} == made(record(event(Session=odd)))["session"]


def test_ids_that_are_no_texts_are_written_as_texts() -> None:
    content = made(record(event(), ApplicationId=7, EndpointId={"a": ["\n"]}))
    assert "7" == content["application"]["app_id"]
    assert {"a": ["\n"]} == json.loads(content["client"]["client_id"])


def test_every_digit_of_a_metric_stays() -> None:
    numbers = b'{"a":1,"b":1.0,"c":1.10,"d":12345678901234567890123,"e":-0.0,"f":1E+2,"g":null}'
    value = record(event(Metrics=1)).replace(b'"Metrics":1', b'"Metrics":' + numbers)
    (batch,) = collected(value).batches
    assert b'"metrics":%b,' % numbers.replace(b',"g":null', b"") in batch.payload


def test_attributes_that_are_no_texts_are_written_as_texts() -> None:
    sent = {"a": 7, "b": 1.50, "c": True, "d": None, "e": {"x": [1]}, "f": "\u00e9\ud800", "g": ""}
    assert {
        "a": "7", "b": "1.5", "c": "true", "e": '{"x":[1]}', "f": "\u00e9\ud800", "g": "",
    } == made(record(event(Attributes=sent)))["attributes"]  # fmt: skip


@pytest.mark.parametrize(
    "odd",
    [
        {"Metrics": {"x": "much"}},
        {"Metrics": {"x": [1]}},
        {"Metrics": [1]},
        {"Attributes": "x"},
        {"Session": "x"},
        {"EventType": 5},
        {"EventType": ""},
    ],
)
def test_an_event_that_cannot_be_written_is_a_letter_of_its_own(odd: Json) -> None:
    out = collected(record(event("a"), event(**odd), event("b")))
    assert ["a", "b"] == [json.loads(batch.payload)["event_type"] for batch in out.batches]
    (letter,) = out.dead_letters
    assert (Reason.NOT_ENCODABLE, 1, 0) == (letter.reason, letter.events, letter.offset)
    assert [event(**odd)] == json.loads(letter.value)["Events"]
    assert {"lane": 3} == out.accepted


@pytest.mark.parametrize("limit", [1_024, 1_100, 1_200, 1_300, 1_500])
def test_an_event_that_outgrows_the_record_is_a_letter_and_no_other_is(limit: int) -> None:
    sent = [event(f"k{n}", Attributes={"pad": "x" * n}) for n in range(0, 1_000, 37)]
    out = collected(record(*sent), limit=limit)
    kept = [json.loads(batch.payload)["event_type"] for batch in out.batches]
    letters = [json.loads(letter.value)["Events"] for letter in out.dead_letters]
    lost = [one["EventType"] for events in letters for one in events]
    assert [one["EventType"] for one in sent] == kept + lost
    assert {Reason.EVENT_TOO_LARGE} == {letter.reason for letter in out.dead_letters}
    assert max(len(batch.payload) + len(batch.mpid) for batch in out.batches) <= limit
    assert kept


def test_white_space_between_values_is_left_out_and_none_within_texts() -> None:
    value = json.dumps(json.loads(record(event(Attributes={"a b": "c\n d"}))), indent=2).encode()
    tight = record(event(Attributes={"a b": "c\n d"}))
    (spaced,), (compacted,) = collected(value).batches, collected(tight).batches
    assert compacted.payload == spaced.payload
    assert b"\n" not in spaced.payload


def test_an_endpoints_halves_of_surrogate_pairs_pass() -> None:
    content = made(record(event("_journey.send"), Endpoint={"Address": " \ud800 ", "Id": "x"}))
    assert " \ud800 " == json.loads(content["client_context"]["custom"]["endpoint"])["Address"]


def test_batch_settings_and_uploads_without_events_change_nothing() -> None:
    values = [record(event("a"), event("b")), record(), record(event("_session.stop"))]
    plain = collected(*values).batches
    in_vain: list[dict[str, Any]] = [
        {"wait_for_complete_batch": True},
        {"send_batches_without_events": True},
    ]
    for chosen in in_vain:
        found = collected(*values, **chosen).batches
        assert [one.payload for one in plain] == [one.payload for one in found]


@settings(max_examples=400, deadline=None)
@given(sent=st.lists(LIKE, max_size=4), context=LIKE, limit=st.sampled_from([0, 1_024]))
def test_every_event_is_in_one_record_or_one_letter(
    sent: list[object], context: object, limit: int
) -> None:
    value = record(*sent, Endpoint=context)
    out = collected(value, limit=limit, include_metadata=limit == 0)
    held = sum(batch.count for batch in out.batches) + sum(one.events for one in out.dead_letters)
    rejected = [one for one in out.dead_letters if not one.connection]
    dropped = sum(out.filtered.values())
    assert len(sent) == held + dropped or rejected
    for batch in out.batches:
        assert b"\n" not in batch.payload
        content = json.loads(batch.payload)
        assert rawjson.compact(batch.payload) == batch.payload
        assert content["event_type"]
        assert not limit or len(batch.payload) <= limit
    for letter in out.dead_letters:
        if letter.connection:
            reads = PINPOINT.decoder(PARTITION, [], sessions=True)
            assert isinstance(reads.decode(letter.value, 1, 1, 1), list)
