"""The records of the state topic: what one partition must remember, as base and deltas.

A base holds everything; a delta what changed since. Both may be split over several records of
one transaction (``part`` 0, 1, …). Unknown fields and lanes are carried along untouched, so
that pods of two releases or two configurations can share a partition one after the other.
"""

import struct
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Raw, msgpack

from forwarder.journal.packing import STATE_VERSION, pack
from forwarder.model import (
    LOWEST,
    Address,
    DuplicateWindow,
    HeldWindow,
    PackedWindow,
    PieceSummary,
    Position,
)

BASE = "base"
DELTA = "delta"

PART_BYTES = 1024 * 1024
"""Rough size of one record before compression: a base of any size becomes a row of these, and
each is packed or read in less than 10 ms. Larger is only a record of a single context or piece:
a context has at most the bytes of the largest document, and so has a piece above 1 MiB, of one
event. So a record takes less than the 16 MiB of its topic."""

ENTRY_BYTES = 48
"""About what a closed window's entry takes, or a piece beside its bytes, before compression."""

CONTEXT_APART = 256 * 1024
"""Bytes of a context that shares no record with pieces where the two are large together."""

_ADDRESS_BYTES = 19
"""The most an acknowledged address takes."""

_SCALARS = frozenset({"need", "read", "cursor", "acked", "seen", "keying", "seen_from"})
JUDGED = "judged"
"""The field of a held window that saves judging its pieces again; of one record, never carried."""

_HELD = frozenset(HeldWindow.__struct_fields__) | {JUDGED}

CHUNK_ENTRIES = 1024
"""Entries that are packed, looked through or written in one go."""

_entry = struct.Struct("<16sqq")


class ClosedIndex:
    """Entries (digest of a window key -> last position), in the order they came.

    An owner only ever adds entries and writes them into the next base. A million of them are
    32 MB here and a quarter of a gigabyte in a dict.
    """

    def __init__(self) -> None:
        """Create without entries."""
        self._chunks: list[bytes] = []
        self._fresh: dict[bytes, Position] = {}

    def add(self, entries: Mapping[bytes, Position]) -> None:
        """Add entries; of a key that comes again, the higher position counts."""
        fresh = self._fresh
        for key, last in entries.items():
            fresh[key] = max(last, fresh.get(key, LOWEST))
        if len(fresh) >= CHUNK_ENTRIES:
            self._seal()

    def chunks(self) -> list[bytes]:
        """Return all there is, packed, for ``unpack_entries``; later entries are not in it."""
        self._seal()
        return list(self._chunks)

    def memory_bytes(self) -> int:
        """Return about how much memory the entries take."""
        size: int = _entry.size
        return len(self._chunks) * CHUNK_ENTRIES * size

    def _seal(self) -> None:
        rest, most = pack_entries(self._fresh), CHUNK_ENTRIES * _entry.size
        self._chunks += [rest[at : at + most] for at in range(0, len(rest), most)]
        self._fresh = {}


def pack_entries(entries: Mapping[bytes, Position]) -> bytes:
    """Return entries packed one behind the other; see :func:`unpack_entries`."""
    return b"".join([_entry.pack(key, *last) for key, last in entries.items()])


def unpack_entries(chunk: bytes, need: Position) -> dict[bytes, Position]:
    """Return those entries of a chunk that lie at or above ``need``."""
    found: dict[bytes, Position] = {}
    for key, offset, index in _entry.iter_unpack(chunk):
        last = (offset, index)
        if last >= need:
            found[key] = max(last, found.get(key, LOWEST))
    return found


class LaneState(msgspec.Struct, gc=False):
    """What is stored of one lane on one partition.

    ``need``: lowest position still needed from the input. ``read``: offset up to which the
    lane has been fed. ``cursor``: lowest outbox address not acknowledged; ``acked``:
    acknowledged ones above it. ``seen``: wall-clock ms a pod last had this lane configured.
    ``closed``: digest of a window key -> last position batched. ``held``: digest -> stored
    form of a saved window, as decoded so that unknown fields survive. Both are what a folded
    lane says; an owner keeps them elsewhere (see ``PartitionState``). ``keying``: (rule, from)
    in order. ``seen_from``: the lowest offset that positions from ``need`` on look back to for
    duplicates; None: not stored yet. ``extra``: what is only told of a lane
    (``deliver.lane_notes``), and fields of another release; kept as they are.
    """

    need: Position = (0, 0)
    read: int = 0
    cursor: Address = (0, 0)
    acked: frozenset[Address] = frozenset()
    seen: int = 0
    closed: dict[bytes, Position] = msgspec.field(default_factory=dict)
    held: dict[bytes, dict[str, Any]] = msgspec.field(default_factory=dict)
    keying: list[tuple[str, Position]] = msgspec.field(default_factory=list)
    seen_from: int | None = None
    extra: dict[str, Any] = msgspec.field(default_factory=dict)


