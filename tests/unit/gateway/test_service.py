"""Who is let in, what is answered to the others, and in whose words."""

import base64
import time
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from forwarder.config.gateway import App, AppAuth, EventsApi, EventsApiInput, PinpointApi
from forwarder.gateway.contract import Action, ApiError, ApiReply
from forwarder.gateway.cors import REQUEST_HEADERS
from forwarder.gateway.service import new_request_id
from tests.bench import clients
from tests.gateways import (
    API_KEY,
    BASIC,
    INPUT,
    KEY_ID,
    OPEN,
    SECRET,
    SHOP,
    SIGNED,
    GatewayWorld,
    answer,
    gateway_world,
)

EVENTS = "/v1/apps/{}/events"


def signed(
    world: GatewayWorld, path: str, body: bytes = b"{}", keys: tuple[str, str] = (KEY_ID, SECRET)
) -> bytes:
    made = clients.request(path, body, world.port, keys)
    return made.replace(b"Accept-Encoding: identity", b"Connection: close")


def basic(user: str, password: str = "") -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


async def refused(world: GatewayWorld, sent: bytes) -> tuple[int, str]:
    status, headers, body = answer(await world.send(sent))
    content = orjson.loads(body)
    assert {"Message", "RequestID"} == content.keys()
    assert content["RequestID"] == headers["x-amzn-requestid"]
    return status, headers["x-amzn-errortype"]


async def test_a_signature_with_a_key_of_the_app_is_let_in_and_with_another_s_not() -> None:
    async with gateway_world() as world:
        path = EVENTS.format(SIGNED.id)
        assert 202 == answer(await world.send(signed(world, path)))[0]
        ((action, call),) = world.api.calls
        assert (Action.PUT_EVENTS, SIGNED, {"app": SIGNED.id}, b"{}") == (
            action,
            call.caller,
            call.parameters,
            call.body,
        )
        other = ("AKIAEXAMPLE00000002", "another-secret")
        assert (403, "ForbiddenException") == await refused(world, signed(world, path, keys=other))
        stranger = ("AKIAEXAMPLE00000003", SECRET)
        assert (403, "UnrecognizedClientException") == await refused(
            world, signed(world, path, keys=stranger)
        )
        assert (403, "InvalidSignatureException") == await refused(
            world, signed(world, path, keys=(KEY_ID, "wrong"))
        )
        changed = signed(world, path, b'{"a":1}').replace(b'{"a":1}', b'{"a":2}')
        assert (403, "InvalidSignatureException") == await refused(world, changed)
        assert 1 == len(world.api.calls)
        assert 4 == world.refusals("credentials")


async def test_an_unknown_key_costs_no_body() -> None:
    async with gateway_world() as world:
        sent = signed(world, EVENTS.format(SIGNED.id), b"x" * 1000, ("AKIAUNKNOWN", "x"))
        assert (403, "UnrecognizedClientException") == await refused(world, sent[:-1000])


async def test_a_payload_that_is_not_signed_is_refused() -> None:
    async with gateway_world() as world:
        for declared in (b"UNSIGNED-PAYLOAD", b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD"):
            sent = signed(world, EVENTS.format(SIGNED.id))
            sent = sent.replace(
                b"Connection:", b"X-Amz-Content-Sha256: " + declared + b"\r\nConnection:"
            )
            assert (403, "InvalidSignatureException") == await refused(world, sent)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"x_api_key": API_KEY}, 202),
        ({"Authorization": basic(API_KEY)}, 202),
        ({"Authorization": basic(API_KEY, "anything")}, 202),
        ({}, 403),
        ({"x_api_key": ""}, 403),
        ({"x_api_key": API_KEY + "x"}, 403),
        ({"x_api_key": "wrong", "Authorization": basic(API_KEY)}, 403),
        ({"Authorization": basic("x", API_KEY)}, 403),
        ({"Authorization": f"Basic {API_KEY}"}, 403),
        ({"Authorization": "Basic"}, 403),
        ({"Authorization": "Basic \xff"}, 403),
        ({"Authorization": f"Bearer {API_KEY}"}, 403),
    ],
)
async def test_an_api_key_is_a_header_or_the_user_of_basic(
    headers: dict[str, str], status: int
) -> None:
    async with gateway_world() as world:
        got = await world.ask("POST", EVENTS.format(SHOP.id), b"{}", **headers)
        assert status == got[0]
        assert (status == 202) == bool(world.api.calls)
        if status == 403:
            assert "ForbiddenException" == got[1]["x-amzn-errortype"]


