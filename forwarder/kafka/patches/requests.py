"""The client's requests: each has a time limit, and is sent in few steps.

A connection that a firewall forgot, or whose host vanished, is never reset: requests have a limit
on their connection. One timer for each connection looks after all that wait on it; the client
makes a timer, a coroutine and a context of each request's own.
"""
# ruff: noqa: SLF001  # see the package

import asyncio  # noqa: TC003  # imported by everybody at the edges
import struct
import weakref
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from aiokafka.client import ConnectionGroup
from aiokafka.conn import CloseReason
from aiokafka.errors import KafkaConnectionError, RequestTimedOutError
from aiokafka.protocol.group import JoinGroupRequest, SyncGroupRequest

from forwarder import clock
from forwarder.kafka.patches import structs

IMPATIENCE = 10.0
"""Seconds a broker may take over an answer before the connection counts as dead. Below the limit
of every step that waits for one (15 s and more): those give up and leave the connection."""

_JOINS = (JoinGroupRequest.API_KEY, SyncGroupRequest.API_KEY)
_LENGTH = struct.Struct(">i")
_LIMITED: "weakref.WeakSet[_Requests]" = weakref.WeakSet()


def limit_requests(client: Any, joining: float = 0.0) -> None:  # noqa: ANN401  # the client ships no types
    """Make a client close a connection on which an answer takes over ``IMPATIENCE`` seconds.

    It makes a new one then. Behind a limit around the whole question a dead one would stay, and
    every later question would wait for its own limit.
    ``joining``: seconds that the answer to joining a group may take, it waits for all members.
    """
    client._request_timeout_ms = round(IMPATIENCE * 1000)
    connect: Callable[..., Awaitable[Any]] = client._get_conn
    usual: Callable[..., Awaitable[Any]] = client.send

    async def connected(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401
        connection = await connect(*arguments, **options)
        if connection is not None and "send" not in vars(connection):
            connection.send = _Requests(connection, joining).send
        return connection

    async def send(node: Any, request: Any, *, group: Any = ConnectionGroup.DEFAULT) -> Any:  # noqa: ANN401
        known = client._conns.get((node, group))
        if known is None or "send" not in vars(known) or not known.connected():
            return await usual(node, request, group=group)
        return await known.send(request)

    client._get_conn = connected
    client.send = send


class _Unanswered(NamedTuple):
    """A request that was sent: when it was, until when its answer may come (seconds, monotonic)."""

    asked: float
    until: float
    joins: bool


class _Requests:
    """The requests of one connection, from now on."""

    def __init__(self, connection: Any, joining: float) -> None:  # noqa: ANN401
        self._connection = connection
        self._joining = joining
        self._sent: deque[_Unanswered] = deque()
        self._timer: asyncio.TimerHandle | None = None
        _LIMITED.add(self)

    def send(self, request: Any, expect_response: bool = True) -> Awaitable[Any]:  # noqa: ANN401, FBT001, FBT002
        """Send a request; return what waits for the answer.

        That raises RequestTimedOutError if it takes too long. Raises KafkaConnectionError, or what
        the client does where a broker does not know the request.
        """
        connection = self._connection
        if not expect_response:  # of a producer that wants no acknowledgement
            waiting: Awaitable[Any] = type(connection).send(connection, request, expect_response)
            return waiting
        if connection._writer is None:
            text = f"No connection to broker at {connection.host}:{connection.port}"
            raise KafkaConnectionError(text)
        prepared = request.prepare(connection._versions)
        number = connection._next_correlation_id()
        header = prepared.build_request_header(
            correlation_id=number, client_id=connection._client_id
        )
        content = [*structs.parts(header), *structs.parts(prepared)]
        content.insert(0, _LENGTH.pack(sum(map(len, content))))
        try:
            connection._writer.write(b"".join(content))
        except OSError as error:
            connection.close(reason=CloseReason.CONNECTION_BROKEN)
            text = f"Connection at {connection.host}:{connection.port} broken: {error}"
            raise KafkaConnectionError(text) from error
        answer: asyncio.Future[Any] = connection._loop.create_future()
        connection._requests.append((number, prepared, answer))
        self._limit(joins=request.API_KEY in _JOINS)
        return answer

    def _limit(self, *, joins: bool) -> None:
        now = clock.monotonic()
        sent = _Unanswered(now, now + (self._joining if joins else IMPATIENCE), joins)
        self._sent.append(sent)
        self._forget_answered()
        if self._timer is not None and self._timer.when() > sent.until:
            self._timer.cancel()  # it was made for one that may take longer
            self._timer = None
        if self._timer is None:
            self._timer = self._connection._loop.call_at(sent.until, self._look)

    def _forget_answered(self) -> None:
        """Keep what is still to be answered: answers come in the order of the requests."""
        while len(self._sent) > len(self._connection._requests):
            self._sent.popleft()

    def _look(self) -> None:
        """Give the connection up if an answer is overdue, else look again when the next one is."""
        self._timer = None
        self._forget_answered()
        connection = self._connection
        waiting = [
            (sent, answer)
            for sent, (_, _, answer) in zip(self._sent, connection._requests, strict=True)
            if not answer.done()
        ]
        now = clock.monotonic()
        overdue = [sent for sent, _ in waiting if sent.until <= now]
        if overdue:
            for sent, answer in waiting:
                if sent.until <= now:
                    answer.set_exception(RequestTimedOutError())
            self.give_up()
            _give_up_silent(connection.host, connection.port, min(sent.asked for sent in overdue))
        elif waiting:
            self._timer = connection._loop.call_at(min(s.until for s, _ in waiting), self._look)

    def is_silent(self, host: str, port: int, since: float) -> bool:
        """Tell whether this is a connection to a server that has been silent all the while.

        Not one on which an answer is waited for that may take longer.
        """
        connection = self._connection
        self._forget_answered()
        joins = any(sent.joins for sent in self._sent)
        is_there = (connection.host, connection.port) == (host, port) and connection.connected()
        return is_there and not joins and connection._last_action < since

    def give_up(self) -> None:
        """Close the connection at once; what waits on it fails with KafkaConnectionError."""
        writer = self._connection._writer
        self._connection.close(reason=CloseReason.CONNECTION_TIMEOUT)
        if writer is not None:
            writer.transport.abort()


def _give_up_silent(host: str, port: int, since: float) -> None:
    """Give up the process's other connections to a broker that have been silent all the while.

    Each would be found dead by itself, but one after the other, and only once it is needed.
    """
    for other in list(_LIMITED):
        if other.is_silent(host, port, since):
            other.give_up()
