"""Lanes that lag behind one outbox, in virtual time: what they keep, read back, and cost others."""

import asyncio
from itertools import pairwise
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from forwarder.deliver import readback
from forwarder.deliver.budget import Budget
from forwarder.deliver.rate_limit import PutFeedback
from forwarder.deliver.readback import ScanLimiter
from forwarder.errors import JournalError
from forwarder.model import DELIVERED, Batch, Outcome
from forwarder.ops.reporter import LaneStatus
from tests import doubles
from tests.lagging import Partition, some
from tests.lanes import CONFIGURATION, THROTTLED, TRANSIENT
from tests.world import virtually

KIB = 1024
MOODS = {"close": CONFIGURATION, "fail": TRANSIENT, "mend": DELIVERED}


def room(size: int) -> Budget:
    """Return a budget in which batches take nothing but their payload."""
    return Budget(size, batch_overhead=0)


async def an_outage(partition: Partition, lanes: list[str], ticks: int, size: int = KIB) -> None:
    """Commit a tick a second for lanes whose destinations are closed."""
    for name in lanes:
        partition.sinks[name].close_down()
    for tick in range(ticks):
        partition.commit(
            **{name: some(f"{name}.{tick}", 4, size, closed_at=1_000 + tick) for name in lanes}
        )
        await asyncio.sleep(1)


def in_order(partition: Partition) -> bool:
    """Tell whether every lane got everything once, each device in the order of the outbox."""
    for name, ids in partition.committed.items():
        landed = partition.sinks[name].landed
        place = {ident: i for i, ident in enumerate(ids)}
        assert sorted(ids) == sorted(b.id for b in landed)
        for key in {b.key for b in landed}:
            places = [place[b.id] for b in landed if b.key == key]
            assert all(a < b for a, b in pairwise(places))
    return True


@virtually
async def test_a_lane_that_cannot_send_keeps_its_oldest_batch_alone_and_reads_nothing() -> None:
    partition = Partition()
    partition.lane("acme")
    await an_outage(partition, ["acme"], 600)
    queue = partition.lanes["acme"].queue
    assert (1, KIB, []) == (len(queue), queue.waiting_bytes, partition.reads)
    assert {"acme.0.0"} == {put[0].id for put in partition.sinks["acme"].puts[-9:]}
    places = (queue._order, queue._ready, queue._deferred, queue._heads, queue.acked)  # noqa: SLF001
    assert all(len(place) <= 40 for place in places)
    await partition.close()


@virtually
async def test_a_lane_mended_after_an_outage_delivers_everything_in_order() -> None:
    partition = Partition()
    partition.lane("acme", capacity=20 * KIB)
    await an_outage(partition, ["acme"], 300)
    partition.sinks["acme"].mend()
    await partition.until_idle(120)
    assert in_order(partition)
    await partition.close()


@virtually
async def test_lanes_that_lag_together_share_what_is_read() -> None:
    partition = Partition(room(3_000 * KIB))
    lanes = [f"lane{i}" for i in range(8)]
    for tick in range(120):
        partition.commit(**{name: some(f"{name}.{tick}", 4, 4 * KIB) for name in lanes})
    for i, name in enumerate(lanes):
        partition.lane(name, cursor=(0, 0)).seconds = 0.01 + 0.001 * i
    for delivery in partition.lanes.values():
        delivery.wake()
    await partition.until_idle()
    assert in_order(partition)
    needed = sum(partition.sizes.values())
    assert needed <= partition.seen <= 2 * needed
    await partition.close()


@virtually
async def test_a_lane_far_behind_is_read_for_itself_and_holds_nobody_up() -> None:
    partition = Partition(room(400 * KIB), rate=2_000 * KIB)
    partition.lane("far")
    await an_outage(partition, ["far"], 600, 16 * KIB)
    partition.lane("near")
    await an_outage(partition, ["near"], 30)
    for sink in partition.sinks.values():
        sink.mend()
    await partition.until_idle()
    assert in_order(partition)
    landed = {name: sorted(sink.landed_at.values()) for name, sink in partition.sinks.items()}
    near, far = (landed[name][-1] - landed[name][0] for name in ("near", "far"))
    assert near < far / 4
    await partition.close()


@virtually
async def test_what_is_read_back_keeps_to_its_bandwidth() -> None:
    rate = 500 * KIB
    partition = Partition(rate=rate)
    partition.lane("acme")
    await an_outage(partition, ["acme"], 600, 8 * KIB)
    partition.sinks["acme"].mend()
    began = asyncio.get_running_loop().time()
    await partition.until_idle()
    took = max(partition.sinks["acme"].landed_at.values()) - began
    assert (2 * 600 * 4 * 8 * KIB - 2 * readback.SCAN_CHUNK_BYTES) / rate <= took
    await partition.close()


