"""A partition of many lanes over one outbox, in virtual time; reading it has a cost."""

import asyncio
import math
from collections.abc import Callable, Collection, Sequence
from hashlib import shake_128

from forwarder.deliver.budget import Budget
from forwarder.deliver.context import DeliveryResults, LaneContext, LanePolicy, Lease
from forwarder.deliver.lane import LaneDelivery
from forwarder.deliver.queue import DeliveryQueue
from forwarder.deliver.rate_limit import RateLimiter
from forwarder.deliver.readback import (
    MAX_BYTES_PER_SECOND,
    SCAN_CHUNK_BYTES,
    Readback,
    ReadOutbox,
    ScanLimiter,
)
from forwarder.journal import outbox
from forwarder.journal.contract import OutboxRecord, OutboxSlice
from forwarder.model import DELIVERED, Address, Batch, Outcome
from forwarder.sinks.requests import SHARD
from tests import doubles
from tests.batches import batch
from tests.lanes import CONFIGURATION, Sink

ASK_SECONDS = 0.002
BYTE_SECONDS = 1 / 100e6


class Destination(Sink):
    """A destination that somebody may close; ``seconds`` a put takes."""

    def __init__(self) -> None:
        super().__init__(lambda _batch, _tried: self.outcome)
        self.outcome: Outcome = DELIVERED
        self.landed_at: dict[str, float] = {}

    async def put(self, batches: Sequence[Batch]) -> Sequence[Outcome]:
        outcomes = await super().put(batches)
        now = asyncio.get_running_loop().time()
        for one, outcome in zip(batches, outcomes, strict=True):
            if outcome is DELIVERED:
                self.landed_at.setdefault(one.id, now)
        return outcomes

    def close_down(self) -> None:
        self.outcome = CONFIGURATION

    def mend(self) -> None:
        self.outcome = DELIVERED


class Partition:
    """What is committed, the lanes that deliver it, and what was read back for them."""

    def __init__(
        self,
        budget: Budget | None = None,
        rate: float = MAX_BYTES_PER_SECOND,
        chunk: int = SCAN_CHUNK_BYTES,
        *,
        read: ReadOutbox | None = None,
    ) -> None:
        self.clock = doubles.LoopClock()
        self.limiter = ScanLimiter(self.clock, budget or Budget(batch_overhead=0), rate, chunk)
        self.stored: dict[int, tuple[str, bytes]] = {}
        self.sizes: dict[str, int] = {}
        self.committed: dict[str, list[str]] = {}
        self.end = 0
        self.seen = 0
        self.breaks: Exception | None = None
        self.reads: list[tuple[frozenset[str], int]] = []
        self.lanes: dict[str, LaneDelivery] = {}
        self.sinks: dict[str, Destination] = {}
        self.results = DeliveryResults(lambda: None)
        self.readback = Readback(self.limiter, read or self.read, (0, 0), self.results.fail)
        self.readback.serve(self.lanes)

    def lane(
        self,
        name: str,
        *,
        capacity: int = 1 << 40,
        cursor: Address | None = None,
        sink: Destination | None = None,
    ) -> Destination:
        """Add a lane at the end of what is committed, or at ``cursor``; return its destination."""
        sink = self.sinks[name] = sink or Destination()
        end = (self.end, 0)
        budget = self.limiter.budget
        queue = DeliveryQueue(end if cursor is None else cursor, (), end, capacity, budget=budget)
        context = LaneContext(
            clock=self.clock,
            random=lambda: 0.5,
            reporter=doubles.Notes(),
            rate_limit=RateLimiter(SHARD),
            lease=Lease(math.inf),
            results=self.results,
            readback=self.readback,
        )
        policy = LanePolicy(name, "raw-events/0", active=True)
        self.lanes[name] = LaneDelivery(policy, queue, sink, context, end)
        return sink

    def commit(self, **batches: Sequence[Batch]) -> None:
        """Commit one tick: a record for each lane, its batches handed on."""
        fresh = {}
        for name, some in batches.items():
            value = outbox.encode_record([of(name, b) for b in some])
            self.stored[self.end] = (name, value)
            self.sizes[name] = self.sizes.get(name, 0) + len(value)
            self.committed.setdefault(name, []).extend(b.id for b in some)
            fresh[name] = [((self.end, i), b) for i, b in enumerate(some)]
            self.end += 1
        self.end += 1
        end = self.advance(self.end)
        for name, delivery in self.lanes.items():
            delivery.on_committed(delivery.queue.cursor_and_acked(end)[0], end, fresh.get(name, ()))

    def advance(self, end: int) -> Address:
        """Let so much of the outbox be known to be committed."""
        self.end = end
        self.readback.end = (end, 0)
        return self.readback.end

    def resident(self) -> int:
        """Return the payload bytes of all lanes in memory."""
        return sum(delivery.queue.waiting_bytes for delivery in self.lanes.values())

    def idle(self) -> bool:
        return all(delivery.is_idle() for delivery in self.lanes.values())

    async def until(self, reached: Callable[[], bool], seconds: float = 7200) -> None:
        """Let time pass until something is so."""
        async with asyncio.timeout(seconds):
            while not reached():  # noqa: ASYNC110  # time is virtual
                await asyncio.sleep(0.05)

    async def until_idle(self, seconds: float = 7200) -> None:
        """Let time pass until everything is delivered."""
        await self.until(self.idle, seconds)

    async def close(self) -> None:
        await self.readback.close()
        await asyncio.gather(*(delivery.close() for delivery in self.lanes.values()))

    # ------------------------------------------------------------------ what scans ask

    async def read(
        self, lanes: Collection[str], start: int, end: int, max_bytes: int
    ) -> OutboxSlice:
        assert end <= self.end
        if self.breaks is not None:
            raise self.breaks
        self.reads.append((frozenset(lanes), start))
        found: list[OutboxRecord] = []
        seen, upto = 0, end
        for offset in range(start, end):
            if (record := self.stored.get(offset)) is None:
                continue
            if record[0] in lanes:
                found.append(OutboxRecord(offset, *record))
            seen += len(record[1])
            if seen >= max_bytes:
                upto = offset + 1
                break
        self.seen += seen
        await asyncio.sleep(ASK_SECONDS + seen * BYTE_SECONDS)
        return OutboxSlice(found, upto, seen)


def of(lane: str, one: Batch) -> Batch:
    """Return a batch as one of another lane."""
    return Batch(
        lane, one.id, one.key, one.window_key, one.first, one.last, one.count, one.closed_at,
        one.record_ms, one.mpid, one.reason, one.payload,
    )  # fmt: skip


def some(name: str, count: int, size: int, *, devices: int = 8, closed_at: int = 0) -> list[Batch]:
    """Return batches of some devices whose payload hardly compresses."""
    return [
        batch(
            f"{name}.{i}",
            key=f"device{i % devices}",
            payload=_noise(f"{name}.{i}", size),
            closed_at=closed_at or 1_000,
        )
        for i in range(count)
    ]


def _noise(seed: str, size: int) -> bytes:
    return shake_128(seed.encode()).digest(size)
