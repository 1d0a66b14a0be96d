"""The three connections of the demo, and what each has to receive, told without the program."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.demo.layout import exact
from tests.services.kafka import free_port
from tests.services.ministack import CUSTOMER_ACCOUNT, REGION
from tests.traffic import Upload

ORGANISATION = "1111"
ROLE = "mparticle-kinesis-role"

NOT_BY_DEFAULT = frozenset({"user_attribute_change", "user_identity_change", "validation_result"})
CRASHES = frozenset({"crash_report", "breadcrumb"})


@dataclass(frozen=True)
class Shown:
    """One connection: how it is configured, and the same in terms of what was sent."""

    name: str
    unit: str
    about: str
    match: Mapping[str, list[str]]
    settings: Mapping[str, object]
    batching: Mapping[str, str]
    applications: frozenset[str]
    platforms: frozenset[str]
    leaves_out: frozenset[str]
    without_location: bool = False

    def written(self) -> str:
        """Return the connection file."""
        content: dict[str, object] = {
            "name": self.name,
            "match": dict(self.match),
            "credentials": {"aws_account_id": CUSTOMER_ACCOUNT, "org_id": ORGANISATION},
            "sink": {"type": "kinesis", "stream_name": self.name, "region": REGION},
        }
        if self.settings:
            content["settings"] = dict(self.settings)
        if self.batching:
            content["batching"] = dict(self.batching)
        return yaml.safe_dump(content, sort_keys=False)

    def expected(self, upload: Upload) -> dict[str, Any]:
        """Return the events of an upload that have to arrive, by id, as they have to arrive."""
        if not self._wants(upload):
            return {}
        content = exact(upload.value)
        documents = content if isinstance(content, list) else [content]
        events = [event for document in documents for event in document.get("events") or []]
        return {
            event["data"]["source_message_id"]: self._left(event)
            for event in events
            if event["event_type"] not in self.leaves_out
        }

    def _wants(self, upload: Upload) -> bool:
        return (
            upload.environment == "production"
            and upload.application in self.applications
            and upload.platform in self.platforms
        )

    def _left(self, event: dict[str, Any]) -> dict[str, Any]:
        if self.without_location:
            crumbs = event["data"].get("breadcrumbs", ())
            inside = (crumb.get("data", {}) for crumb in crumbs)
            for place in (event["data"], *crumbs, *inside):
                place.pop("location", None)
        return event


EVERYWHERE = frozenset({"iOS", "Android", "web", "tvOS", "roku", "fire_tv", "out_of_band"})
SHOP, TV, NEWS = "com.acme.shop", "com.acme.tv", "com.acme.news"

CONNECTIONS = (
    Shown(
        name="shop-batches",
        unit="device, 5 s",
        about="the shop on phones, a document per device every 5 s",
        match={
            "environment": ["production"],
            "application": [SHOP],
            "platform": ["ios", "android"],
        },
        settings={},
        batching={"max_age": "5s"},
        applications=frozenset({SHOP}),
        platforms=frozenset({"iOS", "Android"}),
        leaves_out=NOT_BY_DEFAULT,
    ),
    Shown(
        name="acme-sessions",
        unit="session",
        about="every app by session, without crashes and locations",
        match={"environment": ["production"]},
        settings={
            "wait_for_complete_batch": True,
            "send_crash_events": False,
            "include_location_information": False,
        },
        batching={"session_timeout": "6s", "session_grace": "1s", "session_max": "20s"},
        applications=frozenset({SHOP, TV, NEWS}),
        platforms=EVERYWHERE,
        leaves_out=NOT_BY_DEFAULT | CRASHES,
        without_location=True,
    ),
    Shown(
        name="tv-events",
        unit="event",
        about="the TV app, each event at once, changes of users too",
        match={"environment": ["production"], "application": [TV]},
        settings={
            "send_as_batch": False,
            "include_user_attribute_change_events": True,
            "include_user_identity_change_events": True,
            "metadata_field_exclusion": ["ip", "device_info.network_carrier"],
        },
        batching={},
        applications=frozenset({TV}),
        platforms=EVERYWHERE,
        leaves_out=NOT_BY_DEFAULT - {"user_attribute_change", "user_identity_change"},
    ),
)


@dataclass(frozen=True)
class Kafka:
    """Where the input is, and the names of the demo's own group and topics."""

    bootstrap: str = "127.0.0.1:9092"
    group: str = "demo"
    topic: str = "raw-events"
    dead_letters: str = "demo-dead-letters"

    @property
    def topics(self) -> tuple[str, ...]:
        """Return every topic the demo leaves in the broker."""
        journal = (f"{self.group}.{kind}.{self.topic}" for kind in ("outbox", "state"))
        return (self.topic, self.dead_letters, *journal)


@dataclass(frozen=True)
class Configured:
    """A configuration on disk; ``probes`` is the port that /readyz answers on."""

    file: Path
    kafka: Kafka
    probes: int


def write(folder: Path, kafka: Kafka) -> Configured:
    """Write the worker's configuration into ``folder``."""
    probes = free_port()
    (folder / "connections").mkdir()
    for shown in CONNECTIONS:
        (folder / "connections" / f"{shown.name}.yaml").write_text(shown.written())
    content = {
        "kafka": {
            "bootstrap_servers": [kafka.bootstrap],
            "group_id": kafka.group,
            # The shortest a broker accepts: it waits this long before it gives a dead worker's
            # partitions to the next one.
            "session_timeout": "6s",
            "topics": [kafka.topic],
            "dead_letter_topic": kafka.dead_letters,
        },
        "connections": "connections",
        "journal": {"tick": "500ms"},
        "server": {"host": "127.0.0.1", "port": probes},
    }
    file = folder / "forwarder.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    return Configured(file, kafka, probes)
