"""Finished records pass as their own bytes; the enrichment envelope becomes one of them."""

import json

import pytest

from tests.builders import START
from tests.unit.formats.pinpoint.samples import ENDPOINT, ENVELOPE, FINISHED, Json, compact
from tests.unit.formats.pinpoint.test_decode import one
from tests.unit.formats.pinpoint.test_documents import collected, made

EMAIL: Json = {
    "event_type": "_email.send",
    "event_timestamp": 1,
    "arrival_timestamp": 2,
    "event_version": "3.1",
    "application": {"app_id": "a1", "sdk": {}},
    "client": {"client_id": "e-1"},
    "device": {"platform": {}},
    "session": {},
    "attributes": {"feedback": "delivered"},
    "awsAccountId": "1",
    "facets": {"email_channel": {"mail_event": {"mail": {"message_id": "m"}}}},
}
SMS: Json = {**EMAIL, "event_type": "_SMS.SUCCESS", "metrics": {"price_in_millicents_usd": 645.0}}


@pytest.mark.parametrize(
    "value",
    [
        compact(FINISHED),
        compact(EMAIL),
        compact(SMS),
        json.dumps(FINISHED).encode(),
        b" " + compact(EMAIL) + b"\r\n",
        compact({**FINISHED, "brand_new": {"a": [1.50, None]}, "event_version": "3.2"}),
        compact({"event_type": "a", "event_timestamp": 1}),
    ],
)
def test_a_finished_record_is_forwarded_as_its_own_bytes(value: bytes) -> None:
    (batch,) = collected(value, account="222233334444").batches
    assert value.strip() == batch.payload
    again = collected(batch.payload).batches
    assert [batch.payload] == [one.payload for one in again]


def test_a_finished_record_over_several_lines_becomes_one() -> None:
    (batch,) = collected(json.dumps(FINISHED, indent=1).encode()).batches
    assert compact(FINISHED) == batch.payload


def test_the_context_of_a_finished_record_is_that_of_a_gateways() -> None:
    told = {
        **FINISHED,
        "application": {
            "app_id": "a1",
            "package_name": "shop",
            "title": "Shop",
            "version_name": "1.2",
            "version_code": None,
            "sdk": {"name": "n", "version": "v"},
        },
    }
    names = {"AppPackageName": "shop", "AppTitle": "Shop", "SdkName": "n", "ClientSdkVersion": "v"}
    assert {
        "ApplicationId": "a1",
        "EndpointId": "e-1",
        "ArrivalTimestamp": FINISHED["arrival_timestamp"],
        "Endpoint": ENDPOINT,
        "Application": names,
    } == json.loads(one(told).context)


def test_a_record_without_an_endpoint_tells_of_its_device() -> None:
    device = {"locale": {"code": "en_US"}, "make": "m", "model": "x", "platform": {"name": "ios"}}
    told = {**EMAIL, "device": device, "application": {"app_id": "a1", "version_name": "1"}}
    assert {
        "AppVersion": "1",
        "Locale": "en_US",
        "Make": "m",
        "Model": "x",
        "Platform": "ios",
    } == json.loads(one(told).context)["Endpoint"]["Demographic"]
    assert "Endpoint" not in json.loads(one(EMAIL).context)


@pytest.mark.parametrize("text", ["", "{", "[]", "5", '{"a":' * 5_000, "\ud800"])
def test_a_text_that_is_no_endpoint_is_none(text: str) -> None:
    told = {**FINISHED, "device": {}, "client_context": {"custom": {"endpoint": text}}}
    assert "Endpoint" not in json.loads(one(told).context)
    assert 1 == len(collected(compact(told)).batches)


def test_a_key_that_tells_whose_it_is_and_stands_twice_is_forwarded_as_it_was_read() -> None:
    twice = compact(EMAIL).replace(b'"app_id":"a1"', b'"app_id":"a0","app_id":"a1"')
    upload = one(twice)
    assert b'"a1","e-1"' == upload.device
    (batch,) = collected(twice).batches
    assert compact(EMAIL) == batch.payload
    both = b'"client_id":"e-0","client_i\\u0064":"e-1"'
    spelled = compact(EMAIL).replace(b'"client_id":"e-1"', both)
    (batch,) = collected(spelled).batches
    assert compact(EMAIL) == batch.payload
    inside = {**EMAIL, "attributes": {"app_id": "x", "client_id": "y", "session_id": "z"}}
    (batch,) = collected(compact(inside)).batches
    assert compact(inside) == batch.payload


