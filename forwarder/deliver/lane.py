"""One lane of one partition: batches in flight, order per device, retries (D1 to D5).

A lane is *flowing*, *backing off* (a put failed and may succeed a moment later) or *paused*
(somebody must act). Whatever its destination does, the only effect is that its cursor lags.
"""

import asyncio
from collections.abc import Sequence

import structlog

from forwarder.deliver.budget import Lag
from forwarder.deliver.context import LaneContext, LanePolicy
from forwarder.deliver.queue import DeliveryQueue
from forwarder.deliver.rate_limit import PutFeedback, RateLimiter
from forwarder.deliver.readback import Readback
from forwarder.deliver.retries import Retries
from forwarder.errors import JournalError, RefusedError
from forwarder.journal import outbox
from forwarder.journal.contract import OutboxRecord
from forwarder.model import Address, Batch, Outcome, OutcomeKind
from forwarder.ops.reporter import LaneStatus, Reporter
from forwarder.sinks.contract import Sink

log = structlog.get_logger()

MAX_CONCURRENT_PUTS = 4
"""Most concurrent puts of one lane of one partition."""

MIN_TIMER_SECONDS = 0.001
"""Seconds for which a timer is set at least: the clock and the loop's timers may differ by less."""


_DELIVERED = OutcomeKind.DELIVERED


class LaneStatusTracker:
    """How one lane of one partition is doing, and why. Caller: its delivery.

    A lane begins flowing or inactive, as its connection says; that is not told.
    """

    def __init__(self, lane: str, partition: str, reporter: Reporter, *, active: bool) -> None:
        """Begin as the connection says."""
        self.status = LaneStatus.FLOWING if active else LaneStatus.INACTIVE
        self.reason = ""
        self._lane = lane
        self._partition = partition
        self._reporter = reporter

    def change(self, status: LaneStatus, reason: str, remedy: str = "") -> bool:
        """Take a new status and report it if it or its reason is another.

        Returns whether the status is another. A lane that was stopped stays so.
        """
        if self.status is LaneStatus.STOPPED:
            return False
        is_other = status is not self.status
        if is_other or reason != self.reason:
            self.status, self.reason = status, reason
            self._reporter.lane_status(self._lane, self._partition, status, reason, remedy)
        return is_other


