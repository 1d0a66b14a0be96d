"""What one lane of one partition still has to deliver, and how far it has come (D1 to D5).

Pure: the batches in memory, the ones in flight, the acknowledged ones, and the address from
which on batches have to be read back. Every address is in exactly one of: below ``cursor``,
acked, in the queue, at or above ``rb``, or at or above the end of what is committed.
"""

import heapq
from collections import deque
from collections.abc import Iterable, Sequence

from forwarder.model import Address, Batch

WINDOW = 4096
"""Most addresses acknowledged above the cursor plus in flight (K in docs/protocol.md): bounds
what a state record carries."""


class Queue:
    """The deliveries of one lane. Caller: delivery, on the event loop, never concurrently.

    ``capacity`` is the most payload bytes kept in memory, but always at least one batch.
    ``unread`` counts the batches known to wait at or above ``rb``; after an opening it knows
    only those committed since.
    """

    def __init__(
        self,
        cursor: Address,
        acked: Iterable[Address],
        end: Address,
        capacity: int,
        *,
        in_order: bool = False,
    ) -> None:
        """Begin where a tick left off; what lies between ``cursor`` and ``end`` is read back.

        ``in_order``: all batches form one line, and several of it may fly together.
        """
        self.cursor = cursor
        self.acked = {a for a in acked if a >= cursor}
        self.rb: Address | None = cursor if cursor < end else None
        self.capacity = capacity
        self.in_order = in_order
        self.waiting_bytes = 0
        self.unread = 0
        self.in_flight: set[Address] = set()
        self._batches: dict[Address, Batch] = {}
        self._order: deque[Address] = deque()
        self._by_key: dict[bytes, deque[Address]] = {}
        self._ready: list[Address] = []
        self._deferred: list[tuple[float, Address]] = []

    def __len__(self) -> int:
        """Return how many batches are in memory."""
        return len(self._batches)

    def join(self, batches: Iterable[tuple[Address, Batch]]) -> None:
        """Take freshly committed batches, in address order, or note where they have to be read.

        Fresh batches join only an unbroken queue; one that does not fit breaks it.
        """
        for address, batch in batches:
            if self.rb is None and self._fits(batch):
                self._add(address, batch)
                continue
            self.unread += 1
            if self.rb is None:
                self.rb = address

    def read_back(self, batches: Iterable[tuple[Address, Batch]], upto: Address) -> None:
        """Take batches read from ``rb`` on; everything below ``upto`` has been seen.

        Stops early when memory is full; ``rb`` tells where to go on. ``upto`` is never beyond
        what this owner knows to be committed; the read-back ends in :meth:`caught_up`.
        """
        if self.rb is None:
            return
        for address, batch in batches:
            if address < self.rb:
                continue
            if address in self.acked:
                self._order.append(address)
                continue
            if not self._fits(batch):
                self.rb = address
                return
            self._add(address, batch)
            self.unread = max(0, self.unread - 1)
            self.rb = (address[0], address[1] + 1)
        self.rb = max(self.rb, upto)

    def has_seen(self, upto: Address) -> bool:
        """Tell whether everything below ``upto`` was taken or passed over."""
        return self.rb is not None and self.rb >= upto

    def caught_up(self, end: Address) -> None:
        """End the read-back if it has reached ``end``, what this owner knows to be committed."""
        if self.rb is not None and self.rb >= end:
            self.rb = None
            self.unread = 0

    def evict(self, keep_bytes: int) -> None:
        """Cut the queue's tail down to ``keep_bytes``, but nothing that is in flight."""
        while self._order and self.waiting_bytes > keep_bytes:
            address = self._order[-1]
            if address in self.in_flight:
                return
            self._order.pop()
            batch = self._batches.pop(address, None)
            if batch is None:
                continue
            self.waiting_bytes -= len(batch.payload)
            self._forget(address, batch)
            self.unread += 1
            self.rb = address

    def wants_read_back(self) -> bool:
        """Tell whether batches wait in the outbox and there is room for them."""
        return self.rb is not None and self._has_space()

    def take(self, now: float, max_count: int, max_bytes: int) -> list[tuple[Address, Batch]]:
        """Return batches to put now and count them as in flight: one per line, oldest first.

        In order: the oldest ones, whatever their key, once nothing is in flight. At most
        ``max_count``, at most ``max_bytes`` of payload or one batch (D3).
        """
        if self.in_order and self.in_flight:
            return []
        self._wake(now)
        taken: list[tuple[Address, Batch]] = []
        size = 0
        while self._ready and len(taken) < max_count:
            address = self._ready[0]
            batch = self._batches.get(address)
            flies = address in self.in_flight
            if batch is None or flies or not (taken or self._is_next(address)):
                heapq.heappop(self._ready)  # left over from an eviction or a failed put
                continue
            if not self._may_fly(address) or (taken and size + len(batch.payload) > max_bytes):
                break
            heapq.heappop(self._ready)
            self.in_flight.add(address)
            taken.append((address, batch))
            size += len(batch.payload)
            self._offer_next(batch)
        return taken

    def _offer_next(self, batch: Batch) -> None:
        """Let the batch behind one in flight go with it, where that is how they are put."""
        line = self._by_key[self._line(batch)]
        if self.in_order and len(line) > len(self.in_flight):
            heapq.heappush(self._ready, line[len(self.in_flight)])

    def _line(self, batch: Batch) -> bytes:
        """Return the name of the line a batch stands in: no two of one line overtake."""
        return b"" if self.in_order else batch.key

    def ready(self) -> int:
        """Return about how many batches could be put now."""
        return len(self._ready)

    def due(self) -> float | None:
        """Return when something can be put: 0.0 now, a time for deferred ones, None: nothing."""
        if self.in_order and self.in_flight:
            return None
        while self._ready and not self._is_next(self._ready[0]):
            heapq.heappop(self._ready)
        if self._ready and self._may_fly(self._ready[0]):
            return 0.0
        while self._deferred and self._deferred[0][1] not in self._batches:
            heapq.heappop(self._deferred)
        return self._deferred[0][0] if self._deferred else None

    def acknowledge(self, address: Address) -> None:
        """Count a batch in flight as done for good: delivered, refused, or dropped (D4, D5)."""
        batch = self._batches.pop(address)
        self.in_flight.discard(address)
        self.waiting_bytes -= len(batch.payload)
        self.acked.add(address)
        self._forget(address, batch)

    def defer(self, address: Address, until: float) -> None:
        """Put a batch in flight back in its place, not to be tried before ``until``.

        Later batches of its key wait behind it.
        """
        self.in_flight.discard(address)
        heapq.heappush(self._deferred, (until, address))

    def hurry(self) -> None:
        """Make every deferred batch ready now, after a pause that was about the whole lane."""
        self._wake(float("inf"))

    def drop_closed_before(self, time_ms: int) -> int:
        """Acknowledge unsent what was closed before ``time_ms`` and is ready; return how many (D5).

        Within the same bound as puts, so the rest follows as the cursor rises.
        """
        dropped = 0
        for address in sorted(self._ready):
            batch = self._batches.get(address)
            if batch is None or address in self.in_flight or batch.closed_at >= time_ms:
                continue
            if not self._may_fly(address):
                break
            self.acknowledge(address)
            dropped += 1
        return dropped

    def head(self) -> Batch | None:
        """Return the oldest batch in memory that is not acknowledged."""
        self._trim()
        return self._batches[self._order[0]] if self._order else None

    def snapshot(self, end: Address) -> tuple[Address, frozenset[Address]]:
        """Return cursor and acked for a tick; ``end`` is the end of what is committed (D4)."""
        self._trim()
        lowest = [self._order[0]] if self._order else []
        if self.rb is not None:
            lowest.append(self.rb)
        cursor = max(self.cursor, min(lowest, default=end))
        return cursor, frozenset(a for a in self.acked if a >= cursor)

    def committed(self, cursor: Address) -> None:
        """Forget what a committed cursor makes superfluous (K5)."""
        self.cursor = cursor
        if self.acked and min(self.acked) < cursor:
            self.acked = {a for a in self.acked if a >= cursor}

    def _fits(self, batch: Batch) -> bool:
        after = self.waiting_bytes + len(batch.payload)
        return self._has_space() or after <= self.capacity

    def _has_space(self) -> bool:
        """Tell whether one more batch is taken whatever its size, so that reading back moves on."""
        return not self._batches or self.waiting_bytes < self.capacity // 2

    def _add(self, address: Address, batch: Batch) -> None:
        self._batches[address] = batch
        self._order.append(address)
        self.waiting_bytes += len(batch.payload)
        line = self._by_key.setdefault(self._line(batch), deque())
        line.append(address)
        if len(line) == 1:
            heapq.heappush(self._ready, address)

    def _forget(self, address: Address, batch: Batch) -> None:
        name = self._line(batch)
        line = self._by_key[name]
        was_first = line[0] == address
        if line[-1] == address:
            line.pop()  # also an eviction: the newest of its line
        else:
            line.remove(address)  # the first, unless a sink resolves a line out of order
        if not line:
            del self._by_key[name]
        elif was_first:
            heapq.heappush(self._ready, line[0])

    def _is_next(self, address: Address) -> bool:
        """Tell whether it waits and nothing stands before it in its line."""
        if address not in self._batches or address in self.in_flight:
            return False
        return self._by_key[self._line(self._batches[address])][0] == address

    def _may_fly(self, address: Address) -> bool:
        if self._below_bound():
            return True
        self._trim()
        return self._below_bound() or (bool(self._order) and self._order[0] == address)

    def _below_bound(self) -> bool:
        return len(self.acked) + len(self.in_flight) < WINDOW

    def _trim(self) -> None:
        """Let go of acknowledged addresses below the oldest unresolved one.

        The next snapshot's cursor lies above them, so that they no longer count for the bound.
        """
        while self._order and self._order[0] not in self._batches:
            self.acked.discard(self._order.popleft())

    def _wake(self, now: float) -> None:
        while self._deferred and self._deferred[0][0] <= now:
            address = heapq.heappop(self._deferred)[1]
            if self._is_next(address):
                heapq.heappush(self._ready, address)


def addresses(
    offsets: Sequence[int], records: Sequence[Sequence[Batch]]
) -> list[tuple[Address, Batch]]:
    """Pair every batch of a tick's outbox records with its address."""
    return [
        ((offset, i), batch)
        for offset, record in zip(offsets, records, strict=True)
        for i, batch in enumerate(record)
    ]


def by_lane(found: Sequence[tuple[Address, Batch]]) -> dict[str, list[tuple[Address, Batch]]]:
    """Sort addressed batches by their lane."""
    lanes: dict[str, list[tuple[Address, Batch]]] = {}
    for address, batch in found:
        lanes.setdefault(batch.lane, []).append((address, batch))
    return lanes
