"""One soak: set up, let the load flow, disturb, wait until all has arrived, judge."""

import asyncio
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from tests import conservation
from tests.acceptance.cluster import Cluster
from tests.acceptance.harness import Missing, group_sections, until
from tests.fake_aws.books import puts
from tests.services.kafka import Broker
from tests.soak import judge, load, pods, repeats
from tests.soak.disturb import Disturbances
from tests.soak.load import Load, Producer
from tests.soak.pods import Fleet
from tests.soak.report import Result

ARRIVAL = 180.0
"""Seconds after the load within which everything has to be in the streams."""

LOOK = 1.0
TICK_MS = 1000
PODS = 2
LONGEST = 4
"""How much more load there is than asked for, where disturbing takes longer."""

SETTLED = ("forwarder_open_windows", "forwarder_outbox_lag_batches")
"""What has to come to nothing once the load is over."""


@dataclass(frozen=True)
class Plan:
    """How large the soak is; ``seconds`` is how long the load flows, ``rate`` in events/s.

    ``previous`` is the folder of an older version that some pods run; the first ``stable`` pods
    are static members of the group. ``retries``: per cent of uploads that clients send once more,
    which the workers are told to drop.
    """

    seconds: float = 600.0
    rate: float = 300.0
    devices: int = 1_000
    partitions: int = 6
    pause: float = 8.0
    seed: int = 1
    previous: str = ""
    stable: int = 0
    retries: float = 0.0


@dataclass
class Stage:
    """Where a soak takes place."""

    broker: Broker
    cluster: Cluster
    fleet: Fleet
    producer: Producer
    disturbances: Disturbances
    books: Path
    sink_url: str
    group: str
    topic: str


async def soak(plan: Plan, folder: Path, say: Callable[[str], None]) -> Result:
    """Run a soak in a folder, which keeps everything: configuration, logs, books, Kafka's data."""
    begun = time.monotonic()
    async with _stage(plan, folder, say) as stage:
        await stage.disturbances.begin(PODS)
        made = load.make(
            plan.seed,
            plan.devices,
            plan.rate,
            LONGEST * plan.seconds,
            plain=bool(plan.previous),
            retries=plan.retries,
        )
        watching = asyncio.gather(
            stage.fleet.watch_memory(), stage.disturbances.ticks.watch(), return_exceptions=True
        )
        try:
            await _flow(plan, stage, made)
            say(f"sent {stage.producer.sent.total():,} records; waiting for the rest")
            late = await _arrived(plan, stage)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        refused = await _refused(stage)
        exits = await _stop(stage)
        say("counting")
        return await _judged(plan, stage, made, begun, [*late, *refused, *exits])


@asynccontextmanager
async def _stage(plan: Plan, folder: Path, say: Callable[[str], None]) -> AsyncIterator[Stage]:
    group = f"soak-{uuid.uuid4().hex[:8]}"
    topic, books = f"{group}-raw-events", folder / "books.ndjson"
    broker = Broker(folder / "kafka")
    await asyncio.to_thread(broker.start)
    try:
        with _sink(books, plan.seed) as url:
            async with Cluster(broker.bootstrap) as cluster:
                # The broker's own clock tells since when workers could see a record.
                kinds = {"message.timestamp.type": "LogAppendTime"}
                await cluster.create(topic, plan.partitions, **kinds)
                fleet = Fleet(
                    folder,
                    _sections(broker, group, topic, _window_ms(plan)),
                    _aws(url),
                    previous=plan.previous,
                    stable=plan.stable,
                )
                names = group, topic, plan.partitions
                disturbances = Disturbances(
                    fleet,
                    cluster,
                    broker,
                    names,
                    seed=plan.seed,
                    say=say,
                    previous=bool(plan.previous),
                )
                producer = Producer(broker.bootstrap, topic)
                try:
                    yield Stage(
                        broker, cluster, fleet, producer, disturbances, books, url, group, topic
                    )
                finally:
                    fleet.kill()
    finally:
        await asyncio.to_thread(broker.stop)


WINDOW_MS = 600_000
"""How far apart duplicates are looked for, where clients send any."""


def _window_ms(plan: Plan) -> int:
    return WINDOW_MS if plan.retries else 0


def _sections(broker: Broker, group: str, topic: str, window_ms: int) -> dict[str, Any]:
    sections = group_sections(broker.bootstrap, group, [topic])
    if window_ms:
        sections["kafka"]["topics"] = [{"name": topic, "duplicates": f"{window_ms}ms"}]
    # Bases far more often than in production, so that disturbances hit them too.
    sections["journal"] = {"tick": f"{TICK_MS}ms", "base_interval": "15s"}
    return {**sections, "drain_timeout": f"{pods.DRAIN:.0f}s"}


