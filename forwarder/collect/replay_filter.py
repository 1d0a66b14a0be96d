"""Tell what a replay must not collect again (O8)."""

from collections.abc import Iterable

from forwarder.formats.contract import Upload, digest
from forwarder.formats.pieces import divide, last_of
from forwarder.model import LOWEST, Gate, Piece, Position


def wide_open() -> Gate:
    """Return the gate of a lane that has never stored anything."""
    return Gate(need=LOWEST, read=0, closed={}, held_to={}, keying=[])


def rule_at(gate: Gate, position: Position, today: str) -> str:
    """Return the rule by which an event at this position is keyed (L2)."""
    found = gate.keying[0][0] if gate.keying else today
    for rule, start in gate.keying[1:]:
        if start <= position:
            found = rule
    return found


def passes(gate: Gate, name: bytes, position: Position) -> bool:
    """Tell whether a position of the window key with this digest is still wanted."""
    return position >= gate.need and position > settled_to(gate, name)


def is_settled(gate: Gate, upload: Upload, *, by_device: bool) -> bool:
    """Tell whether nothing of an upload is wanted, before anything is made of its events.

    Where windows are keyed otherwise than ``by_device``, by owner, their keys are not known yet.
    """
    last = (upload.offset, upload.start + max(len(upload.types), 1) - 1)
    return last < gate.need or (by_device and last <= settled_to(gate, name_of(upload)))


def name_of(upload: Upload) -> bytes:
    """Return the digest of the owner, made once for all lanes."""
    if not upload.name:
        upload.name = digest(upload.owner)
    return upload.name


def admit(gate: Gate, name: bytes, pieces: Iterable[Piece]) -> list[Piece]:
    """Return what is still wanted of the pieces of the window key with this digest."""
    settled = settled_to(gate, name)
    admitted = []
    for piece in pieces:
        last = last_of(piece)
        if last < gate.need or last <= settled:
            continue
        first = max(gate.need, (settled[0], settled[1] + 1))
        surplus = first[1] - piece[1] if first[0] == piece[0] else 0
        admitted.append(divide(piece, surplus)[1] if surplus > 0 else piece)
    return admitted


def settled_to(gate: Gate, name: bytes) -> Position:
    """Return the last position that is batched or saved of the window key with this digest."""
    return max(gate.closed.get(name, LOWEST), gate.held_to.get(name, LOWEST))
