"""Requests are full while a lane is busy and sent at once while it is idle, in virtual time."""

import asyncio

import pytest

from forwarder.deliver.lane import MAX_CONCURRENT_PUTS
from forwarder.model import DELIVERED, Batch, Outcome, OutcomeKind
from tests.batches import batch
from tests.lanes import Lane
from tests.world import virtually

MANY = 10**9


def answered_after(seconds: float, most: int = 500) -> Lane:
    """Return a lane whose destination takes so long for every request."""
    lane = Lane(capacity=MANY)
    lane.sink.seconds = seconds
    lane.sink.max_batches = most
    return lane


async def fed(lane: Lane, per_second: int, ticks: int, seconds: float = 1.0) -> None:
    """Commit batches of ever new devices, a tick at a time."""
    for tick in range(ticks):
        names = (f"{tick}-{n}" for n in range(int(per_second * seconds)))
        lane.commit(*(batch(name, key=name) for name in names))
        await asyncio.sleep(seconds)


def sizes(lane: Lane) -> list[int]:
    return [len(put) for put in lane.sink.puts]


@virtually
async def test_a_busy_lane_sends_full_requests() -> None:
    lane = answered_after(0.5)
    await fed(lane, per_second=1_500, ticks=2)
    await lane.until_idle()
    assert [500] * 6 == sizes(lane)


@virtually
async def test_a_lane_that_cannot_keep_up_sends_full_requests_four_at_a_time() -> None:
    lane = answered_after(2.0)
    await fed(lane, per_second=3_000, ticks=2)
    await lane.until_idle()
    assert [500] * 12 == sizes(lane)
    assert MAX_CONCURRENT_PUTS * 500 == lane.sink.concurrent


@virtually
async def test_an_idle_lane_sends_every_batch_at_once_and_alone() -> None:
    lane = answered_after(0.05)
    loop = asyncio.get_running_loop()
    committed: list[float] = []
    for number in range(20):
        committed.append(loop.time())
        lane.commit(batch(f"{number}", key=f"{number}"))
        await asyncio.sleep(0.2)
    assert [1] * 20 == sizes(lane)
    answered = [at + lane.sink.seconds for at in committed]
    assert lane.sink.times == pytest.approx(answered), "nothing was waited for"


@virtually
async def test_what_comes_while_a_request_is_under_way_goes_with_the_next_one() -> None:
    lane = answered_after(1.0)
    await fed(lane, per_second=100, ticks=40, seconds=0.1)
    await lane.until_idle()
    first, *rest = sizes(lane)
    assert 10 == first, "nothing waits for more"
    assert [100] * 3 == rest[:3], "a second's worth goes together"


@virtually
async def test_one_culprit_of_a_full_request_is_a_dead_letter_once_and_the_rest_is_delivered() -> (
    None
):
    refused = Outcome(OutcomeKind.REFUSED, "Validation", "not that one")

    def answer(one: Batch, _tried: int) -> Outcome:
        return refused if one.id == "7" else DELIVERED

    lane = Lane(answer, capacity=MANY)
    lane.commit(*(batch(f"{n}", key=f"{n}") for n in range(500)))
    await asyncio.sleep(1)
    lane.commit(batch("later", key="later"))
    await lane.until_idle()
    assert ["7"] == lane.letters()
    assert {"7"} == {f"{n}" for n in range(500)} - set(lane.landed())
    assert 500 == len(lane.landed())


@virtually
async def test_a_put_of_many_calls_is_small_until_all_may_go_in_one() -> None:
    lane = answered_after(0.1, most=32)
    lane.commit(*(batch(f"{n}", key=f"{n}") for n in range(64)))
    await asyncio.sleep(0.05)
    lane.sink.max_batches = 500
    lane.commit(*(batch(f"more{n}", key=f"more{n}") for n in range(1_000)))
    await lane.until_idle()
    assert [32, 32, 500, 500] == sizes(lane)


@virtually
async def test_large_batches_fill_requests_to_the_bytes_they_may_have() -> None:
    lane = answered_after(0.5)
    lane.sink.max_bytes = 1_000
    lane.commit(*(batch(f"{n}", key=f"{n}", payload=b"x" * 300) for n in range(9)))
    lane.commit(batch("whole", key="whole", payload=b"x" * 5_000))
    await lane.until_idle()
    assert [3, 3, 3, 1] == sizes(lane), "one larger than that goes alone"
