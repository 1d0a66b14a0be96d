"""Say what an object that is no record of Pinpoint's probably is, never quoting its values."""

from collections.abc import Mapping

from msgspec import Raw

from forwarder.formats import rawjson
from forwarder.formats.contract import Unlike
from forwarder.formats.rawjson import ShapeError

ONLY_RECORDS = frozenset({"EndpointId", "ArrivalTimestamp"})
"""Keys that only a gateway's record has: one of them stands for ``Events`` that are absent."""


def check_without_events(fields: Mapping[str, Raw], raw: bytes) -> None:
    """Raise ShapeError unless this can be a record without events; ``raw``: what ``Events`` is."""
    if raw not in {b"", rawjson.NULL}:
        message = "`Events` is not an array"
        raise ShapeError(message)
    if ONLY_RECORDS.isdisjoint(fields):
        raise ShapeError(likely_cause(fields).what)


def likely_cause(fields: Mapping[str, Raw]) -> Unlike:
    """Return what an object is that is neither a gateway's record nor a finished one."""
    if "BatchItem" in fields or "EventsRequest" in fields:
        what = "looks like the body of a PutEvents request"
        return Unlike(
            what, ": send it to a gateway (POST /v1/apps/APP/events), which writes records"
        )
    if "EventType" in fields:
        what = "looks like an event of PutEvents without its endpoint"
        return Unlike(what, ": send it to a gateway in a PutEvents request")
    if "events" in fields or "mpid" in fields or "mp_deviceid" in fields:
        what = "looks like an upload of mParticle"
        return Unlike(what, ": read it with format: mparticle")
    return Unlike("an object without `Events` or `event_type`")
