"""Dead letters as messages: every size has a form that fits."""

import hashlib
import random

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from forwarder.journal import dead_letters
from forwarder.journal.kafka import DeadLetterTarget
from forwarder.kafka.producer import MESSAGE_BYTES
from forwarder.model import DeadLetter, Partition, Reason

PARTITION = Partition("input", 3)
LIMIT = 2000


def letter(value: bytes, error: str = "why") -> DeadLetter:
    return DeadLetter(Reason.NOT_AN_UPLOAD, 9, "acme", error, value)


def size(message: dead_letters.LetterMessage) -> int:
    return len(message.value) + sum(len(name) + len(text) for name, text in message.headers)


def test_the_bytes_stay_as_they_are_where_they_fit() -> None:
    message = dead_letters.letter_message(letter(b"\xff" * 500), PARTITION, "g", LIMIT)
    expected = [
        ("v", b"1"),
        ("reason", b"not_an_upload"),
        ("topic", b"input"),
        ("partition", b"3"),
        ("offset", b"9"),
        ("connection", b"acme"),
        ("error", b"why"),
        ("group", b"g"),
    ]
    assert (b"\xff" * 500, expected) == (message.value, message.headers)


@given(st.integers(0, 6000), st.booleans())
def test_a_message_fits_and_says_what_was_done_to_it(length: int, soft: bool) -> None:  # noqa: FBT001
    value = b"a" * length if soft else hashlib.shake_256(b"noise").digest(length)
    message = dead_letters.letter_message(letter(value), PARTITION, "g", LIMIT)
    headers = dict(message.headers)
    assert size(message) + dead_letters.OVERHEAD <= LIMIT
    if headers.get("encoding") == b"zstd":
        assert value == zstandard.ZstdDecompressor().decompress(message.value)
    elif headers.get("truncated") == b"true":
        assert message.value == b""
    else:
        assert value == message.value


def test_a_batch_of_records_says_where_it_begins_and_ends() -> None:
    batch = DeadLetter(Reason.TOO_LARGE_UNPACKED, 9, "", "why", b"", first=4)
    headers = dict(dead_letters.letter_message(batch, PARTITION, "g", LIMIT).headers)
    assert (b"4", b"9") == (headers["first_offset"], headers["offset"])


def test_what_cannot_be_written_as_text_is_replaced() -> None:
    message = dead_letters.letter_message(letter(b"", "lone \ud800"), PARTITION, "g", LIMIT)
    assert dict(message.headers)["error"] == b"lone ?"


@pytest.mark.parametrize("limit", [0, 300])
def test_a_pointer_is_what_is_left_at_the_least(limit: int) -> None:
    message = dead_letters.letter_message(letter(b"x" * 1000), PARTITION, "g", limit)
    assert (message.value, dict(message.headers)["truncated"]) == (b"", b"true")


def test_no_letter_is_larger_than_the_producer_takes_however_large_the_topic_is() -> None:
    noise = random.Random(1).randbytes(MESSAGE_BYTES + 1)  # noqa: S311  # no secret
    target = DeadLetterTarget("letters")
    target.limit = 2 * MESSAGE_BYTES
    most = target.largest_message()
    message = dead_letters.letter_message(letter(noise), PARTITION, "g", most)
    assert ("truncated", b"true") == message.headers[-1]


def test_a_text_that_another_service_gave_takes_no_more_than_its_share() -> None:
    message = dead_letters.letter_message(letter(b"{}", "x" * 1_000_000), PARTITION, "g", LIMIT * 2)
    assert (b"{}", True) == (message.value, size(message) < 2 * LIMIT)
