"""Windows that one device has open beside its plain one, so that they close in their order.

They are of other users of the device, or were keyed by another mode's rule: their deadlines know
nothing of each other.
"""

from forwarder.model import Position
from forwarder.stages import blocks
from forwarder.stages.shapes import Window


class Kin:
    """The open windows of a lane that have to go in order with others of their device.

    Caller: ``Windows``, when a window opens and when it has closed. Hardly ever anything is in it
    where users have an mpid, so ask ``if kin.devices`` first.
    """

    def __init__(self) -> None:
        """Begin without windows."""
        self.devices: dict[bytes, list[Window]] = {}

    def put(self, window: Window) -> None:
        """Take in a window that opened."""
        self.devices.setdefault(window.device, []).append(window)

    def forget(self, window: Window) -> None:
        """Let go of a window that closed, if it is in here."""
        known = self.devices.get(window.device)
        if known is None:
            return
        left = [one for one in known if one is not window]
        if left:
            self.devices[window.device] = left
        else:
            del self.devices[window.device]

    def before(self, device: bytes, position: Position, plain: Window | None) -> list[Window]:
        """Return what began before a position, in order; ``plain`` is keyed by the device alone."""
        known = self.devices.get(device, [])
        if known and plain is not None and not any(one is plain for one in known):
            known = [*known, plain]
        return sorted([one for one in known if blocks.first(one) < position], key=blocks.first)
