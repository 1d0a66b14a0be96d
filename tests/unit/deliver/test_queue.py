"""The queue of a lane, against a model that keeps every batch in one list."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from forwarder.deliver.budget import Budget
from forwarder.deliver.queue import DeliveryQueue
from forwarder.journal import outbox
from forwarder.model import Address, Batch
from tests.batches import batch

BOUND = 4
SIZES = st.sampled_from([1, 10, 60, 250])


class QueueMachine(RuleBasedStateMachine):
    """A lane that commits, reads back, puts, fails, is cut, is reopened.

    The model: ``log`` holds every committed batch, ``done`` what was acknowledged, ``stored``
    what the last committed tick said.
    """

    def __init__(self) -> None:
        super().__init__()
        self.log: dict[Address, Batch] = {}
        self.done: set[Address] = set()
        self.waits: dict[Address, float] = {}
        self.crashed = False
        self.end = 0
        self.now = 0.0

    @initialize(
        capacity=st.sampled_from([0, 1, 100, 600]),
        in_order=st.booleans(),
        limit=st.sampled_from([1, 150, 700, 10_000]),
    )
    def begin(self, capacity: int, limit: int, *, in_order: bool) -> None:
        self.capacity = capacity
        self.in_order = in_order
        self.stored: tuple[Address, frozenset[Address]] = ((0, 0), frozenset())
        self.budget = Budget(limit, batch_overhead=1)
        self.queue = self.made()

    def made(self) -> DeliveryQueue:
        at, acked = self.stored
        return DeliveryQueue(
            at,
            acked,
            (self.end, 0),
            self.capacity,
            in_order=self.in_order,
            budget=self.budget,
            max_acks=BOUND,
        )

    @rule(contents=st.lists(st.tuples(st.sampled_from("abc"), SIZES), min_size=1, max_size=4))
    def commit(self, contents: list[tuple[str, int]]) -> None:
        fresh = [
            (
                (self.end, i),
                batch(f"{self.end}/{i}", key=key, payload=b"x" * size, closed_at=self.end),
            )
            for i, (key, size) in enumerate(contents)
        ]
        self.log.update(fresh)
        self.end += 2  # the record and the marker of its transaction
        self.queue.enqueue(fresh)

    @precondition(lambda self: self.queue.wants_read_back())
    @rule(records=st.integers(1, 3))
    def read_back(self, records: int) -> None:
        start = self.queue.readback_from
        assert start is not None
        offsets = sorted({a[0] for a in self.log if a[0] >= start[0]})
        for offset in offsets[:records]:
            found = [(a, b) for a, b in self.log.items() if a[0] == offset]
            self.queue.add_read(found, (offset + 1, 0))
            if self.queue.readback_from is None or self.queue.readback_from < (offset + 1, 0):
                return
        if len(offsets) <= records:
            self.queue.add_read((), (self.end, 0))
        self.queue.end_readback((self.end, 0))

    @rule(count=st.integers(1, 5), size=st.sampled_from([1, 100, 1000]))
    def take(self, count: int, size: int) -> None:
        before = set(self.queue.in_flight)
        acked = self.above_the_head()
        found = self.queue.take(self.now, count, size)
        assert [address for address, _ in found] == sorted(dict(found)), "not the oldest first"
        assert not (self.in_order and before and found), "two puts at a time"
        for i, (address, _) in enumerate(found):
            allowed = before if self.in_order else set()
            assert self.ahead_of(address) <= allowed, "an earlier batch is not on its way"
            assert address not in before
            wait = self.waits.pop(address, 0.0)
            assert wait <= self.now or (self.in_order and i), "put before its time"
            before.add(address)
            assert len(acked) + len(before) <= BOUND + 1

    @precondition(lambda self: self.queue.in_flight)
    @rule(pick=st.integers(0, 9))
    def acknowledge(self, pick: int) -> None:
        address = self.flying(pick)
        self.queue.acknowledge([address])
        self.done.add(address)

    @precondition(lambda self: self.queue.in_flight)
    @rule(pick=st.integers(0, 9), wait=st.integers(1, 5))
    def defer(self, pick: int, wait: int) -> None:
        address = self.flying(pick)
        self.queue.defer(address, self.now + wait)
        self.waits[address] = self.now + wait

    @rule()
    def hurry(self) -> None:
        self.queue.clear_deferrals()
        self.waits.clear()

    @rule(seconds=st.integers(1, 4))
    def pass_time(self, seconds: int) -> None:
        self.now += seconds

    @rule(keep=st.sampled_from([0, 1, 60, 300]))
    def cut(self, keep: int) -> None:
        had = set(self.in_memory())
        self.queue.evict(keep)
        for address in had - set(self.in_memory()):
            self.waits.pop(address, None)

    @rule()
    def narrow(self) -> None:
        had = set(self.in_memory())
        self.queue.keep_probes()
        assert self.queue.in_flight or len(self.queue) <= 1
        for address in had - set(self.in_memory()):
            self.waits.pop(address, None)

    @rule()
    def widen(self) -> None:
        self.queue.max_batches = None

    @rule(others=st.integers(0, 3))
    def share(self, others: int) -> None:
        for number in range(4):
            self.budget.claim(number, wants=number < others)
        self.queue.update_claim()

    @rule(before=st.integers(0, 20))
    def drop(self, before: int) -> None:
        ready = [a for a in self.log if a not in self.done and self.log[a].closed_at < before]
        flying = set(self.queue.in_flight)
        self.queue.drop_closed_before(before)
        cursor, _ = self.queue.cursor_and_acked((self.end, 0))
        dropped = {a for a in ready if a in self.queue.acked or a < cursor}
        assert not dropped & flying
        self.done |= dropped

    @rule()
    def tick(self) -> None:
        self.stored = self.queue.cursor_and_acked((self.end, 0))
        at, acked = self.stored
        assert all(a in self.done for a in self.log if a < at), "the cursor passed a batch"
        assert {a for a in self.done if a >= at} == acked
        assert len(acked) + len(self.queue.in_flight) <= BOUND + 1
        self.queue.on_committed(at)

    @rule()
    def crash(self) -> None:
        at, acked = self.stored
        self.crashed = True
        self.done = {a for a in self.log if a < at} | set(acked)
        self.waits.clear()
        self.queue.clear()
        self.queue = self.made()

    @invariant()
    def one_batch_of_a_device_is_in_flight(self) -> None:
        if self.in_order:
            return
        keys = [self.log[a].key for a in self.queue.in_flight]
        assert len(set(keys)) == len(keys)

    @invariant()
    def every_batch_is_somewhere(self) -> None:
        at = self.queue.cursor_and_acked((self.end, 0))[0]
        waiting = set(self.in_memory())
        for address in self.log:
            outside = self.queue.readback_from is not None and address >= self.queue.readback_from
            assert address in self.done or address in waiting or outside
        assert self.stored[0] <= at

    @invariant()
    def memory_is_bounded(self) -> None:
        sizes = [len(self.log[a].payload) for a in self.in_memory()]
        assert sum(sizes) == self.queue.waiting_bytes
        assert not sizes or sum(sizes) <= max(self.capacity, self.capacity // 2 + 250)
        assert self.budget.used == sum(sizes) + len(sizes) <= self.budget.limit + 251

    @invariant()
    def the_lag_is_what_was_committed_and_not_acknowledged(self) -> None:
        if self.crashed:
            return
        waits = {a: b for a, b in self.log.items() if a not in self.done}
        oldest = waits[min(waits)].closed_at if waits else None
        lag = self.queue.lag()
        assert (len(waits), sum(len(b.payload) for b in waits.values())) == (lag.batches, lag.bytes)
        if len(self.queue):
            assert lag.closed_at == oldest
        assert oldest is None or (lag.closed_at is not None and lag.closed_at <= oldest)

    @invariant()
    def no_address_is_ready_twice_or_out_of_order_that_was_from_the_start(self) -> None:
        fresh = list(self.queue._ready.fresh)  # noqa: SLF001  # the model looks
        assert fresh == sorted(set(fresh))

    @invariant()
    def the_rest_can_be_delivered(self) -> None:
        """Tell when: a lane that waits for no answer must know what it waits for."""
        if len(self.queue) and not self.queue.in_flight:
            assert self.queue.next_due() is not None

    def flying(self, pick: int) -> Address:
        return sorted(self.queue.in_flight)[pick % len(self.queue.in_flight)]

    def ahead_of(self, address: Address) -> set[Address]:
        """Return what must land, or be put in the same call, before this batch may be put."""
        key = self.log[address].key
        return {
            a
            for a, b in self.log.items()
            if a < address and a not in self.done and (self.in_order or b.key == key)
        }

    def in_memory(self) -> list[Address]:
        return [a for a in self.log if a in self.queue._batches]  # noqa: SLF001  # the model looks

    def above_the_head(self) -> set[Address]:
        at = self.queue.cursor_and_acked((self.end, 0))[0]
        return {a for a in self.done if a >= at}


TestQueue = QueueMachine.TestCase
TestQueue.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def filled(
    *sizes: int, capacity: int = 1000, keys: str = "abcdefgh", max_acks: int | None = None
) -> DeliveryQueue:
    queue = DeliveryQueue((0, 0), (), (0, 0), capacity, max_acks=max_acks)
    queue.enqueue(
        [((i, 0), batch(str(i), key=keys[i], payload=b"x" * size)) for i, size in enumerate(sizes)]
    )
    return queue


def taken(queue: DeliveryQueue, count: int = 99, size: int = 10**6, now: float = 0.0) -> list[int]:
    return [address[0] for address, _ in queue.take(now, count, size)]


def test_fresh_batches_are_taken_in_the_order_of_the_outbox() -> None:
    assert [0, 1, 2] == taken(filled(1, 1, 1))


def test_a_request_is_filled_up_to_its_bytes() -> None:
    assert [0, 1] == taken(filled(40, 40, 40), size=80)


def test_a_batch_larger_than_a_request_goes_alone() -> None:
    queue = filled(90, 1)
    assert ([0], [1]) == (taken(queue, size=80), taken(queue, size=80))


def test_a_later_batch_of_a_device_waits_for_the_one_before() -> None:
    queue = filled(1, 1, 1, keys="aab")
    assert [0, 2] == taken(queue)
    queue.acknowledge([(0, 0)])
    assert [1] == taken(queue)


def test_a_deferred_batch_holds_up_its_device_until_it_is_due() -> None:
    queue = filled(1, 1, keys="aa")
    taken(queue)
    queue.defer((0, 0), 7.0)
    assert ([], 7.0) == (taken(queue, now=6.9), queue.next_due())
    assert [0] == taken(queue, now=7.0)


def test_hurry_makes_deferred_batches_due() -> None:
    queue = filled(1)
    taken(queue)
    queue.defer((0, 0), 7.0)
    queue.clear_deferrals()
    assert 0.0 == queue.next_due()


def test_a_batch_larger_than_the_memory_passes_alone() -> None:
    queue = filled(5000, 1, capacity=100)
    assert (1, (1, 0)) == (len(queue), queue.readback_from)


def test_a_lane_that_reads_back_takes_no_fresh_batch() -> None:
    queue = DeliveryQueue((0, 0), (), (3, 0), 1000)
    queue.enqueue([((3, 0), batch("fresh"))])
    assert (0, (0, 0)) == (len(queue), queue.readback_from)


def test_reading_back_ends_only_at_what_the_owner_committed() -> None:
    queue = DeliveryQueue((0, 0), (), (3, 0), 1000)
    queue.add_read((), (2, 0))
    queue.end_readback((3, 0))
    assert (2, 0) == queue.readback_from
    queue.add_read((), (3, 0))
    queue.end_readback((3, 0))
    assert queue.readback_from is None


def test_acknowledged_batches_are_not_read_back() -> None:
    queue = DeliveryQueue((0, 0), [(0, 1)], (1, 0), 1000)
    queue.add_read([((0, i), batch(str(i), key=str(i))) for i in range(3)], (1, 0))
    assert [(0, 0), (0, 2)] == [address for address, _ in queue.take(0.0, 9, 9999)]


def test_what_another_opening_committed_is_taken_over_once_however_often_it_is_read() -> None:
    queue = DeliveryQueue((0, 0), [(0, 1)], (1, 0), 1000)
    stored = [((0, i), batch(str(i), key=str(i))) for i in range(3)]
    for expected in (2, 0):
        queue.add_read(stored, (1, 0))
        assert (expected, 2) == (queue.collect_taken_over(), queue.waiting_events())
        queue.evict(0)
        assert (0, 2, 0) == (queue.collect_taken_over(), queue.waiting_events(), len(queue))


def test_what_is_cut_and_read_again_waits_all_the_while() -> None:
    queue = DeliveryQueue((0, 0), (), (0, 0), 250)
    stored = [((0, i), batch(str(i), key=str(i), payload=b"x" * 100)) for i in range(5)]
    queue.enqueue(stored)
    assert 5 == queue.waiting_events()
    queue.keep_probes()
    assert (5, 1) == (queue.waiting_events(), len(queue))
    queue.max_batches = None
    queue.add_read(stored[1:], (1, 0))
    assert (5, 0) == (queue.waiting_events(), queue.collect_taken_over())


def test_the_cursor_of_an_empty_queue_is_the_committed_end() -> None:
    assert ((9, 0), frozenset()) == DeliveryQueue((0, 0), (), (0, 0), 0).cursor_and_acked((9, 0))


def test_the_cursor_stays_at_the_oldest_unresolved_batch() -> None:
    queue = filled(1, 1, 1)
    taken(queue)
    queue.acknowledge([(1, 0)])
    assert ((0, 0), frozenset({(1, 0)})) == queue.cursor_and_acked((9, 0))


def test_acknowledged_batches_below_the_oldest_unresolved_do_not_use_up_the_bound() -> None:
    queue = filled(1, 1, 1, 1, 1, 1, max_acks=2)
    for number in (0, 2):
        assert [number, number + 1] == taken(queue)
        queue.acknowledge([(number, 0)])
        queue.acknowledge([(number + 1, 0)])
    assert [4, 5] == taken(queue)


def test_beyond_the_bound_only_the_oldest_may_be_put() -> None:
    queue = filled(1, 1, 1, 1, max_acks=2)
    taken(queue, count=1)
    queue.defer((0, 0), 5.0)
    assert [1, 2] == taken(queue)
    queue.acknowledge([(1, 0)])
    queue.acknowledge([(2, 0)])
    assert ([], [0]) == (taken(queue), taken(queue, now=5.0))
    queue.acknowledge([(0, 0)])
    assert [3] == taken(queue)


def test_what_is_in_flight_is_never_cut() -> None:
    queue = filled(10, 10, 10)
    taken(queue, count=1)
    queue.evict(0)
    assert (1, (1, 0)) == (len(queue), queue.readback_from)


def test_old_batches_are_dropped_without_a_put() -> None:
    queue = DeliveryQueue((0, 0), (), (0, 0), 1000)
    queue.enqueue([((i, 0), batch(str(i), key=str(i), closed_at=i)) for i in range(3)])
    assert 2 == queue.drop_closed_before(2)
    assert [2] == taken(queue)


def test_no_more_old_batches_are_dropped_than_the_bound_allows() -> None:
    queue = DeliveryQueue((0, 0), (), (0, 0), 1000, max_acks=2)
    old = [((i, 0), batch(str(i), key=str(i), closed_at=9 if i == 0 else 0)) for i in range(5)]
    queue.enqueue(old)
    assert (2, 0) == (queue.drop_closed_before(5), queue.drop_closed_before(5))


def test_batches_of_a_tick_are_paired_with_their_addresses() -> None:
    one, two, three = batch("1"), batch("2"), batch("3")
    expected = {one.lane: [((7, 0), one), ((7, 1), two), ((9, 0), three)]}
    assert expected == outbox.addressed_by_lane([7, 9], [[one, two], [three]])
