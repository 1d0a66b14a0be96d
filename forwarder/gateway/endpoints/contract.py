"""The seam between the Pinpoint API and where endpoints are kept.

An endpoint is kept as the JSON object that GetEndpoint answers (EndpointResponse of the service
model), server keys included. One contract suite, ``tests/contract/test_endpoint_stores.py``, judges
every store.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from forwarder.errors import ForwarderError

MOST_OF_USER = 1_000
"""Endpoints of one user that an answer holds. A user may have any number of them, such as one that
stands for everybody who is not logged in; an answer has to fit into memory."""


class StoreError(ForwarderError):
    """The store did not answer, or not in time; nothing is known of what it did.

    ``lasting``: it lasts until somebody does what the remedy says. The text holds no secret and
    nothing of an endpoint.
    """


class EndpointUpdate(msgspec.Struct, frozen=True, gc=False):
    """What a request says of an endpoint: members of an EndpointRequest, validated already.

    Empty: nothing but that the endpoint exists. ``arrival_ms`` dates what is new (CreationDate),
    and the update itself where it names no EffectiveDate. ``RequestId`` is in it only where the
    client sent one: another one is a change that has to be stored.
    """

    given: Mapping[str, Any]
    arrival_ms: int


class Merged(msgspec.Struct, frozen=True, gc=False):
    """What became of an update.

    ``endpoint``: the endpoint as JSON, after the update or as it was; b"" where an update was
    refused of an endpoint that there is not. ``changed``: whether it had to be stored. ``fault``:
    why the update was refused (a limit that the whole would pass); "": it was not.
    """

    endpoint: bytes
    changed: bool
    fault: str = ""


Merge = Callable[[str, str, bytes | None, EndpointUpdate], Merged]
"""Merges an update of (app id, endpoint id) into what is stored, None: nothing. Pure."""


class EndpointStore(Protocol):
    """Keeps endpoints by app and endpoint id. Caller: operations of the Pinpoint API.

    Every method but ``close`` raises StoreError where the store is down, and comes back by itself
    once it is up. No endpoint of one app is ever seen under another. A change that was answered is
    durable. A caller that is cancelled cancels nothing: what it asked for may be done or not.
    """

    async def merge(self, app: str, updates: Mapping[str, EndpointUpdate]) -> dict[str, Merged]:
        """Merge updates by endpoint id, all read in one round trip; return what each became.

        No concurrent merge of the same endpoint, by this process or another, is lost; no endpoint
        that was deleted meanwhile comes back with what it was.
        """

    async def read(self, app: str, endpoint: str) -> bytes | None:
        """Return an endpoint; None: there is none."""

    async def delete(self, app: str, endpoint: str) -> bytes | None:
        """Delete an endpoint and return what it was; None: there was none."""

    async def read_user(self, app: str, user: str) -> Sequence[bytes]:
        """Return the endpoints whose ``User.UserId`` this is, ``MOST_OF_USER`` at most."""

    async def delete_user(self, app: str, user: str) -> Sequence[bytes]:
        """Delete all endpoints of a user; return what they were, ``MOST_OF_USER`` at most."""

    async def check(self) -> None:
        """Return if the store answers and can be written to; raises StoreError.

        Caller: readiness, once a few seconds.
        """

    async def close(self) -> None:
        """Let go of what is open; called once, at the end."""
