"""What one lane of one partition still has to deliver, and how far it has come (D1 to D5).

Pure: the batches in memory, the ones in flight, the acknowledged ones, and the address from
which on batches have to be read back. Every address is in exactly one of: below ``cursor``,
acked, in the queue, at or above ``readback_from``, or at or above the end of what is committed.
"""

import heapq
from collections import deque
from collections.abc import Iterable, Sequence

from forwarder.deliver.budget import NO_LAG, Budget, Lag
from forwarder.deliver.ready import ReadyAddresses
from forwarder.model import Address, Batch

MAX_UNCOMMITTED_ACKS = 4096
"""Most addresses acknowledged above the cursor plus in flight (K in docs/protocol.md): bounds
what a state record carries."""


class DeliveryQueue:
    """The batches of one lane that wait for delivery. Caller: its ``LaneDelivery`` alone.

    ``capacity`` is the most payload bytes kept in memory, and ``budget`` what all queues take
    together; at least one batch passes at a time, however large. ``max_batches`` is the most
    batches kept, None without a bound: a lane that cannot send keeps one to probe with, a few, or
    none. ``min_batches``: as many are taken whatever their size, one unless some of them are stuck.
    ``readback_from`` is ``rb`` of docs/protocol.md, None while all that waits is in memory.
    ``unread_lag`` is what is known to wait at or above it: exact for what was committed since the
    opening, before that what the state said of it.
    """

    def __init__(  # noqa: PLR0913  # where a tick left off, and what there is room for
        self,
        cursor: Address,
        acked: Iterable[Address],
        end: Address,
        capacity: int,
        *,
        in_order: bool = False,
        budget: Budget | None = None,
        unread: Lag = NO_LAG,
        max_acks: int | None = None,
    ) -> None:
        """Begin where a tick left off; what lies between ``cursor`` and ``end`` is read back.

        ``in_order``: all batches form one line, and several of it may fly together. ``unread``:
        what the state says of those that are read back. ``max_acks``: ``MAX_UNCOMMITTED_ACKS``
        unless a test says otherwise.
        """
        self._max_acks = MAX_UNCOMMITTED_ACKS if max_acks is None else max_acks
        self.cursor = cursor
        self.acked = {a for a in acked if a >= cursor}
        self.readback_from: Address | None = cursor if cursor < end else None
        self.capacity = capacity
        self.in_order = in_order
        self.waiting_bytes = 0
        self.max_batches: int | None = None
        self.min_batches = 1
        self._taken_over = 0
        self._passed_over = 0
        self._events = 0
        self._unread_events = 0
        self._inherited_end = end
        self._counted = cursor
        self.unread_lag = unread if self.readback_from is not None else NO_LAG
        self._budget = budget or Budget()
        self._overhead = self._budget.batch_overhead
        self._claims = False
        self.in_flight: set[Address] = set()
        self._batches: dict[Address, Batch] = {}
        self._order: deque[Address] = deque()
        self._heads: dict[bytes, Address] = {}
        self._behind: dict[bytes, deque[Address]] = {}
        self._ready = ReadyAddresses()
        self._deferred: list[tuple[float, Address]] = []

    def __len__(self) -> int:
        """Return how many batches are in memory."""
        return len(self._batches)

    def enqueue(self, batches: Sequence[tuple[Address, Batch]]) -> None:
        """Take freshly committed batches, in address order, or note where they have to be read.

        Fresh batches join only an unbroken queue; one that does not fit breaks it.
        """
        size = sum([len(batch.payload) for _, batch in batches])
        if self.readback_from is None and self._fit_all(len(batches), size):
            self._add_all(batches, size)
            return
        for address, batch in batches:
            if self.readback_from is None and self._fits(batch):
                self._add_all([(address, batch)], len(batch.payload))
                continue
            first = self.readback_from is None
            self.readback_from = address if self.readback_from is None else self.readback_from
            oldest = batch.closed_at if first else self.unread_lag.closed_at
            self.unread_lag = self.unread_lag.with_batch(batch, oldest)
            self._unread_events += batch.count

    def add_read(self, batches: Iterable[tuple[Address, Batch]], upto: Address) -> None:
        """Take batches read from ``readback_from`` on; everything below ``upto`` has been seen.

        Stops early when memory is full; ``readback_from`` tells where to go on. ``upto`` is never
        beyond what this owner knows to be committed; the read-back ends in :meth:`end_readback`.
        """
        if self.readback_from is None:
            return
        for address, batch in batches:
            if address < self.readback_from:
                continue
            if address in self.acked:
                self._order.append(address)
                continue
            if not self._may_take_read(batch):
                self.readback_from = address
                self.unread_lag = self.unread_lag._replace(closed_at=batch.closed_at)
                break
            self._add_all([(address, batch)], len(batch.payload))
            self._count_read(address, batch)
            self.unread_lag = self.unread_lag.without_batch(batch)
            self.readback_from = (address[0], address[1] + 1)
        else:
            self.readback_from = max(self.readback_from, upto)
        self._trim()

    def waiting_events(self) -> int:
        """Return how many events wait for delivery, in memory and cut from it.

        Of batches that an opening before this one committed, those that were read here: how many
        others there are nobody knows.
        """
        return self._events + self._unread_events

    def collect_taken_over(self) -> int:
        """Return how many events were taken over since this was last asked.

        They are those of batches that another opening committed, when they are first read here.
        """
        events, self._taken_over = self._taken_over, 0
        return events

    def collect_passed_over(self) -> int:
        """Return how many events ``drop_closed_before`` has dropped since this was last asked."""
        events, self._passed_over = self._passed_over, 0
        return events

    def end_readback(self, end: Address) -> None:
        """End the read-back if it has reached ``end``, what this owner knows to be committed."""
        if self.readback_from is not None and self.readback_from >= end:
            self.readback_from = None
            self.unread_lag = NO_LAG

    def evict(self, keep_bytes: int) -> None:
        """Cut the queue's tail down to ``keep_bytes``, but nothing that is in flight."""
        while self.waiting_bytes > keep_bytes and self._evict_newest():
            pass

    def keep_probes(self, most: int = 1, *, waits: bool = True) -> None:
        """Keep the ``most`` oldest batches alone: the next probes of a lane that cannot send now.

        None if memory is tight and it ``waits``: a probe is read back when its time comes, and then
        not evicted again before it was put. Batches in flight stay until they are answered.
        """
        self.max_batches = most
        keep = 0 if waits and self._budget.is_tight() else most
        while len(self._batches) > keep and self._evict_newest():
            pass
        if len(self._ready) + len(self._deferred) > 2 * len(self._batches) + 16:  # most are stale
            self._ready.keep(self._is_next)
            self._deferred = sorted({d for d in self._deferred if d[1] in self._batches})

    def clear(self) -> None:
        """Give all memory back to the budget. The queue must not be used afterwards."""
        self._budget.used -= self.waiting_bytes + self._overhead * len(self._batches)
        self._budget.claim(self, wants=False)
        self._claims = False
        self._budget = Budget()

    def update_claim(self) -> None:
        """Claim a share of the budget if this lane can use one, else give the claim up."""
        waits = bool(self._batches) or self.readback_from is not None
        claims = waits and self.max_batches is None
        if claims is not self._claims:
            self._claims = claims
            self._budget.claim(self, wants=claims)

    def wants_read_back(self) -> bool:
        """Tell whether batches wait in the outbox and there is much room for them, or none here."""
        return self.next_to_read() is not None and self._has_space()

    def next_to_read(self) -> Address | None:
        """Return from where on batches have to be read, if there is any room for them now."""
        if len(self._batches) < self.min_batches:
            return self.readback_from
        if self._at_max() or self._budget.is_tight():
            return None
        return None if 4 * self.waiting_bytes >= 3 * self._read_allowance() else self.readback_from

    def lag(self) -> Lag:
        """Return how much waits, here and in the outbox.

        Exact once all that waited at the opening was read back. Until then the state's word of it
        is in it, up to ten seconds old then; and the oldest may be a little younger than it says
        where the next one in the outbox has not been seen yet.
        """
        head = self.oldest()
        oldest = head.closed_at if head else self.unread_lag.closed_at
        size = self.waiting_bytes + self.unread_lag.bytes
        return Lag(len(self) + self.unread_lag.batches, size, oldest)

    def take(self, now: float, max_count: int, max_bytes: int) -> list[tuple[Address, Batch]]:
        """Return batches to put now and count them as in flight: one per line, oldest first.

        In order: the oldest ones, whatever their key, once nothing is in flight. At most
        ``max_count``, at most ``max_bytes`` of payload or one batch (D3).
        """
        if self.in_order and self.in_flight:
            return []
        if self._deferred:
            self._promote_due(now)
        taken: list[tuple[Address, Batch]] = []
        fresh, later = self._ready.fresh, self._ready.later
        batches, in_flight, size = self._batches, self.in_flight, 0
        room = self._max_acks - len(self.acked) - len(in_flight)
        while (fresh or later) and len(taken) < max_count:  # no calls: it runs for every batch
            is_fresh = not later or (fresh and fresh[0] < later[0])
            address = fresh[0] if is_fresh else later[0]
            batch = batches.get(address)
            if batch is None or address in in_flight or not (taken or self._is_next(address)):
                self._ready.drop_first()  # left over from an eviction or a failed put
                continue
            if room <= 0 and not self._may_fly(address):
                break
            size += len(batch.payload)
            if taken and size > max_bytes:
                break
            if is_fresh:
                fresh.popleft()
            else:
                heapq.heappop(later)
            room -= 1
            in_flight.add(address)
            taken.append((address, batch))
            if self.in_order:  # the batch behind one in flight may go with it
                line = self._behind.get(b"", ())
                if len(line) >= len(in_flight):
                    heapq.heappush(later, line[len(in_flight) - 1])
        return taken

    def fills_request(self, count: int, size: int) -> bool:
        """Tell whether what could be put now is about so many batches, or so many payload bytes."""
        ready = len(self._ready)
        return ready >= count or ready * self.waiting_bytes >= size * max(1, len(self))

    def next_due(self) -> float | None:
        """Return when something can be put: 0.0 now, a time for deferred ones, None: nothing.

        Drops stale entries of its heaps, which changes no answer.
        """
        if self.in_order and self.in_flight:
            return None
        while (first := self._ready.first()) is not None and not self._is_next(first):
            self._ready.drop_first()
        if first is not None and self._may_fly(first):
            return 0.0
        while self._deferred and self._deferred[0][1] not in self._batches:
            heapq.heappop(self._deferred)
        return self._deferred[0][0] if self._deferred else None

    def acknowledge(self, done: Sequence[Address]) -> None:
        """Count batches as done for good: delivered, refused, or dropped (D4, D5).

        They were taken, or stand first in their lines.
        """
        batches, in_flight, heads = self._batches, self.in_flight, self._heads
        alone = not (self._behind or self.in_order)
        size = events = 0
        for address in done:  # no calls of ours where no batch waits behind another
            batch = batches.pop(address)
            in_flight.discard(address)
            events += batch.count
            size += len(batch.payload)
            if alone:
                del heads[batch.key]
            else:
                self._remove_from_line(address, batch)
        self._events -= events
        self._release(len(done), size)
        self._trim()
        if self._order:
            lowest = self._order[0]
            self.acked.update([address for address in done if address > lowest])

    def defer(self, address: Address, until: float) -> None:
        """Put a batch in flight back in its place, not to be tried before ``until``.

        Later batches of its key wait behind it.
        """
        self.in_flight.discard(address)
        heapq.heappush(self._deferred, (until, address))

    def clear_deferrals(self) -> None:
        """Make every deferred batch ready now: what they waited for was about the whole lane."""
        self._promote_due(float("inf"))

    def drop_closed_before(self, time_ms: int) -> int:
        """Acknowledge unsent what was closed before ``time_ms`` and is ready; return how many (D5).

        Within the same bound as puts, so the rest follows as the cursor rises.
        """
        dropped = 0
        for address in self._ready.ascending():
            batch = self._batches.get(address)
            if batch is None or address in self.in_flight or batch.closed_at >= time_ms:
                continue
            if not self._may_fly(address):
                break
            self.acknowledge([address])
            self._passed_over += batch.count
            dropped += 1
        return dropped

    def oldest(self) -> Batch | None:
        """Return the oldest batch in memory that is not acknowledged."""
        return self._batches[self._order[0]] if self._order else None

    def cursor_and_acked(self, end: Address) -> tuple[Address, frozenset[Address]]:
        """Return cursor and acked for a tick; ``end`` is the end of what is committed (D4)."""
        lowest = [self._order[0]] if self._order else []
        if self.readback_from is not None:
            lowest.append(self.readback_from)
        cursor = max(self.cursor, min(lowest, default=end))
        acked = frozenset([a for a in self.acked if a >= cursor]) if self.acked else frozenset()
        return cursor, acked

    def on_committed(self, cursor: Address) -> None:
        """Take the cursor of a committed tick; forget acknowledged addresses below it (K5)."""
        self.cursor = cursor
        if self.acked and min(self.acked) < cursor:
            self.acked = {a for a in self.acked if a >= cursor}
        self._shrink_to_share()

    # ------------------------------------------------------------------ what fits

    def _fits(self, batch: Batch) -> bool:
        """Tell whether a fresh batch is kept: while memory is not tight, beyond the share too."""
        if len(self._batches) < self.min_batches:
            return self._is_first()
        size = len(batch.payload)
        room = self.capacity
        if self._budget.is_tight(size + self._overhead):
            if not self._budget.admits(size + self._overhead):
                return False
            room = min(room, self._budget.fair_share())
        fits = self.waiting_bytes < room // 2 or self.waiting_bytes + size <= room
        return fits and not self._at_max()

    def _fit_all(self, count: int, size: int) -> bool:
        """Tell whether so many fresh batches are all kept, with room left: each would be alone."""
        if self.max_batches is not None or self._budget.is_tight(size + count * self._overhead):
            return False
        return self.waiting_bytes + size <= self.capacity

    def _may_take_read(self, batch: Batch) -> bool:
        """Tell whether a batch that was read is taken; half of the memory is for fresh ones."""
        if len(self._batches) < self.min_batches:
            return self._is_first()
        if self._at_max() or self._budget.is_tight():
            return False
        return (
            self._has_space() or self.waiting_bytes + len(batch.payload) <= self._read_allowance()
        )

    def _is_first(self) -> bool:
        """Tell whether one of the first is taken, however large, so that every lane moves on."""
        return self.max_batches != 0 and not self._budget.is_full()

    def _has_space(self) -> bool:
        """Tell whether one more batch is taken whatever its size."""
        return (
            len(self._batches) < self.min_batches
            or self.waiting_bytes < self._read_allowance() // 2
        )

    def _at_max(self) -> bool:
        """Tell whether as many are here as are kept for now."""
        return self.max_batches is not None and len(self._batches) >= self.max_batches

    def _shrink_to_share(self) -> None:
        """Give back what is more than this queue's share, if memory is tight; keep one batch."""
        if len(self._batches) <= self.min_batches or not self._budget.is_tight():
            return
        room = min(self.capacity, self._budget.fair_share())
        while (
            self.waiting_bytes > room
            and len(self._batches) > self.min_batches
            and self._evict_newest()
        ):
            pass

    def _read_allowance(self) -> int:
        """Return the bytes that this lane may have read back: all who wait share half of it all."""
        return min(self.capacity, self._budget.fair_share() // 2)

    # ------------------------------------------------------------------ in and out

    def _evict_newest(self) -> bool:
        """Drop the newest batch, to be read back; False if it is in flight, or there is none."""
        while self._order:
            address = self._order[-1]
            if address in self.in_flight:
                return False
            self._order.pop()
            if address in self._batches:
                batch = self._batches.pop(address)
                self._events -= batch.count
                self._release(1, len(batch.payload))
                self._remove_from_line(address, batch)
                self._ready.drop_fresh_from(address)
                self.unread_lag = self.unread_lag.with_batch(batch, batch.closed_at)
                self._unread_events += batch.count
                self.readback_from = address
                return True
        return False

    def _release(self, count: int, size: int) -> None:
        """Give back the memory of so many batches with ``size`` bytes of payload."""
        self.waiting_bytes -= size
        self._budget.used -= size + count * self._overhead

    def _add_all(self, batches: Sequence[tuple[Address, Batch]], size: int) -> None:
        """Take batches that are all kept; ``size``: the bytes of their payload."""
        self._release(-len(batches), -size)
        self._batches.update(batches)
        self._order.extend([address for address, _ in batches])
        self._events += sum([batch.count for _, batch in batches])
        heads, fresh = self._heads, self._ready.fresh
        for address, batch in batches:
            key = b"" if self.in_order else batch.key
            if heads.setdefault(key, address) is address:  # it is the first of its line
                fresh.append(address)
            else:
                self._behind.setdefault(key, deque()).append(address)

    def _count_read(self, address: Address, batch: Batch) -> None:
        """Count the events of a batch that was read: it was cut before, or is taken over."""
        if self._counted <= address < self._inherited_end:
            self._taken_over += batch.count
            self._counted = (address[0], address[1] + 1)
        else:
            self._unread_events -= batch.count

    def _remove_from_line(self, address: Address, batch: Batch) -> None:
        name = b"" if self.in_order else batch.key
        line = self._behind.get(name)
        if line is None:
            del self._heads[name]
            return
        if self._heads[name] == address:
            self._heads[name] = head = line.popleft()
            heapq.heappush(self._ready.later, head)
        elif line[-1] == address:
            line.pop()  # an eviction: the newest of its line
        else:
            line.remove(address)  # a sink resolves a line out of order
        if not line:
            del self._behind[name]

    def _is_next(self, address: Address) -> bool:
        """Tell whether it waits and nothing stands before it in its line."""
        batch = self._batches.get(address)
        if batch is None or address in self.in_flight:
            return False
        return self._heads[b"" if self.in_order else batch.key] == address

    def _may_fly(self, address: Address) -> bool:
        """Tell whether a batch may be put within the bound of D3; a lane's oldest always may."""
        if len(self.acked) + len(self.in_flight) < self._max_acks:
            return True
        return bool(self._order) and self._order[0] == address

    def _trim(self) -> None:
        """Forget acknowledged addresses below the oldest unresolved one.

        The next snapshot's cursor lies above them, so that they no longer count for the bound.
        """
        order, batches, acked = self._order, self._batches, self.acked
        while order and order[0] not in batches:
            address = order.popleft()
            if acked:
                acked.discard(address)

    def _promote_due(self, now: float) -> None:
        while self._deferred and self._deferred[0][0] <= now:
            address = heapq.heappop(self._deferred)[1]
            if self._is_next(address):
                self._ready.add_later(address)
