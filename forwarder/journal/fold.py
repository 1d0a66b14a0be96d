"""Fold the records of the state topic into what they say together (O4).

The state of gigabytes is never in memory as a whole: the windows that the newest base holds stay
packed, record by record, until they are asked for.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import msgspec
from msgspec import Raw, msgpack

from forwarder.errors import RefusedError
from forwarder.formats import pieces
from forwarder.journal.packing import STATE_READABLE, check_version, damaged, unpack
from forwarder.journal.state import (
    BASE,
    JUDGED,
    LaneState,
    LookBack,
    PartitionState,
    is_packed,
)
from forwarder.model import LOWEST


class StateFold:
    """Folds state records as they are read, oldest first, into ``state``.

    Caller: an opening, with every record from ``ptr`` on; then, once, ``windows`` or
    ``forget_windows``.
    """

    def __init__(self, group: str, topic: str) -> None:
        """Create with nothing folded."""
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
        state.extra.update({k: v for k, v in record.items() if k not in _KNOWN})
        if record["part"] == 0:
            state.look_back = _look_back(record)
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
            left = [pieces.rest_after(piece, last) for piece in form["pieces"]]
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
_KNOWN = _HEAD | {"look_back"}
_record = msgpack.Decoder(dict[str, Raw])
_lanes = msgpack.Decoder(dict[str, dict[str, Raw]])
_keys = msgpack.Decoder(dict[bytes, Raw])
_forms = msgpack.Decoder(dict[bytes, dict[str, Raw]])
_anything = msgpack.Decoder()


def _look_back(record: Mapping[str, Any]) -> LookBack | None:
    """Return how duplicates are looked for, if the record's own tick says so.

    Where a release that does not know of it has carried it along, nothing holds: nobody has looked.
    """
    if (told := record.get("look_back")) is None:
        return None
    try:
        found: LookBack = msgspec.convert(told, LookBack)
    except msgspec.ValidationError as error:
        raise damaged(str(error)) from error
    return found if found.n == record["n"] else None


def _set(lane: LaneState, field: str, value: Any) -> None:  # noqa: ANN401  # as decoded
    match field:
        case "closed":
            for key, last in value.items():
                lane.closed[key] = max(lane.closed.get(key, LOWEST), tuple(last))
        case "need":
            lane.need = tuple(value)
        case "read":
            lane.read = value
        case "cursor":
            lane.cursor = tuple(value)
        case "acked":
            lane.acked = frozenset((offset, index) for offset, index in value)
        case "seen":
            lane.seen = value
        case "keying":
            lane.keying = [(rule, tuple(start)) for rule, start in value]
        case "seen_from":
            lane.seen_from = value
        case _:
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
