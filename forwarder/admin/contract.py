"""What the commands ask of a group's survey: the part of it that can be played in a test."""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Protocol

from forwarder.config.settings import Configuration
from forwarder.journal.dead_letters import RedriveMessage
from forwarder.journal.opening import Restored
from forwarder.kafka.admin import GroupState
from forwarder.model import Commit, LogBounds, LogEnds, OpenTransaction, Partition, Record
from forwarder.ops.diagnosis import Finding


class StateWriter(Protocol):
    """Writes as a partition's owner does, and fences that owner by starting."""

    async def start(self) -> None:
        """Fence every other holder of the transactional id; raises JournalError."""

    async def commit(
        self, values: Sequence[bytes], settle: Callable[[Sequence[int]], Commit]
    ) -> list[int]:
        """Store state records, and with them the group's offset; raises JournalError.

        ``settle`` gets the offset of each record and returns what the group commits.
        """

    async def close(self) -> None:
        """Close the producer within seconds; raises nothing."""


class RedriveProducer(Protocol):
    """Sends dead letters back, each transaction whole or not at all."""

    async def start(self) -> dict[int, int]:
        """Fence the group's other redrive producers; return what was settled before.

        By partition of the dead letter topic, the offset below which every receipt is visible.
        Raises JournalError.
        """

    async def send(self, outgoing: Sequence[RedriveMessage]) -> None:
        """Write these in one transaction; raises JournalError if that is not known to be done."""

    async def close(self) -> None:
        """Close the producer within seconds; raises nothing."""


class DeadLetterTopic(Protocol):
    """The dead letter topic. Every question may raise ForwarderError."""

    topic: str

    async def bounds(self) -> Mapping[int, LogBounds]:
        """Return where each of its partitions starts and ends."""

    async def at_time(self, number: int, time_ms: int) -> int | None:
        """Return the offset of the first record stored at or after a time."""

    def records(self, number: int, start: int, end: int) -> AsyncIterator[Record]:
        """Yield what is stored in a partition, in order."""

    async def original(self, partition: Partition, offset: int) -> Record | None:
        """Return an input record, None if it is not there any more."""

    async def limits(self) -> Mapping[Partition, int]:
        """Return how large a message each input partition takes, in bytes."""

    def redrive_producer(self) -> RedriveProducer:
        """Return a producer that sends letters back; it is not started."""


class GroupSurvey(Protocol):
    """A look at what one group keeps; nothing here joins the group or fences anybody.

    Caller: the commands. Every question may raise ForwarderError.
    """

    settings: Configuration
    group_id: str

    async def partitions(self, topics: Iterable[str] = ()) -> list[Partition]:
        """Return the partitions of the named input topics, of all of them if none is named."""

    async def left_out(self) -> list[Partition]:
        """Return the partitions the group keeps a journal of, and whose topic is not configured."""

    async def find(
        self, partition: Partition, *, whole: bool = False, left_out: bool = False
    ) -> Restored:
        """Return what an opening would find; ``whole``: the state from its log start on.

        ``left_out``: it is of a topic that is not configured, and may not be there any more.
        """

    async def exists(self, partition: Partition) -> bool:
        """Tell whether an input partition is there."""

    async def ends(self, partition: Partition) -> LogEnds:
        """Return where an input partition ends, without and with what is not committed yet."""

    async def open_transaction(self, partition: Partition) -> OpenTransaction | None:
        """Return the oldest transaction open in an input partition; None: none, or not told."""

    async def outbox_bounds(self, partition: Partition) -> LogBounds:
        """Return where a partition's outbox starts and ends."""

    async def outbox(
        self, partition: Partition, start: int, end: int, max_bytes: int, lane: str | None = None
    ) -> tuple[Sequence[tuple[int, bytes]], int]:
        """Return outbox records from ``start`` on, of one lane or all, and where to go on."""

    async def outbox_at(self, partition: Partition, time_ms: int) -> int | None:
        """Return the offset of the first outbox record stored at or after a time."""

    async def input_at(self, partition: Partition, time_ms: int) -> int | None:
        """Return the offset of the first input record not older than a time."""

    async def group(self) -> GroupState:
        """Return the group's state and members."""

    async def complaints(self) -> list[Finding]:
        """Return what keeps a worker from its work, as far as it shows without writing."""

    def dead_letters(self) -> DeadLetterTopic:
        """Return the look at the dead letter topic."""

    def writer(self, partition: Partition) -> StateWriter:
        """Return the writer under a partition's transactional id."""

    async def leave(self, partition: Partition) -> None:
        """Give up the connections of one partition, to be made anew if it is asked for again."""

    async def close(self) -> None:
        """Give up every connection; raises nothing."""