@virtually
async def test_work_is_charged_four_times_and_a_process_that_stood_still_is_not() -> None:
    limiter, loop = ScanLimiter(doubles.LoopClock()), asyncio.get_running_loop()
    for seconds, due in ((0.01, 0.04), (60.0, 4 * readback.MAX_CHARGED_SECONDS)):
        began = loop.time()
        await limiter.throttle(0, seconds)
        assert due == pytest.approx(loop.time() - began)


@virtually
async def test_lanes_at_the_head_are_as_fast_while_others_are_read_back() -> None:
    async def delays(*lagging: str) -> list[float]:
        partition = Partition(room(400 * KIB))
        for name in (*lagging, "head"):
            partition.lane(name).seconds = 0.05
        await an_outage(partition, list(lagging), 200, 8 * KIB)
        for name in lagging:
            partition.sinks[name].mend()
        committed = {}
        for tick in range(60):
            batches = some(f"head.{tick}", 4, 2 * KIB)
            committed.update({b.id: asyncio.get_running_loop().time() for b in batches})
            more = {name: some(f"{name}.more.{tick}", 4, 8 * KIB) for name in lagging}
            partition.commit(head=batches, **more)
            await asyncio.sleep(1)
        await partition.until_idle()
        assert in_order(partition)
        await partition.close()
        landed = partition.sinks["head"].landed_at
        return [landed[ident] - at for ident, at in committed.items()]

    alone, beside = await delays(), await delays("one", "two", "three")
    assert max(beside) <= 1.01 * max(alone)


@virtually
async def test_all_lanes_together_keep_to_the_budget_plus_one_batch() -> None:
    budget = room(64 * KIB)
    partition = Partition(budget)
    lanes = [f"lane{i}" for i in range(20)]
    for name in lanes:
        partition.lane(name).seconds = 0.3
    highest = 0
    for tick in range(12):
        partition.commit(**{n: some(f"{n}.{tick}", 3, (1 + tick % 9) * KIB) for n in lanes})
        for _ in range(20):
            await asyncio.sleep(0.05)
            assert budget.used == partition.resident()
            highest = max(highest, budget.used)
    assert highest <= budget.limit + 9 * KIB
    await partition.until_idle()
    assert (True, 0) == (in_order(partition), budget.used)
    await partition.close()


@virtually
async def test_what_is_read_back_leaves_half_of_the_budget_to_lanes_at_the_head() -> None:
    budget = room(400 * KIB)
    partition = Partition(budget)
    lanes = [f"lane{i}" for i in range(4)]
    for name in [*lanes, "head"]:
        partition.lane(name)
    await an_outage(partition, lanes, 60, 4 * KIB)
    for name in lanes:
        partition.sinks[name].mend()
        partition.sinks[name].seconds = 5.0
    partition.sinks["head"].seconds = 0.5
    highest = 0
    for tick in range(60):
        await asyncio.sleep(1)
        highest = max(highest, budget.used)
        partition.commit(head=some(f"head.{tick}", 8, 4 * KIB))
        assert partition.lanes["head"].queue.readback_from is None
    assert 150 * KIB < highest <= 200 * KIB + 8 * KIB
    await partition.until_idle()
    assert in_order(partition)
    await partition.close()


@virtually
async def test_the_probes_of_many_lanes_that_cannot_send_leave_half_of_the_budget() -> None:
    budget = room(16 * KIB)
    partition = Partition(budget)
    lanes = [f"lane{i}" for i in range(24)]
    for name in lanes:
        partition.lane(name)
    await an_outage(partition, lanes, 40)
    assert budget.used <= budget.limit // 2 + KIB
    assert all(sink.times[-1] > 15 for sink in partition.sinks.values()), "all go on probing"
    partition.lane("able")
    partition.commit(able=some("able", 8, KIB))
    await partition.until(lambda: 8 == len(partition.sinks["able"].landed), 1)
    for sink in partition.sinks.values():
        sink.mend()
    await partition.until_idle()
    assert in_order(partition)
    await partition.close()


@virtually
async def test_a_probe_that_is_not_in_memory_is_read_when_its_time_comes() -> None:
    partition = Partition(room(8 * KIB))
    partition.lane("acme")
    await an_outage(partition, ["acme"], 10, 7 * KIB)
    assert 0 == len(partition.lanes["acme"].queue)
    probes = len(partition.sinks["acme"].puts)
    await asyncio.sleep(600)
    puts = partition.sinks["acme"].puts[probes:]
    assert 10 <= len(puts)
    assert {"acme.0.0"} == {batch.id for put in puts for batch in put}
    assert len(partition.reads) <= len(puts) + 1
    await partition.close()


