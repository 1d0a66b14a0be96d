"""Decode records into uploads, reading no more of them than routing and windows need.

A record that is not one upload, or an array of uploads, becomes a value of type ``Reject``:
nothing here raises through the loop.
"""

import json
from collections.abc import Callable, Sequence
from sys import getsizeof

import msgspec
from msgspec import Raw, Struct

from forwarder.formats import bounds, rawjson
from forwarder.formats.bounds import check_number, check_record
from forwarder.formats.contract import UNKNOWN, ContextShape, OddRecord, Upload
from forwarder.formats.memo import Memo
from forwarder.formats.mparticle import not_uploads
from forwarder.formats.mparticle.document import shape_of
from forwarder.formats.mparticle.identity import (
    DEVICE_ID_KEYS,
    NO_ID,
    NONE_WORDS,
    DeviceIdentity,
    id_of,
    request_key,
)
from forwarder.formats.rawjson import ABSENT, ShapeError
from forwarder.formats.record_decoder import RecordDecoder
from forwarder.model import HeldWindow, Partition, Piece
from forwarder.native import core

_MEMO = 1024
_KEY_BYTES = 80
"""Bytes of a key's places, in a tuple and in a set of any fill."""
_SAFE_KEYS = frozenset({
    "api_key", "api_keys", "application_info", "attribution_info", "batch_id", "consent_state",
    "context", "deleted_user_attributes", "device_info", "environment", "events",
    "integration_attributes", "ip", "job_id", "message_id", "message_type", "mp_deviceid",
    "mpid", "origin_mpid", "partner_identities", "partner_identity", "schema_version",
    "sdk_version", "source_info", "source_request_id", "system_notifications",
    "timestamp_unixtime_ms", "unique_id", "user_attributes", "user_identities",
})  # fmt: skip
"""Keys that an error may name; any other may hold anything, also in its name."""

_NO_KEYS = shape_of({})
_EVENTS_BYTES = len(b'"events":,')
_FIELDS = msgspec.json.Decoder(dict[str, Raw]).decode
_ENCODE_INTO = msgspec.json.Encoder().encode_into

_LOCATION = b'"location"'
_SESSION_ID, _SESSION_UUID = b'"session_id"', b'"session_uuid"'
_ESCAPED_LETTERS = (b"\\u006", b"\\u007")

Events = tuple[list[str], list[bytes], list[int]]
"""Types, sessions, and which events may carry a location."""

_Read = Callable[[bytes], Events]


class _RepeatedError(Exception):
    """An event names its session twice."""


class _EventType(Struct, gc=False):
    event_type: str = UNKNOWN


class _LocationFields(Struct, frozen=True, gc=False):
    location: Raw = ABSENT
    breadcrumbs: Raw = ABSENT


class _LocatedEvent(Struct, gc=False):
    event_type: str = UNKNOWN
    data: _LocationFields = _LocationFields()


class _SessionFields(Struct, frozen=True, gc=False):
    location: Raw = ABSENT
    breadcrumbs: Raw = ABSENT
    session_uuid: Raw = ABSENT
    session_id: Raw = ABSENT


class _FullEvent(Struct, gc=False):
    event_type: str = UNKNOWN
    data: _SessionFields = _SessionFields()


_TYPES = msgspec.json.Decoder(list[_EventType]).decode
_PLACES = msgspec.json.Decoder(list[_LocatedEvent]).decode
_FULL = msgspec.json.Decoder(list[_FullEvent]).decode


def _types(raw: bytes) -> Events:
    return [event.event_type for event in _TYPES(raw)], [], []


def _places(raw: bytes) -> Events:
    events = [(event.event_type, event.data) for event in _PLACES(raw)]
    return [kind for kind, _ in events], [], _location_indices(raw, [data for _, data in events])


def _full(raw: bytes) -> Events:
    events = _FULL(raw)
    data = [event.data for event in events]
    names, found = _session_names(data)
    # Counted more often than it was found, an event may name its session twice.
    suspected = raw.count(_SESSION_ID) + raw.count(_SESSION_UUID) > found or _may_be_escaped(raw)
    if suspected and any(map(_names_session_twice, rawjson.elements(raw))):
        raise _RepeatedError
    return [event.event_type for event in events], names, _location_indices(raw, data)


def _may_be_escaped(raw: bytes) -> bool:
    """Tell whether a name of Latin letters may be spelled with escapes."""
    return b"\\" in raw and any(escape in raw for escape in _ESCAPED_LETTERS)


def _names_session_twice(event: Raw) -> bool:
    data = bytes(rawjson.fields(event).get("data", ABSENT))
    return rawjson.repeats_key(bytes(event)) or (data[:1] == b"{" and rawjson.repeats_key(data))


