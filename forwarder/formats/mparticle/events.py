"""What routing and filters ask of the events of an upload: their types, sessions and locations."""

import json
from collections.abc import Callable, Sequence

import msgspec
from msgspec import Raw, Struct

from forwarder.formats import rawjson
from forwarder.formats.contract import UNKNOWN
from forwarder.formats.memo import Memo
from forwarder.formats.mparticle.identity import NO_ID, id_of
from forwarder.formats.rawjson import ABSENT

_LOCATION = b'"location"'
_SESSION_ID, _SESSION_UUID = b'"session_id"', b'"session_uuid"'
_ESCAPED_LETTERS = (b"\\u006", b"\\u007")

Events = tuple[list[str], list[bytes], list[int]]
"""Types, sessions, and which events may carry a location."""

Reader = Callable[[bytes], Events]


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


_NOTHING: list[bytes] = []
_NOWHERE: list[int] = []
NONE: Events = ([], _NOTHING, _NOWHERE)
"""What there is to know of no event. Such lists are shared: nobody changes them."""

_singles: Memo[str, Events] = Memo(1024)


def _single(kind: str) -> Events:
    """Return what there is to know of one event of which only its type matters."""
    known = _singles.get(kind)
    return known or _singles.keep(kind, ([kind], _NOTHING, _NOWHERE), len(kind))


def read_types(raw: bytes) -> Events:
    """Read only types."""
    events = _TYPES(raw)
    if len(events) == 1:
        return _single(events[0].event_type)
    return [event.event_type for event in events], _NOTHING, _NOWHERE


def read_places(raw: bytes) -> Events:
    """Read types, and which events may carry a location."""
    events = _PLACES(raw)
    if len(events) == 1:
        data = events[0].data
        placed = data.location is not ABSENT or data.breadcrumbs is not ABSENT
        if not placed and raw.find(_LOCATION) < 0 and b"\\" not in raw:
            return _single(events[0].event_type)
    found = [event.data for event in events]
    return [event.event_type for event in events], _NOTHING, _location_indices(raw, found)


def read_sessions(raw: bytes) -> Events:
    """Read types, the names of sessions, and which events may carry a location."""
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


def read(raw: bytes, reader: Reader) -> tuple[Events, bytes]:
    """Return what there is to know of events, and the events as they are forwarded.

    That is as they came, but with each key once where one that matters may be meant twice.
    """
    try:
        return reader(raw), raw
    except msgspec.DecodeError:
        repeated = any(map(_names_session_twice, rawjson.elements(raw)))
    except _RepeatedError:
        repeated = True
    if repeated:
        raw = rawjson.encode_array([_once(event) for event in rawjson.elements(raw)])
    return _tolerant(raw), raw