@virtually
async def test_a_lane_cut_while_a_scan_goes_over_it_misses_nothing() -> None:
    partition = Partition(chunk=KIB)
    sink = partition.lane("acme", capacity=60 * KIB)
    await an_outage(partition, ["acme"], 60)
    sink.mend()
    sink.seconds = 0.01
    while not partition.idle():
        await asyncio.sleep(0.007)
        partition.lanes["acme"].queue.evict(5 * KIB)
    assert in_order(partition)
    await partition.close()


@virtually
async def test_a_lane_that_is_held_is_not_fed() -> None:
    partition = Partition()
    sink = partition.lane("acme", capacity=8 * KIB)
    await an_outage(partition, ["acme"], 60)
    sink.mend()
    partition.lanes["acme"].hold()
    await asyncio.sleep(600)
    assert ([], 0) == (partition.reads, len(sink.landed))
    partition.lanes["acme"].release()
    await partition.until_idle()
    assert in_order(partition)
    await partition.close()


@virtually
async def test_a_record_that_cannot_be_read_stops_its_lane_alone() -> None:
    partition = Partition()
    lanes = ["acme", "other"]
    for name in lanes:
        partition.lane(name)
    await an_outage(partition, lanes, 30)
    [bad, *_] = [o for o, (name, _) in partition.stored.items() if name == "acme" and o > 10]
    partition.stored[bad] = ("acme", b"no batches")
    for sink in partition.sinks.values():
        sink.mend()
    await partition.until_idle()
    assert LaneStatus.STOPPED is partition.lanes["acme"].status
    assert 120 == len(partition.sinks["other"].landed)
    assert not partition.results.failed.done()
    assert 0 == partition.limiter.budget.used
    await partition.close()


@virtually
async def test_a_read_that_fails_is_the_partitions_failure() -> None:
    partition = Partition()
    partition.lane("acme", capacity=8 * KIB)
    await an_outage(partition, ["acme"], 30)
    partition.sinks["acme"].mend()
    partition.breaks = JournalError("it is away")
    await asyncio.sleep(100)
    assert "it is away" == str(partition.results.failed.result())
    await partition.close()


@virtually
async def test_how_much_waits_is_known_without_reading_it() -> None:
    partition = Partition(room(8 * KIB))
    partition.lane("acme")
    await an_outage(partition, ["acme"], 50, 7 * KIB)
    assert 0 == len(partition.lanes["acme"].queue)
    assert (200, 200 * 7 * KIB, 1_000) == partition.lanes["acme"].lag()
    partition.sinks["acme"].seconds = 1.0
    partition.sinks["acme"].mend()
    await partition.until(lambda: len(partition.sinks["acme"].landed) > 50)
    batches, size, closed_at = partition.lanes["acme"].lag()
    waits = 200 - len(partition.sinks["acme"].landed)
    assert (waits, waits * 7 * KIB) == (batches, size)
    assert closed_at is not None
    assert 1_010 <= closed_at <= 1_000 + len(partition.sinks["acme"].landed) // 4
    await partition.until_idle()
    assert (0, 0, None) == partition.lanes["acme"].lag()
    await partition.close()


@st.composite
def stories(draw: st.DrawFn) -> list[tuple[str, int, int]]:
    """Draw what happens: (what, to which lane, how much)."""
    kinds = st.sampled_from(["commit", "commit", "close", "fail", "mend", "cut", "slow", "wait"])
    return draw(st.lists(st.tuples(kinds, st.integers(0, 3), st.integers(1, 40)), max_size=40))


@given(
    story=stories(),
    limit=st.sampled_from([1, 3, 20, 400]),
    capacity=st.sampled_from([1, 10, 1000]),
    chunk=st.sampled_from([1, 2 * KIB, 50 * KIB]),
    rate=st.sampled_from([50 * KIB, 10_000 * KIB]),
)
@settings(max_examples=60, deadline=None)
def test_whatever_happens_everything_is_delivered_in_order_within_the_budget(
    story: list[tuple[str, int, int]], limit: int, capacity: int, chunk: int, rate: int
) -> None:
    async def run() -> None:
        budget = room(limit * KIB)
        partition = Partition(budget, rate, chunk)
        for i in range(4):
            partition.lane(f"lane{i}", capacity=capacity * KIB)
        for number, (what, which, much) in enumerate(story):
            name = f"lane{which}"
            sink = partition.sinks[name]
            if what == "commit":
                batches = {n: some(f"{n}.{number}", 1 + much % 5, much * 100) for n in [name]}
                other = f"lane{(which + 1) % 4}"
                batches[other] = some(f"{other}.{number}", 2, 500)
                partition.commit(**batches)
            elif what in MOODS:
                sink.outcome = MOODS[what]
            elif what == "cut":
                partition.lanes[name].queue.evict(much * 50)
                partition.lanes[name].wake()
            elif what == "slow":
                sink.seconds = much / 40
            else:
                await asyncio.sleep(much)
            await asyncio.sleep(0.01)
            assert budget.used == partition.resident()
            assert budget.used <= budget.limit + 4000
        for sink in partition.sinks.values():
            sink.mend()
        await partition.until_idle()
        assert in_order(partition)
        assert (0, False) == (budget.used, partition.results.failed.done())
        await partition.close()

    doubles.run_virtually(run())


