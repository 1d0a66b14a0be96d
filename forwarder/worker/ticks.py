"""When the ticks of one partition are made: the pauses between them, and what ends a pause."""

import asyncio
from collections.abc import Callable

from forwarder.worker.context import Surroundings

LEAST = 0.1
"""Seconds between two ticks at least: a transaction takes up to 75 ms of waiting."""

LEAST_EACH = 0.01
"""The same for every partition that the worker owns: a tick costs up to 2.5 ms of CPU."""


class Rhythm:
    """The pauses between the ticks of one partition. Caller: its owner's tick loop."""

    def __init__(self, around: Surroundings) -> None:
        """Begin with no tick made."""
        self._around = around
        self._last = float("-inf")
        self._stirred = asyncio.Event()

    def begin(self) -> float:
        """Note that a tick begins; return the loop's time."""
        self._last = asyncio.get_running_loop().time()
        return self._last

    def soon(self) -> float:
        """Return when a tick is due for which somebody waits."""
        return self._last + self._least()

    def usual(self) -> float:
        """Return when a tick is due for which nobody waits."""
        return self._last + max(self._around.pacing.tick, self._least())

    def stir(self) -> None:
        """Have it asked again when the next tick is due."""
        self._stirred.set()

    async def wait(self, due: Callable[[], float | None]) -> None:
        """Wait until the time that ``due`` names; None: until it is stirred and names another."""
        loop = asyncio.get_running_loop()
        while (at := due()) is None or at > loop.time():
            self._stirred.clear()
            try:
                async with asyncio.timeout_at(at):
                    await self._stirred.wait()
            except TimeoutError:
                return

    def _least(self) -> float:
        return max(LEAST, LEAST_EACH * self._around.owned())
