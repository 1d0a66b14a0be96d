"""Topics cut, emptied and replaced under a group, and the command that lets it go on."""

import asyncio

from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete

from tests.acceptance.commands import Answer, block, ran, status, stopped, unblock
from tests.acceptance.harness import Worker, until
from tests.acceptance.scene import Scene

SINGLY = {"send_as_batch": False}
DEVICES = ("d1", "d2", "d3")
FIRST, MISSED, LATER = range(9), range(20, 29), range(40, 49)


async def feed(scene: Scene, which: range) -> None:
    for number, device in enumerate(DEVICES):
        await scene.feed(which[number::3], device)


async def at_rest(scene: Scene) -> Worker:
    """Return a worker that delivered FIRST to one connection, and has stopped."""
    scene.to_file(settings=SINGLY)
    block(scene)
    worker = scene.worker()
    worker.start()
    await worker.until_ready()
    await feed(scene, FIRST)
    await worker.until(lambda: sorted(scene.numbers()) == list(FIRST), "everything arrives")
    await stopped(scene)
    return worker


async def cut(scene: Scene, topic: str) -> None:
    """Delete every record that a topic holds."""
    ends = await scene.kafka.ends(topic)
    below = {TopicPartition(topic, n): RecordsToDelete(end) for n, end in ends.items()}
    await scene.kafka.admin.delete_records(below)


async def replace(scene: Scene, topic: str) -> None:
    """Delete a topic and make an empty one under its name."""
    await scene.kafka.admin.delete_topics([topic])

    async def gone() -> bool:
        return topic not in await scene.kafka.topics()

    await until(gone, f"{topic} is gone")
    await scene.kafka.create(topic, 2, **{"max.message.bytes": "16777216", "retention.ms": "-1"})


async def accept(scene: Scene, number: int, *words: str, code: int = 0) -> Answer:
    where = ("--topic", scene.topic, "--partition", str(number))
    return await ran(scene, "accept-loss", "--json", *where, *words, code=code)


async def accepted(scene: Scene, *words: str) -> set[str]:
    """Accept what both partitions lost, twice; return what kinds of loss that was."""
    done = await asyncio.gather(*(accept(scene, n, "--yes", *words) for n in (0, 1)))
    again = await asyncio.gather(*(accept(scene, n, "--yes") for n in (0, 1)))
    for answer in again:
        assert ([], False) == (answer.document["losses"], answer.document["accepted"])
    for one in (await status(scene))["partitions"]:
        assert one["opens"], one["refusal"]
        assert not any(lane["stopped"] for lane in one["connections"])
    return {loss["kind"] for answer in done for loss in answer.document["losses"]}


def outbox(scene: Scene) -> str:
    return f"{scene.name}.outbox.{scene.topic}"


async def test_a_connection_whose_batches_expired_goes_on_beside_a_running_worker(
    scene: Scene,
) -> None:
    worker = await at_rest(scene)
    await cut(scene, outbox(scene))
    unblock(scene)
    worker.start()
    await worker.until(lambda: worker.logged("lane.stopped", connection="blocked"), "it stops")

    assert {"batches"} == await accepted(scene, "--connection", "blocked")

    assert worker.running
    await feed(scene, LATER)
    await worker.until(
        lambda: sorted(scene.numbers("blocked")) == list(LATER), "what came later arrives"
    )
    await worker.until(
        lambda: sorted(scene.numbers()) == [*FIRST, *LATER], "the other one missed nothing"
    )


async def test_records_that_were_deleted_too_early_are_given_up(scene: Scene) -> None:
    worker = await at_rest(scene)
    unblock(scene)
    await feed(scene, MISSED)
    await cut(scene, scene.topic)
    found = await status(scene)
    refused = {one["refusal"] for one in found["partitions"]} - {None}
    assert refused
    for reason in refused:
        assert "deleted before they were collected" in reason
    number = busy(found)
    where = ("--topic", scene.topic, "--partition", str(number))
    unasked = await ran(scene, "accept-loss", *where, code=2)
    assert "given up: events of" in unasked.out
    assert "add --yes" in unasked.err

    assert {"records"} == await accepted(scene)

    worker.start()
    await feed(scene, LATER)
    everything = [*FIRST, *LATER]
    await worker.until(
        lambda: sorted(scene.numbers()) == sorted(scene.numbers("blocked")) == everything,
        "what came later arrives",
    )


def busy(document: dict[str, list[dict[str, int]]]) -> int:
    """Return a partition that would not open."""
    return next(one["number"] for one in document["partitions"] if not one["opens"])


async def test_a_state_that_was_deleted_is_begun_anew_and_loses_no_event(scene: Scene) -> None:
    worker = await at_rest(scene)
    await replace(scene, f"{scene.name}.state.{scene.topic}")
    unblock(scene)

    assert {"state"} == await accepted(scene)

    worker.start()
    await feed(scene, LATER)
    everything = {*FIRST, *LATER}
    await worker.until(
        lambda: everything == set(scene.numbers()) == set(scene.numbers("blocked")),
        "everything that is stored is sent, and the rest is collected",
    )
    assert sorted(scene.numbers("blocked")) == sorted(everything)


async def test_an_input_and_an_outbox_that_were_replaced_need_a_choice(scene: Scene) -> None:
    worker = await at_rest(scene)
    await replace(scene, scene.topic)
    await replace(scene, outbox(scene))
    number = busy(await status(scene))
    assert "say from where to collect" in (await accept(scene, number, "--yes", code=2)).err

    assert {"input", "outbox"} == await accepted(scene, "--from", "earliest")

    worker.start()
    await feed(scene, LATER)
    await worker.until(
        lambda: sorted(scene.numbers()) == [*FIRST, *LATER], "the new records arrive, once"
    )
