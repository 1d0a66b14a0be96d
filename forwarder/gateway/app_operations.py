"""What Pinpoint's operations on apps and their event streams answer: what is configured.

An event stream is a connection that takes the app: it is read here and changed in its file.
"""

import re
from collections.abc import Mapping, Sequence

import msgspec

from forwarder.config import checks
from forwarder.config.aws_regions import find_partition
from forwarder.config.connection import Connection, Status
from forwarder.config.gateway import App, PinpointApi
from forwarder.config.targets import PINPOINT
from forwarder.errors import ConfigurationError
from forwarder.formats.pinpoint import timestamps
from forwarder.gateway.answers import app_of, bad_request, encode_json
from forwarder.gateway.contract import Action, ApiCall, ApiError, ApiReply, Operation
from forwarder.imports.connection_file import ImportOptions, connection_files
from forwarder.imports.event_stream import EventStream, destination_of

PAGE_SIZE = 100
"""Apps of a page where the caller names no size."""

DEFAULT_REGION = "us-east-1"
"""In the ARNs of apps, where no substitute host says which region they were in."""

_REGION = re.compile(r"pinpoint\.([a-z0-9-]+)\.amazonaws\.")
_PRODUCTION = "production"
_DIGITS = re.compile(r"[0-9]{1,6}")
"""A number that is asked for: more apps than that nobody has."""


class _WriteEventStream(msgspec.Struct, gc=False):
    RoleArn: str = ""
    DestinationStreamArn: str = ""


_read = msgspec.json.Decoder(_WriteEventStream).decode


class AppOperations:
    """Answers of what is configured; ``modified_ms``: when a connection's file last changed."""

    def __init__(
        self, api: PinpointApi, connections: Sequence[Connection], modified_ms: Mapping[str, int]
    ) -> None:
        """Create for the apps and connections there are."""
        self._api = api
        self._connections = connections
        self._modified_ms = modified_ms
        found = map(_REGION.match, api.substitute_hosts)
        self._region = next((match[1] for match in found if match), DEFAULT_REGION)

    def by_action(self) -> dict[Action, Operation]:
        """Return the operations there are."""
        return {
            Action.GET_APPS: self.get_apps,
            Action.GET_APP: self.get_app,
            Action.GET_EVENT_STREAM: self.get_event_stream,
            Action.PUT_EVENT_STREAM: self.put_event_stream,
            Action.DELETE_EVENT_STREAM: self.delete_event_stream,
        }

    async def get_apps(self, call: ApiCall) -> ApiReply:
        """GetApps: 200 with the apps that the caller may use, in pages where one is asked for."""
        size, start = call.query.get("page-size", str(PAGE_SIZE)), call.query.get("token", "0")
        if not (_DIGITS.fullmatch(size) and _DIGITS.fullmatch(start) and int(size)):
            message = "page-size should be a number, and token the NextToken of the page before."
            raise bad_request(message)
        end = int(start) + int(size)
        answer: dict[str, object] = {"Item": list(map(self._app, call.apps[int(start) : end]))}
        if end < len(call.apps):
            answer["NextToken"] = str(end)
        return ApiReply(200, encode_json(answer))

    async def get_app(self, call: ApiCall) -> ApiReply:
        """GetApp: 200 with the app."""
        app_of(call)
        assert isinstance(call.caller, App)  # noqa: S101  # told by the line before
        return ApiReply(200, encode_json(self._app(call.caller)))

    async def get_event_stream(self, call: ApiCall) -> ApiReply:
        """GetEventStream: 200 with the first stream that the app's events go to."""
        app = app_of(call)
        connection = self._stream_of(app)
        if connection is None:
            message = "No connection takes the events of this app into a stream of AWS."
            raise ApiError(404, "NotFoundException", message)
        role = connection.credentials.role
        partition = find_partition(connection.sink.region)
        account = connection.sink.account or (role.account if role else self._api.account_id)
        changed = self._modified_ms.get(connection.name, 0)
        answer = {
            "ApplicationId": app,
            "DestinationStreamArn": connection.sink.resource(
                partition.name if partition else "aws", account
            ),
            "LastModifiedDate": timestamps.iso(changed),
            "LastUpdatedBy": connection.name,
            "RoleArn": role.role_arn if role else "",
        }
        return ApiReply(200, encode_json(answer))

    async def put_event_stream(self, call: ApiCall) -> ApiReply:
        """PutEventStream: 405 that says what to add to the configuration."""
        app = app_of(call)
        try:
            wanted = _read(call.body or b"{}")
        except (msgspec.DecodeError, RecursionError):
            message = "The body should be a WriteEventStream."
            raise bad_request(message) from None
        try:
            destination = destination_of(wanted.DestinationStreamArn, "DestinationStreamArn")
        except ConfigurationError:
            message = "DestinationStreamArn should be that of a Kinesis or a Firehose stream."
            raise bad_request(message) from None
        if not re.fullmatch(checks.ROLE_ARN, wanted.RoleArn):
            message = "RoleArn should be the ARN of a role."
            raise bad_request(message)
        stream = EventStream("", app, destination, wanted.RoleArn)
        [file] = connection_files([stream], ImportOptions(topic=self._api.topic), "PutEventStream")
        text = (
            "An event stream is a connection of the forwarder. Add a file to its connections:\n"
            f"{file.text}"
        )
        raise ApiError(405, "MethodNotAllowedException", text)

    async def delete_event_stream(self, call: ApiCall) -> ApiReply:
        """DeleteEventStream: 405 that says what to change in the configuration."""
        connection = self._stream_of(app_of(call))
        name = "that takes this app" if connection is None else connection.name
        text = (
            "An event stream is a connection of the forwarder. Set in the file of the connection "
            f"{name}:\nstatus: inactive"
        )
        raise ApiError(405, "MethodNotAllowedException", text)

    def _app(self, app: App) -> dict[str, object]:
        partition = find_partition(self._region)
        name, account = partition.name if partition else "aws", self._api.account_id
        arn = f"arn:{name}:mobiletargeting:{self._region}:{account}:apps/{app.id}"
        return {"Arn": arn, "Id": app.id, "Name": app.id, "tags": {}}

    def _stream_of(self, app: str) -> Connection | None:
        """Return the connection that stands for an app's event stream, None: there is none.

        Of several that one whose records are Pinpoint's, then that which names the app.
        """
        taking = [one for one in self._connections if self._takes(one, app)]
        if not taking:
            return None
        return min(
            taking,
            key=lambda one: (one.sink.format != PINPOINT, one.match.application is None, one.name),
        )

    def _takes(self, connection: Connection, app: str) -> bool:
        match = connection.match
        return (
            connection.status is Status.ACTIVE
            and connection.sink.folder is None
            and match.api_key is None
            and (match.topic is None or self._api.topic in match.topic)
            and (match.application is None or app in match.application)
            and (match.environment is None or _PRODUCTION in match.environment)
        )
