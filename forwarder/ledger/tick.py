"""One tick, drawn up from a snapshot and applied once it is known to be committed (K1 to K5)."""

from collections.abc import Mapping, Sequence

import msgspec

from forwarder.ledger import opening, watermark
from forwarder.ledger import state as states
from forwarder.ledger.state import Change, Head, LaneState, PartitionState
from forwarder.model import LOWEST, Address, Closing, Held, Position


class View(msgspec.Struct, frozen=True):
    """What the owner knows of one configured lane at the snapshot.

    ``frozen``: the connection is inactive, its ``read`` stays. ``held``: for a base, the
    windows to save.
    """

    first_unsaved: Position | None
    cursor: Address
    acked: frozenset[Address]
    frozen: bool
    held: Sequence[Held] = ()


class Drawn(msgspec.Struct, frozen=True):
    """A tick before its transaction: the stored values, and what becomes true if it commits."""

    base: bool
    n: int
    read: int
    watermark: int
    metadata: str
    values: list[bytes]
    lanes: dict[str, LaneState]
    entries: dict[str, dict[bytes, Position]]
    held: set[tuple[str, bytes]]


class Snapshot(msgspec.Struct, frozen=True):
    """What a tick is drawn from. ``ptr``: the newest base's offset, else the state's log start."""

    group: str
    topic: str
    position: int
    end: int
    ptr: int
    now_ms: int
    views: Mapping[str, View]
    closings: Sequence[Closing]
    base: bool


def draw(state: PartitionState, snap: Snapshot) -> Drawn | None:
    """Draw up the tick; None if nothing changed since the last one. ``state`` stays as it is."""
    entries = _entries(state, snap)
    lanes = {name: _lane(state, snap, name, entries.get(name, {})) for name in snap.views}
    changes = _changes(state, snap, lanes, entries)
    read = watermark.read(state.read, snap.position)
    if not changes and not snap.base and read == state.read:
        return None
    return _drawn(state, snap, read, lanes, changes, entries)


def beat(state: PartitionState, snap: Snapshot) -> Drawn:
    """Draw up a tick of nothing but its number: it proves ownership and renews the lease."""
    return _drawn(state, snap, state.read, {}, {}, {})


def apply(state: PartitionState, drawn: Drawn, offset: int, end: int) -> None:
    """Make a committed tick true; ``offset`` is that of its first state record (K5)."""
    state.n, state.read, state.obend = drawn.n, drawn.read, max(state.obend, end)
    state.unwritten -= drawn.lanes.keys()
    for name, lane in drawn.lanes.items():
        if not drawn.base:
            lane.closed = state.lanes[name].closed
            lane.closed.update(drawn.entries.get(name, {}))
        state.lanes[name] = lane
    if drawn.base:
        state.base_offset, state.base_read, state.base_held = offset, drawn.read, drawn.held


def _drawn(  # noqa: PLR0913, PLR0917  # the parts of a tick, each given once
    state: PartitionState,
    snap: Snapshot,
    read: int,
    lanes: dict[str, LaneState],
    changes: Mapping[str, Change],
    entries: dict[str, dict[bytes, Position]],
) -> Drawn:
    n = state.n + 1
    kind = states.BASE if snap.base else states.DELTA
    head = Head(kind, n, snap.group, snap.topic, read, snap.end)
    held = {(name, key) for name, change in changes.items() for key in change.held}
    needs = {**state.lanes, **lanes}
    return Drawn(
        base=snap.base,
        n=n,
        read=read,
        watermark=watermark.watermark((lane.need for lane in needs.values()), read),
        metadata=opening.metadata(n, snap.ptr),
        values=states.encode(head, state.extra if snap.base else {}, changes),
        lanes=lanes,
        entries=entries,
        held=held,
    )


def _need(state: PartitionState, snap: Snapshot, name: str) -> Position:
    view = snap.views[name]
    return watermark.need(state.lanes[name].need, snap.position, view.first_unsaved)


def _entries(state: PartitionState, snap: Snapshot) -> dict[str, dict[bytes, Position]]:
    """Return the index entries of this tick's closed windows (K3)."""
    needs = {name: _need(state, snap, name) for name in snap.views}
    entries: dict[str, dict[bytes, Position]] = {}
    for c in snap.closings:
        if c.last < needs[c.lane] and (c.lane, c.window_key) not in state.base_held:
            continue
        lane = entries.setdefault(c.lane, {})
        lane[c.window_key] = max(c.last, lane.get(c.window_key, LOWEST))
    return entries


def _lane(
    state: PartitionState, snap: Snapshot, name: str, entries: Mapping[bytes, Position]
) -> LaneState:
    old, view = state.lanes[name], snap.views[name]
    need = _need(state, snap, name)
    lane = LaneState(
        need=need,
        read=old.read if view.frozen else watermark.read(old.read, snap.position),
        cursor=view.cursor,
        acked=view.acked,
        seen=snap.now_ms,
        keying=_keying(old.keying, need),
        extra=old.extra,
    )
    if snap.base:
        lane.closed = {key: last for key, last in old.closed.items() if last >= need}
        lane.closed.update(entries)
        lane.held = {states.digest(h.key): states.held(h) for h in view.held}
    return lane


def _keying(keying: Sequence[tuple[str, Position]], need: Position) -> list[tuple[str, Position]]:
    """Drop rules that no event still needed is keyed by (L2)."""
    past = sum(1 for _, start in keying[1:] if start <= need)
    return list(keying[past:])


def _changes(
    state: PartitionState,
    snap: Snapshot,
    lanes: Mapping[str, LaneState],
    entries: Mapping[str, dict[bytes, Position]],
) -> dict[str, Change]:
    if snap.base:
        return {name: states.whole(lane) for name, lane in {**state.lanes, **lanes}.items()}
    found = {}
    for name, lane in lanes.items():
        closed = entries.get(name, {})
        if name in state.unwritten:
            found[name] = states.entire(lane, closed)
        elif (change := states.changed(state.lanes[name], lane, closed)) is not None:
            found[name] = change
    return found
