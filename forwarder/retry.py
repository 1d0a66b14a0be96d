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


PUT_TRANSIENT = Backoff(base=0.1, cap=20.0, floor=0.02)
"""A put that may succeed a moment later: throttling, 5xx, resets. Never at once, whatever the
chance: nothing is put in a loop."""

PUT_PAUSED = Backoff(base=5.0, cap=60.0, floor=5.0)
"""A lane that waits for somebody to mend a permission, a stream or a key."""

REOPEN = Backoff(base=0.2, cap=2.0, floor=0.05)
"""A partition that cannot be opened yet: Kafka is away, and is to be noticed when it is back."""

REOPEN_RELAPSE = Backoff(base=0.1, cap=20.0, floor=0.05)
"""A partition that opens and fails again soon: reading its state each time is not for nothing."""

REOPEN_SETUP = Backoff(base=1.0, cap=15.0, floor=0.5)
"""A partition that lacks what somebody has to provide: topics, certificates, a right."""

REOPEN_REFUSED = Backoff(base=60.0, cap=75.0, floor=45.0)
"""A partition that contradicts itself or the log: somebody repairs it. Also tried at once after a
rebalance."""

PRODUCE_REFUSED = Backoff(base=1.0, cap=30.0, floor=0.5)
"""A partition that took nothing of a gateway's: whoever sends to it meanwhile is told at once."""

LOG_REPEAT_SECONDS = 60.0
"""Seconds after which the log says once more what goes on; for whoever has no reason for others."""


class RepeatSuppressor:
    """Keeps a log from saying the same again and again: once in ``seconds`` is enough."""

    def __init__(self, seconds: float) -> None:
        """Create; the same text is news again after ``seconds``."""
        self._seconds = seconds
        self._said: dict[str, float] = {}

    def register(self, text: str, now: float) -> bool:
        """Take note of a text that comes up at ``now`` (steady seconds).

        Returns True if it is to be said: it was not within ``seconds`` before.
        """
        self._said = {t: at for t, at in self._said.items() if now - at < self._seconds}
        if text in self._said:
            return False
        self._said[text] = now
        return True
