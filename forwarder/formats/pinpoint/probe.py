"""What an operator's command puts into an event stream to see whether it can."""

import orjson

from forwarder.config.connection import Connection
from forwarder.formats.pinpoint import kinds
from forwarder.formats.pinpoint.document import PinpointDocuments

APP = "forwarder-doctor"
"""Stands for the app where the sink names none."""


def probe_document(connection: Connection, name: str, now_ms: int, _: str) -> bytes:
    """Return the event that Pinpoint wrote when a stream was set up, which readers leave out."""
    maker = PinpointDocuments(connection, connection.sink.record_limit)
    app = connection.sink.app_id or APP
    told = {"ApplicationId": app, "EndpointId": name, "ArrivalTimestamp": now_ms}
    frame = maker.frame(orjson.dumps(told), now_ms, now_ms)
    # Without a time of its own an event is of its arrival.
    return maker.render(frame, orjson.dumps({"EventType": kinds.TEST_EVENT}))
