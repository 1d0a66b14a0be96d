"""The record of a topic with format: pinpoint, byte for byte."""

import json

from hypothesis import given
from hypothesis import strategies as st

from forwarder.formats.pinpoint.record import encode_event, encode_record, record_key


def test_an_event_carries_the_id_that_it_was_sent_under() -> None:
    event = encode_event("e-1", b'{"EventType":"a","Timestamp":"2026-01-01T00:00:00Z"}')
    assert event == b'{"EventId":"e-1","EventType":"a","Timestamp":"2026-01-01T00:00:00Z"}'


def test_an_event_without_members_is_its_id_alone() -> None:
    assert encode_event("e-1", b"{ }") == b'{"EventId":"e-1"}'


@given(st.text(), st.text(), st.text(), st.lists(st.text(), max_size=3))
def test_a_record_is_json_whatever_its_names_are(
    app: str, endpoint: str, event_id: str, kinds: list[str]
) -> None:
    events = [encode_event(event_id, json.dumps({"EventType": kind}).encode()) for kind in kinds]
    value = encode_record(app, endpoint, 17, b'{"Id":"x"}', events)
    expected = {
        "ApplicationId": app,
        "EndpointId": endpoint,
        "ArrivalTimestamp": 17,
        "Endpoint": {"Id": "x"},
        "Events": [{"EventId": event_id, "EventType": kind} for kind in kinds],
    }
    assert expected == json.loads(value)


def test_the_key_names_app_and_endpoint() -> None:
    assert record_key("a1", "e-1") == b"a1/e-1"
