"""Decode records into uploads, reading no more of them than routing and windows need.

A record is what a gateway wrote (``record``), a finished record of the stream (3.1), or the
envelope that AWS's replacement clients write; or an array of such. Whatever else it is becomes a
value of type ``Reject``: nothing here raises through the loop.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from sys import getsizeof

import msgspec
from msgspec import Raw, Struct

from forwarder.formats import bounds, framing, rawjson
from forwarder.formats.bounds import TooManyError, check_number, check_record
from forwarder.formats.contract import UNKNOWN, ContextShape, Reject, Upload
from forwarder.formats.memo import Memo
from forwarder.formats.pinpoint import finished, not_uploads
from forwarder.formats.pinpoint.context import shape_of
from forwarder.formats.pinpoint.identity import EndpointIdentity, event_identity, id_token
from forwarder.formats.rawjson import ABSENT, JsonError, ShapeError
from forwarder.model import HeldWindow, Partition, Piece, Reason

_MEMO = 1024
_KEY_BYTES = 80
"""Bytes of a key's places, in a tuple and in a set of any fill."""

_PRODUCTION = b'"production"'
_EVENTS_BYTES = len(b'"Events":,')
_NO_KEYS = shape_of({})
_FIELDS = msgspec.json.Decoder(dict[str, Raw]).decode
_ENCODE_INTO = msgspec.json.Encoder().encode_into

_SAFE_KEYS = frozenset({
    "ApplicationId", "ArrivalTimestamp", "Endpoint", "EndpointId", "Events", "application",
    "arrival_timestamp", "attributes", "awsAccountId", "client", "client_context", "device",
    "endpoint", "event_timestamp", "event_type", "event_version", "facets", "metrics", "session",
})  # fmt: skip
"""Keys that an error may name; any other may hold anything, also in its name."""


class _Session(Struct, frozen=True, gc=False):
    Id: Raw = ABSENT


class _FinishedSession(Struct, frozen=True, gc=False):
    session_id: Raw = ABSENT


class _RoutedEvent(Struct, gc=False):
    """What routing and windows ask of an event, of either form."""

    EventType: str = UNKNOWN
    event_type: str = UNKNOWN
    AppPackageName: Raw = ABSENT
    AppTitle: Raw = ABSENT
    AppVersionCode: Raw = ABSENT
    SdkName: Raw = ABSENT
    ClientSdkVersion: Raw = ABSENT
    Session: _Session | None = None
    session: _FinishedSession | None = None


class _Identified(Struct, gc=False):
    EventId: Raw = ABSENT


_READ_IDS = msgspec.json.Decoder(list[_Identified]).decode
_READ_EVENTS = msgspec.json.Decoder(list[_RoutedEvent]).decode


