"""The addresses of one lane's batches that may be put now, oldest first."""

import heapq
from collections import deque
from collections.abc import Callable

from forwarder.model import Address


class ReadyAddresses:
    """Addresses in ascending order, cheap for those that come in that order.

    Caller: the lane's ``DeliveryQueue``. An address may be left over from a batch that is in memory
    no more, or in flight, and stand here twice: who takes one has to look. ``fresh``: those that
    were ready from the start, ascending; ``later``: a heap of those that others were before, or
    that failed. Both are public for the loop that takes batches, where a call each would cost more
    than all else.
    """

    def __init__(self) -> None:
        """Create without any."""
        self.fresh: deque[Address] = deque()
        self.later: list[Address] = []

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.fresh) + len(self.later)

    def first(self) -> Address | None:
        """Return the lowest one, if any."""
        fresh, later = self.fresh, self.later
        if later and not (fresh and fresh[0] < later[0]):
            return later[0]
        return fresh[0] if fresh else None

    def drop_first(self) -> None:
        """Remove the lowest one; there is one."""
        fresh, later = self.fresh, self.later
        if later and not (fresh and fresh[0] < later[0]):
            heapq.heappop(later)
        else:
            fresh.popleft()

    def add_later(self, address: Address) -> None:
        """Add an address out of turn."""
        heapq.heappush(self.later, address)

    def drop_fresh_from(self, address: Address) -> None:
        """Forget the fresh ones from ``address`` on: what is added next begins there."""
        fresh = self.fresh
        while fresh and fresh[-1] >= address:
            fresh.pop()

    def keep(self, is_ready: Callable[[Address], bool]) -> None:
        """Keep each of those once that are ready still."""
        self.fresh = deque([one for one in self.fresh if is_ready(one)])
        self.later = sorted({one for one in self.later if is_ready(one)})

    def ascending(self) -> list[Address]:
        """Return all in order."""
        return sorted([*self.fresh, *self.later])
