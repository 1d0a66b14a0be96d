"""A put over a connection that was kept leaves as the library's own request would."""

import asyncio
import contextlib
import gc
import re
import weakref
from collections.abc import AsyncIterator

import pytest

from forwarder.aws.http_connection import GuardedRequest, HeldAnswer
from forwarder.aws.http_session import SharedTlsSession
from forwarder.aws.session import AwsSession
from forwarder.config.connection import Connection
from forwarder.config.credentials import AccessKeys
from forwarder.config.targets import KinesisTarget, PutMode
from forwarder.model import OutcomeKind
from forwarder.sinks.kinesis import KinesisSink
from tests.services.fake_kinesis import LOADER, FakeClock, batch

LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


class Server:
    """Answers PutRecord; ``heads`` are those of the requests, by connection."""

    def __init__(self) -> None:
        self.url = ""
        self.heads: list[list[bytes]] = []
        self.bodies: list[bytes] = []
        self.writers: list[asyncio.StreamWriter] = []
        self.before = b""
        self.fields = b""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        heads: list[bytes] = []
        self.heads.append(heads)
        self.writers.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = LENGTH.search(head)
                assert length
                self.bodies.append(await reader.readexactly(int(length[1])))
                heads.append(head)
                number = 10**55 + len(self.bodies)
                told = b'{"ShardId":"shardId-000000000000","SequenceNumber":"%d"}' % number
                writer.write(self.before)
                writer.write(b"HTTP/1.1 200 OK\r\n%b" % self.fields)
                writer.write(b"Content-Length: %d\r\n\r\n%b" % (len(told), told))


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[Server]:
    """Give a server that runs."""
    found = Server()
    listening = await asyncio.start_server(found.serve, "127.0.0.1", 0)
    found.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/some%20path"
    yield found
    listening.close()
    for writer in found.writers:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@pytest.fixture(autouse=True)
def library(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Count the requests that the library makes."""
    made: list[None] = []
    usual = SharedTlsSession.send

    async def send(self: SharedTlsSession, request: object) -> object:
        made.append(None)
        return await usual(self, request)

    monkeypatch.setattr(SharedTlsSession, "send", send)
    return made


async def put(sink: KinesisSink, size: int = 10) -> OutcomeKind:
    (outcome,) = await sink.put([batch(1, b"x" * size)])
    return outcome.kind


def sink_of(aws: AwsSession, url: str, key: str = "AKIAEXAMPLE") -> KinesisSink:
    keys = AccessKeys(key, "not-a-secret")
    target = KinesisTarget("acme", "eu-west-1", put=PutMode.RECORD, endpoint_url=url)
    return KinesisSink(Connection("acme", target, credentials=keys), target, aws)


def fields(head: bytes) -> list[bytes]:
    """Return a head without what differs by its time and its body."""
    return [
        line.partition(b"Signature=")[0]
        for line in sorted(head.split(b"\r\n"))
        if not line.lower().startswith(b"content-length:")
    ]


@pytest.mark.parametrize("size", [10, 100_000])
async def test_only_the_first_request_of_a_connection_is_the_librarys_and_all_are_alike(
    library: list[None], size: int
) -> None:
    aws = AwsSession(FakeClock(), LOADER)
    async with serving() as server:
        sink = sink_of(aws, server.url)
        assert {OutcomeKind.DELIVERED} == {await put(sink, size) for _ in range(3)}
        (heads,) = server.heads
        assert (1, 3, 3) == (len(library), len(heads), len(server.bodies))
        assert fields(heads[0]) == fields(heads[1]) == fields(heads[2])
        await sink.close()
    await aws.close()


async def test_a_request_is_gone_once_it_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[weakref.ref[GuardedRequest]] = []
    usual = GuardedRequest.send

    async def send(self: GuardedRequest, conn: object) -> object:
        sent.append(weakref.ref(self))
        return await usual(self, conn)

    monkeypatch.setattr(GuardedRequest, "send", send)
    aws = AwsSession(FakeClock(), LOADER)
    async with serving() as server:
        sink = sink_of(aws, server.url)
        assert OutcomeKind.DELIVERED is await put(sink, 100_000)
        gc.collect()
        assert [None] == [one() for one in sent]
        await sink.close()
    await aws.close()


async def test_news_before_the_answer_are_none() -> None:
    aws = AwsSession(FakeClock(), LOADER)
    async with serving() as server:
        sink = sink_of(aws, server.url)
        server.before = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
        assert {OutcomeKind.DELIVERED} == {await put(sink) for _ in range(2)}
        assert 1 == len(server.heads)
        await sink.close()
    await aws.close()


async def test_a_head_that_is_no_text_is_no_answer() -> None:
    aws = AwsSession(FakeClock(), LOADER)
    async with serving() as server:
        sink = sink_of(aws, server.url)
        assert OutcomeKind.DELIVERED is await put(sink)
        server.fields = "X-Where: Zürich\r\n".encode()
        assert OutcomeKind.DELIVERED is await put(sink)
        server.fields = b"X-Where: Z\xfcrich\r\n"
        assert OutcomeKind.TRANSIENT is await put(sink)
        server.fields = b""
        assert OutcomeKind.DELIVERED is await put(sink)
        assert [3, 1] == [len(heads) for heads in server.heads]
        await sink.close()
    await aws.close()


@pytest.mark.parametrize("odd", ["a\r\nb", "a\nb", "a\rb", "a\0b"])
async def test_a_header_that_would_be_two_is_left_to_the_library(
    library: list[None], odd: str
) -> None:
    aws = AwsSession(FakeClock(), LOADER)
    async with serving() as server:
        good, bad = sink_of(aws, server.url), sink_of(aws, server.url, odd)
        assert OutcomeKind.DELIVERED is await put(good)
        assert OutcomeKind.DELIVERED is not await put(bad)
        assert (2, 1) == (len(library), len(server.bodies))
        await good.close()
        await bad.close()
    await aws.close()


async def test_no_kept_connection_is_free_before_its_answer_is_judged() -> None:
    aws = AwsSession(FakeClock(), LOADER)
    async with serving() as server:
        place = await aws.endpoints.find("kinesis", "eu-west-1", server.url)
        async with SharedTlsSession(**place.session_options) as session:
            http = (await session._get_session(None)).session  # noqa: SLF001  # as above
            free = http.connector._conns  # noqa: SLF001  # those that nobody has
            response = await http.post(place.url, data=b"{}")
            await response.read_held()
            response.release()
            for ending in (HeldAnswer.release, HeldAnswer.abort):
                assert free
                held = await session.exchange(place.url, b"Host: x\r\n", b"{}")
                assert held is not None
                assert not free
                ending(held)
            assert not free
    await aws.close()
