"""One tick: planned from what is true now, applied once it is known to be committed (K1 to K5)."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter

import msgspec
from msgspec.structs import replace

from forwarder.journal import state as states
from forwarder.journal.commit import CommitMetadata
from forwarder.journal.snapshot import SnapshotBuilder, StateOrigin
from forwarder.journal.state import LaneChange, LaneState, LookBack, PartitionState, StateHeader
from forwarder.model import LOWEST, Address, Closing, Position


class LanePosition(msgspec.Struct, frozen=True, gc=False):
    """What the owner knows of one lane that it feeds, as the tick is drawn.

    ``frozen``: the connection is inactive, its ``read`` stays.
    """

    first_unsaved: Position | None
    cursor: Address
    acked: frozenset[Address]
    frozen: bool


class TickPlan(msgspec.Struct, frozen=True):
    """A tick before its transaction: the stored values, and what becomes true if it commits.

    ``base``: the draft that it writes, if it is a base. ``ptr``: what it commits as such.
    """

    base: SnapshotBuilder | None
    ptr: int
    n: int
    read: int
    watermark: int
    metadata: CommitMetadata
    values: list[bytes]
    lanes: dict[str, LaneState]
    entries: dict[str, dict[bytes, Position]]
    look_back: LookBack | None


class TickInput(msgspec.Struct, frozen=True):
    """What a tick is drawn from. ``ptr``: the newest base's offset, else the state's log start.

    ``unfed``: lanes that are configured and not fed. ``draft``: the snapshot being drafted; the
    tick writes it if it is complete. ``seen_from``: the lowest offset that positions
    from an offset on, ``position`` at most, look back to for duplicates. ``settled``: by name
    the first unsaved position of active lanes of which all is delivered up to ``end``; they are not
    among ``views``, which has all others that are fed.
    """

    origin: StateOrigin
    position: int
    end: int
    ptr: int
    now_ms: int
    views: Mapping[str, LanePosition]
    closings: Sequence[Closing]
    seen_from: Callable[[int], int] = int  # itself: nothing is remembered
    settled: Mapping[str, Position | None] = {}
    unfed: frozenset[str] = frozenset()
    draft: SnapshotBuilder | None = None

    def need(self, state: PartitionState, lane: str) -> Position:
        """Return the lowest position that a lane which is fed still needs."""
        view = self.views.get(lane)
        first = self.settled[lane] if view is None else view.first_unsaved
        return lowest_need(state.lanes[lane].need, self.position, first)

    def base(self) -> SnapshotBuilder | None:
        """Return the draft if this tick is to write it."""
        return self.draft if self.draft is not None and self.draft.complete else None


def plan_tick(state: PartitionState, snap: TickInput) -> TickPlan | None:
    """Plan the tick; None if nothing changed since the last one. ``state`` stays as it is."""
    entries = _entries(state, snap)
    lanes = {
        name: _lane(state, snap, state.lanes[name], snap.need(state, name), view)
        for name, view in snap.views.items()
    }
    changes = _changes(state, lanes, entries)
    settled = _Settled(state, snap, entries)
    lanes |= settled.lanes
    changes |= settled.changes
    base = snap.base()
    if base is not None:
        return _base(state, snap, base, lanes, entries)
    read = max_read(state.read, snap.position)
    if not changes and read == state.read:
        return None
    return _delta(state, snap, read, lanes, changes, entries)


def plan_heartbeat(state: PartitionState, snap: TickInput) -> TickPlan:
    """Plan a tick that carries only its number: it proves ownership and renews the lease."""
    return _delta(state, snap, state.read, {}, {}, {})


def apply_tick(
    state: PartitionState, drawn: TickPlan, offset: int, end: int, draft: SnapshotBuilder | None
) -> None:
    """Make a committed tick true; ``offset`` is that of its first state record (K5).

    ``draft``: the snapshot being drafted, which has to know of the tick.
    """
    state.n, state.read, state.obend = drawn.n, drawn.read, max(state.obend, end)
    state.look_back = drawn.look_back
    if state.unwritten:
        state.unwritten -= drawn.lanes.keys()
    state.lanes |= drawn.lanes
    base = drawn.base
    if base is None:
        for name, entries in drawn.entries.items():
            state.index(name).add(entries)
        if draft is not None:
            draft.note(drawn.entries)
        return
    state.base_offset, state.base_read, state.base_held = offset, drawn.read, base.held
    state.indexes = base.indexes(drawn.entries)
    state.odd = {one: fields for one, fields in state.odd.items() if one in base.held}
    for name in base.forgotten:
        state.lanes.pop(name, None)
        state.kept.pop(name, None)


def _delta(  # noqa: PLR0913, PLR0917  # the parts of a tick, each given once
    state: PartitionState,
    snap: TickInput,
    read: int,
    lanes: dict[str, LaneState],
    changes: Mapping[str, LaneChange],
    entries: dict[str, dict[bytes, Position]],
) -> TickPlan:
    n = state.n + 1
    written = {**state.lanes, **lanes}
    look_back = _look_back(state, snap, n, read, written)
    origin = snap.origin
    head = StateHeader(states.DELTA, n, origin.group, origin.topic, read, snap.end, look_back)
    return TickPlan(
        base=None,
        ptr=snap.ptr,
        n=n,
        read=read,
        watermark=lowest_watermark(written.values(), read),
        metadata=CommitMetadata(n, snap.ptr),
        values=states.encode(head, {}, changes),
        lanes=lanes,
        entries=entries,
        look_back=look_back,
    )


def _base(
    state: PartitionState,
    snap: TickInput,
    draft: SnapshotBuilder,
    lanes: dict[str, LaneState],
    entries: dict[str, dict[bytes, Position]],
) -> TickPlan:
    read, origin = max_read(state.read, snap.position), snap.origin
    seen = {name: replace(state.lanes[name], seen=snap.now_ms) for name in snap.unfed}
    written = {**state.lanes, **seen, **lanes}
    for name in draft.forgotten:
        written.pop(name, None)
    look_back = _look_back(state, snap, draft.n, read, written)
    head = StateHeader(states.BASE, draft.n, origin.group, origin.topic, read, snap.end, look_back)
    return TickPlan(
        base=draft,
        ptr=snap.ptr,
        n=draft.n,
        read=read,
        watermark=lowest_watermark(written.values(), read),
        metadata=CommitMetadata(draft.n, snap.ptr),
        values=draft.values(head, state.extra, written, entries),
        lanes={**seen, **lanes},
        entries=entries,
        look_back=look_back,
    )


def _look_back(
    state: PartitionState, snap: TickInput, n: int, read: int, lanes: Mapping[str, LaneState]
) -> LookBack | None:
    """Return how duplicates are looked for once this tick is committed.

    A window goes once every lane needs only what lies behind it.
    """
    known = state.look_back
    if known is None:
        return None
    windows, lowest = known.windows, lowest_watermark(lanes.values(), read)
    while len(windows) > 1 and windows[1].start <= lowest:
        windows = windows[1:]
    if len(windows) == 1 and not windows[0].window_ms:
        return None
    seen_from = known.seen_from if read > snap.position else snap.seen_from(read)
    return LookBack(n, known.since, max(seen_from, known.seen_from), windows)


def _entries(state: PartitionState, snap: TickInput) -> dict[str, dict[bytes, Position]]:
    """Return the index entries of this tick's closed windows (K3)."""
    drafted: set[tuple[str, bytes]] = snap.draft.held if snap.draft else set()
    entries: dict[str, dict[bytes, Position]] = {}
    needs = {name: snap.need(state, name) for name in {c.lane for c in snap.closings}}
    held = state.base_held
    is_held = bool(held or drafted)
    for c in snap.closings:
        if c.last < needs[c.lane]:
            if not is_held:  # as where every event closes its window
                continue
            one = (c.lane, c.window_key)
            if one not in held and one not in drafted:
                continue
        lane = entries.setdefault(c.lane, {})
        lane[c.window_key] = max(c.last, lane.get(c.window_key, LOWEST))
    return entries


