"""Pinpoint's events as mParticle's: judged by an oracle, and case by case."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from forwarder.config.connection import Settings
from forwarder.formats.ids import PLACEHOLDER_IDS
from tests import across_oracle, oracle
from tests.builders import DATA, START
from tests.unit.formats.across.senders import (
    BARE,
    PHONE,
    READER,
    SESSION,
    Json,
    from_pinpoint,
    objects,
    rendered,
    sent,
    written,
)

N = oracle.Number
SCHEMA = json.loads((Path(DATA) / "mparticle-inbound-schema.json").read_text())
BUYING: Json = {
    "Attributes": {
        "_product_id": "sku-1",
        "_currency": "EUR",
        "_transaction_id": "t-9",
        "_store": "Google Play",
        "_item_price_formatted": "9,99 €",
    },
    "Metrics": {"_quantity": N("3"), "_item_price": N("9.990")},
}
EVENTS: list[Json] = [
    *(
        sent(kind, Session=SESSION, Attributes={"a": "x", "n": "y"}, Metrics={"n": N("1.50")})
        for kind in (*across_oracle.KINDS, "_userauth.auth_fail", "_email.open", "_SMS.SUCCESS")
    ),
    sent("_custom.thing", Attributes={}, Metrics={"id": N("9007199254740993"), "e": N("1e400")}),
    sent("pageView", Attributes={"url": "https://acme.example/a"}),
    sent("pageView", Attributes={"screen_name": "Home", "url": "u"}),
    sent("pageView"),
    sent("_monetization.purchase", Session=SESSION, **BUYING),
    sent("_monetization.purchase", Attributes={"_currency": "EUR"}),
    sent("_monetization.purchase", Metrics={"_item_price": N("1")}),
    sent("_session.stop", Session={"Id": "s", "StartTimestamp": "2023-11-14T22:13:00"}),
    sent("_session.start", Session={"Id": "s", "StartTimestamp": "2023-11-14 22:13:00+01:00"}),
    sent("two", Metrics={"a": N("1"), "metrics.a": N("2")}, Attributes={"a": "x"}),
    sent("new members", device={"a": "b"}, application="x", client=N("1"), endpoint=[]),
    sent("new members", Deep={"er": [N("1.0")]}, AppCookie="c", AppPackageName="com.acme.shop"),
    sent('späte Wörter " \\ \u2028', Attributes={"\u0000": "\u0000"}),
]
CHOSEN: list[dict[str, Any]] = [
    {},
    *({f.name: not f.default} for f in dataclasses.fields(Settings) if isinstance(f.default, bool)),
    {"unique_id": "mine"},
    {"screen_view_event_types": ("_custom.thing", "_session.start")},
    {"metadata_field_exclusion": ("device_info.push_token", "user_identities.customer_id")},
    {"metadata_field_exclusion": ("integration_attributes.pinpoint.EndpointId", "device_info")},
    {"include_event_batch_location": True, "include_location_information": False},
    {"include_mp_deviceid": True, "include_metadata": False, "include_user_identities": False},
]


def _name(settings: dict[str, Any]) -> str:
    return ",".join(f"{key}={value}" for key, value in settings.items()) or "defaults"


@pytest.mark.parametrize("chosen", CHOSEN, ids=_name)
@pytest.mark.parametrize("context", [PHONE, BARE, READER], ids=["phone", "bare", "reader"])
def test_every_event_says_what_the_oracle_says(context: Json, chosen: dict[str, Any]) -> None:
    settings = Settings(**chosen)
    found = rendered(from_pinpoint(**chosen), context, *EVENTS)
    for event, made in zip(EVENTS, found, strict=True):
        assert written(across_oracle.from_pinpoint(event, context, settings)) == written(made)


@pytest.mark.parametrize("chosen", CHOSEN, ids=_name)
@pytest.mark.parametrize("context", [PHONE, BARE, READER], ids=["phone", "bare", "reader"])
def test_every_document_says_what_the_oracle_says(context: Json, chosen: dict[str, Any]) -> None:
    settings, maker = Settings(**chosen), from_pinpoint(**chosen)
    frame = maker.frame(written(context), 0, START)
    events = [maker.render(frame, written(event)) for event in EVENTS[:3]]
    document = maker.document(frame, b",".join(events), PLACEHOLDER_IDS)
    assert frame.size + len(b",".join(events)) == len(document)
    assert events == objects(document)
    assert document == maker.document(frame, b",".join(events), PLACEHOLDER_IDS)
    known = maker.recognize(document)
    assert known is not None
    assert (PLACEHOLDER_IDS.text, "", 3) == known
    pile = oracle.Pile(0, identities_ms=START, newest_ms=START)
    pile.context = across_oracle.context_from_pinpoint(context, settings)
    pile.events = [across_oracle.from_pinpoint(event, context, settings) for event in EVENTS[:3]]
    made = oracle.exact(document)
    del made["message_id"], made["batch_id"]
    assert written(oracle.content(pile, settings)) == written(made)


def test_documents_are_what_mparticles_schema_says() -> None:
    """Of what mParticle asks of uploads; a document's identities are an array, not an object."""
    settings = {"include_mp_deviceid": True, "include_event_batch_location": True}
    maker = from_pinpoint(**settings)
    frame = maker.frame(written(PHONE | {"EndpointId": SESSION["Id"]}), 0, START)
    kinds = {"custom_event", "screen_view", "session_end", "commerce_event"}
    known = [event for event in EVENTS if event.get("Session", SESSION) == SESSION]
    events = [maker.render(frame, written(event)) for event in known]
    document = json.loads(maker.document(frame, b",".join(events), PLACEHOLDER_IDS))
    document["events"] = [one for one in document["events"] if one["event_type"] in kinds]
    ours = {"message_id", "message_type", "schema_version", "system_notifications"}
    assert ours == {name for name in document if name not in SCHEMA["properties"]}
    people = {one["identity_type"]: one["identity"] for one in document["user_identities"]}
    document = {k: v for k, v in document.items() if k not in ours} | {"user_identities": people}
    jsonschema.validate(document, SCHEMA)


