"""What is sent is what the client sends, and a request waits as long as it may."""
# ruff: noqa: ANN401, SLF001  # the client ships no types, and has no public way to these

import asyncio
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import KafkaConnectionError, RequestTimedOutError
from aiokafka.protocol.group import SyncGroupRequest, SyncGroupResponse_v0
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.transaction import EndTxnRequest, EndTxnResponse_v0

from forwarder.kafka.patches import requests

QUICK = 0.05
"""Seconds for IMPATIENCE: these wait for it."""


class Writer:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.transport = self

    def write(self, content: bytes) -> None:
        self.written.append(content)

    def close(self) -> None:
        pass

    abort = close


class Reader:
    @staticmethod
    def at_eof() -> bool:
        return False


def connection() -> Any:
    """Return one that is open, to a broker that a test answers for."""
    made: Any = AIOKafkaConnection("127.0.0.1", 1, request_timeout_ms=60_000)
    made._versions = {0: (0, 7), 3: (0, 1), 26: (0, 1)}
    made._writer, made._reader = Writer(), Reader()
    made._read_task = asyncio.get_running_loop().create_future()
    return made


@pytest.fixture
async def client(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    """Give a client with one connection, whose requests are limited."""
    monkeypatch.setattr(requests, "IMPATIENCE", QUICK)
    made: Any = AIOKafkaClient(bootstrap_servers="127.0.0.1:1")
    known = connection()
    made._conns[1, 0] = known
    requests.limit_requests(made)
    assert known is await made._get_conn(1, group=0)
    yield made
    known.close()


def ended(client: Any, number: int) -> None:
    """Answer the request of a number: the transaction has ended."""
    answer = struct.pack(">i", number) + EndTxnResponse_v0(0, 0).encode()
    client._conns[1, 0]._handle_frame(answer)


END = EndTxnRequest("g/raw/0", 7, 1, 1)


@pytest.mark.parametrize(
    "request_",
    [END, MetadataRequest(["raw"]), ProduceRequest("t", -1, 1000, [("raw", [(0, b"batch")])])],
    ids=lambda one: type(one).__name__,
)
async def test_a_request_is_the_bytes_that_the_client_sends(client: Any, request_: Any) -> None:
    plain = connection()
    plain.send(request_).close()
    sent = client._conns[1, 0]
    task = asyncio.ensure_future(client.send(1, request_, group=0))
    await asyncio.sleep(0)
    assert b"".join(plain._writer.written) == b"".join(sent._writer.written)
    task.cancel()
    plain.close()


async def test_an_answer_reaches_who_asked_and_the_limit_is_off(client: Any) -> None:
    first, second = (asyncio.ensure_future(client.send(1, END, group=0)) for _ in range(2))
    await asyncio.sleep(0)
    ended(client, 1)
    ended(client, 2)
    assert [0, 0] == [answer.error_code for answer in (await first, await second)]
    await asyncio.sleep(2 * QUICK)
    assert client._conns[1, 0].connected()


async def test_a_request_behind_an_answered_one_has_its_own_limit(client: Any) -> None:
    begun = asyncio.get_running_loop().time()
    first = asyncio.ensure_future(client.send(1, END, group=0))
    await asyncio.sleep(QUICK / 2)
    ended(client, 1)
    await first
    known = client._conns[1, 0]
    with pytest.raises(RequestTimedOutError):
        await client.send(1, END, group=0)
    assert asyncio.get_running_loop().time() - begun >= 1.5 * QUICK
    assert not known.connected()


async def test_a_limit_holds_behind_an_answered_request_that_could_take_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A member's heartbeats go over the connection on which it has joined its group."""
    monkeypatch.setattr(requests, "IMPATIENCE", QUICK)
    made: Any = AIOKafkaClient(bootstrap_servers="127.0.0.1:1")
    known = made._conns[1, 0] = connection()
    known._versions[14] = (0, 0)
    requests.limit_requests(made, joining=600.0)
    assert known is await made._get_conn(1, group=0)
    sync = SyncGroupRequest("g", 1, "m", None, [])
    task = asyncio.ensure_future(made.send(1, sync, group=0))
    await asyncio.sleep(0)
    known._handle_frame(struct.pack(">i", 1) + SyncGroupResponse_v0(0, b"").encode())
    await task
    async with asyncio.timeout(10):
        with pytest.raises(RequestTimedOutError):
            await made.send(1, END, group=0)
    assert not known.connected()


async def test_what_waits_behind_an_overdue_request_fails_with_its_connection(client: Any) -> None:
    first = asyncio.ensure_future(client.send(1, END, group=0))
    await asyncio.sleep(QUICK / 2)
    second = asyncio.ensure_future(client.send(1, END, group=0))
    found = await asyncio.gather(first, second, return_exceptions=True)
    assert [RequestTimedOutError, KafkaConnectionError] == list(map(type, found))


async def test_a_request_that_nobody_waits_for_any_more_ends_no_connection(client: Any) -> None:
    task = asyncio.ensure_future(client.send(1, END, group=0))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(2 * QUICK)
    assert client._conns[1, 0].connected()


async def test_nothing_is_sent_on_a_connection_that_has_ended(client: Any) -> None:
    known = client._conns[1, 0]
    known.close()
    with pytest.raises(KafkaConnectionError):
        known.send(END)
