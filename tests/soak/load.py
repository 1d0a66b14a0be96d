"""The load of a soak: made and sent as it falls due, each record until Kafka has confirmed it."""

import asyncio
import heapq
import random
import time
from collections import Counter
from collections.abc import Iterator
from operator import itemgetter
from typing import Any, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from tests.conservation import digest
from tests.traffic import odd, poison, traffic

SLICE = 0.1
"""Seconds of load sent at once."""

GIVES_UP = 180_000
"""Milliseconds after which the producer fails a record; far above what a broker is away."""

MOST_WAITING = 20_000
"""Records made and not confirmed, after which no more are made: the broker is away."""

Row = tuple[int, bytes, bytes]
"""(due in milliseconds of wall-clock time, key, value)."""


class Load(NamedTuple):
    """What will be sent, in order of time; ``reasons`` are those of broken records, by value."""

    rows: Iterator[Row]
    reasons: dict[bytes, str]


BROKEN = 0.2
"""Records a second that are no uploads."""

ODD = 2.0
"""Records a second that are uploads, though such as programs break on."""


RETRY_MS = 30_000
"""Within how long a client that sends an upload again does so."""


def make(  # noqa: PLR0913  # what the load is like, each once
    seed: int,
    devices: int,
    rate: float,
    seconds: float,
    *,
    plain: bool = False,
    retries: float = 0.0,
) -> Load:
    """Return the load of ``seconds`` from now on; it is made while it is taken.

    ``plain``: only what programs before the keying rule ``device-2`` understood as today's does.
    ``retries``: per cent of the uploads that clients send once more.
    """
    start, span = time.time_ns() // 1_000_000, round(seconds * 1000)
    events = round(rate * seconds)
    uploads: Iterator[Row] = (
        (upload.timestamp_ms, upload.key, upload.value)
        for upload in traffic(seed, devices, events, start, span, plain=plain)
    )
    if retries:
        uploads = sent_again(uploads, retries / 100, random.Random(seed))  # noqa: S311  # a load
    # Told apart by trailing blanks, so that every broken record has bytes of its own.
    malformed = [
        (one.timestamp_ms, one.key, one.value + b" " * i, one.reason)
        for i, one in enumerate(poison(seed, round(BROKEN * seconds), start, span, plain=plain))
    ]
    strange = strangers(seed, 0.0 if plain else ODD, start, span)
    rows = heapq.merge(uploads, strange, (one[:3] for one in malformed), key=itemgetter(0))
    return Load(rows, {value: reason for *_, value, reason in malformed})


def sent_again(rows: Iterator[Row], share: float, rnd: random.Random) -> Iterator[Row]:
    """Yield rows, and some of them once more a little later, as a client without an answer does."""
    waiting: list[Row] = []
    for row in rows:
        while waiting and waiting[0][0] <= row[0]:
            yield heapq.heappop(waiting)
        yield row
        while rnd.random() < share:
            heapq.heappush(waiting, (row[0] + rnd.randrange(RETRY_MS), row[1], row[2]))
    yield from sorted(waiting)


def strangers(seed: int, rate: float, start: int, span: int) -> Iterator[Row]:
    """Yield odd uploads, so many a second; ``start`` and ``span`` in milliseconds."""
    for one in odd(seed, round(rate * span / 1000), start, span):
        yield one.timestamp_ms, one.key, one.value


class Producer:
    """Sends the load; an outage of the broker delays it and loses none of it."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        """Prepare; ``sent`` counts the digests of the values that Kafka confirmed."""
        self.sent: Counter[bytes] = Counter()
        self.again = 0
        self.latest = 0.0
        self._bootstrap = bootstrap
        self._topic = topic
        self._waiting: set[asyncio.Future[Any]] = set()
        self._failed: list[Row] = []
        self._room = asyncio.Event()
        self._over = False

    async def send(self, load: Load) -> None:
        """Send records as they fall due until told to stop; returns when all are confirmed."""
        async with self._connected() as producer:
            due: list[Row] = []
            until = time.time() + SLICE
            for row in load.rows:
                if self._over:
                    break
                while row[0] / 1000 > until:
                    await self._slice(producer, due, until)
                    due = []
                    until += SLICE
                due.append(row)
            await self._slice(producer, due, until)
            await self._rest(producer)

    def stop(self) -> None:
        """Make no more of the load."""
        self._over = True

    def _connected(self) -> Any:  # noqa: ANN401  # the library is not typed
        return AIOKafkaProducer(
            bootstrap_servers=self._bootstrap,
            enable_idempotence=True,
            request_timeout_ms=GIVES_UP,
            retry_backoff_ms=200,
            metadata_max_age_ms=5_000,
            linger_ms=5,
        )

    async def _slice(self, producer: Any, rows: list[Row], until: float) -> None:  # noqa: ANN401
        await asyncio.sleep(until - time.time())
        self.latest = max(self.latest, time.time() - until)
        await self._put(producer, rows)
        self._room.clear()
        if len(self._waiting) > MOST_WAITING:
            await self._room.wait()

    async def _put(self, producer: Any, rows: list[Row]) -> None:  # noqa: ANN401
        for row in rows:
            try:
                future = await producer.send(self._topic, row[2], row[1])
            except KafkaError:
                self._failed.append(row)
                continue
            self._waiting.add(future)
            future.add_done_callback(lambda done, row=row: self._settled(done, row))

    def _settled(self, done: "asyncio.Future[Any]", row: Row) -> None:
        self._waiting.discard(done)
        self._room.set()
        if done.cancelled() or done.exception() is not None:
            self._failed.append(row)
        else:
            self.sent[digest(row[2])] += 1

    async def _rest(self, producer: Any) -> None:  # noqa: ANN401
        """Wait for what is under way, and send again what failed until it is confirmed."""
        while self._waiting or self._failed:
            again, self._failed = self._failed, []
            self.again += len(again)
            await self._put(producer, again)
            await asyncio.sleep(SLICE)
