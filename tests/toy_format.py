"""A second format, for tests alone: nothing outside ``formats`` may notice that it is another.

A record is one line of columns between tabs: who sent it (``HEADER``), then its events, each a JSON
object. A context is the columns of the header as they came, a document a line that is no JSON
either. It shares no code with mParticle's format.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from forwarder.config.connection import Connection, Settings
from forwarder.config.targets import RecordLimit
from forwarder.formats.contract import (
    DUPLICATE,
    DUPLICATES,
    MAX_USER_CHARACTERS,
    UNKNOWN,
    ContextShape,
    EventFilter,
    Formats,
    FormerRule,
    Frame,
    Kept,
    Recognized,
    Reject,
    Unlike,
    Upload,
)
from forwarder.formats.ids import PLACEHOLDER_IDS, BatchIds
from forwarder.formats.record_decoder import PollDecoder
from forwarder.formats.registry import BUILT_IN
from forwarder.model import HeldWindow, Partition, Piece, Reason

HEADER = ("device", "user", "app", "system", "key", "sent", "tags")
"""The columns before the events. Several ``tags`` have spaces between them; they accumulate."""

NAME = "toy"
VIEW = "look"
"""The type of event that ``send_screen_views`` governs."""

_PLAIN = ContextShape(frozenset(), plain=True, dated=False)
_TAGGED = ContextShape(frozenset({"tags"}), plain=False, dated=True)
_DOCUMENT = re.compile(rb"([0-9a-f-]{36}) (\d{19}) (\d{16}) (\d+)\t([^\t]*)\t.*", re.DOTALL)


def quoted(text: str) -> bytes:
    """Return a text as a JSON string."""
    return json.dumps(text).encode()


def columns(context: bytes) -> dict[str, str]:
    """Return what a header says."""
    return dict(zip(HEADER, context.decode().split("\t"), strict=True))


def shape(context: bytes) -> ContextShape:
    """Return the shape of a context: whether it has tags."""
    return _TAGGED if context.rpartition(b"\t")[2] else _PLAIN


class ToyDecoder(PollDecoder):
    """Reads columns: ``contract.Decoder``."""

    def __init__(self, partition: Partition, *, sessions: bool, duplicates: bool = False) -> None:
        self._partition = partition
        self._sessions = sessions
        self._duplicates = duplicates

    def decode(self, value: bytes, offset: int, time: int, clock: int) -> list[Upload] | Reject:
        """Return the one upload of a line."""
        try:
            parts = value.decode().split("\t")
        except UnicodeDecodeError:
            return Reject(Reason.INVALID_UTF8, "is no text")
        if len(parts) < len(HEADER):
            return Reject(Reason.NOT_AN_UPLOAD, "has too few columns")
        events = [part.encode() for part in parts[len(HEADER) :]]
        try:
            read = [json.loads(event) for event in events]
        except (ValueError, RecursionError):
            return Reject(Reason.INVALID_JSON, "has an event that is no JSON")
        if not all(isinstance(one, dict) for one in read):
            return Reject(Reason.NOT_AN_UPLOAD, "has an event that is no object")
        context = "\t".join(parts[: len(HEADER)]).encode()
        said = columns(context)
        device = f"{said['app']}/{said['device']}".encode()
        return [
            Upload(
                offset=offset,
                start=0,
                time=time,
                clock=clock,
                device=device,
                owner=device + b"#" + said["user"].encode(),
                environment=b'"production"',
                application=quoted(said["app"]),
                types=[_kind(one) for one in read],
                sessions=[_visit(one) for one in read] if self._sessions else [],
                governed=[],
                body=b",".join(events),
                context=context,
                shape=shape(context),
                duplicate_keys=[_once(device, one) for one in read] if self._duplicates else [],
                piece=(offset, 0, len(read), time, b",".join(events)) if read else None,
            )
        ]

    def from_piece(self, piece: Piece, held: HeldWindow) -> Upload:
        """Return a stored piece as an upload again."""
        offset, start, count, time, body = piece
        return Upload(
            offset=offset,
            start=start,
            time=time,
            clock=0,
            device=held.device,
            owner=held.device,
            environment=b"",
            application=b"",
            types=[_kind(one) for one in json.loads(b"[%b]" % body)],
            sessions=[held.session] * count,
            governed=[],
            body=body,
            context=held.context,
            shape=shape(held.context),
        )

    def shape(self, context: bytes) -> ContextShape:
        """Return the shape of a stored context."""
        return shape(context)


def _kind(event: Mapping[str, Any]) -> str:
    kind = event.get("kind")
    return kind if isinstance(kind, str) else UNKNOWN


def _once(device: bytes, event: Mapping[str, Any]) -> bytes:
    return device + b"/" + quoted(str(event["id"])) if "id" in event else b""


def _visit(event: Mapping[str, Any]) -> bytes:
    visit = event.get("visit")
    return b"" if visit is None else quoted(str(visit))


class ToyFilter:
    """Leaves looks out where a connection wants no screen views: ``contract.EventFilter``."""

    def __init__(self, connection: str, settings: Settings) -> None:
        self._connection = connection
        self._looks = settings.send_screen_views
        self.rule = f"toy looks={self._looks} empty={settings.send_batches_without_events}"
        self.reasons: tuple[str, ...] = () if self._looks else ("send_screen_views",)
        self.empty_too = settings.send_batches_without_events

    def sift(
        self, uploads: Sequence[Upload], filtered: dict[tuple[str, str], int]
    ) -> tuple[list[Kept], list[Upload]]:
        """Return what is kept of each upload, event by event."""
        kept: list[Kept] = []
        for one in uploads:
            events = _as_they_came(one.body, len(one.types))
            pieces: list[Piece] = []
            for at, kind in enumerate(one.types):
                if kind is DUPLICATE or (kind == VIEW and not self._looks):
                    why = DUPLICATES if kind is DUPLICATE else "send_screen_views"
                    key = self._connection, why
                    filtered[key] = filtered.get(key, 0) + 1
                else:
                    pieces.append((one.offset, one.start + at, 1, one.time, events[at]))
            if not pieces and self.empty_too:
                pieces = [(one.offset, one.start, 0, one.time, b"")]
            kept.append((one, pieces))
        return kept, []

    def keeps_all(self, upload: Upload) -> bool:
        """Tell whether there is no look among them, or looks are wanted."""
        return DUPLICATE not in upload.types and (self._looks or VIEW not in upload.types)

    def passes(self, types: set[str], *, governed: bool) -> bool:  # noqa: ARG002  # never sure
        """Leave every event to ``sift``, which takes uploads apart."""
        return False


def _as_they_came(body: bytes, count: int) -> list[bytes]:
    """Cut a body into its events."""
    text, found, at = body.decode(), list[bytes](), 0
    for _ in range(count):
        end = json.JSONDecoder().raw_decode(text, at)[1]
        found.append(text[at:end].encode())
        at = end + 1
    return found


def keyed(upload: Upload) -> Upload:
    """Key an upload as the first release of this format did: people on a device shared a window."""
    if upload.former is None:
        upload.former = replace(upload, owner=upload.device, name=b"")
    return upload.former


class ToyInput:
    """Lines of columns: ``contract.InputFormat``."""

    name = NAME
    session_start = "enter"
    session_end = "leave"
    former_rules: Mapping[str, FormerRule] = {
        "toy-device-0": FormerRule(by_session=False, keyed=keyed),
        "toy-session-0": FormerRule(by_session=True, keyed=keyed),
    }

    def decoder(
        self,
        partition: Partition,
        filters: Sequence[EventFilter],  # noqa: ARG002  # none needs anything
        *,
        sessions: bool,
        duplicates: bool = False,
        matches: bool = False,  # noqa: ARG002  # it is read where somebody asks
    ) -> ToyDecoder:
        """Return what reads a partition."""
        return ToyDecoder(partition, sessions=sessions, duplicates=duplicates)

    def event_filter(self, connection: str, settings: Settings) -> ToyFilter:
        """Compile a connection's settings."""
        return ToyFilter(connection, settings)

    def merge(self, old: bytes, new: bytes) -> tuple[bytes, ContextShape]:
        """Return the newer header with the tags of both."""
        tags = dict.fromkeys((columns(old)["tags"] + " " + columns(new)["tags"]).split())
        merged = b"\t".join([*new.split(b"\t")[:-1], " ".join(tags).encode()])
        return merged, shape(merged)

    def shape(self, context: bytes) -> ContextShape:
        """Return the shape of a context."""
        return shape(context)

    def upload(self, events: bytes, context: bytes, *, keyless: bool = False) -> bytes:  # noqa: ARG002
        """Return a line of these events."""
        count = len(json.loads(b"[%b]" % events))
        return b"\t".join([context, *_as_they_came(events, count)])

    def applications(self, upload: Upload) -> tuple[bytes, ...]:
        """Return the column ``app``."""
        return (upload.application,)

    def platform(self, upload: Upload) -> bytes:
        """Return the column ``system``."""
        return quoted(columns(upload.context)["system"])

    def api_keys(self, upload: Upload) -> tuple[bytes, ...]:
        """Return the column ``key``."""
        return (quoted(columns(upload.context)["key"]),)

    def record_time(self, value: bytes) -> int | None:
        """Return the column ``sent``."""
        parts = value.split(b"\t")
        sent = parts[HEADER.index("sent")] if len(parts) >= len(HEADER) else b""
        return int(sent) if sent.isdigit() else None

    def unlike(self, value: bytes) -> Unlike | None:
        """Tell that a line has too few columns."""
        if value.count(b"\t") >= len(HEADER) - 1:
            return None
        return Unlike("has too few columns")


