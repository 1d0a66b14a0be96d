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
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from forwarder.clock import Clock
from forwarder.errors import ForwarderError
from forwarder.gateway.waiting import (
    KafkaTrouble,
    PartitionQueue,
    ProduceFault,
    Submission,
    WaitingRecord,
)
from forwarder.kafka.idempotent import (
    BATCH_BYTES,
    BATCH_OVERHEAD_BYTES,
    RECORD_OVERHEAD_BYTES,
    OutgoingRecord,
    ProduceError,
)
from forwarder.ops.gateway_reporter import GatewayReporter
from forwarder.retry import PRODUCE_REFUSED, REOPEN

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


CUT_OFF = KafkaTrouble("Kafka does not answer", "start the brokers that are down")
"""Until it is known better."""


NOT_YET = KafkaTrouble("not connected to Kafka yet", "")

FIRST_SECONDS = 2.0
"""How long readiness waits for the first connection to be made, or not: no failure yet."""


class EventProducer:
    """Stores records in Kafka. Callers: the APIs, for each request; the gateway, once.

    A producer of which a partition took nothing is replaced: the other partitions go on with it
    until the next one is there.
    """

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
        self._queues: dict[tuple[str, int], PartitionQueue] = {}
        self._writer: RecordWriter | None = None
        self._known: RecordWriter | None = None  # the last that was there: it knows the topics
        self._current = asyncio.Event()  # set while the writer serves every partition
        self._broken = asyncio.Event()
        self._broken_at = 0.0
        self._stored_at = 0.0
        self._failure: KafkaTrouble | None = NOT_YET
        self._tried = asyncio.Event()  # set once it is known whether the first one connects
        self._closing: set[asyncio.Task[None]] = set()

    # ------------------------------------------------------------------ for readiness

    async def check(self) -> None:
        """Return if records are stored; raises ProduceError. Caller: readiness."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._tried.wait(), FIRST_SECONDS)
        if (trouble := self.trouble) is not None:
            raise ProduceError(trouble.reason, trouble.remedy)

    @property
    def trouble(self) -> KafkaTrouble | None:
        """Return why records are not stored just now, None while some are.

        One partition of many that takes nothing is none: its records are answered for, and who
        takes a gateway out of service for that takes all of them.
        """
        now = self._clock.steady()
        if self._is_cut_off(now):
            return self._failure or CUT_OFF
        refusing = (
            queue
            for queue in self._queues.values()
            if now < queue.refused_until and queue.refused_at >= self._stored_at
        )
        return next((queue.trouble for queue in refusing), None)

    def _is_cut_off(self, now: float) -> bool:
        """Tell whether nothing has been stored for longer than it takes to connect again."""
        if self._current.is_set():
            return False
        return self._known is None or (
            now - max(self._broken_at, self._stored_at) >= PATIENCE_SECONDS
        )

    # ------------------------------------------------------------------ for the APIs

    async def available(self) -> bool:
        """Tell whether records are taken; waits a little for a connection that is being made."""
        if not self._is_cut_off(self._clock.steady()):
            return True
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._current.wait()
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
                queue = self._queues[topic, number] = PartitionQueue(topic, number)
            entry = WaitingRecord(record, sizes[index], now, submission, index)
            if now < queue.refused_until:
                self._settle([entry], ProduceFault.UNAVAILABLE)
                continue
            queue.waiting.append(entry)
            self._start_sending(queue)

    # ------------------------------------------------------------------ a partition

    def _start_sending(self, queue: PartitionQueue) -> None:
        """Have what waits for a partition sent, unless that is so already, or cannot be yet."""
        writer = self._writer
        if queue.waiting and queue.sender is None and writer is not None and not queue.spoiled:
            queue.sender = asyncio.ensure_future(self._send(queue, writer))

    async def _send(self, queue: PartitionQueue, writer: RecordWriter) -> None:
        """Send what waits for a partition, batch after batch, until nothing waits."""
        while queue.waiting and writer is self._writer:
            batch = queue.take(writer.limit(queue.topic))
            began = self._clock.steady()
            try:
                await writer.send(queue.topic, queue.number, batch)
            except ProduceError as error:
                self._unsent(queue, error)
            except Exception as error:  # noqa: BLE001  # the partition has to go on, whatever it was
                self._unsent(queue, _unforeseen(error))
            else:
                self._stored(queue, began)
                continue
            if writer is self._writer:
                queue.spoiled = True
                self._break()
            break
        queue.sender = None
        self._start_sending(queue)  # by the next writer, if it came meanwhile

    def _stored(self, queue: PartitionQueue, began: float) -> None:
        sent, queue.sending = queue.sending, []
        if sent:  # else it was too late
            self._stored_at = self._clock.steady()
            size = sum([entry.size for entry in sent])
            self._reporter.appended(queue.topic, len(sent), size, self._stored_at - began)
            self._settle(sent, None)
            queue.refusals = 0

    def _unsent(self, queue: PartitionQueue, error: ProduceError) -> None:
        """Let what may be tried again wait for the next producer, in its order."""
        sent, queue.sending = queue.sending, []
        if error.again:
            queue.waiting.extendleft(reversed(sent))
            return
        self._settle(sent, ProduceFault.UNAVAILABLE)
        if not error.too_large:
            self._refuse(queue, error)

    def _refuse(self, queue: PartitionQueue, error: ProduceError) -> None:
        """Take no more for a partition for a while; what waits for it fails."""
        pause = PRODUCE_REFUSED.delay(queue.refusals, random.random())  # noqa: S311  # spreads tries
        queue.refusals += 1
        queue.refused_at = self._clock.steady()
        queue.refused_until = queue.refused_at + pause
        queue.trouble = KafkaTrouble(error.what, error.remedy)
        self._settle(queue.waiting, ProduceFault.UNAVAILABLE)
        queue.waiting.clear()
        self._reporter.producer_failed(error.what, error.remedy)

    def _settle(self, entries: Iterable[WaitingRecord], fault: ProduceFault | None) -> None:
        for entry in entries:
            self._memory.give_back(entry.size)
            entry.submission.settle(entry.place, fault)

    # ------------------------------------------------------------------ the connection

    async def run(self) -> None:
        """Keep a producer connected until cancelled. Caller: the gateway, in a task of its own."""
        beside = [asyncio.ensure_future(one) for one in (self._expire_often(), self._ask_often())]
        attempt = 0
        try:
            while True:
                attempt += 1
                if await self._replace():
                    began = self._clock.steady()
                    await self._broken.wait()
                    if self._stored_at > began:
                        attempt = 0
                if attempt:
                    await asyncio.sleep(REOPEN.delay(attempt, random.random()))  # noqa: S311  # as above
        finally:
            for task in beside:
                task.cancel()
            await self._end()

    def _break(self) -> None:
        """Note that the writer has to be replaced."""
        if not self._broken.is_set():
            self._broken_at = self._clock.steady()
            self._current.clear()
            self._broken.set()

    async def _replace(self) -> bool:
        """Connect, and let the new writer take over; False: what is there stays as it is."""
        try:
            writer = self._connect()
        except ForwarderError as error:  # of certificates
            self._failed(error)
            return False
        try:
            await writer.start()
        except BaseException as error:
            self._close(writer)
            if not isinstance(error, ProduceError):
                raise
            self._failed(error)
            return False
        former, self._writer = self._writer, None
        if former is not None:
            await self._settled()
            self._close(former)  # what is under way still fails with that, and waits once more
        self._known = self._writer = writer
        self._failure = None
        self._broken.clear()
        self._current.set()
        self._tried.set()
        self._reporter.producer_started()
        for queue in self._queues.values():
            queue.spoiled = False
            self._start_sending(queue)
        return True

    def _failed(self, error: ForwarderError) -> None:
        self._failure = KafkaTrouble(error.what, error.remedy)
        self._tried.set()
        self._reporter.producer_failed(error.what, error.remedy)

    async def _settled(self) -> None:
        """Let the batches of partitions end, but not for long, and of spoiled ones not at all."""
        queues = [queue for queue in self._queues.values() if not queue.spoiled]
        senders = [queue.sender for queue in queues if queue.sender is not None]
        if senders:
            await asyncio.wait(senders, timeout=SETTLE_SECONDS)

    def _close(self, writer: RecordWriter) -> None:
        """Give a writer up, and wait for that at the end alone: it may take its time."""
        closing = asyncio.ensure_future(writer.close())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def _end(self) -> None:
        """Give up; what waits fails."""
        self._break()
        writer, self._writer = self._writer, None
        await self._settled()
        if writer is not None:
            self._close(writer)
        if self._closing:
            await asyncio.wait(self._closing)
        await self._settled()  # what was under way has failed with that
        for queue in self._queues.values():
            for entries in (queue.sending, queue.waiting):
                self._settle(entries, ProduceFault.UNAVAILABLE)
                entries.clear()

    # ------------------------------------------------------------------ beside it

    async def _ask_often(self) -> None:
        """Ask for the limits of the topics now and then."""
        while True:
            await asyncio.sleep(LIMITS_SECONDS)
            if self._writer is not None:
                with contextlib.suppress(ProduceError):  # who sends finds out, and says so
                    await self._writer.ask_limits()

    async def _expire_often(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self._expire(self._clock.steady())

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
                queue.spoiled = True
                self._break()
            while queue.waiting and queue.waiting[0].at <= patience:
                self._settle([queue.waiting.popleft()], ProduceFault.UNAVAILABLE)
        writer = self._writer
        if writer is None:
            return
        if writer.ended:
            self._break()
        if not self._current.is_set() and (
            self._is_cut_off(now) or now - self._broken_at >= ANSWER_SECONDS
        ):
            self._writer = None
            self._close(writer)  # so that nothing is stored long after it was answered as failed


def _unforeseen(error: Exception) -> ProduceError:
    failure = ProduceError(f"an unforeseen {type(error).__name__}: {error}")
    failure.again = False
    return failure
