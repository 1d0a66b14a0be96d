"""An endpoint's ``Demographic``, and the ``device`` of its records: each told of the other."""

import re

import msgspec
from msgspec import Raw, Struct

from forwarder.formats import rawjson
from forwarder.formats.memo import Memo
from forwarder.formats.rawjson import ABSENT

_MEMO = 1024
_ENCODING = re.compile("[.@].*", re.DOTALL)
_COUNTRY = re.compile("[A-Za-z]{2}|[0-9]{3}")
"""A region of a language tag (RFC 5646, 2.2.4)."""
_DEVICE = {"make": "Make", "model": "Model"}
_PLATFORM = {"name": "Platform", "version": "PlatformVersion"}

_Object = dict[str, Raw]


class _DemographicFields(Struct, frozen=True, gc=False):
    AppVersion: Raw = ABSENT
    Locale: Raw = ABSENT
    Make: Raw = ABSENT
    Model: Raw = ABSENT
    Platform: Raw = ABSENT
    PlatformVersion: Raw = ABSENT


class _EndpointFields(Struct, gc=False):
    Demographic: _DemographicFields | None = None


class EndpointParts(Struct, frozen=True, gc=False):
    """What of an endpoint stands beside it in its records: ``device``, and the app's version."""

    device: bytes
    app_version: bytes


_ENDPOINT = msgspec.json.Decoder(_EndpointFields).decode
_locales: Memo[bytes, bytes] = Memo(_MEMO)


def of_endpoint(endpoint: bytes) -> EndpointParts:
    """Return what of an endpoint stands beside it in its records."""
    told = _DemographicFields()
    if endpoint:
        try:
            told = _ENDPOINT(endpoint).Demographic or told
        except msgspec.DecodeError:
            inner = bytes(rawjson.fields(endpoint).get("Demographic", ABSENT))
            fields = rawjson.fields(inner) if inner[:1] == b"{" else {}
            names = [name for name in _DemographicFields.__struct_fields__ if name in fields]
            told = _DemographicFields(**{name: fields[name] for name in names})
    platform = joined(("name", told.Platform), ("version", told.PlatformVersion))
    parts = [
        locale_member(bytes(told.Locale)),
        member("make", told.Make),
        member("model", told.Model),
    ]
    device = b",".join([part for part in (*parts, b'"platform":{%b}' % platform) if part])
    return EndpointParts(b"{%b}" % device, member("version_name", told.AppVersion))


def locale_member(raw: bytes) -> bytes:
    """Return the member ``locale`` of a device; b"": none is told."""
    known = _locales.get(raw)
    if known is None:
        text = rawjson.text_of(raw) or ""
        known = _locales.keep(raw, _parse_locale(text) if text else b"", 4 * len(raw))
    return known


def _parse_locale(code: str) -> bytes:
    """Return a locale: its code as it is, the country in upper case, the language in lower."""
    language, *rest = _ENCODING.sub("", code).replace("-", "_").split("_")
    country = next((one for one in rest if _COUNTRY.fullmatch(one)), "")
    parts = [b'"code":%b' % rawjson.quote(code)]
    if country:
        parts.append(b'"country":%b' % rawjson.quote(country.upper()))
    if language:
        parts.append(b'"language":%b' % rawjson.quote(language.lower()))
    return b'"locale":{%b}' % b",".join(parts)


def demographic_of(device: _Object, application: _Object) -> _Object:
    """Return an endpoint's ``Demographic`` as a record's device and app tell it."""
    found = renamed(application, {"version_name": "AppVersion"})
    found |= renamed(members(device, "locale"), {"code": "Locale"})
    found |= renamed(device, _DEVICE)
    return found | renamed(members(device, "platform"), _PLATFORM)


def renamed(fields: _Object, names: dict[str, str]) -> _Object:
    """Return the members with these names that say something, under their other names."""
    return {
        other: fields[name]
        for name, other in names.items()
        if name in fields and bytes(fields[name]) != rawjson.NULL
    }


def members(fields: _Object, name: str) -> _Object:
    """Return the members of an object within an object; none if it is none."""
    raw = bytes(fields.get(name, ABSENT))
    return rawjson.fields(raw) if raw[:1] == b"{" else {}


def as_text(raw: Raw) -> bytes:
    """Return a value as a JSON string: its own text, or the JSON it is written in; null is none."""
    value = bytes(raw)
    if value == rawjson.NULL:
        return b""
    return value if value[:1] == b'"' else rawjson.quote(value.decode())


def member(name: str, raw: Raw) -> bytes:
    """Return a member whose value is a text; b"": there is none."""
    text = as_text(raw) if raw is not ABSENT else b""
    return b'"%b":%b' % (name.encode(), text) if text else b""


def joined(*named: tuple[str, Raw]) -> bytes:
    """Return those of these members that there are, comma-joined."""
    return b",".join([part for name, raw in named if (part := member(name, raw))])
