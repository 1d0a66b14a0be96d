"""mParticle's events as records of Pinpoint's stream: judged by an oracle, and case by case."""

import dataclasses
import json
from typing import Any

import pytest

from forwarder.config.connection import Settings
from forwarder.formats.ids import PLACEHOLDER_IDS
from tests import oracle, record_oracle
from tests.builders import START
from tests.unit.formats.across.senders import (
    Json,
    from_mparticle,
    rendered,
    to_stream,
    told,
    written,
)

N = oracle.Number
SINK = {"app_id": "a1b2c3", "aws_account_id": "111122223333"}
PHONE: Json = {
    "mpid": N("-9007199254740993"),
    "mp_deviceid": "0b6e-1",
    "device_info": {
        "platform": "Android",
        "brand": "google",
        "device_manufacturer": "Google",
        "device_model": "Pixel 9",
        "os_version": "14",
        "locale_language": "en",
        "locale_country": "us",
        "timezone_offset": N("-7.0"),
        "timezone_name": "Europe/Berlin",
        "push_token": "token-1",
        "screen_height": N("2400"),
        "is_tablet": False,
        "android_uuid": "au-1",
    },
    "application_info": {
        "package": "com.acme.shop",
        "application_name": "Shop",
        "application_version": "1.2",
        "application_build_number": N("42"),
        "install_referrer": "utm",
    },
    "user_identities": [
        {"identity_type": "customer_id", "identity": "user-7", "timestamp_unixtime_ms": N("1")},
        {"identity_type": "email", "identity": "ann@example.com", "timestamp_unixtime_ms": N("1")},
        {"identity_type": "email", "identity": "b@example.com", "timestamp_unixtime_ms": N("1")},
    ],
    "user_attributes": {
        "plan": "gold",
        "visits": N("9007199254740993"),
        "tags": ["a", "b", N("1.0")],
        "odd": {"a": N("1e2")},
        "vip": True,
        "gone": None,
    },
    "deleted_user_attributes": ["old", "older"],
    "source_info": {"channel": "native"},
    "sdk_version": "5.1",
    "ip": "10.0.0.1",
    "consent_state": {"gdpr": {"ads": {"consented": True, "timestamp_unixtime_ms": N("17")}}},
    "system_notifications": [{"gdpr_consent_state": {"a": N("1")}}],
    "context": {
        "data_plan": {"plan_id": "p", "plan_version": N("2")},
        "location": {"latitude": N("1.50"), "longitude": N("-2"), "accuracy": N("5.0")},
    },
    "environment": "development",
    "integration_attributes": {"83": {"instance": "x"}},
    "brand_new": {"deep": [N("1.0"), None], "empty": {}},
    "batch_id": N("9007199254740993"),
}
WEB: Json = {"mp_deviceid": "w-1", "application_info": {"package": "com.acme.shop"}}
PERSON: Json = {
    "mpid": "42",
    "user_identities": [
        {"identity_type": "mobile_number", "identity": "+41", "timestamp_unixtime_ms": N("1")}
    ],
}
COMMON: Json = {
    "timestamp_unixtime_ms": N("1700000000123"),
    "event_id": N("4611686018427387905"),
    "session_id": N("-1152921504606846976"),
    "session_uuid": "4F1C0B62-9A7D-4D55-8D7C-1F1C1D6B3A10",
    "session_start_unixtime_ms": N("1699999990000"),
    "location": {"latitude": N("47.37690000000000001"), "longitude": N("8.5"), "accuracy": N("3")},
    "device_current_state": {"battery_level": N("0.30"), "gps_state": False, "cpu": "100.0"},
    "custom_attributes": {
        "a": "x", "n": N("1.50"), "yes": True, "no": None,
        "o": {"p": [N("1"), N("2")], "q": [{"r": "s"}, {"r": N("7")}]}, "event_id": "mine",
    },
    "custom_flags": {"f": ["a"], "g": N("1")},
}  # fmt: skip
TABLE = {"id": "sku-1", "name": "Café table", "price": N("149.90"), "quantity": N("2")}


def bought(*products: Json, **action: object) -> Json:
    """Return the members of a purchase."""
    whole = {"action": "purchase", "transaction_id": "t-1", "products": list(products), **action}
    return {"product_action": whole, "currency_code": "EUR"}


