"""Every event at once, as a document of its own."""

from forwarder.connection import Batching, BatchMode
from forwarder.model import CloseReason, Gate, Piece
from forwarder.stages import gate
from forwarder.stages.fit import Fit
from forwarder.stages.shapes import Upload, Window, singles
from forwarder.stages.window import BY_DEVICE, Windows


class Singles(Windows):
    """Every event at once, as a window of its own."""

    def __init__(self, batching: Batching, fit: Fit) -> None:
        """Begin without windows."""
        super().__init__(batching, fit, BatchMode.SINGLE)
        self._rules[BY_DEVICE] = self._each

    def _each(self, upload: Upload, pieces: list[Piece], replay: Gate | None) -> None:
        if replay is not None:
            pieces = self.admit(replay, upload, gate.name_of(upload), pieces) or []
        if not pieces:
            return
        waiting = self.open.get(upload.device)  # from a time when events were batched
        if waiting is not None:
            self.close(waiting, waiting.reason)
        if self._former:
            self.close_former(upload.device, (upload.offset, upload.start))
        for piece in [single for run in pieces for single in singles(run)]:
            self.accepted += piece[2]
            single = Window(
                upload.device, upload.device, b"", [piece], piece[2], upload.context,
                upload.names, upload.time, upload.time, upload.clock, upload.clock,
                upload.clock, CloseReason.SINGLE, closed=True,
            )  # fmt: skip
            self._done.append(single)
