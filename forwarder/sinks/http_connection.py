"""HTTP connections on which an answer belongs to its request, and is bounded before it is read.

AWS's answers do not repeat what they answer. So what can be told by the connection is told here:
what arrives while nothing was asked, before a request was written or after its answer ended is
never an answer, and its connection is not used again. What only the answer's content can tell is
in ``receipts``.
"""

import select
from contextvars import ContextVar
from typing import Any, cast

from aiohttp import ClientPayloadError, ClientRequest, ClientResponse
from aiohttp.client_proto import ResponseHandler
from aiohttp.helpers import set_exception

LARGEST_ANSWER = 256 * 1024
"""Bytes of an answer, head and framing included, where the caller knows no smaller bound.

An answer of STS has 2 KiB, one of the instance's metadata or of single sign-on less than 10 KiB.
XML may unpack entities to a hundred times its size (the bound of the parser, expat).
"""
LONGEST_LINE = 8190
"""Bytes of a line of an answer's head, and of each header in it; the HTTP library's default."""
MOST_HEADERS = 128
"""Headers of an answer; AWS sends about ten."""

largest: ContextVar[int] = ContextVar("largest answer", default=LARGEST_ANSWER)
"""The bound of the answer to the request that the present task is about to send, in bytes."""


class OneAnswer(ResponseHandler):
    """One connection: a request, its answer, and nothing before, between or behind.

    ``doubtful``: something else arrived as well, so that the answer may be another request's.
    """

    def __init__(self, loop: Any) -> None:  # noqa: ANN401  # the library's own
        super().__init__(loop)
        self.doubtful = False
        self.writing = False
        self._asked = False
        self._answer: Any = None
        self._left = 0

    def set_response_params(self, **params: Any) -> None:  # noqa: ANN401  # the library's own
        """Await the answer to the request that is sent next; called once for each."""
        self.doubtful = False
        self._asked, self._answer = True, None
        self._left = largest.get()
        super().set_response_params(**params)

    def begin_writing(self) -> None:
        """Note that the request leaves from now on: what is here already does not answer it."""
        self.doubtful = self.doubtful or self._has_unread()

    def is_connected(self) -> bool:
        """Tell whether a request may be sent; the pool asks before it hands out an idle one."""
        return bool(super().is_connected()) and not (self._ended() and self._has_unread())

    def data_received(self, data: bytes) -> None:
        """Take bytes of the awaited answer; any others end the connection."""
        if data and (not self._asked or self._ended()):
            self._drop()
            return
        self._left -= len(data)
        if self._left < 0:
            self._refuse("the answer is larger than any to this request")
            return
        super().data_received(data)
        if self._ended() and self._has_begun_another():
            self._drop()

    def feed_data(self, data: Any, size: int = 0) -> None:  # noqa: ANN401  # the library's own
        """Take the head of a message; of those after the answer none is let through."""
        message, payload = data
        if self._answer is not None:
            self._drop()
            return
        # RFC 9110: 1xx come before the answer; 101 is one, after which no other follows.
        if message.code >= 200 or message.code == 101:  # noqa: PLR2004
            self._answer = payload
            # A refusal may well come before all of a request was read.
            self.doubtful = self.doubtful or (message.code < 300 and self._is_early())  # noqa: PLR2004
        super().feed_data(data, size)

    def _ended(self) -> bool:
        return self._answer is not None and bool(self._answer.is_eof())

    def _is_early(self) -> bool:
        """Tell whether part of the request has not even left: nobody can have answered it."""
        transport = self.transport
        return self.writing or (transport is not None and transport.get_write_buffer_size() > 0)

    def _has_unread(self) -> bool:
        """Tell whether the system holds bytes, or an end, that nobody has read yet."""
        connection: Any = self.transport and self.transport.get_extra_info("socket")
        if connection is None or connection.fileno() < 0:
            return False
        waiting = select.poll()
        waiting.register(connection.fileno(), select.POLLIN)
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

    def _drop(self) -> None:
        """Never use the connection again, nor believe the answer it has just brought."""
        self.doubtful = True
        self.force_close()
        if self.transport is not None:
            self.transport.abort()

    def _refuse(self, why: str) -> None:
        """End an answer that goes on for too long; whoever reads it gets ClientPayloadError."""
        error = ClientPayloadError(why)
        if self._payload is not None:
            set_exception(self._payload, error)
        self.set_exception(error)
        self._drop()


class Request(ClientRequest):
    """A request that lets its connection know until when it is being written."""

    async def send(self, conn: Any) -> ClientResponse:  # noqa: ANN401  # the library's own
        """Begin to write the request."""
        if self.body:
            conn.protocol.writing = True
        return await super().send(conn)

    async def write_bytes(self, writer: Any, conn: Any, *rest: Any) -> None:  # noqa: ANN401
        """Write the body."""
        protocol = conn.protocol
        protocol.begin_writing()
        await super().write_bytes(writer, conn, *rest)
        protocol.writing = False


class Response(ClientResponse):
    """An answer that knows whether it can be believed, once it is read."""

    @property
    def doubtful(self) -> bool:
        """Tell whether more arrived on the connection than one answer to what was asked."""
        protocol = cast("OneAnswer | None", self._protocol)
        return protocol is None or protocol.doubtful
