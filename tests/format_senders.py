"""Who writes uploads of each format and reads its documents, by other means than the format itself.

A new format joins the contract suite (``tests/contract/test_formats.py``) by a line in ``SENDERS``.
"""

import json
import zlib
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from forwarder.collect.pipeline import Pipeline, compile_lanes
from forwarder.config.connection import Connection, Settings
from forwarder.config.targets import FileTarget, KinesisTarget
from forwarder.formats.contract import (
    Decoder,
    DocumentFormat,
    DocumentMaker,
    InputFormat,
    Reject,
    Upload,
)
from forwarder.formats.registry import BUILT_IN, MPARTICLE, PINPOINT
from forwarder.model import Batch, Partition
from tests import toy_format
from tests.builders import NOW, START, Rec, finished, merged

PARTITION = Partition("raw-events", 3)
DROPPING: dict[str, Any] = {"send_screen_views": False}


class Sender(Protocol):
    """Writes and reads a format from outside, by other means than the format itself.

    ``view`` is the type of event that ``send_screen_views`` governs, ``broken`` are values that
    are no uploads, ``foreign`` lines of a file that look like something else, ``api_keys`` those of
    its uploads. ``accumulates``: a window gathers the tags of its uploads.
    """

    form: InputFormat
    documents: DocumentFormat
    view: str
    broken: Sequence[bytes]
    foreign: Sequence[bytes]
    api_keys: Sequence[str]
    accumulates: bool

    def event(self, number: int, kind: str = "tap", session: str = "") -> bytes:
        """Return an event as it is sent."""

    def record(self, *events: bytes, device: str = "d1", user: str = "u1", tag: str = "") -> bytes:
        """Return an upload of application ``shop``, platform ``ios``, API key ``k1``.

        ``tag`` is something that accumulates. Its own time is ``START``. Whatever names an event if
        it comes again is in it, and equal for equal arguments.
        """

    def read(self, document: bytes) -> tuple[str, list[bytes], list[str]]:
        """Return a document's id, its events as they were sent, and what has accumulated.

        No id: documents have none.
        """


class MParticleSender:
    """Writes JSON by hand."""

    form: InputFormat = MPARTICLE
    documents: DocumentFormat = BUILT_IN.documents["mparticle", "mparticle"]
    view = "screen_view"
    api_keys: Sequence[str] = ("k1",)
    accumulates = True
    broken: Sequence[bytes] = (
        b"",
        b"[]",
        b"17",
        b'{"events":[1]}',
        b'{"events":[',
        b"\xff",
        b'{"type":1}',
    )
    foreign: Sequence[bytes] = (b'{"type":"track","userId":"u"}', b'{"batch":{"events":[]}}')

    def event(self, number: int, kind: str = "tap", session: str = "") -> bytes:
        data = b'{"n":%d, "session_uuid":"%b"}' % (number, session.encode())
        return b'{"event_type":"%b","data":%b}' % (kind.encode(), data)

    def record(self, *events: bytes, device: str = "d1", user: str = "u1", tag: str = "") -> bytes:
        content: dict[str, Any] = {
            "mp_deviceid": device,
            "user_identities": {"customer_id": user},
            "application_info": {"package": "shop"},
            "device_info": {"platform": "iOS"},
            "api_key": "k1",
            "source_request_id": f"r{zlib.crc32(b','.join(events))}",
            "timestamp_unixtime_ms": START,
        }
        if tag:
            content["system_notifications"] = [tag]
        return b'{"events":[%b],%b' % (b",".join(events), json.dumps(content).encode()[1:])

    def read(self, document: bytes) -> tuple[str, list[bytes], list[str]]:
        content = json.loads(document)
        events = msgspec.json.decode(document, type=dict[str, msgspec.Raw])["events"]
        raw = msgspec.json.decode(events, type=list[msgspec.Raw])
        return content["message_id"], [*map(bytes, raw)], content["system_notifications"]


class ToySender:
    """Writes columns by hand."""

    form: InputFormat = toy_format.TOY
    documents: DocumentFormat = toy_format.ToyDocuments
    view = toy_format.VIEW
    api_keys: Sequence[str] = ("k1",)
    accumulates = True
    broken: Sequence[bytes] = (
        b"",
        b"a\tb",
        b"\xff",
        b"d\tu\tshop\tios\tk\t5\t\t{",
        b"d\tu\tshop\tios\tk\t5\t\t7",
    )
    foreign: Sequence[bytes] = (b"d,u,shop,ios", b'{"device":"d"}')

    def event(self, number: int, kind: str = "tap", session: str = "") -> bytes:
        visit = b', "visit":"%b"' % session.encode() if session else b""
        return b'{"n":%d,"id":%d,"kind":"%b"%b}' % (number, number, kind.encode(), visit)

    def record(self, *events: bytes, device: str = "d1", user: str = "u1", tag: str = "") -> bytes:
        header = f"{device}\t{user}\tshop\tios\tk1\t{START}\t{tag}".encode()
        return b"\t".join([header, *events])

    def read(self, document: bytes) -> tuple[str, list[bytes], list[str]]:
        head, header, events = document.split(b"\t")
        raw = msgspec.json.decode(events, type=list[msgspec.Raw])
        return head[:36].decode(), [*map(bytes, raw)], header.decode().split(" ", 6)[6].split()


