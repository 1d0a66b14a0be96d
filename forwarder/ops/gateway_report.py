"""Everything a gateway's parts report, and where it is shown."""

import asyncio
from collections.abc import Callable
from enum import StrEnum

import structlog

from forwarder import retry
from forwarder.clock import Clock
from forwarder.ops.gateway_health import GatewayHealth
from forwarder.ops.gateway_metrics import GatewayMetrics
from forwarder.ops.gateway_reporter import EventOutcome, GatewayReporter, StoreCall
from forwarder.ops.report import HEARTBEAT_SECONDS

log = structlog.get_logger()


class GatewayChore(StrEnum):
    """What runs beside a gateway's server."""

    HEARTBEAT = "heartbeat"
    READINESS = "readiness"
    PRODUCER = "producer"


class GatewayReport(GatewayReporter):
    """The gateway's reporter and pulse."""

    def __init__(self, metrics: GatewayMetrics, health: GatewayHealth, clock: Clock) -> None:
        """Create over metrics, health and the log."""
        self.metrics = metrics
        self.health = health
        self._clock = clock
        self._repeats = retry.RepeatSuppressor(retry.LOG_REPEAT_SECONDS)

    def events(self, app: str, outcome: EventOutcome, count: int) -> None:
        """Count events of a request once it is answered."""
        self.metrics.events(app, outcome, count)

    def endpoints(self, app: str, *, accepted: int, refused: int) -> None:
        """Count updates of endpoints."""
        self.metrics.endpoints(app, accepted=accepted, refused=refused)

    def appended(self, topic: str, records: int, size: int, seconds: float) -> None:
        """Count a batch that Kafka has, and how long that took."""
        self.metrics.appended(topic, records, size, seconds)

    def producer_failed(self, reason: str, remedy: str) -> None:
        """Report why Kafka takes nothing, or one partition of it."""
        self.metrics.producer_failed()
        if self._repeats.register(reason, self._clock.steady()):
            log.warning("producer.failed", error=reason, remedy=remedy)

    def producer_started(self) -> None:
        """Report that Kafka takes records again."""
        log.info("producer.started")

    def store_answered(self, call: StoreCall, seconds: float) -> None:
        """Count a call that the endpoint store answered."""
        self.metrics.store_answered(call, seconds)

    def store_failed(self, call: StoreCall, reason: str, remedy: str) -> None:
        """Report why the endpoint store did not answer."""
        self.metrics.store_failed(call)
        if self._repeats.register(reason, self._clock.steady()):
            log.warning("store.failed", call=call.value, error=reason, remedy=remedy)

    def chore_failed(self, chore: GatewayChore) -> None:
        """Do nothing: it is logged, and begun anew."""

    async def run_heartbeat(self, measure: Callable[[], None]) -> None:
        """Beat once a second for ever, report how late each heartbeat came, and ``measure``."""
        while True:
            began = self._clock.steady()
            await asyncio.sleep(HEARTBEAT_SECONDS)
            self.metrics.loop_lag(max(0.0, self._clock.steady() - began - HEARTBEAT_SECONDS))
            self.health.heartbeat()
            measure()
