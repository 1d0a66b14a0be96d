"""What was acknowledged once is no acknowledgement again, however long ago, in bounded memory."""

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from forwarder.aws.receipts import MAX_REMEMBERED_SHARDS, ReceiptMemory, Receipts

SHARD = "shardId-000000000000"
BASE = 10**55


def numbers(*found: int, shard: str = SHARD) -> list[tuple[str, str]]:
    return [(shard, str(BASE + number)) for number in found]


def test_a_number_counts_once_for_each_shard() -> None:
    receipts = Receipts(ReceiptMemory())
    assert receipts.register_all(numbers(1, 2))
    assert not receipts.register_all(numbers(3, 2))
    assert not receipts.register_all(numbers(3))
    assert receipts.register_all(numbers(1, shard="shardId-000000000001"))


def test_what_is_no_number_never_counts() -> None:
    for text in ("", "x", "1x", "-1", "1" * 130, "\u0661"):
        assert not Receipts(ReceiptMemory()).register_all([(SHARD, text)])


@given(st.lists(st.integers(1, 200), min_size=1, max_size=20))
def test_no_number_counts_twice_however_many_came_between(runs: list[int]) -> None:
    receipts, given_out = Receipts(ReceiptMemory(50)), 0
    for run in runs:
        fresh = range(given_out, given_out + run)
        assert receipts.register_all(numbers(*fresh))
        given_out += run
    for number in range(given_out):
        assert not receipts.register_all(numbers(number))
    assert receipts.register_all(numbers(given_out))


def test_numbers_out_of_order_count_while_they_are_remembered() -> None:
    receipts = Receipts(ReceiptMemory(50))
    assert receipts.register_all(numbers(*range(50, 90)))
    assert receipts.register_all(numbers(*range(10, 50)))
    assert receipts.register_all(numbers(5))


def test_longer_numbers_are_higher() -> None:
    receipts = Receipts(ReceiptMemory(2))
    assert receipts.register_all([(SHARD, "99"), (SHARD, "98")])
    assert receipts.register_all([(SHARD, "100"), (SHARD, "101")])
    assert receipts.register_all([(SHARD, "102"), (SHARD, "103")])
    assert not receipts.register_all([(SHARD, "9")])
    assert receipts.register_all([(SHARD, "1000")])


def test_a_stream_made_anew_begins_anew() -> None:
    receipts = Receipts(ReceiptMemory())
    assert receipts.register_all(numbers(1))
    receipts.clear()
    assert receipts.register_all(numbers(1))


def test_what_one_connection_was_told_of_is_new_to_another() -> None:
    memory = ReceiptMemory()
    first, second = Receipts(memory), Receipts(memory)
    for receipts in (first, second):
        assert receipts.register_all(numbers(1))
        assert receipts.register(("id", "x"))
        assert not receipts.register(("id", "x"))
    first.clear()
    assert first.register_all(numbers(1))
    assert not second.register_all(numbers(1))


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 120)), min_size=1, max_size=20))
def test_a_quiet_connection_takes_no_number_twice_whatever_the_others_do(
    runs: list[tuple[bool, int]],
) -> None:
    memory = ReceiptMemory(50)
    quiet, busy = Receipts(memory), Receipts(memory)
    given_out = {quiet: 0, busy: 0}
    for is_quiet, run in runs:
        receipts = quiet if is_quiet else busy
        first = given_out[receipts]
        assert receipts.register_all(numbers(*range(first, first + run)))
        given_out[receipts] += run
    for receipts, end in given_out.items():
        assert not any(receipts.register_all(numbers(number)) for number in range(end))
        assert receipts.register_all(numbers(end))


def test_memory_is_bounded_however_many_connections_share_it() -> None:
    memory = ReceiptMemory(100)
    many = [Receipts(memory) for _ in range(50)]
    for number in range(50_000):
        many[number % 50].register_all(numbers(number, shard=f"shardId-{number:012d}"))
        many[number % 50].register(("id", number))
    assert len(memory.seen) <= 100
    assert len(memory.older) <= 100


def test_memory_is_bounded_whatever_shards_are_named() -> None:
    receipts = Receipts(ReceiptMemory(100_000))
    for number in range(60_000):
        receipts.register_all(numbers(number, shard=f"shardId-{number:012d}"))
    kept = (receipts._highest, receipts._older_highest, receipts._floors)  # noqa: SLF001  # what grows
    assert all(len(each) <= MAX_REMEMBERED_SHARDS for each in kept)
    assert not receipts.register_all(numbers(1, shard="x" * 129))


def test_a_full_memory_of_a_worker_has_the_size_that_is_written_down() -> None:
    memory = ReceiptMemory()
    receipts = [Receipts(memory) for _ in range(300)]
    tracemalloc.start()
    try:
        for number in range(3 * memory.most):
            receipts[number % 300].register_all(numbers(number))
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 24 * 1024 * 1024
