"""The traffic: devices take turns, each upload is written the way its kind of sender writes."""

import json
import random
from collections.abc import Iterator
from heapq import heapify, heapreplace
from typing import Any

from mparticle import Batch, BatchContext, CCPAConsentState, ConsentState, GDPRConsentState
from mparticle.api_client import ApiClient
from mparticle.models.data_plan_context import DataPlanContext

from tests.traffic import devices, handmade, sdk_events
from tests.traffic.devices import Device, Session
from tests.traffic.life import Act, endless_deck, next_acts
from tests.traffic.sdk_events import Common
from tests.traffic.upload import Upload

TURNS = 0.3
"""Share of a shared device's uploads before which it changes hands."""

NAMELESS = 0.03
"""Share of events whose session id is a placeholder, as a server sends them that knows none."""

HEARTBEAT = 0.02
"""Share of uploads without events."""

LABELS = Batch()
"""The SDK's batch names an event by its model, crash reports ``commerce_event``. Costly to make."""

Facts = tuple[str, str, str]
"""(id, type, session) of an event."""


def traffic(  # noqa: PLR0913  # every one is a property of the load
    seed: int,
    devices: int,
    events: int,
    start_ms: int,
    span_ms: int = 600_000,
    *,
    plain: bool = False,
) -> Iterator[Upload]:
    """Yield uploads holding ``events`` events of ``devices`` devices, in order of their time.

    Record time begins at ``start_ms`` and covers ``span_ms`` evenly. A device in seven falls
    silent half-way, in the middle of its session; the rest take turns at random. The same
    arguments give the same bytes. ``plain``: without ids, people and sessions that programs
    before the keying rules ``device-2`` and ``session-2`` told apart in another way.
    """
    rng = random.Random(seed)  # noqa: S311  # repeatable, not secret
    deck = endless_deck(rng)
    made = 0
    for device, silent_after in _turns(rng, devices, plain=plain):
        now = start_ms + span_ms * made // events
        if device.uploads and made > silent_after * events:
            continue
        acts = [] if rng.random() < HEARTBEAT else next_acts(rng, device, deck, now)
        acts = acts[: events - made]
        yield _upload(rng, device, acts, now)
        device.uploads += 1
        made += len(acts)
        if made >= events:
            return


def _turns(rng: random.Random, count: int, *, plain: bool) -> Iterator[tuple[Device, float]]:
    """Give every device a first turn, then turns at random intervals; the chatty ones more."""
    fleet = [devices.make_device(rng, number, plain=plain) for number in range(count)]
    pace = [rng.choice((0.5, 1.0, 1.0, 2.0)) for _ in fleet]
    due = [(rng.random(), number) for number in range(count)]
    heapify(due)
    while due:
        at, number = due[0]
        yield fleet[number], (0.5 if number % 7 == 5 else 1.0)
        heapreplace(due, (at + rng.expovariate(1.0) * pace[number], number))


def _upload(rng: random.Random, device: Device, acts: list[Act], now_ms: int) -> Upload:
    if device.shared and rng.random() < TURNS:
        device.user = 1 - device.user
    made = [_event(rng, device, act, now_ms - len(acts) + i) for i, act in enumerate(acts)]
    documents = _documents(rng, device, [event for event, _ in made], now_ms)
    facts = [it for _, it in made]
    return Upload(
        key=device.name.encode(),
        value=_written(device, documents),
        timestamp_ms=now_ms,
        device=device.name,
        event_ids=tuple(it[0] for it in facts),
        event_types=tuple(it[1] for it in facts),
        sessions=tuple(it[2] for it in facts),
        environment=device.environment or "production",
        application=device.application,
        platform=device.platform,
        api_key=device.api_key,
        mpid="" if device.mpid is None else str(device.mpid),
    )


def _event(
    rng: random.Random, device: Device, act: Act, at_ms: int
) -> tuple[dict[str, Any], Facts]:
    maker, session = act
    if (
        not device.plain
        and rng.random() < NAMELESS
        and maker not in {sdk_events.session_start, sdk_events.session_end}
    ):
        session = None
    common = _common(rng, device, session, at_ms)
    LABELS.events = [maker(rng, device, common)]
    event: dict[str, Any] = ApiClient.sanitize_for_serialization(LABELS.events[0])
    name = common["session_id"]
    name = (common["session_uuid"] or "") if name in PLACEHOLDERS else name
    return event, (common["source_message_id"], event["event_type"], str(name))


