"""One lane of one partition, in virtual time."""

import asyncio
import math
from collections.abc import Sequence
from itertools import pairwise

import pytest

from forwarder import retry
from forwarder.deliver.budget import Budget
from forwarder.deliver.lane import MAX_CONCURRENT_PUTS
from forwarder.deliver.rate_limit import RateLimiter
from forwarder.model import DELIVERED, Batch, Outcome, OutcomeKind
from forwarder.ops.reporter import LaneStatus
from forwarder.sinks.requests import SHARD
from tests.batches import batch
from tests.lanes import (
    CONFIGURATION,
    REFUSED,
    THROTTLED,
    TRANSIENT,
    Lane,
    Sink,
    devices,
    failing_first,
)
from tests.world import virtually


@virtually
async def test_a_fresh_batch_is_put_at_once() -> None:
    lane = Lane()
    lane.commit(batch("1"))
    await lane.until_idle()
    assert (["1"], [0.0], []) == (lane.landed(), lane.sink.times, lane.outbox.reads)


@virtually
async def test_an_acknowledgement_moves_the_cursor_and_asks_for_a_tick() -> None:
    lane = Lane()
    lane.commit(batch("1"))
    await lane.until_idle()
    assert ((2, 0), frozenset()) == lane.delivery.queue.cursor_and_acked((lane.outbox.end, 0))
    assert 1 == lane.asked


@virtually
async def test_batches_of_one_device_go_one_after_the_other() -> None:
    lane = Lane()
    lane.sink.seconds = 1.0
    lane.commit(batch("1"), batch("2"), batch("3"))
    await lane.until_idle()
    assert ["1", "2", "3"] == lane.landed()
    assert [["1"], ["2"], ["3"]] == [[b.id for b in put] for put in lane.sink.puts]


@virtually
async def test_a_put_that_failed_is_repeated_with_growing_pauses() -> None:
    lane = Lane(failing_first(5, TRANSIENT))
    lane.commit(batch("1"))
    await lane.until_idle()
    pauses = [round(later - earlier, 3) for earlier, later in pairwise(lane.sink.times)]
    assert [retry.PUT_TRANSIENT.delay(i, 0.5) for i in range(5)] == pytest.approx(pauses, abs=0.001)


@virtually
async def test_a_surprise_when_a_repeat_is_due_ends_the_opening_instead_of_the_lane() -> None:
    lane = Lane(failing_first(1, TRANSIENT))
    lane.commit(batch("1"))
    await asyncio.sleep(0)

    def surprised(*_: object) -> None:
        raise ZeroDivisionError

    lane.delivery.queue.take = surprised  # type: ignore[assignment, method-assign]
    await lane.until(lambda: bool(lane.failure()))
    assert "ZeroDivisionError in the delivery of acme" == lane.failure()


@virtually
async def test_a_repeat_carries_the_same_bytes() -> None:
    lane = Lane(failing_first(3, TRANSIENT))
    lane.commit(batch("1", payload=b'{"a":1}'))
    await lane.until_idle()
    assert 4 == len(lane.sink.puts)
    assert 1 == len({put[0].payload for put in lane.sink.puts})


@virtually
async def test_a_partial_failure_lets_no_later_batch_of_the_device_overtake() -> None:
    lane = Lane(lambda b, tried: THROTTLED if b.id == "a1" and tried < 4 else DELIVERED)
    lane.commit(
        batch("a1", key="a"), batch("b1", key="b"), batch("a2", key="a"), batch("b2", key="b")
    )
    await lane.until_idle()
    landed = lane.landed()
    assert ["a1", "a2"] == [i for i in landed if i.startswith("a")]
    assert ["b1", "b2"] == landed[:2]


@virtually
async def test_of_a_partial_failure_only_what_failed_is_put_again() -> None:
    lane = Lane(lambda b, tried: THROTTLED if b.id in {"1", "3"} and tried < 1 else DELIVERED)
    lane.commit(*devices(5))
    await lane.until_idle()
    first, *others = [[b.id for b in put] for put in lane.sink.puts]
    assert ["0", "1", "2", "3", "4"] == first
    assert ["1", "3"] == sorted(ident for put in others for ident in put)


@virtually
async def test_a_partial_failure_leaves_the_lane_flowing() -> None:
    lane = Lane(lambda b, tried: THROTTLED if b.id == "0" and tried < 1 else DELIVERED)
    lane.commit(*devices(3))
    await lane.until_idle()
    assert [] == lane.statuses()


