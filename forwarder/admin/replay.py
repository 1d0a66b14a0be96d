"""``forwarder replay``: send stored batches once more, as deliveries do, touching no cursor.

A :class:`LaneDelivery` does the sending: one put in flight per device, the order of the outbox,
retries with backoff. It is handed the batches of a range of the outbox at a set rate, has no
lease to keep, since no cursor is committed, and nothing to read back.
"""

import asyncio
import contextlib
import math
import random
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import msgspec

from forwarder.admin.contract import GroupSurvey
from forwarder.admin.outbox_range import OutboxRange, read_batches
from forwarder.clock import Clock
from forwarder.deliver.context import DeliveryResults, LaneContext, LanePolicy, Lease
from forwarder.deliver.lane import LaneDelivery
from forwarder.deliver.queue import DeliveryQueue
from forwarder.deliver.rate_limit import RateLimiter
from forwarder.errors import ForwarderError
from forwarder.model import Address, Batch, Partition
from forwarder.ops.reporter import LaneStatus, Reporter
from forwarder.sinks.contract import Sink

QUEUE_BYTES = 8 * 1024 * 1024
"""Payload bytes of one partition that wait for the sink at most, or one batch."""

LEAVE_SECONDS = 10.0
"""How long puts in flight may take after a stop was asked for."""


class ReplayTotals(msgspec.Struct):
    """What became of a replay; ``trouble``: why a partition does not get on, while it does not."""

    sent: int = 0
    sent_bytes: int = 0
    refused: int = 0
    refusal: str = ""
    trouble: dict[str, str] = msgspec.field(default_factory=dict)


class SendThrottle:
    """Lets so many records pass per second, over all partitions together. 0: no limit."""

    def __init__(self, rate: float, clock: Clock) -> None:
        """Let the first pass at once."""
        self._gap = 1 / rate if rate else 0.0
        self._clock = clock
        self._next = 0.0

    async def wait(self) -> None:
        """Return when the next batch may be put."""
        now = self._clock.steady()
        due = max(self._next, now)
        self._next = due + self._gap
        await asyncio.sleep(due - now)


class ReplayReporter(Reporter):
    """Counts what the deliveries of a replay report."""

    def __init__(self, tally: ReplayTotals) -> None:
        """Count into ``tally``."""
        self._tally = tally

    def delivered(self, lane: str, batches: Sequence[Batch]) -> None:  # noqa: ARG002  # one lane
        """Count batches that were acknowledged, and their bytes."""
        self._tally.sent += len(batches)
        self._tally.sent_bytes += sum(len(batch.payload) for batch in batches)

    def lane_status(
        self,
        lane: str,  # noqa: ARG002  # one lane
        partition: str,
        status: LaneStatus,
        reason: str,
        remedy: str = "",  # noqa: ARG002  # part of the reason
    ) -> None:
        """Remember why a partition is not flowing, until it is again."""
        if reason:
            self._tally.trouble[partition] = f"{status}: {reason}"
        else:
            self._tally.trouble.pop(partition, None)


class PartitionReplay:
    """The replay of one partition. Caller: :func:`replay`.

    ``finished``: everything was sent, or refused for good.
    """

    def __init__(
        self, partition: Partition, lane: str, sink: Sink, tally: ReplayTotals, clock: Clock
    ) -> None:
        """Make a lane delivery of its own, which commits nothing and whose lease never ends."""
        self.partition = partition
        self.finished = False
        self._next: Address = (0, 0)
        self._tally = tally
        self._moved = asyncio.Event()
        self._results = DeliveryResults(self._collect)
        self._results.failed.add_done_callback(lambda _: self._moved.set())
        self._queue = DeliveryQueue((0, 0), (), (0, 0), QUEUE_BYTES, in_order=sink.in_order)
        context = LaneContext(
            clock=clock,
            random=random.random,
            reporter=ReplayReporter(tally),
            rate_limit=RateLimiter(sink.throughput),
            lease=Lease(math.inf),
            results=self._results,
        )
        policy = LanePolicy(lane, str(partition), active=True)
        self._delivery = LaneDelivery(policy, self._queue, sink, context, (0, 0))

    async def run(self, stored: AsyncIterator[tuple[Address, Batch]], rate: SendThrottle) -> None:
        """Send everything; cancelled, it starts no more and waits for what is on its way.

        Raises ForwarderError if the outbox cannot be read, or a put went wrong in a way nobody
        foresaw.
        """
        try:
            async for address, batch in stored:
                self._next = address
                while not self._has_room(batch):
                    await self._wait_until_moved()
                await rate.wait()
                self._delivery.enqueue([(address, batch)])
                self._next = (address[0], address[1] + 1)
            while not self._delivery.is_idle():
                await self._wait_until_moved()
            self.finished = True
        finally:
            self._delivery.hold()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LEAVE_SECONDS):
                    await self._delivery.finish_puts()
            await self._delivery.close()

    def resume_at(self) -> Address:
        """Return from where on a later replay has to send."""
        return self._queue.cursor_and_acked(self._next)[0]

    def _has_room(self, batch: Batch) -> bool:
        waiting = self._queue.waiting_bytes
        return not len(self._queue) or waiting + len(batch.payload) <= QUEUE_BYTES

    async def _wait_until_moved(self) -> None:
        """Wait for an answer of the sink; raises what ended the delivery."""
        failed = self._results.failed
        self._moved.clear()
        if not failed.done():
            await self._moved.wait()
        if failed.done():
            raise failed.result()

    def _collect(self) -> None:
        """Count what was refused, and look again at what has room and what is done."""
        self._moved.set()
        for batch, outcome in self._results.collect():
            self._tally.refused += 1
            self._tally.refusal = f"{batch.id}: {outcome.code}: {outcome.error}"


