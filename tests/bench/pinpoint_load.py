"""One-event records of 1 KB, as a gateway writes what a mobile SDK sends."""

import json
from collections.abc import Iterable, Iterator

from tests.bench.load import PACE, SPAN_MS, UPLOAD_BYTES, Row


def records(count: int, devices: int) -> Iterator[Row]:
    """Yield ``count`` records of exactly 1 KB; the devices take turns as those of uploads do."""
    chosen = (number * PACE % devices for number in range(count))
    for number, (key, value) in enumerate(written(chosen)):
        yield key, value, SPAN_MS * number // count


def written(devices: Iterable[int], first: int = 0) -> Iterator[tuple[bytes, bytes]]:
    """Yield key and value of a record of each device; ``first`` is the first event's number."""
    before, after = _template()
    for number, device in enumerate(devices, first):
        name = b"%012d" % device
        yield b"a1b2c3/" + name, before % (name, name, name, number) + after % number


def _template() -> tuple[bytes, bytes]:
    """Return the two halves of a record, with places for endpoint (three), event, and number."""
    endpoint = {
        "Address": "5f2b0c7d5e9d1f2c3a5e6f4a7b8c9d",
        "ChannelType": "APNS",
        "Demographic": {
            "AppVersion": "7.4.1",
            "Locale": "en_US",
            "Make": "Apple",
            "Model": "iPhone16,2",
            "Platform": "iOS",
            "PlatformVersion": "18.1",
        },
        "EffectiveDate": "2023-11-14T22:13:20.000Z",
        "OptOut": "NONE",
        "User": {"UserId": "customer-PLACE", "UserAttributes": {"plan": ["plus"]}},
        "ApplicationId": "a1b2c3",
        "Id": "PLACE",
        "CohortId": "42",
        "CreationDate": "2023-11-14T22:13:20.000Z",
    }
    record = {
        "ApplicationId": "a1b2c3",
        "EndpointId": "PLACE",
        "ArrivalTimestamp": 1_700_000_000_000,
        "Endpoint": endpoint,
    }
    event = {
        "EventId": "7a1f4d2c-0000-4000-8000-PLACE",
        "EventType": "add_filter",
        "Timestamp": "2023-11-14T22:13:20.123Z",
        "AppPackageName": "com.acme.shop",
        "SdkName": "aws-sdk-ios",
        "Session": {"Id": "5c1d8c1e-PLAIN", "StartTimestamp": "2023-11-14T22:00:00.000Z"},
        "Attributes": {"screen": "Home", "position": "PLACE", "pad": ""},
        "Metrics": {"items": 3},
    }
    text = json.dumps({**record, "Events": [event]}, separators=(",", ":"))
    first, second, third, fourth, fifth, rest = text.split("PLACE")
    before = f"{first}%b{second}%b{third}%b{fourth}%012d".encode()
    after = f"{fifth}%08d{rest}".encode()
    filled = len(before % (b"0" * 12, b"0" * 12, b"0" * 12, 0)) + len(after % 0)
    return before, after.replace(b'"pad":"', b'"pad":"' + b"x" * (UPLOAD_BYTES - filled))
