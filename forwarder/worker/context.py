"""What a partition is given: shared by all partitions of a worker."""

import asyncio
import math
from collections.abc import Callable, Mapping

import msgspec

from forwarder.clock import Clock
from forwarder.collect.pipeline import LaneSet
from forwarder.deliver.context import DeliverContext
from forwarder.journal.contract import Journals
from forwarder.journal.orphans import Rules
from forwarder.ops.reporter import Reporter
from forwarder.worker.reject_rate import Guard

ROOMY = 4
"""Part of ``window_memory`` up to which small windows are left as they are: memory for CPU."""


class Pacing(msgspec.Struct, frozen=True):
    """When ticks are made, and what they are good for, seconds.

    ``session_timeout``: after so long without a word a worker's partitions go to another; no
    proof of ownership counts for longer. Where nobody else can take them: infinite.
    """

    tick: float
    base_interval: float
    session_timeout: float = math.inf


class Surroundings(msgspec.Struct, frozen=True):
    """What every partition of a worker shares.

    ``lanes`` are those of the partitions of a topic, by topic. ``deliver`` is what their
    deliveries share, ``closed_bytes`` gives what one partition may have closed and not committed,
    ``owned`` how many partitions this worker owns now. ``rules`` say when an unknown lane is
    dropped, ``drafting`` whose turn it is to draft a base, ``restoring`` to put windows back;
    ``window_memory`` the bytes that the windows of all may take. ``explains``: count why uploads
    match nothing.
    """

    group: str
    lanes: Mapping[str, LaneSet]
    journals: Journals
    clock: Clock
    reporter: Reporter
    random: Callable[[], float]
    pacing: Pacing
    deliver: DeliverContext
    closed_bytes: Callable[[], int]
    owned: Callable[[], int]
    rules: Rules = Rules()
    window_memory: int = 512 * 1024 * 1024
    explains: bool = False
    guard: Guard = msgspec.field(default_factory=Guard)
    drafting: asyncio.Lock = msgspec.field(default_factory=asyncio.Lock)
    restoring: asyncio.Lock = msgspec.field(default_factory=asyncio.Lock)


def roomy(window_memory: int, owned: int) -> int:
    """Return the bytes of one partition's windows above which also small ones are compressed."""
    return window_memory // ROOMY // max(1, owned)
