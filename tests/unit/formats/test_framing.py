"""A byte order mark and a schema registry's frame are read past; other ones are named."""

import pytest

from forwarder.formats.contract import Reject
from forwarder.formats.mparticle.decode import MParticleDecoder
from forwarder.model import Partition, Reason

UPLOAD = b'{"mpid":1,"events":[{"event_type":"custom_event","data":{"event_name":"\xc3\xa4"}}]}'
MARK = b"\xef\xbb\xbf"


def decode(value: bytes) -> object:
    return MParticleDecoder(Partition("t", 0), sessions=False, places=False).decode(value, 7, 0, 0)


FRAMES = [
    MARK,
    MARK + b" ",
    b"\0\0\0\0\x01",
    b"\0\0\0\0\x01\r\n\t",
    b"\0\0\0\x0a\xff",
    b"\0\xff\xff\xff\xff",
    b"\0\0\0\0\x01" + MARK,
    b"\0\0\0\0\x01" + MARK + b"\n",
]


@pytest.mark.parametrize("front", FRAMES)
def test_what_stands_before_the_json_is_read_past(front: bytes) -> None:
    plain, found = decode(UPLOAD), decode(front + UPLOAD)
    assert isinstance(plain, list)
    assert isinstance(found, list)
    assert plain[0].body == found[0].body
    assert (plain[0].device, plain[0].offset) == (found[0].device, found[0].offset)
    two = decode(front + b"[%b,%b]" % (UPLOAD, UPLOAD))
    assert isinstance(two, list)
    assert [plain[0].body] * 2 == [one.body for one in two]


@pytest.mark.parametrize(
    ("reason", "words", "value"),
    [
        (Reason.INVALID_JSON, "schema 258", b"\0\0\0\x01\x02\x08avro"),
        (Reason.INVALID_UTF8, "schema 1", b"\0\0\0\0\x01\xff\xfe\x02"),
        (Reason.INVALID_UTF8, "is UTF-16, write UTF-8", "\ufeff{}".encode("utf-16-le")),
        (Reason.INVALID_UTF8, "is UTF-16, write UTF-8", "\ufeff{}".encode("utf-16-be")),
        (Reason.INVALID_JSON, "", b"\0"),
        (Reason.INVALID_JSON, "", b"\0\0\0\0\x01"),
        (Reason.INVALID_JSON, "", MARK + b"not json"),
        (Reason.INVALID_JSON, "", MARK * 500 + b"{"),
    ],
)
def test_what_is_no_json_behind_it_is_a_reject_that_names_it(
    reason: Reason, words: str, value: bytes
) -> None:
    found = decode(value)
    assert isinstance(found, Reject)
    assert reason is found.reason
    assert words in found.error


def test_an_endless_row_of_marks_is_no_recursion() -> None:
    assert isinstance(decode(MARK * 1_000_000), Reject)
