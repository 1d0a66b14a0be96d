"""Operations on endpoints, their answers read as AWS's own library reads them."""

from typing import Any

import orjson
import pytest
from botocore.loaders import create_loader
from botocore.model import ServiceModel
from botocore.parsers import create_parser

from forwarder.config.gateway import App, AppAuth, GatewayLimits
from forwarder.gateway.contract import Action, ApiError, ApiReply
from forwarder.gateway.endpoint_operations import EndpointOperations
from forwarder.ops.gateway_reporter import GatewayReporter
from tests.unit.gateway.doubles import SHOP, Memory, call_of

MODEL = ServiceModel(create_loader().load_service_model("pinpoint", "service-2"), "pinpoint")
PARSER = create_parser("rest-json")
OTHER = App("other", AppAuth.NONE)


def parsed(action: Action, reply: ApiReply) -> Any:  # noqa: ANN401  # any JSON
    """Return an answer as AWS's library reads it; its status has to be the model's."""
    operation = MODEL.operation_model(action)
    assert operation.http["responseCode"] == reply.status
    answer = {"status_code": reply.status, "headers": {}, "body": reply.body}
    found = PARSER.parse(answer, operation.output_shape)
    del found["ResponseMetadata"]
    [(_, payload)] = found.items()
    return payload


class Calls:
    """Every operation on a store of its own."""

    def __init__(self, **limits: int) -> None:
        self.store = Memory()
        self.operations = EndpointOperations(
            GatewayLimits(**limits), self.store, GatewayReporter()
        ).by_action()

    async def call(
        self,
        action: Action,
        body: Any = b"",  # noqa: ANN401  # any JSON
        app: App = SHOP,
        **parameters: str,
    ) -> Any:  # noqa: ANN401  # any JSON
        return parsed(action, await self.operations[action](call_of(body, app, **parameters)))

    async def refused(
        self,
        action: Action,
        body: Any = b"",  # noqa: ANN401  # any JSON
        **parameters: str,
    ) -> ApiError:
        with pytest.raises(ApiError) as told:
            await self.call(action, body, SHOP, **parameters)
        return told.value


async def test_an_endpoint_is_updated_read_and_deleted() -> None:
    calls = Calls()
    accepted = {"Message": "Accepted", "RequestID": "request-1"}
    update = {"Address": "x", "Id": "other", "User": {"UserId": "u"}, "Metrics": {"a": 1.5}}
    assert accepted == await calls.call(Action.UPDATE_ENDPOINT, update, endpoint="a/b%2F")
    expected = {
        "ApplicationId": "shop",
        "Id": "a/b%2F",
        "Address": "x",
        "User": {"UserId": "u"},
        "Metrics": {"a": 1.5},
    }
    assert expected == await calls.call(Action.GET_ENDPOINT, endpoint="a/b%2F")
    assert expected == await calls.call(Action.DELETE_ENDPOINT, endpoint="a/b%2F")
    assert 404 == (await calls.refused(Action.GET_ENDPOINT, endpoint="a/b%2F")).status
    assert 404 == (await calls.refused(Action.DELETE_ENDPOINT, endpoint="a/b%2F")).status


async def test_all_endpoints_of_a_user_are_read_and_deleted_of_one_app_alone() -> None:
    calls = Calls()
    user = {"User": {"UserId": "u"}}
    for app in (SHOP, OTHER):
        for endpoint in ("1", "2"):
            await calls.call(Action.UPDATE_ENDPOINT, user, app, endpoint=endpoint)
    found = await calls.call(Action.GET_USER, user="u")
    assert ["1", "2"] == [one["Id"] for one in found["Item"]]
    assert found == await calls.call(Action.DELETE_USER, user="u")
    assert "NotFoundException" == (await calls.refused(Action.GET_USER, user="u")).code
    assert "NotFoundException" == (await calls.refused(Action.DELETE_USER, user="u")).code
    assert 2 == len((await calls.call(Action.GET_USER, b"", OTHER, user="u"))["Item"])


