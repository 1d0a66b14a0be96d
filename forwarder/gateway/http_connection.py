"""One connection of a client: requests in, answers out, each part within its bounds.

The bytes are taken apart by aiohttp's parser (llhttp, in C). Around it stands what aiohttp's own
server lacks: time limits for heads and bodies, bytes counted over all connections, an answer
without a body that nobody wants, and no task but one for each request whose body is there.
"""

import asyncio
from collections.abc import Mapping
from enum import IntEnum
from typing import Protocol

import msgspec
from aiohttp.http import HttpRequestParser, HttpVersion10, RawRequestMessage
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from aiohttp.streams import StreamReader

from forwarder.clock import Clock
from forwarder.gateway import http_framing
from forwarder.gateway.contract import ApiReply
from forwarder.gateway.http_head import RequestHead
from forwarder.gateway.load import RequestLoad
from forwarder.gateway.service import Admitted, ApiService
from forwarder.ops.gateway_catalogue import Refusal

READ_BYTES = 32 * 1024
"""Most bytes read from a socket at a time, and so what a connection holds beside a counted body."""

HEAD_BYTES = 32 * 1024
"""Most bytes of a request's line and header together; Amplify sends 3 KB, with a token."""

LINE_BYTES = 16 * 1024
"""Most bytes of the request's line, and of one header field; presigned queries have 3 KB."""

WRITE_BYTES = 16 * 1024
"""Bytes of answers that wait for a client to read until no further request of it is carried out."""

FIELDS = 64
"""Most header fields of a request."""

DISCARD_BYTES = 256 * 1024
"""Most bytes of a refused body that are read and thrown away to keep the connection."""

CLOSING_BYTES = 8 * 1024 * 1024
"""Most bytes thrown away after the last answer: a client reads it once it has sent all of its own.
"""

SMALL_CHUNKS_BYTES = 16 * 1024
"""From so many bytes on at least half of what comes in chunks has to be body: chunks of a byte each
cost a hundred times the CPU of a body in one piece."""

CONNECTION_REQUESTS = 1_000
CONNECTION_SECONDS = 3_600.0
"""What one connection carries, and how long, before it is closed after an answer: else those that
live for ever would never spread to gateways that are added. As nginx has it."""

UNBOUNDED = 2**30
"""A limit of the parser's own buffers that is never reached: what a body may have is counted here,
as it comes."""


class ConnectionPhase(IntEnum):
    """What a connection waits for; in this order they make room for others."""

    IDLE = 0
    """For the first byte of a request, after an answer."""
    CLOSING = 1
    """For the other side to close; what it still sends is thrown away."""
    HEAD = 2
    DISCARDING = 3
    """For the end of a body that was refused."""
    WRITING = 4
    """For the other side to read its answer."""
    BODY = 5
    ANSWERING = 6


class ConnectionLimits(msgspec.Struct, frozen=True):
    """Seconds for each phase, in which there has to be an end to it.

    How long an answer takes its operation sees to.
    """

    head: float
    body: float
    idle: float = 75.0
    """Longer than load balancers keep a connection that they may use again (60 s, of AWS's ALB)."""
    discard: float = 5.0
    closing: float = 2.0
    writing: float = 30.0

    def by_phase(self) -> Mapping[ConnectionPhase, float]:
        """Return the seconds that each phase may last, of those that have a limit."""
        return {
            ConnectionPhase.IDLE: self.idle,
            ConnectionPhase.CLOSING: self.closing,
            ConnectionPhase.HEAD: self.head,
            ConnectionPhase.DISCARDING: self.discard,
            ConnectionPhase.WRITING: self.writing,
            ConnectionPhase.BODY: self.body,
        }


class ConnectionHost(Protocol):
    """What all connections of a server share."""

    service: ApiService
    load: RequestLoad
    clock: Clock
    draining: bool
    read_buffer: bytearray

    def opened(self, connection: "ClientConnection") -> None:
        """Take note of a connection; it may have to make room."""

    def closed(self, connection: "ClientConnection") -> None:
        """Forget a connection."""


