"""The gateway's composition root: the only module that names its store, producer and operations."""

import asyncio
import gc
import os
import socket
import uuid
from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import partial
from typing import NamedTuple

import structlog

from forwarder.clock import Clock, SystemClock
from forwarder.config.gateway import AppAuth, Gateway, GatewayConfiguration
from forwarder.gateway import readiness
from forwarder.gateway.auth import Authenticator
from forwarder.gateway.contract import Dependency, Operations
from forwarder.gateway.endpoints.merge import make_merge
from forwarder.gateway.endpoints.reported import ReportedStore
from forwarder.gateway.endpoints.stores import open_store
from forwarder.gateway.http_connection import ConnectionLimits
from forwarder.gateway.http_server import ApiServer
from forwarder.gateway.load import RequestLoad
from forwarder.gateway.operations import make_operations
from forwarder.gateway.producer import EventProducer
from forwarder.gateway.routes import Api, RouteTable
from forwarder.gateway.service import ApiService
from forwarder.kafka import client, patches
from forwarder.kafka.admin import KafkaAdmin
from forwarder.kafka.idempotent import IdempotentProducer
from forwarder.ops import chores, open_files, signals
from forwarder.ops.definition import ConfiguredLabels
from forwarder.ops.gateway_health import GatewayHealth
from forwarder.ops.gateway_metrics import GatewayMetrics
from forwarder.ops.gateway_report import GatewayChore, GatewayReport
from forwarder.ops.http_server import HttpLimits
from forwarder.ops.public import PublicView
from forwarder.ops.server import OpsServer
from forwarder.ops.version import version

log = structlog.get_logger()

KAFKA, ENDPOINTS = "kafka", "endpoints"
"""Names of what a gateway needs, as /readyz shows them."""

CONNECTIONS = 4_096
"""Most connections of clients; each takes up to 64 KiB beside counted bodies, idle ones 20."""

FILES_OF_ITS_OWN = 64
"""Open files that the gateway keeps for itself: brokers, the store, the log."""

CLOSE_RESERVE_SECONDS = 5.0
"""Seconds of a drain that are kept for closing what is open towards Kafka and the store."""


class GatewayParts(NamedTuple):
    """What a gateway is made of, made in this order."""

    load: RequestLoad
    metrics: GatewayMetrics
    health: GatewayHealth
    report: GatewayReport


async def run_gateway(configuration: GatewayConfiguration) -> int:
    """Be a gateway until stopped; return the exit code. Raises ForwarderError.

    It listens before Kafka or a database is there, and is not ready until they are.
    """
    gc.collect()
    gc.freeze()  # what is imported lives as long as the process: no collection looks through it
    clock = SystemClock()
    files = open_files.raise_limit()
    client.quiet_client_log()
    patches.install()
    stop = asyncio.Event()
    signals.drain_on_signals(stop.set, stop.is_set, "gateway.drains")
    parts = _parts(configuration.gateway, clock)
    async with AsyncExitStack() as stack:
        probes = HttpLimits(open_files.probe_connections(files, HttpLimits().connections))
        ops = OpsServer(parts.report, PublicView(configuration.connections), probes, clock)
        port = await ops.start(configuration.server.host, configuration.server.port)
        stack.push_async_callback(ops.stop)
        client_id = f"forwarder-gateway-{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        needs, producer, operations = await _open(configuration, parts, clock, client_id, stack)
        server = _server(configuration.gateway, operations, parts, clock, files)
        beside: dict[GatewayChore, chores.ChoreRun] = {
            GatewayChore.HEARTBEAT: partial(
                parts.report.run_heartbeat, partial(_set_load, parts, server)
            ),
            GatewayChore.READINESS: partial(readiness.run, needs, parts.health),
            GatewayChore.PRODUCER: producer.run,
        }
        listening = await server.start(configuration.gateway.listen)
        parts.health.listens()
        _tell_start(configuration, client_id, port, listening)
        main = _serve(server, parts.health, stop, configuration.drain_timeout_ms / 1000)
        await chores.run_with_chores(beside, main, clock, parts.report.chore_failed)
    log.info("gateway.stopped")
    return 0


async def _serve(
    server: ApiServer, health: GatewayHealth, stop: asyncio.Event, drain: float
) -> None:
    """Serve until told to stop, then answer what is under way; what writes it goes on meanwhile."""
    await stop.wait()
    health.drains()
    rest = min(CLOSE_RESERVE_SECONDS, drain / 3)
    if not await server.drain(drain - rest):
        log.warning("drain.unfinished", seconds=drain)


