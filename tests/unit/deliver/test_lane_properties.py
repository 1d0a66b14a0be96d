"""A lane under every fault a destination can have, with hardly any memory, in virtual time.

The real delivery, queue, pace and read-backs; only destination and journal are made by hand. The
destination judges what it is given: one batch in flight per device, first landings in the order of
the outbox.
"""

import asyncio
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from random import Random

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from forwarder import retry
from forwarder.deliver.lane import MAX_CONCURRENT_PUTS
from forwarder.model import DELIVERED, Batch, Outcome, OutcomeKind
from tests.batches import batch
from tests.doubles import run_virtually
from tests.lanes import CONFIGURATION, REFUSED, THROTTLED, TRANSIENT, Lane, Sink

PHASES = (Phase.explicit, Phase.generate)
"""Without shrinking: a course is short, and takes long to run often."""

DEVICES = 6
SHARDS = 3
BAD = b"refused for ever"


class Moody(Sink):
    """Fails in every way for a while: ``moods`` are (seconds, what goes on), then all is well."""

    def __init__(self, moods: Sequence[tuple[float, str]], random: Random) -> None:
        super().__init__()
        self.moods = moods
        self._random = random

    def mood(self) -> str:
        left = asyncio.get_running_loop().time()
        for seconds, mood in self.moods:
            left -= seconds
            if left < 0:
                return mood
        return "well"

    async def put(self, batches: Sequence[Batch]) -> Sequence[Outcome]:
        mood = self.mood()
        self.seconds = self._random.choice([2.0, 30.0]) if mood == "slow" else 0.02
        if mood == "raises":
            self.times.append(asyncio.get_running_loop().time())
            msg = "a fault of the sink"
            raise OSError(msg)
        return await super().put(batches)

    def answer(self, batch: Batch, tried: int) -> Outcome:
        del tried
        if batch.payload.startswith(BAD):
            return REFUSED
        shard = f"shardId-{batch.key[0] % SHARDS:012}"
        failing: dict[str, Outcome] = {
            "throttled": THROTTLED,
            "transient": TRANSIENT,
            "configuration": CONFIGURATION,
            "refused": REFUSED,
        }
        match self.mood():
            case "partial":
                chance = (
                    THROTTLED,
                    TRANSIENT,
                    Outcome(OutcomeKind.THROTTLED, "Slow", "slow", shard),
                )
                return self._random.choice([DELIVERED, DELIVERED, *chance])
            case "shard" if shard.endswith("0"):
                return Outcome(OutcomeKind.THROTTLED, "Slow", "slow down", shard)
            case mood if mood in failing:
                return failing[mood]
        return Outcome(OutcomeKind.DELIVERED, shard=shard)


MOODS = ("well", "partial", "throttled", "shard", "transient", "configuration", "slow", "raises")


class Course:
    """One run: batches of a few devices come in while the destination is as it is."""

    def __init__(self, moods: Sequence[tuple[float, str]], seed: int, capacity: int) -> None:
        self.random = Random(seed)  # noqa: S311  # jitter
        self.sink = Moody(moods, self.random)
        self.lane = Lane(capacity=capacity, random=self.random.random, sink=self.sink)
        self.made: dict[bytes, list[str]] = defaultdict(list)
        self.bad: list[str] = []

    async def run(self, rounds: int, bad: int) -> None:
        for number in range(rounds):
            self.lane.commit(*self._batches(number, is_bad=number == bad))
            await asyncio.sleep(self.random.choice([0.0, 0.05, 1.0]))
        for _ in range(40):  # what is refused is told by another that is accepted
            await asyncio.sleep(30.0)
            self.lane.commit(self._batch(f"last{len(self.made)}.{_}", b"x"))
            if self.lane.delivery.is_idle():
                break
        await self.lane.until_idle()

    def _batches(self, number: int, *, is_bad: bool) -> list[Batch]:
        made = [self._batch(f"{number}.{i}", b"x" * 40) for i in range(self.random.randint(1, 5))]
        if is_bad:
            made.append(self._batch(f"{number}.bad", BAD * 20))
            self.bad.append(f"{number}.bad")
        return made

    def _batch(self, ident: str, payload: bytes) -> Batch:
        bad = payload.startswith(BAD)
        # Where nothing else is in memory, a device waits behind its batch that is refused.
        device = "bad" if bad else self.random.randrange(DEVICES)
        one = batch(ident, key=f"device{device}", payload=payload)
        if not bad:
            self.made[one.key].append(ident)
        return one

    def landed(self) -> dict[bytes, list[str]]:
        """Return the first landings of each device, in order."""
        landed: dict[bytes, dict[str, None]] = defaultdict(dict)
        for one in self.sink.landed:
            landed[one.key].setdefault(one.id)
        return {key: list(idents) for key, idents in landed.items()}


