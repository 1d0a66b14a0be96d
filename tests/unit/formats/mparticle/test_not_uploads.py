"""What is no upload is one dead letter whose error names the likely cause."""

import json

import pytest

from forwarder.config.connection import Batching
from forwarder.formats.contract import Reject, Upload
from forwarder.formats.mparticle.decode import MParticleDecoder
from forwarder.formats.mparticle.not_uploads import ONLY_UPLOADS
from forwarder.model import Reason
from tests import builders
from tests.builders import PARTITION, connection, encoded, event, records, upload

SECRET = "s3cret"


def decode(value: object, *, sessions: bool = False) -> list[Upload] | Reject:
    decoder = MParticleDecoder(PARTITION, sessions=sessions, places=True)
    return decoder.decode(encoded(value), 7, 1000, 1000)


def refused(value: object) -> str:
    """Return why a record is no upload."""
    found = decode(value)
    assert isinstance(found, Reject)
    assert Reason.NOT_AN_UPLOAD == found.reason
    return found.error


@pytest.mark.parametrize(
    ("words", "value"),
    [
        ("Segment: type, userId", {"type": "track", "userId": SECRET, "context": {"ip": "1"}}),
        ("Segment: type, anonymousId", {"type": "page", "anonymousId": SECRET, "ip": "1"}),
        ("Mixpanel", {"event": SECRET, "properties": {"token": SECRET}, "ip": "1"}),
        ("Amplitude", {"event_type": "x", "user_id": SECRET, "ip": "1", "api_key": SECRET}),
        ("CloudEvents", {"specversion": "1.0", "type": "x", "source": SECRET, "datacontent": 1}),
        ("Debezium", {"before": None, "after": {"x": SECRET}, "op": "c", "source": {}}),
        ("Pinpoint: EndpointId", {"EndpointId": SECRET, "Events": [{"EventType": SECRET}]}),
        ("Pinpoint", {"event_type": SECRET, "event_timestamp": 1, "event_version": "3.1"}),
        ("bare event", {"event_type": "custom_event", "data": {"x": SECRET}}),
        ("bare event", {"event_type": SECRET, "ip": "1"}),
        ("wrapped in `payload`", {"payload": {"mpid": 1, "events": []}, "schema": {}}),
        ("wrapped in `message`", {"message": {"mpid": 1}, "mpid": 1}),
        ("wrapped in `batch`", {"batch": {"events": [event()]}, "mpid": 1, "events": None}),
        ("wrapped in `batch`", {"batch": [{"type": "track"}], "context": {}}),
        ("any key that only an upload has", {"ip": SECRET, "environment": "production"}),
        ("any key that only an upload has", {"events": None, "context": {}}),
        ("any key that only an upload has", {}),
        ("`events` is not an array", {"events": {"x": SECRET}, "mpid": 1}),
        ("`events` is not an array", {"events": SECRET, "mpid": 1}),
    ],
)
def test_the_error_names_the_likely_cause_and_quotes_nothing(words: str, value: object) -> None:
    error = refused(value)
    assert words in error
    assert SECRET not in error
    assert error == refused([upload(event()), value]), "one such in an array rejects the record"


@pytest.mark.parametrize("name", sorted(ONLY_UPLOADS))
def test_a_key_that_only_an_upload_has_stands_for_events(name: str) -> None:
    for value in ({name: "x"}, {name: None}, {name: "x", "events": None}, {name: 1, "batch": [1]}):
        assert isinstance(decode(value), list)
        assert isinstance(decode([value, upload(event())]), list)


def test_a_list_of_events_makes_an_upload_whatever_is_beside_it() -> None:
    assert isinstance(decode({"events": []}), list)
    assert isinstance(decode({"events": [event()], "payload": {}}), list)


