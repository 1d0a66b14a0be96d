"""What failed of one lane of one partition, and when it is tried again (D3, D4).

Pure: time and chance come in as arguments, in steady seconds and as numbers in [0, 1).

A put of which nothing was taken makes the whole lane wait; a batch that failed beside others that
were taken waits alone. While a lane waits long, it keeps a few batches to probe with, and the rest
is left to the outbox.
"""

from collections.abc import Iterable, Sequence

from forwarder import retry
from forwarder.deliver.queue import DeliveryQueue
from forwarder.model import Address, Batch, Outcome, OutcomeKind

LASTING_KINDS = (OutcomeKind.CONFIGURATION, OutcomeKind.REFUSED)
"""Answers that last until somebody acts."""

LASTING_RETRY_LAG_SECONDS = 0.01
"""Seconds by which a batch that failed for a lasting reason lets others go first."""

STUCK_AFTER_SECONDS = 1.0
"""Seconds that a lane may have to wait, or deliver nothing, and keep its batches in memory; beyond,
its next probe alone."""

MAX_PROBES = 4
"""Most batches kept by a lane that fails for long and is not paused, one more after every four
tries: it may be the oldest alone that fails."""

SHARD_FAILURES_BEFORE_BACKOFF = 3
"""Puts in a row of which nothing was taken, until throttled shards are the lane's trouble: before
that, others may well be fine."""

SHARD_STUCK_AFTER_SECONDS = 5.0
"""The same where single shards take nothing: others may come that are fine."""

MAX_SHARD_PROBES = 256
"""Most batches kept then: behind those of slow shards others must find room."""

ACCEPTED_TO_WIDEN = 64
"""Batches that have to be taken after such a time, or after a rest, until as many are kept as there
is memory for. Until then about twice as many as were taken: where only now and then one is, what
is read back would be cut again each time."""

MAX_BATCHES_BESIDE_REFUSED = 16
"""Most batches kept in memory, however large, beside as many that were refused: one of them must be
accepted before it is known that those alone are at fault (D4)."""


class Retries:
    """The failures of one lane. Caller: its ``LaneDelivery``, never concurrently.

    ``hold_until``: nothing is put before. ``failures``: puts in a row of which nothing was taken.
    """

    def __init__(self) -> None:
        """Begin with nothing failed."""
        self.hold_until = 0.0
        self.failures = 0
        self._failing_since = 0.0
        self._by_shard = False
        self._accepted = 0
        self._accepted_when_narrowed = -ACCEPTED_TO_WIDEN
        self._attempts: dict[Address, int] = {}
        self._refusals: dict[Address, int] = {}

    # ------------------------------------------------------------------ the answers of a put

    def note_refusal(self, address: Address) -> bool:
        """Note that a batch was refused; tell whether that is about this batch alone.

        It is once another batch was accepted since the first refusal; before that, one wrong
        setting could dead-letter everything.
        """
        since = self._refusals.setdefault(address, self._accepted)
        return self._accepted > since

    def note_done(self, done: Iterable[tuple[Address, Batch]], accepted: int) -> None:
        """Forget batches that are done, of which the destination took ``accepted``.

        The others were refused for good. Called once :meth:`note_refusal` was for all of a put.
        """
        self._accepted += accepted
        if not (self._attempts or self._refusals):
            return
        for address, _ in done:
            self._attempts.pop(address, None)
            self._refusals.pop(address, None)

    def note_success(self) -> None:
        """Note a put of which something was taken, or nothing is to be tried again."""
        self.failures = 0
        self.hold_until = 0.0

    def note_failure(
        self, failed: Sequence[Outcome], began: float, now: float, random: float
    ) -> Outcome | None:
        """Note a put of which nothing was taken; the lane waits.

        ``began``: when the put did. Returns the answer that lasts until somebody acts, if one does.
        """
        if not self.failures:
            self._failing_since = began
        lasting = next((one for one in failed if one.kind in LASTING_KINDS), None)
        schedule = retry.PUT_PAUSED if lasting else retry.PUT_TRANSIENT
        self._by_shard = all(one.shard for one in failed)
        self.hold_until = now + schedule.delay(self.failures, random)
        self.failures += 1
        return lasting

    def is_about_lane(self) -> bool:
        """Tell whether what fails is the lane's trouble, not that of single shards."""
        return self.failures >= SHARD_FAILURES_BEFORE_BACKOFF or not self._by_shard

    def schedule(
        self, address: Address, outcome: Outcome, now: float, random: float, *, paused: bool
    ) -> float:
        """Note that a batch failed and return when it may be put again.

        ``paused``: the lane waits for somebody to act; of all that wait, the oldest is then the
        next probe.
        """
        attempt = self._attempts.get(address, 0)
        self._attempts[address] = attempt + 1
        lasting = outcome.kind in LASTING_KINDS
        schedule = retry.PUT_PAUSED if lasting else retry.PUT_TRANSIENT
        until = now + schedule.delay(attempt, random)
        if outcome.kind is OutcomeKind.REFUSED:
            # The lane's next probe is another batch's: one that is refused holds up only itself.
            return max(until, self.hold_until + LASTING_RETRY_LAG_SECONDS)
        return self.hold_until if lasting and paused else until

    # ------------------------------------------------------------------ what is kept meanwhile

    def limit(self, queue: DeliveryQueue, now: float, rest: float, *, paused: bool) -> None:
        """Set how many batches the queue keeps in memory: what can be put soon.

        ``rest``: the seconds for which a throttled destination is left alone still. A lane that
        waits long for its next put, or has had nothing taken for long, keeps a few probes.
        """
        rests_until = max(self.hold_until, now + rest)
        failing = now - self._failing_since if self.failures else 0.0
        if self.failures and self._by_shard:
            is_stuck = failing > SHARD_STUCK_AFTER_SECONDS or rest > STUCK_AFTER_SECONDS
        else:
            is_stuck = failing > STUCK_AFTER_SECONDS or rests_until - now > STUCK_AFTER_SECONDS
        if self._refusals:
            queue.max_batches = None  # to find a batch that is not refused
        elif is_stuck:
            if not paused:
                self._accepted_when_narrowed = self._accepted
            queue.keep_probes(self._probes(paused=paused), waits=now < rests_until)
        elif not self.failures:
            taken = self._accepted - self._accepted_when_narrowed
            queue.max_batches = 1 + 2 * taken if taken < ACCEPTED_TO_WIDEN else None
        queue.min_batches = 1 + min(len(self._refusals), MAX_BATCHES_BESIDE_REFUSED)
        queue.update_claim()

    def _probes(self, *, paused: bool) -> int:
        """Return how many batches are kept to find out whether something is taken again."""
        if paused:
            return 1
        if self.failures and self._by_shard:
            return MAX_SHARD_PROBES
        return min(1 + self.failures // 4, MAX_PROBES)
