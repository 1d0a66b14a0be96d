"""HTTP connections on which an answer belongs to its request, and is bounded before it is read.

AWS's answers do not repeat what they answer. So what can be told by the connection is told here:
what arrives while nothing was asked, before a request was written or after its answer ended is
never an answer, and its connection is not used again. What only the answer's content can tell is
in ``replies``; until it is told, nothing else is asked on the connection: an answer that was not to
this request leaves its own one to come, which would be the next request's.
"""

import asyncio
import select
from collections import deque
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, NamedTuple, cast

from aiohttp import ClientConnectionError, ClientPayloadError, ClientRequest, ClientResponse
from aiohttp.client_proto import ResponseHandler
from aiohttp.helpers import TimerNoop, set_exception

from forwarder import clock

MAX_ANSWER_BYTES = 256 * 1024
"""Bytes of an answer, head and framing included, where the caller knows no smaller bound.

An answer of STS has 2 KiB, one of the instance's metadata or of single sign-on less than 10 KiB.
XML may unpack entities to a hundred times its size (the bound of the parser, expat).
"""
MAX_HEAD_LINE_BYTES = 8190
"""Bytes of a line of an answer's head, and of each header in it; the HTTP library's default."""
MAX_ANSWER_HEADERS = 128
"""Headers of an answer; AWS sends about ten."""
JOINED_BYTES = 64 * 1024
"""Bytes of a body up to which head and body leave in one piece; to copy more costs more."""
REMEMBERED_ANSWERS = 32
"""Answers of a connection that are told from repeated ones where they have no request id."""
LOOP_TURNS = 8
"""Turns of the loop in which what the system holds is read before a request leaves; two do, the
others are for what comes meanwhile."""


class RequestTerms(NamedTuple):
    """What holds for the request that the present task is about to send.

    ``largest``: bytes of its answer. ``is_late``: tells whether it must not be sent any more.
    """

    largest: int
    is_late: Callable[[], bool]


_USUAL = RequestTerms(MAX_ANSWER_BYTES, lambda: False)
terms: ContextVar[RequestTerms] = ContextVar("terms", default=_USUAL)
used: ContextVar["OneAnswerProtocol | None"] = ContextVar("used", default=None)
"""The connection of the request that the present task sent last."""