async def test_an_open_app_takes_everybody_whatever_they_say_of_themselves() -> None:
    async with gateway_world() as world:
        for headers in ({}, {"Authorization": "AWS4-HMAC-SHA256 Credential=x"}, {"x_api_key": "x"}):
            got = await world.ask("POST", EVENTS.format(OPEN.id), b"{}", **headers)
            assert 202 == got[0]
        assert {OPEN.id} == {call.caller.id for _, call in world.api.calls}  # type: ignore[union-attr]


async def test_no_credentials_of_one_app_open_another() -> None:
    async with gateway_world() as world:
        for app in (SHOP.id, "other"):
            sent = signed(world, EVENTS.format(app))
            assert 403 == answer(await world.send(sent))[0]
        for app in (SIGNED.id, "other"):
            got = await world.ask("POST", EVENTS.format(app), b"{}", x_api_key=API_KEY)
            assert 403 == got[0]
        assert [] == world.api.calls


@pytest.mark.parametrize("app", ["nobody", "DEV", "dev%20", "%64ev%00", "dev%2F", ".."])
async def test_an_app_that_is_not_there_is_not_found(app: str) -> None:
    async with gateway_world() as world:
        status, headers, _ = await world.ask("POST", EVENTS.format(app), b"{}")
        assert (404, "NotFoundException") == (status, headers["x-amzn-errortype"])


async def test_an_encoded_letter_of_an_app_s_id_is_that_letter() -> None:
    async with gateway_world() as world:
        assert 202 == (await world.ask("POST", EVENTS.format("%64ev"), b"{}"))[0]


async def test_apps_are_listed_to_whom_they_are_open() -> None:
    async with gateway_world() as world:
        await world.ask("GET", "/v1/apps")
        await world.ask("GET", "/v1/apps", x_api_key=API_KEY)
        await world.ask("GET", "/v1/apps?page-size=10&token=a%20b", x_api_key="wrong")
        listed = [{app.id for app in call.apps} for _, call in world.api.calls]
        assert [{"dev"}, {"dev", SHOP.id}, {"dev"}] == listed
        assert {"page-size": "10", "token": "a b"} == world.api.calls[-1][1].query
        assert world.api.calls[-1][1].caller is None


async def test_without_an_open_app_none_is_listed_to_a_stranger() -> None:
    pinpoint = PinpointApi("t", (SHOP, SIGNED), "111122223333")
    async with gateway_world(pinpoint=pinpoint) as world:
        assert 403 == (await world.ask("GET", "/v1/apps"))[0]
        assert 200 < (await world.ask("GET", "/v1/apps", x_api_key=API_KEY))[0] < 300
        assert [SHOP] == list(world.api.calls[0][1].apps)


async def test_another_method_is_not_allowed_and_the_answer_says_which_are() -> None:
    async with gateway_world() as world:
        status, headers, _ = await world.ask("GET", EVENTS.format("dev"))
        assert (405, "MethodNotAllowedException") == (status, headers["x-amzn-errortype"])
        assert "POST" == headers["allow"]
        status, headers, _ = await world.ask("PATCH", "/v1/apps/dev/endpoints/e")
        assert (405, "PUT, GET, DELETE") == (status, headers["allow"])


# ---------------------------------------------------------------------- mParticle's API


