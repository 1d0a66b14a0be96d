"""Gateways as processes and their endpoints: two with one database, a file with one owner."""

import asyncio
import gzip
import json
import re
import sys
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance import gateway_site
from tests.acceptance.cluster import Cluster
from tests.acceptance.gateway_site import KEY_ID, OPEN, SECRET, SIGNED, GatewayProcess, GatewaySite
from tests.services.postgres import PASSWORD, PASSWORD_IN_DSN, PostgresServer, own_postgres

EVENT = {"EventType": "_session.start", "Timestamp": "2026-11-30T12:00:00.000Z"}
PATH = f"/v1/apps/{OPEN}/endpoints/e-1"


@pytest.fixture
async def site(cluster: Cluster, tmp_path: Path, name: str) -> AsyncIterator[GatewaySite]:
    """Make a folder and both topics; no gateway runs yet."""
    made = GatewaySite(
        tmp_path,
        gateway_site.sections(cluster.bootstrap),
        gateway=gateway_site.apis(f"{name}-pinpoint", f"{name}-raw"),
    )
    await cluster.create(f"{name}-pinpoint", 2)
    await cluster.create(f"{name}-raw", 2)
    yield made
    made.close()


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """Return a database server that only one test has."""
    own = own_postgres()
    yield own
    own.remove()


def on_postgres(site: GatewaySite, server: PostgresServer) -> None:
    dsn = server.new_database()
    site.gateway["pinpoint"]["endpoints"] = {"store": "postgres", "dsn": dsn}


def put_metric(gateway: GatewayProcess, name: str) -> int:
    """Send one event whose endpoint names a metric; return the status of the event."""
    item = {"Endpoint": {"Metrics": {name: 1}}, "Events": {name: EVENT}}
    body = json.dumps({"BatchItem": {"e-1": item}}).encode()
    path = f"/v1/apps/{OPEN}/events"
    status, _, content = gateway.ask("POST", path, body, Content_Type="application/json")
    assert 202 == status
    found: int = json.loads(content)["Results"]["e-1"]["EventsItemResponse"][name]["StatusCode"]
    return found


def metrics_of(content: bytes) -> set[str]:
    endpoint: dict[str, Any] = json.loads(content)
    return set(endpoint["Metrics"])


class MetricSender:
    """Gives an endpoint metrics, one a request, until ``last``; sends again what is refused."""

    def __init__(self, gateway: GatewayProcess, lane: str) -> None:
        self.gateway = gateway
        self.lane = lane
        self.sent: set[str] = set()
        self.refused: list[int] = []
        self.last = False

    async def run(self) -> None:
        for number in count():
            metric = f"{self.lane}-{number % 50}"  # an endpoint may have 250
            while (status := await asyncio.to_thread(put_metric, self.gateway, metric)) != 202:
                self.refused.append(status)
                await asyncio.sleep(0.1)
            self.sent.add(metric)
            if self.last:
                return


def tells_of_failures(gateway: GatewayProcess) -> bool:
    found = gateway.metrics().items()
    failures = [n for name, n in found if name.startswith("forwarder_gateway_store_failures_total")]
    return sum(failures) > 0 and bool(gateway.logged("store.failed"))


async def test_two_gateways_with_one_database_lose_nothing_through_its_restart(
    site: GatewaySite, cluster: Cluster, name: str, server: PostgresServer
) -> None:
    on_postgres(site, server)
    gateways = [site.start_gateway("one"), site.start_gateway("other")]
    for gateway in gateways:
        await gateway.until_ready()
    senders = [MetricSender(gateways[n % 2], f"lane{n}") for n in range(4)]
    sending = asyncio.gather(*(sender.run() for sender in senders))
    await gateways[0].until(lambda: all(one.sent for one in senders), "events are stored")
    await asyncio.to_thread(server.stop)
    await gateways[0].until(lambda: gateways[0].get("/readyz")[0] == 503, "it is not ready")
    detail = json.loads(gateways[0].get("/readyz")[1])
    assert ("waiting", "up") == (detail["endpoints"]["state"], detail["kafka"]["state"])
    assert 200 == gateways[0].get("/livez")[0]
    told = "clients are told to send again"
    await gateways[0].until(lambda: all(one.refused for one in senders), told)
    await asyncio.to_thread(server.start)
    for one in senders:
        one.last = True
    await sending
    for gateway in gateways:
        await gateway.until_ready()
    assert {500} == {status for one in senders for status in one.refused}
    sent = {metric for one in senders for metric in one.sent}
    for gateway in gateways:
        status, _, content = gateway.ask("GET", PATH)
        assert (200, sent) == (status, metrics_of(content))
    assert all(tells_of_failures(gateway) for gateway in gateways)
    # What was answered is in Kafka, each event with an endpoint that knows of it already.
    known: set[str] = set()
    for record in await cluster.read(f"{name}-pinpoint"):
        content = json.loads(record.value or b"")
        for event in content["Events"]:
            assert event["EventId"] in content["Endpoint"]["Metrics"]
            known.add(event["EventId"])
    assert sent == known
    for gateway in gateways:
        said = gateway.log_file.read_text()
        assert PASSWORD not in said
        assert PASSWORD_IN_DSN not in said


