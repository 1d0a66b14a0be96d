"""What mParticle's documents have to say of Pinpoint's uploads: shares no code with the program.

Everything is done on plain values, one event at a time and as simply as can be; numbers are the
text they came as (``oracle.Number``). docs/pinpoint-format.md has the tables it was written by.
"""

import hashlib
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from forwarder.config.connection import Settings
from tests.oracle import Number, compact

Json = dict[str, Any]

KINDS: dict[str, tuple[str, Json]] = {
    "_session.start": ("session_start", {}),
    "_session.stop": ("session_end", {}),
    "_session.pause": (
        "application_state_transition",
        {"application_transition_type": "application_background"},
    ),
    "_session.resume": (
        "application_state_transition",
        {"application_transition_type": "application_foreground"},
    ),
    "_monetization.purchase": ("commerce_event", {}),
    "_userauth.sign_in": ("profile", {"profile_event_type": "login"}),
    "_userauth.sign_up": ("profile", {"profile_event_type": "signup"}),
    "_userauth.sign_out": ("profile", {"profile_event_type": "logout"}),
}
for _who in ("_campaign", "_journey"):
    KINDS |= {
        f"{_who}.opened_notification": (
            "push_reaction",
            {"push_message_type": "action", "push_message_behavior": "DirectOpen"},
        ),
        f"{_who}.send": ("push_message", {"push_message_type": "sent"}),
        f"{_who}.received_foreground": (
            "push_message",
            {
                "push_message_type": "received",
                "push_message_behavior": "Received",
                "application_state": "foreground",
            },
        ),
        f"{_who}.received_background": (
            "push_message",
            {
                "push_message_type": "received",
                "push_message_behavior": "Received",
                "application_state": "background",
            },
        ),
    }
PUSH = {"GCM": "gcm", "ADM": "adm", "BAIDU": "baidu"}
PUSH |= dict.fromkeys(("APNS", "APNS_SANDBOX", "APNS_VOIP", "APNS_VOIP_SANDBOX"), "apn")
OF_THE_APP = ("AppPackageName", "AppTitle", "AppVersionCode", "SdkName", "ClientSdkVersion")
GEO = {
    "Latitude": "latitude",
    "Longitude": "longitude",
    "Country": "country_code",
    "Region": "region_code",
    "City": "city_name",
    "PostalCode": "postal_code",
}


def millis(value: object) -> Number | None:
    """Return a time as milliseconds, from a number or ISO 8601."""
    if isinstance(value, Number):
        return value
    if not isinstance(value, str):
        return None
    if value.isdigit():
        return Number(value)
    try:
        told = datetime.fromisoformat(value)
    except ValueError:
        return None
    if told.tzinfo is None:
        told = told.replace(tzinfo=UTC)
    return Number(str((told - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)))


def number_of(app: str, endpoint: str, name: str) -> Number:
    """Return the 63 bits that stand for an event or a session of an endpoint."""
    tokens = [compact(one).encode() for one in (app, endpoint)]
    base = b"".join(b"%d:%b" % (len(one), one) for one in tokens)
    digest = hashlib.blake2b(base + name.encode(), digest_size=8).digest()
    return Number(str(int.from_bytes(digest, "big") >> 1))