@virtually
async def test_a_lane_without_permission_is_tried_again_every_5_to_60_seconds() -> None:
    lane = Lane(lambda _b, _t: CONFIGURATION)
    lane.commit(*devices(20))
    await asyncio.sleep(3600)
    pauses = [later - earlier for earlier, later in pairwise(lane.sink.times)]
    assert all(5.0 <= pause <= 60.0 for pause in pauses)
    assert 60 <= len(pauses) <= 720
    await lane.delivery.close()


@virtually
async def test_a_paused_lane_is_probed_with_one_batch() -> None:
    lane = Lane(lambda _b, _t: CONFIGURATION)
    lane.commit(*devices(20))
    await asyncio.sleep(600)
    assert {1} == {len(put) for put in lane.sink.puts[1:]}
    assert LaneStatus.PAUSED is lane.delivery.status
    assert "not allowed" == lane.delivery.reason
    await lane.delivery.close()


@virtually
async def test_a_paused_lane_is_probed_with_its_oldest_batch() -> None:
    lane = Lane(lambda _b, _t: CONFIGURATION)
    lane.commit(*devices(20))
    await asyncio.sleep(600)
    assert {"0"} == {put[0].id for put in lane.sink.puts[1:]}
    await lane.delivery.close()


@virtually
async def test_a_batch_that_fails_alone_keeps_its_pauses_while_others_get_through() -> None:
    lane = Lane(lambda b, _t: TRANSIENT if b.id == "bad" else DELIVERED)
    lane.commit(batch("bad", key="bad"))
    for number in range(600):
        lane.commit(batch(f"{number}", key=f"{number % 7}"))
        await asyncio.sleep(0.1)
    assert 600 == len(lane.landed())
    assert lane.sink.tries["bad"] <= 20
    await lane.delivery.close()


@virtually
async def test_a_throttled_shard_slows_only_the_devices_on_it() -> None:
    def shard(one: Batch) -> str:
        return "slow" if one.id.startswith("slow") else "fast"

    def answer(one: Batch, _tried: int) -> Outcome:
        if shard(one) == "slow":
            return Outcome(OutcomeKind.THROTTLED, "Throttled", "slow down", "slow")
        return Outcome(OutcomeKind.DELIVERED, shard="fast")

    lane = Lane(answer, capacity=10**9)
    delays: list[float] = []
    loop = asyncio.get_running_loop()
    for number in range(300):
        lane.commit(batch(f"slow{number}", key=f"slow{number % 40}"))
        lane.commit(batch(f"fast{number}", key=f"fast{number % 40}"))
        began = loop.time()
        await asyncio.sleep(0.1)
        delays.append(next(t for t in reversed(lane.sink.times) if t <= loop.time()) - began)
    assert 300 == len(lane.landed())
    assert max(delays) <= 0.1
    assert sum(tries for name, tries in lane.sink.tries.items() if name.startswith("slow")) <= 120
    lane.sink.says = lambda one, _tried: Outcome(OutcomeKind.DELIVERED, shard=shard(one))
    await lane.until_idle()
    assert loop.time() <= 30 + 60
    assert [f"slow{n}" for n in range(0, 300, 40)] == [
        i for i in lane.landed() if i in {f"slow{n}" for n in range(0, 300, 40)}
    ]


@virtually
async def test_lanes_of_one_connection_share_what_was_learned() -> None:
    rate_limit = RateLimiter(SHARD)
    first = Lane(lambda _b, tried: THROTTLED if tried < 1 else DELIVERED, rate_limit=rate_limit)
    second = Lane(rate_limit=rate_limit, capacity=10**9)
    first.sink.seconds = 0.1
    first.commit(*devices(100))
    await asyncio.sleep(0.11)
    assert rate_limit.limited
    second.commit(*devices(100))
    await second.until_idle()
    assert len(second.sink.puts) > 1
    await first.until_idle()


@virtually
async def test_a_pace_that_nothing_needs_any_more_is_forgotten() -> None:
    once = failing_first(1, THROTTLED)
    lane = Lane(lambda b, tried: once(b, tried) if b.id.isdigit() else DELIVERED)
    lane.commit(*devices(100))
    await lane.until_idle()
    assert lane.rate_limit.limited
    for number in range(40):
        lane.commit(batch(f"late{number}"))
        await asyncio.sleep(1)
    assert not lane.rate_limit.limited


@virtually
async def test_a_mended_lane_delivers_everything_at_once() -> None:
    lane = Lane(lambda _b, _t: DELIVERED if mended.is_set() else CONFIGURATION)
    mended = asyncio.Event()
    lane.commit(*devices(20))
    await asyncio.sleep(600)
    mended.set()
    before = asyncio.get_running_loop().time()
    await lane.until_idle()
    assert asyncio.get_running_loop().time() - before <= 61
    assert 20 == len(lane.landed())
    assert ["paused", "flowing"] == lane.statuses()


