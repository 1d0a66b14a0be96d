"""What is no uploads is named, with how to make uploads of it."""

import json

import pytest

from forwarder.formats.registry import MPARTICLE
from forwarder.sources import file_lines

NDJSON = "it has to hold one upload a line as JSON (NDJSON), plain or packed with gzip or zstd"


@pytest.mark.parametrize(
    ("head", "name", "remedy"),
    [
        (b"PAR1\x15\x04", "a Parquet file", "convert it"),
        (b"Obj\x01\x04", "an Avro file", "convert it"),
        (b"ORC\x08", "an ORC file", "convert it"),
        (b"BZh91AY", "packed with bzip2", "convert it"),
        (b"\xfd7zXZ\x00", "packed with xz", "convert it"),
        (b"\x04\x22\x4d\x18", "packed with lz4", "convert it"),
        (b"PK\x03\x04", "a zip file", "convert it"),
        (b"\x1f\x8b\x08", "packed twice", "unpack it once"),
        (b"x" * 257 + b"ustar\x0000", "a tar archive", "tar -xO"),
        ('{"a":1}\n'.encode("utf-16"), "UTF-16 text", "iconv -f UTF-16"),
        ('{"a":1}\n'.encode("utf-16-le"), "UTF-16 text", "iconv -f UTF-16"),
        ('{"a":1}\n'.encode("utf-16-be"), "UTF-16 text", "iconv -f UTF-16"),
        ("{}".encode("utf-32"), "UTF-32 text", "iconv -f UTF-32"),
    ],
)
def test_a_file_of_another_format_is_named(head: bytes, name: str, remedy: str) -> None:
    found = file_lines.foreign_format(head)
    assert found.startswith(f"is {name}; {NDJSON}: ")
    assert remedy in found


@pytest.mark.parametrize("head", [b"", b"{", b'{"events":[]}\n', b"not json", b"\xef\xbb\xbf{"])
def test_text_may_hold_uploads(head: bytes) -> None:
    assert file_lines.foreign_format(head) == ""


HINTS = [
    (b"[", "a JSON array over several lines"),
    (b'[{"events": []},', "a JSON array over several lines"),
    (b"{", "JSON over several lines"),
    (b'{"events": [', "JSON over several lines"),
    (b'{"mpid": 1,', "JSON over several lines"),
    (b'{"mpid": 1}{"mpid": 2}', "several JSON objects a line"),
    (b'{"mpid": 1}, {"mpid": 2}', "several JSON objects a line"),
    (b"mpid,event_type,timestamp", "what looks like CSV"),
    (b"mpid\tevent_type", "what looks like CSV"),
    (b"<events>", "XML or HTML"),
    (b"---", "YAML"),
    (b"\x1e{}", "a JSON text sequence"),
    (b"data: {}", "server-sent events"),
    (b'device-1\t{"events":[]}', "a key or a time before each upload"),
    (b'CreateTime:1767225600000\t{"events":[]}', "a key or a time before each upload"),
    (b"eyJldmVudHMiOltdLCJtcGlkIjoxfQ==", "base64"),
    (b"hello", "no JSON"),
    (b"\xff\x01", "is not UTF-8 text"),
    (b"42", "bare values"),
    (b'"text"', "bare values"),
    (b'{"mpid":1,"events":[{"event_type":"cust', "broken JSON"),
    (b'{"type":"track","anonymousId":"a","event":"e"}', "another product's event (Segment"),
    (b'{"event":"e","properties":{"distinct_id":"d"}}', "another product's event (Mixpanel"),
    (b'[{"event":"e","properties":{}}]', "another product's event (Mixpanel"),
    (b'{"event_type":"custom_event","data":{}}', "looks like a bare event"),
    (b'{"batch":{"events":[]}}', "an upload wrapped in `batch`: jq -c .batch"),
    (b'{"anything":1}', "is an object without `events`"),
    (b'{"timestamp_ms":1,"upload":{"event":1,"properties":{}}}', "product's event (Mixpanel"),
]


@pytest.mark.parametrize(("line", "name"), HINTS)
def test_a_first_line_that_is_no_upload_says_what_it_may_be(line: bytes, name: str) -> None:
    found = file_lines.first_line_hint(line, MPARTICLE)
    assert name.partition(":")[0] in found
    assert NDJSON in found
    assert name.partition(": ")[2] in found


@pytest.mark.parametrize(
    "line",
    [
        b'{"events":[]}',
        b'{"mpid":1}',
        b'[{"mpid":1}]',
        b"[]",
        b"{}",
        b'{"timestamp_ms":1,"upload":{"mpid":1}}',
        b'{"timestamp_ms":1,"\\u0075pload":{"mpid":1}}',
        b'{"mpid":1,"anonymousId":"a","messageId":"m"}',
    ],
)
def test_what_may_be_an_upload_gets_no_hint(line: bytes) -> None:
    assert file_lines.first_line_hint(line, MPARTICLE) == ""


@pytest.mark.parametrize("unit", ['}{"', "\t", ",", ", ", '":', "[", '{"a":', "\t{", "a,"])
def test_a_hostile_first_line_takes_no_time(unit: str) -> None:
    line = (unit * 65_536)[:65_000]
    assert isinstance(file_lines.first_line_hint(line.encode(), MPARTICLE), str)
    assert isinstance(file_lines.first_line_hint(("{" + line).encode(), MPARTICLE), str)
    assert isinstance(file_lines.first_line_hint((json.dumps(line)[:-1]).encode(), MPARTICLE), str)
