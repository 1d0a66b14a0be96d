"""The records of the state topic: what one partition must remember, as base and deltas.

A base holds everything; a delta what changed since. Both may be split over several records of
one transaction (``part`` 0, 1, …). Unknown fields and lanes are carried along untouched, so
that pods of two releases or two configurations can share a partition one after the other.
"""

from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from typing import Any

import msgspec

from forwarder.errors import RefusedError
from forwarder.ledger.packing import VERSION, check_version, damaged, pack, unpack
from forwarder.model import LOWEST, Address, Held, Position

BASE = "base"
DELTA = "delta"

PART_BYTES = 2 * 1024 * 1024
"""Rough size of one record before compression; a base of any size becomes a row of these."""

_ENTRY_BYTES = 48
_SCALARS = ("need", "read", "cursor", "acked", "seen", "keying")


class LaneState(msgspec.Struct):
    """What is stored of one lane on one partition.

    ``need``: lowest position still needed from the input. ``read``: offset up to which the
    lane has been fed. ``cursor``: lowest outbox address not acknowledged; ``acked``:
    acknowledged ones above it. ``seen``: wall-clock ms a pod last had this lane configured.
    ``closed``: digest of a window key -> last position batched. ``held``: digest -> stored
    form of a saved window, kept as decoded so that unknown fields survive. ``keying``: (rule,
    from) in order. ``extra``: fields of another release.
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


class Head(msgspec.Struct, frozen=True):
    """What every state record begins with, besides its version."""

    kind: str
    n: int
    group: str
    topic: str
    read: int
    obend: int


class Change(msgspec.Struct):
    """What one tick writes of one lane: in a base all of it, in a delta the changed fields."""

    scalars: dict[str, Any]
    closed: dict[bytes, Position] = msgspec.field(default_factory=dict)
    held: dict[bytes, dict[str, Any]] = msgspec.field(default_factory=dict)


def whole(lane: LaneState) -> Change:
    """Return everything a base says of a lane."""
    scalars = {name: _plain(getattr(lane, name)) for name in _SCALARS}
    return Change({**lane.extra, **scalars}, lane.closed, lane.held)


def entire(lane: LaneState, closed: dict[bytes, Position]) -> Change:
    """Return what a delta says of a lane that no record describes yet."""
    return Change(whole(lane).scalars, closed)


def changed(old: LaneState, new: LaneState, closed: dict[bytes, Position]) -> Change | None:
    """Return what a delta says of a lane, None if nothing but the time changed."""
    scalars = {
        name: _plain(getattr(new, name))
        for name in _SCALARS
        if name != "seen" and getattr(new, name) != getattr(old, name)
    }
    if not scalars and not closed:
        return None
    return Change({**scalars, "seen": new.seen}, closed)


def digest(key: bytes) -> bytes:
    """Return the 16 bytes a window or device key is stored under."""
    return blake2b(key, digest_size=16).digest()


def held(window: Held) -> dict[str, Any]:
    """Return the stored form of a window's saved part."""
    form: dict[str, Any] = msgspec.to_builtins(window, builtin_types=(bytes,))
    return form


def window(stored: Mapping[str, Any]) -> Held:
    """Return the typed form of a held window; fields of a later release are passed over."""
    return msgspec.convert(stored, Held)


def encode(head: Head, extra: Mapping[str, Any], lanes: Mapping[str, Change]) -> list[bytes]:
    """Return the values of one tick's state records, in order; at least one."""
    values: list[bytes] = []
    for part, content in enumerate(_parts(lanes)):
        record = {**extra, "v": VERSION, **msgspec.to_builtins(head), "part": part}
        values.append(pack({**record, "lanes": content}))
    return values


def _parts(lanes: Mapping[str, Change]) -> Iterator[dict[str, dict[str, Any]]]:
    part: dict[str, dict[str, Any]] = {}
    size = 0
    for name, change in lanes.items():
        part.setdefault(name, {}).update(change.scalars)
        for field, key, value, cost in _entries(change):
            if size and size + cost > PART_BYTES:
                yield part
                part, size = {}, 0
            part.setdefault(name, {}).setdefault(field, {})[key] = value
            size += cost
    yield part


def _entries(change: Change) -> Iterator[tuple[str, bytes, Any, int]]:
    for key, last in change.closed.items():
        yield "closed", key, last, _ENTRY_BYTES
    for key, form in change.held.items():
        for part, cost in _slices(form):
            yield "held", key, part, cost


