"""What a worker and its partitions are given: made once by ``app``, shared by all partitions."""

import asyncio
import math
from collections.abc import Callable, Mapping

import msgspec

from forwarder.clock import Clock
from forwarder.collect.pipeline import LaneSet
from forwarder.deliver.context import DeliverContext
from forwarder.journal.contract import Journals
from forwarder.journal.orphans import OrphanPolicy
from forwarder.ops.reporter import Reporter
from forwarder.worker.reject_rate import RejectRate

MIN_CLOSED_BYTES = 1024 * 1024
"""Bytes one partition may have closed and not yet committed, however many there are."""

PLAIN_WINDOW_SHARE = 2
"""Part of ``window_memory`` up to which small windows are left as they are: memory for CPU."""


class TickPolicy(msgspec.Struct, frozen=True):
    """When ticks are made, and how long one proves ownership; seconds.

    ``tick``: from one tick to the next that nobody waits for. ``base_interval``: from one base to
    the next. ``session_timeout``: after so long without a word a worker's partitions go to
    another, so that no proof of ownership counts for longer; infinite where nobody can take them.
    """

    tick: float
    base_interval: float
    session_timeout: float = math.inf


class PartitionLimits:
    """What the partitions of a worker share in equal parts, in bytes.

    ``closed_bytes``: what one partition may have closed and not committed (C2).
    ``plain_window_bytes``: bytes of one partition's windows above which small ones are compressed
    too. Written by the worker with each assignment; partitions read them when they need them.
    """

    def __init__(
        self, in_flight: int, window_memory: int, min_closed_bytes: int = MIN_CLOSED_BYTES
    ) -> None:
        """Share ``in_flight`` bytes of what was closed, and ``window_memory``, with nobody yet."""
        self.in_flight = in_flight
        self.window_memory = window_memory
        self.min_closed_bytes = min_closed_bytes
        self.share(1)

    def share(self, owned: int) -> None:
        """Share everything among so many partitions from now on. Caller: the worker."""
        self.owned = max(1, owned)
        self.closed_bytes = max(self.min_closed_bytes, self.in_flight // self.owned)
        self.plain_window_bytes = self.window_memory // PLAIN_WINDOW_SHARE // self.owned


class OneAtATime:
    """What one partition of a worker does at a time, for each of them takes memory by itself.

    ``snapshots``: one is drafted and written. ``restores``: windows are put back.
    """

    def __init__(self) -> None:
        """Let the first one begin at once."""
        self.snapshots = asyncio.Lock()
        self.restores = asyncio.Lock()


class WorkerContext(msgspec.Struct, frozen=True, kw_only=True):
    """What every partition of a worker is given.

    ``group``: the consumer group, under whose name state is stored. ``lanes``: by topic those of
    its partitions, ``duplicates_ms``: how far apart duplicates are looked for in them, by topic;
    left out, or 0: not at all. ``deliver`` is what their deliveries share. ``random`` gives numbers
    in [0, 1) for jitter. ``orphan_policy`` says when a lane that is not configured is dropped.
    ``explain_misses``: count why uploads match nothing.
    """

    group: str
    lanes: Mapping[str, LaneSet]
    duplicates_ms: Mapping[str, int] = msgspec.field(default_factory=dict)
    journals: Journals
    clock: Clock
    reporter: Reporter
    random: Callable[[], float]
    ticks: TickPolicy
    limits: PartitionLimits
    deliver: DeliverContext
    reject_rate: RejectRate = msgspec.field(default_factory=RejectRate)
    orphan_policy: OrphanPolicy = OrphanPolicy()
    explain_misses: bool = False
    one_at_a_time: OneAtATime = msgspec.field(default_factory=OneAtATime)
