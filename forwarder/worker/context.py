"""What a partition is given, and what it reports: shared by all partitions of a worker."""

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Protocol

import msgspec

from forwarder.clock import Clock
from forwarder.collect.pipeline import Lane
from forwarder.deliver.context import Observer
from forwarder.deliver.rate_limit import Pace
from forwarder.deliver.readback import Turns
from forwarder.journal.contract import Journals
from forwarder.journal.orphans import Rules
from forwarder.model import Collected, DeadLetter, Released
from forwarder.sinks.contract import Sink
from forwarder.worker.reject_rate import Guard

ROOMY = 4
"""Part of ``window_memory`` up to which small windows are left as they are: memory for CPU."""


class Phase(StrEnum):
    """How far a partition has come."""

    OPENING = "opening"
    OPEN = "open"
    REFUSED = "refused"
    CLOSED = "closed"


class Reporter(Observer, Protocol):
    """What is reported of a partition, besides its deliveries."""

    def collected(self, partition: str, collected: Collected) -> None:
        """Report one poll, or one slice of expired windows."""

    def tick(self, partition: str, seconds: float, result: str) -> None:
        """Report one tick: ``committed``, ``fenced`` or ``failed``."""

    def partition_phase(self, partition: str, phase: str, reason: str, remedy: str = "") -> None:
        """Report where a partition stands, why, and what can be done about it."""

    def lane_forgotten(self, lane: str) -> None:
        """Report that a partition's base leaves out a lane that nobody knows any more."""

    def dead_letters(self, partition: str, letters: Sequence[DeadLetter]) -> None:
        """Report dead letters that are committed."""

    def released(self, partition: str, what: Released) -> None:
        """Report what an opening that has ended left behind."""


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

    ``queue_bytes`` gives the payload bytes one lane of one partition may keep in memory at most,
    ``turns`` hold what all of them may keep and at what rate they read the outbox back,
    ``closed_bytes`` what one partition may have closed and not committed, ``owned`` how many
    partitions this worker owns now. ``rules`` say when an unknown lane is dropped, ``drafting``
    whose turn it is to draft a base, ``restoring`` to put windows back; ``window_memory`` the bytes
    that the windows of all may take, ``paces`` by connection how fast it may be put to.
    ``explains``: count why uploads match nothing.
    """

    group: str
    lanes: Sequence[Lane]
    sinks: Mapping[str, Sink]
    journals: Journals
    clock: Clock
    reporter: Reporter
    random: Callable[[], float]
    pacing: Pacing
    queue_bytes: Callable[[], int]
    closed_bytes: Callable[[], int]
    owned: Callable[[], int]
    rules: Rules = Rules()
    window_memory: int = 512 * 1024 * 1024
    explains: bool = False
    guard: Guard = msgspec.field(default_factory=Guard)
    paces: dict[str, Pace] = msgspec.field(default_factory=dict)
    drafting: asyncio.Lock = msgspec.field(default_factory=asyncio.Lock)
    turns: Turns = msgspec.field(default_factory=Turns)
    restoring: asyncio.Lock = msgspec.field(default_factory=asyncio.Lock)


def roomy(window_memory: int, owned: int) -> int:
    """Return the bytes of one partition's windows above which also small ones are compressed."""
    return window_memory // ROOMY // max(1, owned)
