"""PutEvents without its effects: what a request says, and what is answered.

A bad event, or a bad endpoint, is an item of its own in the answer and harms no other one. Of an
endpoint that is refused the events are kept, joined with the endpoint as it is stored.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Raw

from forwarder.config.gateway import GatewayLimits
from forwarder.formats import rawjson
from forwarder.formats.pinpoint.record import encode_event, encode_record
from forwarder.formats.rawjson import ABSENT, JsonError, ShapeError
from forwarder.gateway.answers import bad_request, encode_json
from forwarder.gateway.validation import InvalidError, check_event, check_id, read_endpoint

ACCEPTED = 202, "Accepted"
"""Clients compare the message letter by letter."""

TOO_LARGE = 413, "The event is larger than a record may be."
FULL = 429, "Too many requests, try again later."
UNAVAILABLE = 500, "The event could not be stored, try again."
STORE_DOWN = 500, "The endpoint could not be stored, try again."

MAX_ENDPOINTS = 100
"""Endpoints of a request, unless ``limits.events`` is more: as many as UpdateEndpointsBatch has."""

MAX_SEARCHED_BYTES = 256 * 1024
"""Bytes of events that are looked through for an id that stands twice: that is slow."""

Status = tuple[int, str]
"""``StatusCode`` and ``Message`` of an item."""

_EVENT_TYPE = b'"EventType"'
_ENDPOINT = b'"Endpoint"'
_ESCAPED_LETTER = re.compile(rb"\\u00[4-7]")
"""What may be one of the two names, spelled so that it is not found."""


class _BatchEntry(msgspec.Struct, gc=False):
    Endpoint: Raw = ABSENT
    Events: Raw = ABSENT


class _PutEventsRequest(msgspec.Struct, gc=False):
    BatchItem: dict[str, _BatchEntry]


_read = msgspec.json.Decoder(_PutEventsRequest).decode


class EndpointEntry(msgspec.Struct, gc=False):
    """What a request says of one endpoint, and what is answered.

    ``given``: the members of its update, empty where it was refused. ``event_ids`` and ``events``:
    those that may be stored, in order, as records hold them. ``statuses``: of every event by its
    id; those that may be stored have theirs once they are. ``storable``: its id is one.
    """

    endpoint_id: str
    given: Mapping[str, Any]
    endpoint: Status = ACCEPTED
    event_ids: list[str] = []
    events: list[bytes] = []
    statuses: dict[str, Status] = {}
    storable: bool = False

    @property
    def wanted(self) -> bool:
        """Tell whether there is anything to store."""
        return self.storable and (self.endpoint is ACCEPTED or bool(self.events))

    def answer_all(self, status: Status) -> None:
        """Answer the same for everything that may be stored."""
        for event_id in self.event_ids:
            self.statuses[event_id] = status


def read_request(
    body: bytes, limits: GatewayLimits, others: frozenset[str] = frozenset()
) -> list[EndpointEntry]:
    """Return what a request says, endpoint by endpoint; raises ApiError where it is none.

    ``others``: ids of other apps than the caller's.
    """
    try:
        return _read_request(body, limits, others)
    except RecursionError:
        message = "The body is nested too deeply."
        raise bad_request(message) from None


def _read_request(
    body: bytes, limits: GatewayLimits, others: frozenset[str]
) -> list[EndpointEntry]:
    body = rawjson.replace_halves(body)
    entries = _entries(body)
    if len(entries) > max(limits.events, MAX_ENDPOINTS):
        message = f"The number of endpoints in a request should be less than {MAX_ENDPOINTS}."
        raise bad_request(message)
    maps = [(key, entry, _events(entry)) for key, entry in entries.items()]
    count = sum([len(events) for _, _, events in maps if events is not None])
    if count > limits.events:
        message = f"The number of events in a request should be less than {limits.events}."
        raise bad_request(message)
    twice = _repeated(body, count, len(entries))
    return [_entry(key, entry, events, twice, (limits, others)) for key, entry, events in maps]


def _entry(
    endpoint_id: str,
    entry: _BatchEntry,
    events: Mapping[str, Raw] | None,
    twice: frozenset[tuple[str, str]],
    rules: tuple[GatewayLimits, frozenset[str]],
) -> EndpointEntry:
    found = EndpointEntry(endpoint_id, {}, event_ids=[], events=[], statuses={})
    try:
        check_id("The endpoint id", endpoint_id)
    except InvalidError as error:
        found.endpoint = error.status, str(error)
        found.statuses = dict.fromkeys(events or (), found.endpoint)
        return found
    found.storable = True
    if events is None:
        found.endpoint = 400, "Events is required, and should be a map of events."
    elif (endpoint := bytes(entry.Endpoint)) in {b"", rawjson.NULL}:
        found.endpoint = 400, "Endpoint is required."
    elif endpoint != b"{}":  # as most are
        try:
            found.given = read_endpoint(endpoint, rules[0])
        except InvalidError as error:
            found.endpoint = error.status, str(error)
    for event_id, raw in (events or {}).items():
        if twice and (endpoint_id, event_id) in twice:
            found.statuses[event_id] = 400, "The event id is given twice."
            continue
        try:
            check_id("The event id", event_id)
            event = check_event(bytes(raw), *rules)
        except InvalidError as error:
            found.statuses[event_id] = error.status, str(error)
        else:
            found.events.append(encode_event(event_id, event))
            found.event_ids.append(event_id)
            found.statuses[event_id] = UNAVAILABLE
    return found


def _entries(body: bytes) -> dict[str, _BatchEntry]:
    try:
        if not body.isascii():
            body.decode()
        try:
            return _read(body).BatchItem
        except msgspec.ValidationError:
            return _slowly(body)
    except (JsonError, UnicodeDecodeError, msgspec.DecodeError):
        message = "The body is not JSON."
    except ShapeError:
        message = "BatchItem is required, and should be a map of endpoints with their events."
    raise bad_request(message)


def _slowly(body: bytes) -> dict[str, _BatchEntry]:
    """Read a request of another shape, level by level; what is no object is an empty entry."""
    entries = {}
    batch = rawjson.fields(body).get("BatchItem", rawjson.NULL)
    for key, raw in rawjson.fields(batch).items():
        try:
            members = rawjson.fields(raw)
        except ShapeError:
            members = {}
        entries[key] = _BatchEntry(members.get("Endpoint", ABSENT), members.get("Events", ABSENT))
    return entries


def _events(entry: _BatchEntry) -> Mapping[str, Raw] | None:
    """Return the events of an entry by id; None where it names none in a way that can be read."""
    try:
        return rawjson.fields(entry.Events)
    except (ShapeError, JsonError):
        return None


def _repeated(body: bytes, events: int, endpoints: int) -> frozenset[tuple[str, str]]:
    """Return which (endpoint id, event id) stand twice: readers take the one they like.

    Raises ApiError where an endpoint, or one of the maps, stands twice: what the first one holds
    could not even be answered. ``events`` and ``endpoints``: how many were read. Nearly always each
    of them names its type, or its endpoint, once, and no other one stands between them.
    """
    if (
        body.count(_EVENT_TYPE) == events
        and body.count(_ENDPOINT) == endpoints
        and not (b"\\u00" in body and _ESCAPED_LETTER.search(body))
    ):
        return frozenset()
    request = rawjson.fields(body)
    batch = bytes(request.get("BatchItem", ABSENT))
    entries = rawjson.fields(batch)
    objects = [body, batch, *map(bytes, entries.values())]
    if any(raw[:1] == b"{" and rawjson.repeats_key(raw) for raw in objects):
        message = "An endpoint, or its Endpoint or Events, is given twice."
        raise bad_request(message)
    return frozenset(
        (key, event_id)
        for key, raw in entries.items()
        if bytes(raw)[:1] == b"{"
        for event_id in _repeated_ids(bytes(rawjson.fields(raw).get("Events", ABSENT)))
    )


def _repeated_ids(raw: bytes) -> Sequence[str]:
    """Return the ids that a map of events has twice; raises ApiError where it is too long."""
    if raw[:1] != b"{" or not rawjson.repeats_key(raw):
        return ()
    if len(raw) > MAX_SEARCHED_BYTES:
        message = "An event id is given twice."
        raise bad_request(message)
    return rawjson.repeated_keys(raw)


def cut_records(
    app: str, entry: EndpointEntry, arrival_ms: int, endpoint: bytes, room: int
) -> tuple[list[bytes], list[list[str]]]:
    """Return the records of an entry's events and the ids in each, cut at ``room`` bytes.

    An event that fits into none is answered, and left out.
    """
    head = len(encode_record(app, entry.endpoint_id, arrival_ms, endpoint, ()))
    records: list[bytes] = []
    ids: list[list[str]] = []
    part: list[bytes] = []
    part_ids: list[str] = []
    size = head

    def close() -> None:
        if part:
            records.append(encode_record(app, entry.endpoint_id, arrival_ms, endpoint, part))
            ids.append(part_ids)

    for event_id, event in zip(entry.event_ids, entry.events, strict=True):
        more = len(event) + 1
        if head + more > room:
            entry.statuses[event_id] = TOO_LARGE
            continue
        if size + more > room:
            close()
            part, part_ids, size = [], [], head
        part.append(event)
        part_ids.append(event_id)
        size += more
    close()
    return records, ids


def encode_reply(entries: Sequence[EndpointEntry]) -> bytes:
    """Return the body that is answered: every endpoint and event that was sent, with its status."""
    results = {
        entry.endpoint_id: {
            "EndpointItemResponse": _item(entry.endpoint),
            "EventsItemResponse": {key: _item(status) for key, status in entry.statuses.items()},
        }
        for entry in entries
    }
    return encode_json({"Results": results})


def _item(status: Status) -> dict[str, Any]:
    return {"StatusCode": status[0], "Message": status[1]}
