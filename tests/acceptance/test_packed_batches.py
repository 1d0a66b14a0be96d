"""A batch of a few KiB that would become more than there is memory for stops only itself."""

import resource
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.acceptance.cluster import Cluster, Stored
from tests.acceptance.scene import Scene
from tests.services import kafka_batches

pytestmark = pytest.mark.service

MIB = 1024 * 1024
SIZE = 300
"""MiB that each of these batches unpacks to, in records of one MiB."""

SMALLER = 100
"""The same for a codec that the broker itself unpacks in one piece, with 512 MiB of memory."""

ROOM = 600 * MIB
"""Bytes of data a worker may have here: it takes 150 by itself, and a batch as long as it is read
takes its size three times."""


def records(count: int) -> bytes:
    return b"".join(kafka_batches.record(n, b" " * MIB) for n in range(count))


@pytest.fixture
async def roomy(cluster: Cluster, tmp_path: Path, name: str) -> AsyncIterator[Scene]:
    """Make a topic that takes what snappy makes of a batch: a 21st of it at best."""
    scene = Scene.make(cluster, tmp_path, name)
    await cluster.create(scene.topic, 2, **{"max.message.bytes": str(32 * MIB)})
    yield scene
    scene.close()


async def test_such_batches_of_every_codec_are_dead_letters_and_all_else_flows(
    roomy: Scene,
) -> None:
    roomy.to_file(settings={"send_as_batch": False})
    worker = roomy.worker()
    worker.start()
    resource.prlimit(worker.pid, resource.RLIMIT_DATA, (ROOM, ROOM))
    await worker.until_ready()
    wanted: set[int] = set()
    spans: list[tuple[int, int, int]] = []
    for n, codec in enumerate(kafka_batches.CODECS):
        size = SMALLER if codec == "snappy-raw" else SIZE
        batch = kafka_batches.packed(records(size), size, codec)
        for partition in (0, 1):
            at = 100 * n + 10 * partition
            await roomy.feed(range(at, at + 3), partition=partition)
            first = await kafka_batches.send(roomy.kafka.bootstrap, roomy.topic, partition, batch)
            spans.append((partition, first, first + size - 1))
            await roomy.feed(range(at + 3, at + 6), partition=partition)
            wanted.update(range(at, at + 6))
        await worker.until(lambda: wanted == {*roomy.numbers()}, f"what is beside {codec}")
    assert sorted(wanted) == sorted(roomy.numbers())
    letters_topic = f"{roomy.name}-dead-letters"

    async def stored() -> bool:
        return len(await roomy.kafka.read(letters_topic)) == len(spans)

    await worker.until(stored, "a letter for each")
    letters = await roomy.kafka.read(letters_topic)
    told = [
        (_number(x, "partition"), _number(x, "first_offset"), _number(x, "offset")) for x in letters
    ]
    assert sorted(spans) == sorted(told)
    assert {b"too_large_unpacked"} == {one.headers["reason"] for one in letters}
    assert {b"true"} != {one.headers.get("truncated") for one in letters}
    assert worker.running
    assert worker.peak_bytes() < ROOM


async def test_a_packed_batch_of_a_million_tiny_uploads_is_taken_in_portions(roomy: Scene) -> None:
    """Taken apart at once they would take a gigabyte; each record has fewer than it may have."""
    roomy.to_file(settings={"send_as_batch": False})
    worker = roomy.worker()
    worker.start()
    resource.prlimit(worker.pid, resource.RLIMIT_DATA, (ROOM, ROOM))
    await worker.until_ready()
    tiny = b"[%b]" % b",".join([b'{"mpid":1}'] * 9_000)
    told = b"".join(kafka_batches.record(n, tiny) for n in range(110))
    batch = kafka_batches.packed(told, 110, "zstd")
    await kafka_batches.send(roomy.kafka.bootstrap, roomy.topic, 0, batch)
    await roomy.feed(range(3), partition=0)
    await worker.until(lambda: sorted(roomy.numbers()) == [0, 1, 2], "what comes behind it", 90)
    assert worker.running
    assert worker.peak_bytes() < ROOM


def _number(letter: Stored, name: str) -> int:
    return int(letter.headers[name])