async def test_a_batch_is_stored_in_order_and_an_endpoint_may_come_twice() -> None:
    calls = Calls()
    items = [{"Id": "1", "Address": "a"}, {"Id": "2"}, {"Id": "1", "Address": "b"}]
    await calls.call(Action.UPDATE_ENDPOINTS, {"Item": items})
    assert "b" == (await calls.call(Action.GET_ENDPOINT, endpoint="1"))["Address"]
    assert 2 == len(calls.store.kept)


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (None, "Item is required"),
        ({}, "Item is required"),
        ([{"Id": "1"}, {}], "Item 1: Id should not be empty"),
        ([{"Id": "1"}, 5], "Item 1: should be an endpoint"),
        ([{"Id": "1"}, {"Id": "2", "OptOut": "SOME"}], "Item 1: OptOut is none of the values"),
        ([{"Id": str(n)} for n in range(101)], "less than 100"),
    ],
)
async def test_a_batch_that_cannot_be_read_stores_nothing(items: Any, message: str) -> None:  # noqa: ANN401
    calls = Calls()
    error = await calls.refused(Action.UPDATE_ENDPOINTS, {"Item": items})
    assert (400, "BadRequestException") == (error.status, error.code)
    assert message in error.message
    assert {} == calls.store.kept


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b'{"Address":5}',
        b'{"Address":"\xff"}',
        b'{"ChannelType":"PIGEON"}',
        b'{"New":' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"Metrics":{"m":NaN}}',
    ],
)
async def test_what_is_no_endpoint_is_refused(body: bytes) -> None:
    calls = Calls()
    error = await calls.refused(Action.UPDATE_ENDPOINT, body, endpoint="e")
    assert (400, "BadRequestException") == (error.status, error.code)
    assert {} == calls.store.kept


async def test_what_the_store_refuses_is_400_and_a_store_that_is_down_500() -> None:
    calls = Calls()
    calls.store.refuses = {"e": "Number of Attributes should be less than 250."}
    error = await calls.refused(Action.UPDATE_ENDPOINT, {"Address": "x"}, endpoint="e")
    assert (400, calls.store.refuses["e"]) == (error.status, error.message)
    calls.store.down = True
    for action, names in (
        (Action.UPDATE_ENDPOINT, {"endpoint": "e"}),
        (Action.GET_ENDPOINT, {"endpoint": "e"}),
        (Action.DELETE_ENDPOINT, {"endpoint": "e"}),
        (Action.GET_USER, {"user": "u"}),
        (Action.DELETE_USER, {"user": "u"}),
    ):
        error = await calls.refused(action, {}, **names)
        assert (500, "InternalServerErrorException") == (error.status, error.code)


async def test_an_id_that_no_store_can_hold_is_refused() -> None:
    calls = Calls()
    for odd in ("", "\0", "\ud83d", "x" * 1025):
        assert 400 == (await calls.refused(Action.UPDATE_ENDPOINT, {}, endpoint=odd)).status
        assert 400 == (await calls.refused(Action.GET_USER, user=odd)).status


async def test_every_member_of_the_model_is_taken_as_aws_sends_it() -> None:
    calls = Calls()
    endpoint = orjson.loads(
        b"""{"Address":"a","Attributes":{"k":["v"],"gone":null,"none":[]},"ChannelType":"APNS",
        "Demographic":{"AppVersion":"1","Locale":"en_US","Make":"m","Model":"m","ModelVersion":"1",
        "Platform":"ios","PlatformVersion":"17","Timezone":"UTC"},
        "EffectiveDate":"2026-01-01T00:00:00.000Z","EndpointStatus":"ACTIVE",
        "Location":{"City":"c","Country":"USA","Latitude":1,"Longitude":-2.5,"PostalCode":"1",
        "Region":"r"},"Metrics":{"m":1,"n":2.5},"OptOut":"NONE","RequestId":"r",
        "User":{"UserAttributes":{"k":["v"]},"UserId":"u"},"Unknown":{"deep":[1]}}"""
    )
    await calls.call(Action.UPDATE_ENDPOINT, endpoint, endpoint="e")
    assert endpoint.items() <= calls.store.kept["shop", "e"].items()
