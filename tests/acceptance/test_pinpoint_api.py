"""What boto3 and the AWS CLI ask a gateway besides reporting events, and what they are told."""

import asyncio
import json
import os
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from botocore import UNSIGNED
from botocore.exceptions import ClientError
from mparticle.rest import ApiException

from tests.acceptance.cluster import Cluster
from tests.acceptance.pinpoint_scene import (
    ACCESS_KEY,
    API_KEY,
    KEYED,
    OPEN,
    SECRET,
    SIGNED,
    PinpointScene,
    mparticle,
    signed,
)
from tests.clients import install, mparticle_sender, senders
from tests.clients.mparticle_sender import Input
from tests.clients.senders import Caller
from tests.clients.story import PHONE, Json, Story
from tests.clients.wire import Wire
from tests.services.ministack import CUSTOMER_ACCOUNT, REGION

ODD_ID = "user/1 ünï%2F+?&☕"
ROLE = f"arn:aws:iam::{CUSTOMER_ACCOUNT}:role/pinpoint-events"


@pytest.fixture(scope="module")
def scene(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PinpointScene]:
    folder = tmp_path_factory.mktemp("api")
    scene = PinpointScene.make(kafka, folder, f"t-{folder.parent.name}-api")
    scene.connect(
        {
            "name": "shop",
            "match": {"topic": [scene.topic], "application": [SIGNED]},
            "credentials": {"role_arn": ROLE, "external_id": "orgid:1"},
            "sink": {
                "type": "kinesis",
                "stream_name": "shop-events",
                "region": REGION,
                "format": "pinpoint",
            },
        }
    )

    async def begin() -> None:
        async with Cluster(kafka) as cluster:
            await cluster.create(scene.topic, 2)
            await cluster.create(scene.uploads, 1)
        gateway = scene.gateway()
        gateway.start()
        await gateway.until_ready()

    try:
        asyncio.run(begin())
        yield scene
    finally:
        scene.close()


@pytest.fixture
def url(scene: PinpointScene) -> str:
    return f"http://127.0.0.1:{scene.ports['gateway']}"


@pytest.fixture
def pinpoint(url: str) -> Any:  # noqa: ANN401  # boto3 makes its clients at run time
    return senders.boto(signed(url), retries={"max_attempts": 0})


def refused(error: "pytest.ExceptionInfo[ClientError]") -> tuple[str, int]:
    """Return the code that an SDK's users catch, and HTTP's."""
    answer = error.value.response
    assert answer["Error"].get("Message") or answer.get("Message")
    assert answer.get("RequestID") or answer["ResponseMetadata"].get("RequestId")
    return answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]


def one_event(endpoint: str, count: int = 1) -> Json:
    story = Story("api", datetime.now(UTC))
    return story.request({endpoint: ({}, [story.event("tick") for _ in range(count)])})


@pytest.mark.parametrize("endpoint", ["plain", ODD_ID])
def test_an_endpoint_is_made_changed_read_and_deleted(pinpoint: Any, endpoint: str) -> None:  # noqa: ANN401
    place = {"ApplicationId": SIGNED, "EndpointId": endpoint}
    made = pinpoint.update_endpoint(**place, EndpointRequest=PHONE)
    assert "Accepted" == made["MessageBody"]["Message"]
    assert made["MessageBody"]["RequestID"]
    assert 202 == made["ResponseMetadata"]["HTTPStatusCode"]

    pinpoint.update_endpoint(
        **place,
        EndpointRequest={"Attributes": {"interests": [], "plan": ["silver"]}, "OptOut": "ALL"},
    )
    found = pinpoint.get_endpoint(**place)["EndpointResponse"]
    assert (SIGNED, endpoint) == (found["ApplicationId"], found["Id"])
    assert {"plan": ["silver"]} == found["Attributes"]
    assert "ALL" == found["OptOut"]
    for name in ("Address", "ChannelType", "Demographic", "Location", "Metrics", "User"):
        assert PHONE[name] == found[name]
    assert 0 <= int(found["CohortId"]) < 100
    assert found["CreationDate"] <= found["EffectiveDate"]

    gone = pinpoint.delete_endpoint(**place)
    assert (found, 202) == (gone["EndpointResponse"], gone["ResponseMetadata"]["HTTPStatusCode"])
    with pytest.raises(ClientError) as error:
        pinpoint.get_endpoint(**place)
    assert ("NotFoundException", 404) == refused(error)


