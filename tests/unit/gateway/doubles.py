"""An endpoint store in memory and a Kafka that misbehaves on request, for the gateway's tests."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from forwarder.config.gateway import App, AppAuth
from forwarder.gateway.contract import ApiCall
from forwarder.gateway.endpoints.contract import EndpointUpdate, Merged, StoreError
from forwarder.kafka.idempotent import OutgoingRecord, ProduceError
from forwarder.ops.gateway_reporter import EventOutcome, GatewayReporter

ARRIVAL = 1_767_225_600_000
SHOP = App("shop", AppAuth.NONE)


def call_of(body: Any, app: App = SHOP, **parameters: str) -> ApiCall:  # noqa: ANN401  # any JSON
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    return ApiCall(app, parameters, raw, ARRIVAL, "request-1")


class Memory:
    """An endpoint store: members replace, nothing else of the rules of merging."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], dict[str, Any]] = {}
        self.down = False
        self.refuses: dict[str, str] = {}
        self.waits: asyncio.Event | None = None

    async def merge(self, app: str, updates: Mapping[str, EndpointUpdate]) -> dict[str, Merged]:
        await self._answer()
        return {key: self._merge(app, key, update) for key, update in updates.items()}

    def _merge(self, app: str, endpoint: str, update: EndpointUpdate) -> Merged:
        kept = self.kept.get((app, endpoint))
        if endpoint in self.refuses and update.given:
            old = orjson.dumps(kept) if kept is not None else b""
            return Merged(old, changed=False, fault=self.refuses[endpoint])
        new = (kept or {"ApplicationId": app, "Id": endpoint}) | dict(update.given)
        self.kept[app, endpoint] = new
        return Merged(orjson.dumps(new), changed=new != kept)

    async def read(self, app: str, endpoint: str) -> bytes | None:
        await self._answer()
        kept = self.kept.get((app, endpoint))
        return None if kept is None else orjson.dumps(kept)

    async def delete(self, app: str, endpoint: str) -> bytes | None:
        found = await self.read(app, endpoint)
        self.kept.pop((app, endpoint), None)
        return found

    async def read_user(self, app: str, user: str) -> Sequence[bytes]:
        await self._answer()
        return [orjson.dumps(self.kept[key]) for key in self._of(app, user)]

    async def delete_user(self, app: str, user: str) -> Sequence[bytes]:
        await self._answer()
        return [orjson.dumps(self.kept.pop(key)) for key in self._of(app, user)]

    async def check(self) -> None:
        await self._answer()

    async def close(self) -> None:
        """Nothing is open."""

    def _of(self, app: str, user: str) -> list[tuple[str, str]]:
        return [
            key
            for key, kept in self.kept.items()
            if key[0] == app and kept.get("User", {}).get("UserId") == user
        ]

    async def _answer(self) -> None:
        if self.waits is not None:
            await self.waits.wait()
        await asyncio.sleep(0)
        if self.down:
            text = "the store is down"
            raise StoreError(text)


class Room:
    """Memory that requests share."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.taken = 0

    def take(self, count: int) -> bool:
        if self.taken + count > self.limit:
            return False
        self.taken += count
        return True

    def give_back(self, count: int) -> None:
        self.taken -= count


class Broker:
    """What is stored, and how the writers that connect to it fare."""

    def __init__(self, partitions: int = 4, limit: int = 1_048_588) -> None:
        self.partitions = partitions
        self.limits: dict[str, int] = defaultdict(lambda: limit)
        self.log: dict[tuple[str, int], list[OutgoingRecord]] = defaultdict(list)
        self.batches: list[int] = []
        self.starts: list[ProduceError | None] = []
        self.answers: dict[int, list[ProduceError | asyncio.Event]] = defaultdict(list)
        self.odd: list[Exception] = []
        self.writers: list[Writer] = []
        self.up = asyncio.Event()
        self.up.set()
        self.seconds = 0.001

    def connect(self) -> "Writer":
        self.writers.append(Writer(self))
        return self.writers[-1]

    @property
    def records(self) -> list[OutgoingRecord]:
        return [record for log in self.log.values() for record in log]

    @property
    def values(self) -> list[Any]:
        return [orjson.loads(value) for _, value in self.records]


class Writer:
    """One connection: ``gateway.producer.RecordWriter``."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.ended = False
        self.asked = 0
        self._closed = asyncio.Event()

    async def start(self) -> None:
        problem = self.broker.starts.pop(0) if self.broker.starts else None
        if problem is not None:
            raise problem
        await self.broker.up.wait()

    async def ask_limits(self) -> None:
        self.asked += 1

    def limit(self, topic: str) -> int:
        return self.broker.limits[topic]

    def partition(self, topic: str, key: bytes) -> int:
        del topic
        return sum(key) % self.broker.partitions

    async def send(self, topic: str, number: int, records: Sequence[OutgoingRecord]) -> None:
        answers = self.broker.answers[number]
        answer = answers.pop(0) if answers else None
        self.broker.batches.append(len(records))
        await asyncio.sleep(self.broker.seconds)
        if self.broker.odd:
            raise self.broker.odd.pop()
        if isinstance(answer, ProduceError):
            raise answer
        if answer is not None:
            await self._unless_closed(answer)
        await self._unless_closed(self.broker.up)
        self.broker.log[topic, number] += records

    async def close(self) -> None:
        self._closed.set()

    async def _unless_closed(self, event: asyncio.Event) -> None:
        waits = [asyncio.ensure_future(one.wait()) for one in (event, self._closed)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for one in waits:
            one.cancel()
        if self._closed.is_set():
            text = "closed"
            raise ProduceError(text)


class GatewayNotes(GatewayReporter):
    """What was reported."""

    def __init__(self) -> None:
        self.counts: dict[tuple[str, EventOutcome], int] = defaultdict(int)
        self.failures: list[str] = []
        self.started = 0

    def events(self, app: str, outcome: EventOutcome, count: int) -> None:
        self.counts[app, outcome] += count

    def producer_failed(self, reason: str, remedy: str) -> None:
        del remedy
        self.failures.append(reason)

    def producer_started(self) -> None:
        self.started += 1