async def test_an_input_is_known_by_key_and_secret() -> None:
    async with gateway_world() as world:
        got = await world.ask("POST", "/v2/events", b"{}", Authorization=f"Basic {BASIC}")
        assert 202 == got[0]
        assert INPUT == world.api.calls[0][1].caller


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        ("", 401),
        ("Bearer x", 401),
        ("Basic ???", 401),
        ("Basic " + base64.b64encode(b"no-colon").decode(), 401),
        (basic("us1-abc", "wrong"), 403),
        (basic("us1-abc", ""), 403),
        (basic("unknown", "mp-secret"), 403),
        (basic("unknown", ""), 403),
    ],
)
async def test_without_credentials_it_is_401_and_with_wrong_ones_403(
    authorization: str, status: int
) -> None:
    async with gateway_world() as world:
        got = await world.ask("POST", "/v2/bulkevents", b"[]", Authorization=authorization)
        assert status == got[0]
        assert (status == 401) == ("www-authenticate" in got[1])
        assert {"code", "message"} == orjson.loads(got[2])["errors"][0].keys()
        assert "x-amzn-errortype" not in got[1]


async def test_an_input_without_a_secret_is_no_way_in() -> None:
    events = EventsApi("t", (EventsApiInput("us1-abc", "s"),))
    async with gateway_world(events=events) as world:
        got = await world.ask("POST", "/v2/events", b"{}", Authorization=basic("", ""))
        assert 403 == got[0]


# ---------------------------------------------------------------------- browsers


async def test_a_page_of_a_configured_origin_may_send() -> None:
    async with gateway_world() as world:
        path, origin = EVENTS.format(SHOP.id), "https://shop.example"
        asked = {
            "Origin": origin,
            "Access_Control_Request_Method": "POST",
            "Access_Control_Request_Headers": "authorization,content-type,x-amz-date",
        }
        status, headers, body = await world.ask("OPTIONS", path, b"", **asked)
        assert (204, origin, b"") == (status, headers["access-control-allow-origin"], body)
        assert "POST" == headers["access-control-allow-methods"]
        assert "content-length" not in headers
        for name in [
            "authorization",
            "content-type",
            "x-amz-date",
            "x-amz-security-token",
            "x-amz-user-agent",
            "amz-sdk-invocation-id",
            "amz-sdk-request",
            "x-api-key",
        ]:
            assert name in REQUEST_HEADERS.split(", ")
        status, headers, _ = await world.ask("POST", path, b"{}", Origin=origin, x_api_key=API_KEY)
        assert (202, origin) == (status, headers["access-control-allow-origin"])


@pytest.mark.parametrize(
    ("key", "body", "status"), [("wrong", b"{}", 403), (API_KEY, b"x" * 5_000_000, 413)]
)
async def test_a_page_can_read_why_it_was_refused(key: str, body: bytes, status: int) -> None:
    async with gateway_world() as world:
        origin = "https://shop.example"
        path = EVENTS.format(SHOP.id)
        got = await world.ask("POST", path, body, Origin=origin, x_api_key=key)
        assert (status, origin) == (got[0], got[1]["access-control-allow-origin"])
        assert "x-amzn-errortype" in got[1]["access-control-expose-headers"]


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "https://shop.example.evil"])
async def test_a_page_of_another_origin_may_not(origin: str) -> None:
    async with gateway_world() as world:
        path = EVENTS.format(SHOP.id)
        status, headers, _ = await world.ask("OPTIONS", path, Origin=origin)
        assert 403 == status
        assert "access-control-allow-origin" not in headers
        _, headers, _ = await world.ask("POST", path, b"{}", Origin=origin, x_api_key=API_KEY)
        assert "access-control-allow-origin" not in headers


async def test_any_origin_is_written_as_such_and_never_echoed() -> None:
    pinpoint = PinpointApi("t", (App("any", AppAuth.NONE, origins=("*",)),), "111122223333")
    async with gateway_world(pinpoint=pinpoint) as world:
        _, headers, _ = await world.ask("OPTIONS", "/v1/apps/any", Origin="https://x.example")
        assert "*" == headers["access-control-allow-origin"]


