"""How a worker ends: it drains, leaves open windows to the next one, and obeys a second signal."""

import asyncio
import signal
from collections.abc import AsyncIterator

import pytest

from tests.acceptance.harness import Worker
from tests.acceptance.scene import Scene

ENDS_BY_COUNT = {"max_age": "1h", "max_events": 5}
SINGLY = {"send_as_batch": False}


@pytest.fixture
async def silence() -> AsyncIterator[tuple[str, asyncio.Event]]:
    """Run a destination that takes requests and never answers; the event tells of the first."""
    asked = asyncio.Event()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        asked.set()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}", asked
    server.close()


async def putting_into_silence(scene: Scene, silence: tuple[str, asyncio.Event]) -> Worker:
    """Return a worker with a put in flight that will not be answered."""
    endpoint, asked = silence
    kinesis = {
        "type": "kinesis",
        "stream_name": "silent",
        "region": "us-east-1",
        "endpoint_url": endpoint,
    }
    keys = {"access_key_id": "AKIAEXAMPLE", "secret_access_key": "not-a-secret"}
    scene.connect({"name": "acme", "sink": kinesis, "credentials": keys, "settings": SINGLY})
    worker = scene.worker()
    worker.start()
    await scene.feed([1])
    await worker.until(asked.is_set, "a put is in flight")
    return worker


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_open_windows_stay_in_kafka_and_the_next_worker_goes_on_with_them(
    scene: Scene, number: signal.Signals
) -> None:
    scene.to_file(batching=ENDS_BY_COUNT)
    first = scene.worker("first")
    first.start()
    (begun, *_) = await scene.feed([1, 2, 3])
    read = f'forwarder_records_total{{topic="{scene.topic}"}}'
    await first.until(lambda: first.metrics().get(read) == 3, "three records were read")

    first.signal(number)

    assert await first.ended() == 0
    assert scene.numbers() == []
    offset, _ = (await scene.kafka.committed(scene.name))[scene.topic, begun.partition]
    assert offset == begun.offset, "the open window's first event is still needed"
    await scene.feed([4, 5])
    second = scene.worker("second")
    second.start()
    await second.until(scene.delivered, "the window closes")
    assert [1, 2, 3, 4, 5] == scene.numbers()
    assert len(scene.delivered()) == 1, "the restart did not cut the window"


async def test_a_put_that_is_not_answered_does_not_hold_the_drain_up(
    scene: Scene, silence: tuple[str, asyncio.Event]
) -> None:
    scene.sections["drain_timeout"] = "2s"
    worker = await putting_into_silence(scene, silence)

    worker.signal(signal.SIGTERM)

    # A put alone may take 10 s, and the drain in its usual length 25.
    assert await worker.ended(8) == 0
    assert worker.logged("worker.stopped")


async def test_the_second_signal_ends_the_worker_at_once(
    scene: Scene, silence: tuple[str, asyncio.Event]
) -> None:
    scene.sections["drain_timeout"] = "60s"
    worker = await putting_into_silence(scene, silence)

    worker.signal(signal.SIGTERM)
    await worker.until(lambda: worker.logged("worker.drains"), "the drain begins")
    worker.signal(signal.SIGTERM)

    assert await worker.ended() == 1
    assert not worker.logged("worker.stopped")


async def test_faults_of_the_configuration_end_it_with_2(scene: Scene) -> None:
    scene.to_file(settings={"send_screen_view": True})
    scene.sections["drain_timeout"] = "soon"
    worker = scene.worker()

    worker.start()

    assert await worker.ended() == 2
    said = worker.log_file.read_text()
    assert "settings.send_screen_view" in said
    assert "drain_timeout" in said, "every fault is told in one run"
