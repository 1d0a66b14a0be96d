"""What delivers the lanes of one partition, and what reads the outbox back for them."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from forwarder.config.connection import Connection, Status
from forwarder.deliver import lane_notes
from forwarder.deliver.context import (
    DeliverContext,
    DeliveryResults,
    LaneContext,
    LanePolicy,
    Lease,
    Refused,
)
from forwarder.deliver.lane import LaneDelivery
from forwarder.deliver.queue import DeliveryQueue
from forwarder.deliver.rate_limit import RateLimiter
from forwarder.deliver.readback import Readback, ReadOutbox
from forwarder.journal.state import LaneState
from forwarder.model import Address, Batch, CloseReason, DeadLetter, Reason, add_count


class PartitionDeliveries:
    """The deliveries of one opening of one partition. Caller: the worker's partition.

    ``lanes`` by name; one that was stopped at the opening is not among them. Nothing is put before
    :meth:`wake`, and nothing while ``lease`` does not allow it. What the lanes come to is in
    ``results``: the caller collects it when it draws a tick.
    """

    def __init__(  # noqa: PLR0913  # what an opening found
        self,
        context: DeliverContext,
        partition: str,
        connections: Iterable[Connection],
        stored: Mapping[str, LaneState],
        *,
        end: Address,
        read: ReadOutbox,
        notify: Callable[[], None],
    ) -> None:
        """Make a lane of every connection, which goes on where its stored state says.

        ``end``: the end of the outbox as it is known to be committed. ``read`` reads the outbox.
        ``notify`` is called when there is something to collect, or the lease is to be extended.
        """
        self.lease = Lease()
        self.results = DeliveryResults(notify)
        self._end = end
        self._readback = Readback(context.scan_limiter, read, end, self.results.fail)
        self.lanes = {
            one.name: self._lane(context, partition, one, stored[one.name]) for one in connections
        }
        self._readback.serve(self.lanes)
        self._moving = dict.fromkeys(self.lanes)

    def _lane(
        self, context: DeliverContext, partition: str, connection: Connection, stored: LaneState
    ) -> LaneDelivery:
        sink = context.sinks[connection.name]
        if connection.name not in context.rate_limits:
            context.rate_limits[connection.name] = RateLimiter(sink.throughput)
        queue = DeliveryQueue(
            stored.cursor,
            stored.acked,
            self._end,
            context.queue_bytes,
            in_order=sink.in_order,
            budget=context.scan_limiter.budget,
            unread=lane_notes.stored_lag(stored.extra),
        )
        policy = LanePolicy(
            lane=connection.name,
            partition=partition,
            active=connection.status is Status.ACTIVE,
            deliver_from_ms=connection.deliver_from_ms,
            keyed=connection.sink.one_shard_per_device,
        )
        lane_context = LaneContext(
            clock=context.clock,
            random=context.random,
            reporter=context.reporter,
            rate_limit=context.rate_limits[connection.name],
            lease=self.lease,
            results=self.results,
            readback=self._readback,
        )
        return LaneDelivery(policy, queue, sink, lane_context, self._end)

    def is_idle(self) -> bool:
        """Tell whether nothing waits that could still be delivered, or collected."""
        if self.results.cursor_moved or self.results.refused:
            return False
        return all(self.lanes[name].is_idle() for name in self._moving)

    def waiting_events(self) -> dict[str, int]:
        """Return by lane how many events wait for delivery, or as refusals to be collected.

        Lanes for which nothing waits may be left out.
        """
        found = {name: self.lanes[name].queue.waiting_events() for name in self._moving}
        for batch, _ in self.results.refused:
            add_count(found, batch.lane, batch.count)
        return found

    # ------------------------------------------------------------------ a tick (K1, K5)

    def moving(self) -> list[str]:
        """Return the lanes that are not settled, or were not at the last committed tick.

        All that is committed of the others here is delivered, and they may deliver more: the cursor
        of each is the end of the outbox, and stays so until a tick commits batches of it.
        """
        return list(self._moving)

    def cursor(self, lane: str, stored: LaneState) -> tuple[Address, frozenset[Address]]:
        """Return cursor and acknowledged addresses of a lane for a tick (D4).

        Of a lane that is not delivered here: as they are stored.
        """
        if (one := self.lanes.get(lane)) is None:
            return stored.cursor, stored.acked
        return one.queue.cursor_and_acked(self._end)

    def notes(self, lane: str, extra: Mapping[str, Any], now_ms: int) -> dict[str, Any] | None:
        """Return a lane's further fields with why it is not delivered, and how far it lags.

        ``extra``: as they are stored. None: nothing new is to be written of it.
        """
        if (one := self.lanes.get(lane)) is None:
            return None
        lag = one.lag() if one.queue.readback_from is not None else None
        if lag is None and not one.reason and not extra:
            return None
        return lane_notes.noted(extra, one.reason, lag, now_ms)

    def collect_refused(self) -> list[DeadLetter]:
        """Return the dead letters of what was refused since the last call; clear the results.

        In the same step as :meth:`cursor` of every lane, so that refusal and acknowledgement are
        in one tick (D4).
        """
        refused = self.results.collect()
        return [refusal(one) for one in refused] if refused else []

    def committed(
        self,
        end: Address,
        stored: Mapping[str, LaneState],
        fresh: Mapping[str, Sequence[tuple[Address, Batch]]],
    ) -> None:
        """Take a committed tick: the outbox's new end, the lanes' cursors and its batches (K5).

        ``stored``: the lanes of which it stores where they stand; others keep their cursors.
        """
        self._end = self._readback.end = end
        for name in fresh.keys() & self.lanes.keys():
            self._moving[name] = None
        for name in list(self._moving):
            one = self.lanes[name]
            cursor = stored[name].cursor if name in stored else one.queue.cursor
            one.on_committed(cursor, end, fresh.get(name, ()))
            if one.is_at_rest():
                del self._moving[name]

    # ------------------------------------------------------------------ life (R1 to R3)

    def wake(self) -> None:
        """Start whatever may start now."""
        for one in self.lanes.values():
            one.wake()

    def hold(self) -> None:
        """Start nothing more until they are released (R1)."""
        for one in self.lanes.values():
            one.hold()

    def release(self) -> None:
        """Go on after :meth:`hold`."""
        for one in self.lanes.values():
            one.release()

    async def finish_puts(self) -> None:
        """Wait until no put is in flight."""
        await asyncio.gather(*(one.finish_puts() for one in self.lanes.values()))

    async def close(self) -> None:
        """Cancel what is in flight and what is read, and end."""
        lanes = self.lanes.values()
        await asyncio.gather(self._readback.close(), *(one.close() for one in lanes))


def refusal(refused: Refused) -> DeadLetter:
    """Return the dead letter of a batch that was refused for good."""
    batch, outcome = refused
    return DeadLetter(
        reason=Reason.REFUSED,
        offset=batch.first[0],
        connection=batch.lane,
        error=f"{outcome.code}: {outcome.error}",
        value=batch.payload,
        time=batch.record_ms,
        device=batch.key,
        redriven=batch.reason is CloseReason.REDRIVEN,
        events=batch.count,
    )
