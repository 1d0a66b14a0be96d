"""Every event at once, as a document of its own."""

from forwarder.connection import Batching, BatchMode
from forwarder.formats.pieces import singles
from forwarder.model import CloseReason, Gate, Piece
from forwarder.stages import gate
from forwarder.stages.fit import Fit
from forwarder.stages.keying import BY_DEVICE
from forwarder.stages.shapes import Upload, Window
from forwarder.stages.window import Windows


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
        if self._kin.devices:  # from a time when events were batched, as what waits by device
            self.close_kin(upload.device, (upload.offset, upload.start))
        waiting = self.open.get(upload.device)
        if waiting is not None:
            self.close(waiting, waiting.reason)
        for piece in [single for run in pieces for single in singles(run)]:
            self.accepted += piece[2]
            single = Window(
                upload.owner, upload.device, b"", [piece], piece[2], upload.context,
                upload.names, upload.time, upload.time, upload.clock, upload.clock,
                upload.clock, CloseReason.SINGLE, closed=True,
            )  # fmt: skip
            self._done.append(single)
