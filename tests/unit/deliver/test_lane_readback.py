"""What a lane reads back from the outbox, in virtual time."""

import asyncio
import math

from forwarder.deliver.rate_limit import PutFeedback, RateLimiter
from forwarder.deliver.retries import (
    MAX_SHARD_PROBES,
    SHARD_STUCK_AFTER_SECONDS,
    STUCK_AFTER_SECONDS,
)
from forwarder.errors import JournalError
from forwarder.journal import packing
from forwarder.model import DELIVERED as OK
from forwarder.model import Outcome, OutcomeKind
from forwarder.ops.reporter import LaneStatus
from forwarder.sinks.requests import SHARD
from tests.batches import batch
from tests.lanes import TRANSIENT, Lane, devices
from tests.world import virtually


@virtually
async def test_stored_batches_are_read_back_and_put_in_order() -> None:
    lane = Lane(stored=[[batch(f"{r}.{i}") for i in range(3)] for r in range(4)])
    await lane.until_idle()
    assert [f"{r}.{i}" for r in range(4) for i in range(3)] == lane.landed()


@virtually
async def test_batches_are_read_back_from_the_cursor_on() -> None:
    lane = Lane(stored=[devices(3)], cursor=(0, 1))
    await lane.until_idle()
    assert ["1", "2"] == lane.landed()


@virtually
async def test_what_does_not_fit_in_memory_is_read_back() -> None:
    lane = Lane(capacity=100)
    lane.sink.seconds = 1.0
    for number in range(10):
        lane.commit(batch(str(number), key=f"{number % 2}", payload=b"x" * 60))
    await lane.until_idle()
    assert sorted(map(str, range(10))) == sorted(lane.landed())
    assert [str(n) for n in range(0, 10, 2)] == [i for i in lane.landed() if int(i) % 2 == 0]
    assert lane.outbox.reads


@virtually
async def test_batches_larger_than_the_memory_pass_one_by_one() -> None:
    lane = Lane(capacity=10, stored=[devices(5, size=5_000)])
    await lane.until_idle()
    assert ["0", "1", "2", "3", "4"] == lane.landed()


@virtually
async def test_fresh_batches_wait_their_turn_while_others_are_read_back() -> None:
    lane = Lane(capacity=200, stored=[[batch(f"old{i}", payload=b"x" * 90)] for i in range(4)])
    lane.commit(batch("fresh"))
    await lane.until_idle()
    assert ["old0", "old1", "old2", "old3", "fresh"] == lane.landed()


@virtually
async def test_batches_committed_during_the_last_read_are_not_forgotten() -> None:
    lane = Lane(stored=[[batch("old")]])
    fresh = [batch("fresh")]
    lane.outbox.before_answer = lambda: lane.commit(fresh.pop()) if fresh else None
    await lane.until_idle()
    assert ["old", "fresh"] == lane.landed()


@virtually
async def test_a_queue_cut_during_a_read_back_loses_nothing() -> None:
    lane = Lane(capacity=70)
    lane.lease.revoke()
    lane.commit(*[batch(f"{i}", key=str(i), payload=b"x" * 30) for i in range(4)])
    lane.outbox.before_answer = lambda: lane.delivery.queue.evict(0)
    lane.delivery.queue.evict(30)
    lane.delivery.wake()
    await asyncio.sleep(1)
    lane.outbox.before_answer = lambda: None
    lane.lease.extend(math.inf)
    lane.delivery.wake()
    await lane.until_idle()
    assert ["0", "1", "2", "3"] == sorted(lane.landed())


@virtually
async def test_a_lane_of_which_nothing_was_taken_for_a_second_keeps_its_probe_alone() -> None:
    lane = Lane(lambda _batch, _tried: TRANSIENT if asyncio.get_running_loop().time() < 30 else OK)
    lane.sink.seconds = 1.5  # as one that never answers: every put takes its whole time
    lane.commit(*devices(3))
    await asyncio.sleep(1.4)
    lane.commit(*(batch(f"fresh{n}", key=f"later{n}") for n in range(20)))
    assert 23 == len(lane.delivery.queue)
    await asyncio.sleep(0.2)
    assert 1 == len(lane.delivery.queue)
    await lane.until_idle()
    assert 23 == len(lane.landed())


@virtually
async def test_a_lane_that_fails_for_a_moment_keeps_what_it_has() -> None:
    lane = Lane(lambda _batch, tried: TRANSIENT if tried < 3 else OK)
    lane.commit(*devices(20))
    await lane.until_idle()
    assert (20, []) == (len(lane.landed()), lane.outbox.reads)


