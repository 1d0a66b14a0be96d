"""What Pinpoint's records have to say of mParticle's uploads: shares no code with the program.

As ``across_oracle``, which is for the other direction.
"""

import hashlib
import json
import uuid
import zlib
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from forwarder.config.connection import Connection, Settings
from tests.across_oracle import GEO, Json, given, millis
from tests.oracle import Number, compact

STRINGS = {
    "event_id", "session_id", "mpid", "batch_id", "previous_mpid", "current_mpid", "origin_mpid",
    "source_message_id",
}  # fmt: skip
DEVICE_IDS = [
    *("android_uuid", "android_advertising_id", "ios_idfv", "ios_advertising_id"),
    *("roku_advertising_id", "fire_advertising_id", "amp_id", "microsoft_advertising_id"),
    *("roku_publisher_id", "microsoft_publisher_id"),
]


def flatten(path: str, name: str, value: object, texts: Json, numbers: Json) -> None:
    """Add a value, or those in it, to texts and numbers."""
    if isinstance(value, dict) and value:
        for key, one in value.items():
            flatten(f"{path}.{key}", key, one, texts, numbers)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for at, one in enumerate(value):
            flatten(f"{path}.{at}", "", one, texts, numbers)
    elif isinstance(value, Number):
        if name in STRINGS:
            put(texts, path, value.text)
        else:
            put(numbers, path, value)
    elif isinstance(value, str | bool):
        put(texts, path, value if isinstance(value, str) else str(value).lower())
    elif value is not None:
        put(texts, path, compact(value))


def put(found: Json, path: str, value: object) -> None:
    """Set what has no value yet."""
    while path in found:
        path = "data." + path
    found[path] = value


def to_pinpoint(event: Json, upload: Json, shown: Json, chosen: Connection, time: int) -> Json:
    """Return the record of an event; ``shown``: what settings leave of the upload's context."""
    data, settings = dict(event.get("data") or {}), chosen.settings
    kind, name = event.get("event_type", ""), None
    told_own = data.get("custom_attributes")
    custom = data.pop("custom_attributes") if isinstance(told_own, dict) else {}
    purchase: tuple[Json, Json] = ({}, {})
    if kind == "custom_event" and isinstance(data.get("event_name"), str):
        name = data.pop("event_name")
    elif kind == "screen_view":
        name = settings.screen_view_event_types[0]
    elif kind == "commerce_event" and _buys(data):
        name, purchase = "_monetization.purchase", _told_purchase(data)
    else:
        name = _named(kind, data, custom)
    happened = data.pop("timestamp_unixtime_ms", None)
    happened = Number(happened) if isinstance(happened, str) else happened
    session = _session(data, happened, ends=kind == "session_end")
    spot = data.get("location")
    place = data.pop("location") if isinstance(spot, dict) else {}
    texts: Json = {}
    numbers: Json = {}
    scalars = {k: v for k, v in custom.items() if not isinstance(v, dict | list)}
    for key, value in (*scalars.items(), *((k, v) for k, v in custom.items() if k not in scalars)):
        flatten(key, key, value, texts, numbers)
    for found, told in zip((texts, numbers), purchase, strict=True):
        found.update({k: v for k, v in told.items() if k not in found})
    for key, value in data.items():
        flatten(key, key, value, texts, numbers)
    where = _place(place) if place else None
    for key in [k for k in place if k not in GEO.values()]:
        flatten(f"location.{key}", key, place[key], texts, numbers)
    for key, value in event.items():
        if key not in {"event_type", "data"}:
            flatten(key, key, value, texts, numbers)
    return _record(
        {
            "event_type": name or kind,
            "event_timestamp": happened or Number(str(time)),
            "session": session,
            "attributes": texts,
            "metrics": numbers,
        },
        endpoint_of(upload, shown, chosen, time, where),
        chosen,
        time,
    )


def _buys(data: Json) -> bool:
    return bool((data.get("product_action") or {}).get("action") == "purchase")


