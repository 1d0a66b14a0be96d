"""Finished records of the stream, and what mParticle's documents make of them."""

import json
from typing import Any

import pytest

from forwarder.collect.pipeline import Pipeline, compile_lanes
from forwarder.config.connection import Connection, Match, Settings
from forwarder.config.targets import FileTarget
from forwarder.formats.registry import BUILT_IN
from forwarder.model import Partition
from tests.builders import NOW, START, Rec, finished, merged
from tests.unit.formats.pinpoint.samples import ENVELOPE

Json = dict[str, Any]

ENDPOINT: Json = {
    "ChannelType": "APNS",
    "Address": "token-1",
    "Demographic": {"AppVersion": "1.2", "Locale": "en_US", "Make": "Apple", "Platform": "iOS"},
    "Location": {"City": "Bern"},
    "User": {"UserId": "user-7"},
    "Id": "e-1",
}
RECORD: Json = {
    "event_type": "_campaign.opened_notification",
    "event_timestamp": START,
    "arrival_timestamp": START + 7,
    "event_version": "3.1",
    "application": {
        "app_id": "a1",
        "package_name": "com.acme.shop",
        "sdk": {"name": "s", "version": "2.1"},
        "title": "Shop",
        "version_name": "1.2",
        "version_code": "7",
    },
    "client": {"client_id": "e-1", "cognito_id": "secret"},
    "device": {
        "locale": {"code": "en_US", "country": "US", "language": "en"},
        "make": "Apple",
        "platform": {"name": "iOS", "version": "26"},
    },
    "session": {},
    "attributes": {"campaign_id": "c-1"},
    "client_context": {"custom": {"endpoint": json.dumps(ENDPOINT)}},
    "awsAccountId": "111122223333",
}


def documents(*records: Json, match: Match | None = None, **settings: Any) -> list[Json]:  # noqa: ANN401
    """Return what a connection makes of finished records."""
    chosen = Connection(
        "lane", FileTarget("out"), match=match or Match(), settings=Settings(**settings)
    )
    fed = Pipeline(Partition("in", 0), compile_lanes([chosen], "pinpoint", BUILT_IN))
    told = [Rec(at, START + at, json.dumps(one).encode()) for at, one in enumerate(records)]
    out = merged([fed.collect(told, NOW), *finished(fed)])
    assert [] == out.dead_letters
    return [json.loads(batch.payload) for batch in out.batches]


def plain(**endpoint: object) -> Json:
    """Return an app's record, whose endpoint is an object."""
    record = {key: value for key, value in RECORD.items() if key != "client_context"}
    return record | {"event_type": "play", "endpoint": {**ENDPOINT, **endpoint}}


def test_a_campaigns_record_tells_of_its_endpoint_as_an_apps_does() -> None:
    one, other = (documents(record)[0] for record in (RECORD, plain()))
    for document in (one, other):
        assert "customer_id" == document["user_identities"][0]["identity_type"]
        assert "token-1" == document["device_info"]["push_token"]
        assert {"city_name": "Bern"} == document["events"][0]["data"]["location"]
    same = {"events", "message_id", "batch_id"}
    assert {k: v for k, v in one.items() if k not in same} == {
        k: v for k, v in other.items() if k not in same
    }
    (event,) = one["events"]
    assert "push_reaction" == event["event_type"]
    assert "token-1" == event["data"]["push_message_token"]
    assert {"campaign_id": "c-1"} == event["data"]["custom_attributes"]
    assert {"arrival_timestamp": START + 7} == event["data"]["pinpoint"]
    application = {
        "package": "com.acme.shop",
        "application_name": "Shop",
        "application_build_number": "7",
        "application_version": "1.2",
    }
    assert application == one["application_info"]
    assert "2.1" == one["sdk_version"]


def test_where_the_endpoint_says_nothing_of_the_device_the_record_does() -> None:
    for custom in ({"endpoint": "not an object"}, {"endpoint": "{odd"}, {}):
        (document,) = documents({**RECORD, "client_context": {"custom": custom}})
        assert {
            "platform": "iOS",
            "os_version": "26",
            "device_manufacturer": "Apple",
            "locale_language": "en",
            "locale_country": "US",
        } == document["device_info"]
        assert "user_identities" not in document


def test_records_of_one_endpoint_share_a_document() -> None:
    (document,) = documents(RECORD, plain(), plain(Location={"City": "Basel"}))
    assert ["push_reaction", "custom_event", "custom_event"] == [
        event["event_type"] for event in document["events"]
    ]
    assert 3 == len({event["data"]["event_id"] for event in document["events"]})


@pytest.mark.parametrize(
    ("match", "wanted"),
    [
        (Match(application=frozenset({"a1"})), True),
        (Match(application=frozenset({"com.acme.shop"})), True),
        (Match(application=frozenset({"other"})), False),
        (Match(platform=frozenset({"ios"})), True),
        (Match(platform=frozenset({"android"})), False),
    ],
)
def test_a_match_looks_at_finished_records_as_at_others(match: Match, *, wanted: bool) -> None:
    assert wanted == bool(documents(RECORD, match=match))


def test_an_envelope_of_awss_clients_becomes_a_document_as_well() -> None:
    (document,) = documents(ENVELOPE)
    (event,) = document["events"]
    assert ("session_end", 3_600_000) == (
        event["event_type"],
        event["data"]["session_duration_ms"],
    )
    assert ENVELOPE["session"]["id"] == event["data"]["session_uuid"]
    assert (
        ENVELOPE["application"]["app_id"]
        == (document["integration_attributes"]["pinpoint"]["ApplicationId"])
    )


def test_settings_govern_a_finished_record_as_any_other() -> None:
    off: dict[str, Any] = {
        "include_location_information": False,
        "include_metadata": False,
        "include_user_identities": False,
    }
    (document,) = documents(RECORD, **off)
    text = json.dumps(document)
    assert not [one for one in ("Bern", "Apple", "token-1", "user-7", "secret") if one in text]
    assert {"package": "com.acme.shop"} == document["application_info"]
    assert [] == documents(RECORD, send_push_registrations_and_receipts=False)
