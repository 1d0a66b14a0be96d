"""Builds a snapshot of a partition's state, a record of the kind ``base``, beside the ticks (K2).

It is drafted in slices of a few milliseconds, and written by the first tick after that.

What may be large is encoded ahead: held windows, entries of closed windows, whatever is kept of
lanes that are not fed. The tick that writes the base adds what is small or has changed since:
the lanes' scalars before it, the entries of windows closed meanwhile behind it.
"""

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Protocol

import msgspec

from forwarder.formats.ids import digest
from forwarder.journal import state as states
from forwarder.journal.packing import unpack
from forwarder.journal.state import (
    ClosedIndex,
    LaneChange,
    LaneState,
    PartitionState,
    StateHeader,
    unpack_entries,
)
from forwarder.model import LOWEST, HeldWindow, Position

SLICE_BYTES = 256 * 1024
"""Bytes of windows drafted in one go, a few milliseconds' work."""

LEAP = 10_000
"""How far a base's number lies above that of the tick before its drafting: the records are
encoded with it, and deltas go on being numbered meanwhile."""


_Window = tuple[bytes, object, int]
"""Digest of a window's key, its stored form or a part of it, and what that takes in bytes."""


class CheckpointSource(Protocol):
    """The windows of one lane, taken slice by slice and counted as saved at the end."""

    def take(self, limit_bytes: int) -> list[HeldWindow]:
        """Return the next windows to store; none: all were taken."""

    def settle(self) -> None:
        """Count as saved all that were taken. Caller: the builder, as its tick is drawn (K2)."""


class StateOrigin(msgspec.Struct, frozen=True):
    """Who writes the state: group and input topic."""

    group: str
    topic: str


