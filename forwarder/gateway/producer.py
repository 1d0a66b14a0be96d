"""What waits for Kafka: records of all requests, batched by partition, answered once stored.

A partition has one batch under way; what comes meanwhile waits and goes with the next, so that
records of one key are stored in the order in which they were submitted. A record waits for
``ANSWER_SECONDS`` at most and, while there is no connection to Kafka, for ``PATIENCE_SECONDS``;
then whoever waits is told that it failed, and a client sends it again. A batch that was under way
by then is given up with its producer and may still be stored: the worker drops the second one
(``kafka.topics.duplicates``). Nothing else that was answered as failed is stored later.
"""

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol

from forwarder.clock import Clock
from forwarder.errors import ForwarderError
from forwarder.kafka.idempotent import (
    BATCH_BYTES,
    BATCH_OVERHEAD_BYTES,
    RECORD_OVERHEAD_BYTES,
    OutgoingRecord,
    ProduceError,
)
from forwarder.ops.gateway_reporter import GatewayReporter
from forwarder.retry import REOPEN, Backoff

ANSWER_SECONDS = 15.0
"""How long a record may wait while Kafka is connected: a broker that died is noticed after 9 s
(``broker.session.timeout.ms``), and its partitions have other leaders a second later."""

PATIENCE_SECONDS = 1.0
"""How long a record may wait while Kafka is not connected."""

SETTLE_SECONDS = 1.0
"""How long the other partitions may take to end their batches before a producer is given up."""

LOOK_SECONDS = 0.25
"""Between two looks at what has waited too long."""

LIMITS_SECONDS = 60.0
"""Between two questions for the limits of the topics."""

REFUSING = Backoff(base=1.0, cap=30.0, floor=0.5)
"""A partition that took nothing: until the next record is tried on it."""


class RecordWriter(Protocol):
    """One connection to Kafka: ``kafka.idempotent.IdempotentProducer``. Raises ProduceError."""

    @property
    def ended(self) -> bool:
        """Tell whether nothing will be sent any more, nor anybody told."""

    async def start(self) -> None:
        """Connect; called once, first."""

    async def ask_limits(self) -> None:
        """Ask again what the topics take."""

    def limit(self, topic: str) -> int:
        """Return how many bytes a batch of the topic may have."""

    def partition(self, topic: str, key: bytes) -> int:
        """Return the partition of a key."""

    async def send(self, topic: str, number: int, records: Sequence[OutgoingRecord]) -> None:
        """Append a batch; returns once it is stored."""

    async def close(self) -> None:
        """Give up what is under way; raises nothing."""


class SharedMemory(Protocol):
    """Bytes that all requests together may hold (``limits.buffered_bytes``)."""

    def take(self, count: int) -> bool:
        """Count bytes that are held from now on; False: there is no room, nothing is counted."""

    def give_back(self, count: int) -> None:
        """Count bytes that are held no more."""


class ProduceFault(StrEnum):
    """Why a record was not stored."""

    FULL = "full"
    """Too much waits already."""
    UNAVAILABLE = "unavailable"
    """Kafka did not take it in time."""


class Submission:
    """Records that belong together; ``faults`` has one entry for each, None: stored, or not yet."""

    __slots__ = ("_future", "_left", "faults")

    def __init__(self, count: int) -> None:
        self.faults: list[ProduceFault | None] = [None] * count
        self._left = count
        self._future: asyncio.Future[None] | None = None

    def settle(self, index: int, fault: ProduceFault | None) -> None:
        """Note what became of a record; once for each. Caller: the producer."""
        self.faults[index] = fault
        self._left -= 1
        if not self._left and self._future is not None and not self._future.done():
            self._future.set_result(None)

    async def settled(self) -> Sequence[ProduceFault | None]:
        """Wait until it is known what became of every record; return ``faults``."""
        if self._left:
            self._future = asyncio.get_running_loop().create_future()
            await self._future
        return self.faults


class KafkaTrouble(NamedTuple):
    """Why Kafka takes nothing, and what to do."""

    reason: str
    remedy: str


CUT_OFF = KafkaTrouble("Kafka does not answer", "start the brokers that are down")
"""Until it is known better."""


class _Entry(NamedTuple):
    record: OutgoingRecord
    size: int
    at: float
    submission: Submission
    place: int


