"""Accept connections no faster than the rest of the process can bear, on every address of a host.

Both servers have one: the worker's and gateway's own port for probes and scrapes, and the gateway's
API.
"""

import asyncio
import errno
import socket
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import structlog

from forwarder import retry
from forwarder.clock import Clock

log = structlog.get_logger()

BACKLOG = 256
"""Connections that the system holds until they are accepted: a probe behind so many waits 0.1 s.
Where there is no room for it, it waits a second or three, until its system asks again."""

ACCEPTS_PER_TURN = 32
"""Most accepted in one go, and no more than a quarter of the connections that may be open: what is
accepted in one go never takes the place of all that were read, or are answered. Then the loop does
other work, for each of them at least:"""

ACCEPT_PAUSE = 1 / 3200
"""Seconds. 3,200 a second cost a quarter of a core; a flood has to wait."""

_NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


class Acceptor:
    """Listens, and begins a connection for whatever is accepted. Caller: a server."""

    def __init__(  # noqa: PLR0913  # what it works with, each given once
        self,
        make_room: Callable[[], None],
        begin: Callable[[socket.socket], Coroutine[Any, Any, None]],
        clock: Clock,
        remedy: str,
        *,
        per_turn: int = ACCEPTS_PER_TURN,
        backlog: int = BACKLOG,
        pause: float = ACCEPT_PAUSE,
        retry_seconds: float = 1.0,
    ) -> None:
        """Create.

        ``make_room`` is called before each connection, ``begin`` with it; OSError of it means that
        the other side has gone already. ``per_turn``: accepted in one go at most. ``backlog``:
        connections that the system holds meanwhile. ``pause``: seconds of other work for each one
        that is accepted. ``remedy`` is logged when accepting fails, which is tried again after
        ``retry_seconds``.
        """
        self.beginning: set[asyncio.Task[None]] = set()
        """Connections that are not made yet: of TLS, while hands are shaken."""
        self.listening: list[socket.socket] = []
        """What is listened on: a socket for each address of the host; none once it is stopped."""
        self._make_room = make_room
        self._begin = begin
        self._clock = clock
        self._remedy = remedy
        self._per_turn = per_turn
        self._backlog = backlog
        self._pause = pause
        self._retry_seconds = retry_seconds
        self._timers: dict[socket.socket, asyncio.TimerHandle] = {}
        self._repeats = retry.RepeatSuppressor(retry.LOG_REPEAT_SECONDS)

    async def start(self, host: str, port: int) -> int:
        """Listen and return the port, chosen by the system if ``port`` is 0; raises OSError."""
        self.listening = await _listening(host, port, self._backlog)
        for listener in self.listening:
            self._resume(listener)
        bound: int = self.listening[0].getsockname()[1]
        return bound

    async def stop(self) -> None:
        """Listen no more, and wait until what was accepted has begun."""
        loop = asyncio.get_running_loop()
        for listener in self.listening:
            loop.remove_reader(listener)
            if (timer := self._timers.pop(listener, None)) is not None:
                timer.cancel()
            listener.close()
        self.listening = []
        await asyncio.gather(*self.beginning, return_exceptions=True)

    def _resume(self, listener: socket.socket) -> None:
        self._timers.pop(listener, None)
        asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def _rest(self, listener: socket.socket, seconds: float) -> None:
        """Accept nothing for a while; the system holds what comes meanwhile."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(listener)
        self._timers[listener] = loop.call_later(seconds, self._resume, listener)

    def _accept(self, listener: socket.socket) -> None:
        """Accept what waits, a few at a time. Caller: the event loop."""
        count = 0
        while count < self._per_turn:
            try:
                accepted, _address = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                break
            except OSError as error:  # EMFILE, ENFILE, ENOBUFS, ENOMEM
                self._refused(error)
                self._rest(listener, self._retry_seconds)
                return
            count += 1
            accepted.settimeout(0)
            self._make_room()
            task = asyncio.get_running_loop().create_task(self._begun(accepted))
            self.beginning.add(task)
            task.add_done_callback(self.beginning.discard)
        if count:
            self._rest(listener, count * self._pause)

    async def _begun(self, accepted: socket.socket) -> None:
        try:
            await self._begin(accepted)
        except OSError:  # it has gone already
            accepted.close()

    def _refused(self, error: OSError) -> None:
        what = errno.errorcode.get(error.errno or 0, "") or str(error)
        if self._repeats.register(what, self._clock.steady()):
            said = f"{what}: {error.strerror or error}"
            log.warning("http.refused", error=said, remedy=self._remedy)


async def _listening(host: str, port: int, backlog: int) -> list[socket.socket]:
    """Return a listening socket for every address of the host; raises OSError.

    An address that this machine does not have (IPv6, as a rule) is no fault beside one it has.
    """
    found = await asyncio.get_running_loop().getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    listening: list[socket.socket] = []
    missing: list[OSError] = []
    try:
        for family, _, _, _, address in dict.fromkeys(found):
            bound = listening[0].getsockname()[1] if listening else port
            try:
                listening.append(_listener(family, (address[0], bound, *address[2:]), backlog))
            except OSError as error:
                if error.errno not in _NOT_HERE:
                    raise
                missing.append(error)
        if not listening:
            raise missing[0]
    except OSError:
        for listener in listening:
            listener.close()
        raise
    return listening


def _listener(family: int, address: Sequence[object], backlog: int) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(tuple(address))
        listener.listen(backlog)
        listener.settimeout(0)
    except OSError:
        listener.close()
        raise
    return listener