@virtually
async def test_a_probe_that_was_read_is_put_however_tight_memory_is() -> None:
    """Cut again at once, it would be read again and again, and the lane never deliver."""
    partition = Partition(room(100 * KIB))
    sink = partition.lane("acme")
    sink.outcome = TRANSIENT
    partition.limiter.budget.used += 60 * KIB  # other lanes'
    partition.commit(acme=some("a", 5, KIB))
    await asyncio.sleep(300)
    assert len(sink.puts) > 20
    assert len(partition.reads) <= len(sink.puts)
    sink.mend()
    await partition.until_idle(60)
    assert in_order(partition)
    await partition.close()


@virtually
async def test_a_probe_that_makes_memory_tight_is_not_read_again_and_again() -> None:
    partition = Partition(room(100 * KIB))
    sink = partition.lane("acme")
    sink.outcome, sink.seconds = TRANSIENT, 1.0
    partition.limiter.budget.used += 44 * KIB  # other lanes'
    for number in range(5):
        partition.commit(acme=some(f"{number}", 1, 5 * KIB))
    lane = partition.lanes["acme"]
    with mock.patch.object(lane, "offer", wraps=lane.offer) as seen:
        await asyncio.sleep(300)
    assert 20 < len(sink.puts)
    assert seen.call_count <= 3 * len(sink.puts)
    sink.mend()
    await partition.until_idle(60)
    await partition.close()


@virtually
async def test_nothing_is_read_for_a_connection_that_rests() -> None:
    partition = Partition(room(100 * KIB))
    sink = partition.lane("acme")
    limit, now = partition.lanes["acme"].rate_limit, asyncio.get_running_loop().time()
    for _ in range(8):
        limit.learn([PutFeedback(b"x", 9, "", delivered=False, throttled=True)], now, now, 0.9)
    rest = limit.rest_remaining(now)
    partition.limiter.budget.used += 60 * KIB  # other lanes'
    partition.commit(acme=some("a", 5, KIB))
    await asyncio.sleep(rest - 0.01)
    assert ([], [], 0) == (partition.reads, sink.puts, len(partition.lanes["acme"].queue))
    await partition.until_idle(60)
    assert in_order(partition)
    await partition.close()


@pytest.mark.parametrize("size", [30 * KIB, 100 * KIB, 200 * KIB])
def test_a_lane_throttled_to_a_batch_now_and_then_reads_little_more_than_it_puts(size: int) -> None:
    async def run() -> None:
        partition = Partition(room(64 * KIB * KIB))
        sink = partition.lane("acme")
        loop = asyncio.get_running_loop()
        left, at = 0.0, loop.time()

        def says(one: Batch, _tried: int) -> Outcome:
            """Take 100 KB a second, and save up one batch of it."""
            nonlocal left, at
            left, at = min(size, left + 100_000 * (loop.time() - at)), loop.time()
            if left < len(one.payload):
                return THROTTLED
            left -= len(one.payload)
            return DELIVERED

        sink.says, sink.seconds = says, 0.05
        for number in range(40_000 * KIB // size):
            partition.commit(acme=some(f"{number}", 1, size, devices=50))
        before = len(sink.landed)
        await asyncio.sleep(200)
        put = sum(len(b.payload) for b in sink.landed[before:])
        assert put > 100_000 * 200 / 2
        assert partition.seen <= 4 * put
        await partition.close()

    with capture_logs():
        doubles.run_virtually(run())


def test_a_budget_that_is_not_tight_gives_all_there_is() -> None:
    budget = Budget(100)
    budget.claim("a", wants=True)
    budget.claim("b", wants=True)
    budget.used = 50
    assert (50, False, True, False) == (
        budget.fair_share(), budget.is_tight(), budget.is_tight(1), budget.is_full()
    )  # fmt: skip
    budget.claim("b", wants=False)
    assert (100, True, False) == (budget.fair_share(), budget.admits(50), budget.admits(51))


@pytest.mark.parametrize("count", [1, 4])
def test_scans_take_turns(count: int) -> None:
    async def run() -> int:
        limiter, inside, most = ScanLimiter(doubles.LoopClock()), 0, 0

        async def scan() -> None:
            nonlocal inside, most
            async with limiter.slot():
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(1)
                inside -= 1

        await asyncio.gather(*(scan() for _ in range(count * 3)))
        return most

    assert min(count * 3, readback.MAX_SCANS) == doubles.run_virtually(run())
