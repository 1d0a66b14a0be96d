"""How fast a throttled connection may be put to: learned from replies, forgotten once unneeded.

Pure: time comes in as an argument, in steady seconds. Rates are in *shards*: one is what one unit
of the sink's capacity takes (``Sink.throughput``), so that one number limits records and bytes.

A rate is halved when a reply says throttled, at most once for what was under way meanwhile. It
grows back by an amount per second: quickly to just below where it was throttled, slowly from
there, and by twice as much every second while nothing is throttled, so that a limit that was
lifted is found within seconds. Nothing is limited before the first throttling, and no longer than
the limit holds anything back.
"""

import math
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from forwarder import retry
from forwarder.sinks.contract import Throughput

MIN_RATE = 0.01
"""Lowest rate, in shards; backoff takes care of what takes less."""
FAST_GROWTH = 0.25
"""Growth per second, as a part of the rate that was throttled, up to ``FAST_GROWTH_UP_TO`` of
it."""
FAST_GROWTH_UP_TO = 0.9
SLOW_GROWTH = 0.02
"""Growth per second above that, doubled every second."""
MIN_GROWTH = 0.005
"""Growth per second in shards, whatever the rate."""
PUT_SECONDS_WORTH = 0.1
"""Seconds' worth put at once: enough to fill requests, too little to empty a bucket."""
MAX_BURST_SECONDS = 0.5
"""Seconds' worth that may be made up for at most, after a put that took long."""
SLOT_HORIZON_SECONDS = 2.0
"""Seconds ahead for which batches of a shard are given a time to come back."""
MAX_WAIT_SECONDS = retry.PUT_TRANSIENT.cap
"""Seconds for which nothing goes at most, however much one put took of a low rate: what would be
left to pay is for the next replies to judge."""
RATE_TTL_SECONDS = 10.0
"""Seconds after which a rate that held nothing back is forgotten."""
MAX_KEYS = 20_000
"""Device keys whose shard is remembered while some shard is slow, some 250 bytes each."""


class AdaptiveRate:
    """The rate that a connection, or one shard of it, was found to take, in shards.

    Additive increase, multiplicative decrease. Caller: :class:`RateLimiter`.
    """

    def __init__(self, taken: float, seconds: float, now: float) -> None:
        """Create at half of the rate that was tried: ``taken`` shard-seconds within ``seconds``."""
        self.shards = max(MIN_RATE, taken / max(seconds, 0.001) / 2)
        self._refusals = 0
        self._throttled = self.shards * 2
        self._step = 0.0
        self._halved = self._grown = self._last_limited = now
        self._free = self._next_slot_at = self._rested = now

    def hold_back(self, now: float) -> float:
        """Return the seconds until something may be put, and note that it is held back; 0.0: now.

        Called only with something to put: a rate grows only while it holds something back.
        """
        self._grow(now)
        if self._free <= now:
            return 0.0
        self._last_limited = now
        return self._free - now

    def rest_remaining(self, now: float) -> float:
        """Return the seconds for which nothing may be put because a whole put was throttled."""
        return max(0.0, self._rested - now)

    def put_allowance(self, now: float) -> float:
        """Return what one put may take now, in shard-seconds."""
        return self.shards * min(MAX_BURST_SECONDS, PUT_SECONDS_WORTH + max(0.0, now - self._free))

    def spend(self, taken: float, now: float) -> None:
        """Count ``taken`` shard-seconds that are put now."""
        if taken > self.put_allowance(now) / 2:
            self._last_limited = now  # it filled what it was given, and would have taken more
        due = max(self._free, now - MAX_BURST_SECONDS + PUT_SECONDS_WORTH) + taken / self.shards
        self._free = min(due, max(self._free, now + MAX_WAIT_SECONDS))

    def schedule(self, taken: float, now: float) -> float:
        """Return when a batch that may not be put now is to ask again; later with every call."""
        self._next_slot_at = min(
            max(self._next_slot_at, self._free) + taken / self.shards, now + SLOT_HORIZON_SECONDS
        )
        # Several come back together, to share a request.
        return now + PUT_SECONDS_WORTH * max(
            1, math.ceil((self._next_slot_at - now) / PUT_SECONDS_WORTH)
        )

    def halve(self, began: float, now: float) -> None:
        """Slow down for a put begun at ``began``, unless that was done since."""
        self._grow(now)
        if began < self._halved:
            return
        self._throttled = self.shards
        self.shards = max(MIN_RATE, self.shards / 2)
        self._halved, self._step = now, 0.0

    def start_rest(self, random: float, now: float) -> None:
        """Let nothing be put for a while, longer each time: nothing of a put was taken."""
        delay = retry.PUT_TRANSIENT.delay(self._refusals, random)
        self._rested = max(self._rested, now + delay)
        self._free = max(self._free, self._rested)
        self._refusals += 1
        self._last_limited = now

    def note_taken(self) -> None:
        """Note that something of a put was taken: the next rest is a short one again."""
        self._refusals = 0

    def is_idle(self, now: float) -> bool:
        """Tell whether it held nothing back for ``RATE_TTL_SECONDS``."""
        return now - max(self._last_limited, self._halved) > RATE_TTL_SECONDS

    def _grow(self, now: float) -> None:
        # Only while it holds something back, and does not rest: what is not tried teaches nothing.
        since = max(self._grown, self._rested)
        passed = min(max(0.0, now - since), 1.0) if self._last_limited >= self._grown else 0.0
        self._grown = now
        if self.shards < FAST_GROWTH_UP_TO * self._throttled:
            step = FAST_GROWTH * self._throttled
        else:
            self._step = max(self._step, SLOW_GROWTH * self._throttled) * 2.0**passed
            step = self._step
        self.shards += max(MIN_GROWTH, step) * passed


