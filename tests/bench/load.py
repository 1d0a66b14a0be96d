"""One-event uploads of 1 KB, as a mobile SDK sends them."""

import json
from collections.abc import Iterator

UPLOAD_BYTES = 1024

SPAN_MS = 30 * 60_000
"""Record time the load covers: three windows of the default length for every device."""

Row = tuple[bytes, bytes, int]
"""(key, value, milliseconds from the start)."""


def uploads(count: int, devices: int) -> Iterator[Row]:
    """Yield ``count`` uploads of exactly 1 KB; the devices take turns."""
    before, after = _template()
    for number in range(count):
        device = number * 7919 % devices  # a prime, so that neighbours differ
        name = b"%012d" % device
        value = before % (name, name, number, number + 10**18) + after % (number, number)
        yield name, value, SPAN_MS * number // count


def _template() -> tuple[bytes, bytes]:
    """Return the two halves of an upload, with places for device, device, its number."""
    context = {
        "mpid": "PLACE",
        "mp_deviceid": "9d1f2c3a-5e6f-4a7b-8c9d-PLACE",
        "environment": "production",
        "api_key": "us1-0123456789abcdef",
        "application_info": {"package": "com.acme.shop", "application_version": "7.4.1"},
        "device_info": {"platform": "iOS", "brand": "iPhone16,2", "os_version": "18.1"},
        "user_attributes": {"plan": "plus", "visits": 12, "newsletter": True},
        "user_identities": {"customer_id": "customer-1", "email": "user@example.com"},
        "source_request_id": "0b6b1d0e-3f0c-4a57-9f0e-PLACE",
        "schema_version": 2,
    }
    event = {
        "event_type": "custom_event",
        "data": {
            "event_id": "PLACE",
            "source_message_id": "7a1f4d2c-0000-4000-8000-PLACE",
            "session_id": -4512374659812374651,
            "session_uuid": "5c1d8c1e-7a40-4a1b-9a55-0f4be0f5a2d0",
            "timestamp_unixtime_ms": 1_700_000_000_000,
            "event_name": "Add Filter",
            "custom_event_type": "navigation",
            "custom_attributes": {"screen": "Home", "position": "PLACE", "pad": ""},
        },
    }
    text = json.dumps({**context, "events": [event]}, separators=(",", ":"))
    first, second, request, third, fourth, fifth, rest = text.split("PLACE")
    # A number has no quotation marks, and no zeros in front.
    before = f"{first[:-1]}1%b{second[1:]}%b{request}%012d{third[:-1]}".encode()
    after = f"{fourth[1:]}%012d{fifth[:-1]}1%08d{rest[1:]}".encode()
    filled = len(before % (b"0" * 12, b"0" * 12, 0)) + len(b"%019d" % 0) + len(after % (0, 0))
    return before + b"%d", after.replace(b'"pad":"', b'"pad":"' + b"x" * (UPLOAD_BYTES - filled))
