"""A request's way between its connection and its operation, in the order of the functions.

``admit`` judges the head: route, method, origin, credentials, kind and size of the body. What it
refuses costs no body. ``carry_out`` proves the signature, inflates, and calls the operation.
"""

import random
import zlib
from collections.abc import Callable, Mapping
from urllib.parse import parse_qsl

import msgspec
import structlog

from forwarder import retry
from forwarder.clock import Clock
from forwarder.config.gateway import App, GatewayLimits
from forwarder.gateway import cors, dialects
from forwarder.gateway.auth import Admission, Authenticator
from forwarder.gateway.contract import (
    Action,
    ApiCall,
    ApiError,
    ApiReply,
    Operations,
)
from forwarder.gateway.http_head import RequestHead
from forwarder.gateway.load import RequestLoad
from forwarder.gateway.routes import Api, FoundRoute, RouteTable
from forwarder.gateway.sigv4_check import SIGNATURE_QUERY
from forwarder.ops.gateway_catalogue import NO_OPERATION, Refusal
from forwarder.ops.gateway_metrics import GatewayMetrics

log = structlog.get_logger()

JSON_TYPES = frozenset(
    {"application/json", "application/x-amz-json-1.0", "application/x-amz-json-1.1"}
)
"""Content types that are read; a body without one is, too. ``text/plain`` and what forms have are
not: browsers send those to anybody without asking first."""

GZIP_WINDOW = 31
"""What zlib calls a gzip member of any window."""


class Admitted(msgspec.Struct, frozen=True, gc=False):
    """A request whose body may come. Made by ``admit``, given to ``carry_out``.

    ``most``: bytes that its body may have, as it comes and inflated. ``headers``: what is added to
    its answer.
    """

    head: RequestHead
    found: FoundRoute
    action: Action
    admission: Admission
    most: int
    gzip: bool
    headers: Mapping[str, str]
    request_id: str


