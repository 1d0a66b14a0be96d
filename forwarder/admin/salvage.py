"""What can still be read of a state whose log was cut, emptied or damaged."""

from collections.abc import Sequence
from typing import Any

import msgspec

from forwarder.errors import RefusedError
from forwarder.journal import state as states
from forwarder.journal.fold import fold_records
from forwarder.journal.packing import STATE_READABLE, check_version, unpack
from forwarder.journal.state import LaneState, PartitionState
from forwarder.model import Address

_Stored = tuple[int, bytes]


class LaneHint(msgspec.Struct):
    """What later records say of a lane; true whatever is missing before them."""

    cursor: Address | None = None
    acked: frozenset[Address] = frozenset()
    seen: int = 0
    keying: list[tuple[str, tuple[int, int]]] = msgspec.field(default_factory=list)


class Salvaged(msgspec.Struct):
    """The newest state that holds together, and what else is known.

    ``state``: None if no base can be read. ``complete``: nothing follows it that could not be
    folded into it. ``n``: the highest tick number seen. ``records``: how many there were.
    ``fault``: what stands in the way of reading on, one line.
    """

    state: PartitionState | None
    complete: bool
    n: int
    records: int
    hints: dict[str, LaneHint]
    fault: str


class _RecordRun(msgspec.Struct):
    """Records that follow one another without a gap; ``based``: the first begins a base."""

    records: list[_Stored]
    based: bool
    n: int


def salvage(records: Sequence[_Stored], group: str, topic: str) -> Salvaged:
    """Read what can be read; raises RefusedError for another group's state or a later release."""
    runs: list[_RecordRun] = []
    hints: dict[str, LaneHint] = {}
    fault = ""
    highest, broken = 0, False
    for offset, value in records:
        record = _record(value, group, topic)
        if record is None:
            broken, fault = True, f"the state record at offset {offset} is damaged"
            continue
        highest = max(highest, record["n"])
        gap = _join(runs, record, (offset, value), after_break=broken)
        fault, broken = fault if broken else gap or fault, False
        _hear(hints, record["lanes"])
    state, complete = _newest(runs, group, topic)
    return Salvaged(state, complete and not broken, highest, len(records), hints, fault)


def apply_hint(lane: LaneState, hint: LaneHint | None) -> None:
    """Let a lane know what later records say: acknowledgements never become untrue."""
    if hint is None:
        return
    lane.cursor = max(lane.cursor, hint.cursor or lane.cursor)
    lane.acked = frozenset(a for a in lane.acked | hint.acked if a >= lane.cursor)
    lane.seen = max(lane.seen, hint.seen)
    lane.keying = lane.keying or hint.keying


def _join(runs: list[_RecordRun], record: Any, stored: _Stored, *, after_break: bool) -> str:  # noqa: ANN401  # as decoded
    """Add a record to the run it continues, or begin another; return the gap, if there is one."""
    first = record["part"] == 0
    if record.get("kind") == states.BASE and first:
        runs.append(_RecordRun([stored], based=True, n=record["n"]))
        return ""
    run = runs[-1] if runs else None
    if run is not None and record["n"] == run.n + first and not after_break:
        run.records.append(stored)
        run.n = record["n"]
        return ""
    runs.append(_RecordRun([stored], based=False, n=record["n"]))
    before = f"follows tick {run.n}" if run else "has no base before it"
    return f"tick {record['n']} at state offset {stored[0]} {before}"


def _newest(
    runs: Sequence[_RecordRun], group: str, topic: str
) -> tuple[PartitionState | None, bool]:
    for number in reversed(range(len(runs))):
        if runs[number].based:
            state = fold_records(runs[number].records, group, topic)
            return state, number == len(runs) - 1
    return None, False


def _record(value: bytes, group: str, topic: str) -> dict[str, Any] | None:
    """Return a record, its lanes packed field by field; None if it is damaged."""
    try:
        packed = _fields.decode(unpack(value))
        record = {"part": 0, **{name: _anything.decode(packed[name]) for name in _HEAD & {*packed}}}
        record["lanes"] = _lanes.decode(packed.get("lanes", b""))
    except (RefusedError, msgspec.DecodeError):
        return None
    check_version(record.get("v"), STATE_READABLE)
    if not isinstance(record.get("n"), int):
        return None
    if (record.get("group"), record.get("topic")) != (group, topic):
        what = f"the state was written by group {record.get('group')!r} for another topic or group"
        raise RefusedError(what, "two groups must never share a topic: choose another group_id")
    return record


def _hear(hints: dict[str, LaneHint], lanes: dict[str, dict[str, msgspec.Raw]]) -> None:
    for name, packed in lanes.items():
        hint = hints.setdefault(name, LaneHint())
        change = {key: _anything.decode(packed[key]) for key in _TOLD & packed.keys()}
        if "cursor" in change:
            offset, index = change["cursor"]
            hint.cursor = max(hint.cursor or (0, 0), (offset, index))
        if "acked" in change:
            hint.acked = frozenset((o, i) for o, i in change["acked"])
        if "keying" in change:
            hint.keying = [(rule, (start[0], start[1])) for rule, start in change["keying"]]
        hint.seen = max(hint.seen, change.get("seen", 0))


_HEAD = frozenset({"v", "kind", "n", "part", "group", "topic"})
_TOLD = frozenset({"cursor", "acked", "keying", "seen"})
_fields = msgspec.msgpack.Decoder(dict[str, msgspec.Raw])
_lanes = msgspec.msgpack.Decoder(dict[str, dict[str, msgspec.Raw]])
_anything = msgspec.msgpack.Decoder()