def _parts(gateway: Gateway, clock: Clock) -> GatewayParts:
    load = RequestLoad(gateway.limits)
    metrics = GatewayMetrics(version(), known=metric_labels(gateway))
    needs = [KAFKA, *([ENDPOINTS] if gateway.pinpoint else [])]
    health = GatewayHealth(clock, needs, load.is_full)
    return GatewayParts(load, metrics, health, GatewayReport(metrics, health, clock))


async def _open(
    configuration: GatewayConfiguration,
    parts: GatewayParts,
    clock: Clock,
    client_id: str,
    stack: AsyncExitStack,
) -> tuple[Mapping[str, Dependency], EventProducer, Operations]:
    """Open what operations need; ``stack`` closes it. Raises ForwarderError."""
    gateway = configuration.gateway
    admin = KafkaAdmin(configuration.kafka, client_id)
    stack.push_async_callback(admin.close)
    topics = written_topics(gateway)
    connect = partial(IdempotentProducer, configuration.kafka, client_id, admin, topics, {})
    producer = EventProducer(connect, parts.load, clock, parts.report)
    needs: dict[str, Dependency] = {KAFKA: producer}
    store = None
    if gateway.pinpoint is not None:
        opened = await open_store(gateway.pinpoint.endpoints, make_merge(gateway.limits))
        store = ReportedStore(opened, clock, parts.report)
        stack.push_async_callback(store.close)
        needs[ENDPOINTS] = store
    return needs, producer, make_operations(configuration, store, producer, parts.report)


def _server(
    gateway: Gateway, operations: Operations, parts: GatewayParts, clock: Clock, files: int
) -> ApiServer:
    apis = {Api.PINPOINT: gateway.pinpoint, Api.MPARTICLE: gateway.mparticle}
    service = ApiService(
        routes=RouteTable([api for api, settings in apis.items() if settings is not None]),
        apps={app.id: app for app in (gateway.pinpoint.apps if gateway.pinpoint else ())},
        authenticator=Authenticator(gateway.pinpoint, gateway.mparticle),
        operations=operations,
        limits=gateway.limits,
        load=parts.load,
        metrics=parts.metrics,
        clock=clock,
    )
    limits = gateway.limits
    seconds = ConnectionLimits(limits.header_timeout_ms / 1000, limits.body_timeout_ms / 1000)
    connections = max(1, min(CONNECTIONS, files - FILES_OF_ITS_OWN))
    return ApiServer(service, parts.load, seconds, parts.metrics, clock, connections=connections)


def _set_load(parts: GatewayParts, server: ApiServer) -> None:
    parts.metrics.set_load(server.connections(), parts.load.under_way, parts.load.buffered)


def _tell_start(
    configuration: GatewayConfiguration, client_id: str, port: int, listening: int
) -> None:
    gateway = configuration.gateway
    apps = gateway.pinpoint.apps if gateway.pinpoint else ()
    log.info(
        "gateway.starts",
        version=version(),
        client_id=client_id,
        port=port,
        listening=listening,
        tls=gateway.listen.cert_file is not None,
        topics=written_topics(gateway),
        apps=[app.id for app in apps],
        inputs=len(gateway.mparticle.inputs) if gateway.mparticle else 0,
    )
    for app in apps:
        if app.auth is AppAuth.NONE:
            log.warning(
                "app.open",
                app=app.id,
                remedy="whoever reaches the gateway may write to it, and read and delete its "
                "endpoints: give it auth: api_key or sigv4, unless something in front of the "
                "gateway sees to that",
            )


def written_topics(gateway: Gateway) -> list[str]:
    """Return the topics that a gateway writes to, each once."""
    named = [api.topic for api in (gateway.pinpoint, gateway.mparticle) if api is not None]
    return list(dict.fromkeys(named))


def metric_labels(gateway: Gateway) -> ConfiguredLabels:
    """Return what the configuration says of the labels of metrics."""
    apps = [app.id for app in gateway.pinpoint.apps] if gateway.pinpoint else []
    inputs = [one.environment for one in gateway.mparticle.inputs] if gateway.mparticle else []
    return ConfiguredLabels(written_topics(gateway), apps=list(dict.fromkeys([*apps, *inputs])))
