"""Every event at once, as a document of its own.

Those of an upload wait as they came until their documents are made: a window for each would take
more than a kilobyte for an event of a few bytes.
"""

from forwarder.collect.replay_filter import owner_digest
from forwarder.collect.windows.store import WindowStore
from forwarder.collect.windows.window import Window
from forwarder.formats.contract import Upload
from forwarder.model import CloseReason, Piece


class SingleStore(WindowStore):
    """Closes the events of an upload at once, as a window that has each ``apart``.

    What is open in it was restored: it is from a time when events were batched.
    """

    def _take_whole(self, uploads: list[Upload]) -> None:
        """Close whole uploads; in one loop while nothing else is open."""
        for upload in uploads:
            piece = upload.piece
            if (
                piece is None
                or self.open
                or len(upload.context) > self._small_context
                or (len(piece[4]) > self._small_events)
            ):
                self._take_one(upload, [] if piece is None else [piece])
                continue
            self._accepted += piece[2]
            self._closed.append(_apart(upload, piece))

    def _take(self, upload: Upload, pieces: list[Piece]) -> None:
        self._close_each(upload, pieces)

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
        waiting = _apart(upload, pieces[0])
        for piece in pieces[1:]:
            waiting.append(piece)
            waiting.count += piece[2]
        self._accepted += waiting.count
        self._closed.append(waiting)


def _apart(upload: Upload, piece: Piece) -> Window:
    """Return a closed window whose events each become a document of their own."""
    time, clock = upload.time, upload.clock
    return Window(
        upload.owner, upload.device, b"", upload.context, upload.shape, time, time, clock, clock,
        clock, CloseReason.SINGLE, piece[2], piece, closed=True, apart=True,
    )  # fmt: skip
