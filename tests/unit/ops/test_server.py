import asyncio
import gzip
import re
import socket
from collections.abc import AsyncIterator, Iterable

import aiohttp
import pytest
from prometheus_client.core import Metric
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families as text_families
from structlog.testing import capture_logs

from forwarder import native
from forwarder.clock import SystemClock
from forwarder.errors import StartupError
from forwarder.model import Collected, Partition
from forwarder.ops.health import HEARTBEAT_TIMEOUT, Health
from forwarder.ops.metrics import Metrics
from forwarder.ops.report import WorkerReport
from forwarder.ops.reporter import LaneStatus, Phase
from forwarder.ops.server import OpsServer
from tests.batches import batch
from tests.doubles import own


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
def report(clock: SkewedClock) -> WorkerReport:
    return WorkerReport(Metrics("1.2.3"), Health(clock), clock, {"acme": True})


@pytest.fixture
async def client(report: WorkerReport) -> AsyncIterator[aiohttp.ClientSession]:
    server = OpsServer(report)
    port = await server.start("127.0.0.1", 0)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        yield session
    await server.stop()


async def test_metrics_come_in_the_text_format(client: aiohttp.ClientSession) -> None:
    async with client.get("/metrics") as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        labels = f'core="{native.name()}",version="1.2.3"'
        assert f"forwarder_build_info{{{labels}}} 1.0" in await answer.text()


async def test_alive_depends_on_the_heartbeat_alone(
    client: aiohttp.ClientSession, clock: SkewedClock
) -> None:
    async with client.get("/livez") as answer:
        assert answer.status == 200
        assert (await answer.json())["alive"] is True
    clock.skew += HEARTBEAT_TIMEOUT + 1
    async with client.get("/livez") as answer:
        assert answer.status == 503
        assert (await answer.json())["silence_seconds"] >= HEARTBEAT_TIMEOUT


async def test_ready_once_every_owned_partition_is_open(
    client: aiohttp.ClientSession, report: WorkerReport
) -> None:
    async with client.get("/readyz") as answer:
        assert answer.status == 503
        assert (await answer.json())["joined"] is False
    own(report, {Partition("raw", 0): Phase.OPEN})
    report.lane_status("acme", "raw/0", LaneStatus.PAUSED, "no stream")
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


OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


def busy(report: WorkerReport) -> None:
    """Report something of every kind of metric."""
    own(report, {Partition("raw", 0): Phase.OPEN})
    report.collected("raw/0", Collected(records=3, uploads=2, accepted={"acme": 2}))
    report.put("acme", 0.1, [])
    report.delivered("acme", [batch("1"), batch("2")])
    report.tick("raw/0", 0.5, "committed")


def samples(families: Iterable[Metric]) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
        if not sample.name.startswith("process_")
    }


async def test_openmetrics_says_the_same_as_the_text_format(
    client: aiohttp.ClientSession, report: WorkerReport
) -> None:
    busy(report)
    async with client.get("/metrics") as answer:
        text = await answer.text()
    async with client.get("/metrics", headers={"Accept": OPENMETRICS}) as answer:
        assert OPENMETRICS == answer.headers["Content-Type"]
        openmetrics = await answer.text()
    assert openmetrics.endswith("# EOF\n")
    found = samples(openmetrics_families(openmetrics))  # type: ignore[no-untyped-call]  # as they ship it
    assert samples(text_families(text)) == found
    assert 3 == found["forwarder_records_total", (("topic", "raw"),)]
    assert 2 == found["forwarder_freshness_seconds_count", (("connection", "acme"),)]


