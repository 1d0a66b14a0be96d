"""When what waits in windows is compressed: long tails alone, small windows together in packs."""

import msgspec

from forwarder.collect.windows import packs
from forwarder.collect.windows.packs import Entry, Pack
from forwarder.collect.windows.shares import Shares, are_spread
from forwarder.collect.windows.window import PIECE_OVERHEAD_BYTES, Window, tail_bytes

ENOUGH_MEMORY_BYTES = 64 * 1024 * 1024
"""Bytes of windows up to which short tails are left as they are, where nobody says otherwise."""

_PACK_FACTOR = 8
"""Pieces in a pack that are packed once more with each that came since."""

_PACKED_AT_ONCE = 2
"""Times ``at_once`` that windows are packed in a poll: more than may come in one."""

_LOOK_BYTES = 512
"""What is packed in the time of a look at a window that is not."""

_WARM_PART = 4
"""Part of what may wait plain that is never packed: what came last, and gets more soonest."""


class TailSizes(msgspec.Struct, frozen=True):
    """When tails of pieces become blocks, in bytes.

    ``packed``: how many windows share a pack. ``first_look``: of a window at which it is looked at
    first; smaller ones are in the lowest size class. ``short``: of a tail that is compressed while
    memory is short; smaller ones compress badly. ``long``: of a tail that is compressed in any
    case; most windows close before they have one. ``at_once``: of tails that one lane compresses in
    a poll, some 6 ms; others wait for the next.
    """

    packed: int = 16
    first_look: int = 4 * 1024
    short: int = 8 * 1024
    long: int = 32 * 1024
    at_once: int = 1024 * 1024


class TailCompressor:
    """Decides for a lane which tails become blocks, and when to look again. Caller: its store."""

    def __init__(self, sizes: TailSizes) -> None:
        """Begin with memory enough, up to ``ENOUGH_MEMORY_BYTES``."""
        self._sizes = sizes
        self._compress_above = ENOUGH_MEMORY_BYTES
        self._left = self._pack_left = sizes.at_once

    def compress_above(self, memory_bytes: int) -> None:
        """Set how much memory all windows of the lane may take before short tails go, too."""
        self._compress_above = memory_bytes

    def begin_poll(self) -> None:
        """Allow as much compressing as a poll may have."""
        self._left = self._sizes.at_once
        self._pack_left = _PACKED_AT_ONCE * self._sizes.at_once

    def should_pack(self, memory: int, warm: int) -> bool:
        """Tell whether windows should be packed; ``warm``: what those take that are not."""
        above = self._compress_above
        return memory > above and warm > above // _WARM_PART and self._pack_left > 0

    def may_wait(self, memory: int) -> bool:
        """Tell whether windows that close soon are left as they are.

        Packing one frees memory for as long as it is open yet, and costs the same: where any will
        do, those that have more than half of it before them are packed half as often.
        """
        return memory <= 2 * self._compress_above

    def may_look(self, windows: int) -> bool:
        """Tell whether so many windows may be looked at; that counts in what a poll may have."""
        self._pack_left -= _LOOK_BYTES * windows
        return self._pack_left > 0

    def can_be_packed(self, window: Window) -> bool:
        """Tell whether a window may go into a pack: a small one, of which enough is in none."""
        if window.blocks is not None or window.weight >= 2 * self._sizes.short:
            return False
        if (pack := window.pack) is None:
            return True
        known, more = pack.piece_count(window.place), len(window.tail_pieces())
        small = pack.events_bytes(window.place) < self._sizes.short
        return small and _PACK_FACTOR * more >= known

    def pack(self, entries: list[Entry]) -> Pack:
        """Make a pack, and count it in what a poll may have."""
        self._pack_left -= sum([len(context) for context, _ in entries])
        made = packs.pack(entries)
        self._pack_left -= sum(made.sizes)
        return made

    def look(self, window: Window, memory: int, shares: Shares | None) -> int:
        """Compress the window's tail if it has become long; return the bytes that saves.

        Sets the weight at which to look again; ``weight`` is left to the caller. ``memory``: what
        all windows of the lane take. ``shares``: what may hold pieces of it; its are released.
        """
        sizes, is_short = self._sizes, memory > self._compress_above
        if window.weight < sizes.long // 2 and not is_short:
            window.look_at = sizes.long // 2
            return 0
        if self._left <= 0:  # not to be summed again with every event until the next poll
            window.look_at = window.weight + PIECE_OVERHEAD_BYTES
            return 0
        tail, saved = tail_bytes(window.tail_pieces()), 0
        if tail >= (sizes.short if is_short else sizes.long):
            if shares is not None:
                pieces = window.tail_pieces()
                if are_spread(shares, pieces):  # each holder would make a copy of its own
                    window.look_at = window.weight + max(tail, sizes.short)
                    return 0
                shares.release(pieces)
            self._left -= tail
            saved, tail = window.compress_tail(), 0
        goal = sizes.long if tail >= sizes.long // 2 else max(2 * tail, sizes.long // 2)
        if memory - saved > self._compress_above:
            goal = sizes.short
        window.look_at = window.weight - saved + max(goal - tail, PIECE_OVERHEAD_BYTES)
        return saved
