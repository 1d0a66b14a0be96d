"""What clients are told to report: every kind of event that Pinpoint's users send, and odd ones.

A story is a list of PutEvents requests, each as its JSON body, so that a sender in any language
can read it. Endpoint ids begin with the sender's name: no two senders share an endpoint.
"""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

Json = dict[str, Any]

PHONE: Json = {
    "Address": "5f2b0c7d5e",
    "Attributes": {"interests": ["café", "手紙", 'a "quoted" one'], "plan": ["gold"]},
    "ChannelType": "APNS",
    "Demographic": {
        "AppVersion": "4.2.1",
        "Locale": "de_at",
        "Make": "Apple",
        "Model": "iPhone",
        "ModelVersion": "17",
        "Platform": "iOS",
        "PlatformVersion": "26.1",
        "Timezone": "Europe/Vienna",
    },
    "EndpointStatus": "ACTIVE",
    "Location": {
        "City": "Wien",
        "Country": "AT",
        "Latitude": 48.2082,
        "Longitude": 16.3738,
        "PostalCode": "1010",
        "Region": "W",
    },
    "Metrics": {"logins": 12, "score": 0.5},
    "OptOut": "NONE",
    "User": {"UserId": "user-7", "UserAttributes": {"name": ["Zoë"], "tags": ["x", "y"]}},
}
TABLET: Json = {
    "ChannelType": "EMAIL",
    "Address": "jane@example.com",
    "Demographic": {"Locale": "en_US", "Make": "Samsung", "Platform": "android"},
}
APP: Json = {
    "AppPackageName": "com.acme.shop",
    "AppTitle": "Acme Shop ☕",
    "AppVersionCode": "4021",
    "ClientSdkVersion": "2.37.0",
    "SdkName": "aws-sdk-android",
}
PLAIN = (
    "_session.pause",
    "_session.resume",
    "_userauth.sign_in",
    "_userauth.sign_up",
    "_userauth.sign_out",
    "_userauth.auth_fail",
    "pageView",
    "_custom.level_up",
    "Newsletter öffnen ✓",
)
MESSAGES = tuple(
    f"_{origin}.{what}"
    for origin in ("campaign", "journey")
    for what in ("send", "opened_notification", "received_foreground", "received_background")
)
TEXTS = ("_SMS.SUCCESS", "_SMS.FAILURE", "_email.send", "_email.delivered", "_email.open")
TEST_EVENT = "_test.event_stream"
"""The event that Pinpoint's console sent to try a stream; never forwarded."""

ODD: Json = {
    "quote": 'say "yes" \\ no',
    "line": "a\nb\tc\u2028d",
    "emoji": "👩🏽‍🚀 naïve ﷽",
    "nul": "a\u0001b",
    "number": "007",
    "empty": "",
    "k" * 50: "v" * 200,
}
NUMBERS: Json = {
    "one": 1,
    "zero": 0,
    "half": 0.5,
    "minus": -3,
    "large": 9007199254740991,
    "small": 1e-7,
    "price": 19.99,
}
HUNDREDS = 250
"""Events of one endpoint that fit no single request."""

LIMIT = 100
"""Events that one request may have."""


def stamps(moment: datetime) -> Iterator[str]:
    """Yield spellings of instants, all that clients are known to use."""
    local = moment.astimezone(timezone(timedelta(hours=2)))
    india = moment.astimezone(timezone(timedelta(hours=5, minutes=30)))
    yield moment.strftime("%Y-%m-%dT%H:%M:%SZ")
    yield moment.strftime("%Y-%m-%dT%H:%M:%S.") + "1Z"
    yield moment.strftime("%Y-%m-%dT%H:%M:%S.") + "123Z"
    yield moment.strftime("%Y-%m-%dT%H:%M:%S.") + "123456Z"
    yield moment.strftime("%Y-%m-%dT%H:%M:%S.") + "123999999Z"
    yield local.strftime("%Y-%m-%dT%H:%M:%S.250+02:00")
    yield local.strftime("%Y-%m-%dT%H:%M:%S+0200")
    yield india.strftime("%Y-%m-%dT%H:%M:%S.5+05:30")
    yield moment.strftime("%Y-%m-%dT%H:%M:%S+0000")
    yield moment.strftime("%Y-%m-%dT%H:%M:%S")
    yield moment.strftime("%Y-%m-%dT%H:%M:%S.007")


