"""The only module that reads a clock; everything else is given the time."""

import time
from typing import Protocol

_SUSPEND_AWARE = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Clock(Protocol):
    """Time as the edges see it. The core gets numbers."""

    def wall_ms(self) -> int:
        """Milliseconds since the epoch."""

    def steady(self) -> float:
        """Seconds that never go back and go on while the machine is suspended."""


class SystemClock:
    """The machine's clocks."""

    def wall_ms(self) -> int:
        """Read the wall clock in milliseconds."""
        return time.time_ns() // 1_000_000

    def steady(self) -> float:
        """Read the clock that also counts suspension: a lease must end while a pod sleeps."""
        return time.clock_gettime(_SUSPEND_AWARE)


class EndOfTime(SystemClock):
    """A wall clock that is later than every record: for input whose time is all in the past.

    Records are then never taken for coming from the future, and the same input gives the same
    output whenever it is read.
    """

    def wall_ms(self) -> int:
        """Return a time beyond every record's, below 2**53."""
        return 2**52
