"""A worker whose Kafka, or whose own process, stands still for a while: it recovers by itself.

Every test here also holds the guarantee against what arrived: nothing is missing, what came
twice is the same bytes, and each device's batches arrive first in their order.
"""

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from aiohttp import web

from tests.acceptance.cluster import Cluster
from tests.acceptance.harness import Worker, until
from tests.acceptance.scene import Scene
from tests.builders import encoded, event, upload
from tests.services.fake_kinesis import Answer, Call, FakeKinesis
from tests.services.kafka import Broker, free_port, own_broker
from tests.services.proxy import Proxy, before

pytestmark = pytest.mark.service

RECOVERY = 10.0
"""Seconds after Kafka is back within which records flow again: what is promised."""

LOOKS = 5.0
"""Seconds between two looks of the gauges."""

LEASE = 10.0
"""Seconds after the begin of the last committed tick within which puts may begin (D3)."""

SINGLY = {"send_as_batch": False}
KEYS = {"access_key_id": "AKIAEXAMPLE", "secret_access_key": "not-a-secret"}


class Stream(FakeKinesis):
    """A stream that takes its time, and notes when each call arrived."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.2
        self.arrivals: list[float] = []

    async def _answer(
        self, request: web.Request, call: Call, answer: Answer | None
    ) -> web.Response:
        self.arrivals.append(time.time())
        await asyncio.sleep(self.seconds)
        return await super()._answer(request, call, answer)

    def numbers(self) -> list[int]:
        """Return the numbers of the events stored, in order."""
        return [e["data"]["n"] for r in self.stored for e in json.loads(r.data)["events"]]

    def first(self) -> list[int]:
        """Return them in the order in which each arrived first."""
        return list(dict.fromkeys(self.numbers()))

    def same(self) -> bool:
        """Tell whether what was stored more than once was the same bytes each time."""
        return len({r.data for r in self.stored}) == len(self.first())


class Stage:
    """A broker behind a proxy, and a group that reaches it through the proxy only."""

    def __init__(self, broker: Broker, proxy: Proxy, scene: Scene, stream: Stream) -> None:
        self.broker = broker
        self.proxy = proxy
        self.scene = scene
        self.stream = stream

    def to_stream(self, stream: Stream) -> None:
        """Connect a stream; workers started from now on put into it."""
        sink = {"type": "kinesis", "stream_name": "s", "region": "us-east-1"}
        sink["endpoint_url"] = stream.url
        content = {"name": "acme", "sink": sink, "credentials": KEYS, "settings": SINGLY}
        self.scene.connect(content)

    async def all_arrived(self, worker: Worker, count: int, seconds: float = 30.0) -> None:
        """Wait until the events below ``count`` are stored, and judge how they came."""
        wanted = set(range(count))
        await worker.until(
            lambda: wanted <= set(self.stream.numbers()), f"all {count} are there", seconds
        )
        assert list(range(count)) == self.stream.first()
        assert self.stream.same()


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Broker, int, int]]:
    target, port = free_port(), free_port()
    broker = own_broker(tmp_path_factory.mktemp("kafka"), before(target, port))
    yield broker, target, port
    broker.stop()


@pytest.fixture
async def stream() -> AsyncIterator[Stream]:
    stream = Stream()
    await stream.start()
    yield stream
    await stream.stop()


@pytest.fixture
async def stage(
    mortal: tuple[Broker, int, int], stream: Stream, tmp_path: Path, name: str
) -> AsyncIterator[Stage]:
    broker, target, port = mortal
    proxy = Proxy(target, port)
    await proxy.start()
    async with Cluster(broker.bootstrap) as cluster:
        scene = Scene.make(cluster, tmp_path, name)
        scene.sections["kafka"]["bootstrap_servers"] = [f"127.0.0.1:{port}"]
        await cluster.create(scene.topic, 2)
        stage = Stage(broker, proxy, scene, stream)
        stage.to_stream(stream)
        yield stage
        scene.close()
    await proxy.stop()


async def flowing(stage: Stage, count: int) -> Worker:
    """Return a worker that has put the first of ``count`` events of one device."""
    worker = stage.scene.worker()
    worker.start()
    await stage.scene.feed(range(count))
    await worker.until(lambda: len(stage.stream.stored) > 2, "the first events arrive")
    return worker


def kill(stage: Stage) -> None:
    stage.broker.kill()


def start(stage: Stage) -> None:
    stage.broker.start()


def suspend(stage: Stage) -> None:
    stage.broker.suspend()


def wake(stage: Stage) -> None:
    stage.broker.wake()


def break_connections(stage: Stage) -> None:
    stage.proxy.delay = 0.2
    stage.proxy.reset()


def leave_in_peace(stage: Stage) -> None:
    stage.proxy.reset()
    stage.proxy.delay = 0.0


@pytest.mark.parametrize(
    ("disturb", "seconds", "mend"),
    [(kill, 1.0, start), (suspend, 11.0, wake), (break_connections, 2.0, leave_in_peace)],
)
async def test_records_flow_again_within_seconds_of_the_end_of_a_disturbance(
    stage: Stage, disturb: Callable[[Stage], None], seconds: float, mend: Callable[[Stage], None]
) -> None:
    stage.stream.seconds = 0.02
    worker = await flowing(stage, 20)
    pid = worker.pid

    disturb(stage)
    await asyncio.sleep(seconds)
    assert worker.get("/livez")[0] == 200
    mend(stage)
    await stage.scene.feed(range(20, 40))

    await stage.all_arrived(worker, 40, RECOVERY)
    assert worker.running
    assert worker.pid == pid
    await worker.until_ready()


async def test_connections_that_went_silent_are_given_up_and_no_put_begins_meanwhile(
    stage: Stage,
) -> None:
    worker = await flowing(stage, 120)

    stage.proxy.swallow()
    silent = time.time()
    # A tick in flight may have been committed without an answer; what counts began before.
    await asyncio.sleep(LEASE + 1)
    begun = len(stage.stream.arrivals)
    assert stage.stream.arrivals[-1] > silent + 1, "the lease outlasts a short silence"
    await asyncio.sleep(4)
    assert begun == len(stage.stream.arrivals), "no put begins after the lease"
    assert worker.get("/livez")[0] == 200

    stage.proxy.heal()
    stage.stream.seconds = 0.001
    await worker.until(lambda: len(stage.stream.arrivals) > begun, "puts begin again", 2 * RECOVERY)
    await stage.all_arrived(worker, 120)
    assert worker.running


def arrived(stage: Stage, number: int) -> bool:
    return number in stage.stream.numbers()


def gauge(worker: Worker, name: str) -> float | None:
    return worker.metrics().get(f'{name}{{connection="waiting"}}')


async def test_answers_that_made_no_sense_for_a_while_leave_nothing_dead_and_nothing_lost(
    stage: Stage,
) -> None:
    stage.stream.seconds = 0.02
    sink = {"type": "file", "path": str(stage.scene.folder / "out")}
    stage.scene.connect({"name": "waiting", "sink": sink, "batching": {"max_age": "1h"}})
    worker = await flowing(stage, 20)
    await worker.until(lambda: gauge(worker, "forwarder_open_windows") == 1, "the gauges are set")

    stage.proxy.garbled = stage.scene.topic.encode()
    await stage.scene.feed(range(20, 30))
    await asyncio.sleep(2 * LOOKS)
    stage.proxy.garbled = b""

    await stage.scene.feed(range(30, 40))
    await stage.all_arrived(worker, 40, 2 * RECOVERY)
    now = time.time_ns() // 1_000_000
    value = encoded(upload(event("custom_event", n=99), device="another"))
    await stage.scene.kafka.send(stage.scene.topic, [(b"another", value, now)])
    await worker.until(lambda: gauge(worker, "forwarder_open_windows") == 2, "the gauges go on")
    await worker.until_ready()


async def test_a_batch_that_stays_damaged_stops_its_partition_alone_until_it_is_right(
    stage: Stage,
) -> None:
    stage.stream.seconds = 0.02
    worker = await flowing(stage, 20)
    now, topic = time.time_ns() // 1_000_000, stage.scene.topic
    first = {row.partition for row in await stage.scene.feed([20])}.pop()

    stage.proxy.garbled = b"poisonous"
    value = encoded(upload(event("custom_event", n=21, what="poisonous"), device="d1"))
    await stage.scene.kafka.send(topic, [(b"d1", value, now)], first)
    await worker.until(lambda: worker.logged("partition.reopens"), "the partition is set aside")
    for number in range(22, 30):
        value = encoded(upload(event("custom_event", n=number), device="d2"))
        await stage.scene.kafka.send(topic, [(b"d2", value, now)], 1 - first)
        await worker.until(partial(arrived, stage, number), "the other one flows")
    assert 21 not in stage.stream.numbers()
    assert "its checksum is wrong" in worker.logged("partition.reopens")[0]["error"]
    stage.proxy.garbled = b""
    await worker.until(lambda: 21 in stage.stream.numbers(), "it is read once it is right")
    assert set(range(30)) == set(stage.stream.numbers())
    assert [] == worker.logged("partition.unexpected_error")
    assert worker.running


async def test_a_worker_that_slept_through_its_replacement_changes_nothing(stage: Stage) -> None:
    sleeper = await flowing(stage, 200)
    other = Stream()
    await other.start()
    stage.to_stream(other)
    second = stage.scene.worker("second")

    sleeper.signal(signal.SIGSTOP)
    asleep = time.monotonic()
    other.seconds = 0.0
    second.start()
    assert sleeper.get("/livez")[0] == 0, "a process that stands still is not alive"

    def complete() -> bool:
        return {*stage.stream.numbers(), *other.numbers()} == set(range(200))

    await second.until(complete, "the second puts the rest")
    owned = sum(len(line["partitions"]) for line in second.logged("partitions.assigned")[-1:])
    assert owned == 2
    await until(lambda: settled(second), "the second's acknowledgements are committed")
    # Within its lease it may still begin a put: of what was committed, and with the same bytes.
    await asyncio.sleep(max(0.0, asleep + LEASE + 1 - time.monotonic()))
    first_half = stage.stream.numbers()
    sleeper.signal(signal.SIGCONT)
    await sleeper.until(
        lambda: len(sleeper.logged("partitions.assigned")) > 1, "the sleeper joins again"
    )
    await stage.scene.feed(range(200, 220))
    await sleeper.until(
        lambda: {*stage.stream.numbers(), *other.numbers()} == set(range(220)), "all arrive"
    )

    later = stage.stream.numbers()[len(first_half) :]
    assert [n for n in later if n < 200] == [], "what the second put is not put again"
    assert first_half == sorted(first_half)
    assert sorted(set(other.numbers())) == other.numbers()
    repeats = set(first_half) & set(other.numbers())
    assert len(repeats) <= 1 + 1 / stage.stream.seconds, "only what no tick had acknowledged"
    await until(sleeper.running.__bool__, "it lives")
    await other.stop()


def settled(worker: Worker) -> bool:
    """Tell whether a worker has nothing to deliver any more."""
    return worker.metrics().get('forwarder_outbox_lag_batches{connection="acme"}') == 0