def test_an_envelope_becomes_the_record_that_it_claims_to_be() -> None:
    (batch,) = collected(compact(ENVELOPE)).batches
    endpoint = {
        "Demographic": {"AppVersion": "1.2", "Locale": "en-US", "Make": "Apple", "Platform": "iOS"},
        "User": {"UserId": "u-1"},
        "ApplicationId": "a1",
        "Id": "e-1",
    }
    assert (
        compact(
            {
                "event_type": "_session.stop",
                "event_timestamp": 1_790_856_000_500,
                "arrival_timestamp": 1_790_856_001_000,
                "event_version": "3.1",
                "application": {"app_id": "a1", "sdk": {"name": "n"}, "version_name": "1.2"},
                "client": {"client_id": "e-1"},
                "device": {
                    "locale": {"code": "en-US", "country": "US", "language": "en"},
                    "make": "Apple",
                    "platform": {"name": "iOS"},
                },
                "session": {
                    "session_id": "s-1",
                    "start_timestamp": 1_790_852_400_000,
                    "stop_timestamp": 1_790_856_000_000,
                },
                "attributes": {},
                "metrics": {},
                "endpoint": endpoint,
                "awsAccountId": "111122223333",
            }
        )
        == batch.payload
    )
    (again,) = collected(batch.payload).batches
    assert batch.payload == again.payload
    upload = one(ENVELOPE)
    assert [b'"s-1"'] == upload.sessions
    assert b"#" in upload.owner


@pytest.mark.parametrize(
    "mark",
    [
        {"event_timestamp": "2026-10-01T12:00:00Z"},
        {"arrival_timestamp": "2026-10-01T12:00:00Z"},
        {"session": {"id": "s"}},
        {"session": {"session_id": "s", "start_timestamp": "2026-10-01T12:00:00Z"}},
        {"session": {"session_id": "s", "duration": 5}},
        {"client": {"client_id": "e-1", "user_id": "u"}},
    ],
)
def test_anything_that_no_true_record_has_marks_an_envelope(mark: Json) -> None:
    content = made(compact({**FINISHED, "event_type": "tap", **mark}))
    assert {} == content["metrics"]
    assert isinstance(content["event_timestamp"], int)
    assert isinstance(content["arrival_timestamp"], int)
    assert {"id", "duration"}.isdisjoint(content["session"])
    assert "user_id" not in content["client"]


def test_an_envelope_that_does_not_say_when_it_arrived_arrived_with_its_record() -> None:
    bare = {"event_type": "tap", "event_timestamp": "soon", "event_version": "3.1"}
    content = made(compact(bare))
    assert (START, START) == (content["event_timestamp"], content["arrival_timestamp"])
    assert {"platform": {}} == content["device"]
    assert [*content][-1] == "endpoint"


def test_an_envelope_of_a_message_has_no_metrics_and_no_endpoint() -> None:
    told = {**EMAIL, "event_timestamp": "2026-10-01T12:00:00Z", "more": 1}
    content = made(compact(told))
    assert {"metrics", "endpoint"}.isdisjoint(content)
    assert ["attributes", "more", "facets", "awsAccountId"] == [*content][-4:]


def test_who_the_user_is_is_lost_by_no_envelope_of_an_app_or_a_campaign() -> None:
    client = {"client_id": "e-1", "user_id": "u-9"}
    told = made(compact({**ENVELOPE, "client": client, "endpoint": {"Address": "x"}}))
    assert ("x", {"UserId": "u-9"}) == (told["endpoint"]["Address"], told["endpoint"]["User"])
    bare = {k: v for k, v in ENVELOPE.items() if k != "session"}
    campaign = made(compact({**bare, "client": client, "event_type": "_campaign.send"}))
    assert "endpoint" not in campaign
    endpoint = json.loads(campaign["client_context"]["custom"]["endpoint"])
    assert ({"UserId": "u-9"}, "e-1") == (endpoint["User"], endpoint["Id"])
