"""What runs beside the main loop goes on whatever it runs into, and is never dead in silence."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from forwarder import app, retry
from forwarder.errors import ForwarderError, JournalError
from forwarder.model import Partition
from forwarder.ops import chores
from forwarder.ops.chores import (
    CHORE_RESTART_SECONDS,
    CHORE_STABLE_SECONDS,
    ChoreError,
)
from forwarder.ops.reporter import Chore
from forwarder.sinks.file import FileSink
from tests import doubles
from tests.batches import batch
from tests.builders import connection as connected
from tests.membership import P0, P1, Scene
from tests.world import START_MS, virtually

Story = Callable[[], Coroutine[Any, Any, None]]


class Flaky:
    """Runs for ``seconds`` and fails, so often; then it goes on for ever."""

    def __init__(self, failures: int, seconds: float = 0.0) -> None:
        self.failures = failures
        self.seconds = seconds
        self.runs = 0

    async def run(self) -> None:
        self.runs += 1
        await asyncio.sleep(self.seconds)
        if self.runs <= self.failures:
            msg = "an answer without what was asked for"
            raise KeyError(msg)
        await asyncio.sleep(1e9)


@asynccontextmanager
async def kept(chore: Flaky, **how: Any) -> AsyncIterator[asyncio.Task[None]]:  # noqa: ANN401
    clock = doubles.LoopClock(START_MS)
    task = asyncio.create_task(
        chores.run_chore(Chore.GAUGES, chore.run, clock, lambda _: None, **how)
    )
    yield task
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@virtually
async def test_a_chore_that_failed_is_begun_anew_after_a_pause() -> None:
    chore = Flaky(failures=3)
    async with kept(chore):
        await asyncio.sleep(CHORE_RESTART_SECONDS / 2)
        assert 1 == chore.runs
        await asyncio.sleep(10 * CHORE_RESTART_SECONDS)
        assert 4 == chore.runs


@virtually
async def test_a_chore_that_goes_on_failing_is_said_once_a_minute_and_counted() -> None:
    with capture_logs() as lines:
        async with kept(Flaky(failures=10_000)) as task:
            await asyncio.sleep(5 * retry.LOG_REPEAT_SECONDS - 1)
            assert not task.done()
    assert ["gauges"] * 5 == [it["chore"] for it in lines if it["event"] == "chore.failed"]
    assert lines[-1]["failures"] > 40


@virtually
async def test_a_chore_that_ends_is_begun_anew_too() -> None:
    runs = []

    async def ends() -> None:
        runs.append(1)

    async with kept(Flaky(0)):
        clock = doubles.LoopClock(START_MS)
        task = asyncio.create_task(chores.run_chore(Chore.CLOCK, ends, clock, lambda _: None))
        await asyncio.sleep(3.5 * CHORE_RESTART_SECONDS)
        task.cancel()
    assert 4 == len(runs)


@virtually
async def test_what_a_worker_cannot_do_without_ends_it_by_name_if_it_goes_on_failing() -> None:
    async with kept(Flaky(failures=10_000), patience=60.0) as task:
        await asyncio.wait({task}, timeout=100)
        with pytest.raises(ChoreError, match="the chore gauges has failed for 60 s"):
            await task


@virtually
async def test_failures_far_apart_do_not_add_up() -> None:
    async with kept(Flaky(failures=50, seconds=2 * CHORE_STABLE_SECONDS), patience=60.0) as task:
        await asyncio.sleep(60 * CHORE_STABLE_SECONDS)
        assert not task.done()


@virtually
async def test_a_verdict_is_passed_on_at_once() -> None:
    async def judge() -> None:
        msg = "the consumer went silent"
        raise ForwarderError(msg)

    clock = doubles.LoopClock(START_MS)
    with pytest.raises(ForwarderError, match="went silent"):
        await chores.run_chore(Chore.WATCHDOG, judge, clock, lambda _: None, verdict=ForwarderError)


# ---------------------------------------------------------------------- a worker's own


@virtually
async def test_a_surprise_of_the_clock_costs_a_pause_and_no_worker() -> None:
    async with Scene() as scene:
        scene.surprising = True
        await scene.source.assign(P0)
        plain = scene.source.position
        surprises = [AssertionError("no position")] * 3

        def surprising(partition: Any) -> int | None:  # noqa: ANN401
            if surprises:
                raise surprises.pop()
            return plain(partition)

        scene.source.position = surprising  # type: ignore[method-assign]
        sent = scene.feed()
        await asyncio.sleep(40)
        assert ([sent], False) == (scene.landed(), scene.running.done())
        assert ("chore", "clock") in scene.notes.log
        scene.source.positions[P0] = 9
        await asyncio.sleep(5)
        assert 9 == scene.owned(P0).ticks.watermark(), "the clock goes round again"


@virtually
async def test_a_clock_that_stands_for_a_minute_ends_the_worker_by_name() -> None:
    scene = Scene()

    def never(_: object) -> int:
        raise AssertionError

    async def surprised() -> None:
        async with scene:
            scene.source.position = never  # type: ignore[assignment]
            await scene.source.assign(P0)
            await asyncio.wait({scene.running}, timeout=200)
            assert scene.running.done()

    with pytest.raises(ChoreError, match=r"the chore (clock|watchdog) has failed"):
        await surprised()


@virtually
async def test_what_nobody_expected_reopens_the_one_partition_and_the_others_flow() -> None:
    async with Scene() as scene:
        scene.surprising = True
        await scene.source.assign(P0, P1)
        await asyncio.sleep(2)
        scene.journals.commit_failures = [KeyError("an answer without an offset")]
        sent = scene.feed(P0)
        await asyncio.sleep(20)
        assert not scene.running.done()
        assert [sent] == sorted(set(scene.landed()))
        kinds = [entry[2] for entry in scene.notes.log if entry[0] == "failed"]
        assert ["fault"] == kinds
        scene.journals.open_failures = [LookupError("no topics in the answer")]
        scene.owned(P0).fail(JournalError("no answer"))
        await asyncio.sleep(60)
        assert {P0: "open", P1: "open"} == scene.phases()
        assert ("failed", str(P0), "fault") in scene.notes.log


@virtually
async def test_what_nobody_expected_while_a_partition_recovers_delays_it_and_nothing_else() -> None:
    async with Scene() as scene:
        scene.surprising = True
        await scene.source.assign(P0, P1)
        await asyncio.sleep(2)
        plain, answers = scene.source.is_owner, [LookupError("no members in the answer")] * 3

        async def odd(partition: Partition) -> bool:
            if partition == P0 and answers:
                raise answers.pop()
            return await plain(partition)

        async def stuck() -> None:
            msg = "it does not close"
            raise KeyError(msg)

        scene.source.is_owner = odd  # type: ignore[method-assign]
        scene.owned(P0).deliveries.close = stuck  # type: ignore[method-assign]
        scene.owned(P0).fail(JournalError("no answer"))
        sent = [scene.feed(P0), scene.feed(P1)]
        await asyncio.sleep(60)
        assert {P0: "open", P1: "open"} == scene.phases()
        assert (sent, []) == (sorted(scene.landed()), answers)


# ---------------------------------------------------------------------- sinks


async def test_a_sink_that_cannot_be_closed_leaves_no_other_open(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    closed: list[FileSink] = []

    async def close(self: FileSink) -> None:
        closed.append(self)
        if len(closed) == 2:
            msg = "no space left on device"
            raise OSError(msg)

    monkeypatch.setattr(FileSink, "close", close)
    connections = [connected(name) for name in ("a", "b", "c")]
    with pytest.raises(OSError, match="no space"):
        async with app.open_sinks(connections, tmp_path) as sinks:
            await sinks["a"].put([batch("1")])
    assert 3 == len(closed)
