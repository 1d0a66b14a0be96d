"""Says by the definition alone which events have come before: no more of it than its sentences.

Identities are texts, records are (offset, record time, identities). Shares no code with the program
and is slow on purpose.
"""

from collections.abc import Mapping, Sequence
from statistics import median_high
from typing import NamedTuple


class Stood(NamedTuple):
    """A record of a partition: one identity for each of its events, "" for an event without one."""

    offset: int
    time: int
    identities: tuple[str, ...]


class Look(NamedTuple):
    """How far is looked back: see ``LookBackSizes``."""

    block: int = 256
    identities: int = 2_000_000


def anywhere(records: Sequence[Stood], window_ms: int) -> dict[int, list[bool]]:
    """Return by offset which events have come before, looking back on all there is."""
    return {
        one.offset: [
            any(name and name in it.identities for it in _near(records[:at], one, window_ms))
            for name in one.identities
        ]
        for at, one in enumerate(records)
    }


def within(
    records: Sequence[Stood], windows: Mapping[float, int], look: Look | None = None
) -> dict[int, list[bool]]:
    """Return the same, looking back as far as a partition does.

    ``windows``: by the offset from which they hold. Where it is 0, all is forgotten.
    """
    look = look or Look()
    found: dict[int, list[bool]] = {}
    first = before = 0
    for at, one in enumerate(records):
        if any(before < start <= one.offset and not ms for start, ms in windows.items()):
            first = at
        before = one.offset
        window = _window(windows, one.offset)
        if not window:
            first = at + 1
            found[one.offset] = [False] * len(one.identities)
            continue
        if at > first and records[at - 1].offset // look.block != one.offset // look.block:
            first = _end_of_block(records[:at], first, window, look)
        seen = _identities(records[first:at])[-look.identities :]
        near = {name for it, name in seen if abs(it.time - one.time) <= window}
        found[one.offset] = [name in near for name in one.identities]
        first = _end_of_room(records[: at + 1], first, look)
    return found


def _window(windows: Mapping[float, int], offset: int) -> int:
    begun = [start for start in windows if start <= offset]
    return windows[max(begun)] if begun else 0


def _near(records: Sequence[Stood], one: Stood, window_ms: int) -> list[Stood]:
    return [it for it in records if abs(it.time - one.time) <= window_ms]


def _end_of_block(records: Sequence[Stood], first: int, window: int, look: Look) -> int:
    """Return where is looked back to once the block of the last record has ended."""
    numbers = [it.offset // look.block for it in records]
    ended = [it.time for it, n in zip(records, numbers, strict=True) if n == numbers[-1]]
    now = median_high(ended[-(len(records) - first) :])
    while first < len(records):
        block = [at for at in range(first, len(records)) if numbers[at] == numbers[first]]
        named = [records[at].time for at in block if any(records[at].identities)]
        if any(abs(time - now) <= window for time in named):
            break
        first = block[-1] + 1
    return first


def _end_of_room(records: Sequence[Stood], first: int, look: Look) -> int:
    """Return where is looked back to once only so many identities are left: whole blocks."""
    left = _identities(records[first:])
    if len(left) <= look.identities:
        return first
    oldest = left[-look.identities][0].offset // look.block
    behind = [at for at in range(first, len(records)) if records[at].offset // look.block >= oldest]
    return behind[0]


def _identities(records: Sequence[Stood]) -> list[tuple[Stood, str]]:
    """Return the identities of these records; one that a record has twice only once."""
    return [(it, name) for it in records for name in dict.fromkeys(it.identities) if name]
