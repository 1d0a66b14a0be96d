"""Workers join and leave under load, again and again: none of them ends by itself.

``REBALANCES=100`` in the environment makes it a hundred rounds.
"""

import asyncio
import contextlib
import os
import signal
import time
from collections import Counter
from collections.abc import Sequence
from itertools import count

import pytest

from tests.acceptance.harness import Worker
from tests.acceptance.scene import Scene, documents, numbers
from tests.builders import Json, encoded, event, upload

pytestmark = pytest.mark.service

ROUNDS = int(os.environ.get("REBALANCES", "10"))
PARTITIONS = 8
DEVICES = 3000
BURST = 60
PAUSE = 0.1
"""Seconds between two bursts; each device is silent for five seconds, so that the clock has idle
windows to close all the time, also in the middle of a rebalance."""


class Crowd:
    """Workers of one group, and load that never stops."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.fed = 0
        self.workers: list[Worker] = []
        self._names = (f"w{number}" for number in count())

    def start(self) -> Worker:
        """Start one more worker, with a folder for its deliveries of its own."""
        worker = self.scene.worker(next(self._names))
        worker.variables = {**worker.variables, "OUT": str(self.scene.folder / worker.name)}
        worker.start()
        self.workers.append(worker)
        return worker

    async def feed(self) -> None:
        """Send uploads of one event each until cancelled; what was begun is still sent."""
        while True:
            now = time.time_ns() // 1_000_000
            names = {n: f"d{n % DEVICES}" for n in range(self.fed, self.fed + BURST)}
            rows = [
                (name.encode(), encoded(upload(event(n=n), device=name)), now)
                for n, name in names.items()
            ]
            self.fed += BURST
            await asyncio.shield(self.scene.kafka.send(self.scene.topic, rows))
            await asyncio.sleep(PAUSE)

    def documents(self) -> list[Json]:
        files = [self.scene.folder / worker.name / "acme.ndjson" for worker in self.workers]
        return [document for file in files for document in documents(file)]

    async def leaves(self, worker: Worker) -> None:
        worker.signal(signal.SIGTERM)
        assert 0 == await worker.ended()

    def assert_running(self, workers: Sequence[Worker]) -> None:
        ended = [worker.name for worker in workers if not worker.running]
        assert [] == ended, "\n".join(w.tail() for w in workers if not w.running)


@pytest.fixture
async def crowd(scene: Scene) -> Crowd:
    scene.name = f"{scene.name}-wide"
    scene.sections["kafka"]["topics"] = [scene.topic]
    await scene.kafka.create(scene.topic, PARTITIONS)
    sink = {"type": "file", "path": "${OUT}"}
    scene.connect({"name": "acme", "sink": sink, "batching": {"max_age": "1s"}})
    return Crowd(scene)


async def test_workers_that_join_and_leave_under_load_end_only_when_told(crowd: Crowd) -> None:
    living = [crowd.start(), crowd.start()]
    for worker in living:
        await worker.until_ready()
    feeding = asyncio.create_task(crowd.feed())
    try:
        for _ in range(ROUNDS):
            living.append(crowd.start())
            await living[-1].until(lambda: living[-1].logged("partitions.assigned"), "it joins")
            crowd.assert_running(living)
            await crowd.leaves(living.pop(0))
            crowd.assert_running(living)
            assert not feeding.done()
    finally:
        feeding.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await feeding

    def complete() -> bool:
        return set(range(crowd.fed)) <= set(numbers(crowd.documents()))

    await living[0].until(complete, "everything arrives")
    assert crowd.fed >= ROUNDS
    crowd.assert_running(living)
    often = Counter(numbers(crowd.documents()))
    assert {} == {number: times for number, times in often.items() if times > 1}, "nothing twice"
    for worker in living:
        await crowd.leaves(worker)
    assert [] == [line for w in crowd.workers for line in w.logged("worker.unexpected_error")]
    assert [] == [line for w in crowd.workers for line in w.logged("partition.unexpected_error")]
    assert [] == [line for w in crowd.workers for line in w.logged("chore.failed")]
