"""What a connection tells of its answers by itself: over TLS, and while a request still leaves."""

import asyncio
import contextlib
import os
import re
import select
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from forwarder.aws.credentials import RoleError
from forwarder.aws.http_connection import GuardedResponse, OneAnswerProtocol
from forwarder.aws.http_session import SharedTlsSession
from forwarder.aws.session import AwsSession
from forwarder.config.connection import Connection
from forwarder.config.credentials import AccessKeys, AssumedRole
from forwarder.config.targets import KinesisTarget, PutMode
from forwarder.model import OutcomeKind
from forwarder.sinks.kinesis import KinesisSink
from tests.services.fake_kinesis import LOADER, FakeClock, batch

TLS = Path(__file__).parents[2] / "data" / "tls"
LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
WAIT_SECONDS = 10.0


def answer(number: int) -> bytes:
    body = b'{"ShardId":"shardId-000000000000","SequenceNumber":"%d"}' % (10**55 + number)
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


@pytest.fixture(autouse=True)
def lone_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")


class Ticketing:
    """A TLS 1.3 server of one connection that sends its session tickets when it is told to.

    ``stray``: what it sends along with them, before anything was asked.
    """

    def __init__(self, stray: bytes = b"") -> None:
        self.stray = stray
        self.asked = 0
        self.may_send = threading.Event()
        self.has_sent = threading.Event()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self._listening.getsockname()[1]}"
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def close(self) -> None:
        self.may_send.set()
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            connection, _ = self._listening.accept()
            with connection:
                connection.settimeout(WAIT_SECONDS)
                self._serve(connection)

    def _serve(self, connection: socket.socket) -> None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(TLS / "cert.pem", TLS / "key.pem")
        received, sent = ssl.MemoryBIO(), ssl.MemoryBIO()
        spoken = context.wrap_bio(received, sent, server_side=True)

        def done(act: Any) -> Any:  # noqa: ANN401  # whatever TLS returns
            while True:
                with contextlib.suppress(ssl.SSLWantReadError):
                    return act()
                connection.sendall(sent.read())
                more = connection.recv(65_536)
                if not more:
                    raise OSError
                received.write(more)

        done(spoken.do_handshake)
        # What is left to send are the tickets.
        assert sent.pending
        if self.stray:
            spoken.write(self.stray)
        assert self.may_send.wait(WAIT_SECONDS)
        connection.sendall(sent.read())
        self.has_sent.set()
        while True:
            request = b""
            while not (length := LENGTH.search(request)) or len(
                request.partition(b"\r\n\r\n")[2]
            ) < int(length[1]):
                request += done(lambda: spoken.read(65_536))
            self.asked += 1
            spoken.write(answer(self.asked))
            connection.sendall(sent.read())


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Ticketing]]:
    """Let a server send when a request is about to leave, and its bytes arrive before it does."""
    servers: list[Ticketing] = []
    await_answer = OneAnswerProtocol.set_response_params

    def waited(self: OneAnswerProtocol, **params: object) -> None:
        await_answer(self, **params)
        (server,) = servers
        if server.has_sent.is_set():
            return
        server.may_send.set()
        assert server.has_sent.wait(WAIT_SECONDS)
        assert self.transport is not None
        arrived = select.poll()
        arrived.register(self.transport.get_extra_info("socket").fileno(), select.POLLIN)
        assert arrived.poll(WAIT_SECONDS * 1000)

    monkeypatch.setenv("AWS_CA_BUNDLE", str(TLS / "cert.pem"))
    monkeypatch.setattr(OneAnswerProtocol, "set_response_params", waited)
    yield servers
    for server in servers:
        server.close()


async def put_twice(url: str) -> list[OutcomeKind]:
    aws = AwsSession(FakeClock(), LOADER)
    target = KinesisTarget("acme", "eu-west-1", put=PutMode.RECORD, endpoint_url=url)
    keys = AccessKeys("AKIA", "secret")
    sink = KinesisSink(Connection("acme", target, credentials=keys), target, aws)
    try:
        return [(await sink.put([batch(number)]))[0].kind for number in range(2)]
    finally:
        await sink.close()
        await aws.close()


async def test_session_tickets_that_come_before_the_request_are_no_answer(
    hurried: list[Ticketing],
) -> None:
    hurried.append(Ticketing())
    assert [OutcomeKind.DELIVERED] * 2 == await put_twice(hurried[0].url)
    assert 2 == hurried[0].asked


async def test_an_answer_over_tls_that_comes_before_the_request_is_not_believed(
    hurried: list[Ticketing],
) -> None:
    hurried.append(Ticketing(answer(99)))
    first, _ = await put_twice(hurried[0].url)
    assert OutcomeKind.TRANSIENT == first
    assert 0 == hurried[0].asked


class Slow(asyncio.Transport):
    """A transport from which nothing leaves."""

    def __init__(self, unsent: int) -> None:
        super().__init__()
        self.unsent = unsent
        self.ended = ""

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # noqa: ANN401, ARG002
        return default

    def is_closing(self) -> bool:
        return bool(self.ended)

    def close(self) -> None:
        self.ended = self.ended or "closed"

    def abort(self) -> None:
        self.ended = "aborted"


@pytest.fixture
async def asked() -> AsyncIterator[OneAnswerProtocol]:
    protocol = OneAnswerProtocol(asyncio.get_running_loop())
    protocol.connection_made(Slow(0))
    protocol.set_response_params()
    yield protocol
    protocol.connection_lost(None)


