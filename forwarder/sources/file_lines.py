"""Lines of a file as records: where one ends, what it holds, when it is from."""

from collections.abc import Callable
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


class _Wrapped(msgspec.Struct, gc=False):
    """A line that dates the upload in it: ``{"timestamp_ms": …, "upload": …}``."""

    timestamp_ms: _Milliseconds | None = None
    upload: msgspec.Raw = rawjson.ABSENT


_wrapped = msgspec.json.Decoder(_Wrapped, strict=False)
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


def read_line(
    number: int, line: bytes, before_ms: int, record_time: Callable[[bytes], int | None]
) -> Line:
    """Return a line as a record; ``before_ms`` is the record time of the line before it.

    ``record_time`` tells the time that an upload gives itself. What is no upload is passed on as
    it is: the decoder says so in a dead letter.
    """
    if b"upload" in line or b"\\u00" in line:
        found = _unwrapped(line)
        if found is not None:
            return Line(number, found[0], found[1], dated=True)
    own_ms = record_time(line)
    if own_ms is None:
        return Line(number, before_ms, line)
    return Line(number, own_ms, line, dated=True)


def _unwrapped(line: bytes) -> tuple[int, bytes] | None:
    """Return the time and the upload of a line that wraps one; None of any other."""
    try:
        time, upload = _wrapping(line)
    except (ValueError, RecursionError):
        return None
    return None if time is None or not upload else (time, upload)


def _wrapping(line: bytes) -> tuple[int | None, bytes]:
    try:
        found = _wrapped.decode(line)
    except msgspec.DecodeError:
        fields = rawjson.fields(line)
        return _milliseconds(fields.get("timestamp_ms")), bytes(fields.get("upload", b""))
    return found.timestamp_ms, bytes(found.upload)


def _milliseconds(raw: msgspec.Raw | None) -> int | None:
    """Return a time, if it is one."""
    try:
        return None if raw is None else _time.decode(raw)
    except msgspec.DecodeError:
        return None
