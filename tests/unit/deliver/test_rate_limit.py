"""A rate limit against token buckets as AWS has them, in virtual time."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder import retry
from forwarder.deliver import rate_limit
from forwarder.deliver.rate_limit import PutFeedback, RateLimiter
from forwarder.sinks.requests import SHARD as UNIT

SHARD = "shardId-000000000001"
KEYS = [b"%d" % number for number in range(500)]


class Bucket:
    """A shard: ``rate`` shards' worth a second, and ``burst`` seconds of it saved up at most."""

    def __init__(self, rate: float, burst: float = 1.0) -> None:
        self.rate = rate
        self.burst = burst
        self._left = rate * burst
        self._at = 0.0

    def takes(self, size: int, now: float) -> bool:
        self._left = min(self.rate * self.burst, self._left + (now - self._at) * self.rate)
        self._at = now
        if self._left < UNIT.seconds(1, size):
            return False
        self._left -= UNIT.seconds(1, size)
        return True


class Lane:
    """A lane with always more to put, one put at a time, to one bucket that names its shard."""

    def __init__(self, bucket: Bucket, trip: float, size: int, shard: str) -> None:
        self.limit = RateLimiter(UNIT)
        self.bucket = bucket
        self.now = 0.0
        self.seen: Counter[bool] = Counter()
        self.puts = 0
        self._trip, self._size, self._shard = trip, size, shard
        self._random = random.Random(1)  # noqa: S311  # jitter
        self._again = dict.fromkeys(KEYS, 0.0)

    def run(self, until: float) -> Counter[bool]:
        """Go on until then; return how many were accepted and how many not."""
        before = self.seen.copy()
        while self.now < until:
            self.now = self._step()
        return Counter({told: self.seen[told] - before[told] for told in (True, False)})

    def _step(self) -> float:
        if self.limit.limited and (wait := self.limit.hold_back(self.now)):
            return self.now + wait
        going = self._going()
        if not going:
            return min(self._again.values())
        self.puts += 1
        began, answered = self.now, self.now + self._trip
        told = [self.bucket.takes(self._size, began) for _ in going]
        self.seen.update(told)
        if self.limit.limited or not all(told):
            answers = [
                PutFeedback(key, self._size, self._shard, taken, not taken)
                for key, taken in zip(going, told, strict=True)
            ]
            self.limit.learn(answers, began, answered, self._random.random())
        return answered

    def _going(self) -> list[bytes]:
        ready = [key for key in KEYS if self._again[key] <= self.now]
        if not self.limit.limited:
            return ready
        most, size = self.limit.allowance(len(ready), 5_000_000, self.now)
        going = []
        for key in ready[: min(most, max(1, size // self._size))]:
            self._again[key] = self.limit.reserve(key, self._size, self.now)
            if not self._again[key]:
                going.append(key)
        self.limit.spend(len(going), len(going) * self._size, self.now)
        return going


CASES = [(0.02, 1_500, ""), (0.02, 20_000, SHARD), (0.3, 1_500, SHARD), (0.3, 20_000, "")]
"""Round trips in seconds, bytes of a record, and whether the shard is named."""


@pytest.mark.parametrize("rate", [0.1, 1.0])
@pytest.mark.parametrize(("trip", "size", "shard"), CASES)
def test_a_lane_comes_to_what_its_destination_takes(
    rate: float, trip: float, size: int, shard: str
) -> None:
    lane = Lane(Bucket(rate), trip, size, shard)
    lane.run(15.0)
    seen = lane.run(40.0)
    reached = seen[True] * UNIT.seconds(1, size) / 25 / rate
    assert 0.8 <= reached <= 1.05
    assert seen[False] <= 0.1 * seen[True]


@pytest.mark.parametrize(("trip", "size", "shard"), CASES)
def test_a_limit_that_is_lifted_is_found_within_seconds(trip: float, size: int, shard: str) -> None:
    lane = Lane(Bucket(0.05), trip, size, shard)
    lane.run(15.0)
    lane.bucket.rate = 1.0
    lane.run(30.0)
    seen = lane.run(40.0)
    assert seen[True] * UNIT.seconds(1, size) / 10 >= 0.75


@pytest.mark.parametrize(("trip", "size", "shard"), CASES)
def test_a_destination_that_takes_nothing_is_asked_ever_more_seldom(
    trip: float, size: int, shard: str
) -> None:
    lane = Lane(Bucket(0.0), trip, size, shard)
    lane.run(60.0)
    first = lane.puts
    lane.run(180.0)
    assert first <= 40
    assert lane.puts - first <= 40
    lane.bucket.rate = 1.0
    lane.run(220.0)
    assert lane.run(230.0)[True] * UNIT.seconds(1, size) / 10 >= 0.75


def throttled(*keys: bytes, shard: str = "") -> list[PutFeedback]:
    return [PutFeedback(key, 1_000, shard, delivered=False, throttled=True) for key in keys]


def taken(*keys: bytes, shard: str = "") -> list[PutFeedback]:
    return [PutFeedback(key, 1_000, shard, delivered=True, throttled=False) for key in keys]


def test_nothing_is_limited_before_the_first_throttling() -> None:
    assert not RateLimiter(UNIT).limited
    assert (500, 99) == RateLimiter(UNIT).allowance(500, 99, 0.0)
    assert (0.0, 0.0) == (
        RateLimiter(UNIT).hold_back(0.0),
        RateLimiter(UNIT).reserve(b"key", 1_000, 0.0),
    )


def test_a_throttled_shard_slows_only_the_keys_that_landed_on_it() -> None:
    learned = RateLimiter(UNIT)
    learned.learn(throttled(b"slow", shard="1") + taken(b"fast", shard="2"), 0.0, 0.1, 0.5)
    assert learned.limited
    assert 0.0 == learned.hold_back(0.1)
    assert (500, 5_000_000) == learned.allowance(500, 5_000_000, 0.1)
    assert learned.reserve(b"slow", 1_000, 0.1) > 0.1
    assert [0.0, 0.0] == [learned.reserve(key, 1_000, 0.1) for key in (b"fast", b"unknown")]


def test_a_key_whose_shard_is_not_named_is_known_by_its_last_reply() -> None:
    learned = RateLimiter(UNIT)
    learned.learn(throttled(*KEYS, shard="1") + taken(b"b", shard="1"), 0.0, 0.1, 0.5)
    before = learned.shards["1"].shards
    learned.learn(throttled(b"b"), 0.2, 0.3, 0.5)
    assert learned.connection_rate is None
    assert before / 2 <= learned.shards["1"].shards < before


def test_a_key_that_moved_to_another_shard_goes_by_that_one() -> None:
    learned = RateLimiter(UNIT)
    learned.learn(throttled(b"a", b"b", shard="1"), 0.0, 0.1, 0.9)
    learned.learn(taken(b"a", shard="2"), 0.1, 0.2, 0.5)
    assert 0.0 == learned.reserve(b"a", 1_000, 0.1)
    assert learned.reserve(b"b", 1_000, 0.1) > 0.1


def test_what_was_under_way_together_halves_the_rate_once() -> None:
    learned = RateLimiter(UNIT)
    learned.learn(throttled(*KEYS) + taken(b"x"), 0.0, 0.05, 0.5)
    rates = []
    for began in (0.01, 0.02, 0.03, 0.06, 0.06):
        learned.learn(throttled(b"a") + taken(b"x"), began, 0.1, 0.5)
        assert learned.connection_rate
        rates.append(learned.connection_rate.shards)
    assert rates[0] == rates[1] == rates[2]
    assert rates[2] / 2 == pytest.approx(rates[3])
    assert rates[3] == rates[4]


def test_a_limit_that_holds_nothing_back_is_forgotten() -> None:
    learned = RateLimiter(UNIT)
    learned.learn(throttled(b"a", shard="1") + throttled(b"b"), 0.0, 0.1, 0.5)
    limited = []
    for now in (1.0, 10.2):
        learned.learn(taken(b"a", shard="1"), now - 0.1, now, 0.5)
        limited.append(learned.limited)
    assert [True, False] == limited
    assert ({}, None) == (learned.shards, learned.connection_rate)


def test_the_slowest_of_all_rates_is_told() -> None:
    learned = RateLimiter(UNIT)
    assert learned.slowest() is None
    learned.learn(throttled(*KEYS, shard="1") + throttled(b"x", shard="2"), 0.0, 1.0, 0.5)
    assert learned.slowest() == learned.shards["2"].shards < learned.shards["1"].shards


def test_a_large_record_at_a_low_rate_holds_nothing_up_beyond_the_longest_backoff() -> None:
    learned = RateLimiter(UNIT)
    learned.learn(throttled(b"a"), 0.0, 0.1, 0.5)
    for now in range(1, 20):
        learned.learn(throttled(b"a"), float(now), now + 0.1, 0.0)
    learned.spend(1, 10_000_000, 100.0)
    assert 10.0 < learned.hold_back(100.0) <= retry.PUT_TRANSIENT.cap


def test_a_low_rate_that_catches_up_does_not_rest() -> None:
    learned = RateLimiter(UNIT)
    learned.learn(throttled(*KEYS), 0.0, 0.1, 0.5)
    learned.spend(1, 1_000_000_000, 10.0)
    assert learned.hold_back(10.0) > 1.0
    assert 0.0 == learned.rest_remaining(10.0)


def test_to_look_at_a_rest_teaches_nothing() -> None:
    learned, other = RateLimiter(UNIT), RateLimiter(UNIT)
    assert 0.0 == learned.rest_remaining(0.0)
    for each in (learned, other):
        each.learn(throttled(*KEYS), 0.0, 0.1, 0.5)
    assert learned.rest_remaining(0.11) == pytest.approx(other.hold_back(0.11))
    for now in range(1, 10):
        learned.rest_remaining(float(now))
    learned.learn(taken(b"a"), 10.1, 10.2, 0.5)
    assert learned.connection_rate is None


def test_keys_remembered_are_bounded() -> None:
    learned = RateLimiter(UNIT, max_keys=3)
    learned.learn(throttled(b"a", b"b", b"c", b"d", shard="1"), 0.0, 0.1, 0.5)
    later = [learned.reserve(key, 1_000, 0.1) for key in (b"a", b"b", b"c", b"d")]
    assert [True, False, False, False] == [at == 0.0 for at in later]


def test_those_that_must_wait_come_back_one_after_the_other_and_within_seconds() -> None:
    learned = RateLimiter(UNIT)
    learned.learn(throttled(*KEYS[:100], shard="1"), 0.0, 0.1, 0.0)
    places = [learned.reserve(key, 1_000, 0.11) for key in KEYS[:100]]
    assert sorted(places) == places
    assert (
        0.11
        < places[0]
        < places[-1]
        <= 0.11 + rate_limit.SLOT_HORIZON_SECONDS + rate_limit.PUT_SECONDS_WORTH
    )


@given(st.lists(st.tuples(st.booleans(), st.floats(0.0, 3.0)), min_size=1, max_size=60))
def test_a_rate_stays_above_the_least_and_rests_no_longer_than_a_backoff(
    replies: list[tuple[bool, float]],
) -> None:
    learned, now = RateLimiter(UNIT), 0.0
    for is_taken, passed in replies:
        now += passed
        answers = taken(b"a") if is_taken else throttled(b"a")
        learned.learn(answers, now, now + 0.1, 0.999)
        now += 0.1
        if learned.connection_rate:
            assert learned.connection_rate.shards >= rate_limit.MIN_RATE
            assert (
                learned.hold_back(now)
                <= retry.PUT_TRANSIENT.cap + UNIT.seconds(1, 1_000) / rate_limit.MIN_RATE
            )
