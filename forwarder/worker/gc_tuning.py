"""Look for garbage seldom and in small portions: windows are many and old, and make no cycles.

With Python's defaults 60,000 open windows cost a tenth of the CPU in looking through them, and a
million of them stop the loop for seconds.
"""

import gc
from collections.abc import Mapping

THRESHOLDS = (20_000, 5, 200)
"""A young collection looks at 20,000 objects, a middle one at 100,000 (some 15 ms), and there is a
full one for every 20 million that were made and kept."""

WHOLE = 10
"""Every so many full collections look at all there is; the others only at what came since."""


class Portions:
    """Keeps what outlived a full collection out of the next ones, all but every tenth.

    A cycle that becomes garbage later waits for that one. Called by the collector itself.
    """

    def __init__(self) -> None:
        """Begin to count."""
        self._full = 0

    def __call__(self, phase: str, info: Mapping[str, int]) -> None:
        """Take note of a collection that begins (``start``) or has ended (``stop``)."""
        if info["generation"] != len(THRESHOLDS) - 1:
            return
        if phase == "stop":
            gc.freeze()
            return
        self._full += 1
        if self._full % WHOLE == 0:
            gc.unfreeze()


RECORDS = 2_000
"""Collected records that make 10,000 young objects or so, which take some 2 ms to look at."""


class Nursery:
    """Has the young looked at after so many records, every fifth time with the middle ones.

    Python counts what was made less what was freed, of any age. While as many old pieces go as
    new ones come, as where windows close or are compressed, it counts nothing for minutes, and
    then looks at half a million young ones at once: 100 ms.
    """

    def __init__(self) -> None:
        """Begin to count."""
        self._records = self._looks = 0

    def note(self, records: int) -> None:
        """Count records that were collected."""
        self._records += records
        if self._records >= RECORDS:
            self._records = 0
            self._looks += 1
            gc.collect(0 if self._looks % THRESHOLDS[1] else 1)


NURSERY = Nursery()
"""The one of this process, as its garbage collector is."""


def collect_rarely() -> None:
    """Have this process collect garbage so from now on. Called once, by the app."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
    gc.callbacks.append(Portions())
