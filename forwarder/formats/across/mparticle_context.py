"""A context of mParticle's made of one of Pinpoint's: the endpoint, its user, its app.

What mParticle has no field for stands in ``integration_attributes.pinpoint``, by Pinpoint's own
names with colons between them: exclusions, whose paths have dots, reach each of them.
"""

import msgspec
from msgspec import Raw, Struct

from forwarder.config.connection import Settings
from forwarder.formats import rawjson
from forwarder.formats.memo import Memo
from forwarder.formats.rawjson import ABSENT

_Object = dict[str, Raw]

PLATFORMS = {
    name.lower().encode(): b'"%b"' % name.encode()
    for name in ("iOS", "Android", "web", "tvOS", "roku", "alexa", "xbox")
}
"""Spellings that mParticle gives to platforms which clients of Pinpoint write in any case."""

_APPLE = ("APNS", "APNS_SANDBOX", "APNS_VOIP", "APNS_VOIP_SANDBOX")
NETWORKS = dict.fromkeys(_APPLE, b"apn") | {"GCM": b"gcm", "ADM": b"adm", "BAIDU": b"baidu"}
"""ChannelType of push messages -> the network that delivers them, as mParticle names it."""

ADDRESSES = {"EMAIL": b"email", "SMS": b"mobile_number", "VOICE": b"mobile_number"}
"""ChannelType -> the type of identity that the endpoint's Address is; any other: ``other``."""

_DEMOGRAPHIC = {
    "PlatformVersion": "os_version",
    "Make": "device_manufacturer",
    "Model": "device_model",
}
_APPLICATION = {
    "AppPackageName": "package",
    "AppTitle": "application_name",
    "AppVersionCode": "application_build_number",
}
_LOCATION = {
    "Latitude": "latitude",
    "Longitude": "longitude",
    "Country": "country_code",
    "Region": "region_code",
    "City": "city_name",
    "PostalCode": "postal_code",
}
NOTHING = frozenset({b"", rawjson.NULL, b'""'})
_UNTOLD = frozenset({b"", rawjson.NULL})
_SPACE = b" \t\n\r"
_ENVIRONMENT = Raw(b'"production"')


class EndpointFacts(Struct, frozen=True, gc=False):
    """What the events of an endpoint say of it.

    ``location``: members of ``location``; empty: none is known. ``app`` and ``endpoint``: their
    ids, as JSON values. ``network``: the one that delivers push messages to ``address``, a JSON
    value; empty: it takes none.
    """

    location: _Object
    app: bytes
    endpoint: bytes
    network: bytes
    address: bytes


class MappedContext(EndpointFacts, frozen=True, gc=False):
    """What an endpoint says, as mParticle's keys: ``fields``, the context."""

    fields: _Object


class ContextPart(Struct, frozen=True, gc=False):
    """What a part of a context becomes, as an object, and what is left of it."""

    found: bytes
    left: _Object
    version: Raw = ABSENT


class _PlainContext(Struct, forbid_unknown_fields=True, gc=False):
    """A context that has no member, and none of a type, that it should not have."""

    ApplicationId: Raw = ABSENT
    EndpointId: Raw = ABSENT
    ArrivalTimestamp: Raw = ABSENT
    Endpoint: dict[str, Raw] = {}
    Application: dict[str, Raw] = {}


_READ = msgspec.json.Decoder(_PlainContext).decode


