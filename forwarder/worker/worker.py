"""Membership and life cycle: start, main loop, drain, in the order of the names."""

import asyncio
import contextlib
import os
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from typing import Any

import msgspec
import structlog

from forwarder import retry
from forwarder.errors import ForwarderError, JournalError, StartupError
from forwarder.kafka import cancellation
from forwarder.model import Partition
from forwarder.ops import log_writer
from forwarder.ops.reporter import Chore, PartitionFailure, Phase
from forwarder.ops.stall import StallReason
from forwarder.sources.contract import PositionLostError, Source
from forwarder.worker import chores
from forwarder.worker.circuit_breaker import Intake
from forwarder.worker.context import Surroundings
from forwarder.worker.partition import OwnedPartition
from forwarder.worker.supervisor import SAID_AGAIN, Keeper, unforeseen
from forwarder.worker.watchdog import Unrest, Watchdog
from forwarder.worker.window_memory import WindowMemory

log = structlog.get_logger()

POLL_MS = 200
"""How long a poll waits for records when there are none."""

SETTLE = 8.0
"""Seconds a rebalance or a drain waits for puts in flight; a put itself ends within 10."""

GRACE_MS = 1_000
"""How long after its deadline an idle window is closed by the wall clock: records that flow
close it by their own time first."""

WAITING = 30.0
"""How often a worker that cannot begin says what it waits for, in seconds."""

PATIENCE = 60.0
"""Seconds for which the clock or the watchdog may fail again and again."""