class LaneDelivery:
    """Delivers one lane of one partition until it is closed.

    Callers: ``PartitionDeliveries`` (or a replay) for everything but the methods of a
    ``ScanTarget``, which the partition's read-back calls. All on the event loop; none waits but
    ``finish_puts`` and ``close``. What it comes to is left in ``LaneContext.results``.
    """

    def __init__(
        self,
        policy: LanePolicy,
        queue: DeliveryQueue,
        sink: Sink,
        context: LaneContext,
        end: Address,
    ) -> None:
        """Prepare; nothing is put before :meth:`wake` or :meth:`on_committed`.

        ``end``: the end of what this owner knows to be committed in the outbox (D2).
        """
        self.policy = policy
        self.queue = queue
        self._sink = sink
        self._clock = context.clock
        self._random = context.random
        self._reporter = context.reporter
        self._rate_limit = context.rate_limit
        self._lease = context.lease
        self._results = context.results
        self._readback = context.readback
        self._end = end
        self._status = LaneStatusTracker(
            policy.lane, policy.partition, context.reporter, active=policy.active
        )
        self._retries = Retries()
        self._held = False
        self._puts: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        if not policy.active:
            queue.max_batches = 0

    @property
    def status(self) -> LaneStatus:
        """Return the lane's status, as metrics, log and /readyz have it."""
        return self._status.status

    @property
    def reason(self) -> str:
        """Return why it is not flowing, with what to do about it; "" while it is."""
        return self._status.reason

    @property
    def rate_limit(self) -> RateLimiter:
        """Return how fast its connection may be put to."""
        return self._rate_limit

    def is_idle(self) -> bool:
        """Tell whether nothing waits that could still be delivered."""
        if not self.policy.active or self.status is LaneStatus.STOPPED:
            return True
        return not len(self.queue) and self.queue.readback_from is None

    def is_at_rest(self) -> bool:
        """Tell whether nothing of what is committed waits, and nothing will until more is."""
        queue = self.queue
        if len(queue) or queue.acked or queue.readback_from is not None:
            return False
        return self.policy.active and not self.reason

    def lag(self) -> Lag:
        """Return how much waits, in memory and in the outbox; see :meth:`DeliveryQueue.lag`."""
        return self.queue.lag()

    def on_committed(
        self, cursor: Address, end: Address, batches: Sequence[tuple[Address, Batch]]
    ) -> None:
        """Take a committed tick's cursor, the new end of the outbox and its batches (K5)."""
        self._end = end
        self.queue.on_committed(cursor)
        self.enqueue(batches)

    def enqueue(self, batches: Sequence[tuple[Address, Batch]]) -> None:
        """Take batches that are known to be committed, in address order."""
        self.queue.enqueue(batches)
        self.wake()

    def wake(self) -> None:
        """Start whatever may start now; called after every change that could allow more."""
        if self._held or self.status is LaneStatus.STOPPED:
            return
        if self.queue.readback_from is not None:
            self.queue.end_readback(self._end)
        if not self.policy.active:
            return
        if self._readback is not None:
            self._read_back(self._readback)
        if self.policy.deliver_from_ms is not None:
            self._drop_closed_before(self.policy.deliver_from_ms)
        self._launch()

    def hold(self) -> None:
        """Start nothing more until :meth:`release` (R1)."""
        self._held = True
        if self._timer:
            self._timer.cancel()

    def release(self) -> None:
        """Go on after :meth:`hold`."""
        self._held = False
        self.wake()

    async def finish_puts(self) -> None:
        """Wait until no put is in flight."""
        while self._puts:
            await asyncio.wait(self._puts)

    async def close(self) -> None:
        """Cancel what is in flight and end; what was not acknowledged is sent again later."""
        self.hold()
        self._closed = True
        for task in self._puts:
            task.cancel()
        await asyncio.gather(*self._puts, return_exceptions=True)
        self.queue.clear()

    # ------------------------------------------------------------------ putting: D3

    def _launch(self) -> None:
        loop = asyncio.get_running_loop()
        while (due := self.queue.next_due()) is not None:
            now = self._clock.steady()
            due = max(due, self._retries.hold_until)
            if due <= now and self._rate_limit.limited:
                due = now + self._rate_limit.hold_back(now)
            if due > now:
                self._wake_at(due, now)
                return
            if self._puts and not self._has_room():
                return
            if not self._lease.allows(now):
                self._results.want_lease()
                return
            if not (taken := self._take(now)):
                continue  # what was due must wait, for the oldest batch or for its shard
            task = loop.create_task(self._put(taken))
            self._puts.add(task)
            task.add_done_callback(self._put_done)

    def _take(self, now: float) -> list[tuple[Address, Batch]]:
        """Take from the queue what may go now, a probe or as much as the rate limit allows."""
        count = 1 if self.status is LaneStatus.PAUSED else self._sink.max_batches
        limit, size = self._rate_limit, self._sink.max_bytes
        if not limit.limited:
            return self.queue.take(now, count, size)
        count, size = limit.allowance(count, size, now)
        going = []
        for address, batch in self.queue.take(now, count, size):
            again_at = (
                0.0 if self._sink.in_order else limit.reserve(batch.key, len(batch.payload), now)
            )
            if again_at:
                self.queue.defer(address, again_at)
            else:
                going.append((address, batch))
        limit.spend(len(going), sum(len(batch.payload) for _, batch in going), now)
        return going

    def _has_room(self) -> bool:
        """Allow another put beside those in flight if it is a full request."""
        if self.status is not LaneStatus.FLOWING or len(self._puts) >= MAX_CONCURRENT_PUTS:
            return False
        return self.queue.fills_request(self._sink.max_batches, self._sink.max_bytes)

    def _wake_at(self, when: float, now: float) -> None:
        if self._timer:
            self._timer.cancel()
        pause = max(MIN_TIMER_SECONDS, when - now)
        self._timer = asyncio.get_running_loop().call_later(pause, self._wake_by_timer)

    def _wake_by_timer(self) -> None:
        """Wake; nobody else would hear of a fault."""
        try:
            self.wake()
        except Exception as error:  # noqa: BLE001  # told there
            self._fail(error)

    async def _put(self, taken: Sequence[tuple[Address, Batch]]) -> None:
        began = self._clock.steady()
        try:
            outcomes = await self._sink.put([batch for _, batch in taken])
            if len(outcomes) != len(taken):
                msg = f"{len(outcomes)} answers for {len(taken)} batches"
                raise ValueError(msg)  # noqa: TRY301  # a fault like any other of the sink
        except Exception as error:  # a sink's fault must not cost the lane
            log.exception("sink.failed", connection=self.policy.lane)
            answer = Outcome(OutcomeKind.TRANSIENT, "Other", f"{type(error).__name__} in the sink")
            outcomes = [answer] * len(taken)
        now = self._clock.steady()
        self._reporter.put(self.policy.lane, now - began, outcomes)
        self._answer(taken, outcomes, began, now)

    def _put_done(self, task: asyncio.Task[None]) -> None:
        self._puts.discard(task)
        if self._closed:
            return
        try:
            task.result()
            self.wake()
        except asyncio.CancelledError:  # a library passed on what it has cancelled itself
            self._results.fail(JournalError(f"a put of {self.policy.lane} was cancelled"))
        except Exception as error:  # noqa: BLE001  # told there
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        """End the opening: a fault here must not leave the lane standing still."""
        log.error("delivery.failed", connection=self.policy.lane, exc_info=error)
        text = f"{type(error).__name__} in the delivery of {self.policy.lane}"
        self._results.fail(JournalError(text))

    def _learn_rate(
        self,
        taken: Sequence[tuple[Address, Batch]],
        outcomes: Sequence[Outcome],
        began: float,
        now: float,
    ) -> None:
        """Learn how much the destination takes, if it takes less than it was given."""
        limit = self._rate_limit
        if not limit.limited and not any(o.kind is OutcomeKind.THROTTLED for o in outcomes):
            return
        limit.learn(
            (
                PutFeedback(
                    batch.key,
                    len(batch.payload),
                    outcome.shard if self.policy.keyed else "",
                    delivered=outcome.kind is OutcomeKind.DELIVERED,
                    throttled=outcome.kind is OutcomeKind.THROTTLED,
                )
                for (_, batch), outcome in zip(taken, outcomes, strict=True)
            ),
            began,
            now,
            self._random(),
        )

    # ------------------------------------------------------------------ answers: D4

    def _answer(
        self,
        taken: Sequence[tuple[Address, Batch]],
        outcomes: Sequence[Outcome],
        began: float,
        now: float,
    ) -> None:
        """Acknowledge what was delivered or is refused for good, and defer the rest."""
        done = [
            entry
            for entry, outcome in zip(taken, outcomes, strict=True)
            if outcome.kind is _DELIVERED
        ]
        has_failed = len(done) < len(taken)
        if has_failed or self._rate_limit.limited:
            self._learn_rate(taken, outcomes, began, now)
        delivered = [batch for _, batch in done]
        failed: list[tuple[Address, Outcome]] = []
        for entry, outcome in zip(taken, outcomes, strict=True) if has_failed else ():
            address, batch = entry
            if outcome.kind is OutcomeKind.REFUSED and self._retries.note_refusal(address):
                self._results.note_refused(batch, outcome)
                done.append(entry)
            elif outcome.kind is not _DELIVERED:
                failed.append((address, outcome))
        self.queue.acknowledge([address for address, _ in done])
        self._retries.note_done(done, len(delivered))
        self._change_status([o for _, o in failed], began, now, taken_some=bool(delivered))
        paused = self.status is LaneStatus.PAUSED
        for address, outcome in failed:
            until = self._retries.schedule(address, outcome, now, self._random(), paused=paused)
            self.queue.defer(address, until)
        if delivered:
            self._reporter.delivered(self.policy.lane, delivered)
        self._results.note_moved()

    def _change_status(
        self, failed: Sequence[Outcome], began: float, now: float, *, taken_some: bool
    ) -> None:
        retries = self._retries
        if taken_some or not failed:
            whole = self.status is LaneStatus.PAUSED or retries.failures > 1
            retries.note_success()
            if self._status.change(LaneStatus.FLOWING, "") and whole:
                self.queue.clear_deferrals()  # it was about the lane, not about single batches
            return
        lasting = retries.note_failure(failed, began, now, self._random())
        if lasting is not None:
            reason = lasting.error or lasting.code
            self._status.change(LaneStatus.PAUSED, reason, lasting.remedy)
        elif retries.is_about_lane():
            self._status.change(LaneStatus.BACKING_OFF, failed[0].error or failed[0].code)

    def _drop_closed_before(self, time_ms: int) -> None:
        """Acknowledge unsent what was closed before ``time_ms`` (D5)."""
        dropped = 0
        while newly := self.queue.drop_closed_before(time_ms):
            dropped += newly
        if dropped:
            log.info("lane.batches_dropped", connection=self.policy.lane, batches=dropped)
            self._reporter.passed_over(self.policy.lane, self.queue.collect_passed_over())
            self._results.note_moved()

    # ------------------------------------------------------------------ reading back: D1, D2

    def _read_back(self, readback: Readback) -> None:
        """Keep in memory what can be sent soon; have the rest read when it can."""
        now = self._clock.steady()
        rest = self._rate_limit.rest_remaining(now) if self._rate_limit.limited else 0.0
        paused = self.status is LaneStatus.PAUSED
        self._retries.limit(self.queue, now, rest, paused=paused)
        if self.queue.readback_from is None or not self.queue.wants_read_back():
            return
        rests_until = max(self._retries.hold_until, now + rest)
        if now >= rests_until:
            readback.ask(self.policy.lane)
        elif not len(self.queue):
            # Nothing else would: the probe is in the outbox.
            self._wake_at(rests_until, now)

    def wanted_from(self) -> Address | None:
        """Return from where on batches are to be read back now; None: none."""
        if self._held or not self.policy.active or self.status is LaneStatus.STOPPED:
            return None
        now = self._clock.steady()
        # Only what could be put at once: until then it would take memory from others.
        if now < max(self._retries.hold_until, now + self._rate_limit.rest_remaining(now)):
            return None
        return self.queue.next_to_read()

    def offer(self, record: OutboxRecord) -> int:
        """Take what fits of a stored record; return the bytes of its payload."""
        try:
            batches = outbox.decode_record(record.offset, record.value)
        except RefusedError as error:
            self._stop(error)
            return 0
        self.queue.add_read(batches, (record.offset + 1, 0))
        if events := self.queue.collect_taken_over():
            self._reporter.taken_over(self.policy.lane, events)
        return sum([len(batch.payload) for _, batch in batches])

    def skip_to(self, upto: Address) -> None:
        """Note that nothing else of this lane lies below ``upto``."""
        self.queue.add_read((), upto)

    def resume_after_scan(self) -> None:
        """Go on with what was read back, and ask again for more."""
        self.wake()

    def _stop(self, error: RefusedError) -> None:
        """Put nothing more until it is opened again: what is stored cannot be read."""
        self._status.change(LaneStatus.STOPPED, str(error))
        self.hold()
        self.queue.max_batches = 0
        self.queue.evict(0)
        self.queue.update_claim()
