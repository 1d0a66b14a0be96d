"""Every setting on Pinpoint's input to both outputs, and on mParticle's to Pinpoint's."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest

from forwarder.collect.pipeline import Pipeline, compile_lanes
from forwarder.config.connection import Batching, Connection, Match, Settings
from forwarder.config.targets import FileTarget
from forwarder.formats.registry import BUILT_IN
from forwarder.model import Collected, Partition
from tests import across_oracle, oracle, record_oracle
from tests.builders import NOW, START, Rec, finished, merged
from tests.unit.formats.across.senders import BARE, PHONE, READER, SESSION, Json, sent, written
from tests.unit.formats.across.test_to_pinpoint import COMMON, EVENTS, WEB
from tests.unit.formats.across.test_to_pinpoint import PHONE as HANDSET

N = oracle.Number
KINDS = [*across_oracle.KINDS, "_userauth.auth_fail", "_email.open", "_SMS.SUCCESS"]
KINDS += ["_test.event_stream", "_custom.x", "pageView", "screen", "play"]
APP = {"AppPackageName": "com.acme.shop", "AppTitle": "Shop", "SdkName": "s", "AppVersionCode": "7"}
OTHER = {**SESSION, "Id": "s-2"}


def uploads() -> list[tuple[Json, list[Json]]]:
    """Return contexts and events of several endpoints and people, in the order they were sent."""
    phone = {key: value for key, value in PHONE.items() if key != "Application"}
    moved = {**phone["Endpoint"], "Location": {"City": "Bern", "Latitude": N("46.95")}}
    ann = {**moved, "User": {"UserId": "ann"}}
    at, untyped = N("1700000099999"), {**sent("x", 81), "EventType": ""}
    every = [sent(k, n, Session=SESSION, Attributes={"a": "x"}, **APP) for n, k in enumerate(KINDS)]
    return [
        (phone, every),
        ({**READER, "ArrivalTimestamp": at}, [sent("play", 50, Metrics={"n": N("1.0")})]),
        ({**phone, "Endpoint": moved}, [sent("_session.stop", 60, Session=SESSION)]),
        ({**phone, "Endpoint": moved}, [sent("_test.event_stream", 61)]),
        ({**phone, "Endpoint": moved}, []),
        ({**phone, "Endpoint": ann}, [sent("play", 70, Session=OTHER), sent("pageView", 71)]),
        ({**BARE, "ArrivalTimestamp": at}, [sent("pageView", 80), untyped]),
    ]  # fmt: skip


_SWITCHED: list[dict[str, Any]] = [
    {f.name: not f.default} for f in dataclasses.fields(Settings) if isinstance(f.default, bool)
]
_OTHER: list[dict[str, Any]] = [
    {},
    {"unique_id": "mine"},
    {"screen_view_event_types": ("screen", "_custom.x")},
    {"screen_view_event_types": ("play",), "send_screen_views": False},
    {"metadata_field_exclusion": ("device_info.push_token", "user_identities.customer_id")},
    {
        "metadata_field_exclusion": (
            "integration_attributes.pinpoint.Attributes:color",
            "user_attributes",
        )
    },
    {"metadata_field_exclusion": ("endpoint.Address", "endpoint.User.UserId", "device.make")},
    {"send_batches_without_events": True, "send_custom_events": False},
    {"send_batches_without_events": True, "send_as_batch": False},
    {"include_event_batch_location": True, "include_location_information": False},
    {"include_metadata": False, "include_user_identities": False, "int64_as_string": True},
]


def _name(settings: dict[str, Any]) -> str:
    return ",".join(f"{key}={value}" for key, value in settings.items()) or "defaults"


def collected(form: str, chosen: Connection, values: Sequence[object]) -> Collected:
    """Return what comes of records a second apart, all windows closed."""
    fed = Pipeline(Partition("in", 0), compile_lanes([chosen], form, BUILT_IN))
    records = [Rec(at, START + 1000 * at, written(value)) for at, value in enumerate(values)]
    out = merged([fed.collect(records, NOW), *finished(fed)])
    assert [] == out.dead_letters
    return out


def record(context: Json, events: list[Json]) -> Json:
    """Return a gateway's record."""
    return {**context, "Events": events}


class Group:
    """What goes into one document."""

    def __init__(self) -> None:
        self.events: list[Json] = []
        self.context: Json = {}
        self.newest_ms = 0
        self.opened = False

    def learn(self, context: Json, events: list[Json], time: int) -> None:
        """Take the context of a newer upload, and of the app what its first event tells."""
        named = {
            key: events[0][key] for key in across_oracle.OF_THE_APP if events and key in events[0]
        }
        self.context = {**self.context, **context} | ({"Application": named} if named else {})
        self.newest_ms = time


def groups(settings: Settings) -> list[Group]:
    """Return the documents of a connection, by whose events go together."""
    found: dict[tuple[object, ...], Group] = {}
    done: list[Group] = []
    for at, (context, events) in enumerate(uploads()):
        time = START + 1000 * at
        kept = [(n, one) for n, one in enumerate(events) if across_oracle.wanted(one, settings)]
        owner = (context["EndpointId"], context["Endpoint"].get("User", {}).get("UserId", ""))
        if not kept and settings.send_batches_without_events:
            kept = [(0, {})]
        elif not kept:
            for group in [one for key, one in found.items() if owner in {key, key[:2]}]:
                group.learn(context, events, time)
        for number, one in kept:
            key: tuple[object, ...] = owner
            if settings.wait_for_complete_batch:
                key = (*owner, one.get("Session", {}).get("Id", ""))
            elif not settings.send_as_batch:
                key = (at, number)
            group = found.setdefault(key, Group())
            group.learn(context, events, time)
            group.events += [one] if one else []
            done += [] if group in done else [group]
    return done


