"""Decode records into uploads, reading no more of them than routing and windows need.

A record is what a gateway wrote (``record``), a finished record of the stream (3.1), or the
envelope that AWS's replacement clients write; or an array of such. Whatever else it is becomes a
value of type ``Reject``: nothing here raises through the loop.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, groupby, pairwise
from operator import attrgetter
from typing import cast

import msgspec
from msgspec import Raw, Struct

from forwarder.formats import bounds, rawjson
from forwarder.formats.bounds import check_number, check_record
from forwarder.formats.contract import UNKNOWN, ContextShape, OddRecord, Upload
from forwarder.formats.ids import bounded_token
from forwarder.formats.memo import Memo
from forwarder.formats.pinpoint import finished, not_uploads
from forwarder.formats.pinpoint.context import shape_of
from forwarder.formats.pinpoint.device import members
from forwarder.formats.pinpoint.identity import EndpointIdentity, event_identities
from forwarder.formats.pinpoint.stream_fields import as_text
from forwarder.formats.rawjson import ABSENT, ShapeError
from forwarder.formats.record_decoder import RecordDecoder
from forwarder.formats.shapes import Shapes
from forwarder.model import HeldWindow, Partition, Piece
from forwarder.native import core

_MEMO = 1024

_PRODUCTION = b'"production"'
_EVENTS_BYTES = len(b'"Events":,')
_NULL = Raw(rawjson.NULL)
_APPLICATION = ("AppPackageName", "AppTitle", "AppVersionCode", "SdkName", "ClientSdkVersion")
_NO_KEYS = shape_of({})
_FIELDS = msgspec.json.Decoder(dict[str, Raw]).decode
_ENCODE_INTO = msgspec.json.Encoder().encode_into

_SAFE_KEYS = frozenset({
    "ApplicationId", "ArrivalTimestamp", "Endpoint", "EndpointId", "Events", "application",
    "arrival_timestamp", "attributes", "awsAccountId", "client", "client_context", "device",
    "endpoint", "event_timestamp", "event_type", "event_version", "facets", "metrics", "session",
})  # fmt: skip
"""Keys that an error may name; any other may hold anything, also in its name."""


class _RoutedEvent(Struct, gc=False):
    """What routing asks of an event, of either form."""

    EventType: str = UNKNOWN
    event_type: str = UNKNOWN
    AppPackageName: str | None = None
    AppTitle: str | None = None
    AppVersionCode: str | None = None
    SdkName: str | None = None
    ClientSdkVersion: str | None = None


class _ClientSession(Struct, frozen=True, gc=False):
    Id: str | None = None


class _FinishedSession(Struct, frozen=True, gc=False):
    session_id: str | None = None


class _IdentifiedEvent(_RoutedEvent, gc=False):
    """And what names itself."""

    EventId: Raw = ABSENT


class _KnownEvent(_IdentifiedEvent, gc=False):
    """And what names its session."""

    Session: _ClientSession | None = None
    session: _FinishedSession | None = None


_READ_ROUTED = msgspec.json.Decoder(list[_RoutedEvent]).decode
_READ_IDENTIFIED = msgspec.json.Decoder(list[_IdentifiedEvent]).decode
_READ_KNOWN = msgspec.json.Decoder(list[_KnownEvent]).decode

_REPEATED = "bytes of endpoints in all, one for each change of AppPackageName"

_Place = tuple[int, int, int, int]
"""Of an upload: offset, index of its first event, record time and record clock."""


class PinpointDecoder(RecordDecoder):
    """Decodes the records of one partition: ``contract.Decoder``.

    ``sessions`` and ``duplicates`` say whether some lane needs sessions, or somebody the identities
    of events.
    """

    def __init__(self, partition: Partition, *, sessions: bool, duplicates: bool) -> None:
        self._identity = EndpointIdentity(partition)
        self._sessions = sessions
        self._duplicates = duplicates
        self._read: Callable[[bytes], Sequence[_RoutedEvent]] = _READ_ROUTED
        if sessions:
            self._read = _READ_KNOWN
        elif duplicates:
            self._read = _READ_IDENTIFIED
        self._shapes = Shapes(shape_of)
        self._applications: Memo[tuple[str | None, ...], bytes] = Memo(_MEMO)
        self._buffer = bytearray()
        if (native := core()) is not None:
            seams = {
                "upload": Upload,
                "odd_record": OddRecord,
                "max_events": bounds.MAX_EVENTS,
                "shape": self._shapes.of_stored,
            }
            self.scanner = native.pinpoint_scanner(
                seams, self._identity.prefix, sessions=sessions, duplicates=duplicates
            )

    def from_piece(self, piece: Piece, held: HeldWindow) -> Upload:
        """Return a stored piece as an upload again, so that today's settings can judge it."""
        offset, start, count, time, body = piece
        try:
            events = _READ_ROUTED(b"[%b]" % body) if count else []
        except msgspec.DecodeError:
            events = list(_read_odd_events(b"[%b]" % body))
        return Upload(
            offset=offset,
            start=start,
            time=time,
            clock=0,
            device=held.device,
            owner=held.device,
            environment=b"",
            application=b"",
            types=[event.EventType or event.event_type for event in events],
            sessions=[held.session] * count,
            governed=[],
            body=body,
            context=b"{}",
            shape=_NO_KEYS,
        )

    def shape(self, context: bytes) -> ContextShape:
        """Return the one description of a stored context's keys."""
        return self._shapes.of_stored(context)

    def _uploads(self, value: bytes, offset: int, time: int, clock: int) -> list[Upload]:
        check_record(value)
        try:
            fields = _FIELDS(value)
        except msgspec.DecodeError:
            return self._slowly(value, offset, time, clock)
        return self._record(fields, value, (offset, 0, time, clock))

    def _slowly(self, value: bytes, offset: int, time: int, clock: int) -> list[Upload]:
        """Decode an array of records, or what msgspec refused; the first fault rejects it all."""
        parts: list[bytes] = [value]
        if value.lstrip(b" \t\r\n")[:1] == b"[":
            elements = rawjson.elements(value)
            check_number(len(elements), bounds.MAX_UPLOADS, "uploads")
            parts = [bytes(part) for part in elements]
        uploads: list[Upload] = []
        start = 0
        for part in parts:
            uploads += self._record(rawjson.fields(part), part, (offset, start, time, clock))
            start = uploads[-1].start + max(len(uploads[-1].types), 1)
            check_number(start, bounds.MAX_EVENTS, "events")
        if not uploads:
            message = "an array without records"
            raise ShapeError(message)
        return uploads

    def _record(self, fields: dict[str, Raw], value: bytes, at: _Place) -> list[Upload]:
        """Return the uploads of one object."""
        raw = bytes(fields.pop("Events", ABSENT))
        context = self._context(fields, raw, value)
        if raw[:1] != b"[":
            if not raw and finished.is_finished(fields):
                return [self._finished(fields, value, at)]
            not_uploads.check_without_events(fields, raw)
            upload = self._upload(fields, context, [], b"", at)
            upload.keyless = not raw
            return [upload]
        try:
            events = self._read(raw)
        except msgspec.DecodeError:
            events = _read_odd_events(raw)
        if len(events) > 1:
            if len(events) > bounds.MAX_EVENTS:
                check_number(len(events), bounds.MAX_EVENTS, "events")
            body = raw[1:-1].strip()
            package = events[0].AppPackageName
            if [event for event in events if event.AppPackageName != package]:
                return list(self._by_application(fields, context, events, body, at))
            return [self._upload(fields, context, events, body, at)]
        return [self._upload(fields, context, events, raw[1:-1].strip() if events else b"", at)]

    def _finished(self, fields: dict[str, Raw], value: bytes, at: _Place) -> Upload:
        """Return a finished record as an upload of one event."""
        body, fields = finished.read(fields, value, at[2])
        try:
            events = self._read(b"[%b]" % body)
        except msgspec.DecodeError:
            events = _read_odd_events(b"[%b]" % body)
        return self._upload(fields, rawjson.encode_exact(fields), events, body, at)

    def _context(self, fields: dict[str, Raw], events: bytes, value: bytes) -> bytes:
        """Return the fields as an object of its own; drop nulls from both.

        Raises ShapeError where a key may be meant twice: each once, and without spaces, they are as
        long as the value.
        """
        try:
            _ENCODE_INTO(fields, self._buffer)
            size = len(self._buffer) + (len(events) + _EVENTS_BYTES if events else 0)
            if size - (not fields) != len(value):
                _check_keys(value)
        except UnicodeEncodeError:
            _check_keys(value)
            self._buffer[:] = rawjson.encode_object(fields)
        context = bytes(self._buffer)
        if b":null" not in context:
            return context
        for key in [key for key, raw in fields.items() if bytes(raw) == rawjson.NULL]:
            del fields[key]
        return rawjson.encode_exact(fields)

    def _by_application(
        self,
        fields: dict[str, Raw],
        context: bytes,
        events: Sequence[_RoutedEvent],
        body: bytes,
        at: _Place,
    ) -> Iterator[Upload]:
        """Yield an upload for each run of events of one app."""
        lengths = [len(list(run)) for _, run in groupby(events, attrgetter("AppPackageName"))]
        check_number(len(lengths) * len(context), bounds.MAX_REPEATED_BYTES, _REPEATED)
        values = rawjson.split_values(body)
        offset, start, time, clock = at
        for first, end in pairwise((0, *accumulate(lengths))):
            part = b",".join(values[first:end])
            place = (offset, start + first, time, clock)
            yield self._upload(dict(fields), context, events[first:end], part, place)

    def _upload(
        self,
        fields: dict[str, Raw],
        context: bytes,
        events: Sequence[_RoutedEvent],
        body: bytes,
        at: _Place,
    ) -> Upload:
        offset, start, time, clock = at
        if events and (application := self._application(events[0])):
            known = "Application" in fields
            fields["Application"] = Raw(application)
            if known:
                context = rawjson.encode_exact(fields)
            else:
                comma = b"," if len(context) > len(b"{}") else b""
                context = b'%b%b"Application":%b}' % (context[:-1], comma, application)
        app, device, owner = self._identity.keys(fields, offset, start)
        upload = Upload(
            offset, start, time, clock, device, owner, _PRODUCTION, app,
            [event.EventType or event.event_type for event in events],
            _session_names(events) if self._sessions else [],
            [], body, context, self._shapes.of(fields),
        )  # fmt: skip
        if events:
            upload.piece = offset, start, len(events), time, body
        if self._duplicates and events:
            upload.duplicate_keys = _identities(device, events, body)
        return upload

    def _application(self, event: _RoutedEvent) -> bytes:
        """Return the members of an event that name its app, as an object; empty: none does."""
        named = (
            event.AppPackageName, event.AppTitle, event.AppVersionCode, event.SdkName,
            event.ClientSdkVersion,
        )  # fmt: skip
        known = self._applications.get(named)
        if known is None:
            pairs = zip(_APPLICATION, named, strict=True)
            found = {name: Raw(rawjson.quote(text)) for name, text in pairs if text is not None}
            known = rawjson.encode_object(found) if found else b""
            self._applications.keep(named, known, 5 * len(known))
        return known