class ContextMapper:
    """Makes mParticle's contexts of Pinpoint's, for the settings of one connection.

    It remembers the devices and apps that it has seen: many endpoints have the same.
    """

    def __init__(self, settings: Settings) -> None:
        """Take what decides where something odd may stand."""
        self._settings = settings
        self._devices: Memo[bytes, ContextPart] = Memo(_MEMO)
        self._apps: Memo[bytes, ContextPart] = Memo(_MEMO)

    def map(self, context: bytes, time_ms: int) -> MappedContext:
        """Take a context apart; what is of an odd type stays among what is left.

        ``time_ms`` dates the user's identities. The time of arrival goes: documents have the
        record's own.
        """
        try:
            told = _READ(context)
        except msgspec.DecodeError:
            record = rawjson.fields(context)
            record.pop("ArrivalTimestamp", None)
            endpoint, application = _object(record, "Endpoint"), _object(record, "Application")
        else:
            named = ("ApplicationId", told.ApplicationId), ("EndpointId", told.EndpointId)
            record = {name: raw for name, raw in named if raw is not ABSENT}
            endpoint, application = told.Endpoint, told.Application
        return self._map(record, endpoint, application, time_ms)

    def _map(
        self, record: _Object, endpoint: _Object, application: _Object, time_ms: int
    ) -> MappedContext:
        device = self._device(endpoint)
        app = self._app(application, device.version)
        user, place = _object(endpoint, "User"), _object(endpoint, "Location")
        location = located(place)
        app_id, own = _ids(record, endpoint)
        channel = rawjson.text_of(bytes(endpoint.get("ChannelType", ABSENT))) or ""
        address = bytes(endpoint.pop("Address", ABSENT))
        network = NETWORKS.get(channel, b"") if address[:1] == b'"' else b""
        found: _Object = {"environment": _ENVIRONMENT}
        if own not in NOTHING:
            found["mp_deviceid"] = Raw(own)
        other = b"" if network else address
        _add_user(found, user, other, ADDRESSES.get(channel, b"other"), time_ms)
        information = device.found
        if network:
            comma = b"," if len(information) > len(b"{}") else b""
            information = b'%b%b"push_token":%b}' % (information[:-1], comma, address)
        for name, inner in (("device_info", information), ("application_info", app.found)):
            if inner != b"{}":
                found[name] = Raw(inner)
        if app.version is not ABSENT:
            found["sdk_version"] = app.version
        if location and self._settings.include_event_batch_location:
            there = Raw(rawjson.encode_object(location))
            found["context"] = Raw(rawjson.encode_object({"location": there}))
        metadata = device.left if self._settings.include_metadata else {}
        left = self._left(metadata | app.left, record, endpoint, user)
        if left != b"{}":
            found["integration_attributes"] = Raw(b'{"pinpoint":%b}' % left)
        return MappedContext(location, app_id, own, network, address, found)

    def _left(self, left: _Object, record: _Object, endpoint: _Object, user: _Object) -> bytes:
        """Return what mParticle has no field for, but for what stands for something hidden."""
        settings = self._settings
        if not settings.include_location_information:
            endpoint.pop("Location", None)
        if not settings.include_metadata:
            endpoint.pop("Demographic", None)
        if not settings.include_user_identities:
            endpoint.pop("User", None)
            user.clear()
        return encode_left(left, record, endpoint, user)

    def _device(self, endpoint: _Object) -> ContextPart:
        """Take out what the device is, and which version of the app it runs."""
        raw = bytes(endpoint.get("Demographic", ABSENT))
        if raw[:1] != b"{":
            return NO_PART
        del endpoint["Demographic"]
        known = self._devices.get(raw)
        if known is None:
            known = self._devices.keep(raw, read_device(rawjson.fields(raw)), 3 * len(raw))
        return known

    def _app(self, members: _Object, version: Raw) -> ContextPart:
        """Return what the app is."""
        key = rawjson.encode_object(members) + bytes(version)
        known = self._apps.get(key)
        if known is None:
            known = self._apps.keep(key, read_app(members, version), 3 * len(key))
        return known


NO_PART = ContextPart(b"{}", {})
_MEMO = 1024


def read_device(told: _Object) -> ContextPart:
    """Return what a device is; what mParticle has no field for is left."""
    found, left = _Object(), _Object()
    platform, version = bytes(told.pop("Platform", ABSENT)), told.pop("AppVersion", ABSENT)
    if platform not in NOTHING:
        spelled = PLATFORMS.get(platform.strip(b'"').lower(), platform)
        found["platform"] = Raw(spelled)
    found |= _renamed(told, _DEMOGRAPHIC)
    locale = rawjson.text_of(bytes(told.get("Locale", ABSENT)))
    if locale:
        language, *rest = locale.replace("-", "_").split("_")
        found["locale_language"] = Raw(rawjson.quote(language))
        if rest:
            found["locale_country"] = Raw(rawjson.quote(rest[-1]))
    _note(left, "Demographic:", told)
    return ContextPart(rawjson.encode_object(found), _copied(left), _copy(version))


def read_app(told: _Object, version: Raw) -> ContextPart:
    """Return what an app is; ``version``: of its own."""
    found = _renamed(told, _APPLICATION)
    if bytes(version) not in NOTHING:
        found["application_version"] = version
    sdk = told.pop("ClientSdkVersion", ABSENT)
    sdk = _copy(sdk) if bytes(sdk) not in NOTHING else ABSENT
    left: _Object = {}
    _note(left, "", told)
    return ContextPart(rawjson.encode_object(found), _copied(left), sdk)


