"""What happens to a fleet during a soak, and how long it takes to process again."""

import asyncio
import random
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, NamedTuple

from forwarder.config import loader
from tests.acceptance.cluster import Cluster
from tests.acceptance.harness import Missing, until
from tests.services.kafka import Broker
from tests.soak import releases
from tests.soak.history import History
from tests.soak.pods import Fleet, Pod
from tests.soak.releases import Release
from tests.soak.repeats import Hit
from tests.soak.watch import Ticks

RECOVERY = 60.0
"""Seconds after which a group that does not process again has failed."""

LOOK = 0.1
SESSION_TIMEOUT = 6.0
"""Seconds after which the group gives up a silent worker; the least the settings allow."""

DECK = (
    *("kill",) * 3,
    "kill all",
    *("freeze",) * 2,
    "drain",
    "scale",
    "broker",
    *("deploy",) * 4,
)
"""What happens, in random order, before anything happens again."""

FIRST = ("kill", "deploy", "freeze", "broker", "scale", "deploy", "drain", "kill all")
"""The first round of all, so that a short soak sees every kind, too."""


class Recovery(NamedTuple):
    """The longest time a partition stood still; None: one was not processed again at all."""

    kind: str
    seconds: float | None
    said: str


class Disturbances:
    """Disturbs a fleet, one thing after the other, and writes down what it did."""

    def __init__(  # noqa: PLR0913  # one argument for each thing that it disturbs or asks
        self,
        fleet: Fleet,
        cluster: Cluster,
        broker: Broker,
        names: tuple[str, str, int],
        *,
        seed: int,
        say: Callable[[str], None],
        previous: bool = False,
    ) -> None:
        """Prepare; ``names`` are the group, its topic, and the topic's number of partitions."""
        self.fleet = fleet
        self.hits: list[Hit] = []
        self.recoveries: list[Recovery] = []
        self.history = History()
        self.release = Release(previous=previous)
        self.changes: Counter[str] = Counter()
        self.ticks = Ticks(lambda: cluster.committed(names[0]), names[2])
        self._cluster = cluster
        self._broker = broker
        self._group, self._topic, self._partitions = names
        self._say = say
        self._previous = previous
        self._dice = random.Random(seed)  # noqa: S311  # repeatable, not secret
        self._kinds: dict[str, Callable[[], Awaitable[str]]] = {
            "kill": self._kill,
            "kill all": self._kill_all,
            "freeze": self._freeze,
            "drain": self._drain,
            "scale": self._scale,
            "broker": self._kill_broker,
            "deploy": self._deploy,
        }

    async def begin(self, pods: int) -> None:
        """Start the pods with the first release."""
        names = self._publish(self.release, {})
        for number in range(pods):
            self.fleet.start(f"pod-{number}", self.release)
        await self._again("start", time.monotonic())
        self.history.done(names, dict.fromkeys(range(self._partitions), 0))

    async def go_on(self, until_s: float, pauses: tuple[float, float]) -> None:
        """Disturb until a time of the monotonic clock, and in each way at least once."""
        deck: list[str] = list(FIRST)
        left = len(deck)
        while left > 0 or time.monotonic() < until_s:
            await asyncio.sleep(self._dice.uniform(*pauses))
            await self._disturb(deck.pop(0))
            self.ticks.forget(time.monotonic())
            deck = deck or self._dice.sample(DECK, len(DECK))
            left -= 1

    async def end(self, pods: int) -> None:
        """Bring the last release out on so many pods."""
        before = self.release
        self.release = releases.final(before)
        await self._roll(before, self.release, keep=pods)

    async def _disturb(self, kind: str) -> None:
        done = len(self.recoveries)
        said = await self._kinds[kind]()
        took = [one.seconds for one in self.recoveries[done:]]
        times = ", ".join("never" if s is None else f"{s:.1f} s" for s in took)
        self._say(f"{kind}: {said}; stood still {times}")

    # What happens.

    async def _kill(self) -> str:
        pod = self._dice.choice(self.fleet.running)
        return await self._crash("kill", [pod])

    async def _kill_all(self) -> str:
        return await self._crash("kill all", self.fleet.running)

    async def _crash(self, kind: str, pods: list[Pod]) -> str:
        self._hit(kind, pods)
        for pod in pods:
            pod.kill()
        begun, alone = time.monotonic(), not self.fleet.running
        away = self._dice.choice((0.0, 0.5, 2.0, SESSION_TIMEOUT + 2))
        await asyncio.sleep(away)
        for pod in pods:
            self.fleet.start(pod.name, pod.release)
        # A group without a member can do nothing before one is back.
        await self._again(kind, time.monotonic() if alone else begun)
        return f"{', '.join(pod.name for pod in pods)} for {away:.1f} s"

    async def _freeze(self) -> str:
        pod = self._dice.choice(self.fleet.running)
        self._hit("freeze", [pod])
        pod.worker.signal(signal.SIGSTOP)
        asleep = SESSION_TIMEOUT + self._dice.uniform(1.5, 9.0)
        waits: list[Coroutine[Any, Any, None]] = [asyncio.sleep(asleep)]
        if len(self.fleet.running) > 1:
            waits.append(self._again("freeze", time.monotonic(), ready=False))
        try:
            await asyncio.gather(*waits)
        finally:
            self._hit("wake", [pod])
            pod.worker.signal(signal.SIGCONT)
        await self._again("wake", time.monotonic())
        return f"{pod.name} for {asleep:.1f} s"

    async def _drain(self) -> str:
        pod = self._dice.choice(self.fleet.running)
        begun = time.monotonic()
        await self._replace(pod, "drain", pod.release)
        await self._again("drain", begun)
        return pod.name

    async def _scale(self) -> str:
        before = len(self.fleet.running)
        for count in (1, 3, 1, before):
            await self._scale_to(count)
            await asyncio.sleep(self._dice.uniform(0.5, 3.0))
        return f"{before} -> 1 -> 3 -> 1 -> {before}"

    async def _scale_to(self, count: int) -> None:
        begun = time.monotonic()
        running = self.fleet.running
        for pod in self._dice.sample(running, max(len(running) - count, 0)):
            self._hit("scale", [pod])
            await pod.drain()
        free = (f"pod-{i}" for i in range(9))
        alive = {pod.name for pod in self.fleet.running}
        for name in [name for name in free if name not in alive][: max(count - len(alive), 0)]:
            self.fleet.start(name, self.release)
        await self._again("scale", begun)

    async def _kill_broker(self) -> str:
        self._hit("broker", self.fleet.running)
        away = self._dice.choice((0.0, 3.0, 15.0))
        self._broker.kill()
        await asyncio.sleep(away)
        await asyncio.to_thread(self._broker.start)
        await self._again("broker", time.monotonic())
        return f"away for {away:.0f} s"

    async def _deploy(self) -> str:
        before = self.release
        after = releases.change(
            before, self._dice, time.time_ns() // 1_000_000, previous=self._previous
        )
        words = releases.told(before, after)
        # One deploy in four is taken back half-way, where the program stays the same: an older one
        # refuses what today's has held until a pod of today's has it again.
        if self._dice.random() < 0.25 and before.previous == after.previous:
            await self._roll_back(before, after)
            return f"taken back: {words}"
        self.release = after
        await self._roll(before, after)
        return words

    # How deploys are done and written down.

    async def _roll(self, before: Release, after: Release, keep: int | None = None) -> None:
        watermarks = await self._watermarks()
        names = self._publish(after, watermarks)
        now_ms = time.time_ns() // 1_000_000
        for name in {*after.gone} - {*before.gone}:
            self.history.leave(name, watermarks, now_ms)
        pods = self._dice.sample(self.fleet.running, len(self.fleet.running))
        begun = time.monotonic()
        for pod in pods[:keep]:
            await self._replace(pod, "deploy", after)
            if self._dice.random() < 0.5:  # wait as careful deploys do, or do not
                await self._until_ready()
        for pod in pods[keep or len(pods) :]:
            await pod.drain()
        await self._settled(begun, names)
        self.changes.update(_kinds(before, after))

    async def _roll_back(self, before: Release, after: Release) -> None:
        watermarks = await self._watermarks()
        self._publish(after, watermarks)
        pod = self._dice.choice(self.fleet.running)
        begun = time.monotonic()
        await self._replace(pod, "deploy", after)
        await self._again("deploy", begun)
        # The number goes on: what a release was may not change any more.
        self.release = releases.taken_back(before, after)
        names = self._publish(self.release, await self._watermarks())
        for name in {*self.release.gone} - {*before.gone}:
            self.history.leave(name, watermarks, time.time_ns() // 1_000_000)
        begun = time.monotonic()
        for old in self._dice.sample(self.fleet.running, len(self.fleet.running)):
            await self._replace(old, "deploy", self.release)
        await self._settled(begun, names)
        self.changes["taken back"] += 1

    async def _settled(self, begun: float, names: list[str]) -> None:
        # Every partition has ticked with all pods ready: whatever a former pod began is over.
        await self._again("deploy", begun)
        await self._again("", time.monotonic())
        self.history.done(names, await self._cluster.ends(self._topic))

    def _publish(self, release: Release, watermarks: Mapping[int, int]) -> list[str]:
        paths = self.fleet.publish(release, self._group)
        found = [loader.load_connection(path).connection for path in paths]
        self.history.begin(found, watermarks)
        return [connection.name for connection in found]

    async def _replace(self, pod: Pod, kind: str, release: Release) -> None:
        self._hit(kind, [pod])
        await pod.drain()
        self.fleet.start(pod.name, release)

    def _hit(self, kind: str, pods: list[Pod]) -> None:
        names = tuple(pod.name for pod in pods)
        self.hits.append(Hit(time.time_ns() // 1_000_000, kind, names))

    # When it is over.

    async def _again(self, kind: str, begun: float, *, ready: bool = True) -> None:
        """Wait until all pods are ready, and every partition commits ticks from now on."""
        before = await self.ticks.look()

        async def processing() -> bool:
            now = await self.ticks.look()
            return all(now[partition] > before[partition] for partition in before)

        try:
            await until(processing, "every partition is processed", RECOVERY, LOOK)
            seconds = self.ticks.standstill(begun, time.monotonic())
            if ready:
                await self._until_ready()
        except Missing as missing:
            self.recoveries.append(Recovery(kind, None, f"{missing}\n{self._state()}"))
        else:
            self.recoveries.extend([Recovery(kind, seconds, "")] if kind else [])

    async def _until_ready(self) -> None:
        await until(self.fleet.ready, "every pod is ready", RECOVERY, LOOK)

    def _state(self) -> str:
        return "\n".join(
            f"{pod.name}: {pod.worker.get('/readyz')}\n{pod.worker.tail()[-3000:]}"
            for pod in self.fleet.running
        )

    async def _watermarks(self) -> dict[int, int]:
        found = await self._cluster.committed(self._group)
        return {partition: offset for (_, partition), (offset, _) in found.items()}


def _kinds(before: Release, after: Release) -> list[str]:
    found = {
        "filter, length or mode": before.variant != after.variant,
        "lane added": after.comes and not before.comes,
        "lane removed": before.comes and not after.comes,
        "lane renamed": before.named != after.named,
        "deliver_from": after.deliver_from_ms is not None,
        "older or newer program": before.previous != after.previous,
    }
    return [kind for kind, done in found.items() if done]


def recovered(recoveries: list[Recovery]) -> dict[str, list[float | None]]:
    """Return the seconds of every recovery by its kind."""
    found: dict[str, list[float | None]] = defaultdict(list)
    for one in recoveries:
        found[one.kind].append(one.seconds)
    return found
