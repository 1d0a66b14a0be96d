"""A model of Kafka: the logs of each partition, transactions, fencing, and every way to fail.

A request takes a moment to arrive and its answer another; it may be lost before or after its
effect, come late, or hang. What a process has sent goes on without it.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from forwarder.journal.commit import encode_metadata
from forwarder.model import Commit, DeadLetter, Partition
from tests.doubles import Message
from tests.model.deploys import Writer

if TYPE_CHECKING:
    from forwarder.journal.contract import Tick

TOPIC = "raw-events"
GROUP = "forwarder"
TRANSACTION_SECONDS = 45.0
"""After this the broker aborts a transaction and fences its producer."""


class FencedByBroker(Exception):  # noqa: N818  # an answer of the broker
    """The producer's epoch is not the newest."""


class Transaction:
    """What one producer wrote and has not ended; ``status`` says what readers may see of it."""

    def __init__(self, epoch: int, owner: Writer) -> None:
        """Begin it."""
        self.epoch = epoch
        self.owner = owner
        self.status = "open"
        self.stage = "outbox"
        self.content: Tick | None = None
        self.outbox: list[int] = []
        self.state: list[int] = []
        self.letters: list[DeadLetter] = []


class Log:
    """A partition of the outbox or the state; markers use up offsets."""

    def __init__(self) -> None:
        """Begin empty."""
        self.entries: list[tuple[Transaction, Any]] = []
        self.start = 0

    def append(self, transaction: Transaction, value: object) -> int:
        """Store a record of a transaction, return its offset."""
        self.entries.append((transaction, value))
        return len(self.entries) - 1

    def mark(self, transaction: Transaction) -> None:
        """Write the control record that ends a transaction."""
        if any(owner is transaction for owner, _ in self.entries[-40:]):
            self.entries.append((transaction, None))

    def stable(self) -> int:
        """Return the last stable offset."""
        for offset in range(max(self.start, len(self.entries) - 60), len(self.entries)):
            if self.entries[offset][0].status in {"open", "prepared"}:
                return offset
        return len(self.entries)

    def committed(self, first: int, end: int) -> Iterator[tuple[int, Any]]:
        """Return what a reader with ``read_committed`` gets of a range."""
        for offset in range(max(first, self.start), min(end, self.stable())):
            transaction, value = self.entries[offset]
            if value is not None and transaction.status == "done":
                yield offset, value


class Watcher(Protocol):
    """Who judges what the broker is told to commit."""

    def committed(self, stored: "Stored", transaction: Transaction) -> None:
        """Judge a transaction at the moment it is decided."""


class Stored:
    """Everything Kafka has of one input partition."""

    def __init__(self, number: int) -> None:
        """Begin empty."""
        self.partition = Partition(TOPIC, number)
        self.input: list[Message | None] = []
        self.outbox = Log()
        self.state = Log()
        self.letters: list[DeadLetter] = []
        self.commits: list[Commit] = []
        self.epoch = 0
        self.owner: Any = None
        self.lost_at: dict[object, float] = {}
        self.current: Transaction | None = None

    def end(self) -> int:
        """Return the offset behind the last record; markers may follow."""
        end = len(self.input)
        while end and self.input[end - 1] is None:
            end -= 1
        return end

    def records(self, first: int, count: int) -> list[Message]:
        """Return at most ``count`` records of the input, stepping over markers."""
        return [m for m in self.input[first : first + count] if m is not None]

    def settle(self) -> None:
        """Write the markers of a transaction that is decided."""
        transaction = self.current
        if transaction is not None and transaction.status == "prepared":
            self._end(transaction, "done")
            content = transaction.content
            if content is not None:
                self.commits.append(Commit(content.offset, encode_metadata(content.metadata)))
                self.letters += transaction.letters

    def initialise(self, owner: object, now: float) -> int:
        """Fence whoever wrote before; its transaction is finished or aborted (O1)."""
        self.settle()
        self.abort()
        if self.owner is not owner and self.owner is not None:
            self.lost_at[self.owner] = now
        self.owner = owner
        self.lost_at.pop(owner, None)
        self.epoch += 1
        return self.epoch

    def abort(self) -> None:
        """Abort what is open."""
        transaction = self.current
        if transaction is not None and transaction.status == "open":
            self._end(transaction, "aborted")

    def begin(self, epoch: int, owner: Writer) -> Transaction:
        """Begin a transaction; the markers of the last one are waited for."""
        self.check(epoch)
        self.settle()
        self.current = Transaction(epoch, owner)
        return self.current

    def check(self, epoch: int) -> None:
        """Raise FencedByBroker for an old epoch."""
        if epoch != self.epoch:
            raise FencedByBroker

    def decide(self, transaction: Transaction, watcher: Watcher) -> None:
        """Take a commit for decided; readers see it once the markers are written."""
        self.check(transaction.epoch)
        if transaction is not self.current or transaction.status != "open":
            raise FencedByBroker
        transaction.status = "prepared"
        watcher.committed(self, transaction)

    def time_out(self, transaction: Transaction) -> bool:
        """Abort a transaction that took too long, and fence its producer."""
        if transaction is self.current and transaction.status == "open":
            self.abort()
            self.epoch += 1
            return True
        return False

    def _end(self, transaction: Transaction, status: str) -> None:
        transaction.status = status
        self.outbox.mark(transaction)
        self.state.mark(transaction)


