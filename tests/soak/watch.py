"""Watch the ticks of a group: how long its partitions stand still."""

import asyncio
import itertools
import json
import time
from collections.abc import Awaitable, Callable, Mapping

from aiokafka.errors import KafkaError

LOOK = 0.2
"""Seconds between two looks."""

ANSWER = 5.0
"""Seconds within which Kafka answers, or it is away."""

Ask = Callable[[], Awaitable[Mapping[tuple[str, int], tuple[int, str]]]]
"""Returns what a group has committed: (offset, metadata) by topic and partition."""


class Ticks:
    """The number of every partition's last tick, and when each was seen to have risen."""

    def __init__(self, ask: Ask, partitions: int) -> None:
        """Begin without having looked; times are of the monotonic clock."""
        self._ask = ask
        self._numbers = dict.fromkeys(range(partitions), -1)
        self._rose: dict[int, list[float]] = {number: [] for number in self._numbers}

    async def watch(self) -> None:
        """Look again and again until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK)

    async def look(self) -> dict[int, int]:
        """Return the numbers as they are now, or as they were while Kafka did not answer."""
        try:
            async with asyncio.timeout(ANSWER):
                found = await self._ask()
        except (KafkaError, OSError, TimeoutError):
            return dict(self._numbers)
        self.note(
            {p: json.loads(told or "{}").get("n", -1) for (_, p), (_, told) in found.items()},
            time.monotonic(),
        )
        return dict(self._numbers)

    def note(self, numbers: Mapping[int, int], now: float) -> None:
        """Note what was seen."""
        for partition, number in numbers.items():
            if number > self._numbers[partition]:
                self._numbers[partition] = number
                self._rose[partition].append(now)

    def standstill(self, since: float, now: float) -> float:
        """Return the longest time since then, in seconds, in which some partition stood still."""
        longest = 0.0
        for rose in self._rose.values():
            at = [since, *(t for t in rose if since < t < now), now]
            longest = max(longest, *(b - a for a, b in itertools.pairwise(at)))
        return longest

    def forget(self, before: float) -> None:
        """Forget what was seen before; an hour has many ticks."""
        for partition, rose in self._rose.items():
            self._rose[partition] = [t for t in rose if t >= before]
