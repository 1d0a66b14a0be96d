"""What a connection costs before it sends anything much: CPU and memory of hundreds with roles.

    python -m tests.bench.connections --count 300

Each assumes a role of its own and puts one record, against a small server on loopback in a process
of its own; the library's service models are read once before, as for the first connection.
"""

import argparse
import asyncio
import multiprocessing
import multiprocessing.connection
import os
import resource
import time
from pathlib import Path

from forwarder.aws.session import AwsSession
from forwarder.clock import SystemClock
from forwarder.config.connection import Connection
from forwarder.config.credentials import AssumedRole
from forwarder.config.targets import KinesisTarget
from forwarder.model import OutcomeKind
from forwarder.sinks.kinesis import KinesisSink
from tests.services.fake_kinesis import FakeClock, FakeKinesis, batch

ALLOWED_MS, ALLOWED_MIB = 20.0, 0.5
"""What a connection may cost."""


class _Now(FakeClock):
    """Tokens of the server end an hour from now."""

    def __init__(self) -> None:
        super().__init__()
        self.now = time.time()


def _serve(told: "multiprocessing.connection.Connection") -> None:
    async def serve() -> None:
        server = FakeKinesis(_Now())
        await server.start()
        told.send(server.url)
        await asyncio.to_thread(told.recv)
        await server.stop()

    asyncio.run(serve())


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / (1 << 20)


def _sink(number: int, aws: AwsSession) -> KinesisSink:
    role = AssumedRole(f"arn:aws:iam::{number:012d}:role/mparticle-kinesis-role", "orgid:1")
    target = KinesisTarget(f"events-{number}", "us-east-1")
    return KinesisSink(Connection(f"connection-{number}", target, credentials=role), target, aws)


async def _put(sink: KinesisSink) -> None:
    [outcome] = await sink.put([batch(1)])
    assert outcome.kind is OutcomeKind.DELIVERED, outcome


async def _measure(count: int) -> tuple[float, float]:
    """Return CPU milliseconds and resident MiB of each further connection."""
    aws = AwsSession(SystemClock())
    sinks = [_sink(0, aws)]
    await _put(sinks[0])
    memory, spent = _resident_mib(), time.process_time()
    for number in range(1, count + 1):
        sinks.append(_sink(number, aws))
        await _put(sinks[-1])
    spent, memory = time.process_time() - spent, _resident_mib() - memory
    for sink in sinks:
        await sink.close()
    await aws.close()
    return spent / count * 1000, memory / count


def main() -> None:
    """Measure, and print what it is beside what it may be."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--count", type=int, default=300, help="connections (300)")
    count = parser.parse_args().count
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs,))
    server.start()
    own = {"AWS_ENDPOINT_URL": ours.recv(), "AWS_ACCESS_KEY_ID": "AKIA"}
    os.environ.update(own, AWS_SECRET_ACCESS_KEY="secret", AWS_EC2_METADATA_DISABLED="true")
    try:
        milliseconds, mib = asyncio.run(_measure(count))
    finally:
        ours.send("stop")
        server.join()
    print(f"{count} connections, each assuming a role and putting one record:")  # noqa: T201  # what it is for
    print(f"  CPU    {milliseconds:6.2f} ms each (may be {ALLOWED_MS})")  # noqa: T201
    print(f"  memory {mib:6.3f} MiB each (may be {ALLOWED_MIB})")  # noqa: T201


if __name__ == "__main__":
    main()
