"""The one contract for what a worker reports, and the words that reports are made of.

Whoever runs a part of a worker is given a ``Reporter`` and tells it what happened; whoever shows it
(``WorkerReport`` on probes, metrics and the log, ``Tally`` at the end of a run over a file) derives
from it and overrides what it shows. All calls come from the event loop of the worker. None may
wait, raise, or keep what it is given for longer than the call, and none has an effect on what is
told.
"""

from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING

from forwarder.model import Batch, Collected, DeadLetter, Outcome, Partition, Released

if TYPE_CHECKING:
    from forwarder.ops.stall import Stall


class Phase(StrEnum):
    """How far a partition that a worker owns has come."""

    OPENING = "opening"
    """What is stored of it is being read, or it failed and has committed nothing since."""
    OPEN = "open"
    REFUSED = "refused"
    """What is stored contradicts itself or the log; it is tried again about once a minute."""


class PartitionFailure(StrEnum):
    """Why an opening of a partition ended, or did not succeed."""

    FENCED = "fenced"
    """Another worker has opened it."""
    RUNNING = "running"
    """A tick failed, or its outcome is unknown."""
    OPENING = "opening"
    """Kafka did not answer while it was opened."""
    SETUP = "setup"
    """Topics, certificates or rights are missing."""
    REFUSED = "refused"
    FAULT = "fault"
    """Nobody foresaw it."""


class LaneStatus(StrEnum):
    """How the deliveries of one connection from one partition are doing."""

    FLOWING = "flowing"
    BACKING_OFF = "backing_off"
    """A put failed and may succeed a moment later."""
    PAUSED = "paused"
    """Somebody must act: the oldest batch alone is tried every 5 to 60 s."""
    INACTIVE = "inactive"
    """The connection's file says so."""
    STOPPED = "stopped"
    """Stored batches are missing or unreadable: nothing is put until it is opened again."""


class Chore(StrEnum):
    """What runs beside a worker's main loop."""

    CLOCK = "clock"
    WATCHDOG = "watchdog"
    GAUGES = "gauges"
    HEARTBEAT = "heartbeat"
    LEFT_TOPICS = "left_topics"


COMMITTED = "committed"
"""The result of a tick that is stored; any other is the name of the error that ended it."""


class Reporter:
    """What is reported. Every method may be left as it is: then that is not shown.

    ``partition`` is the name of one, as ``topic/number``; ``lane`` the name of a connection, which
    need not be a configured one where it comes from what is stored. Seconds are of the steady
    clock, ``_ms`` of the wall clock.
    """

    # ------------------------------------------------------------------ an owned partition

    def partition_phase(self, partition: str, phase: Phase, reason: str, remedy: str = "") -> None:
        """Note how far a partition has come; ``reason``: why no further, ``remedy``: what to do.

        Caller: its supervisor, on changes. An owned one is opening until something else is told;
        one that failed is open again once a tick has committed.
        """

    def partition_opened(self, partition: str) -> None:
        """Count an opening that has succeeded, before anything is collected or put.

        Caller: the partition's supervisor.
        """

    def collected(self, partition: str, collected: Collected) -> None:
        """Count one poll, or one slice of windows closed between polls. Caller: the partition.

        It is not committed yet: ``released`` tells what of it never is.
        """

    def taken_over(self, lane: str, events: int) -> None:
        """Count events that another opening accepted, and that wait here from now on.

        Caller: the opening for restored windows, a lane for batches it read from the outbox.
        """

    def tick(self, partition: str, seconds: float, result: str) -> None:
        """Count one tick when its transaction has ended, with its duration and its result.

        Caller: the partition. ``result``: ``COMMITTED`` or the name of the error.
        """

    def dead_letters(self, partition: str, letters: Sequence[DeadLetter]) -> None:
        """Count dead letters of a tick that is committed; at least one. Caller: the partition."""

    def lane_forgotten(self, lane: str) -> None:
        """Count that a committed snapshot leaves out a lane that is configured no more (L1)."""

    def released(self, partition: str, what: Released) -> None:
        """Count what an opening leaves behind, once, when it is closed. Caller: the partition."""

    # ------------------------------------------------------------------ deliveries

    def put(self, lane: str, seconds: float, outcomes: Sequence[Outcome]) -> None:
        """Count one call of a sink, failed or not, with one outcome per batch. Caller: a lane."""

    def delivered(self, lane: str, batches: Sequence[Batch]) -> None:
        """Count batches that the destination acknowledged. Caller: a lane, after ``put``."""

    def passed_over(self, lane: str, events: int) -> None:
        """Count events that ``deliver_from`` drops undelivered (D5). Caller: a lane."""

    def lane_status(
        self, lane: str, partition: str, status: LaneStatus, reason: str, remedy: str = ""
    ) -> None:
        """Note that a lane of a partition changed its status, or the reason of it.

        Caller: the lane, and the opening for one that cannot go on. A lane begins flowing or
        inactive, as its connection says; that is not told.
        """

    # ------------------------------------------------------------------ the worker

    def heartbeat(self) -> None:
        """Note that the event loop goes round. Caller: the main loop and the clock, each second."""

    def rebalanced(self) -> None:
        """Count an assignment of the group, before anything is done about it. Caller: worker."""

    def partitions_owned(self, partitions: Collection[Partition]) -> None:
        """Note which partitions are owned from now on; all others are gone. Caller: the worker.

        It comes with every assignment, once those that are gone are closed. What was told of those
        that came back still holds.
        """

    def partition_failed(self, partition: Partition, failure: PartitionFailure) -> None:
        """Count that an opening ended or did not succeed. Caller: its supervisor, before the next.

        One that is refused again for the same reason is not told again.
        """

    def intake_stopped(self, partitions: Mapping[Partition, int]) -> None:
        """Note which partitions are not collected, and since when (``_ms``); all others are.

        Caller: the circuit breaker, on changes.
        """

    def stalled(self, partitions: Mapping[Partition, "Stall"]) -> None:
        """Note which positions stand still and why; all others move. Caller: the watchdog."""

    def waiting_for(self, reason: str, remedy: str) -> None:
        """Note what the worker as a whole waits for; an empty ``reason``: for nothing.

        Caller: the start until Kafka answers, then the main loop with every poll.
        """

    def chore_failed(self, chore: Chore) -> None:
        """Count that a chore failed; it is begun anew. Caller: whoever keeps the chore going."""
