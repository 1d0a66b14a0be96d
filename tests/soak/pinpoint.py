"""The gateway's soak: apps report while gateway, workers and broker are killed with -9.

Then everything is counted: each event that was answered 202/Accepted is in the outbox once, though
apps send again what was not answered; the streams hold the outbox's bytes, perhaps more than once,
and nothing else, in the order of requests; nothing is found under another app or endpoint.
"""

import asyncio
import json
import random
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tests import conservation
from tests.acceptance.cluster import Cluster, Stored
from tests.acceptance.harness import Missing, Worker, until
from tests.acceptance.pinpoint_scene import API_KEY, KEYED, OPEN, PinpointScene
from tests.conservation import Batch, digest
from tests.fake_aws.books import puts
from tests.services.kafka import Broker
from tests.services.ministack import CUSTOMER_ACCOUNT, REGION
from tests.services.postgres import PostgresServer
from tests.soak.pinpoint_load import App, Ledger, Name

APPS = {KEYED: {"x-api-key": API_KEY}, OPEN: {}}
WORKERS = 2
PARTITIONS = 4
LOOK = 1.0
ARRIVAL = 120.0
FINISH = 90.0
"""Seconds within which every app has to be rid of its last request, once nothing is disturbed."""

AWAY = (0.0, 1.0, 7.0)
"""For how many seconds something stays killed."""

MOST_EXAMPLES = 3
"""How many faults of each kind are shown."""

ALONE = ("gateway", "worker", "broker", "gateway", "workers", "gateway and broker")
TOGETHER = ("gateway", "gateways", "database", "worker", "gateway and broker", "database", "broker")


def deck(gateways: int) -> tuple[str, ...]:
    """Return what is killed before anything is again; several gateways share a database."""
    return ALONE if gateways == 1 else TOGETHER


@dataclass(frozen=True)
class Plan:
    """How large the soak is: seconds, endpoints of each app, seconds between their requests.

    One of the ``gateways`` keeps endpoints in a file, several share a PostgreSQL server.
    """

    seconds: float = 600.0
    gateways: int = 2
    endpoints: int = 40
    pause: float = 0.4
    between: float = 5.0
    seed: int = 1


class Result(NamedTuple):
    """What was counted, and what is wrong, in words."""

    figures: dict[str, int]
    faults: list[str]

    def text(self) -> str:
        """Return the figures as lines, and the first faults of each kind."""
        lines = [f"{count:>9,}  {what}" for what, count in self.figures.items()]
        kinds: Counter[str] = Counter()
        for fault in self.faults:
            kind = fault.partition(":")[0]
            kinds[kind] += 1
            lines += [fault[:1000]] if kinds[kind] <= MOST_EXAMPLES else []
        return "\n".join(
            [*lines, *(f"{count:>9,}  faults: {kind}" for kind, count in kinds.items())]
        )


@dataclass
class Stage:
    """Where the soak takes place."""

    broker: Broker
    cluster: Cluster
    scene: PinpointScene
    gateways: list[Worker]
    workers: list[Worker]
    books: Path
    database: PostgresServer | None

    @property
    def urls(self) -> list[str]:
        """Return where apps report to, whichever they like."""
        return [f"http://127.0.0.1:{self.scene.ports[one.name]}" for one in self.gateways]

    @property
    def processes(self) -> list[Worker]:
        """Return the program's own processes."""
        return [*self.gateways, *self.workers]


async def soak(plan: Plan, folder: Path, say: Callable[[str], None]) -> Result:
    """Run a soak in a folder, which keeps everything."""
    ledger = Ledger()
    async with _stage(plan, folder) as stage:
        over = asyncio.Event()
        apps = [
            App(app, f"endpoint-{number}", headers, ledger, plan.seed)
            for app, headers in APPS.items()
            for number in range(plan.endpoints)
        ]
        reporting = [asyncio.create_task(a.report(stage.urls, plan.pause, over)) for a in apps]
        try:
            kills = await _disturb(plan, stage, say)
            over.set()
            done, late = await asyncio.wait(reporting, timeout=FINISH)
            for task in done:
                task.result()
        finally:
            for task in reporting:
                task.cancel()
            await asyncio.gather(*reporting, return_exceptions=True)
        ledger.faults += [f"{len(late)} apps never got an answer"] if late else []
        say(f"{len(ledger.accepted):,} events accepted; waiting for the rest")
        ledger.faults += await _drained(stage)
        say("counting")
        return await _judge(stage, ledger, kills)


