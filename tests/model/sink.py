"""A model of destinations: lanes that are down, answer late or never, refuse, or take half."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from forwarder.deliver import queue
from forwarder.model import DELIVERED, Batch, Outcome, OutcomeKind
from forwarder.sinks.requests import SHARD
from tests.model.journal import Client
from tests.model.loop import Fault
from tests.model.oracle import Committed, Oracle

MOODS = (
    "up",
    "up",
    "up",
    "down",
    "mute",
    "closed",
    "picky",
    "picky",
    "half",
    "slow",
    "sleepy",
    "throttled",
)
"""``mute`` lands and never says so, ``picky`` refuses some for good, ``half`` takes every second
batch, ``slow`` answers late, ``sleepy`` lands late."""

_ANSWERS = {
    "down": Outcome(OutcomeKind.TRANSIENT, "Reset", "no answer"),
    "mute": Outcome(OutcomeKind.TRANSIENT, "Reset", "no answer"),
    "closed": Outcome(OutcomeKind.CONFIGURATION, "Denied", "no"),
    "throttled": Outcome(OutcomeKind.THROTTLED, "Throttled", "slow down"),
}
REFUSED = Outcome(OutcomeKind.REFUSED, "Validation", "not that one")


class Destinations:
    """The destinations of all lanes, whoever puts. ``in_order``: lanes that take one put at a time.

    ``lose_flying`` decides what becomes of puts on their way when a process dies.
    """

    def __init__(self, oracle: Oracle) -> None:
        """Have every lane up."""
        self.oracle = oracle
        self.moods: dict[str, str] = {}
        self.in_order: frozenset[str] = frozenset()

    def mood(self, lane: str) -> str:
        """Return how a lane's destination is doing."""
        return self.moods.get(lane, "up")


class Putter(Client, Protocol):
    """What a destination asks of the process that puts."""

    lose_flying: bool

    def fault(self, text: str) -> None:
        """Tell the world that something is broken."""

    def may_put(self, one: Committed) -> None:
        """Judge whether this process may begin a put of this batch now."""


class Sink:
    """The sink of one lane in one process."""

    max_batches = 4
    max_bytes = 1 << 20
    throughput = SHARD

    def __init__(self, lane: str, putter: Putter, destinations: Destinations) -> None:
        """Put on behalf of a process."""
        self._lane = lane
        self._putter = putter
        self._destinations = destinations
        self._flying: list[Committed] = []
        self.in_order = lane in destinations.in_order

    async def put(self, batches: Sequence[Batch]) -> Sequence[Outcome]:
        """Judge, travel, land or not, answer."""
        if not self._putter.alive:
            raise asyncio.CancelledError
        oracle = self._destinations.oracle
        try:
            ones = self._judged(batches)
        except Fault as fault:
            self._putter.fault(str(fault))  # the lane would take it for a fault of the sink
            raise
        self._flying += ones
        future: asyncio.Future[list[Outcome]] = asyncio.get_running_loop().create_future()
        mood = self._destinations.mood(self._lane)
        oracle.seen[f"put.{mood}"] = oracle.seen.get(f"put.{mood}", 0) + 1
        go, back = {"slow": (0.05, 4.0), "sleepy": (6.0, 0.05)}.get(mood, (0.02, 0.02))
        self._putter.later(go, lambda: self._arrive(ones, mood, back, future))
        try:
            return await future
        finally:
            self._flying = [one for one in self._flying if one not in ones]

    def _judged(self, batches: Sequence[Batch]) -> list[Committed]:
        ones = [self._destinations.oracle.put(self._lane, batch) for batch in batches]
        for one in ones:
            self._judge(one, ones)
            self._putter.may_put(one)
        return ones

    def _judge(self, one: Committed, beside: Sequence[Committed]) -> None:
        """Judge what else is in flight of the same line (I7, I13)."""
        same = [o for o in self._flying if o.partition == one.partition]
        if self.in_order:
            broken = bool(same)
        else:
            same_key = [o for o in [*same, *beside] if o.batch.key == one.batch.key]
            broken = any(o is not one and o.partition == one.partition for o in same_key)
        if broken:
            text = f"I7: {self._lane} has two puts of one device in flight"
            raise Fault(text)
        if len(same) + len(beside) > queue.MAX_UNCOMMITTED_ACKS + 1:
            text = "I13: too many puts in flight"
            raise Fault(text)

    def _arrive(
        self,
        ones: Sequence[Committed],
        mood: str,
        back: float,
        future: "asyncio.Future[list[Outcome]]",
    ) -> None:
        if not self._putter.alive and self._putter.lose_flying:
            return
        outcomes: list[Outcome] = []
        for one in ones:
            behind = self.in_order and any(o is not DELIVERED for o in outcomes)
            outcomes.append(
                Outcome(OutcomeKind.TRANSIENT, "Behind", "one before it failed")
                if behind
                else self._land(one, mood, len(outcomes))
            )
        self._putter.later(back, lambda: self._answer(future, outcomes))

    def _land(self, one: Committed, mood: str, index: int) -> Outcome:
        if mood in {"down", "closed", "throttled"}:
            return _ANSWERS[mood]
        if mood == "half" and (index + one.address[0]) % 2:
            return _ANSWERS["throttled"]
        if mood == "picky" and one.batch.id[0] in "02468":
            one.refusals += 1
            return REFUSED
        self._destinations.oracle.land(one)
        return _ANSWERS["mute"] if mood == "mute" else DELIVERED

    def _answer(self, future: "asyncio.Future[list[Outcome]]", outcomes: list[Outcome]) -> None:
        if self._putter.alive and not future.done():
            future.set_result(outcomes)

    async def close(self) -> None:
        """Hold nothing."""
