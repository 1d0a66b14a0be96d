"""Documents of Pinpoint's event stream: one record, version 3.1, for each event.

The order of the keys is that of delivered records; what an event or its endpoint does not tell has
no key, and an object that nothing is told of is empty. docs/pinpoint-format.md has the table.
"""

from forwarder.config.connection import Connection
from forwarder.config.targets import RecordLimit
from forwarder.formats import rawjson
from forwarder.formats.contract import MAX_USER_CHARACTERS, Frame, Recognized
from forwarder.formats.ids import BatchIds, digest, uuid_of
from forwarder.formats.pinpoint import device, finished, kinds, stream_fields
from forwarder.formats.pinpoint.policy import RecordPolicy
from forwarder.formats.rawjson import ABSENT

ENCODER_VERSION = b"pinpoint-1"
"""Changes whenever the same events would give other bytes."""


class StreamFrame(Frame, frozen=True, gc=False):
    """What the records of one endpoint have in common, as they are written.

    ``arrival`` is when they came, in milliseconds, ``middle`` from there to the app's id,
    ``app_version`` its ``version_name``, ``device`` from the client to the device. ``endpoint`` and
    ``custom`` are the two forms in which records say what the endpoint is.
    """

    arrival: bytes
    middle: bytes
    app_version: bytes
    device: bytes
    endpoint: bytes
    custom: bytes


class PinpointDocuments:
    """Makes the records of one connection of Pinpoint's uploads: ``contract.DocumentMaker``."""

    version = ENCODER_VERSION

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
        fields = rawjson.fields(context)
        endpoint = stream_fields.compact(bytes(fields.get("Endpoint", ABSENT)))
        told = device.of_endpoint(endpoint)
        app = bytes(fields.get("ApplicationId", ABSENT))
        client = bytes(fields.get("EndpointId", ABSENT))
        arrival = bytes(fields.get("ArrivalTimestamp", ABSENT))
        arrival = arrival if rawjson.is_integer(arrival) else b"%d" % newest_ms
        user = partition_key(client)
        start = b',"event_version":"3.1","application":{'
        return StreamFrame(
            user=user,
            tail=b"",
            size=0,
            limit=self._payload_bytes(user),
            arrival=arrival,
            middle=b'%b"app_id":%b,' % (start, app) if app else start,
            app_version=told.app_version,
            device=b'},"client":{%b},"device":%b,"session":'
            % (b'"client_id":%b' % client if client else b"", told.device),
            endpoint=b',"endpoint":%b' % endpoint if endpoint else b"",
            custom=_custom(endpoint),
        )

    def render(self, frame: Frame, event: bytes) -> bytes:
        """Return the record of an event; raises what an odd one raises."""
        told = stream_fields.read_event(event)
        if not told.EventType and told.event_type is not ABSENT:
            record = finished.one_line(event)
        elif isinstance(frame, StreamFrame):
            record = self._record(frame, told)
        else:
            raise TypeError
        return record if self._policy.is_plain else self._policy.reduced(record)

    def document(self, frame: Frame, events: bytes, ids: BatchIds) -> bytes:  # noqa: ARG002
        """Return the record, which is all of its document; it holds no id."""
        return events

    def prune(self, context: bytes, most: int) -> bytes:
        """Return a context without members that are in no record."""
        fields = rawjson.fields(context)
        kept = {key: raw for key, raw in fields.items() if key in stream_fields.CONTEXT_KEYS}
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
        kind = told.EventType
        time = stream_fields.time_of(told.Timestamp)
        metrics = stream_fields.metrics(told.Metrics)
        rest = frame.endpoint
        if kinds.is_message(kind):
            # Records of campaigns, journeys, e-mail and SMS have no metrics where none are told.
            metrics = b"" if metrics == b',"metrics":{}' else metrics
            rest = frame.custom if kinds.is_campaign(kind) else b""
        return b'{"event_type":%b,"event_timestamp":%b,"arrival_timestamp":%b%b%b%b%b%b%b%b%b}' % (
            rawjson.quote(kind),
            frame.arrival if time is None else b"%d" % time,
            frame.arrival,
            frame.middle,
            stream_fields.application(told, frame.app_version),
            frame.device,
            stream_fields.session(told.Session),
            stream_fields.attributes(told.Attributes),
            metrics,
            rest,
            self._account,
        )


def _custom(endpoint: bytes) -> bytes:
    """Return how records of campaigns and journeys say what the endpoint is."""
    if not endpoint:
        return b""
    return b',"client_context":{"custom":{"endpoint":%b}}' % rawjson.quote(endpoint.decode())


def partition_key(endpoint_id: bytes) -> str:
    """Return an endpoint's id by which a stream may choose the shard; empty: none can.

    Sinks take no key that is longer than ``MAX_USER_CHARACTERS`` or no UTF-8.
    """
    text = rawjson.text_of(endpoint_id) or ""
    if len(text) > MAX_USER_CHARACTERS:
        return ""
    return text if text.isascii() or not any("\ud800" <= c <= "\udfff" for c in text) else ""
