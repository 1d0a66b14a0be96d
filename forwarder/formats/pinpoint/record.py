"""The record of a topic with ``format: pinpoint``, as a gateway writes it.

One endpoint of one app, as it is once the request's update is merged, and events of it in order::

    {"ApplicationId":"a1b2c3","EndpointId":"e-1","ArrivalTimestamp":1700000000000,
     "Endpoint":{…},"Events":[{"EventId":"…","EventType":"_session.start","Timestamp":"…",…},…]}

``Endpoint`` is an EndpointResponse of the service model (server keys included), an event what the
client sent with its id, the key of its map, in front. The Kafka key is ``record_key``.
"""

from collections.abc import Sequence

import orjson

from forwarder.formats import rawjson


def record_key(app: str, endpoint: str) -> bytes:
    """Return the Kafka key of an endpoint's records: one partition, so one order."""
    return f"{app}/{endpoint}".encode()


def encode_event(event_id: str, event: bytes) -> bytes:
    """Return an event with its id in front; ``event`` is a JSON object without white space ahead.

    What the client may have named ``EventId`` itself comes behind and is not read.
    """
    rest = event[1:].lstrip()
    comma = b"" if rest[:1] == b"}" else b","
    return b'{"EventId":%b%b%b' % (rawjson.quote(event_id), comma, rest)


def encode_record(
    app: str, endpoint_id: str, arrival_ms: int, endpoint: bytes, events: Sequence[bytes]
) -> bytes:
    """Return a record's value; ``endpoint``: a JSON object, ``events``: of ``encode_event``."""
    head = b'{"ApplicationId":%b,"EndpointId":%b,"ArrivalTimestamp":%d,"Endpoint":%b,"Events":[' % (
        orjson.dumps(app),
        orjson.dumps(endpoint_id),
        arrival_ms,
        endpoint,
    )
    return b"%b%b]}" % (head, b",".join(events))