@asynccontextmanager
async def _stage(plan: Plan, folder: Path) -> AsyncIterator[Stage]:
    database = PostgresServer() if plan.gateways > 1 else None
    broker, books = Broker(folder / "kafka"), folder / "books.ndjson"
    try:
        await asyncio.to_thread(broker.start)
        if database is not None:
            await asyncio.to_thread(database.start)
        with _sink(books, plan.seed) as url:
            async with Cluster(broker.bootstrap) as cluster:
                scene = PinpointScene.make(broker.bootstrap, folder, f"p-{uuid.uuid4().hex[:6]}")
                scene.variables = {
                    "AWS_ENDPOINT_URL": url,
                    "AWS_ACCESS_KEY_ID": "AKIASOAK",
                    "AWS_SECRET_ACCESS_KEY": "soak",
                }
                await cluster.create(scene.topic, PARTITIONS)
                await cluster.create(scene.uploads, 1)
                _connect(scene)
                if database is not None:
                    scene.endpoints = {"store": "postgres", "dsn": database.new_database()}
                gateways = [scene.gateway(f"gateway-{number}") for number in range(plan.gateways)]
                workers = [scene.worker(f"worker-{number}") for number in range(WORKERS)]
                stage = Stage(broker, cluster, scene, gateways, workers, books, database)
                try:
                    for process in stage.processes:
                        process.start()
                    for process in stage.processes:
                        await process.until_ready(60)
                    yield stage
                finally:
                    scene.close()
    finally:
        await asyncio.to_thread(broker.stop)
        if database is not None:
            await asyncio.to_thread(database.remove)


def _connect(scene: PinpointScene) -> None:
    for app in APPS:
        sink = {
            "type": "kinesis",
            "stream_name": app,
            "region": REGION,
            "format": "pinpoint",
            "aws_account_id": CUSTOMER_ACCOUNT,
        }
        match = {"topic": [scene.topic], "application": [app]}
        scene.connect({"name": app, "match": match, "sink": sink})


