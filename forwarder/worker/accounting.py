"""What one opening of a partition holds, in events, so that every one is accounted for.

The equations of docs/reliability.md hold at every moment: what is in a tick that is being
committed is in no list of the partition, and what a lane without deliveries has committed is in
no queue; both are kept here.
"""

from collections.abc import Container, Iterable, Mapping, Sequence

from forwarder.collect.pipeline import Lane, Pipeline
from forwarder.model import Address, Batch, Collected, DeadLetter, Released, add
from forwarder.ops.reporter import Reporter


class Stock:
    """The stock of one opening. Owned by its partition; never concurrently."""

    def __init__(self, partition: str, reporter: Reporter) -> None:
        """Begin with nothing."""
        self._partition = partition
        self._reporter = reporter
        self._closed = False
        self._batches: Sequence[Batch] = ()
        self._letters: Sequence[DeadLetter] = ()
        self._parked: dict[str, int] = {}
        self._fresh = (0, 0)
        self._drawn = (0, 0)

    def collected(self, collected: Collected) -> None:
        """Note and report a poll, or a slice of expired windows: no tick has settled it yet."""
        records, size = self._fresh
        self._fresh = (records + collected.records, size + collected.bytes)
        self._reporter.collected(self._partition, collected)

    def drawn(self, batches: Sequence[Batch], letters: Sequence[DeadLetter]) -> None:
        """Note what the tick holds that is being committed: all that was collected before."""
        self._batches, self._letters = batches, letters
        self._drawn, self._fresh = self._fresh, (0, 0)

    def committed(
        self,
        letters: Sequence[DeadLetter],
        fresh: Mapping[str, Sequence[tuple[Address, Batch]]],
        delivered: Container[str],
    ) -> None:
        """Note that it is committed, and report its letters; its batches wait for delivery.

        ``delivered``: the lanes that are delivered here; what others have committed stays here.
        A tick may become known after all was released (a drain): its letters are taken over then.
        """
        self._batches, self._letters, self._drawn = (), (), (0, 0)
        for letter in letters if self._closed else ():
            if letter.connection:
                self._reporter.taken_over(letter.connection, letter.events)
        if letters:
            self._reporter.dead_letters(self._partition, letters)
        for lane, batches in fresh.items():
            if lane not in delivered:
                add(self._parked, lane, sum([batch.count for _, batch in batches]))

    def waiting(
        self,
        pipeline: Pipeline,
        lanes: Iterable[Lane],
        batches: Sequence[Batch],
        letters: Sequence[DeadLetter],
        delivering: Mapping[str, int],
    ) -> dict[str, int]:
        """Return by lane how many events that were accepted or taken over wait; none once closed.

        In windows, closed and not yet committed, dead letters among them, and for delivery.
        ``batches`` and ``letters`` are those that no tick has drawn, ``delivering`` what its
        deliveries have.
        """
        if self._closed:
            return {}
        found = dict(self._parked)
        for lane in lanes:
            add(found, lane.name, pipeline.waiting_events(lane.name))
        for batch in (*self._batches, *batches):
            add(found, batch.lane, batch.count)
        for letter in (*self._letters, *letters):
            if letter.connection:
                add(found, letter.connection, letter.events)
        for name, events in delivering.items():
            add(found, name, events)
        return found

    def release(self, waiting: Mapping[str, int], *, failed: bool) -> None:
        """Report, the first time, what is left behind: nothing more can become of it here."""
        if self._closed:
            return
        self._closed = True
        records, size = (a + b for a, b in zip(self._drawn, self._fresh, strict=True))
        self._reporter.released(self._partition, Released(waiting, records, size, failed))