def _slices(form: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], int]]:
    """Cut a large window by its pieces, so that none is more than Kafka takes in one message.

    Two neighbours together are above the limit, so that they never meet in one record.
    """
    least = _ENTRY_BYTES + len(form["context"])
    pieces: list[Any] = []
    size = least
    for piece in form["pieces"]:
        cost = _ENTRY_BYTES + len(piece[4])
        if pieces and size + cost > PART_BYTES:
            yield {**form, "pieces": pieces}, size
            pieces, size = [], least
        pieces.append(piece)
        size += cost
    yield {**form, "pieces": pieces}, size


def _plain(value: Any) -> Any:  # noqa: ANN401  # a field of a lane, whatever its type
    return sorted(value) if isinstance(value, frozenset) else value


def fold(records: Iterable[tuple[int, bytes]], group: str, topic: str) -> PartitionState:
    """Fold state records, oldest first, into what they say together (O4).

    The first must be a base of this group and topic. Raises RefusedError if it is not, if a
    format is unknown, or if ticks are missing in between.
    """
    state: PartitionState | None = None
    for offset, value in records:
        record = _decode(value)
        _check_origin(record, group, topic)
        if record["kind"] == BASE and record["part"] == 0:
            state = PartitionState(base_offset=offset, base_read=record["read"])
        elif state is None:
            what = f"the state's first record, at offset {offset}, is no base"
            raise RefusedError(what, LOST)
        elif record["n"] != state.n + (record["part"] == 0):
            what = f"tick {record['n']} at state offset {offset} follows tick {state.n}"
            raise RefusedError(what, LOST)
        _apply(state, record)
    result = state or PartitionState()
    for lane in result.lanes.values():
        _bury(lane)
    return result


LOST = (
    "the state topic has lost records; restore it, or start again under a new group_id "
    "from an offset of your choice"
)


def _decode(value: bytes) -> dict[str, Any]:
    raw = unpack(value)
    try:
        record: dict[str, Any] = {"part": 0, **msgspec.msgpack.decode(raw)}
    except (msgspec.DecodeError, TypeError) as error:
        raise damaged(str(error)) from error
    check_version(record.get("v"))
    if missing := sorted(_HEAD - record.keys()):
        why = f"it has no {', '.join(missing)}"
        raise damaged(why)
    return record


def _check_origin(record: Mapping[str, Any], group: str, topic: str) -> None:
    origin = (record.get("group"), record.get("topic"))
    if origin != (group, topic):
        what = (
            f"the state was written by group {origin[0]!r} for topic {origin[1]!r}, "
            f"this is group {group!r} with topic {topic!r}"
        )
        raise RefusedError(
            what,
            "two groups must never share a state or outbox topic: choose another group_id",
        )


_HEAD = frozenset({"v", "kind", "n", "group", "topic", "read", "obend", "part", "lanes"})


def _apply(state: PartitionState, record: Mapping[str, Any]) -> None:
    state.n, state.read, state.obend = record["n"], record["read"], record["obend"]
    state.extra.update({k: v for k, v in record.items() if k not in _HEAD})
    for name, change in record["lanes"].items():
        lane = state.lanes.setdefault(name, LaneState())
        for key, value in change.items():
            _set(lane, key, value)
        if record["kind"] == BASE:
            state.base_held.update((name, key) for key in change.get("held", ()))


def _set(lane: LaneState, key: str, value: Any) -> None:  # noqa: ANN401
    if key == "closed":
        for digest, last in value.items():
            lane.closed[digest] = max(lane.closed.get(digest, LOWEST), tuple(last))
    elif key == "held":
        for digest, form in value.items():
            before = lane.held.get(digest, {}).get("pieces", ())
            lane.held[digest] = {**form, "pieces": [*before, *form["pieces"]]}
    elif key == "acked":
        lane.acked = frozenset((o, i) for o, i in value)
    elif key == "keying":
        lane.keying = [(rule, tuple(start)) for rule, start in value]
    elif key in _SCALARS:
        setattr(lane, key, tuple(value) if isinstance(value, list) else value)
    else:
        lane.extra[key] = value


def _bury(lane: LaneState) -> None:
    """Drop held events that a batch already holds; a window with none left is dead."""
    for digest, form in list(lane.held.items()):
        last = lane.closed.get(digest, LOWEST)
        pieces = [p for p in form["pieces"] if (p[0], p[1] + max(p[2], 1) - 1) > last]
        if pieces:
            lane.held[digest] = {**form, "pieces": pieces}
        else:
            del lane.held[digest]