EVENTS: list[Json] = [
    told("session_start", **COMMON),
    told("session_end", session_duration_ms=N("5000"), **COMMON),
    told("session_end", session_id=N("5"), timestamp_unixtime_ms="1700000000123"),
    told("session_end", session_id=N("0"), session_start_unixtime_ms=N("7")),
    told("custom_event", event_name="Play", custom_event_type="media", **COMMON),
    told("custom_event", event_name="_session.start"),
    told("custom_event", event_name=N("5")),
    told("screen_view", screen_name="Home", **COMMON),
    *(
        told("application_state_transition", application_transition_type=kind)
        for kind in ("application_background", "application_foreground", "application_exit")
    ),
    *(told("profile", profile_event_type=k, previous_mpid=N("1"))
      for k in ("login", "logout", "signup", "update")),
    *(told("push_message", push_message_type=kind) for kind in ("sent", "received", "action", "x")),
    told("push_message", push_message_type="received", application_state="foreground"),
    told("push_reaction", custom_attributes={"journey_id": "j", "count": N("1")}),
    told("push_reaction"),
    told("commerce_event", **COMMON, **bought(TABLE)),
    told("commerce_event", **bought(TABLE, {"id": "b", "price": N("0.001")}, affiliation="store")),
    told("commerce_event", **bought({"id": "c"}, total_amount=N("12.30"))),
    told("commerce_event", **bought({"id": "c"})),
    told("commerce_event", **bought(TABLE), custom_attributes={"_product_id": "own"}),
    told("commerce_event", product_action={"action": "refund", "products": [TABLE]}),
    told("commerce_event", promotion_action={"action": "view", "promotions": [{"id": "p"}]}),
    told("crash_report", breadcrumbs=[{"data": {"label": "tap"}}, N("7")], stack_trace="a\n\tb"),
    told("network_performance", url="https://x", bytes_in=N("17"), response_code=N("200")),
    told("opt_out", is_opted_out=True),
    told("something_new", location=N("5"), custom_attributes="none"),
    {"event_type": "breadcrumb"},
    {"data": {"a": N("1")}, "sibling": {"b": "c"}},
]  # fmt: skip
CHOSEN: list[dict[str, Any]] = [
    {},
    *({f.name: not f.default} for f in dataclasses.fields(Settings) if isinstance(f.default, bool)),
    {"screen_view_event_types": ("Seen", "pageView")},
    {"metadata_field_exclusion": ("device_info.push_token", "user_identities.customer_id")},
    {"metadata_field_exclusion": ("ip", "brand_new.deep", "mpid", "application_info.package")},
    {"include_event_batch_location": True, "include_consent_state": True},
    {"include_mp_deviceid": True, "include_metadata": False, "include_user_identities": False},
]


def _name(settings: dict[str, Any]) -> str:
    return ",".join(f"{key}={value}" for key, value in settings.items()) or "defaults"


def shown(context: Json, settings: Settings) -> Json:
    """Return what settings leave of a context."""
    pile = oracle.Pile(0, identities_ms=START, newest_ms=START, context=context)
    found = oracle.content(pile, settings)
    return {key: value for key, value in found.items() if key not in {*oracle.OURS, "events"}}


@pytest.mark.parametrize("chosen", CHOSEN, ids=_name)
@pytest.mark.parametrize(
    "context", [PHONE, WEB, PERSON, {}], ids=["phone", "web", "person", "none"]
)
@pytest.mark.parametrize("sink", [{}, SINK], ids=["bare", "named"])
def test_every_record_says_what_the_oracle_says(
    context: Json, chosen: dict[str, Any], sink: Json
) -> None:
    connection = to_stream(sink, **chosen)
    left = shown(context, connection.settings)
    found = rendered(from_mparticle(sink, **chosen), context, *EVENTS)
    for event, made in zip(EVENTS, found, strict=True):
        expected = record_oracle.to_pinpoint(event, context, left, connection, START)
        assert written(expected) == written(made)


def test_a_document_is_the_record_and_known_by_its_bytes() -> None:
    maker = from_mparticle(SINK)
    frame = maker.frame(written(PHONE), START, START)
    record = maker.render(frame, written(EVENTS[0]))
    assert record == maker.document(frame, record, PLACEHOLDER_IDS)
    assert 0 == frame.size
    assert b"\n" not in record
    known = maker.recognize(record)
    assert known is not None
    assert json.loads(record)["client"]["client_id"] == known.user == frame.user


def test_a_device_that_may_not_be_named_is_told_apart_all_the_same() -> None:
    hidden, named = from_mparticle(), from_mparticle(include_mp_deviceid=True)
    ids = {
        maker.frame(written({**WEB, "mp_deviceid": device}), START, START).user
        for maker in (hidden, named)
        for device in ("w-1", "w-2")
    }
    assert {"w-1", "w-2"} < ids
    assert 4 == len(ids)
    record = rendered(hidden, WEB, told("x"))[0]
    assert "w-1" not in json.dumps(record, default=str)


def test_an_exclusion_may_name_a_part_of_the_record() -> None:
    (record,) = rendered(
        from_mparticle(metadata_field_exclusion=("endpoint.Attributes", "device.make")),
        PHONE,
        told("x"),
    )
    assert "Attributes" not in record["endpoint"]
    assert {"locale", "model", "platform"} == set(record["device"])


def test_what_mparticle_does_not_send_is_what_documents_never_say() -> None:
    maker = from_mparticle()
    hidden = {"device_info": {"brand": "b" * 2000, "ios_idfv": "i"}, "mp_deviceid": "w"}
    large = written({**WEB, **hidden, "mpid": "m", "consent_state": "c" * 5000})
    for metadata, most in ((True, 10**6), (True, 0), (False, 0)):
        maker = from_mparticle(metadata_field_exclusion=("mpid",), include_metadata=metadata)
        less = maker.prune(large, most)
        assert len(less) < 3000
        assert maker.prune(less, most) == less
        assert maker.frame(less, START, START) == maker.frame(large, START, START)
    assert maker.prune(written(WEB), 10**6) == written(WEB)
    assert 1 < maker.small_context_bytes < maker.least // 2


def test_times_of_any_year_and_length_make_records() -> None:
    far, odd = 10**17, N("1" + "0" * 5000)
    maker = from_mparticle()
    frame = maker.frame(written(WEB), far, far)
    event = told("session_end", timestamp_unixtime_ms=odd, session_id=N("5"),
                 session_start_unixtime_ms=odd, session_duration_ms=odd)  # fmt: skip
    record = oracle.exact(maker.render(frame, written(event)))
    assert N(str(far)) == record["event_timestamp"] == record["arrival_timestamp"]
    assert odd == record["metrics"]["timestamp_unixtime_ms"]
    assert "EffectiveDate" not in record["endpoint"]
