"""An endpoint of Pinpoint's made of a context of mParticle's: who the user is, on which device.

What an endpoint has no field for becomes its attributes and metrics, by path.
"""

from hashlib import blake2b
from zlib import crc32

from msgspec import Raw, Struct

from forwarder.formats import rawjson
from forwarder.formats.across.flatten import Flat
from forwarder.formats.mparticle.identity import DEVICE_ID_KEYS, NO_ID, id_of
from forwarder.formats.pinpoint import timestamps
from forwarder.formats.rawjson import ABSENT

_Object = dict[str, Raw]

_COHORTS = 100
_PLACED = frozenset({
    "mpid", "mp_deviceid", "user_identities", "user_attributes", "device_info",
    "application_info", "context", "sdk_version",
})  # fmt: skip
"""Keys of a context that are looked at one by one."""

_DEMOGRAPHIC = {
    "device_manufacturer": "Make",
    "device_model": "Model",
    "platform": "Platform",
    "os_version": "PlatformVersion",
    "timezone_name": "Timezone",
}
_APPLICATION = {
    "package": "package_name",
    "application_name": "title",
    "application_version": "version_name",
    "application_build_number": "version_code",
}
_LOCATION = {
    "city_name": "City",
    "country_code": "Country",
    "postal_code": "PostalCode",
    "region_code": "Region",
}
_COORDINATES = {"latitude": "Latitude", "longitude": "Longitude"}

_CHANNELS = {"ios": b"APNS", "tvos": b"APNS", "android": b"GCM", "fire_tv": b"ADM"}
"""Platform -> how it takes push messages; any other: ``CUSTOM``."""

_ADDRESSES = {"email": b"EMAIL", "mobile_number": b"SMS"}
"""Type of identity -> how it is reached, in the order in which they are asked."""


class EndpointRecord(Struct, frozen=True, gc=False):
    """What the records of a context have in common, as JSON.

    ``client``: the id of the endpoint, ``app``: of the app, both empty where there is none.
    ``application``: the app's further members, by the names that records give them. ``endpoint``:
    the endpoint in front of its location, and behind; ``location``: that of the context, if any.
    """

    client: bytes
    app: bytes
    application: _Object
    endpoint: tuple[bytes, bytes]
    location: bytes


def read(came: _Object, shown: _Object, app_id: str | None, since_ms: int) -> EndpointRecord:
    """Return what a context says; ``came``: the context, ``shown``: what settings leave of it.

    ``app_id``: the app's id where it is configured. ``since_ms``: since when all of it is so.
    """
    left, client = dict(shown), client_id(came, shown)
    for name in ("mpid", "mp_deviceid"):
        if name in left and text(left[name]) == client:
            del left[name]
    device, application = taken(left, "device_info"), taken(left, "application_info")
    inner = taken(left, "context")
    told, location = _texts(application, _APPLICATION), place(inner)
    version = text(left.pop("sdk_version", ABSENT))
    told["sdk"] = Raw(b'{"version":%b}' % version if version else b"{}")
    app = bytes(told.get("package_name", ABSENT)) if app_id is None else rawjson.quote(app_id)
    people = _people(left)
    before = _reached(device, people)
    before["EndpointStatus"] = Raw(b'"ACTIVE"')
    if since := timestamps.iso(since_ms):
        before["EffectiveDate"] = Raw(rawjson.quote(since))
    user = _user(left, people)
    demographic = _demographic(device, told)
    lists, flat = _lists(left, people), Flat()
    flat.add_all("", left)
    flat.add_all("device_info.", device)
    flat.add_all("application_info.", application)
    flat.add_all("context.", inner)
    attributes = {name: Raw(b"[%b]" % one) for name, one in flat.attributes.items()} | lists
    named = (("Attributes", attributes), ("Metrics", flat.metrics), ("Demographic", demographic))
    before |= {name: Raw(rawjson.encode_object(told)) for name, told in named if told}
    after = {"User": Raw(rawjson.encode_object(user))} if user else {}
    after |= {name: Raw(own) for name, own in (("ApplicationId", app), ("Id", client)) if own}
    if client:
        after["CohortId"] = Raw(b'"%d"' % (crc32(_utf8(client)) % _COHORTS))
    ends = rawjson.encode_object(before)[:-1], rawjson.encode_object(after)[1:]
    return EndpointRecord(client, app, told, ends, location)


def client_id(came: _Object, shown: _Object) -> bytes:
    """Return the id of the device as a JSON string, without a device the user's; empty: neither.

    It is the one that the device key holds. Where settings hide it, a UUID derived from it stands
    for it, so that devices can still be told apart and counted.
    """
    for fields in (came, _object(came, "device_info")):
        for name in ("mp_deviceid",) if fields is came else DEVICE_ID_KEYS:
            if (token := id_of(bytes(fields.get(name, ABSENT)))) != NO_ID:
                of = shown if fields is came else _object(shown, "device_info")
                return text(fields[name]) if name in of else _pseudonym(token)
    if (token := id_of(bytes(came.get("mpid", ABSENT)))) != NO_ID:
        return text(came["mpid"]) if "mpid" in shown else _pseudonym(token)
    return b""


def device_ids(context: _Object) -> _Object:
    """Return of a context the keys that ``client_id`` asks for, without what is beside ids."""
    found: _Object = {}
    found |= {name: context[name] for name in ("mp_deviceid", "mpid") if name in context}
    device = _object(context, "device_info")
    if ids := {name: device[name] for name in DEVICE_ID_KEYS if name in device}:
        found["device_info"] = Raw(rawjson.encode_object(ids))
    return found


