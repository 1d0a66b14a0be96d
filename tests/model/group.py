"""A model of the consumer group: eager rebalances, members that sleep or never hear of one."""

import asyncio
import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

from forwarder.errors import ForwarderError
from forwarder.model import LogEnds, OpenTransaction, Partition, Record
from forwarder.sources.contract import Listener
from tests.model.journal import Client, request
from tests.model.kafka import Broker, Stored
from tests.model.loop import Loop

BARRIER = 12.0
"""Seconds a rebalance waits for members to rejoin."""

IDLE = 1.0
"""Seconds an empty poll lasts; shorter ones would find nothing more."""


class Member(Client, Protocol):
    """What the group and the source know of a process."""

    loop: Loop

    def heard(self, partitions: frozenset[Partition]) -> None:
        """Note that it was told of a new assignment."""


class Group:
    """The coordinator; everything happens at once here, answers travel."""

    def __init__(self, broker: Broker, after: Callable[[float, Callable[[], None]], None]) -> None:
        """Begin without members."""
        self.members: list[Source] = []
        self.holders: dict[Partition, Source] = {}
        self.generation = 0
        self.stable = True
        self.choice = 0
        self.poll_size = 3
        self.broker = broker
        self._after = after
        self._waiting: set[Source] = set()
        self._round = 0

    def join(self, source: "Source") -> None:
        """Take a member in, if it is none, and share the partitions out anew."""
        if source not in self.members:
            self.members.append(source)
        self.rebalance(self.choice)

    def leave(self, source: "Source") -> None:
        """Let a member go, because it says so or has not been heard of for too long."""
        if source in self.members:
            self.members.remove(source)
            self._waiting.discard(source)
            self.rebalance(self.choice)

    def forget(self, source: "Source") -> None:
        """Put a member out without its hearing of it: a zombie, until it does."""
        if source in self.members:
            self.members.remove(source)

    def rebalance(self, choice: int) -> None:
        """Begin a rebalance; ``choice`` decides who gets what."""
        self.broker.count("rebalances")
        self.choice = choice
        self.stable = False
        self._round += 1
        self._waiting = set(self.members)
        for member in self.members:
            member.summon()
        now = self._round
        self._after(BARRIER, lambda: self._give_up(now))
        if not self.members:
            self._complete()

    def joined(self, source: "Source") -> None:
        """Count a member as ready."""
        self._waiting.discard(source)
        if not self.stable and not self._waiting:
            self._complete()

    def _give_up(self, number: int) -> None:
        if number == self._round and not self.stable:
            for source in list(self._waiting):
                self.broker.count("kicked_out")
                self.members.remove(source)
            self._complete()

    def _complete(self) -> None:
        self.stable, self._waiting = True, set()
        self.generation += 1
        self.holders = {}
        for number, stored in enumerate(self.broker.stored):
            if self.members:
                share = (self.choice >> (2 * number)) & 3
                self.holders[stored.partition] = self.members[share % len(self.members)]
        for member in self.members:
            member.grant(frozenset(p for p, m in self.holders.items() if m is member))


