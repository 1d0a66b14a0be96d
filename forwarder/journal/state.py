"""The records of the state topic: what one partition must remember, as base and deltas.

A base holds everything; a delta what changed since. Both may be split over several records of
one transaction (``part`` 0, 1, …). Unknown fields and lanes are carried along untouched, so
that pods of two releases or two configurations can share a partition one after the other.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import msgspec
from msgspec import Raw, msgpack

from forwarder.errors import RefusedError
from forwarder.formats import pieces
from forwarder.journal.closed_index import ClosedIndex
from forwarder.journal.packing import (
    STATE_READABLE,
    STATE_VERSION,
    check_version,
    damaged,
    pack,
    unpack,
)
from forwarder.model import LOWEST, Address, Held, Judged, Position, Unopened

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

_SCALARS = ("need", "read", "cursor", "acked", "seen", "keying")
JUDGED = "judged"
"""The field of a held window that saves judging its pieces again; of one record, never carried."""

_HELD = frozenset(Held.__struct_fields__) | {JUDGED}


class LaneState(msgspec.Struct):
    """What is stored of one lane on one partition.

    ``need``: lowest position still needed from the input. ``read``: offset up to which the
    lane has been fed. ``cursor``: lowest outbox address not acknowledged; ``acked``:
    acknowledged ones above it. ``seen``: wall-clock ms a pod last had this lane configured.
    ``closed``: digest of a window key -> last position batched. ``held``: digest -> stored
    form of a saved window, as decoded so that unknown fields survive. Both are what a folded
    lane says; an owner keeps them elsewhere (see ``PartitionState``). ``keying``: (rule, from)
    in order. ``extra``: fields of another release.
    """

    need: Position = (0, 0)
    read: int = 0
    cursor: Address = (0, 0)
    acked: frozenset[Address] = frozenset()
    seen: int = 0
    closed: dict[bytes, Position] = msgspec.field(default_factory=dict)
    held: dict[bytes, dict[str, Any]] = msgspec.field(default_factory=dict)
    keying: list[tuple[str, Position]] = msgspec.field(default_factory=list)
    extra: dict[str, Any] = msgspec.field(default_factory=dict)


class PartitionState(msgspec.Struct):
    """What is stored of one partition, after folding.

    ``n``: number of the newest tick. ``obend``: end of the outbox known when it was written.
    ``base_offset``: state offset of the newest base; ``base_read``: the ``read`` in it;
    ``base_held``: (lane, digest) of the windows it holds. ``unwritten``: lanes that are new or
    changed since the opening, so that the next tick has to write them whole; never stored.

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
    extra: dict[str, Any] = msgspec.field(default_factory=dict)
    indexes: dict[str, ClosedIndex] = msgspec.field(default_factory=dict)
    kept: dict[str, list[bytes]] = msgspec.field(default_factory=dict)
    odd: dict[tuple[str, bytes], tuple[int, dict[str, Any]]] = msgspec.field(default_factory=dict)

    def index(self, lane: str) -> ClosedIndex:
        """Return the entries of a lane's closed windows."""
        return self.indexes.setdefault(lane, ClosedIndex())


class StateHeader(msgspec.Struct, frozen=True):
    """What every state record begins with, besides its version."""

    kind: str
    n: int
    group: str
    topic: str
    read: int
    obend: int


class LaneChange(msgspec.Struct):
    """What one tick writes of one lane: in a base all of it, in a delta the changed fields."""

    scalars: dict[str, Any]
    closed: dict[bytes, Position] = msgspec.field(default_factory=dict)
    held: dict[bytes, dict[str, Any]] = msgspec.field(default_factory=dict)


def scalars(lane: LaneState) -> dict[str, Any]:
    """Return what a base says of a lane besides its windows, closed and held."""
    return {**lane.extra, **{name: _plain(getattr(lane, name)) for name in _SCALARS}}


def lane_in_base(lane: LaneState) -> LaneChange:
    """Return everything a base says of a folded lane."""
    return LaneChange(scalars(lane), lane.closed, lane.held)


def new_lane_in_delta(lane: LaneState, closed: dict[bytes, Position]) -> LaneChange:
    """Return what a delta says of a lane that no record describes yet."""
    return LaneChange(scalars(lane), closed)


def lane_in_delta(
    old: LaneState, new: LaneState, closed: dict[bytes, Position]
) -> LaneChange | None:
    """Return what a delta says of a lane, None if nothing but the time changed."""
    found = {
        name: _plain(getattr(new, name))
        for name in _SCALARS
        if name != "seen" and getattr(new, name) != getattr(old, name)
    }
    if not found and not closed:
        return None
    return LaneChange({**found, "seen": new.seen}, closed)


def window_form(window: Held) -> dict[str, Any]:
    """Return the stored form of a window's saved part."""
    form: dict[str, Any] = msgspec.to_builtins(window, builtin_types=(bytes,))
    return form