class Story:
    """Makes a sender's requests; event ids count from one."""

    def __init__(self, sender: str, begin: datetime) -> None:
        """Prepare; every event happens after ``begin``."""
        self.sender = sender
        self._at = begin.astimezone(UTC)
        self._count = 0

    def requests(self) -> list[Json]:
        """Return the bodies of PutEvents, in the order in which they are sent."""
        phone, tablet, bare = (f"{self.sender}-{kind}" for kind in ("phone", "tablet", "bare"))
        return [
            self.request({phone: (PHONE, self.session("s-1"))}),
            self.request({phone: ({}, self.kinds())}),
            self.request({tablet: (TABLET, self.messages()), bare: ({}, self.times())}),
            # What is given replaces what was there, and null takes a key away.
            self.request(
                {
                    phone: (
                        {
                            "Attributes": {"plan": ["silver"], "interests": []},
                            "Metrics": {"logins": 13},
                            "Demographic": {"AppVersion": "4.3.0"},
                            "User": {"UserId": "user-7", "UserAttributes": {"tags": ["z"]}},
                        },
                        [self.event("_userauth.sign_in"), self.purchase(2, 9.99)],
                    )
                }
            ),
            self.request({f"{self.sender}/ünï%2F code": ({}, self.odd())}),
            *self.many(f"{self.sender}-busy"),
        ]

    def request(self, items: dict[str, tuple[Json, list[Json]]]) -> Json:
        """Return a body: by endpoint id what is said of the endpoint, and its events."""
        batch: Json = {}
        for endpoint, (about, events) in items.items():
            named = {}
            for event in events:
                self._count += 1
                named[f"{self.sender}-{self._count:04d}"] = event
            batch[endpoint] = {"Endpoint": about, "Events": named}
        return {"BatchItem": batch}

    def event(self, kind: str, **more: Any) -> Json:  # noqa: ANN401
        """Return an event, 1,370 ms after the one before."""
        self._at += timedelta(milliseconds=1370)
        stamp = self._at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return {"EventType": kind, "Timestamp": stamp, **more}

    def session(self, name: str) -> list[Json]:
        """Return a session with a purchase in it."""
        start = self.event("_session.start", **APP)
        about = {"Id": name, "StartTimestamp": start["Timestamp"]}
        start["Session"] = about
        events = [start, self.purchase(1, 4.5, Session=about), self.purchase(3, 12, Session=about)]
        stop = self.event("_session.stop", **APP)
        took = {"StopTimestamp": stop["Timestamp"], "Duration": 4110}
        return [*events, {**stop, "Session": {**about, **took}}]

    def purchase(self, quantity: int, price: float, **more: Any) -> Json:  # noqa: ANN401
        """Return a purchase as the mobile SDKs report one."""
        attributes = {
            "_product_id": "sku-1",
            "_currency": "EUR",
            "_store": "Apple",
            "_transaction_id": f"t-{quantity}",
            "_item_price_formatted": f"{price} €",
        }
        metrics = {"_quantity": quantity, "_item_price": price}
        return self.event("_monetization.purchase", Attributes=attributes, Metrics=metrics, **more)

    def visits(self, begin: datetime, dice: random.Random, currency: str) -> list[Json]:
        """Return one or two sessions one after the other, with what was bought in them."""
        events = []
        self._at = begin
        for number in range(dice.choice((1, 1, 2))):
            start = self.event("_session.start")
            about = {"Id": f"{begin:%m%d}-{number}", "StartTimestamp": start["Timestamp"]}
            bought = []
            for _ in range(dice.choice((0, 0, 1, 2))):
                bought.append(self.purchase(dice.randint(1, 3), dice.randint(100, 9_999) / 100))
                bought[-1]["Attributes"]["_currency"] = currency
                bought[-1]["Session"] = about
            self._at += timedelta(minutes=dice.randint(0, 90))
            stop = self.event("_session.stop")
            took = {"StopTimestamp": stop["Timestamp"]}
            events += [{**start, "Session": about}, *bought, {**stop, "Session": {**about, **took}}]
        return events

    def kinds(self) -> list[Json]:
        """Return one event of every plain kind, and the one that is never forwarded."""
        return [self.event(kind, **APP, Attributes={"n": kind}) for kind in (*PLAIN, TEST_EVENT)]

    def messages(self) -> list[Json]:
        """Return what apps report of campaigns and journeys, and texts and e-mails."""
        ids = {"campaign_id": "c-1", "treatment_id": "0", "campaign_activity_id": "a-1"}
        journey = {"journey_id": "j-1", "journey_run_id": "r-1", "journey_activity_id": "a-2"}
        events = [
            self.event(kind, Attributes=ids if kind.startswith("_campaign") else journey)
            for kind in MESSAGES
        ]
        text = {"record_status": "DELIVERED", "iso_country_code": "AT", "message_id": "m-1"}
        return events + [self.event(kind, Attributes=text) for kind in TEXTS]

    def times(self) -> list[Json]:
        """Return an event for every spelling of time."""
        return [
            {"EventType": "tick", "Timestamp": stamp, "Attributes": {"spelled": stamp}}
            for stamp in stamps(self._at)
        ]

    def odd(self) -> list[Json]:
        """Return events with values that programs break on."""
        return [
            self.event("odd", Attributes=ODD, Metrics=NUMBERS),
            self.event("bare"),
            self.event("empty", Attributes={}, Metrics={}),
            self.event(
                "session only", Session={"Id": "", "StartTimestamp": "2026-01-01T00:00:00Z"}
            ),
        ]

    def many(self, endpoint: str) -> Iterator[Json]:
        """Yield requests that together have more events than one may have."""
        events = [self.event("burst", Attributes={"n": str(n)}) for n in range(HUNDREDS)]
        for first in range(0, HUNDREDS, LIMIT):
            yield self.request({endpoint: ({}, events[first : first + LIMIT])})


