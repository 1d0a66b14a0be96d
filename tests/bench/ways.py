"""``python -m tests.bench --only WAY``: formats beside each other, on a real broker.

The topic is filled before the worker starts, so that nothing waits for the producer; its CPU
seconds count from the moment its server answers (imports done) until all is acknowledged.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from tests import conservation
from tests.acceptance.cluster import Cluster
from tests.acceptance.harness import Site, Worker, group_sections
from tests.bench import gateway, load
from tests.bench.floor import Way
from tests.services.kafka import Broker

LANE = "acme"
DONE = 600.0
DELIVERED = f'forwarder_events_delivered_total{{connection="{LANE}"}}'
LOOK = 0.5
"""Seconds between two looks at the worker's metrics, which cost it about 2 ms each."""

MIB = 1024 * 1024


WAYS = {
    "uploads in batches": Way("mparticle", "mparticle"),
    "records of Pinpoint in batches": Way("pinpoint", "mparticle"),
    "uploads one by one": Way("mparticle", "mparticle", single=True),
    "records of Pinpoint one by one": Way("pinpoint", "pinpoint", single=True),
    "records of Pinpoint as documents one by one": Way("pinpoint", "mparticle", single=True),
    "uploads as records of Pinpoint": Way("mparticle", "pinpoint", single=True),
    "uploads in batches, duplicates dropped": Way("mparticle", "mparticle", duplicates="10m"),
    "records of Pinpoint in batches, duplicates dropped": Way(
        "pinpoint", "mparticle", duplicates="10m"
    ),
}
"""What is measured, each against uploads of equal size of which as much is asked."""

MOST = 1.3
"""By how much an event of Pinpoint may cost more than one of an upload of equal size."""


class Measured(NamedTuple):
    """CPU seconds and memory of one run."""

    worker: float
    start: float
    memory: float
    read: float
    seconds: float
    peak: int
    batches: int

    def text(self, count: int) -> str:
        """Return the figures as a table."""

        def row(name: str, spent: float) -> str:
            rate, each = count / spent, spent / count * 1e6
            return f"{name:34}{rate:10,.0f}{each:9.1f}{self.worker / spent:9.2f}"

        run = f"{count:,} events in {self.batches:,} batches, {self.seconds:.1f} s"
        lines = [
            f"{'':34}{'events/CPU-s':>10}{'µs':>7}{'worker is':>12}",
            row("the worker, to the sink", self.worker),
            row("the pure pipeline, in memory", self.memory),
            row("aiokafka, read and dropped", self.read),
            f"{run}; start {self.start:.1f} CPU-s; peak memory {self.peak / MIB:.0f} MiB",
        ]
        return "\n".join(lines)


