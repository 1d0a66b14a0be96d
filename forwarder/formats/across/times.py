"""Times of events, in milliseconds since the epoch, as JSON."""

from msgspec import Raw

from forwarder.formats import rawjson
from forwarder.formats.pinpoint import timestamps

_MAX_CHARACTERS = 18
"""Of a time in milliseconds: what a bigint holds in any case."""


def is_time(value: bytes) -> bool:
    """Tell whether a JSON value may be a time in milliseconds, or how long something took."""
    return len(value) <= _MAX_CHARACTERS and rawjson.is_integer(value)


def read(raw: Raw) -> bytes:
    """Return a time in milliseconds, as it is or written out in ISO 8601; empty: it is neither."""
    value = bytes(raw)
    if value[:1] != b'"':
        return value if is_time(value) else b""
    found = timestamps.milliseconds(rawjson.text_of(value) or "")
    return b"" if found is None else b"%d" % found
