"""Documents of Pinpoint's event stream: one record, version 3.1, for each event.

The order of the keys is that of delivered records; what an event or its endpoint does not tell has
no key, and an object that nothing is told of is empty. docs/pinpoint-format.md has the table.
"""

from typing import cast

import msgspec
from msgspec import Raw, Struct

from forwarder.config.connection import Connection
from forwarder.config.targets import RecordLimit
from forwarder.formats import rawjson
from forwarder.formats.contract import AS_RENDERED, MAX_USER_CHARACTERS, Frame, Recognized
from forwarder.formats.ids import BatchIds, digest, uuid_of
from forwarder.formats.pinpoint import device, finished, kinds, stream_fields, timestamps
from forwarder.formats.pinpoint.policy import RecordPolicy
from forwarder.formats.pinpoint.stream_fields import SessionTimes
from forwarder.formats.rawjson import ABSENT

ENCODER_VERSION = b"pinpoint-1"
"""Changes whenever the same events would give other bytes."""


class StreamFrame(Frame, frozen=True, gc=False):
    """What the records of one endpoint have in common, as they are written.

    ``arrival`` is when they came, in milliseconds, ``middle`` from there to the app's id,
    ``app_version`` its ``version_name``, ``device`` from the client to the device; ``endpoint``: an
    object, empty where nothing is known of it.
    """

    arrival: bytes
    middle: bytes
    app_version: str | None
    device: bytes
    endpoint: bytes


class _ContextFields(Struct, gc=False):
    ApplicationId: Raw = ABSENT
    EndpointId: Raw = ABSENT
    ArrivalTimestamp: Raw = ABSENT
    Endpoint: Raw = ABSENT


_NO_TEXT = b'""'
_CONTEXT = msgspec.json.Decoder(_ContextFields).decode