class ClientConnection(asyncio.BufferedProtocol):
    """One connection. Caller: the event loop; the server expires it and drains it."""

    def __init__(self, host: ConnectionHost, loop: asyncio.AbstractEventLoop) -> None:
        """Create; it begins with ``connection_made``."""
        self.phase = ConnectionPhase.HEAD
        self.since = self._opened = host.clock.steady()
        self.connected = True  # the parser's streams ask for these two
        self._reading_paused = False
        self._host = host
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._parser = HttpRequestParser(
            self,  # type: ignore[arg-type]  # it asks for what is below, and for nothing else
            loop,
            UNBOUNDED,
            max_line_size=LINE_BYTES,
            max_field_size=LINE_BYTES,
            max_headers=FIELDS,
            payload_exception=ConnectionError,
            auto_decompress=False,
            max_msg_queue_size=1,
        )
        self._requests = 0
        self._raw = 0
        self._held = b""
        self._admitted: Admitted | None = None
        self._payload: StreamReader | None = None
        self._pieces: list[bytes] = []
        self._size = 0
        self._taken = 0
        self._keep = True
        self._head_only = self._old = False
        self._fresh = True
        self._left: int | None = None
        self._half_closed = False
        self._write_paused = False
        self._task: asyncio.Task[None] | None = None

    # ------------------------------------------------------------------ what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for a head."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  # what a socket has
        self._transport = transport
        transport.set_write_buffer_limits(high=WRITE_BYTES)
        self._host.opened(self)

    def connection_lost(self, _: Exception | None) -> None:
        """Forget everything but a request that is carried out: that goes on to its end."""
        self.connected = False
        self._transport = None
        if self.phase is not ConnectionPhase.ANSWERING:
            self._release()
        self._host.closed(self)

    def eof_received(self) -> bool:
        """Keep the other half open for an answer that is due."""
        self._half_closed = True
        secure = self._transport is not None and self._transport.get_extra_info("ssl_object")
        return self.phase in _ANSWER_DUE and not secure

    def get_buffer(self, _: int) -> bytearray:
        """Return the buffer of all connections: what is read into it is taken at once."""
        return self._host.read_buffer

    def buffer_updated(self, count: int) -> None:
        """Take what was read."""
        data = bytes(memoryview(self._host.read_buffer)[:count])
        if self.phase in _ANSWER_DUE or self._held:
            self._hold(data)
        elif self.phase is not ConnectionPhase.CLOSING:
            self._feed(data)
        else:
            self._size += count
            if self._size > CLOSING_BYTES:
                self.abort()

    def pause_writing(self) -> None:
        """Stop: the transport holds enough."""
        self._write_paused = True

    def resume_writing(self) -> None:
        """Go on: most of it is with the system."""
        self._write_paused = False
        if self.phase is ConnectionPhase.WRITING:
            self._next_request()

    # ------------------------------------------------------------------ what the parser calls

    def pause_reading(self) -> None:
        """Do nothing: it asks for this beyond a limit that is never reached."""

    def resume_reading(self, *, resume_parser: bool = True) -> None:
        """Do nothing: as with ``pause_reading``."""

    # ------------------------------------------------------------------ in

    def _hold(self, data: bytes) -> None:
        """Keep what came early until the answer is out, and read no more meanwhile."""
        self._held += data
        if self._transport is not None:
            self._transport.pause_reading()

    def _feed(self, data: bytes) -> None:
        """Give bytes to the parser, and see how far the request has come."""
        if self.phase is ConnectionPhase.IDLE:
            self._enter(ConnectionPhase.HEAD)
        self._raw += len(data)
        if self._payload is not None and self._left is not None:
            self._left -= len(data)
        fresh, self._fresh = self._fresh, False
        try:
            messages, _, _ = self._parser.feed_data(data)
        except HttpProcessingError as error:
            self._refuse_bytes(error)
            return
        if messages:
            # One at most: the parser stops behind each until it is told to go on.
            ((message, payload),) = messages
            self._on_head(message, payload, data if fresh else b"")
        elif self.phase is ConnectionPhase.HEAD and self._raw > HEAD_BYTES:
            text = f"line and header may have {HEAD_BYTES} bytes at most"
            self._refuse_head(431, Refusal.HEAD_SIZE, text)
        if self._payload is not None:
            self._on_body(self._payload)

    def _on_head(self, message: RawRequestMessage, payload: StreamReader, data: bytes) -> None:
        """Judge a request by its head; ``data``: what it came in, if that holds all of the head."""
        self._requests += 1
        self._size, self._pieces = 0, []
        self._keep = not message.should_close
        self._old = message.version == HttpVersion10
        self._head_only = message.method == "HEAD"
        fault = http_framing.framing_fault(message)
        if fault is not None:
            self._refuse_head(400, Refusal.MALFORMED, fault)
            return
        length = None if message.chunked else int(message.headers.get("Content-Length", 0))
        # What is left of the body is known where the head came in one piece.
        at = data.find(b"\r\n\r\n")
        self._raw = len(data) - at - 4 if at >= 0 else 0
        self._left = length - self._raw if at >= 0 and length is not None else None
        path, _, query = message.path.partition("?")
        admitted = self._host.service.admit(
            RequestHead(
                message.method,
                path,
                query,
                message.headers,
                message.raw_headers,
                length,
                self._host.clock.wall_ms(),
            )
        )
        self._payload = payload
        waits = "Expect" in message.headers and not payload.is_eof()
        if isinstance(admitted, ApiReply):
            self._keep = self._keep and not waits  # whether its body comes nobody knows
            self._answer_early(admitted)
            return
        self._admitted = admitted
        self._enter(ConnectionPhase.BODY)
        if waits and not self._old and self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _on_body(self, payload: StreamReader) -> None:
        """Take what came of a body, and begin the answer once it is whole."""
        piece = payload.read_nowait()
        self._size += len(piece)
        admitted = self._admitted
        if admitted is None:
            self._discard(payload)
            return
        in_chunks = admitted.head.length is None
        if self._size > admitted.most:
            self._answer_early(self._host.service.refuse(admitted, Refusal.BODY_SIZE))
        elif in_chunks and self._raw > SMALL_CHUNKS_BYTES and self._size * 2 < self._raw:
            self._keep = False
            self._answer_early(self._host.service.refuse(admitted, Refusal.MALFORMED))
        elif not self._host.load.take(len(piece)):
            self._answer_early(self._host.service.refuse(admitted, Refusal.MEMORY))
        else:
            self._taken += len(piece)
            if piece:
                self._pieces.append(piece)
            if payload.is_eof():
                self._carry_out(admitted)

    def _discard(self, payload: StreamReader) -> None:
        if payload.is_eof():
            self._finish_request()
        elif self._size > DISCARD_BYTES:
            self.abort()

    def _carry_out(self, admitted: Admitted) -> None:
        body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces, self._payload, self._admitted = [], None, None
        self._enter(ConnectionPhase.ANSWERING)
        self._task = self._loop.create_task(self._answer(admitted, body))

    async def _answer(self, admitted: Admitted, body: bytes) -> None:
        try:
            self._write(await self._host.service.carry_out(admitted, body))
        finally:
            self._task = None
            self._release()
        if self._transport is not None:
            self._finish_request()

    # ------------------------------------------------------------------ out

    def _answer_early(self, reply: ApiReply) -> None:
        """Answer before the body is there, which nobody wants any more."""
        payload, self._admitted, self._pieces = self._payload, None, []
        self._release()
        rest = payload is not None and not payload.is_eof()
        if rest and (self._left is None or self._left > DISCARD_BYTES):
            self._keep = False
        self._write(reply)
        if rest and self._keep:
            self._enter(ConnectionPhase.DISCARDING)
        else:
            self._finish_request()

    def _refuse_bytes(self, error: HttpProcessingError) -> None:
        """Answer what is not HTTP, or not as it has to be; where the next begins nobody knows."""
        if self.phase is ConnectionPhase.BODY and self._admitted is not None:
            self._keep = False
            self._answer_early(self._host.service.refuse(self._admitted, Refusal.MALFORMED))
        elif self.phase is ConnectionPhase.DISCARDING:
            self.abort()
        elif isinstance(error, LineTooLong):
            text = f"the line and each header field may have {LINE_BYTES} bytes at most"
            self._refuse_head(431, Refusal.HEAD_SIZE, text)
        else:
            self._refuse_head(400, Refusal.MALFORMED, "this is not HTTP/1.1 as RFC 9112 has it")

    def _refuse_head(self, status: int, reason: Refusal, text: str) -> None:
        self._keep, self._payload = False, None
        self._write(self._host.service.refuse_head(status, reason, text))
        self._finish_request()

    def _write(self, reply: ApiReply) -> None:
        """Give an answer to the transport, and settle whether the connection is kept after it."""
        if self._transport is None or self._transport.is_closing():
            return
        host = self._host
        self._keep = (
            self._keep
            and not host.draining
            and not self._half_closed
            and self._requests < CONNECTION_REQUESTS
            and host.clock.steady() - self._opened < CONNECTION_SECONDS
        )
        fate = "close" if not self._keep else "keep-alive" if self._old else ""
        head = http_framing.answer_head(reply, host.clock.wall_ms(), fate)
        self._transport.write(head if self._head_only else head + reply.body)

    def _finish_request(self) -> None:
        """Go on after an answer: to the next request, or to the end."""
        self._payload = None
        self._raw = 0
        if self._transport is None:
            return
        if not self._keep:
            self._close()
        elif self._write_paused:
            self._enter(ConnectionPhase.WRITING)
        else:
            self._next_request()

    def _next_request(self) -> None:
        self._enter(ConnectionPhase.IDLE)
        self._parser.message_consumed()
        self._fresh = self._left == 0 and not self._held
        if not self._fresh:
            # Not at once: what a client sends ahead takes its turn with what others send.
            self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        """Read what came with the last request, or behind it."""
        if self._transport is None or self.phase is not ConnectionPhase.IDLE:
            return
        held, self._held = self._held, b""
        if held:
            self._transport.resume_reading()
        self._fresh = False
        self._feed(held)
        if not held and self._is_in(ConnectionPhase.HEAD):
            self._enter(ConnectionPhase.IDLE)

    def _close(self) -> None:
        """Say that this was the last answer, and wait a little for the other side to have it.

        Closed with something unread, the system would take the answer back.
        """
        if self._transport is None:
            return
        self._enter(ConnectionPhase.CLOSING)
        self._size, self._held = 0, b""
        if self._half_closed:
            self._transport.close()
            return
        try:
            if self._transport.can_write_eof():
                self._transport.write_eof()
        except OSError:  # the other side went while it was answered, and has reset the connection
            self.abort()
            return
        self._transport.resume_reading()

    # ------------------------------------------------------------------ the end

    def expire(self) -> None:
        """End what has lasted too long. Caller: the server's sweep."""
        if self.phase is ConnectionPhase.BODY and self._admitted is not None:
            self._keep = False
            self._answer_early(self._host.service.refuse(self._admitted, Refusal.BODY_TIME))
        elif self.phase is ConnectionPhase.HEAD and self._raw:
            self._refuse_head(408, Refusal.HEAD_TIME, "the header did not come in time")
        elif self._transport is not None and not self._transport.get_write_buffer_size():
            self._transport.close()
        else:
            self.abort()

    def drain(self) -> None:
        """Take no request any more; one that is under way gets its answer. Caller: the server."""
        if self.phase in (ConnectionPhase.IDLE, ConnectionPhase.HEAD) and not self._raw:
            self._close()

    def abort(self) -> None:
        """Close at once, whatever has been answered."""
        if self._transport is not None:
            self._transport.abort()

    def _is_in(self, phase: ConnectionPhase) -> bool:
        return self.phase is phase

    def _enter(self, phase: ConnectionPhase) -> None:
        self.phase = phase
        self.since = self._host.clock.steady()

    def _release(self) -> None:
        self._host.load.give_back(self._taken)
        self._taken = 0


_ANSWER_DUE = frozenset({ConnectionPhase.ANSWERING, ConnectionPhase.WRITING})
