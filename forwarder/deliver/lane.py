"""One lane of one partition: batches in flight, order per device, retries (D1 to D5).

A lane is *flowing*, *backing off* (a put failed and may succeed a moment later) or *paused*
(somebody must act). Whatever its destination does, the only effect is that its cursor lags.
"""

import asyncio
from collections.abc import Callable, Sequence

import structlog

from forwarder import retry
from forwarder.deliver.budget import Lag
from forwarder.deliver.context import Owner, Policy
from forwarder.deliver.queue import Queue
from forwarder.deliver.rate_limit import Answer, Pace
from forwarder.deliver.status import Standing
from forwarder.errors import ForwarderError, JournalError, RefusedError
from forwarder.journal import outbox
from forwarder.journal.contract import OutboxRecord
from forwarder.model import Address, Batch, Outcome, OutcomeKind
from forwarder.ops.reporter import LaneStatus, Reporter
from forwarder.sinks.contract import Sink

log = structlog.get_logger()

REQUESTS = 4
"""Most concurrent puts of one lane of one partition."""

BEHIND = 0.01
"""Seconds by which a batch that failed for a lasting reason lets others go first."""

PATIENCE = 1.0
"""Seconds that a lane may have to wait, or deliver nothing, and keep its batches in memory; beyond,
its next probe alone."""

LASTING = (OutcomeKind.CONFIGURATION, OutcomeKind.REFUSED)
"""Answers that last until somebody acts."""

SHARDS_ALONE = 3
"""Puts in a row of which nothing was taken, until throttled shards are the lane's trouble: before
that, others may well be fine."""

PROBES = 4
"""Most batches kept by a lane that fails for long and is not paused, one more after every four
tries: it may be the oldest alone that fails."""

SHARD_PATIENCE = 5.0
"""The same as ``PATIENCE`` where single shards take nothing: others may come that are fine."""

SHARD_PROBES = 256
"""Most batches kept then: behind those of slow shards others must find room."""

FEW = 64
"""Batches that have to be taken after such a time, or after a rest, until as many are kept as there
is memory for. Until then about twice as many as were taken: where only now and then one is, what
is read back would be cut again each time."""

SPARE = 16
"""Most batches kept in memory, however large, beside as many that were refused: one of them must be
accepted before it is known that those alone are at fault (D4)."""


