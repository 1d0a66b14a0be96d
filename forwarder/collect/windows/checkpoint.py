"""Save the windows of a lane in slices, while they live on (K2)."""

from collections.abc import Callable

from forwarder.collect.windows.store import WindowStore
from forwarder.collect.windows.window import Window
from forwarder.model import HeldWindow

_ENTRY_BYTES = 64
_LOOK_BYTES = 16


class Checkpoint:
    """One run over the windows of a lane that stores what a snapshot needs of them.

    It asks the store for slices, and tells it when they count as saved; dropped without
    ``settle`` it has changed nothing. Until then ``first_unsaved`` behaves as if nothing was
    taken, and a window that was taken may get events or close. Caller: the partition's snapshot
    in the making, between two of its awaits.
    """

    def __init__(
        self, store: WindowStore, below: int, note: Callable[[], None] = lambda: None
    ) -> None:
        """Start it: over windows with unsaved events below this offset, and all saved before.

        Makes an earlier one of the lane void that is not settled. ``note`` is called after
        whatever it changes in the store.
        """
        self._note = note
        self._store = store
        self._below = below
        self._mark = store.unsaved.begin()
        self._left = store.unsaved.to_save(below)
        self._taken = list[Window]()
        self._complete = False

    def take(self, limit_bytes: int) -> list[HeldWindow]:
        """Return the next windows to store, about so many bytes of them; none: all were taken.

        Raises RuntimeError if another checkpoint of the lane was begun since.
        """
        self._check()
        self._note()
        found: list[HeldWindow] = []
        room = limit_bytes
        for window in self._left:
            room -= _LOOK_BYTES
            if window is not None and not window.closed:
                self._taken.append(window)
                held = self._store.save(window, self._below, self._mark)
                if held is not None:
                    found.append(held)
                    room -= sum([_ENTRY_BYTES + len(piece[4]) for piece in held.pieces])
                    room -= _ENTRY_BYTES + len(held.context)
            if room <= 0 and found:
                return found
        self._complete = True
        return found

    def settle(self) -> None:
        """Count what was taken as saved: the tick that writes it is drawn.

        Raises RuntimeError before all was taken, and if another checkpoint was begun since.
        """
        self._check()
        if not self._complete:
            message = "a checkpoint is settled before all was taken"
            raise RuntimeError(message)
        self._store.unsaved.settle(self._mark, self._taken)
        self._note()

    def _check(self) -> None:
        if self._store.unsaved.is_void(self._mark):
            message = "another checkpoint of the lane has made this one void"
            raise RuntimeError(message)