class PinpointDecoder:
    """Decodes the records of one partition: ``contract.Decoder``.

    ``sessions`` and ``duplicates`` say whether some lane needs sessions, or somebody the identities
    of events.
    """

    def __init__(self, partition: Partition, *, sessions: bool, duplicates: bool) -> None:
        self._identity = EndpointIdentity(partition)
        self._sessions = sessions
        self._duplicates = duplicates
        self._shapes: Memo[tuple[str, ...], ContextShape] = Memo(_MEMO)
        self._buffer = bytearray()

    def decode(
        self, value: bytes, offset: int, time: int, clock: int, *, framed: bool = False
    ) -> list[Upload] | Reject:
        """Decode one record's value; ``time`` and ``clock`` as in ``Upload``.

        ``framed``: what stood before it is off, and is looked for once.
        """
        try:
            if not value.isascii():
                value.decode()
            return self._uploads(value, offset, time, clock)
        except UnicodeDecodeError as error:
            reject = Reject(Reason.INVALID_UTF8, f"not UTF-8 at byte {error.start}")
        except JsonError as error:
            reject = Reject(Reason.INVALID_JSON, str(error))
        except RecursionError:
            return Reject(Reason.INVALID_JSON, "nested too deeply")
        except TooManyError as error:
            return Reject(Reason.TOO_MANY_PARTS, str(error))
        except ShapeError as error:
            return Reject(Reason.NOT_AN_UPLOAD, str(error))
        bare = None if framed else framing.strip_framing(value)
        if bare is not None:
            return self.decode(bare, offset, time, clock, framed=True)
        cause = framing.framing_cause(value)
        return Reject(reject.reason, f"{cause} ({reject.error})") if cause else reject

    def from_piece(self, piece: Piece, held: HeldWindow) -> Upload:
        """Return a stored piece as an upload again, so that today's settings can judge it."""
        offset, start, count, time, body = piece
        types = [_kind(event) for event in _read(b"[%b]" % body)] if count else []
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
            governed=[],
            body=body,
            fields={},
            context=b"{}",
            shape=_NO_KEYS,
        )

    def shape(self, context: bytes) -> ContextShape:
        """Return the one description of a stored context's keys."""
        return self._shape(rawjson.fields(context))

    def _shape(self, fields: dict[str, Raw]) -> ContextShape:
        keys = tuple(fields)
        shape = self._shapes.get(keys)
        if shape is None:
            size = sum(map(getsizeof, keys)) + _KEY_BYTES * len(keys)
            shape = self._shapes.keep(keys, shape_of(fields), size)
        return shape

    def _uploads(self, value: bytes, offset: int, time: int, clock: int) -> list[Upload]:
        check_record(value)
        try:
            fields = _FIELDS(value)
        except msgspec.DecodeError:
            return self._slowly(value, offset, time, clock)
        if self._repeats(fields, value):
            _check_keys(value)
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
            _check_keys(part)
            uploads += self._record(rawjson.fields(part), part, (offset, start, time, clock))
            start = uploads[-1].start + max(len(uploads[-1].types), 1)
            check_number(start, bounds.MAX_EVENTS, "events")
        if not uploads:
            message = "an array without records"
            raise ShapeError(message)
        return uploads

    def _repeats(self, fields: dict[str, Raw], value: bytes) -> bool:
        """Tell whether a key may stand twice: else each stands once, without a space."""
        try:
            _ENCODE_INTO(fields, self._buffer)
        except UnicodeEncodeError:
            return True
        return len(self._buffer) != len(value)

    def _record(
        self, fields: dict[str, Raw], value: bytes, at: tuple[int, int, int, int]
    ) -> list[Upload]:
        """Return the uploads of one object; ``at``: offset, first index, time and clock."""
        if "Events" not in fields and finished.is_finished(fields):
            body, context = finished.read(fields, value, at[2])
            return [self._upload(context, _read(b"[%b]" % body), body, at)]
        raw = bytes(fields.pop("Events", ABSENT))
        if raw[:1] != b"[":
            not_uploads.check_without_events(fields, raw)
            return [self._upload(fields, [], b"", at, keyless=not raw)]
        events = _read(raw)
        if len(events) > bounds.MAX_EVENTS:
            check_number(len(events), bounds.MAX_EVENTS, "events")
        body = raw[1:-1].strip() if events else b""
        if b"AppPackageName" not in body and b"\\u" not in body:  # mostly of a server's events
            return [self._upload(fields, events, body, at)]
        return list(self._by_application(fields, events, body, at))

    def _by_application(
        self,
        fields: dict[str, Raw],
        events: Sequence[_RoutedEvent],
        body: bytes,
        at: tuple[int, int, int, int],
    ) -> Iterator[Upload]:
        """Yield an upload for each run of events of one app; nearly always it is one."""
        if len({bytes(event.AppPackageName) for event in events}) == 1:
            yield self._upload(fields, events, body, at)
            return
        lengths = [len(list(run)) for _, run in groupby(events, _package)]
        edges = [sum(lengths[:n]) for n in range(len(lengths) + 1)]
        values = rawjson.split_values(body)
        offset, start, time, clock = at
        for first, end in pairwise(edges):
            part = b",".join(values[first:end])
            place = (offset, start + first, time, clock)
            yield self._upload(dict(fields), events[first:end], part, place)

    def _upload(
        self,
        fields: dict[str, Raw],
        events: Sequence[_RoutedEvent],
        body: bytes,
        at: tuple[int, int, int, int],
        *,
        keyless: bool = False,
    ) -> Upload:
        offset, start, time, clock = at
        if events and (application := _application_of(events[0])):
            fields["Application"] = Raw(application)
        app, endpoint, device, owner = self._identity.keys(fields, offset, start)
        context = self._context(fields)
        identities: list[bytes] = []
        if self._duplicates and events:
            identities = [event_identity(app, endpoint, one) for one in _event_ids(body)]
        return Upload(
            offset, start, time, clock, device, owner, _PRODUCTION, app,
            [_kind(event) for event in events],
            _session_names(events) if self._sessions else [],
            [], body, fields, context, self._shape(fields),
            duplicate_keys=identities, keyless=keyless,
        )  # fmt: skip

    def _context(self, fields: dict[str, Raw]) -> bytes:
        """Return the fields as an object of its own; drop nulls from both."""
        context = rawjson.encode_exact(fields)
        if b":null" not in context:
            return context
        for key in [key for key, raw in fields.items() if bytes(raw) == rawjson.NULL]:
            del fields[key]
        return rawjson.encode_exact(fields)