def _record(told: Json, endpoint: tuple[Json, Json, Json], chosen: Connection, time: int) -> Json:
    whole, application, device = endpoint
    settings = chosen.settings
    hidden = set() if settings.include_user_identities else {"Address"}
    hidden |= set() if settings.include_location_information else {"Location"}
    whole = {key: value for key, value in whole.items() if key not in hidden}
    if not settings.include_metadata:
        application |= {"sdk": {}}
    for path in settings.metadata_field_exclusion:
        top, *rest = path.split(".")
        if top in {"endpoint", "device"} and rest:
            _without(whole if top == "endpoint" else device, rest)
    found: Json = {
        "event_type": told["event_type"],
        "event_timestamp": told["event_timestamp"],
        "arrival_timestamp": Number(str(time)),
        "event_version": "3.1",
        "application": application,
        "client": {"client_id": whole["Id"]} if "Id" in whole else {},
        "device": device,
        "session": told["session"],
        "attributes": told["attributes"],
        "metrics": told["metrics"],
    }
    message = str(told["event_type"]).startswith(("_campaign.", "_journey.", "_SMS.", "_email."))
    if message and not told["metrics"]:
        del found["metrics"]
    if str(told["event_type"]).startswith(("_campaign.", "_journey.")):
        found["client_context"] = {"custom": {"endpoint": compact(whole)}}
    else:
        found["endpoint"] = whole
    if chosen.sink.aws_account_id:
        found["awsAccountId"] = chosen.sink.aws_account_id
    return found


def _named(kind: str, data: Json, custom: Json) -> str | None:
    who = "_journey." if "journey_id" in custom else "_campaign."
    front = "foreground" if data.get("application_state") == "foreground" else "background"
    named = {
        "session_start": "_session.start",
        "session_end": "_session.stop",
        "application_state_transition": {
            "application_background": "_session.pause",
            "application_foreground": "_session.resume",
        }.get(str(data.get("application_transition_type"))),
        "profile": {
            "login": "_userauth.sign_in",
            "signup": "_userauth.sign_up",
            "logout": "_userauth.sign_out",
        }.get(str(data.get("profile_event_type"))),
        "push_reaction": who + "opened_notification",
        "push_message": {
            "sent": who + "send",
            "action": who + "opened_notification",
            "received": f"{who}received_{front}",
        }.get(str(data.get("push_message_type"))),
    }
    return named.get(kind)


def _session(data: Json, happened: Number | None, *, ends: bool) -> Json:
    number, name = data.get("session_id"), data.get("session_uuid")
    none = {"", "0", "-1"}
    if name and name not in none:
        del data["session_uuid"]
    elif number is not None and as_text(number) not in none:
        name = as_text(data.pop("session_id"))
    else:
        return {}
    found: Json = {"session_id": name}
    start = data.pop("session_start_unixtime_ms", None)
    stop = data.pop("session_stop_unixtime_ms", None)
    took = data.get("session_duration_ms")
    if ends and not stop:
        stop = Number(str(int(start.text) + int(took.text))) if start and took else happened
    return found | given({"start_timestamp": start, "stop_timestamp": stop})


def as_text(value: object) -> str:
    """Return a text or a number as text."""
    return value.text if isinstance(value, Number) else str(value)


def _told_purchase(data: Json) -> tuple[Json, Json]:
    action = data["product_action"]
    products = action.get("products") or []
    texts = {
        "_currency": data.get("currency_code"),
        "_transaction_id": action.get("transaction_id"),
        "_store": action.get("affiliation"),
        "_product_id": ",".join(as_text(one["id"]) for one in products if "id" in one) or None,
    }
    numbers: Json = {}
    if len(products) == 1 and "price" in products[0]:
        quantity = products[0].get("quantity", Number("1"))
        numbers = {"_quantity": quantity, "_item_price": products[0]["price"]}
    elif products and all("price" in one for one in products):
        costs = [
            Decimal(one["price"].text) * Decimal(one.get("quantity", Number("1")).text)
            for one in products
        ]
        numbers = {"_quantity": Number("1"), "_item_price": Number(format(sum(costs), "f"))}
    elif "total_amount" in action:
        numbers = {"_quantity": Number("1"), "_item_price": action["total_amount"]}
    return given(texts), numbers


def _place(place: Json) -> Json:
    order = ("city_name", "country_code", "postal_code", "region_code", "latitude", "longitude")
    back = {own: other for other, own in GEO.items()}
    return {back[name]: place[name] for name in order if name in place}