class Trouble(msgspec.Struct, frozen=True):
    """What becomes of one request. ``kind``: which; ``how``: see :meth:`Broker.ask`."""

    kind: str
    how: str
    seconds: float


class Broker:
    """The logs of all partitions, and how requests fare.

    ``latency``: seconds a request is on its way; ``markers``: seconds until a decided
    transaction becomes visible; ``stale``: offsets are fetched one commit behind.
    """

    def __init__(self, partitions: int, after: Callable[[float, Callable[[], None]], None]) -> None:
        """Begin empty; ``after`` runs something later, whoever has died by then."""
        self.stored = [Stored(number) for number in range(partitions)]
        self.up = True
        self.stale = False
        self.latency = 0.002
        self.markers = 0.004
        self.troubles: list[Trouble] = []
        self.seen: dict[str, int] = {}
        self._after = after

    def at(self, partition: Partition) -> Stored:
        """Return what is stored of a partition."""
        return self.stored[partition.number]

    def count(self, what: str) -> None:
        """Note that something happened."""
        self.seen[what] = self.seen.get(what, 0) + 1

    def ask(
        self,
        kind: str,
        effect: Callable[[], object],
        answer: Callable[[object], None],
    ) -> None:
        """Carry a request to its effect and the answer back; an answer may be an exception.

        Trouble: ``drop`` (no effect, an error), ``mute`` (effect, an error), ``late`` (an error,
        the effect comes afterwards), ``slow`` (the answer takes long), ``stall`` (the request
        takes long).
        """
        trouble = next((t for t in self.troubles if t.kind == kind), None)
        go, back = self.latency, self.latency
        if trouble is not None:
            self.troubles.remove(trouble)
            self.count(f"{kind}.{trouble.how}")
        how = trouble.how if trouble else ""
        seconds = trouble.seconds if trouble else 0.0
        if how in {"drop", "late"}:
            self._after(min(seconds, 1.0), lambda: answer(ConnectionError("no answer")))
        if how == "drop":
            return
        if how in {"late", "stall"}:
            go += seconds
        if how == "slow":
            back += seconds
        self._after(go, lambda: self._arrive(kind, effect, answer, back, how))

    def _arrive(
        self,
        kind: str,
        effect: Callable[[], object],
        answer: Callable[[object], None],
        back: float,
        how: str,
    ) -> None:
        if not self.up:
            self.count(f"{kind}.unreached")
            self._after(1.0, lambda: answer(ConnectionError("the broker is away")))
            return
        try:
            result = effect()
        except FencedByBroker as fence:
            result = fence
        if how == "late":
            self.count(f"{kind}.{'refused' if isinstance(result, Exception) else 'done'}_late")
        elif how == "mute":
            self._after(0.5, lambda: answer(ConnectionError("no answer")))
        else:
            self._after(back, lambda: answer(result))
