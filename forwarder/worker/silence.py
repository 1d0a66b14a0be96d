"""Whether the source's client went silent: Kafka has records, and none of them is brought.

The client's tasks may end with an error nobody expected, and it then returns nothing. A worker on
which nothing moves ends then, and starts anew. Where others flow it is one partition that stands:
its fetching is begun anew, the next time the partition is opened again; to end the worker would
stop all of them, and each next owner in turn. A client that is told an error by the partition's
leader is not silent: it goes on asking, and what the leader says is told.
"""

import structlog

from forwarder.errors import ForwarderError, JournalError
from forwarder.model import LogEnds, Partition
from forwarder.ops.stall import StallReason
from forwarder.sources.contract import Source
from forwarder.worker.context import WorkerContext
from forwarder.worker.supervisor import Membership

log = structlog.get_logger()

SILENT_CLIENT_SECONDS = 60.0
"""Seconds a position may stand still below the last stable offset before something is done."""

SILENT_CLIENT_REASONS = frozenset({StallReason.NOT_FETCHED, StallReason.REBALANCE})
"""What a client that went silent looks like: a rebalance takes less time than that."""


class SilentClient:
    """Looks at one worker's positions, a look every few seconds. Caller: the watchdog."""

    def __init__(self, source: Source, context: WorkerContext, membership: Membership) -> None:
        """Have seen nothing."""
        self._source = source
        self._clock = context.clock
        self._membership = membership
        self._since: dict[Partition, tuple[int, float]] = {}
        self._begun_anew: dict[Partition, int] = {}
        self._seen: dict[Partition, int] = {}
        self._moved = float("-inf")

    def check(
        self, partition: Partition, at: int | None, told: LogEnds | None, reason: StallReason
    ) -> None:
        """Do what there is to do about a partition that stands below the last stable offset.

        Caller: the watchdog, at every look and for every partition. Raises ForwarderError where
        the worker has to start anew.
        """
        now = self._clock.steady()
        read = self._track(partition, now)
        answered = self._membership.is_blocked or self._source.refusal(partition) is not None
        if (
            reason not in SILENT_CLIENT_REASONS
            or answered
            or read is None
            or at is None
            or told is None
        ):
            self._since.pop(partition, None)
            return
        since = self._since.get(partition)
        if since is None or since[0] != at:
            since = self._since[partition] = at, now
        if now - since[1] > SILENT_CLIENT_SECONDS:
            self._act(partition, at, told.stable, reason)

    def keep_only(self, partitions: frozenset[Partition]) -> None:
        """Forget all partitions but these: the others are not owned any more."""
        for kept in (self._since, self._begun_anew, self._seen):
            for gone in kept.keys() - partitions:
                kept.pop(gone)

    def _track(self, partition: Partition, now: float) -> int | None:
        """Return where the source reads on; note if that is further than at the look before."""
        read = self._source.position(partition)
        if read is not None:
            if read > self._seen.get(partition, read):
                self._moved = now
            self._seen[partition] = read
        return read

    def _act(self, partition: Partition, at: int, end: int, reason: StallReason) -> None:
        seconds = f"{SILENT_CLIENT_SECONDS:.0f} s"
        what = f"{partition} stands at offset {at} for {seconds}, its log ends at {end}"
        if self._clock.steady() - self._moved >= SILENT_CLIENT_SECONDS:
            text = f"{what}: the consumer went silent"
            raise ForwarderError(text)
        if reason is StallReason.REBALANCE:
            return  # of the whole group, and it is not over
        del self._since[partition]
        if self._begun_anew.pop(partition, None) == at:
            text = f"{what}, and no poll brings a record of it"
            self._membership.supervisors[partition].fail(JournalError(text))
            return
        self._begun_anew[partition] = at
        log.warning("input.refetched", partition=str(partition), position=at, end=end)
        self._source.fetch_anew()
