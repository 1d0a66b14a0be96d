"""The journal of one process on the model of Kafka: requests in the order the real one makes."""

import asyncio
from collections.abc import Callable, Collection
from functools import partial
from typing import Any, Protocol

from forwarder.errors import FencedError, JournalError
from forwarder.journal import contract
from forwarder.journal.commit import metadata_hint
from forwarder.journal.contract import Committed, OutboxSlice, Restored, Take, Tick
from forwarder.model import Commit, Partition
from tests.model.deploys import Writer
from tests.model.kafka import (
    TRANSACTION_SECONDS,
    Broker,
    FencedByBroker,
    Stored,
    Transaction,
    Watcher,
)

TICK_SECONDS = 30.0


class Client(Writer, Protocol):
    """What the journal knows of its process."""

    alive: bool

    def later(self, seconds: float, then: Callable[[], None]) -> None:
        """Do something in the world, whether the process lives or not."""

    def now(self) -> float:
        """Return world time."""

    def initialising(self, partition: Partition) -> None:
        """Note that this process fences whoever wrote to a partition before."""

    def opening(self, partition: Partition) -> None:
        """Note that a partition is being opened by this process."""

    def fenced(self, partition: Partition) -> None:
        """Note that this process was told it is fenced."""

    def failed(self, partition: Partition) -> None:
        """Note that a tick failed, or that nobody knows."""

    def proved(self, partition: Partition, begun: int) -> None:
        """Note that a tick begun in assignment ``begun`` is known to be committed."""

    def assignment(self) -> int:
        """Return the number of the newest assignment this process has heard of."""


async def request(client: Client, broker: Broker, kind: str, effect: Callable[[], object]) -> Any:  # noqa: ANN401  # whatever the effect returns
    """Ask the broker and wait; raises FencedByBroker or ConnectionError."""
    if not client.alive:
        raise ConnectionError
    future: asyncio.Future[object] = asyncio.get_running_loop().create_future()

    def answer(result: object) -> None:
        if client.alive and not future.done():
            future.set_result(result)

    broker.ask(kind, effect, answer)
    result = await future
    if isinstance(result, Exception):
        raise result
    return result


class Journals:
    """The journals of one process."""

    def __init__(self, client: Client, broker: Broker, watcher: Watcher) -> None:
        """Connect to the model."""
        self._client = client
        self._broker = broker
        self._watcher = watcher

    async def prepare(self, partitions: frozenset[Partition]) -> None:
        """Have every topic ready."""

    def journal(self, partition: Partition) -> "Journal":
        """Return a journal for one opening."""
        return Journal(self._client, self._broker, self._watcher, partition)

    async def close(self) -> None:
        """Hold nothing."""