def endpoint_of(
    upload: Json, shown: Json, chosen: Connection, time: int, where: Json | None
) -> tuple[Json, Json, Json]:
    """Return endpoint, application and device of a context."""
    shown = given(shown)
    device, app = dict(shown.pop("device_info", {})), dict(shown.pop("application_info", {}))
    client = client_id(upload, {**shown, "device_info": device})
    for name in ("mpid", "mp_deviceid"):
        if name in shown and as_text(shown[name]) == client:
            del shown[name]
    people: dict[str, list[str]] = {}
    for one in shown.pop("user_identities", []):
        people.setdefault(one["identity_type"], []).append(one["identity"])
    found = _reached(device, people)
    since = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=time)
    effective = since.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    found |= {"EndpointStatus": "ACTIVE", "EffectiveDate": effective}
    user: Json = {"UserId": people["customer_id"].pop(0)} if people.get("customer_id") else {}
    attributes = given(shown.pop("user_attributes", None) or {})
    user |= {"UserAttributes": {k: _list(v) for k, v in attributes.items()}} if attributes else {}
    application = _application(app)
    sdk = shown.pop("sdk_version", None)
    demographic, told_device = _demographic(device, application)
    context = dict(shown.pop("context", {}))
    spot = context.pop("location", None) or {}
    rest = {k: v for k, v in spot.items() if k not in GEO.values()}
    context |= {"location": rest} if rest else {}
    inner = {"device_info": device, "application_info": app, "context": context}
    found |= _left(shown, people, inner)
    app_id = chosen.sink.app_id or application.get("package_name")
    parts = {"Demographic": demographic, "Location": where or _place(spot), "User": user}
    found |= {key: value for key, value in parts.items() if value}
    found |= given({"ApplicationId": app_id, "Id": client})
    if client:
        found["CohortId"] = str(zlib.crc32(client.encode()) % 100)
    ordered = given({"app_id": app_id, "package_name": application.get("package_name")})
    ordered["sdk"] = {"version": as_text(sdk)} if sdk else {}
    names = ("title", "version_name", "version_code")
    ordered |= {name: application[name] for name in names if name in application}
    return found, ordered, told_device


def _reached(device: Json, people: dict[str, list[str]]) -> Json:
    if "push_token" in device:
        channels = {"ios": "APNS", "tvos": "APNS", "android": "GCM", "fire_tv": "ADM"}
        channel = channels.get(str(device.get("platform", "")).lower(), "CUSTOM")
        return {"ChannelType": channel, "Address": device.pop("push_token")}
    for kind, channel in (("email", "EMAIL"), ("mobile_number", "SMS")):
        if people.get(kind):
            return {"ChannelType": channel, "Address": people[kind].pop(0)}
    return {}


def _application(app: Json) -> Json:
    names = {
        "package": "package_name",
        "application_name": "title",
        "application_version": "version_name",
        "application_build_number": "version_code",
    }
    return {other: as_text(app.pop(name)) for name, other in names.items() if name in app}


def _left(shown: Json, people: dict[str, list[str]], inner: dict[str, Json]) -> Json:
    lists: Json = {f"user_identities.{k}": v for k, v in people.items() if v}
    texts: Json = {}
    numbers: Json = {}
    for key, value in shown.items():
        if not isinstance(value, list) or (value and not isinstance(value[0], str)):
            flatten(key, key, value, texts, numbers)
        elif value:
            lists[key] = value
    for prefix, members in inner.items():
        for key, value in members.items():
            flatten(f"{prefix}.{key}", key, value, texts, numbers)
    attributes = {k: [v] for k, v in texts.items()} | lists
    parts = {"Attributes": attributes, "Metrics": numbers}
    return {key: value for key, value in parts.items() if value}


def _list(value: object) -> list[str]:
    several = value if isinstance(value, list) else [value]
    return [one if isinstance(one, str) else compact(one) for one in several]


def _demographic(device: Json, application: Json) -> tuple[Json, Json]:
    names = {
        "device_manufacturer": "Make",
        "device_model": "Model",
        "platform": "Platform",
        "os_version": "PlatformVersion",
        "timezone_name": "Timezone",
    }
    found = {names[k]: device.pop(k) for k in names if k in device}
    if "version_name" in application:
        found["AppVersion"] = application["version_name"]
    told: Json = {}
    if "locale_language" in device:
        language, country = device.pop("locale_language"), device.pop("locale_country", None)
        found["Locale"] = f"{language}_{country}" if country else language
        parts = {"country": country and country.upper(), "language": language.lower()}
        told["locale"] = {"code": found["Locale"]} | given(parts)
    told |= given({"make": found.get("Make"), "model": found.get("Model")})
    platform = {"name": found.get("Platform"), "version": found.get("PlatformVersion")}
    return found, told | {"platform": given(platform)}


