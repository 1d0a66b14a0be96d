"""Membership and life cycle: start, main loop, drain, in the order of the names."""

import asyncio
import contextlib
import os
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any, Protocol

import msgspec
import structlog

from forwarder import retry
from forwarder.errors import ForwarderError, JournalError, RefusedError, StartupError
from forwarder.model import Partition
from forwarder.partition import OwnedPartition
from forwarder.sources.base import PositionLostError, Source
from forwarder.surroundings import Phase, Surroundings

log = structlog.get_logger()

POLL_MS = 200
"""How long a poll waits for records when there are none."""

SETTLE = 8.0
"""Seconds a rebalance or a drain waits for puts in flight; a put itself ends within 10."""

GRACE_MS = 1_000
"""How long after its deadline an idle window is closed by the wall clock: records that flow
close it by their own time first."""

WATCH = 10.0
"""Seconds between two looks of the watchdog."""

LASTING = 30.0
"""Seconds an opening has to last before its failure counts as the first."""

SILENCE = 60.0
"""Seconds a position may stand still below the end of the log before the worker gives up."""


class Pulse(Protocol):
    """What the worker tells health checks."""

    def beat(self) -> None:
        """Note that the loop makes progress."""

    def joined(self, partitions: Mapping[Partition, Phase]) -> None:
        """Note which partitions are owned and how far each has come."""


class Life(msgspec.Struct, frozen=True):
    """How a worker lives. ``room`` is False while reading has to wait for delivery.

    ``clocked``: the input goes on for ever, so idle windows are closed by the wall clock and
    what fails is tried again; a file has an end, and a run that fails is simply run again.
    """

    drain: float
    clocked: bool = True
    room: Callable[[], bool] = lambda: True


