"""Concurrent requests of one endpoint go one after the other."""

import asyncio

import pytest

from forwarder.gateway import turns
from forwarder.gateway.turns import Turns
from tests.world import virtually


class Room:
    """Notes who was inside, and that nobody was there with another of the same key."""

    def __init__(self) -> None:
        self.turns = Turns()
        self.seen: list[int] = []
        self.inside: set[str] = set()

    async def visit(self, number: int, keys: str, seconds: float = 1.0) -> None:
        async with self.turns.take(keys):
            assert self.inside.isdisjoint(keys)
            self.inside |= set(keys)
            self.seen.append(number)
            await asyncio.sleep(seconds)
            self.inside -= set(keys)


@virtually
async def test_requests_of_a_key_keep_their_order_and_others_do_not_wait() -> None:
    room = Room()
    began = asyncio.get_running_loop().time()
    keys = ["a", "ab", "b", "c", "ba", "ac", "d"]
    await asyncio.gather(*(room.visit(number, these) for number, these in enumerate(keys)))
    order = {key: [n for n in room.seen if key in keys[n]] for key in "abcd"}
    assert all(sorted(numbers) == numbers for numbers in order.values())
    assert asyncio.get_running_loop().time() - began == pytest.approx(5.0)


@virtually
async def test_one_that_is_given_up_lets_nobody_overtake() -> None:
    room = Room()
    first = asyncio.ensure_future(room.visit(1, "a", 5.0))
    await asyncio.sleep(0)
    given_up = asyncio.ensure_future(room.visit(2, "a"))
    await asyncio.sleep(0)
    last = asyncio.ensure_future(room.visit(3, "a"))
    await asyncio.sleep(1)
    given_up.cancel()
    await asyncio.sleep(1)
    assert [1] == room.seen
    await asyncio.gather(first, last)
    assert [1, 3] == room.seen


@virtually
async def test_one_that_waits_too_long_is_told_and_the_others_still_come_in_order() -> None:
    room = Room()
    first = asyncio.ensure_future(room.visit(1, "a", turns.WAIT_SECONDS + 5))
    await asyncio.sleep(1)
    with pytest.raises(TimeoutError):
        await room.visit(2, "a")
    await asyncio.gather(first, room.visit(3, "a"))
    assert [1, 3] == room.seen


@virtually
async def test_nothing_is_kept_once_nobody_is_there() -> None:
    room = Room()
    await asyncio.gather(*(room.visit(n, "ab"[n % 2], 0.001) for n in range(1000)))
    assert {} == room.turns._tails  # noqa: SLF001  # what must not grow
