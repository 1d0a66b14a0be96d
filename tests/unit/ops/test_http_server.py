"""The open port: whatever is done to it, probes are answered and nothing grows."""

import asyncio
import os
import resource
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from http import HTTPStatus

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from forwarder.clock import SystemClock
from forwarder.ops.http_server import (
    DISCARD_BUFFER_BYTES,
    HEAD_BYTES,
    MAX_HEADER_FIELDS,
    HttpLimits,
    HttpRequest,
    HttpResponse,
    HttpServer,
    parsed,
)

LONG = 20.0
"""Seconds after which something hangs."""

GET = b"GET /page HTTP/1.1\r\nHost: here\r\n\r\n"

Start = Callable[..., Awaitable["Running"]]


class Running:
    """A server that answers with a page, and what it was asked."""

    def __init__(self, bounds: HttpLimits, body: bytes) -> None:
        self.asked: list[HttpRequest] = []
        self.was_asked = asyncio.Event()
        self.gate: asyncio.Event | None = None
        self.body = body
        self.server = HttpServer(self.respond, bounds, SystemClock())
        self.port = 0

    async def respond(self, request: HttpRequest) -> HttpResponse:
        self.asked.append(request)
        self.was_asked.set()
        if self.gate is not None:
            await self.gate.wait()
        return HttpResponse(HTTPStatus.OK, self.body, {"Content-Type": "text/plain"})

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def told(self, data: bytes) -> bytes:
        """Send something and return all that comes back until the end."""
        reader, writer = await self.connect()
        writer.write(data)
        async with asyncio.timeout(LONG):
            answer = await reader.read()
        writer.close()
        return answer


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    running: list[Running] = []

    async def begin(bounds: HttpLimits | None = None, body: bytes = b"page\n") -> Running:
        one = Running(bounds or HttpLimits(seconds=LONG), body)
        one.port = await one.server.start("127.0.0.1", 0)
        running.append(one)
        return one

    yield begin
    for one in running:
        await one.server.stop()


async def ended(reader: asyncio.StreamReader) -> bool:
    """Wait until the other side ends the connection; tell that it said nothing."""
    async with asyncio.timeout(LONG):
        try:
            return await reader.read() == b""
        except ConnectionResetError:
            return True


async def test_a_connection_carries_one_answer(start: Start) -> None:
    one = await start()
    answer = await one.told(GET + GET)
    assert (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n"
        b"Connection: close\r\n\r\npage\n"
    ) == answer
    assert [HttpRequest("GET", "/page", {"host": "here"})] == one.asked


async def test_a_head_request_gets_the_length_alone(start: Start) -> None:
    answer = await (await start()).told(b"HEAD /page?x=1 HTTP/1.0\r\n\r\n")
    assert b"Content-Length: 5\r\n" in answer
    assert answer.endswith(b"\r\n\r\n")


async def test_a_head_may_come_byte_by_byte_and_end_with_half_a_connection(start: Start) -> None:
    one = await start()
    reader, writer = await one.connect()
    for byte in GET:
        writer.write(bytes((byte,)))
        await writer.drain()
        await asyncio.sleep(0)
    writer.write_eof()
    async with asyncio.timeout(LONG):
        assert (await reader.read()).endswith(b"page\n")
    writer.close()


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /page HTTP/1.0\n\n",
        b"\r\n\r\nGET /page HTTP/1.1\r\nHost: here\r\n\r\n",
        b"GET /page HTTP/1.1\nHost: here\r\n\n",
        b"GET /page?name=value HTTP/1.1\r\na: \r\nA:b\t\r\n\r\n",
    ],
)
async def test_a_request_may_be_typed_by_hand(start: Start, sent: bytes) -> None:
    one = await start()
    assert (await one.told(sent)).endswith(b"page\n")
    assert "/page" == one.asked[0].path


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("http://h/page", "/page"),
        ("HTTPS://h.example:9100/page?a=b", "/page"),
        ("http://h", "/"),
        ("http://h?a=/b", "/"),
        ("/page?from=http://h/other", "/page"),
        ("/http://h/page", "/http://h/page"),
        ("http:///page", "http:///page"),
        ("*", "*"),
    ],
)
def test_a_target_may_name_the_host(target: str, path: str) -> None:
    assert HttpRequest("GET", path, {}) == parsed(f"GET {target} HTTP/1.1".encode())


async def test_a_large_answer_comes_whole(start: Start) -> None:
    one = await start(body=bytes(range(256)) * 50_000)
    assert (await one.told(GET)).partition(b"\r\n\r\n")[2] == one.body
    assert (await one.told(b"HEAD / HTTP/1.1\r\n\r\n")).endswith(b"\r\n\r\n")


