"""What a process has counted of what it took in, and the equations that must hold of it.

The same as docs/reliability.md states of the metrics; told what a reporter is told.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from forwarder.model import Batch, Collected, DeadLetter, Released


class Books:
    """The counts of one process, of all its partitions and openings."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.records = 0
        self.bytes = 0
        self.outcome_records: Counter[str] = Counter()
        self.outcome_bytes: Counter[str] = Counter()
        self.routed: Counter[str] = Counter()
        self.filtered: Counter[str] = Counter()
        self.accepted: Counter[str] = Counter()
        self.taken: Counter[str] = Counter()
        self.gone: Counter[str] = Counter()
        self.passed: Counter[str] = Counter()
        self.left: Counter[str] = Counter()

    def collected(self, collected: Collected) -> None:
        """Count a poll, or a slice of expired windows."""
        self.records += collected.records
        self.bytes += collected.bytes
        self.outcome_records.update(collected.outcome_records)
        self.outcome_bytes.update(collected.outcome_bytes)
        self.routed.update(collected.routed)
        self.accepted.update(collected.accepted)
        self.taken.update(collected.taken_over)
        for (lane, _), count in collected.filtered.items():
            self.filtered[lane] += count

    def delivered(self, lane: str, batches: Sequence[Batch]) -> None:
        """Count acknowledged batches."""
        self.gone[lane] += sum(batch.count for batch in batches)

    def dead_letters(self, letters: Sequence[DeadLetter]) -> None:
        """Count committed dead letters."""
        for letter in letters:
            if letter.connection:
                self.gone[letter.connection] += letter.events

    def taken_over(self, lane: str, events: int) -> None:
        """Count what another opening accepted."""
        self.taken[lane] += events

    def passed_over(self, lane: str, events: int) -> None:
        """Count what is dropped undelivered."""
        self.passed[lane] += events

    def released(self, what: Released) -> None:
        """Count what an opening left behind."""
        self.left.update(what.events)

    def faults(self, waiting: Mapping[str, int]) -> list[str]:
        """Return which equations do not hold; ``waiting`` is measured where it waits."""
        found = []
        if self.records != (ways := sum(self.outcome_records.values())):
            found.append(f"{self.records} records in, {ways} accounted for")
        if self.bytes != (size := sum(self.outcome_bytes.values())):
            found.append(f"{self.bytes} bytes in, {size} accounted for")
        for lane in self.routed.keys() | self.accepted.keys() | self.taken.keys() | waiting.keys():
            decided = self.accepted[lane] + self.filtered[lane]
            if self.routed[lane] != decided:
                found.append(f"{lane}: {self.routed[lane]} routed, {decided} accepted or filtered")
            had = self.accepted[lane] + self.taken[lane]
            left = self.gone[lane] + self.passed[lane] + self.left[lane] + waiting.get(lane, 0)
            if had != left:
                found.append(
                    f"{lane}: {self.accepted[lane]} accepted and {self.taken[lane]} taken over, "
                    f"{self.gone[lane]} delivered or dead letters, {self.passed[lane]} passed "
                    f"over, {self.left[lane]} left behind, {waiting.get(lane, 0)} waiting"
                )
        return found
