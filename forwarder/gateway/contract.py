"""The seam between HTTP and the APIs: what an operation is called with, and what it answers.

``http`` reads requests within their bounds, ``auth`` finds who calls, ``routes`` which operation is
meant. An operation knows nothing of sockets, signatures and CORS, and answers an ``ApiReply`` or
raises an ``ApiError``, which the API's own dialect makes a reply of.
"""

from collections.abc import Awaitable, Callable, Mapping

import msgspec

from forwarder.config.gateway import App, EventsApiInput
from forwarder.errors import ForwarderError


class ApiCall(msgspec.Struct, frozen=True, gc=False):
    """A request whose caller is known. Made by ``http``, given to one operation.

    ``caller``: the app, or the input, that the request was found to be allowed for: the only source
    of an app's id or an API key in what is written. None for operations that list what there is.
    ``parameters``: the percent-decoded parts of the path. ``body``: decompressed, within
    ``limits.request_bytes``. ``arrival_ms``: wall clock when its head was read. ``request_id``: a
    UUID as text, echoed in replies and logs.
    """

    caller: App | EventsApiInput | None
    parameters: Mapping[str, str]
    body: bytes
    arrival_ms: int
    request_id: str


class ApiReply(msgspec.Struct, frozen=True, gc=False):
    """What is answered; ``body`` is JSON or empty."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = {}


Operation = Callable[[ApiCall], Awaitable[ApiReply]]
"""One operation of an API. Raises ApiError for what is wrong with the request as a whole."""


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
