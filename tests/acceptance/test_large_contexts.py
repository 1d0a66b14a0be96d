"""Uploads that are nearly all context: the worker stays up and small, and all else flows.

Each worker may have little more memory than it takes idle; one that gathered contexts without
bound, or repeated them in memory, would die of these, start again, and die again.
"""

import asyncio
import json
import random
import resource
import time
from collections.abc import Sequence
from typing import Any

import pytest

from tests.acceptance.harness import Worker
from tests.acceptance.scene import Scene, numbers
from tests.builders import Json, encoded, event, upload
from tests.fake_aws import UNLIMITED, FakeAws
from tests.streams import MODES

pytestmark = pytest.mark.service

MIB = 1024 * 1024
LIMIT = 600 * MIB
"""Bytes of data a worker may have; it takes about 150 MiB by itself."""

SPARE = 64 * MIB
"""What a worker may take besides four times the input waiting, by the issue that asked for it."""


def noted(size: int, *events: Json, device: str = "large") -> bytes:
    """Return an upload whose notifications are so many bytes that do not compress."""
    text = random.Random(str(events)).randbytes(size // 2 + 1).hex()[:size]  # noqa: S311
    return encoded(upload(*events, device=device, system_notifications=[{"x": text}]))


def to_kinesis(
    scene: Scene,
    aws: FakeAws,
    limit: str = "1MiB",
    **settings: Any,  # noqa: ANN401
) -> None:
    """Connect a stream of records of that size; windows close soon."""
    aws.make_stream("s", "000000000000", limits=UNLIMITED)
    sink = {"type": "kinesis", "stream_name": "s", "region": "us-east-1"}
    sink |= {"max_record_bytes": limit}
    batching = {"max_age": "2s", "session_timeout": "2s"}
    scene.connect({"name": "acme", "sink": sink, "settings": settings, "batching": batching})
    scene.variables = {**aws.variables()}


async def send(scene: Scene, values: Sequence[bytes]) -> int:
    """Send uploads into one partition; return how many bytes they are."""
    now = time.time_ns() // 1_000_000
    await scene.kafka.send(scene.topic, [(b"k", value, now) for value in values], partition=0)
    return sum(map(len, values))


async def limited(scene: Scene) -> tuple[Worker, int]:
    """Start a worker with little memory; return it, and its largest size while idle."""
    worker = scene.worker()
    worker.start()
    resource.prlimit(worker.pid, resource.RLIMIT_DATA, (LIMIT, LIMIT))
    await worker.until_ready()
    return worker, worker.peak_bytes()


def stored(aws: FakeAws) -> list[int]:
    """Return the numbers of the events that the stream holds, in order of the numbers."""
    return sorted(numbers(json.loads(one.value) for one in aws.read("s")))


@pytest.mark.parametrize(
    ("mode", "count"),
    [(MODES[0], 80), (MODES[0], 520), (MODES[1], 80), (MODES[2], 80), (MODES[2], 520)],
)
async def test_contexts_that_outgrow_a_record_together_cost_no_more_than_they_are(
    scene: Scene, mode: dict[str, Any], count: int
) -> None:
    """One by one, each event takes the context along: 92 MB, of which 32 MiB may be in flight."""
    scene.sections["limits"] = {"in_flight": "32MiB"}
    async with FakeAws() as aws:
        to_kinesis(scene, aws, **mode)
        worker, idle = await limited(scene)
        values = [
            noted(230_000, *[event(n=n) for n in range(count * at, count * (at + 1))])
            for at in range(5)
        ]
        small = encoded(upload(event(n=-1), device="small"))
        size = await send(scene, [*values, small])
        wanted = [-1, *range(5 * count)]
        await worker.until(lambda: stored(aws) == wanted, "every event is delivered", 90)
        assert worker.running
        assert worker.peak_bytes() - idle <= 4 * size + SPARE
    assert [] == await scene.kafka.read(f"{scene.name}-dead-letters")


@pytest.mark.parametrize("mode", MODES)
async def test_misfits_are_letters_of_the_order_of_the_input_and_all_else_flows(
    scene: Scene, mode: dict[str, Any]
) -> None:
    async with FakeAws() as aws:
        to_kinesis(scene, aws, "100KiB", **mode)
        worker, idle = await limited(scene)
        values = [noted(230_000, *[event(n=n)] * 520) for n in range(5)]
        size = await send(scene, [*values, encoded(upload(event(n=-1), device="small"))])
        letters = f"{scene.name}-dead-letters"

        async def lettered() -> bool:
            return len(await scene.kafka.read(letters)) == len(values)

        await worker.until(lettered, "a letter for each upload")
        await worker.until(lambda: stored(aws) == [-1], "the other device is served")
        assert values == [one.value for one in await scene.kafka.read(letters)]
        assert worker.peak_bytes() - idle <= 4 * size + SPARE


@pytest.mark.parametrize("mode", [MODES[0], MODES[2]])
async def test_windows_of_large_contexts_are_saved_and_the_other_device_is_served(
    scene: Scene, mode: dict[str, Any]
) -> None:
    scene.sections["journal"] |= {"base_interval": "1s"}
    batching = {"max_age": "20s", "session_timeout": "20s"}
    scene.to_file(settings=mode, batching=batching)
    worker, idle = await limited(scene)
    values = [noted(930_000, event(n=n)) for n in range(24)]
    size = await send(scene, values)
    await asyncio.sleep(4)  # bases are written meanwhile
    await send(scene, [encoded(upload(event(n=-1, session_id=1), device="small"))])
    quick = {"max_age": "1s", "session_timeout": "1s"}
    worker.kill()  # what it has saved is put back
    scene.to_file(settings=mode, batching=quick)
    worker, _ = await limited(scene)
    await scene.feed([24], device="large", partition=0)
    wanted = [-1, *range(25)]
    await worker.until(lambda: wanted == sorted(scene.numbers()), "all is delivered", 90)
    assert not worker.logged("partition.failed")
    assert worker.peak_bytes() - idle <= 4 * size + SPARE
    assert [] == await scene.kafka.read(f"{scene.name}-dead-letters")
