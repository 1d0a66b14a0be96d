"""One worker process of the model: the real worker on its own event loop."""

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from msgspec import structs

from forwarder.deliver.context import DeliverContext
from forwarder.deliver.readback import ScanLimiter
from forwarder.journal.orphans import OrphanPolicy
from forwarder.model import Batch, CloseReason, Collected, DeadLetter, Partition, Released
from forwarder.ops.reporter import Chore, LaneStatus, PartitionFailure, Phase, Reporter
from forwarder.worker.context import PartitionLimits, TickPolicy, WorkerContext
from forwarder.worker.worker import Worker, WorkerMode
from tests.books import Books
from tests.model.deploys import Deploy
from tests.model.group import Group, Source
from tests.model.journal import Journals
from tests.model.kafka import GROUP, TOPIC, Broker
from tests.model.loop import Fault, Loop
from tests.model.oracle import LANE_TTL_MS, LEASE, Committed, Oracle
from tests.model.sink import Destinations, Sink

START_MS = 1_700_000_000_000


class Limits:
    """What all processes may keep in memory; histories change it."""

    def __init__(self) -> None:
        """Begin generous."""
        self.queue_bytes = 20_000
        self.closed_bytes = 1 << 20
        self.window_memory = 1 << 30
        self.base_interval = 2.5


class Judge(Reporter):
    """Passes over what is reported but for refusals, which are faults, and counts of closings."""

    def __init__(self, process: "Process", seen: dict[str, int]) -> None:
        """Report about one process."""
        self.books = Books()
        self._process = process
        self._seen = seen

    def collected(self, partition: str, collected: Collected) -> None:  # noqa: ARG002
        """Count why windows closed."""
        self.books.collected(collected)
        for (_, why), count in collected.closed.items():
            self._see(f"closed.{CloseReason(why).value}", count)
        for count in collected.settled.values():
            self._see("replayed", count)

    def delivered(self, lane: str, batches: Sequence[Batch]) -> None:
        """Count acknowledged batches."""
        self.books.delivered(lane, batches)

    def dead_letters(self, partition: str, letters: Sequence[DeadLetter]) -> None:  # noqa: ARG002
        """Count committed dead letters."""
        self.books.dead_letters(letters)

    def taken_over(self, lane: str, events: int) -> None:
        """Count what another opening accepted."""
        self.books.taken_over(lane, events)
        self._see("taken_over", events)

    def passed_over(self, lane: str, events: int) -> None:
        """Count what is dropped undelivered."""
        self.books.passed_over(lane, events)
        self._see("passed_over", events)

    def released(self, partition: str, what: Released) -> None:  # noqa: ARG002
        """Count what an opening left behind."""
        self.books.released(what)
        self._see("released.failed" if what.failed else "released", sum(what.events.values()))

    def partition_phase(
        self,
        partition: str,
        phase: Phase,
        reason: str,
        remedy: str = "",  # noqa: ARG002  # it decides nothing
    ) -> None:
        """Judge that nothing is refused without a loss (I20)."""
        if phase is Phase.REFUSED and self._process.alive:
            self._process.refused(f"{partition}: {reason}")

    def lane_status(
        self,
        lane: str,
        partition: str,
        status: LaneStatus,
        reason: str,
        remedy: str = "",  # noqa: ARG002  # part of the reason
    ) -> None:
        """Judge that no lane stops without a loss (I20)."""
        if status is LaneStatus.STOPPED and self._process.alive:
            self._process.refused(f"{partition}, {lane}: {reason}")
        self._see(f"lane.{status}", 1)

    def partition_failed(self, partition: Partition, failure: PartitionFailure) -> None:
        """Judge that a partition fails for reasons that somebody foresaw."""
        if failure is PartitionFailure.FAULT:
            self._process.fault(f"{partition} ran into what nobody expected")

    def chore_failed(self, chore: Chore) -> None:
        """Judge that no chore fails."""
        self._process.fault(f"the chore {chore} failed")

    def _see(self, what: str, count: int) -> None:
        self._seen[what] = self._seen.get(what, 0) + count


