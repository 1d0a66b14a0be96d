"""Read the outbox back for lanes that lag (D2).

One scan serves every lane of its partition whose next batch lies in the slice it reads. The scans
of a partition follow one another, first for the lane that has waited longest; those of a worker
share few slots, a byte rate and a part of the loop's time, so that lanes that keep up are not
slowed down.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple, Protocol

import structlog

from forwarder.clock import Clock
from forwarder.deliver.budget import Budget
from forwarder.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from forwarder.journal.contract import OutboxRecord, OutboxSlice
    from forwarder.model import Address

log = structlog.get_logger()

MAX_SCANS = 4
"""Most scans of a worker at once: bounds what they hold, and one that hangs stops no other."""

SCAN_CHUNK_BYTES = 128 * 1024
"""Stored bytes asked of the journal at once; what follows them is mostly fetched already."""

SCAN_BYTES = 4 * 1024 * 1024
"""Stored bytes after which a scan makes room for the next lane's."""

CACHE_BYTES = 4 * 1024 * 1024
"""Stored bytes that a worker keeps of what it read last, for lanes that come a little later."""

MEMORY_POLL_SECONDS = 0.05
"""Seconds between two looks whether there is memory for what is to be read."""

MAX_BYTES_PER_SECOND = 64 * 1024 * 1024
"""Bytes a second: stored ones that were read, and payload that was taken from them."""

MAX_LOOP_SHARE = 0.2
"""Part of the event loop's time in which what was read is decompressed and taken: 2 ms for a MiB of
batches of 40 events, 5 for 8 events, 20 for single ones. To put it takes about as much again."""

MAX_CHARGED_SECONDS = 0.05
"""Seconds of work that a chunk may be charged: some ten times what it is. Beyond, the process
stood still, and nobody has to wait for that once more."""


class ScanChunk(NamedTuple):
    """What was read of a partition's outbox from an offset on, of all its lanes."""

    start: int
    found: "OutboxSlice"


class ScanLimiter:
    """Limits shared by all scans of a worker: slots, memory, bytes a second, time of the loop.

    First come, first served. It also bounds what the scans keep of what they read last. Made by
    the composition root, one for a worker.
    """

    def __init__(
        self,
        clock: Clock,
        budget: Budget | None = None,
        rate: float = MAX_BYTES_PER_SECOND,
        chunk_bytes: int = SCAN_CHUNK_BYTES,
    ) -> None:
        """Allow ``rate`` bytes a second in chunks, while ``budget`` is not used up."""
        self.clock = clock
        self.chunk_bytes = chunk_bytes
        self.budget = budget or Budget()
        self.rate = rate
        self._slots = asyncio.Semaphore(MAX_SCANS)
        self._busy_until = 0.0
        self._cached: deque[tuple[list[ScanChunk], ScanChunk]] = deque()
        self._cached_bytes = 0

    @asynccontextmanager
    async def slot(self) -> "AsyncIterator[None]":
        """Hold a slot for one scan, from when one is free and there is memory for what is read."""
        async with self._slots:
            while self.budget.is_full():  # noqa: ASYNC110  # every put of any lane may change it
                await asyncio.sleep(MEMORY_POLL_SECONDS)
            yield

    async def throttle(self, size: int, seconds: float) -> None:
        """Wait until ``size`` bytes and ``seconds`` of work more are within rate and share.

        Capacity that was not used is not saved up.
        """
        now = self.clock.steady()
        worked = min(seconds, MAX_CHARGED_SECONDS)
        due = max(size / self.rate, worked / MAX_LOOP_SHARE - worked)
        self._busy_until = max(now, self._busy_until) + due
        await asyncio.sleep(max(0.0, self._busy_until - now))

    def cache_chunk(self, cache: "list[ScanChunk]", read: "ScanChunk") -> None:
        """Put what was read into a partition's cache; drop the worker's oldest beyond the limit."""
        cache.append(read)
        self._cached.append((cache, read))
        self._cached_bytes += read.found.seen
        while self._cached_bytes > CACHE_BYTES:
            cache, oldest = self._cached.popleft()
            cache.remove(oldest)
            self._cached_bytes -= oldest.found.seen


class ScanTarget(Protocol):
    """A lane as a scan sees it. Caller: the scans of its partition, one at a time.

    After ``offer`` and ``skip_to`` the lane wants what follows, or, if it did not take all of it,
    what it did not take.
    """

    def wanted_from(self) -> "Address | None":
        """Return from where on this lane takes batches now; None: it takes none."""

    def offer(self, record: "OutboxRecord") -> int:
        """Take what fits of a stored record; return the bytes of its payload."""

    def skip_to(self, upto: "Address") -> None:
        """Note that nothing else of this lane lies below ``upto``."""

    def resume_after_scan(self) -> None:
        """Go on with what was taken, and ask again for more."""


ReadOutbox = Callable[[Collection[str], int, int, int], Awaitable["OutboxSlice"]]
"""``Journal.read``: the lanes, from which offset, up to which, and how many stored bytes."""