def test_a_finished_record_says_the_same_as_the_event_it_was_made_of() -> None:
    event = sent("_session.stop", Session=SESSION, Attributes={"a": "x"}, Metrics={"n": N("1.0")})
    finished = {
        "event_type": "_session.stop",
        "event_timestamp": N("1700000000123"),
        "arrival_timestamp": N("1700000000200"),
        "event_version": "3.1",
        "application": {"app_id": "a1b2c3", "sdk": {}},
        "client": {"client_id": "e-1"},
        "device": {"platform": {}},
        "session": {
            "session_id": SESSION["Id"],
            "start_timestamp": N("1699999980250"),
            "stop_timestamp": N("1699996440500"),
        },
        "attributes": {"a": "x"},
        "metrics": {"n": N("1.0")},
        "endpoint": {"Id": "e-1"},
        "awsAccountId": "111122223333",
        "facets": {"email_channel": {"mail_event": {"mail": {}}}},
    }
    one, other = (made["data"] for made in rendered(from_pinpoint(), PHONE, event, finished))
    assert {"arrival_timestamp": N("1700000000200"), "facets": finished["facets"]} == other.pop(
        "pinpoint"
    )
    assert one.pop("event_id") != other.pop("event_id")
    assert "ev-1" == one.pop("source_message_id")
    assert N("60250") == one.pop("session_duration_ms")
    assert N("-3539750") == other.pop("session_duration_ms")  # its stop is before its start
    assert one == other


def test_what_is_of_an_odd_type_stays_where_it_can_be_found() -> None:
    odd: list[Json] = [
        {"EventType": N("5"), "Timestamp": "yesterday", "Session": "s", "Attributes": [N("1")]},
        {"Metrics": "none", "EventId": N("7"), "Session": {"Id": None, "Extra": N("1")}},
        {"EventType": "x", "Attributes": None, "Session": {"StartTimestamp": "?", "Duration": "?"}},
        {},
    ]
    one, two, three, four = rendered(from_pinpoint(), PHONE, *odd)
    assert odd[0] == one["data"]["pinpoint"]
    assert {"Metrics": "none", "Session": {"Id": None, "Extra": N("1")}} == two["data"]["pinpoint"]
    assert {"Session": {"StartTimestamp": "?", "Duration": "?"}} == three["data"]["pinpoint"]
    assert {"custom_event"} == {made["event_type"] for made in (one, two, three, four)}
    assert "event_name" not in one["data"]
    assert N("7") == two["data"]["source_message_id"]


def test_odd_members_of_an_endpoint_are_governed_as_what_they_stand_for() -> None:
    secret = {"Location": "at home", "Demographic": ["secret"], "User": "ann"}
    context = {**BARE, "Endpoint": secret}
    off = {
        "include_location_information": False,
        "include_metadata": False,
        "include_user_identities": False,
    }
    for chosen, seen in (({}, True), (off, False)):
        maker = from_pinpoint(**chosen)
        frame = maker.frame(written(context), START, START)
        document = maker.document(frame, b"", PLACEHOLDER_IDS).decode()
        assert [seen] * 3 == [text in document for text in ("at home", "secret", "ann")]


def test_ids_are_those_of_the_endpoint_and_never_none() -> None:
    names = [{**BARE, "EndpointId": name} for name in ("a", "b", 'a"', "")]
    event = sent("x", Session=SESSION)
    found = [rendered(from_pinpoint(), context, event)[0]["data"] for context in names]
    assert 4 == len({one["event_id"] for one in found}) == len({one["session_id"] for one in found})
    for one in found:
        assert 0 < int(one["event_id"].text) < 2**63
    again = rendered(from_pinpoint(), names[0], event, sent("y", 1), sent("x", 2))
    ids = [made["data"]["event_id"] for made in again]
    assert [found[0]["event_id"]] * 2 == ids[:2]
    assert ids[2] != ids[0]


def test_the_gateways_id_is_the_one_that_counts() -> None:
    """A client may name members as it likes; what it calls ``EventId`` comes behind."""
    maker = from_pinpoint()
    frame = maker.frame(written(PHONE), START, START)
    begin, end = b'{"EventId":"a","EventType":"x","Timestamp":"2023-11-14T22:13:20Z"', b"}"
    expected = json.loads(maker.render(frame, begin + end))
    for forged in (b',"EventId":"b"', b',"\\u0045ventId":"b"', b',"EventId":7,"Attributes":{}'):
        assert expected == json.loads(maker.render(frame, begin + forged + end))
    assert "a" == expected["data"]["source_message_id"]


def test_a_context_stands_below_the_limit_as_far_as_its_lengths_promise() -> None:
    maker = from_pinpoint()
    worst = {"Attributes": {str(n): [] for n in range(500)}, "Address": "x"}
    context = written({**BARE, "Endpoint": worst})
    frame = maker.frame(context, START, START)
    assert len(context) <= maker.small_context_bytes
    assert frame.size <= maker.least // 2
    assert maker.prune(context, 0) is context
