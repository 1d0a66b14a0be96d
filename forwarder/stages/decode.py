"""Decode records into uploads, reading no more of them than routing and windows need.

A record that is not one upload, or an array of uploads, becomes a value of type ``Reject``:
nothing here raises through the loop.
"""

import json
from collections.abc import Callable, Sequence

import msgspec
from msgspec import Raw, Struct

from forwarder.model import Held, Partition, Piece, Reason
from forwarder.stages import context, rawjson
from forwarder.stages.device import Identity
from forwarder.stages.rawjson import ABSENT, JsonError, ShapeError
from forwarder.stages.shapes import Names, Upload

UNKNOWN = ""
"""The type of an event that names none, or not with a text."""

_MEMO = 1024
# fmt: off
_KNOWN = frozenset({
    "api_key", "api_keys", "application_info", "attribution_info", "batch_id", "consent_state",
    "context", "deleted_user_attributes", "device_info", "environment", "events",
    "integration_attributes", "ip", "job_id", "message_id", "message_type", "mp_deviceid",
    "mpid", "origin_mpid", "partner_identities", "partner_identity", "schema_version",
    "sdk_version", "source_info", "source_request_id", "system_notifications",
    "timestamp_unixtime_ms", "unique_id", "user_attributes", "user_identities",
})
# fmt: on
# Nesting is bounded by the stack that is left: whoever decodes an upload's parts later may
# stand deeper than decode, so uploads with this many brackets have to fit with a margin.
_BRACKETS = 600
_MARGIN = 120

_NO_SESSION = frozenset({b"", rawjson.NULL, b'""'})
_FIELDS = msgspec.json.Decoder(dict[str, Raw]).decode
_ENCODE_INTO = msgspec.json.Encoder().encode_into

_LOCATION = b'"location"'
_ESCAPED_LETTERS = (b"\\u006", b"\\u007")

Events = tuple[list[str], list[bytes], list[int]]
"""Types, sessions, and which events may carry a location."""

_Read = Callable[[bytes], Events]


class Reject(Struct, frozen=True, gc=False):
    """Why a record is no upload; ``error`` never quotes it."""

    reason: Reason
    error: str


class _Type(Struct, gc=False):
    event_type: str = UNKNOWN


class _Places(Struct, frozen=True, gc=False):
    location: Raw = ABSENT
    breadcrumbs: Raw = ABSENT


class _Place(Struct, gc=False):
    event_type: str = UNKNOWN
    data: _Places = _Places()


class _Names(Struct, frozen=True, gc=False):
    location: Raw = ABSENT
    breadcrumbs: Raw = ABSENT
    session_uuid: Raw = ABSENT
    session_id: Raw = ABSENT


class _Full(Struct, gc=False):
    event_type: str = UNKNOWN
    data: _Names = _Names()


_TYPES = msgspec.json.Decoder(list[_Type]).decode
_PLACES = msgspec.json.Decoder(list[_Place]).decode
_FULL = msgspec.json.Decoder(list[_Full]).decode


def _types(raw: bytes) -> Events:
    return [event.event_type for event in _TYPES(raw)], [], []


def _places(raw: bytes) -> Events:
    events = [(event.event_type, event.data) for event in _PLACES(raw)]
    return [kind for kind, _ in events], [], _governed(raw, [data for _, data in events])


def _full(raw: bytes) -> Events:
    events = [(event.event_type, event.data) for event in _FULL(raw)]
    return (
        [kind for kind, _ in events],
        [session_name(data.session_uuid, data.session_id) for _, data in events],
        _governed(raw, [data for _, data in events]),
    )


def _governed(raw: bytes, events: Sequence[_Places | _Names]) -> list[int]:
    """Return which events may carry a location.

    A key given twice is read as its last, and its first would be forwarded unseen: where the
    word stands more often than it was found, or may be spelled with escapes, that is looked into.
    """
    governed = [
        i
        for i, data in enumerate(events)
        if data.location is not ABSENT or data.breadcrumbs is not ABSENT
    ]
    own = sum([data.location is not ABSENT for data in events])
    if raw.count(_LOCATION) > own or any(escape in raw for escape in _ESCAPED_LETTERS):
        elements = rawjson.elements(raw)
        return sorted({*governed, *(i for i, e in enumerate(elements) if _repeats(bytes(e)))})
    return governed


def _repeats(event: bytes) -> bool:
    """Tell whether any object of an event has a key twice; slow, and hardly ever asked."""
    found = False

    def look(pairs: list[tuple[str, object]]) -> None:
        nonlocal found
        found = found or len({key for key, _ in pairs}) < len(pairs)

    try:
        json.loads(event, object_pairs_hook=look)
    except (ValueError, RecursionError):
        return True
    return found


def _tolerant(raw: bytes) -> Events:
    """Read events whose members are of odd types; only what is no object is refused."""
    types: list[str] = []
    sessions: list[bytes] = []
    governed: list[int] = []
    for i, element in enumerate(rawjson.elements(raw)):
        event = rawjson.fields(element)
        kind = bytes(event.get("event_type", ABSENT))
        types.append((rawjson.text_of(kind) or UNKNOWN) if kind[:1] == b'"' else UNKNOWN)
        data = event.get("data", ABSENT)
        fields = rawjson.fields(data) if bytes(data)[:1] == b"{" else {}
        uuid, number = fields.get("session_uuid", ABSENT), fields.get("session_id", ABSENT)
        sessions.append(session_name(uuid, number))
        if "location" in fields or "breadcrumbs" in fields or _repeats(bytes(element)):
            governed.append(i)
    return types, sessions, governed


