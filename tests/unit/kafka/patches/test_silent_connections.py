"""How a Kafka client gives up connections that went silent."""
# ruff: noqa: SLF001  # the client has no public way to its connections

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import RequestTimedOutError
from aiokafka.protocol.group import JoinGroupRequest
from aiokafka.protocol.metadata import MetadataRequest

from forwarder.kafka.patches import requests

QUICK = 0.05
"""Seconds for IMPATIENCE: these wait for it."""


class Deaf:
    """A broker that takes connections and never answers."""

    def __init__(self) -> None:
        self.port = 0
        self._open: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.append(writer)
        await reader.read()

    def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._open:
            writer.close()

    async def connection(self) -> AIOKafkaConnection:
        """Return a connection as if the broker had told its versions, watched from now on."""
        connection = AIOKafkaConnection("127.0.0.1", self.port, request_timeout_ms=60_000)

        async def versions() -> None:
            connection._versions = {3: (0, 1), 11: (0, 2)}

        connection._do_version_lookup = versions
        await connection.connect()
        client = AIOKafkaClient(bootstrap_servers="127.0.0.1:1")

        async def connect(*_: object, **__: object) -> AIOKafkaConnection:
            return connection

        client._get_conn = connect
        requests.limit_requests(client, joining=30.0)
        assert connection is await client._get_conn(1)
        return connection


@pytest.fixture
async def deaf(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Deaf]:
    monkeypatch.setattr(requests, "IMPATIENCE", QUICK)
    deaf = Deaf()
    await deaf.start()
    yield deaf
    deaf.stop()


async def test_a_connection_that_does_not_answer_is_closed_and_takes_the_silent_ones_along(
    deaf: Deaf,
) -> None:
    asked, idle = await deaf.connection(), await deaf.connection()
    other = Deaf()
    await other.start()
    elsewhere = await other.connection()

    with pytest.raises(RequestTimedOutError):
        await asked.send(MetadataRequest([]))

    assert [False, False, True] == [c.connected() for c in (asked, idle, elsewhere)]
    elsewhere.close()
    other.stop()


async def test_a_connection_that_was_heard_meanwhile_stays(deaf: Deaf) -> None:
    asked, heard = await deaf.connection(), await deaf.connection()
    asyncio.get_running_loop().call_later(QUICK / 2, hear, heard)

    with pytest.raises(RequestTimedOutError):
        await asked.send(MetadataRequest([]))

    assert heard.connected()
    heard.close()


def hear(connection: AIOKafkaConnection) -> None:
    """Have a connection look as if an answer had come now."""
    connection._last_action = asyncio.get_running_loop().time()


async def test_joining_a_group_may_take_as_long_as_its_slowest_member(deaf: Deaf) -> None:
    joining, asked = await deaf.connection(), await deaf.connection()
    request = JoinGroupRequest("g", 30_000, 60_000, "", None, "consumer", [("range", b"")])
    joins = asyncio.ensure_future(joining.send(request))

    with pytest.raises(RequestTimedOutError):
        await asked.send(MetadataRequest([]))

    assert not joins.done()
    assert joining.connected()
    joining.close()
    await asyncio.gather(joins, return_exceptions=True)
