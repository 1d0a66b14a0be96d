"""The gateway's API on its port: connections within their bounds, and their end."""

import asyncio
import socket

import structlog

from forwarder.clock import Clock
from forwarder.config.gateway import ListenSettings
from forwarder.errors import StartupError
from forwarder.gateway.http_connection import (
    READ_BYTES,
    ClientConnection,
    ConnectionLimits,
    ConnectionPhase,
)
from forwarder.gateway.load import RequestLoad
from forwarder.gateway.server_tls import ServerTls
from forwarder.gateway.service import ApiService
from forwarder.ops.acceptor import ACCEPTS_PER_TURN, Acceptor
from forwarder.ops.gateway_catalogue import Refusal
from forwarder.ops.gateway_metrics import GatewayMetrics

log = structlog.get_logger()

ACCEPT_PAUSE = 1 / 1_600
"""Seconds. A connection with a request that is refused costs 300 µs: a flood of them takes half a
core, and leaves the other half to clients that are connected."""

BACKLOG = 2_048
"""Connections that the system holds until they are accepted (no more than net.core.somaxconn). One
that finds no room there waits for a second, then three, seven, fifteen."""

DOOMED = 64
"""Connections that are chosen at a time to make room, one after the other."""

SWEEP_SECONDS = 0.5
"""Between two looks for connections that lasted too long; a look at a thousand takes 0.3 ms."""


class ApiServer:
    """Listens, and keeps connections within their bounds. One for a gateway."""

    def __init__(  # noqa: PLR0913  # what all connections share
        self,
        service: ApiService,
        load: RequestLoad,
        limits: ConnectionLimits,
        metrics: GatewayMetrics,
        clock: Clock,
        *,
        connections: int,
    ) -> None:
        """Create; ``connections`` are open at most."""
        self.service = service
        self.load = load
        self.clock = clock
        self.draining = False
        self.read_buffer = bytearray(READ_BYTES)
        self._limits = limits
        self._seconds = limits.by_phase()
        self._metrics = metrics
        self._most = connections
        self._open_ones: dict[ClientConnection, None] = {}
        self._doomed: list[ClientConnection] = []
        self._handshakes: dict[asyncio.Task[None], None] = {}
        self._tls: ServerTls | None = None
        self._sweeping: asyncio.Task[None] | None = None
        self._acceptor = Acceptor(
            self._make_room,
            self._begin,
            clock,
            "clients are not answered meanwhile: raise the limit of open files (ulimit -n, "
            "LimitNOFILE)",
            per_turn=min(ACCEPTS_PER_TURN, max(1, connections // 4)),
            backlog=BACKLOG,
            pause=ACCEPT_PAUSE,
        )

    async def start(self, listen: ListenSettings) -> int:
        """Listen and return the port, chosen by the system if it is 0; or raise StartupError."""
        self._tls = ServerTls(listen, self.clock) if listen.cert_file is not None else None
        try:
            port = await self._acceptor.start(listen.host, listen.port)
        except OSError as error:
            what = f"cannot listen on {listen.host}:{listen.port} ({error.strerror or error})"
            msg = f"{what}: set gateway.listen to an address that is free here"
            raise StartupError(msg) from error
        self._sweeping = asyncio.create_task(self._sweep())
        return port

    def connections(self) -> int:
        """Return how many connections are open, those included whose hands are being shaken."""
        return len(self._open_ones) + len(self._acceptor.beginning)

    async def drain(self, seconds: float) -> bool:
        """Accept no more, answer what is under way for so many seconds, then close everything.

        Returns False if something was still to be answered then.
        """
        self.draining = True
        deadline = self.clock.steady() + seconds
        await self._acceptor.stop()
        # What has arrived already is read before the idle connections are told apart.
        await asyncio.sleep(0.01)
        for connection in list(self._open_ones):
            connection.drain()
        while self._open_ones and self.clock.steady() < deadline:  # noqa: ASYNC110  # once a life
            await asyncio.sleep(0.02)
        rest = [one for one in self._open_ones if one.phase >= ConnectionPhase.BODY]
        for connection in list(self._open_ones):
            connection.abort()
        await asyncio.sleep(0)  # they end one turn of the loop later
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.gather(self._sweeping, return_exceptions=True)
        return not rest

    # ------------------------------------------------------------------ connections

    def opened(self, connection: ClientConnection) -> None:
        """Take note of a connection. Caller: the connection."""
        self._open_ones[connection] = None

    def closed(self, connection: ClientConnection) -> None:
        """Forget a connection. Caller: the connection."""
        self._open_ones.pop(connection, None)

    async def _begin(self, accepted: socket.socket) -> None:
        loop = asyncio.get_running_loop()

        def made() -> ClientConnection:
            return ClientConnection(self, loop)

        if self._tls is None:
            await loop.connect_accepted_socket(made, accepted)
            return
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # the acceptor makes one
        self._handshakes[task] = None
        try:
            await loop.connect_accepted_socket(
                made,
                accepted,
                ssl=self._tls.context,
                ssl_handshake_timeout=self._limits.head,
                ssl_shutdown_timeout=self._limits.closing,
            )
        finally:
            self._handshakes.pop(task, None)

    def _make_room(self) -> None:
        """End the connection that is worth least, if there are as many as may be."""
        if self.connections() < self._most:
            return
        self._metrics.refused(Refusal.CONNECTIONS)
        least = self._worth_least()
        if least is not None and (least.phase < ConnectionPhase.HEAD or not self._handshakes):
            self.closed(least)  # at once: it is not to be ended twice
            least.abort()
        elif self._handshakes:
            oldest = next(iter(self._handshakes))
            del self._handshakes[oldest]
            oldest.cancel()

    def _worth_least(self) -> ClientConnection | None:
        """Return the connection that is to be ended first, None if there is none at all.

        All are looked at once for many that are ended: with thousands it takes a millisecond.
        """
        while self._doomed:
            one = self._doomed.pop()
            if one in self._open_ones and one.phase <= ConnectionPhase.HEAD:
                return one
        # Of equal ones the first: the dictionary has them in the order in which they came.
        by_worth = sorted(self._open_ones, key=lambda one: one.phase)[:DOOMED]
        self._doomed = by_worth[:0:-1]
        return by_worth[0] if by_worth else None

    async def _sweep(self) -> None:
        """End what has lasted too long, for ever."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            now = self.clock.steady()
            if self._tls is not None:
                self._tls.renew()
            for connection in list(self._open_ones):
                most = self._seconds.get(connection.phase)
                if most is not None and now - connection.since > most:
                    self._expire(connection)

    def _expire(self, connection: ClientConnection) -> None:
        """End one connection; whatever goes wrong with it, the others' time is kept."""
        try:
            connection.expire()
        except Exception:
            log.exception("connection.failed", phase=connection.phase.name.lower())
            connection.abort()
