"""A gateway beside its workers: their configuration, streams and buckets, what arrived there."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.acceptance.harness import Site, Worker, group_sections
from tests.clients.mparticle_sender import Input
from tests.clients.senders import Caller
from tests.services.kafka import free_port
from tests.services.ministack import CUSTOMER_ACCOUNT, REGION, MiniStack, Stored, root_of

SIGNED = "a1b2c3"
"""The app whose callers sign."""

KEYED = "d4e5f6"
"""The app whose callers have an API key, from browsers among others."""

OPEN = "dev"
"""The app that anybody may write to."""

ACCESS_KEY, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
API_KEY = "the-api-key-of-the-shop"
MP_KEY, MP_SECRET = "us1-abc", "an-mparticle-secret"


@dataclass
class PinpointScene(Site):
    """A site with topics for a gateway's records and workers that forward them."""

    name: str = ""
    emulator: MiniStack | None = None
    ports: dict[str, int] = field(default_factory=dict)
    endpoints: dict[str, str] | None = None
    """Where endpoints are kept; by default in a file, by one gateway."""

    @classmethod
    def make(
        cls, bootstrap: str, folder: Path, name: str, emulator: MiniStack | None = None
    ) -> "PinpointScene":
        """Return a scene; neither topics nor streams are made yet."""
        sections = group_sections(bootstrap, name, [])
        topics = [
            {"name": f"{name}-pinpoint", "format": "pinpoint", "duplicates": "10m"},
            {"name": f"{name}-raw", "format": "mparticle", "duplicates": "10m"},
        ]
        sections["kafka"]["topics"] = topics
        variables = {} if emulator is None else emulator.variables()
        return cls(folder, sections, variables, name=name, emulator=emulator)

    @property
    def topic(self) -> str:
        """Return the topic with what Pinpoint's clients sent."""
        return f"{self.name}-pinpoint"

    @property
    def uploads(self) -> str:
        """Return the topic with what mParticle's clients sent."""
        return f"{self.name}-raw"

    def outbox(self, topic: str) -> str:
        """Return the outbox of an input topic."""
        return f"{self.name}.outbox.{topic}"

    def gateway(self, name: str = "gateway", port: int = 0, **limits: object) -> Worker:
        """Return a gateway that has not been started yet; ``ports`` tells where it will listen."""
        self.ports[name] = port or free_port()
        probes = free_port()
        content = {
            "kafka": {"bootstrap_servers": self.sections["kafka"]["bootstrap_servers"]},
            "connections": "connections",
            "server": {"host": "127.0.0.1", "port": probes},
            "log": self.sections["log"],
            "gateway": self._gateway(self.ports[name], limits),
        }
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        variables = {**self.variables, "PINPOINT_SECRET": SECRET, "MP_SECRET": MP_SECRET}
        worker = Worker(name, ["gateway", "--config", str(path)], self.folder, variables, probes)
        self.workers.append(worker)
        return worker

    def _gateway(self, port: int, limits: dict[str, object]) -> dict[str, Any]:
        file = str(self.folder / "endpoints.db")
        keys = [{"access_key_id": ACCESS_KEY, "secret_access_key": "${PINPOINT_SECRET}"}]
        apps = [
            {"id": SIGNED, "auth": "sigv4", "keys": keys},
            {
                "id": KEYED,
                "auth": "api_key",
                "api_keys": [API_KEY],
                "origins": ["https://shop.example"],
            },
            {"id": OPEN, "auth": "none"},
        ]
        return {
            "listen": {"host": "127.0.0.1", "port": port},
            **({"limits": limits} if limits else {}),
            "pinpoint": {
                "topic": self.topic,
                "account_id": CUSTOMER_ACCOUNT,
                "apps": apps,
                "substitute_hosts": [f"pinpoint.{REGION}.amazonaws.com"],
                "endpoints": self.endpoints or {"store": "sqlite", "path": file},
            },
            "mparticle": {
                "topic": self.uploads,
                "inputs": [
                    {"api_key": MP_KEY, "api_secret": "${MP_SECRET}", "environment": "production"}
                ],
            },
        }

    def to_stream(self, name: str, **content: Any) -> None:  # noqa: ANN401
        """Connect a stream of the emulator, made here; ``read`` tells what arrived."""
        stream = f"{self.name}-{name}"
        self._emulator.make_stream(stream)
        sink = {"type": "kinesis", "stream_name": stream, "region": REGION}
        self._connect(name, sink, content)

    def to_bucket(self, name: str, **content: Any) -> None:  # noqa: ANN401
        """Connect a delivery stream of the emulator, made here; ``objects`` tells what arrived."""
        stream = f"{self.name}-{name}"
        self._emulator.make_delivery_stream(stream)
        sink = {"type": "firehose", "delivery_stream_name": stream, "region": REGION}
        self._connect(name, sink, content)

    def _connect(self, name: str, sink: dict[str, Any], content: dict[str, Any]) -> None:
        sink |= content.pop("sink", {})
        keys = root_of(CUSTOMER_ACCOUNT)._asdict()
        self.connect({"name": name, "credentials": keys, "sink": sink, **content})

    def read(self, name: str) -> list[Stored]:
        """Return a stream's records, in order within each shard."""
        return self._emulator.read(f"{self.name}-{name}")

    def objects(self, name: str) -> list[bytes]:
        """Return the objects that a delivery stream made."""
        return self._emulator.objects(f"{self.name}-{name}")

    @property
    def _emulator(self) -> MiniStack:
        assert self.emulator is not None
        return self.emulator


def signed(url: str) -> Caller:
    """Return a caller of the app whose callers sign."""
    return Caller(url, SIGNED, ACCESS_KEY, SECRET)


def mparticle(url: str) -> Input:
    """Return the input of mParticle's Events API."""
    return Input(url, MP_KEY, MP_SECRET)


def lines(objects: Sequence[bytes]) -> list[bytes]:
    """Return the lines of a bucket's objects; every record ends with a newline."""
    text = b"".join(objects)
    assert text.endswith(b"\n") or not text
    return text.split(b"\n")[:-1]
