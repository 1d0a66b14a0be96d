"""What a lane's state says of why it is not delivered, and of how much waits for it."""

import asyncio
from typing import Any

from forwarder.deliver import lane_notes
from forwarder.deliver.budget import Lag
from forwarder.deliver.queue import DeliveryQueue
from forwarder.journal import state as states
from forwarder.journal.fold import fold_records
from forwarder.journal.state import LaneState
from tests import doubles
from tests.batches import GROUP, TOPIC, batch
from tests.partition_oracle import PARTITION
from tests.world import EVENT, World, opened

NOW = 1_000_000


class Noted:
    """A lane's further fields as they are stored, and what changes them."""

    def __init__(self) -> None:
        self.extra: dict[str, Any] = {}

    def note(self, reason: str, now: int = NOW, queue: DeliveryQueue | None = None) -> bool:
        """Store what is to be said now; tell whether that is new."""
        lag = queue.lag() if queue is not None and queue.readback_from is not None else None
        found = lane_notes.noted(self.extra, reason, lag, now)
        self.extra = self.extra if found is None else found
        return found is not None

    def reread(self) -> LaneState:
        """Return the lane as it is read from the state's records."""
        lane = LaneState(keying=[("device-1", (0, 0))], extra=self.extra)
        head = states.StateHeader(states.BASE, 1, GROUP, TOPIC, 0, 0)
        values = states.encode(head, {}, {"acme": states.lane_in_base(lane)})
        return fold_records(list(enumerate(values)), GROUP, TOPIC).lanes["acme"]


def lagging(count: int = 3) -> DeliveryQueue:
    """Return a queue of which nothing but the first batch is in memory."""
    queue = DeliveryQueue((0, 0), (), (0, 0), 1)
    queue.enqueue([((i, 0), batch(str(i), closed_at=100 + i)) for i in range(count)])
    return queue


# ------------------------------------------------------------------ why it is not delivered


def test_a_reason_is_noted_with_its_time_and_gone_when_it_is_over() -> None:
    lane = Noted()
    assert not lane.note("")
    assert lane.note("AccessDenied: no")
    assert {"reason": "AccessDenied: no", "since": NOW} == lane.extra["trouble"]
    assert not lane.note("AccessDenied: no", NOW + 60_000)
    assert lane.note("", NOW + 60_000)
    assert {"reason": "", "since": NOW + 60_000} == lane.extra["trouble"]


def test_what_changes_all_the_time_is_not_written_all_the_time() -> None:
    lane = Noted()
    changes = [lane.note("slow down" if n % 2 else "", NOW + n * 100) for n in range(250)]
    assert 3 == sum(changes)


def test_a_long_reason_is_cut() -> None:
    lane = Noted()
    assert lane.note("x" * 1_000)
    assert lane_notes.MAX_REASON_CHARS == len(lane.extra["trouble"]["reason"])
    assert not lane.note("x" * 1_000, NOW + 60_000)


def test_it_is_stored_and_read_again() -> None:
    lane = Noted()
    lane.note("no such stream", queue=lagging())
    assert {"trouble", "behind"} == lane.extra.keys()
    assert lane.extra == lane.reread().extra


def test_to_ask_what_is_to_be_noted_changes_nothing() -> None:
    extra: dict[str, Any] = {"trouble": {"reason": "no", "since": 1}, "other": 7}
    found = lane_notes.noted(extra, "", Lag(1, 2, 3), NOW)
    assert found is not None
    assert ({"trouble", "behind", "other"}, 7) == (set(found), found["other"])
    assert {"trouble": {"reason": "no", "since": 1}, "other": 7} == extra


def stored(world: World) -> dict[str, Any]:
    """Return what is stored of the trouble of the world's lane."""
    records = list(world.journals.log(PARTITION).state.items())
    [lane] = fold_records(records, world.context([]).group, PARTITION.topic).lanes.values()
    found: dict[str, Any] = lane.extra.get("trouble", {})
    return found


def test_a_lane_that_waits_for_somebody_says_why_until_it_flows_again() -> None:
    async def main() -> None:
        world = await opened()
        world.moods["solo"] = "closed"
        world.feed("d1", [EVENT])
        world.collect()
        for _ in range(3):
            await world.owner.ticks.tick()
            await asyncio.sleep(1.0)
        assert "no" == stored(world)["reason"]
        world.moods["solo"] = "up"
        await asyncio.sleep(90.0)
        await world.until_idle()
        await world.owner.ticks.tick()
        assert "" == stored(world)["reason"]
        await world.close()

    doubles.run_virtually(main())


# ------------------------------------------------------------------ how much waits


def test_a_lane_that_keeps_up_has_no_note() -> None:
    lane = Noted()
    assert not lane.note("", queue=DeliveryQueue((0, 0), (), (0, 0), 1_000))
    assert ({}, Lag()) == (lane.extra, lane_notes.stored_lag(lane.extra))


def test_what_waits_is_noted_every_ten_seconds_at_most() -> None:
    lane, queue = Noted(), lagging()
    assert lane.note("", queue=queue)
    assert Lag(3, 6, 100) == lane_notes.stored_lag(lane.extra)
    queue.enqueue([((3, 0), batch("3"))])
    assert not lane.note("", NOW + 9_999, queue)
    assert lane.note("", NOW + 10_000, queue)
    assert Lag(4, 8, 100) == lane_notes.stored_lag(lane.extra)
    assert not lane.note("", NOW + 60_000, queue), "nothing changed"


def test_a_lane_that_has_caught_up_says_so_once() -> None:
    lane, queue = Noted(), lagging()
    lane.note("", queue=queue)
    queue.readback_from = None
    assert lane.note("", NOW + 60_000, queue)
    assert Lag() == lane_notes.stored_lag(lane.extra)
    assert not lane.note("", NOW + 120_000, queue)


def test_after_an_opening_it_is_known_until_all_was_read() -> None:
    lane = Noted()
    lane.note("", queue=lagging())
    unread = lane_notes.stored_lag(lane.reread().extra)
    queue = DeliveryQueue((0, 0), (), (3, 0), 1_000, unread=unread)
    assert Lag(3, 6, 100) == queue.lag()
    queue.enqueue([((3, 0), batch("3", closed_at=103))])
    assert Lag(4, 8, 100) == queue.lag()
    queue.add_read([((0, 0), batch("0", closed_at=100))], (1, 0))
    assert Lag(4, 8, 100) == queue.lag()
    queue.add_read((), (4, 0))
    queue.end_readback((4, 0))
    assert Lag(1, 2, 100) == queue.lag()


def test_a_lane_that_was_at_the_end_has_nothing_behind_whatever_was_noted() -> None:
    lane = Noted()
    lane.note("", queue=lagging())
    unread = lane_notes.stored_lag(lane.extra)
    assert Lag() == DeliveryQueue((3, 0), (), (3, 0), 1_000, unread=unread).lag()
