"""A CancelledError that nobody here asked for is a fault: what has to go on does, and says so."""

import asyncio
from typing import Any

import pytest

from forwarder import cancellation
from forwarder.errors import ForwarderError, JournalError
from forwarder.journal.contract import Committed, Tick
from forwarder.ops import chores
from forwarder.ops.chores import CHORE_RESTART_SECONDS
from forwarder.ops.reporter import Chore
from tests import doubles, membership
from tests.membership import P0, P1, Scene
from tests.world import START_MS, virtually


@virtually
async def test_a_chore_that_its_client_cancels_is_begun_anew_and_counted() -> None:
    runs: list[str] = []
    failed: list[str] = []

    async def run() -> None:
        runs.append("run")
        raise asyncio.CancelledError

    clock = doubles.LoopClock(START_MS)
    task = asyncio.create_task(chores.run_chore(Chore.GAUGES, run, clock, failed.append))
    await asyncio.sleep(3.5 * CHORE_RESTART_SECONDS)
    assert (False, 4, ["gauges"] * 4) == (task.done(), len(runs), failed)
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled(), "told to end it ends"


@virtually
async def test_an_opening_that_its_client_cancels_is_tried_again() -> None:
    async with Scene() as scene:
        scene.surprising = True
        scene.journals.open_failures = [asyncio.CancelledError()]
        await scene.source.assign(P0)
        sent = scene.feed()
        await asyncio.sleep(30)
        assert ({P0: "open"}, [sent]) == (scene.phases(), scene.landed())
        assert ("failed", str(P0), "fault") in scene.notes.log


@virtually
async def test_a_question_of_a_recovery_that_its_client_cancels_is_asked_again() -> None:
    async with Scene() as scene:
        scene.surprising = True
        await scene.source.assign(P0)
        await asyncio.sleep(2)
        plain, cancelled = scene.source.is_owner, [1, 1]

        async def is_owner(partition: Any) -> bool:  # noqa: ANN401
            if cancelled:
                cancelled.pop()
                raise asyncio.CancelledError
            return await plain(partition)

        async def close() -> None:
            raise asyncio.CancelledError

        scene.source.is_owner = is_owner  # type: ignore[method-assign]
        scene.owned(P0).deliveries.close = close  # type: ignore[method-assign]
        scene.owned(P0).fail(JournalError("no answer"))
        await asyncio.sleep(30)
        assert ({P0: "open"}, []) == (scene.phases(), cancelled)


@virtually
async def test_a_step_of_the_start_that_its_client_cancels_is_repeated() -> None:
    async with Scene() as scene:
        tries: list[int] = []

        async def step() -> None:
            tries.append(1)
            if len(tries) < 3:
                raise asyncio.CancelledError

        await scene.worker.retry_until_stopped(step)
        assert 3 == len(tries)


@virtually
async def test_a_run_that_can_be_run_again_ends_by_a_fault_and_not_as_if_it_was_told_to() -> None:
    scene = Scene(clocked=False)
    scene.surprising = True
    scene.journals.open_failures = [asyncio.CancelledError()]

    async def cancelled() -> None:
        async with scene:
            await scene.source.assign(P0)
            await asyncio.wait({scene.running}, timeout=60)

    with pytest.raises(ForwarderError, match="was cancelled"):
        await cancelled()


# ---------------------------------------------------------------------- in a callback of the group


@pytest.mark.parametrize("fault", [AttributeError("no sender"), asyncio.CancelledError()])
def test_a_fault_in_a_last_tick_costs_that_partition_its_opening_and_no_worker(
    fault: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults: list[BaseException] = []
    plain = membership.Journal.commit

    async def commit(self: membership.Journal, tick: Tick) -> Committed:
        if faults:
            raise faults.pop()
        return await plain(self, tick)

    async def story() -> None:
        async with Scene() as scene:
            scene.surprising = True
            await scene.source.assign(P0, P1)
            await asyncio.sleep(2)
            sent = [scene.feed(P0), scene.feed(P1)]
            await asyncio.sleep(0.25)
            faults.append(fault)
            await scene.worker.on_revoked(frozenset({P0, P1}))
            assert [] == faults, "it was met"
            await scene.source.assign(P0, P1)
            await asyncio.sleep(60)
            assert {P0: "open", P1: "open"} == scene.phases()
            assert (sent, False) == (sorted(set(scene.landed())), scene.running.done())

    monkeypatch.setattr(membership.Journal, "commit", commit)
    doubles.run_virtually(story())


@pytest.mark.parametrize("fault", [KeyError("nothing to close"), asyncio.CancelledError()])
def test_a_fault_in_giving_a_partition_away_keeps_none_of_the_others(fault: BaseException) -> None:
    async def story() -> None:
        async with Scene() as scene:
            scene.surprising = True
            await scene.source.assign(P0, P1)
            await asyncio.sleep(2)
            owned = scene.owned(P0)

            async def odd() -> None:
                raise fault

            owned.deliveries.close = odd  # type: ignore[method-assign]
            await scene.source.assign(P1)
            sent = scene.feed(P1)
            await asyncio.sleep(10)
            assert ([P0], [P1]) == (
                scene.journals.closed,
                list(scene.worker.membership.supervisors),
            )
            assert [sent] == scene.landed()

    doubles.run_virtually(story())


@virtually
async def test_a_fault_in_taking_a_partition_back_reopens_it_alone() -> None:
    async with Scene() as scene:
        scene.surprising = True
        await scene.source.assign(P0, P1)
        await asyncio.sleep(2)
        plain, faults = scene.source.resume_at, [LookupError("no such partition")]

        def resume_at(partition: Any, offset: int) -> None:  # noqa: ANN401
            if partition == P0 and faults:
                raise faults.pop()
            plain(partition, offset)

        scene.source.resume_at = resume_at  # type: ignore[method-assign]
        await scene.worker.on_revoked(frozenset({P0, P1}))
        await scene.source.assign(P0, P1)
        sent = [scene.feed(P0), scene.feed(P1)]
        await asyncio.sleep(60)
        assert (sent, []) == (sorted(scene.landed()), faults)


# ---------------------------------------------------------------------- the parts


@virtually
async def test_whose_cancellation_it_is_can_be_told() -> None:
    found: list[bool] = []

    async def waits(wait: "asyncio.Future[None]") -> None:
        try:
            await wait
        except cancellation.FAULTS as fault:
            found.append(cancellation.is_ending(fault))

    loop = asyncio.get_running_loop()
    told, own = loop.create_future(), loop.create_future()
    first, second = asyncio.ensure_future(waits(told)), asyncio.ensure_future(waits(own))
    await asyncio.sleep(0)
    first.cancel()
    own.cancel()
    await asyncio.wait({first, second})
    assert [True, False] == found
    failing = loop.create_future()
    failing.set_exception(OSError("no answer"))
    await waits(failing)
    assert [True, False, False] == found


@virtually
async def test_unbroken_work_goes_on_when_who_waits_for_it_is_cancelled() -> None:
    done: list[str] = []

    async def work() -> None:
        await asyncio.sleep(5)
        done.append("work")

    async def wait() -> None:
        await asyncio.shield(cancellation.unbroken(work()))

    waiting = asyncio.ensure_future(wait())
    await asyncio.sleep(1)
    waiting.cancel()
    await asyncio.sleep(5)
    assert (True, ["work"]) == (waiting.cancelled(), done)
