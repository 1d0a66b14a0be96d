"""What was acknowledged once is no acknowledgement again, however long ago, in bounded memory."""

from hypothesis import given
from hypothesis import strategies as st

from forwarder.sinks.receipts import Receipts

SHARD = "shardId-000000000000"
BASE = 10**55


def numbers(*found: int, shard: str = SHARD) -> list[tuple[str, str]]:
    return [(shard, str(BASE + number)) for number in found]


def test_a_number_counts_once_for_each_shard() -> None:
    receipts = Receipts()
    assert receipts.takes_all(numbers(1, 2))
    assert not receipts.takes_all(numbers(3, 2))
    assert not receipts.takes_all(numbers(3))
    assert receipts.takes_all(numbers(1, shard="shardId-000000000001"))


def test_what_is_no_number_never_counts() -> None:
    for text in ("", "x", "1x", "-1", "1" * 130, "\u0661"):
        assert not Receipts().takes_all([(SHARD, text)])


@given(st.lists(st.integers(1, 200), min_size=1, max_size=20))
def test_no_number_counts_twice_however_many_came_between(runs: list[int]) -> None:
    receipts, given_out = Receipts(remembered=50), 0
    for run in runs:
        fresh = range(given_out, given_out + run)
        assert receipts.takes_all(numbers(*fresh))
        given_out += run
    for number in range(given_out):
        assert not receipts.takes_all(numbers(number))
    assert receipts.takes_all(numbers(given_out))


def test_numbers_out_of_order_count_while_they_are_remembered() -> None:
    receipts = Receipts(remembered=50)
    assert receipts.takes_all(numbers(*range(50, 90)))
    assert receipts.takes_all(numbers(*range(10, 50)))
    assert receipts.takes_all(numbers(5))


def test_longer_numbers_are_higher() -> None:
    receipts = Receipts(remembered=2)
    assert receipts.takes_all([(SHARD, "99"), (SHARD, "98")])
    assert receipts.takes_all([(SHARD, "100"), (SHARD, "101")])
    assert receipts.takes_all([(SHARD, "102"), (SHARD, "103")])
    assert not receipts.takes_all([(SHARD, "9")])
    assert receipts.takes_all([(SHARD, "1000")])


def test_a_stream_made_anew_begins_anew() -> None:
    receipts = Receipts()
    assert receipts.takes_all(numbers(1))
    receipts.clear()
    assert receipts.takes_all(numbers(1))


def test_memory_is_bounded() -> None:
    receipts = Receipts(remembered=100)
    for number in range(50_000):
        receipts.takes_all(numbers(number, shard=f"shardId-{number:012d}"))
    kept = (receipts._seen, receipts._older, receipts._highest, receipts._older_highest)  # noqa: SLF001  # what grows
    assert all(len(each) <= 100 for each in kept)
    assert len(receipts._floors) <= 16_384  # noqa: SLF001  # as above
