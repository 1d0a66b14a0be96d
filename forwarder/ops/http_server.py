"""A small HTTP server for probes and scrapes, every part of which has a bound.

Whoever can reach the port may hold connections open, send half a head or read slowly: it costs them
their connections and the worker nothing. One connection carries one request and lives for some
seconds; the newest is always accepted, and the oldest that waits makes room for it.
"""

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from operator import attrgetter
from typing import NamedTuple

from forwarder.clock import Clock
from forwarder.ops.acceptor import ACCEPTS_PER_TURN, Acceptor

HEAD_BYTES = 16 * 1024
"""Most bytes read of a request, with every line end; probes and Prometheus send some 300."""

DISCARD_BUFFER_BYTES = 64 * 1024
"""Most bytes read and thrown away after an answer: the body of a request that has one.

A connection that is closed with something unread may take its answer back with it.
"""

MAX_HEADER_FIELDS = 64
"""Most lines of a header."""

WRITE_CHUNK_BYTES = 64 * 1024
"""Bytes of a body given to the transport at a time."""

STOP_SECONDS = 2.0
"""How long a stop waits for answers under way; a scrape takes milliseconds."""


class HttpLimits(NamedTuple):
    """What whoever asks may take.

    ``connections`` are open at most: probes and scrapes are a handful. Each lives for ``seconds``,
    until the last byte of its answer is taken: that is Prometheus's own limit for a scrape, and ten
    times a probe's. ``retry``: seconds until accepting is tried again after it failed, as asyncio
    has it.
    """

    connections: int = 128
    seconds: float = 10.0
    retry: float = 1.0


_LINE = re.compile(rb"([A-Z]+) (\S+) HTTP/1\.[01]")
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_ABSOLUTE = re.compile("https?://[^/?]+", re.IGNORECASE)
_BLANK_LINES = re.compile(rb"[\r\n]*")
_LINE_END = re.compile(rb"\r?\n")
_HEAD_END = re.compile(rb"\r?\n\r?\n")
"""RFC 9112, 2.2: a line feed alone may end a line; who types a request by hand sends that.

None of these looks at a byte more often than a few times, whatever it is beside: anybody may send
what they are matched with.
"""
_LONGEST_HEAD_END = 4


class HttpRequest(NamedTuple):
    """What was asked: header names are in lower case, of equal ones the values are joined."""

    method: str
    path: str
    header: Mapping[str, str]


class HttpResponse(NamedTuple):
    """What is answered; the length of the body is added to the header."""

    status: HTTPStatus
    body: bytes = b""
    header: Mapping[str, str] = {}


Respond = Callable[[HttpRequest], Awaitable[HttpResponse]]


def parsed(head: bytes) -> HttpRequest | HTTPStatus:
    """Return the request of a head without its end, or the status that refuses it."""
    line, *fields = _LINE_END.split(head)
    asked = _LINE.fullmatch(line)
    if asked is None:
        return HTTPStatus.BAD_REQUEST
    if len(fields) > MAX_HEADER_FIELDS:
        return HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
    header: dict[str, str] = {}
    for field in fields:
        before, colon, after = field.partition(b":")
        if not colon or _NAME.fullmatch(before) is None:
            return HTTPStatus.BAD_REQUEST
        name, value = before.decode("latin-1").lower(), after.strip(b" \t").decode("latin-1")
        header[name] = f"{header[name]}, {value}" if name in header else value
    return HttpRequest(asked[1].decode("latin-1"), _path(asked[2].decode("latin-1")), header)


def _path(target: str) -> str:
    """Return the path alone; before it a proxy's client names the host (RFC 9112, 3.2.2)."""
    host = _ABSOLUTE.match(target)
    path = target[host.end() if host else 0 :].partition("?")[0]
    return path or "/"


_DONE, _READING, _ANSWERING = range(3)
"""How far a connection has come, in the order in which they make room for others."""


