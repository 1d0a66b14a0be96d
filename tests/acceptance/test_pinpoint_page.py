"""Everything that docs/pinpoint.md tells people to type, to write down or to build in works.

A customer moves with the page alone: his event stream is imported, its role trusts the worker and
keeps its permission policy, real clients report with the page's own code, and records arrive.
"""

import asyncio
import json
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.acceptance.cluster import Cluster
from tests.acceptance.harness import Site, Worker, until
from tests.athena import Athena
from tests.clients import install
from tests.clients.senders import run
from tests.services.kafka import free_port
from tests.services.ministack import CUSTOMER_ACCOUNT, HOME_ACCOUNT, REGION, MiniStack, root_of

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "pinpoint.md").read_text()
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SECRET, API_KEY = "2f6b8c1d9e0a4753b1c2d3e4f5a69788", "9c4e2b7a1d3f5068e7a9b1c2d3f40516"
APP, BROWSER_APP = "810c7aab86d42fb2b56c8c966a1b2c3d", "1f4e9d20c7b84a53a6e2d1c09b8f7e6d"
STREAM, ROLE = "shop-pinpoint", "pinpoint-to-kinesis"
WRAPPER = re.compile(
    r"(?<=// What docs/pinpoint\.md tells).*?(?=^const \{ Amplify)", re.MULTILINE | re.DOTALL
)


def blocks(language: str) -> list[str]:
    return [text for name, text in BLOCK.findall(PAGE) if name == language]


@dataclass
class Customer:
    """Somebody who follows the page, in a folder of his own."""

    site: Site
    emulator: MiniStack
    cluster: Cluster
    kafka: str
    name: str
    port: int = field(default_factory=free_port)

    @property
    def folder(self) -> Path:
        return self.site.folder

    @property
    def topic(self) -> str:
        return f"{self.name}-pinpoint"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def own(self, text: str) -> str:
        """Return what the page says with what is his in place of the examples."""
        changes = {
            "https://events.example": self.url,
            "arn:aws:iam::222233334444:role/forwarder": f"arn:aws:iam::{HOME_ACCOUNT}:root",
            "localhost:9092": self.kafka,
            '"PINPOINT_API_KEY"': json.dumps(API_KEY),
        }
        for old, new in changes.items():
            text = text.replace(old, new)
        return text

    async def type(self, block: str, variables: dict[str, str]) -> str:
        """Run the commands of a block of the page."""
        lines = block.splitlines()
        assert all(line.startswith("$ ") for line in lines), block
        script = "\n".join(self.own(line[2:]) for line in lines)
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        if "aws " in script:
            path = f"{(await asyncio.to_thread(install.aws_cli)).parent}:{path}"
        command = ["bash", "-e", "-c", f"cd {self.folder}\n{script}"]
        return await run(
            command, {**os.environ, "AWS_DEFAULT_REGION": REGION, **variables, "PATH": path}
        )

    def configure(self) -> dict[str, Any]:
        """Write the page's forwarder.yaml, with topic, group and ports of his own."""
        [text] = [one for one in blocks("yaml") if one.startswith("kafka:")]
        content: dict[str, Any] = yaml.safe_load(
            self.own(text).replace("name: pinpoint-events", f"name: {self.topic}")
            .replace("topic: pinpoint-events", f"topic: {self.topic}")
        )  # fmt: skip
        content["kafka"]["group_id"] = self.name
        content["kafka"]["dead_letter_topic"] = f"{self.name}-letters"
        content["gateway"]["listen"]["port"] = self.port
        content["server"] = {"host": "127.0.0.1", "port": free_port()}
        (self.folder / "config" / "forwarder.yaml").write_text(yaml.safe_dump(content))
        return content

    def start(self, command: str, port: int, variables: dict[str, str]) -> Worker:
        """Start the worker or the gateway from the file of both, each with its own secrets."""
        arguments = [command, "--config", str(self.folder / "config" / f"{command}.yaml")]
        one = Worker(command, arguments, self.folder, variables, port)
        self.site.workers.append(one)
        one.start()
        return one

    def records(self) -> list[tuple[str, dict[str, Any]]]:
        """Return partition key and content of what reached the stream."""
        return [(r.partition_key, json.loads(r.value)) for r in self.emulator.read(STREAM)]

    async def arrived(self, *kinds: str) -> dict[str, tuple[str, dict[str, Any]]]:
        """Wait until events of these types are in the stream."""

        def found() -> dict[str, tuple[str, dict[str, Any]]]:
            told = {record["event_type"]: (key, record) for key, record in self.records()}
            return told if set(kinds) <= set(told) else {}

        await until(found, f"{kinds} are in the stream", 60)
        return found()


@pytest.fixture
async def customer(
    cluster: Cluster, kafka: str, ministack: MiniStack, tmp_path: Path, name: str
) -> AsyncIterator[Customer]:
    """Give one with the page's files and a topic."""
    customer = Customer(Site(tmp_path, {}), ministack, cluster, kafka, name)
    await cluster.create(customer.topic, 2)
    for text in blocks("json"):
        content = json.loads(text)
        files = {"EventStream": "stream.json", "BatchItem": "events.json"}
        if known := [file for key, file in files.items() if key in content]:
            (tmp_path / known[0]).write_text(text)
    yield customer
    customer.site.close()


