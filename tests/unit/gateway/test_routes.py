from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.gateway.contract import Action
from forwarder.gateway.routes import ROUTES, Api, RouteTable
from forwarder.ops.gateway_catalogue import NO_OPERATION, OPERATIONS

TABLE = RouteTable(tuple(Api))


def found(path: str) -> tuple[dict[str, Action], dict[str, str]] | None:
    one = TABLE.find(path)
    return None if one is None else (dict(one.route.actions), dict(one.parameters))


@pytest.mark.parametrize(
    ("path", "actions", "parameters"),
    [
        ("/v1/apps", {"GET": Action.GET_APPS}, {}),
        ("/v1/apps/a", {"GET": Action.GET_APP}, {"app": "a"}),
        ("/v1/apps/a/events", {"POST": Action.PUT_EVENTS}, {"app": "a"}),
        ("/v1/apps/a/events/legacy", {"POST": Action.PUT_EVENTS}, {"app": "a"}),
        ("/v1/apps/a/endpoints", {"PUT": Action.UPDATE_ENDPOINTS}, {"app": "a"}),
        (
            "/v1/apps/a/endpoints/e",
            {
                "PUT": Action.UPDATE_ENDPOINT,
                "GET": Action.GET_ENDPOINT,
                "DELETE": Action.DELETE_ENDPOINT,
            },
            {"app": "a", "endpoint": "e"},
        ),
        (
            "/v1/apps/a/users/u",
            {"GET": Action.GET_USER, "DELETE": Action.DELETE_USER},
            {"app": "a", "user": "u"},
        ),
        (
            "/v1/apps/a/eventstream",
            {
                "GET": Action.GET_EVENT_STREAM,
                "POST": Action.PUT_EVENT_STREAM,
                "DELETE": Action.DELETE_EVENT_STREAM,
            },
            {"app": "a"},
        ),
        ("/v2/events", {"POST": Action.UPLOAD}, {}),
        ("/v2/bulkevents", {"POST": Action.BULK_UPLOAD}, {}),
    ],
)
def test_every_path_means_what_it_means_with_a_slash_behind_it_too(
    path: str, actions: dict[str, Action], parameters: dict[str, str]
) -> None:
    assert (actions, parameters) == found(path)
    assert (actions, parameters) == found(f"{path}/")
    assert found(f"{path}//") is None
    assert found(path[1:]) is None
    assert found(f"/{path}") is None
    assert found(path.upper()) is None


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "//",
        "*",
        "/v1",
        "/v3/apps",
        "/v1/apps//events",
        "/v1/apps/a/endpoints//",
        "/v1/apps/a/users",
        "/v1/apps/a/events/other",
        "/v1/apps/a/b/c/d/e/f",
        "/v1/%61pps/a",
        "/v1/apps/a/events%2Flegacy",
        "/v1/apps/./a",
        "/v1/../v1/apps/a",
        "/v1/apps/%ff",
        "/v1/apps/%00",
        "/v1/apps/a/endpoints/%0A",
        "/v1/apps/a/endpoints/%C3",
    ],
)
def test_other_paths_mean_nothing(path: str) -> None:
    assert found(path) is None


@pytest.mark.parametrize(
    ("part", "text"),
    [
        ("e%2F1", "e/1"),
        ("%2E%2E", ".."),
        ("..", ".."),
        (".", "."),
        ("%252F", "%2F"),
        ("%25", "%"),
        ("%zz", "%zz"),
        ("a+b", "a+b"),
        ("%C3%BC", "ü"),
        ("%F0%9F%98%80", "😀"),
        ("%20", " "),
        (";v=1", ";v=1"),
    ],
)
def test_a_part_is_decoded_once_and_is_plain_text(part: str, text: str) -> None:
    assert found(f"/v1/apps/a/endpoints/{part}") == (
        dict(ROUTES[2].actions),
        {"app": "a", "endpoint": text},
    )


@given(st.text(st.characters(min_codepoint=0x20, exclude_categories=["Cs", "Cc"]), min_size=1))
def test_what_a_client_encodes_comes_back(text: str) -> None:
    answer = found(f"/v1/apps/a/users/{quote(text, safe='')}")
    assert answer is not None
    assert {"app": "a", "user": text} == answer[1]


def test_an_api_that_is_not_configured_has_no_paths() -> None:
    assert RouteTable([Api.PINPOINT]).find("/v2/events") is None
    assert RouteTable([Api.MPARTICLE]).find("/v1/apps") is None


def test_metrics_know_every_action() -> None:
    assert {*Action, NO_OPERATION} == set(OPERATIONS)
    assert set(Action) == {action for route in ROUTES for action in route.actions.values()}