@virtually
async def test_a_refused_batch_is_no_dead_letter_before_another_was_accepted() -> None:
    lane = Lane(lambda _b, _t: REFUSED)
    lane.commit(*devices(3))
    await asyncio.sleep(3600)
    assert [] == lane.letters()
    assert LaneStatus.PAUSED is lane.delivery.status
    await lane.delivery.close()


@virtually
async def test_a_batch_refused_while_others_are_accepted_is_a_dead_letter() -> None:
    lane = Lane(lambda b, _t: REFUSED if b.id == "1" else DELIVERED)
    lane.commit(*devices(3))
    await lane.until_idle()
    assert ["1"] == lane.letters()
    assert ((2, 0), frozenset()) == lane.delivery.queue.cursor_and_acked((lane.outbox.end, 0))


@virtually
async def test_a_refused_batch_alone_waits_for_another_to_be_accepted() -> None:
    lane = Lane(lambda b, _t: REFUSED if b.id == "bad" else DELIVERED)
    lane.commit(batch("bad", key="a"))
    await asyncio.sleep(600)
    assert [] == lane.letters()
    lane.commit(batch("good", key="b"))
    await lane.until_idle()
    assert (["good"], ["bad"]) == (lane.landed(), lane.letters())


@virtually
async def test_a_batch_known_to_be_refused_does_not_pause_the_lane() -> None:
    lane = Lane(lambda b, _t: REFUSED if b.id == "bad" else DELIVERED)
    lane.commit(batch("bad", key="a"), batch("good", key="b"))
    await lane.until_idle()
    assert (["bad"], []) == (lane.letters(), lane.statuses())


@virtually
async def test_the_next_batch_of_a_device_follows_a_refused_one() -> None:
    lane = Lane(lambda b, _t: REFUSED if b.id == "bad" else DELIVERED)
    lane.commit(batch("bad", key="a"), batch("next", key="a"), batch("good", key="b"))
    await lane.until_idle()
    assert (["good", "next"], ["bad"]) == (lane.landed(), lane.letters())


@virtually
async def test_a_refused_batch_that_fills_the_memory_keeps_no_other_from_being_tried() -> None:
    lane = Lane(lambda b, _t: REFUSED if b.id == "bad" else DELIVERED, capacity=100)
    lane.commit(batch("bad", key="a", payload=b"x" * 200))
    lane.commit(batch("good", key="b", payload=b"x" * 200))
    await lane.until_idle()
    assert (["good"], ["bad"]) == (lane.landed(), lane.letters())


@virtually
async def test_nothing_is_put_without_a_lease() -> None:
    lane = Lane()
    lane.lease.revoke()
    lane.commit(batch("1"))
    await asyncio.sleep(100)
    assert ([], True) == (lane.landed(), lane.asked > 0)
    lane.lease.extend(math.inf)
    lane.delivery.wake()
    await lane.until_idle()
    assert ["1"] == lane.landed()


@virtually
async def test_a_lane_with_nothing_to_put_wants_no_lease() -> None:
    lane = Lane()
    lane.delivery.wake()
    assert 0 == lane.asked


@virtually
async def test_a_held_lane_finishes_what_is_in_flight_and_starts_nothing() -> None:
    lane = Lane()
    lane.sink.seconds = 5.0
    lane.commit(batch("1"), batch("2"))
    await asyncio.sleep(1)
    lane.delivery.hold()
    await lane.delivery.finish_puts()
    assert 5.0 == pytest.approx(asyncio.get_running_loop().time())
    await asyncio.sleep(100)
    assert ["1"] == lane.landed()


@virtually
async def test_a_released_lane_goes_on() -> None:
    lane = Lane()
    lane.delivery.hold()
    lane.commit(batch("1"))
    await asyncio.sleep(10)
    assert [] == lane.landed()
    lane.delivery.release()
    await lane.until_idle()
    assert ["1"] == lane.landed()


@virtually
async def test_a_held_lane_is_not_woken_by_its_backoff() -> None:
    lane = Lane(failing_first(1, TRANSIENT))
    lane.commit(batch("1"))
    await asyncio.sleep(0.01)
    lane.delivery.hold()
    await asyncio.sleep(100)
    assert 1 == len(lane.sink.puts)


@virtually
async def test_a_stopped_delivery_leaves_nothing_behind() -> None:
    lane = Lane(stored=[devices(2)])
    lane.sink.gate = asyncio.Event()
    lane.outbox.commit(*devices(3))
    await asyncio.sleep(1)
    await lane.delivery.close()
    await asyncio.sleep(1)
    assert 1 == len(asyncio.all_tasks())
    assert ([], (0, 0)) == (lane.landed(), lane.delivery.queue.cursor_and_acked((9, 0))[0])