def _lane(
    state: PartitionState, snap: TickInput, old: LaneState, need: Position, view: LanePosition
) -> LaneState:
    """Return what is stored of a lane that is fed once the tick is committed."""
    keying = old.keying
    while len(keying) > 1 and keying[1][1] <= need:
        keying = keying[1:]  # no event that is still needed is keyed by the first rule (L2)
    return LaneState(
        need=need,
        read=old.read if view.frozen else max_read(old.read, snap.position),
        cursor=view.cursor,
        acked=view.acked,
        seen=snap.now_ms,
        keying=keying,
        seen_from=None if state.look_back is None else _seen_from(state, snap, old, need),
        extra=old.extra,
    )


def _seen_from(
    state: PartitionState, snap: TickInput, old: LaneState, need: Position
) -> int | None:
    """Return what positions from ``need`` on look back to; what is stored, until that is read.

    It only ever rises: what a position looks back to, later ones do at most.
    """
    if state.look_back is None:
        return None
    if need[0] <= snap.position:
        return max(snap.seen_from(need[0]), old.seen_from or 0)
    return state.look_back.seen_from if old.seen_from is None else old.seen_from


def _changes(
    state: PartitionState,
    lanes: Mapping[str, LaneState],
    entries: Mapping[str, dict[bytes, Position]],
) -> dict[str, LaneChange]:
    found = {}
    for name, lane in lanes.items():
        closed = entries.get(name, {})
        if name in state.unwritten:
            found[name] = states.new_lane_in_delta(lane, closed)
        elif (change := states.lane_in_delta(state.lanes[name], lane, closed)) is not None:
            found[name] = change
    return found


