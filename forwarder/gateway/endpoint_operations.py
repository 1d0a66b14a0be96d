"""What Pinpoint's operations on endpoints and users do; bodies and statuses as the model has them.

None of them writes to Kafka: an update shows in the records of the events that come after it. What
is deleted is gone from the store; records that hold it stay as long as their topic and the streams
keep them.
"""

from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, TypeVar

from msgspec import Raw

from forwarder.config.gateway import GatewayLimits
from forwarder.formats import rawjson
from forwarder.formats.rawjson import ABSENT, JsonError, ShapeError
from forwarder.gateway.answers import app_of, bad_request, encode_json
from forwarder.gateway.contract import Action, ApiCall, ApiError, ApiReply, Operation
from forwarder.gateway.endpoints.contract import EndpointStore, EndpointUpdate, StoreError
from forwarder.gateway.validation import InvalidError, check_id, read_endpoint
from forwarder.ops.gateway_reporter import GatewayReporter

MAX_BATCH = 100
"""Endpoints of one UpdateEndpointsBatch (AWS, "Amazon Pinpoint API Reference")."""

_Answer = TypeVar("_Answer")


class EndpointOperations:
    """Operations on what the store keeps, of all apps."""

    def __init__(
        self, limits: GatewayLimits, store: EndpointStore, reporter: GatewayReporter
    ) -> None:
        """Create; the store is opened and closed by its owner."""
        self._limits = limits
        self._store = store
        self._reporter = reporter

    def by_action(self) -> dict[Action, Operation]:
        """Return the operations there are."""
        return {
            Action.UPDATE_ENDPOINT: self.update_endpoint,
            Action.UPDATE_ENDPOINTS: self.update_endpoints,
            Action.GET_ENDPOINT: self.get_endpoint,
            Action.DELETE_ENDPOINT: self.delete_endpoint,
            Action.GET_USER: self.get_user,
            Action.DELETE_USER: self.delete_user,
        }

    async def update_endpoint(self, call: ApiCall) -> ApiReply:
        """UpdateEndpoint: 202 once the update is stored."""
        app, endpoint = app_of(call), _parameter(call, "endpoint")
        given = self._read(_object(call.body), "")
        await self._merge(app, call.arrival_ms, [(endpoint, given)])
        return _accepted(call)

    async def update_endpoints(self, call: ApiCall) -> ApiReply:
        """UpdateEndpointsBatch: 202 once all are stored, 400 and none where one cannot be read."""
        app = app_of(call)
        try:
            elements = rawjson.elements(rawjson.fields(_object(call.body)).get("Item", ABSENT))
        except (ShapeError, JsonError):
            message = "Item is required, and should be a list of endpoints."
            raise bad_request(message) from None
        if len(elements) > MAX_BATCH:
            message = f"The number of endpoints in a request should be less than {MAX_BATCH}."
            raise bad_request(message)
        updates = [self._batch_entry(raw, place) for place, raw in enumerate(elements)]
        await self._merge(app, call.arrival_ms, updates)
        return _accepted(call)

    async def get_endpoint(self, call: ApiCall) -> ApiReply:
        """GetEndpoint: 200 with the endpoint."""
        app, endpoint = app_of(call), _parameter(call, "endpoint")
        return _found(200, await _of_store(self._store.read(app, endpoint)))

    async def delete_endpoint(self, call: ApiCall) -> ApiReply:
        """DeleteEndpoint: 202 with what it was."""
        app, endpoint = app_of(call), _parameter(call, "endpoint")
        return _found(202, await _of_store(self._store.delete(app, endpoint)))

    async def get_user(self, call: ApiCall) -> ApiReply:
        """GetUserEndpoints: 200 with all endpoints of a user."""
        app, user = app_of(call), _parameter(call, "user")
        return _listed(200, await _of_store(self._store.read_user(app, user)))

    async def delete_user(self, call: ApiCall) -> ApiReply:
        """DeleteUserEndpoints: 202 with what a user's endpoints were."""
        app, user = app_of(call), _parameter(call, "user")
        return _listed(202, await _of_store(self._store.delete_user(app, user)))

    def _batch_entry(self, raw: Raw, place: int) -> tuple[str, Mapping[str, Any]]:
        """Return id and members of one element of a batch; raises ApiError."""
        where = f"Item {place}: "
        try:
            endpoint = rawjson.text_of(bytes(rawjson.fields(raw).get("Id", ABSENT))) or ""
            check_id("Id", endpoint)
        except ShapeError:
            message = f"{where}should be an endpoint."
            raise bad_request(message) from None
        except InvalidError as error:
            message = f"{where}{error}"
            raise bad_request(message) from None
        return endpoint, self._read(bytes(raw), where)

    def _read(self, raw: bytes, where: str) -> Mapping[str, Any]:
        try:
            return read_endpoint(raw, self._limits)
        except InvalidError as error:
            message = f"{where}{error}"
            raise bad_request(message) from None

    async def _merge(
        self, app: str, arrival_ms: int, updates: Sequence[tuple[str, Mapping[str, Any]]]
    ) -> None:
        """Merge updates in their order, those of different endpoints together.

        Raises ApiError: 400 where one was refused by what it would become, which then has changed
        nothing, while the others are stored.
        """
        fault, refused = "", 0
        rest = list(updates)
        while rest:
            now: dict[str, EndpointUpdate] = {}
            later = []
            for endpoint, given in rest:
                if endpoint in now:
                    later.append((endpoint, given))
                else:
                    now[endpoint] = EndpointUpdate(given, arrival_ms)
            merged = await _of_store(self._store.merge(app, now))
            refusals = [became.fault for became in merged.values() if became.fault]
            fault, refused = next(iter(refusals), fault), refused + len(refusals)
            rest = later
        self._reporter.endpoints(app, accepted=len(updates) - refused, refused=refused)
        if fault:
            raise bad_request(fault)


async def _of_store(answer: Awaitable[_Answer]) -> _Answer:
    """Return what the store answers; raises ApiError where it does not."""
    try:
        return await answer
    except StoreError:
        text = "The endpoints cannot be reached, try again."
        raise ApiError(500, "InternalServerErrorException", text) from None


def _object(body: bytes) -> bytes:
    """Return a body that is a JSON object, without white space around it; raises ApiError."""
    body = rawjson.replace_halves(body.strip(b" \t\r\n"))
    try:
        if not body.isascii():
            body.decode()
        rawjson.fields(body)
    except (JsonError, ShapeError, UnicodeDecodeError):
        message = "The body is not a JSON object."
    except RecursionError:
        message = "The body is nested too deeply."
    else:
        return body
    raise bad_request(message)


def _parameter(call: ApiCall, name: str) -> str:
    """Return a part of the path that is an id; raises ApiError."""
    try:
        check_id(f"The {name} id", call.parameters[name])
    except InvalidError as error:
        raise bad_request(str(error)) from None
    return call.parameters[name]


def _accepted(call: ApiCall) -> ApiReply:
    return ApiReply(202, encode_json({"Message": "Accepted", "RequestID": call.request_id}))


def _found(status: int, endpoint: bytes | None) -> ApiReply:
    if endpoint is None:
        raise ApiError(404, "NotFoundException", "There is no such endpoint.")
    return ApiReply(status, endpoint)


def _listed(status: int, endpoints: Sequence[bytes]) -> ApiReply:
    if not endpoints:
        raise ApiError(404, "NotFoundException", "There is no endpoint of this user.")
    return ApiReply(status, b'{"Item":[%b]}' % b",".join(endpoints))
