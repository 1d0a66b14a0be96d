"""``python -m tests.bench.restore``: what a crash costs, and what a base costs, on a real broker.

Two crashes of one partition, each before the next base: with sessions open for hours, and with
windows of ten minutes under full load. Measured: the base with everything in it, the opening,
the replay up to where the crash was, and the longest time for which the loop stood still.
"""

import argparse
import asyncio
import logging
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from forwarder.clock import SystemClock
from forwarder.config.connection import Batching, Connection, Settings
from forwarder.config.targets import FileTarget
from forwarder.journal.contract import Committed, Restored, Take, Tick
from forwarder.journal.kafka import KafkaJournal, KafkaJournals
from forwarder.kafka import patches
from forwarder.model import DELIVERED, Batch, Outcome, Partition
from forwarder.sinks.requests import SHARD
from forwarder.worker import memory
from forwarder.worker.context import PartitionLimits, TickPolicy, WorkerContext
from forwarder.worker.opening import PartitionOpening
from forwarder.worker.partition import OpenPartition
from tests import doubles
from tests.builders import Rec, lane_set
from tests.lanes import deliver_context
from tests.services.kafka import Broker
from tests.services.kafka_world import World

MIB = 1024 * 1024
MINUTE = 60_000
HOUR = 60 * MINUTE
POLL = 500
NEVER = 1e9
BASE_SECONDS = 300.0
UNDERWAY = 8
"""Batches of input sent at a time."""

LANE = "acme"


