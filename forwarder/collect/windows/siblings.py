"""Windows that one device has open beside its plain one, so that they close in their order.

They are of other users of the device, or were keyed by another mode's rule: their deadlines know
nothing of each other.
"""

import sys
from bisect import bisect_right
from itertools import takewhile

from forwarder.collect.windows import storage
from forwarder.collect.windows.window import Window
from forwarder.model import Position


class Kin:
    """The open windows of a lane that have to go in order with others of their device.

    Caller: ``Windows``, when a window opens and when it has closed. Hardly ever anything is in it
    where users have an mpid, so ask ``if kin.devices`` first. Those of a device stand in the order
    of their first events; one that closes is the first by then, so that a hundred thousand people
    behind one placeholder of a device cost no more each than two.
    """

    def __init__(self) -> None:
        """Begin without windows."""
        self.devices: dict[bytes, list[Window]] = {}

    def put(self, window: Window, offset: int | None) -> None:
        """Take in a window that opened: with an event of this record, or None: with what it has."""
        known = self.devices.setdefault(window.device, [])
        at = len(known)
        if known:
            first = storage.first(window) if offset is None else (offset, sys.maxsize)
            if storage.first(known[-1]) > first:  # windows saved earlier are taken up in any order
                at = bisect_right(known, first, key=storage.first)
        known.insert(at, window)

    def forget(self, window: Window) -> None:
        """Let go of a window that closed, if it is in here."""
        known = self.devices.get(window.device)
        if known is None:
            return
        for at, one in enumerate(known):
            if one is window:
                del known[at]
                break
        if not known:
            del self.devices[window.device]

    def before(self, device: bytes, position: Position, plain: Window | None) -> list[Window]:
        """Return what began before a position, in order; ``plain`` is keyed by the device alone."""
        known = self.devices.get(device, [])
        found = list(takewhile(lambda one: storage.first(one) < position, known))
        if plain is None or storage.first(plain) >= position or any(one is plain for one in found):
            return found
        return sorted([*found, plain], key=storage.first)
