"""What stands still is told with its reason, and what only looks so is not."""

import asyncio
import json
from collections.abc import Callable, Collection, Mapping
from typing import Any

import pytest

from forwarder.errors import JournalError
from forwarder.journal.commit import metadata_hint
from forwarder.journal.contract import Committed, Tick
from forwarder.model import LogEnds, OpenTransaction, Partition
from forwarder.ops.health import Health
from forwarder.ops.metrics import Metrics
from forwarder.ops.report import WorkerReport
from forwarder.ops.reporter import Phase
from forwarder.ops.stall import STALL_REMEDIES, STALL_TEXTS, Stall, StallReason
from forwarder.worker.watchdog import (
    SILENT_CLIENT_SECONDS,
    STALL_AFTER_SECONDS,
    UNKNOWN_MEMBER_SECONDS,
    WATCH_SECONDS,
)
from tests import doubles, membership
from tests.doubles import own
from tests.membership import P0, P1, Scene
from tests.world import virtually

KNOWN = 60.0
"""Seconds within which it has to be told."""


def ahead(scene: Scene) -> None:
    """Let the log of P0 go on by 61 records that are not stable."""
    scene.source.high[P0] = len(scene.source.logs.get(P0, [])) + 61


@virtually
async def test_a_transaction_that_stays_open_is_told_within_a_minute_and_its_end_too() -> None:
    async with Scene() as scene:
        await scene.source.assign(P0, P1)
        scene.feed()
        ahead(scene)
        await asyncio.sleep(KNOWN)
        assert {str(P0): "open_transaction"} == scene.notes.stalls
        scene.source.high.clear()
        await asyncio.sleep(WATCH_SECONDS + 1)
        assert {} == scene.notes.stalls


@virtually
async def test_a_position_that_moves_stands_nowhere_however_far_behind_it_is() -> None:
    async with Scene() as scene:
        await scene.source.assign(P0)
        for _ in range(30):
            scene.feed()
            ahead(scene)
            await asyncio.sleep(STALL_AFTER_SECONDS / 3)
        assert "stalled" not in scene.notes.names()


def keep_no_room(scene: Scene) -> None:
    scene.has_room = False
    scene.source.stable[P0] = 9


def be_crowded(scene: Scene) -> None:
    scene.owned(P0).is_journal_behind = lambda: True  # type: ignore[method-assign]
    scene.source.stable[P0] = 9


def owe_a_base(scene: Scene) -> None:
    snapshots = scene.owned(P0).ticks.snapshots  # else it takes a race
    snapshots.is_restarting = lambda: True  # type: ignore[method-assign]
    scene.source.stable[P0] = 9


def be_short_of_memory(scene: Scene) -> None:
    async def never(_: object) -> bool:
        return False

    scene.worker._memory.relieve = never  # type: ignore[assignment]  # noqa: SLF001
    scene.source.stable[P0] = 9


def stop_the_intake(scene: Scene) -> None:
    scene.owned(P0).stop_intake(1)
    scene.source.stable[P0] = 9
    scene.source.logs[P0] = []


def fail_to_open(scene: Scene) -> None:
    scene.journals.open_failures = [JournalError("no answer")] * 1000
    scene.owned(P0).fail(JournalError("no answer"))
    scene.source.stable[P0] = 9


def refuse(scene: Scene) -> None:
    log = scene.journals.log(P0)
    log.state[len(log.state) + 9] = b"no state"
    scene.owned(P0).fail(JournalError("no answer"))
    scene.source.stable[P0] = 9


def lose_the_position(scene: Scene) -> None:
    scene.source.position = lambda _: None  # type: ignore[assignment]
    scene.source.stable[P0] = 9


@pytest.mark.parametrize(
    ("disturb", "reason"),
    [
        (keep_no_room, StallReason.DELIVERY_BEHIND),
        (be_crowded, StallReason.JOURNAL_BEHIND),
        (owe_a_base, StallReason.JOURNAL_BEHIND),
        (be_short_of_memory, StallReason.MEMORY_SHORT),
        (stop_the_intake, StallReason.INTAKE_STOPPED),
        (fail_to_open, StallReason.OPENING),
        (refuse, StallReason.REFUSED),
        (lose_the_position, StallReason.REBALANCE),
        (ahead, StallReason.OPEN_TRANSACTION),
    ],
)
def test_whatever_holds_a_partition_is_told_by_name(
    disturb: Callable[[Scene], None], reason: StallReason
) -> None:
    async def story() -> None:
        async with Scene() as scene:
            await scene.source.assign(P0)
            await asyncio.sleep(2)
            disturb(scene)
            await asyncio.sleep(KNOWN)
            assert {str(P0): str(reason)} == scene.notes.stalls

    doubles.run_virtually(story())