def _once(event: Raw) -> Raw:
    """Return an event with every key once, the last of each: as it was read."""
    fields = rawjson.fields(event)
    data = bytes(fields.get("data", ABSENT))
    if data[:1] == b"{":
        fields["data"] = Raw(rawjson.encode_object(rawjson.fields(data)))
    return Raw(rawjson.encode_object(fields))


def _session_names(events: Sequence[_SessionFields]) -> tuple[list[bytes], int]:
    """Return the name of each event's session, and how many ids and uuids they have.

    Mostly it is the name of the event before.
    """
    names: list[bytes] = []
    known, name, found = b"", b"", 0
    for data in events:
        number, uuid = data.session_id, data.session_uuid
        found += (number is not ABSENT) + (uuid is not ABSENT)
        raw = bytes(number)
        if raw != known or not known:
            told = id_of(raw)
            if told == NO_ID:
                names.append(event_session(uuid, ABSENT))
                continue
            known, name = raw, told
        names.append(name)
    return names, found


def _location_indices(raw: bytes, events: Sequence[_LocationFields | _SessionFields]) -> list[int]:
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
    if raw.count(_LOCATION) > own or _may_be_escaped(raw):
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
        sessions.append(event_session(uuid, number))
        if "location" in fields or "breadcrumbs" in fields or _repeats(bytes(element)):
            governed.append(i)
    return types, sessions, governed


def event_session(uuid: Raw, number: Raw) -> bytes:
    """Return the name of an event's session, empty where it has none.

    It is that of ``session_id``, as number or as text, else that of ``session_uuid``, in any case.
    """
    name = id_of(bytes(number))
    if name == NO_ID:
        name = id_of(bytes(uuid)).lower()
    return b"" if name == NO_ID else name


def _events(raw: bytes, read: _Read) -> tuple[list[str], list[bytes], list[int], bytes]:
    """Return what there is to know of events, and the events as they are forwarded."""
    if not raw or raw == rawjson.NULL:
        return [], [], [], raw
    try:
        types, sessions, governed = read(raw)
    except msgspec.DecodeError:
        repeated = any(map(_names_session_twice, rawjson.elements(raw)))
    except _RepeatedError:
        repeated = True
    else:
        return types, sessions, governed, raw
    if repeated:
        raw = rawjson.encode_array([_once(event) for event in rawjson.elements(raw)])
    return *_tolerant(raw), raw


class _Shapes:
    """Describes contexts: one object for equal lists of keys."""

    def __init__(self) -> None:
        self._memo: Memo[tuple[str, ...], ContextShape] = Memo(_MEMO)

    def of(self, fields: dict[str, Raw]) -> ContextShape:
        keys = tuple(fields)
        shape = self._memo.get(keys)
        if shape is None:
            size = sum(map(getsizeof, keys)) + _KEY_BYTES * len(keys)
            shape = self._memo.keep(keys, shape_of(fields), size)
        return shape

    def of_stored(self, context: bytes) -> ContextShape:
        return self.of(rawjson.fields(context))


