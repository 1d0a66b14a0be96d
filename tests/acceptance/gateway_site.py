"""Gateways as processes: their configuration, and what a client of theirs needs."""

import http.client
import json
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import yaml
from botocore.config import Config

from tests.acceptance.harness import Site, Worker
from tests.services.kafka import free_port

KEY_ID, SECRET, API_KEY = "AKIAEXAMPLE00000001", "a-secret-of-the-shop", "an-api-key-of-the-shop"
MP_KEY, MP_SECRET = "us1-abc", "a-secret-of-the-feed"
SIGNED, KEYED, OPEN = "a1b2c3", "d4e5f6", "dev"


@dataclass
class GatewayProcess(Worker):
    """One ``forwarder gateway`` process. ``port`` is that of its probes, ``api`` the other."""

    api: int = 0

    def ask(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """Send one request to the API; return status, headers (lower case) and body."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        with closing(http.client.HTTPConnection("127.0.0.1", self.api, timeout=30)) as client:
            client.request(method, path, body, named)
            answer = client.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, found, answer.read()

    def put(self, *events: str, app: str = OPEN, endpoint: str = "e-1", **headers: str) -> Any:  # noqa: ANN401
        """Send one PutEvents, and return status and content of its answer."""
        body = json.dumps(batch(*events, endpoint=endpoint)).encode()
        path = f"/v1/apps/{app}/events"
        status, _, content = self.ask(
            "POST", path, body, Content_Type="application/json", **headers
        )
        return status, json.loads(content)

    def boto3(self, secret: str = SECRET) -> Any:  # noqa: ANN401  # the library has no types
        """Return a client that signs with the keys of the app ``SIGNED``."""
        return boto3.client(
            "pinpoint",
            endpoint_url=f"http://127.0.0.1:{self.api}",
            region_name="eu-west-1",
            aws_access_key_id=KEY_ID,
            aws_secret_access_key=secret,
            config=Config(retries={"total_max_attempts": 1}),
        )

    def metrics(self) -> dict[str, float]:
        """Return every sample under its name and labels as they are printed."""
        lines = self.get("/metrics")[1].splitlines()
        samples = (line.rpartition(" ") for line in lines if line and line[0] != "#")
        return {name: float(value) for name, _, value in samples}


@dataclass
class GatewaySite(Site):
    """A folder with a gateway's configuration, whatever else its sections say."""

    gateway: dict[str, Any] = field(default_factory=dict)

    def start_gateway(self, name: str = "gateway", **listen: Any) -> GatewayProcess:  # noqa: ANN401
        """Start one; it may not listen yet."""
        one = self.make_gateway(name, **listen)
        one.start()
        return one

    def make_gateway(self, name: str = "gateway", **listen: Any) -> GatewayProcess:  # noqa: ANN401
        """Return one that has not been started."""
        port, api = free_port(), free_port()
        path = self.write_gateway(name, port, {"host": "127.0.0.1", "port": api, **listen})
        arguments = ["gateway", "--config", str(path)]
        one = GatewayProcess(name, arguments, self.folder, self.variables, port, api=api)
        self.workers.append(one)
        return one

    def write_gateway(self, name: str, port: int, listen: dict[str, Any]) -> Path:
        """Write the configuration of one gateway."""
        server = {"host": "127.0.0.1", "port": port}
        content = {**self.sections, "server": server, "gateway": {"listen": listen, **self.gateway}}
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return path


def sections(bootstrap: str) -> dict[str, Any]:
    """Return what a gateway is told besides ``gateway``."""
    return {
        "kafka": {"bootstrap_servers": bootstrap.split(",")},
        "log": {"level": "info", "format": "json"},
    }


def apis(pinpoint: str, mparticle: str) -> dict[str, Any]:
    """Return both APIs, which write to these topics."""
    return {
        "pinpoint": {
            "topic": pinpoint,
            "account_id": "111122223333",
            "apps": [
                {
                    "id": SIGNED,
                    "auth": "sigv4",
                    "keys": [{"access_key_id": KEY_ID, "secret_access_key": SECRET}],
                },
                {
                    "id": KEYED,
                    "auth": "api_key",
                    "api_keys": [API_KEY],
                    "origins": ["https://shop.example"],
                },
                {"id": OPEN, "auth": "none"},
            ],
        },
        "mparticle": {
            "topic": mparticle,
            "inputs": [{"api_key": MP_KEY, "api_secret": MP_SECRET, "environment": "production"}],
        },
    }


def batch(*events: str, endpoint: str = "e-1") -> dict[str, Any]:
    """Return the body of a PutEvents with these events of one endpoint."""
    told = {
        name: {"EventType": "_session.start", "Timestamp": "2026-11-30T12:00:00.000Z"}
        for name in events
    }
    return {"BatchItem": {endpoint: {"Endpoint": {}, "Events": told}}}