class Worker:
    """Own partitions, feed them, close them. One per process."""

    def __init__(self, source: Source, around: Surroundings, life: Life, pulse: Pulse) -> None:
        """Be ready for :meth:`run`."""
        self.partitions: dict[Partition, OwnedPartition] = {}
        self._source = source
        self._around = around
        self._life = life
        self._pulse = pulse
        self._keepers: dict[Partition, asyncio.Task[None]] = {}
        self._paused: set[Partition] = set()
        self._stopping = asyncio.Event()
        self._fault: BaseException | None = None

    # ------------------------------------------------------------------ the life, by name

    async def run(self) -> None:
        """Work until told to stop or the input has ended; raises what ended it otherwise."""
        await self.insist(lambda: self._source.start(self))
        chores = [
            asyncio.create_task(self._guard(chore)) for chore in (self._keep_time, self._watch)
        ]
        try:
            await self._main_loop()
        finally:
            for chore in chores:
                chore.cancel()
            await asyncio.gather(*chores, return_exceptions=True)
            await self._drain()
        if self._fault is not None:
            raise self._fault

    def stop(self) -> None:
        """Begin to drain. Caller: signals and tests."""
        self._stopping.set()

    def stopping(self) -> bool:
        """Tell whether a stop was asked for."""
        return self._stopping.is_set()

    async def pause(self, seconds: float) -> None:
        """Wait, but not beyond a stop."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    async def insist(self, step: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Try a step of the start until it succeeds or a stop is asked for.

        However long Kafka is away; raises StartupError, which no waiting will mend.
        """
        attempt = 0
        while not self.stopping():
            try:
                await self._unless_stopped(step())
            except StartupError:
                raise
            except ForwarderError as error:
                log.warning("kafka.unreachable", error=str(error))
                attempt += 1
                await self.pause(retry.REOPEN.delay(attempt, self._around.random()))
            else:
                return

    async def _unless_stopped(self, step: Coroutine[Any, Any, None]) -> None:
        """Run a step, but give it up when a stop is asked for."""
        task = asyncio.ensure_future(step)
        stop = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                await task
        finally:
            stop.cancel()
            task.cancel()
            await asyncio.gather(task, stop, return_exceptions=True)

    async def _main_loop(self) -> None:
        while not self.stopping():
            self._pulse.beat()
            self._throttle()
            try:
                polled = await self._source.poll(POLL_MS)
            except PositionLostError as lost:
                self._open_again(lost)
                continue
            except ForwarderError as error:
                if not self._life.clocked:
                    raise
                log.warning("poll.failed", error=str(error))
                await asyncio.sleep(1.0)
                continue
            # All before the next await: a partition opened anew meanwhile stands elsewhere.
            for partition, records in polled.items():
                owned = self.partitions.get(partition)
                if owned is not None:
                    owned.collect(records)
            for owned in [self.partitions[p] for p in polled if p in self.partitions]:
                await owned.catch_up()
            if not polled and self._source.exhausted():
                await self._finish()
                return

    def _open_again(self, lost: PositionLostError) -> None:
        for partition in lost.partitions:
            owned = self.partitions.get(partition)
            if owned is not None and owned.phase is Phase.OPEN:
                owned.journal_failed(JournalError(str(lost)))

    async def _finish(self) -> None:
        """Close every window of an input that has ended, and wait until all is delivered."""
        for owned in self.partitions.values():
            owned.finish()
        while not self.stopping() and not self._all_idle():
            self._pulse.beat()
            await asyncio.sleep(0.02)

    def _all_idle(self) -> bool:
        """Tell whether everything is delivered; a journal that failed stops the worker itself."""
        return all(p.phase is Phase.OPEN and p.idle() for p in self.partitions.values())

    async def _drain(self) -> None:
        """Settle every partition, then leave the group; open windows stay in Kafka.

        With Kafka away, closing its clients takes more than 5 s: that much is kept for the end.
        """
        rest = min(7.0, self._life.drain / 3)
        try:
            async with asyncio.timeout(self._life.drain - rest):
                await self._settle(max(self._life.drain - 2 * rest, rest / 2))
        except TimeoutError:
            log.warning("drain.unfinished", seconds=self._life.drain)
        await asyncio.gather(*map(self._drop, list(self._keepers)))
        await self._source.stop()

    # ------------------------------------------------------------------ ownership (R1 to R4)

    async def on_revoked(self, partitions: frozenset[Partition]) -> None:
        """Finish puts and tick, but keep producers and memory until the next assignment (R1)."""
        log.info("partitions.revoked", partitions=sorted(map(str, partitions)))
        await self._settle(SETTLE)

    async def on_assigned(self, partitions: frozenset[Partition]) -> None:
        """Go on with what came back, open what is new, drop the rest (R2, R3)."""
        log.info("partitions.assigned", partitions=sorted(map(str, partitions)))
        await asyncio.gather(*map(self._drop, set(self._keepers) - partitions))
        self._paused.clear()
        for partition in sorted(partitions):
            owned = self.partitions.get(partition)
            if owned is not None and owned.phase is Phase.OPEN:
                owned.assigned_again()
                self._source.resume_at(partition, owned.position)
            elif partition not in self._keepers or self._keepers[partition].done():
                keeper = asyncio.create_task(self._guard(partial(self._keep, partition)))
                self._keepers[partition] = keeper
        self._report_ownership()

    async def _keep(self, partition: Partition) -> None:
        """Open a partition, and again after every failure, for as long as it is owned."""
        attempt, opened = 0, float("inf")
        while True:
            owned = OwnedPartition(partition, self._around)
            self.partitions[partition] = owned
            try:
                await self._around.journals.prepare(frozenset({partition}))
                offset = await owned.open()
                self._source.resume_at(partition, offset)
                self._paused.discard(partition)
                self._report_ownership()
                opened = self._around.clock.steady()
                await self._run_until_failure(owned)
            except RefusedError as refusal:
                log.error("partition.refused", partition=str(partition), reason=str(refusal))  # noqa: TRY400
                await owned.close()
                owned.phase = Phase.REFUSED
                self._report_ownership()
                # Once more: while it was being closed another's report took it for opening.
                reporter = self._around.reporter
                reporter.partition_phase(str(partition), Phase.REFUSED, str(refusal))
                return
            except ForwarderError as error:
                if not self._life.clocked:
                    what = f"{error}; mend that and run it again"
                    raise ForwarderError(what) from error
                log.warning("partition.reopens", partition=str(partition), error=str(error))
                await self._close_failed(owned)
                # One that fails at its first tick every time must not do so all the time.
                if self._around.clock.steady() - opened > LASTING:
                    attempt = 0
                if isinstance(error, JournalError):
                    await self._until_confirmed(partition)
            attempt, opened = attempt + 1, float("inf")
            await asyncio.sleep(retry.REOPEN.delay(attempt, self._around.random()))

    async def _run_until_failure(self, owned: OwnedPartition) -> None:
        ticks = asyncio.create_task(owned.run())
        ends: list[asyncio.Future[Any]] = [ticks, owned.failed]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if owned.failed.done():
                raise owned.failed.result()
            ticks.result()
        finally:
            ticks.cancel()
            await asyncio.gather(ticks, return_exceptions=True)

    async def _close_failed(self, owned: OwnedPartition) -> None:
        """Stop reading at once: what is read now would be lost with the memory."""
        self._source.pause(owned.partition)
        await owned.close()
        self._report_ownership()

    async def _until_confirmed(self, partition: Partition) -> None:
        """Wait until the coordinator, asked after the failure, says this member holds it (R4)."""
        attempt = 0
        while not await self._owns(partition):
            attempt += 1
            await asyncio.sleep(retry.REOPEN.delay(attempt, self._around.random()))

    async def _owns(self, partition: Partition) -> bool:
        try:
            return await self._source.owns(partition)
        except ForwarderError as error:
            log.warning("ownership.unknown", partition=str(partition), error=str(error))
            return False

    async def _drop(self, partition: Partition) -> None:
        keeper = self._keepers.pop(partition, None)
        if keeper is not None:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)
        owned = self.partitions.pop(partition, None)
        if owned is not None:
            await owned.close()

    async def _settle(self, seconds: float) -> None:
        open_ones = [p for p in self.partitions.values() if p.phase is Phase.OPEN]
        await asyncio.gather(*(p.settle(seconds) for p in open_ones))

    def _report_ownership(self) -> None:
        # A keeper just started has made no partition yet: without it the worker looked ready.
        phases = dict.fromkeys(self._keepers, Phase.OPENING)
        self._pulse.joined(phases | {p: owned.phase for p, owned in self.partitions.items()})

    # ------------------------------------------------------------------ chores

    def _throttle(self) -> None:
        """Pause what has no room for more, and resume it; polling itself never stops (C2)."""
        room = self._life.room()
        for partition, owned in self.partitions.items():
            if owned.phase is not Phase.OPEN:
                continue
            wanted = owned.crowded() or not room
            if wanted and partition not in self._paused:
                self._paused.add(partition)
                self._source.pause(partition)
            elif not wanted and partition in self._paused:
                self._paused.discard(partition)
                self._source.resume(partition)

    async def _keep_time(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            self._pulse.beat()
            if self._life.clocked:
                await asyncio.gather(*map(self._expire_idle, list(self.partitions.values())))

    async def _expire_idle(self, owned: OwnedPartition) -> None:
        """Close windows by the wall clock, if everything up to now has been collected (C1)."""
        if owned.phase is not Phase.OPEN or owned.partition in self._paused:
            return
        now = self._around.clock.wall_ms()
        deadline = owned.pipeline.next_deadline()
        if deadline is None or deadline + GRACE_MS > now:
            return
        end = await self._end(owned.partition)
        at = self._source.position(owned.partition)
        if end is not None and at is not None and at >= end:
            await owned.expire(now - GRACE_MS)

    async def _end(self, partition: Partition) -> int | None:
        try:
            return await self._source.end(partition)
        except ForwarderError:
            return None  # the broker is away: its records may be too

    async def _watch(self) -> None:
        """End the worker if its consumer went silent; never because Kafka is away."""
        stuck: dict[Partition, tuple[int, float]] = {}
        while self._life.clocked:
            await asyncio.sleep(WATCH)
            now = self._around.clock.steady()
            for partition, owned in list(self.partitions.items()):
                at = self._source.position(partition)
                end = await self._end(partition)
                flowing = owned.phase is Phase.OPEN and partition not in self._paused
                if not flowing or at is None or end is None or at >= end:
                    stuck.pop(partition, None)
                    continue
                since = stuck.get(partition, (at, now))
                stuck[partition] = since if since[0] == at else (at, now)
                if now - stuck[partition][1] > SILENCE:
                    what = (
                        f"{partition} stands at offset {at} for {SILENCE:.0f} s, its log ends "
                        f"at {end}: the consumer went silent"
                    )
                    raise ForwarderError(what)

    async def _guard(self, chore: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a chore; a fault nobody expected ends the worker, which then starts anew."""
        try:
            await chore()
        except Exception as error:
            if not isinstance(error, ForwarderError):
                log.exception("worker.fault")
            self._fault = error
            self._stopping.set()


def leave_at_once() -> None:
    """End the process without cleaning up: the second signal."""
    os._exit(1)