@pytest.mark.parametrize("settings", _SWITCHED + _OTHER, ids=_name)
def test_pinpoints_events_become_mparticles_documents(settings: dict[str, Any]) -> None:
    chosen = Connection("lane", FileTarget("out"), settings=Settings(**settings))
    out = collected("pinpoint", chosen, [record(*one) for one in uploads()])
    expected = []
    for group in groups(chosen.settings):
        pile = oracle.Pile(0, identities_ms=group.newest_ms, newest_ms=group.newest_ms)
        pile.context = across_oracle.context_from_pinpoint(group.context, chosen.settings)
        pile.events = [
            across_oracle.from_pinpoint(one, group.context, chosen.settings) for one in group.events
        ]
        expected.append(written(oracle.content(pile, chosen.settings)))
    found = []
    for batch in out.batches:
        made = oracle.exact(batch.payload)
        assert batch.id == made.pop("message_id")
        number = made.pop("batch_id")
        assert chosen.settings.int64_as_string == isinstance(number, str)
        found.append(written(made))
    assert sorted(expected) == sorted(found)


@pytest.mark.parametrize("settings", _SWITCHED + _OTHER, ids=_name)
def test_pinpoints_events_become_pinpoints_records(settings: dict[str, Any]) -> None:
    sink = FileTarget("out", format="pinpoint", aws_account_id="111122223333")
    chosen = Connection("lane", sink, settings=Settings(**settings))
    # A record of the stream needs a type: an event without one becomes a dead letter.
    typed = [(context, [one for one in many if one["EventType"]]) for context, many in uploads()]
    out = collected("pinpoint", chosen, [record(*one) for one in typed])
    expected = [
        written(record_oracle.from_gateway(one, context, chosen))
        for context, events in typed
        for one in events
        if across_oracle.wanted(one, chosen.settings)
    ]
    assert sorted(expected) == sorted(batch.payload for batch in out.batches)


@pytest.mark.parametrize("settings", _SWITCHED + _OTHER, ids=_name)
def test_mparticles_events_become_pinpoints_records(settings: dict[str, Any]) -> None:
    sink = FileTarget("out", format="pinpoint", app_id="a1b2c3", aws_account_id="111122223333")
    chosen = Connection("lane", sink, settings=Settings(**settings))
    sent_ = [
        {"events": EVENTS, **HANDSET},
        {"events": [{"event_type": kind, "data": COMMON} for kind in oracle.SWITCH_OF], **WEB},
        {"events": None, **WEB},
    ]
    out = collected("mparticle", chosen, sent_)
    expected = []
    for at, upload in enumerate(sent_):
        context = {key: value for key, value in upload.items() if key != "events"}
        time = START + 1000 * at
        pile = oracle.Pile(0, identities_ms=time, newest_ms=time, context=context)
        left = oracle.content(pile, chosen.settings)
        shown = {k: v for k, v in left.items() if k not in {*oracle.OURS, "events"}}
        expected += [
            written(
                record_oracle.to_pinpoint(
                    oracle.governed(one, chosen.settings), context, shown, chosen, time
                )
            )
            for one in upload["events"] or []
            if oracle.wanted(one, chosen.settings)
        ]
    assert sorted(expected) == sorted(batch.payload for batch in out.batches)


@pytest.mark.parametrize("target", ["mparticle", "pinpoint"])
@pytest.mark.parametrize(
    ("match", "devices"),
    [
        (Match(application=frozenset({"a1b2c3"})), {"e-1", "e-2", "é-3"}),
        (Match(application=frozenset({"com.acme.shop"})), {"e-1"}),
        (Match(application=frozenset({"com.acme.other"})), set()),
        (Match(environment=frozenset({"production"})), {"e-1", "e-2", "é-3"}),
        (Match(environment=frozenset({"development"})), set()),
        (Match(platform=frozenset({"android"})), {"e-1"}),
        (Match(api_key=frozenset({"k"})), set()),
        (Match(topic=frozenset({"in"})), {"e-1", "e-2", "é-3"}),
        (Match(topic=frozenset({"out"})), set()),
    ],
)
def test_a_match_chooses_by_what_pinpoint_tells(
    match: Match, devices: set[str], target: str
) -> None:
    sink = FileTarget("out", format=target)
    chosen = Connection("lane", sink, match=match, settings=Settings(include_mp_deviceid=True))
    sent_ = [record(context, many[:1]) for context, many in uploads()]
    out = collected("pinpoint", chosen, sent_)
    documents = [oracle.exact(batch.payload) for batch in out.batches]
    found = {one.get("mp_deviceid") or one["client"]["client_id"] for one in documents}
    assert devices == found


def test_batching_settings_cut_pinpoints_documents() -> None:
    one = [sent("play", n) for n in range(5)]
    values = [record({**BARE, "ArrivalTimestamp": N("1")}, [event]) for event in one]
    for batching, counts in (
        (Batching(max_events=2), [2, 2, 1]),
        (Batching(max_age_ms=2000), [2, 2, 1]),
        (Batching(), [5]),
    ):
        chosen = Connection("lane", FileTarget("out"), batching=batching)
        assert counts == [batch.count for batch in collected("pinpoint", chosen, values).batches]
