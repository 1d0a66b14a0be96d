"""Say what an object that is no upload probably is, in words that never quote its values."""

from collections.abc import Mapping

from msgspec import Raw

ONLY_UPLOADS = frozenset({
    "mpid", "mp_deviceid", "user_identities", "user_attributes", "deleted_user_attributes",
    "device_info", "application_info", "consent_state", "source_request_id",
})  # fmt: skip
"""Keys that only an upload has: one of them stands for ``events`` that are absent or null."""

WRAPPERS = ("batch", "payload", "message")
"""Beside an object under one of these, and without events, nothing is an upload."""

_PRODUCTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Segment", ("type", "userId")),
    ("Segment", ("type", "anonymousId")),
    ("Segment", ("type", "messageId")),
    ("CloudEvents", ("specversion", "type", "source")),
    ("Mixpanel", ("event", "properties")),
    ("Amplitude", ("event_type", "event_properties")),
    ("Amplitude", ("event_type", "user_id")),
    ("Amplitude", ("event_type", "device_id")),
    ("Google Analytics", ("event_name", "event_params")),
    ("Debezium", ("before", "after", "op")),
    ("Snowplow", ("schema", "data")),
    ("Amazon Pinpoint", ("EndpointId", "Events")),
    ("Amazon Pinpoint", ("event_type", "event_timestamp", "event_version")),
)
"""Keys by which another product's event is known, by its public documentation."""


def is_wrapped(fields: Mapping[str, Raw]) -> str:
    """Return the key under which an object stands that may hold an upload; empty: none."""
    return next((key for key in WRAPPERS if bytes(fields.get(key, b""))[:1] == b"{"), "")


def likely_cause(fields: Mapping[str, Raw]) -> str:
    """Return why an object without events is no upload."""
    if wrapper := is_wrapped(fields):
        return f"looks like an upload wrapped in `{wrapper}`: send what is inside"
    for key in WRAPPERS:
        if bytes(fields.get(key, b""))[:1] == b"[":
            return f"looks like uploads or events wrapped in `{key}`: send them one by one"
    for product, keys in _PRODUCTS:
        if all(key in fields for key in keys):
            return f"looks like another product's event ({product}: {', '.join(keys)})"
    if "event_type" in fields or "event_name" in fields:
        return "looks like a bare event, not an upload"
    return "an object without `events` or any key that only an upload has (mpid, device_info, …)"
