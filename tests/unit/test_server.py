import socket
from collections.abc import AsyncIterator

import aiohttp
import pytest

from forwarder.clock import SystemClock
from forwarder.errors import StartupError
from forwarder.model import Partition
from forwarder.ops.health import STALL, Health
from forwarder.ops.metrics import Metrics
from forwarder.ops.report import Report
from forwarder.ops.server import Server


class SkewedClock(SystemClock):
    """The machine's clock, with seconds that the test adds."""

    def __init__(self) -> None:
        self.skew = 0.0

    def steady(self) -> float:
        return super().steady() + self.skew


@pytest.fixture
def clock() -> SkewedClock:
    return SkewedClock()


@pytest.fixture
def report(clock: SkewedClock) -> Report:
    return Report(Metrics("1.2.3"), Health(clock), clock, {"acme": True})


@pytest.fixture
async def client(report: Report) -> AsyncIterator[aiohttp.ClientSession]:
    server = Server(report)
    port = await server.start("127.0.0.1", 0)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        yield session
    await server.stop()


async def test_metrics_come_in_the_text_format(client: aiohttp.ClientSession) -> None:
    async with client.get("/metrics") as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert 'forwarder_info{version="1.2.3"} 1.0' in await answer.text()


async def test_alive_depends_on_the_heartbeat_alone(
    client: aiohttp.ClientSession, clock: SkewedClock
) -> None:
    async with client.get("/livez") as answer:
        assert answer.status == 200
        assert (await answer.json())["alive"] is True
    clock.skew += STALL + 1
    async with client.get("/livez") as answer:
        assert answer.status == 503
        assert (await answer.json())["silence_seconds"] >= STALL


async def test_ready_once_every_owned_partition_is_open(
    client: aiohttp.ClientSession, report: Report
) -> None:
    async with client.get("/readyz") as answer:
        assert answer.status == 503
        assert (await answer.json())["joined"] is False
    report.joined({Partition("raw", 0): "open"})
    report.lane_status("acme", "raw/0", "paused", "no stream")
    async with client.get("/readyz") as answer:
        assert answer.status == 200
        assert "paused" in await answer.text()


@pytest.mark.parametrize("path", ["/metrics", "/livez"])
async def test_a_head_request_gets_the_headers_alone(
    client: aiohttp.ClientSession, path: str
) -> None:
    async with client.head(path) as answer:
        assert answer.status == 200
        assert await answer.read() == b""


@pytest.mark.parametrize("path", ["/", "/metrics/", "/healthz"])
async def test_anything_else_is_not_found(client: aiohttp.ClientSession, path: str) -> None:
    async with client.get(path) as answer:
        assert answer.status == 404


async def test_a_taken_port_ends_the_start_with_what_to_do(report: Report) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        server = Server(report)
        with pytest.raises(StartupError, match=r"cannot listen on 127\.0\.0\.1:.*set server\.host"):
            await server.start("127.0.0.1", taken.getsockname()[1])
        await server.stop()


async def test_a_stopped_server_listens_no_more(report: Report) -> None:
    server = Server(report)
    port = await server.start("127.0.0.1", 0)
    await server.stop()
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get(f"http://127.0.0.1:{port}/livez")