class Readback:
    """The scans of one partition; they go on while a lane asks for one. Caller: its lanes.

    ``end``: the end of what this owner knows to be committed; a scan reads up to what it was when
    the scan began.
    """

    def __init__(
        self,
        limiter: ScanLimiter,
        read: ReadOutbox,
        end: "Address",
        fail: Callable[[JournalError], None],
    ) -> None:
        """Prepare; nothing is read until a lane asks. ``fail`` is told what ends the reading."""
        self.end = end
        self._limiter = limiter
        self._lanes: Mapping[str, ScanTarget] = {}
        self._read = read
        self._fail = fail
        self._asking: dict[str, None] = {}
        self._span = 0
        self._cache: list[ScanChunk] = []
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def serve(self, lanes: Mapping[str, ScanTarget]) -> None:
        """Have the scans serve these lanes: all of the partition, before the first one asks."""
        self._lanes = lanes

    def ask(self, lane: str) -> None:
        """Have a scan led by this lane, after those of the lanes that asked before."""
        if self._closed:
            return
        self._asking.setdefault(lane)
        # A task that is done has seen everybody who asked before its last step, and nobody since.
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._serve())
            self._task.add_done_callback(self._served)

    async def close(self) -> None:
        """Read nothing more."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _served(self, task: asyncio.Task[None]) -> None:
        if self._closed:
            return
        if task.cancelled():  # the Kafka client passes on what it has cancelled itself
            self._fail(JournalError("reading the outbox was cancelled"))
            return
        error = task.exception()
        if isinstance(error, JournalError):
            self._fail(error)
        elif error is not None:
            log.error("outbox.unreadable", exc_info=error)
            self._fail(JournalError(str(error)))

    async def _serve(self) -> None:
        while self._asking:
            async with self._limiter.slot():
                if (lead := next(iter(self._asking), None)) is None:
                    return
                del self._asking[lead]
                lane = self._lanes[lead]
                if (at := lane.wanted_from()) is None:
                    lane.resume_after_scan()
                else:
                    await self._scan(lead, at)
            await asyncio.sleep(0)

    async def _scan(self, lead: str, at: "Address") -> None:
        """Read on from ``at``, or a little below, for every lane that wants what lies there."""
        wanted = {
            name: a for name, lane in self._lanes.items() if (a := lane.wanted_from()) is not None
        }
        begin = min(a[0] for a in wanted.values() if at[0] - self._span <= a[0])
        reached = {name: a for name, a in wanted.items() if a[0] >= begin}
        position, seen, end = begin, 0, self.end[0]
        while position < end and (seen < SCAN_BYTES or position <= at[0]):
            found = self._find_cached(position) or await self._fetch(position, end)
            taken, seconds = await self._hand_out(found.records, reached)
            self._skip_to(found.upto, reached)
            position, seen = found.upto, seen + found.seen
            await self._limiter.throttle(found.seen + taken, seconds)
            if lead not in reached or self._lanes[lead].wanted_from() != reached[lead]:
                break
        self._span = position - begin
        for name in wanted:
            self._lanes[name].resume_after_scan()

    def _find_cached(self, position: int) -> "OutboxSlice | None":
        """Return what follows on a position, if it was read a moment ago; it costs nothing."""
        for start, found in self._cache:
            if start <= position < found.upto:
                return found._replace(seen=0)
        return None

    async def _fetch(self, position: int, end: int) -> "OutboxSlice":
        found = await self._read(self._lanes.keys(), position, end, self._limiter.chunk_bytes)
        if found.upto > position:
            self._limiter.cache_chunk(self._cache, ScanChunk(position, found))
        return found

    async def _hand_out(
        self, records: "Sequence[OutboxRecord]", reached: "dict[str, Address]"
    ) -> tuple[int, float]:
        """Offer every record to its lane; return the payload bytes taken, and in which time."""
        clock = self._limiter.clock
        taken, seconds = 0, 0.0
        for record in records:
            at = reached.get(record.lane)
            if at is not None and at[0] <= record.offset:
                began = clock.steady()
                taken += self._offer(record, at, reached)
                seconds += clock.steady() - began
                await asyncio.sleep(0)
        return taken, seconds

    def _offer(self, record: "OutboxRecord", at: "Address", reached: "dict[str, Address]") -> int:
        """Offer a record to its lane unless it has moved since this scan began; return its bytes.

        A lane that is not where this scan left it was evicted from meanwhile, or is full: one that
        does not take a record whole takes none after it. A later scan serves it.
        """
        lane, size = self._lanes[record.lane], 0
        del reached[record.lane]
        if lane.wanted_from() == at:
            size = lane.offer(record)
            at = lane.wanted_from() or at
            if at[0] > record.offset:
                reached[record.lane] = at
        lane.resume_after_scan()
        return size

    def _skip_to(self, upto: int, reached: "dict[str, Address]") -> None:
        """Tell every lane up to where nothing more of it comes."""
        for name, at in list(reached.items()):
            lane = self._lanes[name]
            if lane.wanted_from() != at:
                del reached[name]
            elif at < (upto, 0):
                lane.skip_to((upto, 0))
                reached[name] = (upto, 0)