def client_id(upload: Json, shown: Json) -> str | None:
    """Return the id of the endpoint: the device's, as a UUID of its own where it is hidden."""
    inner = upload.get("device_info") or {}
    places = [("mp_deviceid", upload, shown)]
    places += [(name, inner, shown.get("device_info") or {}) for name in DEVICE_IDS]
    for name, there, visible in (*places, ("mpid", upload, shown)):
        if there.get(name):
            own = as_text(there[name])
            return own if name in visible else _pseudonym(own)
    return None


def _pseudonym(own: str) -> str:
    digest = hashlib.blake2b(b"client_id" + json.dumps(own).encode(), digest_size=16)
    number = digest.digest()
    whole = int.from_bytes(number, "big")
    whole = whole & ~(0xF << 76) | 8 << 76
    whole = whole & ~(0x3 << 62) | 2 << 62
    return str(uuid.UUID(int=whole))


# --------------------------------------------------------------------------- Pinpoint -> Pinpoint


def from_gateway(event: Json, context: Json, chosen: Connection) -> Json:
    """Return the record of a gateway's event, as the settings leave it."""
    settings, where = chosen.settings, dict(context.get("Endpoint") or {})
    device, kind, session = where.get("Demographic") or {}, event["EventType"], event.get("Session")
    found: Json = {
        "event_type": kind,
        "event_timestamp": millis(event["Timestamp"]),
        "arrival_timestamp": context["ArrivalTimestamp"],
        "event_version": "3.1",
        "application": _app_of(event, context, device),
        "client": {"client_id": context["EndpointId"]},
        "device": _device_of(device),
        "session": _session_of(session or {}),
        "attributes": event.get("Attributes") or {},
        "metrics": event.get("Metrics") or {},
    }
    _reduce(found, where, settings)
    if kind.startswith(("_campaign.", "_journey.", "_SMS.", "_email.")) and not found["metrics"]:
        del found["metrics"]
    if kind.startswith(("_campaign.", "_journey.")):
        found["client_context"] = {"custom": {"endpoint": compact(where)}}
    elif not kind.startswith(("_SMS.", "_email.")):
        found["endpoint"] = where
    if chosen.sink.aws_account_id:
        found["awsAccountId"] = chosen.sink.aws_account_id
    return found


def _app_of(event: Json, context: Json, device: Json) -> Json:
    sdk = {"name": event.get("SdkName"), "version": event.get("ClientSdkVersion")}
    named = {"app_id": context["ApplicationId"], "package_name": event.get("AppPackageName")}
    told = {"title": event.get("AppTitle"), "version_name": device.get("AppVersion")}
    told["version_code"] = event.get("AppVersionCode")
    return given(named) | {"sdk": given(sdk)} | given(told)


def _session_of(session: Json) -> Json:
    times = {"start_timestamp": "StartTimestamp", "stop_timestamp": "StopTimestamp"}
    found = {name: millis(session.get(key)) for name, key in times.items()}
    return given({"session_id": session.get("Id")} | found)


def _reduce(found: Json, where: Json, settings: Settings) -> None:
    if not settings.include_metadata:
        found["application"] = {
            key: value for key, value in found["application"].items() if key in _KEPT
        } | {"sdk": {}}
        found["device"] = {"platform": {}}
        where.pop("Demographic", None)
    if not settings.include_location_information:
        where.pop("Location", None)
    if not settings.include_user_identities:
        where.pop("Address", None)
        _without(where, ["User", "UserId"])
    for path in settings.metadata_field_exclusion:
        top, *rest = path.split(".")
        if top == "endpoint":
            _without(where, rest)
        elif top in {"application", "client", "device"}:
            _without(found[top], rest)


_KEPT = ("app_id", "package_name")


def _without(members: Json, path: list[str]) -> None:
    name, *rest = path
    if rest and isinstance(members.get(name), dict):
        members[name] = dict(members[name])
        _without(members[name], rest)
    elif not rest:
        members.pop(name, None)


def _device_of(told: Json) -> Json:
    found: Json = {}
    if "Locale" in told:
        language, _, country = told["Locale"].partition("_")
        found["locale"] = {"code": told["Locale"], "country": country.upper(), "language": language}
    found |= given({"make": told.get("Make"), "model": told.get("Model")})
    platform = {"name": told.get("Platform"), "version": told.get("PlatformVersion")}
    return found | {"platform": given(platform)}
