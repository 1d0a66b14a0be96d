"""Pinpoint's records as an input format: what there is of it besides decoding and filtering."""

from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Raw, Struct

from forwarder.config.connection import Settings
from forwarder.formats import rawjson
from forwarder.formats.contract import EventFilter, FormerRule, Unlike, Upload
from forwarder.formats.pinpoint import context, finished, kinds, not_uploads
from forwarder.formats.pinpoint.decode import PinpointDecoder
from forwarder.formats.pinpoint.device import members
from forwarder.formats.pinpoint.event_filter import PinpointEventFilter
from forwarder.formats.pinpoint.identity import NO_ID, id_token
from forwarder.formats.pinpoint.stream_fields import as_text
from forwarder.formats.pinpoint.timestamps import milliseconds
from forwarder.formats.rawjson import ABSENT
from forwarder.model import Partition


class _Demographic(Struct, frozen=True, gc=False):
    Platform: Raw = ABSENT


class _EndpointPlatform(Struct, frozen=True, gc=False):
    Demographic: _Demographic | None = None


class _PlatformContext(Struct, gc=False):
    Endpoint: _EndpointPlatform | None = None


class _Application(Struct, frozen=True, gc=False):
    AppPackageName: Raw = ABSENT


class _ApplicationContext(Struct, gc=False):
    Application: _Application = _Application()


_PLATFORM = msgspec.json.Decoder(_PlatformContext).decode
_APPLICATION = msgspec.json.Decoder(_ApplicationContext).decode


class PinpointInput:
    """What a gateway writes, and finished records: ``contract.InputFormat``."""

    name = "pinpoint"
    session_start = kinds.SESSION_START
    session_end = kinds.SESSION_STOP
    former_rules: Mapping[str, FormerRule] = {}
    merge = staticmethod(context.merge_contexts)
    shape = staticmethod(context.context_shape)

    def upload(self, events: bytes, context: bytes, *, keyless: bool = False) -> bytes:
        """Return a record with these events and the keys of the context."""
        if keyless:
            return context
        comma = b"," if len(context) > len(b"{}") else b""
        return b'%b%b"Events":[%b]}' % (context[:-1], comma, events)

    def decoder(
        self,
        partition: Partition,
        filters: Sequence[EventFilter],  # noqa: ARG002  # none changes an event
        *,
        sessions: bool,
        duplicates: bool = False,
        matches: bool = False,  # noqa: ARG002  # it is read where somebody asks
    ) -> PinpointDecoder:
        """Return what reads a partition."""
        return PinpointDecoder(partition, sessions=sessions, duplicates=duplicates)

    def event_filter(self, connection: str, settings: Settings) -> PinpointEventFilter:
        """Compile a connection's settings."""
        return PinpointEventFilter(connection, settings)

    def applications(self, upload: Upload) -> tuple[bytes, ...]:
        """Return the app's id and, if its events name one, their ``AppPackageName``."""
        if b'"Application"' not in upload.context:  # which encodes its keys in one way
            return (upload.application,)
        try:
            raw = _APPLICATION(upload.context).Application.AppPackageName
        except msgspec.DecodeError:
            fields = rawjson.fields(upload.context)
            raw = members(fields, "Application").get("AppPackageName", ABSENT)
        package = id_token(bytes(raw))
        return (upload.application, package) if package else (upload.application,)

    def platform(self, upload: Upload) -> bytes:
        """Return ``Demographic.Platform`` of the endpoint."""
        if upload.platform is None:
            upload.platform = _platform(upload.context)
        return upload.platform

    def api_keys(self, upload: Upload) -> tuple[bytes, ...]:  # noqa: ARG002  # records have none
        """Return no keys."""
        return ()

    def record_time(self, value: bytes) -> int | None:
        """Return ``ArrivalTimestamp``, of a finished record ``arrival_timestamp``.

        Of an array of records it is that of the first that has one. What cannot be read has none:
        the decoder says so in a dead letter.
        """
        try:
            if value.lstrip(b" \t\r\n")[:1] != b"[":
                return _arrival(rawjson.fields(value))
            times = (_arrival(rawjson.fields(one)) for one in rawjson.elements(value))
            return next((time for time in times if time is not None), None)
        except (ValueError, RecursionError):
            return None

    def unlike(self, value: bytes) -> Unlike | None:
        """Tell what an object is, if it is no record."""
        fields = rawjson.fields(value)
        if not fields or "Events" in fields or finished.is_finished(fields):
            return None
        if not not_uploads.ONLY_RECORDS.isdisjoint(fields):
            return None
        return not_uploads.likely_cause(fields)


def _platform(context: bytes) -> bytes:
    try:
        endpoint = _PLATFORM(context).Endpoint
    except msgspec.DecodeError:
        inner = members(rawjson.fields(context), "Endpoint")
        return id_token(bytes(members(inner, "Demographic").get("Platform", ABSENT))) or NO_ID
    found = None if endpoint is None else endpoint.Demographic
    return NO_ID if found is None else id_token(bytes(found.Platform)) or NO_ID


def _arrival(fields: dict[str, Raw]) -> int | None:
    """Return when a record says it arrived, as a number or written out."""
    raw = fields.get("ArrivalTimestamp", fields.get("arrival_timestamp", ABSENT))
    text = as_text(raw) if raw is not ABSENT else None
    return None if text is None else milliseconds(text)