class OneAnswerProtocol(ResponseHandler):
    """One connection: a request, its answer, and nothing before, between or behind.

    ``doubtful``: something else arrived as well, so that the answer may be another request's.
    """

    def __init__(self, loop: Any) -> None:  # noqa: ANN401  # the library's own
        super().__init__(loop)
        self.doubtful = False
        self.writing = False
        self._waits = False
        self._asked = False
        self._answer: Any = None
        self._answer_bytes_left = 0
        self._told: deque[int] = deque(maxlen=REMEMBERED_ANSWERS)
        self._unread: tuple[int, Any] = (-1, None)
        self._silent_since = 0.0
        self._unsent = 0
        self._silence: asyncio.TimerHandle | None = None

    def set_response_params(self, **params: Any) -> None:  # noqa: ANN401  # the library's own
        """Await the answer to the request that is sent next; called once for each."""
        self.doubtful = self.writing = self._waits = False
        self._asked, self._answer = True, None
        self._answer_bytes_left = terms.get().largest
        used.set(self)
        super().set_response_params(**params)

    @property
    def should_close(self) -> bool:
        """Tell whether the connection must not be used again; the pool asks when it gets it."""
        return bool(super().should_close) or self.doubtful or self._is_early()

    def close(self) -> None:
        """End the connection, and with it a request that is still leaving: it was given up."""
        if self._is_early():
            self.abort()
        else:
            super().close()

    def expect_request(self) -> None:
        """Note that a request is made and has not begun to leave: nothing answers it yet."""
        self.writing = self._waits = True

    async def may_write(self) -> bool:
        """Tell whether the request may leave now; call it directly before.

        What the system holds by then is read first. Over TLS it may be no data at all: a server
        sends session tickets behind the handshake. What is data ends the connection.
        """
        for _ in range(LOOP_TURNS):
            if not self._has_unread():
                break
            await asyncio.sleep(0)
        else:
            self.mark_unusable()
        if terms.get().is_late():
            self.mark_unusable()
        self._waits = False
        return not self.doubtful

    def is_connected(self) -> bool:
        """Tell whether a request may be sent; the pool asks before it hands out an idle one."""
        return bool(super().is_connected()) and not (self._ended() and self._has_unread())

    def data_received(self, data: bytes) -> None:
        """Take bytes of the awaited answer; any others end the connection."""
        if data and (not self._asked or self._waits or self._ended()):
            self.mark_unusable()
            return
        self._answer_bytes_left -= len(data)
        if self._answer_bytes_left < 0:
            self._refuse("the answer is larger than any to this request")
            return
        super().data_received(data)
        if self._ended() and self._has_begun_another():
            self.mark_unusable()

    def feed_data(self, data: Any, size: int = 0) -> None:  # noqa: ANN401  # the library's own
        """Take the head of a message; of those after the answer none is let through."""
        message, payload = data
        if self._answer is not None:
            self.mark_unusable()
            return
        # RFC 9110: 1xx come before the answer; 101 is one, after which no other follows.
        if message.code >= 200 or message.code == 101:  # noqa: PLR2004
            self._answer = payload
            # A refusal may well come before all of a request was read.
            self.doubtful = self.doubtful or (message.code < 300 and self._is_early())  # noqa: PLR2004
        super().feed_data(data, size)

    def repeats(self, body: bytes) -> bool:
        """Tell whether one of the last answers here had this body, and note it.

        Called for an answer without a request id. It has receipts, which come once; but who asked
        for what was told before may be another client, which does not know of it.
        """
        known = hash(body)
        found = known in self._told
        self._told.append(known)
        return found

    def mark_unusable(self) -> None:
        """Close the connection for good, and mark its last answer as doubtful."""
        self.doubtful = True
        self.force_close()
        if self.transport is not None:
            self.transport.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Let nothing be left of a connection that has ended."""
        super().connection_lost(exc)
        if self._silence is not None:
            self._silence.cancel()

    def _reschedule_timeout(self) -> None:
        """Begin to await the next bytes; one timer serves for many requests.

        The library makes one for each request, and another for each piece of its answer.
        """
        if not self._read_timeout:
            self._silent_since = 0.0
            return
        self._silent_since = now = clock.monotonic()
        self._unsent = self._unsent_bytes()
        self._watch_until(now + self._read_timeout)

    def _drop_timeout(self) -> None:
        self._silent_since = 0.0

    def _check_silence(self) -> None:
        self._silence = None
        if not self._silent_since or not self._read_timeout:
            return
        unsent, before = self._unsent_bytes(), self._unsent
        if unsent < before:
            # A large body was leaving over a slow line: who reads it is not silent.
            self._silent_since, self._unsent = clock.monotonic(), unsent
        until = self._silent_since + self._read_timeout
        if clock.monotonic() >= until:
            self._on_read_timeout()
        else:
            self._watch_until(until)

    def _watch_until(self, until: float) -> None:
        if self._silence is not None:
            if self._silence.when() <= until:
                return
            self._silence.cancel()
        self._silence = self._loop.call_at(until, self._check_silence)

    def _ended(self) -> bool:
        return self._answer is not None and bool(self._answer.is_eof())

    def _is_early(self) -> bool:
        """Tell whether part of the request has not left yet, so that no answer can be to it."""
        return self.writing or self._unsent_bytes() > 0

    def _unsent_bytes(self) -> int:
        """Return how many bytes of what was written have not left."""
        transport: Any = self.transport
        if transport is None:
            return 0
        unsent: int = transport.get_write_buffer_size()
        # Over TLS that is what is not encrypted yet; what is may wait for the system as well.
        below = getattr(getattr(transport, "_ssl_protocol", None), "_transport", None)
        return unsent if below is None else unsent + below.get_write_buffer_size()

    def _has_unread(self) -> bool:
        """Tell whether the system holds bytes, or an end, that have not been read."""
        connection: Any = self.transport and self.transport.get_extra_info("socket")
        number = -1 if connection is None else connection.fileno()
        if number < 0:
            return False
        known, waiting = self._unread
        if known != number:
            waiting = select.poll()
            waiting.register(number, select.POLLIN)
            self._unread = number, waiting
        return bool(waiting.poll(0))

    def _has_begun_another(self) -> bool:
        """Tell whether bytes came with the answer's end that belong to no answer."""
        parser, self._parser = self._parser, None
        if parser is None:
            return False
        try:
            return parser.feed_eof() is not None
        except Exception:  # noqa: BLE001  # whatever was begun, it is not ours
            return True

    def _refuse(self, why: str) -> None:
        """End an answer that is too long; its reader gets ClientPayloadError."""
        error = ClientPayloadError(why)
        if self._payload is not None:
            set_exception(self._payload, error)
        self.set_exception(error)
        self.mark_unusable()


