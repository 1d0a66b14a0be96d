"""An index for devices with many open windows: by session and by deadline.

Below ``INDEX_FROM_WINDOWS`` a look at all is faster. Many are sessions of a placeholder of a
device, or of one upload that ends thousands of sessions.
"""

import heapq
from collections.abc import Iterable

from forwarder.collect.windows.window import Window
from forwarder.model import CloseReason

INDEX_FROM_WINDOWS = 32
"""Open windows of a device beyond which it pays."""

_STALE = 64


class SessionIndex:
    """The open windows of one device, by session and by deadline.

    Caller: the device's ``_DeviceSessions``, when a window opens, moves its deadline or closes.
    """

    def __init__(self, windows: Iterable[Window]) -> None:
        """Index the windows that are open now."""
        self._sessions: dict[bytes, dict[bytes, Window]] = {}
        self._unnamed: dict[bytes, Window] = {}
        self._planned: dict[bytes, tuple[int, Window]] = {}
        self._next: list[tuple[int, bytes]] = []
        for window in windows:
            self.put(window)

    def put(self, window: Window) -> None:
        """Take in a window that opened."""
        self._sessions.setdefault(window.session, {})[window.key] = window
        if not window.session and window.reason is not CloseReason.SESSION_END:
            self._unnamed[window.key] = window
        self.note_deadline(window)

    def note_deadline(self, window: Window) -> None:
        """Note a deadline that moved; one that moved back is found out when it comes up."""
        known = self._planned.get(window.key)
        if known is not None and known[0] <= window.deadline:
            return
        self._planned[window.key] = window.deadline, window
        heapq.heappush(self._next, (window.deadline, window.key))
        if len(self._next) > 2 * len(self._planned) + _STALE:
            self._next = [(deadline, key) for key, (deadline, _) in self._planned.items()]
            heapq.heapify(self._next)

    def remove(self, window: Window) -> None:
        """Remove a window that closed."""
        found = self._sessions[window.session]
        del found[window.key]
        if not found:
            del self._sessions[window.session]
        self._planned.pop(window.key, None)
        self._unnamed.pop(window.key, None)

    def has(self, session: bytes) -> bool:
        """Tell whether a session has an open window."""
        return session in self._sessions

    def mark_ended(self, window: Window) -> None:
        """Note that a window's session has ended."""
        self._unnamed.pop(window.key, None)

    def unended(self) -> list[Window]:
        """Return the windows of events without a session whose end was not told."""
        return list(self._unnamed.values())

    def windows_of(self, session: bytes) -> list[Window]:
        """Return the open windows of a session, or of events without one, of all users."""
        return list(self._sessions.get(session, {}).values())

    def take_due(self, now: int) -> list[Window]:
        """Return the windows whose deadline is not after ``now``, all of which have to close."""
        due: list[Window] = []
        while self._next and self._next[0][0] <= now:
            deadline, key = heapq.heappop(self._next)
            known = self._planned.get(key)
            if known is None or known[0] != deadline:
                continue
            del self._planned[key]
            if known[1].deadline <= now:
                due.append(known[1])
            else:
                self.note_deadline(known[1])
        return due
