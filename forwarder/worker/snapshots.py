"""The bases of one partition: when one is due, the one in the making, what it replaces (K2)."""

import asyncio
from collections import deque
from collections.abc import Callable

import structlog

from forwarder.errors import JournalError
from forwarder.journal.contract import Journal
from forwarder.journal.snapshot import Draft
from forwarder.worker.context import Surroundings

log = structlog.get_logger()

DELTA_BYTES = 64 * 1024 * 1024
"""Stored bytes of deltas after which a base is due before its time: bounds a restore."""


class Bases:
    """Plans and drafts bases, and cuts the state below them. Owned by its partition.

    Drafting goes on beside the ticks, one partition of a worker at a time; ``stir`` is called
    when a draft is ready for a tick, ``fail`` with what ended it otherwise.
    """

    def __init__(
        self,
        name: str,
        around: Surroundings,
        stir: Callable[[], None],
        fail: Callable[[JournalError], None],
    ) -> None:
        """Plan the first one, so that partitions opened together do not write theirs together."""
        self.draft: Draft | None = None
        self._name = name
        self._around = around
        self._stir = stir
        self._fail = fail
        self._drafting: asyncio.Task[None] | None = None
        self._cutting: asyncio.Task[None] | None = None
        self._written = asyncio.Event()
        self._delta_bytes = 0
        self._ptrs: deque[int] = deque(maxlen=2)
        self._next = 0.0
        self._owed = False
        self._plan(0.5 + 0.5 * around.random())

    def hurry(self) -> None:
        """Have the next base at once: a lane is to be left out."""
        self._next = asyncio.get_running_loop().time()

    def due(self) -> float | None:
        """Return when drafting is to begin; None while it goes on."""
        return None if self._drafting is not None else self._next

    def is_ready(self) -> bool:
        """Tell whether the next tick writes a base."""
        return self.draft is not None and self.draft.complete

    def begin(self, make: Callable[[], Draft]) -> None:
        """Begin to draft a base if one is due."""
        late = asyncio.get_running_loop().time() >= self._next or self._delta_bytes > DELTA_BYTES
        if late and self._drafting is None:
            self._written.clear()
            self._drafting = asyncio.get_running_loop().create_task(self._draft(make))
            self._drafting.add_done_callback(self._drafted)

    def outrun(self, n: int) -> None:
        """Give up a draft whose number the next tick after ``n`` takes; it is begun anew."""
        draft = self.draft
        if draft is not None and not draft.complete and draft.n <= n + 1:
            log.warning("base.outrun", partition=self._name, n=n)
            self._stop_drafting()

    def postpone(self) -> None:
        """Give up what is being drafted: windows have closed that no base and no batch holds yet.

        One that a draft had not come to would be in neither, and its saved part be cut away. A
        draft that is complete has them all, and is written.
        """
        if self._drafting is not None and not self.is_ready():
            self._owed = True
            self._stop_drafting()

    def is_owed(self) -> bool:
        """Tell whether a base that was given up is in the making again: reading waits for it.

        Else input that closes windows of that kind again and again would leave no time for one.
        """
        return self._owed and not self.is_ready()

    def make(self, draft: Draft) -> None:
        """Take a draft that is so small that nobody has to wait for it: the first of all."""
        for _ in draft.steps():
            pass
        self.draft = draft

    def committed(self, journal: Journal, base: Draft | None, ptr: int, size: int) -> None:
        """Note a committed tick: the base it wrote, the ``ptr`` in it, the bytes of its state."""
        self._delta_bytes += size
        if base is not None:
            self._plan(1.0)
            self._owed = False
            self.draft = None
            self._written.set()
        if not self._ptrs or self._ptrs[-1] != ptr:
            self._ptrs.append(ptr)
            if len(self._ptrs) == self._ptrs.maxlen:
                self._cut(journal, self._ptrs[0])

    async def close(self) -> None:
        """Drop what is in the making."""
        tasks = [task for task in (self._drafting, self._cutting) if task is not None]
        self.drop()
        await asyncio.gather(*tasks, return_exceptions=True)

    def drop(self) -> None:
        """Drop what is in the making, without waiting for its end."""
        self._stop_drafting()
        if self._cutting is not None:
            self._cutting.cancel()

    def _stop_drafting(self) -> None:
        self.draft = None
        if self._drafting is not None:
            self._drafting.cancel()

    def _plan(self, share: float) -> None:
        interval = self._around.pacing.base_interval
        self._next = asyncio.get_running_loop().time() + share * interval
        self._delta_bytes = 0

    async def _draft(self, make: Callable[[], Draft]) -> None:
        """Draft one, and keep the turn until it is written: two at once would be twice as much."""
        async with self._around.drafting:
            self.draft = draft = make()
            for _ in draft.steps():
                await asyncio.sleep(0)
            self._stir()
            await self._written.wait()

    def _drafted(self, task: asyncio.Task[None]) -> None:
        self._drafting = None
        self._stir()  # the time of the next base counts again
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("base.failed", partition=self._name, exc_info=error)
            self._fail(JournalError(f"{self._name}: no base can be drafted: {error}"))

    def _cut(self, journal: Journal, below: int) -> None:
        """Cut the state in the background; what is left over is cut after the next base."""
        if self._cutting is None:
            self._cutting = asyncio.get_running_loop().create_task(self._cut_below(journal, below))
            self._cutting.add_done_callback(self._cut_done)

    async def _cut_below(self, journal: Journal, below: int) -> None:
        try:
            await journal.cut(below)
        except JournalError as error:
            log.warning("state.uncut", partition=self._name, below=below, error=str(error))

    def _cut_done(self, task: asyncio.Task[None]) -> None:
        self._cutting = None
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("state.uncut", partition=self._name, exc_info=error)