class PutFeedback(NamedTuple):
    """What a reply says of one batch; ``shard``: empty where it names none."""

    key: bytes
    size: int
    shard: str
    delivered: bool
    throttled: bool


class RateLimiter:
    """The rates of one connection, shared by its lanes on all partitions of a worker.

    Caller: delivery, on the event loop. ``limited``: whether there is any; while there is none,
    nothing else is to be asked.
    """

    def __init__(self, unit: Throughput, max_keys: int = MAX_KEYS) -> None:
        """Create without any limit.

        ``unit``: what rates are counted in, a *shard*; the shards of ``max_keys`` device keys are
        remembered.
        """
        self._unit = unit
        self._max_keys = max_keys
        self.limited = False
        self.connection_rate: AdaptiveRate | None = None
        self.shards: dict[str, AdaptiveRate] = {}
        self._shard_of: OrderedDict[bytes, str] = OrderedDict()

    def slowest(self) -> float | None:
        """Return the lowest rate of the connection and its shards, in shards; None: no limit.

        As of the last put: a rate that nothing waits for does not grow.
        """
        rates = [*self.shards.values(), *([self.connection_rate] if self.connection_rate else [])]
        return min((rate.shards for rate in rates), default=None)

    def hold_back(self, now: float) -> float:
        """Return the seconds until the connection as a whole may put again; 0.0: now.

        Called with something to put: that it is held back is counted.
        """
        return self.connection_rate.hold_back(now) if self.connection_rate else 0.0

    def rest_remaining(self, now: float) -> float:
        """Return the seconds for which nothing may be put because a whole put was throttled.

        Not the waiting time of a low rate. Changes nothing.
        """
        return self.connection_rate.rest_remaining(now) if self.connection_rate else 0.0

    def allowance(self, records: int, size: int, now: float) -> tuple[int, int]:
        """Return the most records and bytes of the next put, of those it might have."""
        if self.connection_rate is None:
            return records, size
        share = self.connection_rate.put_allowance(now)
        return (
            min(records, max(1, int(share * self._unit.records))),
            min(size, int(share * self._unit.bytes)),
        )

    def reserve(self, key: bytes, size: int, now: float) -> float:
        """Count a batch of a device key and return 0.0, or return when it is to ask again."""
        rate = self.shards.get(self._shard_of.get(key, ""))
        if rate is None:
            return 0.0
        taken = self._unit.seconds(1, size)
        if rate.hold_back(now):
            return rate.schedule(taken, now)
        rate.spend(taken, now)
        return 0.0

    def spend(self, records: int, size: int, now: float) -> None:
        """Charge the connection's rate for a put that begins, if it has one."""
        if self.connection_rate:
            self.connection_rate.spend(self._unit.seconds(records, size), now)

    def learn(
        self, answers: Iterable[PutFeedback], began: float, now: float, random: float
    ) -> None:
        """Learn from the reply to a put begun at ``began``; ``random`` in [0, 1).

        Needed only while ``limited``, and for a reply that throttles.
        """
        replies: dict[str, list[PutFeedback]] = {}
        for answer in answers:
            if answer.shard:
                self._remember(answer.key, answer.shard)
            shard = answer.shard or self._shard_of.get(answer.key, "")
            replies.setdefault(shard, []).append(answer)
        for shard, reply in replies.items():
            self._judge(shard, reply, began, now, random)
        self._forget(now)

    def _judge(
        self, shard: str, reply: Sequence[PutFeedback], began: float, now: float, random: float
    ) -> None:
        rate = self.shards.get(shard) if shard else self.connection_rate
        if any(answer.throttled for answer in reply):
            if rate is None:
                taken = self._unit.seconds(len(reply), sum(answer.size for answer in reply))
                rate = self._limit(shard, AdaptiveRate(taken, now - began, now))
            else:
                rate.halve(began, now)
            if not any(answer.delivered for answer in reply):
                rate.start_rest(random, now)
                return
        if rate is not None:
            rate.note_taken()

    def _limit(self, shard: str, rate: AdaptiveRate) -> AdaptiveRate:
        if shard:
            self.shards[shard] = rate
        else:
            self.connection_rate = rate
        return rate

    def _remember(self, key: bytes, shard: str) -> None:
        self._shard_of[key] = shard
        self._shard_of.move_to_end(key)
        if len(self._shard_of) > self._max_keys:
            self._shard_of.popitem(last=False)

    def _forget(self, now: float) -> None:
        """Let go of rates that hold nothing back, and of the keys when no shard is slow."""
        for shard in [s for s, rate in self.shards.items() if rate.is_idle(now)]:
            del self.shards[shard]
        if self.connection_rate and self.connection_rate.is_idle(now):
            self.connection_rate = None
        if not self.shards:
            self._shard_of.clear()
        self.limited = bool(self.connection_rate or self.shards)