def test_endpoints_are_changed_together_and_found_by_their_user(pinpoint: Any) -> None:  # noqa: ANN401
    items = [{"Id": f"batch-{n}", "User": {"UserId": "a user/☕"}} for n in range(100)]
    answer = pinpoint.update_endpoints_batch(
        ApplicationId=SIGNED, EndpointBatchRequest={"Item": items}
    )
    assert "Accepted" == answer["MessageBody"]["Message"]
    user = {"ApplicationId": SIGNED, "UserId": "a user/☕"}
    found = pinpoint.get_user_endpoints(**user)["EndpointsResponse"]["Item"]
    assert {item["Id"] for item in items} == {one["Id"] for one in found}
    gone = pinpoint.delete_user_endpoints(**user)
    assert 202 == gone["ResponseMetadata"]["HTTPStatusCode"]
    assert {item["Id"] for item in items} == {
        one["Id"] for one in gone["EndpointsResponse"]["Item"]
    }
    with pytest.raises(ClientError) as error:
        pinpoint.get_endpoint(ApplicationId=SIGNED, EndpointId="batch-1")
    assert ("NotFoundException", 404) == refused(error)


def test_apps_are_listed_and_told(pinpoint: Any) -> None:  # noqa: ANN401
    listed = pinpoint.get_apps()["ApplicationsResponse"]["Item"]
    assert SIGNED in {app["Id"] for app in listed}
    app = pinpoint.get_app(ApplicationId=SIGNED)["ApplicationResponse"]
    assert SIGNED == app["Id"]
    assert app["Name"]
    assert app["Arn"].endswith(f":{CUSTOMER_ACCOUNT}:apps/{SIGNED}")


def test_the_event_stream_is_that_of_the_connection_and_is_changed_in_files(
    pinpoint: Any,  # noqa: ANN401
) -> None:
    stream = pinpoint.get_event_stream(ApplicationId=SIGNED)["EventStream"]
    arn = f"arn:aws:kinesis:{REGION}:{CUSTOMER_ACCOUNT}:stream/shop-events"
    assert (SIGNED, arn, ROLE) == (
        stream["ApplicationId"],
        stream["DestinationStreamArn"],
        stream["RoleArn"],
    )
    with pytest.raises(ClientError) as error:
        pinpoint.put_event_stream(
            ApplicationId=SIGNED,
            WriteEventStream={"DestinationStreamArn": arn, "RoleArn": ROLE},
        )
    assert ("MethodNotAllowedException", 405) == refused(error)
    assert f"stream_name: {arn}" in str(error.value)
    with pytest.raises(ClientError) as error:
        pinpoint.delete_event_stream(ApplicationId=SIGNED)
    assert ("MethodNotAllowedException", 405) == refused(error)


def test_an_app_that_no_connection_takes_has_no_event_stream(url: str) -> None:
    client = senders.boto(Caller(url, OPEN), signature_version=UNSIGNED)
    with pytest.raises(ClientError) as error:
        client.get_event_stream(ApplicationId=OPEN)
    assert ("NotFoundException", 404) == refused(error)


def test_more_than_a_hundred_events_are_a_bad_request(pinpoint: Any) -> None:  # noqa: ANN401
    with pytest.raises(ClientError) as error:
        pinpoint.put_events(ApplicationId=SIGNED, EventsRequest=one_event("busy", 101))
    assert ("BadRequestException", 400) == refused(error)
    answer = pinpoint.put_events(ApplicationId=SIGNED, EventsRequest=one_event("busy", 100))
    assert 100 == len(answer["EventsResponse"]["Results"]["busy"]["EventsItemResponse"])


# The first two are what the front of every AWS service answers, before it knows the API.
@pytest.mark.parametrize(
    ("caller", "code"),
    [
        (Caller("", SIGNED, ACCESS_KEY, "another secret"), "InvalidSignatureException"),
        (Caller("", SIGNED, "AKIAUNKNOWNKEY000000", SECRET), "UnrecognizedClientException"),
        (Caller("", KEYED, ACCESS_KEY, SECRET), "ForbiddenException"),
    ],
    ids=["wrong secret", "unknown key", "another app's key"],
)
def test_whoever_is_not_the_apps_caller_is_forbidden(url: str, caller: Caller, code: str) -> None:
    client = senders.boto(caller._replace(url=url), retries={"max_attempts": 0})
    with pytest.raises(ClientError) as error:
        client.put_events(ApplicationId=caller.app, EventsRequest=one_event("e"))
    assert (code, 403) == refused(error)


def test_an_unknown_app_is_not_found_or_forbidden(pinpoint: Any) -> None:  # noqa: ANN401
    with pytest.raises(ClientError) as error:
        pinpoint.put_events(ApplicationId="nobody", EventsRequest=one_event("e"))
    assert refused(error) in {("NotFoundException", 404), ("ForbiddenException", 403)}