async def test_mparticle_s_api_is_for_servers() -> None:
    async with gateway_world() as world:
        status, headers, _ = await world.ask("OPTIONS", "/v2/events", Origin="https://shop.example")
        assert 405 == status
        assert "access-control-allow-origin" not in headers


# ---------------------------------------------------------------------- operations' own words


async def test_an_error_of_an_operation_is_told_in_its_api_s_words() -> None:
    async with gateway_world() as world:
        world.api.error = ApiError(400, "BadRequestException", "No.", {"X-More": "1"})
        status, headers, body = await world.ask("POST", EVENTS.format("dev"), b"{}")
        assert (400, "1", "No.") == (status, headers["x-more"], orjson.loads(body)["Message"])
        world.api.error = ApiError(503, "", "Later.", {"Retry-After": "7"})
        auth = f"Basic {BASIC}"
        status, headers, body = await world.ask("POST", "/v2/events", b"{}", Authorization=auth)
        assert (503, "7") == (status, headers["retry-after"])
        assert "Later." == orjson.loads(body)["errors"][0]["message"]


async def test_a_fault_of_an_operation_is_500_and_a_line_of_the_log() -> None:
    async with gateway_world() as world:
        world.api.error = KeyError("with a secret")
        with capture_logs() as logs:
            got = [await world.ask("POST", EVENTS.format("dev"), b"{}") for _ in range(3)]
        assert {500} == {one[0] for one in got}
        assert "InternalServerErrorException" == got[0][1]["x-amzn-errortype"]
        assert b"secret" not in got[0][2]
        assert ["request.failed"] == [
            line["event"] for line in logs if line["log_level"] == "error"
        ]


async def test_no_secret_is_logged_whatever_is_refused() -> None:
    async with gateway_world() as world:
        with capture_logs() as logs:
            await world.ask("POST", EVENTS.format(SHOP.id), b"{}", x_api_key="s3cret-key")
            await world.ask("POST", "/v2/events", b"{}", Authorization=basic("s3cret", "s3cret"))
            await world.send(signed(world, EVENTS.format(SIGNED.id), keys=(KEY_ID, "s3cret")))
            await world.ask("GET", "/v1/apps/s3cret")
        assert logs
        assert "s3cret" not in repr(logs)
        assert all("s3cret" not in repr(line) for line in logs)


async def test_every_answer_has_a_date_and_an_id_of_its_own() -> None:
    async with gateway_world() as world:
        got = [await world.ask("POST", EVENTS.format("dev"), b"{}") for _ in range(3)]
        assert 3 == len({headers["x-amzn-requestid"] for _, headers, _ in got})
        assert [call.request_id for _, call in world.api.calls] == [
            headers["x-amzn-requestid"] for _, headers, _ in got
        ]
        assert time.strftime("%a, %d %b %Y", time.gmtime()) in got[0][1]["date"]


async def test_requests_are_counted_by_operation_and_status() -> None:
    async with gateway_world() as world:
        world.api.reply = ApiReply(200, b"{}")
        await world.ask("POST", EVENTS.format("dev"), b"{}")
        await world.ask("GET", "/nothing")

        def value(name: str, **labels: Any) -> float | None:  # noqa: ANN401  # labels are texts
            return world.metrics.registry.get_sample_value(f"forwarder_gateway_{name}", labels)

        assert 1 == value("requests_total", operation="PutEvents", status="200")
        assert 1 == value("requests_total", operation="none", status="404")
        assert 2 == value("request_bytes_total", operation="PutEvents")
        assert 1 == value("answer_seconds_count", operation="PutEvents")
        assert 1 == world.refusals("route")


def test_a_request_s_id_is_a_uuid() -> None:
    assert "00000000-0000-4000-a000-000000000000" == new_request_id(lambda _: 0)
    assert "ffffffff-ffff-4fff-afff-ffffffffffff" == new_request_id(lambda n: 2**n - 1)