def _aws(url: str) -> dict[str, str]:
    return {"AWS_ENDPOINT_URL": url, "AWS_SECRET_ACCESS_KEY": "soak"}


@contextmanager
def _sink(books: Path, seed: int) -> Iterator[str]:
    command = [sys.executable, "-m", "tests.soak.sink", str(books), str(seed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


async def _flow(plan: Plan, stage: Stage, made: Load) -> None:
    """Send the load while the fleet is disturbed; the last release is out when it ends."""
    flow = asyncio.create_task(stage.producer.send(made))
    try:
        pauses = 0.25 * plan.pause, 1.75 * plan.pause
        await stage.disturbances.go_on(time.monotonic() + plan.seconds - 20, pauses)
        await stage.disturbances.end(PODS)
        stage.producer.stop()
        await flow
    finally:
        flow.cancel()
        await asyncio.gather(flow, return_exceptions=True)


async def _arrived(plan: Plan, stage: Stage) -> list[str]:
    """Wait until nothing waits anywhere; return what still does in the end."""
    await asyncio.to_thread(lambda: urlopen(f"{stage.sink_url}/calm").close())  # noqa: S310  # loopback
    left: list[str] = []

    async def arrived() -> bool:
        figures = await stage.fleet.figures()
        left[:] = [
            f"still there: {name} {value:.0f}"
            for name, value in figures.items()
            if value and (name == "silent" or name.startswith(SETTLED))
        ]
        left.extend(await _behind(plan, stage))
        return not left

    try:
        await until(arrived, "everything has arrived", ARRIVAL, LOOK)
    except Missing:
        return left
    return []


async def _behind(plan: Plan, stage: Stage) -> list[str]:
    """Return the partitions whose watermark is not at the end of the input."""
    ends = await stage.cluster.ends(stage.topic)
    committed = await stage.cluster.committed(stage.group)
    found = {p: committed.get((stage.topic, p), (0, ""))[0] for p in range(plan.partitions)}
    return [
        f"the watermark of partition {p} stands at {at} of {ends[p]}"
        for p, at in found.items()
        if at < ends[p]
    ]


async def _refused(stage: Stage) -> list[str]:
    figures = await stage.fleet.figures()
    bad = ('forwarder_partitions{state="refused"}', "stopped", "paused")
    return [
        f"{name} {value:.0f}"
        for name, value in figures.items()
        if value and (name == bad[0] or (name.startswith("forwarder_lanes") and _bad(name)))
    ]


def _bad(name: str) -> bool:
    return 'state="stopped"' in name or 'state="paused"' in name


async def _stop(stage: Stage) -> list[str]:
    """Drain all workers; return what ended otherwise than it should have."""
    await asyncio.gather(*(pod.drain() for pod in stage.fleet.running))
    every = stage.fleet.pods.values()
    codes = [f"{pod.name} drained with exit code {c}" for pod in every for c in pod.exits if c]
    return codes + [f"ended by itself: {told}" for pod in every for told in pod.ended]


async def _judged(plan: Plan, stage: Stage, made: Load, begun: float, wrong: list[str]) -> Result:
    done = stage.disturbances
    case = judge.Case(
        stage.broker.bootstrap,
        stage.topic,
        f"{stage.group}.outbox.{stage.topic}",
        stage.group,
        stage.books,
        done.history,
        made.reasons,
        list(judge.letters(await stage.cluster.read(f"{stage.group}-dead-letters"))),
        _window_ms(plan),
    )
    found = await asyncio.to_thread(judge.partitions, case, plan.partitions)
    verdict = conservation.together([one.verdict for one in found])
    told = await asyncio.to_thread(repeats.explain, puts(stage.books), done.hits, TICK_MS)
    return Result(
        verdict,
        told,
        done.recoveries,
        done.changes,
        stage.fleet.memory,
        pods.logged(stage.fleet),
        [*wrong, *_input(stage, found), *_strangers(stage, found)],
        sum(one.records for one in found),
        stage.producer.again,
        time.monotonic() - begun,
    )


def _input(stage: Stage, found: list[judge.Found]) -> list[str]:
    """Return what is wrong with the input itself: records lost, or there more than once."""
    there = Counter(value for one in found for value in one.values)
    lost, more = stage.producer.sent - there, there - stage.producer.sent
    told = [f"{lost.total()} confirmed records are not in the input"] if lost else []
    return told + ([f"{more.total()} records are in the input twice"] if more else [])


def _strangers(stage: Stage, found: list[judge.Found]) -> list[str]:
    """Return records of the streams that are batches of no partition."""
    known = {name for one in found for name in one.ids}
    strange = [r.id for put in puts(stage.books) for r in put.records if r.id not in known]
    return (
        [f"{len(strange)} records in the streams are in no outbox: {strange[:3]}"]
        if strange
        else []
    )
