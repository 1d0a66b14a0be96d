"""Decode records into uploads, reading no more of them than routing and windows need.

A record that is not one upload, or an array of uploads, becomes a value of type ``Reject``:
nothing here raises through the loop.
"""

import msgspec
from msgspec import Raw

from forwarder.formats import bounds, rawjson
from forwarder.formats.bounds import check_number, check_record
from forwarder.formats.contract import ContextShape, OddRecord, Upload
from forwarder.formats.mparticle import events, matched, not_uploads
from forwarder.formats.mparticle.document import shape_of
from forwarder.formats.mparticle.identity import (
    DEVICE_ID_KEYS,
    NONE_WORDS,
    DeviceIdentity,
    request_key,
)
from forwarder.formats.rawjson import ABSENT, ShapeError
from forwarder.formats.record_decoder import RecordDecoder
from forwarder.formats.shapes import Shapes
from forwarder.model import HeldWindow, Partition, Piece
from forwarder.native import core

_SAFE_KEYS = frozenset({
    "api_key", "api_keys", "application_info", "attribution_info", "batch_id", "consent_state",
    "context", "deleted_user_attributes", "device_info", "environment", "events",
    "integration_attributes", "ip", "job_id", "message_id", "message_type", "mp_deviceid",
    "mpid", "origin_mpid", "partner_identities", "partner_identity", "schema_version",
    "sdk_version", "source_info", "source_request_id", "system_notifications",
    "timestamp_unixtime_ms", "unique_id", "user_attributes", "user_identities",
})  # fmt: skip
"""Keys that an error may name; any other may hold anything, also in its name."""

_NULL = Raw(rawjson.NULL)
_NO_KEYS = shape_of({})
_EVENTS_BYTES = len(b'"events":,')
_FIELDS = msgspec.json.Decoder(dict[str, Raw]).decode
_ENCODE_INTO = msgspec.json.Encoder().encode_into


class MParticleDecoder(RecordDecoder):
    """Decodes the records of one partition: ``contract.Decoder``.

    ``sessions`` and ``places`` say whether some lane needs sessions, or to know which events
    may carry a location; ``duplicates`` whether uploads that come again are looked for,
    ``matches`` whether a match compares platforms or the keys of apps.
    """

    def __init__(
        self,
        partition: Partition,
        *,
        sessions: bool,
        places: bool,
        duplicates: bool = False,
        matches: bool = False,
    ) -> None:
        """Choose the narrowest way to read events."""
        self._identity = DeviceIdentity(partition)
        self._duplicates = duplicates
        self._matches = matches
        self._narrow = self._waiting = events.read_places if places else events.read_types
        if sessions:
            self._narrow = events.read_sessions
        self._shapes = Shapes(shape_of)
        self._buffer = bytearray()
        self._compact = 0
        if (native := core()) is not None:
            seams = {
                "upload": Upload,
                "odd_record": OddRecord,
                "max_events": bounds.MAX_EVENTS,
                "shape": self._shapes.of_stored,
                "identities_digest": self._identity.digest,
                "none_words": sorted(NONE_WORDS),
                "device_id_keys": list(DEVICE_ID_KEYS),
                "only_uploads": sorted(not_uploads.ONLY_UPLOADS),
                "wrappers": list(not_uploads.WRAPPERS),
            }
            self.scanner = native.mparticle_scanner(
                seams,
                self._identity.prefix,
                sessions=sessions,
                places=places,
                duplicates=duplicates,
                matches=matches,
            )

    def from_piece(self, piece: Piece, held: HeldWindow) -> Upload:
        """Return a stored piece as an upload again, so that today's settings can judge it."""
        offset, start, count, time, body = piece
        # Its session is known, and a crash may have left millions of events to look at.
        (types, _, governed), _ = events.read(b"[%b]" % body, self._waiting)
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
        if len(value) > bounds.SHORT:
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
        array = bytes(fields.pop("events", ABSENT))
        if array[:1] == b"[":
            (types, sessions, governed), body = events.read(array, self._narrow)
        else:
            _check_without_events(fields, array)
            (types, sessions, governed), body = events.NONE, b""
        context = self._context(fields, array)
        identity = self._identity
        environment, application, device, owner = identity.keys(fields, offset, start)
        if identity.repeated:
            identity.repeated = False
            context = _read_once(fields)
        body = body[1:-1].strip()
        upload = Upload(
            offset, start, time, clock, device, owner, environment, application,
            types, sessions, governed, body, context, self._shapes.of(fields),
        )  # fmt: skip
        if types:
            upload.piece = offset, start, len(types), time, body
        elif not array:
            upload.keyless = True
        if self._matches:
            matched.note(upload, fields)
        if self._duplicates:
            key = request_key(fields, environment, application, device)
            upload.types, upload.sessions = list(types), list(sessions)
            upload.duplicate_keys = [key] * len(types)
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
        if _NULL not in fields.values():
            return bytes(self._buffer)
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
