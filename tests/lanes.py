"""One lane over a destination and an owner made by hand, in virtual time."""

import asyncio
from collections.abc import Callable, Collection, Sequence

import pytest

from forwarder.deliver.context import Policy
from forwarder.deliver.lane import Delivery
from forwarder.deliver.queue import Queue
from forwarder.deliver.rate_limit import Pace
from forwarder.deliver.readback import Lagging, Readback, Turns
from forwarder.errors import JournalError
from forwarder.journal import outbox
from forwarder.journal.contract import OutboxRecord, OutboxSlice
from forwarder.model import DELIVERED, Address, Batch, Outcome, OutcomeKind
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


class Owner:
    """A partition that has committed whatever it is given."""

    def __init__(self) -> None:
        self.allowed = True
        self.asked = 0
        self.end = 0
        self.stored: dict[int, bytes] = {}
        self.reads: list[int] = []
        self.lanes: dict[str, Lagging] = {}
        self.turns = Turns()
        self.readback = Readback(
            self.turns, self.lanes, self.read, self.committed_end, self.journal_failed
        )
        self.moved = 0
        self.letters: list[str] = []
        self.failures: list[JournalError] = []
        self.breaks: Exception | None = None
        self.before_answer: Callable[[], None] = lambda: None

    def may_put(self) -> bool:
        self.asked += 1
        return self.allowed

    def committed_end(self) -> Address:
        return (self.end, 0)

    def read_back(self, lane: str) -> None:
        self.readback.ask(lane)

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

    def acknowledged(self) -> None:
        self.moved += 1

    def refused(self, batch: Batch, outcome: Outcome) -> None:
        assert outcome.kind is OutcomeKind.REFUSED
        self.letters.append(batch.id)

    def journal_failed(self, error: JournalError) -> None:
        self.failures.append(error)

    def commit(self, *batches: Batch) -> list[tuple[Address, Batch]]:
        """Store one record and return its batches under their addresses."""
        offset = self.end
        self.stored[offset] = outbox.encode(batches)
        self.end += 2
        return [((offset, i), b) for i, b in enumerate(batches)]


class Lane:
    """A delivery with everything around it."""

    def __init__(  # noqa: PLR0913  # what tests vary
        self,
        answer: Answer = lambda _batch, _tried: DELIVERED,
        *,
        capacity: int = 10_000,
        active: bool = True,
        deliver_from_ms: int | None = None,
        stored: Sequence[Sequence[Batch]] = (),
        cursor: Address = (0, 0),
        pace: Pace | None = None,
        random: Callable[[], float] = lambda: 0.5,
    ) -> None:
        self.sink = Sink(answer)
        self.owner = Owner()
        self.notes = doubles.Notes()
        for record in stored:
            self.owner.commit(*record)
        policy = Policy("acme", "raw-events/0", active, deliver_from_ms)
        queue = Queue(cursor, (), (self.owner.end, 0), capacity)
        self.pace = pace or Pace()
        self.delivery = Delivery(
            policy, queue, self.sink, self.owner, self.notes, random, self.pace
        )
        self.owner.lanes["acme"] = self.delivery
        self.delivery.wake()

    def commit(self, *batches: Batch) -> None:
        """Commit one record of batches and hand them on."""
        self.delivery.join(self.owner.commit(*batches))

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
        await self.until(self.delivery.idle)


def devices(count: int, size: int = 10) -> list[Batch]:
    """Return batches of as many devices."""
    return [batch(str(i), key=f"device{i}", payload=b"x" * size) for i in range(count)]


def failing_first(times: int, outcome: Outcome) -> Answer:
    return lambda _batch, tried: outcome if tried < times else DELIVERED
