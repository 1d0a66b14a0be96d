"""The books of the demo: what was sent, what the streams hold, and what that comes to.

Judged from the two ends alone: the uploads as they were made, and the records as they are read
from the streams. Nothing is asked of the worker.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import median
from typing import Any, NamedTuple

from tests.demo.connections import CONNECTIONS, Shown
from tests.demo.layout import exact
from tests.services.ministack import Stored
from tests.traffic import Upload

RECENT = 2
"""How many of its latest batches each connection shows."""

KINDS = 3
"""How many kinds of events the batch that is shown in full has."""


class Arrived(NamedTuple):
    """A record of a stream, the first time it was seen."""

    connection: str
    message_id: str
    value: bytes
    document: dict[str, Any]

    @property
    def types(self) -> list[str]:
        """Return the types of its events, in order."""
        return [event["event_type"] for event in self.document["events"]]


class Tally(NamedTuple):
    """What became of the events of one connection; ``repeated`` counts records."""

    connection: str
    sent: int
    delivered: int
    lost: int
    altered: int
    extra: int
    twice: int
    records: int
    repeated: int

    @property
    def faults(self) -> int:
        """Return how many events or records are not as they have to be."""
        return self.lost + self.altered + self.extra + self.twice


@dataclass
class Book:
    """One connection's two sides."""

    shown: Shown
    expected: dict[str, Any] = field(default_factory=dict)
    arrived: dict[str, Any] = field(default_factory=dict)
    batches: dict[str, bytes] = field(default_factory=dict)
    devices: set[str] = field(default_factory=set)
    records: int = 0
    repeated: int = 0
    altered_repeats: int = 0
    twice: int = 0
    largest: int = 0
    delays: deque[int] = field(default_factory=lambda: deque(maxlen=50))
    recent: deque[Arrived] = field(default_factory=lambda: deque(maxlen=RECENT))

    def enter(self, stored: Stored, now_ms: int) -> Arrived | None:
        """Enter a record; None if this batch was there before."""
        document = exact(stored.value)
        name = document["message_id"]
        self.records += 1
        if name in self.batches:
            self.repeated += 1
            self.altered_repeats += self.batches[name] != stored.value
            return None
        self.batches[name] = stored.value
        for event in document["events"]:
            known_as = event["data"]["source_message_id"]
            self.twice += known_as in self.arrived
            self.arrived[known_as] = event
        self.devices.add(stored.partition_key)
        self.largest = max(self.largest, len(document["events"]))
        self.delays.append(now_ms - int(document["timestamp_unixtime_ms"].digits))
        arrived = Arrived(self.shown.name, name, stored.value, document)
        self.recent.appendleft(arrived)
        return arrived

    @property
    def delay(self) -> float:
        """Return the median of seconds between the newest upload of a batch and its arrival."""
        return median(self.delays) / 1000 if self.delays else 0.0

    @property
    def missing(self) -> int:
        """Return how many of the events sent so far have not arrived."""
        return len(self.expected.keys() - self.arrived.keys())

    def tally(self) -> Tally:
        """Compare the two sides."""
        delivered = self.expected.keys() & self.arrived.keys()
        altered = sum(self.expected[name] != self.arrived[name] for name in delivered)
        return Tally(
            connection=self.shown.name,
            sent=len(self.expected),
            delivered=len(delivered),
            lost=self.missing,
            altered=altered + self.altered_repeats,
            extra=len(self.arrived.keys() - self.expected.keys()),
            twice=self.twice,
            records=self.records,
            repeated=self.repeated,
        )


@dataclass
class Figures:
    """All books, and what the screen shows besides.

    ``planned`` events will be sent; ``timed``: at the time they say, so that delays mean something.
    """

    books: dict[str, Book] = field(default_factory=lambda: {c.name: Book(c) for c in CONNECTIONS})
    planned: int = 0
    timed: bool = True
    uploads: int = 0
    events: int = 0
    senders: set[str] = field(default_factory=set)
    malformed: int = 0
    dead_letters: int = 0
    exemplar: Arrived | None = None

    def sent(self, upload: Upload) -> None:
        """Enter an upload that Kafka is given."""
        self.uploads += 1
        self.events += len(upload.event_ids)
        self.senders.add(upload.device)
        for book in self.books.values():
            book.expected |= book.shown.expected(upload)

    def read(self, connection: str, records: Iterable[Stored], now_ms: int) -> None:
        """Enter what was read from a connection's stream."""
        for stored in records:
            arrived = self.books[connection].enter(stored, now_ms)
            if arrived is not None:
                self._keep(arrived)

    @property
    def missing(self) -> int:
        """Return how many events are on their way, over all connections."""
        return sum(book.missing for book in self.books.values())

    @property
    def landed(self) -> int:
        """Return how many records all streams hold."""
        return sum(book.records for book in self.books.values())

    def tallies(self) -> list[Tally]:
        """Return one tally per connection."""
        return [book.tally() for book in self.books.values()]

    @property
    def ok(self) -> bool:
        """Tell whether everything arrived as it has to, dead letters included."""
        return self.dead_letters == self.malformed and not any(t.faults for t in self.tallies())

    def _keep(self, arrived: Arrived) -> None:
        # Several kinds of events, device and places, in as few bytes as possible.
        if len(set(arrived.types)) < KINDS or b'"location"' not in arrived.value:
            return
        if "device_info" not in arrived.document:
            return
        if self.exemplar is None or len(arrived.value) < len(self.exemplar.value):
            self.exemplar = arrived