async def test_a_customer_moves_with_the_page_alone(customer: Customer) -> None:
    admin = customer.emulator.variables(root_of(CUSTOMER_ACCOUNT))
    worker_keys = customer.emulator.variables()
    secrets = {"PINPOINT_SECRET": SECRET, "PINPOINT_API_KEY": API_KEY}
    # Stream and role are as Pinpoint left them: no PutRecord, no ListShards.
    customer.emulator.make_stream(STREAM)
    actions = ("kinesis:PutRecords", "kinesis:DescribeStream")
    customer.emulator.make_role(ROLE, actions, "nobody-yet")
    # 1. The event stream becomes a connection, and its role trusts the worker.
    imported, trusted, checked, reported = blocks("console")
    await customer.type(imported, {})
    [shown] = [text for text in blocks("json") if "sts:ExternalId" in text]
    assert customer.own(shown) == (customer.folder / "trust.json").read_text()
    await customer.type(trusted, admin)
    # 2. Gateway and worker.
    content = customer.configure()
    connections = customer.folder / "config" / "connections"
    shop = (connections / "shop.yaml").read_text()
    other = shop.replace(APP, BROWSER_APP).replace(f"name: {STREAM}", "name: browsers")
    (connections / "browsers.yaml").write_text(other)
    said = await customer.type(checked, {**worker_keys, **secrets})
    assert "ok: a gateway, 2 connections, no faults" in said
    assert "endpoints\n  note" in said
    assert 2 == said.count("  ok    a test record was put\n")
    tests = [record for _, record in customer.records()]
    assert ["_test.event_stream"] * 2 == [record["event_type"] for record in tests]
    shutil.copy(customer.folder / "config/forwarder.yaml", customer.folder / "config/run.yaml")
    gateway_port = free_port()
    apart = {**content, "server": {"host": "127.0.0.1", "port": gateway_port}}
    (customer.folder / "config" / "gateway.yaml").write_text(yaml.safe_dump(apart))
    gateway = customer.start("gateway", gateway_port, secrets)
    worker = customer.start("run", content["server"]["port"], worker_keys)
    await gateway.until_ready()
    await worker.until_ready()
    # 3. The clients.
    [python] = blocks("python")
    told = await run([sys.executable, "-c", customer.own(python)], {**os.environ, **secrets})
    assert "{'event-1': {'Message': 'Accepted', 'StatusCode': 202}}" == told.strip()
    client = {
        "AWS_ENDPOINT_URL_PINPOINT": customer.url,
        "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
        "AWS_SECRET_ACCESS_KEY": SECRET,
    }
    printed = json.loads(await customer.type(reported, client))
    [item] = printed["EventsResponse"]["Results"].values()
    assert {"event-2": {"Message": "Accepted", "StatusCode": 202}} == item["EventsItemResponse"]
    found = await customer.arrived("_monetization.purchase", "newsletter.opened")
    key, purchase = found["_monetization.purchase"]
    assert ("endpoint-1", "endpoint-1", "3.1", APP, CUSTOMER_ACCOUNT) == (
        key,
        purchase["client"]["client_id"],
        purchase["event_version"],
        purchase["application"]["app_id"],
        purchase["awsAccountId"],
    )
    assert {"_quantity": 1, "_item_price": 79.9} == purchase["metrics"]
    assert "user-1" == purchase["endpoint"]["User"]["UserId"]
    assert [] == worker.logged("lane.blocked")
    # 4. Who reads the stream.
    lines = [record.value + b"\n" for record in customer.emulator.read(STREAM)]
    athena = Athena(lines, customer.folder)
    [query] = blocks("sql")
    assert [(date(2026, 11, 30), 2)] == athena.execute(query)
    athena.close()


async def test_the_pages_code_for_browsers_reports(customer: Customer) -> None:
    place = await asyncio.to_thread(install.node_clients)
    worker_keys = customer.emulator.variables()
    secrets = {"PINPOINT_SECRET": SECRET, "PINPOINT_API_KEY": API_KEY}
    (customer.folder / "config").mkdir()
    content = customer.configure()
    (customer.folder / "config" / "gateway.yaml").write_text(yaml.safe_dump(content))
    gateway = customer.start("gateway", content["server"]["port"], {**secrets, **worker_keys})
    await gateway.until_ready()
    scripts = customer.folder / "scripts"
    scripts.mkdir()
    (scripts / "node_modules").symlink_to(place / "node_modules")
    sdk, wrapper = (customer.own(text) for text in blocks("js"))
    (scripts / "sdk.mjs").write_text(sdk)
    told = await run(["node", str(scripts / "sdk.mjs")], dict(os.environ))
    assert "'event-3': { Message: 'Accepted', StatusCode: 202 }" in told
    app = (install.NODE / "amplify.mjs").read_text()
    assert WRAPPER.search(app)
    (scripts / "app.mjs").write_text(WRAPPER.sub(lambda _: f"\n{wrapper}\n", app))
    given = [{"record": {"name": "amplified"}}, {"flush": True}, {"wait": 7_000}]
    lines = "".join(f"{json.dumps(one)}\n" for one in given).encode()
    told = await run(
        ["node", str(scripts / "app.mjs"), "unused", BROWSER_APP, ""], dict(os.environ), lines
    )
    assert [None] * 3 == [json.loads(line)["failed"] for line in told.splitlines()]
    stored = [json.loads(one.value or b"{}") for one in await customer.cluster.read(customer.topic)]
    kinds = {event["EventType"] for record in stored for event in record["Events"]}
    assert {"checkout", "amplified"} <= kinds
    assert {BROWSER_APP} == {record["ApplicationId"] for record in stored}


def test_every_block_of_the_page_is_run_here() -> None:
    kinds = [name for name, _ in BLOCK.findall(PAGE)]
    assert {"json", "console", "yaml", "python", "js", "sql"} == set(kinds)
    assert 1 == kinds.count("yaml")