async def test_a_body_is_thrown_away(start: Start) -> None:
    one = await start()
    head = b"POST /page HTTP/1.1\r\nContent-Length: 10000000\r\n\r\n"
    assert (await one.told(head + b"x" * 1_000_000)).endswith(b"page\n")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"x" * (HEAD_BYTES + 5), 431),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * HEAD_BYTES, 431),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * (MAX_HEADER_FIELDS + 1) + b"\r\n", 431),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GET /\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n folded: x\r\n\r\n", 400),
    ],
)
async def test_what_is_no_request_is_refused(start: Start, sent: bytes, status: int) -> None:
    one = await start()
    assert (await one.told(sent)).startswith(b"HTTP/1.1 %d " % status)
    assert [] == one.asked


TEDIOUS = [b"a: x%bx" % (blank * 16_000) for blank in (b" ", b"\t", b"\r", b" \t", b": ")]
TEDIOUS += [unit * 16_000 for unit in (b"A", b"a", b"\r", b" ", b"\t")]
"""Lines that an expression could look through once for each of their bytes."""


@pytest.mark.parametrize("line", TEDIOUS, ids=lambda line: repr(line[:5]))
async def test_a_head_of_the_largest_size_is_answered_at_once(start: Start, line: bytes) -> None:
    """Forty of them took a minute of the loop, and whoever waits here gives up before that."""
    one = await start()
    head = b"GET /page HTTP/1.1\r\n" + line[: HEAD_BYTES - 100] + b"\r\n\r\n"
    answers = await asyncio.gather(*(one.told(head) for _ in range(40)))
    assert {b"HTTP/1.1 "} == {answer[:9] for answer in answers}


async def test_blanks_around_a_value_are_no_part_of_it(start: Start) -> None:
    one = await start()
    await one.told(b"GET /page HTTP/1.1\r\na: \t x : y \t \r\nb:\r\nA:z\r\n\r\n")
    assert {"a": "x : y, z", "b": ""} == one.asked[0].header