def _common(rng: random.Random, device: Device, session: Session | None, at_ms: int) -> Common:
    by_number_only = device.number % 3 == 1
    return {
        "timestamp_unixtime_ms": at_ms,
        "event_id": devices.int64(rng),
        "source_message_id": devices.uuid4(rng),
        "session_id": _session_id(rng, device, session),
        "session_uuid": None if session is None or by_number_only else session.name,
        "custom_attributes": {"screen": "Home", "position": rng.randrange(50), "member": True},
        "location": sdk_events.location(rng, device) if device.locates else None,
        "device_current_state": None if device.on_server else sdk_events.device_state(rng),
    }


PLACEHOLDERS = (0, -1, "", "0", None)
"""Ids of sessions that name none."""


def _session_id(rng: random.Random, device: Device, session: Session | None) -> int | str | None:
    if session is None:
        return None if device.plain else rng.choice(PLACEHOLDERS)
    return str(session.number) if device.platform == "web" else session.number


def _documents(
    rng: random.Random, device: Device, events: list[dict[str, Any]], now_ms: int
) -> list[dict[str, Any]]:
    """Return the upload; a server may gather several of its user into one record."""
    cut = len(events) // 2
    if device.on_server and cut and rng.random() < 0.5:  # every other one
        return [
            _document(rng, device, events[:cut], now_ms),
            _document(rng, device, events[cut:], now_ms),
        ]
    return [_document(rng, device, events, now_ms)]


def _document(
    rng: random.Random, device: Device, events: list[dict[str, Any]], now_ms: int
) -> dict[str, Any]:
    batch = Batch(
        events=events,
        source_request_id=devices.uuid4(rng),
        environment=device.environment,
        ip=f"203.0.113.{device.number % 250}",
        schema_version=2,
        device_info=None if device.on_server else devices.device_info(device),
        application_info=devices.application_info(device),
        user_attributes=dict(device.attributes),
        user_identities=devices.identities(device),
        api_key=device.api_key,
        mpid=device.mpid,
        mp_deviceid=device.mp_deviceid,
        consent_state=_consent(now_ms) if device.number % 4 == 0 else None,
        context=BatchContext(data_plan=DataPlanContext("shop_plan", 3)),
        integration_attributes={"82": {"partner_id": f"p-{device.number}"}},
    )
    content: dict[str, Any] = ApiClient.sanitize_for_serialization(batch)
    content["source_info"] = ApiClient.sanitize_for_serialization(devices.source_info(device))
    content["timestamp_unixtime_ms"] = now_ms
    _add_quirks(rng, device, content)
    return content


def _consent(now_ms: int) -> ConsentState:
    state = ConsentState()
    agreed = {"consented": True, "timestamp_unixtime_ms": now_ms}
    state.gdpr = {"marketing": GDPRConsentState(document="terms_v4", **agreed)}
    state.ccpa = {"data_sale_opt_out": CCPAConsentState(document="ccpa_v1", **agreed)}
    return state


def _add_quirks(rng: random.Random, device: Device, content: dict[str, Any]) -> None:
    """Change an upload into what the SDK's models cannot say."""
    if device.mpid_as_text and device.mpid is not None:
        content["mpid"] = str(device.mpid)
    if device.shared:
        content["mpid"] = rng.choice((None, 0, "0", "undefined"))
    if device.platform == "iOS" and device.number % 4 == 1 and not device.plain:
        content["mp_deviceid"] = devices.NO_ID
    if device.locates:
        place = sdk_events.location(rng, device)
        content["context"]["location"] = ApiClient.sanitize_for_serialization(place)
    if device.number % 4 == 0 and device.uploads == 0:
        content["system_notifications"] = [{"type": "gdpr_change", "purpose": "marketing"}]
    if rng.random() < 0.05:  # one upload in twenty
        content["deleted_user_attributes"] = ["newsletter"]
        content["user_attributes"].pop("newsletter", None)
    if device.number % 6 == 5:
        content["ip"] = None
        content["x_future_field"] = {"kept": ["as", "it", "is"]}
    if not content["events"]:
        _empty(rng, content)


def _empty(rng: random.Random, content: dict[str, Any]) -> None:
    """Write a heartbeat's missing events in one of the three ways that are met."""
    way = rng.choice(("missing", "null", "empty"))
    if way == "missing":
        del content["events"]
    elif way == "null":
        content["events"] = None


def _written(device: Device, documents: list[dict[str, Any]]) -> bytes:
    """Serialise: the web spaces its JSON, Android escapes nothing, the others escape all."""
    content = documents[0] if len(documents) == 1 else documents
    text = json.dumps(
        content,
        ensure_ascii=device.platform != "Android",
        separators=None if device.platform == "web" else (",", ":"),
    )
    return handmade.write_exact_numbers(text.replace('"exact": ', '"exact":')).encode()
