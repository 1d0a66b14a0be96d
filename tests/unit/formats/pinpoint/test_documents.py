"""What a gateway's record becomes in the event stream, byte for byte."""

import json
from typing import Any

from forwarder.collect.pipeline import Pipeline, compile_lanes
from forwarder.config.connection import Connection, Settings
from forwarder.config.targets import FileTarget
from forwarder.formats.registry import BUILT_IN
from forwarder.model import Collected, Partition, Reason
from tests.builders import NOW, START, Rec, finished, merged

EVENT = {
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
ENDPOINT = {
    "ChannelType": "APNS",
    "Demographic": {"AppVersion": "1.2", "Locale": "en_us", "Make": "Apple", "Platform": "ios"},
    "User": {"UserId": "u-1"},
}


def record(*events: dict[str, Any]) -> bytes:
    """Return a gateway's record."""
    content = {
        "ApplicationId": "a1",
        "EndpointId": "e-1",
        "ArrivalTimestamp": START,
        "Endpoint": ENDPOINT,
        "Events": events,
    }
    return json.dumps(content, separators=(",", ":")).encode()


def collected(*values: bytes, account: str | None = None, **settings: Any) -> Collected:  # noqa: ANN401
    """Return what comes of records in a connection of format pinpoint."""
    sink = FileTarget("out", format="pinpoint", aws_account_id=account)
    made = Connection("lane", sink, settings=Settings(**settings))
    fed = Pipeline(Partition("events", 0), compile_lanes([made], "pinpoint", BUILT_IN))
    records = [Rec(at, START, value) for at, value in enumerate(values)]
    return merged([fed.collect(records, NOW), *finished(fed)])


def test_an_event_is_a_record_of_its_own() -> None:
    out = collected(record(EVENT), account="111122223333")
    assert [] == out.dead_letters
    (batch,) = out.batches
    assert batch.payload == (
        b'{"event_type":"_monetization.purchase","event_timestamp":1790856000123,'
        b'"arrival_timestamp":%d,"event_version":"3.1","application":{"app_id":"a1",'
        b'"package_name":"com.acme.shop","sdk":{"name":"amplify","version":"6.1"},"title":"Shop",'
        b'"version_name":"1.2","version_code":"7"},"client":{"client_id":"e-1"},"device":{"locale":'
        b'{"code":"en_us","country":"US","language":"en"},"make":"Apple","platform":{"name":"ios"}},'
        b'"session":{"session_id":"s-1","start_timestamp":1790855940000},"attributes":'
        b'{"_product_id":"p-1","n":"7"},"metrics":{"_item_price":1.5,"_quantity":2},"endpoint":%b,'
        b'"awsAccountId":"111122223333"}'
    ) % (START, json.dumps(ENDPOINT, separators=(",", ":")).encode())
    assert "e-1" == batch.mpid


def test_a_finished_record_is_forwarded_as_its_own_bytes() -> None:
    (first,) = collected(record(EVENT)).batches
    (again,) = collected(first.payload).batches
    assert first.payload == again.payload


def test_an_event_that_cannot_be_written_is_a_letter_of_its_own() -> None:
    odd = {**EVENT, "Metrics": {"x": "much"}}
    out = collected(record(EVENT, odd, EVENT))
    assert 2 == len(out.batches)
    (letter,) = out.dead_letters
    assert (Reason.NOT_ENCODABLE, 1) == (letter.reason, letter.events)
    assert json.loads(letter.value)["Events"] == [odd]
