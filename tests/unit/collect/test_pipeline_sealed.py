"""A batch that nobody could unpack is one dead letter, at the offset of its last record."""

from dataclasses import replace

from forwarder.model import Reason, Sealed
from tests import builders
from tests.builders import connection, event, records, upload

SEALED = Sealed(b"\0\0\0\0\0\0\0\5packed", Reason.TOO_LARGE_UNPACKED, "why", 5)


def test_it_becomes_a_letter_with_its_bytes_and_both_ends() -> None:
    good = upload(event())
    first, last = records(good, good)
    out = builders.run(connection(), [first, replace(last, offset=9, value=SEALED)])
    [letter] = out.dead_letters
    assert (Reason.TOO_LARGE_UNPACKED, 5, 9, "why") == (
        letter.reason,
        letter.first,
        letter.offset,
        letter.error,
    )
    assert (bytes, bytes(SEALED)) == (type(letter.value), letter.value)
    assert 1 == sum(batch.count for batch in out.batches)


def test_there_is_one_whose_first_records_were_read_before_and_none_where_all_were() -> None:
    [record] = records(upload(event()))
    for read, letters in ((7, 1), (9, 1), (10, 0)):
        pipeline = builders.pipeline(connection(), read=read)
        out = pipeline.collect([replace(record, offset=9, value=SEALED)], builders.NOW)
        assert letters == len(out.dead_letters)
