"""Save the windows of a lane in slices, while they live on (K2)."""

from forwarder.model import Held
from forwarder.stages.window import Windows


class Saving:
    """One saving of one lane's windows; dropped without ``settle`` it has changed nothing."""

    def __init__(self, windows: Windows, below: int) -> None:
        """Begin to save: windows with unsaved events below this offset, and all saved earlier."""
        self._windows = windows
        self._below = below
        self._taken: dict[bytes, Held] | None = None

    def take(self, limit_bytes: int) -> list[Held]:  # noqa: ARG002  # one slice for now
        """Return the next windows to store, about so many bytes of them; none: all were taken."""
        if self._taken is not None:
            return []
        self._taken = self._windows.draft(self._below)
        return list(self._taken.values())

    def settle(self) -> None:
        """Count as saved what was taken: the base is being sent. Only once all was taken."""
        self._windows.settle(self._taken or {})
