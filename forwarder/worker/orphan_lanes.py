"""What a partition's owner does about lanes that no worker has configured any more (L1)."""

from collections.abc import Iterable, Mapping

import structlog

from forwarder.journal import orphans as rules
from forwarder.journal.state import LaneState
from forwarder.model import Address, Partition
from forwarder.worker.context import Surroundings

log = structlog.get_logger()

Stored = Mapping[str, LaneState]
"""What is stored of every lane of a partition."""


class Unknown:
    """The unknown lanes of one partition; the lanes themselves stay with its owner."""

    def __init__(self, partition: Partition, around: Surroundings) -> None:
        """Know which lanes are configured."""
        self._partition = str(partition)
        self._around = around
        self._configured = frozenset(lane.name for lane in around.lanes[partition.topic].lanes)

    def forgotten(self, lanes: Stored) -> set[str]:
        """Return those whose time is over: the next base leaves them out."""
        around = self._around
        return rules.forgotten(lanes, self._configured, around.rules, around.clock.wall_ms())

    def holding(self, lanes: Stored) -> dict[str, int]:
        """Return those that hold the watermark, and for how many ms still."""
        around = self._around
        return rules.holding(lanes, self._configured, around.rules, around.clock.wall_ms())

    def report(self, names: Iterable[str], lanes: Stored, end: Address) -> None:
        """Report what a committed base left out, with what these lanes had still before them."""
        for name in sorted(names):
            lane = lanes[name]
            log.warning(
                "lane.forgotten",
                partition=self._partition,
                connection=name,
                seen_ms=lane.seen,
                uncollected_from=lane.need[0],
                undelivered_from=lane.cursor[0],
                outbox_end=end[0],
            )
            self._around.reporter.lane_forgotten(name)