class Load(NamedTuple):
    """Uploads of one event and about 1 KB, ``noise`` bytes of it random; the devices take turns."""

    name: str
    events: int
    devices: int
    span_ms: int
    sessions: bool
    noise: int

    def records(self) -> Iterator[Rec]:
        """Yield the records in order, the last one a minute ago."""
        begin = int(time.time() * 1000) - self.span_ms - MINUTE
        pool = random.Random(7).randbytes(4 * MIB).hex().encode()  # noqa: S311  # repeatable
        before, after = _template()
        for number in range(self.events):
            device = number * 7919 % self.devices
            at = number * 10_007 % (len(pool) - self.noise)
            trace = pool[at : at + self.noise]
            value = before % (device, device, device) + after % (number, number, trace)
            yield Rec(number, begin + self.span_ms * number // self.events, value)

    def connection(self) -> Connection:
        """Return the connection that holds the windows."""
        batching = Batching(
            max_events=100_000,
            session_timeout_ms=HOUR,
            session_max_ms=24 * HOUR,
        )
        settings = Settings(wait_for_complete_batch=self.sessions)
        return Connection(LANE, FileTarget("none"), settings=settings, batching=batching)


def _template() -> tuple[bytes, bytes]:
    before = (
        b'{"mpid":1%012d,"mp_deviceid":"9d1f2c3a-5e6f-4a7b-8c9d-%012d","environment":"production",'
        b'"api_key":"us1-0123456789abcdef","application_info":{"package":"com.acme.shop",'
        b'"application_version":"7.4.1"},"device_info":{"platform":"iOS","brand":"iPhone16,2",'
        b'"os_version":"18.1"},"user_attributes":{"plan":"plus","visits":12,"newsletter":true},'
        b'"user_identities":{"customer_id":"customer-1","email":"user@example.com"},'
        b'"schema_version":2,"events":[{"event_type":"custom_event","data":{'
        b'"session_uuid":"5c1d8c1e-7a40-4a1b-9a55-%012d",'
    )
    after = (
        b'"event_id":"%012d","source_message_id":"7a1f4d2c-0000-4000-8000-%012d",'
        b'"session_id":-4512374659812374651,"timestamp_unixtime_ms":1700000000000,'
        b'"event_name":"Add Filter","custom_event_type":"navigation","custom_attributes":'
        b'{"screen":"Home","position":"5","trace":"%b","referrer":"https://shop.example/list?page=2'
        b'","campaign":"spring","experiment":"checkout-b"}}}]}'
    )
    return before, after


class Heart:
    """Beats every millisecond: the longest pause is the longest stall of the loop.

    Also in CPU seconds of the loop's thread, for others may use the machine meanwhile.
    """

    def __init__(self) -> None:
        self.longest = self.longest_cpu = 0.0
        self.begun, self.begun_cpu = time.perf_counter(), time.thread_time()
        self._task = asyncio.create_task(self._beat())

    async def _beat(self) -> None:
        while True:
            begun, begun_cpu = time.perf_counter(), time.thread_time()
            await asyncio.sleep(0.001)
            self.longest = max(self.longest, time.perf_counter() - begun - 0.001)
            self.longest_cpu = max(self.longest_cpu, time.thread_time() - begun_cpu)

    def stop(self) -> tuple[str, str]:
        """Return the seconds passed and the longest stall in ms, each with its CPU time."""
        self._task.cancel()
        wall, cpu = time.perf_counter() - self.begun, time.thread_time() - self.begun_cpu
        stall = f"{self.longest * 1000:.0f} ({self.longest_cpu * 1000:.0f})"
        return f"{wall:.1f} ({cpu:.1f})", stall


class Sink:
    """Takes everything at once."""

    max_batches = 500
    max_bytes = 5 * MIB
    in_order = False
    throughput = SHARD

    async def put(self, batches: Sequence[Batch]) -> Sequence[Outcome]:
        """Deliver."""
        return [DELIVERED] * len(batches)

    async def close(self) -> None:
        """Hold nothing."""


class Journal(KafkaJournal):
    """A journal that notes what is written and read, and how long a commit took."""

    watch: "Journals"

    async def open(self, take: Take | None = None) -> Restored:
        """Open, counting the state."""
        assert take is not None

        def counted(offset: int, value: bytes) -> None:
            self.watch.read += len(value)
            take(offset, value)

        begun = time.perf_counter()
        found = await super().open(counted)
        self.watch.opening = time.perf_counter() - begun
        return found

    async def commit(self, tick: Tick) -> Committed:
        """Commit, noting size and time of a state of several records: a base."""
        begun = time.perf_counter()
        committed = await super().commit(tick)
        if len(tick.state) > 1:
            self.watch.base_bytes = sum(map(len, tick.state))
            self.watch.base_records = len(tick.state)
            self.watch.base_seconds = time.perf_counter() - begun
        return committed


class Journals(KafkaJournals):
    """Hands out journals that are watched."""

    read = 0
    opening = 0.0
    base_bytes = 0
    base_records = 0
    base_seconds = 0.0

    def journal(self, partition: Partition) -> Journal:
        """Return one."""
        journal = Journal(self._shared, partition)
        journal.watch = self
        return journal


class Run:
    """One crash of one partition."""

    def __init__(self, load: Load, world: World) -> None:
        self.load = load
        self.world = world
        self.partition = Partition(world.topic, 0)
        self.figures: dict[str, str] = {}

    async def play(self) -> dict[str, str]:
        """Fill the input, live, crash, open, replay; return the figures."""
        await self.world.create_input()
        await self._produce()
        journals = Journals(self.world.settings(), "bench", SystemClock())
        await journals.prepare(frozenset({self.partition}))
        context = self._context(journals)
        position = await self._first_life(context, journals)
        await self._second_life(context, journals, position)
        await journals.close()
        return self.figures

    def _context(self, journals: Journals) -> WorkerContext:
        clock, notes = SystemClock(), doubles.Notes()
        return WorkerContext(
            group=self.world.group,
            lanes={self.partition.topic: lane_set(self.load.connection())},
            journals=journals,
            clock=clock,
            reporter=notes,
            random=lambda: 0.5,
            ticks=TickPolicy(tick=1.0, base_interval=NEVER),
            deliver=deliver_context({LANE: Sink()}, clock, notes, queue_bytes=16 * MIB),
            limits=PartitionLimits(64 * MIB, 1 << 40),
        )

    async def _produce(self) -> None:
        producer = AIOKafkaProducer(bootstrap_servers=self.world.bootstrap, max_batch_size=MIB)
        await producer.start()
        waiting: set[Any] = set()
        records = self.load.records()
        while some := list(islice(records, 700)):
            batch = producer.create_batch()
            for record in some:
                added = batch.append(key=None, value=record.value, timestamp=record.timestamp)
                assert added is not None
            waiting.add(await producer.send_batch(batch, self.partition.topic, partition=0))
            if len(waiting) > UNDERWAY:
                _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.gather(*waiting)
        await producer.stop()

    async def _first_life(self, context: WorkerContext, journals: Journals) -> int:
        """Collect everything, with bases where they would have been in the end; then crash."""
        owned = await PartitionOpening(self.partition, context).run()
        owned.start()
        ticking = asyncio.create_task(owned.ticks.run())
        records = self.load.records()
        interval = self.load.events * 10 * MINUTE // self.load.span_ms
        if self.load.sessions:
            await _feed(owned, islice(records, self.load.events - 2 * interval))
            await self._base(owned)
            await _feed(owned, islice(records, interval))
            await self._measured_base(owned, journals, records)
        await _feed(owned, records)
        await owned.ticks.tick()
        windows, memory = owned.pipeline.open_windows(), owned.pipeline.memory_bytes()
        self.figures["windows open"] = f"{windows:,}"
        self.figures["windows, MiB in memory"] = f"{memory / MIB:.0f}"
        position = owned.position
        ticking.cancel()
        await owned.close()
        return position

    async def _measured_base(
        self, owned: OpenPartition, journals: Journals, records: Iterator[Rec]
    ) -> None:
        heart = Heart()
        basing = asyncio.create_task(self._base(owned))
        while not basing.done():  # the input goes on meanwhile
            await _feed(owned, islice(records, 50))
            await asyncio.sleep(0.02)
        await basing
        passed, stall = heart.stop()
        self.figures |= {
            "base: MiB stored": f"{journals.base_bytes / MIB:.1f}",
            "base: records": f"{journals.base_records}",
            "base: drafted and written, s": passed,
            "base: its transaction, s": f"{journals.base_seconds:.2f}",
            "base: longest stall, ms": stall,
        }

    async def _base(self, owned: OpenPartition) -> None:
        state = owned.ticks._state  # noqa: SLF001  # nobody else asks for a base by hand
        async with asyncio.timeout(BASE_SECONDS):
            while state.base_offset is None:  # noqa: ASYNC110  # the first of all comes by itself
                await asyncio.sleep(0.01)
            before = state.base_offset
            owned.ticks.snapshots.request_now()
            owned.ticks.request()
            while state.base_offset == before:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def _second_life(self, context: WorkerContext, journals: Journals, position: int) -> None:
        heart, begun = Heart(), time.perf_counter()
        owned = await PartitionOpening(self.partition, context).run()
        owned.start()
        start = owned.position
        passed, stall = heart.stop()
        self.figures |= {
            "state read, MiB": f"{journals.read / MIB:.1f}",
            "open, s": passed,
            "  of it fencing and reading": f"{journals.opening:.1f}",
            "open: longest stall, ms": stall,
        }
        heart = Heart()
        ticking = asyncio.create_task(owned.ticks.run())
        await self._replay(owned, start, position)
        events, cpu = position - start, time.thread_time() - heart.begun_cpu
        passed, stall = heart.stop()
        self.figures |= {
            "replayed events": f"{events:,}",
            "replay, s": passed,
            "replay, events per CPU-s": f"{events / max(cpu, 1e-9):,.0f}",
            "replay: longest stall, ms": stall,
            "crash to caught up, s": f"{time.perf_counter() - begun:.1f}",
            "windows open again": f"{owned.pipeline.open_windows():,}",
        }
        ticking.cancel()
        await owned.close()

    async def _replay(self, owned: OpenPartition, start: int, position: int) -> None:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.world.bootstrap,
            isolation_level="read_committed",
            enable_auto_commit=False,
            max_partition_fetch_bytes=256 * 1024,
        )
        await consumer.start()
        where = TopicPartition(self.partition.topic, 0)
        consumer.assign([where])
        consumer.seek(where, start)
        while owned.position < position:
            for records in (await consumer.getmany(timeout_ms=200, max_records=POLL)).values():
                owned.collect(records)
            await owned.close_overdue()
            await asyncio.sleep(0)
        await consumer.stop()