def too_long(story: Story, endpoint: str) -> Json:
    """Return a request of which two events are refused for themselves, and the others taken."""
    events = [
        story.event("fine", Attributes={"n": "1"}),
        story.event("long key", Attributes={"k" * 51: "v"}),
        story.event("long value", Attributes={"k": "v" * 201}),
        story.event("fine", Attributes={"n": "2"}),
    ]
    return story.request({endpoint: ({}, events)})


DAYS = 12
USERS = 15


def days(sender: str, last: datetime, seed: int = 1) -> list[Json]:
    """Return requests in which users come back, or do not, over twelve days up to ``last``.

    Some sessions cross midnight (UTC), some users have no platform, prices have two currencies.
    """
    dice = random.Random(seed)  # noqa: S311  # repeatable, not secret
    story = Story(sender, last)
    midnight = last.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    requests = []
    for number in range(USERS):
        platform = {"Demographic": {"Platform": dice.choice(("iOS", "Android", "web"))}}
        about = platform if number % 5 else {}
        faith = dice.choice((0.15, 0.5, 0.9))
        for day in range(DAYS):
            if dice.random() > faith and day != number % DAYS:
                continue
            begin = midnight + timedelta(days=day - DAYS, seconds=dice.randrange(86_400))
            visits = story.visits(begin, dice, currency="EUR" if number % 3 else "USD")
            requests.append(story.request({f"{sender}-user-{number}": (about, visits)}))
    return requests
