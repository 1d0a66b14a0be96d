"""Notice that most of what comes in is rejected: something was deployed that should not have been.

Pure: it counts what it is told, by the time it is told.
"""

from collections import deque
from math import floor
from typing import NamedTuple

from forwarder.model import Collected

RATE_WINDOW_SECONDS = 60.0
"""Seconds over which the share is taken."""

MIN_RECORDS = 1_000
"""Records below which nothing is decided: a few odd ones are no deploy. Where fewer come in that
time, those before them count as well."""

MAX_AGE_SECONDS = 3_600.0
"""Seconds after which what was counted is forgotten, however few came since."""


class RejectShare(NamedTuple):
    """Records, and how many were rejected; one that a part of the lanes rejects counts in part."""

    records: int
    rejected: float

    def above(self, percent: int) -> bool:
        """Tell whether more than ``percent`` of the records were rejected."""
        return self.rejected * 100 > self.records * percent


def reject_share(collected: Collected, lanes: int) -> RejectShare:
    """Return what was collected and rejected.

    A letter of one lane out of ``lanes`` is that part of a record: a broken connection alone must
    not stop the others. What an operator sent back and failed again is no deploy's. A record of
    which nothing came anywhere and that does not even have a key ``events`` (``idle``) counts as
    rejected; one with an empty list of events, an SDK's heartbeat, does not.
    """
    letters = [letter for letter in collected.dead_letters if not letter.redriven]
    if not letters:
        return RejectShare(collected.records, float(collected.idle))
    whole = sum(1 for letter in letters if not letter.connection) + collected.idle
    parts = {(letter.connection, letter.offset) for letter in letters if letter.connection}
    return RejectShare(collected.records, whole + len(parts) / max(1, lanes))


class RejectRate:
    """Counts over all partitions of a worker. ``percent``: the share that is too much; 0: off.

    Caller: partitions for what they collect, the circuit breaker for everything else.
    """

    def __init__(self, percent: int = 0, lanes: int = 1) -> None:
        """Create with nothing counted. ``lanes``: how many connections take what is new."""
        self.percent = percent
        self._lanes = lanes
        self._seconds: deque[tuple[int, RejectShare]] = deque()
        self._records = 0
        self._rejected = 0.0

    def add(self, collected: Collected, now: float) -> None:
        """Count one poll, or one slice of closed windows."""
        if not self.percent or not (collected.records or collected.dead_letters):
            return
        told, second = reject_share(collected, self._lanes), floor(now)
        self._records += told.records
        self._rejected += told.rejected
        if self._seconds and self._seconds[-1][0] == second:
            _, last = self._seconds.pop()
            told = RejectShare(last.records + told.records, last.rejected + told.rejected)
        self._seconds.append((second, told))

    def expire(self, now: float) -> None:
        """Forget seconds that count no more. Caller: before :meth:`exceeded`."""
        while self._seconds and self._is_expired(*self._seconds[0], now):
            _, gone = self._seconds.popleft()
            self._records -= gone.records
            self._rejected = self._rejected - gone.rejected if self._seconds else 0.0

    def exceeded(self) -> RejectShare | None:
        """Return what was counted if too much was rejected; None if all is well."""
        counted = RejectShare(self._records, self._rejected)
        is_enough = self._records >= MIN_RECORDS
        return counted if is_enough and counted.above(self.percent or 100) else None

    def _is_expired(self, second: int, counted: RejectShare, now: float) -> bool:
        """Tell whether a second counts no more: too old, or not needed for ``MIN_RECORDS``."""
        if second <= now - MAX_AGE_SECONDS - 1:
            return True
        return (
            second <= now - RATE_WINDOW_SECONDS - 1
            and self._records - counted.records >= MIN_RECORDS
        )

    def sample_exceeds(self, collected: Collected) -> RejectShare | None:
        """Return what a sample holds if too much of it is rejected, however small it is."""
        found = reject_share(collected, self._lanes)
        return found if found.above(self.percent or 100) else None

    def reset(self) -> None:
        """Forget everything: what was counted is answered for."""
        self._seconds.clear()
        self._records, self._rejected = 0, 0.0
