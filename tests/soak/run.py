"""One soak: set up, let the load flow, kill and restart, wait until all has arrived, judge."""

import asyncio
import http.client
import random
import signal
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from forwarder.config import loader
from forwarder.connection import BatchMode
from tests import conservation, expectation
from tests.acceptance.cluster import Cluster, Sent, Stored
from tests.acceptance.harness import Site, Worker, group_sections, until
from tests.conservation import Batch, Letter, Verdict, Wanted
from tests.services.ministack import CUSTOMER_ACCOUNT, REGION, MiniStack
from tests.soak import load as loads

if TYPE_CHECKING:
    from forwarder.connection import Connection

TOPIC_SUFFIX = "raw-events"
ARRIVAL = 180.0
"""Seconds after the load within which everything has to be in the streams."""

LOOK = 2.0
"""Seconds between two counts of everything."""

DOWN = 1.5
"""Longest time in seconds that a killed worker stays down."""

BOTH = 0.2
"""Share of the kills that hit both workers at once."""

DRAIN = 25.0


@dataclass(frozen=True)
class Plan:
    """How large the soak is; ``seconds`` is how long the load flows."""

    events: int = 100_000
    devices: int = 1_000
    kills: int = 20
    seconds: float = 240.0
    partitions: int = 6
    broken: int = 60
    seed: int = 1


class Result(NamedTuple):
    """What the soak found.

    ``serving`` of the ``kills`` hit a worker that was ready; the others were still starting.
    ``behind`` counts the records below whose end the group's commit still stands.
    """

    verdict: Verdict
    sent: int
    events: int
    kills: int
    serving: int
    behind: int
    seconds: float
    exits: list[int]

    @property
    def faults(self) -> int:
        """Return how many things are wrong."""
        return self.verdict.faults + self.behind + sum(code != 0 for code in self.exits)

    def text(self) -> str:
        """Return it for people."""
        return (
            f"{self.events:,} events in {self.sent:,} records, {self.kills} kills "
            f"({self.serving} of a worker that was ready), {self.behind} records behind, "
            f"{self.seconds:.0f} s, exit codes {self.exits}\n{self.verdict.text()}"
        )


def connections(role: str, org: str, prefix: str) -> list[dict[str, Any]]:
    """Return two connections: everything in batches, and whole sessions of phones, filtered."""
    credentials = {"aws_account_id": CUSTOMER_ACCOUNT, "org_id": org, "role_name": role}
    everything = {
        "send_validation_results": True,
        "include_user_attribute_change_events": True,
        "include_user_identity_change_events": True,
    }
    sessions = {
        "wait_for_complete_batch": True,
        "include_location_information": False,
        "send_screen_views": False,
        "int64_as_string": True,
    }
    return [
        {
            "name": "everything",
            "credentials": credentials,
            "sink": sink(f"{prefix}-everything"),
            "settings": everything,
            "batching": {"max_age": "10s"},
        },
        {
            "name": "sessions",
            "match": {"platform": ["ios", "android"]},
            "credentials": credentials,
            "sink": sink(f"{prefix}-sessions"),
            "settings": sessions,
            "batching": {"session_timeout": "10s", "session_grace": "2s", "session_max": "30s"},
        },
    ]


def sink(stream: str) -> dict[str, Any]:
    """Return a Kinesis sink that finds out by itself which action it may use."""
    return {"type": "kinesis", "stream_name": stream, "region": REGION, "put": "auto"}


