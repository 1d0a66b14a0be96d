"""What the log says of connections: one line for all partitions of one, on changes."""

from collections.abc import Callable, Collection

import msgspec
import structlog

from forwarder.ops.health import WORST_FIRST
from forwarder.ops.reporter import LaneStatus

log = structlog.get_logger()

GATHER_SECONDS = 1.0
"""Seconds from a change to its line: what breaks a destination breaks it on every partition."""

BACKOFF_LOG_SECONDS = 10.0
"""Seconds between two lines that say a connection backs off: a throttled one may do so many times a
second. Metrics and ``/readyz`` are told of every change."""

REASON_LOG_SECONDS = 60.0
"""Seconds until another reason, or another number of partitions, of the same state is said."""


class _PartitionStatus(msgspec.Struct):
    """The status of a lane on one partition, as it was reported last."""

    state: str
    reason: str
    remedy: str


class _LoggedStatus(msgspec.Struct):
    """What the log says of a connection."""

    state: str = LaneStatus.FLOWING
    reason: str = ""
    partitions: int = 0
    at: float = float("-inf")


class LaneStatusLog:
    """Write ``lane.status``. Caller: whoever is told of every lane on every partition.

    A connection's state is the worst of its partitions', the reason that of one of those.
    """

    def __init__(self, steady: Callable[[], float]) -> None:
        """Create with every lane flowing; ``steady()``: seconds of a clock that never jumps."""
        self._steady = steady
        self._told: dict[str, dict[str, _PartitionStatus]] = {}
        self._said: dict[str, _LoggedStatus] = {}
        self._changed: dict[str, float] = {}

    def change(self, lane: str, partition: str, state: str, reason: str, remedy: str) -> None:
        """Note how a lane does on one partition."""
        self._told.setdefault(lane, {})[partition] = _PartitionStatus(state, reason, remedy)
        self._changed.setdefault(lane, self._steady())

    def set_partitions(self, partitions: Collection[str]) -> None:
        """Forget all other partitions: they moved away, or are opened anew with lanes afresh."""
        for lane, told in list(self._told.items()):
            gone = told.keys() - partitions
            for partition in gone:
                del told[partition]
            if not told:
                # What is told next is news, for nothing is known until then.
                del self._told[lane]
                self._said.pop(lane, None)
                self._changed.pop(lane, None)
            elif gone:
                self._changed.setdefault(lane, self._steady())

    def write_due(self) -> None:
        """Say what is due. Caller: whoever has a heartbeat, about once a second."""
        now = self._steady()
        for lane, since in list(self._changed.items()):
            if now - since >= GATHER_SECONDS and self._say(lane, now):
                del self._changed[lane]

    def _say(self, lane: str, now: float) -> bool:
        """Log a connection's status if it changed; return False if it has to be logged later."""
        told = self._told[lane]
        state = next(s for s in WORST_FIRST if s in {one.state for one in told.values()})
        there = [one for one in told.values() if one.state == state]
        said = self._said.setdefault(lane, _LoggedStatus())
        if state == said.state:
            if state in (LaneStatus.FLOWING, LaneStatus.BACKING_OFF):
                return True  # a throttled lane has a reason of its own for each shard
            if (there[0].reason, len(there)) == (said.reason, said.partitions):
                return True
            if now - said.at < REASON_LOG_SECONDS:
                return False
        elif state == LaneStatus.BACKING_OFF and now - said.at < BACKOFF_LOG_SECONDS:
            return False
        self._said[lane] = _LoggedStatus(state, there[0].reason, len(there), now)
        note = log.info if state == LaneStatus.FLOWING else log.warning
        note(
            "lane.status",
            connection=lane,
            status=state,
            partitions=len(there),
            reason=there[0].reason,
            remedy=there[0].remedy,
        )
        return True