def from_pinpoint(event: Json, context: Json, settings: Settings) -> Json:
    """Return an event of a gateway's as mParticle's document has it."""
    app, endpoint = context["ApplicationId"], context["EndpointId"]
    where = context.get("Endpoint") or {}
    data: Json = {}
    time = millis(event.get("Timestamp"))
    if time:
        data["timestamp_unixtime_ms"] = time
    name = compact(event["EventId"])
    data["event_id"] = _id(number_of(app, endpoint, "e" + name), settings)
    data["source_message_id"] = event["EventId"]
    session, (start, end) = event.get("Session") or {}, _ends(event.get("Session") or {})
    if session:
        name = compact(session["Id"])
        data["session_id"] = _id(number_of(app, endpoint, "s" + name), settings)
        data["session_uuid"] = session["Id"]
    data |= given({"session_start_unixtime_ms": start, "session_stop_unixtime_ms": end})
    place = {GEO[k]: v for k, v in (where.get("Location") or {}).items()}
    if place and settings.include_location_information:
        data["location"] = {name: place[name] for name in GEO.values() if name in place}
    own, members = _kind(event, where, settings)
    data |= members
    took = session.get("Duration")
    if own == "session_end" and not took:
        took = _between(start, end or time)
    data |= given({"session_duration_ms": took})
    custom = dict(event.get("Attributes") or {})
    for key, value in (event.get("Metrics") or {}).items():
        while key in custom:
            key = "metrics." + key  # noqa: PLW2901
        custom[key] = value
    data["custom_attributes"] = custom
    known = {"EventId", "EventType", "Timestamp", "Attributes", "Metrics", "Session", *OF_THE_APP}
    rest = {key: value for key, value in event.items() if key not in known}
    if rest:
        data["pinpoint"] = rest
    return {"data": data, "event_type": own}


def _id(number: Number, settings: Settings) -> object:
    return number.text if settings.int64_as_string else number


def _ends(session: Json) -> tuple[Number | None, Number | None]:
    return millis(session.get("StartTimestamp")), millis(session.get("StopTimestamp"))


def _between(start: Number | None, end: Number | None) -> Number | None:
    return Number(str(int(end.text) - int(start.text))) if start and end else None


def _kind(event: Json, where: Json, settings: Settings) -> tuple[str, Json]:
    kind, told, counted = event["EventType"], event.get("Attributes") or {}, event.get("Metrics")
    if kind in settings.screen_view_event_types:
        names = [told.get(name) for name in ("screen_name", "screenName", "name", "url")]
        screen = next((name for name in names if name), kind)
        return "screen_view", {"screen_name": screen, "activity_type": kind}
    if kind not in KINDS:
        return "custom_event", {"event_name": kind, "custom_event_type": "other"}
    own, members = KINDS[kind]
    if own.startswith("push"):
        return own, _push(where, settings) | members
    if own == "commerce_event":
        return own, _purchase(told, counted or {})
    return own, members


def _push(where: Json, settings: Settings) -> Json:
    channel = where.get("ChannelType")
    if channel not in PUSH or not where.get("Address"):
        return {}
    hidden = {"device_info", "device_info.push_token"} & set(settings.metadata_field_exclusion)
    found = {"network": PUSH[channel]}
    if settings.include_metadata and not hidden:
        found = {"push_message_token": where["Address"]} | found
    return found


def _purchase(told: Json, counted: Json) -> Json:
    price, quantity = counted.get("_item_price"), counted.get("_quantity")
    amount = None
    if price and quantity:
        amount = Number(format(Decimal(price.text) * Decimal(quantity.text), "f"))
    product = {
        "id": told.get("_product_id"),
        "price": price,
        "quantity": quantity,
        "total_product_amount": amount,
    }
    action = {
        "action": "purchase",
        "transaction_id": told.get("_transaction_id"),
        "affiliation": told.get("_store"),
        "total_amount": amount,
        "products": [given(product)] if given(product) else [],
    }
    return given({"product_action": given(action), "currency_code": told.get("_currency")})


def given(members: Json) -> Json:
    """Return members without those that are not told."""
    return {key: value for key, value in members.items() if value is not None}


