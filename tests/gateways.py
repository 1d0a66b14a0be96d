"""A gateway's HTTP side by itself: real sockets, operations that tell how they were called."""

import asyncio
import base64
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import orjson

from forwarder.clock import Clock, SystemClock
from forwarder.config.gateway import (
    App,
    AppAuth,
    CallerKey,
    EventsApi,
    EventsApiInput,
    GatewayLimits,
    ListenSettings,
    PinpointApi,
)
from forwarder.gateway.auth import Authenticator
from forwarder.gateway.contract import Action, ApiCall, ApiReply, Operations
from forwarder.gateway.http_connection import ConnectionLimits
from forwarder.gateway.http_server import ApiServer
from forwarder.gateway.load import RequestLoad
from forwarder.gateway.routes import Api, RouteTable
from forwarder.gateway.service import ApiService
from forwarder.ops.gateway_metrics import GatewayMetrics

KEY_ID, SECRET, API_KEY = "AKIAEXAMPLE00000001", "not/a+secret", "an-api-key"
OPEN = App("dev", AppAuth.NONE)
SHOP = App("d4e5f6", AppAuth.API_KEY, api_keys=(API_KEY,), origins=("https://shop.example",))
SIGNED = App("a1b2c3", AppAuth.SIGV4, (CallerKey(KEY_ID, SECRET),))
OTHER = App("other", AppAuth.SIGV4, (CallerKey("AKIAEXAMPLE00000002", "another-secret"),))
PINPOINT = PinpointApi(
    "pinpoint-events",
    (OPEN, SHOP, SIGNED, OTHER),
    "111122223333",
    ("pinpoint.us-east-1.amazonaws.com",),
)
INPUT = EventsApiInput("us1-abc", "mp-secret")
EVENTS = EventsApi("raw-events", (INPUT,))
BASIC = base64.b64encode(b"us1-abc:mp-secret").decode()


@dataclass
class StubApi:
    """Operations that take note of their calls and echo the body's size; ``gate`` holds them up."""

    calls: list[tuple[Action, ApiCall]] = field(default_factory=list)
    gate: asyncio.Event | None = None
    reply: ApiReply | None = None
    error: Exception | None = None

    def operations(self) -> Operations:
        """Return one for every action; PutEvents has an answer for when there is no room."""

        def busy(call: ApiCall) -> ApiReply:
            return ApiReply(202, orjson.dumps({"busy": len(call.body)}))

        return Operations({one: self._operation(one) for one in Action}, {Action.PUT_EVENTS: busy})

    def _operation(self, action: Action):  # type: ignore[no-untyped-def]  # noqa: ANN202
        async def operation(call: ApiCall) -> ApiReply:
            self.calls.append((action, call))
            if self.gate is not None:
                await self.gate.wait()
            if self.error is not None:
                raise self.error
            return self.reply or ApiReply(202, orjson.dumps({"bytes": len(call.body)}))

        return operation


@dataclass
class GatewayWorld:
    """A server that listens, and what it is made of."""

    server: ApiServer
    api: StubApi
    load: RequestLoad
    metrics: GatewayMetrics
    port: int = 0

    async def send(self, *pieces: bytes, pause: float = 0.0, eof: bool = False) -> bytes:
        """Send bytes on a connection of their own; return all that comes until it is closed."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                if pause:
                    await asyncio.sleep(pause)
            if eof:
                writer.write_eof()
            async with asyncio.timeout(10):
                return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.close()

    async def ask(
        self, method: str, path: str, body: bytes = b"", **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """Send one request and return status, headers (names in lower case) and body."""
        return answer(await self.send(request(method, path, body, **headers)))

    def refusals(self, reason: str) -> float:
        """Return how many were refused for a reason."""
        labels = {"reason": reason}
        return (
            self.metrics.registry.get_sample_value("forwarder_gateway_refusals_total", labels) or 0
        )


def request(method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    """Return a request that is the last of its connection; of header names _ becomes -."""
    given = {"Host": "127.0.0.1", "Connection": "close", **headers}
    if body or method in {"POST", "PUT"}:
        given.setdefault("Content-Length", str(len(body)))
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in given.items() if value]
    return "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode() + body


def answer(raw: bytes) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and body of an answer."""
    head, _, body = raw.partition(b"\r\n\r\n")
    line, *fields = head.decode().split("\r\n")
    headers = dict(one.split(": ", 1) for one in fields)
    return int(line.split()[1]), {name.lower(): value for name, value in headers.items()}, body


@asynccontextmanager
async def gateway_world(  # noqa: PLR0913  # each with a default
    limits: GatewayLimits | None = None,
    seconds: ConnectionLimits | None = None,
    *,
    pinpoint: PinpointApi | None = PINPOINT,
    events: EventsApi | None = EVENTS,
    connections: int = 64,
    clock: Clock | None = None,
    listen: Mapping[str, str] | None = None,
) -> AsyncIterator[GatewayWorld]:
    """Run a server on loopback until the block ends."""
    limits, clock = limits or GatewayLimits(), clock or SystemClock()
    api, load, metrics = StubApi(), RequestLoad(limits), GatewayMetrics("1")
    service = ApiService(
        routes=RouteTable(tuple(Api)),
        apps={app.id: app for app in (pinpoint.apps if pinpoint else ())},
        authenticator=Authenticator(pinpoint, events),
        operations=api.operations(),
        limits=limits,
        load=load,
        metrics=metrics,
        clock=clock,
    )
    seconds = seconds or ConnectionLimits(head=5.0, body=15.0)
    server = ApiServer(service, load, seconds, metrics, clock, connections=connections)
    world = GatewayWorld(server, api, load, metrics)
    world.port = await server.start(ListenSettings("127.0.0.1", 0, **(listen or {})))
    faults: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: faults.append(context))
    try:
        yield world
    finally:
        await server.drain(1.0)
        assert (0, 0, 0) == (load.under_way, load.buffered, server.connections())
        assert [] == faults
