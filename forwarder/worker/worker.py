"""Membership and life cycle: start, main loop, drain, in the order of the names."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import Any

import msgspec
import structlog

from forwarder import cancellation, retry
from forwarder.errors import ForwarderError, JournalError, StartupError
from forwarder.model import Partition
from forwarder.ops import chores
from forwarder.ops.reporter import Chore
from forwarder.ops.stall import StallReason
from forwarder.sources.contract import PositionLostError, Source
from forwarder.worker.circuit_breaker import CircuitBreaker
from forwarder.worker.context import WorkerContext
from forwarder.worker.memory import WindowMemory, YoungCollections
from forwarder.worker.partition import OpenPartition
from forwarder.worker.supervisor import Membership, PartitionSupervisor
from forwarder.worker.watchdog import RebalanceAlarm, Watchdog

log = structlog.get_logger()

POLL_MS = 200
"""How long a poll waits for records when there are none."""

SETTLE_SECONDS = 8.0
"""Seconds a rebalance or a drain waits for puts in flight; a put itself ends within 10."""

IDLE_CLOSE_GRACE_MS = 1_000
"""How long after its deadline an idle window is closed by the wall clock: records that flow
close it by their own time first."""

WAIT_LOG_SECONDS = 30.0
"""How often a worker that cannot begin says what it waits for, in seconds."""

CHORE_PATIENCE_SECONDS = 60.0
"""Seconds for which the clock or the watchdog may fail again and again."""

CLOSE_RESERVE_SECONDS = 7.0
"""Seconds of a drain that are kept for the end: with Kafka away, closing its clients takes 5."""

FINISH_PAUSE_SECONDS = 0.05
"""Seconds between two looks whether everything of an input that has ended is delivered."""


class WorkerMode(msgspec.Struct, frozen=True):
    """How a worker runs. ``drain``: seconds it may take to leave.

    ``wall_clocked``: the input goes on for ever, so idle windows are closed by the wall clock and
    what fails is tried again; a file has an end, and a run that fails is simply run again.
    ``has_room`` is asked before every poll: False while reading has to wait for delivery.
    """

    drain: float
    wall_clocked: bool = True
    has_room: Callable[[], bool] = lambda: True


class Worker:
    """Own partitions, feed them, close them. One per process. Caller: ``app``."""

    def __init__(self, source: Source, context: WorkerContext, mode: WorkerMode) -> None:
        """Create; :meth:`run` does the work."""
        self.membership = Membership()
        self._supervisors = self.membership.supervisors
        self._tasks: dict[Partition, asyncio.Task[None]] = {}
        self._source = source
        self._context = context
        self._clock = context.clock
        self._reporter = context.reporter
        self._mode = mode
        self._memory = WindowMemory(context.limits.window_memory)
        self._relieved = True
        self._young_collections = YoungCollections()
        self._breaker = CircuitBreaker(source, context)
        self._watchdog = Watchdog(source, context, self.membership)
        self._rebalance_alarm = RebalanceAlarm(context.clock)
        self._stop_requested = asyncio.Event()
        self._fault: BaseException | None = None
        self._repeats = retry.RepeatSuppressor(retry.LOG_REPEAT_SECONDS)
        self._leaving = False

    # ------------------------------------------------------------------ the life, by name

    async def run(self) -> None:
        """Work until told to stop or the input has ended; raises what ended it otherwise."""
        await self.retry_until_stopped(lambda: self._source.start(self))
        runs: dict[Chore, chores.ChoreRun] = {Chore.CLOCK: self._run_clock}
        if self._mode.wall_clocked:
            # A file goes on only with deliveries and has an end: nothing stands still by the clock.
            runs[Chore.WATCHDOG] = self._watchdog.run
        tasks = [
            asyncio.create_task(self._end_on_error(partial(self._run_chore, name, chore)))
            for name, chore in runs.items()
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
        self._stop_requested.set()

    def is_stopping(self) -> bool:
        """Tell whether a stop was asked for."""
        return self._stop_requested.is_set()

    async def retry_until_stopped(self, step: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Retry a step of the start until it succeeds or a stop is asked for.

        However long Kafka is away; raises StartupError, which no waiting will mend.
        """
        attempt, began = 0, self._clock.steady()
        repeats = retry.RepeatSuppressor(WAIT_LOG_SECONDS)
        while not self.is_stopping():
            try:
                await self._unless_stopped(step())
            except StartupError:
                raise
            except ForwarderError as error:
                self._reporter.waiting_for(error.what, error.remedy)
                if repeats.register("", now := self._clock.steady()):
                    waited = round(now - began)
                    log.warning(
                        "kafka.unreachable", error=error.what, remedy=error.remedy, waited=waited
                    )
                attempt += 1
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(retry.REOPEN.delay(attempt, self._context.random())):
                        await self._stop_requested.wait()
            else:
                self._reporter.waiting_for("", "")
                return

    async def _unless_stopped(self, step: Coroutine[Any, Any, None]) -> None:
        """Run a step, but give it up when a stop is asked for."""
        task = asyncio.ensure_future(step)
        stop = asyncio.ensure_future(self._stop_requested.wait())
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
        while not self.is_stopping():
            self._reporter.heartbeat()
            self._throttle()
            try:
                polled = await self._source.poll(POLL_MS)
            except PositionLostError as lost:
                self._open_again(lost)
                continue
            except ForwarderError as error:
                if not self._mode.wall_clocked:
                    raise
                self._note_failed_poll(error)
                await asyncio.sleep(1.0)
                continue
            self._note_good_poll()
            # All before the next await: a partition opened anew meanwhile has another position.
            for partition, records in polled.items():
                owned = self.membership.open_partition(partition)
                if owned is not None and not self._breaker.add_sample(owned, records):
                    owned.collect(records)
            self._young_collections.add_records(sum(map(len, polled.values())))
            partitions = self.membership.open_partitions()
            await self._breaker.check(partitions)
            await self._close_overdue(partitions, polled)
            self._relieved = await self._memory.relieve(self._supervisors.values())
            if not polled and self._source.is_exhausted():
                await self._finish()
                return

    async def _close_overdue(
        self, partitions: Sequence[OpenPartition], polled: Iterable[Partition]
    ) -> None:
        """Close what the poll left open, and make documents of what closed before."""
        for owned in partitions:
            if owned.partition in polled or owned.has_pending_documents():
                await owned.close_overdue()

    def _throttle(self) -> None:
        """Pause what has no room for more, and resume it; polling itself never stops (C2)."""
        has_room = self._mode.has_room()
        for supervisor in self._supervisors.values():
            if (owned := supervisor.open_partition()) is None:
                continue
            reason = None  # nearly always, and this is asked before every poll
            if owned.intake_stopped or not (has_room and self._relieved and owned.has_room()):
                reason = self._pause_reason(owned, has_room=has_room)
            if reason is not supervisor.pause_reason:
                supervisor.pause(reason)

    def _pause_reason(self, owned: OpenPartition, *, has_room: bool) -> StallReason | None:
        """Return why an open partition must not be read now; None: it may."""
        if not owned.has_room():
            return StallReason.JOURNAL_BEHIND
        if not self._relieved:
            return StallReason.MEMORY_SHORT
        if not has_room:
            return StallReason.DELIVERY_BEHIND
        return StallReason.INTAKE_STOPPED if self._breaker.is_stopped(owned) else None

    def _note_failed_poll(self, error: ForwarderError) -> None:
        """Say why a poll failed, and since when they do; a worker made anew may do better then."""
        self._warn("poll.failed", error)
        self._reporter.waiting_for(error.what, error.remedy)
        self.membership.is_blocked = error.lasting
        if error.lasting:
            self.membership.polls_fail_since = None  # whoever starts anew would fail alike
        elif self.membership.polls_fail_since is None:
            self.membership.polls_fail_since = self._clock.steady()

    def _note_good_poll(self) -> None:
        """Say what of the input is not there to be polled, if anything."""
        self.membership.polls_fail_since, self.membership.is_blocked = None, False
        missing = self._source.unseen_input()
        if missing is None:
            self._reporter.waiting_for("", "")
        else:
            self._warn("input.missing", missing)
            self._reporter.waiting_for(missing.what, missing.remedy)

    def _open_again(self, lost: PositionLostError) -> None:
        for partition in lost.partitions:
            if (owned := self.membership.open_partition(partition)) is not None:
                owned.fail(JournalError(lost.what, lost.remedy, lasting=lost.lasting))

    async def _finish(self) -> None:
        """Close every window of an input that has ended, and wait until all is delivered."""
        for owned in self.membership.open_partitions():
            owned.close_all()
        while not self.is_stopping():
            self._reporter.heartbeat()
            partitions = self.membership.open_partitions()
            for owned in partitions:
                await owned.close_overdue()
            # One that failed is not among them, and stops the worker itself.
            if len(partitions) == len(self._supervisors) and all(p.is_idle() for p in partitions):
                return
            await asyncio.sleep(FINISH_PAUSE_SECONDS)

    async def _drain(self) -> None:
        """Settle every partition, then leave the group; open windows stay in Kafka."""
        self._leaving = True
        rest = min(CLOSE_RESERVE_SECONDS, self._mode.drain / 3)
        try:
            async with asyncio.timeout(self._mode.drain - rest):
                await self._settle(max(self._mode.drain - 2 * rest, rest / 2))
        except TimeoutError:
            log.warning("drain.unfinished", seconds=self._mode.drain)
        await asyncio.gather(*map(self._close_partition, list(self._tasks)))
        await self._source.stop()

    def _warn(self, event: str, error: ForwarderError) -> None:
        if self._repeats.register(f"{event} {error}", self._clock.steady()):
            log.warning(event, error=error.what, remedy=error.remedy)

    # ------------------------------------------------------------------ ownership (R1 to R4)

    async def on_revoked(self, partitions: frozenset[Partition]) -> None:
        """Finish puts and tick, but keep producers and memory until the next assignment (R1)."""
        log.info("partitions.revoked", partitions=sorted(map(str, partitions)))
        await self._settle(SETTLE_SECONDS)

    async def on_assigned(self, partitions: frozenset[Partition]) -> None:
        """Go on with what came back, open what is new, drop the rest (R2, R3)."""
        log.info("partitions.assigned", partitions=sorted(map(str, partitions)))
        if self._has_to_leave():
            return  # until it has left: what was opened or released now would outlive the drain
        self._reporter.rebalanced()
        self._rebalance_alarm.on_rebalance()
        self.membership.rebalancing = False
        await asyncio.gather(*map(self._close_partition, self._tasks.keys() - partitions))
        if self._has_to_leave():
            return  # since then: what is dropped now must not be opened again beside that
        self._breaker.drop_samples()
        self._context.limits.share(len(partitions))
        self._reporter.partitions_owned(partitions)
        for partition in sorted(partitions):
            if partition in self._tasks:
                await self._supervisors[partition].resume()
            else:
                self._supervise(partition)
        for owned in self.membership.open_partitions():
            owned.pipeline.compress_above(self._context.limits.plain_window_bytes)

    def _has_to_leave(self) -> bool:
        """Tell whether the drain has begun: it may begin within any await."""
        return self._leaving

    def _supervise(self, partition: Partition) -> None:
        supervisor = PartitionSupervisor(
            partition, self._source, self._context, retries=self._mode.wall_clocked
        )
        self._supervisors[partition] = supervisor
        self._tasks[partition] = asyncio.create_task(self._end_on_error(supervisor.run))

    async def _close_partition(self, partition: Partition) -> None:
        """Give a partition up; its events count as waiting here until they are released."""
        if (task := self._tasks.pop(partition, None)) is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if (supervisor := self._supervisors.get(partition)) is not None:
            await supervisor.close()
            self._supervisors.pop(partition, None)

    async def _settle(self, seconds: float) -> None:
        """Finish what is in flight; what is only opening must not begin a put meanwhile."""
        self.membership.rebalancing = True
        supervisors = list(self._supervisors.values())
        for supervisor in supervisors:
            supervisor.suspend()
        await asyncio.gather(*(supervisor.drain(seconds) for supervisor in supervisors))

    # ------------------------------------------------------------------ chores

    async def _run_clock(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            self._reporter.heartbeat()
            if self._mode.wall_clocked:
                self._advance_past_markers()
                await asyncio.gather(*map(self._close_idle, list(self._supervisors.values())))

    def _advance_past_markers(self) -> None:
        """Take note of markers at the end of an input, so that the commit goes past them, too.

        Between a poll's return and the collecting of its records nothing waits: below the position
        that the source names here, everything is collected.
        """
        for owned in self.membership.open_partitions():
            at = self._source.position(owned.partition)
            if at is not None:
                owned.advance_past_markers(at)

    async def _close_idle(self, supervisor: PartitionSupervisor) -> None:
        """Close windows by the wall clock, if everything up to now has been collected (C1)."""
        owned = supervisor.open_partition()
        if owned is None or supervisor.pause_reason is not None or owned.intake_stopped:
            return  # what a sample reaches is not collected
        now_ms = self._clock.wall_ms()
        deadline = owned.pipeline.next_deadline()
        if deadline is None or deadline + IDLE_CLOSE_GRACE_MS > now_ms:
            return
        try:
            end = await self._source.end(owned.partition)
        except ForwarderError:
            return  # the broker is away: its records may be too
        at = self._source.position(owned.partition)
        if at is not None and at >= end:
            await owned.expire(now_ms - IDLE_CLOSE_GRACE_MS)

    async def _run_chore(self, name: Chore, chore: chores.ChoreRun) -> None:
        """Keep a chore going; without its clock or its watchdog the worker is not one for long."""
        patience = CHORE_PATIENCE_SECONDS if self._mode.wall_clocked else 0.0
        failed = self._reporter.chore_failed
        await chores.run_chore(
            name, chore, self._clock, failed, patience=patience, verdict=ForwarderError
        )

    async def _end_on_error(self, chore: chores.ChoreRun) -> None:
        """Run a chore; what it raises ends the worker, which then starts anew."""
        try:
            await chore()
        except cancellation.FAULTS as error:
            if cancellation.is_ending(error):
                raise
            if not isinstance(error, ForwarderError):
                log.exception("worker.unexpected_error")
            what = "a task that the worker cannot do without was cancelled, by none of its own"
            self._fault = error if isinstance(error, Exception) else ForwarderError(what)
            self._stop_requested.set()
