"""Keep what concurrent requests do to one endpoint in the order in which they came."""

import asyncio
from collections.abc import Hashable, Iterable

WAIT_SECONDS = 15.0
"""How long a request waits for earlier ones; the store answers each of them within seconds, but
there may be as many as requests may be under way."""


class Turn:
    """One request's place behind the earlier ones of its keys: ``async with`` waits for it."""

    __slots__ = ("_before", "_gone", "_tails", "_waiters", "keys")

    def __init__(self, tails: "dict[Hashable, Turn]", keys: Iterable[Hashable]) -> None:
        self.keys = tuple(keys)
        self._tails = tails
        self._before = [turn for key in self.keys if (turn := tails.get(key)) is not None]
        self._gone = False
        self._waiters: list[asyncio.Future[None]] = []
        for key in self.keys:
            tails[key] = self

    async def __aenter__(self) -> None:
        """Wait until all earlier requests of these keys have left.

        Raises TimeoutError where that takes longer than anybody waits for an answer.
        """
        if not self._before:  # nearly always
            return
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await self._earlier_ones()
        except (asyncio.CancelledError, TimeoutError):
            self._leave_behind()
            raise

    async def _earlier_ones(self) -> None:
        while self._before:
            await self._before[-1].gone()
            self._before.pop()  # not before it has left, nor any longer: turns make chains

    async def __aexit__(self, *_: object) -> None:
        """Let the next in."""
        self._leave()

    async def gone(self) -> None:
        """Wait until this request has left."""
        if not self._gone:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter

    def _leave(self) -> None:
        self._gone = True
        for key in self.keys:
            if self._tails.get(key) is self:
                del self._tails[key]
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _leave_behind(self) -> None:
        """Leave once those before have: who waits for this turn alone must not overtake them."""
        task = asyncio.ensure_future(self._earlier_ones())
        task.add_done_callback(lambda _: self._leave())
        _WAITING.add(task)
        task.add_done_callback(_WAITING.discard)


_WAITING: set[asyncio.Task[None]] = set()
"""The loop itself keeps no task alive."""


class Turns:
    """Hands out turns; nothing is kept of keys for which no request is under way."""

    def __init__(self) -> None:
        self._tails: dict[Hashable, Turn] = {}

    def take(self, keys: Iterable[Hashable]) -> Turn:
        """Take the next turn of all these keys, to be entered at once.

        Nobody waits for each other in a circle: all keys of a request are taken together.
        """
        return Turn(self._tails, keys)