class ToyDocuments:
    """Makes lines of ids, times, a header and events: ``contract.DocumentMaker``."""

    version = b"toy-1"
    native = None
    render = None

    def __init__(self, connection: Connection, limit: RecordLimit) -> None:
        self._connection = connection
        self._payload_bytes = limit.payload_bytes
        self.least = limit.least_payload_bytes()
        half = max(0, self.least // 2)
        self.small_context_bytes = max(0, half - len(self._write(PLACEHOLDER_IDS, 0, 0, b"", b"")))
        self.small_events_bytes = half

    def frame(self, context: bytes, dated_ms: int, newest_ms: int) -> Frame:
        """Return the header as it is, with the times."""
        user = columns(context)["user"][:MAX_USER_CHARACTERS]
        tail = b"%016d %d\t%b" % (newest_ms, dated_ms, context.replace(b"\t", b" "))
        size = len(self.document(Frame(user, tail, 0, 0), b"", PLACEHOLDER_IDS))
        return Frame(user, tail, size, self._payload_bytes(user))

    def document(self, frame: Frame, events: bytes, ids: BatchIds) -> bytes:
        """Return a document of these comma-joined events."""
        return b"%b %d %b\t[%b]" % (ids.text.encode(), ids.number, frame.tail, events)

    def prune(self, context: bytes, most: int) -> bytes:  # noqa: ARG002  # all of it is sent
        """Return the context: documents have all of it."""
        return context

    def recognize(self, value: bytes) -> Recognized | None:
        """Return the id of a document, and the user in its header."""
        found = _DOCUMENT.fullmatch(value)
        if found is None:
            return None
        events = json.loads(value.rpartition(b"\t")[2])
        return Recognized(found[1].decode(), found[5].decode().split(" ")[1], len(events))

    def _write(self, ids: BatchIds, newest: int, dated: int, header: bytes, events: bytes) -> bytes:
        frame = Frame("", b"%016d %d\t%b" % (newest, dated, header), 0, 0)
        return self.document(frame, events, ids)


TOY = ToyInput()
FORMATS = Formats(
    inputs={**BUILT_IN.inputs, NAME: TOY},
    documents={**BUILT_IN.documents, (NAME, NAME): ToyDocuments},
)
"""What is built in, and the toy beside it."""
