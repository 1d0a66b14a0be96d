"""The parts of the stream's record, version 3.1, as they are written of what clients send."""

import msgspec
from msgspec import Raw, Struct

from forwarder.formats import rawjson
from forwarder.formats.pinpoint.device import as_text, joined, member
from forwarder.formats.pinpoint.timestamps import milliseconds
from forwarder.formats.rawjson import ABSENT

CONTEXT_KEYS = frozenset({"ApplicationId", "EndpointId", "ArrivalTimestamp", "Endpoint"})
"""Members of a context that records are made of."""

_ENCODE = msgspec.json.Encoder().encode
_NO_SDK = b'"sdk":{}'


class _SessionTimes(Struct, frozen=True, gc=False):
    Id: Raw = ABSENT
    StartTimestamp: Raw = ABSENT
    StopTimestamp: Raw = ABSENT


class ClientEvent(Struct, gc=False):
    """An event of PutEvents; ``event_type`` is of a finished record."""

    EventType: str = ""
    event_type: Raw = ABSENT
    Timestamp: Raw = ABSENT
    AppPackageName: Raw = ABSENT
    AppTitle: Raw = ABSENT
    AppVersionCode: Raw = ABSENT
    SdkName: Raw = ABSENT
    ClientSdkVersion: Raw = ABSENT
    Session: _SessionTimes | None = None
    Attributes: Raw = ABSENT
    Metrics: Raw = ABSENT


_EVENT = msgspec.json.Decoder(ClientEvent).decode
_TEXTS = msgspec.json.Decoder(dict[str, str]).decode


def read_event(event: bytes) -> ClientEvent:
    """Take an event apart, whatever the types of its members are."""
    try:
        return _EVENT(event)
    except msgspec.DecodeError:
        fields = rawjson.fields(event)
        inner = bytes(fields.get("Session", ABSENT))
        session = rawjson.fields(inner) if inner[:1] == b"{" else {}
        kind = bytes(fields.pop("EventType", ABSENT))
        known = {name: fields[name] for name in ClientEvent.__struct_fields__ if name in fields}
        names = [name for name in _SessionTimes.__struct_fields__ if name in session]
        known["Session"] = _SessionTimes(**{name: session[name] for name in names})  # type: ignore[assignment]
        text = rawjson.text_of(kind) if kind[:1] == b'"' else None
        return ClientEvent(EventType=text or "", **known)  # type: ignore[arg-type]


def application(event: ClientEvent, app_version: bytes) -> bytes:
    """Return the members of ``application`` behind the app's id."""
    sdk = joined(("name", event.SdkName), ("version", event.ClientSdkVersion))
    return b",".join(
        [
            part
            for part in (
                member("package_name", event.AppPackageName),
                b'"sdk":{%b}' % sdk if sdk else _NO_SDK,
                member("title", event.AppTitle),
                app_version,
                member("version_code", event.AppVersionCode),
            )
            if part
        ]
    )


def session(told: _SessionTimes | None) -> bytes:
    """Return ``session`` as an object."""
    if told is None:
        return b"{}"
    start, stop = time_of(told.StartTimestamp), time_of(told.StopTimestamp)
    parts = (
        member("session_id", told.Id),
        b"" if start is None else b'"start_timestamp":%d' % start,
        b"" if stop is None else b'"stop_timestamp":%d' % stop,
    )
    return b"{%b}" % b",".join([part for part in parts if part])


def attributes(raw: Raw) -> bytes:
    """Return ``attributes`` with the comma before them: texts by name."""
    value = bytes(raw)
    if not value or value == rawjson.NULL:
        return b',"attributes":{}'
    try:
        return b',"attributes":%b' % _ENCODE(_TEXTS(value))
    except msgspec.DecodeError:
        members = {name: Raw(as_text(one)) for name, one in rawjson.fields(value).items()}
        texts = {name: one for name, one in members.items() if bytes(one)}
        return b',"attributes":%b' % rawjson.encode_object(texts)


def metrics(raw: Raw) -> bytes:
    """Return ``metrics`` with the comma before them: numbers by name, every digit as it came.

    Raises ValueError for what is no number.
    """
    value = bytes(raw)
    if not value or value == rawjson.NULL:
        return b',"metrics":{}'
    numbers: dict[str, Raw] = {}
    for name, one in rawjson.fields(value).items():
        number = bytes(one)
        if number == rawjson.NULL:
            continue
        if number[:1] not in b"-0123456789":
            message = "a metric is no number"
            raise ValueError(message)
        numbers[name] = one
    return b',"metrics":%b' % rawjson.encode_object(numbers)


def time_of(raw: Raw) -> int | None:
    """Return a time in milliseconds; None: there is none, or it cannot be read."""
    value = bytes(raw)
    if not value:
        return None
    text = rawjson.text_of(value)
    return None if text is None else milliseconds(text)


def compact(endpoint: bytes) -> bytes:
    """Return an endpoint on one line; b"": it is no object."""
    if endpoint[:1] != b"{":
        return b""
    return rawjson.compact(endpoint)
