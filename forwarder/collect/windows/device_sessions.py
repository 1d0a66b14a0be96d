"""The sessions of one device while it has open windows."""

from collections.abc import Iterable

import msgspec

from forwarder.collect.windows import session_index
from forwarder.collect.windows.session_index import SessionIndex
from forwarder.collect.windows.window import Window
from forwarder.model import LOWEST, CloseReason, Position

_MAX_ENDED = 8


class DeviceSessions(msgspec.Struct, gc=False):
    """The sessions of one device while it has an open window.

    * ``windows``: its open ones by key; a session has one for each user of the device.
    * ``active``: those of named sessions that have not ended, by session, then by key.
    * ``current``: the session that was begun last. ``ended``: named ones that have, the last few.
    * ``index``: of a device with many open windows.
    * ``restored_activity``, ``restored_since``: of restored windows, the latest activity of the
      current session, and when those that have ended began.
    """

    windows: dict[bytes, Window]
    active: dict[bytes, dict[bytes, Window]]
    current: bytes
    ended: list[bytes]
    index: SessionIndex | None = None
    restored_activity: tuple[int, int, Position] | None = None
    restored_since: dict[bytes, tuple[int, Position]] | None = None

    def put(self, window: Window) -> None:
        """Take in a window that opened."""
        self.windows[window.key] = window
        if self.index is not None:
            self.index.put(window)
        elif len(self.windows) > session_index.INDEX_FROM_WINDOWS:
            self.index = SessionIndex(self.all())

    def remove(self, window: Window) -> bool:
        """Remove a window; return whether it was in here."""
        if self.windows.pop(window.key, None) is None:
            return False
        if self.index is not None:
            self.index.remove(window)
        return True

    def windows_of(self, session: bytes) -> list[Window]:
        """Return the open windows of a session, or of events without one, of all users."""
        if self.index is not None:
            return self.index.windows_of(session)
        return [window for window in self.all() if window.session == session]

    def unended(self, session: bytes) -> list[Window]:
        """Return those of them whose end is not told yet."""
        if session:
            return list(self.active.get(session, {}).values())
        if self.index is not None:
            return self.index.unended()
        return [one for one in self.windows_of(b"") if one.reason is not CloseReason.SESSION_END]

    def has(self, session: bytes) -> bool:
        """Tell whether a session has an open window."""
        if self.index is not None:
            return self.index.has(session)
        return any(window.session == session for window in self.all())

    def note_ended(self, window: Window) -> None:
        """Remove a window from those whose sessions go on."""
        active = self.active.get(window.session)
        if active is not None and active.get(window.key) is window:
            del active[window.key]
            if not active:
                del self.active[window.session]

    def remember_ended(self, session: bytes) -> None:
        """Remember a named session as ended."""
        if session and session not in self.ended:
            self.ended.append(session)
            del self.ended[:-_MAX_ENDED]

    def restore(self, window: Window) -> None:
        """Put the restored window of a named session in its place, in whatever order they come."""
        session = window.session
        if self.restored_activity is None or self.restored_activity < _activity(window):
            self.current, self.restored_activity = session, _activity(window)
        if window.reason is CloseReason.SESSION_END:
            since = {} if self.restored_since is None else self.restored_since
            since[session] = max(since.get(session, (0, LOWEST)), _since(window))
            self.ended = sorted(since, key=since.__getitem__)[-_MAX_ENDED:]
            self.restored_since = {name: since[name] for name in self.ended}
            return
        self.active.setdefault(session, {})[window.key] = window

    def all(self) -> Iterable[Window]:
        """Return all open windows: for callers that have to look at each."""
        return self.windows.values()

    @classmethod
    def of_one(cls, window: Window) -> "DeviceSessions":
        """Return those of a device that has had one window only, and had it restored or opened."""
        device = cls({}, {}, b"", [])
        device.put(window)
        if window.session:
            device.restore(window)
        return device


def _since(window: Window) -> tuple[int, Position]:
    return window.opened, window.touched


def _activity(window: Window) -> tuple[int, int, Position]:
    return window.last_activity, window.opened, window.touched
