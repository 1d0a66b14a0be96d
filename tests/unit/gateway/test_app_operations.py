"""Operations on apps and event streams."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from forwarder.config.connection import Connection, Match, Status
from forwarder.config.credentials import AssumedRole
from forwarder.config.gateway import App, AppAuth, PinpointApi
from forwarder.config.loader import load_connection
from forwarder.config.targets import FileTarget, FirehoseTarget, KinesisTarget
from forwarder.gateway.app_operations import AppOperations
from forwarder.gateway.contract import Action, ApiCall, ApiError
from tests.unit.gateway.doubles import ARRIVAL, SHOP, call_of
from tests.unit.gateway.test_endpoint_operations import parsed

APPS = (SHOP, App("blog", AppAuth.NONE), App("dev", AppAuth.NONE))
ROLE = "arn:aws:iam::111122223333:role/stream"
STREAM = "arn:aws:kinesis:eu-west-1:111122223333:stream/events"
DELIVERY = "arn:aws:firehose:us-east-1:111122223333:deliverystream/to-s3"


def operations(*connections: Connection, hosts: tuple[str, ...] = ()) -> AppOperations:
    api = PinpointApi("pinpoint-events", APPS, "111122223333", substitute_hosts=hosts)
    return AppOperations(api, connections, {one.name: ARRIVAL for one in connections})


def stream(name: str, **changes: Any) -> Connection:  # noqa: ANN401
    sink = KinesisTarget(stream_name="events", region="eu-west-1", format="pinpoint")
    return replace(Connection(name, sink, credentials=AssumedRole(ROLE, None)), **changes)


async def test_the_apps_that_a_caller_may_use_are_listed_in_pages() -> None:
    made = operations(hosts=("pinpoint.eu-west-1.amazonaws.com",))

    async def listed(**query: str) -> Any:  # noqa: ANN401  # any JSON
        call = ApiCall(
            None, {}, b"", ARRIVAL, "r", {k.replace("_", "-"): v for k, v in query.items()}, APPS
        )
        return parsed(Action.GET_APPS, await made.get_apps(call))

    whole = await listed()
    assert ["shop", "blog", "dev"] == [app["Id"] for app in whole["Item"]]
    assert "arn:aws:mobiletargeting:eu-west-1:111122223333:apps/shop" == whole["Item"][0]["Arn"]
    page = await listed(page_size="2")
    assert ["shop", "blog"] == [app["Id"] for app in page["Item"]]
    rest = await listed(page_size="2", token=page["NextToken"])
    assert ["dev"] == [app["Id"] for app in rest["Item"]]
    assert "NextToken" not in rest
    assert [] == (await listed(token="3"))["Item"]
    for unread in ("x", "", "0", "-1", "9" * 5000, "\u0663"):
        with pytest.raises(ApiError, match="page-size"):
            await listed(page_size=unread)
    with pytest.raises(ApiError, match="page-size"):
        await listed(token="9" * 5000)


async def test_an_app_is_what_is_configured() -> None:
    found = parsed(Action.GET_APP, await operations().get_app(call_of(b"")))
    arn = "arn:aws:mobiletargeting:us-east-1:111122223333:apps/shop"
    assert {"Arn": arn, "Id": "shop", "Name": "shop", "tags": {}} == found


async def test_the_event_stream_is_the_connection_that_takes_the_app() -> None:
    found = parsed(
        Action.GET_EVENT_STREAM,
        await operations(stream("main")).get_event_stream(call_of(b"")),
    )
    assert {
        "ApplicationId": "shop",
        "DestinationStreamArn": STREAM,
        "LastModifiedDate": "2026-01-01T00:00:00.000Z",
        "LastUpdatedBy": "main",
        "RoleArn": ROLE,
    } == found


@pytest.mark.parametrize(
    "changes",
    [
        {"status": Status.INACTIVE},
        {"sink": FileTarget(path="out")},
        {"match": Match(application=frozenset({"blog"}))},
        {"match": Match(topic=frozenset({"raw-events"}))},
        {"match": Match(environment=frozenset({"development"}))},
        {"match": Match(api_key=frozenset({"k"}))},
    ],
)
async def test_a_connection_that_does_not_take_the_app_is_none(changes: Any) -> None:  # noqa: ANN401
    with pytest.raises(ApiError) as told:
        await operations(stream("main", **changes)).get_event_stream(call_of(b""))
    assert (404, "NotFoundException") == (told.value.status, told.value.code)


async def test_of_several_the_one_that_is_meant_most_is_told() -> None:
    firehose = FirehoseTarget(delivery_stream_name="to-s3", region="us-east-1")
    made = operations(
        stream("a", sink=firehose),
        stream("b"),
        stream("c", match=Match(application=frozenset({"shop"}))),
    )
    found = parsed(Action.GET_EVENT_STREAM, await made.get_event_stream(call_of(b"")))
    assert "c" == found["LastUpdatedBy"]
    found = parsed(
        Action.GET_EVENT_STREAM,
        await operations(stream("a", sink=firehose)).get_event_stream(call_of(b"")),
    )
    assert DELIVERY == found["DestinationStreamArn"]


async def test_a_deletion_says_what_to_change() -> None:
    with pytest.raises(ApiError, match="main:\nstatus: inactive") as told:
        await operations(stream("main")).delete_event_stream(call_of(b""))
    assert (405, "MethodNotAllowedException") == (told.value.status, told.value.code)
    with pytest.raises(ApiError, match="that takes this app"):
        await operations().delete_event_stream(call_of(b""))


@pytest.mark.parametrize("arn", [STREAM, DELIVERY])
async def test_a_write_says_which_file_to_add_and_that_is_a_connection(
    arn: str, tmp_path: Path
) -> None:
    body = {"RoleArn": ROLE, "DestinationStreamArn": arn}
    with pytest.raises(ApiError) as told:
        await operations().put_event_stream(call_of(body))
    assert (405, "MethodNotAllowedException") == (told.value.status, told.value.code)
    _, _, text = told.value.message.partition(":\n")
    (tmp_path / "one.yaml").write_text(text)
    one = load_connection(tmp_path / "one.yaml").connection
    assert frozenset({"shop"}) == one.match.application
    assert frozenset({"pinpoint-events"}) == one.match.topic
    assert arn == one.sink.resource("aws", "111122223333")
    assert "pinpoint" == one.sink.format


@pytest.mark.parametrize(
    "body",
    [
        b"[",
        b"",
        {"RoleArn": ROLE, "DestinationStreamArn": "x\nsink: {}"},
        {"RoleArn": 'arn:aws:iam::1:role/"', "DestinationStreamArn": STREAM},
    ],
)
async def test_a_write_of_what_is_no_stream_is_refused(body: Any) -> None:  # noqa: ANN401
    with pytest.raises(ApiError) as told:
        await operations().put_event_stream(call_of(body))
    assert (400, "BadRequestException") == (told.value.status, told.value.code)