class LookBack(msgspec.Struct, frozen=True):
    """How a partition looks back for duplicates, as tick ``n`` says.

    A release that does not know of this drops none, and carries it along in ticks of other numbers:
    it says nothing then. ``since``: nothing below is looked back on, whatever a lane says;
    ``seen_from``: the lowest offset that positions from the partition's ``read`` on look back to;
    ``windows``: in order of the offsets from which they hold.
    """

    n: int
    since: int
    seen_from: int
    windows: list[DuplicateWindow]


class PartitionState(msgspec.Struct):
    """What is stored of one partition, after folding.

    ``n``: number of the newest tick. ``obend``: end of the outbox known when it was written.
    ``base_offset``: state offset of the newest base; ``base_read``: the ``read`` in it;
    ``base_held``: (lane, digest) of the windows it holds. ``unwritten``: lanes that are new or
    changed since the opening, so that the next tick has to write them whole; never stored.
    ``look_back``: None where no duplicates are looked for.

    Only an owner has these, for its next base: ``indexes``, every lane's entries of closed
    windows; ``kept``, the windows of lanes it does not feed, packed as stored; ``odd``, fields
    of a later release on windows of those it does feed, with the time the window was opened.
    """

    n: int = 0
    read: int = 0
    obend: int = 0
    lanes: dict[str, LaneState] = msgspec.field(default_factory=dict)
    base_offset: int | None = None
    base_read: int = 0
    base_held: set[tuple[str, bytes]] = msgspec.field(default_factory=set)
    unwritten: set[str] = msgspec.field(default_factory=set)
    look_back: LookBack | None = None
    extra: dict[str, Any] = msgspec.field(default_factory=dict)
    indexes: dict[str, ClosedIndex] = msgspec.field(default_factory=dict)
    kept: dict[str, list[bytes]] = msgspec.field(default_factory=dict)
    odd: dict[tuple[str, bytes], tuple[int, dict[str, Any]]] = msgspec.field(default_factory=dict)

    def index(self, lane: str) -> ClosedIndex:
        """Return the entries of a lane's closed windows."""
        return self.indexes.setdefault(lane, ClosedIndex())


class StateHeader(msgspec.Struct, frozen=True, omit_defaults=True):
    """What every state record begins with, besides its version.

    ``look_back`` stands in the first record of a tick at least.
    """

    kind: str
    n: int
    group: str
    topic: str
    read: int
    obend: int
    look_back: LookBack | None = None


class LaneChange(msgspec.Struct, gc=False):
    """What one tick writes of one lane: in a base all of it, in a delta the changed fields."""

    scalars: dict[str, Any]
    closed: dict[bytes, Position] = msgspec.field(default_factory=dict)
    held: dict[bytes, dict[str, Any]] = msgspec.field(default_factory=dict)


def scalars(lane: LaneState) -> dict[str, Any]:
    """Return what a base says of a lane besides its windows, closed and held."""
    look_back = {} if lane.seen_from is None else {"seen_from": lane.seen_from}
    return {
        **lane.extra,
        **look_back,
        "need": lane.need,
        "read": lane.read,
        "cursor": lane.cursor,
        "acked": sorted(lane.acked),
        "seen": lane.seen,
        "keying": lane.keying,
    }


def lane_in_base(lane: LaneState) -> LaneChange:
    """Return everything a base says of a folded lane."""
    return LaneChange(scalars(lane), lane.closed, lane.held)


def new_lane_in_delta(lane: LaneState, closed: dict[bytes, Position]) -> LaneChange:
    """Return the change that describes a lane no state record has mentioned yet."""
    return LaneChange(scalars(lane), closed)


def lane_in_delta(
    old: LaneState, new: LaneState, closed: dict[bytes, Position]
) -> LaneChange | None:
    """Return what a delta says of a lane, None if nothing but the time changed."""
    found: dict[str, Any] = {}
    if new.need != old.need:
        found["need"] = new.need
    if new.read != old.read:
        found["read"] = new.read
    if new.cursor != old.cursor:
        found["cursor"] = new.cursor
    if new.acked != old.acked:
        found["acked"] = sorted(new.acked)
    if new.keying != old.keying:
        found["keying"] = new.keying
    if new.seen_from != old.seen_from and new.seen_from is not None:
        found["seen_from"] = new.seen_from
    if not found and not closed:
        return None
    found["seen"] = new.seen
    return LaneChange(found, closed)


def window_form(window: HeldWindow) -> dict[str, Any]:
    """Return the stored form of a window's saved part."""
    form: dict[str, Any] = msgspec.to_builtins(window, builtin_types=(bytes,))
    return form


