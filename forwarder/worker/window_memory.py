"""The memory of open windows, kept below its limit by closing some early (C1)."""

import asyncio
from collections.abc import Iterable

import structlog

from forwarder.worker.partition import OpenPartition, OwnedPartition

log = structlog.get_logger()

RELIEF_SLICE_BYTES = 512 * 1024
"""Estimated bytes let go in one go: compressed, so that encoding may be ten times as much."""

RELIEVED_BELOW = 0.9
"""Share of the limit below which memory is called enough again."""


class WindowMemory:
    """Keeps all partitions of a worker below ``limit`` bytes of windows. Caller: worker."""

    def __init__(self, limit: int) -> None:
        """Create with memory enough; ``limit`` in bytes."""
        self.limit = limit
        self.is_short = False

    async def relieve(self, owned: Iterable[OwnedPartition]) -> bool:
        """Close the largest old windows until the limit is kept, in slices.

        Returns False if that has to wait for the journal, and reading with it.
        """
        held = list(owned)
        while (over := total_memory(held) - self.limit) > 0:
            self._log_change(short=True)
            found = [one.open_partition() for one in held]
            partitions = [partition for partition in found if partition is not None]
            able = [p for p in partitions if not p.is_journal_behind()]
            able.sort(key=OpenPartition.memory_bytes, reverse=True)
            if not any(p.close_for_memory(min(over, RELIEF_SLICE_BYTES)) for p in able):
                return len(able) == len(partitions)
            await asyncio.sleep(0)
        if self.is_short and total_memory(held) < RELIEVED_BELOW * self.limit:
            self._log_change(short=False)
        return True

    def _log_change(self, *, short: bool) -> None:
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


def total_memory(owned: Iterable[OwnedPartition]) -> int:
    """Return about how many bytes the windows of all partitions take, those being put back too."""
    return sum([one.memory_bytes() for one in owned])
