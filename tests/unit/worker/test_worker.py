"""A whole worker over a source fed by hand and journals in memory, in virtual time."""

import asyncio
from collections.abc import Callable

import pytest

from forwarder.errors import ForwarderError, JournalError
from forwarder.ops.health import Health
from forwarder.worker.partition import OpenPartition
from forwarder.worker.watchdog import SILENT_CLIENT_SECONDS
from tests import doubles
from tests.membership import BATCH, P0, P1, SINGLE, Scene
from tests.partition_oracle import numbers
from tests.world import virtually


@virtually
async def test_what_arrives_is_committed_and_delivered() -> None:
    async with Scene() as scene:
        await scene.source.assign(P0, P1)
        sent = [scene.feed(P0), scene.feed(P1), scene.feed(P0)]
        await asyncio.sleep(5)
        assert sent == scene.committed() == sorted(scene.landed())
        assert {P0: "open", P1: "open"} == scene.phases()


@pytest.mark.parametrize("failures", [1, 5])
def test_a_failed_tick_opens_the_partition_again_and_nothing_is_lost(failures: int) -> None:
    async def story() -> None:
        async with Scene() as scene:
            await scene.source.assign(P0)
            await asyncio.sleep(2)
            scene.journals.commit_failures += [JournalError("no answer")] * failures
            sent = [scene.feed(), scene.feed()]
            await asyncio.sleep(60)
            assert sent == scene.committed() == scene.landed()
            assert failures + 1 == len(scene.journals.opened)

    doubles.run_virtually(story())


@virtually
async def test_openings_that_fail_are_repeated_with_growing_pauses() -> None:
    async with Scene() as scene:
        scene.journals.open_failures += [JournalError("away")] * 8
        await scene.source.assign(P0)
        await asyncio.sleep(1)
        assert 2 <= len(scene.journals.opened) <= 6
        await asyncio.sleep(60)
        assert (9, {P0: "open"}) == (len(scene.journals.opened), scene.phases())


@virtually
async def test_a_fenced_partition_is_opened_again_only_once_it_is_known_to_be_owned() -> None:
    async with Scene() as scene:
        await scene.source.assign(P0)
        await asyncio.sleep(2)
        await scene.journals.journal(P0).open()
        scene.journals.opened.clear()
        scene.source.holds.clear()
        sent = [scene.feed()]
        await asyncio.sleep(120)
        assert ([], []) == (scene.journals.opened, scene.committed())
        scene.source.holds.add(P0)
        await asyncio.sleep(30)
        assert ([P0], sent) == (scene.journals.opened, scene.landed())


@virtually
async def test_a_partition_whose_tick_failed_is_not_taken_from_its_new_owner() -> None:
    async with Scene() as scene:
        await scene.source.assign(P0)
        await asyncio.sleep(2)
        scene.source.holds.clear()
        scene.journals.commit_failures.append(JournalError("no answer"))
        scene.feed()
        await asyncio.sleep(120)
        assert [P0] == scene.journals.opened


@virtually
async def test_a_refused_partition_leaves_the_others_running() -> None:
    async with Scene() as scene:
        scene.journals.log(P0).state[0] = b"damaged"
        scene.journals.log(P0).state_end = 1
        await scene.source.assign(P0, P1)
        scene.feed(P0)
        sent = scene.feed(P1)
        await asyncio.sleep(30)
        assert {P0: "refused", P1: "open"} == scene.phases()
        assert ([sent], 1) == (scene.landed(), scene.journals.opened.count(P0))


@virtually
async def test_why_a_partition_is_refused_stands_though_others_report_meanwhile() -> None:
    async with Scene() as scene:
        scene.journals.log(P0).state[0] = b"damaged"
        health, notes = Health(scene.clock), scene.notes
        notes.partition_phase = health.partition_phase  # type: ignore[method-assign]
        notes.partitions_owned = health.partitions_owned  # type: ignore[method-assign]
        close = OpenPartition.close

        async def slow(owned: OpenPartition) -> None:
            await close(owned)
            health.partitions_owned(scene.worker.membership.supervisors)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(OpenPartition, "close", slow)
            await scene.source.assign(P0, P1)
            await asyncio.sleep(5)
        assert "cannot be read" in health.partitions[str(P0)].reason


@virtually
async def test_a_position_the_input_no_longer_has_opens_that_partition_again() -> None:
    async with Scene() as scene:
        await scene.source.assign(P0, P1)
        await asyncio.sleep(5)
        scene.source.gone = {P0}
        await asyncio.sleep(5)
        sent = [scene.feed(P0), scene.feed(P1)]
        await asyncio.sleep(2 * SILENT_CLIENT_SECONDS)
        opened = [scene.journals.opened.count(p) for p in (P0, P1)]
        assert ([2, 1], sent) == (opened, sorted(scene.landed()))


