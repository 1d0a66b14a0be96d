"""The saved part of a window: what it is now, how it is stored, and when it counts."""

from forwarder.formats.pieces import within
from forwarder.model import Held
from forwarder.stages import blocks
from forwarder.stages.shapes import Saved, Window

LARGEST_PIECE = 1024 * 1024
"""Bytes of a stored piece of more than one event: one alone is never larger than a document."""


def now(window: Window) -> Saved:
    """Return a window as it is, as the part to save."""
    to = window.touched
    if window.pieces or window.blocks:
        to = max(to, window.last)
    return Saved(
        blocks.piece_count(window), window.context, window.identities_ms, window.newest_ms, to,
        window.last_activity, window.deadline, window.reason,
    )  # fmt: skip


def stored(window: Window, part: Saved) -> Held:
    """Return the stored form of that part of a window."""
    pieces = blocks.first_pieces(window, part.pieces)
    if max([len(piece[4]) for piece in pieces], default=0) > LARGEST_PIECE:
        pieces = [small for piece in pieces for small in within(piece, LARGEST_PIECE)]
    return Held(
        window.key, window.device, window.session, pieces,
        part.context, part.identities_ms, part.newest_ms, part.to, window.opened,
        part.last_activity, part.deadline, part.reason,
    )  # fmt: skip


def is_settled(window: Window) -> bool:
    """Tell whether the window's draft counts as its saved part."""
    return window.draft is not None and window.draft.generation.settled


def is_fresh(window: Window) -> bool:
    """Tell whether the window is open and was never saved."""
    return not window.closed and window.saved is None and not is_settled(window)
