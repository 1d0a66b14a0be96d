"""What waits between a partition's windows and its deliveries is in one place at a time."""

from forwarder.collect.pipeline import LaneSet, Pipeline
from forwarder.formats.registry import MPARTICLE
from forwarder.model import Collected, DeadLetter, Reason, Released
from forwarder.worker.pending import Uncommitted
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


def waiting(uncommitted: Uncommitted) -> dict[str, int]:
    return uncommitted.waiting(Pipeline(PARTITION, LaneSet(MPARTICLE)), {})


def test_what_a_tick_holds_waits_and_then_what_a_lane_without_deliveries_has_committed() -> None:
    told = Told()
    uncommitted = Uncommitted("raw/0", told)
    one = batch("1")
    uncommitted.add(Collected([one], dead_letters=[LETTER, RECORD], records=2, bytes=20))
    uncommitted.draw()
    assert {"acme": one.count + 3} == waiting(uncommitted)
    uncommitted.commit({"acme": [((0, 0), one)]}, ())
    assert {"acme": one.count} == waiting(uncommitted)
    assert [] == told.taken


def test_what_is_closed_and_not_committed_is_counted_in_bytes() -> None:
    uncommitted = Uncommitted("raw/0", Told())
    one, letter = batch("1"), DeadLetter(Reason.REFUSED, 1, "acme", "", b"12345", events=1)
    uncommitted.add(Collected([one]))
    uncommitted.draw()
    uncommitted.add_letters([letter])
    assert len(one.payload) + 5 == uncommitted.closed_bytes
    uncommitted.commit({}, ())
    assert 5 == uncommitted.closed_bytes


def test_what_is_left_behind_is_told_once_with_what_was_never_committed() -> None:
    told = Told()
    uncommitted = Uncommitted("raw/0", told)
    uncommitted.add(Collected(records=2, bytes=20))
    uncommitted.draw()
    uncommitted.commit({}, ())
    uncommitted.add(Collected([batch("1")], records=3, bytes=30))
    uncommitted.draw()
    uncommitted.add(Collected(records=1, bytes=5))
    for _ in range(2):
        uncommitted.release(waiting(uncommitted), failed=True)
    assert [Released({"acme": batch("1").count}, 4, 35, failed=True)] == told.left
    assert {} == waiting(uncommitted)


def test_letters_of_a_tick_that_is_known_too_late_are_taken_over() -> None:
    told = Told()
    uncommitted = Uncommitted("raw/0", told)
    uncommitted.add(Collected(dead_letters=[LETTER, RECORD]))
    uncommitted.draw()
    uncommitted.release(waiting(uncommitted), failed=False)
    uncommitted.commit({}, ())
    assert [("acme", 3)] == told.taken
