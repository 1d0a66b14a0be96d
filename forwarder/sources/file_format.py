"""What a file holds that is no uploads, one a line: named, with how to make them of it."""

import json
import re

from forwarder.formats import rawjson
from forwarder.formats.contract import InputFormat
from forwarder.formats.rawjson import ShapeError

WANTED = "it has to hold one upload a line as JSON (NDJSON), plain or packed with gzip or zstd"

HEAD_BYTES = 512
"""How much of a file tells what it is, unless its first line is shorter."""

_LONGEST_LOOKED_AT = 64 * 1024

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


def foreign(head: bytes) -> str:
    """Return what a file is that holds no lines of text; nothing where it may."""
    name = next((name for magic, name in _FOREIGN if head.startswith(magic)), "")
    if not name and head[_TAR_MAGIC_AT : _TAR_MAGIC_AT + 5] == b"ustar":
        name = "a tar archive"
    if not name and len(head) > 1 and b"\0" in head[:2]:
        name = "UTF-16 text" if head[0] or head[1] else ""
    if not name:
        return ""
    remedy = _REMEDIES.get(name, "convert it")
    return f"is {name}; {WANTED}: {remedy}"


def hint(line: bytes, form: InputFormat) -> str:
    """Return what is wrong with a first line that is no upload; nothing where it may be one."""
    value = line.strip(b" \t\r\n")
    try:
        if value[:1] == b"[":
            value = next((bytes(element) for element in rawjson.elements(value)), b"{}")
        if b'"upload"' in value:
            fields = rawjson.fields(value)
            if "timestamp_ms" in fields and "upload" in fields:
                value = bytes(fields["upload"])
        unlike = form.unlike(value)
    except ShapeError:
        return f"holds bare values; {WANTED}"
    except (ValueError, RecursionError):
        try:
            text = value.decode()[:_LONGEST_LOOKED_AT]
        except UnicodeDecodeError:
            return f"is not UTF-8 text; {WANTED}"
        found, remedy = _of_text(text)
        return f"holds {found}; {WANTED}{remedy}"
    return f"holds what {unlike.what}; {WANTED}{unlike.remedy}" if unlike is not None else ""


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