class Delivery:
    """Deliver one lane of one partition until told to stop. Owned by its partition."""

    def __init__(  # noqa: PLR0913, PLR0917  # its surroundings, each given once
        self,
        policy: Policy,
        queue: Queue,
        sink: Sink,
        owner: Owner,
        reporter: Reporter,
        random: Callable[[], float],
        pace: Pace | None = None,
    ) -> None:
        """Start idle; ``random`` gives numbers in [0, 1) for jitter.

        ``pace`` is shared with the lane's deliveries of other partitions.
        """
        self.policy = policy
        self.queue = queue
        self.pace = pace or Pace()
        self._standing = Standing(policy.lane, policy.partition, reporter, active=policy.active)
        self._sink = sink
        self._owner = owner
        self._reporter = reporter
        self._random = random
        self._held = False
        self._hold_until = 0.0
        self._failures = 0
        self._failing_since = 0.0
        self._by_shard = False
        self._accepted = 0
        self._narrowed = -FEW
        self._attempts: dict[Address, int] = {}
        self._refusals: dict[Address, int] = {}
        self._puts: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False
        if not policy.active:
            queue.most = 0

    @property
    def status(self) -> LaneStatus:
        """Return how the lane is doing."""
        return self._standing.status

    @property
    def reason(self) -> str:
        """Return why it is not flowing, with what to do about it."""
        return self._standing.reason

    def join(self, batches: Sequence[tuple[Address, Batch]]) -> None:
        """Take batches of a tick that is known to be committed, in address order."""
        self.queue.join(batches)
        self.wake()

    def resize(self, capacity: int) -> None:
        """Keep at most ``capacity`` payload bytes in memory from now on (D1)."""
        if self.policy.active and capacity != self.queue.capacity:
            shrinks = capacity < self.queue.capacity
            self.queue.capacity = capacity
            if shrinks:
                self.queue.evict(capacity)

    def wake(self) -> None:
        """Start whatever may start now; called after every change that could allow more."""
        if self._held or self.status is LaneStatus.STOPPED:
            return
        self.queue.caught_up(self._owner.committed_end())
        self._read_back()
        self._drop_expired()
        if self.policy.active:
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

    async def settled(self) -> None:
        """Wait until no put is in flight."""
        while self._puts:
            await asyncio.wait(self._puts)

    async def stop(self) -> None:
        """Cancel what is in flight and end; what was not acknowledged is sent again later."""
        self.hold()
        self._stopped = True
        for task in self._puts:
            task.cancel()
        await asyncio.gather(*self._puts, return_exceptions=True)
        self.queue.release()

    def idle(self) -> bool:
        """Tell whether nothing waits that could still be delivered."""
        if not self.policy.active or self.status is LaneStatus.STOPPED:
            return True
        return not len(self.queue) and self.queue.rb is None

    def lag(self) -> Lag:
        """Return how much waits, in memory and in the outbox; see :meth:`Queue.lag`."""
        return self.queue.lag()

    # ------------------------------------------------------------------ putting

    def _launch(self) -> None:
        loop = asyncio.get_running_loop()
        while (due := self.queue.due()) is not None:
            due = max(due, self._hold_until)
            if due <= loop.time() and self.pace.limited:
                due = loop.time() + self.pace.wait(loop.time())
            if due > loop.time():
                self._wake_at(due)
                return
            if not self._has_room() or not self._owner.may_put():
                return
            taken = self._take(loop.time())
            if not taken:
                continue  # what was due must wait, for the oldest batch or for its shard
            task = loop.create_task(self._put(taken))
            self._puts.add(task)
            task.add_done_callback(self._put_done)

    def _take(self, now: float) -> list[tuple[Address, Batch]]:
        """Take from the queue what may go now, a probe or as much as the pace allows."""
        count = 1 if self.status is LaneStatus.PAUSED else self._sink.max_batches
        pace, size = self.pace, self._sink.max_bytes
        if not pace.limited:
            return self.queue.take(now, count, size)
        count, size = pace.most(count, size, now)
        going = []
        for address, batch in self.queue.take(now, count, size):
            again_at = 0.0 if self._sink.in_order else pace.admit(batch.key, _size(batch), now)
            if again_at:
                self.queue.defer(address, again_at)
            else:
                going.append((address, batch))
        pace.spend(len(going), sum(_size(batch) for _, batch in going), now)
        return going

    def _has_room(self) -> bool:
        """Allow a put when none is in flight, further ones only if they are full requests."""
        if not self._puts:
            return True
        if self.status is not LaneStatus.FLOWING or len(self._puts) >= REQUESTS:
            return False
        return self.queue.fills(self._sink.max_batches, self._sink.max_bytes)

    def _wake_at(self, when: float) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(when, self._woken)

    def _woken(self) -> None:
        """Wake by the timer, whom nobody would hear of a fault."""
        try:
            self.wake()
        except Exception as error:  # noqa: BLE001  # told there
            self._failed(error)

    async def _put(self, taken: Sequence[tuple[Address, Batch]]) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            outcomes = await self._sink.put([batch for _, batch in taken])
            if len(outcomes) != len(taken):
                msg = f"{len(outcomes)} answers for {len(taken)} batches"
                raise ValueError(msg)  # noqa: TRY301  # a fault like any other of the sink
        except Exception as error:  # a sink's fault must not cost the lane
            log.exception("sink.failed", connection=self.policy.lane)
            answer = Outcome(OutcomeKind.TRANSIENT, "Other", f"{type(error).__name__} in the sink")
            outcomes = [answer] * len(taken)
        self._reporter.put(self.policy.lane, loop.time() - began, outcomes)
        self._learn(taken, outcomes, began, loop.time())
        if not self._failures:
            self._failing_since = began
        self._answer(taken, outcomes, loop.time())

    def _put_done(self, task: asyncio.Task[None]) -> None:
        self._puts.discard(task)
        if self._stopped:
            return
        try:
            task.result()
            self.wake()
        except asyncio.CancelledError:  # a library passed on what it has cancelled itself
            self._owner.journal_failed(JournalError(f"a put of {self.policy.lane} was cancelled"))
        except Exception as error:  # noqa: BLE001  # told there
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        """End the opening: a fault here must not leave the lane standing still."""
        log.error("delivery.failed", connection=self.policy.lane, exc_info=error)
        text = f"{type(error).__name__} in the delivery of {self.policy.lane}"
        self._owner.journal_failed(JournalError(text))

    def _learn(
        self,
        taken: Sequence[tuple[Address, Batch]],
        outcomes: Sequence[Outcome],
        began: float,
        now: float,
    ) -> None:
        """Learn how much the destination takes, if it takes less than it was given."""
        if not self.pace.limited and not any(o.kind is OutcomeKind.THROTTLED for o in outcomes):
            return
        self.pace.learn(
            (
                Answer(
                    batch.key,
                    _size(batch),
                    outcome.shard if self.policy.keyed else "",
                    outcome.kind is OutcomeKind.DELIVERED,
                    outcome.kind is OutcomeKind.THROTTLED,
                )
                for (_, batch), outcome in zip(taken, outcomes, strict=True)
            ),
            began,
            now,
            self._random(),
        )

    def _answer(
        self,
        taken: Sequence[tuple[Address, Batch]],
        outcomes: Sequence[Outcome],
        now: float,
    ) -> None:
        pairs = list(zip(taken, outcomes, strict=True))
        delivered = [entry for entry, o in pairs if o.kind is OutcomeKind.DELIVERED]
        for address, _ in delivered:
            self._done(address)
        failed = []
        for (address, batch), outcome in pairs:
            if outcome.kind is OutcomeKind.REFUSED and self._is_culprit(address):
                self._owner.refused(batch, outcome)
                self._done(address)
            elif outcome.kind is not OutcomeKind.DELIVERED:
                failed.append((address, outcome))
        self._change_status(delivered, [o for _, o in failed], now)
        for address, outcome in failed:
            self._defer(address, outcome, now)
        if delivered:
            self._reporter.delivered(self.policy.lane, [batch for _, batch in delivered])
        self._accepted += len(delivered)
        self._owner.acknowledged()

    def _done(self, address: Address) -> None:
        self.queue.acknowledge(address)
        self._attempts.pop(address, None)
        self._refusals.pop(address, None)

    def _is_culprit(self, address: Address) -> bool:
        """Tell whether a refusal is about this batch and not about the whole lane.

        It is once another batch was accepted since the first refusal; before that, one wrong
        setting could dead-letter everything.
        """
        since = self._refusals.setdefault(address, self._accepted)
        return self._accepted > since

    def _defer(self, address: Address, outcome: Outcome, now: float) -> None:
        attempt = self._attempts.get(address, 0)
        self._attempts[address] = attempt + 1
        lasting = outcome.kind in LASTING
        schedule = retry.PAUSED if lasting else retry.TRANSIENT
        until = now + schedule.delay(attempt, self._random())
        if outcome.kind is OutcomeKind.REFUSED:
            # The lane's next probe is another batch's: one that is refused holds up only itself.
            until = max(until, self._hold_until + BEHIND)
        elif lasting and self.status is LaneStatus.PAUSED:
            until = self._hold_until  # so that of all that wait, the oldest is the next probe
        self.queue.defer(address, until)

    def _change_status(
        self, delivered: Sequence[object], failed: Sequence[Outcome], now: float
    ) -> None:
        if delivered or not failed:
            whole = self.status is LaneStatus.PAUSED or self._failures > 1
            self._failures = 0
            self._hold_until = 0.0
            if self._set_status(LaneStatus.FLOWING, "") and whole:
                self.queue.hurry()  # it was about the lane, not about single batches
            return
        lasting = next((o for o in failed if o.kind in LASTING), None)
        schedule = retry.PAUSED if lasting else retry.TRANSIENT
        self._by_shard = all(o.shard for o in failed)
        self._hold_until = now + schedule.delay(self._failures, self._random())
        self._failures += 1
        if lasting is not None:
            self._set_status(LaneStatus.PAUSED, lasting.error or lasting.code, lasting.remedy)
        elif self._failures >= SHARDS_ALONE or not self._by_shard:
            self._set_status(LaneStatus.BACKING_OFF, failed[0].error or failed[0].code)

    def _set_status(self, status: LaneStatus, reason: str, remedy: str = "") -> bool:
        return self._standing.change(status, reason, remedy)

    # ------------------------------------------------------------------ reading back, dropping

    def _drop_expired(self) -> None:
        limit = self.policy.deliver_from_ms
        if limit is None or not self.policy.active:
            return
        dropped = 0
        while newly := self.queue.drop_closed_before(limit):
            dropped += newly
        if dropped:
            log.info("lane.dropped", connection=self.policy.lane, batches=dropped)
            self._reporter.passed_over(self.policy.lane, self.queue.passed_over)
            self.queue.passed_over = 0
            self._owner.acknowledged()

    def wanted(self) -> Address | None:
        """Return from where on batches are to be read back now; None: none."""
        return self.queue.gap() if self._may_read() else None

    def take(self, record: OutboxRecord) -> int:
        """Take what fits of a stored record; return the bytes of its payload."""
        try:
            batches = outbox.decode(record.offset, record.value)
        except RefusedError as error:
            self._stop_lane(error)
            return 0
        self.queue.read_back(batches, (record.offset + 1, 0))
        if self.queue.taken_over:
            self._reporter.taken_over(self.policy.lane, self.queue.taken_over)
            self.queue.taken_over = 0
        return sum([len(batch.payload) for _, batch in batches])

    def passed(self, upto: Address) -> None:
        """Note that nothing else of this lane lies below ``upto``."""
        self.queue.read_back((), upto)

    def fed(self) -> None:
        """Go on with what was read back."""
        self.wake()

    def _may_read(self) -> bool:
        """Tell whether what is read back could be put at once."""
        if self._held or not self.policy.active or self.status is LaneStatus.STOPPED:
            return False
        now = asyncio.get_running_loop().time()
        return now >= self._rests_until(now)

    def _rests_until(self, now: float) -> float:
        """Return until when nothing is put, whatever waits."""
        return max(self._hold_until, now + self.pace.rest(now))

    def _read_back(self) -> None:
        """Keep in memory what can be sent soon; have the rest read when it can."""
        if not (self.policy.active and self.policy.rereads):
            return
        now = asyncio.get_running_loop().time()
        if self._refusals:
            self.queue.widen()  # to find a batch that is not refused
        elif self._is_long(now):
            if self.status is not LaneStatus.PAUSED:
                self._narrowed = self._accepted
            self.queue.narrow(self._probes(), waits=now < self._rests_until(now))
        elif not self._failures:
            taken = self._accepted - self._narrowed
            self.queue.widen(1 + 2 * taken if taken < FEW else None)
        self.queue.least = 1 + min(len(self._refusals), SPARE)
        self.queue.claim()
        if not self.queue.wants_read_back():
            return
        if self._may_read():
            self._owner.read_back(self.policy.lane)
        elif not len(self.queue):
            # Nothing else would: the probe is in the outbox.
            self._wake_at(self._rests_until(now))

    def _is_long(self, now: float) -> bool:
        """Tell whether the lane waits long for its next put, or has had nothing taken for long."""
        failing = now - self._failing_since if self._failures else 0.0
        if self._failures and self._by_shard:
            return failing > SHARD_PATIENCE or self.pace.rest(now) > PATIENCE
        return failing > PATIENCE or self._rests_until(now) - now > PATIENCE

    def _probes(self) -> int:
        """Return how many batches are kept to find out whether something is taken again."""
        if self.status is LaneStatus.PAUSED:
            return 1
        if self._failures and self._by_shard:
            return SHARD_PROBES
        return min(1 + self._failures // 4, PROBES)

    def _stop_lane(self, error: ForwarderError) -> None:
        self._set_status(LaneStatus.STOPPED, str(error))
        self.hold()
        self.queue.most = 0
        self.queue.evict(0)
        self.queue.claim()


def _size(batch: Batch) -> int:
    return len(batch.payload)
