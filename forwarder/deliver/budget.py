"""The memory that all queues of a worker share: no lane's lag takes another's (D1)."""

from collections.abc import Hashable
from typing import NamedTuple

from forwarder.model import Batch

BATCH_OVERHEAD_BYTES = 512
"""Bytes that a batch in memory takes besides its payload, about: they count in the budget."""


class Budget:
    """Bytes of batches in memory, of all lanes and partitions. Callers: queues, scan limiter.

    Never passed by more than one batch. While more than half of it is taken, each lane that
    waits to be delivered and can be is entitled to the same share, and to no more.
    """

    def __init__(self, limit: int = 1 << 62, *, batch_overhead: int = BATCH_OVERHEAD_BYTES) -> None:
        """Create with nothing used; without a ``limit`` it is unbounded.

        ``batch_overhead``: the bytes that are counted for a batch besides its payload.
        """
        self.limit = limit
        self.batch_overhead = batch_overhead
        self.used = 0
        self._claims: set[Hashable] = set()

    def claim(self, who: Hashable, *, wants: bool) -> None:
        """Note whether a queue has, or wants, more than the one batch a probe takes."""
        if wants:
            self._claims.add(who)
        else:
            self._claims.discard(who)

    def fair_share(self) -> int:
        """Return the bytes to which each queue with a claim is entitled."""
        return self.limit // max(1, len(self._claims))

    def is_full(self) -> bool:
        """Tell whether not even one more batch may be kept."""
        return self.used >= self.limit

    def is_tight(self, more: int = 0) -> bool:
        """Tell whether more than half is taken, with so many bytes more."""
        return self.used + more > self.limit // 2

    def admits(self, size: int) -> bool:
        """Tell whether so many bytes fit into what is left."""
        return self.used + size <= self.limit


class Lag(NamedTuple):
    """How much waits: batches, payload bytes, and when the oldest was closed (None: unknown)."""

    batches: int = 0
    bytes: int = 0
    closed_at: int | None = None

    def with_batch(self, batch: Batch, oldest: int | None) -> "Lag":
        """Count a batch that is not in memory; ``oldest``: when the first of those was closed."""
        return Lag(self.batches + 1, self.bytes + len(batch.payload), oldest)

    def without_batch(self, batch: Batch) -> "Lag":
        """Count a batch that is back in memory; the next was closed later."""
        size = max(0, self.bytes - len(batch.payload))
        return Lag(max(0, self.batches - 1), size, batch.closed_at)


NO_LAG = Lag()
"""Of a lane that has delivered everything."""
