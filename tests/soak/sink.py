"""``python -m tests.soak.sink LOG SEED``: a Kinesis that misbehaves now and then, and keeps books.

Prints its port. Every put that stores something becomes one line of books: when, from whom, into
which stream, what became of the answer, and id and digest of each record. Nothing else is kept,
so that hours of load fit. Workers are told apart by the access key that signs their requests;
signatures are checked by the AWS emulator of the acceptance tests and by ``tests.fake_aws``, of
which this is the quick relation: it knows one kind of put, and no limits.
"""

import asyncio
import itertools
import random
import re
import sys
from pathlib import Path

import msgspec

from tests.fake_aws.books import Books
from tests.fake_aws.web import Connection, Reply, Request

RATES = {"lost": 0.01, "slow": 0.01, "reset": 0.005, "error": 0.005, "throttled": 0.01}
"""Share of the puts that meet each fate; ``lost``: stored, and the answer never comes."""

SLOWEST = 3.0
"""Longest time in seconds that an answer takes."""

REFUSED = 0.3
"""Share of the records of a throttled PutRecords that are refused."""

SIGNER = re.compile(r"Credential=([^/]+)/")
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


class Sink:
    """What answers every connection."""

    def __init__(self, books: Books, dice: random.Random) -> None:
        """Take where puts are noted, and what decides their fate."""
        self._books = books
        self._dice = dice
        self._count = 0
        self._calm = False

    def answer(self, request: Request) -> Reply:
        """Answer a put as its fate has it; a request without a target only asks for calm."""
        target = request.headers.get("x-amz-target", "")
        if not target:
            self._calm = request.target.startswith("/calm")
            return Reply(body=b"{}")
        together = target.endswith(".PutRecords")
        if together:
            many = msgspec.json.decode(request.body, type=Many)
            stream, values = many.stream_name, [record.data for record in many.records]
        else:
            one = msgspec.json.decode(request.body, type=Record)
            stream, values = one.stream_name, [one.data]
        found = SIGNER.search(request.headers.get("authorization", ""))
        return self._put(found[1] if found else "", stream, values, together=together)

    def _put(self, worker: str, stream: str, values: list[bytes], *, together: bool) -> Reply:
        fate = self._fate()
        if fate == "reset":
            return Reply(broken=True)
        if fate == "error":
            return Reply(500, b'{"__type":"InternalFailure","message":"made up"}')
        if fate == "throttled" and not together:
            return Reply(400, b'{"__type":"%b","message":"made up"}' % THROTTLED)
        part = fate == "throttled"
        kept = [not (part and self._dice.random() < REFUSED) for _ in values]
        landed = [value for value, keep in zip(values, kept, strict=True) if keep]
        self._count += len(landed)
        self._books.write(worker, stream, fate, landed)
        if fate == "lost":
            return Reply(broken=True)
        told = self._told(kept) if together else TOLD % self._count
        return Reply(body=told, delay=self._dice.uniform(0.1, SLOWEST) if fate == "slow" else 0.0)

    def _fate(self) -> str:
        dice = 1.0 if self._calm else self._dice.random()
        for fate, rate in RATES.items():
            if dice < rate:
                return fate
            dice -= rate
        return "answered"

    def _told(self, kept: list[bool]) -> bytes:
        failed = b'{"ErrorCode":"%b","ErrorMessage":"made up"}' % THROTTLED
        numbers = itertools.count(self._count - sum(kept) + 1)
        told = [TOLD % next(numbers) if keep else failed for keep in kept]
        return b'{"FailedRecordCount":%d,"Records":[%b]}' % (kept.count(False), b",".join(told))


async def serve(sink: Sink) -> None:
    """Listen until killed."""
    open_ones: set[Connection] = set()
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(sink.answer, open_ones), "127.0.0.1", 0
    )
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


def main() -> None:
    """Open the books and serve."""
    dice = random.Random(int(sys.argv[2]))  # noqa: S311  # repeatable, not secret
    with Path(sys.argv[1]).open("ab", buffering=0) as file:
        asyncio.run(serve(Sink(Books(file), dice)))


if __name__ == "__main__":
    main()
