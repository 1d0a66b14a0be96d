"""What is a record of Pinpoint, whose it is, and that nothing odd gets through or gets lost."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder.config.connection import Settings
from forwarder.formats import bounds, rawjson
from forwarder.formats.contract import Reject, Upload
from forwarder.formats.registry import PINPOINT
from forwarder.model import Reason
from tests.builders import PARTITION
from tests.unit.formats.pinpoint.samples import (
    ENDPOINT,
    ENVELOPE,
    EVENT,
    FINISHED,
    compact,
    event,
    record,
)


def decode(value: object, *, sessions: bool = True) -> list[Upload] | Reject:
    """Decode with everything asked for."""
    made = PINPOINT.event_filter("lane", Settings())
    decoder = PINPOINT.decoder(PARTITION, [made], sessions=sessions, duplicates=sessions)
    raw = value if isinstance(value, bytes) else compact(value)
    return decoder.decode(raw, 7, 1000, 1000)


def uploads(value: object) -> list[Upload]:
    """Decode what has to be accepted."""
    found = decode(value)
    assert not isinstance(found, Reject), found
    return found


def one(value: object) -> Upload:
    """Decode what has to be one upload."""
    (found,) = uploads(value)
    return found


def test_a_gateways_record_is_an_upload_whose_context_is_all_but_its_events() -> None:
    more = event(AppPackageName=EVENT["AppPackageName"])
    upload = one(record(EVENT, more, AppX={"y": [1.0, None]}))
    assert ["_monetization.purchase", "tap"] == upload.types
    context = json.loads(upload.context)
    own = ["ApplicationId", "EndpointId", "ArrivalTimestamp", "Endpoint", "AppX", "Application"]
    assert own == [*context]
    assert ENDPOINT == context["Endpoint"]
    names = ("AppPackageName", "AppTitle", "AppVersionCode", "SdkName", "ClientSdkVersion")
    assert {name: EVENT[name] for name in names} == context["Application"]


def test_an_upload_ends_where_the_app_of_its_events_changes() -> None:
    shop, mail = ({"AppPackageName": name} for name in ("shop", "mail"))
    sent = [event(**shop), event(**shop), event(**mail), event(), event(**shop)]
    found = uploads(record(*sent))
    assert [(0, 2), (2, 1), (3, 1), (4, 1)] == [(u.start, len(u.types)) for u in found]
    assert [compact(one) for one in sent] == [
        bytes(one) for u in found for one in rawjson.split_values(u.body)
    ]
    named = [[json.loads(token) for token in PINPOINT.applications(u)] for u in found]
    assert [["a1", "shop"], ["a1", "mail"], ["a1"], ["a1", "shop"]] == named
    assert 1 == len({u.device for u in found})


def test_endpoints_that_every_change_of_the_app_would_repeat_are_bounded() -> None:
    sent = [event(AppPackageName=f"p{n % 2}") for n in range(2_000)]
    large = {"Attributes": {"a": ["x" * 10_000]}}
    found = decode(record(*sent, Endpoint=large))
    assert isinstance(found, Reject)
    assert Reason.TOO_MANY_PARTS == found.reason
    assert 2_000 == len(uploads(record(*sent)))


@pytest.mark.parametrize(
    ("reason", "value"),
    [
        (Reason.INVALID_JSON, b""),
        (Reason.INVALID_JSON, b"{"),
        (Reason.INVALID_JSON, record() + b" x"),
        (Reason.INVALID_JSON, b'{"EndpointId":"e","Events":[],"x":01}'),
        (Reason.INVALID_JSON, b'{"EndpointId":"e","Events":[],"x":["\\ud800",NaN]}'),
        (Reason.INVALID_JSON, b'{"Endpoint":' + b"[" * 5000 + b"]" * 5000 + b',"Events":[]}'),
        (
            Reason.INVALID_JSON,
            b'{"Endpoint":' + b'{"a":' * 5000 + b"1" + b"}" * 5000 + b',"Events":[]}',
        ),
        (Reason.INVALID_UTF8, b'{"EndpointId":"\xff","Events":[]}'),
        (Reason.NOT_AN_UPLOAD, b"5"),
        (Reason.NOT_AN_UPLOAD, b"null"),
        (Reason.NOT_AN_UPLOAD, b"[]"),
        (Reason.NOT_AN_UPLOAD, b"{}"),
        (Reason.NOT_AN_UPLOAD, {"hello": 1}),
        (Reason.NOT_AN_UPLOAD, record(Events={})),
        (Reason.NOT_AN_UPLOAD, record(Events="x")),
        (Reason.NOT_AN_UPLOAD, record(event(), 5)),
        (Reason.NOT_AN_UPLOAD, record([])),
        (Reason.NOT_AN_UPLOAD, [json.loads(record()), 5]),
        (Reason.NOT_AN_UPLOAD, [json.loads(record()), {"hello": 1}]),
        (Reason.NOT_AN_UPLOAD, b'{"EndpointId":"e","EndpointId":"f","Events":[]}'),
        (Reason.NOT_AN_UPLOAD, b'{"EndpointId":"e","Endpoint\\u0049d":"f","Events":[]}'),
        (Reason.NOT_AN_UPLOAD, b'{"EndpointId":"e","Events":[],"Events":[{"EventType":"a"}]}'),
        (Reason.NOT_AN_UPLOAD, b'{"event_type":"a","event_version":"3.1","event_type":"b"}'),
        (Reason.NOT_AN_UPLOAD, {"BatchItem": {}}),
        (Reason.NOT_AN_UPLOAD, {"events": [], "mpid": 1}),
        (Reason.NOT_AN_UPLOAD, event()),
        (Reason.NOT_AN_UPLOAD, {"event_type": "a"}),
    ],
)
def test_what_is_no_record_is_rejected_as_a_whole(reason: Reason, value: object) -> None:
    found = decode(value)
    assert isinstance(found, Reject)
    assert reason == found.reason
    assert "\n" not in found.error


@pytest.mark.parametrize(
    ("words", "value"),
    [
        ("the body of a PutEvents request", {"BatchItem": {"e": {}}}),
        ("without its endpoint", event()),
        ("an upload of mParticle", {"events": [], "mpid": 1}),
        ("`EndpointId` is given twice", b'{"EndpointId":"e","EndpointId":"f","Events":[]}'),
        ("a key is given twice", b'{"EndpointId":"e","secret":1,"secret":2,"Events":[]}'),
        ("UTF-16", '{"Events":[]}'.encode("utf-16")),
    ],
)
def test_the_error_names_the_likely_cause_and_quotes_nothing(words: str, value: object) -> None:
    found = decode(value)
    assert isinstance(found, Reject)
    assert words in found.error
    assert "secret" not in found.error


@pytest.mark.parametrize(
    "prefix", [b"\xef\xbb\xbf", b"\0\0\0\0\x07", b"\0\0\0\0\x07\xef\xbb\xbf", b" \n"]
)
def test_what_other_programs_put_in_front_is_taken_off(prefix: bytes) -> None:
    assert ["tap"] == one(prefix + record(event())).types


@pytest.mark.parametrize(
    ("kinds", "sent"),
    [
        ([], []),
        ([""], [{}]),
        (["", "a"], [{"EventType": 5}, event("a")]),
        (["a"], [{"EventType": "a", "Session": "x", "AppPackageName": 5, "EventId": [1]}]),
        (["a\ud800"], [event("a\ud800")]),
        (["b"], [{"event_type": "b"}]),
        (["a"], [{"event_type": "b", "EventType": "a"}]),
    ],
)
def test_odd_events_are_accepted_with_the_type_they_name(kinds: list[str], sent: list[Any]) -> None:
    upload = one(record(*sent))
    assert kinds == upload.types
    assert len(kinds) == len(upload.sessions) == len(upload.duplicate_keys)
    assert b",".join(map(compact, sent)) == upload.body


def test_records_of_an_array_are_numbered_through() -> None:
    values = [json.loads(record(event(), event())), FINISHED, json.loads(record()), ENVELOPE]
    found = uploads(values)
    assert [(0, 2), (2, 1), (3, 0), (4, 1)] == [(u.start, len(u.types)) for u in found]
    assert {7} == {u.offset for u in found}


def test_an_array_of_too_many_records_is_a_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "MAX_UPLOADS", 3)
    monkeypatch.setattr(bounds, "MAX_EVENTS", 5)
    whole = json.loads(record(event(), event()))
    assert 2 == len(uploads([whole] * 2))
    for value in ([whole] * 3, [whole] * 4, json.loads(record(*[event()] * 6))):
        found = decode(value)
        assert isinstance(found, Reject)
        assert Reason.TOO_MANY_PARTS == found.reason


def test_a_session_is_named_by_its_id_whatever_the_spelling() -> None:
    sent = [
        event(Session={"Id": "s"}),
        event(Session={"Id": "\u0073"}),
        event(),
        event(Session=None),
        event(Session={"Id": ""}),
        event(Session={"Id": "x" * 1000}),
        {"event_type": "a", "session": {"session_id": "s"}},
    ]
    names = one(record(*sent)).sessions
    assert [b'"s"', b'"s"', b"", b"", b""] == names[:5]
    assert b'"~' == names[5][:2]
    assert b'"s"' == names[6]
    assert [] == one(record()).sessions
    found = decode(record(*sent), sessions=False)
    assert not isinstance(found, Reject)
    assert ([], ()) == (found[0].sessions, found[0].duplicate_keys)


def test_the_device_key_is_of_app_and_endpoint_and_the_owner_of_the_user_too() -> None:
    def keys(**further: object) -> tuple[bytes, bytes]:
        upload = one(record(event(), **further))
        return upload.device, upload.owner

    device, owner = keys()
    assert b'"a1","e-1"' == device
    assert owner.startswith(device + b"#")
    assert (device, device) == keys(Endpoint={})
    assert (device, device) == keys(Endpoint={"User": {"UserId": ""}})
    other = keys(Endpoint={"User": {"UserId": "u-2"}})
    assert device == other[0]
    assert owner != other[1]
    assert 4 == len(
        {keys(**{name: "x"})[0] for name in ("ApplicationId", "EndpointId")}
        | {device, keys(ApplicationId=None)[0]}
    )
    assert keys(EndpointId=7) == keys(EndpointId="7")
    odd = keys(Endpoint={"User": "x", "Demographic": 5})
    assert (device, device) == odd
    assert len(keys(EndpointId="é" * 5000)[0]) < 200


def test_what_names_no_endpoint_is_its_own_key_and_never_the_same() -> None:
    for value in (record(event(), EndpointId=None), record(event(), EndpointId="")):
        upload = one(value)
        assert upload.device == upload.owner
        assert upload.device.startswith(b"@")
        assert [b""] == [*upload.duplicate_keys]


def test_an_event_is_known_by_app_endpoint_and_the_first_id_that_it_names() -> None:
    (key,) = one(record(event(EventId="i-9"))).duplicate_keys
    assert [key] == [*one(record(event(EventId="i-9", Attributes={"EventId": "x"}))).duplicate_keys]
    twice = b'{"EventId":"i-9","EventType":"a","EventId":"of the client"}'
    spelled = b'{"EventId":"i-9","EventType":"a","Event\\u0049d":"of the client"}'
    for raw in (twice, spelled):
        value = record().replace(b'"Events":[]', b'"Events":[%b]' % raw)
        assert [key] == [*one(value).duplicate_keys]
    beside = record().replace(b'"Events":[]', b'"Events":[%b,{"EventType":"b"}]' % twice)
    assert [key, b""] == [*one(beside).duplicate_keys]
    others = [
        record(event(EventId="i-8")),
        record(event(EventId="i-9"), ApplicationId="a2"),
        record(event(EventId="i-9"), EndpointId="e-2"),
        record(event(EventId='1","i-9'), EndpointId="e"),
    ]
    assert 5 == len({one(value).duplicate_keys[0] for value in others} | {key})
    for finished in (FINISHED, ENVELOPE):
        assert [b""] == [*one(finished).duplicate_keys]


@pytest.mark.parametrize(
    ("platform", "value"),
    [
        ("ios", record()),
        ("", record(Endpoint={})),
        ("", record(Endpoint=None)),
        ("", record(Endpoint={"Demographic": None})),
        ("7", record(Endpoint={"Demographic": {"Platform": 7}, "User": 3})),
        ("x", record(Endpoint={"Demographic": {"Platform": "\u0078"}, "A": "\ud800"})),
        ("", record(Endpoint={"Demographic": "x"})),
        ("", record(Endpoint=[])),
        ("ios", FINISHED),
        ("iOS", ENVELOPE),
        (
            "android",
            {**FINISHED, "client_context": {}, "device": {"platform": {"name": "android"}}},
        ),
    ],
)
def test_the_platform_is_that_of_the_endpoint(platform: str, value: object) -> None:
    assert platform == json.loads(PINPOINT.platform(one(value)))


def test_a_record_says_from_when_it_is() -> None:
    assert 5 == PINPOINT.record_time(record(ArrivalTimestamp=5))
    assert 1_790_856_000_500 == PINPOINT.record_time(compact(FINISHED))
    assert 1_790_856_001_000 == PINPOINT.record_time(compact(ENVELOPE))
    assert 1_790_856_000_500 == PINPOINT.record_time(compact([{"Events": []}, FINISHED]))
    odd = (record(ArrivalTimestamp=1e30), record(ArrivalTimestamp=[]))
    for value in (b"", b"[", b"[" * 90_000, b"5", *odd):
        assert PINPOINT.record_time(value) is None


@pytest.mark.parametrize("depth", [*range(1, 900, 37), 5_000])
def test_nesting_that_decode_accepts_never_stops_a_later_stage(depth: int) -> None:
    deep = b"[" * depth + b"]" * depth
    for value in (
        record(event()).replace(b'"Endpoint":{', b'"Endpoint":{"x":%b,' % deep),
        record(event()).replace(b'"EventType"', b'"x":%b,"EventType"' % deep),
        compact(FINISHED).replace(b'"attributes"', b'"x":%b,"attributes"' % deep),
    ):
        found = decode(value)
        if isinstance(found, Reject):
            assert Reason.INVALID_JSON == found.reason
        else:
            PINPOINT.platform(found[0])
            PINPOINT.upload(found[0].body, found[0].context)


ODD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
NAMES = st.sampled_from([
    "ApplicationId", "EndpointId", "ArrivalTimestamp", "Endpoint", "Events", "event_type",
    "event_version", "event_timestamp", "application", "client", "device", "session", "endpoint",
    "client_context", "EventType", "EventId", "Timestamp", "Session", "AppPackageName",
    "Attributes", "Metrics", "Id", "User", "UserId", "Demographic", "Platform", "custom", "app_id",
    "client_id", "session_id", "id", "user_id", "locale", "code", "platform", "name", "attributes",
    "metrics", "Application",
])  # fmt: skip
LIKE = st.recursive(
    ODD,
    lambda inner: st.dictionaries(NAMES, inner, max_size=6) | st.lists(inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=600, deadline=None)
@given(value=st.one_of(LIKE, st.dictionaries(NAMES, LIKE, max_size=8)))
def test_any_json_is_uploads_or_a_reject_and_every_event_keeps_its_place(value: object) -> None:
    found = decode(value)
    if isinstance(found, Reject):
        return
    at = 0
    for upload in found:
        assert at == upload.start
        at += max(len(upload.types), 1)
        assert len(upload.types) == len(upload.sessions) == len(upload.duplicate_keys)
        assert len(upload.types) == (len(rawjson.split_values(upload.body)) if upload.body else 0)
        assert upload.shape == PINPOINT.shape(upload.context)
        json.loads(PINPOINT.platform(upload))
        assert [json.loads(token) for token in PINPOINT.applications(upload)]
        letter = PINPOINT.upload(upload.body, upload.context, keyless=upload.keyless)
        if upload.types:
            (again,) = uploads(letter)
            assert (upload.types, upload.sessions) == (again.types, again.sessions)
            assert (upload.body, upload.context) == (again.body, again.context)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_a_mutated_record_never_raises(data: st.DataObject) -> None:
    sample = data.draw(
        st.sampled_from([record(EVENT, event()), compact(FINISHED), compact(ENVELOPE)])
    )
    at = data.draw(st.integers(0, len(sample)))
    cut = (
        sample[:at] + data.draw(st.binary(max_size=5)) + sample[at + data.draw(st.integers(0, 9)) :]
    )
    found = decode(cut)
    if not isinstance(found, Reject):
        for upload in found:
            PINPOINT.platform(upload)
            PINPOINT.applications(upload)