def _check_keys(value: bytes) -> None:
    """Raise ShapeError if a key stands twice: both its values may be meant."""
    if (key := rawjson.repeated_key(value)) is not None:
        message = f"`{key}` is given twice" if key in _SAFE_KEYS else "a key is given twice"
        raise ShapeError(message)


def _read(raw: bytes) -> list[_RoutedEvent]:
    """Return what there is to know of an array of events; what is no object is refused."""
    try:
        return _READ_EVENTS(raw)
    except msgspec.DecodeError:
        return [_read_odd(rawjson.fields(element)) for element in rawjson.elements(raw)]


def _read_odd(fields: dict[str, Raw]) -> _RoutedEvent:
    """Return what there is to know of an event whose members are of odd types."""
    session = _object(fields.get("Session", ABSENT))
    other = _object(fields.get("session", ABSENT))
    return _RoutedEvent(
        EventType=_text(fields.get("EventType", ABSENT)),
        event_type=_text(fields.get("event_type", ABSENT)),
        AppPackageName=fields.get("AppPackageName", ABSENT),
        AppTitle=fields.get("AppTitle", ABSENT),
        AppVersionCode=fields.get("AppVersionCode", ABSENT),
        SdkName=fields.get("SdkName", ABSENT),
        ClientSdkVersion=fields.get("ClientSdkVersion", ABSENT),
        Session=_Session(session.get("Id", ABSENT)),
        session=_FinishedSession(other.get("session_id", ABSENT)),
    )


def _object(raw: Raw) -> dict[str, Raw]:
    return rawjson.fields(raw) if bytes(raw)[:1] == b"{" else {}


def _text(raw: Raw) -> str:
    value = bytes(raw)
    return (rawjson.text_of(value) or UNKNOWN) if value[:1] == b'"' else UNKNOWN


def _kind(event: _RoutedEvent) -> str:
    return event.EventType or event.event_type


def _package(event: _RoutedEvent) -> Raw:
    return event.AppPackageName


def _application_of(event: _RoutedEvent) -> bytes:
    """Return the members of an event that name its app, as an object; empty: none does."""
    named = {
        "AppPackageName": event.AppPackageName,
        "AppTitle": event.AppTitle,
        "AppVersionCode": event.AppVersionCode,
        "SdkName": event.SdkName,
        "ClientSdkVersion": event.ClientSdkVersion,
    }
    found = {name: raw for name, raw in named.items() if raw is not ABSENT}
    return rawjson.encode_object(found) if found else b""


def _session_names(events: Sequence[_RoutedEvent]) -> list[bytes]:
    """Return the name of each event's session, ``b""`` for none; mostly that of the one before."""
    names: list[bytes] = []
    known, name = b"", b""
    for event in events:
        raw = b""
        if event.Session is not None:
            raw = bytes(event.Session.Id)
        elif event.session is not None:
            raw = bytes(event.session.session_id)
        if raw != known:
            known, name = raw, id_token(raw)
        names.append(name)
    return names


def _event_ids(body: bytes) -> list[Raw]:
    """Return the id of each event: the first that it names, as a gateway puts it in front."""
    raw = b"[%b]" % body
    try:
        found = [event.EventId for event in _READ_IDS(raw)]
    except msgspec.DecodeError:
        found = []
    if found and raw.count(b'"EventId"') <= len(found) and b"\\u00" not in raw:
        return found
    return [rawjson.first_member(bytes(event), "EventId") for event in rawjson.elements(raw)]