@virtually
async def test_a_partition_whose_every_tick_fails_opens_with_growing_pauses() -> None:
    async with Scene() as scene:
        scene.journals.commit_failures = [JournalError("no") for _ in range(1000)]
        await scene.source.assign(P0)
        await asyncio.sleep(100)
        assert 10 <= scene.journals.opened.count(P0) <= 25


@virtually
async def test_a_refused_partition_is_tried_again_with_the_next_assignment() -> None:
    async with Scene() as scene:
        scene.journals.log(P0).state[0] = b"damaged"
        await scene.source.assign(P0)
        await asyncio.sleep(5)
        scene.journals.log(P0).state.clear()
        sent = scene.feed(P0)
        await scene.source.assign(P0)
        await asyncio.sleep(5)
        assert ({P0: "open"}, [sent]) == (scene.phases(), scene.landed())


@virtually
async def test_a_partition_that_comes_back_keeps_its_memory() -> None:
    async with Scene(BATCH) as scene:
        await scene.source.assign(P0)
        sent = [scene.feed()]
        await asyncio.sleep(2)
        await scene.source.assign(P0)
        sent.append(scene.feed())
        await asyncio.sleep(30)
        assert [P0] == scene.journals.opened
        assert [sent] == [numbers(batch.payload) for batch in scene.sink.landed]


@virtually
async def test_a_partition_that_comes_back_puts_only_after_a_new_tick() -> None:
    async with Scene() as scene:
        await scene.source.assign(P0)
        await asyncio.sleep(2)
        scene.sink.gate = asyncio.Event()
        scene.feed(device="d1")
        await asyncio.sleep(2)
        scene.feed(device="d2")
        await asyncio.sleep(2)
        ticks = scene.journals.log(P0).state_end
        rebalance = asyncio.create_task(scene.source.assign(P0))
        await asyncio.sleep(1)
        scene.sink.gate.set()
        await rebalance
        before = len(scene.sink.puts)
        assert ticks < scene.journals.log(P0).state_end
        await asyncio.sleep(0)
        assert before == len(scene.sink.puts)
        await asyncio.sleep(5)
        assert [0, 1] == scene.landed()


@virtually
async def test_a_partition_given_away_is_dropped() -> None:
    async with Scene() as scene:
        await scene.source.assign(P0, P1)
        await asyncio.sleep(2)
        await scene.source.assign(P1)
        await asyncio.sleep(2)
        assert {P1: "open"} == scene.phases()
        await scene.journals.journal(P0).open()
        scene.feed(P0)
        sent = scene.feed(P1)
        await asyncio.sleep(10)
        assert [sent] == scene.landed()


@virtually
async def test_idle_windows_are_closed_by_the_wall_clock() -> None:
    async with Scene(BATCH) as scene:
        await scene.source.assign(P0)
        sent = scene.feed()
        await asyncio.sleep(9)
        assert [] == scene.committed()
        await asyncio.sleep(6)
        assert [sent] == scene.landed()


@virtually
async def test_no_window_is_closed_by_the_wall_clock_while_records_are_behind() -> None:
    async with Scene(BATCH) as scene:
        await scene.source.assign(P0)
        scene.feed()
        await asyncio.sleep(2)
        scene.source.stable[P0] = 9
        await asyncio.sleep(40)
        assert [] == scene.committed()
        scene.source.stable[P0] = 1
        await asyncio.sleep(5)
        assert [0] == scene.committed()


@virtually
async def test_no_window_is_closed_by_the_wall_clock_while_the_broker_is_away() -> None:
    async with Scene(BATCH) as scene:
        await scene.source.assign(P0)
        scene.feed()
        await asyncio.sleep(2)
        scene.source.fails = True
        await asyncio.sleep(200)
        assert [] == scene.committed()
        scene.source.fails = False
        await asyncio.sleep(5)
        assert [0] == scene.committed()


@virtually
async def test_reading_pauses_without_room_and_polling_goes_on() -> None:
    async with Scene() as scene:
        await scene.source.assign(P0)
        await asyncio.sleep(2)
        scene.has_room = False
        await asyncio.sleep(1)
        polls = scene.source.polls
        scene.feed()
        await asyncio.sleep(10)
        assert ([], True) == (scene.committed(), scene.source.polls > polls + 10)
        scene.has_room = True
        await asyncio.sleep(5)
        assert [0] == scene.landed()


