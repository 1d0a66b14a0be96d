"""What failed of a lane, when it is tried again, and how much is kept meanwhile."""

import pytest

from forwarder import retry
from forwarder.deliver.queue import DeliveryQueue
from forwarder.deliver.retries import (
    ACCEPTED_TO_WIDEN,
    LASTING_RETRY_LAG_SECONDS,
    SHARD_FAILURES_BEFORE_BACKOFF,
    STUCK_AFTER_SECONDS,
    Retries,
)
from forwarder.model import Outcome, OutcomeKind
from tests.batches import batch
from tests.lanes import CONFIGURATION, REFUSED, TRANSIENT

SHARD = Outcome(OutcomeKind.THROTTLED, "Throttled", "slow down", "shard-1")


def queue(count: int = 9) -> DeliveryQueue:
    made = DeliveryQueue((0, 0), (), (0, 0), 10_000)
    made.enqueue([((i, 0), batch(str(i), key=str(i))) for i in range(count)])
    return made


def test_a_refusal_is_about_the_batch_once_another_was_accepted_since() -> None:
    retries = Retries()
    assert not retries.note_refusal((0, 0))
    assert not retries.note_refusal((0, 0))
    retries.note_done([((1, 0), batch("1"))], 1)
    assert retries.note_refusal((0, 0))
    retries.note_done([((0, 0), batch("0"))], 0)
    assert not retries.note_refusal((0, 0)), "it was forgotten with the batch"


@pytest.mark.parametrize(
    ("failed", "schedule", "lasting"),
    [(TRANSIENT, retry.PUT_TRANSIENT, None), (CONFIGURATION, retry.PUT_PAUSED, CONFIGURATION)],
)
def test_the_lane_waits_longer_with_every_put_that_fails_and_not_once_one_succeeds(
    failed: Outcome, schedule: retry.Backoff, lasting: Outcome | None
) -> None:
    retries = Retries()
    for attempt in range(4):
        assert lasting is retries.note_failure([failed], 9.0, 10.0, 0.5)
        assert 10.0 + schedule.delay(attempt, 0.5) == retries.hold_until
    retries.note_success()
    assert (0, 0.0) == (retries.failures, retries.hold_until)


def test_throttled_shards_are_not_the_lanes_trouble_before_some_puts_in_a_row() -> None:
    retries = Retries()
    found = []
    for _ in range(SHARD_FAILURES_BEFORE_BACKOFF):
        retries.note_failure([SHARD], 0.0, 1.0, 0.5)
        found.append(retries.is_about_lane())
    assert [False, False, True] == found
    retries = Retries()
    retries.note_failure([SHARD, TRANSIENT], 0.0, 1.0, 0.5)
    assert retries.is_about_lane()


def test_of_a_paused_lane_the_oldest_is_the_next_probe_and_what_is_refused_comes_after() -> None:
    retries = Retries()
    retries.note_failure([CONFIGURATION], 0.0, 1.0, 0.5)
    held = retries.hold_until
    assert held == retries.schedule((0, 0), CONFIGURATION, 1.0, 0.9, paused=True)
    later = retries.schedule((1, 0), REFUSED, 1.0, 0.0, paused=True)
    assert later >= held + LASTING_RETRY_LAG_SECONDS


def test_a_stuck_lane_keeps_its_probe_and_widens_as_batches_are_accepted_again() -> None:
    retries, kept = Retries(), queue()
    retries.limit(kept, 0.0, 0.0, paused=False)
    assert (None, 9) == (kept.max_batches, len(kept))
    retries.note_failure([TRANSIENT], 0.0, 0.1, 0.5)
    retries.limit(kept, STUCK_AFTER_SECONDS + 0.1, 0.0, paused=False)
    assert (1, 1) == (kept.max_batches, len(kept))
    retries.note_success()
    for accepted in range(0, ACCEPTED_TO_WIDEN, 8):
        retries.limit(kept, 10.0, 0.0, paused=False)
        assert 1 + 2 * accepted == kept.max_batches
        retries.note_done([], 8)
    retries.limit(kept, 10.0, 0.0, paused=False)
    assert kept.max_batches is None


def test_while_a_batch_is_refused_others_are_kept_beside_it() -> None:
    retries, kept = Retries(), queue()
    retries.note_refusal((0, 0))
    retries.note_failure([REFUSED], 0.0, 0.1, 0.5)
    retries.limit(kept, 100.0, 0.0, paused=True)
    assert (None, 2, 9) == (kept.max_batches, kept.min_batches, len(kept))