class StoredWindow(HeldWindow, frozen=True, gc=False):
    """A held window as the tick ``judged[0]`` writes it, its pieces kept by the rule ``judged[1]``.

    Behind that the fields of ``PieceSummary``. A release that does not know of this carries it
    along with other pieces, but never in a tick of that number.
    """

    judged: tuple[int, str, int, int, int, Position]


def to_stored_window(window: HeldWindow, n: int, rule: str, size: int) -> StoredWindow:
    """Return what tick ``n`` writes of a window with ``size`` bytes of events."""
    pieces = window.pieces
    last = pieces[-1][0], pieces[-1][1] + max(pieces[-1][2], 1) - 1
    judged = (n, rule, len(pieces), sum([piece[2] for piece in pieces]), size, last)
    return StoredWindow(**msgspec.structs.asdict(window), judged=judged)


def is_packed(stored: Mapping[str, Any]) -> bool:
    """Tell whether a held window's pieces are still packed, since nobody has to look at them."""
    return isinstance(stored["pieces"], Raw)


def parse_window(stored: Mapping[str, Any]) -> HeldWindow:
    """Return the typed form of a held window; fields of a later release are passed over."""
    if not is_packed(stored):
        return msgspec.convert(stored, HeldWindow)
    count, events, size, (offset, index) = stored[JUDGED][2:]
    judged = PieceSummary(count, events, size, (offset, index))
    held: HeldWindow = msgspec.convert({**stored, "pieces": []}, HeldWindow)
    packed = bytes(stored["pieces"])
    return PackedWindow(**msgspec.structs.asdict(held), packed=packed, judged=judged)


def unknown_fields(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a held window that are of a later release, to be carried along."""
    return {name: stored[name] for name in stored.keys() - _HELD}


def encode(
    head: StateHeader, extra: Mapping[str, Any], lanes: Mapping[str, LaneChange], first: int = 0
) -> list[bytes]:
    """Return the values of one tick's state records from part ``first`` on; at least one."""
    parts = enumerate(_parts(lanes), first)
    return [encode_part(head, extra, part, content) for part, content in parts]


def encode_part(
    head: StateHeader, extra: Mapping[str, Any], part: int, lanes: Mapping[str, Mapping[str, Any]]
) -> bytes:
    """Return the value of one state record."""
    fields = {**extra, "v": STATE_VERSION, **msgspec.to_builtins(head), "part": part}
    return pack({**fields, "lanes": lanes})


def scalars_bytes(content: Mapping[str, Any]) -> int:
    """Return about how many bytes a lane's scalars take, at most, besides those that never grow."""
    acked = _ADDRESS_BYTES * len(content.get("acked", ()))
    if content.keys() <= _SCALARS:  # as a delta mostly says
        return acked
    further = [value for name, value in content.items() if name not in _SCALARS]
    return acked + len(msgpack.encode(further))


def _parts(lanes: Mapping[str, LaneChange]) -> Iterator[dict[str, dict[str, Any]]]:
    part: dict[str, dict[str, Any]] = {}
    size, costs = 0, dict[int, int]()
    for name, change in lanes.items():
        cost = costs.get(id(change))  # of many lanes the same is said
        if cost is None:
            cost = costs[id(change)] = scalars_bytes(change.scalars)
        if size and size + cost > PART_BYTES:
            yield part
            part, size = {}, 0
        size += cost
        if not (change.closed or change.held):
            part[name] = change.scalars
            continue
        part[name] = dict(change.scalars)
        for field, key, value, cost in _entries(change):
            if size and size + cost > PART_BYTES:
                yield part
                part, size = {}, 0
            part.setdefault(name, {}).setdefault(field, {})[key] = value
            size += cost
    yield part


def _entries(change: LaneChange) -> Iterator[tuple[str, bytes, Any, int]]:
    for key, last in change.closed.items():
        yield "closed", key, last, ENTRY_BYTES
    for key, form in change.held.items():
        for part, cost in split_window(form):
            yield "held", key, part, cost


def split_window(form: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], int]]:
    """Cut a large window by its pieces, so that none is more than Kafka takes in one message.

    The last part alone has the context, and no piece where the two are large together.
    Two neighbours together are above the limit, so that they never meet in one record.
    """
    bare = {name: value for name, value in form.items() if name != "context"}
    least = ENTRY_BYTES + sum([len(bare[name]) for name in ("key", "device", "session")])
    pieces: list[Any] = []
    size = least
    for piece in form["pieces"]:
        cost = ENTRY_BYTES + len(piece[4])
        if pieces and size + cost > PART_BYTES:
            yield {**bare, "pieces": pieces}, size
            pieces, size = [], least
        pieces.append(piece)
        size += cost
    last = len(form["context"])
    if pieces and last > CONTEXT_APART and size + last > PART_BYTES:
        yield {**bare, "pieces": pieces}, size
        pieces, size = [], least
    yield {**form, "pieces": pieces}, size + last