@virtually
async def test_a_reopened_partition_pauses_again_without_room() -> None:
    async with Scene() as scene:
        await scene.source.assign(P0)
        await asyncio.sleep(2)
        scene.has_room = False
        await asyncio.sleep(1)
        scene.owned(P0).fail(JournalError("no answer"))
        scene.feed()
        await asyncio.sleep(30)
        assert (2, []) == (len(scene.journals.opened), scene.committed())
        scene.has_room = True
        await asyncio.sleep(5)
        assert [0] == scene.landed()


async def failing(scene: Scene, seconds: float) -> BaseException | None:
    """Return what ended the worker within a time, None if nothing did."""
    await asyncio.wait({scene.running}, timeout=seconds)
    return scene.running.exception() if scene.running.done() else None


@virtually
async def test_a_worker_whose_consumer_went_silent_ends() -> None:
    scene = Scene()

    async def silence() -> None:
        async with scene:
            await scene.source.assign(P0)
            await asyncio.sleep(2)
            scene.source.stable[P0] = 5
            await failing(scene, SILENT_CLIENT_SECONDS + 30)

    with pytest.raises(ForwarderError, match="went silent"):
        await silence()
    assert scene.source.stopped


def disturb_nothing(scene: Scene) -> None:
    """Leave position and end where they are: equal."""


def take_the_broker_away(scene: Scene) -> None:
    scene.source.stable[P0] = 5
    scene.source.fails = True


def leave_no_room(scene: Scene) -> None:
    scene.source.stable[P0] = 5
    scene.has_room = False


@pytest.mark.parametrize("change", [disturb_nothing, take_the_broker_away, leave_no_room])
def test_a_quiet_consumer_is_not_a_silent_one(change: Callable[[Scene], None]) -> None:
    async def story() -> None:
        async with Scene() as scene:
            await scene.source.assign(P0)
            await asyncio.sleep(2)
            change(scene)
            assert None is await failing(scene, 10 * SILENT_CLIENT_SECONDS)

    doubles.run_virtually(story())


def test_a_partition_opened_anew_is_not_given_records_of_a_poll_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failed: list[str] = []

    async def story() -> None:
        async with Scene(BATCH) as scene:
            await scene.source.assign(P0, P1)
            sent = [scene.feed(P0), scene.feed(P1)]
            await asyncio.sleep(2)

            async def slow(busy: OpenPartition) -> None:
                for owned in scene.worker.membership.open_partitions():
                    if owned.partition != busy.partition and not failed:
                        failed.append(str(owned.partition))
                        owned.fail(JournalError("no answer"))
                await asyncio.sleep(5)

            monkeypatch.setattr(OpenPartition, "close_overdue", slow)
            sent += [scene.feed(P0), scene.feed(P1)]
            await asyncio.sleep(60)
            assert (1, sent) == (len(failed), scene.committed())

    doubles.run_virtually(story())


@virtually
async def test_polls_that_fail_are_repeated() -> None:
    async with Scene() as scene:
        await scene.source.assign(P0)
        await asyncio.sleep(2)
        scene.source.fails = True
        await asyncio.sleep(30)
        scene.source.fails = False
        sent = scene.feed()
        await asyncio.sleep(5)
        assert [sent] == scene.landed()


@virtually
async def test_a_fault_nobody_expected_ends_a_run_that_can_be_run_again() -> None:
    scene = Scene(clocked=False)

    async def fault() -> None:
        async with scene:
            scene.journals.open_failures.append(ZeroDivisionError("a bug"))
            await scene.source.assign(P0)
            await failing(scene, 60)

    with pytest.raises(ZeroDivisionError):
        await fault()
    assert scene.source.stopped


@virtually
async def test_an_input_that_ends_is_delivered_to_the_last_event() -> None:
    scene = Scene([*SINGLE, *BATCH], clocked=False)
    scene.running = asyncio.create_task(scene.worker.run())
    await asyncio.sleep(0.01)
    await scene.source.assign(P0)
    sent = [scene.feed(device=f"d{i}") for i in range(20)]
    await asyncio.sleep(3)
    scene.source.ended = True
    await scene.running
    assert sorted(sent * 2) == scene.committed() == sorted(scene.landed())
    assert scene.source.stopped


@virtually
async def test_an_input_that_ended_and_a_journal_that_failed_are_a_fault() -> None:
    scene = Scene(BATCH, clocked=False)
    scene.running = asyncio.create_task(scene.worker.run())
    await asyncio.sleep(0.01)
    await scene.source.assign(P0)
    scene.feed()
    await asyncio.sleep(3)
    scene.journals.commit_failures.append(JournalError("the disk is full"))
    scene.source.ended = True
    with pytest.raises(ForwarderError, match="run it again"):
        await scene.running
