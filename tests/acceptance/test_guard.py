"""A release that rejects what comes in stops taking it in, and the next one goes on."""

import json
import time

from tests.acceptance.commands import stopped
from tests.acceptance.harness import Worker
from tests.acceptance.scene import Scene

SINGLY = {"send_as_batch": False}
STOPPED = "forwarder_intake_stopped"


async def flood(scene: Scene, count: int) -> None:
    """Send records that no worker can decode."""
    now = time.time_ns() // 1_000_000
    await scene.kafka.send(scene.topic, [(b"d1", b"{no json", now)] * count)


async def letters(scene: Scene) -> int:
    return len(await scene.kafka.read(f"{scene.name}-dead-letters"))


def intake(worker: Worker) -> list[str]:
    """Return which partitions /readyz says are stopped; ready the worker is all the while."""
    code, text = worker.get("/readyz")
    assert code == 200
    found: list[str] = json.loads(text).get("intake", {}).get("partitions", [])
    return found


async def test_a_flood_of_rejected_records_stops_the_intake_until_good_ones_come(
    scene: Scene,
) -> None:
    scene.to_file(settings=SINGLY)
    worker = scene.worker()
    worker.start()
    await worker.until_ready()
    await scene.feed([1])
    await worker.until(lambda: scene.numbers() == [1], "the first arrives")
    await flood(scene, 1_200)
    await worker.until(lambda: intake(worker), "the intake stops")
    [event] = worker.logged("intake.stopped")
    assert "rejected_percent" in event["remedy"]
    assert f"{STOPPED} 1.0" in worker.get("/metrics")[1]
    await flood(scene, 300)
    await stopped(scene)
    taken = await letters(scene)
    assert 1_000 <= taken <= 1_200

    again = scene.worker("again")
    again.start()
    await again.until_ready()
    await again.until(lambda: again.logged("intake.sample_rejected"), "it looks at a sample")
    assert intake(again)
    assert taken == await letters(scene), "a restart makes no dead letter more"
    await stopped(scene)

    scene.sections["limits"] = {"rejected_percent": 0}
    lenient = scene.worker("lenient")
    lenient.start()
    await scene.feed([2])
    await lenient.until(lambda: scene.numbers() == [1, 2], "an operator lets it through")
    assert [] == intake(lenient)

    async def complete() -> bool:
        return await letters(scene) == 1_500

    await lenient.until(complete, "the flood became dead letters")
