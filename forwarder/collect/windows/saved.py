"""The saved part of a window: what it is now, how it is stored, and when it counts."""

from forwarder.collect.windows import storage
from forwarder.collect.windows.window import Saved, Window
from forwarder.formats.contract import Names
from forwarder.formats.pieces import within
from forwarder.model import Held, Piece, Unopened

LARGEST_PIECE = 1024 * 1024
"""Bytes of a stored piece of more than one event: one alone is never larger than a document."""


def now(window: Window) -> Saved:
    """Return a window as it is, as the part to save."""
    to = window.touched
    if window.pieces or window.blocks:
        to = max(to, window.last)
    return Saved(
        storage.piece_count(window), window.context, window.identities_ms, window.newest_ms, to,
        window.last_activity, window.deadline, window.reason,
    )  # fmt: skip


def stored(window: Window, part: Saved) -> Held:
    """Return the stored form of that part of a window."""
    pieces = storage.first_pieces(window, part.pieces)
    if max([len(piece[4]) for piece in pieces], default=0) > LARGEST_PIECE:
        pieces = [small for piece in pieces for small in within(piece, LARGEST_PIECE)]
    return Held(
        window.key, window.device, window.session, pieces,
        part.context, part.identities_ms, part.newest_ms, part.to, window.opened,
        part.last_activity, part.deadline, part.reason,
    )  # fmt: skip


def taken_up(held: Held, pieces: list[Piece], names: Names) -> tuple[Window, int]:
    """Return a saved window with these of its pieces, and how large they are at most.

    Caller: ``Windows.restore``. Of an ``Unopened`` one they stand in the window itself.
    """
    count = sum([piece[2] for piece in pieces])
    largest = max([len(piece[4]) for piece in pieces], default=0)
    block = None
    if isinstance(held, Unopened):
        pieces, block = storage.unopened(held)
        count = held.judged.events
        largest = held.judged.bytes  # or less
    device = held.key if held.key == held.device else held.device  # kept once
    window = Window(
        held.key, device, held.session, pieces, count, held.context, names,
        held.identities_ms, held.newest_ms, held.opened, held.last_activity, held.deadline,
        held.reason, touched=held.to,
    )  # fmt: skip
    if block is not None:
        window.blocks = [block]
    window.saved = now(window)
    return window, largest


def is_settled(window: Window) -> bool:
    """Tell whether the window's draft counts as its saved part."""
    return window.draft is not None and window.draft.generation.settled


def is_fresh(window: Window) -> bool:
    """Tell whether the window is open and was never saved."""
    return not window.closed and window.saved is None and not is_settled(window)
