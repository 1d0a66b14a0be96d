"""What waits for Kafka: records that belong together, and those that wait for one partition."""

import asyncio
from collections import deque
from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from forwarder.kafka.idempotent import BATCH_BYTES, BATCH_OVERHEAD_BYTES, OutgoingRecord


class ProduceFault(StrEnum):
    """Why a record was not stored."""

    FULL = "full"
    """Too much waits already."""
    UNAVAILABLE = "unavailable"
    """Kafka did not take it in time."""


class Submission:
    """Records that belong together; ``faults`` has one entry for each, None: stored, or not yet."""

    __slots__ = ("_future", "_left", "faults")

    def __init__(self, count: int) -> None:
        self.faults: list[ProduceFault | None] = [None] * count
        self._left = count
        self._future: asyncio.Future[None] | None = None

    def settle(self, index: int, fault: ProduceFault | None) -> None:
        """Note what became of a record; once for each. Caller: the producer."""
        self.faults[index] = fault
        self._left -= 1
        if not self._left and self._future is not None and not self._future.done():
            self._future.set_result(None)

    async def settled(self) -> Sequence[ProduceFault | None]:
        """Wait until it is known what became of every record; return ``faults``."""
        if self._left:
            self._future = asyncio.get_running_loop().create_future()
            await self._future
        return self.faults


class KafkaTrouble(NamedTuple):
    """Why Kafka takes nothing, and what to do."""

    reason: str
    remedy: str


class WaitingRecord(NamedTuple):
    """A record in memory: its bytes as they are counted, since when it waits (steady seconds)."""

    record: OutgoingRecord
    size: int
    at: float
    submission: Submission
    place: int


class PartitionQueue:
    """What waits for one partition, and the batch that is under way."""

    def __init__(self, topic: str, number: int) -> None:
        """Begin empty. ``sender``: the task that sends what waits, None while none is needed.

        ``refused_until``: steady seconds before which nothing is taken since ``refused_at``, after
        so many ``refusals``, for the reason ``trouble``. ``spoiled``: the last batch was refused,
        and no other is sent by the same producer.
        """
        self.topic = topic
        self.number = number
        self.waiting: deque[WaitingRecord] = deque()
        self.sending: list[WaitingRecord] = []
        self.sender: asyncio.Task[None] | None = None
        self.spoiled = False
        self.refused_at = 0.0
        self.refused_until = 0.0
        self.refusals = 0
        self.trouble: KafkaTrouble | None = None

    def take(self, limit: int) -> list[OutgoingRecord]:
        """Put what goes into one batch of so many bytes under way."""
        entry = self.waiting.popleft()
        self.sending = [entry]
        room = min(limit, BATCH_BYTES) - BATCH_OVERHEAD_BYTES - entry.size
        while self.waiting and (room := room - self.waiting[0].size) >= 0:
            self.sending.append(self.waiting.popleft())
        return [entry.record for entry in self.sending]
