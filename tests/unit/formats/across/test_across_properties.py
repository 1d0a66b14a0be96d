"""Whatever comes in: documents of the other format are JSON, whole, and always the same bytes."""

import json
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder.collect.pipeline import Pipeline, compile_lanes
from forwarder.config.connection import Connection, Settings
from forwarder.config.targets import KinesisTarget
from forwarder.formats.ids import PLACEHOLDER_IDS
from forwarder.formats.registry import BUILT_IN
from forwarder.model import Collected, Partition, Reason
from tests import across_oracle, oracle
from tests.builders import NOW, START, Rec, finished, merged
from tests.unit.formats.across.senders import (
    PHONE,
    Json,
    from_mparticle,
    from_pinpoint,
    told,
    written,
)

Number = oracle.Number
DIGITS = st.sampled_from(
    ["0", "-0", "1.50", "9007199254740993", "-9223372036854775808", "1e400", "0.1e-7", "10" * 20]
).map(Number)
TEXTS = st.text(max_size=8) | st.sampled_from(["a", "metrics.a", "data.a", "é\\", '"', "\ud800"])
SCALARS = st.one_of(TEXTS, DIGITS, st.booleans(), st.none())
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3)
)
NAMES = st.sampled_from([*across_oracle.KINDS, "pageView", "play", "", "_email.open"]) | TEXTS
TIMES = st.sampled_from(
    ["2023-11-14T22:13:20Z", "2023-11-14T22:13:20.1234567+0530", "1700000000000", "never", ""]
)
EVENTS = st.fixed_dictionaries(
    {"EventId": TEXTS, "EventType": NAMES, "Timestamp": TIMES},
    optional={
        "Attributes": st.dictionaries(TEXTS, TEXTS, max_size=4) | VALUES,
        "Metrics": st.dictionaries(TEXTS, DIGITS, max_size=4) | VALUES,
        "Session": st.fixed_dictionaries(
            {"Id": TEXTS, "StartTimestamp": TIMES}, optional={"Duration": DIGITS, "More": VALUES}
        ),
        "AppTitle": VALUES,
        "Unknown": VALUES,
    },
)
DATA = st.dictionaries(
    st.sampled_from(
        ["custom_attributes", "location", "session_id", "session_uuid", "timestamp_unixtime_ms",
         "session_start_unixtime_ms", "session_duration_ms", "product_action", "event_name",
         "products", "event_id", "custom_flags", "application_transition_type"],
    ) | TEXTS,
    VALUES,
    max_size=6,
)  # fmt: skip
TOLD = st.fixed_dictionaries(
    {"data": DATA},
    optional={
        "event_type": st.sampled_from([*oracle.SWITCH_OF, "brand_new"]) | SCALARS,
        "other": VALUES,
    },
)


ENDPOINTS = st.fixed_dictionaries(
    {},
    optional={
        "ChannelType": st.sampled_from(["GCM", "EMAIL", "SMS", "CUSTOM"]) | SCALARS,
        "Address": SCALARS,
        "Location": st.dictionaries(
            st.sampled_from(["City", "Latitude"]) | TEXTS, VALUES, max_size=2
        ),
        "Demographic": st.dictionaries(
            st.sampled_from(["Platform", "Locale", "AppVersion", "Make"]) | TEXTS,
            VALUES,
            max_size=3,
        ),
        "User": st.dictionaries(st.sampled_from(["UserId", "UserAttributes"]), VALUES, max_size=2),
        "Attributes": st.dictionaries(TEXTS, st.lists(TEXTS, max_size=2), max_size=2) | VALUES,
        "Metrics": VALUES,
        "Id": SCALARS,
        "More": VALUES,
    },
)
APPLICATIONS = st.dictionaries(st.sampled_from(["AppTitle", "SdkName", "X"]), VALUES, max_size=2)
KEYS = [
    "mpid", "mp_deviceid", "user_identities", "user_attributes", "deleted_user_attributes",
    "device_info", "application_info", "context", "sdk_version", "consent_state", "ip",
]  # fmt: skip
CONTEXT_VALUES = VALUES | st.dictionaries(
    st.sampled_from(
        ["customer_id", "email", "platform", "push_token", "package", "location", "ios_idfv",
         "locale_language", "application_build_number"]
    ),
    VALUES,
    max_size=4,
)  # fmt: skip


