"""A worker that most of the input is rejected by stops taking it in, and loses nothing."""

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder.journal.commit import metadata_hint
from forwarder.model import Partition
from forwarder.worker.circuit_breaker import PROBE_INTERVAL
from tests import doubles
from tests.membership import P0, P1, Scene
from tests.world import virtually

FLOOD = 1500


def flood(scene: Scene, partition: Partition = P0, count: int = FLOOD) -> None:
    for _ in range(count):
        scene.source.feed(partition, b"{no json", scene.clock.wall_ms())


def letters(scene: Scene) -> int:
    return sum(len(log.dead_letters) for log in scene.journals.logs.values())


def stopped(scene: Scene) -> list[str]:
    """Return what is stopped, as it was told last."""
    told = [entry[1] for entry in scene.notes.log if entry[0] == "stopped"]
    return told[-1] if told else []


def stored(scene: Scene, partition: Partition = P0) -> int:
    """Return since when the commit says that a partition is stopped."""
    commit = scene.journals.log(partition).commit
    return metadata_hint(commit).stopped


@virtually
async def test_a_flood_stops_all_partitions_and_what_was_taken_is_delivered() -> None:
    async with Scene(rejected_percent=50) as scene:
        await scene.source.assign(P0, P1)
        sent = [scene.feed(P0), scene.feed(P1)]
        await asyncio.sleep(2)
        flood(scene)
        await asyncio.sleep(3)
        assert [str(P0), str(P1)] == stopped(scene)
        assert stored(scene, P0) == stored(scene, P1) > 0
        before = letters(scene)
        flood(scene)
        scene.feed(P1)
        await asyncio.sleep(30)
        assert (FLOOD, sent) == (before, sorted(scene.landed()))
        assert before == letters(scene)


@virtually
async def test_nothing_stops_where_the_guard_is_off() -> None:
    async with Scene() as scene:
        await scene.source.assign(P0)
        flood(scene)
        last = scene.feed()
        await asyncio.sleep(5)
        assert ([], FLOOD, [last]) == (stopped(scene), letters(scene), scene.landed())


@virtually
async def test_it_goes_on_by_itself_once_what_comes_next_is_good() -> None:
    async with Scene(rejected_percent=50) as scene:
        await scene.source.assign(P0)
        flood(scene)
        await asyncio.sleep(3)
        sent = [scene.feed() for _ in range(20)]
        assert stopped(scene)
        await asyncio.sleep(PROBE_INTERVAL + 10)
        assert ([], 0) == (stopped(scene), stored(scene))
        assert sent == sorted(scene.landed())
        assert FLOOD == letters(scene)


@virtually
async def test_a_sample_of_what_is_still_bad_leaves_no_trace() -> None:
    async with Scene(rejected_percent=50) as scene:
        await scene.source.assign(P0)
        flood(scene, count=4 * FLOOD)
        await asyncio.sleep(3)
        before = letters(scene)
        flood(scene)
        scene.feed()
        await asyncio.sleep(5 * PROBE_INTERVAL)
        assert (before, [str(P0)], []) == (letters(scene), stopped(scene), scene.landed())


@virtually
async def test_a_restart_goes_on_only_if_what_comes_next_is_good() -> None:
    """However often the worker is started, the flood becomes no dead letter more."""
    async with Scene(rejected_percent=50) as first:
        await first.source.assign(P0)
        early = first.feed()
        flood(first)
        await asyncio.sleep(3)
        flood(first, count=10 * FLOOD)
    before, scene = letters(first), first
    for _ in range(5):
        scene = Scene(rejected_percent=50, after=scene)
        async with scene:
            await scene.source.assign(P0)
            await asyncio.sleep(20)
            assert [str(P0)] == stopped(scene)
    assert before == letters(scene)
    async with Scene(rejected_percent=0, after=scene) as let_through:
        await let_through.source.assign(P0)
        late = let_through.feed()
        await asyncio.sleep(20)
        assert before + 10 * FLOOD == letters(let_through)
        assert [late] == let_through.landed()
        assert 0 == stored(let_through)
    assert [early] == first.landed()


@virtually
async def test_a_mended_release_goes_on_at_once_after_its_start() -> None:
    async with Scene(rejected_percent=50) as first:
        await first.source.assign(P0)
        flood(first)
        await asyncio.sleep(3)
    sent = [first.feed() for _ in range(5)]
    async with Scene(rejected_percent=50, after=first) as second:
        await second.source.assign(P0)
        await asyncio.sleep(10)
        assert (sent, []) == (sorted(second.landed()), stopped(second))


@virtually
async def test_an_empty_input_keeps_nothing_stopped() -> None:
    async with Scene(rejected_percent=50) as first:
        await first.source.assign(P0)
        flood(first)
        await asyncio.sleep(3)
    async with Scene(rejected_percent=50, after=first) as second:
        await second.source.assign(P0)
        await asyncio.sleep(12)
        assert ([], 0) == (stopped(second), stored(second))


@virtually
async def test_a_marker_at_the_end_keeps_nothing_stopped() -> None:
    """A transaction's end takes up an offset that holds no record."""
    async with Scene(rejected_percent=50) as scene:
        await scene.source.assign(P0)
        flood(scene)
        await asyncio.sleep(3)
        assert stopped(scene)
        source, end = scene.source, FLOOD + 1
        source.stable[P0] = end
        plain = source.position

        def stepped(partition: Partition) -> int | None:
            return end if plain(partition) == FLOOD else plain(partition)

        source.position = stepped  # type: ignore[method-assign]  # over the marker
        await asyncio.sleep(PROBE_INTERVAL + 20)
        assert ([], 0) == (stopped(scene), stored(scene))


@virtually
async def test_a_rebalance_in_the_middle_of_a_sample_skips_nothing() -> None:
    async with Scene(rejected_percent=50) as scene:
        await scene.source.assign(P0, P1)
        flood(scene)
        await asyncio.sleep(PROBE_INTERVAL + 1)
        sent = [scene.feed(P0), scene.feed(P1)]
        await scene.source.assign(P0)
        await scene.source.assign(P0, P1)
        await asyncio.sleep(PROBE_INTERVAL + 20)
        assert (sent, []) == (sorted(scene.landed()), stopped(scene))


@settings(max_examples=12)
@given(st.lists(st.sampled_from(["flood", "good", "rest", "rebalance", "long"]), max_size=12))
def test_nothing_is_lost_or_taken_twice_whenever_it_stops(story: list[str]) -> None:
    async def run() -> None:
        sent: list[int] = []
        async with Scene(rejected_percent=50) as scene:
            await scene.source.assign(P0, P1)
            for step in story:
                if step == "flood":
                    flood(scene, count=1100)
                elif step == "good":
                    sent += [scene.feed(P0 if n % 2 else P1) for n in range(6)]
                elif step == "rebalance":
                    await scene.source.assign(P1)
                    await scene.source.assign(P0, P1)
                await asyncio.sleep(PROBE_INTERVAL + 10 if step == "long" else 2)
        flooded = 1100 * story.count("flood")
        async with Scene(after=scene) as last:
            await last.source.assign(P0, P1)
            await asyncio.sleep(30)
            assert (sent, flooded) == (last.committed(), letters(last))

    doubles.run_virtually(run())