def committed_pause(scene: Scene) -> str:
    return metadata_hint(scene.journals.log(P0).commit).paused


@virtually
async def test_what_only_the_owner_knows_is_committed_and_taken_back() -> None:
    async with Scene() as scene:
        await scene.source.assign(P0)
        await asyncio.sleep(2)
        be_crowded(scene)
        await asyncio.sleep(KNOWN)
        assert "journal_behind" == committed_pause(scene)
        scene.owned(P0).is_journal_behind = lambda: False  # type: ignore[method-assign]
        scene.source.positions[P0] = 9
        await asyncio.sleep(2 * WATCH_SECONDS)
        assert "" == committed_pause(scene)


@virtually
async def test_who_leaves_a_partition_says_no_more_what_it_waited_for() -> None:
    async with Scene() as scene:
        await scene.source.assign(P0)
        await asyncio.sleep(2)
        be_crowded(scene)
        await asyncio.sleep(KNOWN)
        assert "journal_behind" == committed_pause(scene)
        await scene.worker.on_revoked(frozenset({P0}))
        assert "" == committed_pause(scene)
        await asyncio.sleep(2 * WATCH_SECONDS)
        assert "" == committed_pause(scene), "as long as it may be another's"
        await scene.source.assign(P0)
        await asyncio.sleep(KNOWN)
        assert "journal_behind" == committed_pause(scene)
    assert "" == committed_pause(scene)


@virtually
async def test_a_transaction_that_ends_after_long_gives_the_client_its_time_to_fetch() -> None:
    async with Scene() as scene:
        await scene.source.assign(P0)
        ahead(scene)
        await asyncio.sleep(10 * SILENT_CLIENT_SECONDS)
        scene.source.stable[P0] = 61
        await asyncio.sleep(SILENT_CLIENT_SECONDS / 2)
        scene.source.positions[P0] = 61
        await asyncio.sleep(SILENT_CLIENT_SECONDS)
        assert not scene.running.done()


@virtually
async def test_a_partition_whose_end_kafka_does_not_tell_is_told_and_ends_no_worker() -> None:
    async with Scene() as scene:
        await scene.source.assign(P0, P1)
        scene.source.silent.add(P0)
        await asyncio.sleep(KNOWN)
        assert {str(P0): "unavailable"} == scene.notes.stalls
        await asyncio.sleep(10 * SILENT_CLIENT_SECONDS)
        assert not scene.running.done()
        scene.source.silent.clear()
        await asyncio.sleep(2 * WATCH_SECONDS)
        assert {} == scene.notes.stalls


@virtually
async def test_what_moves_while_kafka_takes_long_to_answer_stands_nowhere() -> None:
    async with Scene() as scene:
        await scene.source.assign(P0)
        plain = scene.source.ends

        async def slow(partitions: Collection[Partition]) -> Mapping[Partition, LogEnds]:
            await asyncio.sleep(STALL_AFTER_SECONDS + 5)
            return await plain(partitions)

        scene.source.ends = slow  # type: ignore[method-assign]
        for _ in range(30):
            scene.feed()
            ahead(scene)
            await asyncio.sleep(STALL_AFTER_SECONDS / 3)
        assert "stalled" not in scene.notes.names()


@virtually
async def test_a_rebalance_that_lasts_is_told_as_one() -> None:
    async with Scene() as scene:
        await scene.source.assign(P0)
        await asyncio.sleep(2)
        await scene.worker.on_revoked(frozenset({P0}))
        scene.source.stable[P0] = 9
        await asyncio.sleep(SILENT_CLIENT_SECONDS - 2 * WATCH_SECONDS)
        assert {str(P0): "rebalance"} == scene.notes.stalls
        await scene.source.assign(P0)
        scene.source.stable.clear()
        await asyncio.sleep(2 * WATCH_SECONDS)
        assert {} == scene.notes.stalls


@virtually
async def test_a_start_that_waited_long_for_kafka_leaves_the_group_its_time() -> None:
    scene = Scene()
    await asyncio.sleep(2 * UNKNOWN_MEMBER_SECONDS)
    async with scene:
        scene.source.member = False
        await asyncio.sleep(UNKNOWN_MEMBER_SECONDS - WATCH_SECONDS)
        assert not scene.running.done()
        scene.source.member = True


# ---------------------------------------------------------------------- markers at the end


