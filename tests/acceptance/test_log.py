"""Logging decides nothing: a worker whose log cannot be written delivers, and ends when told."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.acceptance.harness import Site, Worker, until
from tests.acceptance.scene import Scene, numbers
from tests.fake_aws import FakeAws

DROPPED = "forwarder_log_lines_dropped_total"
SINGLY = {"send_as_batch": False}


class Log:
    """Where a worker's log goes, and what becomes of it."""

    def __init__(self, stack: ExitStack) -> None:
        self.reads, self.writes = os.pipe()
        self._stack = stack
        for end in (self.reads, self.writes):
            stack.callback(self._close, end)
        self._closed: set[int] = set()

    def _close(self, end: int) -> None:
        if end not in self._closed:
            self._closed.add(end)
            os.close(end)

    def fill(self) -> None:
        """Put in as much as the pipe takes: the next byte blocks."""
        os.set_blocking(self.writes, False)
        for size in (4096, 1):
            while True:
                try:
                    os.write(self.writes, b"\n" * size)
                except BlockingIOError:
                    break
        os.set_blocking(self.writes, True)

    def reader_goes(self) -> None:
        """Let whoever reads it go away."""
        self._close(self.reads)

    def full(self) -> int:
        """Return a disk without room."""
        device = Path("/dev/full").open("wb", buffering=0)  # noqa: SIM115  # the stack closes it
        return self._stack.enter_context(device).fileno()


@pytest.fixture
def log() -> Iterator[Log]:
    with ExitStack() as stack:
        yield Log(stack)


def stderr_of(kind: str, log: Log) -> int:
    """Return where stderr goes: to nobody's profit."""
    if kind == "a full disk":
        return log.full()
    if kind == "a pipe that nobody reads":
        log.fill()
    else:
        log.reader_goes()
    return log.writes


KINDS = ["a pipe that nobody reads", "a reader that has gone", "a full disk"]


def to_kinesis(scene: Scene, aws: FakeAws) -> None:
    sink = {"type": "kinesis", "stream_name": "s", "region": "us-east-1"}
    scene.variables = {**aws.variables()}
    scene.connect({"name": "acme", "sink": sink, "settings": SINGLY})


def stored(aws: FakeAws) -> list[int]:
    """Return the numbers of the events that the stream holds."""
    return numbers(json.loads(one.value) for one in aws.read("s"))


@pytest.mark.parametrize("kind", KINDS)
async def test_a_lane_that_fails_and_is_mended_delivers_without_a_log(
    scene: Scene, log: Log, kind: str
) -> None:
    async with FakeAws() as aws:
        aws.make_stream("s", "000000000000")
        to_kinesis(scene, aws)
        worker = scene.worker()
        worker.start(stderr=stderr_of(kind, log))
        await worker.until_ready()
        aws.fault("error", stream="s", code="KMSDisabledException", times=1)
        await scene.feed([1])
        await until(lambda: stored(aws) == [1], "it is delivered once it can be", 90)
        await scene.feed([2, 3])
        await until(lambda: sorted(stored(aws)) == [1, 2, 3], "the lane goes on")

        assert worker.get("/livez")[0] == 200
        if kind != "a pipe that nobody reads":
            assert worker.metrics()[DROPPED] > 0
        worker.signal(signal.SIGTERM)
        assert await worker.ended() == 0


async def test_a_pipe_is_filled_in_the_middle_and_read_again_at_last(
    scene: Scene, log: Log
) -> None:
    scene.to_file(settings=SINGLY)
    worker = scene.worker()
    worker.start(stderr=log.writes)
    await worker.until_ready()
    log.fill()
    second = scene.worker("second")  # each rebalance is several lines
    second.start()
    await second.until_ready()
    await scene.feed([1, 2])
    await worker.until(lambda: sorted(scene.numbers()) == [1, 2], "both are delivered")
    worker.signal(signal.SIGTERM)
    os.set_blocking(log.reads, False)
    read = bytearray()

    def ended() -> bool:
        while True:
            try:
                found = os.read(log.reads, 65536)
            except BlockingIOError:
                return not worker.running
            read.extend(found)
            if not found:
                return not worker.running

    await until(ended, "the worker ends once somebody reads")
    assert await worker.ended() == 0
    events = [json.loads(line)["event"] for line in bytes(read).splitlines() if line]
    assert "worker.starts" == events[0]
    assert "worker.stopped" == events[-1]


@pytest.mark.parametrize("kind", KINDS)
async def test_sigterm_ends_a_worker_without_kafka_and_without_a_log(
    folder: Site, log: Log, kind: str
) -> None:
    folder.connect({"name": "acme", "sink": {"type": "file", "path": str(folder.folder / "out")}})
    worker = folder.worker()
    worker.start(stderr=stderr_of(kind, log))
    await worker.until(lambda: worker.get("/livez")[0] == 200, "it lives")
    worker.signal(signal.SIGTERM)
    assert await worker.ended() == 0


async def test_a_second_signal_ends_it_at_once_all_the_same(folder: Site, log: Log) -> None:
    folder.sections["drain_timeout"] = "60s"
    folder.connect({"name": "acme", "sink": {"type": "file", "path": str(folder.folder / "out")}})
    worker = folder.worker()
    log.fill()
    worker.start(stderr=log.writes)
    await worker.until(lambda: worker.get("/livez")[0] == 200, "it lives")
    worker.signal(signal.SIGTERM)
    worker.signal(signal.SIGTERM)
    assert await worker.ended() in {0, 1}


@pytest.mark.parametrize("kind", KINDS)
async def test_a_run_over_a_file_ends_as_it_should_without_a_log(
    folder: Site, log: Log, kind: str
) -> None:
    path = folder.connect({"name": "acme", "sink": {"type": "file", "path": "out"}})
    run: Worker = folder.command("run", "--connection", str(path), "--source", "-")
    run.start(stdin=b"no upload\n", stderr=stderr_of(kind, log))
    assert await run.ended() in {0, 1}
    missing = folder.command("run", "--connection", "nowhere.yaml", "--source", "-")
    missing.start(stderr=stderr_of(kind, log))
    assert await missing.ended() == 2
