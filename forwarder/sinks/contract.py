"""What delivery asks of a sink, and what each answer obliges it to do."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from forwarder.model import Batch, Outcome


class Throughput(NamedTuple):
    """What one unit of a destination's capacity takes a second; rates are counted in units."""

    records: int
    bytes: int

    def seconds(self, records: int, size: int) -> float:
        """Return how long one unit takes for so many records of ``size`` bytes together."""
        return max(records / self.records, size / self.bytes)


class Sink(Protocol):
    """One destination of one connection, shared by its lanes on all owned partitions.

    Caller: delivery. ``put`` is called concurrently, never with two batches of one device key
    in flight from one lane, with at most ``max_batches`` batches and ``max_bytes`` of payload
    (or one batch, whatever its size).

    ``in_order``: all batches of a lane are put in the order of its outbox, one put at a time,
    and a put may hold several batches of one device key, which it stores in the order given,
    and none of them behind one that it did not store.

    ``throughput``: the unit in which it is found out how much a throttled destination takes.
    """

    max_batches: int
    max_bytes: int
    in_order: bool
    throughput: Throughput

    async def put(self, batches: list[Batch]) -> Sequence[Outcome]:
        """Send the batches; return one outcome each, in the order given.

        Never raises but for cancellation, never sleeps to retry: the caller owns the backoff.
        """

    async def close(self) -> None:
        """Release connections; called once, after the last ``put`` returned."""
