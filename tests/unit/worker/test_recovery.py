"""What a worker does when partitions, polls or its membership fail, in virtual time."""

import asyncio
import itertools
from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from forwarder.errors import FencedError, ForwarderError, JournalError, StartupError
from forwarder.model import Partition
from forwarder.ops.health import Health
from forwarder.ops.metrics import Metrics
from forwarder.ops.report import WorkerReport
from forwarder.ops.reporter import PartitionFailure, Phase
from forwarder.worker.watchdog import SILENT_CLIENT_SECONDS, UNKNOWN_MEMBER_SECONDS
from tests import doubles
from tests.doubles import own
from tests.membership import P0, P1, Scene
from tests.world import virtually

MINUTE = 75.0
"""The longest pause of a refused partition."""


def damage(scene: Scene, partition: Partition = P0, what: bytes = b"damaged") -> None:
    log = scene.journals.log(partition)
    log.state[0], log.state_end = what, max(1, log.state_end)


def failures(scene: Scene) -> list[str]:
    return [entry[2] for entry in scene.notes.log if entry[0] == "failed"]


# ---------------------------------------------------------------------- refused


@virtually
async def test_a_refused_partition_is_picked_up_within_minutes_of_its_repair() -> None:
    async with Scene() as scene:
        damage(scene)
        await scene.source.assign(P0)
        sent = scene.feed()
        await asyncio.sleep(300)
        assert 4 <= len(scene.journals.opened) <= 8
        assert {P0: "refused"} == scene.phases()
        scene.journals.log(P0).state.clear()
        await asyncio.sleep(MINUTE + 5)
        assert ({P0: "open"}, [sent]) == (scene.phases(), scene.landed())


@virtually
async def test_a_refused_partition_stays_refused_while_it_is_tried_again() -> None:
    async with Scene() as scene:
        seen: set[str] = set()
        damage(scene)
        await scene.source.assign(P0)
        await asyncio.sleep(5)
        told = scene.notes.partition_phase

        def look(partition: str, phase: Phase, reason: str, remedy: str = "") -> None:
            seen.add(str(phase))
            told(partition, phase, reason, remedy)

        scene.notes.partition_phase = look  # type: ignore[method-assign]
        scene.journals.open_failures.append(JournalError("no answer"))
        await asyncio.sleep(300)
        assert {"refused"} == seen


@virtually
async def test_a_refusal_is_said_once_and_again_only_after_the_partition_was_open() -> None:
    with capture_logs() as logs:
        async with Scene() as scene:
            damage(scene)
            await scene.source.assign(P0)
            await asyncio.sleep(600)
            once = [line for line in logs if line["event"] == "partition.refused"]
            assert (1, 1) == (len(once), failures(scene).count("refused"))
            scene.journals.log(P0).state.clear()
            await asyncio.sleep(MINUTE + 5)
            damage(scene)
            scene.owned(P0).fail(JournalError("no answer"))
            await asyncio.sleep(30)
    again = [line for line in logs if line["event"] == "partition.refused"]
    assert 2 == len(again)


@virtually
async def test_a_refused_partition_is_tried_again_only_while_it_is_known_to_be_owned() -> None:
    async with Scene() as scene:
        damage(scene)
        await scene.source.assign(P0)
        await asyncio.sleep(5)
        scene.source.holds.clear()
        await asyncio.sleep(600)
        assert [P0] == scene.journals.opened
        scene.source.holds.add(P0)
        await asyncio.sleep(30)
        assert 2 == len(scene.journals.opened)


@virtually
async def test_a_refused_partition_does_not_keep_a_drain_up() -> None:
    scene = Scene()
    async with scene:
        damage(scene)
        await scene.source.assign(P0)
        await asyncio.sleep(5)
        stopped = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - stopped < 2


# ---------------------------------------------------------------------- recovery


@virtually
async def test_a_partition_is_open_within_seconds_of_the_end_of_a_long_outage() -> None:
    async with Scene() as scene:
        scene.journals.open_failures += [JournalError("away")] * 1000
        await scene.source.assign(P0)
        await asyncio.sleep(120)
        assert scene.journals.open_failures
        scene.journals.open_failures.clear()
        await asyncio.sleep(5)
        assert {P0: "open"} == scene.phases()


