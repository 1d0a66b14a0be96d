"""Tell what a replay must not collect again (O8)."""

from collections.abc import Iterable

from forwarder.model import LOWEST, Gate, Piece, Position
from forwarder.stages.shapes import digest, divide, last_of


def wide_open() -> Gate:
    """Return the gate of a lane that has never stored anything."""
    return Gate(need=LOWEST, read=0, closed={}, held_to={}, keying=[])


def rule_at(gate: Gate, position: Position, today: str) -> str:
    """Return the rule by which an event at this position is keyed (L2)."""
    found = gate.keying[0][0] if gate.keying else today
    for rule, start in gate.keying:
        if start <= position:
            found = rule
    return found


def passes(gate: Gate, key: bytes, position: Position) -> bool:
    """Tell whether a position of this window key is still wanted."""
    return position >= gate.need and position > _settled(gate, key)


def admit(gate: Gate, key: bytes, pieces: Iterable[Piece]) -> list[Piece]:
    """Return what is still wanted of the pieces of one window key."""
    settled = _settled(gate, key)
    admitted = []
    for piece in pieces:
        last = last_of(piece)
        if last < gate.need or last <= settled:
            continue
        first = max(gate.need, (settled[0], settled[1] + 1))
        surplus = first[1] - piece[1] if first[0] == piece[0] else 0
        admitted.append(divide(piece, surplus)[1] if surplus > 0 else piece)
    return admitted


def _settled(gate: Gate, key: bytes) -> Position:
    name = digest(key)
    return max(gate.closed.get(name, LOWEST), gate.held_to.get(name, LOWEST))