async def test_a_gateway_starts_before_its_database_and_is_ready_with_it(
    site: GatewaySite, server: PostgresServer
) -> None:
    on_postgres(site, server)
    server.stop()
    gateway = site.start_gateway()
    await gateway.until(lambda: gateway.logged("gateway.starts"), "it listens")
    assert 500 == await asyncio.to_thread(put_metric, gateway, "m")
    await gateway.until(lambda: gateway.logged("dependency.fails"), "it says so")
    server.start()
    await gateway.until_ready()
    assert 202 == await asyncio.to_thread(put_metric, gateway, "m")


async def test_a_second_gateway_of_one_file_ends_with_1_and_takes_over_after_a_kill(
    site: GatewaySite,
) -> None:
    first = site.start_gateway("first")
    await first.until_ready()
    assert 202 == await asyncio.to_thread(put_metric, first, "m")
    second = site.start_gateway("second")
    assert 1 == await second.ended()
    assert "another gateway owns the endpoint store" in second.log_file.read_text()
    first.kill()
    third = site.start_gateway("third")
    await third.until_ready()
    status, _, content = third.ask("GET", PATH)
    assert (200, {"m"}) == (status, metrics_of(content))
    status, _, content = third.ask("DELETE", PATH)
    assert (202, {"m"}) == (status, metrics_of(content))
    assert 404 == third.ask("GET", PATH)[0]


async def test_what_was_exported_from_pinpoint_is_sent_as_the_page_says(
    site: GatewaySite, tmp_path: Path
) -> None:
    gateway = site.start_gateway()
    await gateway.until_ready()
    client = gateway.boto3()
    since = {"EffectiveDate": "2026-11-01T00:00:00.000Z", "OptOut": "ALL"}
    client.update_endpoint(ApplicationId=SIGNED, EndpointId="e-7", EndpointRequest=since)
    exported = [
        {
            "Id": f"e-{number}",
            "ApplicationId": "the-former-one",
            "ChannelType": "EMAIL",
            "Address": f"{number}@example.com",
            "EndpointStatus": "ACTIVE",
            "OptOut": "NONE",
            "EffectiveDate": "2026-10-29T00:00:00.000Z",
            "CreationDate": "2020-01-01T00:00:00.000Z",
            "CohortId": "3",
            "Location": {"Latitude": 47.4},
            "User": {"UserId": "u", "UserAttributes": {"plan": ["gold"]}},
        }
        for number in range(250)
    ]
    with gzip.open(tmp_path / "part-0.gz", "wt") as file:
        file.writelines(json.dumps(one) + "\n" for one in exported)
    page = (Path(__file__).parents[2] / "docs" / "endpoints.md").read_text()
    [script] = re.findall(r"^```python\n(.+?)^```", page, re.DOTALL | re.MULTILINE)
    variables = {
        "AWS_ENDPOINT_URL_PINPOINT": f"http://127.0.0.1:{gateway.api}",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET,
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", script, SIGNED, str(tmp_path / "part-0.gz")), env=variables
    )
    assert 0 == await process.wait()
    found = client.get_endpoint(ApplicationId=SIGNED, EndpointId="e-249")["EndpointResponse"]
    assert ("249@example.com", SIGNED) == (found["Address"], found["ApplicationId"])
    assert {"plan": ["gold"]} == found["User"]["UserAttributes"]
    kept = client.get_endpoint(ApplicationId=SIGNED, EndpointId="e-7")["EndpointResponse"]
    assert "ALL" == kept["OptOut"]
    assert "Address" not in kept