@pytest.mark.parametrize("unsent", [0, 1])
async def test_a_connection_is_not_used_again_behind_an_answer_that_came_too_soon(
    asked: OneAnswerProtocol, unsent: int
) -> None:
    assert isinstance(asked.transport, Slow)
    asked.transport.unsent = unsent
    asked.data_received(answer(1))
    await asked.read()
    asked.transport.unsent = 0
    assert bool(unsent) == asked.doubtful == asked.should_close


@pytest.mark.parametrize(("unsent", "ended"), [(0, "closed"), (1, "aborted")])
async def test_what_is_left_of_a_request_that_is_given_up_does_not_leave(
    asked: OneAnswerProtocol, unsent: int, ended: str
) -> None:
    transport = asked.transport
    assert isinstance(transport, Slow)
    transport.unsent = unsent
    asked.close()
    assert ended == transport.ended


class Early(asyncio.Protocol):
    """A server that answers its second request before it has read it."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.received = b""
        self.answered = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        assert self.transport is not None
        self.received += data
        head, _, body = self.received.partition(b"\r\n\r\n")
        length = LENGTH.search(head)
        if self.answered == 2 or length is None:
            return
        if self.answered == 1:
            self.transport.pause_reading()
        elif len(body) < int(length[1]):
            return
        self.received = b""
        self.answered += 1
        number = b'{"ShardId":"shardId-000000000000","SequenceNumber":"%d"}'
        each = b",".join(number % (10**55 + self.answered * 10 + n) for n in range(4))
        told = b'{"FailedRecordCount":0,"Records":[%b]}' % each
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(told), told))


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_what_waits_for_the_system_has_not_left_be_it_encrypted(
    monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(TLS / "cert.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(TLS / "cert.pem", TLS / "key.pem")
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    servers: list[Early] = []

    def made() -> Early:
        servers.append(Early())
        return servers[-1]

    loop = asyncio.get_running_loop()
    secured = context if scheme == "https" else None
    server = await loop.create_server(made, sock=listening, ssl=secured)
    aws = AwsSession(FakeClock(), LOADER)
    url = f"{scheme}://127.0.0.1:{listening.getsockname()[1]}"
    target = KinesisTarget("acme", "eu-west-1", put=PutMode.RECORDS, endpoint_url=url)
    keys = AccessKeys("AKIA", "secret")
    sink = KinesisSink(Connection("acme", target, credentials=keys), target, aws)
    small, large = ([batch(n, bytes(size)) for n in range(4)] for size in (10, 1_040_000))
    assert {OutcomeKind.DELIVERED} == {outcome.kind for outcome in await sink.put(small)}
    assert {OutcomeKind.TRANSIENT} == {outcome.kind for outcome in await sink.put(large)}
    assert [2] == [one.answered for one in servers]
    await sink.close()
    await aws.close()
    server.close()
    for one in servers:
        if one.transport is not None:
            one.transport.abort()


@contextlib.asynccontextmanager
async def serving(answers: Callable[[int], bytes]) -> AsyncIterator[tuple[str, list[int]]]:
    """Answer the n-th request; give the URL, and the requests of each connection so far."""
    asked: list[int] = []
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        number = len(asked)
        asked.append(0)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                length = LENGTH.search(await reader.readuntil(b"\r\n\r\n"))
                assert length
                await reader.readexactly(int(length[1]))
                asked[number] += 1
                writer.write(answers(sum(asked)))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked
    server.close()
    for writer in writers:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def test_no_connection_is_free_before_its_answer_is_judged() -> None:
    """Whoever waits for one may run between the answer's last byte and its judgement."""
    aws = AwsSession(FakeClock(), LOADER)
    async with serving(answer) as (url, _):
        place = await aws.endpoints.find("kinesis", "eu-west-1", url)
        async with SharedTlsSession(**place.session_options) as session:
            http = (await session._get_session(None)).session  # noqa: SLF001  # as sinks ask
            free = http.connector._conns  # noqa: SLF001  # those that nobody has
            response = await http.post(place.url, data=b"{}")
            assert isinstance(response, GuardedResponse)
            assert answer(1).endswith(await response.read_held())
            assert not free
            response.release()
            assert free
            response = await http.post(place.url, data=b"{}")
            await response.read_held()
            response.abort()
            assert not free
    await aws.close()


ASSUMED = (
    b"<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>ASIA</AccessKeyId>"
    b"<SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>"
    b"<Expiration>2100-01-01T00:00:00Z</Expiration></Credentials><AssumedRoleUser>"
    b"<Arn>arn:aws:sts::111122223333:assumed-role/%b/forwarder-acme</Arn></AssumedRoleUser>"
    b"</AssumeRoleResult></AssumeRoleResponse>"
)


async def test_a_session_of_another_role_ends_its_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The session that was asked for is still to come, and would be the next one's."""
    roles = (b"other", b"r")

    def assumed(number: int) -> bytes:
        body = ASSUMED % roles[number - 1]
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIABASE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    role = AssumedRole("arn:aws:iam::111122223333:role/r", None)
    async with serving(assumed) as (url, asked):
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", url)
        aws = AwsSession(FakeClock(), LOADER)
        first, second = (aws.make_keyring(role, "eu-west-1", "acme") for _ in range(2))
        with pytest.raises(RoleError):
            await first.get_frozen_credentials()
        assert "ASIA" == (await second.get_frozen_credentials()).access_key
        assert [1, 1] == asked
        await first.close()
        await second.close()
        await aws.close()
