"""A partition's state in memory beside the records it writes, for tests of the journal."""

from collections.abc import Mapping, Sequence

import msgspec

from forwarder.journal import packing
from forwarder.journal import tick as ticks
from forwarder.journal.fold import fold_records
from forwarder.journal.snapshot import SnapshotBuilder, StateOrigin
from forwarder.journal.state import LaneState, PartitionState
from forwarder.model import Address, Closing, HeldWindow, Position
from tests.batches import GROUP, TOPIC, digest, lane_state

NOW = 5_000
ORIGIN = StateOrigin(GROUP, TOPIC)


def view(
    first_unsaved: Position | None = None,
    *,
    cursor: Address = (0, 0),
    acked: frozenset[Address] = frozenset(),
    frozen: bool = False,
) -> ticks.LanePosition:
    """Return what an owner knows of a lane."""
    return ticks.LanePosition(first_unsaved, cursor, acked, frozen)


def snapshot(
    position: int,
    views: Mapping[str, ticks.LanePosition] | None = None,
    closings: Sequence[Closing] = (),
    *,
    end: int = 0,
) -> ticks.TickInput:
    """Return what a delta is drawn from."""
    return ticks.TickInput(
        origin=ORIGIN,
        position=position,
        end=end,
        ptr=0,
        now_ms=NOW,
        views=views if views is not None else {"acme": view()},
        closings=closings,
    )


def closing(key: str, last: Position, lane: str = "acme") -> Closing:
    """Return a window that closed."""
    return Closing(lane, digest(key), last)


def drawn(state: PartitionState, snap: ticks.TickInput) -> ticks.TickPlan:
    """Return the tick that has to be made."""
    found = ticks.plan_tick(state, snap)
    assert found is not None
    return found


def opened(read: int = 0, **lanes: LaneState) -> PartitionState:
    """Return the state of a partition whose base is stored."""
    return PartitionState(n=1, read=read, lanes=lanes or {"acme": lane_state()}, base_offset=0)


class Saved:
    """The windows of a lane, given away one by one; ``settled`` once they count as saved."""

    def __init__(self, *windows: HeldWindow) -> None:
        """Have these to give."""
        self.windows = list(windows)
        self.settled = False

    def take(self, limit_bytes: int) -> list[HeldWindow]:
        """Give the next."""
        assert limit_bytes > 0
        taken, self.windows = self.windows[:1], self.windows[1:]
        return taken

    def settle(self) -> None:
        """Note it."""
        assert not self.windows
        self.settled = True


def draft(
    state: PartitionState, saved: Mapping[str, Sequence[HeldWindow]], forgotten: Sequence[str] = ()
) -> SnapshotBuilder:
    """Return a base of which nothing is drafted; ``saved`` names the lanes that are fed."""
    savings = {name: Saved(*windows) for name, windows in saved.items()}
    return SnapshotBuilder(ORIGIN, state, savings, forgotten)


def complete(one: SnapshotBuilder) -> SnapshotBuilder:
    """Draft all of a base."""
    for _ in one.steps():
        pass
    return one


class Story:
    """A partition's state in memory beside the records it has written."""

    def __init__(self, **lanes: LaneState) -> None:
        """Store nothing yet."""
        self.state = PartitionState(lanes=lanes, unwritten=set(lanes))
        self.records: list[tuple[int, bytes]] = []
        self.marks: list[tuple[int, int]] = []
        self.draft: SnapshotBuilder | None = None

    def tick(self, snap: ticks.TickInput) -> None:
        """Draw, store and apply one tick, if anything changed; the first is a base."""
        if self.state.base_offset is None:
            self.draft = complete(draft(self.state, dict.fromkeys(snap.views, ())))
        snap = msgspec.structs.replace(snap, draft=self.draft)
        found = ticks.plan_tick(self.state, snap)
        if found is None:
            return
        offset = len(self.records)
        self.records += enumerate(found.values, offset)
        self.marks.append((found.watermark, found.read))
        ticks.apply_tick(self.state, found, offset, snap.end, self.draft)
        if found.base is not None:
            self.draft = None

    def base(
        self, snap: ticks.TickInput, saved: Mapping[str, Sequence[HeldWindow]] | None = None
    ) -> None:
        """Draft a base at once and write it."""
        windows = dict.fromkeys(snap.views, ()) | dict(saved or {})
        self.draft = complete(draft(self.state, windows))
        self.tick(snap)

    def leave(self, name: str, lane: LaneState) -> None:
        """Have an unknown lane, as an opening puts it aside."""
        self.state.kept[name] = [packing.pack(lane.held)]
        self.state.index(name).add(lane.closed)
        self.state.lanes[name] = msgspec.structs.replace(lane, held={}, closed={})

    def folded(self) -> PartitionState:
        """Return what an opening would read."""
        return fold_records(self.records, GROUP, TOPIC)
