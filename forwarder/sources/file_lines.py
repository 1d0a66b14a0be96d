"""Lines of a file as records: where one ends, what it holds, when it is from."""

from typing import Annotated

import msgspec

from forwarder.formats import rawjson

MOST_LINE_BYTES = 32 * 1024 * 1024
"""What is kept of a line: three times the largest record a sink takes; the rest is skipped."""

_Milliseconds = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""What a Kafka record can be dated with, and the journal can store."""


class Line(msgspec.Struct, frozen=True, gc=False):
    """One line as a record: its number from 0, its record time in ms, the upload's bytes.

    ``dated``: the time is its own, not that of the line before.
    """

    offset: int
    timestamp: int
    value: bytes
    headers: tuple[tuple[str, bytes | None], ...] = ()
    dated: bool = False


class _Content(msgspec.Struct, gc=False):
    """What dates a line: an upload's own field, or ``{"timestamp_ms": …, "upload": {…}}``."""

    timestamp_unixtime_ms: _Milliseconds | None = None
    timestamp_ms: _Milliseconds | None = None
    upload: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)


_content = msgspec.json.Decoder(_Content, strict=False)
_time = msgspec.json.Decoder(_Milliseconds | None, strict=False)


class LineCutter:
    """Cuts what is read into lines, in whichever pieces it comes; keeps a bounded part of each."""

    def __init__(self) -> None:
        """Begin at line 0."""
        self.number = 0
        self.cut: list[int] = []
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, piece: bytes) -> list[tuple[int, bytes]]:
        """Return the lines that end in this piece, with their numbers, without their ends."""
        first, *others = piece.split(b"\n")
        self._add(first)
        lines: list[tuple[int, bytes]] = []
        for other in others:
            lines.append(self._take())
            self._add(other)
        return lines

    def finish(self) -> list[tuple[int, bytes]]:
        """Return what follows the last line end, if anything does."""
        return [self._take()] if self._size else []

    def _add(self, part: bytes) -> None:
        room = MOST_LINE_BYTES - self._size
        self._size += len(part)
        if part and room > 0:
            self._parts.append(part[:room])

    def _take(self) -> tuple[int, bytes]:
        line = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        if self._size > MOST_LINE_BYTES:
            self.cut.append(self.number)
        taken = (self.number, line)
        self._parts, self._size, self.number = [], 0, self.number + 1
        return taken


def read_line(number: int, line: bytes, before_ms: int) -> Line:
    """Return a line as a record; ``before_ms`` is the record time of the line before it.

    What is no JSON, or no upload, is passed on as it is: the decoder says so in a dead letter.
    """
    try:
        content = _content.decode(line)
    except RecursionError:
        return Line(number, before_ms, line)
    except msgspec.DecodeError:
        content = _slowly(line)
    if content.timestamp_ms is not None and (upload := bytes(content.upload)):
        return Line(number, content.timestamp_ms, upload, dated=True)
    own_ms = content.timestamp_unixtime_ms
    if own_ms is None:
        return Line(number, before_ms, line)
    return Line(number, own_ms, line, dated=True)


def _slowly(line: bytes) -> _Content:
    """Read an array of uploads, or what msgspec refused; nothing of what cannot be read."""
    try:
        if line.lstrip()[:1] == b"[":
            times = (_tolerant(bytes(e)).timestamp_unixtime_ms for e in rawjson.elements(line))
            return _Content(next(filter(None, times), None))
        return _tolerant(line)
    except (ValueError, RecursionError):
        return _Content()


def _tolerant(value: bytes) -> _Content:
    fields = rawjson.fields(value)
    return _Content(
        _milliseconds(fields.get("timestamp_unixtime_ms")),
        _milliseconds(fields.get("timestamp_ms")),
        fields.get("upload", rawjson.ABSENT),
    )


def _milliseconds(raw: msgspec.Raw | None) -> int | None:
    """Return a time, if it is one."""
    try:
        return None if raw is None else _time.decode(raw)
    except msgspec.DecodeError:
        return None