async def test_line_ends_before_a_request_count_towards_its_size(start: Start) -> None:
    one = await start()
    fits = b"\r\n" * ((HEAD_BYTES - len(GET)) // 2)
    assert (await one.told(fits + GET)).endswith(b"page\n")
    assert (await one.told(fits + b"\r\n" + GET)).startswith(b"HTTP/1.1 431 ")
    assert (await one.told(b"\n" * HEAD_BYTES)).startswith(b"HTTP/1.1 431 ")


ENDLESS = 64 * 2**20
"""Bytes that no system holds for a connection that nobody reads."""


@pytest.mark.parametrize("waits", [False, True], ids=["answered", "waits for its answer"])
@pytest.mark.parametrize("asked", [GET, b"no request\r\n\r\n", b""], ids=["get", "no", "nothing"])
async def test_what_comes_without_end_is_not_read(
    start: Start, asked: bytes, *, waits: bool
) -> None:
    one = await start(HttpLimits(seconds=1.0))
    one.gate = asyncio.Event() if waits else None
    loop = asyncio.get_running_loop()
    with socket.create_connection(("127.0.0.1", one.port)) as client:
        client.setblocking(False)  # noqa: FBT003  # the library's own signature
        with pytest.raises(OSError, match=r"reset|pipe"):  # noqa: PT012  # sent in two
            await loop.sock_sendall(client, asked)
            await loop.sock_sendall(client, b"\r\n" * (ENDLESS // 2))


async def test_whoever_sends_a_body_first_and_reads_then_has_the_answer(start: Start) -> None:
    """Its answer would be lost with the connection, were it closed with something unread."""
    one = await start()
    reader, writer = await one.connect()
    writer.write(GET)
    await one.was_asked.wait()
    for _ in range(DISCARD_BUFFER_BYTES // 1024):
        writer.write(b"x" * 1024)
        await writer.drain()
    writer.write_eof()
    async with asyncio.timeout(LONG):
        while one.server._open_ones:  # noqa: ASYNC110, SLF001  # the time limit; nothing else tells
            await asyncio.sleep(0.01)
        assert (await reader.read()).endswith(b"page\n")
    writer.close()


async def test_a_connection_ends_with_its_client(start: Start) -> None:
    one = await start()
    reader, writer = await one.connect()
    writer.write(GET)
    async with asyncio.timeout(LONG):
        await reader.readuntil(b"page\n")
        writer.close()
        while one.server._open_ones:  # noqa: ASYNC110, SLF001  # the time limit; nothing else tells
            await asyncio.sleep(0.01)


async def test_half_a_head_and_silence_are_ended(start: Start) -> None:
    one = await start(HttpLimits(seconds=0.2))
    idle, idle_writer = await one.connect()
    half, half_writer = await one.connect()
    half_writer.write(GET[:-2])
    assert await ended(idle)
    assert await ended(half)
    idle_writer.close()
    half_writer.close()


async def test_whoever_does_not_read_the_answer_is_ended(start: Start) -> None:
    one = await start(HttpLimits(connections=1, seconds=0.2), body=b"x" * 50_000_000)
    with socket.create_connection(("127.0.0.1", one.port)) as slow:
        slow.sendall(GET)
        await one.was_asked.wait()
        while one.server._open_ones:  # noqa: ASYNC110, SLF001  # the time limit; nothing else tells
            await asyncio.sleep(0.01)
        slow.settimeout(LONG)
        received = 0
        while (found := len(slow.recv(2**20))) > 0:
            received += found
    assert 0 < received < len(one.body)


@pytest.mark.parametrize("sent", [b"", GET[:-2]], ids=["idle", "half a head"])
async def test_the_newest_is_answered_whatever_is_open(start: Start, sent: bytes) -> None:
    one = await start(HttpLimits(connections=16, seconds=LONG))
    held = [await one.connect() for _ in range(100)]
    for _, writer in held:
        writer.write(sent)
    assert (await one.told(GET)).endswith(b"page\n")
    for reader, _ in held[:80]:
        assert await ended(reader), "the oldest made room"
    for _, writer in held:
        writer.close()


async def test_who_waits_for_an_answer_is_the_last_to_make_room(start: Start) -> None:
    one = await start(HttpLimits(connections=4, seconds=LONG))
    one.gate = asyncio.Event()
    probe = asyncio.create_task(one.told(GET))
    await one.was_asked.wait()
    held = [await one.connect() for _ in range(50)]
    assert await ended(held[0][0])
    one.gate.set()
    assert (await probe).endswith(b"page\n")
    for _, writer in held:
        writer.close()


@pytest.mark.parametrize("most", [4, 32, 128])
async def test_who_waits_for_an_answer_keeps_its_place_beside_a_flood(
    start: Start, most: int
) -> None:
    """However many are accepted in one go: as many as may be open lay ready here."""
    one = await start(HttpLimits(connections=most, seconds=LONG))
    one.gate = asyncio.Event()
    probe = asyncio.create_task(one.told(GET))
    await one.was_asked.wait()
    held = [socket.create_connection(("127.0.0.1", one.port)) for _ in range(2 * most)]
    held[0].setblocking(False)  # noqa: FBT003  # the library's own signature
    async with asyncio.timeout(LONG):
        with suppress(ConnectionResetError):
            await asyncio.get_running_loop().sock_recv(held[0], 1)
    one.gate.set()
    assert (await probe).endswith(b"page\n")
    for other in held:
        other.close()


async def test_without_files_accepting_rests_and_says_so_once(start: Start) -> None:
    one = await start(HttpLimits(seconds=LONG, retry=0.01))
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with capture_logs() as logs, socket.create_connection(("127.0.0.1", one.port)) as client:
        client.setblocking(False)  # noqa: FBT003  # the library's own signature
        client.send(GET)
        free = os.dup(0)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, before[1]))
        try:
            for _ in range(20):
                await asyncio.sleep(0.01)
            assert ["http.refused"] == [line["event"] for line in logs]
            assert logs[0]["error"].startswith("EMFILE")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        async with asyncio.timeout(LONG):
            answer = await asyncio.get_running_loop().sock_recv(client, 1000)
        assert answer.endswith(b"page\n")


async def test_a_stop_lets_an_answer_under_way_finish_and_ends_the_others(start: Start) -> None:
    one = await start()
    idle, idle_writer = await one.connect()
    one.gate = asyncio.Event()
    asking = asyncio.create_task(one.told(GET))
    await one.was_asked.wait()
    stop = asyncio.create_task(one.server.stop())
    await asyncio.sleep(0)
    one.gate.set()
    await stop
    assert (await asking).endswith(b"page\n")
    assert await ended(idle)
    idle_writer.close()
    with pytest.raises(ConnectionRefusedError):
        await one.connect()


@pytest.mark.parametrize(
    ("hosts", "listens"),
    [
        (["127.0.0.1", "192.0.2.1"], True),
        (["192.0.2.1", "127.0.0.1"], True),
        (["192.0.2.1"], False),
    ],
)
async def test_an_address_that_is_not_here_is_no_fault_beside_one_that_is(
    monkeypatch: pytest.MonkeyPatch, hosts: list[str], *, listens: bool
) -> None:
    async def resolved(*_: object, **__: object) -> list[tuple[object, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, 0)) for host in hosts]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolved)
    one = Running(HttpLimits(), b"page\n")
    if not listens:
        with pytest.raises(OSError, match="assign requested address"):
            await one.server.start("several", 0)
        return
    assert await one.server.start("several", 0) > 0
    await one.server.stop()


@given(st.binary())
def test_no_bytes_break_the_parser(head: bytes) -> None:
    assert isinstance(parsed(head), (HttpRequest, HTTPStatus))


@given(st.lists(st.sampled_from([b"GET", b" ", b"/", b"HTTP/1.1", b"\r\n", b":", b"a", b"\x00"])))
def test_nothing_like_a_head_breaks_the_parser(parts: list[bytes]) -> None:
    assert isinstance(parsed(b"".join(parts)), (HttpRequest, HTTPStatus))