@virtually
async def test_the_commit_goes_past_markers_at_the_end_of_an_input_that_went_idle() -> None:
    async with Scene() as scene:
        await scene.source.assign(P0)
        scene.feed()
        await asyncio.sleep(3)
        assert 1 == scene.owned(P0).ticks.watermark()
        scene.source.positions[P0] = 4  # the client stepped over what holds no record
        await asyncio.sleep(3)
        log = scene.journals.log(P0)
        assert log.commit is not None
        assert (4, 4) == (log.commit.offset, scene.owned(P0).ticks.watermark())


@virtually
async def test_nothing_is_stepped_over_while_the_intake_is_stopped() -> None:
    async with Scene() as scene:
        await scene.source.assign(P0)
        await asyncio.sleep(2)
        owned = scene.owned(P0)
        owned.stop_intake(1)
        scene.source.positions[P0] = 900
        await asyncio.sleep(3)
        assert 0 == owned.position
        owned.stop_intake(0)
        owned.ticks.end.close()
        owned.advance_past_markers(900)
        assert 0 == owned.position


# ---------------------------------------------------------------------- what people read


def test_every_reason_has_a_text_and_a_remedy() -> None:
    assert set(StallReason) == set(STALL_TEXTS) == set(STALL_REMEDIES)


def test_readyz_says_whose_transaction_is_open_since_when_and_stays_ready() -> None:
    async def story() -> dict[str, Any]:
        health = Health(doubles.LoopClock())
        own(health, {P0: Phase.OPEN})
        found = OpenTransaction(4711, 1_700_000_000_000, "billing-7", 900_000)
        stall = Stall(StallReason.OPEN_TRANSACTION, 1_700_000_030_000, 10, 72, found)
        health.stalled({str(P0): stall})
        return health.described()

    described = doubles.run_virtually(story())
    assert described["ready"]
    told = described["partitions"][str(P0)]["stalled"]
    assert ("open_transaction", 10, 72) == (
        told["reason"], told["position"], told["high_watermark"]
    )  # fmt: skip
    for part in ("4711", "billing-7", "2023-11-14T22:13:20+00:00", "900 s"):
        assert part in told["what"]
    assert json.dumps(described)


# ---------------------------------------------------------------------- open, and nothing committed


@pytest.mark.parametrize("seconds", [0.02, 30.0])
def test_a_partition_whose_every_tick_fails_is_told_and_not_open_until_one_commits(
    seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It opens each time, and reads to the end of its input each time."""
    failing = True
    plain = membership.Journal.commit

    async def commit(self: membership.Journal, tick: Tick) -> Committed:
        if failing:
            await asyncio.sleep(seconds)
            what = "too few replicas"
            raise JournalError(what, "start the brokers")
        return await plain(self, tick)

    async def story() -> None:
        nonlocal failing
        async with Scene() as scene:
            health = shown(scene)
            await scene.source.assign(P0)
            await feeding(scene, seconds + KNOWN + WATCH_SECONDS)
            for _ in range(600):
                assert {str(P0): "opening"} == scene.notes.stalls
                told = health.described()["partitions"][str(P0)]
                assert ("opening", "too few replicas") == (told["state"], told["reason"])
                assert "start the brokers" in told["remedy"]
                assert ("opening", False) == (told["stalled"]["reason"], health.ready())
                await feeding(scene, 1)
            failing = False
            await asyncio.sleep(60)
            assert ({}, {P0: "open"}, True) == (scene.notes.stalls, scene.phases(), health.ready())
            assert list(range(scene.fed)) == sorted(set(scene.landed()))
            assert {"state", "since"} == health.described()["partitions"][str(P0)].keys()

    monkeypatch.setattr(membership.Journal, "commit", commit)
    doubles.run_virtually(story())


async def feeding(scene: Scene, seconds: float) -> None:
    for _ in range(round(seconds)):
        scene.feed()
        await asyncio.sleep(1)


def shown(scene: Scene) -> Health:
    """Return what ``/readyz`` would show of a scene from now on."""
    health = Health(scene.clock)
    report = WorkerReport(Metrics("0"), health, scene.clock, {})
    for name in (
        "partition_phase", "partitions_owned", "stalled", "partition_failed", "tick", "lane_status",
    ):  # fmt: skip
        noted, told = getattr(scene.notes, name), getattr(report, name)

        def both(
            *what: object, one: Callable[..., None] = noted, other: Callable[..., None] = told
        ) -> None:
            one(*what)
            other(*what)

        setattr(scene.notes, name, both)
    return health
