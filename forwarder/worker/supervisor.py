"""Keep one partition open for as long as it is owned: whatever fails is dropped and opened anew.

There is no other recovery. A failed or unknown tick, a fence, a position the input no longer
has, topics that are missing, brokers that are away: each ends the opening, and the next one
finds out from Kafka what is true.
"""

import asyncio
import contextlib
import re
from typing import Any, Protocol

import structlog

from forwarder import retry
from forwarder.errors import FencedError, ForwarderError, RefusedError, StartupError
from forwarder.kafka import cancellation
from forwarder.model import Partition
from forwarder.ops.reporter import PartitionFailure, Phase
from forwarder.sources.contract import Source
from forwarder.worker.context import Surroundings
from forwarder.worker.partition import OwnedPartition

log = structlog.get_logger()

LASTING = 30.0
"""Seconds an opening has to last before its failure counts as the first."""

SAID_AGAIN = 60.0
"""Seconds after which a failure that goes on is logged once more."""

_NUMBERS = re.compile(r"\d+")


class UnforeseenError(ForwarderError):
    """Something that no part of the program foresaw ended an opening."""


class Host(Protocol):
    """What a keeper tells the worker."""

    def stands(self, owned: OwnedPartition) -> None:
        """Take note of the opening that counts from now on; it is not open yet."""

    def opened(self, owned: OwnedPartition, offset: int) -> None:
        """Read on from ``offset``: the partition is open."""

    def changed(self) -> None:
        """Report the phases anew."""

    def failed(self, partition: Partition, reason: PartitionFailure) -> None:
        """Count a failure."""


