"""Finished records of the stream (3.1), and the envelope of AWS's replacement clients."""

import msgspec
from msgspec import Raw

from forwarder.formats import rawjson
from forwarder.formats.rawjson import ABSENT


def is_finished(fields: dict[str, Raw]) -> bool:
    """Tell whether an object is a finished record, or an envelope."""
    return "event_type" in fields and ("event_version" in fields or "event_timestamp" in fields)


def read(fields: dict[str, Raw], value: bytes) -> tuple[bytes, dict[str, Raw]]:
    """Return the record as it is forwarded, and what stands for its context."""
    told: dict[str, Raw] = {}
    application, client = _object(fields, "application"), _object(fields, "client")
    if "app_id" in application:
        told["ApplicationId"] = application["app_id"]
    if "client_id" in client:
        told["EndpointId"] = client["client_id"]
    if bytes(fields.get("endpoint", ABSENT))[:1] == b"{":
        told["Endpoint"] = fields["endpoint"]
    return value.strip(b" \t\r\n"), told


def one_line(record: bytes) -> bytes:
    """Return a finished record as its own bytes, without line ends between its values."""
    if b"\n" in record or b"\r" in record:
        return msgspec.json.format(record, indent=-1)
    return record


def _object(fields: dict[str, Raw], name: str) -> dict[str, Raw]:
    raw = bytes(fields.get(name, ABSENT))
    return rawjson.fields(raw) if raw[:1] == b"{" else {}
