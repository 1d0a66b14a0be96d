"""Keeps one partition open for as long as it is owned: whatever fails is dropped and opened anew.

There is no other recovery. A failed or unknown tick, a fence, a position the input no longer
has, topics that are missing, brokers that are away: each ends the opening, and the next one
finds out from Kafka what is true.
"""

import asyncio
import contextlib
import re
from collections.abc import Awaitable

import msgspec
import structlog

from forwarder import cancellation, retry
from forwarder.errors import FencedError, ForwarderError, RefusedError, StartupError
from forwarder.model import Partition
from forwarder.ops.reporter import PartitionFailure, Phase
from forwarder.ops.stall import StallReason
from forwarder.sources.contract import Source
from forwarder.worker.context import WorkerContext
from forwarder.worker.opening import PartitionOpening
from forwarder.worker.partition import OpenPartition

log = structlog.get_logger()

STABLE_OPENING_SECONDS = 30.0
"""Seconds an opening has to last before its failure counts as the first."""

_NUMBERS = re.compile(r"\d+")


class UnforeseenError(ForwarderError):
    """Something that no part of the program foresaw ended an opening."""


class PartitionSupervisor:
    """Opens one partition, and again after every failure. Caller: the worker.

    :meth:`run` is a task of its own. ``pause_reason``: why the worker does not read the partition
    just now, None: it does.
    """

    def __init__(
        self, partition: Partition, source: Source, context: WorkerContext, *, retries: bool
    ) -> None:
        """Create; :meth:`run` opens the partition.

        ``retries`` False: the first failure is raised to the worker, as a file is simply run again.
        """
        self.partition = partition
        self.pause_reason: StallReason | None = None
        self._name = str(partition)
        self._source = source
        self._context = context
        self._clock = context.clock
        self._retries = retries
        self._held: PartitionOpening | OpenPartition | None = None
        self._suspended = False
        self._refused = False
        self._recovering = False
        self._refusal = ""
        self._opened_at: float | None = None
        self._tries = 0
        self._relapses = 0
        self._retry = asyncio.Event()
        self._repeats = retry.RepeatSuppressor(retry.LOG_REPEAT_SECONDS)

    # ------------------------------------------------------------------ queries

    @property
    def phase(self) -> Phase:
        """Return how far the partition is; what was refused stays so while it is tried again.

        What failed is opening until a tick has committed: one whose every tick fails opens again
        and again, reads, and delivers nothing.
        """
        if self.open_partition() is not None:
            return Phase.OPENING if self._recovering else Phase.OPEN
        return Phase.REFUSED if self._refused else Phase.OPENING

    def open_partition(self) -> OpenPartition | None:
        """Return the partition while it is open, None while it is not."""
        held = self._held
        return held if isinstance(held, OpenPartition) and held.is_open() else None

    def memory_bytes(self) -> int:
        """Return about what its windows take in memory, those that are being put back included."""
        return self._held.memory_bytes() if self._held is not None else 0

    def waiting(self) -> dict[str, int]:
        """Return by lane how many events wait here, those of an opening that ends included."""
        return self._held.waiting() if self._held is not None else {}

    # ------------------------------------------------------------------ what the worker does

    def suspend(self) -> None:
        """Start no more puts until :meth:`resume`, neither when it opens meanwhile (R1)."""
        self._suspended = True
        if (partition := self.open_partition()) is not None:
            partition.suspend()

    async def drain(self, seconds: float) -> None:
        """Suspend, wait for puts in flight and make a last tick (R1)."""
        self.suspend()
        if (partition := self.open_partition()) is not None:
            await self._isolated(partition.drain(seconds))

    async def resume(self) -> None:
        """Go on after an assignment that gave the partition back; try at once what failed (R3)."""
        self._suspended = False
        self.pause_reason = None
        await self._isolated(self._resume())

    async def _resume(self) -> None:
        if (partition := self.open_partition()) is None:
            self._retry.set()
        else:
            partition.resume()
            self._source.resume_at(self.partition, partition.position)

    def pause(self, reason: StallReason | None) -> None:
        """Read the partition no more for this reason, or with None again (C2)."""
        if reason is not None and self.pause_reason is None:
            self._source.pause(self.partition)
        elif reason is None and self.pause_reason is not None:
            self._source.resume(self.partition)
        self.pause_reason = reason

    def fail(self, error: ForwarderError) -> None:
        """End the opening, if there is one, for a reason that the worker found."""
        if (partition := self.open_partition()) is not None:
            partition.fail(error)

    async def close(self) -> None:
        """Drop what is held in memory (R2). Caller: the worker, once :meth:`run` has ended."""
        if self._held is not None:  # what waits in it counts until it is released
            await self._isolated(self._held.close())
            self._held = None

    async def _isolated(self, step: Awaitable[None]) -> None:
        """Take a step of a rebalance; a fault nobody expected ends this opening alone.

        Raised out of a callback of the group it would end the worker, and all its partitions.
        """
        try:
            await step
        except cancellation.FAULTS as fault:
            if not self._retries or cancellation.is_ending(fault):
                raise
            self.fail(self._unforeseen(fault))

    # ------------------------------------------------------------------ opening

    async def run(self) -> None:
        """Open, and again after every failure, until cancelled."""
        while True:
            opening = PartitionOpening(self.partition, self._context)
            self._held = opening
            try:
                await self._run_opening(opening)
            except ForwarderError as error:
                if not self._retries:
                    what = f"{error}; mend that and run it again"
                    raise ForwarderError(what) from error
                _let_go(error)
                if isinstance(error, RefusedError):
                    await self._wait_refused(error)
                else:
                    await self._recover(error)
            except cancellation.FAULTS as fault:
                if not self._retries or cancellation.is_ending(fault):
                    raise
                await self._recover(self._unforeseen(fault))

    async def _run_opening(self, opening: PartitionOpening) -> None:
        """Open and run; ends only by raising why."""
        self._opened_at = None
        await self._context.journals.prepare(frozenset({self.partition}))
        partition = await opening.run()
        self._held, self._opened_at = partition, self._clock.steady()
        self._refused, self._refusal, self._tries = False, "", 0
        self._context.reporter.partition_opened(self._name)
        if self._suspended:
            partition.suspend()
        else:
            partition.start()
        self.pause_reason = None
        self._source.resume_at(self.partition, partition.position)
        running = asyncio.create_task(partition.run())
        try:
            if self._recovering:
                await self._await_first_commit(partition, running)
            if not self._recovering:
                self._context.reporter.partition_phase(self._name, Phase.OPEN, "")
            await running
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def _await_first_commit(
        self, partition: OpenPartition, running: asyncio.Task[None]
    ) -> None:
        """Wait for the first tick that commits, which is the recovery, or for the next failure."""
        partition.ticks.request()
        first = partition.ticks.first_commit
        ends: list[asyncio.Future[None]] = [running, first]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        self._recovering = not first.done()

    # ------------------------------------------------------------------ after a failure

    async def _recover(self, error: ForwarderError) -> None:
        """Drop everything; go on once the partition is known to be ours (R4)."""
        self._recovering = True
        self._count_failure()
        pause = self._pause_seconds(error)
        reporter = self._context.reporter
        reporter.partition_failed(
            self.partition, describe_error(error, opened=self._opened_at is not None)
        )
        if self._repeats.register(_without_numbers(error), self._clock.steady()):
            log.warning(
                "partition.reopens", partition=self._name, error=error.what, remedy=error.remedy
            )
        # Stop reading at once: what is read now would be lost with the memory.
        self._source.pause(self.partition)
        await self._drop()
        if not self._refused:  # what it is refused for is still to be shown
            reporter.partition_phase(self._name, Phase.OPENING, error.what, error.remedy)
        await self._wait(pause)

    async def _wait_refused(self, refusal: RefusedError) -> None:
        """Leave a refused partition alone for a minute; an operator may mend it meanwhile."""
        self._refused, self._recovering = True, False
        reporter = self._context.reporter
        reporter.partition_phase(self._name, Phase.REFUSED, refusal.what, refusal.remedy)
        if _without_numbers(refusal) != self._refusal:
            self._refusal = _without_numbers(refusal)
            log.error("partition.refused", partition=self._name, reason=str(refusal))
            reporter.partition_failed(self.partition, PartitionFailure.REFUSED)
        self._source.pause(self.partition)
        await self._drop()
        await self._wait(retry.REOPEN_REFUSED.delay(1, self._context.random()))

    def _count_failure(self) -> None:
        """Count tries that did not open, and openings that did not last."""
        if self._opened_at is None:
            self._tries += 1
        elif self._clock.steady() - self._opened_at > STABLE_OPENING_SECONDS:
            self._relapses = 1
        else:
            self._relapses += 1

    def _pause_seconds(self, error: ForwarderError) -> float:
        """Return the pause: short while Kafka is away, longer each time an opening does not last.

        One that lacks what somebody has to provide is tried more and more seldom.
        """
        random, was_open = self._context.random(), self._opened_at is not None
        failures = self._relapses if was_open else self._tries
        if isinstance(error, StartupError) or (error.lasting and not was_open):
            return retry.REOPEN_SETUP.delay(failures, random)
        return (retry.REOPEN_RELAPSE if was_open else retry.REOPEN).delay(failures, random)

    async def _wait(self, seconds: float) -> None:
        """Wait for a time, less after a rebalance, and until the group confirms who owns it (R4).

        In this order: a worker that slept for a while would fence the one that has it now.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._retry.wait()
        self._retry.clear()
        attempt = 0
        while not await self._confirm_ownership():
            attempt += 1
            await asyncio.sleep(retry.REOPEN.delay(attempt, self._context.random()))

    async def _confirm_ownership(self) -> bool:
        try:
            return await self._source.is_owner(self.partition)
        except ForwarderError as error:
            if self._repeats.register(_without_numbers(error), self._clock.steady()):
                log.warning(
                    "ownership.unknown", partition=self._name, error=error.what, remedy=error.remedy
                )
            return False
        except cancellation.FAULTS as fault:  # an answer that makes no sense says nothing
            if cancellation.is_ending(fault):
                raise
            self._unforeseen(fault)
            return False

    async def _drop(self) -> None:
        """Drop an opening; whatever that runs into, the next one has to come."""
        try:
            if self._held is not None:
                await self._held.close()
                self._held = None  # what it had put back must not count until the next one
        except cancellation.FAULTS as fault:
            if cancellation.is_ending(fault):
                raise
            self._unforeseen(fault)

    def _unforeseen(self, fault: BaseException) -> UnforeseenError:
        """Return the error that stands for an exception nobody expected; log it once a minute.

        Were it to end the worker, all partitions would stand for what one of them ran into.
        """
        what = f"{self._name}: {type(fault).__name__}: {fault}, which nobody expected"
        if self._repeats.register(f"fault {_NUMBERS.sub('#', what)}", self._clock.steady()):
            log.error("partition.unexpected_error", partition=self._name, exc_info=fault)
        return UnforeseenError(what)


def _let_go(error: BaseException) -> None:
    """Forget what an error passed through: it would keep the opening that it ended.

    Its frames refer to what was awaited, and that to the error again: a cycle, which stays until a
    collection looks at all there is.
    """
    error.__traceback__ = None


class Membership(msgspec.Struct):
    """What a worker owns, and how it stands with the group. Written by the worker alone.

    Read by what watches over it: watchdog, gauges. ``supervisors`` by partition are those of the
    last assignment, and those that are being given up. ``rebalancing``: the group has taken the
    partitions back and not given any out again. ``polls_fail_since``: since when every poll has
    failed, in steady seconds, None: the last one did not; ``is_blocked``: they fail for what only
    an operator can mend.
    """

    supervisors: dict[Partition, PartitionSupervisor] = msgspec.field(default_factory=dict)
    rebalancing: bool = False
    polls_fail_since: float | None = None
    is_blocked: bool = False

    def open_partitions(self) -> list[OpenPartition]:
        """Return those that are open now."""
        owned = self.supervisors.values()
        return [found for one in owned if (found := one.open_partition()) is not None]

    def open_partition(self, partition: Partition) -> OpenPartition | None:
        """Return a partition if it is owned and open."""
        supervisor = self.supervisors.get(partition)
        return None if supervisor is None else supervisor.open_partition()

    def phase(self, partition: Partition) -> Phase:
        """Return how far a partition has come; one that is not owned any more is not open."""
        supervisor = self.supervisors.get(partition)
        return Phase.OPENING if supervisor is None else supervisor.phase


def describe_error(error: ForwarderError, *, opened: bool) -> PartitionFailure:
    """Return which of the few kinds of failures this is."""
    if isinstance(error, FencedError):
        return PartitionFailure.FENCED
    if isinstance(error, StartupError):
        return PartitionFailure.SETUP
    if isinstance(error, UnforeseenError):
        return PartitionFailure.FAULT
    return PartitionFailure.RUNNING if opened else PartitionFailure.OPENING


def _without_numbers(error: ForwarderError) -> str:
    """Return the text without its numbers: offsets that move on are no news."""
    return _NUMBERS.sub("#", str(error))
