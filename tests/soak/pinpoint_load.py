"""Apps that report to a gateway without end, and again whatever was not answered."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

import aiohttp
import orjson

ANSWER = 20.0
"""Seconds until an app takes a request for unanswered; above what a gateway waits for Kafka."""

PAUSE = 0.2
"""Seconds before an app tries again."""

AGAIN = 0.08
"""Share of the answered requests that are sent once more, as if the answer had been lost."""

LONGEST_MEMORY = 20
"""How many of its last requests an app may send once more."""

ACCEPTED = 202
TRY_AGAIN = {429, 500}


class Name(NamedTuple):
    """What an event is known by."""

    app: str
    endpoint: str
    event: str


class Sequel(NamedTuple):
    """A request as it was made: which of its endpoint's it is, and its events by id."""

    number: int
    events: Mapping[str, Mapping[str, Any]]


@dataclass
class Ledger:
    """What all apps have sent and been told; ``sent`` tells the request's number of each event."""

    sent: dict[Name, int] = field(default_factory=dict)
    accepted: set[Name] = field(default_factory=set)
    told: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


class App:
    """One installed app: one endpoint, one request at a time, until each event is accepted."""

    def __init__(
        self, app: str, endpoint: str, headers: Mapping[str, str], ledger: Ledger, seed: int
    ) -> None:
        """Prepare; ``headers`` are what the app shows to be let in."""
        self._app = app
        self._endpoint = endpoint
        self._headers = {"content-type": "application/json", **headers}
        self._ledger = ledger
        self._dice = random.Random(f"{seed}/{app}/{endpoint}")  # noqa: S311  # repeatable, not secret
        self._count = 0
        self._requests = 0
        self._memory: list[Sequel] = []

    async def report(self, urls: Sequence[str], pause: float, over: asyncio.Event) -> None:
        """Send requests, ``pause`` seconds apart at the mean, until ``over``; finish the last.

        Each goes to any of the gateways, and to any again where it was not answered.
        """
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(ANSWER)) as session:
            while not over.is_set():
                await asyncio.sleep(self._dice.uniform(0, 2 * pause))
                await self._until_accepted(session, urls, self._make())
                if self._dice.random() < AGAIN:
                    await self._once_more(session, urls)

    def _make(self) -> Sequel:
        self._requests += 1
        events = {}
        for _ in range(self._dice.randint(1, 8)):
            self._count += 1
            # Ids that other endpoints and the other app use, too: only all three name an event.
            name = str(self._count)
            self._ledger.sent[Name(self._app, self._endpoint, name)] = self._requests
            events[name] = {
                "EventType": self._dice.choice(
                    ("tick", "_session.start", "_monetization.purchase")
                ),
                "Timestamp": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "Attributes": {"app": self._app, "endpoint": self._endpoint, "n": name},
                "Metrics": {"request": self._requests},
            }
        made = Sequel(self._requests, events)
        self._memory = [*self._memory[-LONGEST_MEMORY:], made]
        return made

    async def _until_accepted(
        self, session: aiohttp.ClientSession, urls: Sequence[str], made: Sequel
    ) -> None:
        left = dict(made.events)
        # The endpoint tells which request it was last changed by.
        about = {"Attributes": {"request": [str(made.number)]}}
        while left:
            told = await self._ask(session, urls, about, left)
            for name, status in told.items():
                if status == ACCEPTED:
                    self._ledger.accepted.add(Name(self._app, self._endpoint, name))
                    del left[name]
                elif status not in TRY_AGAIN:
                    self._ledger.faults.append(f"{self._app}: event {name} was told {status}")
                    del left[name]
            if left:
                await asyncio.sleep(PAUSE)

    async def _once_more(self, session: aiohttp.ClientSession, urls: Sequence[str]) -> None:
        old = self._dice.choice(self._memory)
        self._ledger.told["sent once more"] += len(old.events)
        await self._ask(session, urls, {}, old.events)

    async def _ask(
        self,
        session: aiohttp.ClientSession,
        urls: Sequence[str],
        about: Mapping[str, Any],
        events: Mapping[str, Mapping[str, Any]],
    ) -> dict[str, int]:
        """Send a request once; return what was told of each event, nothing if nothing was."""
        body = orjson.dumps({"BatchItem": {self._endpoint: {"Endpoint": about, "Events": events}}})
        address = f"{self._dice.choice(urls)}/v1/apps/{self._app}/events"
        begun = time.monotonic()
        try:
            async with session.post(address, data=body, headers=self._headers) as answer:
                content = await answer.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            self._ledger.told[f"unanswered: {type(error).__name__}"] += 1
            return {}
        if time.monotonic() - begun > ANSWER:
            self._ledger.faults.append(f"{self._app}: an answer after {ANSWER} s")
        self._ledger.told[f"HTTP {answer.status}"] += 1
        if answer.status != ACCEPTED:
            if answer.status not in TRY_AGAIN:
                self._ledger.faults.append(f"{self._app}: HTTP {answer.status}: {content[:200]!r}")
            return {}
        (item,) = orjson.loads(content)["Results"].values()
        found = {name: told["StatusCode"] for name, told in item["EventsItemResponse"].items()}
        self._ledger.told.update(f"event {status}" for status in found.values())
        if found.keys() != events.keys():
            self._ledger.faults.append(f"{self._app}: told of {found.keys() ^ events.keys()}")
        return found
