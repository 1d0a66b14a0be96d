"""A gateway as a process: its start, what it answers, its end."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.acceptance import gateway_site
from tests.acceptance.cluster import Cluster
from tests.acceptance.gateway_site import (
    API_KEY,
    KEYED,
    MP_KEY,
    MP_SECRET,
    OPEN,
    SECRET,
    SIGNED,
    GatewaySite,
)


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
def nowhere(tmp_path: Path) -> GatewaySite:
    """Make a folder whose Kafka is not there."""
    gateway = gateway_site.apis("pinpoint-events", "raw")
    return GatewaySite(tmp_path, gateway_site.sections("127.0.0.1:1"), gateway=gateway)


async def test_what_is_answered_202_is_in_kafka(
    site: GatewaySite, cluster: Cluster, name: str
) -> None:
    gateway = site.start_gateway()
    await gateway.until_ready()
    status, content = await asyncio.to_thread(gateway.put, "v-1", "v-2")
    assert 202 == status
    accepted = {"StatusCode": 202, "Message": "Accepted"}
    assert {"v-1": accepted, "v-2": accepted} == content["Results"]["e-1"]["EventsItemResponse"]
    (record,) = await cluster.read(f"{name}-pinpoint")
    assert b"dev/e-1" == record.key
    assert ["v-1", "v-2"] == [one["EventId"] for one in json.loads(record.value or b"")["Events"]]


async def test_every_way_to_authenticate_is_let_in_and_no_other(site: GatewaySite) -> None:
    gateway = site.start_gateway()
    await gateway.until_ready()
    items = gateway_site.batch("v-1")

    def put(secret: str) -> int:
        client = gateway.boto3(secret)
        try:
            answer = client.put_events(ApplicationId=SIGNED, EventsRequest=items)
        except client.exceptions.ClientError as error:
            answer = error.response
        code: int = answer["ResponseMetadata"]["HTTPStatusCode"]
        return code

    assert 202 == await asyncio.to_thread(put, SECRET)
    assert 403 == await asyncio.to_thread(put, "another")
    assert 202 == gateway.put("v-1", app=KEYED, x_api_key=API_KEY)[0]
    assert 403 == gateway.put("v-1", app=KEYED, x_api_key="another")[0]
    assert 403 == gateway.put("v-1", app=KEYED)[0]
    assert 404 == gateway.put("v-1", app="nobody")[0]
    warned = gateway.logged("app.open")
    assert [OPEN] == [line["app"] for line in warned]
    said = gateway.log_file.read_text()
    for secret in (SECRET, API_KEY, MP_SECRET, MP_KEY):
        assert secret not in said


async def test_without_kafka_it_listens_is_not_ready_and_says_why(nowhere: GatewaySite) -> None:
    gateway = nowhere.start_gateway()
    await gateway.until(lambda: gateway.logged("gateway.starts"), "it listens")
    status, content = await asyncio.to_thread(gateway.put, "v-1")
    assert 202 == status
    events = content["Results"]["e-1"]["EventsItemResponse"]
    assert 500 == events["v-1"]["StatusCode"]
    await gateway.until(lambda: "127.0.0.1:1" in gateway.get("/readyz")[1], "it says why")
    detail = json.loads(gateway.get("/readyz")[1])
    assert (False, True) == (detail["ready"], detail["listening"])
    assert ("waiting", "up") == (detail["kafka"]["state"], detail["endpoints"]["state"])
    assert 200 == gateway.get("/livez")[0]
    gateway.signal(signal.SIGTERM)
    assert 0 == await gateway.ended()
    nowhere.close()


async def test_sigterm_answers_what_is_under_way_and_ends_with_0(site: GatewaySite) -> None:
    gateway = site.start_gateway()
    await gateway.until_ready()
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.api)
    body = json.dumps(gateway_site.batch("v-1")).encode()
    head = f"POST /v1/apps/{OPEN}/events HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body[:10])
    await writer.drain()
    await asyncio.sleep(0.2)
    gateway.signal(signal.SIGTERM)
    await gateway.until(lambda: gateway.get("/readyz")[0] == 503, "it is not ready any more")
    await gateway.until(lambda: gateway.logged("gateway.drains"), "it drains")
    writer.write(body[10:])
    answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 202 ")
    assert b"\r\nConnection: close\r\n" in answer
    writer.close()
    assert 0 == await gateway.ended()
    assert gateway.logged("gateway.stopped")


async def test_a_second_signal_ends_it_at_once(site: GatewaySite) -> None:
    gateway = site.start_gateway()
    await gateway.until_ready()
    _, writer = await asyncio.open_connection("127.0.0.1", gateway.api)
    writer.write(b"POST /v1/apps/dev/events HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n")
    await writer.drain()
    await asyncio.sleep(0.2)
    gateway.signal(signal.SIGTERM)
    await gateway.until(lambda: gateway.logged("gateway.drains"), "it drains")
    gateway.signal(signal.SIGTERM)
    assert 1 == await gateway.ended(5)
    writer.close()


async def test_a_configuration_that_cannot_be_used_ends_it_with_2(nowhere: GatewaySite) -> None:
    del nowhere.gateway["pinpoint"]["topic"]
    gateway = nowhere.start_gateway()
    assert 2 == await gateway.ended()
    assert "topic" in gateway.log_file.read_text()
    assert "Traceback" not in gateway.log_file.read_text()


async def test_the_second_gateway_on_a_port_says_so_and_ends_with_1(nowhere: GatewaySite) -> None:
    first = nowhere.start_gateway("first")
    await first.until(lambda: first.get("/livez")[0], "its probes answer")
    await first.until(lambda: first.logged("gateway.starts"), "it listens")
    nowhere.gateway["pinpoint"]["endpoints"] = {"store": "sqlite", "path": "second.db"}
    second = nowhere.start_gateway("second", port=first.api)
    assert 1 == await second.ended()
    assert f"cannot listen on 127.0.0.1:{first.api}" in second.log_file.read_text()
    nowhere.close()
