"""As much of HTTP/1.1 as AWS's clients speak: one connection, one request at a time."""

import asyncio
from collections.abc import Callable
from typing import NamedTuple, Self
from uuid import uuid4

import msgspec

JSON = "application/x-amz-json-1.1"
XML = "text/xml"

_LINE = b"HTTP/1.1 %d X\r\nContent-Type: %b\r\nx-amzn-RequestId: %b\r\nContent-Length: %d\r\n\r\n"
_END = b"\r\n\r\n"


class Request(NamedTuple):
    """A whole request; names of headers are in lower case, the last one of a name counts."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


class Reply(NamedTuple):
    """What comes back: an answer, or the connection's end instead of one.

    It comes after ``delay`` seconds; with ``then`` it is made only at that time. ``previous``: the
    answer before comes instead, if there was one. ``again``: it comes once more, so many seconds
    later, unless something is asked by then.
    """

    status: int = 200
    body: bytes = b""
    kind: str = JSON
    delay: float = 0.0
    broken: bool = False
    previous: bool = False
    again: float | None = None
    then: "Callable[[], Reply] | None" = None

    @classmethod
    def of(cls, content: object, status: int = 200) -> Self:
        """Return an answer in JSON."""
        return cls(status, msgspec.json.encode(content))


class Connection(asyncio.Protocol):
    """One connection of a client, whose requests ``answer`` is asked about in turn."""

    def __init__(self, answer: Callable[[Request], Reply], open_ones: "set[Connection]") -> None:
        """Take what answers, and where connections are kept while they last."""
        self._ask = answer
        self._open = open_ones
        self._received = bytearray()
        self._head: tuple[str, str, dict[str, str]] | None = None
        self._missing = 0
        self._waiting = False
        self._last = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where answers go."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._open.add(self)

    def connection_lost(self, _: Exception | None) -> None:
        """Forget it."""
        self._open.discard(self)

    def data_received(self, data: bytes) -> None:
        """Answer once a request is whole."""
        self._received += data
        if not self._waiting:
            self._go_on()

    def abort(self) -> None:
        """Break the connection."""
        assert self._transport is not None
        self._transport.abort()

    def _go_on(self) -> None:
        if self._head is None and not self._read_head():
            return
        if len(self._received) < self._missing or self._head is None:
            return
        request = Request(*self._head, bytes(self._received[: self._missing]))
        del self._received[: self._missing]
        self._head = None
        self._give(self._ask(request))

    def _read_head(self) -> bool:
        end = self._received.find(_END)
        if end < 0:
            return False
        first, *lines = bytes(self._received[:end]).decode("latin-1").split("\r\n")
        del self._received[: end + len(_END)]
        pairs = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        method, target, _ = first.split(" ", 2)
        self._head = method, target, headers
        self._missing = int(headers.get("content-length", "0"))
        if headers.get("expect", "").lower() == "100-continue":
            self._write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return True

    def _give(self, reply: Reply) -> None:
        if reply.delay:
            self._waiting = True
            prompt = reply._replace(delay=0.0)
            asyncio.get_running_loop().call_later(reply.delay, self._give, prompt)
        elif reply.then is not None:
            self._give(reply.then())
        elif reply.previous and self._last:
            self._waiting = False
            self._write(self._last)
        elif reply.broken:
            self.abort()
        else:
            self._waiting = False
            kind, length = reply.kind.encode(), len(reply.body)
            number = str(uuid4()).encode()
            self._last = _LINE % (reply.status, kind, number, length) + reply.body
            self._write(self._last)
            if reply.again is not None:
                asyncio.get_running_loop().call_later(reply.again, self._write_again, self._last)
            # A client that does not wait for answers has sent the next request already.
            if self._received:
                self._go_on()

    def _write_again(self, content: bytes) -> None:
        if not self._waiting and not self._received and self._head is None:
            self._write(content)

    def _write(self, content: bytes) -> None:
        assert self._transport is not None
        if not self._transport.is_closing():
            self._transport.write(content)
