"""What is measured, by name: what comes in, what is asked of it, and how much of it there is."""

import random
from collections.abc import Iterator, Mapping
from itertools import count, islice
from typing import Any, Literal, NamedTuple

from tests.bench import pinpoint_load
from tests.bench.load import PACE, Row, written

WINDOW_MS = 600_000
"""How long a window of the default length is open."""

Connections = Literal["equal", "different", "apart"]
"""Several connections want all events, with equal or with different settings, or each those of
an api key of its own."""

Mode = Literal["batch", "session", "single"]
"""What becomes of an event: part of a window of ten minutes or of a session, or a document."""


class Load(NamedTuple):
    """Uploads, and connections that want them."""

    title: str
    events: int = 1
    """Events of an upload."""
    devices: int = 2_000
    together: float = 33.0
    """Uploads of a device within the time that a window of the default length is open."""
    random: bool = False
    """Devices come by chance, repeatably; otherwise they take turns."""
    connections: int = 1
    kind: Connections = "equal"
    mode: Mode = "batch"
    put: Literal["records", "record"] = "records"
    input: Literal["mparticle", "pinpoint"] = "mparticle"
    partitions: int = 4
    uploads: int = 100_000
    """How many make a round."""
    warm: int = 20_000
    """How many come before the first round, and are not counted."""
    rounds: int = 3
    window_memory: str = "512MiB"
    workers: int = 1
    """Workers in one group."""
    others: tuple[str, ...] = ()
    """What else runs it, in the table of all: ``pure``, without the native core; ``before``."""

    @property
    def has_plain(self) -> bool:
        """Tell whether the plain alternative does the same."""
        return self.input == "mparticle" and self.put == "records" and self.connections == 1

    def rows(self, number: int) -> Iterator[Row]:
        """Yield the uploads of round ``number``, of which 0 is the warm-up; time goes on."""
        first = 0 if number == 0 else self.warm + (number - 1) * self.uploads
        size = self.uploads if number else self.warm
        step = WINDOW_MS / (self.devices * self.together)
        devices = islice(self._devices(number, first), size)
        if self.input == "pinpoint":
            chosen = islice(pinpoint_load.written(devices, first), size)
        else:
            keys = self.connections if self.kind == "apart" else 1
            chosen = islice(written(devices, self.events, keys, first), size)
        for place, (key, value) in enumerate(chosen, first):
            yield key, value, int(place * step)

    def _devices(self, number: int, first: int) -> Iterator[int]:
        if self.random:
            chance = random.Random(number)  # noqa: S311  # repeatable
            return (int(chance.random() * self.devices) for _ in count())
        return (place * PACE % self.devices for place in count(first))

    @property
    def total(self) -> int:
        """Return how many uploads there are in all rounds."""
        return self.warm + self.rounds * self.uploads

    def span_ms(self) -> int:
        """Return the record time of all rounds."""
        return int(self.total * WINDOW_MS / (self.devices * self.together))

    def delivered(self, uploads: int) -> int:
        """Return how many events all connections deliver of so many uploads."""
        copies = 1 if self.kind == "apart" else self.connections
        return uploads * self.events * copies

    def connection_files(self, port: int) -> Iterator[dict[str, Any]]:
        """Yield the content of each connection file; ``port``: the sink's."""
        for number in range(self.connections):
            settings = DIFFERENT[number] if self.kind == "different" else {}
            match = {"api_key": [f"us1-0123456789a{number:04}"]} if self.kind == "apart" else {}
            yield {
                "name": f"acme-{number}",
                "match": match,
                "settings": {
                    "send_as_batch": self.mode != "single",
                    "wait_for_complete_batch": self.mode == "session",
                    **settings,
                },
                "credentials": {"access_key_id": "AKIAEXAMPLE", "secret_access_key": "no-secret"},
                "sink": {
                    "type": "kinesis",
                    "stream_name": f"acme-{number}",
                    "region": "us-east-1",
                    "put": self.put,
                    "format": self.input if self.mode == "single" else "mparticle",
                    "endpoint_url": f"http://127.0.0.1:{port}",
                },
            }


DIFFERENT: tuple[Mapping[str, object], ...] = (
    {},
    {"include_location_information": False},
    {"include_mp_deviceid": True},
    {"send_screen_views": False, "send_crash_events": False},
    {"include_user_identities": False},
    {"metadata_field_exclusion": ["device_info.os_version"]},
    {"include_consent_state": True, "send_commerce_events": False},
    {"unique_id": "customer_id"},
    {"include_metadata": False},
    {"send_lifecycle_events": False, "include_location_information": False},
)
"""Settings of connections of which none equals another, and all want custom events."""


LOADS = {
    "1-event": Load("uploads of 1 event, 2,000 devices", others=("pure", "before")),
    "5-events": Load(
        "uploads of 5 events, 2,000 devices",
        events=5,
        uploads=40_000,
        warm=10_000,
        others=("pure", "before"),
    ),
    "60k-1.0": Load("60,000 devices, 1.0 events a document", devices=60_000, together=0.9),
    "60k-1.7": Load(
        "60,000 devices, 1.7 events a document", devices=60_000, together=0.7, random=True
    ),
    "1k-devices": Load(
        "1,000 devices, 1.7 events a document", devices=1_000, together=0.73, random=True
    ),
    "1m-devices": Load(
        "1,000,000 devices, 1.7 events a document",
        devices=1_000_000,
        together=1.0,
        random=True,
        uploads=1_500_000,
        rounds=1,
        window_memory="4GiB",
    ),
    "session": Load("sessions", mode="session"),
    "individual": Load("every event a document", mode="single", uploads=50_000, warm=10_000),
    "put-record": Load(
        "every event a document, by PutRecord",
        mode="single",
        put="record",
        uploads=10_000,
        warm=2_000,
    ),
    "10-equal": Load("10 equal connections", connections=10, uploads=50_000, warm=10_000),
    "10-different": Load(
        "10 different connections",
        connections=10,
        kind="different",
        uploads=50_000,
        warm=10_000,
    ),
    "2-workers": Load("2 workers in one group", workers=2),
    "100-apart": Load("100 connections, each event for one", connections=100, kind="apart"),
    "1000-apart": Load("1,000 connections, each event for one", connections=1_000, kind="apart"),
    "pinpoint": Load("records of Pinpoint of 1 event, in batches", input="pinpoint"),
    "pinpoint-individual": Load(
        "records of Pinpoint, every event a document",
        input="pinpoint",
        mode="single",
        uploads=50_000,
    ),
}
"""Every load by its name."""