def context_from_pinpoint(context: Json, settings: Settings) -> Json:
    """Return the context of mParticle's that a gateway's record says, before any setting."""
    where = dict(context.get("Endpoint") or {})
    app = context.get("Application") or {}
    device = dict(where.pop("Demographic", {}))
    user = dict(where.pop("User", {}))
    place = {GEO[k]: v for k, v in where.pop("Location", {}).items()}
    channel, address = where.get("ChannelType"), where.pop("Address", None)
    found: Json = {"environment": "production", "mp_deviceid": context["EndpointId"]}
    identities = {"customer_id": user["UserId"]} if "UserId" in user else {}
    token = address if channel in PUSH else None
    if address and not token:
        kinds = {"EMAIL": "email", "SMS": "mobile_number", "VOICE": "mobile_number"}
        identities[kinds.get(channel, "other")] = address  # type: ignore[arg-type]
    found |= {"user_identities": identities} if identities else {}
    attributes = user.get("UserAttributes") or {}
    if attributes:
        found["user_attributes"] = {k: _single(v) for k, v in attributes.items()}
    locale = device.get("Locale", "").replace("-", "_").split("_")
    platform = device.get("Platform")
    spelled = {one.lower(): one for one in ("iOS", "Android", "web", "tvOS")}
    information = {
        "platform": spelled.get(str(platform).lower(), platform),
        "os_version": device.get("PlatformVersion"),
        "device_manufacturer": device.get("Make"),
        "device_model": device.get("Model"),
        "locale_language": locale[0] or None,
        "locale_country": locale[-1] if len(locale) > 1 else None,
        "push_token": token,
    }
    found |= {"device_info": given(information)} if given(information) else {}
    application = {
        "package": app.get("AppPackageName"),
        "application_name": app.get("AppTitle"),
        "application_build_number": app.get("AppVersionCode"),
        "application_version": device.get("AppVersion"),
    }
    found |= {"application_info": given(application)} if given(application) else {}
    found |= {"sdk_version": app["ClientSdkVersion"]} if "ClientSdkVersion" in app else {}
    if place and settings.include_event_batch_location:
        found["context"] = {"location": {n: place[n] for n in GEO.values() if n in place}}
    found["integration_attributes"] = {"pinpoint": _left(context, app, device, where, settings)}
    return found


_PLACED = {"Endpoint", "Application", "ArrivalTimestamp"}


def _left(context: Json, app: Json, device: Json, where: Json, settings: Settings) -> Json:
    named = ("Locale", "ModelVersion", "Timezone") if settings.include_metadata else ()
    left = {f"Demographic:{k}": device[k] for k in device if k in named}
    left |= {"SdkName": app["SdkName"]} if "SdkName" in app else {}
    left |= {k: v for k, v in context.items() if k not in _PLACED}
    same = {"Id": context["EndpointId"], "ApplicationId": context["ApplicationId"]}
    for key, value in where.items():
        if key == "Attributes":
            left |= {f"Attributes:{k}": _flat(v) for k, v in value.items()}
        elif key == "Metrics":
            left |= {f"Metrics:{k}": v for k, v in value.items()}
        elif same.get(key) != value:
            left[key] = value
    return left


def _single(values: list[str]) -> object:
    return values[0] if len(values) == 1 else values


def _flat(values: list[str]) -> object:
    return values[0] if len(values) == 1 else compact(values)


# --------------------------------------------------------------------------- what passes

SWITCHES = {
    "_session": "send_lifecycle_events",
    "_monetization": "send_commerce_events",
    "_userauth": "send_profile_change_events",
    "_campaign": "send_push_registrations_and_receipts",
    "_journey": "send_push_registrations_and_receipts",
    "_SMS": "send_push_registrations_and_receipts",
    "_email": "send_push_registrations_and_receipts",
}


def wanted(event: Json, settings: Settings) -> bool:
    """Tell whether the settings let a gateway's event pass."""
    kind = event.get("EventType")
    if kind == "_test.event_stream":
        return False
    if kind in settings.screen_view_event_types:
        return settings.send_screen_views
    if not kind:
        return settings.send_unknown_events
    first, dot, _ = kind.partition(".")
    return bool(getattr(settings, SWITCHES.get(first if dot else "", "send_custom_events")))