@virtually
async def test_a_reopened_partition_proves_that_it_recovered_though_nothing_happens() -> None:
    async with Scene() as scene:
        await scene.source.assign(P0)
        await asyncio.sleep(5)
        scene.owned(P0).fail(JournalError("no answer"))
        scene.notes.log.clear()
        await asyncio.sleep(10)
        assert ("tick", str(P0), "committed") in scene.notes.log


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (JournalError("no answer"), "opening"),
        (FencedError("another owner"), "fenced"),
        (StartupError("no certificate"), "setup"),
    ],
)
def test_failures_of_an_opening_are_counted_by_their_kind(error: ForwarderError, kind: str) -> None:
    async def story() -> None:
        async with Scene() as scene:
            scene.journals.open_failures += [error] * 2
            await scene.source.assign(P0)
            await asyncio.sleep(30)
            assert ([kind] * 2, {P0: "open"}) == (failures(scene), scene.phases())

    doubles.run_virtually(story())


@virtually
async def test_what_opens_again_and_again_and_lacks_a_right_is_tried_more_and_more_seldom() -> None:
    async with Scene() as scene:
        scene.journals.commit_failures += [StartupError("no right to write")] * 1000
        await scene.source.assign(P0)
        await asyncio.sleep(120)
        assert 5 <= len(scene.journals.opened) <= 25
        scene.journals.commit_failures.clear()


@virtually
async def test_one_and_the_same_failure_is_logged_once_a_minute() -> None:
    with capture_logs() as logs:
        async with Scene() as scene:
            scene.journals.open_failures += [
                JournalError(f"away since {n} ms") for n in range(1000)
            ]
            await scene.source.assign(P0)
            await asyncio.sleep(150)
            assert len(failures(scene)) > 50
    assert 3 == len([line for line in logs if line["event"] == "partition.reopens"])


@virtually
async def test_the_time_to_recover_runs_from_the_first_failure_to_the_next_committed_tick() -> None:
    clock = doubles.LoopClock()
    metrics = Metrics("0")
    report = WorkerReport(metrics, Health(clock), clock, {})
    report.rebalanced()
    own(report, {P0: Phase.OPENING, P1: Phase.OPEN})
    report.partition_failed(P0, PartitionFailure.RUNNING)
    await asyncio.sleep(4)
    report.partition_failed(P0, PartitionFailure.OPENING)
    report.tick(str(P1), 0.1, "committed")
    report.tick(str(P0), 0.1, "FencedError")
    await asyncio.sleep(3)
    report.tick(str(P0), 0.1, "committed")
    report.tick(str(P0), 0.1, "committed")
    shown = metrics.render().decode().splitlines()
    assert "forwarder_recovery_seconds_sum 7.0" in shown
    assert "forwarder_recovery_seconds_count 1.0" in shown
    assert "forwarder_rebalances_total 1.0" in shown
    assert 'forwarder_partition_failures_total{reason="running"} 1.0' in shown


@pytest.mark.parametrize("end", ["refused", "gone"])
def test_a_partition_that_is_refused_or_goes_away_has_no_time_to_recover(end: str) -> None:
    async def story() -> None:
        clock = doubles.LoopClock()
        metrics = Metrics("0")
        report = WorkerReport(metrics, Health(clock), clock, {})
        own(report, {P0: Phase.OPENING})
        report.partition_failed(P0, PartitionFailure.RUNNING)
        if end == "refused":
            report.partition_failed(P0, PartitionFailure.REFUSED)
            report.partition_phase(str(P0), Phase.REFUSED, "it contradicts itself")
        else:
            own(report, {})
            own(report, {P0: Phase.OPENING})
        report.tick(str(P0), 0.1, "committed")
        assert "forwarder_recovery_seconds_count 0.0" in metrics.render().decode()

    doubles.run_virtually(story())


# ---------------------------------------------------------------------- the consumer


