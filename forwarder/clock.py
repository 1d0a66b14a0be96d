"""The only module that reads a clock; everything else is given the time."""

import time
from collections.abc import Callable
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


class InputClock(SystemClock):
    """The time in the input instead of that of the machine: for input that is all of the past.

    The same input then gives the same output whenever it is read. ``now`` returns milliseconds.
    """

    def __init__(self, now: Callable[[], int]) -> None:
        self._now = now

    def wall_ms(self) -> int:
        """Return the time that the input has come to."""
        return self._now()


def monotonic() -> float:
    """Read the clock that asyncio and the clients on it compare with, in seconds.

    For what is compared with a time of theirs, such as when a connection was last heard.
    """
    return time.monotonic()
