"""Puts through a proxy: the tunnel's own answer is none to a put, and puts go over it as ever."""

import asyncio
import os
import ssl
from pathlib import Path

import pytest

from forwarder.aws.session import AwsSession
from forwarder.config.connection import Connection
from forwarder.config.credentials import AccessKeys
from forwarder.config.targets import KinesisTarget, PutMode
from forwarder.model import OutcomeKind
from forwarder.sinks.kinesis import KinesisSink
from tests.services.fake_kinesis import LOADER, FakeClock, batch
from tests.unit.sinks.test_acknowledgements import Hostile, Server


class Proxy:
    """An HTTP proxy that knows CONNECT alone."""

    def __init__(self) -> None:
        self.tunnels = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        method, target, _ = head.split(b" ", 2)
        assert method == b"CONNECT"
        self.tunnels += 1
        host, port = target.decode().split(":")
        there = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        ways = (self._pass(reader, there[1]), self._pass(there[0], writer))
        await asyncio.gather(*ways)

    async def _pass(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        try:
            while piece := await source.read(65_536):
                target.write(piece)
        except ConnectionError:
            pass
        finally:
            target.close()


TLS = Path(__file__).parents[2] / "data" / "tls"
CERTIFICATE = TLS / "cert.pem"


def gone(connection: Hostile) -> bool:
    return connection.transport is None or connection.transport.is_closing()


async def test_puts_go_through_a_tunnel_and_a_stray_answer_costs_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in list(os.environ):
        if name.startswith("AWS_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE, TLS / "key.pem")
    server, proxy = Server([], speaks_first=False), Proxy()
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(lambda: Hostile(server), "127.0.0.1", 0, ssl=context)
    between = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{between.sockets[0].getsockname()[1]}")
    monkeypatch.setenv("AWS_CA_BUNDLE", str(CERTIFICATE))
    url = f"https://localhost:{listening.sockets[0].getsockname()[1]}"
    aws = AwsSession(FakeClock(), LOADER)
    target = KinesisTarget("acme", "eu-west-1", put=PutMode.RECORDS, endpoint_url=url)
    keys = AccessKeys("AKIA", "secret")
    sink = KinesisSink(Connection("acme", target, credentials=keys), target, aws)
    for number in range(5):
        (outcome,) = await sink.put([batch(number)])
        assert OutcomeKind.DELIVERED is outcome.kind, outcome.error
    assert 1 == proxy.tunnels
    for connection in server.connections:
        connection.send(server.forged())
    async with asyncio.timeout(10):
        while not all(map(gone, server.connections)):  # noqa: ASYNC110  # nothing tells of it
            await asyncio.sleep(0.001)
    (outcome,) = await sink.put([batch(9)])
    assert OutcomeKind.DELIVERED is outcome.kind
    assert 6 == len(server.stored)
    assert 2 == proxy.tunnels
    await sink.close()
    await aws.close()
    listening.close()
    between.close()