@contextmanager
def _sink(books: Path, seed: int) -> Iterator[str]:
    command = [sys.executable, "-m", "tests.soak.sink", str(books), str(seed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


# What happens.


async def _disturb(plan: Plan, stage: Stage, say: Callable[[str], None]) -> Counter[str]:
    """Kill until the time is over, and in each way at least once; all run again at the end."""
    dice = random.Random(plan.seed)  # noqa: S311  # repeatable, not secret
    kills: Counter[str] = Counter()
    end = time.monotonic() + plan.seconds
    every = deck(plan.gateways)
    coming = list(every)
    while coming or time.monotonic() < end:
        coming = coming or dice.sample(every, len(every))
        kind = coming.pop(0)
        await asyncio.sleep(dice.uniform(0.5, 1.5) * plan.between)
        away = dice.choice(AWAY)
        begun = time.monotonic()
        await _kill(kind, stage, dice, away)
        kills[kind] += 1
        took = time.monotonic() - begun
        say(f"kill -9 of {kind}, away for {away:.0f} s, ready after {took:.1f} s")
        if time.monotonic() > end and kills.keys() >= {*every}:
            break
    return kills


async def _kill(kind: str, stage: Stage, dice: random.Random, away: float) -> None:
    hit: list[Worker] = [dice.choice(stage.gateways)] if "gateway" in kind else []
    if kind in {"gateways", "worker", "workers"}:
        every = stage.gateways if kind == "gateways" else stage.workers
        hit = every if kind.endswith("s") else [dice.choice(every)]
    servers: list[Broker | PostgresServer] = [stage.broker] if "broker" in kind else []
    if kind == "database" and stage.database is not None:
        servers = [stage.database]
    for process in hit:
        process.kill()
    for server in servers:
        await asyncio.to_thread(server.kill)
    await asyncio.sleep(away)
    for server in servers:
        await asyncio.to_thread(server.start)
    for process in hit:
        process.start()
    for process in stage.processes:
        await process.until_ready(90)


async def _drained(stage: Stage) -> list[str]:
    """Wait until everything is collected and in the streams; end all; return what is wrong.

    Not by what workers say of themselves: those that are just taking over say nothing yet.
    """
    left: list[str] = []
    wanted: set[tuple[str, bytes]] = set()

    async def collected() -> bool:
        ends = await stage.cluster.ends(stage.scene.topic)
        committed = await stage.cluster.committed(stage.scene.name)
        at = {p: committed.get((stage.scene.topic, p), (0, ""))[0] for p in ends}
        left[:] = [f"partition {p}: {at[p]} of {end}" for p, end in ends.items() if at[p] < end]
        return not left

    async def put() -> bool:
        landed = await asyncio.to_thread(_landed, stage.books)
        left[:] = [f"a record for stream {stream}" for stream, _ in wanted - landed.keys()]
        return not left

    wrong = []
    try:
        await until(collected, "everything is collected", ARRIVAL, LOOK)
        wanted |= _addressed(await _outbox(stage))
        await until(put, "everything is in the streams", ARRIVAL, LOOK)
    except Missing:
        wrong = [f"still not there: {one}" for one in left]
    for process in stage.processes:
        process.signal(signal.SIGTERM)
        code = await process.ended(60)
        wrong += [f"{process.name} drained with exit code {code}"] if code else []
    return wrong


async def _outbox(stage: Stage) -> list[Batch]:
    stored = await stage.cluster.read(stage.scene.outbox(stage.scene.topic))
    return conservation.batches((r.partition, r.offset, r.value or b"") for r in stored)


def _addressed(batches: Sequence[Batch]) -> set[tuple[str, bytes]]:
    """Return what the streams have to hold: (stream, digest)."""
    return {(batch.lane, digest(batch.payload)) for batch in batches}


def _landed(books: Path) -> Counter[tuple[str, bytes]]:
    """Return how often each record was stored: (stream, digest)."""
    found: Counter[tuple[str, bytes]] = Counter()
    for one in puts(books):
        found.update((one.stream, record.digest) for record in one.records)
    return found


# Counting.


async def _judge(stage: Stage, ledger: Ledger, kills: Counter[str]) -> Result:
    batches = await _outbox(stage)
    taken = await stage.cluster.read(stage.scene.topic)
    letters = await stage.cluster.read(f"{stage.scene.name}-dead-letters")
    faults = list(ledger.faults)
    faults += [f"a dead letter: {letter.headers}" for letter in letters]
    found: Counter[Name] = Counter()
    newest: dict[tuple[str, str], int] = {}
    for batch in batches:  # a partition after the other, each in its order
        name = named(batch)
        found[name] += 1
        faults += wrong_record(batch, ledger)
        of_request, place = ledger.sent.get(name, 0), (name.app, name.endpoint)
        if of_request < newest.get(place, 0):
            faults.append(f"behind events of a later request: {name}")
        newest[place] = max(of_request, newest.get(place, 0))
    faults += [f"lost, though accepted: {name}" for name in ledger.accepted if not found[name]]
    faults += [f"{count} times in the outbox: {n}" for n, count in found.items() if count > 1]
    there = _addressed(batches)
    landed = await asyncio.to_thread(_landed, stage.books)
    faults += [f"in stream {key[0]}, but not in its outbox" for key in landed.keys() - there]
    faults += [f"never put into stream {key[0]}" for key in there - landed.keys()]
    written = sum(len(json.loads(one.value or b"{}")["Events"]) for one in taken)
    figures = {
        "events sent": len(ledger.sent),
        "of them accepted": len(ledger.accepted),
        "events in the gateway's topic": written,
        "of them duplicates": written - len(_distinct(taken)),
        "events in the outbox": len(batches),
        "records in the streams": landed.total(),
        "of them repeats": landed.total() - len(landed),
        **dict(sorted(ledger.told.items())),
        **{f"kill -9 of {kind}": count for kind, count in kills.items()},
    }
    return Result(figures, faults)


def named(batch: Batch) -> Name:
    """Return the event that a record is about, by what the app itself wrote into it."""
    attributes = json.loads(batch.payload)["attributes"]
    return Name(attributes["app"], attributes["endpoint"], attributes["n"])


def wrong_record(batch: Batch, ledger: Ledger) -> list[str]:
    """Return what is wrong with a record of the outbox by itself."""
    record: dict[str, Any] = json.loads(batch.payload)
    name = named(batch)
    endpoint = record.get("endpoint", {})
    # Its endpoint is as the event's own request left it, or a later one.
    changed = endpoint.get("Attributes", {}).get("request", ["0"])
    wrong = {
        "nobody sent it": name not in ledger.sent,
        "of another app": {name.app} != {batch.lane, record["application"]["app_id"]},
        "of another endpoint": name.endpoint != record["client"]["client_id"],
        "with another app's endpoint": endpoint.get("ApplicationId") != name.app,
        "with another endpoint": endpoint.get("Id") != name.endpoint,
        "with the endpoint of another request": changed != [str(ledger.sent.get(name))],
        "with several events": batch.events != 1,
    }
    return [f"{what}: {batch.lane}: {batch.payload!r}" for what, bad in wrong.items() if bad]


def _distinct(taken: Sequence[Stored]) -> set[Name]:
    found = set()
    for one in taken:
        record = json.loads(one.value or b"{}")
        for event in record["Events"]:
            found.add(Name(record["ApplicationId"], record["EndpointId"], event["EventId"]))
    return found
