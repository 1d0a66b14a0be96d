"""``python -m tests.bench.sink``: a Kinesis that takes everything at once, for measuring only.

Prints its port. Answers puts without reading more of a request than it must: what is measured is
the worker, not this. Its answers may be late, by as many seconds as given (default: none).
"""

import asyncio
import sys

RECORD = b'"Data":'
ALONE = b".PutRecord\r\n"
ANSWER = b'{"ShardId":"shardId-000000000000","SequenceNumber":"%056d"}'
"""A number is as long as one of AWS's, and comes once."""
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.1\r\nContent-Length: %d\r\n\r\n"


class Sink(asyncio.Protocol):
    """One connection."""

    records = 0
    late = 0.0

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._missing = 0
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where answers go."""
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer once a request is whole; one request at a time, as its client sends them."""
        self._parts.append(data)
        self._missing -= len(data)
        if self._missing > 0:
            return
        whole = b"".join(self._parts)
        head, found, body = whole.partition(b"\r\n\r\n")
        length = _length(head) if found else 1
        self._missing = length - len(body)
        if self._missing <= 0:
            self._parts = []
            self._missing = 0
            self._answer(head, body)
        else:
            self._parts = [whole]

    def _answer(self, head: bytes, body: bytes) -> None:
        if head.startswith(b"GET"):
            told = b"%d" % Sink.records
        else:
            count = body.count(RECORD)
            first, Sink.records = Sink.records + 1, Sink.records + count
            each = [ANSWER % number for number in range(first, first + count)]
            told = b'{"FailedRecordCount":0,"Records":[%b]}' % b",".join(each)
            if ALONE in head:
                told = each[0]
        asyncio.get_running_loop().call_later(self.late, self._tell, HEAD % len(told) + told)

    def _tell(self, answer: bytes) -> None:
        assert self._transport is not None
        if not self._transport.is_closing():
            self._transport.write(answer)


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


async def main() -> None:
    """Listen until killed."""
    server = await asyncio.get_running_loop().create_server(Sink, "127.0.0.1", 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    Sink.late = float(sys.argv[1]) if sys.argv[1:] else 0.0
    asyncio.run(main())