async def replay(  # noqa: PLR0913  # what to send, where to, how fast, and whom to tell
    survey: GroupSurvey,
    partitions: Sequence[Partition],
    lane: str,
    stretch: OutboxRange,
    sink: Sink,
    *,
    rate: float,
    clock: Clock,
    tell: Callable[[ReplayTotals], None] = lambda _: None,
    every: float = 5.0,
) -> dict[str, Any]:
    """Send a stretch of a lane's batches; return what became of it.

    ``rate``: batches a second over all partitions, 0 without a limit.

    Cancelled, it ends cleanly and returns where to go on. ``tell`` is called ``every`` so many
    seconds meanwhile. Raises ForwarderError if the outbox cannot be read.
    """
    tally, pace = ReplayTotals(), SendThrottle(rate, clock)
    chosen = [p for p in partitions if stretch.covers(p)]
    replays = [PartitionReplay(partition, lane, sink, tally, clock) for partition in chosen]
    tasks = [
        asyncio.create_task(one.run(read_batches(survey, one.partition, lane, stretch), pace))
        for one in replays
    ]
    try:
        with contextlib.suppress(asyncio.CancelledError):
            await _watch(tasks, lambda: tell(tally), every)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return _document(replays, tally, tasks)


async def _watch(
    tasks: Sequence["asyncio.Task[None]"], tell: Callable[[], None], every: float
) -> None:
    pending = set(tasks)
    while pending:
        done, pending = await asyncio.wait(
            pending, timeout=every, return_when=asyncio.FIRST_EXCEPTION
        )
        if any(not task.cancelled() and task.exception() for task in done):
            return
        tell()


def _document(
    replays: Sequence[PartitionReplay], tally: ReplayTotals, tasks: Sequence["asyncio.Task[None]"]
) -> dict[str, Any]:
    left = [one for one in replays if not one.finished]
    faults = [task.exception() for task in tasks if not task.cancelled()]
    fault = next((str(error) for error in faults if isinstance(error, ForwarderError)), None)
    for error in faults:
        if error is not None and not isinstance(error, ForwarderError):
            raise error
    return {
        "sent": tally.sent,
        "sent_bytes": tally.sent_bytes,
        "refused": tally.refused,
        "last_refusal": tally.refusal or None,
        "complete": not left,
        "error": fault,
        "waiting_for": dict(sorted(tally.trouble.items())),
        "resume": [_place(one.partition, one.resume_at()) for one in left],
    }


def _place(partition: Partition, address: Address) -> str:
    return f"{partition}:{address[0]}.{address[1]}"


async def measure(
    survey: GroupSurvey, partitions: Sequence[Partition], lane: str, stretch: OutboxRange
) -> dict[str, Any]:
    """Count what a replay would send, without sending it."""
    count = size = 0
    times: set[int] = set()
    for partition in partitions:
        async for _, batch in read_batches(survey, partition, lane, stretch):
            count, size = count + 1, size + len(batch.payload)
            times = {min(times | {batch.closed_at}), max(times | {batch.closed_at})}
    oldest, newest = min(times, default=None), max(times, default=None)
    return {"batches": count, "bytes": size, "oldest_ms": oldest, "newest_ms": newest}
