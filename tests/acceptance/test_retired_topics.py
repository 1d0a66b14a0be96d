"""An input topic is taken out of the configuration while something is left of it."""

import json
import signal
import time

import pytest

from tests.acceptance.commands import block, ran, status, unblock
from tests.acceptance.harness import Worker, until
from tests.acceptance.scene import Scene
from tests.builders import encoded, event, upload

pytestmark = pytest.mark.service

COUNT = 100


async def read_by_a_worker(scene: Scene) -> str:
    """Have a second topic read, whose batches its destination does not take; return its name."""
    other = f"{scene.name}-other"
    await scene.kafka.create(other, 1)
    scene.sections["kafka"]["topics"] = [scene.topic, other]
    block(scene)
    worker = scene.worker("before")
    worker.start()
    await worker.until_ready()
    await scene.feed([0])
    now = time.time_ns() // 1_000_000
    rows = [(b"d2", encoded(upload(event(n=n), device="d2")), now) for n in range(1, COUNT + 1)]
    await scene.kafka.send(other, rows)

    async def stored() -> bool:
        [one] = [p for p in (await status(scene))["partitions"] if p["topic"] == other]
        return bool(one.get("lag_read") == 0 and one["connections"][0]["batches_behind"] == COUNT)

    await worker.until(stored, "all of it waits for delivery")
    await leave(worker)
    scene.sections["kafka"]["topics"] = [scene.topic]
    return other


async def leave(worker: Worker) -> None:
    worker.signal(signal.SIGTERM)
    assert await worker.ended() == 0


async def test_a_worker_refuses_to_start_until_what_is_left_is_given_up_or_delivered(
    scene: Scene,
) -> None:
    other = await read_by_a_worker(scene)
    refused = scene.worker("refused")
    refused.start()
    assert await refused.ended() == 1
    said = refused.tail()
    for part in (other, f"{COUNT} batches", "blocked", "journal.retired_topics", "put it back"):
        assert part in said

    told = await status(scene)
    [one] = [p for p in told["partitions"] if p["topic"] == other]
    assert (False, COUNT) == (one["configured"], one["connections"][0]["batches_behind"])
    [total] = [c for c in told["connections"] if c["connection"] == "blocked"]
    assert total["batches_behind"] >= COUNT

    findings = (await ran(scene, "doctor", "--json", code=1)).document["findings"]
    [finding] = [one for one in findings if other in one["what"]]
    assert ("fail", True) == (finding["grade"], f"{COUNT} batches" in finding["what"])

    scene.sections["journal"]["retired_topics"] = [other]
    given_up = scene.worker("given-up")
    given_up.start()
    await given_up.until_ready()
    [line] = given_up.logged("left_topic.retired")
    assert other == line["topic"]
    assert f"{COUNT} batches" in json.dumps((await ran(scene, "doctor", "--json", code=1)).document)
    await leave(given_up)

    del scene.sections["journal"]["retired_topics"]
    scene.sections["kafka"]["topics"] = [scene.topic, other]
    unblock(scene)
    back = scene.worker("back")
    back.start()
    await back.until(lambda: len(scene.delivered("blocked")) == COUNT + 1, "it is all delivered")
    await leave(back)

    scene.sections["kafka"]["topics"] = [scene.topic]
    done = scene.worker("done")
    done.start()
    await done.until_ready()
    assert [] == done.logged("left_topic.retired")
    assert other not in json.dumps(await status(scene))
    await leave(done)

    await recreated(scene, other, COUNT + 50)
    assert other not in json.dumps(await status(scene)), "somebody else's records"
    again = scene.worker("again")
    again.start()
    await again.until_ready()
    assert [] == again.logged("left_topic.unknown")


async def recreated(scene: Scene, topic: str, records: int) -> None:
    """Delete a topic, and have somebody else create it again and write to it."""
    await scene.kafka.admin.delete_topics([topic])

    async def gone() -> bool:
        return topic not in await scene.kafka.topics()

    await until(gone, f"{topic} is gone")
    await scene.kafka.create(topic, 1)
    await scene.kafka.send(topic, [(b"", b"{}", 1)] * records)
