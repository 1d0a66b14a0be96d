"""Save the windows of a lane in slices, while they live on (K2)."""

from collections.abc import Iterator

from forwarder.collect.windows import saved
from forwarder.collect.windows.store import Windows
from forwarder.collect.windows.window import Generation, Window
from forwarder.model import Held

_ENTRY_BYTES = 64
_LOOK_BYTES = 16


class Saving:
    """One saving of one lane's windows; dropped without ``settle`` it has changed nothing.

    Until then ``first_unsaved`` behaves as if nothing was taken, and a window that was taken may
    get events or close. Caller: the owner of the partition, between two of its awaits.
    """

    def __init__(self, windows: Windows, below: int) -> None:
        """Begin to save: windows with unsaved events below this offset, and all saved earlier."""
        self._windows = windows
        self._below = below
        self._generation = windows.generation = Generation()
        self._taken: list[Window] = []
        self._left = self._candidates()
        self._complete = False

    def take(self, limit_bytes: int) -> list[Held]:
        """Return the next windows to store, about so many bytes of them; none: all were taken.

        Raises RuntimeError if another saving of the lane was begun since.
        """
        self._check()
        found: list[Held] = []
        room = limit_bytes
        for window in self._left:
            room -= _LOOK_BYTES
            held = None if window is None else self._take(window)
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

        Raises RuntimeError before all was taken, and if another saving was begun since.
        """
        self._check()
        if not self._complete:
            message = "a saving is settled before all was taken"
            raise RuntimeError(message)
        self._generation.settled = True
        self._windows.saved = self._taken

    def _check(self) -> None:
        if self._windows.generation is not self._generation:
            message = "another saving of the lane has made this one void"
            raise RuntimeError(message)

    def _candidates(self) -> Iterator[Window | None]:
        """Yield what may have to be stored, None for what has not: a slice is bounded by looks."""
        yield from self._windows.saved
        for window in self._windows.fresh:
            if not saved.is_fresh(window):
                yield None
            elif window.unsaved is not None and window.unsaved[0] < self._below:
                yield window
            else:
                return

    def _take(self, window: Window) -> Held | None:
        """Return the stored form of a window, drafted if it has to be saved (again)."""
        if window.closed:
            return None
        self._windows.resolve(window)
        part = window.saved
        if window.unsaved is not None and window.unsaved[0] < self._below:
            part = saved.now(window)
            self._windows.draft(window, part, self._generation)
        self._taken.append(window)
        return None if part is None else saved.stored(window, part)
