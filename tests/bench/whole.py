"""A worker as a whole process, on a real broker, measured from rest to rest.

It starts, delivers the warm-up and comes to rest; then one round after the other is committed to
its topic. What a round costs is the CPU time of the process between two rests.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.acceptance.harness import Site, Worker, group_sections
from tests.bench.loads import Load
from tests.bench.sink_process import SinkProcess
from tests.bench.topic import Topic

DELIVERED = "forwarder_events_delivered_total{"
LOOK = 0.1
QUIET = 1.0
"""Seconds for which nothing is sent, before a worker's metrics are asked whether all was."""
REST = 0.3
"""Seconds after the last record that still belong to a round: its acknowledgement's tick."""
SCRAPES, SCRAPE_EVERY = 4, 0.75
"""Looks at a worker's metrics, and seconds between them: each is rendered anew."""
DONE = 900.0
RECENT_MS = 5 * 3_600_000
"""How old the youngest upload is: older than any window may become."""


class Program(NamedTuple):
    """Which program runs."""

    tree: Path | None = None
    """A folder with the package ``forwarder``, and its own ``.venv`` if it has one."""
    native: bool = True

    def prepare(self, worker: Worker) -> None:
        """Make a worker one of this program."""
        variables = dict(worker.variables)
        if not self.native:
            variables["FORWARDER_NATIVE"] = "0"
        if self.tree is not None:
            variables["PYTHONPATH"] = str(self.tree)
            own = self.tree / ".venv" / "bin" / "python"
            if own.exists():
                worker.python = str(own)
        worker.variables = variables


class Whole(NamedTuple):
    """What one worker, or several together, spent."""

    rounds: list[float]
    """CPU seconds of each round."""
    start_cpu: float
    start_seconds: float
    """Until ready."""
    peak_bytes: int
    batches: int
    """Of the rounds, without the warm-up."""
    seconds: list[float]
    idle_share: float
    """Of a core, at rest; this and the next only where there are several connections."""
    scrape_ms: float
    """CPU of one look at its metrics, of all workers."""


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process, exactly."""
    return time.clock_gettime((~pid << 3) | 2)  # what clock_getcpuclockid(3) does


class Run:
    """Workers of one group, one topic, and the sink they deliver to."""

    def __init__(self, load: Load, topic: Topic, folder: Path, sink: SinkProcess) -> None:
        self.load = load
        self.topic = topic
        self.sink = sink
        sections = group_sections(topic.cluster.bootstrap, f"bench-{topic.name}", [topic.name])
        sections["kafka"]["topics"] = [{"name": topic.name, "format": load.input}]
        sections["kafka"]["session_timeout"] = "30s"
        sections["log"]["level"] = "warning"
        sections["limits"] = {"window_memory": load.window_memory}
        del sections["journal"]
        self.site = Site(folder, sections)
        for content in load.connection_files(sink.port):
            self.site.connect(content)

    def start(self, program: Program, name: str = "worker") -> Worker:
        """Start one more worker of the group."""
        worker = self.site.worker(name)
        program.prepare(worker)
        worker.start()
        return worker

    async def rest(self, workers: Sequence[Worker], events: int) -> float:
        """Wait until so many events are delivered; return the CPU seconds used by then."""
        deadline = time.monotonic() + DONE
        patience = QUIET
        while time.monotonic() < deadline:
            spent = await self._quiet(workers, patience)
            if delivered(workers) >= events:
                return spent
            patience = min(2 * patience, 10.0)
        text = f"{delivered(workers):,} of {events:,} delivered; log:\n{workers[0].tail()}"
        raise AssertionError(text)

    async def _quiet(self, workers: Sequence[Worker], patience: float) -> float:
        """Wait until nothing was sent for a while; return the CPU seconds shortly after."""
        sent, since, spent = -1, 0.0, 0.0
        while True:
            now, found = time.monotonic(), self.sink.records()
            if found != sent:
                sent, since = found, now
            if now - since <= REST:
                spent = _spent(workers)
            if now - since >= patience:
                return spent
            await asyncio.sleep(LOOK)


def delivered(workers: Sequence[Worker]) -> int:
    """Return how many events were acknowledged, of all connections."""
    lines = [line for worker in workers for line in worker.get("/metrics")[1].splitlines()]
    return int(sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(DELIVERED)))


async def measure(run: Run, program: Program, count: int = 1) -> Whole:
    """Measure as many workers of one group over all rounds of their load."""
    load = run.load
    try:
        begun = time.monotonic()
        workers = [run.start(program, f"worker-{number}") for number in range(count)]
        for worker in workers:
            await worker.until_ready(DONE)
        ready = time.monotonic() - begun
        start_cpu = _spent(workers)
        await run.topic.commit()
        before = await run.rest(workers, load.delivered(load.warm))
        sent, spent, seconds = run.sink.records(), [], []
        for number in range(1, load.rounds + 1):
            begun = time.monotonic()
            await run.topic.commit()
            after = await run.rest(workers, load.delivered(load.warm + number * load.uploads))
            spent.append(after - before)
            seconds.append(time.monotonic() - begun - QUIET)
            before = after
        batches = run.sink.records() - sent
        idle = scraping = 0.0
        if load.connections > 1:
            idle = await _share(workers, lambda: None)
            scraping = await _share(workers, lambda: [one.get("/metrics") for one in workers])
        peak = max(worker.peak_bytes() for worker in workers)
        scrape_ms = max(0.0, scraping - idle) * SCRAPE_EVERY * 1000
        return Whole(spent, start_cpu, ready, peak, batches, seconds, idle, scrape_ms)
    finally:
        run.site.close()


async def _share(workers: Sequence[Worker], look: Callable[[], object]) -> float:
    """Return the share of a core that workers take while one looks at them now and then."""
    spent, begun = _spent(workers), time.monotonic()
    for number in range(1, SCRAPES + 1):
        await asyncio.to_thread(look)
        await asyncio.sleep(max(0.0, begun + number * SCRAPE_EVERY - time.monotonic()))
    return (_spent(workers) - spent) / (time.monotonic() - begun)


def _spent(workers: Sequence[Worker]) -> float:
    return sum(cpu_seconds(worker.pid) for worker in workers)


def begin_ms(load: Load) -> int:
    """Return the record time at which a load begins, so that all windows close at a rest."""
    return time.time_ns() // 1_000_000 - RECENT_MS - load.span_ms()