class Soak:
    """A group of two workers, what was sent to it and what came out."""

    def __init__(
        self, plan: Plan, cluster: Cluster, aws: MiniStack, folder: Path, say: Callable[[str], None]
    ) -> None:
        self.plan = plan
        self.cluster = cluster
        self.aws = aws
        self.say = say
        self.name = f"soak-{uuid.uuid4().hex[:8]}"
        self.topic = f"{self.name}-{TOPIC_SUFFIX}"
        self.site = Site(folder, self._sections(), aws.variables())
        self.configured: list[Connection] = []
        self.workers: list[Worker] = []
        self.wanted: dict[str, list[Wanted]] = {}
        self.kills = self.serving = 0
        self._random = random.Random(plan.seed)  # noqa: S311  # repeatable, not secret

    def _sections(self) -> dict[str, Any]:
        sections = group_sections(self.cluster.bootstrap, self.name, [self.topic])
        # Bases far more often than in production, so that kills hit them too.
        sections["journal"] = {"base_interval": "15s"}
        return {**sections, "drain_timeout": f"{DRAIN:.0f}s"}

    async def run(self) -> Result:
        """Do it all."""
        begun = time.monotonic()
        self.say("making the load")
        load = loads.make(
            self.plan.seed,
            self.plan.devices,
            self.plan.events,
            self.plan.broken,
            self.plan.seconds,
        )
        try:
            await self._set_up()
            sent = await self._flow(load)
            self.say(f"sent {len(sent):,} records, {self.kills} kills; waiting for the rest")
            self.wanted = await asyncio.to_thread(expectation.wanted, sent, self.configured)
            await self._arrived()
            exits = await self._stop()
        finally:
            self.site.close()
        self.say("counting")
        verdict = await self._judge(sent, load)
        return Result(
            verdict,
            len(sent),
            load.events,
            self.kills,
            self.serving,
            await self._behind(),
            time.monotonic() - begun,
            exits,
        )

    async def _behind(self) -> int:
        """Return how far the group's commit is from the end of the input."""
        ends = await self.cluster.ends(self.topic)
        committed = await self.cluster.committed(self.name)
        return sum(end - committed[self.topic, number][0] for number, end in ends.items())

    async def _set_up(self) -> None:
        role, org = f"{self.name}-role", "4711"
        await self.cluster.create(self.topic, self.plan.partitions)
        self.aws.make_role(role, ("kinesis:PutRecord",), f"orgid:{org}")
        for content in connections(role, org, self.name):
            self.aws.make_stream(content["sink"]["stream_name"])
            path = self.site.connect(content)
            self.configured.append(loader.load_connection(path).connection)
        self.workers = [self.site.worker("left"), self.site.worker("right")]
        for worker in self.workers:
            worker.start()
        for worker in self.workers:
            await worker.until_ready()

    async def _flow(self, load: loads.Load) -> list[Sent]:
        """Send the load while workers are killed."""
        flow = asyncio.create_task(loads.send(self.cluster, self.topic, load))
        try:
            await self._kill_now_and_then()
            return await flow
        finally:
            flow.cancel()
            await asyncio.gather(flow, return_exceptions=True)

    async def _kill_now_and_then(self) -> None:
        pause = self.plan.seconds / (self.plan.kills + 1)
        while self.kills < self.plan.kills:
            await asyncio.sleep(pause * self._random.uniform(0.2, 1.6))
            both = self._random.random() < BOTH and self.kills + 2 <= self.plan.kills
            for worker in self.workers if both else [self._random.choice(self.workers)]:
                assert worker.running, f"{worker.name} ended by itself:\n{worker.tail()}"
                self.serving += worker.get("/readyz")[0] == http.client.OK
                worker.kill()
                self.kills += 1
            await asyncio.sleep(self._random.uniform(0.0, DOWN))
            for worker in self.workers:
                if not worker.running:
                    worker.start()
            self.say(f"kill {self.kills} of {self.plan.kills}")

    async def _arrived(self) -> None:
        """Wait until outbox and streams hold as much as was wanted."""

        async def committed() -> bool:
            found = await self._outbox()
            counts = dict.fromkeys(self.wanted, 0)
            for batch in found:
                counts[batch.lane] += batch.events
            self.say(f"in the outbox: {counts}")
            return all(counts[lane] >= len(self.wanted[lane]) for lane in counts)

        async def delivered() -> bool:
            found = {lane: len(set(values)) for lane, values in (await self._streams()).items()}
            batches = await self._outbox()
            self.say(f"batches in the streams: {found}, in the outbox: {len(batches)}")
            return sum(found.values()) >= len(batches)

        await until(committed, "every event is in the outbox", ARRIVAL, LOOK)
        await until(delivered, "every batch is in its stream", ARRIVAL, LOOK)

    async def _stop(self) -> list[int]:
        for worker in self.workers:
            worker.signal(signal.SIGTERM)
        return [await worker.ended(DRAIN + 10) for worker in self.workers]

    async def _judge(self, sent: Sequence[Sent], load: loads.Load) -> Verdict:
        found = [letter(one) for one in await self.cluster.read(f"{self.name}-dead-letters")]
        contexts = {
            connection.name: expectation.Contexts(sent, connection).explains
            for connection in self.configured
            if connection.settings.mode is BatchMode.BATCH
        }
        return conservation.judge(
            self.wanted,
            await self._outbox(),
            await self._streams(),
            (expectation.letters(sent, load.reasons), found),
            identify=expectation.identify,
            contexts=contexts,
        )

    async def _outbox(self) -> list[Batch]:
        stored = await self.cluster.read(f"{self.name}.outbox.{self.topic}")
        return conservation.batches((r.partition, r.offset, r.value or b"") for r in stored)

    async def _streams(self) -> dict[str, list[bytes]]:
        return {
            lane: [
                record.value
                for record in await asyncio.to_thread(self.aws.read, f"{self.name}-{lane}")
            ]
            for lane in self.wanted
        }


def letter(record: Stored) -> Letter:
    """Return a dead letter as its headers describe it."""
    told = {name: value.decode() for name, value in record.headers.items()}
    return Letter(
        told["reason"],
        told["topic"],
        int(told["partition"]),
        int(told["offset"]),
        told["connection"],
        record.value or b"",
    )
