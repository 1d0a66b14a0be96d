"""One lane over a destination and an outbox made by hand, in virtual time."""

import asyncio
import math
from collections.abc import Callable, Collection, Mapping, Sequence

import pytest

from forwarder.clock import Clock
from forwarder.deliver.budget import Budget
from forwarder.deliver.context import (
    DeliverContext,
    DeliveryResults,
    LaneContext,
    LanePolicy,
    Lease,
)
from forwarder.deliver.lane import LaneDelivery
from forwarder.deliver.queue import DeliveryQueue
from forwarder.deliver.rate_limit import RateLimiter
from forwarder.deliver.readback import Readback, ScanLimiter
from forwarder.journal import outbox
from forwarder.journal.contract import OutboxRecord, OutboxSlice
from forwarder.model import DELIVERED, Address, Batch, Outcome, OutcomeKind
from forwarder.ops.reporter import Reporter
from forwarder.sinks import contract
from forwarder.sinks.requests import SHARD
from tests import doubles
from tests.batches import batch

THROTTLED = Outcome(OutcomeKind.THROTTLED, "Throttled", "slow down")
TRANSIENT = Outcome(OutcomeKind.TRANSIENT, "Reset", "connection reset")
CONFIGURATION = Outcome(OutcomeKind.CONFIGURATION, "AccessDenied", "not allowed")
REFUSED = Outcome(OutcomeKind.REFUSED, "Validation", "not that one")

Answer = Callable[[Batch, int], Outcome]


class Sink(doubles.ScriptedSink):
    """Answers as a function says, and checks that no device has two puts in flight."""

    def __init__(self, answer: Answer = lambda _batch, _tried: DELIVERED) -> None:
        super().__init__()
        self.says = answer
        self.flying: set[bytes] = set()
        self.seconds = 0.0
        self.concurrent = 0

    def answer(self, batch: Batch, tried: int) -> Outcome:
        return self.says(batch, tried)

    async def put(self, batches: Sequence[Batch]) -> Sequence[Outcome]:
        keys = {b.key for b in batches}
        assert len(keys) == len(batches), "two batches of one device in a request"
        assert not keys & self.flying, "two puts of one device in flight"
        self.flying |= keys
        self.concurrent = max(self.concurrent, len(self.flying))
        try:
            await asyncio.sleep(self.seconds)
            return await super().put(batches)
        finally:
            self.flying -= keys


class Outbox:
    """What is committed: records of one lane, and how they are read back."""

    def __init__(self) -> None:
        self.end = 0
        self.stored: dict[int, bytes] = {}
        self.reads: list[int] = []
        self.breaks: Exception | None = None
        self.before_answer: Callable[[], None] = lambda: None

    async def read(
        self, lanes: Collection[str], start: int, end: int, max_bytes: int
    ) -> OutboxSlice:
        assert ["acme"] == list(lanes)
        self.reads.append(start)
        await asyncio.sleep(0.01)
        self.before_answer()
        if self.breaks is not None:
            raise self.breaks
        found: list[OutboxRecord] = []
        seen = 0
        for offset, value in self.stored.items():
            if start <= offset < end:
                found.append(OutboxRecord(offset, "acme", value))
                seen += len(value)
                if seen >= max_bytes:
                    return OutboxSlice(found, offset + 1, seen)
        return OutboxSlice(found, end, seen)

    def commit(self, *batches: Batch) -> list[tuple[Address, Batch]]:
        """Store one record and return its batches under their addresses."""
        offset = self.end
        self.stored[offset] = outbox.encode_record(batches)
        self.end += 2
        return [((offset, i), b) for i, b in enumerate(batches)]


class Lane:
    """A delivery with everything around it; ``asked``: how often something was to be collected."""

    def __init__(  # noqa: PLR0913  # what tests vary
        self,
        answer: Answer = lambda _batch, _tried: DELIVERED,
        *,
        capacity: int = 10_000,
        budget: Budget | None = None,
        active: bool = True,
        deliver_from_ms: int | None = None,
        stored: Sequence[Sequence[Batch]] = (),
        cursor: Address = (0, 0),
        rate_limit: RateLimiter | None = None,
        random: Callable[[], float] = lambda: 0.5,
        sink: Sink | None = None,
    ) -> None:
        self.sink = sink or Sink(answer)
        self.outbox = Outbox()
        self.notes = doubles.Notes()
        self.asked = 0
        for record in stored:
            self.outbox.commit(*record)
        clock = doubles.LoopClock()
        end = (self.outbox.end, 0)
        self.results = DeliveryResults(self._count)
        self.lease = Lease(math.inf)
        limiter = ScanLimiter(clock, budget)
        self.readback = Readback(limiter, self.outbox.read, end, self.results.fail)
        self.rate_limit = rate_limit or RateLimiter(SHARD)
        context = LaneContext(
            clock=clock,
            random=random,
            reporter=self.notes,
            rate_limit=self.rate_limit,
            lease=self.lease,
            results=self.results,
            readback=self.readback,
        )
        policy = LanePolicy("acme", "raw-events/0", active, deliver_from_ms)
        queue = DeliveryQueue(cursor, (), end, capacity, budget=budget)
        self.delivery = LaneDelivery(policy, queue, self.sink, context, end)
        self.readback.serve({"acme": self.delivery})
        self.delivery.wake()

    def _count(self) -> None:
        self.asked += 1

    def commit(self, *batches: Batch) -> None:
        """Commit one record of batches and hand them on."""
        fresh = self.outbox.commit(*batches)
        end = self.readback.end = (self.outbox.end, 0)
        self.delivery.on_committed(self.delivery.queue.cursor, end, fresh)

    def letters(self) -> list[str]:
        """Return the ids of what was refused for good."""
        assert all(o.kind is OutcomeKind.REFUSED for _, o in self.results.refused)
        return [batch.id for batch, _ in self.results.refused]

    def failure(self) -> str:
        """Return why delivering cannot go on; "" while it can."""
        failed = self.results.failed
        return str(failed.result()) if failed.done() else ""

    def landed(self) -> list[str]:
        return [b.id for b in self.sink.landed]

    def statuses(self) -> list[str]:
        return [entry[3] for entry in self.notes.log if entry[0] == "lane"]

    async def until(self, reached: Callable[[], bool]) -> None:
        """Let virtual time pass until a condition holds, an hour at most."""
        for _ in range(36_000):
            if reached():
                return
            await asyncio.sleep(0.1)
        pytest.fail("it never came to that")

    async def until_idle(self) -> None:
        await self.until(self.delivery.is_idle)


def deliver_context(
    sinks: Mapping[str, contract.Sink], clock: Clock, reporter: Reporter, *, queue_bytes: int
) -> DeliverContext:
    """Return what the deliveries of a worker share, without jitter or a budget."""
    return DeliverContext(
        sinks=sinks,
        clock=clock,
        reporter=reporter,
        random=lambda: 0.5,
        queue_bytes=queue_bytes,
        scan_limiter=ScanLimiter(clock),
    )


def devices(count: int, size: int = 10) -> list[Batch]:
    """Return batches of as many devices."""
    return [batch(str(i), key=f"device{i}", payload=b"x" * size) for i in range(count)]


def failing_first(times: int, outcome: Outcome) -> Answer:
    return lambda _batch, tried: outcome if tried < times else DELIVERED