class _PartitionQueue:
    """What waits for one partition, and the batch that is under way."""

    def __init__(self, topic: str, number: int) -> None:
        self.topic = topic
        self.number = number
        self.waiting: deque[_Entry] = deque()
        self.sending: list[_Entry] = []
        self.sender: asyncio.Task[None] | None = None
        self.refused_until = 0.0
        self.refusals = 0
        self.trouble: KafkaTrouble | None = None

    def take(self, limit: int) -> list[OutgoingRecord]:
        """Put what goes into one batch of so many bytes under way."""
        entry = self.waiting.popleft()
        self.sending = [entry]
        room = min(limit, BATCH_BYTES) - BATCH_OVERHEAD_BYTES - entry.size
        while self.waiting and (room := room - self.waiting[0].size) >= 0:
            self.sending.append(self.waiting.popleft())
        return [entry.record for entry in self.sending]


class EventProducer:
    """Stores records in Kafka. Callers: the APIs, for each request; the gateway, once."""

    def __init__(
        self,
        connect: Callable[[], RecordWriter],
        memory: SharedMemory,
        clock: Clock,
        reporter: GatewayReporter,
    ) -> None:
        """Prepare; ``run`` connects. ``connect`` makes a writer, again after each failure."""
        self._connect = connect
        self._memory = memory
        self._clock = clock
        self._reporter = reporter
        self._queues: dict[tuple[str, int], _PartitionQueue] = {}
        self._known: RecordWriter | None = None  # the last that was connected: it knows the topics
        self._writer: RecordWriter | None = None
        self._connected = asyncio.Event()
        self._broken = asyncio.Event()
        self._idle = True  # the present connection has stored nothing yet
        self._left_at = 0.0
        self._failure: KafkaTrouble | None = KafkaTrouble("not connected to Kafka yet", "")

    async def check(self) -> None:
        """Return if records are stored; raises ProduceError. Caller: readiness."""
        if (trouble := self.trouble) is not None:
            raise ProduceError(trouble.reason, trouble.remedy)

    # ------------------------------------------------------------------ for the APIs

    async def available(self) -> bool:
        """Tell whether records are taken; waits a little for a connection that is being made."""
        if self._connected.is_set():
            return True
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._connected.wait()
        except TimeoutError:
            return False
        return True

    def room(self, topic: str, key: bytes) -> int:
        """Return how many bytes the value of a record with this key may have."""
        limit = self._known.limit(topic) if self._known else BATCH_BYTES
        return limit - BATCH_OVERHEAD_BYTES - RECORD_OVERHEAD_BYTES - len(key)

    def submit(self, topic: str, records: Sequence[OutgoingRecord]) -> Submission:
        """Take records to be stored, those of one key in this order, each within ``room``.

        They wait behind what was submitted before. All are refused where they pass the buffer.
        """
        submission = Submission(len(records))
        sizes = [len(key) + len(value) + RECORD_OVERHEAD_BYTES for key, value in records]
        fault = ProduceFault.UNAVAILABLE
        if self._known is not None:
            if self._memory.take(sum(sizes)):
                self._enqueue(self._known, topic, records, sizes, submission)
                return submission
            fault = ProduceFault.FULL
        for index in range(len(records)):
            submission.settle(index, fault)
        return submission

    @property
    def trouble(self) -> KafkaTrouble | None:
        """Return why records are not stored just now, None while they are."""
        now = self._clock.steady()
        if self._failure is not None or self._is_cut_off(now):
            return self._failure or CUT_OFF
        refusing = (queue for queue in self._queues.values() if now < queue.refused_until)
        return next((queue.trouble for queue in refusing), None)

    def _enqueue(
        self,
        known: RecordWriter,
        topic: str,
        records: Sequence[OutgoingRecord],
        sizes: Sequence[int],
        submission: Submission,
    ) -> None:
        now = self._clock.steady()
        for index, record in enumerate(records):
            number = known.partition(topic, record[0])
            queue = self._queues.get((topic, number))
            if queue is None:
                queue = self._queues[topic, number] = _PartitionQueue(topic, number)
            entry = _Entry(record, sizes[index], now, submission, index)
            if now < queue.refused_until:
                self._settle([entry], ProduceFault.UNAVAILABLE)
                continue
            queue.waiting.append(entry)
            if queue.sender is None and self._writer is not None:
                queue.sender = asyncio.ensure_future(self._send(queue, self._writer))

    def _settle(self, entries: Iterable[_Entry], fault: ProduceFault | None) -> None:
        for entry in entries:
            self._memory.give_back(entry.size)
            entry.submission.settle(entry.place, fault)

    # ------------------------------------------------------------------ a partition

    async def _send(self, queue: _PartitionQueue, writer: RecordWriter) -> None:
        """Send what waits for a partition, batch after batch, until nothing waits."""
        while queue.waiting and writer is self._writer and not self._broken.is_set():
            batch = queue.take(writer.limit(queue.topic))
            began = self._clock.steady()
            try:
                await writer.send(queue.topic, queue.number, batch)
            except ProduceError as error:
                self._unsent(queue, error)
                if writer is self._writer:
                    self._broken.set()
                break
            self._stored(queue, self._clock.steady() - began)
        queue.sender = None

    def _stored(self, queue: _PartitionQueue, seconds: float) -> None:
        sent, queue.sending = queue.sending, []
        if sent:  # else it was too late
            size = sum([entry.size for entry in sent])
            self._reporter.appended(queue.topic, len(sent), size, seconds)
            self._settle(sent, None)
            self._idle, queue.refusals = False, 0

    def _unsent(self, queue: _PartitionQueue, error: ProduceError) -> None:
        """Let what may be tried again wait for the next producer, in its order."""
        sent, queue.sending = queue.sending, []
        if error.again:
            queue.waiting.extendleft(reversed(sent))
            return
        self._settle(sent, ProduceFault.UNAVAILABLE)
        if not error.too_large:
            self._refuse(queue, error)

    def _refuse(self, queue: _PartitionQueue, error: ProduceError) -> None:
        """Take no more for a partition for a while; what waits for it fails."""
        pause = REFUSING.delay(queue.refusals, random.random())  # noqa: S311  # spreads tries
        queue.refusals += 1
        queue.refused_until = self._clock.steady() + pause
        queue.trouble = KafkaTrouble(error.what, error.remedy)
        self._settle(queue.waiting, ProduceFault.UNAVAILABLE)
        queue.waiting.clear()
        self._reporter.producer_failed(error.what, error.remedy)

    # ------------------------------------------------------------------ the connection

    async def run(self) -> None:
        """Keep a producer connected until cancelled. Caller: the gateway, in a task of its own."""
        looking = asyncio.ensure_future(self._look())
        attempt = 0
        try:
            while True:
                self._idle = True
                try:
                    await self._use(self._connect())
                except ForwarderError as error:  # StartupError as well: of certificates
                    self._failure = KafkaTrouble(error.what, error.remedy)
                    self._reporter.producer_failed(error.what, error.remedy)
                if not self._idle:
                    attempt = 0
                    continue
                await asyncio.sleep(REOPEN.delay(attempt, random.random()))  # noqa: S311  # as above
                attempt += 1
        finally:
            looking.cancel()

    async def _use(self, writer: RecordWriter) -> None:
        """Send with a writer until it is good for nothing any more; raises ProduceError."""
        try:
            await writer.start()
            self._known = self._writer = writer
            self._failure = None
            self._broken.clear()
            self._connected.set()
            self._reporter.producer_started()
            for queue in self._queues.values():
                if queue.waiting and queue.sender is None:
                    queue.sender = asyncio.ensure_future(self._send(queue, writer))
            await self._broken.wait()
        finally:
            await self._leave(writer)

    async def _leave(self, writer: RecordWriter) -> None:
        """Let the batches of other partitions end, then close; what fails waits for the next."""
        self._writer = None
        if self._connected.is_set():
            self._connected.clear()
            self._left_at = self._clock.steady()
        for _ in range(2):
            senders = [queue.sender for queue in self._queues.values() if queue.sender is not None]
            if senders:
                await asyncio.wait(senders, timeout=SETTLE_SECONDS)
            await writer.close()  # its second time changes nothing

    async def _look(self) -> None:
        """Fail what has waited too long, and ask for the limits now and then."""
        asked = self._clock.steady()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            now = self._clock.steady()
            self._expire(now)
            if now - asked >= LIMITS_SECONDS and (writer := self._writer) is not None:
                asked = now
                with contextlib.suppress(ProduceError):  # who sends finds out, and says so
                    await writer.ask_limits()

    def _expire(self, now: float) -> None:
        """Fail what has waited too long; what is under way for too long ends its producer."""
        since = now - ANSWER_SECONDS
        patience = now - PATIENCE_SECONDS if self._is_cut_off(now) else since
        for queue in self._queues.values():
            if queue.sending and queue.sending[0].at <= since:
                overdue, queue.sending = queue.sending, []
                self._settle(overdue, ProduceFault.UNAVAILABLE)
                text = f"{queue.topic}/{queue.number} has not taken a batch in time"
                self._refuse(queue, ProduceError(text))
                self._broken.set()
            while queue.waiting and queue.waiting[0].at <= patience:
                self._settle([queue.waiting.popleft()], ProduceFault.UNAVAILABLE)
        if self._writer is not None and self._writer.ended:
            self._broken.set()

    def _is_cut_off(self, now: float) -> bool:
        """Tell whether there is no connection for longer than it takes to make one."""
        return not self._connected.is_set() and now - self._left_at >= PATIENCE_SECONDS
