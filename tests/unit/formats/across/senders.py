"""What Pinpoint's and mParticle's clients send, as plain values; and what is made of it."""

from typing import Any

import msgspec

from forwarder.config.connection import Connection, Settings
from forwarder.config.targets import FileTarget
from forwarder.formats.across.to_mparticle import MParticleFromPinpoint
from forwarder.formats.across.to_pinpoint import PinpointFromMParticle
from forwarder.formats.contract import DocumentMaker
from tests import oracle
from tests.builders import START

Json = dict[str, Any]

SESSION: Json = {
    "Id": "4f1c0b62-9a7d-4d55-8d7c-1f1c1d6b3a10",
    "StartTimestamp": "2023-11-14T22:13:00.250Z",
    "StopTimestamp": "2023-11-14T22:14:00.500+0100",
    "Duration": oracle.Number("60250"),
}
PHONE: Json = {
    "ApplicationId": "a1b2c3",
    "EndpointId": "e-1",
    "ArrivalTimestamp": oracle.Number("1700000000123"),
    "Endpoint": {
        "ChannelType": "GCM",
        "Address": "token-1",
        "EndpointStatus": "ACTIVE",
        "OptOut": "NONE",
        "RequestId": "r-1",
        "EffectiveDate": "2023-11-14T22:13:20.000Z",
        "Attributes": {"color": ["red"], "sizes": ["s", 'm"']},
        "Metrics": {"score": oracle.Number("1.50"), "large": oracle.Number("9007199254740993")},
        "Demographic": {
            "AppVersion": "1.2",
            "Locale": "en_US",
            "Make": "Google",
            "Model": "Pixel 9",
            "ModelVersion": "3",
            "Platform": "ANDROID",
            "PlatformVersion": "14",
            "Timezone": "Europe/Berlin",
        },
        "Location": {
            "City": "Zürich",
            "Country": "CHE",
            "Latitude": oracle.Number("47.37690000000000001"),
            "Longitude": oracle.Number("8.5"),
            "PostalCode": "8001",
            "Region": "ZH",
        },
        "User": {"UserId": "user-7", "UserAttributes": {"plan": ["gold"], "tags": ["a", "b"]}},
        "ApplicationId": "a1b2c3",
        "Id": "e-1",
        "CohortId": "39",
        "CreationDate": "2023-11-14T22:13:20.000Z",
    },
    "Application": {
        "AppPackageName": "com.acme.shop",
        "AppTitle": "Shop",
        "AppVersionCode": "42",
        "SdkName": "aws-sdk-android",
        "ClientSdkVersion": "2.75",
    },
}
BARE: Json = {"ApplicationId": "a1b2c3", "EndpointId": "e-2", "Endpoint": {}}
READER: Json = {
    "ApplicationId": "a1b2c3",
    "EndpointId": "é-3",
    "Endpoint": {"ChannelType": "EMAIL", "Address": "ann@example.com", "Demographic": {}},
}


def sent(kind: str, number: int = 1, **members: object) -> Json:
    """Return an event as a gateway writes it."""
    time = "2023-11-14T22:13:20.123456Z"
    return {"EventId": f"ev-{number}", "EventType": kind, "Timestamp": time, **members}


def told(kind: str, **data: object) -> Json:
    """Return an event as an SDK of mParticle writes it."""
    return {"data": data, "event_type": kind}


def written(value: object) -> bytes:
    """Return JSON whose numbers are the text they were given as."""
    return oracle.compact(value).encode()


def from_pinpoint(**settings: object) -> MParticleFromPinpoint:
    """Return what makes mParticle's documents for a connection with these settings."""
    chosen = Connection("lane", FileTarget("out"), settings=Settings(**settings))  # type: ignore[arg-type]
    return MParticleFromPinpoint(chosen, chosen.sink.record_limit)


def from_mparticle(sink: Json | None = None, **settings: object) -> PinpointFromMParticle:
    """Return what makes records for a connection with these settings."""
    chosen = to_stream(sink, **settings)
    return PinpointFromMParticle(chosen, chosen.sink.record_limit)


def to_stream(sink: Json | None = None, **settings: object) -> Connection:
    """Return a connection that wants records of Pinpoint's."""
    target = FileTarget("out", format="pinpoint", **(sink or {}))
    return Connection("lane", target, settings=Settings(**settings))  # type: ignore[arg-type]


def rendered(maker: DocumentMaker, context: object, *events: object) -> list[Any]:
    """Return events as a document of this context has them, exactly."""
    assert maker.render is not None
    frame = maker.frame(written(context), START, START)
    return [oracle.exact(maker.render(frame, written(event))) for event in events]


def objects(document: bytes) -> list[bytes]:
    """Return the events of a document of mParticle's, byte for byte."""
    raw = msgspec.json.decode(document, type=dict[str, msgspec.Raw])["events"]
    return [bytes(one) for one in msgspec.json.decode(raw, type=list[msgspec.Raw])]