def place(location: _Object) -> bytes:
    """Take a location apart; return it as an endpoint's, empty where nothing of it is told."""
    if "location" not in location:
        return b""
    inner = taken(location, "location")
    found = _texts(inner, _LOCATION)
    for name, other in _COORDINATES.items():
        raw = bytes(inner.get(name, ABSENT))
        if raw[:1].isdigit() or raw[:1] == b"-":
            found[other] = inner.pop(name)
    if inner:
        location["location"] = Raw(rawjson.encode_object(inner))
    return rawjson.encode_object(found) if found else b""


def taken(fields: _Object, name: str) -> _Object:
    """Take out a member that is an object; anything else stays."""
    raw = fields.get(name, ABSENT)
    if bytes(raw)[:1] != b"{":
        return {}
    del fields[name]
    return rawjson.fields(raw)


def _object(fields: _Object, name: str) -> _Object:
    """Return a member that is an object."""
    raw = fields.get(name, ABSENT)
    return rawjson.fields(raw) if bytes(raw)[:1] == b"{" else {}


def text(raw: Raw) -> bytes:
    """Return a text as it is, a number's digits as a text; empty: it is neither, or empty."""
    value = bytes(raw)
    if value[:1].isdigit() or value[:1] == b"-":
        return b'"%b"' % value
    return value if value[:1] == b'"' and value != NO_ID else b""


def _texts(fields: _Object, names: dict[str, str]) -> _Object:
    """Take out members that are texts, or numbers; return them by their other names."""
    found: _Object = {}
    for name, other in names.items():
        if told := text(fields.get(name, ABSENT)):
            found[other] = Raw(told)
            del fields[name]
    return found


def _utf8(token: bytes) -> bytes:
    return (rawjson.text_of(token) or "").encode(errors="surrogatepass")


def _pseudonym(token: bytes) -> bytes:
    """Return a UUID that stands for an id; RFC 9562: version 8 is for what is derived so."""
    digits = blake2b(b"client_id" + token, digest_size=16).hexdigest()
    variant = "89ab"[int(digits[16], 16) & 3]
    parts = digits[:8], digits[8:12], f"8{digits[13:16]}", variant + digits[17:20], digits[20:]
    return b'"%b"' % "-".join(parts).encode()


def _people(fields: _Object) -> dict[str, list[Raw]]:
    """Take out the user's identities, by their types; what is none of them stays."""
    raw = fields.get("user_identities", ABSENT)
    if bytes(raw)[:1] != b"[":
        return {}
    found: dict[str, list[Raw]] = {}
    odd: list[Raw] = []
    for entry in rawjson.elements(raw):
        told = rawjson.fields(entry) if bytes(entry)[:1] == b"{" else {}
        kind = rawjson.text_of(bytes(told.get("identity_type", ABSENT)))
        identity = text(told.get("identity", ABSENT))
        if kind and identity:
            found.setdefault(kind, []).append(Raw(identity))
        else:
            odd.append(entry)
    del fields["user_identities"]
    if odd:
        fields["user_identities"] = Raw(rawjson.encode_array(odd))
    return found


def _reached(device: _Object, people: dict[str, list[Raw]]) -> _Object:
    """Take out where the user is reached: the device's token, else an address of theirs."""
    if token := text(device.get("push_token", ABSENT)):
        del device["push_token"]
        platform = (rawjson.text_of(bytes(device.get("platform", ABSENT))) or "").lower()
        channel = _CHANNELS.get(platform, b"CUSTOM")
        return {"ChannelType": Raw(b'"%b"' % channel), "Address": Raw(token)}
    for kind, channel in _ADDRESSES.items():
        if several := people.get(kind):
            address = several.pop(0)
            return {"ChannelType": Raw(b'"%b"' % channel), "Address": address}
    return {}


def _demographic(device: _Object, application: _Object) -> _Object:
    """Take out what the device is."""
    found = _texts(device, _DEMOGRAPHIC)
    if version := application.get("version_name"):
        found["AppVersion"] = version
    language, country = (
        rawjson.text_of(text(device.get(name, ABSENT))) or ""
        for name in ("locale_language", "locale_country")
    )
    if language:
        del device["locale_language"]
        device.pop("locale_country", None)
        locale = f"{language}_{country}" if country else language
        found["Locale"] = Raw(rawjson.quote(locale))
    return found


def _user(fields: _Object, people: dict[str, list[Raw]]) -> _Object:
    """Take out who the user is, and what is known of them; every value is a list of texts."""
    found: _Object = {}
    if several := people.get("customer_id"):
        found["UserId"] = several.pop(0)
    attributes: _Object = {}
    for name, raw in taken(fields, "user_attributes").items():
        if bytes(raw) != rawjson.NULL:
            attributes[name] = Raw(_list(raw))
    if attributes:
        found["UserAttributes"] = Raw(rawjson.encode_object(attributes))
    return found


def _lists(fields: _Object, people: dict[str, list[Raw]]) -> _Object:
    """Take out lists of texts, as attributes of an endpoint are; and identities that are left."""
    found = {
        f"user_identities.{kind}": Raw(rawjson.encode_array(several))
        for kind, several in people.items()
        if several
    }
    for name, raw in list(fields.items()):
        value = bytes(raw)
        if value[:1] == b"[" and value[1:].lstrip()[:1] in {b'"', b"]"}:
            del fields[name]
            if (several := _list(raw)) != b"[]":
                found[name] = Raw(several)
    return found


def _list(raw: Raw) -> bytes:
    """Return a value as a list of texts; of anything but a text or a number its JSON."""
    several = rawjson.elements(raw) if bytes(raw)[:1] == b"[" else [raw]
    return b"[%b]" % b",".join([_as_text(bytes(one)) for one in several])


def _as_text(value: bytes) -> bytes:
    return value if value[:1] == b'"' else rawjson.quote(value.decode())
