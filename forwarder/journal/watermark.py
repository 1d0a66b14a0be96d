"""Read, need and watermark: three numbers that only ever rise (K1)."""

from collections.abc import Iterable

from forwarder.model import Position


def read(stored: int, position: int) -> int:
    """Return up to which offset a lane was fed; a replay below it changes nothing."""
    return max(stored, position)


def need(stored: Position, position: int, first_unsaved: Position | None) -> Position:
    """Return the lowest position a lane still needs from the input.

    ``position`` is the next offset to collect, ``first_unsaved`` the lowest position that
    waits in an open window and in no stored base.
    """
    reached = max((position, 0), stored)
    return reached if first_unsaved is None else min(first_unsaved, reached)


def watermark(needs: Iterable[Position], otherwise: int) -> int:
    """Return W, the lowest offset any lane needs; ``otherwise`` if there is no lane at all."""
    return min((n[0] for n in needs), default=otherwise)