class ApiService:
    """Judges heads and carries out requests. One for a gateway. Caller: its connections."""

    def __init__(  # noqa: PLR0913  # what it works with, each given once
        self,
        *,
        routes: RouteTable,
        apps: Mapping[str, App],
        authenticator: Authenticator,
        operations: Operations,
        limits: GatewayLimits,
        load: RequestLoad,
        metrics: GatewayMetrics,
        clock: Clock,
    ) -> None:
        """Create; ``apps``: by their ids."""
        self._routes = routes
        self._apps = apps
        self._authenticator = authenticator
        self._operations = operations
        self._limits = limits
        self._load = load
        self._metrics = metrics
        self._clock = clock
        self._repeats = retry.RepeatSuppressor(retry.LOG_REPEAT_SECONDS)

    # ------------------------------------------------------------------ the head

    def admit(self, head: RequestHead) -> Admitted | ApiReply:
        """Judge a head; return what is to be answered at once, or what waits for its body."""
        request_id = new_request_id()
        api = Api.MPARTICLE if head.path.startswith("/v2/") else Api.PINPOINT
        headers: Mapping[str, str] = {}
        operation = NO_OPERATION
        try:
            found = self._found(head)
            app = self._app(found)
            if app is not None:
                origin = head.header.get("Origin")
                headers = cors.answer_headers(app, origin)
                if head.method == "OPTIONS":
                    return self._preflight(app, found, origin, request_id)
            operation = action = self._action(found, head)
            admission = self._credentials(found, app, head)
            most = min(found.route.most or self._limits.request_bytes, self._limits.request_bytes)
            gzip = _judge_body(head, most, any_content=found.route.any_content)
        except _RequestRefused as refused:
            self._metrics.refused(refused.reason)
            return self._refusal(refused, api, operation, headers, request_id)
        return Admitted(head, found, action, admission, most, gzip, headers, request_id)

    def refuse(self, admitted: Admitted, reason: Refusal) -> ApiReply:
        """Return the answer to a request whose body came too large, too slowly or to no room."""
        self._metrics.refused(reason)
        error = {
            Refusal.BODY_SIZE: ApiError(413, "", _too_large(admitted.most)),
            Refusal.BODY_TIME: ApiError(408, "", "the body did not come in time"),
            Refusal.MEMORY: ApiError(429, "", "too much is being received, come again"),
            Refusal.MALFORMED: ApiError(400, "", "the body is not as HTTP has it"),
        }[reason]
        refused = _RequestRefused(reason, error)
        api = admitted.found.route.api
        return self._refusal(refused, api, admitted.action, admitted.headers, admitted.request_id)

    def refuse_head(self, status: int, reason: Refusal, text: str) -> ApiReply:
        """Return the answer to what is no request, or too large or slow to become one."""
        self._metrics.refused(reason)
        refused = _RequestRefused(reason, ApiError(status, "", text))
        return self._refusal(refused, Api.PINPOINT, NO_OPERATION, {}, new_request_id())

    def _found(self, head: RequestHead) -> FoundRoute:
        found = self._routes.find(head.path)
        if found is None:
            raise _RequestRefused(Refusal.ROUTE, ApiError(404, "", "there is nothing at this path"))
        return found

    def _action(self, found: FoundRoute, head: RequestHead) -> Action:
        action = found.route.actions.get(head.method)
        if action is None or action not in self._operations.carry_out:
            allowed = {"Allow": ", ".join(found.route.actions)}
            error = ApiError(405, "", f"{head.method} means nothing here", allowed)
            raise _RequestRefused(Refusal.ROUTE, error)
        return action

    def _app(self, found: FoundRoute) -> App | None:
        """Return the app that a path names, None where it names none."""
        name = found.parameters.get("app")
        if name is None:
            return None
        app = self._apps.get(name)
        if app is None:
            raise _RequestRefused(Refusal.ROUTE, ApiError(404, "", "there is no such app here"))
        return app

    def _credentials(self, found: FoundRoute, app: App | None, head: RequestHead) -> Admission:
        if head.header.get("Authorization") is not None and _is_repeated(head):
            error = ApiError(400, "", "there is more than one Authorization")
            raise _RequestRefused(Refusal.MALFORMED, error)
        try:
            if found.route.api is Api.MPARTICLE:
                return self._authenticator.admit_input(head)
            if app is not None:
                return self._authenticator.admit(app, head, head.arrival_ms)
            return self._authenticator.admit_to_list(head, head.arrival_ms)
        except ApiError as error:
            raise _RequestRefused(Refusal.CREDENTIALS, error) from error

    def _preflight(
        self, app: App, found: FoundRoute, origin: str | None, request_id: str
    ) -> ApiReply:
        reply = cors.preflight(app, origin, tuple(found.route.actions))
        if reply is None:
            error = ApiError(403, "", "this origin is not among those of the app")
            raise _RequestRefused(Refusal.CREDENTIALS, error)
        self._metrics.answered_early(NO_OPERATION, reply.status)
        return with_headers(reply, {}, request_id)

    def _refusal(
        self,
        refused: "_RequestRefused",
        api: Api,
        operation: str,
        headers: Mapping[str, str],
        request_id: str,
    ) -> ApiReply:
        error = refused.error
        if self._repeats.register(f"{refused.reason} {operation}", self._clock.steady()):
            log.info(
                "request.refused",
                reason=refused.reason,
                operation=operation,
                status=error.status,
                error=error.message,
                request_id=request_id,
            )
        self._metrics.answered_early(operation, error.status)
        return with_headers(dialects.error_reply(api, error, request_id), headers, request_id)

    # ------------------------------------------------------------------ with its body

    async def carry_out(self, admitted: Admitted, body: bytes) -> ApiReply:
        """Answer a request whose body, as it came, is there. Raises nothing."""
        began = self._clock.steady()
        inflated = 0
        try:
            call, inflated = self._call(admitted, body)
            if self._load.begin():
                try:
                    reply = await self._operations.carry_out[admitted.action](call)
                finally:
                    self._load.end()
            else:
                self._metrics.refused(Refusal.BUSY)
                reply = self._busy(admitted, call)
        except ApiError as error:
            reply = dialects.error_reply(admitted.found.route.api, error, admitted.request_id)
        except Exception as error:
            if self._repeats.register(type(error).__name__, self._clock.steady()):
                log.exception(
                    "request.failed", operation=admitted.action, request_id=admitted.request_id
                )
            fault = ApiError(500, "", "a fault of the gateway: see request.failed in its log")
            reply = dialects.error_reply(admitted.found.route.api, fault, admitted.request_id)
        finally:
            self._load.give_back(inflated)
        seconds = self._clock.steady() - began
        self._metrics.answered(admitted.action, reply.status, len(body), seconds)
        return with_headers(reply, admitted.headers, admitted.request_id)

    def _call(self, admitted: Admitted, body: bytes) -> tuple[ApiCall, int]:
        """Return what the operation is called with, and the bytes it holds beside the body."""
        head = admitted.head
        try:
            proved = self._authenticator.prove(admitted.admission, head, body)
        except ApiError:
            self._metrics.refused(Refusal.CREDENTIALS)
            raise
        inflated = 0
        if admitted.gzip:
            body = self._inflated(body, admitted.most)
            inflated = len(body)
        call = ApiCall(
            proved.caller,
            admitted.found.parameters,
            body,
            head.arrival_ms,
            admitted.request_id,
            _query(head.query),
            proved.apps,
        )
        return call, inflated

    def _inflated(self, body: bytes, most: int) -> bytes:
        """Return what a body was before it was compressed, counted as held; raises ApiError."""
        try:
            content = inflate(body, most)
        except ValueError as error:
            self._metrics.refused(Refusal.CONTENT)
            raise ApiError(400, "", f"the body is not gzip: {error}") from error
        if content is None:
            self._metrics.refused(Refusal.BODY_SIZE)
            raise ApiError(413, "", _too_large(most))
        if not self._load.take(len(content)):
            self._metrics.refused(Refusal.MEMORY)
            raise ApiError(429, "", "too much is being received, come again")
        return content

    def _busy(self, admitted: Admitted, call: ApiCall) -> ApiReply:
        answer = self._operations.busy.get(admitted.action)
        if answer is None:
            raise ApiError(429, "", "too many requests are under way, come again")
        return answer(call)


