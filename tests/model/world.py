"""A world of processes, and the actions of which histories are made."""

import heapq
import math
import signal
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from typing import NamedTuple

from msgspec import structs

from tests.doubles import Message
from tests.model import input as feed
from tests.model import slowly
from tests.model.deploys import EVERYTHING, LANES, Deploy, deploy
from tests.model.group import Group
from tests.model.input import Event
from tests.model.kafka import Broker, Trouble
from tests.model.loop import Fault
from tests.model.oracle import Oracle
from tests.model.process import START_MS, Limits, Process, Timekeeper
from tests.model.sink import MOODS, Destinations

GAPS = (0.0, 0.001, 0.003, 0.006, 0.011, 0.03, 0.1, 0.4, 1.1, 1.1, 2.3)
"""Seconds that pass after an action."""

SLEEPS = (0.02, 0.2, 0.7, 1.5, 3.0, 6.0, 9.0, 14.0)
KINDS = (
    "send",
    "send_state",
    "offsets",
    "end",
    "end",
    "end",
    "init",
    "fetch",
    "state",
    "read",
    "cut",
)
WAYS = ("drop", "mute", "late", "slow", "stall", "mute")
SECONDS = (0.05, 0.5, 2.0, 5.0, 12.0, 40.0)


HANG = 60.0
"""Seconds of real time after which a history, usually of a twentieth, counts as endless."""

STUCK = "I14: a process goes round in circles"


class Action(NamedTuple):
    """One thing that happens; numbers are taken modulo what is possible."""

    name: str
    a: int
    b: int
    c: int
    gap: int


class Setting(NamedTuple):
    """What a history begins with."""

    partitions: int
    workers: int
    base_interval: float
    in_order: int
    deploy: int
    down_at_end: int
    pause: float
    window_memory: int
    duplicates: int = 0