@contextmanager
def sink() -> Iterator[int]:
    """Run the sink in a process of its own; yield its port."""
    command = [sys.executable, "-m", "tests.bench.sink"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        with process.stdout as output:
            yield int(output.readline())
    finally:
        process.kill()
        process.wait()


def floor(*arguments: str) -> float:
    """Return the CPU seconds of a floor, measured in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.floor", *arguments]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=DONE).stdout
    found = json.loads(answer)
    return float(found[0] if isinstance(found, list) else found)


def connection(port: int, way: Way) -> dict[str, object]:
    """Return the one connection: everything, in batches of ten minutes or one by one."""
    return {
        "name": LANE,
        "settings": {"send_as_batch": not way.single},
        "credentials": {"access_key_id": "AKIAEXAMPLE", "secret_access_key": "not-a-secret"},
        "sink": {
            "type": "kinesis",
            "stream_name": "acme",
            "region": "us-east-1",
            "put": "records",
            "format": way.output,
            "endpoint_url": f"http://127.0.0.1:{port}",
        },
    }


async def fill(cluster: Cluster, args: argparse.Namespace, topic: str, way: Way) -> None:
    """Fill the topic; its youngest record is as old as a window may become."""
    await cluster.create(topic, args.partitions)
    start = time.time_ns() // 1_000_000 - 2 * load.SPAN_MS
    rows = way.rows(args.count, args.devices)
    await cluster.send(topic, ((key, value, start + ms) for key, value, ms in rows))


async def measure(worker: Worker, count: int) -> tuple[float, float, float, int]:
    """Return CPU seconds at work, CPU seconds of the start, seconds, and peak memory."""
    worker.start()
    await worker.until(lambda: worker.get("/livez")[0] == 200, "the server answers")
    at_start, begun = worker.cpu_seconds(), time.monotonic()
    await worker.until(
        lambda: worker.metrics().get(DELIVERED, 0) >= count, "all is delivered", DONE, LOOK
    )
    seconds = time.monotonic() - begun
    return worker.cpu_seconds() - at_start, at_start, seconds, worker.peak_bytes()


async def bench(
    args: argparse.Namespace, way: Way, bootstrap: str, folder: Path, port: int
) -> Measured:
    """Fill a topic, let the worker deliver it, check that it did, and measure the floors."""
    mode = "single" if way.single else "batch"
    topic = f"{way.input}-as-{way.output}-{mode}-{way.duplicates}"
    group = f"bench-{topic}"
    sections = group_sections(bootstrap, group, [topic])
    sections["kafka"]["topics"] = [
        {"name": topic, "format": way.input, "duplicates": way.duplicates}
    ]
    del sections["journal"]
    site = Site(folder / topic, sections)
    site.connect(connection(port, way))
    worker = site.worker()
    async with Cluster(bootstrap) as cluster:
        try:
            await fill(cluster, args, topic, way)
            spent, start, seconds, peak = await measure(worker, args.count)
        finally:
            site.close()
        stored = await cluster.read(f"{group}.outbox.{topic}")
        batches = conservation.batches((r.partition, r.offset, r.value or b"") for r in stored)
    assert sum(batch.events for batch in batches) == args.count
    size = ("--count", str(args.count), "--devices", str(args.devices), *way.arguments())
    where = ["--bootstrap", bootstrap, "--topic", topic, "--partitions", str(args.partitions)]
    where += ["--rounds", str(args.count)]
    return Measured(
        spent, start, floor("memory", *size), floor("read", *where), seconds, peak, len(batches)
    )


GATEWAY = "gateway"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--count", type=int, default=200_000, help="uploads (default: %(default)s)")
    parser.add_argument("--devices", type=int, default=2_000, help="(default: %(default)s)")
    parser.add_argument("--partitions", type=int, default=4, help="(default: %(default)s)")
    parser.add_argument(
        "--only", choices=[*WAYS, GATEWAY], action="append", help="what to measure (default: all)"
    )
    args = parser.parse_args()
    found: dict[str, Measured] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        broker = Broker(folder / "kafka")
        broker.start()
        stack.callback(broker.stop)
        port = stack.enter_context(sink())
        for name in args.only or [*WAYS, GATEWAY]:
            if name == GATEWAY:
                figures = asyncio.run(gateway.bench(broker.bootstrap, folder / GATEWAY))
                sys.stdout.write(f"{name}\n{figures.text()}\n\n")
                continue
            way = WAYS[name]
            found[name] = asyncio.run(bench(args, way, broker.bootstrap, folder, port))
            sys.stdout.write(f"{name}\n{found[name].text(args.count)}\n\n")
    sys.stdout.write(_ratios(found))


def _ratios(found: dict[str, Measured]) -> str:
    """Return how much an event costs more than one of uploads of which as much is asked."""
    lines = []
    names = {way: name for name, way in WAYS.items()}
    for name, one in found.items():
        other = found.get(names[WAYS[name]._replace(input="mparticle", output="mparticle")])
        if other not in {None, one} and other is not None:
            of_uploads = one.worker / other.worker
            limit = f" (wanted: at most {MOST})" if WAYS[name].input == "pinpoint" else ""
            lines.append(f"{name}: {of_uploads:.2f} times what uploads take{limit}\n")
    return "".join(lines)
