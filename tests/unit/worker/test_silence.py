"""One partition that stands ends no worker on which others flow; what its leader says is told."""

import asyncio

import pytest

from forwarder.errors import ForwarderError
from forwarder.ops.stall import StallReason
from forwarder.worker.watchdog import SILENT_CLIENT_SECONDS, WATCH_SECONDS
from tests.membership import P0, P1, Scene
from tests.world import virtually

REFUSED = ForwarderError("its disk is broken", "move leadership")


async def stand(scene: Scene) -> None:
    """Let Kafka have records of P0 that no poll brings."""
    await scene.source.assign(P0, P1)
    scene.feed(P0)
    scene.feed(P1)
    await asyncio.sleep(2)
    scene.source.stable[P0] = len(scene.source.logs[P0]) + 9


async def flow(scene: Scene, seconds: float) -> None:
    """Let P1 go on."""
    for _ in range(round(seconds / WATCH_SECONDS)):
        scene.feed(P1)
        await asyncio.sleep(WATCH_SECONDS)


@virtually
async def test_where_others_flow_fetching_is_begun_anew_then_the_partition_is_opened_again() -> (
    None
):
    async with Scene() as scene:
        await stand(scene)
        await flow(scene, SILENT_CLIENT_SECONDS + 3 * WATCH_SECONDS)
        assert (1, [P0, P1]) == (scene.source.begun_anew, sorted(scene.journals.opened))
        await flow(scene, SILENT_CLIENT_SECONDS + 3 * WATCH_SECONDS)
        assert (1, 2) == (scene.source.begun_anew, scene.journals.opened.count(P0))
        await flow(scene, 20 * SILENT_CLIENT_SECONDS)
        assert not scene.running.done()
        assert 1 == scene.journals.opened.count(P1)
        assert len(scene.source.logs[P1]) == scene.source.position(P1)


@virtually
async def test_where_nothing_moves_any_more_the_worker_ends() -> None:
    scene = Scene()

    async def story() -> None:
        async with scene:
            await stand(scene)
            await flow(scene, SILENT_CLIENT_SECONDS / 2)
            await asyncio.wait({scene.running}, timeout=3 * SILENT_CLIENT_SECONDS)

    with pytest.raises(ForwarderError, match="went silent"):
        await story()


@virtually
async def test_a_leader_that_answers_with_an_error_makes_no_client_silent() -> None:
    async with Scene() as scene:
        await stand(scene)
        scene.source.refused[P0] = REFUSED
        await asyncio.sleep(10 * SILENT_CLIENT_SECONDS)
        assert not scene.running.done()
        assert (0, 1) == (scene.source.begun_anew, scene.journals.opened.count(P0))
        assert {str(P0): "not_fetched"} == scene.notes.stalls


@virtually
async def test_once_it_answers_with_none_the_client_has_its_time_to_bring_records() -> None:
    async with Scene() as scene:
        await stand(scene)
        scene.source.refused[P0] = REFUSED
        await asyncio.sleep(10 * SILENT_CLIENT_SECONDS)
        scene.source.refused.clear()
        await asyncio.sleep(SILENT_CLIENT_SECONDS - WATCH_SECONDS)
        assert not scene.running.done()
        scene.source.stable.clear()


@virtually
async def test_what_the_leader_says_is_what_is_told_of_the_standstill() -> None:
    async with Scene() as scene:
        await stand(scene)
        scene.source.refused[P0] = REFUSED
        await asyncio.sleep(SILENT_CLIENT_SECONDS)
        told = scene.notes.standing[P0]
        assert StallReason.NOT_FETCHED is told.reason
        assert ("its disk is broken", "move leadership") == (told.text(), told.advice())
        assert "move leadership" == told.described()["remedy"]


@virtually
async def test_a_rebalance_opens_and_fetches_nothing_anew() -> None:
    async with Scene() as scene:
        await stand(scene)
        await flow(scene, SILENT_CLIENT_SECONDS - WATCH_SECONDS)
        await scene.worker.on_revoked(frozenset({P0, P1}))
        await asyncio.sleep(SILENT_CLIENT_SECONDS / 2)
        assert (0, 1) == (scene.source.begun_anew, scene.journals.opened.count(P0))
        assert not scene.running.done()
        scene.source.stable.clear()