def text(value: object) -> bytes:
    """Return JSON, half a surrogate pair as an escape."""
    return oracle.compact(value).encode(errors="backslashreplace")


@settings(max_examples=300, deadline=None)
@given(event=EVENTS)
def test_all_that_pinpoint_sends_is_found_again(event: Json) -> None:
    maker = from_pinpoint()
    frame = maker.frame(written(PHONE), START, START)
    made = maker.render(frame, text(event))
    assert made == from_pinpoint().render(frame, text(event))
    found = oracle.exact(made)["data"]
    custom, left = found["custom_attributes"], found.get("pinpoint", {})
    attributes, metrics = event.get("Attributes"), event.get("Metrics")
    if isinstance(attributes, dict):
        assert attributes.items() <= custom.items()
    elif attributes is not None:
        assert attributes == left["Attributes"]
    if isinstance(metrics, dict):
        for name, value in metrics.items():
            names = [name, *("metrics." * n + name for n in range(1, 5))]
            assert value in [custom.get(one) for one in names]
    if isinstance(metrics, dict) and isinstance(attributes, dict):
        assert len(custom) == len(attributes) + len(metrics)
    assert event["EventId"] == found["source_message_id"]
    if "Unknown" in event:
        assert event["Unknown"] == left["Unknown"]


@settings(max_examples=200, deadline=None)
@given(event=EVENTS)
def test_an_event_is_told_alike_whatever_stands_beside_it(event: Json) -> None:
    maker = from_pinpoint()
    frame = maker.frame(written(PHONE), START, START)
    event.pop("Unknown", None)
    alone, beside = (
        oracle.exact(maker.render(frame, text(one))) for one in (event, {**event, "X": Number("1")})
    )
    left = beside["data"].pop("pinpoint")
    assert left.pop("X") == Number("1")
    assert alone["data"].pop("pinpoint", {}) == left
    assert json.dumps(alone, default=str) == json.dumps(beside, default=str)


def leaves(value: object) -> list[str]:
    """Return all texts and numbers in a value, as text."""
    if isinstance(value, dict):
        return [one for inner in value.values() for one in leaves(inner)]
    if isinstance(value, list):
        return [one for inner in value for one in leaves(inner)]
    if isinstance(value, Number):
        return [value.text]
    return [value] if isinstance(value, str) else []


@settings(max_examples=300, deadline=None)
@given(event=TOLD)
def test_all_that_mparticle_sends_is_found_again(event: Json) -> None:
    maker = from_mparticle()
    frame = maker.frame(b'{"mp_deviceid":"d"}', START, START)
    made = maker.render(frame, text(event))
    assert made == from_mparticle().render(frame, text(event))
    assert b"\n" not in made
    record = oracle.exact(made)
    assert all(isinstance(one, str) for one in record["attributes"].values())
    assert all(isinstance(one, Number) for one in record.get("metrics", {}).values())
    everything = json.dumps(record, default=lambda number: number.text)
    assert all(is_found(leaf, everything) for leaf in leaves(event["data"]))


def is_found(leaf: str, everything: str) -> bool:
    """Tell whether JSON holds a text, as it is or inside of another text."""
    inside = json.dumps(leaf)[1:-1]
    bare = json.dumps(oracle.compact(leaf)[1:-1])[1:-1]
    return any(one in everything for one in (inside, json.dumps(inside)[1:-1], bare))


