"""What one opening of a partition has collected and not committed, and how many events it holds.

The equations of docs/reliability.md hold at every moment. What is in a tick that is being
committed is in no list of the partition any more, and what a lane without deliveries has committed
is in no queue: both are kept here.
"""

from collections.abc import Container, Mapping, Sequence

import msgspec

from forwarder.collect.pipeline import Pipeline
from forwarder.model import Address, Batch, Closing, Collected, DeadLetter, Released, add_count
from forwarder.ops.reporter import Reporter


class PendingOutput(msgspec.Struct):
    """What the next tick stores: everything closed since the one before.

    ``closed_bytes``: payload of its batches and dead letters. ``is_awaited``: there is anything of
    which somebody waits that it is stored.
    """

    batches: list[Batch] = msgspec.field(default_factory=list)
    closings: list[Closing] = msgspec.field(default_factory=list)
    dead_letters: list[DeadLetter] = msgspec.field(default_factory=list)
    closed_bytes: int = 0
    records: int = 0
    record_bytes: int = 0
    is_awaited: bool = False


class Uncommitted:
    """What one opening holds besides its windows. Owned by the partition; never concurrently.

    Callers: the partition adds what it collects, the tick loop what destinations refused; it draws
    it all for a tick, and says when that is committed. ``closed_bytes``: the payload bytes of what
    no committed tick holds (C2); asked before every poll.
    """

    def __init__(self, partition: str, reporter: Reporter) -> None:
        """Create with nothing pending; ``partition`` is its name in reports."""
        self.next = PendingOutput()
        self.closed_bytes = 0
        self._partition = partition
        self._reporter = reporter
        self._drawn = PendingOutput()
        self._parked: dict[str, int] = {}
        self._released = False

    def add(self, collected: Collected) -> None:
        """Add and report a poll, or a slice of expired windows."""
        pending = self.next
        pending.batches += collected.batches
        pending.closings += collected.closings
        pending.dead_letters += collected.dead_letters
        pending.records += collected.records
        pending.record_bytes += collected.bytes
        if collected.batches or collected.closings or collected.dead_letters:
            pending.is_awaited = True
            closed = sum([len(batch.payload) for batch in collected.batches])
            closed += sum([len(letter.value) for letter in collected.dead_letters])
            pending.closed_bytes += closed
            self.closed_bytes += closed
        self._reporter.collected(self._partition, collected)

    def add_letters(self, letters: Sequence[DeadLetter]) -> None:
        """Add batches that their destination has refused for good (D4)."""
        if letters:
            closed = sum([len(letter.value) for letter in letters])
            self.next.dead_letters += letters
            self.next.closed_bytes += closed
            self.next.is_awaited = True
            self.closed_bytes += closed

    def draw(self) -> PendingOutput:
        """Return everything for the tick to be committed; what comes now is the next one's."""
        self._drawn, self.next = self.next, PendingOutput()
        return self._drawn

    def commit(
        self,
        fresh: Mapping[str, Sequence[tuple[Address, Batch]]],
        delivered: Container[str],
    ) -> None:
        """Take what was drawn for committed: its batches, ``fresh``, wait for delivery now.

        ``delivered``: the lanes that are delivered here; what others have committed stays here.
        A tick may become known after all was released (a drain): its letters are taken over then.
        """
        drawn, self._drawn = self._drawn, PendingOutput()
        self.closed_bytes -= drawn.closed_bytes
        for letter in drawn.dead_letters if self._released else ():
            if letter.connection:
                self._reporter.taken_over(letter.connection, letter.events)
        if drawn.dead_letters:
            self._reporter.dead_letters(self._partition, drawn.dead_letters)
        for lane, batches in fresh.items():
            if lane not in delivered:
                add_count(self._parked, lane, sum([batch.count for _, batch in batches]))

    def waiting(self, pipeline: Pipeline, delivering: Mapping[str, int]) -> dict[str, int]:
        """Return by lane how many events that were accepted or taken over wait here.

        In windows, closed and not yet committed, dead letters among them, and for delivery, which
        ``delivering`` counts. None once they are released.
        """
        if self._released:
            return {}
        found = dict(self._parked)
        for lane, events in pipeline.waiting_events().items():
            add_count(found, lane, events)
        for pending in (self._drawn, self.next):
            for batch in pending.batches:
                add_count(found, batch.lane, batch.count)
            for letter in pending.dead_letters:
                if letter.connection:
                    add_count(found, letter.connection, letter.events)
        for name, events in delivering.items():
            add_count(found, name, events)
        return found

    def release(self, waiting: Mapping[str, int], *, failed: bool) -> None:
        """Report, the first time, what is left behind: nothing more can become of it here."""
        if self._released:
            return
        self._released = True
        records = self._drawn.records + self.next.records
        size = self._drawn.record_bytes + self.next.record_bytes
        self._reporter.released(self._partition, Released(waiting, records, size, failed))
