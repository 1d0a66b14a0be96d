"""``python -m tests.bench.gateway``: events per CPU-second of a gateway, beside a bare handler.

Gateway and handler take the same requests of ten events on a real broker, in turns, several rounds
each; what is compared are medians. The handler (``bare_gateway``) reads a body, parses it and
produces it. Then the gateway is given half of what it can take, and its answers are held against
the broker's own acknowledgements (acks=all) of one record at a time, at that same moment.
"""

import argparse
import asyncio
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from aiokafka import AIOKafkaProducer

from tests.acceptance import gateway_site
from tests.acceptance.cluster import Cluster
from tests.acceptance.gateway_site import KEY_ID, OPEN, SECRET, SIGNED, GatewayProcess, GatewaySite
from tests.bench import clients
from tests.services.kafka import Broker

TOPIC, RAW = "gateway-pinpoint", "gateway-raw"
CLIENTS = 32
ROUNDS = 3
MIB = 1024 * 1024


class Figures(NamedTuple):
    """Events per CPU-second of each, and seconds of answers and of acknowledgements."""

    bare: float
    unsigned: float
    signed: float
    answer: float
    acknowledged: float
    resident: Sequence[int]

    def text(self) -> str:
        """Return the figures as a table."""
        rows = (("bare handler", self.bare, 1.0), *self._wanted())
        lines = [f"{'':16}{'events/CPU-s':>13}{'of bare':>9}{'wanted':>9}"]
        for name, rate, least in rows:
            lines.append(f"{name:16}{rate:13,.0f}{rate / self.bare:9.2f}{least:9.1f}")
        times = f"p99 at half load {self.answer * 1e3:.1f} ms, the broker's own acknowledgement "
        ratio = self.answer / self.acknowledged
        times += f"{self.acknowledged * 1e3:.1f} ms: {ratio:.2f} times (wanted: at most 3)"
        memory = " ".join(f"{resident / MIB:.0f}" for resident in self.resident)
        return "\n".join([*lines, times, f"memory in the tenths of that time, MiB: {memory}"])

    def _wanted(self) -> Sequence[tuple[str, float, float]]:
        """Return each rate with the least share of the bare handler's that it has to be."""
        return (("gateway", self.unsigned, 0.5), ("with SigV4", self.signed, 0.3))


@contextmanager
def bare(bootstrap: str) -> Iterator[tuple[int, int]]:
    """Run the bare handler; yield its port and its process id."""
    command = [sys.executable, "-m", "tests.bench.bare_gateway"]
    command += ["--bootstrap", bootstrap, "--topic", RAW]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        with process.stdout as output:
            yield int(output.readline()), process.pid
    finally:
        process.kill()
        process.wait()


def cpu_seconds(pid: int) -> float:
    """Return the CPU seconds a process has used so far, all its threads together."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


async def rate_of(pid: int, port: int, requests: list[bytes]) -> float:
    """Return the events per CPU-second at which a server takes requests."""
    before = cpu_seconds(pid)
    await clients.saturate(port, requests, CLIENTS)
    return len(requests) * clients.EVENTS / (cpu_seconds(pid) - before)


async def acknowledgements(bootstrap: str, until: asyncio.Event) -> list[float]:
    """Return how many seconds the broker took for each of records sent one at a time."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all")
    await producer.start()
    taken = []
    try:
        while not until.is_set():
            began = time.perf_counter()
            await producer.send_and_wait(RAW, b"x" * 4_000)
            taken.append(time.perf_counter() - began)
            await asyncio.sleep(0.005)
    finally:
        await producer.stop()
    return taken


class HalfLoad(NamedTuple):
    """Seconds of answers and of acknowledgements (p99), and resident bytes in the run's tenths."""

    answer: float
    acknowledged: float
    resident: Sequence[int]


async def half_load(
    gateway: GatewayProcess, bootstrap: str, requests: Sequence[bytes], rate: float, seconds: float
) -> HalfLoad:
    """Send so many requests a second for so long."""
    over = asyncio.Event()
    beside = asyncio.create_task(acknowledgements(bootstrap, over))
    resident: list[int] = []

    async def look() -> None:
        while True:
            await asyncio.sleep(seconds / 10)
            resident.append(resident_bytes(gateway.pid))

    looking = asyncio.create_task(look())
    count = int(rate * seconds)
    answers = await clients.at_rate(
        gateway.api, itertools.islice(itertools.cycle(requests), count), rate, CLIENTS
    )
    looking.cancel()
    over.set()
    acknowledged = await beside
    return HalfLoad(clients.quantile(answers, 0.99), clients.quantile(acknowledged, 0.99), resident)


def resident_bytes(pid: int) -> int:
    """Return how many bytes of a process are in memory."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def measure(
    site: GatewaySite, bootstrap: str, count: int, seconds: float, rate: float
) -> Figures:
    """Start both, and measure them in turns; ``rate``: requests a second instead of half load."""
    bodies = clients.bodies(count)
    rates: dict[str, list[float]] = {"bare": [], "unsigned": [], "signed": []}
    gateway = site.start_gateway()
    await gateway.until_ready(60)
    with bare(bootstrap) as (port, pid):
        for _ in range(ROUNDS):
            for name, server, app, keys in (
                ("bare", (pid, port), OPEN, None),
                ("unsigned", (gateway.pid, gateway.api), OPEN, None),
                ("signed", (gateway.pid, gateway.api), SIGNED, (KEY_ID, SECRET)),
            ):
                path = f"/v1/apps/{app}/events"
                requests = [clients.request(path, body, server[1], keys) for body in bodies]
                rates[name].append(await rate_of(*server, requests))
    path = f"/v1/apps/{OPEN}/events"
    requests = [clients.request(path, body, gateway.api) for body in bodies]
    most = count / await clients.saturate(gateway.api, requests, CLIENTS)
    half = await half_load(gateway, bootstrap, requests, rate or most / 2, seconds)
    medians = {name: statistics.median(found) for name, found in rates.items()}
    return Figures(
        medians["bare"],
        medians["unsigned"],
        medians["signed"],
        half.answer,
        half.acknowledged,
        half.resident,
    )


async def bench(
    bootstrap: str, folder: Path, count: int = 4_000, seconds: float = 10.0, rate: float = 0.0
) -> Figures:
    """Make the topics and the folder, and measure."""
    folder.mkdir(exist_ok=True)
    gateway = gateway_site.apis(TOPIC, RAW)
    site = GatewaySite(folder, gateway_site.sections(bootstrap), gateway=gateway)
    async with Cluster(bootstrap) as cluster:
        await cluster.create(TOPIC, 4)
        await cluster.create(RAW, 4)
        try:
            return await measure(site, bootstrap, count, seconds, rate)
        finally:
            site.close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.gateway", description=__doc__)
    parser.add_argument("--count", type=int, default=4_000, help="requests (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=10.0, help="at half load")
    parser.add_argument("--rate", type=float, default=0.0, help="requests a second instead")
    args = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        broker = Broker(folder / "kafka")
        broker.start()
        stack.callback(broker.stop)
        figures = asyncio.run(bench(broker.bootstrap, folder, args.count, args.seconds, args.rate))
    sys.stdout.write(figures.text() + "\n")


if __name__ == "__main__":
    main()