class PinpointSender:
    """Writes records as a gateway does, by hand; their documents are the stream's records."""

    form: InputFormat = PINPOINT
    documents: DocumentFormat = BUILT_IN.documents["pinpoint", "pinpoint"]
    view = "pageView"
    api_keys: Sequence[str] = ()
    accumulates = False
    broken: Sequence[bytes] = (
        b"",
        b"[]",
        b"17",
        b'{"EndpointId":"e","Events":[1]}',
        b'{"EndpointId":"e","Events":{}}',
        b'{"Events":[',
        b"\xff",
        b'{"type":1}',
    )
    foreign: Sequence[bytes] = (
        b'{"BatchItem":{}}',
        b'{"EventType":"a","Timestamp":"2026-01-01T00:00:00Z"}',
        b'{"events":[],"mpid":1}',
    )

    def event(self, number: int, kind: str = "tap", session: str = "") -> bytes:
        told: dict[str, Any] = {
            "EventId": f"i{number}",
            "EventType": kind,
            "Timestamp": "2026-10-01T12:00:00.000Z",
            "AppPackageName": "shop",
            "Attributes": {"n": str(number)},
        }
        if session:
            told["Session"] = {"Id": session, "StartTimestamp": "2026-10-01T12:00:00Z"}
        return json.dumps(told).encode()

    def record(self, *events: bytes, device: str = "d1", user: str = "u1", tag: str = "") -> bytes:
        content: dict[str, Any] = {
            "ApplicationId": "a1b2c3",
            "EndpointId": device,
            "ArrivalTimestamp": START,
            "Endpoint": {"Demographic": {"Platform": "iOS"}, "User": {"UserId": user}},
        }
        if tag:
            content["Endpoint"]["Attributes"] = {"tags": [tag]}
        return b'%b,"Events":[%b]}' % (json.dumps(content).encode()[:-1], b",".join(events))

    def read(self, document: bytes) -> tuple[str, list[bytes], list[str]]:
        content = json.loads(document)
        number, session = int(content["attributes"]["n"]), content["session"].get("session_id", "")
        event = self.event(number, content["event_type"], session)
        return "", [event], content["endpoint"].get("Attributes", {}).get("tags", [])


SENDERS: dict[str, Sender] = {
    "mparticle": MParticleSender(),
    "pinpoint": PinpointSender(),
    "toy": ToySender(),
}


def connection(sender: Sender, limit: int = 0, **further: Any) -> Connection:  # noqa: ANN401
    """Return a connection that writes the sender's format, with records of at most ``limit``."""
    name = sender.form.name
    sink = FileTarget("out", format=name)
    if limit:
        sink = KinesisTarget("s", "us-east-1", max_record_bytes=limit, format=name)  # type: ignore[assignment]
    chosen = {key: further.pop(key) for key in ("match", "batching") if key in further}
    return Connection("lane", sink, settings=Settings(**further), **chosen)


def decoder(
    sender: Sender,
    *,
    sessions: bool = True,
    duplicates: bool = False,
    **further: Any,  # noqa: ANN401
) -> Decoder:
    """Return a decoder for a lane with these settings."""
    made = sender.form.event_filter("lane", Settings(**further))
    return sender.form.decoder(PARTITION, [made], sessions=sessions, duplicates=duplicates)


def decoded(sender: Sender, value: bytes, offset: int = 7, *, sessions: bool = True) -> Upload:
    """Return the one upload of a value."""
    found = decoder(sender, sessions=sessions).decode(value, offset, START, START)
    assert not isinstance(found, Reject)
    (upload,) = found
    return upload


def maker(sender: Sender, limit: int = 0, **further: Any) -> DocumentMaker:  # noqa: ANN401
    """Return what makes a connection's documents."""
    chosen = connection(sender, limit, **further)
    return sender.documents(chosen, chosen.sink.record_limit)


def pipeline(sender: Sender, *chosen: Connection, **further: Any) -> Pipeline:  # noqa: ANN401
    """Return a pipeline of these connections for a topic of the sender's format."""
    lanes = compile_lanes(chosen, sender.form.name, toy_format.FORMATS)
    return Pipeline(PARTITION, lanes, **further)


def collected(sender: Sender, chosen: Connection, values: Sequence[bytes]) -> list[Batch]:
    """Feed values as records a second apart, close everything, return the batches."""
    fed = pipeline(sender, chosen)
    records = [Rec(at, START + 1000 * at, value) for at, value in enumerate(values)]
    out = merged([fed.collect(records, NOW), *finished(fed)])
    assert [] == out.dead_letters
    return out.batches
