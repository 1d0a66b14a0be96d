"""The demo's two clients of Pinpoint: a server with boto3, and a web shop as Amplify reports."""

import asyncio
import json
import random
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.request import Request, urlopen

from tests.acceptance.pinpoint_scene import API_KEY, KEYED, SIGNED, signed
from tests.clients import senders

Json = dict[str, Any]

DAYS = 4
"""Days before today of which the server reports."""

USERS = 40
PRICES = (4.99, 9.99, 19.0, 49.5)
ACCEPTED = 202
NAMES = {SIGNED: "boto3, a server", KEYED: "Amplify, a web shop"}


@dataclass
class Day:
    """What is counted of an app and a day."""

    users: set[str] = field(default_factory=set)
    sessions: int = 0
    revenue: float = 0.0


@dataclass
class Sent:
    """What the gateway accepted, by app and day; filled by several threads."""

    days: defaultdict[tuple[str, date], Day] = field(default_factory=lambda: defaultdict(Day))
    events: int = 0
    refused: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def enter(self, app: str, request: Json, results: Mapping[str, Any]) -> None:
        """Count the events of a request that were accepted."""
        with self.lock:
            for endpoint, item in request["BatchItem"].items():
                told = results[endpoint]["EventsItemResponse"]
                for name, event in item["Events"].items():
                    if told[name]["StatusCode"] != ACCEPTED:
                        self.refused += 1
                        continue
                    self.events += 1
                    self._count(app, endpoint, event)

    def _count(self, app: str, endpoint: str, event: Json) -> None:
        day = self.days[app, datetime.fromisoformat(event["Timestamp"]).date()]
        if event["EventType"] == "_session.start":
            day.users.add(endpoint)
            day.sessions += 1
        elif event["EventType"] == "_monetization.purchase":
            day.revenue += event["Metrics"]["_item_price"] * event["Metrics"]["_quantity"]


class Visits:
    """Makes sessions with purchases, each the events of one request."""

    def __init__(self, seed: int) -> None:
        """Prepare; the same seed makes the same visits."""
        self._dice = random.Random(seed)  # noqa: S311  # repeatable, not secret

    def visit(self, at: datetime) -> Json:
        """Return the events of one visit, by id."""
        session = {"Id": self._id(), "StartTimestamp": stamp(at)}
        events: Json = {self._id(): {"EventType": "_session.start", "Timestamp": stamp(at)}}
        for _ in range(self._dice.choice((0, 1, 1, 2))):
            at += timedelta(seconds=self._dice.randint(5, 60))
            price = self._dice.choice(PRICES)
            events[self._id()] = {
                "EventType": "_monetization.purchase",
                "Timestamp": stamp(at),
                "Attributes": {"_product_id": f"sku-{price}", "_currency": "EUR"},
                "Metrics": {"_quantity": self._dice.randint(1, 3), "_item_price": price},
            }
        at += timedelta(seconds=self._dice.randint(5, 60))
        events[self._id()] = {"EventType": "_session.stop", "Timestamp": stamp(at)}
        stop = {"StopTimestamp": stamp(at)}
        for event in events.values():
            ends = event["EventType"] == "_session.stop"
            event["Session"] = {**session, **(stop if ends else {})}
        return events

    def user(self, prefix: str, count: int = USERS) -> str:
        """Return one of so many users."""
        return f"{prefix}-{self._dice.randrange(count)}"

    def platform(self) -> str:
        """Return a platform."""
        return self._dice.choice(("iOS", "Android"))

    def _id(self) -> str:
        return str(uuid.UUID(int=self._dice.getrandbits(128), version=4))


def stamp(at: datetime) -> str:
    """Return a time as clients write it."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def server(url: str, seconds: float, sent: Sent, over: threading.Event) -> None:
    """Report the visits of the last days and of today with boto3, several users a request."""
    client, visits = senders.boto(signed(url)), Visits(1)
    for moment in _moments(seconds, over):
        request: Json = {"BatchItem": {}}
        for _ in range(3):
            endpoint = visits.user("phone")
            about = {"Demographic": {"Platform": visits.platform()}, "ChannelType": "GCM"}
            events = visits.visit(moment)
            request["BatchItem"][endpoint] = {"Endpoint": about, "Events": events}
        answer = client.put_events(ApplicationId=SIGNED, EventsRequest=request)
        sent.enter(SIGNED, request, answer["EventsResponse"]["Results"])


def _moments(seconds: float, over: threading.Event) -> Iterator[datetime]:
    """Yield times of the last days, evenly while so many seconds go by."""
    begun = time.monotonic()
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    while not over.wait(0.15):
        gone = (time.monotonic() - begun) / seconds
        if gone >= 1:
            return
        yield today - timedelta(days=DAYS) + timedelta(days=DAYS) * gone


async def web_shop(url: str, seconds: float, sent: Sent, over: threading.Event) -> None:
    """Report today's visitors as Amplify does: an endpoint first, its events with nothing of it.

    The requests are Amplify's own (``tests/clients`` has the library itself in Node, which keeps
    one visitor a process).
    """
    visits, begun = Visits(2), time.monotonic()
    known: set[str] = set()
    while time.monotonic() - begun < seconds and not over.is_set():
        visitor = visits.user("visitor", USERS // 2)
        if visitor not in known:
            about = {"Demographic": {"Platform": "web", "Locale": "de_AT"}, "ChannelType": "IN_APP"}
            await asyncio.to_thread(ask, url, "PUT", f"endpoints/{visitor}", about)
            known.add(visitor)
        events = visits.visit(datetime.now(UTC))
        request = {"BatchItem": {visitor: {"Endpoint": {}, "Events": events}}}
        answer = await asyncio.to_thread(ask, url, "POST", "events", request)
        sent.enter(KEYED, request, answer["Results"])
        await asyncio.sleep(0.2)


def ask(url: str, method: str, path: str, content: Json) -> Json:
    """Send one request of the web shop; return the answer."""
    headers = {"Content-Type": "application/json", "x-api-key": API_KEY}
    request = Request(  # noqa: S310  # loopback
        f"{url}/v1/apps/{KEYED}/{path}", json.dumps(content).encode(), headers, method=method
    )
    with urlopen(request, timeout=30) as answer:  # noqa: S310
        found: Json = json.loads(answer.read())
        return found
