"""Runs of events (``Piece``) cut and joined: positions stay exact, bytes stay as they are."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from forwarder.formats import rawjson
from forwarder.model import Piece, Position


def last_position(piece: Piece) -> Position:
    """Return the last position of a piece; one without events takes one slot."""
    return piece[0], piece[1] + max(piece[2], 1) - 1


def rest_after(piece: Piece, position: Position) -> Piece | None:
    """Return the part of a piece after a position; None if nothing is left."""
    if last_position(piece) <= position:
        return None
    first = position[1] + 1 - piece[1] if position[0] == piece[0] else 0
    return split_after(piece, first)[1] if first > 0 else piece


def split_after(piece: Piece, count: int) -> tuple[Piece, Piece]:
    """Cut a piece after ``count`` of its events; both sides keep exact positions."""
    head, tail = split_before(piece, [count])
    return head, tail


def split_before(piece: Piece, before: Sequence[int]) -> list[Piece]:
    """Cut a piece before each of these events, counted from its first; it is read only once."""
    if not before:
        return [piece]
    offset, index, count, time, body = piece
    parts = rawjson.split_values(body)
    edges = pairwise((0, *before, count))
    return [(offset, index + a, b - a, time, b",".join(parts[a:b])) for a, b in edges]


def join_pieces(pieces: Sequence[Piece]) -> Piece:
    """Join pieces into one, to be judged together; its position, (-1, 0), is none of the log."""
    count = sum([piece[2] for piece in pieces])
    return (-1, 0, count, 0, b",".join([piece[4] for piece in pieces if piece[2]]))


def split_each(piece: Piece) -> list[Piece]:
    """Return a piece's events as pieces of one event each; one without events as it is."""
    offset, index, count, time, body = piece
    if count < 2:  # noqa: PLR2004  # nothing to take apart
        return [piece]
    parts = rawjson.split_values(body)
    return [(offset, index + i, 1, time, bytes(part)) for i, part in enumerate(parts)]


def split_to_size(piece: Piece, most: int) -> list[Piece]:
    """Split a piece into pieces of at most ``most`` bytes; a larger event stays one piece."""
    if len(piece[4]) <= most:
        return [piece]
    edges: list[int] = []
    size = 0
    for at, single in enumerate(split_each(piece)):
        if at and size + len(single[4]) + 1 > most:
            edges.append(at)
            size = 0
        size += len(single[4]) + 1
    return split_before(piece, edges)


def runs(indices: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield (first, one past the last) of every run of consecutive numbers; one at least."""
    start = previous = indices[0]
    for index in indices[1:]:
        if index != previous + 1:
            yield start, previous + 1
            start = index
        previous = index
    yield start, previous + 1
