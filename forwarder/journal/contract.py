"""What a partition asks of its journal; one contract suite tests every implementation.

Numbers such as O1 or K4 are the steps of docs/protocol.md.
"""

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple, Protocol

import msgspec

from forwarder.journal.commit import CommitMetadata
from forwarder.journal.opening import Restored
from forwarder.model import Address, Commit, DeadLetter, Partition

__all__ = [
    "Commit", "CommitMetadata", "Committed", "Journal", "Journals", "OutboxEntry", "OutboxRecord",
    "OutboxSlice", "Restored", "Take", "Tick",
]  # fmt: skip

Take = Callable[[int, bytes], None]
"""Gets one stored state record, its offset and its value; what it raises ends the reading."""


class OutboxEntry(msgspec.Struct, frozen=True, gc=False):
    """One record for the outbox: the lane is its key, so that a read-back skips other lanes."""

    lane: str
    value: bytes


class Tick(msgspec.Struct, frozen=True):
    """What one transaction stores: all of it becomes visible at once, or nothing.

    ``state`` holds the values of this tick's state records, base or delta. ``offset`` and
    ``metadata`` are what the group commits; a journal may add to the metadata where its outbox
    ends. ``floor``: no lane will read the outbox below it any more; a hint, for journals in memory.
    """

    outbox: Sequence[OutboxEntry]
    dead_letters: Sequence[DeadLetter]
    state: Sequence[bytes]
    offset: int
    metadata: CommitMetadata
    floor: Address = (0, 0)


class Committed(msgspec.Struct, frozen=True):
    """Where a committed tick's records are: one offset for each, in the order given."""

    outbox: Sequence[int]
    state: Sequence[int]


class OutboxRecord(NamedTuple):
    """One record of the outbox as it was read back."""

    offset: int
    lane: str
    value: bytes


class OutboxSlice(NamedTuple):
    """What a read found: the records asked for.

    ``upto``: the offset to go on at. ``seen``: bytes of the values of all it passed, other lanes'
    included.
    """

    records: Sequence[OutboxRecord]
    upto: int
    seen: int


class Journal(Protocol):
    """The journal of one owned partition.

    Caller: partition, one call at a time (``read`` may run beside ``commit``). Any
    JournalError from ``open``, ``commit`` or ``prove`` ends this object's use: the caller
    discards it, drops its memory and asks the factory for a new one.
    """

    async def open(self, take: Take | None = None) -> Restored:
        """Fence the former owner, then read commit, state and the logs' bounds (O1 to O3, O6).

        ``take`` is called with every committed state record from ``ptr`` on, in order, once
        each, the loop let go round in between; never with all of them in memory. What it raises
        comes out of ``open`` and leaves the journal usable. Whatever the result says of the
        outbox and the input was asked after the last record was taken (O6).

        A commit whose ``ptr`` lies below the state's log start is fetched once more: a later
        owner may have cut the log meanwhile. Without ``take`` the records stand in the result.
        """

    async def commit(self, tick: Tick) -> Committed:
        """Write one tick in one transaction (K4); returns only if it is known to be committed.

        Raises FencedError if another owner took over, JournalError for everything else,
        unknown outcomes included.
        """

    async def read(
        self, lanes: Collection[str], start: int, end: int, max_bytes: int
    ) -> OutboxSlice:
        """Read the outbox from offset ``start`` up to ``end``; return the records of ``lanes``.

        Stops after about ``max_bytes`` of values, other lanes' included, but sees at least one
        record if there is one. ``upto`` is ``end`` once all below it was seen; a read that goes
        on there costs no more than one that did not stop. Raises JournalError.
        """

    async def cut(self, below: int) -> None:
        """Give up the state records below an offset, a former ``ptr`` (DeleteRecords).

        May run beside ``commit`` and ``read``. A cut that Kafka refuses changes nothing and is
        noted once, with the right to grant; raises JournalError if Kafka does not answer.
        """

    async def prove(self) -> None:
        """Raise FencedError unless this owner could still commit; stores nothing.

        One send in a transaction that is then aborted: an empty transaction proves nothing.
        """

    async def close(self) -> None:
        """Give up the producer and readers within seconds, raising nothing."""


class Journals(Protocol):
    """The factory of journals: prepares topics and makes one journal per opening."""

    async def prepare(self, partitions: frozenset[Partition]) -> None:
        """Make sure outbox and state partitions exist for these (T1).

        Called before every opening. Raises StartupError by the first call, RefusedError by a
        later one for what an operator has to mend, JournalError if Kafka does not answer.
        """

    def journal(self, partition: Partition) -> Journal:
        """Return a journal not yet opened; a new one for every opening."""

    async def close(self) -> None:
        """Release what the journals share."""