@settings(max_examples=30, deadline=None, phases=PHASES)
@given(
    st.lists(st.tuples(st.sampled_from([0.5, 3.0, 20.0]), st.sampled_from(MOODS)), max_size=5),
    st.integers(0, 1_000),
    st.sampled_from([50, 200, 100_000]),
    st.integers(-1, 15),
)
def test_whatever_a_destination_does_every_batch_lands_in_the_order_of_its_device(
    moods: list[tuple[float, str]], seed: int, capacity: int, bad: int
) -> None:
    async def scenario() -> Course:
        course = Course(moods, seed, capacity)
        await course.run(16, bad)
        return course

    with capture_logs():
        course = run_virtually(scenario())
    assert course.made == course.landed()
    assert course.bad == course.lane.letters()
    cursor, acked = course.lane.delivery.queue.cursor_and_acked((course.lane.outbox.end, 0))
    assert ((course.lane.outbox.end, 0), frozenset()) == (cursor, acked)


FAILING = ("throttled", "shards", "transient", "configuration", "refused", "raises")


class Failing(Moody):
    """Takes nothing at all, for ever, for reasons that change."""

    def mood(self) -> str:
        return self._random.choice([mood for _, mood in self.moods])

    def answer(self, batch: Batch, tried: int) -> Outcome:
        if self.mood() == "shards":
            return Outcome(
                OutcomeKind.THROTTLED, "Slow", "slow down", f"shard{batch.key[0] % SHARDS}"
            )
        told = super().answer(batch, tried)
        return TRANSIENT if told.kind is OutcomeKind.DELIVERED else told


@settings(max_examples=12, deadline=None, phases=PHASES)
@given(
    st.lists(st.sampled_from(FAILING), min_size=1, max_size=4),
    st.floats(0.0, 1.0, exclude_max=True),
    st.integers(0, 99),
)
def test_nothing_is_put_in_a_loop_without_backoff(
    moods: list[str], chance: float, seed: int
) -> None:
    async def scenario() -> list[float]:
        random = Random(seed)  # noqa: S311  # what fails how
        sink = Failing([(1.0, mood) for mood in moods], random)
        sink.max_batches = 5
        lane = Lane(capacity=10**9, random=lambda: chance, sink=sink)
        for number in range(20):
            lane.commit(*[batch(f"{number}.{i}", key=f"{number}.{i}") for i in range(5)])
            await asyncio.sleep(0.75)
        await asyncio.sleep(45.0)
        await lane.delivery.close()
        return sink.times

    with capture_logs():
        times = run_virtually(scenario())
    least = retry.PUT_TRANSIENT.floor
    # Puts that were under way together may fail together; the next ones wait.
    for first, at in enumerate(times):
        assert bisect_left(times, at + 1.0) - first <= MAX_CONCURRENT_PUTS + 1 / least
    if chance >= 0.5:
        assert sum(later >= times[-1] - 30.0 for later in times) <= 60


@pytest.mark.parametrize("mood", ["transient", "throttled", "raises", "shards"])
def test_a_destination_that_is_away_for_long_is_asked_every_few_seconds(mood: str) -> None:
    async def scenario() -> list[float]:
        random = Random(3)  # noqa: S311  # jitter
        sink = Failing([(1.0, mood)], random)
        lane = Lane(capacity=10**9, random=random.random, sink=sink)
        lane.commit(*[batch(str(i), key=str(i)) for i in range(100)])
        await asyncio.sleep(1200.0)
        await lane.delivery.close()
        return sink.times

    with capture_logs():
        times = run_virtually(scenario())
    pauses = [later - earlier for earlier, later in pairwise(times) if earlier > 60.0]
    assert 20 <= len(pauses) <= 1140 / 5
    assert max(pauses) <= retry.PUT_TRANSIENT.cap + 2.5