class StoredWindow(Held, frozen=True, gc=False):
    """A held window as the tick ``judged[0]`` writes it, its pieces kept by the rule ``judged[1]``.

    Behind that the fields of ``Judged``. A release that does not know of this carries it along
    with other pieces, but never in a tick of that number.
    """

    judged: tuple[int, str, int, int, int, Position]


def to_stored_window(window: Held, n: int, rule: str, size: int) -> StoredWindow:
    """Return what tick ``n`` writes of a window with ``size`` bytes of events."""
    pieces = window.pieces
    last = pieces[-1][0], pieces[-1][1] + max(pieces[-1][2], 1) - 1
    judged = (n, rule, len(pieces), sum([piece[2] for piece in pieces]), size, last)
    return StoredWindow(**msgspec.structs.asdict(window), judged=judged)


def is_packed(stored: Mapping[str, Any]) -> bool:
    """Tell whether a held window's pieces are still packed, since nobody has to look at them."""
    return isinstance(stored["pieces"], Raw)


def parse_window(stored: Mapping[str, Any]) -> Held:
    """Return the typed form of a held window; fields of a later release are passed over."""
    if not is_packed(stored):
        return msgspec.convert(stored, Held)
    count, events, size, (offset, index) = stored[JUDGED][2:]
    judged = Judged(count, events, size, (offset, index))
    held: Held = msgspec.convert({**stored, "pieces": []}, Held)
    packed = bytes(stored["pieces"])
    return Unopened(**msgspec.structs.asdict(held), packed=packed, judged=judged)