@settings(max_examples=200, deadline=None)
@given(
    context=st.fixed_dictionaries(
        {"ApplicationId": SCALARS, "EndpointId": SCALARS},
        optional={
            "ArrivalTimestamp": SCALARS,
            "Application": APPLICATIONS | VALUES,
            "Endpoint": ENDPOINTS | VALUES,
            "Unknown": VALUES,
        },
    )
)
def test_any_endpoint_makes_a_document(context: Json) -> None:
    maker = from_pinpoint(include_mp_deviceid=True, include_event_batch_location=True)
    frame = maker.frame(text(context), START, START)
    document = maker.document(frame, b"", PLACEHOLDER_IDS)
    assert frame.size == len(document)
    assert document == maker.document(maker.frame(text(context), 0, START), b"", PLACEHOLDER_IDS)
    everything = json.dumps(oracle.exact(document), default=lambda number: number.text)
    for leaf in leaves({k: v for k, v in context.items() if k != "ArrivalTimestamp"}):
        assert is_found(leaf, everything) or leaf.lower() in everything.lower()
    event = maker.render(frame, text({"EventId": "i", "EventType": "_journey.send"}))
    assert "push_message" == oracle.exact(event)["event_type"]


USUAL = st.fixed_dictionaries(
    {},
    optional={
        "ChannelType": st.sampled_from(["GCM", "APNS", "EMAIL", "CUSTOM", ""]),
        "Address": TEXTS,
        "EndpointStatus": TEXTS,
        "OptOut": TEXTS,
        "Location": st.dictionaries(st.sampled_from(["City", "X"]), TEXTS, max_size=2),
        "Demographic": st.dictionaries(
            st.sampled_from(["Platform", "Locale", "AppVersion", "Make", "Timezone"]), TEXTS
        ),
        "User": st.fixed_dictionaries(
            {},
            optional={
                "UserId": TEXTS,
                "UserAttributes": st.dictionaries(TEXTS, st.lists(TEXTS, max_size=2), max_size=2),
            },
        ),
        "Attributes": st.dictionaries(TEXTS, st.lists(TEXTS, max_size=2), max_size=2),
        "ApplicationId": st.sampled_from(["a", "b"]),
        "Id": st.sampled_from(["e", "f", ""]),
    },
)


@settings(max_examples=400, deadline=None)
@given(
    ids=st.tuples(st.sampled_from(["a", "\u00e9", ""]), st.sampled_from(["e", '"', "", None, 7])),
    endpoint=USUAL | ENDPOINTS,
    odd=ENDPOINTS,
    application=APPLICATIONS | st.dictionaries(st.sampled_from(["AppTitle", "X"]), TEXTS),
    whole=st.booleans(),
    spaced=st.booleans(),
    told=st.fixed_dictionaries(
        {}, optional={"include_mp_deviceid": st.booleans(), "unique_id": st.just("u")}
    ),
    notified=st.booleans(),
)
def test_a_usual_context_is_written_as_any_is(  # noqa: PLR0913  # all that may differ
    ids: tuple[object, object], endpoint: Json, odd: Json, application: Json, *,
    whole: bool, spaced: bool, told: Json, notified: bool,
) -> None:  # fmt: skip
    named = {"ApplicationId": ids[0], "EndpointId": ids[1], "ArrivalTimestamp": START}
    inner = endpoint if whole else {**odd, **endpoint}
    context = text({**named, "Endpoint": inner, "Application": application})
    if spaced and b"\\ud" not in context:
        context = msgspec.json.format(context, indent=1)
    told = {**told, "include_system_notifications": notified}
    maker = from_pinpoint(**told)
    other = from_pinpoint(**told, metadata_field_exclusion=("no.such",))  # so none is usual
    for _ in range(2):  # what it remembers is what it read
        made, wanted = (one.frame(context, START, START) for one in (maker, other))
        assert (made.tail, made.size, made.limit, made.user) == (
            wanted.tail, wanted.size, wanted.limit, wanted.user
        )  # fmt: skip
        for kind in ("_journey.send", "tap"):
            event = text({"EventId": "i", "EventType": kind, "Session": {"Id": "s"}})
            assert maker.render(made, event) == other.render(wanted, event)


