"""Gather events into one window per session (Wait for Complete Batch).

A session ends by the event that ends it, by an event of a session not seen before, or by silence.
Its window then stays open for a grace period, in which late events join. Boundaries are judged
on all events of the device, also those that the filter leaves out; those open no window.
"""

import sys
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

from forwarder.collect.keying import BY_SESSION
from forwarder.collect.replay_filter import ReplayFilter
from forwarder.collect.windows.device_sessions import DeviceSessions
from forwarder.collect.windows.fit import RecordFit
from forwarder.collect.windows.misfits import is_lettered
from forwarder.collect.windows.queues import SECOND_MS
from forwarder.collect.windows.shares import Shares
from forwarder.collect.windows.store import WindowStore
from forwarder.collect.windows.table import Table
from forwarder.collect.windows.tails import TailSizes
from forwarder.collect.windows.window import (
    LEAST_BYTES,
    SESSION_OVERHEAD_BYTES,
    SESSIONS_OVERHEAD_BYTES,
    Window,
    is_of_session,
    session_key,
)
from forwarder.config.connection import Batching
from forwarder.formats.contract import ContextShape, Upload
from forwarder.formats.ids import digest
from forwarder.formats.pieces import split_before
from forwarder.model import CloseReason, HeldWindow, Piece, Position

MAX_USERS_PROLONGED = 32
"""Users of a device who keep each other's session going: of more, each keeps their own."""

_Segment = tuple[int, int, bytes]


