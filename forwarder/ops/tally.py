"""What a run over a file reports: totals, for the one line at its end."""

from collections.abc import Iterable, Mapping, Sequence

import structlog

from forwarder.clock import Clock
from forwarder.config import masking
from forwarder.model import (
    Batch,
    Collected,
    DeadLetter,
    Unused,
    add_count,
)
from forwarder.ops.lane_log import LaneStatusLog
from forwarder.ops.reporter import LaneStatus, Reporter

log = structlog.get_logger()


MAX_CONNECTIONS_NAMED = 10
"""Connections of which it is told why uploads did not match, and settings of one connection."""

MAX_VALUES_TOLD = 3
"""Values told of one part of a match: those that came most often."""

MAX_VALUES_COUNTED = 1_000
"""Different values counted of one part of a match; a value may be anything."""

OTHER_VALUES = "..."
"""Under which further values are counted."""


class Tally(Reporter):
    """What a run without probes or metrics reports in the end.

    ``filtered`` counts events by connection and setting, ``rejected`` dead letters by reason,
    ``missed`` by connection and part of its match the values of uploads that matched nothing;
    ``remarks`` are what the source has to say of the file.
    """

    def __init__(self, clock: Clock, connections: Iterable[str] = ()) -> None:
        """Create with all totals 0, for these connections."""
        self._lane_log = LaneStatusLog(clock.steady)
        self.records = 0
        self.uploads = 0
        self.events = 0
        self.duplicates = 0
        self.tombstones = 0
        self.unmatched = 0
        self.unused: dict[str, int] = {}
        self.batches = dict.fromkeys(connections, 0)
        self.delivered_events = dict(self.batches)
        self.filtered: dict[tuple[str, str], int] = {}
        self.rejected: dict[str, int] = {}
        self.missed: dict[tuple[str, str], dict[str, int]] = {}
        self.remarks: list[str] = []

    def is_useless(self) -> bool:
        """Tell whether there were lines, and not one could be used as an upload."""
        return bool(self.records) and self.uploads <= self.unused.get(Unused.MISSING, 0)

    def text(self) -> str:
        """Return the totals for people: one line for the input, one for each connection."""
        again = f" ({self.duplicates} had come before)" if self.duplicates else ""
        first = (
            f"read {self.uploads} uploads with {self.events} events{again}; "
            f"{self.unmatched} uploads matched no connection, {self.tombstones} records were empty"
        )
        lines = [first, *self._misses(), *self._idle()]
        lines += [self._line(lane) for lane in sorted(self.batches)]
        if self.rejected:
            reasons = ", ".join(f"{count} {why}" for why, count in sorted(self.rejected.items()))
            lines += [f"dead letters: {reasons}", *self.remarks]
        if self.is_useless():
            lines.append(f"not one of {self.records} lines could be used as an upload")
        return "\n".join(lines)

    def _line(self, lane: str) -> str:
        count = self.batches[lane]
        by = {setting: n for (name, setting), n in self.filtered.items() if name == lane}
        told = f" ({', '.join(_most(by, MAX_CONNECTIONS_NAMED))})" if by else ""
        return (
            f"{lane}: {self.delivered_events[lane]} events in {count} "
            f"{'batch' if count == 1 else 'batches'} delivered, "
            f"{sum(by.values())} events filtered out{told}"
        )

    def _misses(self) -> list[str]:
        """Return by connection which parts of its match uploads missed that matched nothing."""
        lanes: dict[str, list[str]] = {}
        for (lane, part), values in sorted(self.missed.items()):
            seen = {_shown(value): count for value, count in values.items()}
            told = f" ({', '.join(_most(seen, MAX_VALUES_TOLD))})" if part != "api_key" else ""
            lanes.setdefault(lane, []).append(f"{part} {sum(values.values())}{told}")
        lines = [f"  no match with {lane}: {'; '.join(parts)}" for lane, parts in lanes.items()]
        more = len(lines) - MAX_CONNECTIONS_NAMED
        return (
            [*lines[:MAX_CONNECTIONS_NAMED], f"  nor with {more} connections more"]
            if more > 0
            else lines
        )

    def _idle(self) -> list[str]:
        """Return how many uploads came to nothing for want of events."""
        if not self.unused:
            return []
        missing = self.unused.get(Unused.MISSING, 0)
        keyless = f", {missing} have no key events" if missing else ""
        total = sum(self.unused.values())
        return [f"  {total} uploads without events touched no open window{keyless}"]

    def collected(self, _partition: str, collected: Collected) -> None:
        """Add one poll."""
        self.records += collected.records
        self.uploads += collected.uploads
        self.events += collected.events
        self.duplicates += collected.duplicates
        self.tombstones += collected.tombstones
        self.unmatched += collected.unmatched
        for reason, count in collected.unused.items():
            add_count(self.unused, reason.value, count)
        for what, count in collected.filtered.items():
            add_count(self.filtered, what, count)
        for (lane, part, value), count in collected.missed.items():
            values = self.missed.setdefault((lane, part), {})
            add_count(
                values,
                value if value in values or len(values) < MAX_VALUES_COUNTED else OTHER_VALUES,
                count,
            )

    def delivered(self, lane: str, batches: Sequence[Batch]) -> None:
        """Add acknowledged batches."""
        self.batches[lane] = self.batches.get(lane, 0) + len(batches)
        events = sum(batch.count for batch in batches)
        self.delivered_events[lane] = self.delivered_events.get(lane, 0) + events

    def dead_letters(self, partition: str, letters: Sequence[DeadLetter]) -> None:  # noqa: ARG002
        """Add dead letters."""
        for letter in letters:
            self.rejected[letter.reason] = self.rejected.get(letter.reason, 0) + 1

    def lane_status(
        self, lane: str, partition: str, status: LaneStatus, reason: str, remedy: str = ""
    ) -> None:
        """Say in the log what a connection waits for."""
        self._lane_log.change(lane, partition, status, reason, remedy)

    def heartbeat(self) -> None:
        """Look whether there is anything to say of the connections."""
        self._lane_log.write_due()


def _most(counts: Mapping[str, int], most: int) -> list[str]:
    """Return what came most often, with how often."""
    ranked = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    told = [f"{name} {count}" for name, count in ranked[:most]]
    rest = sum(count for _, count in ranked[most:])
    return [*told, f"others {rest}"] if rest else told


def _shown(value: str) -> str:
    """Return a value of the input as it can be printed."""
    if not value:
        return "none"
    plain = ascii(masking.mask(value[:1_024]))[1:-1]
    return f'"{plain[:37]}..."' if len(plain) > 40 else f'"{plain}"'  # noqa: PLR2004  # columns