class PinpointDocuments:
    """Makes the records of one connection of Pinpoint's uploads: ``contract.DocumentMaker``."""

    version = ENCODER_VERSION
    native = AS_RENDERED

    def __init__(self, connection: Connection, limit: RecordLimit) -> None:
        """Compile what all records of the connection have in common."""
        self._payload_bytes = limit.payload_bytes
        self._policy = RecordPolicy(connection.settings)
        account = connection.sink.aws_account_id
        self._account = b"" if account is None else b',"awsAccountId":' + rawjson.quote(account)
        self.least = limit.least_payload_bytes()
        self.small_context_bytes = self.small_events_bytes = max(0, self.least // 2)

    def frame(self, context: bytes, dated_ms: int, newest_ms: int) -> Frame:  # noqa: ARG002
        """Write what the records of an endpoint have in common, which is in each of its events.

        ``newest_ms`` is when it arrived where nothing says so.
        """
        told = _read_context(context)
        endpoint = bytes(told.Endpoint)
        endpoint = rawjson.compact(endpoint) if endpoint[:1] == b"{" else b""
        parts = device.of_endpoint(endpoint)
        app, client = _text(told.ApplicationId), _text(told.EndpointId)
        arrival = bytes(told.ArrivalTimestamp)
        user = partition_key(client)
        start = b',"event_version":"3.1","application":{'
        return StreamFrame(
            user=user,
            tail=b"",
            size=0,
            limit=self._payload_bytes(user),
            arrival=arrival if is_time(arrival) else b"%d" % newest_ms,
            middle=b'%b"app_id":%b,' % (start, app) if app else start,
            app_version=parts.app_version,
            device=b'},"client":{%b},"device":%b,"session":'
            % (b'"client_id":%b' % client if client else b"", parts.device),
            endpoint=endpoint,
        )

    def render(self, frame: Frame, event: bytes) -> bytes:
        """Return the record of an event; raises what an odd one raises."""
        told = stream_fields.read_event(event)
        if told.EventType:
            record = self._record(cast("StreamFrame", frame), told)
        elif len(told.event_type) > len(_NO_TEXT) and bytes(told.event_type)[:1] == b'"':
            record = finished.one_line(event)
        else:
            message = "an event without a type"
            raise ValueError(message)
        return record if self._policy.is_plain else self._policy.reduced(record)

    def document(self, frame: Frame, events: bytes, ids: BatchIds) -> bytes:  # noqa: ARG002
        """Return the record, which is all of its document; it holds no id."""
        return events

    def prune(self, context: bytes, most: int) -> bytes:
        """Return a context without members that are in no record."""
        fields = rawjson.fields(context)
        kept = {key: fields[key] for key in _ContextFields.__struct_fields__ if key in fields}
        return (
            context
            if len(context) <= most or len(kept) == len(fields)
            else rawjson.encode_exact(kept)
        )

    def recognize(self, value: bytes) -> Recognized | None:
        """Return an id derived of the record's bytes, as it holds none, and its endpoint."""
        try:
            fields = rawjson.fields(value)
            if not finished.is_finished(fields):
                return None
            client = rawjson.fields(bytes(fields.get("client", ABSENT))).get("client_id", ABSENT)
        except (ValueError, RecursionError):
            return None
        return Recognized(uuid_of(digest(value).hex()), partition_key(bytes(client)), 1)

    def _record(self, frame: StreamFrame, told: stream_fields.ClientEvent) -> bytes:
        """Write the record of an event as a client sent it."""
        kind, time = told.EventType, None
        if told.Timestamp is not None:
            time = timestamps.milliseconds(told.Timestamp)
        rest = stream_fields.metrics(told.Metrics)
        if kinds.is_message(kind):
            rest = _message_rest(kind, rest, frame.endpoint)
        elif frame.endpoint:
            rest = b',"metrics":%b,"endpoint":%b' % (rest, frame.endpoint)
        else:
            rest = b',"metrics":%b' % rest
        return (
            b'{"event_type":%b,"event_timestamp":%b,"arrival_timestamp":%b%b%b%b%b,"attributes":%b%b%b}'
            % (
                rawjson.quote(kind),
                frame.arrival if time is None else b"%d" % time,
                frame.arrival,
                frame.middle,
                stream_fields.application(told, frame.app_version),
                frame.device,
                _session(told.Session),
                stream_fields.attributes(told.Attributes),
                rest,
                self._account,
            )
        )


def _text(raw: Raw) -> bytes:
    """Return an id as a JSON string, whatever it is; b"": there is none."""
    value = bytes(raw)
    return value if value[:1] == b'"' or not value else rawjson.quote(value.decode())


def is_time(value: bytes) -> bool:
    """Tell whether a JSON value is a time in milliseconds that every reader of records can keep."""
    return value.isdigit() and len(value) <= timestamps.MAX_DIGITS


def _message_rest(kind: str, metrics: bytes, endpoint: bytes) -> bytes:
    """Return what records of campaigns, journeys, e-mail and SMS have behind the attributes.

    They have no metrics where none are told. What the endpoint is, campaigns and journeys say in a
    text, the others not at all.
    """
    rest = b"" if metrics == b"{}" else b',"metrics":%b' % metrics
    if not endpoint or not kinds.is_campaign(kind):
        return rest
    custom = rawjson.quote(endpoint.decode())
    return b'%b,"client_context":{"custom":{"endpoint":%b}}' % (rest, custom)


def _session(told: SessionTimes | None) -> bytes:
    """Return ``session`` as an object; times that cannot be read are left out."""
    if told is None:
        return b"{}"
    parts = [] if told.Id is None else [b'"session_id":' + rawjson.quote(told.Id)]
    for name, text in (
        (b"start_timestamp", told.StartTimestamp),
        (b"stop_timestamp", told.StopTimestamp),
    ):
        if text is not None and (time := timestamps.milliseconds(text)) is not None:
            parts.append(b'"%b":%d' % (name, time))
    return b"{%b}" % b",".join(parts)


def _read_context(context: bytes) -> _ContextFields:
    """Return what records are made of."""
    try:
        return _CONTEXT(context)
    except msgspec.DecodeError:
        fields = rawjson.fields(context)
        names = [name for name in _ContextFields.__struct_fields__ if name in fields]
        return _ContextFields(**{name: fields[name] for name in names})


def partition_key(endpoint_id: bytes) -> str:
    """Return an endpoint's id by which a stream may choose the shard; empty: none can.

    Sinks take no key that is longer than ``MAX_USER_CHARACTERS`` or no UTF-8.
    """
    text = rawjson.text_of(endpoint_id) or ""
    if len(text) > MAX_USER_CHARACTERS:
        return ""
    return text if text.isascii() or not any("\ud800" <= c <= "\udfff" for c in text) else ""
