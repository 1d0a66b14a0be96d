"""One test's topic, group and connections, and events with numbers to find them by."""

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.acceptance.cluster import Cluster, Sent
from tests.acceptance.harness import Site, group_sections
from tests.builders import Json, encoded, event, upload


@dataclass
class Scene(Site):
    """A site whose workers read one topic of a Kafka that runs."""

    cluster: Cluster | None = None
    name: str = ""

    @classmethod
    def make(cls, cluster: Cluster, folder: Path, name: str) -> Self:
        """Return a scene; the topic is not made yet."""
        sections = group_sections(cluster.bootstrap, name, [f"{name}-raw"])
        return cls(folder, sections, cluster=cluster, name=name)

    @property
    def topic(self) -> str:
        """Return the input topic."""
        return f"{self.name}-raw"

    @property
    def kafka(self) -> Cluster:
        """Return the clients of the Kafka this scene uses."""
        assert self.cluster is not None
        return self.cluster

    def to_file(self, name: str = "acme", **content: Any) -> None:  # noqa: ANN401
        """Connect a folder; ``delivered`` reads what arrives there."""
        sink = {"type": "file", "path": str(self.folder / "out")}
        self.connect({"name": name, "sink": sink, **content})

    def delivered(self, name: str = "acme") -> list[Json]:
        """Return the documents of a connection to a folder, in the order they arrived."""
        return documents(self.folder / "out" / f"{name}.ndjson")

    def numbers(self, name: str = "acme") -> list[int]:
        """Return the numbers of the events delivered, in the order they arrived."""
        return numbers(self.delivered(name))

    async def feed(
        self, which: Iterable[int], device: str = "d1", partition: int | None = None
    ) -> list[Sent]:
        """Send one upload with one event for each number, all of one device."""
        now = time.time_ns() // 1_000_000
        rows = [(device.encode(), encoded(upload(event(n=n), device=device)), now) for n in which]
        return await self.kafka.send(self.topic, rows, partition)


def documents(file: Path) -> list[Json]:
    """Return the documents of an NDJSON file; none if it is not there yet."""
    if not file.exists():
        return []
    # A last line without its end is still being written.
    return [json.loads(line) for line in file.read_bytes().split(b"\n")[:-1]]


def numbers(found: Iterable[Json]) -> list[int]:
    """Return the numbers of the events in these documents."""
    return [one["data"]["n"] for document in found for one in document["events"]]
