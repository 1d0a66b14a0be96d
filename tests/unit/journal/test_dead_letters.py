"""Dead letters read back: every form that was ever written, and the receipts behind them."""

import zstandard
from hypothesis import given
from hypothesis import strategies as st

from forwarder.journal import dead_letters
from forwarder.journal.dead_letters import RedrivenSpans
from forwarder.model import DeadLetter, Partition, Reason
from tests.letters import Stored

FROM = Partition("raw", 3)
Spans = list[tuple[int, int]]
spans = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 8)).map(lambda it: (it[0], sum(it))))


def stored(letter: DeadLetter, limit: int = 10_000) -> Stored:
    message = dead_letters.letter_message(letter, FROM, "g", limit)
    return Stored(7, 123, message.value, message.headers)


def test_a_letter_is_read_as_it_was_written() -> None:
    dead = DeadLetter(Reason.REFUSED, 9, "acme", "why", b"{}", 55, b"\x01" * 16, redriven=True)
    found = dead_letters.parse_letter(2, stored(dead))
    assert found is not None
    assert ("2:7", 123, "refused_by_sink", "acme") == (
        found.place,
        found.stored_ms,
        found.reason,
        found.connection,
    )
    assert (FROM, 9, "why", "g", 55) == (
        found.origin,
        found.at,
        found.error,
        found.group,
        found.time,
    )
    assert ("01" * 16, True, False, b"{}") == (
        found.device,
        found.redriven,
        found.truncated,
        found.value,
    )


def test_a_letter_of_the_first_release_is_read_too() -> None:
    texts = {
        "reason": b"invalid_json",
        "topic": b"raw",
        "partition": b"3",
        "offset": b"9",
        "connection": b"",
        "error": b"why",
        "group": b"g",
    }
    found = dead_letters.parse_letter(0, Stored(1, 5, b"{", tuple(texts.items())))
    assert found is not None
    assert (FROM, 0, "", False, b"{") == (
        found.origin,
        found.time,
        found.device,
        found.redriven,
        found.value,
    )


def test_compressed_bytes_come_back_and_missing_ones_are_told() -> None:
    soft = dead_letters.parse_letter(
        0, stored(DeadLetter(Reason.INVALID_JSON, 9, "", "", b"x" * 9000), 2000)
    )
    hard = zstandard.ZstdCompressor().compress(bytes(range(256)) * 40)
    none = dead_letters.parse_letter(
        0, stored(DeadLetter(Reason.INVALID_JSON, 9, "", "", hard * 40), 500)
    )
    assert soft is not None
    assert none is not None
    assert (False, b"x" * 9000) == (soft.truncated, soft.value)
    assert (True, b"") == (none.truncated, none.value)
    headers = [("reason", b"invalid_json"), ("encoding", b"zstd")]
    damaged = dead_letters.parse_letter(0, Stored(0, 0, b"no frame", headers))
    assert damaged is not None
    assert damaged.truncated


def test_receipts_and_records_of_others_are_no_letters() -> None:
    value, headers = dead_letters.make_receipt([(1, 2)], "g")
    assert dead_letters.parse_letter(0, Stored(0, 0, value, headers)) is None
    assert dead_letters.parse_letter(0, Stored(0, 0, b"x", (("trace", None),))) is None


def test_a_receipt_is_its_own_groups_alone() -> None:
    value, headers = dead_letters.make_receipt([(1, 2), (5, 5)], "g")
    assert [(1, 2), (5, 5)] == dead_letters.receipt_spans(Stored(0, 0, value, headers), "g")
    assert [] == dead_letters.receipt_spans(Stored(0, 0, value, headers), "other")
    assert [] == dead_letters.receipt_spans(Stored(0, 0, b"damaged", headers), "g")
    more = b'{"by":"somebody","redriven":[[1,2]]}'  # as a later release may write it
    assert [(1, 2)] == dead_letters.receipt_spans(Stored(0, 0, more, headers), "g")
    assert [] == dead_letters.receipt_spans(Stored(0, 0, value, ()), "g")


@given(spans)
def test_what_was_sent_is_known_whatever_the_order_of_receipts(added: Spans) -> None:
    sent, told = RedrivenSpans(), set()
    for first, last in added:
        sent.add([(first, last)])
        told |= set(range(first, last + 1))
    assert [offset in told for offset in range(60)] == [sent.has(offset) for offset in range(60)]
