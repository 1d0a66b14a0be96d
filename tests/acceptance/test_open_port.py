"""Thousands of connections to a worker's port, and everything flows: deliveries, probes, memory."""

import asyncio
import resource
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from tests.acceptance.harness import Worker, until
from tests.acceptance.scene import Scene

ATTACKERS = 3_000
"""Connections held open, or tried again and again, all the while."""

LOAD = 2_000
"""Events delivered meanwhile, each in a batch of its own."""

SINGLY = {"send_as_batch": False}


class Attack:
    """Holds connections open, each with something that is no whole request."""

    def __init__(self, port: int, sent: Callable[[int], bytes]) -> None:
        self.held: list[socket.socket] = []
        self.opened = 0
        self._port = port
        self._sent = sent

    async def go_on(self) -> None:
        """Open one connection after the other; those that were ended are opened anew."""
        while True:
            for _ in range(50):
                self._open()
            await asyncio.sleep(0.01)

    def _open(self) -> None:
        if len(self.held) >= ATTACKERS:
            self.held.pop(0).close()
        one = socket.socket()
        one.setblocking(False)  # noqa: FBT003  # the library's own signature
        self.held.append(one)
        with suppress(BlockingIOError):
            one.connect(("127.0.0.1", self._port))
        # What has connected meanwhile sends its part; what was ended is of no use any more.
        for number, other in enumerate(self.held[-100:]):
            with suppress(OSError):
                other.send(self._sent(number))
        self.opened += 1


@asynccontextmanager
async def attacked(port: int, sent: Callable[[int], bytes]) -> AsyncIterator[Attack]:
    attack = Attack(port, sent)
    task = asyncio.create_task(attack.go_on())
    try:
        await until(lambda: attack.opened > ATTACKERS, "thousands are open")
        yield attack
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        for one in attack.held:
            one.close()


def room(worker: Worker) -> int:
    """Return the bytes of log so far."""
    return worker.log_file.stat().st_size


@pytest.fixture(autouse=True)
def _many_files() -> None:
    """Let this process have as many connections as the attack takes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 2 * ATTACKERS:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 2 * ATTACKERS), hard))


KINDS: dict[str, Callable[[int], bytes]] = {
    "idle": lambda _: b"",
    "half a head": lambda _: b"GET /metrics HTTP/1.1\r\nx: y",
    "drips": lambda number: b"x" if number % 2 else b"GET / HTTP/1.1\r\n",
    "scrapes that nobody reads": lambda _: b"GET /metrics HTTP/1.1\r\n\r\n",
    "the dearest heads": lambda _: b"GET / HTTP/1.1\r\na: x" + b" " * 16_000 + b"x\r\n\r\n",
}

FLOODS = {
    "after a request": "GET /livez HTTP/1.1\r\n\r\n",
    "after what is no request": "no request\r\n\r\n",
    "line ends alone": "",
}
"""By what is sent first, before bytes without end."""


@asynccontextmanager
async def flooded(port: int, first: str) -> AsyncIterator[None]:
    flooding = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.acceptance.flooding", str(port), first),
        cwd=Path(__file__).parents[2],
    )
    try:
        yield
        assert flooding.returncode is None, "it went on all the while"
    finally:
        with suppress(ProcessLookupError):
            flooding.kill()
        await flooding.wait()


PROBE = """
import http.client, sys
connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=5)
connection.request("GET", sys.argv[2])
sys.exit(connection.getresponse().status != 200)
"""


async def answers(worker: Worker, path: str = "/livez") -> bool:
    """Ask once, as a kubelet does, from another process than the attack.

    A thread beside the attack would have to wait for its turn while those who come later push its
    connection out.
    """
    probe = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-c", PROBE, str(worker.port), path
    )
    return await probe.wait() == 0


async def begun(scene: Scene) -> Worker:
    """Start a worker that may have few files open, and have it deliver."""
    scene.to_file(settings=SINGLY)
    worker = scene.worker()
    worker.limit_files = 256
    worker.start()
    await worker.until_ready()
    await scene.feed([0])
    await worker.until(lambda: scene.numbers() == [0], "it delivers")
    return worker


async def all_flows(scene: Scene, worker: Worker) -> None:
    """Have all of the load delivered, and probes answered one by one in between."""
    for n in range(1, 11):
        await scene.feed([n])
        await worker.until(lambda n=n: n in scene.numbers(), f"{n} is delivered")  # type: ignore[misc]
        assert await answers(worker), "each probe is answered"
    await scene.feed(range(11, LOAD))
    await worker.until(lambda: len(scene.numbers()) >= LOAD, "all of it is delivered", 60)
    assert await answers(worker, "/readyz")


def nothing_grew(scene: Scene, worker: Worker, memory: int, log: int) -> None:
    """Everything was delivered once, and memory and log are about as they were."""
    assert [*range(LOAD)] == sorted(scene.numbers())
    assert worker.peak_bytes() - memory < 64 * 2**20
    assert room(worker) - log < 64 * 2**10
    assert worker.metrics()


@pytest.mark.parametrize("kind", KINDS)
async def test_deliveries_and_probes_go_on_beside_thousands_of_connections(
    scene: Scene, kind: str
) -> None:
    worker = await begun(scene)
    memory, log = worker.peak_bytes(), room(worker)
    async with attacked(worker.port, KINDS[kind]) as attack:
        opened = attack.opened
        await all_flows(scene, worker)
        assert attack.opened > opened, "it went on all the while"
    nothing_grew(scene, worker, memory, log)


@pytest.mark.parametrize("kind", FLOODS)
async def test_deliveries_and_probes_go_on_beside_bytes_without_end(
    scene: Scene, kind: str
) -> None:
    worker = await begun(scene)
    memory, log = worker.peak_bytes(), room(worker)
    async with flooded(worker.port, FLOODS[kind]):
        await all_flows(scene, worker)
    nothing_grew(scene, worker, memory, log)
