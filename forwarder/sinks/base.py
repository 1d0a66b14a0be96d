"""What delivery asks of a sink, and what each answer obliges it to do."""

from collections.abc import Sequence
from enum import Enum
from typing import Protocol

import msgspec

from forwarder.model import Batch


class Kind(Enum):
    """The answer for one batch."""

    DELIVERED = "delivered"
    """Stored by the destination: the batch is acknowledged."""
    THROTTLED = "throttled"
    """Not stored, the destination asks for less: resend after a backoff."""
    TRANSIENT = "transient"
    """Failed or unanswered, perhaps stored: resend the same bytes after a backoff."""
    CONFIGURATION = "configuration"
    """Cannot succeed until somebody acts: pause the lane, keep the batch, probe every 5 to 60 s."""
    REFUSED = "refused"
    """This batch alone was refused for good, sent on its own: a dead letter *if* the lane
    delivered another batch since its first refusal, else treat it as CONFIGURATION."""


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """One answer; ``code`` is the bounded error code for metrics, ``error`` one line for people.

    Where somebody has to act, ``error`` ends with ``remedy``. ``shard``: where the destination
    keeps the batch's key, if it said so. None may hold a secret or any part of a payload.
    """

    kind: Kind
    code: str = ""
    error: str = ""
    shard: str = ""
    remedy: str = ""


DELIVERED = Outcome(Kind.DELIVERED)


class Sink(Protocol):
    """One destination of one connection, shared by its lanes on all owned partitions.

    Caller: delivery. ``put`` is called concurrently, never with two batches of one device key
    in flight from one lane, with at most ``max_batches`` batches and ``max_bytes`` of payload
    (or one batch, whatever its size).

    ``in_order``: all batches of a lane are put in the order of its outbox, one put at a time,
    and a put may hold several batches of one device key, which it stores in the order given,
    and none of them behind one that it did not store.
    """

    max_batches: int
    max_bytes: int
    in_order: bool

    async def put(self, batches: Sequence[Batch]) -> Sequence[Outcome]:
        """Send the batches; return one outcome each, in the order given.

        Never raises but for cancellation, never sleeps to retry: the caller owns the backoff.
        """

    async def close(self) -> None:
        """Release connections; called once, after the last ``put`` returned."""
