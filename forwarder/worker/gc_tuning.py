"""Look for garbage seldom and in small portions: windows are many and old, and make no cycles.

With Python's defaults 60,000 open windows cost a tenth of the CPU in looking through them, and a
million of them stop the loop for seconds.
"""

import gc
from collections.abc import Mapping

YOUNG_OBJECTS, MIDDLE_EVERY, FULL_EVERY_MIDDLE = THRESHOLDS = (20_000, 5, 200)
"""A young collection looks at 20,000 objects, a middle one at 100,000 (some 15 ms), and there is a
full one for every 20 million that were made and kept."""

FULL_EVERY = 10
"""Every so many full collections look at all there is; the others only at what came since."""


class FullCollectionLimiter:
    """Keeps what outlived a full collection out of the next ones, all but every tenth.

    Caller: the collector itself, as one of ``gc.callbacks``. It freezes what survived, and
    unfreezes it for every tenth: a cycle that becomes garbage later waits for that one.
    """

    def __init__(self) -> None:
        """Create with nothing counted."""
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


RECORDS_PER_COLLECTION = 2_000
"""Collected records that make 10,000 young objects or so, which take some 2 ms to look at."""


class YoungCollections:
    """Runs a young collection after so many records, and a middle one each fifth time.

    CPython's trigger counts allocations less frees of objects of any age. While as many old pieces
    go as new ones come, as where windows close or are compressed, it may not fire for minutes; the
    collection then looks at half a million young objects at once: 100 ms.
    """

    def __init__(self) -> None:
        """Create with nothing counted."""
        self._records = self._collections = 0

    def add_records(self, records: int) -> None:
        """Count records that were collected."""
        self._records += records
        if self._records >= RECORDS_PER_COLLECTION:
            self._records = 0
            self._collections += 1
            gc.collect(0 if self._collections % MIDDLE_EVERY else 1)


YOUNG_COLLECTIONS = YoungCollections()
"""The process's only instance, as there is one collector."""


def tune_gc() -> None:
    """Have this process collect garbage so from now on. Called once, by the app."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
    gc.callbacks.append(FullCollectionLimiter())