class GuardedRequest(ClientRequest):
    """A request that leaves when nothing is on its connection yet, if it is still to be sent."""

    async def send(self, conn: Any) -> ClientResponse:  # noqa: ANN401  # the library's own
        """Start to send; what arrives before the request has left is no answer to it."""
        if self.body:
            conn.protocol.expect_request()
        return await super().send(conn)

    async def write_bytes(self, writer: Any, conn: Any, *rest: Any) -> None:  # noqa: ANN401
        """Write head and body; the library keeps the head for the first bytes of the body."""
        protocol = conn.protocol
        if await protocol.may_write():
            await super().write_bytes(writer, conn, *rest)
            protocol.writing = False


class GuardedResponse(ClientResponse):
    """An answer that keeps its connection until the caller has judged it.

    The library's own readers give it back by reading; ``held`` does not.
    """

    @property
    def doubtful(self) -> bool:
        """Tell whether more arrived on the connection than one answer to what was asked."""
        protocol = cast("OneAnswerProtocol | None", self._protocol)
        return protocol is None or protocol.doubtful

    def repeats(self, body: bytes) -> bool:
        """Tell whether an answer on the connection had this body before, and note it."""
        protocol = cast("OneAnswerProtocol | None", self._protocol)
        return protocol is None or protocol.repeats(body)

    async def read_held(self) -> bytes:
        """Read the body and keep the connection: the caller then calls ``release``, or ``abort``.

        ``abort`` where the answer is not believed to be the one to this request.
        """
        try:
            return await self.content.read()
        except BaseException:
            self.abort()
            raise

    def abort(self) -> None:
        """End the connection: the answer to what was asked may be still to come."""
        protocol = cast("OneAnswerProtocol | None", self._protocol)
        if protocol is not None:
            protocol.mark_unusable()
        self.close()

    def _response_eof(self) -> None:
        """Stop writing what is answered; the library would give the connection back as well."""
        self._cleanup_writer()


class HeldAnswer:
    """A request over a connection that was kept, and its answer; it holds the connection.

    What the library's own request does besides takes two thirds of a small put's time. Caller: the
    session, for ``ask`` and ``read``; then who judges the answer calls ``release``, or ``abort``.
    """

    def __init__(self, connection: Any) -> None:  # noqa: ANN401  # the library's own
        """Take a connection that the pool has handed out."""
        self._connection = connection
        self._protocol: OneAnswerProtocol = connection.protocol
        self._payload: Any = None
        self.status = 0
        self.headers: Mapping[str, str] = {}
        self.body = b""

    @property
    def doubtful(self) -> bool:
        """Tell whether more arrived on the connection than one answer to what was asked."""
        return self._protocol.doubtful

    def repeats(self, body: bytes) -> bool:
        """Tell whether an answer on the connection had this body before, and note it."""
        return self._protocol.repeats(body)

    async def ask(self, head: bytes, body: bytes, read_seconds: float | None) -> None:
        """Send a request and await the head of its answer; raises the library's errors.

        ``read_seconds``: the longest silence while the answer is awaited.
        """
        protocol = self._protocol
        protocol.set_response_params(
            timer=TimerNoop(),
            read_until_eof=True,
            auto_decompress=False,
            read_timeout=read_seconds,
            max_line_size=MAX_HEAD_LINE_BYTES,
            max_field_size=MAX_HEAD_LINE_BYTES,
            max_headers=MAX_ANSWER_HEADERS,
        )
        protocol.expect_request()
        if await protocol.may_write():
            transport = protocol.transport
            if transport is None or transport.is_closing():
                text = "the connection has ended"
                raise ClientConnectionError(text)
            transport.write(head + body if len(body) <= JOINED_BYTES else head)
            if len(body) > JOINED_BYTES:
                transport.write(body)
            protocol.writing = False
            protocol.start_timeout()
        message, self._payload = await protocol.read()
        while 100 <= message.code < 200 and message.code != 101:  # noqa: PLR2004  # not the answer yet
            message, self._payload = await protocol.read()
        self.status = message.code
        self.headers = message.headers
        if not b"".join([value for _, value in message.raw_headers]).isascii():
            # Strictly, as the library does.
            self.headers = {k.decode().lower(): v.decode() for k, v in message.raw_headers}

    async def read(self) -> None:
        """Read the body and keep the connection."""
        payload = self._payload
        self.body = payload.read_nowait() if payload.is_eof() else await payload.read()

    def release(self) -> None:
        """Give the connection back: nothing else is to come on it."""
        self._connection.release()

    def abort(self) -> None:
        """End the connection: the answer to what was asked may be still to come."""
        self._protocol.mark_unusable()
        self._connection.close()