class Journal:
    """One opening of one partition."""

    def __init__(
        self, client: Client, broker: Broker, watcher: Watcher, partition: Partition
    ) -> None:
        """Own nothing yet."""
        self._client = client
        self._broker = broker
        self._watcher = watcher
        self._partition = partition
        self._stored = broker.at(partition)
        self._epoch = -1
        self._spoiled = False

    async def open(self, take: Take | None = None) -> Restored:
        """Fence the former owner and read, in the order of O1 to O6."""
        stored, client = self._stored, self._client
        client.initialising(self._partition)  # judged as it is asked, the request may be late
        self._epoch = await self._ask("init", self._initialise)
        commit = await self._ask("fetch", self._fetch)
        state = await self._ask("bounds", lambda: (stored.state.start, stored.state.stable()))
        ptr = metadata_hint(commit).ptr
        if ptr is not None and ptr < state[0]:
            self._broker.count("fetched_again")
            commit = await self._ask("fetch", self._fetch)
            ptr = metadata_hint(commit).ptr
        records: list[tuple[int, bytes]] = []
        first = state[0] if ptr is None else ptr
        await self._read_state(first, state[1], take or (lambda *r: records.append(r)))
        outbox = await self._ask("bounds", lambda: (stored.outbox.start, stored.outbox.stable()))
        client.opening(self._partition)
        return Restored(
            commit=commit,
            state=records,
            state_start=state[0],
            state_end=state[1],
            outbox_start=outbox[0],
            outbox_end=outbox[1],
            first=0,
            input_start=0,
            input_end=len(stored.input),
        )

    async def _read_state(self, first: int, end: int, take: Take) -> None:
        """Hand over a few records at a time, as pages of a fetch."""
        at = first
        while at < end:
            page = await self._ask("state", partial(self._page, at, end))
            for offset, value in page:
                take(offset, value)
                at = offset + 1
                await asyncio.sleep(0)
            if not page:
                return

    def _page(self, first: int, end: int) -> list[tuple[int, bytes]]:
        found = self._stored.state.committed(first, end)
        return [record for record, _ in zip(found, range(4), strict=False)]

    def _initialise(self) -> int:
        return self._stored.initialise(self._client, self._client.now())

    def _fetch(self) -> Commit | None:
        commits = self._stored.commits
        if self._broker.stale and len(commits) > 1:
            self._broker.count("fetched_stale")
            return commits[-2]
        return commits[-1] if commits else None

    async def commit(self, tick: Tick) -> Committed:
        """Write one tick in one transaction (K4)."""
        begun = self._client.assignment()
        try:
            async with asyncio.timeout(TICK_SECONDS):
                committed = await self._commit(tick)
        except TimeoutError as error:
            self._client.failed(self._partition)
            msg = "Kafka did not finish"
            raise JournalError(msg) from error
        except BaseException:
            self._client.failed(self._partition)
            raise
        self._client.proved(self._partition, begun)
        return committed

    async def _commit(self, tick: Tick) -> Committed:
        transaction: Transaction = await self._ask("send", lambda: self._send_outbox(tick))
        await self._ask("send_state", lambda: self._send_state(transaction, tick))
        await self._ask("offsets", lambda: self._send_offsets(transaction, tick))
        await self._ask("end", lambda: self._end(transaction))
        return Committed(transaction.outbox, transaction.state)

    def _send_outbox(self, tick: Tick) -> Transaction:
        stored, client, broker = self._stored, self._client, self._broker
        transaction = stored.begin(self._epoch, client)
        transaction.outbox = [stored.outbox.append(transaction, entry) for entry in tick.outbox]
        client.later(
            TRANSACTION_SECONDS,
            lambda: broker.count("timed_out") if stored.time_out(transaction) else None,
        )
        return transaction

    def _send_state(self, transaction: Transaction, tick: Tick) -> None:
        self._check(transaction)
        transaction.stage = "state"
        log = self._stored.state
        transaction.state = [log.append(transaction, value) for value in tick.state]
        transaction.letters = list(tick.dead_letters)

    def _send_offsets(self, transaction: Transaction, tick: Tick) -> None:
        self._check(transaction)
        transaction.stage = "offsets"
        transaction.content = tick

    def _end(self, transaction: Transaction) -> None:
        self._stored.decide(transaction, self._watcher)
        self._client.later(self._broker.markers, self._settler(transaction))

    def _settler(self, transaction: Transaction) -> Callable[[], None]:
        stored = self._stored
        return lambda: stored.settle() if stored.current is transaction else None

    def _check(self, transaction: Transaction) -> None:
        self._stored.check(transaction.epoch)
        if transaction.status != "open":
            raise FencedByBroker

    async def read(
        self,
        lanes: Collection[str],
        start: int,
        end: int,
        max_bytes: int,  # noqa: ARG002  # always few
    ) -> OutboxSlice:
        """Read a few records; what is not stable yet is not there yet (D2)."""
        stretch: OutboxSlice = await self._ask("read", lambda: self._outbox(lanes, start, end))
        if not stretch.records and stretch.upto < end:
            await asyncio.sleep(0.25)  # as a fetch waits for more
        return stretch

    def _outbox(self, lanes: Collection[str], first: int, end: int) -> OutboxSlice:
        log = self._stored.outbox
        found: list[contract.OutboxRecord] = []
        seen = 0
        for offset, entry in log.committed(first, end):
            if seen == 3:
                return OutboxSlice(found, offset, seen)
            seen += 1
            if entry.lane in lanes:
                found.append(contract.OutboxRecord(offset, entry.lane, entry.value))
        stable = min(end, log.stable())
        if stable < end:
            self._broker.count("read_unstable")
        return OutboxSlice(found, stable, seen)

    async def cut(self, below: int) -> None:
        """Give up the state records below an offset (DeleteRecords)."""
        await self._ask("cut", lambda: self._cut(below))

    def _cut(self, below: int) -> None:
        log = self._stored.state
        log.start = max(log.start, min(below, log.stable()))
        self._broker.count("state_cut")

    async def prove(self) -> None:
        """Raise FencedError unless this owner could still commit."""
        await self._ask("prove", self._prove)

    def _prove(self) -> None:
        stored = self._stored
        transaction = stored.begin(self._epoch, self._client)
        stored.state.append(transaction, b"")
        stored.abort()

    async def close(self) -> None:
        """Own nothing any more."""

    async def _ask(self, kind: str, effect: Callable[[], object]) -> Any:  # noqa: ANN401
        if self._spoiled:
            msg = "a failed journal was asked again"
            raise JournalError(msg)
        try:
            return await request(self._client, self._broker, kind, effect)
        except FencedByBroker as error:
            self._spoiled = True
            self._broker.count("fenced")
            self._client.fenced(self._partition)
            msg = "another owner took over"
            raise FencedError(msg) from error
        except ConnectionError as error:
            self._spoiled = kind not in {"cut", "read"}
            raise JournalError(str(error)) from error


__all__ = ["Client", "Journal", "Journals", "Stored", "request"]