def unknown_fields(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a held window that this release does not know."""
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
    further = [value for name, value in content.items() if name not in _SCALARS]
    acked = _ADDRESS_BYTES * len(content.get("acked", ()))
    return acked + (len(msgpack.encode(further)) if further else 0)


def _parts(lanes: Mapping[str, LaneChange]) -> Iterator[dict[str, dict[str, Any]]]:
    part: dict[str, dict[str, Any]] = {}
    size = 0
    for name, change in lanes.items():
        cost = scalars_bytes(change.scalars)
        if size and size + cost > PART_BYTES:
            yield part
            part, size = {}, 0
        part.setdefault(name, {}).update(change.scalars)
        size += cost
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


def _plain(value: Any) -> Any:  # noqa: ANN401  # a field of a lane, whatever its type
    return sorted(value) if isinstance(value, frozenset) else value


class StateFold:
    """Folds state records as they are read, oldest first, into ``state`` (O4).

    The windows that the newest base holds stay packed until ``windows`` is asked for them: there
    may be gigabytes.
    """

    def __init__(self, group: str, topic: str) -> None:
        """Begin with nothing known."""
        self.state = PartitionState()
        self._origin = (group, topic)
        self._begun = False
        self._holding: deque[bytes] = deque()
        self._split: dict[tuple[str, bytes], int] = {}

    def take(self, offset: int, value: bytes) -> None:
        """Take the next record; the first must be a base of this group and topic.

        Raises RefusedError if it is not, if a format is unknown, or if ticks are missing.
        """
        record = _decode(value)
        _check_origin(record, self._origin)
        if record["kind"] == BASE and record["part"] == 0:
            self.state = PartitionState(base_offset=offset, base_read=record["read"])
            self._begun = True
            self.forget_windows()
        elif not self._begun:
            what = f"the state's first record, at offset {offset}, is no base"
            raise RefusedError(what, LOST)
        elif record["n"] != self.state.n + (record["part"] == 0):
            what = f"tick {record['n']} at state offset {offset} follows tick {self.state.n}"
            raise RefusedError(what, LOST)
        if self._apply(record):
            self._holding.append(value)

    def windows(
        self, rules: Mapping[str, str] = MappingProxyType({})
    ) -> Iterator[tuple[str, bytes, dict[str, Any]]]:
        """Give away (lane, digest, stored form) of every held window that is still open.

        Events that a batch holds are left out, and so is a window with none left. Pieces that
        were kept by a lane's rule in ``rules`` stay packed, and ``JUDGED`` says of them what
        it says; of others it says nothing.
        """
        begun: dict[tuple[str, bytes], dict[str, Any]] = {}
        while self._holding:
            record = _decode(self._holding.popleft())
            for name, key, packed in _held(record["lanes"]):
                one = name, key
                sure = [record["n"], rules.get(name)]
                if one not in self._split and key not in self.state.lanes[name].closed:
                    form = _form(packed, sure)
                else:
                    form = _form(packed, None)
                whole = self._joined(begun, one, form)
                if whole and (is_packed(whole) or self._is_alive(name, key, whole)):
                    yield name, key, whole

    def forget_windows(self) -> None:
        """Give up what the newest base holds."""
        self._holding.clear()
        self._split.clear()

    def _apply(self, record: Mapping[str, Any]) -> bool:
        """Take what a record says; return whether it holds windows."""
        state, holds = self.state, False
        state.n, state.read, state.obend = record["n"], record["read"], record["obend"]
        state.extra.update({k: v for k, v in record.items() if k not in _HEAD})
        for name, change in record["lanes"].items():
            lane = state.lanes.setdefault(name, LaneState())
            for field, value in change.items():
                if field == "held":
                    self._note(name, value)
                    holds = True
                else:
                    _set(lane, field, _anything.decode(value))
        return holds

    def _note(self, name: str, held: Raw) -> None:
        for key in _keys.decode(held):
            one = (name, key)
            if one in self.state.base_held:
                self._split[one] = self._split.get(one, 1) + 1
            self.state.base_held.add(one)

    def _joined(
        self,
        begun: dict[tuple[str, bytes], dict[str, Any]],
        one: tuple[str, bytes],
        form: dict[str, Any],
    ) -> dict[str, Any] | None:
        """Return a window once all of its parts are there; most have one."""
        if one not in self._split:
            return form
        if one in begun:
            form["pieces"] = [*begun.pop(one)["pieces"], *form["pieces"]]
        self._split[one] -= 1
        if self._split[one]:
            begun[one] = form
            return None
        return form

    def _is_alive(self, name: str, key: bytes, form: dict[str, Any]) -> bool:
        """Leave out of a window what batches hold; tell whether anything is left.

        Within a piece, too: a window's documents may lie in several ticks.
        """
        last = self.state.lanes[name].closed.get(key)
        if last is not None:
            left = [pieces.behind(piece, last) for piece in form["pieces"]]
            form["pieces"] = [piece for piece in left if piece is not None]
        return bool(form["pieces"])


def fold_records(records: Iterable[tuple[int, bytes]], group: str, topic: str) -> PartitionState:
    """Fold state records with all held windows, where they are few; see ``StateFold``."""
    folding = StateFold(group, topic)
    for offset, value in records:
        folding.take(offset, value)
    for name, key, form in folding.windows():
        folding.state.lanes[name].held[key] = form
    return folding.state


LOST = (
    "the state topic has lost records: restore it, or go on without them with "
    "`forwarder accept-loss` for this topic and partition"
)


def _decode(value: bytes) -> dict[str, Any]:
    """Return a record's fields; what it says of its lanes stays packed, field by field."""
    raw = unpack(value)
    record: dict[str, Any] = {"part": 0}
    try:
        for key, content in _record.decode(raw).items():
            record[key] = (_lanes if key == "lanes" else _anything).decode(content)
    except (msgspec.DecodeError, TypeError) as error:
        raise damaged(str(error)) from error
    check_version(record.get("v"), STATE_READABLE)
    if missing := sorted(_HEAD - record.keys()):
        why = f"it has no {', '.join(missing)}"
        raise damaged(why)
    return record


def _check_origin(record: Mapping[str, Any], wanted: tuple[str, str]) -> None:
    origin = (record.get("group"), record.get("topic"))
    if origin != wanted:
        what = (
            f"the state was written by group {origin[0]!r} for topic {origin[1]!r}, "
            f"this is group {wanted[0]!r} with topic {wanted[1]!r}"
        )
        raise RefusedError(
            what,
            "two groups must never share a state or outbox topic: choose another group_id",
        )


_HEAD = frozenset({"v", "kind", "n", "group", "topic", "read", "obend", "part", "lanes"})
_record = msgpack.Decoder(dict[str, Raw])
_lanes = msgpack.Decoder(dict[str, dict[str, Raw]])
_keys = msgpack.Decoder(dict[bytes, Raw])
_forms = msgpack.Decoder(dict[bytes, dict[str, Raw]])
_anything = msgpack.Decoder()


def _set(lane: LaneState, field: str, value: Any) -> None:  # noqa: ANN401
    if field == "closed":
        for key, last in value.items():
            lane.closed[key] = max(lane.closed.get(key, LOWEST), tuple(last))
    elif field == "acked":
        lane.acked = frozenset((o, i) for o, i in value)
    elif field == "keying":
        lane.keying = [(rule, tuple(start)) for rule, start in value]
    elif field in _SCALARS:
        setattr(lane, field, tuple(value) if isinstance(value, list) else value)
    else:
        lane.extra[field] = value


def _held(lanes: Mapping[str, Mapping[str, Raw]]) -> Iterator[tuple[str, bytes, dict[str, Raw]]]:
    for name, change in lanes.items():
        if "held" in change:
            for key, form in _forms.decode(change["held"]).items():
                yield name, key, form


def _form(packed: dict[str, Raw], sure: list[object] | None) -> dict[str, Any]:
    """Return a held window's fields; the pieces stay packed if they are judged as is ``sure``."""
    judged = _anything.decode(packed[JUDGED]) if JUDGED in packed else None
    unseen = sure is not None and isinstance(judged, list) and judged[:2] == sure
    return {
        name: raw if unseen and name == "pieces" else _anything.decode(raw)
        for name, raw in packed.items()
    }
