"""What waits between a partition's windows and its deliveries is in one place at a time."""

from forwarder.collect.pipeline import LaneSet, Pipeline
from forwarder.formats.registry import MPARTICLE
from forwarder.model import Collected, DeadLetter, Reason, Released
from forwarder.worker.accounting import Stock
from tests.batches import batch
from tests.builders import PARTITION
from tests.doubles import Notes

LETTER = DeadLetter(Reason.EVENT_TOO_LARGE, 1, "acme", "", b"", events=3)
RECORD = DeadLetter(Reason.INVALID_JSON, 1, "", "", b"")


class Told(Notes):
    """Keeps what was released and taken over."""

    def __init__(self) -> None:
        super().__init__()
        self.left: list[Released] = []
        self.taken: list[tuple[str, int]] = []

    def taken_over(self, lane: str, events: int) -> None:
        self.taken.append((lane, events))

    def released(self, partition: str, what: Released) -> None:  # noqa: ARG002
        self.left.append(what)


def waiting(stock: Stock) -> dict[str, int]:
    return stock.waiting(Pipeline(PARTITION, LaneSet(MPARTICLE)), (), (), (), {})


def test_what_a_tick_holds_waits_and_then_what_a_lane_without_deliveries_has_committed() -> None:
    told = Told()
    stock = Stock("raw/0", told)
    one = batch("1")
    stock.collected(Collected(records=2, bytes=20))
    stock.drawn([one], [LETTER, RECORD])
    assert {"acme": one.count + 3} == waiting(stock)
    stock.committed([LETTER, RECORD], {"acme": [((0, 0), one)]}, ())
    assert {"acme": one.count} == waiting(stock)
    assert [] == told.taken


def test_what_is_left_behind_is_told_once_with_what_was_never_committed() -> None:
    told = Told()
    stock = Stock("raw/0", told)
    stock.collected(Collected(records=2, bytes=20))
    stock.drawn([], [])
    stock.committed([], {}, ())
    stock.collected(Collected(records=3, bytes=30))
    stock.drawn([batch("1")], [])
    stock.collected(Collected(records=1, bytes=5))
    for _ in range(2):
        stock.release(waiting(stock), failed=True)
    assert [Released({"acme": batch("1").count}, 4, 35, failed=True)] == told.left
    assert {} == waiting(stock)


def test_letters_of_a_tick_that_is_known_too_late_are_taken_over() -> None:
    told = Told()
    stock = Stock("raw/0", told)
    stock.drawn([], [LETTER, RECORD])
    stock.release(waiting(stock), failed=False)
    stock.committed([LETTER, RECORD], {}, ())
    assert [("acme", 3)] == told.taken
