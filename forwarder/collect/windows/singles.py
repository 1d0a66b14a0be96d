"""Every event at once, as a document of its own.

Those of an upload wait as they came until their documents are made: a window for each would take
more than a kilobyte for an event of a few bytes.
"""

from forwarder.collect import replay_filter
from forwarder.collect.fit import Fit
from forwarder.collect.keying import BY_DEVICE
from forwarder.collect.windows.store import Windows
from forwarder.collect.windows.window import Window
from forwarder.config.connection import Batching, BatchMode
from forwarder.formats.contract import Upload
from forwarder.model import CloseReason, Gate, Piece


class Singles(Windows):
    """The events of an upload at once, as a window that has each ``apart``."""

    def __init__(self, batching: Batching, fit: Fit) -> None:
        """Begin without windows."""
        super().__init__(batching, fit, BatchMode.SINGLE)
        self._rules[BY_DEVICE] = self._each

    def _each(self, upload: Upload, pieces: list[Piece], replay: Gate | None) -> None:
        if replay is not None:
            pieces = self.admit(replay, upload, replay_filter.name_of(upload), pieces) or []
        if not pieces:
            return
        if self._kin.devices:  # from a time when events were batched, as what waits by device
            self.close_kin(upload.device, (upload.offset, upload.start))
        earlier = self.open.get(upload.device)
        if earlier is not None:
            self.close(earlier, earlier.reason)
        count = sum([piece[2] for piece in pieces])
        self.accepted += count
        waiting = Window(
            upload.owner, upload.device, b"", pieces, count, upload.context, upload.names,
            upload.time, upload.time, upload.clock, upload.clock, upload.clock,
            CloseReason.SINGLE, closed=True, apart=True,
        )  # fmt: skip
        self._done.append(waiting)
