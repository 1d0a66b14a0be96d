"""A TCP proxy on loopback that delays, swallows, corrupts or resets what passes, as a test says."""

import asyncio
import contextlib
from enum import Enum

CHUNK = 64 * 1024


class Mode(Enum):
    """What becomes of bytes, and of new connections."""

    PASS = "pass"
    HOLE = "hole"
    """Connections stand, also those accepted now, and nothing ever comes through them again:
    a firewall that forgot them, a host that vanished."""


class Proxy:
    """Stands before one port; ``delay`` seconds are added to every piece, in each direction.

    ``garbled``: bytes that are turned around wherever they stand in an answer; none while empty.
    """

    def __init__(self, target: int, port: int) -> None:
        """Prepare; connections to ``port`` are passed on to ``target``."""
        self.target = target
        self.port = port
        self.delay = 0.0
        self.mode = Mode.PASS
        self.garbled = b""
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._lost: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)

    async def stop(self) -> None:
        """Close everything."""
        if self._server is not None:
            self._server.close()
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)
        self.reset()

    def reset(self) -> None:
        """Break every connection there is."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    def swallow(self) -> None:
        """Let nothing through from now on; what is open now stays dead for ever."""
        self.mode = Mode.HOLE

    def heal(self) -> None:
        """Let new connections through again; those that stood in the hole stay dead."""
        self._lost |= self._writers
        self.mode = Mode.PASS

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            there = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            self._writers.discard(writer)
            return
        self._writers.add(there[1])
        for source, sink in ((reader, there[1]), (there[0], writer)):
            pump = asyncio.create_task(self._pump(source, sink, writer))
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)

    async def _pump(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        client: asyncio.StreamWriter,
    ) -> None:
        with contextlib.suppress(OSError):
            while piece := await source.read(CHUNK):
                if self.delay:
                    await asyncio.sleep(self.delay)
                if self.mode is Mode.HOLE or client in self._lost:
                    self._lost.add(client)
                    continue
                if self.garbled and sink is client:
                    piece = piece.replace(self.garbled, self.garbled[::-1])
                sink.write(piece)
                await sink.drain()
        if client not in self._lost:
            sink.close()


def before(target: int, port: int) -> str:
    """Return properties of a broker whose listener ``target`` is told to clients as ``port``."""
    return (
        f"listeners=PLAINTEXT://127.0.0.1:{{port}},VIA://127.0.0.1:{target},"
        "CONTROLLER://127.0.0.1:{controller}\n"
        f"advertised.listeners=PLAINTEXT://127.0.0.1:{{port}},VIA://127.0.0.1:{port}\n"
        "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,VIA:PLAINTEXT,CONTROLLER:PLAINTEXT\n"
        "inter.broker.listener.name=PLAINTEXT\n"
    )
