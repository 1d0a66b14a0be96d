"""An endpoint's ``Demographic``, and the ``device`` of its records: each told of the other."""

import re

import msgspec
from msgspec import Raw, Struct

from forwarder.formats import rawjson
from forwarder.formats.memo import Memo
from forwarder.formats.pinpoint.stream_fields import as_text, members_of
from forwarder.formats.rawjson import ABSENT

_MEMO = 1024
_ENCODING = re.compile("[.@].*", re.DOTALL)
_COUNTRY = re.compile("[A-Za-z]{2}|[0-9]{3}")
"""A region of a language tag (RFC 5646, 2.2.4)."""
_DEVICE = {"make": "Make", "model": "Model"}
_PLATFORM = {"name": "Platform", "version": "PlatformVersion"}

_Object = dict[str, Raw]


class EndpointParts(Struct, frozen=True, gc=False):
    """What of an endpoint stands beside it in its records: ``device``, and the app's version."""

    device: bytes
    app_version: str | None


class _EndpointDevice(Struct, gc=False):
    Demographic: Raw = ABSENT


_ENDPOINT = msgspec.json.Decoder(_EndpointDevice).decode
_known: Memo[bytes, EndpointParts] = Memo(_MEMO)


def of_endpoint(endpoint: bytes) -> EndpointParts:
    """Return what of an endpoint stands beside it in its records; b"": there is none."""
    raw = b""
    if endpoint:
        try:
            raw = bytes(_ENDPOINT(endpoint).Demographic)
        except msgspec.DecodeError:
            raw = bytes(rawjson.fields(endpoint).get("Demographic", ABSENT))
    parts = _known.get(raw)
    if parts is None:
        parts = _parts_of(rawjson.fields(raw) if raw[:1] == b"{" else {})
        _known.keep(raw, parts, len(raw) + 2 * len(parts.device))
    return parts


def _parts_of(demographic: _Object) -> EndpointParts:
    told = {name: text for name, raw in demographic.items() if (text := as_text(raw)) is not None}
    locale = told.get("Locale")
    device = members_of(
        ("locale", parse_locale(locale) if locale else None),
        ("make", told.get("Make")),
        ("model", told.get("Model")),
        ("platform", {"name": told.get("Platform"), "version": told.get("PlatformVersion")}),
    )
    return EndpointParts(b"{%b}" % device, told.get("AppVersion"))


def parse_locale(code: str) -> dict[str, str | None]:
    """Return a locale: its code as it is, the country in upper case, the language in lower."""
    language, *rest = _ENCODING.sub("", code).replace("-", "_").split("_")
    country = next((one.upper() for one in rest if _COUNTRY.fullmatch(one)), None)
    return {"code": code, "country": country, "language": language.lower() or None}


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
