"""Everything partitions, deliveries and the worker report, and where it is shown."""

import asyncio
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from forwarder.clock import Clock
from forwarder.model import (
    Batch,
    Collected,
    DeadLetter,
    Outcome,
    Partition,
    Released,
)
from forwarder.ops import alarms
from forwarder.ops.health import Health
from forwarder.ops.lane_log import LaneStatusLog
from forwarder.ops.metrics import Metrics
from forwarder.ops.reporter import (
    COMMITTED,
    Chore,
    LaneStatus,
    PartitionFailure,
    Phase,
    Reporter,
)
from forwarder.ops.stall import Stall

HEARTBEAT_SECONDS = 1.0
"""Seconds between heartbeats of the event loop."""


class WorkerReport(Reporter):
    """The worker's reporter and pulse. ``connections`` tells of each whether it is active."""

    def __init__(
        self, metrics: Metrics, health: Health, clock: Clock, connections: Mapping[str, bool]
    ) -> None:
        """Create over metrics, health and the log; ``connections``: by name whether active."""
        self.metrics = metrics
        self.health = health
        self._clock = clock
        self._initial = {
            name: LaneStatus.FLOWING if active else LaneStatus.INACTIVE
            for name, active in connections.items()
        }
        self._lane_log = LaneStatusLog(clock.steady)
        self._opened: set[str] = set()
        self._causes: dict[str, str] = {}
        self._failing: dict[str, float] = {}
        self._letters = alarms.DeadLetterAlarm()
        self._unused = alarms.UnusedUploadsAlarm()

    # ------------------------------------------------------------------ a partition

    def collected(self, partition: str, collected: Collected) -> None:
        """Report one poll, or one slice of expired windows."""
        self._unused.add(collected.uploads, collected.unused)
        self.metrics.collected(partition.rpartition("/")[0], collected)

    def tick(self, partition: str, seconds: float, result: str) -> None:
        """Report one tick: ``committed``, or the name of the error that ended it."""
        self.metrics.tick(seconds, result)
        if result != COMMITTED:
            self._causes[partition] = result
        elif (since := self._failing.pop(partition, None)) is not None:
            self.metrics.recovered(self._clock.steady() - since)

    def partition_phase(self, partition: str, phase: Phase, reason: str, remedy: str = "") -> None:
        """Report where a partition stands, why, and what can be done about it."""
        if phase is Phase.REFUSED:
            self._failing.pop(partition, None)  # an operator's time is no recovery's
        self.health.partition_phase(partition, phase, reason, remedy)
        self._count_states()

    def partition_opened(self, partition: str) -> None:
        """Count an opening after a failure."""
        cause = self._causes.pop(partition, "other")
        if partition in self._opened:
            self.metrics.reopened(cause)
        self._opened.add(partition)

    def lane_forgotten(self, lane: str) -> None:
        """Report that a snapshot leaves out a lane that is not configured any more."""
        self.metrics.lane_forgotten(lane)

    def dead_letters(self, partition: str, letters: Sequence[DeadLetter]) -> None:
        """Report dead letters that are committed; names that nobody configured are not labels."""
        named = [(self.metrics.connection_label(letter.connection), letter) for letter in letters]
        self.metrics.dead_letters(named)
        self._letters.add(partition, named, self._clock.steady())

    def released(self, partition: str, what: Released) -> None:
        """Report what an opening that has ended left behind."""
        self.metrics.released(partition.rpartition("/")[0], what)

    # ------------------------------------------------------------------ a delivery

    def put(self, lane: str, seconds: float, outcomes: Sequence[Outcome]) -> None:
        """Report one call of the sink and its answers."""
        self.metrics.put(lane, seconds, outcomes)

    def delivered(self, lane: str, batches: Sequence[Batch]) -> None:
        """Report batches that their sink has acknowledged."""
        self.metrics.delivered(lane, batches, self._clock.wall_ms())

    def taken_over(self, lane: str, events: int) -> None:
        """Report events that another opening accepted, and that wait here from now on."""
        self.metrics.taken_over(lane, events)

    def passed_over(self, lane: str, events: int) -> None:
        """Report events that are dropped undelivered."""
        self.metrics.passed_over(lane, events)

    def lane_status(
        self, lane: str, partition: str, status: LaneStatus, reason: str, remedy: str = ""
    ) -> None:
        """Report that a lane of a partition changed its status, or the reason of it."""
        self.health.lane_status(lane, partition, status, reason, remedy)
        self._lane_log.change(lane, partition, status, reason, remedy)
        self._count_lane(lane)

    # ------------------------------------------------------------------ the worker

    def heartbeat(self) -> None:
        """Report that the loop makes progress."""
        self.health.heartbeat()

    def partition_failed(self, partition: Partition, failure: PartitionFailure) -> None:
        """Report that a partition failed, or could not be opened."""
        self.metrics.partition_failed(failure)
        if failure is not PartitionFailure.REFUSED:
            self._failing.setdefault(str(partition), self._clock.steady())

    def intake_stopped(self, partitions: Mapping[Partition, int]) -> None:
        """Report which partitions are not collected, and since when."""
        self.metrics.intake_stopped(stopped=bool(partitions))
        self.health.intake_stopped({str(one): since for one, since in partitions.items()})

    def stalled(self, partitions: Mapping[Partition, Stall]) -> None:
        """Report which positions stand still although their log goes on, and why."""
        now = self._clock.wall_ms()
        self.metrics.set_read_stalled(
            {
                (p.topic, str(p.number), str(stall.reason)): max(0, now - stall.since_ms) / 1000
                for p, stall in partitions.items()
            }
        )
        self.health.stalled({str(p): stall for p, stall in partitions.items()})

    def chore_failed(self, chore: Chore) -> None:
        """Report that a chore failed, and is begun anew."""
        self.metrics.chore_failed(chore)

    def waiting_for(self, reason: str, remedy: str) -> None:
        """Report what the worker as a whole waits for; empty: for nothing."""
        self.health.waiting_for(reason, remedy)

    def rebalanced(self) -> None:
        """Report that the group shared its partitions out anew."""
        self.metrics.rebalanced()

    def partitions_owned(self, partitions: Collection[Partition]) -> None:
        """Report which partitions are owned now, and how far each has come."""
        self.health.partitions_owned(partitions)
        self._failing = {p: at for p, at in self._failing.items() if p in self.health.partitions}
        self._opened &= self.health.partitions.keys()
        self._count_states()

    async def run_heartbeat(self) -> None:
        """Beat once a second for ever and report how late each heartbeat came."""
        while True:
            began = self._clock.steady()
            await asyncio.sleep(HEARTBEAT_SECONDS)
            now = self._clock.steady()
            self.metrics.loop_lag(max(0.0, now - began - HEARTBEAT_SECONDS))
            self.health.heartbeat()
            self._lane_log.write_due()
            self._letters.log_due(now)
            self._unused.log_due(now)

    def _count_states(self) -> None:
        self._lane_log.set_partitions(self.health.lanes)
        self.metrics.set_partition_states(
            Counter(entry.state for entry in self.health.partitions.values())
        )
        told = self.health.lanes_told_of()
        others = {initial: self._states("", initial) for initial in set(self._initial.values())}
        for lane, initial in self._initial.items():
            states = self._states(lane, initial) if lane in told else others[initial]
            self.metrics.set_lane_states(lane, states)

    def _count_lane(self, lane: str) -> None:
        initial = self._initial.get(lane, LaneStatus.FLOWING)
        self.metrics.set_lane_states(lane, self._states(lane, initial))

    def _states(self, lane: str, initial: LaneStatus) -> dict[str, tuple[int, float]]:
        """Return on how many partitions a lane is in each state, and since when (Unix seconds)."""
        return {
            state: (len(there), min(entry.since_ms for entry in there) / 1000)
            for state, there in self.health.lane(lane, initial).items()
        }
