"""The memory of open windows, kept below its limit by closing some early (C1)."""

import asyncio
from collections.abc import Collection

import structlog

from forwarder.ops.reporter import Phase
from forwarder.worker.context import roomy
from forwarder.worker.partition import OwnedPartition

log = structlog.get_logger()

SLICE_BYTES = 512 * 1024
"""Estimated bytes let go in one go: compressed, so that encoding may be ten times as much."""

ENOUGH = 0.9
"""Share of the limit below which memory is called enough again."""


class WindowMemory:
    """Keeps all partitions of a worker below ``limit`` bytes of windows. Caller: worker."""

    def __init__(self, limit: int) -> None:
        """Begin with memory enough."""
        self.limit = limit
        self.is_short = False
        self._owned = 0

    async def relieve(self, partitions: Collection[OwnedPartition]) -> bool:
        """Close the largest old windows until the limit is kept, in slices.

        Returns False if that has to wait for the journal, and reading with it.
        """
        if len(partitions) != self._owned:
            self._owned = len(partitions)
            for partition in partitions:
                partition.pipeline.compress_above(roomy(self.limit, self._owned))
        while (over := used(partitions) - self.limit) > 0:
            self._say(short=True)
            able = [p for p in partitions if p.phase is Phase.OPEN and not p.crowded()]
            able.sort(key=OwnedPartition.memory_bytes, reverse=True)
            if not any(p.shed(min(over, SLICE_BYTES)) for p in able):
                return not any(p.phase is Phase.OPEN and p.crowded() for p in partitions)
            await asyncio.sleep(0)
        if used(partitions) < ENOUGH * self.limit:
            self._say(short=False)
        return True

    def _say(self, *, short: bool) -> None:
        """Log when it becomes short or enough, not each time a window goes."""
        if short == self.is_short:
            return
        self.is_short = short
        if short:
            log.warning(
                "memory.short",
                limit=self.limit,
                remedy="windows close before their time: raise limits.window_memory or add workers",
            )
        else:
            log.info("memory.enough", limit=self.limit)


def used(partitions: Collection[OwnedPartition]) -> int:
    """Return about how many bytes the windows of all partitions take."""
    return sum(partition.memory_bytes() for partition in partitions)