class _RequestRefused(Exception):  # noqa: N818  # control flow within this module
    """A request that no operation is to see."""

    def __init__(self, reason: Refusal, error: ApiError) -> None:
        super().__init__(reason)
        self.reason = reason
        self.error = error


def new_request_id(bits: Callable[[int], int] = random.getrandbits) -> str:
    """Return a random UUID (RFC 9562, version 4) as text: nothing rests on nobody guessing it."""
    text = f"{bits(128):032x}"
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"


def inflate(body: bytes, most: int) -> bytes | None:
    """Return the content of a gzip member; None: it is larger than ``most`` bytes.

    No more than that is ever inflated. Raises ValueError if the body is no gzip, or not one member.
    """
    member = zlib.decompressobj(GZIP_WINDOW)
    try:
        content = member.decompress(body, most + 1)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if len(content) > most:
        return None
    if not member.eof or member.unused_data:
        what = "it is not one whole member"
        raise ValueError(what)
    return content


def with_headers(reply: ApiReply, headers: Mapping[str, str], request_id: str) -> ApiReply:
    """Return an answer with further headers, the request's id among them."""
    return ApiReply(
        reply.status,
        reply.body,
        {**reply.headers, **headers, "x-amzn-RequestId": request_id},
    )


def _judge_body(head: RequestHead, most: int, *, any_content: bool) -> bool:
    """Tell whether a body comes as gzip; raises _RequestRefused if it is none that is read."""
    if head.length is not None and head.length > most:
        raise _RequestRefused(Refusal.BODY_SIZE, ApiError(413, "", _too_large(most)))
    if head.length == 0:
        return False
    kind = head.header.get("Content-Type")
    if kind is not None and not any_content:
        name, _, rest = kind.partition(";")
        charset = rest.lower().replace(" ", "").replace('"', "")
        if name.strip().lower() not in JSON_TYPES or charset not in {"", "charset=utf-8"}:
            text = "the content type has to be application/json, in UTF-8"
            raise _RequestRefused(Refusal.CONTENT, ApiError(400, "", text))
    encoding = head.header.get("Content-Encoding", "").strip().lower()
    if encoding not in {"", "identity", "gzip"}:
        text = "of content encodings only gzip is read"
        raise _RequestRefused(Refusal.CONTENT, ApiError(400, "", text))
    return encoding == "gzip"


def _too_large(most: int) -> str:
    return f"a request may have {most} bytes at most"


def _is_repeated(head: RequestHead) -> bool:
    return sum(name.lower() == b"authorization" for name, _ in head.fields) > 1


def _query(query: str) -> Mapping[str, str]:
    """Return what a query says, percent-decoded, signatures left out."""
    if not query:
        return {}
    pairs = parse_qsl(query, keep_blank_values=True)
    return {name: value for name, value in pairs if name not in SIGNATURE_QUERY}
