"""``python -m tests.soak.sink LOG SEED``: a Kinesis that misbehaves now and then, and keeps books.

Prints its port. Every put that stores something becomes one line of books: when, from whom, into
which stream, what became of the answer, and id and digest of each record. Nothing else is kept,
so that hours of load fit. Workers are told apart by the access key that signs their requests;
signatures are checked by the AWS emulator of the acceptance tests, not here.
"""

import asyncio
import random
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import msgspec

from tests.conservation import Landed, digest

RATES = {"lost": 0.01, "slow": 0.01, "reset": 0.005, "error": 0.005, "throttled": 0.01}
"""Share of the puts that meet each fate; ``lost``: stored, and the answer never comes."""

SLOWEST = 3.0
"""Longest time in seconds that an answer takes."""

REFUSED = 0.3
"""Share of the records of a throttled PutRecords that are refused."""

SIGNER = re.compile(rb"Credential=([^/]+)/")
HEAD = (
    b"HTTP/1.1 %d X\r\nContent-Type: application/x-amz-json-1.1\r\n"
    b"x-amzn-RequestId: 0\r\nContent-Length: %d\r\n\r\n"
)
TOLD = b'{"ShardId":"shardId-000000000000","SequenceNumber":"%021d"}'
THROTTLED = b"ProvisionedThroughputExceededException"


class Record(msgspec.Struct, rename="pascal"):
    """What is read of a record; PutRecord's whole request looks the same."""

    data: bytes
    stream_name: str = ""


class Many(msgspec.Struct, rename="pascal"):
    """PutRecords."""

    stream_name: str
    records: list[Record]


class Document(msgspec.Struct):
    """What is read of a document."""

    message_id: str


class Put(NamedTuple):
    """One put as the books have it: what it stored, in order; ``at`` in wall-clock ms."""

    at: int
    worker: str
    stream: str
    fate: str
    records: list[Landed]


def puts(books: Path) -> Iterator[Put]:
    """Read the books, in the order in which puts were stored."""
    decode = msgspec.json.Decoder(tuple[int, str, str, str, list[tuple[str, bytes]]]).decode
    with books.open("rb") as lines:
        for line in lines:
            at, worker, stream, fate, records = decode(line)
            yield Put(at, worker, stream, fate, [Landed(*record) for record in records])


class Sink(asyncio.Protocol):
    """One connection; its client sends one request at a time."""

    books: IO[bytes]
    dice: random.Random
    count = 0
    calm = False

    def __init__(self) -> None:
        self._received = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where answers go."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer once a request is whole."""
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self._received[:end])
        length = _header(head, b"content-length") or b"0"
        whole = end + 4 + int(length)
        if len(self._received) >= whole:
            body = bytes(self._received[end + 4 : whole])
            del self._received[:whole]
            self._request(head, body)

    def _request(self, head: bytes, body: bytes) -> None:
        target = _header(head, b"x-amz-target") or b""
        if not target:
            Sink.calm = b"/calm" in head.split(b"\r\n")[0]
            self._answer(200, b"{}")
            return
        together = target.endswith(b".PutRecords")
        if together:
            many = msgspec.json.decode(body, type=Many)
            stream, values = many.stream_name, [record.data for record in many.records]
        else:
            one = msgspec.json.decode(body, type=Record)
            stream, values = one.stream_name, [one.data]
        found = SIGNER.search(head)
        self._put(found[1].decode() if found else "", stream, values, together=together)

    def _put(self, worker: str, stream: str, values: list[bytes], *, together: bool) -> None:
        fate = _fate()
        if fate == "reset":
            self._abort()
            return
        if fate == "error":
            self._answer(500, b'{"__type":"InternalFailure","message":"made up"}')
            return
        if fate == "throttled" and not together:
            self._answer(400, b'{"__type":"%b","message":"made up"}' % THROTTLED)
            return
        part = fate == "throttled"
        kept = [not (part and Sink.dice.random() < REFUSED) for _ in values]
        landed = [_landed(value) for value, keep in zip(values, kept, strict=True) if keep]
        _write(worker, stream, fate, landed)
        if fate == "lost":
            self._abort()
            return
        told = _told(kept) if together else TOLD % Sink.count
        if fate == "slow":
            delay = Sink.dice.uniform(0.1, SLOWEST)
            asyncio.get_running_loop().call_later(delay, self._answer, 200, told)
        else:
            self._answer(200, told)

    def _abort(self) -> None:
        assert self._transport is not None
        self._transport.abort()

    def _answer(self, status: int, told: bytes) -> None:
        assert self._transport is not None
        if not self._transport.is_closing():
            self._transport.write(HEAD % (status, len(told)) + told)


def _fate() -> str:
    dice = 1.0 if Sink.calm else Sink.dice.random()
    for fate, rate in RATES.items():
        if dice < rate:
            return fate
        dice -= rate
    return "answered"


def _landed(value: bytes) -> tuple[str, bytes]:
    return msgspec.json.decode(value, type=Document).message_id, digest(value)


def _write(worker: str, stream: str, fate: str, landed: list[tuple[str, bytes]]) -> None:
    Sink.count += len(landed)
    line = (time.time_ns() // 1_000_000, worker, stream, fate, landed)
    Sink.books.write(msgspec.json.encode(line) + b"\n")


def _told(kept: list[bool]) -> bytes:
    failed = b'{"ErrorCode":"%b","ErrorMessage":"made up"}' % THROTTLED
    told = [TOLD % Sink.count if keep else failed for keep in kept]
    return b'{"FailedRecordCount":%d,"Records":[%b]}' % (kept.count(False), b",".join(told))


def _header(head: bytes, name: bytes) -> bytes | None:
    for line in head.split(b"\r\n"):
        found, _, value = line.partition(b":")
        if found.lower() == name:
            return value.strip()
    return None


async def serve() -> None:
    """Listen until killed."""
    server = await asyncio.get_running_loop().create_server(Sink, "127.0.0.1", 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


def main() -> None:
    """Open the books and serve."""
    Sink.dice = random.Random(int(sys.argv[2]))  # noqa: S311  # repeatable, not secret
    with Path(sys.argv[1]).open("ab", buffering=0) as Sink.books:
        asyncio.run(serve())


if __name__ == "__main__":
    main()
