"""The parts of the stream's record, version 3.1, as they are written of what clients send."""

import msgspec
from msgspec import Raw, Struct

from forwarder.formats import rawjson
from forwarder.formats.memo import Memo
from forwarder.formats.rawjson import ABSENT

_MEMO = 1024
_ENCODE = msgspec.json.Encoder().encode
_NUMBER = b"-0123456789"

_Object = dict[str, Raw]


class SessionTimes(Struct, frozen=True, gc=False):
    """The session of an event, with its times as they were sent."""

    Id: str | None = None
    StartTimestamp: str | None = None
    StopTimestamp: str | None = None


class ClientEvent(Struct, gc=False):
    """An event of PutEvents; ``event_type`` is of a finished record. Callers only read it."""

    EventType: str = ""
    event_type: Raw = ABSENT
    Timestamp: str | None = None
    AppPackageName: str | None = None
    AppTitle: str | None = None
    AppVersionCode: str | None = None
    SdkName: str | None = None
    ClientSdkVersion: str | None = None
    Session: SessionTimes | None = None
    Attributes: dict[str, str] | None = None
    Metrics: dict[str, Raw] | None = None


_EVENT = msgspec.json.Decoder(ClientEvent).decode
_TEXT_FIELDS = (
    "Timestamp", "AppPackageName", "AppTitle", "AppVersionCode", "SdkName",
    "ClientSdkVersion",
)  # fmt: skip
_Named = tuple[str | None, str | None, str | None, str | None, str | None, str | None]
_applications: Memo[_Named, bytes] = Memo(_MEMO)


def read_event(event: bytes) -> ClientEvent:
    """Take an event apart, whatever the types of its members are.

    What should be a text is made one, but for its type. Raises ShapeError for no object where one
    should be.
    """
    try:
        return _EVENT(event)
    except msgspec.DecodeError:
        fields = rawjson.fields(event)
        kind = bytes(fields.get("EventType", ABSENT))
        texts = {name: as_text(fields[name]) for name in _TEXT_FIELDS if name in fields}
        told = _members(fields, "Session") or {}
        times = {n: as_text(told[n]) for n in SessionTimes.__struct_fields__ if n in told}
        attributes = _members(fields, "Attributes") or {}
        named = {name: as_text(raw) for name, raw in attributes.items()}
        return ClientEvent(
            (rawjson.text_of(kind) or "") if kind[:1] == b'"' else "",
            fields.get("event_type", ABSENT),
            **texts,
            Session=SessionTimes(**times) if told else None,
            Attributes={name: text for name, text in named.items() if text is not None},
            Metrics=_members(fields, "Metrics"),
        )


def application(event: ClientEvent, version: str | None) -> bytes:
    """Return the members of ``application`` behind the app's id; ``version``: the app's."""
    named = (
        event.AppPackageName, event.SdkName, event.ClientSdkVersion, event.AppTitle, version,
        event.AppVersionCode,
    )  # fmt: skip
    known = _applications.get(named)
    if known is None:
        package, sdk, sdk_version, title, _, code = named
        known = members_of(
            ("package_name", package),
            ("sdk", {"name": sdk, "version": sdk_version}),
            ("title", title),
            ("version_name", version),
            ("version_code", code),
        )
        _applications.keep(named, known, 5 * len(known))
    return known


def attributes(told: dict[str, str] | None) -> bytes:
    """Return attributes as an object."""
    if not told:
        return b"{}"
    try:
        return _ENCODE(told)
    except UnicodeEncodeError:  # half a surrogate pair
        return rawjson.encode_object({name: Raw(rawjson.quote(one)) for name, one in told.items()})


def metrics(told: _Object | None) -> bytes:
    """Return metrics as an object, every digit as it came; raises ValueError for no number."""
    if not told:
        return b"{}"
    for one in told.values():
        if bytes(one)[0] not in _NUMBER:
            return _without_nulls(told)
    return rawjson.encode_object(told)


def _without_nulls(told: _Object) -> bytes:
    numbers = {name: one for name, one in told.items() if bytes(one) != rawjson.NULL}
    if any(bytes(one)[0] not in _NUMBER for one in numbers.values()):
        message = "a metric is no number"
        raise ValueError(message)
    return rawjson.encode_object(numbers)


def members_of(*named: tuple[str, str | dict[str, str | None] | None]) -> bytes:
    """Return those of these members that say something, comma-joined; objects may be empty."""
    parts = [
        b'"%b":%b' % (name.encode(), _written(value)) for name, value in named if value is not None
    ]
    return b",".join(parts)


def _written(value: str | dict[str, str | None]) -> bytes:
    return rawjson.quote(value) if isinstance(value, str) else b"{%b}" % members_of(*value.items())


def as_text(raw: Raw) -> str | None:
    """Return a value as a text: its own, or the JSON it is written in; None of null."""
    value = bytes(raw)
    if value == rawjson.NULL:
        return None
    return rawjson.text_of(value) if value[:1] == b'"' else value.decode()


def _members(fields: _Object, name: str) -> _Object | None:
    """Return the members of an object; None where there is none. Raises ShapeError."""
    raw = fields.get(name, ABSENT)
    return None if raw is ABSENT or bytes(raw) == rawjson.NULL else rawjson.fields(raw)
