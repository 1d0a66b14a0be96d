"""The memory of open windows: kept below its limit by closing some early (C1), and its garbage."""

import asyncio
import ctypes
import gc
from collections.abc import Iterable, Mapping

import structlog

from forwarder.worker.partition import OpenPartition, OwnedPartition

log = structlog.get_logger()

RELIEF_SLICE_BYTES = 512 * 1024
"""Estimated bytes let go in one go: compressed, so that encoding may be ten times as much."""

RELIEVED_BELOW = 0.9
"""Share of the limit below which memory is called enough again."""

YOUNG_OBJECTS, MIDDLE_EVERY, FULL_EVERY_MIDDLE = THRESHOLDS = (20_000, 5, 200)
"""A young collection looks at 20,000 objects, a middle one at 100,000 (some 15 ms), and there is a
full one for every 20 million that were made and kept."""

FULL_EVERY = 10
"""Every so many full collections look at all there is; the others only at what came since."""

RECORDS_PER_COLLECTION = 2_000
"""Collected records that make 10,000 young objects or so, which take some 2 ms to look at."""

MAPPED_ABOVE = 16 * 1024 * 1024
"""Bytes of a block from which on it goes back to the system as soon as it is freed. An answer with
the fetches of 32 partitions has 8 MiB."""

TRIMMED_ABOVE = 32 * 1024 * 1024
"""Free bytes at the end of the heap from which on they go back to the system."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""As mallopt(3) has them."""


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


class FullCollectionLimiter:
    """Keeps what outlived a full collection out of the next ones, all but every tenth.

    Caller: the collector itself, as one of ``gc.callbacks``. It freezes what survived, and
    unfreezes it for every tenth: a cycle that becomes garbage later waits for that one.
    """

    def __init__(self) -> None:
        """Create; the count of full collections begins at 0."""
        self._full = 0

    def __call__(self, phase: str, info: Mapping[str, int]) -> None:
        """Take note of a collection that begins (``start``) or has ended (``stop``)."""
        if info["generation"] != len(THRESHOLDS) - 1:
            return
        if phase == "stop":
            gc.freeze()
            return
        self._full += 1
        if self._full % FULL_EVERY == 0:
            gc.unfreeze()


class YoungCollections:
    """Runs a young collection after so many records, and a middle one each fifth time.

    CPython's trigger counts allocations less frees of objects of any age. While as many old pieces
    go as new ones come, as where windows close or are compressed, it may not fire for minutes; the
    collection then looks at half a million young objects at once: 100 ms.
    """

    def __init__(self) -> None:
        """Create; the count of records and of collections begins at 0."""
        self._records = self._collections = 0

    def add_records(self, records: int) -> None:
        """Count records of a poll; collect once ``RECORDS_PER_COLLECTION`` have come."""
        self._records += records
        if self._records >= RECORDS_PER_COLLECTION:
            self._records = 0
            self._collections += 1
            gc.collect(0 if self._collections % MIDDLE_EVERY else 1)


def tune_malloc() -> None:
    """Have freed memory kept for what comes next, where the C library is GNU's. Caller: the app.

    What is fetched, and what is written, is a few large blocks at a time. With the library's
    defaults each of them is given back to the system and asked for again, page by page: a third
    of what it takes to read a record.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, MAPPED_ABOVE)
        mallopt(_M_TRIM_THRESHOLD, TRIMMED_ABOVE)


def tune_gc() -> None:
    """Set garbage collection to be seldom and in small portions. Caller: the app, once.

    Windows are many and old, and make no cycles: with Python's defaults 60,000 open ones cost a
    tenth of the CPU in looking through them, and a million of them stop the loop for seconds.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
    gc.callbacks.append(FullCollectionLimiter())
