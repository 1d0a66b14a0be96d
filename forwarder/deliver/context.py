"""What a delivery is given: its policy, and the partition that owns it."""

from typing import Protocol

import msgspec

from forwarder.errors import JournalError
from forwarder.model import Address, Batch, Outcome


class Owner(Protocol):
    """What a lane asks of the partition it belongs to."""

    def may_put(self) -> bool:
        """Tell whether probe and lease allow a put now; if not, a tick is made and wakes us."""

    def committed_end(self) -> Address:
        """Return the end of what this owner knows to be committed in the outbox (D2)."""

    def read_back(self, lane: str) -> None:
        """Read stored batches of a lane that has room for them, when its turn comes."""

    def acknowledged(self) -> None:
        """Note that a cursor moved, to be committed with the next tick."""

    def refused(self, batch: Batch, outcome: Outcome) -> None:
        """Turn a batch into a dead letter of the tick that will hold its acknowledgement (D4)."""

    def journal_failed(self, error: JournalError) -> None:
        """Drop everything and open again."""


class Policy(msgspec.Struct, frozen=True):
    """What a connection file says about delivering.

    ``keyed``: batches of one device go to one shard, so that the shard of the last tells of the
    next. ``rereads``: what is cut from memory can be read back; if not, nothing is cut.
    """

    lane: str
    partition: str
    active: bool
    deliver_from_ms: int | None
    keyed: bool = True
    rereads: bool = True