@settings(max_examples=200, deadline=None)
@given(context=st.dictionaries(st.sampled_from(KEYS) | TEXTS, CONTEXT_VALUES, max_size=8))
def test_any_context_makes_a_record(context: Json) -> None:
    maker = from_mparticle(include_mp_deviceid=True, include_consent_state=True)
    frame = maker.frame(text(context), START, START)
    record = maker.render(frame, b'{"event_type":"x","data":{}}')
    assert record == maker.render(maker.frame(text(context), START, START), b'{"event_type":"x"}')
    found = oracle.exact(record)
    for values in found["endpoint"].get("Attributes", {}).values():
        assert all(isinstance(one, str) for one in values)
    for values in found["endpoint"].get("User", {}).get("UserAttributes", {}).values():
        assert all(isinstance(one, str) for one in values)
    assert all(isinstance(one, Number) for one in found["endpoint"].get("Metrics", {}).values())
    assert found["client"].get("client_id") == found["endpoint"].get("Id")


@settings(max_examples=60, deadline=None)
@given(
    sent=st.lists(st.tuples(st.integers(0, 2_000), st.integers(0, 3)), min_size=1, max_size=8),
    limit=st.sampled_from([1_500, 3_000, 100_000]),
    mode=st.sampled_from([{}, {"wait_for_complete_batch": True}, {"send_as_batch": False}]),
)
def test_every_event_is_in_one_document_that_fits_or_in_a_letter(
    sent: list[tuple[int, int]], limit: int, mode: dict[str, Any]
) -> None:
    for form, target in (("pinpoint", "mparticle"), ("mparticle", "pinpoint")):
        sink = KinesisTarget("s", "us-east-1", max_record_bytes=limit, format=target)
        chosen = Connection("lane", sink, settings=Settings(**mode))
        make = _pinpoint if form == "pinpoint" else _mparticle
        values = [make(n, "x" * size, device) for n, (size, device) in enumerate(sent)]
        out = _collected(form, chosen, values)
        assert all(len(batch.payload) <= limit for batch in out.batches)
        assert {letter.reason for letter in out.dead_letters} <= {Reason.EVENT_TOO_LARGE}
        found = sum([batch.payload.count(b"mark-") for batch in out.batches])
        lost = sum([letter.value.count(b"mark-") for letter in out.dead_letters])
        assert len(sent) == found + lost
        assert len(sent) == sum(batch.count for batch in out.batches) + sum(
            letter.events for letter in out.dead_letters
        )
        if limit == 100_000:
            assert [] == out.dead_letters
        again = _collected(form, chosen, values)
        assert [one.payload for one in out.batches] == [one.payload for one in again.batches]


def _pinpoint(number: int, filling: str, device: int) -> bytes:
    event = {"EventId": f"mark-{number}", "EventType": "play", "Timestamp": "2023-11-14T22:13:20Z"}
    event["Attributes"] = {"filling": filling}  # type: ignore[assignment]
    return written({**PHONE, "EndpointId": f"e-{device}", "Endpoint": {}, "Events": [event]})


def _mparticle(number: int, filling: str, device: int) -> bytes:
    attributes = {"id": f"mark-{number}", "filling": filling}
    event = told("custom_event", event_name="play", custom_attributes=attributes)
    return written({"mp_deviceid": f"d-{device}", "events": [event]})


def _collected(form: str, chosen: Connection, values: list[bytes]) -> Collected:
    fed = Pipeline(Partition("in", 0), compile_lanes([chosen], form, BUILT_IN))
    records = [Rec(at, START + 1000 * at, value) for at, value in enumerate(values)]
    return merged([fed.collect(records, NOW), *finished(fed)])