@pytest.mark.parametrize(
    "value",
    [
        b'{"mpid":1,"events":[{"event_type":"a"}],"events":[{"event_type":"b"}]}',
        b'{"mpid":1,"events":[],"mpid":1}',
        b'{"mpid":1,"events":[],"mpid":2}',
        b'{ "mpid" : 1 , "events" : [ ] , "mpid" : 1 }',
        b'{"events":[],"ev\\u0065nts":[]}',
        b'{"events":[],"x":1,"x":1}',
        b'{"events":[],"":1,"":1}',
        b'{"events":[],"x":"\\ud800","x":1}',
        b'{"events":[],"\\ud800":1,"\\ud800":1}',
        b'[{"events":[]},{"events":[],"mpid":1,"mpid":1}]',
        b'\n{"events":[],"mpid":1,"mpid":1}\n',
    ],
)
def test_a_key_given_twice_is_one_dead_letter(value: bytes) -> None:
    assert "given twice" in refused(value)


def test_the_error_names_a_key_given_twice_only_if_it_is_of_the_format() -> None:
    assert "`events` is given twice" == refused(b'{"events":[],"events":[]}')
    assert "a key is given twice" == refused(b'{"events":[],"s3cret":1,"s3cret":2}')


@pytest.mark.parametrize(
    "value",
    [
        b' {\t"mpid" :\n1 , "events": [ {"event_type" : "a" } ] , "x" : { } }\r\n',
        b'{"events":[],"ev\\u0065nt":[], "a\\"b":1, "\\u00e9":1}',
        b'{"events":[],"x":"\\ud800","\\ud800":2}',
        b'{"events":null,"mpid":1}',
        b'{"mpid": 1}',
        b'{"x":1,"events":[]}\n',
    ],
)
def test_spaces_and_escapes_are_not_taken_for_it(value: bytes) -> None:
    assert isinstance(decode(value), list)
    assert isinstance(decode(json.dumps([{"mpid": 1, "a": {"b": [1]}}], indent=3).encode()), list)


# ------------------------------------------------ inside: forwarded is what windows are keyed by


def context_of(text: bytes) -> dict[str, object]:
    """Return an upload's context, in which no object may have a key twice."""
    found = decode(text)
    assert isinstance(found, list)

    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        assert len(dict(pairs)) == len(pairs)
        return dict(pairs)

    content = json.loads(found[0].context, object_pairs_hook=once)
    assert isinstance(content, dict)
    return {**content, "keyed": found[0].device}


def test_a_device_or_app_named_twice_is_forwarded_as_it_is_keyed() -> None:
    inner = b'{"ios_idfv":"one","platform":"iOS","ios_idfv":"two"}'
    found = context_of(b'{"events":[],"device_info":%b,"x":1}' % inner)
    assert {"ios_idfv": "two", "platform": "iOS"} == found["device_info"]
    assert b'"two"' in bytes(found["keyed"])  # type: ignore[call-overload]
    for app in (b'{"package":"a","package":"b"}', b'{"package":"a","p\\u0061ckage":"b"}'):
        found = context_of(b'{"events":[],"mpid":1,"application_info":%b}' % app)
        assert {"package": "b"} == found["application_info"]
        assert b'"b"' in bytes(found["keyed"])  # type: ignore[call-overload]


def test_a_session_named_twice_is_forwarded_as_it_is_keyed() -> None:
    data = b'{"session_id":1,"n":5,"session_id":2}'
    body = b'{"event_type":"a","data":%b},{"event_type":"b","data":{"session_id":3}}' % data
    found = decode(b'{"mpid":1,"events":[%b]}' % body, sessions=True)
    assert isinstance(found, list)
    assert [b'"2"', b'"3"'] == found[0].sessions
    assert b'{"session_id":2,"n":5}' in found[0].body
    assert b"1" not in found[0].body


def test_an_identity_said_twice_is_forwarded_as_it_is_keyed() -> None:
    people = b'{"email":"a","email":"b"}'
    value = b'{"mp_deviceid":"d","events":[{"event_type":"opt_out"}],"user_identities":%b}' % people
    plain = upload(event("opt_out"), device="d", user_identities={"email": "b"})
    lane = connection(batching=Batching(max_age_ms=10**9))
    (batch,) = builders.run(lane, records(value, plain)).batches
    assert 2 == batch.count
