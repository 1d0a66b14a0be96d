"""What happens, in order: traffic, a kill, a return, and waiting until everything is there."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.demo import topics
from tests.demo.figures import Figures
from tests.demo.scene import Scene
from tests.demo.screen import Screen
from tests.demo.streams import Streams
from tests.demo.watch import FRAME, Watch
from tests.demo.worker import Worker, WorkerError, ready
from tests.traffic import Malformed, Upload, poison, traffic

MALFORMED = 20

READY_LOOKS = 240
"""How often the worker is asked whether it is ready, four times a second."""


class Load(NamedTuple):
    """How much is sent, over how many seconds, and after how many the worker is killed."""

    seed: int
    devices: int
    events: int
    seconds: int
    kill_after: float

    def records(self, start_ms: int) -> Iterator[Upload | Malformed]:
        """Yield everything that is sent, in order of time."""
        span = self.seconds * 1000
        return topics.in_order_of_time(
            traffic(self.seed, self.devices, self.events, start_ms, span),
            poison(self.seed, MALFORMED, start_ms, span),
        )


class Story:
    """One performance."""

    def __init__(self, scene: Scene, screen: Screen, load: Load) -> None:
        """Be ready for one of the two ways to tell it."""
        self.figures = Figures(planned=load.events)
        self._scene = scene
        self._screen = screen
        self._load = load
        self._watch = Watch(Streams(scene.emulator), screen, self.figures)

    async def with_kafka(self) -> Figures:
        """Send through Kafka, kill the worker in the middle, start it again."""
        kafka = self._scene.configured.kafka
        worker = self._worker()
        await topics.create(kafka)
        try:
            with self._screen.step("starting the worker") as done:
                worker.start()
                await self._ready(worker)
                done(f"worker {worker.pid} is ready: forwarder run --config forwarder.yaml")
            with self._screen.live(self.figures):
                self._watch.check = worker.check
                async with self._watch.beside():
                    await self._main_act(worker)
            code = worker.stop()
            self._screen.say(f"worker {worker.pid} drained and left: exit code {code}", "✓")
            await self._watch.look()
            self.figures.dead_letters = await topics.count_dead_letters(kafka)
        finally:
            worker.close()
            if self._scene.foreign:
                await topics.delete(kafka)
        return self.figures

    async def _main_act(self, worker: Worker) -> None:
        async with asyncio.TaskGroup() as tasks:
            sending = tasks.create_task(self._send())
            self._screen.phase = "devices send, batches arrive"
            await asyncio.sleep(self._load.kill_after)
            await self._watch.until(lambda: self.figures.landed > 0)
            await self._kill_and_return(worker)
            self._screen.phase = "devices send, batches arrive"
            await sending
        self._screen.happen(f"all {self.figures.events:,} events sent")
        self._screen.phase = "the last windows close: sessions time out"
        complete = await self._watch.complete()
        self._screen.happen("everything has arrived" if complete else "nothing comes any more")

    async def _ready(self, worker: Worker) -> None:
        """Wait until the worker owns its partitions; raises WorkerError if it does not come to."""
        for _ in range(READY_LOOKS):
            if await asyncio.to_thread(ready, self._scene.configured.probes):
                return
            worker.check()
            await asyncio.sleep(FRAME)
        what = f"the worker does not get ready:\n{worker.tail()}"
        raise WorkerError(what)

    async def _send(self) -> None:
        now = time.time_ns() // 1_000_000
        records = self._load.records(now)
        await topics.send(self._scene.configured.kafka, records, self.figures, now)

    async def _kill_and_return(self, worker: Worker) -> None:
        worker.kill()
        doing = f"{self.figures.missing:,} events on their way"
        self._screen.happen(f"worker {worker.pid} killed with -9, {doing}", "!")
        worker.start()
        self._screen.happen(f"worker {worker.pid} started in its place")
        self._screen.phase = "Kafka waits 6 s for the dead worker; devices go on sending"
        landed = await self._watch.settled()
        await self._watch.until(lambda: self.figures.landed > landed)
        self._screen.happen(f"worker {worker.pid} goes on where the dead one stopped", "✓")

    async def from_file(self) -> Figures:
        """Run the worker over a file of the same traffic, without Kafka and without the kill."""
        self.figures.timed = False
        source = self._scene.folder / "uploads.ndjson"
        write_lines(source, self._load.records(time.time_ns() // 1_000_000), self.figures)
        worker = self._worker("--source", str(source))
        try:
            with self._screen.live(self.figures):
                worker.start()
                async with self._watch.beside():
                    await self._read_through(worker)
            self._screen.say(f"worker {worker.pid} left: exit code {worker.exit_code()}", "✓")
            letters = self._scene.folder / "dead-letters.ndjson"
            self.figures.dead_letters = len(letters.read_bytes().splitlines())
        finally:
            worker.close()
        return self.figures

    async def _read_through(self, worker: Worker) -> None:
        what = "forwarder run … --source uploads.ndjson"
        self._screen.happen(f"worker {worker.pid} started: {what}")
        self._screen.phase = "a file of uploads goes through the worker"
        await self._watch.until(lambda: worker.exit_code() is not None)
        if worker.exit_code():
            worker.check()
        await self._watch.settled()

    def _worker(self, *arguments: str) -> Worker:
        config = str(self._scene.configured.file)
        return Worker(["--config", config, *arguments], self._scene.folder, self._scene.variables)


def write_lines(file: Path, records: Iterator[Upload | Malformed], figures: Figures) -> None:
    """Write the traffic as the file source reads it."""
    with file.open("wb") as lines:
        for record in records:
            topics.enter(record, figures)
            lines.write(line(record))


def line(record: Upload | Malformed) -> bytes:
    """Return an upload with its record time; what is malformed goes in as it is."""
    if isinstance(record, Malformed):
        return record.value + b"\n"
    return b'{"timestamp_ms":%d,"upload":%b}\n' % (record.timestamp_ms, record.value)
