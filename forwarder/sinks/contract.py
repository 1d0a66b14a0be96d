"""What delivery asks of a sink, and what each answer obliges it to do."""

from collections.abc import Sequence
from typing import Protocol

from forwarder.model import Batch, Outcome


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
