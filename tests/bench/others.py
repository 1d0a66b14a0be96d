"""What else is measured of a whole worker: a crash, idle partitions, memory, calls to the sink."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from forwarder.aws.session import AwsSession
from forwarder.clock import SystemClock
from forwarder.config.targets import PutMode
from tests.acceptance.cluster import Cluster
from tests.acceptance.harness import Worker
from tests.bench import puts, stored, whole
from tests.bench.compare import Services
from tests.bench.load import written
from tests.bench.loads import LOADS
from tests.bench.topic import new_topic
from tests.bench.whole import Program, Run, cpu_seconds
from tests.services.fake_kinesis import batch

Figures = dict[str, float]

READ = ("forwarder_records_total", "forwarder_replayed_records_total")
LOOK = 0.5
SHARE_SECONDS = 10.0
PARTITIONS = 32
CALLS, ROUNDS = 1_000, 5
RECENT_MS = 10_000


async def crash(services: Services) -> Figures:
    """Kill a worker whose windows are open: what reading them again costs beside collecting."""
    load = LOADS["1-event"]._replace(together=250.0, rounds=1)  # of minutes, so nothing closes
    async with (
        Cluster(services.bootstrap) as cluster,
        new_topic(cluster, "crash", load.partitions) as topic,
    ):
        begin = time.time_ns() // 1_000_000 - load.span_ms() - RECENT_MS
        await topic.write(map(load.rows, range(2)), begin)
        run = Run(load, topic, services.folder / topic.name, services.sink)
        run.site.sections["kafka"]["session_timeout"] = "6s"
        try:
            await topic.commit()
            first = run.start(Program(), "first")
            await read(first, load.warm)
            first.kill()
            second = run.start(Program(), "second")
            short = await read(second, load.warm)
            await topic.commit()
            collected = await read(second, load.total) - short
            second.kill()
            third = run.start(Program(), "third")
            replayed = await read(third, load.total) - short
        finally:
            run.site.close()
    return {
        "collecting_us": collected / load.uploads * 1e6,
        "replaying_us": replayed / load.uploads * 1e6,
    }


async def read(worker: Worker, records: int) -> float:
    """Wait until a worker has read so many records, again or not; return its CPU seconds."""

    def all_are() -> bool:
        lines = [line.partition("{") for line in worker.get("/metrics")[1].splitlines()]
        return records <= sum(
            float(rest.rpartition(" ")[2]) for name, _, rest in lines if name in READ
        )

    await worker.until(all_are, f"{records:,} records are read", whole.DONE, LOOK)
    await asyncio.sleep(2 * LOOK)
    return cpu_seconds(worker.pid)


async def idle(services: Services) -> Figures:
    """Own many partitions: the share of a core it takes, without input and with a trickle."""
    load = LOADS["1-event"]._replace(partitions=PARTITIONS, rounds=0)
    async with (
        Cluster(services.bootstrap) as cluster,
        new_topic(cluster, "idle", load.partitions) as topic,
    ):
        await topic.write([load.rows(0)], whole.begin_ms(load))
        run = Run(load, topic, services.folder / topic.name, services.sink)
        try:
            worker = run.start(Program())
            await worker.until_ready(whole.DONE)
            await topic.commit()
            await run.rest([worker], load.warm)
            resting = await share(worker, lambda _: asyncio.sleep(1.0))
            rows = list(written(range(PARTITIONS)))

            async def trickle(_: int) -> None:
                now = time.time_ns() // 1_000_000
                begun = time.monotonic()
                for number, (key, value) in enumerate(rows):
                    await cluster.send(topic.name, [(key, value, now)], number)
                await asyncio.sleep(max(0.0, 1.0 - time.monotonic() + begun))

            ticking = await share(worker, trickle)
        finally:
            run.site.close()
    return {"idle_share": resting, "ticking_share": ticking}


async def share(worker: Worker, second: Callable[[int], Awaitable[None]]) -> float:
    """Return the share of a core that a worker takes for some seconds."""
    spent, begun = cpu_seconds(worker.pid), time.monotonic()
    for number in range(round(SHARE_SECONDS)):
        await second(number)
    return (cpu_seconds(worker.pid) - spent) / (time.monotonic() - begun)


async def memory(_: Services) -> Figures:
    """Let a million events wait: alone in their windows, and ten in one."""
    each = _child("--devices", "1000000", "--events", "1")
    ten = _child("--devices", "100000", "--events", "10", "--roomy", "128")
    return {
        "alone_bytes": each["bytes_an_event"],
        "of_ten_bytes": ten["bytes_an_event"],
        "longest_poll_ms": max(each["longest_poll_ms"], ten["longest_poll_ms"]),
    }


def _child(*arguments: str) -> Any:  # noqa: ANN401  # as JSON has it
    command = [sys.executable, "-m", "tests.bench.waiting", *arguments]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=whole.DONE)
    return json.loads(answer.stdout)


async def put_record(services: Services) -> Figures:
    """Put batches of 1 KB by PutRecord, the sink alone: batches of a CPU second."""
    aws = AwsSession(SystemClock())
    batches = [batch(number, b"x" * 1000) for number in range(1000)]
    async with puts.opened(aws, services.sink.url, PutMode.RECORD) as sink:
        way = puts.in_puts(sink, batches, sink.max_batches)
        (found,) = await puts.compare([puts.Row("", 1, way)], ROUNDS, [CALLS])
    await aws.close()
    return {"batches_a_cpu_second": 1000 / found.cpu}


async def outbox(_: Services) -> Figures:
    """Make documents of uploads a third of which is noise: bytes of an event."""
    return stored.measured()


OTHERS: dict[str, Callable[[Services], Coroutine[None, None, Figures]]] = {
    "crash": crash,
    "idle": idle,
    "memory": memory,
    "put-record-alone": put_record,
    "outbox": outbox,
}
"""Every other measure by its name."""


def run(names: Sequence[str], services: Services) -> dict[str, Figures]:
    """Measure some of them, one after the other."""
    found: dict[str, Figures] = {}
    for name in names:
        found[name] = asyncio.run(OTHERS[name](services))
        told = ", ".join(f"{key} {value:.4g}" for key, value in found[name].items())
        sys.stdout.write(f"{name}: {told}\n\n")
        sys.stdout.flush()
    return found


def archived(commit: str, folder: Path) -> Path:
    """Return a folder with the package as it was at a commit."""
    place = folder / commit
    if not place.exists():
        place.mkdir(parents=True)
        pipe = subprocess.run(
            ["git", "archive", commit, "forwarder"],  # noqa: S607  # whatever git is on the path
            check=True,
            stdout=subprocess.PIPE,
        )
        subprocess.run(["tar", "-x", "-C", str(place)], input=pipe.stdout, check=True)  # noqa: S607
    return place