class SessionStore(WindowStore):
    """The open windows of a lane that waits for complete sessions."""

    RULE = BY_SESSION

    def __init__(
        self,
        batching: Batching,
        fit: RecordFit,
        replay: ReplayFilter,
        sizes: TailSizes,
        shares: Shares,
    ) -> None:
        """Create a store without windows."""
        super().__init__(batching, fit, replay, sizes, shares)
        self._session_start, self._session_end = fit.form.session_start, fit.form.session_end
        # Of most devices one window is open, and nothing else is known: then it stands here itself.
        self._devices: Table[Window | DeviceSessions] = Table()

    def restore(self, held: HeldWindow, pieces: list[Piece], shape: ContextShape) -> None:
        """Open a saved window again; the session that was active last becomes the current one.

        The order of the calls does not matter.
        """
        super().restore(held, pieces, shape)
        if not is_of_session(held.key, held.session):
            return
        window = self.open[held.key]
        device = self._known(window.device)
        if device is None:
            self._devices[window.device] = window
            return
        device.put(window)
        if held.session:
            device.restore(window)

    def wants_whole(self, upload: Upload) -> bool:
        """Tell whether nothing of a replayed upload is settled (``WindowStore``)."""
        replay, first = self._replay, (upload.offset, upload.start)
        if first < replay.need or upload.piece is None:
            return False
        if len(upload.context) > self._small_context or len(upload.body) > self._small_events:
            return False
        if not replay.entries():
            return True
        keys = {session_key(upload.owner, session) for session in upload.sessions}
        return all(first > replay.settled_to(digest(key)) for key in keys) and not is_lettered(
            replay, upload
        )

    def would_touch(self, upload: Upload) -> bool:
        """Tell whether an upload, had it no events, would change an open window."""
        known = self._devices.get(upload.device)
        if isinstance(known, Window):  # it stays so: nobody weighs the lane again for a question
            known = DeviceSessions.of_one(known)
        return known is not None and session_key(upload.owner, known.current) in known.windows

    def shed(self, window: Window) -> list[Window]:
        """Close a window for want of memory, and before it what its device opened earlier."""
        device = self._known(window.device)
        earlier = [] if device is None else list(device.all())
        earlier = [one for one in earlier if one.first_position() < window.first_position()]
        for one in sorted(earlier, key=Window.first_position):
            self.close(one, CloseReason.MEMORY)
        return super().shed(window)

    def _close_alone(self, window: Window, reason: CloseReason) -> None:
        """Close a window, and forget the device with its last one."""
        super()._close_alone(window, reason)
        device = self._devices.get(window.device)
        if device is window:
            del self._devices[window.device]
        elif isinstance(device, DeviceSessions) and device.remove(window):
            device.note_ended(window)
            if window.session == device.current and not device.has(window.session):
                device.current = b""  # as a restart would find it
            if not device.windows:
                del self._devices[window.device]
                self._weigh_beside(-SESSIONS_OVERHEAD_BYTES)

    def expire(self, now: int, limit: int | None = None) -> list[Window]:
        """Close as in ``WindowStore``; those of one device in order, also over several calls."""
        due = self._deadlines.take_due(now, limit)
        most = sys.maxsize if limit is None else len(self._closed) + limit
        for window in due:
            if len(self._closed) >= most:
                break
            for one in () if window.closed else self._due_with(window, now):
                if len(self._closed) < most:
                    self.close(one, one.reason)
        for window in due:
            if not window.closed:  # others of its device went first and took its place
                self._deadlines.put(window)
        return self._take_closed()

    def _due_with(self, window: Window, now: int) -> Iterable[Window]:
        """Return what of its device is due with a window that is, in order."""
        device = self._devices.get(window.device)
        if device is None or device is window:
            return (window,)
        if isinstance(device, Window):
            device = self._expanded(device)
        elif len(device.windows) == 1:
            return (window,)
        due = [one for one in device.all() if one.deadline <= now]
        if window.key not in device.windows:
            due.append(window)
        return sorted(due, key=Window.first_position)

    def _known(self, key: bytes) -> DeviceSessions | None:
        """Return what is known of a device, written out; None: it has no open window."""
        device = self._devices.get(key)
        return self._expanded(device) if isinstance(device, Window) else device

    def _expanded(self, window: Window) -> DeviceSessions:
        """Write out what is known of a device, which was one window."""
        found = self._devices[window.device] = DeviceSessions.of_one(window)
        self._weigh_beside(SESSIONS_OVERHEAD_BYTES)
        return found

    def _take_whole(self, uploads: list[Upload]) -> None:
        """Add whole uploads that come for the first time.

        The usual cases of ``_add_segments`` stand here without a call for each event: the only
        piece of an upload, of one session, opens the only window of its device, or joins that.
        """
        start, end, fresh = self._session_start, self._session_end, list[Window]()
        small_context, small_events = self._small_context, self._small_events
        most, devices = self._batching.max_events, self._devices
        for upload in uploads:
            piece, types, sessions = upload.piece, upload.types, upload.sessions
            device = (devices.whole or devices.part(upload.device)).get(upload.device)
            if (
                piece is None
                or piece[2] >= most
                or end in types
                or sessions.count(session := sessions[0]) != len(sessions)
                or (start in types and (not session or start in types[1:]))
                or len(upload.context) > small_context
                or len(piece[4]) > small_events
            ):
                pass  # unusual
            elif device is None:
                if self._open_only(upload, piece, session, fresh):
                    continue
            elif isinstance(device, Window) and self._join_only(device, upload, piece, session):
                continue
            self._queue(fresh)
            self._take_one(upload, [] if piece is None else [piece])
        self._queue(fresh)
        self._devices.split()

    def _open_only(self, upload: Upload, piece: Piece, session: bytes, fresh: list[Window]) -> bool:
        """Open the only window of a device; False: something about it is unusual."""
        device, context, body = upload.device, upload.context, piece[4]
        key = session_key(upload.owner, session)
        weight = LEAST_BYTES + SESSION_OVERHEAD_BYTES
        weight += len(context) + len(key) + len(session) + len(body)
        if weight >= self._first_look or key in self.open:
            return False
        time, clock, position = upload.time, upload.clock, (piece[0], piece[1])
        deadline, reason = self._session_deadline(clock, clock)
        second = deadline // SECOND_MS
        if fresh and fresh[0].slot != second:
            self._queue(fresh)
        window = Window(
            key, device, session, context, upload.shape, time, time, clock, clock, deadline,
            reason, piece[2], piece, weight, self._first_look,
            fresh[0].slot if fresh else second, position, position, position,
        )  # fmt: skip
        self.open[key] = self._devices[device] = window
        fresh.append(window)
        if self._taking is not None:
            self._taking.take(piece)
        self._accepted += piece[2]
        self.waiting_events += piece[2]
        self.waiting_bytes += len(body)
        self.memory += weight
        return True

    def _join_only(self, window: Window, upload: Upload, piece: Piece, session: bytes) -> bool:
        """Add a piece to the only window of its device; False: something about it is unusual."""
        shape, clock, length = upload.shape, upload.clock, len(upload.context)
        if (
            window.session != session
            or window.deadline <= clock
            or window.reason is CloseReason.SESSION_END
            or window.shape is not shape
            or not shape.plain
            or window.narrow
            or piece[2] >= self._batching.max_events - window.count
            or len(window.context) + length > self._small_context // (1 + window.cold)
            or window.key != session_key(upload.owner, session)
        ):
            return False
        if window.cold:
            self._note_warm(window)
        grown = length - len(window.context)
        window.context, window.newest_ms = upload.context, upload.time
        if shape.dated:
            window.identities_ms = upload.time
        self._put(window, piece, grown)
        if clock > window.last_activity:
            window.last_activity = clock
            window.deadline, window.reason = self._session_deadline(window.opened, clock)
            if window.deadline // SECOND_MS <= window.slot or window.slot < 0:
                self._deadlines.put(window)
        return True

    def _take(self, upload: Upload, pieces: list[Piece]) -> None:
        self._add_segments(upload, pieces)

    def _add_again_by_session(self, upload: Upload, pieces: list[Piece]) -> None:
        self._add_segments(upload, pieces, self._replay)

    def _add_segments(
        self, upload: Upload, pieces: list[Piece], replay: ReplayFilter | None = None
    ) -> None:
        """Take an upload run by run; ``replay``: what of it is settled, if it comes again."""
        self._close_due(upload)
        if len(upload.types) == 1 and pieces and replay is None:  # the usual case
            self._add_segment(upload, (0, 1, upload.sessions[0]), pieces)
            return
        segments = list(self._segments(upload))
        shares = [pieces] if len(segments) == 1 else _shared(pieces, upload.start, segments)
        for segment, share in zip(segments, shares, strict=True):
            inside = (
                share if replay is None else self._admit_segment(replay, upload, segment, share)
            )
            if inside is not None:
                self._add_segment(upload, segment, inside)
            elif replay is not None and replay.need <= _end_of(upload, segment):
                # Settled for its own window, it still was one of the session for other users'.
                key = session_key(upload.owner, segment[2])
                self._note_all(self._prolong_or_end(upload, segment, key), _end_of(upload, segment))
        if not pieces:
            self._share_context(upload, segments, replay)

    def _segments(self, upload: Upload) -> Iterator[_Segment]:
        """Yield (first, one past the last, session) of runs of events that act as one.

        A run is of one session, begins with any event that begins a session and ends with any that
        ends one. An upload without events is a single empty run without a session.
        """
        types, sessions = upload.types, upload.sessions
        begins, ends = self._session_start, self._session_end
        if not types:
            yield 0, 0, b""
            return
        first = 0
        for i in range(1, len(types)):
            if sessions[i] != sessions[first] or types[i] == begins or types[i - 1] == ends:
                yield first, i, sessions[first]
                first = i
        yield first, len(types), sessions[first]

    def _admit_segment(
        self, replay: ReplayFilter, upload: Upload, segment: _Segment, pieces: list[Piece]
    ) -> list[Piece] | None:
        """Return what is wanted of a replayed segment; None if it must not act at all."""
        name = digest(session_key(upload.owner, segment[2]))
        if pieces:
            return self._admit(upload, name, pieces)
        return [] if replay.passes(name, _end_of(upload, segment)) else None

    def _close_due(self, upload: Upload) -> None:
        device = self._known(upload.device)
        if device is None:
            return
        clock = upload.clock
        if device.index is not None:
            for window in sorted(device.index.take_due(clock), key=Window.first_position):
                self.close(window, window.reason)
            return
        for window in device.all():
            if window.deadline <= clock:
                for one in self._due_with(window, clock):
                    self.close(one, one.reason)
                return

    def _add_segment(self, upload: Upload, segment: _Segment, pieces: list[Piece]) -> None:
        """Take a run of events of one session: what it ends, then its events, then its end.

        What has changed is noted behind the run's own events: positions come in rising order.
        """
        key = session_key(upload.owner, segment[2])
        changed = self._end_by_first(upload, segment, key)
        if pieces:
            self._put_segment(upload, key, segment[2], pieces)
        changed += self._prolong_or_end(upload, segment, key)
        self._note_all(changed, _end_of(upload, segment))

    def _end_by_first(self, upload: Upload, segment: _Segment, key: bytes) -> list[Window]:
        """End what the first event of a run ends; return that."""
        first, last, session = segment
        device = self._known(upload.device)
        if device is None:
            return []
        if session:
            if key in device.windows or session in device.active or session in device.ended:
                return []
            return self._end_others(device, session, upload, _end_of(upload, segment))
        if upload.types[first:last][:1] == [self._session_start]:
            end = _end_of(upload, segment)
            for one in sorted(device.windows_of(b""), key=Window.first_position):
                if one.first_position() <= end:  # a replay finds later ones, too
                    self.close(one, CloseReason.SESSION_END)
        return []

    def _prolong_or_end(self, upload: Upload, segment: _Segment, key: bytes) -> list[Window]:
        """Have a session's windows go on, or end; return those that changed."""
        types = upload.types[segment[0] : segment[1]]
        device = self._known(upload.device)
        if device is None or not types:
            return []
        changed = self._prolong(device, upload, segment[2], key)
        if self._session_end in types:
            changed += self._end_all(device, segment[2], upload.clock, _end_of(upload, segment))
        return changed

    def _note_all(self, changed: list[Window], position: Position) -> None:
        """Note that windows are to be saved again, and that a replay needs what changed them."""
        for window in changed:
            if (window.unsaved is None or window.pending is not None) and not window.closed:
                self._note_change(window, position)

    def _put_segment(
        self,
        upload: Upload,
        key: bytes,
        session: bytes,
        pieces: list[Piece],
    ) -> None:
        """Put pieces into the session's window, or into a new one."""
        device = self._known(upload.device)
        window = device.windows.get(key) if device else None
        if window is not None and not self._make_room(window, upload, pieces):
            self.close(window, CloseReason.SIZE)
            window = None
        self._fill(upload, window, self._open_session, pieces, key, session)
        device = self._known(upload.device)
        if device is not None and session and session not in device.ended:
            device.current = session

    def _open_session(self, upload: Upload, key: bytes, session: bytes) -> Window:
        device = self._known(upload.device)
        late = device is not None and session in device.ended
        if late:
            times = upload.clock + self._batching.session_grace_ms, CloseReason.SESSION_END
        else:
            times = self._session_deadline(upload.clock, upload.clock)
        window = self.open_window(upload, key, session, *times)
        device = self._known(upload.device)
        if device is None:
            self._devices[upload.device] = window
            return window
        device.put(window)
        if session and not late:
            device.active.setdefault(session, {})[window.key] = window
        return window

    def _session_deadline(self, opened: int, now: int) -> tuple[int, CloseReason]:
        """Return when a session that goes on is over, and why: silence, or its greatest age."""
        silent = now + self._batching.session_timeout_ms
        oldest = opened + self._batching.session_max_ms
        if silent <= oldest:
            return silent, CloseReason.SESSION_TIMEOUT
        return oldest, CloseReason.AGE

    def _prolong(
        self, device: DeviceSessions, upload: Upload, session: bytes, key: bytes
    ) -> list[Window]:
        """Put off the end of a session by silence, in all its windows; return those put off.

        Not of an ended session. Time never goes back: a replay tells of events before what a saved
        window has seen. Of a session that more than ``MAX_USERS_PROLONGED`` users share only the
        user's own window is put off: each event would cost a look at all.
        """
        prolonged = []
        active = device.active.get(session, {})
        own = device.windows.get(key)
        alone = () if own is None else (own,)
        for one in active.values() if 0 < len(active) <= MAX_USERS_PROLONGED else alone:
            if one.reason is CloseReason.SESSION_END or upload.clock <= one.last_activity:
                continue
            one.last_activity = upload.clock
            prolonged.append(one)
            self.move_deadline(one, *self._session_deadline(one.opened, upload.clock))
            if device.index is not None:
                device.index.note_deadline(one)
        return prolonged

    def _end_others(
        self, device: DeviceSessions, session: bytes, upload: Upload, position: Position
    ) -> list[Window]:
        """End the named sessions that are open, for a new one began; return their windows."""
        ended = []
        for name in list(device.active):
            ended += self._end_all(device, name, upload.clock, position)
        device.current = session
        return ended

    def _end_all(
        self, device: DeviceSessions, session: bytes, now: int, position: Position
    ) -> list[Window]:
        """End a session for all its users; return the windows that this has changed.

        What has ended of it before stays as it is, and so does what a replay finds open already
        though it began behind this position.
        """
        ended = [one for one in device.unended(session) if one.first_position() <= position]
        for window in ended:
            self._end(device, window, now)
        if device.has(session):
            device.remember_ended(session)
        return ended

    def _end(self, device: DeviceSessions, window: Window, now: int) -> None:
        """End the session of a window: it closes after the grace period at the latest."""
        deadline = min(window.deadline, now + self._batching.session_grace_ms)
        self.move_deadline(window, deadline, CloseReason.SESSION_END)
        if device.index is not None:
            device.index.note_deadline(window)
            device.index.mark_ended(window)
        device.note_ended(window)

    def _share_context(
        self, upload: Upload, segments: list[_Segment], replay: ReplayFilter | None
    ) -> None:
        """Give the context of an upload without kept events to those sessions of its user."""
        device = self._known(upload.device)
        if device is None:
            return
        names = {s for _, _, s in segments} if upload.types else {device.current}
        keys = [session_key(upload.owner, name) for name in names]
        position = upload.offset, upload.start + max(len(upload.types) - 1, 0)
        for window in [device.windows[key] for key in keys if key in device.windows]:
            if replay is None or replay.passes(digest(window.key), position):
                self._update_context(window, upload, position)


def _end_of(upload: Upload, segment: _Segment) -> Position:
    """Return the position of a segment's last event: a replay needs it where it needs any."""
    first, last, _ = segment
    return upload.offset, upload.start + max(last - 1, first)


def _shared(pieces: list[Piece], start: int, segments: list[_Segment]) -> list[list[Piece]]:
    """Return what lies in each segment; a piece without events belongs to the first."""
    ends = [start + last for _, last, _ in segments]
    shares: list[list[Piece]] = [[] for _ in ends]
    for piece in pieces:
        first = bisect_right(ends, piece[1]) if piece[2] else 0
        inner = ends[first : bisect_left(ends, piece[1] + piece[2])]
        for number, part in enumerate(
            split_before(piece, [end - piece[1] for end in inner]), first
        ):
            shares[number].append(part)
    return shares
