"""Records of Pinpoint's event stream, version 3.1, made of mParticle's uploads."""

from typing import cast

from msgspec import Raw

from forwarder.config.connection import Connection
from forwarder.config.targets import RecordLimit
from forwarder.formats import rawjson
from forwarder.formats.across import pinpoint_endpoint
from forwarder.formats.across.pinpoint_events import EventRecord, PinpointEvents
from forwarder.formats.contract import AS_RENDERED, Frame
from forwarder.formats.mparticle.document import ContextPolicy
from forwarder.formats.pinpoint import device, kinds
from forwarder.formats.pinpoint.document import PinpointDocuments, partition_key
from forwarder.formats.pinpoint.policy import RecordPolicy
from forwarder.formats.rawjson import ABSENT

ENCODER_VERSION = 1
"""Goes up whenever the same events would give other bytes, besides the version of Pinpoint's."""
_APPLICATION = ("package_name", "sdk", "title", "version_name", "version_code")
"""Members of ``application`` behind the app's id, in the order in which records have them."""

_MAX_GROWTH = 8
"""More than by how much what stands in a record by its path is longer than it came."""


class RecordFrame(Frame, frozen=True, gc=False):
    """What the records of one context have in common, as they are written.

    ``middle``: from the arrival to the device. ``arrival``: when they came, in milliseconds.
    ``endpoint``: the endpoint in front of its location, and behind; ``location``: where nothing
    else is told of an event.
    """

    arrival: bytes
    middle: bytes
    endpoint: tuple[bytes, bytes]
    location: bytes


class PinpointFromMParticle:
    """Makes the records of one connection: ``contract.DocumentMaker``."""

    native = AS_RENDERED

    def __init__(self, connection: Connection, limit: RecordLimit) -> None:
        """Compile what all records of the connection have in common."""
        settings = connection.settings
        documents = PinpointDocuments(connection, limit)
        self._payload_bytes = limit.payload_bytes
        self._contexts = ContextPolicy(settings)
        self._records = RecordPolicy(settings)
        self._events = PinpointEvents(settings)
        self._app_id = connection.sink.app_id
        account = connection.sink.aws_account_id
        self._account = b"" if account is None else b',"awsAccountId":' + rawjson.quote(account)
        self.version = b"mparticle-%d/%b" % (ENCODER_VERSION, documents.version)
        self.least = documents.least
        self.small_context_bytes = documents.small_context_bytes // _MAX_GROWTH
        self.small_events_bytes = documents.small_events_bytes // _MAX_GROWTH
        self.document = documents.document
        self.recognize = documents.recognize

    def frame(self, context: bytes, dated_ms: int, newest_ms: int) -> Frame:
        """Write what the records of a context have in common, which is in each of its events."""
        came = rawjson.fields(context)
        shown = self._contexts.document_fields(came, dated_ms)
        told = pinpoint_endpoint.read(came, shown, self._app_id, newest_ms)
        app = {"app_id": Raw(told.app)} if told.app else {}
        app |= {name: told.application[name] for name in _APPLICATION if name in told.application}
        parts = device.of_endpoint(told.endpoint[0] + b"}")
        user = partition_key(told.client)
        return RecordFrame(
            user=user,
            tail=b"",
            size=0,
            limit=self._payload_bytes(user),
            arrival=b"%d" % newest_ms,
            middle=b',"event_version":"3.1","application":%b,"client":{%b},"device":%b,"session":'
            % (
                rawjson.encode_object(app),
                b'"client_id":%b' % told.client if told.client else b"",
                parts.device,
            ),
            endpoint=told.endpoint,
            location=told.location,
        )

    def render(self, frame: Frame, event: bytes) -> bytes:
        """Return the record of an event."""
        shared, told = cast("RecordFrame", frame), self._events.read(event)
        metrics = b',"metrics":%b' % told.metrics
        if kinds.is_message(told.kind) and told.metrics == b"{}":
            metrics = b""
        record = (
            b'{"event_type":%b,"event_timestamp":%b,"arrival_timestamp":%b%b%b'
            b',"attributes":%b%b%b%b}'
            % (
                rawjson.quote(told.kind),
                told.time or shared.arrival,
                shared.arrival,
                shared.middle,
                told.session,
                told.attributes,
                metrics,
                _endpoint(shared, told),
                self._account,
            )
        )
        return record if self._records.is_plain else self._records.reduced(record)

    def prune(self, context: bytes, most: int) -> bytes:
        """Return a context without what is large and in no record; what names the device stays."""
        fields = rawjson.fields(context)
        kept = self._contexts.prune(fields, most)
        if kept is fields:
            return context
        named = pinpoint_endpoint.device_ids(fields)
        whole = {name: kept.get(name, named.get(name, ABSENT)) for name in fields}
        return rawjson.encode_exact({k: raw for k, raw in whole.items() if raw is not ABSENT})


def _endpoint(shared: RecordFrame, told: EventRecord) -> bytes:
    """Return the endpoint as a record of this type has it, with the comma before it."""
    (head, tail), location = shared.endpoint, told.location or shared.location
    if location:
        head = b'%b,"Location":%b' % (head, location)
    whole = head + (b"," + tail if tail != b"}" else tail)
    if kinds.is_campaign(told.kind):
        return b',"client_context":{"custom":{"endpoint":%b}}' % rawjson.quote(whole.decode())
    return b',"endpoint":%b' % whole
