"""With ``create_topics: false`` the worker says what is missing and makes nothing."""

from tests.acceptance.harness import Worker
from tests.acceptance.scene import Scene

LIMIT = {"max.message.bytes": str(16 * 1024 * 1024)}
FOR_EVER = {"retention.ms": "-1", "retention.bytes": "-1"}


def verifying(scene: Scene) -> Worker:
    """Return a worker that may not create topics."""
    scene.to_file(settings={"send_as_batch": False})
    scene.sections["journal"]["create_topics"] = False
    return scene.worker()


async def test_missing_topics_are_printed_and_none_is_made(scene: Scene) -> None:
    worker = verifying(scene)

    worker.start()

    assert await worker.ended() == 1
    said = worker.log_file.read_text().splitlines()
    told = [row for row in said if not row.startswith("{")]
    outbox, state = f"{scene.name}.outbox.{scene.topic}", f"{scene.name}.state.{scene.topic}"
    for topic in (outbox, state, f"{scene.name}-dead-letters"):
        (line,) = [row for row in told if f"topic {topic}" in row and "MISSING" in row]
        assert "16777216" in line
    assert [] == [row for row in said if "Traceback" in row]
    there = {topic for topic in await scene.kafka.topics() if topic.startswith(scene.name)}
    assert {scene.topic} == there


async def test_topics_made_by_hand_are_enough(scene: Scene) -> None:
    worker = verifying(scene)
    await scene.kafka.create(f"{scene.name}.outbox.{scene.topic}", 2, **LIMIT, **FOR_EVER)
    await scene.kafka.create(f"{scene.name}.state.{scene.topic}", 2, **LIMIT, **FOR_EVER)
    await scene.kafka.create(f"{scene.name}-dead-letters", 1, **LIMIT)

    worker.start()
    await scene.feed([1, 2])

    await worker.until(lambda: scene.numbers() == [1, 2], "the events arrive")