class MParticleDecoder(RecordDecoder):
    """Decodes the records of one partition: ``contract.Decoder``.

    ``sessions`` and ``places`` say whether some lane needs sessions, or to know which events
    may carry a location; ``duplicates`` whether uploads that come again are looked for.
    """

    def __init__(
        self, partition: Partition, *, sessions: bool, places: bool, duplicates: bool = False
    ) -> None:
        """Choose the narrowest way to read events."""
        self._identity = DeviceIdentity(partition)
        self._duplicates = duplicates
        self._narrow = self._waiting = _places if places else _types
        if sessions:
            self._narrow = _full
        self._shapes = _Shapes()
        self._buffer = bytearray()
        self._compact = 0
        if (native := core()) is not None:
            seams = {
                "upload": Upload,
                "odd_record": OddRecord,
                "shape": self._shapes.of_stored,
                "identities_digest": self._identity.digest,
                "none_words": sorted(NONE_WORDS),
                "device_id_keys": list(DEVICE_ID_KEYS),
                "only_uploads": sorted(not_uploads.ONLY_UPLOADS),
                "wrappers": list(not_uploads.WRAPPERS),
            }
            self.scanner = native.MParticleScanner(
                seams,
                self._identity.prefix,
                sessions=sessions,
                places=places,
                duplicates=duplicates,
            )

    def from_piece(self, piece: Piece, held: HeldWindow) -> Upload:
        """Return a stored piece as an upload again, so that today's settings can judge it."""
        offset, start, count, time, body = piece
        # Its session is known, and a crash may have left millions of events to look at.
        types, _, governed, _ = _events(b"[%b]" % body, self._waiting)
        return Upload(
            offset=offset,
            start=start,
            time=time,
            clock=0,
            device=held.device,
            owner=held.device,
            environment=b"",
            application=b"",
            types=types,
            sessions=[held.session] * count,
            governed=governed,
            body=body,
            context=b"{}",
            shape=_NO_KEYS,
        )

    def shape(self, stored: bytes) -> ContextShape:
        """Return the one description of a stored context's keys."""
        return self._shapes.of_stored(stored)

    def _uploads(self, value: bytes, offset: int, time: int, clock: int) -> list[Upload]:
        check_record(value)
        try:
            fields = _FIELDS(value)
        except msgspec.DecodeError:
            return self._slowly(value, offset, time, clock)
        upload = self._upload(fields, offset, 0, time, clock)
        if len(upload.types) > bounds.MAX_EVENTS:
            check_number(len(upload.types), bounds.MAX_EVENTS, "events")
        if self._compact != len(value):  # hardly ever: else each key stands once, without a space
            _check_keys(value)
        return [upload]

    def _slowly(self, value: bytes, offset: int, time: int, clock: int) -> list[Upload]:
        """Decode an array of uploads, or what msgspec refused; the first fault rejects it all."""
        parts: list[bytes] = [value]
        if value.lstrip(b" \t\r\n")[:1] == b"[":
            elements = rawjson.elements(value)
            check_number(len(elements), bounds.MAX_UPLOADS, "uploads")
            parts = [bytes(part) for part in elements]
        uploads: list[Upload] = []
        start = 0
        for part in parts:
            _check_keys(part)
            uploads.append(self._upload(rawjson.fields(part), offset, start, time, clock))
            start += max(len(uploads[-1].types), 1)
            check_number(start, bounds.MAX_EVENTS, "events")
        if not uploads:
            message = "an array without uploads"
            raise ShapeError(message)
        return uploads

    def _upload(
        self, fields: dict[str, Raw], offset: int, start: int, time: int, clock: int
    ) -> Upload:
        if "event_type" in fields and "data" in fields:
            message = "looks like a bare event, not an upload"
            raise ShapeError(message)
        body = bytes(fields.pop("events", ABSENT))
        if body[:1] != b"[":
            _check_without_events(fields, body)
        types, sessions, governed, events = _events(body, self._narrow)
        stored = self._context(fields, body)
        identity = self._identity
        environment, application = identity.environment(fields), identity.application(fields)
        device, owner = identity.keys(fields, environment, application, offset, start)
        if identity.repeated:
            identity.repeated = False
            stored = _read_once(fields)
        upload = Upload(
            offset, start, time, clock, device, owner, environment, application,
            types, sessions, governed, events[1:-1].strip() if types else b"",
            stored, self._shapes.of(fields), keyless=not body,
        )  # fmt: skip
        if types:
            upload.piece = offset, start, len(types), time, upload.body
        if self._duplicates:
            upload.duplicate_keys = [request_key(fields, upload)] * len(types)
        return upload

    def _context(self, fields: dict[str, Raw], body: bytes) -> bytes:
        """Return the fields as an object of its own, and drop nulls from both.

        Notes how long the upload with these events is without spaces and with each key once: keys
        are never shorter than they are encoded.
        """
        try:
            _ENCODE_INTO(fields, self._buffer)
            size = len(self._buffer) + (len(body) + _EVENTS_BYTES if body else 0)
            self._compact = size if fields else size - 1
        except UnicodeEncodeError:
            self._compact = -1
            self._buffer[:] = rawjson.encode_object(fields)
        stored = bytes(self._buffer)
        if b":null" not in stored:
            return stored
        for key in [key for key, raw in fields.items() if bytes(raw) == rawjson.NULL]:
            del fields[key]
        return rawjson.encode_exact(fields)


def _check_without_events(fields: dict[str, Raw], body: bytes) -> None:
    """Raise ShapeError unless this can be an upload without events."""
    if body not in {b"", rawjson.NULL}:
        message = "`events` is not an array"
        raise ShapeError(message)
    if not_uploads.ONLY_UPLOADS.isdisjoint(fields) or not_uploads.is_wrapped(fields):
        raise ShapeError(not_uploads.likely_cause(fields))


def _check_keys(value: bytes) -> None:
    """Raise ShapeError if a key stands twice: both its values may be meant."""
    if (key := rawjson.repeated_key(value)) is not None:
        message = f"`{key}` is given twice" if key in _SAFE_KEYS else "a key is given twice"
        raise ShapeError(message)


def _read_once(fields: dict[str, Raw]) -> bytes:
    """Leave every key of what names app and device once, as it was read; return the context."""
    for name in ("application_info", "device_info"):
        raw = bytes(fields.get(name, ABSENT))
        if raw[:1] == b"{":
            fields[name] = Raw(rawjson.encode_object(rawjson.fields(raw)))
    return rawjson.encode_exact(fields)
