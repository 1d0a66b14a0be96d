"""The envelope that AWS's replacement clients write, made into the record that it claims to be.

It says version 3.1, and has texts of times, ``session.id``, a ``duration``, a locale of its code
alone, ``client.user_id``, no endpoint, and leaves out what is empty. docs/pinpoint-format.md has
the table.
"""

from typing import TypeVar

from msgspec import Raw

from forwarder.formats import rawjson
from forwarder.formats.pinpoint import kinds, stream_fields
from forwarder.formats.pinpoint.device import demographic_of, members, parse_locale
from forwarder.formats.pinpoint.timestamps import milliseconds
from forwarder.formats.rawjson import ABSENT

_EMPTY = Raw(b"{}")
_NULL = Raw(rawjson.NULL)
_Time = TypeVar("_Time", int, None)
_APPLICATION = (
    "app_id", "cognito_identity_pool_id", "package_name", "sdk", "title", "version_name",
    "version_code",
)  # fmt: skip
_ORDER = (
    "event_type", "event_timestamp", "arrival_timestamp", "event_version", "application", "client",
    "device", "session", "attributes", "metrics", "endpoint", "client_context",
)  # fmt: skip
_LAST = ("facets", "awsAccountId")

_Object = dict[str, Raw]


def is_envelope(fields: _Object) -> bool:
    """Tell whether an object has something that no record of the stream has."""
    if bytes(fields.get("event_timestamp", ABSENT))[:1] == b'"':
        return True
    if bytes(fields.get("arrival_timestamp", ABSENT))[:1] == b'"':
        return True
    session = members(fields, "session")
    if "id" in session and "session_id" not in session:
        return True
    if (
        any(bytes(session.get(name, ABSENT))[:1] == b'"' for name in _TIMES)
        or "duration" in session
    ):
        return True
    return "user_id" in members(fields, "client")


_TIMES = ("start_timestamp", "stop_timestamp")


def finished(fields: _Object, time: int) -> _Object:
    """Return the record; ``time``: when it arrived where it does not say so, in milliseconds."""
    arrival = _time(fields, "arrival_timestamp", time)
    application, client = members(fields, "application"), members(fields, "client")
    user = client.pop("user_id", ABSENT)
    device = members(fields, "device")
    kind = rawjson.text_of(bytes(fields.get("event_type", ABSENT))) or ""
    found = fields | {
        "event_timestamp": Raw(b"%d" % _time(fields, "event_timestamp", arrival)),
        "arrival_timestamp": Raw(b"%d" % arrival),
        "event_version": Raw(b'"3.1"'),
        "application": _object(_ordered(application | {"sdk": application.get("sdk", _EMPTY)})),
        "client": _object(client),
        "device": _device(device),
        "session": _session(members(fields, "session")),
        "attributes": fields.get("attributes", _EMPTY),
    }
    told = _endpoint(application, client, demographic_of(device, application), user)
    if kinds.is_campaign(kind):
        if "client_context" not in fields:
            custom = Raw(rawjson.quote(rawjson.encode_object(told).decode()))
            found["client_context"] = _object({"custom": _object({"endpoint": custom})})
    elif not kinds.is_message(kind):
        found["metrics"] = fields.get("metrics", _EMPTY)
        found["endpoint"] = _object(told | members(fields, "endpoint"))
    known = {*_ORDER, *_LAST}
    rest = [key for key in found if key not in known]
    return {key: found[key] for key in (*_ORDER, *rest, *_LAST) if key in found}


def _endpoint(application: _Object, client: _Object, demographic: _Object, user: Raw) -> _Object:
    """Return what else tells of the endpoint, of which an envelope says nothing itself."""
    endpoint: _Object = {}
    if demographic:
        endpoint["Demographic"] = _object(demographic)
    if user is not ABSENT and bytes(user) != rawjson.NULL:
        endpoint["User"] = _object({"UserId": user})
    if "app_id" in application:
        endpoint["ApplicationId"] = application["app_id"]
    if "client_id" in client:
        endpoint["Id"] = client["client_id"]
    return endpoint


def _device(device: _Object) -> Raw:
    """Return a device with all that its locale's code tells, and what platform it has."""
    code = stream_fields.as_text(members(device, "locale").get("code", _NULL))
    locale = stream_fields.members_of(("locale", parse_locale(code) if code else None))
    known: _Object = {key: device[key] for key in ("make", "model") if key in device}
    known["platform"] = device.get("platform", _EMPTY)
    known |= {key: raw for key, raw in device.items() if key not in {"locale", *known}}
    rest = rawjson.encode_object(known)
    return Raw(b"{%b,%b" % (locale, rest[1:]) if locale else rest)


def _session(session: _Object) -> Raw:
    """Return a session by its own name, with times in milliseconds, and no duration."""
    found: _Object = {}
    name = session.get("session_id", session.get("id", ABSENT))
    if name is not ABSENT:
        found["session_id"] = name
    for key in _TIMES:
        if (time := _time(session, key, None)) is not None:
            found[key] = Raw(b"%d" % time)
    return _object(found)


def _time(fields: _Object, name: str, otherwise: _Time) -> int | _Time:
    text = stream_fields.as_text(fields.get(name, _NULL))
    time = None if text is None else milliseconds(text)
    return otherwise if time is None else time


def _ordered(application: _Object) -> _Object:
    keys = dict.fromkeys((*_APPLICATION, *application))
    return {key: application[key] for key in keys if key in application}


def _object(fields: _Object) -> Raw:
    return Raw(rawjson.encode_object(fields))
