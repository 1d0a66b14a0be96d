"""What delivers the lanes of one partition, and what reads the outbox back for them."""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from forwarder.deliver import behind, trouble
from forwarder.deliver.lane import Delivery
from forwarder.deliver.readback import Read, Readback, Turns
from forwarder.errors import JournalError
from forwarder.journal.state import LaneState
from forwarder.journal.tick import Drawn
from forwarder.model import Address, Batch, CloseReason, DeadLetter, Outcome, Reason


class Deliveries(dict[str, Delivery]):
    """The deliveries of one opening, by lane. Owned by its partition."""

    def __init__(
        self,
        turns: Turns,
        read: Read,
        end: Callable[[], Address],
        fail: Callable[[JournalError], None],
    ) -> None:
        """Begin without lanes; what is read back comes from ``read``, up to ``end``."""
        super().__init__()
        self._readback = Readback(turns, self, read, end, fail)

    def wake(self) -> None:
        """Start whatever may start now."""
        for delivery in self.values():
            delivery.wake()

    def hold(self) -> None:
        """Start nothing more until they are released (R1)."""
        for delivery in self.values():
            delivery.hold()

    def release(self) -> None:
        """Go on."""
        for delivery in self.values():
            delivery.release()

    async def settled(self) -> None:
        """Wait until no put is in flight."""
        await asyncio.gather(*(delivery.settled() for delivery in self.values()))

    async def close(self) -> None:
        """Cancel what is in flight and what is read, and end."""
        await asyncio.gather(self._readback.close(), *(d.stop() for d in self.values()))

    def idle(self) -> bool:
        """Tell whether nothing waits that could still be delivered."""
        return all(delivery.idle() for delivery in self.values())

    def read_back(self, lane: str) -> None:
        """Read stored batches of a lane, and of those close to it, when its turn comes (D2)."""
        self._readback.ask(lane)

    def note(self, lane: str, stored: LaneState, now_ms: int) -> bool:
        """Note why a lane is not delivered, and how far it lags; tell whether to write that."""
        if (delivery := self.get(lane)) is None:
            return False
        why = trouble.note(stored, delivery.reason, now_ms)
        return behind.note(stored, delivery.queue, now_ms) or why

    def snapshot(
        self, lane: str, stored: LaneState, end: Address
    ) -> tuple[Address, frozenset[Address]]:
        """Return cursor and acknowledged addresses of a lane for a tick (D4)."""
        if (delivery := self.get(lane)) is None:
            return stored.cursor, stored.acked
        return delivery.queue.snapshot(end)

    def committed(
        self, drawn: Drawn, fresh: Mapping[str, Sequence[tuple[Address, Batch]]], capacity: int
    ) -> None:
        """Take a committed tick's cursors and its batches (K5); ``capacity``: bytes for each."""
        for lane, delivery in self.items():
            delivery.resize(capacity)
            stored = drawn.lanes.get(lane)
            delivery.queue.committed(stored.cursor if stored else delivery.queue.cursor)
            delivery.join(fresh.get(lane, ()))


def refusal(batch: Batch, outcome: Outcome) -> DeadLetter:
    """Return the dead letter of a batch that was refused for good."""
    text = f"{outcome.code}: {outcome.error}"
    again = batch.reason is CloseReason.REDRIVEN
    return DeadLetter(
        Reason.REFUSED, batch.first[0], batch.lane, text, batch.payload, batch.record_ms,
        batch.key, again, batch.count,
    )  # fmt: skip
