"""A lane whose sink takes batches in the order of the outbox, several of a device in one put."""

from hypothesis import given
from hypothesis import strategies as st

from forwarder.deliver.queue import DeliveryQueue
from forwarder.model import Address, Batch
from tests.services.fake_kinesis import batch

END: Address = (1_000, 0)
ROOMY = 1_000_000


def batches(*devices: int) -> list[tuple[Address, Batch]]:
    """Return one batch per device, at addresses (0, 0), (1, 0) …; equal numbers, equal keys."""
    return [((i, 0), batch(device)) for i, device in enumerate(devices)]


def queue(*devices: int) -> DeliveryQueue:
    made = DeliveryQueue((0, 0), (), (0, 0), ROOMY, in_order=True)
    made.enqueue(batches(*devices))
    return made


def taken(from_: DeliveryQueue, now: float = 0.0, most: int = 100) -> list[int]:
    return [address[0] for address, _ in from_.take(now, most, ROOMY)]


def test_batches_of_one_device_fly_together_in_order() -> None:
    assert [0, 1, 2, 3] == taken(queue(7, 8, 7, 7))


def test_nothing_flies_while_something_is_in_flight() -> None:
    lane = queue(1, 2, 3)

    assert [0, 1] == taken(lane, most=2)

    assert lane.next_due() is None
    assert [] == taken(lane)


def test_the_next_ones_follow_once_all_are_acknowledged() -> None:
    lane = queue(1, 1, 2, 2)
    for number in taken(lane, most=3):
        lane.acknowledge([(number, 0)])

    assert lane.next_due() == 0.0
    assert [3] == taken(lane)


def test_after_a_failed_put_the_oldest_goes_first_however_the_delays_fall() -> None:
    lane = queue(1, 2, 3, 4)
    for number in taken(lane, most=3):
        lane.defer((number, 0), until=9.0 - number)

    assert [] == taken(lane, now=8.5)
    assert lane.next_due() == 9.0

    assert [0, 1, 2, 3] == taken(lane, now=9.0)


def test_a_batch_that_joins_later_waits_its_turn() -> None:
    lane = queue(1, 2)
    assert [0, 1] == taken(lane)
    lane.enqueue([((2, 0), batch(3))])

    assert lane.next_due() is None
    lane.acknowledge([(1, 0)])
    lane.defer((0, 0), until=5.0)

    assert [] == taken(lane, now=4.0)
    assert [0, 2] == taken(lane, now=5.0)


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=30),
    st.lists(st.tuples(st.integers(1, 4), st.booleans()), max_size=60),
)
def test_first_landings_are_in_the_order_of_the_outbox(
    devices: list[int], puts: list[tuple[int, bool]]
) -> None:
    lane, landed, now = queue(*devices), list[int](), 0.0
    for most, succeeds in [*puts, *[(4, True)] * len(devices)]:
        now += 1.0
        for number in taken(lane, now, most):
            if succeeds:
                lane.acknowledge([(number, 0)])
                landed.append(number)
            else:
                lane.defer((number, 0), until=now + 0.5 - number / 100)

    assert list(range(len(devices))) == landed
    assert lane.cursor_and_acked(END) == (END, frozenset())