async def ending(scene: Scene, seconds: float) -> BaseException | None:
    """Return what ended the worker within a time, None if nothing did."""
    await asyncio.wait({scene.running}, timeout=seconds)
    return scene.running.exception() if scene.running.done() else None


def fail_every_poll(scene: Scene) -> None:
    scene.source.fails = True
    scene.source.unreachable = False


def forget_the_member(scene: Scene) -> None:
    scene.source.member = False


@pytest.mark.parametrize(
    ("change", "seconds", "said"),
    [
        (fail_every_poll, SILENT_CLIENT_SECONDS, "every poll"),
        (forget_the_member, UNKNOWN_MEMBER_SECONDS, "membership"),
    ],
)
def test_a_consumer_that_does_not_mend_itself_ends_the_worker(
    change: Callable[[Scene], None], seconds: float, said: str
) -> None:
    async def story() -> None:
        scene = Scene()
        async with scene:
            await scene.source.assign(P0)
            await asyncio.sleep(2)
            change(scene)
            assert None is await ending(scene, seconds - 15)
            await ending(scene, 45)

    with pytest.raises(ForwarderError, match=said):
        doubles.run_virtually(story())


@virtually
async def test_what_only_an_operator_can_mend_ends_no_worker_and_is_told_until_it_is() -> None:
    async with Scene() as scene:
        await scene.source.assign(P0)
        await asyncio.sleep(2)
        scene.source.denied = "grant Read on group g"
        sent = scene.feed()
        assert None is await ending(scene, 3600)
        assert ("waits", "the consumer failed", "grant Read on group g") in scene.notes.log
        scene.source.denied = ""
        await asyncio.sleep(5)
        assert scene.source.position(P0) == sent + 1


@virtually
async def test_a_topic_that_is_seen_no_longer_is_told_until_it_is_seen() -> None:
    async with Scene() as scene:
        await scene.source.assign(P0)
        scene.source.unseen = ForwarderError("Kafka shows no partition of raw", "create it")
        await asyncio.sleep(2)
        assert ("waits", "Kafka shows no partition of raw", "create it") in scene.notes.log


@virtually
async def test_a_worker_that_cannot_begin_says_every_30_s_what_it_waits_for() -> None:
    async with Scene() as scene:
        tries = 0

        async def step() -> None:
            nonlocal tries
            tries += 1
            await asyncio.sleep(1)
            if tries <= 50:
                what = f"Kafka at b:1 did not tell the topics ({tries})"
                raise ForwarderError(what, "start it")

        with capture_logs() as logged:
            await scene.worker.retry_until_stopped(step)
        said = [line for line in logged if line["event"] == "kafka.unreachable"]
        assert 1 == said[0]["waited"]
        pauses = [b["waited"] - a["waited"] for a, b in itertools.pairwise(said)]
        assert pauses
        assert all(30 <= pause < 34 for pause in pauses)
        assert {"start it"} == {line["remedy"] for line in said}
        assert "b:1" in said[-1]["error"]


@virtually
async def test_neither_failed_polls_nor_a_lost_membership_end_it_while_kafka_is_away() -> None:
    async with Scene() as scene:
        await scene.source.assign(P0)
        await asyncio.sleep(2)
        scene.source.fails = True
        scene.source.member = False
        assert None is await ending(scene, 3600)
        scene.source.fails = False
        scene.source.member = True
        sent = scene.feed()
        await asyncio.sleep(20)
        assert [sent] == scene.landed()


@virtually
async def test_a_group_that_does_not_come_to_rest_is_warned_of_once() -> None:
    with capture_logs() as logs:
        async with Scene() as scene:
            for _ in range(12):
                await scene.source.assign(P0)
                await asyncio.sleep(3)
            warned = [line for line in logs if line["event"] == "group.unstable"]
            assert 1 == len(warned)
            assert 12 == scene.notes.names().count("rebalanced")


@virtually
async def test_a_rolling_deploy_is_no_restless_group() -> None:
    with capture_logs() as logs:
        async with Scene() as scene:
            for _ in range(12):
                await scene.source.assign(P0)
                await asyncio.sleep(20)
    assert [] == [line for line in logs if line["event"] == "group.unstable"]
