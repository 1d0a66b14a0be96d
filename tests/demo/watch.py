"""Looking at the streams again and again while something else happens."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from tests.demo.figures import Figures
from tests.demo.screen import Screen
from tests.demo.streams import Streams

FRAME = 0.25
"""Seconds between two looks."""

PATIENCE = 30.0
"""Seconds without a new record after which what is missing counts as lost."""

LONGEST = 240.0
"""Seconds after which waiting ends in any case."""


class Watch:
    """Enters what the streams hold into the figures, and refreshes the screen."""

    def __init__(self, streams: Streams, screen: Screen, figures: Figures) -> None:
        """Begin with nothing seen."""
        self.check: Callable[[], None] = lambda: None
        self._streams = streams
        self._screen = screen
        self._figures = figures
        self._looks = 0
        self._looked = asyncio.Event()

    @asynccontextmanager
    async def beside(self) -> AsyncIterator[None]:
        """Look all the time while the body runs; ``check`` may raise what ends both."""
        async with asyncio.TaskGroup() as tasks:
            looking = tasks.create_task(self._go_on())
            yield
            looking.cancel()

    async def look(self) -> None:
        """Enter what is new."""
        polled = await asyncio.to_thread(self._streams.poll)
        now_ms = time.time_ns() // 1_000_000
        for connection, records in polled.items():
            self._figures.read(connection, records, now_ms)
        self._screen.show(self._figures)
        self._looks += 1
        looked, self._looked = self._looked, asyncio.Event()
        looked.set()

    async def settled(self) -> int:
        """Return how many records there are after a look that began after this call."""
        looks = self._looks
        await self.until(lambda: self._looks > looks + 1)
        return self._figures.landed

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something, judged after each look; raises TimeoutError if it never comes."""
        async with asyncio.timeout(LONGEST):
            while not condition():
                await self._looked.wait()

    async def complete(self) -> bool:
        """Wait until nothing is missing, or nothing new has come for long; tell which it is."""
        loop = asyncio.get_running_loop()
        landed, since = -1, loop.time()
        while self._figures.missing and loop.time() - since < PATIENCE:
            if self._figures.landed != landed:
                landed, since = self._figures.landed, loop.time()
            await self._looked.wait()
        return not self._figures.missing

    async def _go_on(self) -> None:
        while True:
            await self.look()
            self.check()
            await asyncio.sleep(FRAME)