def _check_keys(value: bytes) -> None:
    """Raise ShapeError if a key stands twice: both its values may be meant."""
    if (key := rawjson.repeated_key(value)) is not None:
        message = f"`{key}` is given twice" if key in _SAFE_KEYS else "a key is given twice"
        raise ShapeError(message)


def _read_odd_events(raw: bytes) -> Sequence[_RoutedEvent]:
    """Return what there is to know of events of odd members; what is no object is refused."""
    return [_read_odd(rawjson.fields(element)) for element in rawjson.elements(raw)]


def _read_odd(fields: dict[str, Raw]) -> _KnownEvent:
    """Return what there is to know of an event whose members are of odd types."""
    texts = {name: as_text(fields[name]) for name in _APPLICATION if name in fields}
    session = as_text(members(fields, "Session").get("Id", _NULL))
    other = as_text(members(fields, "session").get("session_id", _NULL))
    return _KnownEvent(
        _text(fields.get("EventType", ABSENT)),
        _text(fields.get("event_type", ABSENT)),
        **texts,
        EventId=fields.get("EventId", ABSENT),
        Session=_ClientSession(session),
        session=_FinishedSession(other),
    )


def _text(raw: Raw) -> str:
    value = bytes(raw)
    return (rawjson.text_of(value) or UNKNOWN) if value[:1] == b'"' else UNKNOWN


def _session_names(events: Sequence[_RoutedEvent]) -> list[bytes]:
    """Return the name of each event's session, ``b""`` for none; mostly that of the one before."""
    names: list[bytes] = []
    known: str | None = None
    name = b""
    for event in cast("Sequence[_KnownEvent]", events):
        told = event.Session.Id if event.Session is not None else None
        if told is None and event.session is not None:
            told = event.session.session_id
        if told != known:
            known, name = told, bounded_token(rawjson.quote(told)) if told else b""
        names.append(name)
    return names


def _identities(device: bytes, events: Sequence[_RoutedEvent], body: bytes) -> list[bytes]:
    """Return what each event is known by if it comes again.

    It is the first id that an event names, as a gateway puts it in front.
    """
    ids = [bytes(event.EventId) for event in cast("Sequence[_IdentifiedEvent]", events)]
    if body.count(b'"EventId"') > len(ids) - ids.count(b"") or (b"\\" in body and b"\\u00" in body):
        values = rawjson.split_values(body)
        ids = [bytes(rawjson.first_member(bytes(event), "EventId")) for event in values]
    return event_identities(device, ids)
