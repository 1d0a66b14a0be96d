"""What clients that mean harm, or are broken, cost a gateway: the others are answered meanwhile."""

import asyncio
import contextlib
import gzip
import json
import signal
import socket
import ssl
import time
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.acceptance import gateway_site
from tests.acceptance.gateway_site import OPEN, SIGNED, GatewayProcess, GatewaySite

EVENTS = f"/v1/apps/{OPEN}/events"
MIB = 1024 * 1024
TLS = Path(__file__).parents[1] / "data" / "tls"

GROWTH = 64 * MIB
"""Resident bytes that an attack may cost beside what the gateway had before."""

DEAREST = 500e-6
"""CPU-seconds that one refused request may cost, several times what it does on an idle machine."""


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[GatewayProcess]:
    """Start a gateway whose Kafka is not there: what is refused is refused all the same."""
    site = GatewaySite(
        tmp_path,
        gateway_site.sections("127.0.0.1:1"),
        gateway={
            **gateway_site.apis("pinpoint-events", "raw"),
            "limits": {"header_timeout": "2s", "body_timeout": "3s", "buffered_bytes": "64MiB"},
        },
    )
    one = site.start_gateway()
    await one.until(lambda: one.logged("gateway.starts"), "it listens")
    yield one
    site.close()


async def opened(port: int, sent: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    return reader, writer


async def answered(gateway: GatewayProcess, within: float = 10.0) -> None:
    """Ask for something that needs neither Kafka nor a body, and be answered in time."""
    began = time.monotonic()
    assert 200 == (await asyncio.to_thread(gateway.ask, "GET", f"/v1/apps/{OPEN}"))[0]
    assert time.monotonic() - began < within


async def test_hundreds_of_slow_heads_and_bodies_hold_up_nobody_and_end(
    gateway: GatewayProcess,
) -> None:
    before = gateway.peak_bytes()
    head = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: 4000000\r\n\r\n" % EVENTS.encode()
    kinds = [b"", b"GET / HTTP/1.1\r\nX-A: ", head + b"x" * 100]
    slow = [await opened(gateway.api, kinds[number % 3]) for number in range(600)]

    async def trickle() -> None:
        while True:
            for _, writer in slow:
                writer.write(b"a")
            await asyncio.sleep(0.2)

    trickling = asyncio.create_task(trickle())
    for _ in range(5):
        await answered(gateway)
        await asyncio.sleep(0.2)
    assert gateway.metrics()["forwarder_gateway_open_connections"] > 500
    async with asyncio.timeout(30):
        answers = [await read_all(reader) for reader, _ in slow]
    trickling.cancel()
    for _, writer in slow:
        writer.close()
    # A trickle of letters is no method, which is told at once.
    assert {b"HTTP/1.1 408", b"HTTP/1.1 400", b""} >= {one[:12] for one in answers}
    found = gateway.metrics()
    assert 150 < found['forwarder_gateway_refusals_total{reason="head_time"}']
    assert 150 < found['forwarder_gateway_refusals_total{reason="body_time"}']
    assert gateway.peak_bytes() - before < GROWTH


async def read_all(reader: asyncio.StreamReader) -> bytes:
    with contextlib.suppress(ConnectionError):
        return await reader.read()
    return b""


async def test_bodies_of_all_together_take_no_more_memory_than_they_may(
    gateway: GatewayProcess,
) -> None:
    before = gateway.peak_bytes()
    head = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: 4000000\r\n\r\n" % EVENTS.encode()
    piece = head + b" " * 3_900_000
    held = []
    for _ in range(40):
        reader, writer = await opened(gateway.api, piece)
        with contextlib.suppress(ConnectionError):
            await asyncio.wait_for(writer.drain(), 5)
        held.append((reader, writer))
    await answered(gateway)
    answers = [await read_all(reader) for reader, _ in held]
    for _, writer in held:
        writer.close()
    told = [one[:12] for one in answers]
    assert told.count(b"HTTP/1.1 429") > 10
    assert all(b"Retry-After: 1" in one for one in answers if one.startswith(b"HTTP/1.1 429"))
    assert 10 < gateway.metrics()['forwarder_gateway_refusals_total{reason="memory"}']
    assert gateway.peak_bytes() - before < 64 * MIB + GROWTH
    await gateway.until(
        lambda: gateway.metrics()["forwarder_gateway_buffered_bytes"] == 0, "all is given back"
    )


async def test_bombs_and_nested_json_are_refused_cheaply(gateway: GatewayProcess) -> None:
    maker = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(maker.compress(bytes(16 * MIB)) for _ in range(64)) + maker.flush()
    deep = b"[" * 1_000_000 + b"]" * 1_000_000
    item = b'{"BatchItem":{"e":{"Endpoint":' + b'{"a":' * 500_000 + b"1" + b"}" * 500_002 + b"}"
    before, spent = gateway.peak_bytes(), gateway.cpu_seconds()
    for body, headers, status in (
        (bomb, {"Content_Encoding": "gzip"}, 413),
        (deep, {}, 400),
        (item, {}, 400),
        (gzip.compress(deep), {"Content_Encoding": "gzip"}, 400),
        (b"\xff" * 1000, {}, 400),
    ):
        for _ in range(5):
            got = await asyncio.to_thread(gateway.ask, "POST", EVENTS, body, **headers)
            assert status == got[0]
    assert gateway.peak_bytes() - before < GROWTH
    assert gateway.cpu_seconds() - spent < 5
    await answered(gateway)


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1/apps/%b/endpoints/e HTTP/1.1\r\nHost: x\r\nAuthorization: x\r\n\r\n"
        % SIGNED.encode(),
        b"POST /v2/events HTTP/1.1\r\nHost: x\r\nAuthorization: Basic eDp4\r\n\r\n",
    ],
    ids=["unknown", "unsigned", "wrong password"],
)
async def test_a_refused_request_costs_little(gateway: GatewayProcess, sent: bytes) -> None:
    count, batch = 10_000, 100

    def flood() -> None:
        with contextlib.ExitStack() as stack:
            for _ in range(count // 1_000):
                one = stack.enter_context(socket.create_connection(("127.0.0.1", gateway.api)))
                one.settimeout(20)
                for _ in range(1_000 // batch):
                    one.sendall(sent * batch)
                    left = batch
                    while left:
                        got = one.recv(65_536)
                        assert got
                        left -= got.count(b"\r\nDate: ")

    before = gateway.cpu_seconds()
    await asyncio.to_thread(flood)
    assert (gateway.cpu_seconds() - before) / count < DEAREST


async def test_more_connections_than_it_holds_end_the_idle_ones(gateway: GatewayProcess) -> None:
    idle = [await opened(gateway.api, b"") for _ in range(200)]
    await answered(gateway)
    for _, writer in idle:
        writer.transport.abort()
    assert gateway.running
    # As many as there can be of this machine's ports and files are tried in the flood below.
    sockets = []
    for _ in range(5_000):
        with contextlib.suppress(OSError):
            sockets.append(socket.create_connection(("127.0.0.1", gateway.api), timeout=5))
            if len(sockets) > 900:
                sockets.pop(0).close()
    await answered(gateway)
    for one in sockets:
        one.close()
    gateway.signal(signal.SIGTERM)
    assert 0 == await gateway.ended()


async def test_with_few_files_it_keeps_to_few_connections(tmp_path: Path) -> None:
    site = GatewaySite(
        tmp_path,
        gateway_site.sections("127.0.0.1:1"),
        gateway=gateway_site.apis("pinpoint-events", "raw"),
    )
    gateway = site.make_gateway()
    gateway.limit_files = 128
    gateway.start()
    await gateway.until(lambda: gateway.logged("gateway.starts"), "it listens")
    held = [await opened(gateway.api, b"GET / HTTP/1.1\r\n") for _ in range(300)]
    await answered(gateway)
    assert 200 == gateway.get("/livez")[0]
    assert [] == gateway.logged("http.refused")
    for _, writer in held:
        writer.close()
    site.close()


async def test_tls_is_spoken_and_who_does_not_shake_hands_is_ended(tmp_path: Path) -> None:
    site = GatewaySite(
        tmp_path,
        gateway_site.sections("127.0.0.1:1"),
        gateway={
            **gateway_site.apis("pinpoint-events", "raw"),
            "limits": {"header_timeout": "1s"},
        },
    )
    tls = {"cert_file": str(TLS / "cert.pem"), "key_file": str(TLS / "key.pem")}
    gateway = site.start_gateway(tls=tls)
    await gateway.until(lambda: gateway.logged("gateway.starts", tls=True), "it listens")
    context = ssl.create_default_context(cafile=str(TLS / "cert.pem"))
    silent = [await opened(gateway.api, b"") for _ in range(50)]
    plain, plain_writer = await opened(gateway.api, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    body = json.dumps(gateway_site.batch("v-1")).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.api, ssl=context)
    head = f"POST {EVENTS} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    for _ in range(2):
        writer.write(head + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 202 ")
        length = int(answer.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
    writer.close()
    assert b"HTTP/1.1" not in await read_all(plain)
    async with asyncio.timeout(10):
        assert {b""} == {await read_all(reader) for reader, _ in silent}
    for _, one in silent:
        one.close()
    plain_writer.close()
    gateway.signal(signal.SIGTERM)
    assert 0 == await gateway.ended()
    assert "Traceback" not in gateway.log_file.read_text()
    site.close()
