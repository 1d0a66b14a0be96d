"""The seam between HTTP and the APIs: what an operation is called with, and what it answers.

``http`` reads requests within their bounds, ``auth`` finds who calls, ``routes`` which operation is
meant. An operation knows nothing of sockets, signatures and CORS, and answers an ``ApiReply`` or
raises an ``ApiError``, which the API's own dialect makes a reply of.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import StrEnum
from typing import Protocol

import msgspec

from forwarder.config.gateway import App, EventsApiInput
from forwarder.errors import ForwarderError


class Action(StrEnum):
    """What a request asks for: the name of an operation in its API's model, and in metrics."""

    PUT_EVENTS = "PutEvents"
    """``events/legacy`` as well."""
    UPDATE_ENDPOINT = "UpdateEndpoint"
    UPDATE_ENDPOINTS = "UpdateEndpointsBatch"
    GET_ENDPOINT = "GetEndpoint"
    DELETE_ENDPOINT = "DeleteEndpoint"
    GET_USER = "GetUserEndpoints"
    DELETE_USER = "DeleteUserEndpoints"
    GET_APPS = "GetApps"
    GET_APP = "GetApp"
    GET_EVENT_STREAM = "GetEventStream"
    PUT_EVENT_STREAM = "PutEventStream"
    DELETE_EVENT_STREAM = "DeleteEventStream"
    UPLOAD = "UploadEvents"
    """mParticle's ``/v2/events``."""
    BULK_UPLOAD = "BulkUploadEvents"


class ApiCall(msgspec.Struct, frozen=True, gc=False):
    """A request whose caller is known. Made by ``http``, given to one operation.

    ``caller``: the app, or the input, that the request was found to be allowed for: the only source
    of an app's id or an API key in what is written. None for operations that list what there is.
    ``apps``: with GetApps alone, the apps that the caller is allowed for.
    ``parameters``: the percent-decoded parts of the path: ``app``, ``endpoint``, ``user``, as far
    as the action's path has them. ``query``: what the query said, signatures left out. ``body``:
    decompressed, within ``limits.request_bytes``. ``arrival_ms``: wall clock when its head was
    read. ``request_id``: a UUID as text, echoed in replies and logs.
    """

    caller: App | EventsApiInput | None
    parameters: Mapping[str, str]
    body: bytes
    arrival_ms: int
    request_id: str
    query: Mapping[str, str] = {}
    apps: Sequence[App] = ()


class ApiReply(msgspec.Struct, frozen=True, gc=False):
    """What is answered; ``body`` is JSON or empty."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = {}


Operation = Callable[[ApiCall], Awaitable[ApiReply]]
"""One operation of an API. Raises ApiError for what is wrong with the request as a whole."""

AnswerBusy = Callable[[ApiCall], ApiReply]
"""What an operation answers where there is no room to carry it out: quick, and without effect.

May raise ApiError, as an operation does.
"""


class Operations(msgspec.Struct, frozen=True):
    """What an API offers. Made by its own module, called by ``http``.

    ``busy``: of actions that answer something better than 429 while too many requests are under
    way (PutEvents: 202 with 429 for each event). An action without an operation is 404.
    """

    carry_out: Mapping[Action, Operation]
    busy: Mapping[Action, AnswerBusy] = {}


class Dependency(Protocol):
    """What a gateway needs to be ready: a store, Kafka. Caller: readiness, every few seconds."""

    async def check(self) -> None:
        """Return if it answers; raises ForwarderError with what keeps it, and what to do."""


class ApiError(ForwarderError):
    """A request that is refused as a whole.

    ``status``: HTTP's. ``code``: the error's name in the API's model, such as
    ``BadRequestException``; of APIs without names empty. ``message``: what is wrong and what to do,
    without secrets or quoted input. ``headers``: such as Retry-After.
    """

    def __init__(
        self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers or {}