def _copied(fields: _Object) -> _Object:
    """Return members that keep nothing else alive: what is remembered outlives its record."""
    return {name: _copy(raw) for name, raw in fields.items()}


def _copy(raw: Raw) -> Raw:
    return ABSENT if raw is ABSENT else Raw(bytes(raw))


def _ids(record: _Object, endpoint: _Object) -> tuple[bytes, bytes]:
    """Return the ids of app and endpoint; the endpoint's own copies of them go."""
    app = record.get("ApplicationId", ABSENT)
    own = record.get("EndpointId", endpoint.get("Id", ABSENT))
    for name, known in (("Id", own), ("ApplicationId", app)):
        if endpoint.get(name) == known:
            del endpoint[name]
    return bytes(app), bytes(own)


def _add_user(found: _Object, user: _Object, address: bytes, kind: bytes, time_ms: int) -> None:
    """Add who the user is, and what is known of them; ``kind``: of identity, of the address."""
    identities: list[bytes] = []
    if (own := bytes(user.get("UserId", ABSENT))) not in NOTHING:
        del user["UserId"]
        identities.append(identity(b"customer_id", own, time_ms))
    if address not in NOTHING:
        identities.append(identity(kind, address, time_ms))
    if identities:
        found["user_identities"] = Raw(b"[%b]" % b",".join(identities))
    if attributes := _object(user, "UserAttributes"):
        told = {name: single(raw) for name, raw in attributes.items()}
        found["user_attributes"] = Raw(rawjson.encode_object(told))


def identity(kind: bytes, value: bytes, time_ms: int) -> bytes:
    """Return an identity as documents have it; one that is no text as the JSON it is."""
    text = value if value[:1] == b'"' else rawjson.quote(value.decode())
    entry = b'{"identity_type":"%b","identity":%b,"timestamp_unixtime_ms":%d}'
    return entry % (kind, text, time_ms)


def encode_left(left: _Object, record: _Object, endpoint: _Object, user: _Object) -> bytes:
    """Return as one object what mParticle has no field for, of all parts of a context."""
    if not user:
        every = {**left, **record, **endpoint}
        whole = rawjson.encode_object(every)
        if (
            len(every) == len(left) + len(record) + len(endpoint)
            and b"[" not in whole
            and whole.count(b"{") == 1
            and b":null" not in whole
        ):
            return whole  # mostly: all of it are values of their own
    noted = dict(left)
    _note(noted, "", record)
    _note(noted, "", endpoint)
    _note(noted, "User:", user)
    return rawjson.encode_object(noted)


def _note(left: _Object, prefix: str, members: _Object) -> None:
    """Leave members among what is left: values of their own as they are, all else as text.

    One whose name is taken is ``Endpoint:`` and its name.
    """
    for name, raw in members.items():
        value = bytes(raw)
        if value in _UNTOLD:
            continue
        if value[:1] == b"{" and name in {"Attributes", "Metrics"} and not prefix:
            _note(left, f"{name}:", rawjson.fields(raw))
            continue
        if value[:1] == b"[":
            value = bytes(single(raw))
        if value[:1] in {b"[", b"{"}:
            value = rawjson.quote(value.decode())
        key = prefix + name
        while key in left:
            key = f"Endpoint:{key}"
        left[key] = Raw(value)


def single(raw: Raw) -> Raw:
    """Return a list of one value as that value; several stay a list."""
    value = bytes(raw)
    if value[:1] != b"[":
        return raw
    if b"," not in value:
        one = value[1:-1].strip(_SPACE)
        return Raw(one) if one else raw
    several = rawjson.elements(raw)
    return several[0] if len(several) == 1 else raw


def _renamed(fields: _Object, names: dict[str, str]) -> _Object:
    """Take members out, and return them by the names that mParticle gives them."""
    return {
        other: fields.pop(name)
        for name, other in names.items()
        if bytes(fields.get(name, ABSENT)) not in NOTHING
    }


def located(place: _Object) -> _Object:
    """Return an endpoint's ``Location``, taken apart, as members of mParticle's."""
    return (_renamed(place, _LOCATION) | place) if place else place


def _object(fields: _Object, name: str) -> _Object:
    """Take out a member that is an object; anything else stays."""
    raw = fields.get(name, ABSENT)
    if bytes(raw)[:1] != b"{":
        return {}
    del fields[name]
    return rawjson.fields(raw)