@pytest.mark.parametrize("app", [KEYED, OPEN])
def test_apps_without_signatures_take_unsigned_requests(url: str, app: str) -> None:
    client = senders.boto(Caller(url, app), signature_version=UNSIGNED)

    def show_key(request: Any, **_: object) -> None:  # noqa: ANN401
        request.headers["x-api-key"] = API_KEY

    client.meta.events.register("before-send", show_key)
    answer = client.put_events(ApplicationId=app, EventsRequest=one_event("e"))
    told = answer["EventsResponse"]["Results"]["e"]["EndpointItemResponse"]
    assert {"StatusCode": 202, "Message": "Accepted"} == told


async def test_a_browser_that_is_closed_reports_with_a_signed_address(
    url: str,
    pinpoint: Any,  # noqa: ANN401
) -> None:
    place = await asyncio.to_thread(install.node_clients)
    script = str(place / "beacon.mjs")
    body = json.dumps(one_event("closing")).encode()
    command = ["node", script, url, SIGNED, ACCESS_KEY, SECRET]
    assert "202" == (await senders.run(command, os.environ, body)).strip()
    found = pinpoint.get_endpoint(ApplicationId=SIGNED, EndpointId="closing")
    assert "closing" == found["EndpointResponse"]["Id"]


async def test_what_amplify_flushes_at_once_is_taken_where_the_limit_is_raised(
    scene: PinpointScene, tmp_path: Path
) -> None:
    await asyncio.to_thread(install.node_clients)
    scene.endpoints = {"store": "sqlite", "path": str(tmp_path / "endpoints.db")}
    roomy = scene.gateway("roomy", events=1000)
    roomy.start()
    await roomy.until_ready()
    told = {}
    for name in ("gateway", "roomy"):
        async with (
            Wire(scene.ports[name]) as wire,
            senders.AmplifyApp(wire.url, KEYED, API_KEY, tmp_path) as app,
        ):
            for number in range(120):
                await app.record("click", {"n": str(number)})
            await app.do("flush")
            await app.do("wait", 2_000)
        told[name] = {one.status for one in wire.exchanges if one.method == "POST"}
    assert {"gateway": {400}, "roomy": {202}} == told


async def test_the_command_line_reads_endpoints_and_event_streams(
    url: str,
    pinpoint: Any,  # noqa: ANN401
    tmp_path: Path,
) -> None:
    pinpoint.update_endpoint(
        ApplicationId=SIGNED, EndpointId=ODD_ID, EndpointRequest={"OptOut": "ALL"}
    )
    command = str(await asyncio.to_thread(install.aws_cli))
    variables = senders.cli_environment(signed(url), tmp_path)
    asked = {
        "get-endpoint": ["--endpoint-id", ODD_ID],
        "get-event-stream": [],
        "get-app": [],
    }
    told = {}
    for name, more in asked.items():
        arguments = ["pinpoint", name, "--application-id", SIGNED, *more]
        told[name] = json.loads(await senders.run([command, *arguments], variables))
    assert "ALL" == told["get-endpoint"]["EndpointResponse"]["OptOut"]
    assert told["get-event-stream"]["EventStream"]["DestinationStreamArn"].endswith("shop-events")
    assert SIGNED == told["get-app"]["ApplicationResponse"]["Id"]


def test_a_browser_may_ask_first(url: str) -> None:
    asked = urllib.request.Request(  # noqa: S310  # loopback
        f"{url}/v1/apps/{KEYED}/events",
        method="OPTIONS",
        headers={
            "Origin": "https://shop.example",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type,x-amz-date,"
            "x-amz-security-token,x-amz-user-agent,amz-sdk-invocation-id,amz-sdk-request,x-api-key",
        },
    )
    with urllib.request.urlopen(asked, timeout=10) as answer:  # noqa: S310
        told = answer.headers
    assert "https://shop.example" == told["Access-Control-Allow-Origin"]
    allowed = {name.strip().lower() for name in told["Access-Control-Allow-Headers"].split(",")}
    assert {"authorization", "x-amz-security-token", "amz-sdk-request", "x-api-key"} <= allowed


@pytest.mark.parametrize(
    ("source", "uploads", "status", "said"),
    [
        (mparticle("")._replace(api_secret="another secret"), [{"events": []}], 403, ""),
        (mparticle("")._replace(api_key="us1-unknown"), [{"events": []}], 403, ""),
        (mparticle(""), [{"events": []}, "no upload", {"events": []}], 400, "1"),
        (mparticle(""), [{"events": []}] * 101, 400, "100"),
    ],
    ids=["wrong secret", "unknown key", "one that is no upload", "more than a hundred"],
)
def test_mparticles_sdk_is_told_what_is_wrong(
    url: str, source: Input, uploads: list[Any], status: int, said: str
) -> None:
    client = mparticle_sender.api(source._replace(url=url))
    with pytest.raises(ApiException) as error:
        client.bulk_upload_events(uploads)
    assert status == error.value.status
    assert said in str(error.value.body)
