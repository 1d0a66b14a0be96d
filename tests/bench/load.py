"""Uploads as a mobile SDK sends them: one event in 1 KB, or several in as many times 0.8 KB."""

import json
from collections.abc import Iterable, Iterator

UPLOAD_BYTES = 1024
"""The size of an upload with one event."""

SPAN_MS = 30 * 60_000
"""Record time the load covers: three windows of the default length for every device."""

PACE = 7919
"""How far the device of the next upload is away: a prime, so that neighbours differ."""

Row = tuple[bytes, bytes, int]
"""(key, value, milliseconds from the start)."""


def uploads(count: int, devices: int) -> Iterator[Row]:
    """Yield ``count`` uploads of exactly 1 KB; the devices take turns."""
    chosen = (number * PACE % devices for number in range(count))
    for number, (key, value) in enumerate(written(chosen)):
        yield key, value, SPAN_MS * number // count


def written(
    devices: Iterable[int], events: int = 1, api_keys: int = 1, first: int = 0
) -> Iterator[tuple[bytes, bytes]]:
    """Yield key and value of an upload of each device.

    Each has ``events`` events, and its device's api key of so many. ``first`` is the first
    number: event ids and those of uploads are made of it.
    """
    before, event, after = _template()
    one = events == 1
    for number, device in enumerate(devices, first):
        name = b"%012d" % device
        head = before % (name, name, device % api_keys, number)
        if one:
            yield name, head + event % (number + 10**18, number, number) + after
            continue
        several = [
            event % (each + 10**18, each, each)
            for each in range(number * events, (number + 1) * events)
        ]
        yield name, head + b",".join(several) + after


def _template() -> tuple[bytes, bytes, bytes]:
    """Return what an upload begins with, an event, and what it ends with.

    Places of the first are for device, device, api key and the upload's number; of the second for
    an event's id, its number, its number.
    """
    context = {
        "mpid": "PLACE",
        "mp_deviceid": "9d1f2c3a-5e6f-4a7b-8c9d-PLACE",
        "environment": "production",
        "api_key": "us1-0123456789aPLACE",
        "application_info": {"package": "com.acme.shop", "application_version": "7.4.1"},
        "device_info": {"platform": "iOS", "brand": "iPhone16,2", "os_version": "18.1"},
        "user_attributes": {"plan": "plus", "visits": 12, "newsletter": True},
        "user_identities": {"customer_id": "customer-1", "email": "user@example.com"},
        "source_request_id": "0b6b1d0e-3f0c-4a57-9f0e-PLACE",
        "schema_version": 2,
        "events": ["PLACE"],
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
    # A number has no quotation marks, and no zeros in front.
    first, second, key, request, third, end = _dumped(context).split("PLACE")
    before = f"{first[:-1]}1%b{second[1:]}%b{key}%04d{request}%012d{third[:-1]}".encode()
    fourth, fifth, sixth, rest = _dumped(event).split("PLACE")
    each = f"{fourth[:-1]}%d{fifth[1:]}%012d{sixth}1%08d{rest}".encode()
    after = end[1:].encode()
    name = b"0" * 12
    filled = len(before % (name, name, 0, 0)) + len(each % (10**18, 0, 0)) + len(after)
    return before, each.replace(b'"pad":"', b'"pad":"' + b"x" * (UPLOAD_BYTES - filled)), after


def _dumped(content: object) -> str:
    return json.dumps(content, separators=(",", ":"))
