"""Every setting, through the whole pipeline, judged by the oracle."""

import dataclasses
import json
from typing import Any

import pytest

from forwarder.config.connection import Batching, Connection, Match, Settings
from tests import builders, oracle
from tests.builders import connection, event, records, upload

_LOCATION = {"latitude": 1.50, "longitude": -2.25}
_KINDS = [*oracle.SWITCH_OF, "something_new"]


def _crash() -> dict[str, Any]:
    crumb = event("breadcrumb", label="tap", location=_LOCATION)
    return event(
        "crash_report",
        location=_LOCATION,
        breadcrumbs=[crumb, {**crumb, "location": _LOCATION}, 7],
        custom_attributes={"location": "kitchen"},
    )


_FULL: dict[str, Any] = {
    "device_info": {"platform": "iOS", "device_name": "Ann's phone", "ios_idfv": "X-1"},
    "application_info": {"package": "com.acme.shop", "application_version": "1.0"},
    "source_info": {"channel": "native"},
    "user_identities": {"customerid": 123456, "email": "a@example.com", "other": None},
    "user_attributes": {"plan": "gold", "seen": ["a", "b"]},
    "deleted_user_attributes": ["old"],
    "consent_state": {"gdpr": {"ads": {"consented": True, "location": "Berlin"}}},
    "context": {"location": _LOCATION, "data_plan": {"plan_id": "p"}},
    "system_notifications": [{"gdpr_consent_state": {}}],
    "ip": "10.0.0.1",
    "environment": "development",
    "api_key": "us1-abc",
    "mpid": -9007199254740993,
    "batch_id": 9007199254740993,
    "unique_id": "theirs",
    "brand_new_key": {"deep": [1.0, None]},
    "sdk_version": None,
}


def _traffic() -> list[builders.Rec]:
    kinds = [event(kind, event_id=2**62 + i, n=i) for i, kind in enumerate(_KINDS)]
    odd: list[dict[str, Any]] = [
        {"event_type": 5, "data": {}},
        {"data": {"a": 1}},
        {"event_type": "profile"},
    ]
    return records(
        upload(*kinds, _crash(), event(location=_LOCATION, session_id=-(2**60)), **_FULL),
        upload(*odd, **_FULL),
        upload(event("user_attribute_change"), device="d2", user_attributes={"x": 1}),
        upload(device="d3", mpid="55", user_identities=[{"identity_type": "email"}]),
        upload(event("screen_view", location=None), mpid="-9007199254740993", **_bare()),
        upload(event("validation_result"), **{**_FULL, "user_attributes": {"old": "back"}}),
        upload(event(), event("profile"), **{**_FULL, "system_notifications": [{"ccpa": 1}]}),
        upload(event(), device="d4", application_info={"application_name": "no package"}),
        upload(event(), device="d5", context={"location": _LOCATION}),
        None,
    )


def _bare() -> dict[str, Any]:
    return {
        "environment": "development",
        "application_info": {"package": "com.acme.shop"},
        "user_identities": None,
    }


_SWITCHED: list[dict[str, Any]] = [
    {field.name: not field.default}
    for field in dataclasses.fields(Settings)
    if isinstance(field.default, bool)
]
_OTHER: list[dict[str, Any]] = [
    {},
    {"unique_id": 'mine, "quoted"'},
    {"metadata_field_exclusion": ("ip", "device_info.device_name", "context.data_plan", "no.x")},
    {"metadata_field_exclusion": ("user_identities", "brand_new_key.deep")},
    {"metadata_field_exclusion": ("user_identities.email", "device_info.device_name")},
    {"metadata_field_exclusion": ("user_identities.customer_id", "user_identities.other")},
    {"include_event_batch_location": True, "include_location_information": False},
    {"include_metadata": False, "metadata_field_exclusion": ("application_info.package",)},
    {"send_batches_without_events": True, "send_custom_events": False},
    {"send_batches_without_events": True, "send_as_batch": False},
    {"send_unknown_events": False, "send_crash_events": False},
    {"int64_as_string": True, "include_location_information": False},
]


def _name(settings: dict[str, Any]) -> str:
    return ",".join(f"{key}={value}" for key, value in settings.items()) or "defaults"


@pytest.mark.parametrize("settings", _SWITCHED + _OTHER, ids=_name)
def test_every_setting_forwards_what_the_oracle_says(settings: dict[str, Any]) -> None:
    chosen = connection(**settings)
    if settings.get("wait_for_complete_batch"):
        judge_events(chosen, _traffic())
    else:
        judge(chosen, _traffic())


@pytest.mark.parametrize(
    "match",
    [
        Match(environment=frozenset({"production"})),
        Match(environment=frozenset({"development"})),
        Match(application=frozenset({"com.acme.shop", "other"})),
        Match(platform=frozenset({"ios"})),
        Match(api_key=frozenset({"us1-abc"})),
        Match(platform=frozenset({"android"})),
        Match(environment=frozenset({"development"}), api_key=frozenset({"us1-abc"})),
    ],
)
def test_a_connection_gets_exactly_the_uploads_it_matches(match: Match) -> None:
    judge(connection(match=match), _traffic())


@pytest.mark.parametrize(
    "batching", [Batching(max_events=1), Batching(max_events=4), Batching(max_age_ms=2000)]
)
def test_every_batching_setting_cuts_where_the_oracle_says(batching: Batching) -> None:
    judge(connection(batching=batching), _traffic())


def test_connections_do_not_disturb_each_other() -> None:
    chosen = [connection(f"c{i}", **settings) for i, settings in enumerate(_SWITCHED + _OTHER)]
    out = builders.run(chosen, _traffic())
    alone = {c.name: builders.run(c, _traffic()).batches for c in chosen}
    assert alone == {c.name: [b for b in out.batches if b.lane == c.name] for c in chosen}


def judge(chosen: Connection, fed: list[builders.Rec]) -> None:
    """Compare whole documents, their numbers to the digit and their keys in order."""
    out = builders.run(chosen, fed)
    expected = {
        tuple(one.positions): one.content for one in oracle.documents(fed, chosen, builders.NOW)
    }
    assert len(expected) == len(out.batches)
    for positions, content in expected.items():
        batch = next(b for b in out.batches if b.first == positions[0])
        found = oracle.exact(batch.payload)
        assert positions[-1] == batch.last
        assert len(content["events"]) == batch.count
        assert batch.id == found.pop("message_id")
        number = found.pop("batch_id")
        assert chosen.settings.int64_as_string == isinstance(number, str)
        assert json.dumps(content, default=str) == json.dumps(found, default=str)


def judge_events(chosen: Connection, fed: list[builders.Rec]) -> None:
    """Compare the events of all documents, whatever document they are in."""
    out = builders.run(chosen, fed)
    expected = oracle.events(fed, chosen, builders.NOW).values()
    found = [e for batch in out.batches for e in oracle.exact(batch.payload)["events"]]
    assert sorted(map(repr, expected)) == sorted(map(repr, found))
