"""A wire between clients and a gateway: writes down every exchange, loses answers on request.

Requests pass byte for byte (signatures hold, ``Host`` included); what is written down is what the
client itself sent, whichever library made it, and what the gateway said to that.
"""

import asyncio
import contextlib
import gzip
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tests.services.kafka import free_port

LONGEST_HEAD = 256 * 1024


class WireError(Exception):
    """One side closed where it had something to say."""


@dataclass(frozen=True)
class Exchange:
    """One request and its answer.

    ``body`` is unpacked. ``status`` 0: the gateway did not answer. ``delivered``: whether the
    client got the answer. Times are wall clock in milliseconds, around what the gateway took.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    status: int
    answer: bytes
    begun_ms: int
    ended_ms: int
    delivered: bool = True
    answer_headers: Mapping[str, str] = field(default_factory=dict)


class Wire:
    """Listens for clients and passes on to a gateway; an async context manager.

    ``loses`` is asked about each exchange, whose answer the client then never gets: its
    connection breaks instead.
    """

    def __init__(self, gateway: int) -> None:
        """Prepare; ``gateway`` is the port on loopback where it listens, and may be changed."""
        self.gateway = gateway
        self.port = free_port()
        self.exchanges: list[Exchange] = []
        self.loses: Callable[[Exchange], bool] = lambda _: False
        self._server: asyncio.Server | None = None
        self._passing: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Return what clients are told instead of Pinpoint's URL."""
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        """Listen."""
        self._server = await asyncio.start_server(
            self._accept, "127.0.0.1", self.port, limit=LONGEST_HEAD
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close everything."""
        assert self._server is not None
        self._server.close()
        for task in self._passing:
            task.cancel()
        await asyncio.gather(*self._passing, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._passing.add(task)
        try:
            with contextlib.suppress(OSError, WireError, asyncio.IncompleteReadError):
                while await self._pass_one(reader, writer):
                    pass
        except asyncio.CancelledError:
            pass  # the wire is closed
        finally:
            self._passing.discard(task)
            writer.transport.abort()

    async def _pass_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head, raw = await _message(reader, request=True)
        begun = _now_ms()
        status, answer = 0, b""
        answer_head = _Head("", {}, b"")
        with contextlib.suppress(OSError, WireError, asyncio.IncompleteReadError):
            answer_head, answer = await self._ask(head.raw + raw)
            status = int(answer_head.first.split()[1])
        method, target, _ = head.first.split(" ")
        body = raw if head.fields.get("content-encoding") != "gzip" else gzip.decompress(raw)
        exchange = Exchange(
            method,
            target,
            head.fields,
            body,
            status,
            answer,
            begun,
            _now_ms(),
            answer_headers=answer_head.fields,
        )
        lost = status == 0 or self.loses(exchange)
        self.exchanges.append(Exchange(**{**vars(exchange), "delivered": not lost}))
        if lost:
            return False
        writer.write(answer_head.raw + answer)
        await writer.drain()
        return answer_head.fields.get("connection", "").lower() != "close"

    async def _ask(self, request: bytes) -> "tuple[_Head, bytes]":
        reader, writer = await asyncio.open_connection("127.0.0.1", self.gateway)
        try:
            writer.write(request)
            await writer.drain()
            return await _message(reader, request=False)
        finally:
            writer.transport.abort()


@dataclass(frozen=True)
class _Head:
    first: str
    fields: dict[str, str]
    raw: bytes


async def _message(reader: asyncio.StreamReader, *, request: bool) -> tuple[_Head, bytes]:
    raw = await reader.readuntil(b"\r\n\r\n")
    first, *lines = raw.decode("latin-1").rstrip("\r\n").split("\r\n")
    split = (line.partition(":") for line in lines)
    fields = {name.strip().lower(): value.strip() for name, _, value in split}
    if "chunked" in fields.get("transfer-encoding", ""):
        text = f"the wire passes no chunks: {first}"
        raise WireError(text)
    length = int(fields.get("content-length", 0))
    if not request and "content-length" not in fields and first.split()[1] not in {"204", "304"}:
        text = f"an answer without a length: {first}"
        raise WireError(text)
    return _Head(first, fields, raw), await reader.readexactly(length)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