@pytest.mark.parametrize("accept", ["*/*", OPENMETRICS])
async def test_metrics_are_compressed_for_who_asks_for_it(
    report: WorkerReport, accept: str
) -> None:
    server = OpsServer(report)
    port = await server.start("127.0.0.1", 0)
    url = f"http://127.0.0.1:{port}/metrics"
    header = {"Accept": accept, "Accept-Encoding": "gzip;q=0.9, identity;q=0.1"}
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        async with session.get(url, headers=header) as answer:
            assert "gzip" == answer.headers["Content-Encoding"]
            assert "Accept, Accept-Encoding" == answer.headers["Vary"]
            text = gzip.decompress(await answer.read())
        async with session.get(url, headers={"Accept-Encoding": "gzip;q=0"}) as answer:
            assert "Content-Encoding" not in answer.headers
            assert (await answer.read()).startswith(b"# HELP")
        async with session.head(url, headers=header) as answer:
            assert "gzip" == answer.headers["Content-Encoding"]
            assert int(answer.headers["Content-Length"]) > 0
    await server.stop()
    assert b"forwarder_build_info" in text
    assert (accept == OPENMETRICS) == text.endswith(b"# EOF\n")


async def test_however_many_scrape_at_a_time_they_share_what_is_rendered(
    client: aiohttp.ClientSession, report: WorkerReport, monkeypatch: pytest.MonkeyPatch
) -> None:
    rendered = []
    real = report.metrics.render

    def render(*, openmetrics: bool = False) -> bytes:
        rendered.append(openmetrics)
        return real(openmetrics=openmetrics)

    monkeypatch.setattr(report.metrics, "render", render)

    async def scrape() -> int:
        async with client.get("/metrics") as answer:
            await answer.read()
            return answer.status

    assert [200] * 50 == await asyncio.gather(*(scrape() for _ in range(50)))
    assert 0 < len(rendered) < 50


async def test_a_scrape_shows_what_was_true_when_it_was_asked_for(
    client: aiohttp.ClientSession, report: WorkerReport
) -> None:
    for number in range(1, 4):
        report.rebalanced()
        async with client.get("/metrics") as answer:
            assert f"forwarder_rebalances_total {number}.0" in await answer.text()


async def test_metrics_that_cannot_be_rendered_are_a_500_and_a_line(
    client: aiohttp.ClientSession, report: WorkerReport, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: bool) -> bytes:
        raise RuntimeError

    monkeypatch.setattr(report.metrics, "render", fail)
    with capture_logs() as logs:
        for _ in range(3):
            async with client.get("/metrics") as answer:
                assert answer.status == 500
    assert ["http.failed"] == [line["event"] for line in logs]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
async def test_another_method_is_refused(client: aiohttp.ClientSession, method: str) -> None:
    async with client.request(method, "/livez", data=b"body") as answer:
        assert answer.status == 405
        assert "GET, HEAD" == answer.headers["Allow"]


async def test_ready_shows_neither_role_nor_account(
    client: aiohttp.ClientSession, report: WorkerReport
) -> None:
    own(report, {Partition("raw", 0): Phase.OPEN})
    role = "arn:aws:iam::111122223333:role/mparticle"
    reason = f"cannot assume {role} with ExternalId orgid:77: AccessDenied"
    report.lane_status("acme", "raw/0", LaneStatus.PAUSED, reason, f"ask {role}")
    async with client.get("/readyz") as answer:
        text = await answer.text()
    assert "cannot assume (ARN) with ExternalId (ExternalId): AccessDenied" in text
    assert not re.search("111122223333|mparticle|orgid|77", text)


@pytest.mark.parametrize("path", ["/", "/metrics/", "/healthz"])
async def test_anything_else_is_not_found(client: aiohttp.ClientSession, path: str) -> None:
    async with client.get(path) as answer:
        assert answer.status == 404


async def test_a_taken_port_ends_the_start_with_what_to_do(report: WorkerReport) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        server = OpsServer(report)
        with pytest.raises(StartupError, match=r"cannot listen on 127\.0\.0\.1:.*set server\.host"):
            await server.start("127.0.0.1", taken.getsockname()[1])
        await server.stop()


async def test_a_stopped_server_listens_no_more(report: WorkerReport) -> None:
    server = OpsServer(report)
    port = await server.start("127.0.0.1", 0)
    await server.stop()
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get(f"http://127.0.0.1:{port}/livez")
