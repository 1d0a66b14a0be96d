"""The records of the outbox."""

from collections.abc import Iterator
from unittest import mock

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.errors import RefusedError
from forwarder.journal import outbox, packing
from forwarder.model import Batch, CloseReason
from tests.batches import batch

BATCHES = st.lists(
    st.builds(
        lambda number, lane, size: batch(str(number), lane=lane, payload=b"x" * size),
        st.integers(0, 999),
        st.sampled_from(["acme", "beta"]),
        st.sampled_from([0, 1, 40, 100, 101]),
    ),
    max_size=12,
)


@pytest.fixture(autouse=True, scope="module")
def small_records() -> Iterator[None]:
    """Let a record hold 100 bytes of payload."""
    with mock.patch.object(outbox, "RECORD_BYTES", 100):
        yield


def stored(one: Batch) -> Batch:
    """Return what comes back of a batch: the window key is not stored."""
    return msgspec.structs.replace(one, window_key=b"")


@given(BATCHES)
def test_a_record_holds_one_lane_only(batches: list[Batch]) -> None:
    assert [1] * len(outbox.group_by_lane(batches)) == [
        len({b.lane for b in record}) for record in outbox.group_by_lane(batches)
    ]


@given(BATCHES)
def test_every_lane_keeps_its_order_over_the_records(batches: list[Batch]) -> None:
    records = outbox.group_by_lane(batches)
    for lane in ("acme", "beta"):
        given_order = [b for b in batches if b.lane == lane]
        assert given_order == [b for record in records for b in record if b.lane == lane]


@given(BATCHES)
def test_a_record_is_small_unless_a_single_batch_is_large(batches: list[Batch]) -> None:
    for record in outbox.group_by_lane(batches):
        size = sum(len(b.payload) for b in record)
        assert size <= outbox.RECORD_BYTES or len(record) == 1


@given(BATCHES.filter(bool), st.integers(0, 2**40))
def test_what_was_written_comes_back_under_its_addresses(batches: list[Batch], offset: int) -> None:
    for record in outbox.group_by_lane(batches):
        expected = [((offset, i), stored(b)) for i, b in enumerate(record)]
        assert expected == outbox.decode_record(offset, outbox.encode_record(record))


def test_records_of_a_later_release_are_refused() -> None:
    value = packing.pack({"v": 2, "lane": "acme", "batches": "something new"})
    with pytest.raises(RefusedError, match=r"format version 2.*roll forward"):
        outbox.decode_record(0, value)


@pytest.mark.parametrize("value", [b"", b"no frame", packing.pack([1, 2]), packing.pack({"v": 1})])
def test_damaged_records_are_refused(value: bytes) -> None:
    with pytest.raises(RefusedError, match="cannot be read"):
        outbox.decode_record(0, value)


def test_fields_of_a_later_release_are_passed_over() -> None:
    raw = msgspec.msgpack.decode(packing.unpack(outbox.encode_record([batch("1")])))
    raw["batches"][0]["shade"] = "blue"
    raw["mood"] = 7
    assert [((3, 0), stored(batch("1")))] == outbox.decode_record(3, packing.pack(raw))


def test_a_close_reason_of_a_later_release_does_not_stop_a_read_back() -> None:
    raw = msgspec.msgpack.decode(packing.unpack(outbox.encode_record([batch("1")])))
    raw["batches"][0]["why"] = "eclipse"
    [(_, found)] = outbox.decode_record(3, packing.pack(raw))
    assert found.reason is CloseReason.AGE