@virtually
async def test_a_lane_whose_connection_rests_keeps_its_probe_alone() -> None:
    """Another partition's put was throttled whole: this one has not even tried."""
    rate_limit = RateLimiter(SHARD)
    now = asyncio.get_running_loop().time()
    for _ in range(8):
        rate_limit.learn([PutFeedback(b"x", 9, "", delivered=False, throttled=True)], now, now, 0.9)
    assert rate_limit.rest_remaining(now) > 2 * STUCK_AFTER_SECONDS
    lane = Lane(rate_limit=rate_limit)
    lane.commit(*devices(20))
    assert (LaneStatus.FLOWING, 1) == (lane.delivery.status, len(lane.delivery.queue))
    await lane.until_idle()
    assert 20 == len(lane.landed())


@virtually
async def test_one_batch_that_fails_for_ever_holds_up_its_device_alone() -> None:
    lane = Lane(lambda one, _tried: TRANSIENT if one.id == "bad" else OK)
    lane.commit(batch("bad", key="bad"))
    await asyncio.sleep(30)
    for number in range(5):
        lane.commit(batch(str(number), key=str(number)))
        await asyncio.sleep(1)
    await lane.until(lambda: 5 == len(lane.landed()))
    assert asyncio.get_running_loop().time() < 100
    await lane.delivery.close()


@virtually
async def test_a_shard_that_takes_nothing_holds_up_its_devices_alone() -> None:
    slow = Outcome(OutcomeKind.THROTTLED, "Throttled", "slow down", "shardId-000000000001")
    lane = Lane(lambda one, _tried: slow if one.id.startswith("slow") else OK)
    lane.commit(*(batch(f"slow{n}", key=f"slow{n}") for n in range(30)))
    await asyncio.sleep(30)
    for number in range(5):
        lane.commit(batch(str(number), key=str(number)))
        await asyncio.sleep(1)
    await lane.until(lambda: 5 == len(lane.landed()))
    assert asyncio.get_running_loop().time() < 100
    await lane.delivery.close()


@virtually
async def test_after_a_time_of_failures_as_many_are_read_as_are_taken() -> None:
    """For the next one may fail again, and what was read would be cut."""
    lane = Lane(lambda _batch, _tried: TRANSIENT if asyncio.get_running_loop().time() < 60 else OK)
    lane.sink.seconds = 0.1
    lane.commit(*devices(500))
    await lane.until_idle()
    assert 500 == len(lane.landed())
    sizes = [len(put) for put in lane.sink.puts[-9:]]
    assert all(later <= 3 * sum(sizes[: n + 1]) for n, later in enumerate(sizes[1:]))


@virtually
async def test_a_lane_all_of_whose_shards_take_nothing_keeps_a_few_hundred_batches() -> None:
    slow = Outcome(OutcomeKind.THROTTLED, "Throttled", "slow down", "shardId-000000000001")
    lane = Lane(
        lambda _batch, _tried: slow if asyncio.get_running_loop().time() < 60 else OK,
        capacity=10**9,
    )
    lane.commit(*devices(2 * MAX_SHARD_PROBES))
    await asyncio.sleep(SHARD_STUCK_AFTER_SECONDS / 2)
    assert 2 * MAX_SHARD_PROBES == len(lane.delivery.queue)
    await asyncio.sleep(30)
    assert MAX_SHARD_PROBES == len(lane.delivery.queue)
    await lane.until_idle()
    assert 2 * MAX_SHARD_PROBES == len(set(lane.landed()))


@virtually
async def test_a_read_that_fails_ends_the_opening() -> None:
    lane = Lane(stored=[devices(1)])
    lane.outbox.breaks = JournalError("the broker is away")
    await lane.until(lambda: bool(lane.failure()))
    assert "the broker is away" == lane.failure()


@virtually
async def test_a_read_that_breaks_in_an_unforeseen_way_ends_the_opening() -> None:
    lane = Lane(stored=[devices(1)])
    lane.outbox.breaks = KeyError("what")
    await lane.until(lambda: bool(lane.failure()))
    assert lane.results.failed.done()


@virtually
async def test_an_unreadable_record_stops_the_lane_for_good() -> None:
    lane = Lane(stored=[devices(1)])
    lane.outbox.stored[0] = packing.pack({"v": 9})
    await lane.until(lambda: lane.delivery.status is LaneStatus.STOPPED)
    lane.delivery.release()
    await asyncio.sleep(100)
    assert ([], LaneStatus.STOPPED, "") == (lane.landed(), lane.delivery.status, lane.failure())
    assert "format version 9" in lane.delivery.reason


@virtually
async def test_an_answer_does_not_revive_a_stopped_lane() -> None:
    lane = Lane(capacity=100)
    lane.sink.seconds = 0.1
    for number, size in enumerate([60, 30, 95]):
        lane.commit(batch(str(number), key=str(number), payload=b"x" * size))
    lane.outbox.stored[4] = packing.pack({"v": 9})
    await asyncio.sleep(0.05)
    lane.sink.seconds = 5.0
    await lane.until(lambda: LaneStatus.STOPPED is lane.delivery.status)
    assert ["0"] == lane.landed()
    await asyncio.sleep(60)
    assert (["0", "1"], LaneStatus.STOPPED) == (lane.landed(), lane.delivery.status)
