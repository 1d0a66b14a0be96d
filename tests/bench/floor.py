"""``python -m tests.bench.floor``: what the worker cannot cost less than; prints CPU seconds.

``memory``: the pure pipeline over the same uploads, batches encoded and dropped. ``read``: an
aiokafka consumer that does nothing with what it reads. ``json``: one that parses each record and
writes it again. The last two print a JSON list, the CPU seconds of each round.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition

from forwarder.collect.pipeline import Pipeline, compile_lanes
from forwarder.config.connection import Connection, Settings
from forwarder.config.targets import KinesisTarget
from forwarder.formats.registry import BUILT_IN
from forwarder.model import Partition
from tests.bench.load import Row, uploads
from tests.bench.pinpoint_load import records
from tests.builders import NOW, START, Rec, finished

POLL = 1_000


class Way(NamedTuple):
    """What goes in and what comes out: the formats, and whether every event by itself.

    ``duplicates``: the topic's key; the floors look for none.
    """

    input: str = "mparticle"
    output: str = "mparticle"
    single: bool = False
    duplicates: str = "0s"

    def rows(self, count: int, devices: int) -> Iterator[Row]:
        """Return the load."""
        return (records if self.input == "pinpoint" else uploads)(count, devices)

    def arguments(self) -> list[str]:
        """Return what tells another process of it."""
        return ["--input", self.input, "--output", self.output, *["--single"][: self.single]]


def memory(count: int, devices: int, way: Way = Way()) -> float:  # noqa: B008  # it is a value
    """Return the CPU seconds the pipeline takes for the load."""
    connection = Connection(
        "acme",
        KinesisTarget("acme", "us-east-1", format=way.output),
        settings=Settings(send_as_batch=not way.single),
    )
    lanes = compile_lanes([connection], way.input, BUILT_IN)
    pipeline = Pipeline(Partition("raw", 0), lanes)
    rows = enumerate(way.rows(count, devices))
    spent, events = 0.0, 0
    while poll := [Rec(i, START + ms, value) for i, (_, value, ms) in islice(rows, POLL)]:
        begun = time.process_time()
        found = pipeline.collect(poll, NOW)
        spent += time.process_time() - begun
        events += sum(batch.count for batch in found.batches)
    begun = time.process_time()
    rest = list(finished(pipeline))
    spent += time.process_time() - begun
    events += sum(batch.count for found in rest for batch in found.batches)
    assert events == count
    return spent


async def read(
    bootstrap: str, topic: str, partitions: int, rounds: list[int], *, parsed: bool = False
) -> list[float]:
    """Return the CPU seconds it takes to read so many records, round by round."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=256 * 1024,
    )
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, number) for number in range(partitions)])
        spent = []
        for size in rounds:
            begun, left = time.process_time(), size
            while left > 0:
                polled = await consumer.getmany(timeout_ms=200, max_records=min(left, POLL))
                for records in polled.values():
                    left -= len(records)
                    if parsed:
                        for record in records:
                            orjson.dumps(orjson.loads(record.value))
            spent.append(time.process_time() - begun)
        return spent
    finally:
        await consumer.stop()


def main() -> None:
    """Measure one of the three."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("which", choices=["memory", "read", "json"])
    parser.add_argument("--count", type=int, default=0)
    parser.add_argument("--devices", type=int, default=0)
    parser.add_argument("--bootstrap", default="")
    parser.add_argument("--topic", default="")
    parser.add_argument("--partitions", type=int, default=0)
    parser.add_argument("--rounds", default="", help="records of each, with commas")
    parser.add_argument("--input", default="mparticle")
    parser.add_argument("--output", default="mparticle")
    parser.add_argument("--single", action="store_true")
    args = parser.parse_args()
    if args.which == "memory":
        spent = memory(args.count, args.devices, Way(args.input, args.output, args.single))
        sys.stdout.write(f"{spent}\n")
        return
    rounds = [int(size) for size in args.rounds.split(",")]
    parsed = args.which == "json"
    found = read(args.bootstrap, args.topic, args.partitions, rounds, parsed=parsed)
    sys.stdout.write(json.dumps(asyncio.run(found)) + "\n")


if __name__ == "__main__":
    main()
