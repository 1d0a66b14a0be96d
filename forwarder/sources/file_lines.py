"""Lines of a file: unpacked, told what they are, cut, and dated; a file is read once, in order.

* Unpacked by what the file begins with: gzip, zstd, or as it is. Members and frames may follow each
  other, as ``cat a.gz b.gz`` makes them. Whatever a few bytes claim to unpack to, no more than some
  MiB of it are in memory.
* Named with how to make uploads of it, where the file is something else.
* Cut at line feeds, in whichever pieces it comes; of each line a bounded part is kept.
* Dated by the upload in it, or by what wraps it.
"""

import json
import re
import zlib
from collections.abc import Callable
from typing import Annotated, Protocol

import msgspec
import zstandard

from forwarder.formats import rawjson
from forwarder.formats.contract import InputFormat
from forwarder.formats.rawjson import ShapeError

MAX_LINE_BYTES = 32 * 1024 * 1024
"""What is kept of a line: three times the largest record a sink takes; the rest is skipped."""

_Milliseconds = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""What a Kafka record can be dated with, and the journal can store."""


class FileLine(msgspec.Struct, frozen=True, gc=False):
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
        """Create at line 0."""
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
        room = MAX_LINE_BYTES - self._size
        self._size += len(part)
        if part and room > 0:
            self._parts.append(part[:room])

    def _take(self) -> tuple[int, bytes]:
        line = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        if self._size > MAX_LINE_BYTES:
            self.cut.append(self.number)
        taken = (self.number, line)
        self._parts, self._size, self.number = [], 0, self.number + 1
        return taken


def read_line(
    number: int, line: bytes, before_ms: int, record_time: Callable[[bytes], int | None]
) -> FileLine:
    """Return a line as a record; ``before_ms`` is the record time of the line before it.

    ``record_time`` tells the time that an upload gives itself. What is no upload is passed on as
    it is: the decoder says so in a dead letter.
    """
    if b"upload" in line or b"\\u00" in line:
        found = _unwrapped(line)
        if found is not None:
            return FileLine(number, found[0], found[1], dated=True)
    own_ms = record_time(line)
    if own_ms is None:
        return FileLine(number, before_ms, line)
    return FileLine(number, own_ms, line, dated=True)


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


# ------------------------------------------------------------------ unpacking

UNPACK_BYTES = 256 * 1024
"""How much is unpacked at a time."""

MAX_WINDOW_BYTES = 128 * 1024 * 1024
"""How far back a zstd frame may refer: what ``zstd --long`` asks for; it is kept in memory."""

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_SKIPPABLE = re.compile(rb"[\x50-\x5f]\x2a\x4d\x18")  # RFC 8878, 3.1.2
_MAGIC_BYTES = 4
# A block of 4 bytes can unpack to 128 KiB (RFC 8878, 3.1.1.2): 8 MiB for a slice at most.
_SLICE_BYTES = 256
_CUT_OFF = "ends in the middle of its compressed data; what is there was read"
_FROM_GZIP_HEADER = 31  # zlib's wbits: a gzip header and the largest window


class _Stream(Protocol):
    """One member or frame; ``rest`` is what it has not taken of its input."""

    rest: bytes
    ended: bool

    def read(self, data: bytes) -> bytes:
        """Take input after ``rest``; return some of what it unpacks to, nothing: it needs more."""


class _Gzip:
    def __init__(self) -> None:
        self.rest = b""
        self.ended = False
        self._inflate = zlib.decompressobj(_FROM_GZIP_HEADER)

    def read(self, data: bytes) -> bytes:
        """Unpack; raises zlib.error."""
        piece = self._inflate.decompress(data, UNPACK_BYTES)
        self.ended = self._inflate.eof
        self.rest = self._inflate.unused_data if self.ended else self._inflate.unconsumed_tail
        return piece


class _Zstd:
    def __init__(self) -> None:
        self.rest = b""
        self.ended = False
        decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES)
        self._frame = decompressor.decompressobj()

    def read(self, data: bytes) -> bytes:
        """Unpack; raises zstandard.ZstdError."""
        view = memoryview(data)
        at, pieces, size = 0, list[bytes](), 0
        while at < len(view) and size < UNPACK_BYTES and not self.ended:
            piece = self._frame.decompress(view[at : at + _SLICE_BYTES])
            at += _SLICE_BYTES
            pieces.append(piece)
            size += len(piece)
            self.ended = self._frame.eof
        self.rest = (self._frame.unused_data if self.ended else b"") + bytes(view[at:])
        return b"".join(pieces)


class Unpacker:
    """What a file holds, whether packed or not.

    ``fault`` says what is wrong with it, once that is known; what came before it is good.
    ``fed_all``: no more will be fed.
    """

    def __init__(self) -> None:
        """Create; the format is recognised by the first bytes fed."""
        self.fault = ""
        self._waiting = b""
        self.fed_all = False
        self._plain = False
        self._stream: _Stream | None = None
        self._packed = False

    def feed(self, data: bytes) -> None:
        """Take what was read; nothing: that was all."""
        self._waiting += data
        self.fed_all = self.fed_all or not data

    def read(self) -> bytes:
        """Return a piece of the content; nothing: feed more, or at the end, that was all."""
        while not self.fault:
            if self._plain:
                piece, self._waiting = self._waiting, b""
                return piece
            if self._stream is None:
                if not self._detect():
                    return b""
                continue
            piece = self._unpack(self._stream)
            if self._stream.ended:
                self._stream = None
            elif not piece:
                return b""
            if piece:
                return piece
        return b""

    def _detect(self) -> bool:
        """Look at what comes next; False where that needs more, or nothing comes."""
        if self._packed:  # tar and others fill up with zeros behind the last member
            self._waiting = self._waiting.lstrip(b"\0")
        if len(self._waiting) < _MAGIC_BYTES and not self.fed_all:
            return False
        if self._waiting.startswith(_GZIP):
            self._stream = _Gzip()
        elif self._waiting.startswith(_ZSTD) or _SKIPPABLE.match(self._waiting):
            self._stream = _Zstd()
        elif self._packed:
            if any(magic.startswith(self._waiting) for magic in (_GZIP, _ZSTD)):
                self.fault = _CUT_OFF if self._waiting else ""
            else:
                self.fault = "holds other bytes behind its compressed data; they are not read"
            return False
        else:
            self._plain = True
            return True
        self._packed = True
        return True

    def _unpack(self, stream: _Stream) -> bytes:
        """Return what comes next of a member or frame; a fault of it is noted."""
        try:
            piece = stream.read(self._waiting)
        except (zlib.error, zstandard.ZstdError) as error:
            self.fault = f"is damaged ({error}); what comes before was read, restore the rest"
            return b""
        self._waiting = stream.rest
        if not piece and not stream.ended and self.fed_all and not self._waiting:
            self.fault = _CUT_OFF
        return piece


# ------------------------------------------------------------------ what else a file may be

EXPECTED_FORMAT = (
    "it has to hold one upload a line as JSON (NDJSON), plain or packed with gzip or zstd"
)

FORMAT_HEAD_BYTES = 512
"""How much of a file tells what it is, unless its first line is shorter."""

_MAX_SCANNED_CHARACTERS = 64 * 1024

# https://en.wikipedia.org/wiki/List_of_file_signatures, and each format's own specification.
_FOREIGN = (
    (b"PAR1", "a Parquet file"),
    (b"Obj\x01", "an Avro file"),
    (b"ORC", "an ORC file"),
    (b"ARROW1", "an Arrow file"),
    (b"BZh", "packed with bzip2"),
    (b"\xfd7zXZ\x00", "packed with xz"),
    (b"\x04\x22\x4d\x18", "packed with lz4"),
    (b"\x82SNAPPY\x00", "packed with snappy"),
    (b"\xff\x06\x00\x00sNaPpY", "packed with snappy"),
    (b"PK\x03\x04", "a zip file"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z file"),
    (b"\x1f\x8b", "packed twice"),
    (b"\x28\xb5\x2f\xfd", "packed twice"),
    (b"\x1f\x9d", "packed with compress"),
    (b"SQLite format 3\x00", "an SQLite database"),
    (b"%PDF", "a PDF"),
    (b"\xff\xfe\x00\x00", "UTF-32 text"),
    (b"\x00\x00\xfe\xff", "UTF-32 text"),
    (b"\xff\xfe", "UTF-16 text"),
    (b"\xfe\xff", "UTF-16 text"),
)
_TAR_MAGIC_AT = 257

_REMEDIES = {
    "UTF-16 text": "iconv -f UTF-16 -t UTF-8 makes it of this",
    "UTF-32 text": "iconv -f UTF-32 -t UTF-8 makes it of this",
    "a tar archive": "tar -xO makes it of this",
    "packed twice": "unpack it once",
}


def foreign_format(head: bytes) -> str:
    """Return what a file is that holds no lines of text; nothing where it may."""
    name = next((name for magic, name in _FOREIGN if head.startswith(magic)), "")
    if not name and head[_TAR_MAGIC_AT : _TAR_MAGIC_AT + 5] == b"ustar":
        name = "a tar archive"
    if not name and len(head) > 1 and b"\0" in head[:2]:
        name = "UTF-16 text" if head[0] or head[1] else ""
    if not name:
        return ""
    remedy = _REMEDIES.get(name, "convert it")
    return f"is {name}; {EXPECTED_FORMAT}: {remedy}"


def first_line_hint(line: bytes, form: InputFormat) -> str:
    """Return what is wrong with a first line that is no upload; nothing where it may be one."""
    value = line.strip(b" \t\r\n")
    try:
        if value[:1] == b"[":
            value = next((bytes(element) for element in rawjson.elements(value)), b"{}")
        if b"upload" in value or b"\\u00" in value:  # perhaps spelled with escapes
            fields = rawjson.fields(value)
            if "timestamp_ms" in fields and "upload" in fields:
                value = bytes(fields["upload"])
        unlike = form.unlike(value)
    except ShapeError:
        return f"holds bare values; {EXPECTED_FORMAT}"
    except (ValueError, RecursionError):
        try:
            text = value.decode()[:_MAX_SCANNED_CHARACTERS]
        except UnicodeDecodeError:
            return f"is not UTF-8 text; {EXPECTED_FORMAT}"
        found, remedy = _of_text(text)
        return f"holds {found}; {EXPECTED_FORMAT}{remedy}"
    return (
        f"holds what {unlike.what}; {EXPECTED_FORMAT}{unlike.remedy}" if unlike is not None else ""
    )


# How a line that is no JSON begins -> what it is, how to make uploads of it; the first counts.
_TEXTS = (
    (re.compile(r"\[.*"), "a JSON array over several lines", ": jq -c '.[]' makes it of this"),
    (
        re.compile(r'\{\s*(?:"[^"]*"\s*:\s*(?:[\[{]|.*,))?'),
        "JSON over several lines",
        ": jq -c . makes it of this",
    ),
    (re.compile(r"\{.*"), "broken JSON", ""),
    (re.compile("\x1e.*"), "a JSON text sequence", ": tr -d '\\036' makes it of this"),
    (re.compile(r"data:.*"), "a stream of server-sent events", ""),
    (re.compile(r"<.*"), "XML or HTML", ""),
    (re.compile(r"(?:---|%YAML).*"), "YAML", ""),
    (
        re.compile(r"(?:CreateTime:\d+|Partition:\d+|[^\t{]{0,256})\t\s*\{.*"),
        "a key or a time before each upload",
        ", without anything before it",
    ),
    (re.compile(r"eyJ[A-Za-z0-9+/=_-]{20,}"), "base64", ": base64 --decode makes it of this"),
    (
        re.compile(r"[^,;\t{}\[\]]{1,100}(?:[,;\t][^,;\t{}\[\]]{0,100})+"),
        "what looks like CSV",
        "",
    ),
    (re.compile(r".*", re.DOTALL), "no JSON", ""),
)


def _of_text(text: str) -> tuple[str, str]:
    """Tell what text is that is no JSON, and how to make uploads of it."""
    try:
        end = json.JSONDecoder().raw_decode(text)[1]
    except (ValueError, RecursionError):
        end = 0
    if end and text[end:].lstrip(", \t").startswith("{"):
        return "several JSON objects a line", ": jq -c . makes it of this"
    return next((name, remedy) for pattern, name, remedy in _TEXTS if pattern.fullmatch(text))