class Clock:
    """The clocks of one machine; ``skew_ms`` is how wrong its wall clock is."""

    def __init__(self, now: Callable[[], float], skew_ms: int) -> None:
        """Read world time."""
        self._now = now
        self._skew_ms = skew_ms

    def wall_ms(self) -> int:
        """Return milliseconds since the epoch."""
        return START_MS + self._skew_ms + int(self._now() * 1000)

    def steady(self) -> float:
        """Return seconds, those of suspensions included."""
        return self._now()


class Process:
    """A worker, its clients, and what is known of them from outside."""

    def __init__(  # noqa: PLR0913, PLR0917  # the world, each part given once
        self,
        number: int,
        deploy: Deploy,
        broker: Broker,
        group: Group,
        oracle: Oracle,
        destinations: Destinations,
        limits: Limits,
        world: "Timekeeper",
    ) -> None:
        """Start a worker; it joins the group by itself."""
        self.number = number
        self.deploy = deploy
        self.alive = True
        self.frozen_since: float | None = None
        self.lose_flying = False
        self.loop = Loop(world.time, self.fault)  # type: ignore[abstract]  # no files, no signals
        self._world = world
        self._broker = broker
        self._oracle = oracle
        self._group = group
        self._assignments = 0
        self._needed: dict[Partition, int] = {}
        self._proved: dict[Partition, int] = {}
        self._failed: set[Partition] = set()
        self._fenced: dict[Partition, int] = {}
        self.clock = Clock(world.time, (number % 3 - 1) * 300)
        self.source = Source(self, group)
        self.reporter = Judge(self, oracle.seen)
        lanes = deploy.compiled()
        self._deliver = DeliverContext(
            sinks={lane.name: Sink(lane.name, self, destinations) for lane in lanes.lanes},
            clock=self.clock,
            reporter=self.reporter,
            random=random.Random(number).random,  # noqa: S311  # jitter
            queue_bytes=limits.queue_bytes,
            scan_limiter=ScanLimiter(self.clock),
        )
        self._limits = PartitionLimits(0, limits.window_memory, limits.closed_bytes)
        context = _context(
            {
                "group": GROUP,
                "lanes": defaultdict(lambda: lanes),
                "duplicates_ms": {TOPIC: deploy.duplicates_ms},
                "journals": Journals(self, broker, oracle),
                "clock": self.clock,
                "reporter": self.reporter,
                "random": random.Random(number).random,  # noqa: S311  # jitter
                "ticks": TickPolicy(tick=1.0, base_interval=limits.base_interval),
                "deliver": self._deliver,
                "limits": self._limits,
                "orphan_policy": OrphanPolicy(LANE_TTL_MS, frozenset(deploy.retired)),
            }
        )
        self.worker: Worker = Worker(self.source, context, WorkerMode(drain=25.0))
        self.task = self.loop.spawn(self._work())

    async def _work(self) -> None:
        try:
            await self.worker.run()
        except Exception as error:  # noqa: BLE001  # whatever it is, a pod would start anew
            if self.alive:
                self.fault(f"the worker ended: {error!r}")

    def limit(self, queue_bytes: int, closed_bytes: int) -> None:
        """Let every lane keep, and every partition close, so many bytes from now on."""
        self._limits.min_closed_bytes = closed_bytes
        self._limits.share(self._limits.owned)
        structs.force_setattr(self._deliver, "queue_bytes", queue_bytes)
        for owned in self.worker.membership.open_partitions():
            for lane in owned.deliveries.lanes.values():
                lane.queue.capacity = queue_bytes
                lane.queue.evict(queue_bytes)

    # ------------------------------------------------------------------ life and death

    def kill(self, *, lose_flying: bool) -> None:
        """Kill it without a word; what it has sent goes on, its puts perhaps not."""
        self.alive = False
        self.lose_flying = lose_flying
        self._world.buried(self)

    def freeze(self) -> None:
        """Stop its machine."""
        self.frozen_since = self._world.time()

    def thaw(self, *, suspended: bool) -> None:
        """Let it go on; after a suspension its timers know nothing of the time in between."""
        if self.frozen_since is not None and suspended:
            self.loop.late += self._world.time() - self.frozen_since
        self.frozen_since = None
        self.later(1.0, self.source.learn)

    def stop(self) -> None:
        """Ask it to drain and leave."""
        self.worker.stop()

    def fault(self, text: str) -> None:
        """Tell the world that something is broken."""
        if self.alive:
            self._world.fault(text)

    def refused(self, text: str) -> None:
        """Take a refusal for a fault, unless something was lost on purpose."""
        self._world.refusal(text)

    def judge(self) -> None:
        """Judge that everything it took in is accounted for (I22), while it is at rest."""
        waiting: Counter[str] = Counter()
        for owned in self.worker.membership.supervisors.values():
            waiting.update(owned.waiting())
        for fault in self.reporter.books.faults(waiting):
            self.fault(f"I22: process {self.number}: {fault}")

    # ------------------------------------------------------------------ what its clients say

    def now(self) -> float:
        """Return world time."""
        return self._world.time()

    def later(self, seconds: float, then: Callable[[], None]) -> None:
        """Do something in the world."""
        self._world.after(seconds, then)

    def assignment(self) -> int:
        """Return the number of what it heard last."""
        return self._assignments

    def heard(self, partitions: frozenset[Partition]) -> None:
        """Need a proof for all of them again."""
        self._assignments += 1
        self._needed.update(dict.fromkeys(partitions, self._assignments))

    def initialising(self, partition: Partition) -> None:
        """Judge whether it may fence whoever owns this partition (R4)."""
        fenced = self._fenced.pop(partition, None)
        holds = self._group.holders.get(partition) is self.source
        if fenced == self._group.generation and not holds and self._group.stable:
            self.fault(f"R4: fenced at {partition} and not its holder, it fences the holder")

    def opening(self, partition: Partition) -> None:
        """Need a proof for a new opening."""
        self._assignments += 1
        self._needed[partition] = self._assignments
        self._failed.discard(partition)
        self._broker.count("openings")

    def fenced(self, partition: Partition) -> None:
        """Remember in which generation it was fenced."""
        self._fenced[partition] = self._group.generation

    def failed(self, partition: Partition) -> None:
        """Allow no put of this opening any more (I16)."""
        self._failed.add(partition)

    def proved(self, partition: Partition, begun: int) -> None:
        """Note what a committed tick proves."""
        self._proved[partition] = max(begun, self._proved.get(partition, 0))

    def may_put(self, one: Committed) -> None:
        """Judge whether a put may begin (D3, I5, I16, I17)."""
        stored = self._broker.stored[one.partition]
        partition = stored.partition
        if self._proved.get(partition, 0) < self._needed.get(partition, 0):
            text = "I17: a put between an assignment and a tick begun after it"
            raise Fault(text)
        if partition in self._failed:
            text = "I16: a put after a tick that failed"
            raise Fault(text)
        if stored.owner is self:
            if one.settled:
                text = f"I5: {one.batch.lane} puts {one.address}, whose ack is stored"
                raise Fault(text)
            return
        self._broker.count("put.zombie")
        if self.now() - stored.lost_at.get(self, self.now()) > LEASE:
            text = "D3: a put beyond the lease of who was fenced"
            raise Fault(text)


class Timekeeper(Protocol):
    """What a process asks of the world."""

    def time(self) -> float:
        """Return seconds since the world began."""

    def after(self, seconds: float, then: Callable[[], None]) -> None:
        """Do something later."""

    def fault(self, text: str) -> None:
        """Note what is broken."""

    def refusal(self, text: str) -> None:
        """Note that something was refused."""

    def buried(self, process: Process) -> None:
        """Run a process no more."""


def _context(values: Mapping[str, Any]) -> WorkerContext:
    return WorkerContext(
        **{k: v for k, v in values.items() if k in WorkerContext.__struct_fields__}
    )