class Source:
    """The consumer of one process."""

    def __init__(self, member: Member, group: Group) -> None:
        """Belong to no group yet."""
        self.assigned: frozenset[Partition] = frozenset()
        self._member = member
        self._group = group
        self._listener: Any = None
        self._positions: dict[Partition, int] = {}
        self._paused: set[Partition] = set()
        self._granted: asyncio.Future[frozenset[Partition]] | None = None
        self._rejoining: asyncio.Task[None] | None = None
        self._summoned = False
        self._wake: asyncio.Future[None] | None = None

    async def start(self, listener: Listener) -> None:
        """Join the group."""
        self._listener = listener
        await self._ask("join", lambda: self._group.join(self))

    async def poll(self, timeout_ms: int) -> Mapping[Partition, Sequence[Record]]:  # noqa: ARG002
        """Return a few records of what is assigned and not paused."""
        found = self._fetch()
        if not found:
            loop = self._member.loop
            self._wake = loop.create_future()
            timer = loop.call_later(IDLE, self.awake)
            await self._wake
            timer.cancel()
            return {}
        await asyncio.sleep(0.002)
        return {} if self._rejoining is not None else self._taken(found)

    def _fetch(self) -> dict[Partition, list[Any]]:
        """Return what could be fetched now, without taking it."""
        found: dict[Partition, list[Any]] = {}
        if self._rejoining is not None or not self._group.broker.up:
            return found
        for partition in self.assigned - self._paused:
            stored, at = self._group.broker.at(partition), self._positions.get(partition)
            if at is not None and at < len(stored.input):
                found[partition] = stored.records(at, self._group.poll_size)
        return found

    def _taken(self, found: dict[Partition, list[Any]]) -> dict[Partition, list[Any]]:
        """Return what is still to be had, and move the positions behind it."""
        kept = {}
        for partition in sorted(found):
            if partition in self._paused or partition not in self.assigned:
                continue
            at = self._positions.get(partition)
            again = self._group.broker.at(partition)
            if at is None:
                continue
            records = again.records(at, self._group.poll_size)
            upto = min(at + self._group.poll_size, len(again.input))
            self._positions[partition] = upto
            if records:
                kept[partition] = records
        return kept

    def awake(self) -> None:
        """End an empty poll."""
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def resume_at(self, partition: Partition, offset: int) -> None:
        """Seek and go on."""
        if partition in self.assigned:
            self._positions[partition] = offset
            self._paused.discard(partition)
            self.awake()

    def pause(self, partition: Partition) -> None:
        """Return no more of it."""
        if partition in self.assigned:
            self._paused.add(partition)

    def resume(self, partition: Partition) -> None:
        """Go on."""
        if partition in self._positions:
            self._paused.discard(partition)
            self.awake()

    def position(self, partition: Partition) -> int | None:
        """Return up to where it was read."""
        return self._positions.get(partition) if partition in self.assigned else None

    async def end(self, partition: Partition) -> int:
        """Ask for the end of the input."""
        stored: Stored = self._group.broker.at(partition)
        end: int = await self._ask("input_end", lambda: len(stored.input))
        return end

    async def ends(self, partitions: Collection[Partition]) -> Mapping[Partition, LogEnds]:
        """Ask for the ends of the input; a broker that is away tells none."""
        found = {}
        for partition in partitions:
            with contextlib.suppress(ForwarderError):
                end = await self.end(partition)
                found[partition] = LogEnds(end, end)
        return found

    async def committed(self, partitions: Collection[Partition]) -> Mapping[Partition, int]:  # noqa: ARG002
        """Tell nothing: no property depends on it."""
        return {}

    async def open_transaction(self, partition: Partition) -> OpenTransaction | None:  # noqa: ARG002
        """Return None: none is open."""
        return None

    def refusal(self, partition: Partition) -> None:
        """Have none."""

    def restart_fetching(self) -> None:
        """Do nothing: nothing is fetched ahead."""

    async def is_owner(self, partition: Partition) -> bool:
        """Ask the coordinator (R4)."""
        group = self._group
        held: bool = await self._ask(
            "describe", lambda: group.stable and group.holders.get(partition) is self
        )
        group.broker.count(f"owns.{held}")
        return held

    async def is_member(self) -> bool:
        """Ask whether the group knows this member."""
        group = self._group
        known: bool = await self._ask("describe", lambda: not group.stable or self in group.members)
        return known

    def unseen_input(self) -> None:
        """Have none: every partition is there from the start."""

    def is_exhausted(self) -> bool:
        """Return False: a topic never ends."""
        return False

    async def stop(self) -> None:
        """Leave the group."""
        if self._rejoining is not None:
            self._rejoining.cancel()
        if self._member.alive:
            self._member.later(0.002, lambda: self._group.leave(self))

    # ------------------------------------------------------------------ the group's doing

    def summon(self) -> None:
        """Have the member rejoin; a frozen one will once it wakes."""
        if self._granted is not None and not self._granted.done():
            self._member.later(0.002, lambda: self._group.joined(self))  # it waits already
            return
        self._summoned = True
        self._member.loop.call_soon(self._answer_summons)

    def grant(self, partitions: frozenset[Partition]) -> None:
        """Give a member its share."""
        if self._granted is not None and not self._granted.done():
            self._granted.set_result(partitions)

    def learn(self) -> None:
        """Find out that the group went on without this member, and join anew."""
        if self not in self._group.members and self._listener is not None:
            self._group.broker.count("zombie_heard")
            self._group.join(self)

    def _answer_summons(self) -> None:
        if self._rejoining is None and self._summoned:
            self._rejoining = self._member.loop.create_task(self._rejoin())

    async def _rejoin(self) -> None:
        await self._listener.on_revoked(self.assigned)
        self._summoned = False
        self._granted = self._member.loop.create_future()
        self._member.later(0.002, lambda: self._group.joined(self))
        partitions = await self._granted
        self.assigned = partitions
        self._positions.clear()
        self._paused = set(partitions)
        self._member.heard(partitions)
        await self._listener.on_assigned(partitions)
        self._rejoining = None
        self._answer_summons()
        self.awake()

    async def _ask(self, kind: str, effect: Callable[[], object]) -> Any:  # noqa: ANN401
        try:
            return await request(self._member, self._group.broker, kind, effect)
        except ConnectionError as error:
            msg = "the broker is away"
            raise ForwarderError(msg) from error
