"""Which pieces wait in the windows of several lanes: they take their memory once.

Each window counts what it holds in full (``Window.weight``); what that counts too often is told
here. It is exact: every piece is entered when it joins the tail of an open window, and leaves when
the tail lets it go. Nothing else holds a piece for long: what closed becomes documents.
"""

from collections.abc import Sequence

from forwarder import native
from forwarder.collect.windows.window import PIECE_OVERHEAD_BYTES
from forwarder.model import Piece

LIST_SLOT_BYTES = 10
"""Of a piece in each tail that holds it: its place in a list that grew."""

ENTRY_BYTES = 50
"""Of an entry, for both cores, which have to decide alike: measured (CPython 3.11, 300,000 entries
and more) 26 to 41 natively, 63 to 84 in Python."""

MOST_HOLDERS = 3
"""Holders up to which compressing a piece is worth it: each makes a copy, a quarter as large."""

NOTHING_FRESH = (1 << 63) - 1
"""Above any offset."""

_LOOKED_AT = 8
"""Pieces of a tail that are asked how many hold them."""

_PARTS = 16
_SHIFT = 16
"""Bits of an address that choose no part: what was made together stands there together."""


class Shares:
    """How many open windows of a partition hold a piece, by identity. There is a native twin.

    Owner: the partition's pipeline, which sets ``taking`` for each poll: whether any upload goes to
    several lanes. Then all stores enter all pieces of that poll, else none does; so a piece is
    entered by all that hold it, or by nobody. An entry's piece lives: a tail holds it.
    ``fresh_from`` is set with it: the offset from which on more lanes than have had their turn may
    be about to hold what comes; ``NOTHING_FRESH``: none is.
    ``saved``, for reading only: the bytes that windows count more than once, less those of the
    entries. Below 0 where nearly every piece has one holder.
    """

    __slots__ = ("_parts", "fresh_from", "saved", "taking")

    def __init__(self) -> None:
        """Begin without entries, and not taking any."""
        self.taking = False
        self.fresh_from = NOTHING_FRESH
        self.saved = 0
        # In parts, as ``Table``: a dict of a million entries stalls where it grows.
        self._parts: list[dict[int, int]] = [{} for _ in range(_PARTS)]

    def take(self, piece: Piece) -> None:
        """Enter a piece that has joined the tail of an open window. Callers: the stores."""
        key = id(piece)
        part = self._parts[key >> _SHIFT & _PARTS - 1]
        if key in part:
            part[key] += 1
            self.saved += _SHARED_BYTES + len(piece[4])
        else:
            part[key] = 1
            self.saved -= ENTRY_BYTES

    def release(self, pieces: Sequence[Piece]) -> None:
        """Remove pieces that the tail of an open window lets go, before it does.

        Those that nobody has entered are passed over: they are counted in full. Callers: the
        stores, when a window closes, and when its tail is compressed.
        """
        for piece in pieces:
            key = id(piece)
            part = self._parts[key >> _SHIFT & _PARTS - 1]
            holders = part.get(key, 0)
            if holders > 1:
                part[key] = holders - 1
                self.saved -= _SHARED_BYTES + len(piece[4])
            elif holders:
                del part[key]
                self.saved += ENTRY_BYTES

    def holders(self, piece: Piece) -> int:
        """Return how many have entered a living piece."""
        key = id(piece)
        return self._parts[key >> _SHIFT & _PARTS - 1].get(key, 0)

    def __len__(self) -> int:
        """Return how many pieces are entered."""
        return sum(map(len, self._parts))


_SHARED_BYTES = PIECE_OVERHEAD_BYTES - LIST_SLOT_BYTES


def make_shares() -> Shares:
    """Return an empty ``Shares``, the native one where it is built."""
    core = native.core()
    if core is None:
        return Shares()
    made: Shares = core.Shares(_SHARED_BYTES, ENTRY_BYTES)
    return made


def are_spread(shares: Shares, pieces: Sequence[Piece]) -> bool:
    """Tell whether so many windows hold most of these that compressing them frees nothing.

    A few of them are looked at, from the first on at equal distances. What is of this poll counts
    as held by many if it may be by its end.
    """
    some = pieces[:: -(-len(pieces) // _LOOKED_AT)] if pieces else ()
    fresh, holders = shares.fresh_from, shares.holders
    spread = [piece[0] >= fresh or holders(piece) > MOST_HOLDERS for piece in some]
    return 2 * sum(spread) > len(spread)