class Keeper:
    """Opens one partition, and again after every failure. Caller: worker, in a task of its own."""

    def __init__(
        self, partition: Partition, source: Source, around: Surroundings, host: Host, *, lasts: bool
    ) -> None:
        """Own nothing yet. ``lasts``: try again; otherwise the first failure is the worker's."""
        self.partition = partition
        self.task: asyncio.Task[None] | None = None
        self._source = source
        self._around = around
        self._host = host
        self._lasts = lasts
        self._owned: OwnedPartition | None = None
        self._refused = False
        self._recovering = False
        self._reason = ""
        self._opened = float("inf")
        self._tries = 0
        self._relapses = 0
        self._hurried = asyncio.Event()
        self._said = retry.Repeats(SAID_AGAIN)

    @property
    def phase(self) -> Phase:
        """Return where the partition stands; what was refused stays so while it is tried again.

        What failed is opening until a tick has committed: one whose every tick fails opens again
        and again, reads, and delivers nothing.
        """
        if self._owned is None or (self._recovering and self._owned.phase is Phase.OPEN):
            return Phase.OPENING
        if self._refused and self._owned.phase is not Phase.OPEN:
            return Phase.REFUSED
        return self._owned.phase

    def hurry(self) -> None:
        """Try again at once. Caller: the worker, after a rebalance."""
        self._hurried.set()

    async def keep(self) -> None:
        """Open, and again after every failure, until cancelled."""
        while True:
            self._owned = OwnedPartition(self.partition, self._around)
            self._host.stands(self._owned)
            try:
                await self._live(self._owned)
            except ForwarderError as error:
                if not self._lasts:
                    what = f"{error}; mend that and run it again"
                    raise ForwarderError(what) from error
                if isinstance(error, RefusedError):
                    await self._rest(self._owned, error)
                else:
                    await self._recover(self._owned, error)
            except cancellation.FAULTS as fault:
                if not self._lasts or cancellation.is_ending(fault):
                    raise
                await self._recover(self._owned, self._unforeseen(fault))

    def _unforeseen(self, fault: BaseException) -> UnforeseenError:
        return unforeseen(self.partition, fault, self._said, self._around.clock.steady())

    async def _live(self, owned: OwnedPartition) -> None:
        """Open and run; ends only by raising why."""
        self._opened = float("inf")
        await self._around.journals.prepare(frozenset({self.partition}))
        offset = await owned.open()
        self._opened = self._around.clock.steady()
        self._refused, self._reason, self._tries = False, "", 0
        self._host.opened(owned, offset)
        ticks = asyncio.create_task(owned.run())
        ends: list[asyncio.Future[Any]] = [ticks, owned.failed]
        try:
            if self._recovering:
                await self._prove(owned, ends)
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if ticks.done():
                ticks.result()  # a fault of a tick says more than that the tick was interrupted
            raise owned.failed.result()
        finally:
            ticks.cancel()
            await asyncio.gather(ticks, return_exceptions=True)

    async def _prove(self, owned: OwnedPartition, ends: list[asyncio.Future[Any]]) -> None:
        """Wait for the first tick that commits, which is the recovery, or for any of ``ends``."""
        owned.ask_for_tick()
        await asyncio.wait([*ends, owned.committed], return_when=asyncio.FIRST_COMPLETED)
        if owned.committed.done():
            self._recovering = False
            self._host.changed()

    # ------------------------------------------------------------------ after a failure

    async def _recover(self, owned: OwnedPartition, error: ForwarderError) -> None:
        """Drop everything; go on once the partition is known to be ours (R4)."""
        self._recovering = True
        pause = self._pause(error)
        self._host.failed(self.partition, _kind(error, opened=self._opened != float("inf")))
        if self._said.news(_shape(error), self._around.clock.steady()):
            log.warning(
                "partition.reopens",
                partition=str(self.partition),
                error=error.what,
                remedy=error.remedy,
            )
        # Stop reading at once: what is read now would be lost with the memory.
        self._source.pause(self.partition)
        await self._close(owned)
        self._host.changed()
        reporter = self._around.reporter
        reporter.partition_phase(str(self.partition), Phase.OPENING, error.what, error.remedy)
        await self._wait(pause)

    def _pause(self, error: ForwarderError) -> float:
        """Return seconds: few while Kafka is away, more each time an opening does not last."""
        random = self._around.random()
        closed = self._opened == float("inf")
        if isinstance(error, StartupError) or (closed and error.lasting):
            self._tries += 1
            return retry.SETUP.delay(self._tries, random)
        if closed:
            self._tries += 1
            return retry.REOPEN.delay(self._tries, random)
        lasted = self._around.clock.steady() - self._opened
        self._relapses = 1 if lasted > LASTING else self._relapses + 1
        return retry.RELAPSE.delay(self._relapses, random)

    async def _wait(self, seconds: float) -> None:
        """Wait for a time, less after a rebalance, and until the group confirms who owns it (R4).

        In this order: a worker that slept for a while would fence the one that has it now.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._hurried.wait()
        self._hurried.clear()
        attempt = 0
        while not await self._owns():
            attempt += 1
            await asyncio.sleep(retry.REOPEN.delay(attempt, self._around.random()))

    async def _owns(self) -> bool:
        try:
            return await self._source.owns(self.partition)
        except ForwarderError as error:
            if self._said.news(_shape(error), self._around.clock.steady()):
                log.warning(
                    "ownership.unknown",
                    partition=str(self.partition),
                    error=error.what,
                    remedy=error.remedy,
                )
            return False
        except cancellation.FAULTS as fault:  # an answer that makes no sense says nothing
            if cancellation.is_ending(fault):
                raise
            self._unforeseen(fault)
            return False

    async def _close(self, owned: OwnedPartition) -> None:
        """Drop an opening; whatever that runs into, the next one has to come."""
        try:
            await owned.close()
        except cancellation.FAULTS as fault:
            if cancellation.is_ending(fault):
                raise
            self._unforeseen(fault)

    async def _rest(self, owned: OwnedPartition, refusal: RefusedError) -> None:
        """Leave a refused partition alone for a minute; an operator may mend it meanwhile."""
        self._refused, self._recovering = True, False
        if _shape(refusal) != self._reason:
            self._reason = _shape(refusal)
            log.error("partition.refused", partition=str(self.partition), reason=str(refusal))
            self._host.failed(self.partition, PartitionFailure.REFUSED)
        self._source.pause(self.partition)
        await self._close(owned)
        self._host.changed()
        # Once more: while it was being closed another's report may have gone before the reason.
        reporter = self._around.reporter
        reporter.partition_phase(str(self.partition), Phase.REFUSED, refusal.what, refusal.remedy)
        await self._wait(retry.REFUSED.delay(1, self._around.random()))


def unforeseen(
    partition: Partition, fault: BaseException, said: retry.Repeats, now: float
) -> UnforeseenError:
    """Take what nobody expected, an answer that makes no sense for one, as any other failure.

    Caller: keepers, and the worker where it acts on a partition itself. Were it to end the worker,
    all its partitions would stand for what one of them ran into. Logged unless ``said`` at ``now``.
    """
    what = f"{partition}: {type(fault).__name__}: {fault}, which nobody expected"
    if said.news(f"fault {_NUMBERS.sub('#', what)}", now):
        log.error("partition.fault", partition=str(partition), exc_info=fault)
    return UnforeseenError(what)


def _kind(error: ForwarderError, *, opened: bool) -> PartitionFailure:
    """Return which of the few kinds of failures this is."""
    if isinstance(error, FencedError):
        return PartitionFailure.FENCED
    if isinstance(error, StartupError):
        return PartitionFailure.SETUP
    if isinstance(error, UnforeseenError):
        return PartitionFailure.FAULT
    return PartitionFailure.RUNNING if opened else PartitionFailure.OPENING


def _shape(error: ForwarderError) -> str:
    """Return the text without its numbers: offsets that move on are no news."""
    return _NUMBERS.sub("#", str(error))
