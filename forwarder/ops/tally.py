"""What a run over a file reports: totals, for the one line at its end."""

from collections.abc import Mapping, Sequence

import structlog

from forwarder.clock import Clock
from forwarder.model import Batch, Collected, DeadLetter, Partition
from forwarder.ops.lane_log import LaneLog
from forwarder.ops.stall import Stall
from forwarder.sinks.base import Outcome

log = structlog.get_logger()


class Tally:
    """The reporter and pulse of a run without probes or metrics.

    ``filtered`` counts events by connection and setting, ``rejected`` dead letters by reason;
    ``remarks`` are what the source has to say of the file.
    """

    def __init__(self, clock: Clock) -> None:
        """Begin at nothing."""
        self._lane_log = LaneLog(clock.steady)
        self.uploads = 0
        self.events = 0
        self.tombstones = 0
        self.unmatched = 0
        self.batches: dict[str, int] = {}
        self.delivered_events: dict[str, int] = {}
        self.filtered: dict[tuple[str, str], int] = {}
        self.rejected: dict[str, int] = {}
        self.remarks: list[str] = []

    def text(self) -> str:
        """Return the totals for people: one line for the input, one for each connection."""
        first = (
            f"read {self.uploads} uploads with {self.events} events; "
            f"{self.unmatched} uploads matched no connection, {self.tombstones} records were empty"
        )
        lines = [first, *(self._line(lane) for lane in sorted(self.batches))]
        if self.rejected:
            reasons = ", ".join(f"{count} {why}" for why, count in sorted(self.rejected.items()))
            lines += [f"dead letters: {reasons}", *self.remarks]
        return "\n".join(lines)

    def _line(self, lane: str) -> str:
        count = self.batches[lane]
        filtered = sum(n for (name, _), n in self.filtered.items() if name == lane)
        return (
            f"{lane}: {self.delivered_events[lane]} events in {count} "
            f"{'batch' if count == 1 else 'batches'} delivered, "
            f"{filtered} events filtered out"
        )

    def collected(self, _partition: str, collected: Collected) -> None:
        """Add one poll."""
        self.uploads += collected.uploads
        self.events += collected.events
        self.tombstones += collected.tombstones
        self.unmatched += collected.unmatched
        for lane in collected.accepted:
            self.batches.setdefault(lane, 0)
            self.delivered_events.setdefault(lane, 0)
        for what, count in collected.filtered.items():
            self.filtered[what] = self.filtered.get(what, 0) + count

    def delivered(self, lane: str, batches: Sequence[Batch]) -> None:
        """Add acknowledged batches."""
        self.batches[lane] = self.batches.get(lane, 0) + len(batches)
        events = sum(batch.count for batch in batches)
        self.delivered_events[lane] = self.delivered_events.get(lane, 0) + events

    def lane_forgotten(self, lane: str) -> None:
        """Pass over lanes of another time: a file has none."""

    def dead_letters(self, letters: Sequence[DeadLetter]) -> None:
        """Add dead letters."""
        for letter in letters:
            self.rejected[letter.reason] = self.rejected.get(letter.reason, 0) + 1

    def put(self, lane: str, seconds: float, outcomes: Sequence[Outcome]) -> None:
        """Pass over single calls."""

    def lane_status(
        self, lane: str, partition: str, status: str, reason: str, remedy: str = ""
    ) -> None:
        """Say in the log what a connection waits for."""
        self._lane_log.change(lane, partition, status, reason, remedy)

    def tick(self, partition: str, seconds: float, result: str) -> None:
        """Pass over ticks."""

    def partition_phase(self, partition: str, phase: str, reason: str) -> None:
        """Pass over the one partition there is."""

    def beat(self) -> None:
        """Look whether there is anything to say of the connections."""
        self._lane_log.look()

    def joined(self, partitions: Mapping[Partition, str]) -> None:
        """Pass over the one partition there is."""

    def failed(self, partition: Partition, reason: str) -> None:
        """Pass over a failure: it ends the run, which says why."""

    def chore_failed(self, name: str) -> None:
        """Pass over a failure: it ends the run, which says why."""

    def stalled(self, partitions: Mapping[Partition, Stall]) -> None:
        """Pass over standing positions: a file has no clock."""

    def intake_stopped(self, partitions: Mapping[Partition, int]) -> None:
        """Pass over what never happens: a file is read to its end."""

    def rebalanced(self) -> None:
        """Pass over the one assignment there is."""
