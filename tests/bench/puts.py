"""``python -m tests.bench.puts``: what a call to Kinesis costs, by the library and by hand.

Against a sink on loopback that takes everything at once, in a process of its own; every way takes
its turn in each round, and the median round counts, so that a busy machine disturbs all alike.
Then, with answers that take as long as AWS's, how many PutRecord calls a connection makes.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, NamedTuple

import pybase64

from forwarder.aws.session import AwsSession
from forwarder.clock import SystemClock
from forwarder.config.connection import Connection
from forwarder.config.credentials import AccessKeys
from forwarder.config.targets import KinesisTarget, PutMode
from forwarder.model import Batch, OutcomeKind
from forwarder.sinks import kinesis, requests
from forwarder.sinks.kinesis import KinesisSink
from tests.services.fake_kinesis import batch

STREAM, REGION = "acme", "us-east-1"
NAMED = b'"StreamName":"acme"'
KEYS = AccessKeys("AKIAEXAMPLE", "not-a-secret")
SINGLE, MANY = 16, 4
"""Calls under way by the library, of one record and of 500; the sink decides for itself."""

Way = Callable[[int], Awaitable[None]]


class Row(NamedTuple):
    """One way to put, and how many records a call of it carries."""

    name: str
    each: int
    run: Way


class Spent(NamedTuple):
    """CPU milliseconds per call, and calls per second."""

    cpu: float
    rate: float


@contextmanager
def service(late: float = 0.0) -> Iterator[str]:
    """Run the sink in a process of its own; yield its URL."""
    command = [sys.executable, "-m", "tests.bench.sink", str(late)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        with process.stdout as output:
            yield f"http://127.0.0.1:{int(output.readline())}"
    finally:
        process.kill()
        process.wait()


@asynccontextmanager
async def opened(aws: AwsSession, url: str, put: PutMode) -> AsyncIterator[KinesisSink]:
    """Yield the sink as the worker uses it."""
    target = KinesisTarget(STREAM, REGION, put=put, endpoint_url=url)
    sink = KinesisSink(Connection(STREAM, target, credentials=KEYS), target, aws)
    try:
        yield sink
    finally:
        await sink.close()


@asynccontextmanager
async def library(aws: AwsSession, url: str, *, by_hand: bool) -> AsyncIterator[Any]:
    """Yield the library's client; ``by_hand``: the body is given to it whole."""
    client = await aws.client("kinesis", REGION, aws.make_keyring(KEYS, REGION, STREAM), url)
    if by_hand:
        client.meta.events.register("provide-client-params.kinesis", _lay_aside)
        client.meta.events.register("before-call.kinesis", _put_back)
    try:
        yield client
    finally:
        await client.close()


def _lay_aside(params: dict[str, Any], context: dict[str, Any], **_: object) -> dict[str, Any]:
    context["body"] = params["Body"]
    return {}


def _put_back(params: dict[str, Any], context: dict[str, Any], **_: object) -> None:
    params["body"] = context["body"]


def side_by_side(call: Callable[[int], Awaitable[object]], at_once: int) -> Way:
    """Return what makes so many calls, a few at a time."""

    async def run(count: int) -> None:
        numbers = iter(range(count))

        async def some() -> None:
            for number in numbers:
                await call(number)

        await asyncio.gather(*(some() for _ in range(at_once)))

    return run


def in_puts(sink: KinesisSink, batches: Sequence[Batch], of: int) -> Way:
    """Return what puts batches as delivery does, four puts of ``of`` batches at a time."""

    async def run(calls: int) -> None:
        left = calls * (1 if sink.max_batches < kinesis.LIMITS.records else of)
        turns = iter(range(0, left, of))

        async def some() -> None:
            for start in turns:
                chosen = [batches[n % len(batches)] for n in range(start, min(left, start + of))]
                outcomes = await sink.put(chosen)
                assert {OutcomeKind.DELIVERED} == {outcome.kind for outcome in outcomes}

        await asyncio.gather(*(some() for _ in range(4)))

    return run


async def spent(way: Way, calls: int) -> Spent:
    """Measure one way once."""
    cpu, begun = time.process_time(), time.monotonic()
    await way(calls)
    seconds = time.monotonic() - begun
    return Spent((time.process_time() - cpu) / calls * 1000, calls / seconds)


