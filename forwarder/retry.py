"""When to try again: full-jitter exponential backoff, and nothing else."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """A schedule in seconds; the caller brings the random number.

    Full jitter (between ``floor`` and the exponential ceiling) is what AWS's architecture
    blog found to finish contended work soonest.
    """

    base: float
    cap: float
    floor: float = 0.0

    def delay(self, attempt: int, random: float) -> float:
        """Return seconds to wait before try ``attempt`` + 1, for ``random`` in [0, 1)."""
        ceiling = min(self.cap, self.base * 2.0 ** min(attempt, 32))
        return self.floor + random * max(0.0, ceiling - self.floor)


TRANSIENT = Backoff(base=0.1, cap=20.0)
"""A put that may succeed a moment later: throttling, 5xx, resets."""

PAUSED = Backoff(base=5.0, cap=60.0, floor=5.0)
"""A lane that waits for somebody to mend a permission, a stream or a key."""

REOPEN = Backoff(base=0.2, cap=10.0, floor=0.05)
"""A partition whose journal failed."""
