"""What time it is in a file: how far its lines let the record clock go.

Kafka's records are held against the machine's clock, and time passes by itself: whatever claims to
be of the future is late by no more than that. A file is read long after, in no time: its own lines
are all there is to tell the time by, and one that lies about it must not decide for the others.
The answer follows from the lines alone, so that the same file closes the same windows again.
"""

from collections.abc import Sequence

LOOKAHEAD = 8
"""How many lines after one are asked whether it is right: fewer than half may lie, too."""

LEAP_MS = 3_600_000
"""What a line may be ahead of all before it and be believed at once; a file's usual distance."""

_LATEST_MS = 100_000_000_000_000  # the year 5138; as microseconds 1973
_PER_UNIT = 1_000
_UNITS = 2  # microseconds, nanoseconds; nothing larger fits into 64 bits


class InputTime:
    """The time as the lines read so far tell it, in milliseconds."""

    def __init__(self) -> None:
        """Begin with the epoch."""
        self.now_ms = 0

    def is_sure(self, time_ms: int) -> bool:
        """Tell whether a line of this time needs no others to be believed."""
        return milliseconds(time_ms) <= self.now_ms + LEAP_MS

    def advance(self, time_ms: int, following: Sequence[int]) -> int:
        """Go to the time of the next line; return the time it is now.

        ``following``: the own times of up to ``LOOKAHEAD`` lines after it. A line far ahead of all
        before it is believed if half of these are, too, and as far as most of those are; equal
        times count once, since what lies often says the same. Where nothing follows it is believed.
        """
        time, limit = milliseconds(time_ms), self.now_ms + LEAP_MS
        if time > limit and (votes := set(map(milliseconds, following))):
            ahead = sorted(vote for vote in votes if vote > limit)
            if 2 * len(ahead) < len(votes):
                return self.now_ms
            most = ahead[len(ahead) // 2] - LEAP_MS
            time = min(time, next(vote for vote in ahead if vote >= most))
        self.now_ms = max(self.now_ms, time)
        return self.now_ms


def milliseconds(time: int) -> int:
    """Return a time that can only be micro- or nanoseconds as milliseconds."""
    for _ in range(_UNITS):
        if time < _LATEST_MS:
            break
        time //= _PER_UNIT
    return time