LAST_WORDS = 0.5
"""Seconds that a worker told to leave at once waits for what it has logged to be written."""


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

    def __init__(self, source: Source, around: Surroundings, life: Life) -> None:
        """Be ready for :meth:`run`."""
        self.partitions: dict[Partition, OwnedPartition] = {}
        self._source = source
        self._around = around
        self._life = life
        self._reporter = around.reporter
        self._keepers: dict[Partition, Keeper] = {}
        self._paused: dict[Partition, StallReason] = {}
        self._memory = WindowMemory(around.window_memory)
        self._relieved = True
        self._intake = Intake(source, around)
        self._watchdog = Watchdog(source, around, self)
        self._stopping = asyncio.Event()
        self._fault: BaseException | None = None
        self._said = retry.Repeats(SAID_AGAIN)
        self._fails_since: float | None = None
        self._blocked = False
        self._leaving = False
        self._between = False
        self._unrest = Unrest(around.clock)

    # ------------------------------------------------------------------ the life, by name

    async def run(self) -> None:
        """Work until told to stop or the input has ended; raises what ended it otherwise."""
        await self.insist(lambda: self._source.start(self))
        # A file goes on only with deliveries and has an end: nothing stands still by the clock.
        watched = {Chore.WATCHDOG: self._watchdog.keep} if self._life.clocked else {}
        tasks = [
            asyncio.create_task(self._guard(partial(self._keep_up, name, chore)))
            for name, chore in {Chore.CLOCK: self._keep_time, **watched}.items()
        ]
        try:
            await self._main_loop()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
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
        attempt, began = 0, self._around.clock.steady()
        said = retry.Repeats(WAITING)
        while not self.stopping():
            try:
                await self._unless_stopped(step())
            except StartupError:
                raise
            except ForwarderError as error:
                self._reporter.waits(error.what, error.remedy)
                if said.news("", now := self._around.clock.steady()):
                    waited = round(now - began)
                    log.warning(
                        "kafka.unreachable", error=error.what, remedy=error.remedy, waited=waited
                    )
                attempt += 1
                await self.pause(retry.REOPEN.delay(attempt, self._around.random()))
            else:
                self._reporter.waits("", "")
                return

    async def _unless_stopped(self, step: Coroutine[Any, Any, None]) -> None:
        """Run a step, but give it up when a stop is asked for."""
        task = asyncio.ensure_future(step)
        stop = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
            if task.done() and not task.cancelled():
                await task
            elif task.done():
                what = "the Kafka client cancelled what it was asked for"
                raise ForwarderError(what)
        finally:
            stop.cancel()
            task.cancel()
            await asyncio.gather(task, stop, return_exceptions=True)

    async def _main_loop(self) -> None:
        while not self.stopping():
            self._reporter.beat()
            self._throttle()
            try:
                polled = await self._source.poll(POLL_MS)
            except PositionLostError as lost:
                self._open_again(lost)
                continue
            except ForwarderError as error:
                if not self._life.clocked:
                    raise
                self._note_failure(error)
                await asyncio.sleep(1.0)
                continue
            self._note_success()
            # All before the next await: a partition opened anew meanwhile stands elsewhere.
            for partition, records in polled.items():
                owned = self.partitions.get(partition)
                if owned is not None and not self._intake.takes(owned, records):
                    owned.collect(records)
            await self._intake.attend(self.partitions)
            await self._catch_up(polled)
            await self._relieve_memory()
            if not polled and self._source.exhausted():
                await self._finish()
                return

    async def _catch_up(self, polled: Iterable[Partition]) -> None:
        """Close what the poll left open, and make documents of what closed before."""
        for partition, owned in list(self.partitions.items()):
            if partition in polled or owned.is_behind():
                await owned.catch_up()

    def _note_failure(self, error: ForwarderError) -> None:
        """Say why a poll failed, and since when they do; a worker made anew may do better then."""
        self._warn("poll.failed", error)
        self._reporter.waits(error.what, error.remedy)
        self._blocked = error.lasting
        if error.lasting:
            self._fails_since = None  # whoever starts anew would fail alike
        elif self._fails_since is None:
            self._fails_since = self._around.clock.steady()

    def _note_success(self) -> None:
        """Say what of the input is not there to be polled, if anything."""
        self._fails_since, self._blocked = None, False
        missing = self._source.complaint()
        if missing is None:
            self._reporter.waits("", "")
        else:
            self._warn("input.missing", missing)
            self._reporter.waits(missing.what, missing.remedy)

    async def _relieve_memory(self) -> None:
        """Close windows early if they take too much memory; reading waits if that has to wait."""
        self._relieved = await self._memory.relieve(list(self.partitions.values()))

    def _open_again(self, lost: PositionLostError) -> None:
        for partition in lost.partitions:
            owned = self.partitions.get(partition)
            if owned is not None and owned.phase is Phase.OPEN:
                error = JournalError(lost.what, lost.remedy, lasting=lost.lasting)
                owned.journal_failed(error)

    async def _finish(self) -> None:
        """Close every window of an input that has ended, and wait until all is delivered."""
        for owned in self.partitions.values():
            owned.finish()
        while not self.stopping() and not self._all_idle():
            self._reporter.beat()
            for owned in self.partitions.values():
                await owned.catch_up()
            await asyncio.sleep(0.02)

    def _all_idle(self) -> bool:
        """Tell whether everything is delivered; a journal that failed stops the worker itself."""
        return all(p.phase is Phase.OPEN and p.idle() for p in self.partitions.values())

    async def _drain(self) -> None:
        """Settle every partition, then leave the group; open windows stay in Kafka.

        With Kafka away, closing its clients takes more than 5 s: that much is kept for the end.
        """
        self._leaving = True
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
        if self._has_to_leave():
            return  # until it has left: what was opened or released now would outlive the drain
        self._reporter.rebalanced()
        self._unrest.note()
        self._between = False
        await asyncio.gather(*map(self._drop, set(self._keepers) - partitions))
        if self._has_to_leave():
            return  # since then: what is dropped now must not be opened again beside that
        self._paused.clear()
        self._intake.start_over()
        for partition in sorted(partitions):
            owned = self.partitions.get(partition)
            if partition not in self._keepers:
                self._keep(partition)
            elif owned is None:
                self._keepers[partition].hurry()
            else:
                await self._alone(owned, self._go_on(owned))
        self.changed()

    def _has_to_leave(self) -> bool:
        """Tell whether the drain has begun: it may begin within any await."""
        return self._leaving

    async def _go_on(self, owned: OwnedPartition) -> None:
        """Use what a partition that came back holds in memory; hurry where it is not open (R3)."""
        owned.assigned_again()
        if owned.phase is Phase.OPEN:
            self._source.resume_at(owned.partition, owned.position)
        else:
            self._keepers[owned.partition].hurry()

    async def _alone(self, owned: OwnedPartition, step: Coroutine[Any, Any, None]) -> None:
        """Take a step of a rebalance for one partition; a fault nobody expected ends its opening.

        Raised out of a callback of the group it would end the worker, and all its partitions.
        """
        try:
            await step
        except cancellation.FAULTS as fault:
            if not self._life.clocked or cancellation.is_ending(fault):
                raise
            now = self._around.clock.steady()
            owned.journal_failed(unforeseen(owned.partition, fault, self._said, now))

    def _keep(self, partition: Partition) -> None:
        lasts = self._life.clocked
        keeper = Keeper(partition, self._source, self._around, self, lasts=lasts)
        keeper.task = asyncio.create_task(self._guard(keeper.keep))
        self._keepers[partition] = keeper

    def stands(self, owned: OwnedPartition) -> None:
        """Take note of the opening that counts. Caller: keepers, as for the next three."""
        self.partitions[owned.partition] = owned
        if self._between:
            owned.hold()

    def opened(self, owned: OwnedPartition, offset: int) -> None:
        """Read on from ``offset``."""
        self._source.resume_at(owned.partition, offset)
        self._paused.pop(owned.partition, None)
        self.changed()

    def changed(self) -> None:
        """Report which partitions are owned, and how far each has come."""
        self._reporter.partitions_owned({p: keeper.phase for p, keeper in self._keepers.items()})

    def failed(self, partition: Partition, reason: PartitionFailure) -> None:
        """Count a failure."""
        self._reporter.partition_failed(partition, reason)

    async def _drop(self, partition: Partition) -> None:
        keeper = self._keepers.pop(partition, None)
        if keeper is not None and keeper.task is not None:
            keeper.task.cancel()
            await asyncio.gather(keeper.task, return_exceptions=True)
        owned = self.partitions.get(partition)
        if owned is not None:  # what waits in it counts here until it is released
            await self._alone(owned, owned.close())
            self.partitions.pop(partition, None)

    async def _settle(self, seconds: float) -> None:
        """Finish what is in flight; what is only opening must not begin a put meanwhile."""
        self._between = True
        open_ones = [p for p in self.partitions.values() if p.phase is Phase.OPEN]
        for owned in self.partitions.values():
            owned.hold()
        await asyncio.gather(*(self._alone(p, p.settle(seconds)) for p in open_ones))

    def _warn(self, event: str, error: ForwarderError) -> None:
        if self._said.news(f"{event} {error}", self._around.clock.steady()):
            log.warning(event, error=error.what, remedy=error.remedy)

    # ------------------------------------------------------------------ what the watchdog asks

    def phase(self, partition: Partition) -> Phase:
        """Return how far a partition has come; a refused one stays so while it is retried."""
        keeper = self._keepers.get(partition)
        return Phase.CLOSED if keeper is None else keeper.phase

    def paused(self, partition: Partition) -> StallReason | None:
        """Return why a partition is not read just now."""
        return self._paused.get(partition)

    def rebalancing(self) -> bool:
        """Tell whether the group has taken the partitions back and not given any out again."""
        return self._between

    def failing_since(self) -> float | None:
        """Return since when every poll has failed, by the steady clock."""
        return self._fails_since

    def is_blocked(self) -> bool:
        """Tell whether polls fail for what only an operator can mend."""
        return self._blocked

    # ------------------------------------------------------------------ chores

    def _throttle(self) -> None:
        """Pause what has no room for more, and resume it; polling itself never stops (C2)."""
        room = self._life.room()
        for partition, owned in self.partitions.items():
            if owned.phase is not Phase.OPEN:
                continue
            reason = None  # nearly always, and this is asked before every poll
            if owned.intake_stopped or not (room and self._relieved and owned.takes_more()):
                reason = self._hold(owned, room=room)
            if reason is not None:
                if partition not in self._paused:
                    self._source.pause(partition)
                self._paused[partition] = reason
            elif self._paused and self._paused.pop(partition, None) is not None:
                self._source.resume(partition)

    def _hold(self, owned: OwnedPartition, *, room: bool) -> StallReason | None:
        """Return why an open partition must not be read now; None: it may."""
        if not owned.takes_more():
            return StallReason.JOURNAL_BEHIND
        if not self._relieved:
            return StallReason.MEMORY_SHORT
        if not room:
            return StallReason.DELIVERY_BEHIND
        return StallReason.INTAKE_STOPPED if self._intake.holds(owned) else None

    async def _keep_time(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            self._reporter.beat()
            if self._life.clocked:
                self._step_over()
                await asyncio.gather(*map(self._expire_idle, list(self.partitions.values())))

    def _step_over(self) -> None:
        """Take note of markers at the end of an input, so that the commit goes past them, too.

        Between a poll's return and the collecting of its records nothing waits: below the position
        that the source names here, everything is collected.
        """
        for partition, owned in self.partitions.items():
            at = self._source.position(partition)
            if at is not None:
                owned.step_over(at)

    async def _expire_idle(self, owned: OwnedPartition) -> None:
        """Close windows by the wall clock, if everything up to now has been collected (C1)."""
        if owned.phase is not Phase.OPEN or owned.partition in self._paused:
            return
        if owned.intake_stopped:
            return  # what a sample reaches is not collected
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

    async def _keep_up(self, name: Chore, chore: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Keep a chore going; without its clock or its watchdog the worker is not one for long."""
        patience, failed = PATIENCE if self._life.clocked else 0.0, self._reporter.chore_failed
        clock = self._around.clock
        await chores.keep(name, chore, clock, failed, patience=patience, verdict=ForwarderError)

    async def _guard(self, chore: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a chore; what it raises ends the worker, which then starts anew."""
        try:
            await chore()
        except cancellation.FAULTS as error:
            if cancellation.is_ending(error):
                raise
            if not isinstance(error, ForwarderError):
                log.exception("worker.fault")
            what = "a task that the worker cannot do without was cancelled, by none of its own"
            self._fault = error if isinstance(error, Exception) else ForwarderError(what)
            self._stopping.set()


def leave_at_once() -> None:
    """End the process without cleaning up: the second signal."""
    log_writer.flush(LAST_WORDS)
    os._exit(1)
