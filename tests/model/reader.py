"""What is stored, read by docs/formats.md alone: nothing here knows how it is written."""

from collections.abc import Iterable
from typing import Any

import msgspec
import zstandard

from tests.model.loop import Fault

_unzip = zstandard.ZstdDecompressor()
_HEAD = ("v", "kind", "n", "group", "topic", "read", "obend", "part", "lanes")
SCALARS = ("need", "read", "cursor", "acked", "seen", "keying")


class Reading:
    """The state of one partition, record by record."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.n = 0
        self.read = 0
        self.obend = 0
        self.base = -1
        self.base_read = 0
        self.extra: dict[str, Any] = {}
        self.lanes: dict[str, dict[str, Any]] = {}

    def take(self, offset: int, value: bytes) -> dict[str, Any]:
        """Apply one record; return its content."""
        record: dict[str, Any] = msgspec.msgpack.decode(_unzip.decompress(value))
        base = record["kind"] == "base"
        if base and record.get("part", 0) == 0:
            self.base, self.base_read, self.lanes, self.extra = offset, record["read"], {}, {}
        elif self.base < 0:
            text = f"I12: the record at {offset} is no base"
            raise Fault(text)
        self.n, self.read, self.obend = record["n"], record["read"], record["obend"]
        self.extra.update({k: v for k, v in record.items() if k not in _HEAD})
        for name, change in record["lanes"].items():
            _apply(self.lanes.setdefault(name, {"closed": {}, "held": {}}), change)
        return record

    def need(self) -> int:
        """Return the lowest offset any lane needs."""
        return min((lane["need"][0] for lane in self.lanes.values()), default=self.read)

    def whole(self) -> tuple[Any, ...]:
        """Return everything it says, to be compared."""
        return self.n, self.read, self.obend, self.base, self.base_read, self.extra, self.lanes


def read(records: Iterable[tuple[int, bytes]]) -> Reading:
    """Read records in their order."""
    found = Reading()
    for offset, value in records:
        found.take(offset, value)
    return found


def buried(lane: dict[str, Any]) -> dict[str, Any]:
    """Return a lane without the held events that a batch holds as well (O4).

    And without ``judged``, which counts in the record of one tick only.
    """
    held = {}
    for key, form in lane["held"].items():
        last = lane["closed"].get(key, [-1, -1])
        pieces = [p for p in form["pieces"] if [p[0], p[1] + max(p[2], 1) - 1] > last]
        if pieces:
            held[key] = {**form, "pieces": pieces, "judged": None}
    return {**lane, "held": held}


def _apply(lane: dict[str, Any], change: dict[str, Any]) -> None:
    for field, value in change.items():
        if field == "closed":
            closed = lane["closed"]
            for key, last in value.items():
                closed[key] = max(closed.get(key, [-1, -1]), last)
        elif field == "held":
            held = lane["held"]
            for key, form in value.items():
                before = held[key]["pieces"] if key in held else []
                held[key] = {**form, "pieces": [*before, *form["pieces"]]}
        else:
            lane[field] = value
