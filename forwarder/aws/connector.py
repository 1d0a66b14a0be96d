"""The HTTP library's pool of connections, with one answer for a request, and growing slowly.

One for all clients of an endpoint (``connection_pool``). Any connection will do for any of them:
nothing of a request stays on it, and each request carries its own signature.
"""

import asyncio
from collections import deque
from typing import Any

from aiobotocore.httpsession import _ProxySSLTCPConnector

from forwarder import clock
from forwarder.aws.http_connection import OneAnswerProtocol

MAX_OPENING = 4
"""Connections that are being opened at a time while others wait for one that becomes free. Puts of
a thousand destinations that begin together need a tenth of a thousand where answers come soon."""
PACE_SECONDS = 0.01
"""After so long one more is opened while others wait: where a handshake takes a quarter of a second
four at a time would be too few."""
STILL_SECONDS = 0.25
"""After so long without one that was opened or became free, no request waits for another's."""
MAX_WAIT_SECONDS = 3.0
"""The longest wait in any case: as long as it may take to open one."""
LATE_SECONDS = 0.1
"""How late a timer may be before it tells of a busy event loop, in which nothing could happen."""


class Connector(_ProxySSLTCPConnector):  # type: ignore[misc]  # the library ships no types
    """A pool of connections. Callers: the library's session, and ours for those that are kept."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401  # the library's own
        """Create an empty one; ``options`` are the library's."""
        super().__init__(**options)
        self._factory = lambda: OneAnswerProtocol(self._loop)
        self._last: tuple[Any, bytes] | None = None
        self._opening = 0
        self._waiting: deque[asyncio.Future[bool]] = deque()
        self._moved_at = 0.0
        self._pace: asyncio.TimerHandle | None = None

    async def connect(self, req: Any, traces: Any, timeout: Any) -> Any:  # noqa: ANN401, ASYNC109
        """Return a connection for a request of the library, and remember where it goes."""
        connection = await super().connect(req, traces, timeout)
        # Not the request: it has a body of megabytes.
        self._last = (
            None if req.proxy else (req.connection_key, req.url.raw_path_qs.encode("ascii"))
        )
        return connection

    async def take_kept(self) -> tuple[Any, bytes]:
        """Return a connection that is kept to where the last one went, None if there is none.

        And the request target there. While many are being opened it waits for one a little.
        """
        if not self._waiting and (found := await self._kept())[0] is not None:
            return found
        since = clock.monotonic()
        may_open = False
        while self._opening >= MAX_OPENING and not may_open:
            # Not from when another came: those who come one after the other would hold it up.
            moved_at = max(self._moved_at, since)
            until = min(moved_at + STILL_SECONDS, since + MAX_WAIT_SECONDS)
            late = clock.monotonic() - until
            if late > LATE_SECONDS and until < since + MAX_WAIT_SECONDS:
                self._moved_at = moved_at + late
            elif late >= 0:
                break
            may_open = await self._wait_until(until)
            if (found := await self._kept())[0] is not None:
                return found
        return None, b""

    async def _kept(self) -> tuple[Any, bytes]:
        if self._last is None:
            return None, b""
        key, target = self._last
        if kept := self._conns.get(key):
            # The one used last: those that are not needed end by themselves, unused.
            kept.rotate(1)
        return await self._get(key, []), target

    async def _wait_until(self, deadline: float) -> bool:
        """Wait until a connection may have become free; True: one may be opened, come what may."""
        turn: asyncio.Future[bool] = self._loop.create_future()
        timer = self._loop.call_at(deadline, _give, turn)
        self._waiting.append(turn)
        if self._pace is None:
            self._pace = self._loop.call_later(PACE_SECONDS, self._open_one)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._wake_one(may_open=turn.result())  # it was given to one that is gone
            raise
        finally:
            timer.cancel()

    async def _create_connection(self, req: Any, traces: Any, timeout: Any) -> Any:  # noqa: ANN401, ASYNC109
        self._opening += 1
        try:
            return await super()._create_connection(req, traces, timeout)
        finally:
            self._opening -= 1
            self._moved_at = clock.monotonic()
            self._wake_one()

    def _release(self, key: Any, protocol: Any, **options: Any) -> None:  # noqa: ANN401  # the library's own
        super()._release(key, protocol, **options)
        if self._waiting:
            self._moved_at = clock.monotonic()
            self._wake_one()

    def _open_one(self) -> None:
        """Let one that waits open a connection, and the next one a little later."""
        self._pace = None
        if self._wake_one(may_open=True):
            self._pace = self._loop.call_later(PACE_SECONDS, self._open_one)

    def _wake_one(self, *, may_open: bool = False) -> bool:
        """Give the one that waits longest its turn; False if nobody waits."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(may_open)
                return True
        return False


def _give(turn: "asyncio.Future[bool]") -> None:
    if not turn.done():
        turn.set_result(False)