async def compare(rows: Sequence[Row], rounds: int, calls: Sequence[int]) -> list[Spent]:
    """Measure all ways in turns; the median of each."""
    found: list[list[Spent]] = [[] for _ in rows]
    for number in range(rounds + 1):
        for row, count, each in zip(rows, calls, found, strict=True):
            measured = await spent(row.run, count)
            if number:  # the first round connects
                each.append(measured)
    return [
        Spent(statistics.median(s.cpu for s in each), statistics.median(s.rate for s in each))
        for each in found
    ]


def table(rows: Sequence[Row], found: Sequence[Spent]) -> Iterator[str]:
    """Yield a line for each way; the factor is to the library's own cost."""
    yield f"{'':44}{'CPU ms/call':>12}{'µs/record':>11}{'calls/s':>9}{'library is':>12}"
    first: dict[int, float] = {}
    for row, one in zip(rows, found, strict=True):
        base = first.setdefault(row.each, one.cpu)
        each = one.cpu / row.each * 1000
        yield f"{row.name:44}{one.cpu:12.3f}{each:11.1f}{one.rate:9,.0f}{base / one.cpu:12.1f}"


async def costs(args: argparse.Namespace, url: str) -> None:
    """Print what calls cost."""
    aws = AwsSession(SystemClock())
    batches = [batch(n, bytes(pybase64.b64encode(os.urandom(1500)))) for n in range(1000)]
    entries = [requests.kinesis_record(one, KinesisTarget(STREAM, REGION)) for one in batches]
    many = entries[: kinesis.LIMITS.records]
    plain = [{"PartitionKey": one.batch.key.hex(), "Data": one.data} for one in many]
    async with (
        library(aws, url, by_hand=False) as whole,
        library(aws, url, by_hand=True) as given,
        opened(aws, url, PutMode.RECORD) as singly,
        opened(aws, url, PutMode.RECORDS) as together,
    ):

        async def record(number: int) -> object:
            one = plain[number % len(plain)]
            return await whole.put_record(StreamName=STREAM, **one)

        async def record_by_hand(number: int) -> object:
            one = many[number % len(many)]
            return await given.put_record(Body=requests.put_record(NAMED, one, None))

        async def records(_: int) -> object:
            return await whole.put_records(StreamName=STREAM, Records=plain)

        async def records_by_hand(_: int) -> object:
            return await given.put_records(Body=requests.put_records(NAMED, many))

        rows = [
            Row("PutRecord of 2 KB, library", 1, side_by_side(record, SINGLE)),
            Row("  its body by hand", 1, side_by_side(record_by_hand, SINGLE)),
            Row("  the sink: signed by hand too", 1, in_puts(singly, batches, singly.max_batches)),
            Row("PutRecords of 500 of 2 KB, library", 500, side_by_side(records, MANY)),
            Row("  its body by hand", 500, side_by_side(records_by_hand, MANY)),
            Row("  the sink: signed by hand too", 500, in_puts(together, batches, 500)),
        ]
        few = max(4, args.calls // 60)
        counts = [args.calls if row.each == 1 else few for row in rows]
        found = await compare(rows, args.rounds, counts)
    await aws.close()
    sys.stdout.write("\n".join(table(rows, found)) + "\n")


async def pace(args: argparse.Namespace, url: str) -> None:
    """Print how many calls a connection makes while answers take their time."""
    aws = AwsSession(SystemClock())
    batches = [batch(n, b"x" * 2000) for n in range(1000)]
    async with opened(aws, url, PutMode.RECORD) as sink:
        way = in_puts(sink, batches, sink.max_batches)
        await way(args.calls // 2)
        measured = await spent(way, args.calls)
    await aws.close()
    late = args.late * 1000
    text = f"PutRecord only, answers after {late:.0f} ms: {measured.rate:,.0f} calls/s"
    sys.stdout.write(f"{text}, {measured.cpu * measured.rate / 1000:.0%} of a core\n")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.puts", description=__doc__)
    parser.add_argument("--calls", type=int, default=1_200, help="PutRecord calls of a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--late", type=float, default=0.02, help="seconds AWS takes for an answer")
    args = parser.parse_args()
    with service() as url:
        asyncio.run(costs(args, url))
    with service(args.late) as url:
        asyncio.run(pace(args, url))


if __name__ == "__main__":
    main()
