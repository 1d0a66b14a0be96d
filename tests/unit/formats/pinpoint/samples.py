"""Records of Pinpoint for tests: what a gateway writes, finished records, and envelopes."""

import json
from typing import Any

from tests.builders import START

Json = dict[str, Any]

EVENT: Json = {
    "EventId": "i-1",
    "EventType": "_monetization.purchase",
    "Timestamp": "2026-10-01T12:00:00.123456Z",
    "AppPackageName": "com.acme.shop",
    "AppTitle": "Shop",
    "AppVersionCode": "7",
    "SdkName": "amplify",
    "ClientSdkVersion": "6.1",
    "Attributes": {"_product_id": "p-1", "n": 7},
    "Metrics": {"_item_price": 1.50, "_quantity": 2},
    "Session": {"Id": "s-1", "StartTimestamp": "2026-10-01T11:59:00Z"},
}
ENDPOINT: Json = {
    "Address": "5f2b0c",
    "ChannelType": "APNS",
    "Demographic": {"AppVersion": "1.2", "Locale": "en_us", "Make": "Apple", "Platform": "ios"},
    "Location": {"City": "Wien", "Latitude": 48.2},
    "User": {"UserId": "u-1", "UserAttributes": {"plan": ["gold"]}},
}
FINISHED: Json = {
    "event_type": "_campaign.send",
    "event_timestamp": 1_790_856_000_123,
    "arrival_timestamp": 1_790_856_000_500,
    "event_version": "3.1",
    "application": {"app_id": "a1", "sdk": {}},
    "client": {"client_id": "e-1"},
    "device": {"platform": {"name": "ios"}},
    "session": {},
    "attributes": {"campaign_id": "c-1"},
    "client_context": {"custom": {"endpoint": json.dumps(ENDPOINT, separators=(",", ":"))}},
    "awsAccountId": "111122223333",
}
ENVELOPE: Json = {
    "event_type": "_session.stop",
    "event_timestamp": "2026-10-01T12:00:00.5Z",
    "arrival_timestamp": "2026-10-01T12:00:01Z",
    "event_version": "3.1",
    "application": {"app_id": "a1", "version_name": "1.2", "sdk": {"name": "n"}},
    "client": {"client_id": "e-1", "user_id": "u-1"},
    "device": {"locale": {"code": "en-US"}, "make": "Apple", "platform": {"name": "iOS"}},
    "session": {
        "id": "s-1",
        "start_timestamp": "2026-10-01T11:00:00Z",
        "stop_timestamp": "2026-10-01T12:00:00Z",
        "duration": 3_600_000,
    },
    "awsAccountId": "111122223333",
}


def compact(content: object) -> bytes:
    """Return JSON as a gateway writes it."""
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode(
        errors="backslashreplace"
    )


def event(kind: str = "tap", **further: Any) -> Json:  # noqa: ANN401
    """Return an event of this type."""
    return {"EventId": "i-1", "EventType": kind, "Timestamp": "2026-10-01T12:00:00Z", **further}


def record(*events: object, **further: Any) -> bytes:  # noqa: ANN401
    """Return a gateway's record; ``further`` members replace its own, None leaves them out."""
    content = {
        "ApplicationId": "a1",
        "EndpointId": "e-1",
        "ArrivalTimestamp": START,
        "Endpoint": ENDPOINT,
        "Events": [*events],
        **further,
    }
    return compact({key: value for key, value in content.items() if value is not None})