class World(Timekeeper):
    """Processes, the broker, the group, the destinations, and time."""

    def __init__(self, setting: Setting) -> None:
        """Begin with workers that have just been started."""
        self.now = 0.0
        self.faults: list[str] = []
        self._calls: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._numbers = count()
        self.setting = setting
        self.broker = Broker(setting.partitions, self.after)
        self.seen = self.broker.seen
        self.oracle = Oracle(self.broker.stored, self.seen, self.wall_ms)
        self.destinations = Destinations(self.oracle)
        self.destinations.in_order = frozenset({"solo", "acme"} if setting.in_order else ())
        self.group = Group(self.broker, self.after)
        self.limits = Limits()
        self.limits.base_interval = setting.base_interval
        self.limits.window_memory = setting.window_memory
        slowly.PAUSE.seconds = setting.pause
        self.processes: list[Process] = []
        self.dead: list[Process] = []
        for number in range(setting.workers):
            self.start(self._deploy(setting.deploy >> (4 * number), setting.deploy))

    def _deploy(self, a: int, b: int) -> Deploy:
        return deploy(a, b, self.wall_ms(), self.setting.duplicates)

    # ------------------------------------------------------------------ time

    def time(self) -> float:
        return self.now

    def after(self, seconds: float, then: Callable[[], None]) -> None:
        heapq.heappush(self._calls, (self.now + seconds, next(self._order), then))

    def fault(self, text: str) -> None:
        self.faults.append(text)

    def refusal(self, text: str) -> None:
        self.faults.append(f"I20: refused although nothing is lost: {text}")

    def buried(self, process: Process) -> None:
        self.processes.remove(process)
        self.dead.append(process)
        process.loop.bury()

    def run(self, seconds: float) -> None:
        """Let time pass; raises Fault."""
        until = self.now + seconds
        while (due := self._settle()) <= until:
            self.now = max(self.now, due)
            calls = self._calls
            while calls and calls[0][0] <= self.now:
                heapq.heappop(calls)[2]()
        self.now = until

    def _settle(self) -> float:
        """Run every process until none has anything to do now; return when one will have."""
        while True:
            due = self._calls[0][0] if self._calls else math.inf
            busy = False
            for process in self.processes:
                if process.frozen_since is None:
                    loop = process.loop
                    when = self.now if loop.ready else loop.next_timer()
                    if when <= self.now:
                        loop.run()
                        busy = True
                    elif when < due:
                        due = when
            if not busy:
                for process in self.processes:
                    process.judge()
            if self.faults:
                raise Fault(self.faults[0])
            if not busy:
                return due

    # ------------------------------------------------------------------ actions

    def act(self, action: Action) -> None:
        """Do one action, then let some time pass."""
        getattr(self, f"do_{action.name}")(action.a, action.b, action.c)
        self.seen[f"do.{action.name}"] = self.seen.get(f"do.{action.name}", 0) + 1
        self.run(GAPS[action.gap % len(GAPS)])

    def start(self, chosen: Deploy) -> Process:
        """Start a process."""
        self.oracle.deployed(chosen)
        process = Process(
            next(self._numbers), chosen, self.broker, self.group, self.oracle,
            self.destinations, self.limits, self,
        )  # fmt: skip
        self.processes.append(process)
        return process

    def wall_ms(self) -> int:
        """Return the right time."""
        return START_MS + int(self.now * 1000)

    def do_feed(self, a: int, b: int, c: int) -> None:
        """Append a record of one or two uploads."""
        stored = self.broker.stored[a % len(self.broker.stored)]
        offset, number = len(stored.input), stored.partition.number
        late = (0, 0, 0, 500, 3_000, 15_000, -20_000)[c // 7 % 7]
        uploads, index = [], 0
        for device in (b % 3, b // 3 % 3)[: 2 if b % 7 == 6 else 1]:
            name = f"d{device}"
            whose = feed.owner(name, c // 3 % 2)
            note = feed.NOTES[c // 9 % len(feed.NOTES)]
            events = self._events(number, (offset, index), (name, whose), c + device, note)
            uploads.append(feed.upload(name, whose, events, note))
            index += max(1, len(events))
        stored.input.append(Message(offset, self.wall_ms() - late, feed.record(uploads)))
        self._awake()

    def _events(
        self, partition: int, at: tuple[int, int], sender: tuple[str, str], c: int, note: int
    ) -> list[Event]:
        found: list[Event] = []
        own = len(self.oracle.events)
        chosen = [(c * 7 + i * 5 + c // 50) for i in range((1, 1, 2, 3, 0, 2, 1, 4)[c % 8])]
        kinds = [feed.KINDS[n % len(feed.KINDS)] for n in chosen]
        for i, (n, kind) in enumerate(zip(chosen, kinds, strict=True)):
            session = feed.SESSIONS[n // 3 % len(feed.SESSIONS)]
            number = len(self.oracle.events)
            position = (at[0], at[1] + i)
            poisoned = "poison" in kinds
            once = self._once(partition, sender[0], number, c + 3 * i)
            event = Event(
                number, partition, position, *sender, session, kind, poisoned, own, note, once
            )
            self.oracle.events.append(event)
            found.append(event)
        return found

    def _once(self, partition: int, device: str, number: int, c: int) -> str:
        """Return what an event is known by: mostly none has come before with that."""
        if not self.setting.duplicates or c % 11 == 0:
            return ""
        if c % 3:
            return str(number)
        before = [
            event.once
            for event in self.oracle.events[-30:]
            if (event.partition, event.device) == (partition, device) and event.once
        ]
        return before[-1 - c // 3 % min(len(before), 9)] if before else str(number)

    def do_flow(self, a: int, b: int, c: int) -> None:
        """Append a few records and let them be collected."""
        for i in range(1 + c % 4):
            self.do_feed(a, b + i, c * 3 + i * 11)
            self.run(0.02)
        self.run(1.2)

    def do_odd(self, a: int, b: int, c: int) -> None:  # noqa: ARG002
        """Append garbage, a tombstone, or a marker that only uses up an offset."""
        stored = self.broker.stored[a % len(self.broker.stored)]
        offset = len(stored.input)
        value = (feed.GARBAGE, None, feed.GARBAGE)[b % 3]
        message = Message(offset, self.wall_ms(), value)
        stored.input.append(None if b % 4 == 3 else message)
        self._awake()

    def _awake(self) -> None:
        for process in self.processes:
            self.after(0.002, process.source.awake)

    def do_sleep(self, a: int, b: int, c: int) -> None:  # noqa: ARG002
        """Let time pass."""
        self.run(SLEEPS[a % len(SLEEPS)])

    def do_kill(self, a: int, b: int, c: int) -> None:
        """Kill a process or all of them; others take their place, at once or later."""
        victims = list(self.processes) if c % 5 == 0 else self._one(a)
        for victim in victims:
            self._note_end(victim)
            victim.kill(lose_flying=b % 2 == 1)
            self.after((0.01, 3.0)[b // 2 % 2], partial(self.group.leave, victim.source))
            self.group.choice = c
            self.start(victim.deploy)

    def _note_end(self, victim: Process) -> None:
        """Count at which steps of the protocol processes die."""
        for stored in self.broker.stored:
            transaction = stored.current
            if transaction is not None and transaction.owner is victim:
                if transaction.status == "open":
                    self.broker.count(f"killed.{transaction.stage}_sent")
                elif transaction.status == "prepared":
                    self.broker.count("killed.decided")
        for supervisor in victim.worker.membership.supervisors.values():
            self.broker.count(f"killed.{supervisor.phase.value}")
        for owned in victim.worker.membership.open_partitions():
            if not owned.is_idle():
                self.broker.count("killed.busy")
            draft = owned.ticks.snapshots.builder
            if draft is not None and not draft.complete:
                self.broker.count("killed.drafting")

    def do_deploy(self, a: int, b: int, c: int) -> None:
        """Replace a process by one that is configured otherwise."""
        chosen = self._deploy(b, c)
        for old in self._one(a):
            old.stop()
            self.after(26.0, partial(self._end, old))
        if len([p for p in self.processes if not p.worker.is_stopping()]) < 3:
            self.start(chosen)

    def _end(self, process: Process) -> None:
        """Take a process away that had time enough to drain."""
        if process.alive:
            self.seen["drained"] = self.seen.get("drained", 0) + process.task.done()
            process.kill(lose_flying=False)
            self.group.leave(process.source)

    def do_rebalance(self, a: int, b: int, c: int) -> None:
        """Share the partitions out anew; perhaps behind the back of a member."""
        if b % 2 == 0 and len(self.group.members) > 1:
            self.group.forget(self.group.members[c % len(self.group.members)])
            self.seen["forgotten"] = self.seen.get("forgotten", 0) + 1
        self.group.rebalance(a)

    def do_hear(self, a: int, b: int, c: int) -> None:  # noqa: ARG002
        """Let whoever was put out of the group find out."""
        for process in self.processes:
            if process.frozen_since is None and not process.worker.is_stopping():
                process.source.learn()

    def do_freeze(self, a: int, b: int, c: int) -> None:
        """Stop a machine for a while, perhaps with a backlog that it cannot deliver."""
        if c // 4 % 2:
            self.do_mood(c // 8, 3, 0)
            self.run(1.5)
        for process in self._one(a):
            if process.frozen_since is None:
                process.freeze()
                seconds = (0.5, 3.0, 8.0, 14.0, 25.0)[b % 5]
                self.after(seconds, partial(process.thaw, suspended=c % 2 == 1))
                if c // 2 % 2:
                    self.after(seconds / 2, partial(self.group.leave, process.source))

    def do_trouble(self, a: int, b: int, c: int) -> None:
        """Have one of the next requests fail."""
        how = WAYS[b % len(WAYS)]
        self.broker.troubles.append(Trouble(KINDS[a % len(KINDS)], how, SECONDS[c % len(SECONDS)]))

    def do_away(self, a: int, b: int, c: int) -> None:  # noqa: ARG002
        """Stop the broker for a while."""
        self.broker.up = False
        self.after((0.3, 2.0, 12.0)[a % 3], self._back)

    def _back(self) -> None:
        self.broker.up = True

    def do_mood(self, a: int, b: int, c: int) -> None:  # noqa: ARG002
        """Change how a destination is doing."""
        self.destinations.moods[LANES[a % len(LANES)]] = MOODS[b % len(MOODS)]

    def do_stale(self, a: int, b: int, c: int) -> None:  # noqa: ARG002
        """Have offsets fetched one commit behind, or not."""
        self.broker.stale = not self.broker.stale

    def do_markers(self, a: int, b: int, c: int) -> None:  # noqa: ARG002
        """Change how long decided transactions stay invisible."""
        self.broker.markers = (0.004, 0.004, 0.3, 2.0, 8.0)[a % 5]

    def do_limits(self, a: int, b: int, c: int) -> None:
        """Change how much may be kept in memory, and how much a poll brings."""
        self._limit((20_000, 300, 1_000, 3_000)[a % 4], (1 << 20, 1 << 20, 2_000)[b % 3])
        self.group.poll_size = (3, 1, 10)[c % 3]

    def _limit(self, queue_bytes: int, closed_bytes: int) -> None:
        self.limits.queue_bytes, self.limits.closed_bytes = queue_bytes, closed_bytes
        for process in self.processes:
            process.limit(queue_bytes, closed_bytes)

    def _one(self, a: int) -> list[Process]:
        return [self.processes[a % len(self.processes)]] if self.processes else []

    # ------------------------------------------------------------------ the end

    def drain(self) -> None:
        """Mend everything, start afresh with every lane, and wait until all is delivered."""
        self._mend()
        self.run(3.0)
        for process in list(self.processes):
            process.kill(lose_flying=True)
            self.group.leave(process.source)
        self.processes.clear()
        down = LANES[self.setting.down_at_end] if self.setting.down_at_end < len(LANES) else None
        if down is not None:
            self.destinations.moods[down] = "down"
        self.start(structs.replace(EVERYTHING, duplicates_ms=self._deploy(0, 0).duplicates_ms))
        self._until(lambda: self._finished(down), "with a destination down" if down else "")
        if down is not None:
            self.destinations.moods.clear()
            self._until(lambda: self._finished(None), "after it came back")
        self.oracle.judge(LANES)

    def _mend(self) -> None:
        self.broker.up, self.broker.markers = True, 0.004
        self.broker.troubles.clear()
        self.destinations.moods.clear()
        self._limit(20_000, 1 << 20)
        for process in self.processes:
            if process.frozen_since is not None:
                process.thaw(suspended=False)

    def _until(self, reached: Callable[[], bool], when: str) -> None:
        for _ in range(100):
            self.run(2.0)
            if reached():
                return
        lags = [
            (
                len(s.input),
                at,
                {
                    name: len(w)
                    for (p, name), w in self.oracle.pending.items()
                    if p == s.partition.number and w
                },
            )
            for s, at in zip(self.broker.stored, self.oracle.watermarks, strict=True)
        ]
        text = f"I14: it does not come to an end {when}: input, W, waiting: {lags}"
        raise Fault(text)

    def _finished(self, but: str | None) -> bool:
        oracle = self.oracle
        read = all(
            at >= stored.end()
            for stored, at in zip(self.broker.stored, oracle.watermarks, strict=True)
        )
        if not read or any(w for (_, name), w in oracle.pending.items() if name != but):
            return False
        memberships = [process.worker.membership for process in self.processes]
        owned = [p for one in memberships for p in one.open_partitions()]
        waiting = {name for p in owned for name, events in p.waiting().items() if events}
        return (
            sum(len(one.supervisors) for one in memberships) == len(self.broker.stored)
            and len(owned) == len(self.broker.stored)
            and all(not p.pipeline.open_windows() for p in owned)
            and waiting <= {but}
        )

    def close(self) -> None:
        """End everybody."""
        for process in [*self.processes]:
            process.alive = False
            process.loop.bury()


class Hang(BaseException):
    """Raised into a history that does not go on: nothing in the program may catch it."""


def play(setting: Setting, actions: Sequence[Action]) -> tuple[str | None, World]:
    """Play a history; return what was broken, None if nothing was, and the world it left."""
    world = World(setting)
    before = signal.signal(signal.SIGALRM, _hang)
    signal.setitimer(signal.ITIMER_REAL, HANG)
    try:
        try:
            for action in actions:
                world.act(action)
            world.drain()
        except (Fault, Hang) as fault:
            return str(fault), world
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        world.close()
    return None, world


def _hang(*_: object) -> None:
    raise Hang(STUCK)