class _HttpConnection(asyncio.BufferedProtocol):
    """One connection: a head in, an answer out, and the end, all in time.

    Nothing is read while it is answered, and little before and after that: what else whoever asks
    sends stays with the system, which makes it wait.
    """

    def __init__(
        self, open_ones: "dict[_HttpConnection, None]", respond: Respond, seconds: float
    ) -> None:
        self.phase = _READING
        self._open_ones = open_ones
        self._respond = respond
        self._seconds = seconds
        self._room = bytearray(HEAD_BYTES)
        self._begin = self._end = 0
        self._thrown_away = 0
        self._paused = False
        self._rest: memoryview | None = None
        self.answering: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the connection's time limit."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  # what a socket has
        self._transport = transport
        self._open_ones[self] = None
        self._deadline = asyncio.get_running_loop().call_later(self._seconds, self.abort)

    def connection_lost(self, _: Exception | None) -> None:
        """Cancel the time limit, and the answer that is being made."""
        self._open_ones.pop(self, None)
        if self._deadline is not None:
            self._deadline.cancel()
        if self.answering is not None:
            self.answering.cancel()

    def get_buffer(self, _: int) -> memoryview:
        """Return the buffer to read into: what is left of the head's, or the discard buffer."""
        return memoryview(self._room)[self._end if self.phase == _READING else 0 :]

    def buffer_updated(self, count: int) -> None:
        """Look for the end of the head; what comes after an answer is thrown away."""
        if self.phase == _READING:
            self._gather(count)
            return
        self._thrown_away += count
        if self._thrown_away > DISCARD_BUFFER_BYTES:
            self._stop_reading()

    def _gather(self, count: int) -> None:
        """Answer a head once it is whole, or the request once it is refused."""
        before, self._end = self._end, self._end + count
        # Some clients send an empty line first; the last bytes may be the beginning of the end.
        found = _BLANK_LINES.match(self._room, self._begin, self._end)
        self._begin = found.end() if found else self._begin
        begin = max(self._begin, before + 1 - _LONGEST_HEAD_END)
        end = _HEAD_END.search(self._room, begin, self._end)
        if end is None and self._end < HEAD_BYTES:
            return
        self._stop_reading()
        if end is None:
            self._send("GET", HttpResponse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE))
            return
        asked = parsed(bytes(self._room[self._begin : end.start()]))
        if isinstance(asked, HTTPStatus):
            self._send("GET", HttpResponse(asked))
        else:
            self.phase = _ANSWERING
            self.answering = asyncio.get_running_loop().create_task(self._answer(asked))

    def _stop_reading(self) -> None:
        """Read no more; that the other side has ended is not noticed meanwhile either."""
        assert self._transport is not None  # noqa: S101  # it has just read
        self._transport.pause_reading()

    def abort(self) -> None:
        """Close the connection at once, whatever has been answered."""
        if self._transport is not None:
            self._transport.abort()

    async def _answer(self, asked: HttpRequest) -> None:
        self._send(asked.method, await self._respond(asked))

    def _send(self, method: str, answer: HttpResponse) -> None:
        """Begin to give the answer to the system, in pieces as it takes them."""
        if self._transport is None or self._transport.is_closing():
            return
        self.phase = _ANSWERING
        lines = [
            f"HTTP/1.1 {answer.status.value} {answer.status.phrase}",
            *(f"{name}: {value}" for name, value in answer.header.items()),
            f"Content-Length: {len(answer.body)}",
            "Connection: close",
        ]
        self._transport.write("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n")
        # The body is shared by all who were given it: slow readers hold no copies.
        self._rest = memoryview(b"" if method == "HEAD" else answer.body)
        self._go_on()

    def pause_writing(self) -> None:
        """Stop: the transport holds enough."""
        self._paused = True

    def resume_writing(self) -> None:
        """Go on: most of it is with the system."""
        self._paused = False
        if self._rest is not None:
            self._go_on()

    def _go_on(self) -> None:
        """Write what there is room for; after the last piece say that it was the last."""
        assert self._transport is not None  # noqa: S101  # the caller has it
        while self._rest:
            if self._paused or self._transport.is_closing():
                return
            piece, self._rest = self._rest[:WRITE_CHUNK_BYTES], self._rest[WRITE_CHUNK_BYTES:]
            self._transport.write(piece)
        self._rest = None
        self.phase = _DONE
        # This half alone: closed with something unread, the system takes the answer back. The
        # other half ends once the other side has said, or read, all it wants to.
        try:
            self._transport.write_eof()
        except OSError:  # the other side went meanwhile, and has reset the connection
            self._transport.abort()
            return
        self._transport.resume_reading()


class HttpServer:
    """Listen, and keep what is open within its bounds. Caller: ops/server.py."""

    def __init__(self, respond: Respond, bounds: HttpLimits, clock: Clock) -> None:
        """Answer requests by ``respond``."""
        self._respond = respond
        self._bounds = bounds
        self._open_ones: dict[_HttpConnection, None] = {}
        self._acceptor = Acceptor(
            self._make_room,
            self._begin,
            clock,
            "probes and scrapes are not answered meanwhile: raise the limit of open files "
            "(ulimit -n, LimitNOFILE), or run fewer connections in one worker",
            per_turn=min(ACCEPTS_PER_TURN, max(1, bounds.connections // 4)),
            retry_seconds=bounds.retry,
        )

    async def start(self, host: str, port: int) -> int:
        """Listen and return the port, chosen by the system if ``port`` is 0; raises OSError."""
        return await self._acceptor.start(host, port)

    async def stop(self) -> None:
        """Listen no more, let answers under way finish for a moment, and end the others."""
        await self._acceptor.stop()
        answering = [c for c in self._open_ones if c.phase == _ANSWERING]
        if tasks := [c.answering for c in answering if c.answering is not None]:
            await asyncio.wait(tasks, timeout=STOP_SECONDS)
        await asyncio.sleep(0)  # what was just answered goes out
        for connection in list(self._open_ones):
            connection.abort()

    def _make_room(self) -> None:
        """End the oldest connection that only waits, if there are as many as may be."""
        count = len(self._open_ones) + len(self._acceptor.beginning)
        if count < self._bounds.connections or not self._open_ones:
            return
        # Of equal ones the first: the dictionary has them in the order in which they came.
        oldest = min(self._open_ones, key=attrgetter("phase"))
        del self._open_ones[oldest]
        oldest.abort()

    async def _begin(self, accepted: socket.socket) -> None:
        def made() -> _HttpConnection:
            return _HttpConnection(self._open_ones, self._respond, self._bounds.seconds)

        await asyncio.get_running_loop().connect_accepted_socket(made, accepted)