def session_name(uuid: Raw, number: Raw) -> bytes:
    """Return the raw name of an event's session, empty where it has none."""
    if uuid is not ABSENT and (name := bytes(uuid)) not in _NO_SESSION:
        return name
    name = bytes(number)
    return b"" if name in _NO_SESSION else name


def _events(raw: bytes, read: _Read) -> Events:
    if not raw or raw == rawjson.NULL:
        return [], [], []
    try:
        return read(raw)
    except msgspec.DecodeError:
        return _tolerant(raw)


class Decoder:
    """Decodes the records of one partition.

    ``sessions`` and ``places`` say whether some lane needs sessions, or to know which events
    may carry a location.
    """

    def __init__(self, partition: Partition, *, sessions: bool, places: bool) -> None:
        """Choose the narrowest way to read events."""
        self._identity = Identity(partition)
        self._narrow = self._waiting = _places if places else _types
        if sessions:
            self._narrow = _full
        self._names: dict[tuple[str, ...], Names] = {}
        self._buffer = bytearray()

    def decode(self, value: bytes, offset: int, time: int, clock: int) -> list[Upload] | Reject:
        """Decode one record's value; ``time`` and ``clock`` as in ``Upload``."""
        try:
            if not value.isascii():
                value.decode()
            return self._uploads(value, offset, time, clock)
        except UnicodeDecodeError as error:
            return Reject(Reason.INVALID_UTF8, f"not UTF-8 at byte {error.start}")
        except JsonError as error:
            return Reject(Reason.INVALID_JSON, str(error))
        except RecursionError:
            return Reject(Reason.INVALID_JSON, "nested too deeply")
        except ShapeError as error:
            return Reject(Reason.NOT_AN_UPLOAD, str(error))

    def waiting(self, piece: Piece, held: Held) -> Upload:
        """Return a stored piece as an upload again, so that today's settings can judge it."""
        offset, start, count, time, body = piece
        # Its session is known, and a crash may have left millions of events to look at.
        types, _, governed = _events(b"[%b]" % body, self._waiting)
        return Upload(
            offset, start, time, 0, held.device, b"", b"", types, [held.session] * count,
            governed, body, {}, b"{}", context.names_of({}),
        )  # fmt: skip

    def names(self, fields: dict[str, Raw]) -> Names:
        """Return the one description of these keys."""
        keys = tuple(fields)
        names = self._names.get(keys)
        if names is None:
            if len(self._names) >= _MEMO:
                self._names.clear()
            names = self._names[keys] = context.names_of(fields)
        return names

    def _uploads(self, value: bytes, offset: int, time: int, clock: int) -> list[Upload]:
        if len(value) > 2 * _BRACKETS and value.count(b"[") + value.count(b"{") > _BRACKETS:
            _fits(value, _MARGIN)
        try:
            fields = _FIELDS(value)
        except msgspec.DecodeError:
            return self._slowly(value, offset, time, clock)
        return [self._upload(fields, offset, 0, time, clock)]

    def _slowly(self, value: bytes, offset: int, time: int, clock: int) -> list[Upload]:
        """Decode an array of uploads, or what msgspec refused; the first fault rejects it all."""
        parts: list[bytes] = [value]
        if value.lstrip(b" \t\r\n")[:1] == b"[":
            parts = [bytes(part) for part in rawjson.elements(value)]
        uploads: list[Upload] = []
        start = 0
        for part in parts:
            uploads.append(self._upload(rawjson.fields(part), offset, start, time, clock))
            start += max(len(uploads[-1].types), 1)
        if not uploads:
            message = "an array without uploads"
            raise ShapeError(message)
        return uploads

    def _upload(
        self, fields: dict[str, Raw], offset: int, start: int, time: int, clock: int
    ) -> Upload:
        if _KNOWN.isdisjoint(fields):
            message = "an object without any key of an upload"
            raise ShapeError(message)
        if "event_type" in fields and "data" in fields:
            message = "a bare event, not an upload"
            raise ShapeError(message)
        body = bytes(fields.pop("events", ABSENT))
        types, sessions, governed = _events(body, self._narrow)
        stored = self._context(fields)
        identity = self._identity
        environment, package = identity.environment(fields), identity.package(fields)
        return Upload(
            offset, start, time, clock,
            identity.key(fields, environment, package, offset, start), environment, package,
            types, sessions, governed, body[1:-1].strip() if types else b"",
            fields, stored, self.names(fields),
        )  # fmt: skip

    def _context(self, fields: dict[str, Raw]) -> bytes:
        """Return the fields as an object of its own, and drop nulls from both."""
        try:
            _ENCODE_INTO(fields, self._buffer)
        except UnicodeEncodeError:
            self._buffer[:] = rawjson.encode(fields)
        stored = bytes(self._buffer)
        if b":null" not in stored:
            return stored
        for key in [key for key, raw in fields.items() if bytes(raw) == rawjson.NULL]:
            del fields[key]
        return rawjson.stored(fields)


def _fits(value: bytes, margin: int) -> None:
    """Raise RecursionError unless the value can be decoded ``margin`` calls deeper."""
    if margin:
        _fits(value, margin - 1)
        return
    try:
        _FIELDS(value)
    except msgspec.DecodeError:
        return
