"""``forwarder replay``: send stored batches once more, as deliveries do, touching no cursor.

A lane's :class:`Delivery` does the sending: one put in flight per device, the order of the
outbox, retries with backoff. Its owner here is no partition but a stretch of the outbox that is
fed at a set rate.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import msgspec

from forwarder.admin.contract import Survey
from forwarder.admin.outbox_range import Stretch, batches
from forwarder.deliver.context import Policy
from forwarder.deliver.lane import Delivery
from forwarder.deliver.queue import Queue
from forwarder.errors import ForwarderError, JournalError
from forwarder.model import Address, Batch, Outcome, Partition
from forwarder.ops.reporter import LaneStatus, Reporter
from forwarder.sinks.contract import Sink

QUEUE_BYTES = 8 * 1024 * 1024
"""Payload bytes of one partition that wait for the sink at most."""

LEAVE_SECONDS = 10.0
"""How long puts in flight may take after a stop was asked for."""


class Tally(msgspec.Struct):
    """What became of a replay; ``trouble``: why a partition does not get on, while it does not."""

    sent: int = 0
    sent_bytes: int = 0
    refused: int = 0
    refusal: str = ""
    trouble: dict[str, str] = msgspec.field(default_factory=dict)


class Pace:
    """Lets so many batches pass per second, over all partitions together. 0: no limit."""

    def __init__(self, rate: float) -> None:
        """Let the first pass at once."""
        self._gap = 1 / rate if rate else 0.0
        self._next = 0.0

    async def wait(self) -> None:
        """Return when the next batch may go."""
        now = asyncio.get_running_loop().time()
        due = max(self._next, now)
        self._next = due + self._gap
        await asyncio.sleep(due - now)


class Replay(Reporter):
    """The replay of one partition. Caller: :func:`replay`."""

    def __init__(self, partition: Partition, lane: str, sink: Sink, tally: Tally) -> None:
        """Begin with an empty queue."""
        self.partition = partition
        self.finished = False
        self._next: Address = (0, 0)
        self._tally = tally
        self._moved = asyncio.Event()
        self._fault: JournalError | None = None
        self._queue = Queue((0, 0), (), (0, 0), QUEUE_BYTES, in_order=sink.in_order)
        policy = Policy(lane, str(partition), active=True, deliver_from_ms=None, rereads=False)
        self._delivery = Delivery(policy, self._queue, sink, self, self, random.random)

    async def run(self, stored: AsyncIterator[tuple[Address, Batch]], pace: Pace) -> None:
        """Send everything; cancelled, it starts no more and waits for what is on its way."""
        try:
            async for address, batch in stored:
                self._next = address
                await self._until_room(batch)
                await pace.wait()
                self._delivery.join([(address, batch)])
                self._next = (address[0], address[1] + 1)
            while not self._delivery.idle():
                await self._until_moved()
            self.finished = True
        finally:
            self._delivery.hold()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LEAVE_SECONDS):
                    await self._delivery.settled()
            await self._delivery.stop()

    def resume_at(self) -> Address:
        """Return from where on a later replay has to send."""
        return self._queue.snapshot(self._next)[0]

    async def _until_room(self, batch: Batch) -> None:
        queue = self._queue
        while len(queue) and queue.waiting_bytes + len(batch.payload) > queue.capacity:
            await self._until_moved()

    async def _until_moved(self) -> None:
        self._moved.clear()
        if self._fault is None:
            await self._moved.wait()
        if self._fault is not None:
            raise self._fault

    # ------------------------------------------------------------------ what the delivery asks

    def may_put(self) -> bool:
        """Allow it: there is no lease to hold, since no cursor is moved."""
        return True

    def committed_end(self) -> Address:
        """Return an end that asks for no read-back: every batch is handed over."""
        return (0, 0)

    def read_back(self, lane: str) -> None:
        """Refuse: nothing is ever left to be read back."""
        msg = f"a replay of {lane} was to read back"
        raise RuntimeError(msg)

    def acknowledged(self) -> None:
        """Look again at what has room and what is done."""
        self._moved.set()

    def refused(self, batch: Batch, outcome: Outcome) -> None:
        """Count a batch that the destination does not take."""
        self._tally.refused += 1
        self._tally.refusal = f"{batch.id}: {outcome.code}: {outcome.error}"

    def journal_failed(self, error: JournalError) -> None:
        """End this partition's replay: a put of it went wrong in a way nobody foresaw."""
        self._fault = error
        self._moved.set()

    # ------------------------------------------------------------------ what the delivery reports

    def delivered(self, lane: str, batches: Sequence[Batch]) -> None:  # noqa: ARG002  # one lane
        """Count what arrived."""
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
        """Remember why a partition does not get on."""
        if reason:
            self._tally.trouble[partition] = f"{status}: {reason}"
        else:
            self._tally.trouble.pop(partition, None)


async def replay(  # noqa: PLR0913  # what to send, where to, how fast, and whom to tell
    survey: Survey,
    partitions: Sequence[Partition],
    lane: str,
    stretch: Stretch,
    sink: Sink,
    *,
    rate: float,
    tell: Callable[[Tally], None] = lambda _: None,
    every: float = 5.0,
) -> dict[str, Any]:
    """Send a stretch of a lane's batches; return what became of it.

    Cancelled, it ends cleanly and returns where to go on. ``tell`` is called ``every`` so many
    seconds meanwhile. Raises ForwarderError if the outbox cannot be read.
    """
    tally, pace = Tally(), Pace(rate)
    chosen = [p for p in partitions if stretch.covers(p)]
    replays = [Replay(partition, lane, sink, tally) for partition in chosen]
    tasks = [
        asyncio.create_task(one.run(batches(survey, one.partition, lane, stretch), pace))
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
    replays: Sequence[Replay], tally: Tally, tasks: Sequence["asyncio.Task[None]"]
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
    survey: Survey, partitions: Sequence[Partition], lane: str, stretch: Stretch
) -> dict[str, Any]:
    """Count what a replay would send, without sending it."""
    count = size = 0
    times: set[int] = set()
    for partition in partitions:
        async for _, batch in batches(survey, partition, lane, stretch):
            count, size = count + 1, size + len(batch.payload)
            times = {min(times | {batch.closed_at}), max(times | {batch.closed_at})}
    oldest, newest = min(times, default=None), max(times, default=None)
    return {"batches": count, "bytes": size, "oldest_ms": oldest, "newest_ms": newest}
