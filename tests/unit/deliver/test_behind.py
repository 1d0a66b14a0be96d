"""How much waits for a lane, as stored."""

from forwarder.deliver import behind
from forwarder.deliver.budget import Lag
from forwarder.deliver.queue import Queue
from forwarder.journal import state as states
from forwarder.journal.state import LaneState
from tests.batches import GROUP, TOPIC, batch

NOW = 1_000_000


def lagging(count: int = 3) -> Queue:
    """Return a queue of which nothing but the first batch is in memory."""
    queue = Queue((0, 0), (), (0, 0), 1)
    queue.join(((i, 0), batch(str(i), closed_at=100 + i)) for i in range(count))
    return queue


def test_a_lane_that_keeps_up_has_no_note() -> None:
    lane = LaneState()
    assert not behind.note(lane, Queue((0, 0), (), (0, 0), 1_000), NOW)
    assert ({}, Lag()) == (lane.extra, behind.of(lane))


def test_what_waits_is_noted_every_ten_seconds_at_most() -> None:
    lane, queue = LaneState(), lagging()
    assert behind.note(lane, queue, NOW)
    assert Lag(3, 6, 100) == behind.of(lane)
    queue.join([((3, 0), batch("3"))])
    assert not behind.note(lane, queue, NOW + 9_999)
    assert behind.note(lane, queue, NOW + 10_000)
    assert Lag(4, 8, 100) == behind.of(lane)
    assert not behind.note(lane, queue, NOW + 60_000), "nothing changed"


def test_a_lane_that_has_caught_up_says_so_once() -> None:
    lane, queue = LaneState(), lagging()
    behind.note(lane, queue, NOW)
    queue.rb = None
    assert behind.note(lane, queue, NOW + 60_000)
    assert Lag() == behind.of(lane)
    assert not behind.note(lane, queue, NOW + 120_000)


def test_after_an_opening_it_is_known_until_all_was_read() -> None:
    lane = LaneState(keying=[("device-1", (0, 0))])
    behind.note(lane, lagging(), NOW)
    head = states.Head(states.BASE, 1, GROUP, TOPIC, 0, 0)
    values = states.encode(head, {}, {"acme": states.whole(lane)})
    stored = states.fold(list(enumerate(values)), GROUP, TOPIC).lanes["acme"]
    queue = Queue((0, 0), (), (3, 0), 1_000, unread=behind.of(stored))
    assert Lag(3, 6, 100) == queue.lag()
    queue.join([((3, 0), batch("3", closed_at=103))])
    assert Lag(4, 8, 100) == queue.lag()
    queue.read_back([((0, 0), batch("0", closed_at=100))], (1, 0))
    assert Lag(4, 8, 100) == queue.lag()
    queue.read_back((), (4, 0))
    queue.caught_up((4, 0))
    assert Lag(1, 2, 100) == queue.lag()


def test_a_lane_that_was_at_the_end_has_nothing_behind_whatever_was_noted() -> None:
    lane = LaneState()
    behind.note(lane, lagging(), NOW)
    assert Lag() == Queue((3, 0), (), (3, 0), 1_000, unread=behind.of(lane)).lag()
