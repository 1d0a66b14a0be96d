"""A worker that looks for duplicates finds those of before it was there; in virtual time."""

import asyncio

from forwarder.errors import JournalError
from forwarder.journal.fold import fold_records
from forwarder.journal.state import PartitionState
from tests.batches import GROUP, TOPIC
from tests.membership import BATCH, P0, SINGLE, Scene
from tests.world import virtually

WINDOW = 600_000


def stored(scene: Scene) -> PartitionState:
    return fold_records(scene.journals.log(P0).state.items(), GROUP, TOPIC)


@virtually
async def test_what_is_sent_again_after_a_restart_is_dropped() -> None:
    """Everything was collected, delivered and committed: only its identity is read again."""
    async with Scene(duplicates_ms=WINDOW) as scene:
        await scene.source.assign(P0)
        sent = scene.feed(request="a")
        await asyncio.sleep(3)
        state = stored(scene)
        assert (1, 0) == (state.read, state.lanes["solo"].seen_from)
    async with Scene(duplicates_ms=WINDOW, after=scene) as later:
        await later.source.assign(P0)
        again, other = later.feed(request="a"), later.feed(request="b")
        await asyncio.sleep(3)
        assert ([sent], [again + 1]) == (scene.landed(), later.landed())
        assert other == again + 1
        assert 3 == stored(later).read


@virtually
async def test_a_failed_tick_changes_nothing_about_what_is_dropped() -> None:
    async with Scene(BATCH, duplicates_ms=WINDOW) as scene:
        await scene.source.assign(P0)
        await asyncio.sleep(2)
        for request in ("a", "a", "b", "a"):
            scene.feed(request=request)
        scene.journals.commit_failures += [JournalError("no answer")] * 2
        await asyncio.sleep(60)
        scene.feed(request="b")
        await asyncio.sleep(60)
        assert [0, 2] == scene.landed()
        assert 5 == stored(scene).read


@virtually
async def test_a_window_that_is_switched_on_counts_from_then_on() -> None:
    async with Scene() as scene:
        await scene.source.assign(P0)
        sent = [scene.feed(request="a"), scene.feed(request="a")]
        await asyncio.sleep(3)
        assert sent == scene.landed()
        assert stored(scene).look_back is None
    async with Scene(duplicates_ms=WINDOW, after=scene) as later:
        await later.source.assign(P0)
        later.feed(request="a")
        later.feed(request="a")
        await asyncio.sleep(3)
        assert 1 == len(later.landed())
    async with Scene(SINGLE, after=later) as last:
        await last.source.assign(P0)
        last.feed(request="a")
        await asyncio.sleep(3)
        assert 1 == len(last.landed())
        assert stored(last).look_back is None