class SnapshotBuilder:
    """One base while it is made. Caller: the partition's snapshots, then its ticks.

    ``n`` is the number it will have. ``held``: (lane, digest) of the windows in it so far.
    ``forgotten``: lanes it leaves out. ``bytes``: what its records take in memory.
    """

    def __init__(
        self,
        origin: StateOrigin,
        state: PartitionState,
        savings: Mapping[str, CheckpointSource],
        forgotten: Iterable[str] = (),
        rules: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Create with nothing drafted.

        ``savings``: the saved windows of the lanes that are fed; ``rules``: their filter rules.
        """
        first = state.base_offset is None
        self.n = state.n + (1 if first else LEAP)
        self.savings = savings
        self._rules = rules
        self.held: set[tuple[str, bytes]] = set()
        self.forgotten = frozenset(forgotten)
        self.complete = False
        self.bytes = 0
        self._state = state
        self._head = StateHeader(
            states.BASE, self.n, origin.group, origin.topic, state.read, state.obend
        )
        self._values: list[bytes] = []
        self._indexes: dict[str, ClosedIndex] = {}
        self._since: dict[str, dict[bytes, Position]] = {}
        self._part: dict[str, dict[str, dict[bytes, Any]]] = {}
        self._size = 0

    def steps(self) -> Iterator[None]:
        """Draft it, a few milliseconds' work between two yields."""
        chunks = {
            name: self._state.index(name).chunks()
            for name in self._state.lanes
            if name not in self.forgotten
        }
        for name, entries in chunks.items():
            lane = self._state.lanes[name]
            need = lane.need if name in self.savings else LOWEST
            for chunk in entries:
                self._enter(name, unpack_entries(chunk, need))
                yield
            yield from self._windows(name)
        yield from self._catch_up()
        self._seal()
        self.complete = True

    def note(self, entries: Mapping[str, Mapping[bytes, Position]]) -> None:
        """Note the entries of a tick that was committed since the drafting began."""
        _merge(self._since, entries)

    def settle(self) -> None:
        """Count as saved what was taken; as the tick that writes the base is drawn."""
        for saving in self.savings.values():
            saving.settle()

    def values(
        self,
        head: StateHeader,
        extra: Mapping[str, Any],
        lanes: Mapping[str, LaneState],
        entries: Mapping[str, Mapping[bytes, Position]],
    ) -> list[bytes]:
        """Return the base's records; ``head``, ``lanes`` and ``entries`` as drawn.

        The last record is encoded now, too: what a record says of the partition as a whole
        counts until the next one says otherwise. Scalars that the first has no room for are
        there as well.
        """
        scalars = {name: LaneChange(states.scalars(lane)) for name, lane in lanes.items()}
        later = {name: LaneChange({}, found) for name, found in self._later(entries).items()}
        if not self._values:
            for name, change in later.items():
                scalars[name].closed = change.closed
            return states.encode(head, extra, scalars)
        room, front = states.PART_BYTES, dict[str, dict[str, Any]]()
        for name, change in scalars.items():
            room -= states.scalars_bytes(change.scalars)
            if front and room < 0:
                later.setdefault(name, LaneChange({})).scalars = change.scalars
            else:
                front[name] = change.scalars
        first = states.encode_part(head, extra, 0, front)
        rest = states.encode(head, {}, later, len(self._values) + 1)
        return [first, *self._values, *rest]

    def indexes(self, entries: Mapping[str, Mapping[bytes, Position]]) -> dict[str, ClosedIndex]:
        """Return the entries that are left after the base, by lane; once it is committed."""
        for name, found in self._later(entries).items():
            self._indexes.setdefault(name, ClosedIndex()).add(found)
        return self._indexes

    def _later(
        self, entries: Mapping[str, Mapping[bytes, Position]]
    ) -> dict[str, dict[bytes, Position]]:
        """Return the entries that are in no drafted record, those of the snapshot among them."""
        later = {n: dict(found) for n, found in self._since.items() if n not in self.forgotten}
        _merge(later, entries)
        return later

    def _windows(self, name: str) -> Iterator[None]:
        drafted = 0
        for key, part, cost in self._saved(name) if name in self.savings else self._kept(name):
            self.held.add((name, key))
            self._put(name, "held", key, part, cost)
            drafted += cost
            if drafted > SLICE_BYTES:
                yield
                drafted = 0

    def _saved(self, name: str) -> Iterator[_Window]:
        """Give the windows of a lane that is fed."""
        rule = self._rules.get(name)
        while taken := self.savings[name].take(SLICE_BYTES):
            keys = [digest(one.key) for one in taken]
            # All at once: one that closes before its turn here is in this base all the same.
            self.held.update([(name, key) for key in keys])
            for key, one in zip(keys, taken, strict=True):
                opened, odd = self._state.odd.get((name, key), (0, {}))
                odd = odd if opened == one.opened else {}
                size = sum([len(piece[4]) for piece in one.pieces])
                cost = len(one.context) + size + states.ENTRY_BYTES * (1 + len(one.pieces))
                if not odd and cost < states.PART_BYTES:
                    # Encoded like its form, without a copy of it.
                    yield (
                        key,
                        states.to_stored_window(one, self.n, rule, size) if rule else one,
                        cost,
                    )
                else:
                    form = {**odd, **states.window_form(one)}
                    yield from ((key, part, cost) for part, cost in states.split_window(form))

    def _kept(self, name: str) -> Iterator[_Window]:
        """Give the windows of a lane that is not, as they are stored."""
        for packed in self._state.kept.get(name, ()):
            forms = msgspec.msgpack.decode(unpack(packed), type=dict[bytes, dict[str, Any]])
            for key, form in forms.items():
                yield from ((key, part, cost) for part, cost in states.split_window(form))

    def _catch_up(self) -> Iterator[None]:
        """Enter what closed meanwhile, until little is left for the tick."""
        for _ in range(3):
            since, self._since = self._since, {}
            for name, found in since.items():
                if name in self.forgotten:
                    continue
                index = ClosedIndex()
                index.add(found)
                for chunk in index.chunks():
                    self._enter(name, unpack_entries(chunk, LOWEST))
                    yield

    def _enter(self, name: str, entries: Mapping[bytes, Position]) -> None:
        self._indexes.setdefault(name, ClosedIndex()).add(entries)
        for key, last in entries.items():
            self._put(name, "closed", key, last, states.ENTRY_BYTES)

    def _put(self, name: str, field: str, key: bytes, value: object, cost: int) -> None:
        if self._size and self._size + cost > states.PART_BYTES:
            self._seal()
        self._part.setdefault(name, {}).setdefault(field, {})[key] = value
        self._size += cost

    def _seal(self) -> None:
        """Encode the part in the making."""
        if self._part:
            value = states.encode_part(self._head, {}, len(self._values) + 1, self._part)
            self._values.append(value)
            self.bytes += len(value)
        self._part, self._size = {}, 0


def _merge(
    into: dict[str, dict[bytes, Position]], entries: Mapping[str, Mapping[bytes, Position]]
) -> None:
    for name, found in entries.items():
        lane = into.setdefault(name, {})
        for key, last in found.items():
            lane[key] = max(last, lane.get(key, LOWEST))
