"""What a worker finishes before it gives partitions away, or leaves; in virtual time."""

import asyncio

from forwarder.errors import JournalError
from forwarder.journal.fold import fold_records
from forwarder.worker.partition import OpenPartition
from tests.batches import GROUP, TOPIC
from tests.membership import BATCH, P0, P1, SINGLE, Scene
from tests.world import virtually


async def in_flight(scene: Scene) -> asyncio.Event:
    """Leave a put of P0 in flight; return what lets it be answered."""
    await scene.source.assign(P0)
    await asyncio.sleep(2)
    scene.sink.gate = asyncio.Event()
    scene.feed()
    await asyncio.sleep(1)
    return scene.sink.gate


@virtually
async def test_a_drain_finishes_puts_ticks_and_leaves_and_closes_no_window() -> None:
    scene = Scene([*SINGLE, *BATCH])
    async with scene:
        await scene.source.assign(P0)
        await asyncio.sleep(2)
        scene.feed()
        await asyncio.sleep(0.5)
    assert ([0], [0]) == (scene.committed(), scene.landed())
    assert scene.source.stopped
    last = scene.journals.log(P0).commit
    assert last is not None
    assert 0 == last.offset


@virtually
async def test_what_was_put_during_a_drain_is_acknowledged() -> None:
    scene = Scene()
    async with scene:
        gate = await in_flight(scene)
        asyncio.get_running_loop().call_later(3, gate.set)
    assert [0] == scene.landed()
    state = fold_records(scene.journals.log(P0).state.items(), GROUP, TOPIC)
    assert (0, 0) < state.lanes["solo"].cursor


@virtually
async def test_no_put_begins_once_a_partition_is_given_up() -> None:
    async with Scene() as scene:
        gate = await in_flight(scene)
        scene.feed()
        await asyncio.sleep(2)
        assert 1 == len(scene.sink.puts)
        gate.set()
        await asyncio.sleep(0)  # the answer is there, and nobody has been told of it yet
        await scene.owned(P0).close()
        assert 1 == len(scene.sink.puts)


@virtually
async def test_what_is_assigned_during_a_drain_is_not_taken_up() -> None:
    scene = Scene()
    async with scene:
        gate = await in_flight(scene)
        scene.worker.stop()
        await asyncio.sleep(1)
        await scene.source.assign(P0, P1)
        gate.set()
        await asyncio.sleep(1)
    assert [P0] == scene.journals.opened
    assert {asyncio.current_task()} == asyncio.all_tasks()


@virtually
async def test_a_drain_within_an_assignment_opens_nothing_beside_what_it_closes() -> None:
    scene = Scene()
    async with scene:
        await scene.source.assign(P0, P1)
        await asyncio.sleep(2)
        gates = {owned: asyncio.Event() for owned in scene.worker.membership.open_partitions()}
        for owned, gate in gates.items():
            close_late(owned, gate)
        lost, kept = gates.values()
        assigning = asyncio.create_task(scene.worker.on_assigned(frozenset({P1})))
        await asyncio.sleep(1)
        scene.worker.stop()
        await asyncio.sleep(2)
        lost.set()
        await asyncio.sleep(2)
        kept.set()
        await assigning
    assert [P0, P1] == scene.journals.opened
    assert {asyncio.current_task()} == asyncio.all_tasks()


def close_late(owned: OpenPartition, gate: asyncio.Event) -> None:
    """Have a partition close only after somebody lets it."""
    close = owned.close

    async def closing() -> None:
        await gate.wait()
        await close()

    owned.close = closing  # type: ignore[method-assign]


async def open_late(scene: Scene) -> asyncio.Event:
    """Leave a put of P0 in flight, and P1 opening with a batch to deliver; return what opens it."""
    await scene.source.assign(P0, P1)
    await asyncio.sleep(2)
    scene.sink.gate = asyncio.Event()
    scene.feed(P0)
    scene.feed(P1)
    await asyncio.sleep(3)
    assert [0, 1] == scene.committed()
    scene.journals.gate = asyncio.Event()
    scene.owned(P1).fail(JournalError("no answer"))
    await asyncio.sleep(10)
    assert [P0, P1, P1] == scene.journals.opened
    return scene.journals.gate


@virtually
async def test_what_opens_during_a_drain_puts_nothing_that_nobody_would_acknowledge() -> None:
    scene = Scene()
    async with scene:
        opened = await open_late(scene)
        scene.worker.stop()
        await asyncio.sleep(1)
        opened.set()
        await asyncio.sleep(2)
        assert scene.owned(P1).is_open()
        assert scene.sink.gate is not None
        scene.sink.gate.set()
    assert [0] == scene.landed()


@virtually
async def test_what_opens_after_a_revocation_puts_nothing_before_the_assignment() -> None:
    async with Scene() as scene:
        opened = await open_late(scene)
        revoking = asyncio.create_task(scene.worker.on_revoked(frozenset({P0, P1})))
        await asyncio.sleep(1)
        opened.set()
        await asyncio.sleep(2)
        assert scene.owned(P1).is_open()
        assert scene.sink.gate is not None
        scene.sink.gate.set()
        await revoking
        await asyncio.sleep(2)
        assert [0] == scene.landed()
        await scene.worker.on_assigned(frozenset({P0, P1}))
        await asyncio.sleep(2)
        assert [0, 1] == scene.landed()


@virtually
async def test_what_fails_after_a_revocation_puts_nothing_before_the_assignment() -> None:
    async with Scene() as scene:
        await scene.source.assign(P0)
        await asyncio.sleep(2)
        await scene.worker.on_revoked(frozenset({P0}))
        scene.owned(P0).fail(JournalError("no answer"))
        scene.feed(P0)
        await asyncio.sleep(20)
        assert (2, [0], []) == (len(scene.journals.opened), scene.committed(), scene.landed())
        await scene.worker.on_assigned(frozenset({P0}))
        await asyncio.sleep(2)
        assert [0] == scene.landed()


@virtually
async def test_a_drain_ends_in_time_although_a_put_never_does() -> None:
    scene = Scene(drain=20.0)
    async with scene:
        await in_flight(scene)
        stopped = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - stopped <= 20.0
    assert scene.source.stopped
