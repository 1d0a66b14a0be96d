"""Every event at once, as a document of its own.

Those of an upload wait as they came until their documents are made: a window for each would take
more than a kilobyte for an event of a few bytes.
"""

from collections.abc import Callable

from forwarder.collect.replay_filter import owner_digest
from forwarder.collect.windows.store import WindowStore
from forwarder.collect.windows.window import Window
from forwarder.formats.contract import Upload
from forwarder.model import CloseReason, Piece


class SingleStore(WindowStore):
    """Closes the events of an upload at once, as a window that has each ``apart``.

    What is open in it was restored: it is from a time when events were batched.
    """

    def _taker(self) -> Callable[[Upload, list[Piece]], None]:
        return self._close_each

    def _add_again_by_device(self, upload: Upload, pieces: list[Piece]) -> None:
        self._close_each(upload, self._admit(upload, owner_digest(upload), pieces) or [])

    def _close_each(self, upload: Upload, pieces: list[Piece]) -> None:
        """Close the events, and before them what the device has open since earlier."""
        if not pieces:
            return
        if self._siblings.devices:
            self._close_siblings(upload.device, (upload.offset, upload.start))
        earlier = self.open.get(upload.device)
        if earlier is not None:
            self.close(earlier, earlier.reason)
        count = sum([piece[2] for piece in pieces])
        self._accepted += count
        waiting = Window(
            upload.owner, upload.device, b"", pieces, count, upload.context, upload.shape,
            upload.time, upload.time, upload.clock, upload.clock, upload.clock,
            CloseReason.SINGLE, closed=True, apart=True,
        )  # fmt: skip
        self._closed.append(waiting)