async def _feed(owned: OpenPartition, records: Iterator[Rec]) -> None:
    while some := list(islice(records, POLL)):
        owned.collect(some)
        await owned.close_overdue()
        await asyncio.sleep(0)


def table(loads: Sequence[Load], columns: Sequence[dict[str, str]]) -> str:
    """Return the figures side by side."""
    names = list(dict.fromkeys(name for column in columns for name in column))
    lines = [f"{'':34}" + "".join(f"{load.name:>22}" for load in loads)]
    lines += [
        f"{name:34}" + "".join(f"{column.get(name, ''):>22}" for column in columns)
        for name in names
    ]
    return "\n".join(lines)


async def run(loads: Sequence[Load], bootstrap: str) -> str:
    """Play every load; return the table."""
    memory.tune_gc()
    return table(loads, [await Run(load, World(bootstrap, 1)).play() for load in loads])


def main() -> None:
    """Run against a broker of its own, or the one given."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.restore")
    parser.add_argument("--sessions", type=int, default=10_000)
    parser.add_argument("--events", type=int, default=200, help="of each session, in 4 h")
    parser.add_argument("--rate", type=int, default=4_000, help="events/s of the full load")
    parser.add_argument("--devices", type=int, default=60_000, help="of the full load")
    parser.add_argument("--only", choices=["sessions", "load"])
    parser.add_argument("--noise", type=int, default=80, help="random bytes of an event")
    told = parser.parse_args()
    patches.install()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    count, rate = told.sessions, told.rate
    loads = {
        "sessions": Load(
            "sessions of 4 h", count * told.events, count, 4 * HOUR, sessions=True, noise=told.noise
        ),
        "load": Load(
            "10 min at full load",
            rate * 600,
            told.devices,
            10 * MINUTE,
            sessions=False,
            noise=told.noise,
        ),
    }
    chosen = [loads[told.only]] if told.only else list(loads.values())
    with tempfile.TemporaryDirectory() as folder:
        broker = Broker(Path(folder))
        broker.start()
        try:
            sys.stdout.write(asyncio.run(run(chosen, broker.bootstrap)) + "\n")
        finally:
            broker.stop()


if __name__ == "__main__":
    main()