@virtually
async def test_a_sink_that_raises_costs_a_repeat_only() -> None:
    def answer(_batch: Batch, _tried: int) -> Outcome:
        if len(lane.sink.puts) < 3:
            msg = "a bug in the sink"
            raise ZeroDivisionError(msg)
        return DELIVERED

    lane = Lane(answer)
    lane.commit(batch("1"))
    await lane.until_idle()
    assert (["1"], 3) == (lane.landed(), len(lane.sink.puts))


@virtually
async def test_a_sink_that_answers_for_too_few_costs_a_repeat_only() -> None:
    class Forgetful(Sink):
        async def put(self, batches: Sequence[Batch]) -> Sequence[Outcome]:
            outcomes = await super().put(batches)
            return outcomes[:1] if len(self.puts) == 1 else outcomes

    lane = Lane(sink=Forgetful())
    lane.commit(*devices(3))
    await lane.until_idle()
    assert LaneStatus.FLOWING is lane.delivery.status


@virtually
async def test_a_fault_of_its_own_ends_the_opening_instead_of_leaving_the_lane_standing() -> None:
    lane = Lane()

    def broken(*_: object) -> None:
        raise LookupError

    lane.delivery.queue.acknowledge = broken  # type: ignore[assignment, method-assign]
    lane.commit(batch("a"))
    await asyncio.sleep(1)
    assert "LookupError in the delivery of acme" == lane.failure()


@virtually
async def test_few_batches_wait_for_the_put_in_flight_and_full_requests_do_not() -> None:
    lane = Lane(capacity=10**9)
    lane.sink.max_batches = 10
    lane.sink.seconds = 1.0
    lane.commit(*devices(95, size=1))
    await lane.until_idle()
    assert MAX_CONCURRENT_PUTS * 10 == lane.sink.concurrent
    assert [10] * 9 + [5] == [len(put) for put in lane.sink.puts]


@virtually
async def test_a_request_is_full_by_its_bytes_too() -> None:
    lane = Lane(capacity=10**9)
    lane.sink.max_bytes = 1_000
    lane.sink.seconds = 1.0
    lane.commit(*devices(20, size=300))
    await lane.until_idle()
    assert [3] * 6 + [2] == [len(put) for put in lane.sink.puts]
    assert MAX_CONCURRENT_PUTS * 3 == lane.sink.concurrent


@virtually
async def test_batches_closed_before_the_given_time_are_skipped() -> None:
    old = [batch(f"old{i}", closed_at=1_000) for i in range(3)]
    lane = Lane(stored=[[*old, batch("new", closed_at=2_000)]], deliver_from_ms=2_000)
    await lane.until_idle()
    assert (["new"], (2, 0)) == (lane.landed(), lane.delivery.queue.cursor_and_acked((2, 0))[0])


@virtually
async def test_an_inactive_lane_puts_nothing_and_keeps_its_cursor() -> None:
    lane = Lane(active=False, stored=[devices(3)])
    lane.commit(*devices(2))
    await asyncio.sleep(100)
    assert ([], [], (0, 0)) == (
        lane.landed(),
        lane.outbox.reads,
        lane.delivery.queue.cursor_and_acked((lane.outbox.end, 0))[0],
    )
    assert LaneStatus.INACTIVE is lane.delivery.status


@virtually
async def test_a_put_that_somebody_else_cancels_leaves_no_lane_standing() -> None:
    """A library may pass on what it has cancelled itself; what became of the put is unknown."""
    lane = Lane()

    async def cancelled(batches: Sequence[Batch]) -> Sequence[Outcome]:  # noqa: ARG001  # none
        raise asyncio.CancelledError

    lane.sink.put = cancelled  # type: ignore[method-assign]  # once
    lane.commit(batch("1"))
    await asyncio.sleep(1)
    assert "a put of acme was cancelled" == lane.failure()
    await lane.delivery.close()


@virtually
async def test_an_inactive_lane_takes_no_memory_nor_a_share_of_it() -> None:
    budget = Budget(1_000)
    lane = Lane(active=False, budget=budget, stored=[devices(3)])
    queue = lane.delivery.queue
    lane.commit(*devices(20))
    await asyncio.sleep(10)
    assert (0, 0, 1_000) == (len(queue), budget.used, budget.fair_share())
    budget.claim("another", wants=True)
    assert 1_000 == budget.fair_share()


@virtually
async def test_beyond_the_bound_a_lane_wakes_for_its_oldest_batch() -> None:
    slow = Lane(lambda b, tried: TRANSIENT if b.id in {"0", "9"} and tried < 9 else DELIVERED)
    slow.commit(*devices(4200, size=0))
    await slow.until_idle()
    assert 4200 == len(set(slow.landed()))
