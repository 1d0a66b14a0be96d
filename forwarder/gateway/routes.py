"""Which operation a path and a method mean. Paths are compared as received, percent-encoded."""

import re
from collections.abc import Mapping, Sequence
from enum import Enum
from urllib.parse import unquote

import msgspec

from forwarder.gateway.contract import Action

UPLOAD_BYTES = 256 * 1024
"""Most bytes of one mParticle upload (their docs, "Default Service Limits")."""


_CONTROL = re.compile("[\x00-\x1f\x7f]")


class Api(Enum):
    """Whose API a path belongs to."""

    PINPOINT = "pinpoint"
    MPARTICLE = "mparticle"


class ApiRoute(msgspec.Struct, frozen=True, gc=False):
    """One path of an API, and what each method means there.

    ``path``: its parts, those in braces stand for any text. ``any_content``: bodies of any content
    type are read. ``most``: bytes of a body, None: as many as ``limits.request_bytes``.
    """

    api: Api
    path: tuple[str, ...]
    actions: Mapping[str, Action]
    any_content: bool = False
    most: int | None = None


class FoundRoute(msgspec.Struct, frozen=True, gc=False):
    """A route, and the percent-decoded text of each of its parameters."""

    route: ApiRoute
    parameters: Mapping[str, str]


def _pinpoint(path: str, *, any_content: bool = False, **actions: Action) -> ApiRoute:
    return ApiRoute(Api.PINPOINT, tuple(path.split("/")), actions, any_content)


ROUTES = (
    _pinpoint("v1/apps/{app}/events", POST=Action.PUT_EVENTS),
    # Browsers send beacons to it, which choose their content type themselves.
    _pinpoint("v1/apps/{app}/events/legacy", any_content=True, POST=Action.PUT_EVENTS),
    _pinpoint(
        "v1/apps/{app}/endpoints/{endpoint}",
        PUT=Action.UPDATE_ENDPOINT,
        GET=Action.GET_ENDPOINT,
        DELETE=Action.DELETE_ENDPOINT,
    ),
    _pinpoint("v1/apps/{app}/endpoints", PUT=Action.UPDATE_ENDPOINTS),
    _pinpoint("v1/apps/{app}/users/{user}", GET=Action.GET_USER, DELETE=Action.DELETE_USER),
    _pinpoint(
        "v1/apps/{app}/eventstream",
        GET=Action.GET_EVENT_STREAM,
        POST=Action.PUT_EVENT_STREAM,
        DELETE=Action.DELETE_EVENT_STREAM,
    ),
    _pinpoint("v1/apps/{app}", GET=Action.GET_APP),
    _pinpoint("v1/apps", GET=Action.GET_APPS),
    ApiRoute(Api.MPARTICLE, ("v2", "events"), {"POST": Action.UPLOAD}, most=UPLOAD_BYTES),
    ApiRoute(Api.MPARTICLE, ("v2", "bulkevents"), {"POST": Action.BULK_UPLOAD}),
)
"""Every path there is."""


class RouteTable:
    """Finds routes among those of the APIs that are configured."""

    def __init__(self, apis: Sequence[Api]) -> None:
        """Create."""
        self._by_length: dict[
            int, list[tuple[ApiRoute, list[tuple[int, str]], list[tuple[int, str]]]]
        ]
        self._by_length = {}
        for route in ROUTES:
            if route.api in apis:
                parts = list(enumerate(route.path, start=1))
                fixed = [(at, part) for at, part in parts if part[0] != "{"]
                open_ones = [(at, part[1:-1]) for at, part in parts if part[0] == "{"]
                known = self._by_length.setdefault(len(route.path) + 1, [])
                known.append((route, fixed, open_ones))

    def find(self, path: str) -> FoundRoute | None:
        """Return what a path (without its query) means; None: nothing.

        One slash may stand behind it. A parameter is decoded once, and is any text but none, a
        slash that is encoded and dots included; what is no UTF-8 then, or holds control
        characters, is nothing.
        """
        parts = path.split("/")
        if len(parts) > 2 and not parts[-1]:  # noqa: PLR2004  # more than the root
            parts.pop()
        for route, fixed, open_ones in self._by_length.get(len(parts), ()):
            if all(parts[at] == part for at, part in fixed):
                parameters = {name: _decoded(parts[at]) for at, name in open_ones}
                return FoundRoute(route, parameters) if all(parameters.values()) else None
        return None


def _decoded(part: str) -> str:
    """Return a part of a path decoded, or nothing where it is no text."""
    if "%" not in part:
        return part
    try:
        text = unquote(part, errors="strict")
    except UnicodeDecodeError:
        return ""
    return "" if _CONTROL.search(text) else text