class _Settled:
    """What becomes of the lanes that are settled: where there are many, much the same of each.

    ``lanes``: as they are stored then; those that are alike are one object. ``changes``: what a
    delta says of them; where it says the same, one object.
    """

    def __init__(
        self,
        state: PartitionState,
        snap: TickInput,
        entries: Mapping[str, dict[bytes, Position]],
    ) -> None:
        """Find out."""
        self.lanes: dict[str, LaneState] = {}
        self.changes: dict[str, LaneChange] = {}
        self._alike: dict[object, LaneState] = {}
        self._told: tuple[LaneState, LaneState, LaneChange | None] | None = None
        view = LanePosition(None, (snap.end, 0), frozenset(), frozen=False)
        idle: dict[int, tuple[LaneState, LaneChange | None]] = {}
        known, unwritten, position = state.lanes, state.unwritten, snap.position
        for name, first in snap.settled.items():
            old = known[name]
            if first is None and id(old) in idle:
                new, change = idle[id(old)]
            else:
                new = _lane(state, snap, old, lowest_need(old.need, position, first), view)
                if first is None:
                    new = self._shared(new)
                change = self._change(old, new)
                if first is None:
                    idle[id(old)] = new, change
            if name in entries or name in unwritten:
                change = _changes(state, {name: new}, entries).get(name)
            self.lanes[name] = new
            if change is not None:
                self.changes[name] = change

    def _shared(self, new: LaneState) -> LaneState:
        """Return the lane that stands for all that are like this one."""
        if new.extra or len(new.keying) > 1:
            return new
        return self._alike.setdefault((new.need, new.read, *new.keying, new.seen_from), new)

    def _change(self, old: LaneState, new: LaneState) -> LaneChange | None:
        """Return what a delta says of a lane, if it closed no window."""
        if new.need != old.need or old.acked or new.keying is not old.keying:
            return states.lane_in_delta(old, new, {})
        if self._told is not None:  # mostly the same as of the one before
            before, after, change = self._told
            if (
                old.cursor == before.cursor
                and old.read == before.read
                and old.seen_from == before.seen_from
                and new.seen_from == after.seen_from
            ):
                return change
        change = states.lane_in_delta(old, new, {})
        self._told = old, new, change
        return change


def max_read(stored: int, position: int) -> int:
    """Return up to which offset a lane was fed; a replay below it changes nothing."""
    return max(stored, position)


def lowest_need(stored: Position, position: int, first_unsaved: Position | None) -> Position:
    """Return the lowest position a lane still needs from the input.

    ``position`` is the next offset to collect, ``first_unsaved`` the lowest position that
    waits in an open window and in no stored base.
    """
    if first_unsaved is not None and first_unsaved[0] < position:
        return first_unsaved  # as of most windows: they hold what was collected
    reached = max((position, 0), stored)
    return reached if first_unsaved is None else min(first_unsaved, reached)


_need = attrgetter("need")


def lowest_watermark(lanes: Iterable[LaneState], otherwise: int) -> int:
    """Return W, the lowest offset any lane needs; ``otherwise`` if there is no lane at all."""
    lowest: Position | None = min(map(_need, lanes), default=None)
    return otherwise if lowest is None else lowest[0]
