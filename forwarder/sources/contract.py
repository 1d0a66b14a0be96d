"""What the worker asks of a source of records."""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from forwarder.errors import ForwarderError
from forwarder.model import LogEnds, OpenTransaction, Partition, Record


class PositionLostError(ForwarderError):
    """What was to be read next is gone, refused or damaged: open these partitions again.

    The opening finds out what is missing, and refuses or goes on.
    """

    def __init__(
        self,
        text: str,
        partitions: frozenset[Partition],
        remedy: str = "",
        *,
        lasting: bool = False,
    ) -> None:
        """Name the partitions; all of them are paused."""
        super().__init__(text, remedy, lasting=lasting)
        self.partitions = partitions


class Listener(Protocol):
    """Told about ownership, from inside the source's rebalance; both must return within seconds.

    Neither may wait for the poll loop: the source does not poll while they run.
    """

    async def on_revoked(self, partitions: frozenset[Partition]) -> None:
        """Ownership is about to go: finish puts, commit, keep the memory (R1)."""

    async def on_assigned(self, partitions: frozenset[Partition]) -> None:
        """Open what is owned now, all of it paused; seek and resume each once it is open."""


class Source(Protocol):
    """An ordered log of records per partition, and the membership that shares it out.

    Caller: worker. Every partition is paused from its assignment until ``resume``.
    """

    async def start(self, listener: Listener) -> None:
        """Join; assignments reach the listener during later polls or of themselves."""

    async def poll(self, timeout_ms: int) -> Mapping[Partition, Sequence[Record]]:
        """Return what has arrived, in order per partition; empty after ``timeout_ms`` at most.

        Has to be called all the time, also while every partition is paused: a member that
        stops polling is put out of the group. Raises PositionLostError for partitions that it
        has paused because their position is gone; ForwarderError otherwise: ask again.
        """

    def resume_at(self, partition: Partition, offset: int) -> None:
        """Read on from ``offset``; the next record returned is the first one at or above it."""

    def pause(self, partition: Partition) -> None:
        """Return no more of this partition until resumed."""

    def resume(self, partition: Partition) -> None:
        """Go on where ``pause`` stopped."""

    def position(self, partition: Partition) -> int | None:
        """Return the offset up to which records were returned or stepped over (markers, gaps)."""

    async def end(self, partition: Partition) -> int:
        """Fetch the last stable offset now; raises ForwarderError when it cannot."""

    async def ends(self, partitions: Collection[Partition]) -> Mapping[Partition, LogEnds]:
        """Fetch last stable offset and high watermark of each; who cannot be asked is left out."""

    async def committed(self, partitions: Collection[Partition]) -> Mapping[Partition, int]:
        """Fetch what the group has committed; left out: no commit, or Kafka cannot be asked."""

    async def open_transaction(self, partition: Partition) -> OpenTransaction | None:
        """Ask who holds the last stable offset back; None: nobody, or it is not told."""

    def refusal(self, partition: Partition) -> ForwarderError | None:
        """Return what a partition's leader answers instead of records, with what to do about it."""

    def restart_fetching(self) -> None:
        """Drop what was fetched and not returned, and begin fetching anew: nothing came of it."""

    async def is_owner(self, partition: Partition) -> bool:
        """Ask the coordinator whether the group is stable and this member holds it (R4)."""

    async def is_member(self) -> bool:
        """Ask whether the group knows this member; True while it cannot tell, rebalancing.

        Raises ForwarderError when it cannot be asked.
        """

    def unseen_input(self) -> ForwarderError | None:
        """Return why some of the input is not seen at all, None if all of it is."""

    def is_exhausted(self) -> bool:
        """Tell whether no record will ever come again (a file read to its end)."""

    async def stop(self) -> None:
        """Leave the group; returns within seconds whatever the broker does."""
