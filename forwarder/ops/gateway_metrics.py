"""What the gateway counts and measures, on a registry of its own.

Names, labels and help texts are in gateway_catalogue.py. Per request at most three values are
reported; the gauges are set once a second.
"""

from prometheus_client import CollectorRegistry

from forwarder.ops import gateway_catalogue as catalogue
from forwarder.ops.definition import ConfiguredLabels
from forwarder.ops.gateway_catalogue import Refusal
from forwarder.ops.gateway_reporter import EventOutcome, StoreCall
from forwarder.ops.metric_set import MetricSet

_NOTHING = ConfiguredLabels()


class GatewayMetrics(MetricSet):
    """The metrics of one gateway. Caller: its server, operations, producer and store."""

    def __init__(
        self,
        version: str,
        registry: CollectorRegistry | None = None,
        known: ConfiguredLabels = _NOTHING,
    ) -> None:
        """Register every metric of the gateway on ``registry``; each takes one of these.

        ``known``: label values that exist from the start. ``version``: shown as a label.
        """
        super().__init__(catalogue.DEFINITIONS, version, registry, known)

    def answered(self, operation: str, status: int, size: int, seconds: float) -> None:
        """Report a request: its operation, what was answered, its body's bytes as they came."""
        self._counter(catalogue.REQUESTS, operation, str(status)).inc()
        if size:
            self._counter(catalogue.REQUEST_BYTES, operation).inc(size)
        self._distributions[catalogue.ANSWER_SECONDS.name].observe(operation, (seconds,))

    def answered_early(self, operation: str, status: int) -> None:
        """Report a request that was answered without its body: how long that took says nothing."""
        self._counter(catalogue.REQUESTS, operation, str(status)).inc()

    def refused(self, reason: Refusal) -> None:
        """Report a request or a connection that no operation saw."""
        self._counter(catalogue.REFUSALS, reason.value).inc()

    def set_load(self, connections: int, under_way: int, buffered: int) -> None:
        """Set how many connections and requests there are, and the bytes they hold."""
        self._gauge(catalogue.OPEN_CONNECTIONS).set(connections)
        self._gauge(catalogue.REQUESTS_UNDER_WAY).set(under_way)
        self._gauge(catalogue.BUFFERED_BYTES).set(buffered)

    # ------------------------------------------------------------------ of the APIs

    def events(self, app: str, outcome: EventOutcome, count: int) -> None:
        """Report what became of events of a request."""
        self._counter(catalogue.EVENTS, app, outcome.value).inc(count)

    def endpoints(self, app: str, *, accepted: int, refused: int) -> None:
        """Report updates of endpoints."""
        if accepted:
            self._counter(catalogue.ENDPOINT_UPDATES, app, "accepted").inc(accepted)
        if refused:
            self._counter(catalogue.ENDPOINT_UPDATES, app, "refused").inc(refused)

    def appended(self, topic: str, records: int, size: int, seconds: float) -> None:
        """Report a batch that Kafka has."""
        self._counter(catalogue.APPENDED_RECORDS, topic).inc(records)
        self._counter(catalogue.APPENDED_BYTES, topic).inc(size)
        self._distributions[catalogue.APPEND_SECONDS.name].observe(topic, (seconds,))

    def producer_failed(self) -> None:
        """Report that Kafka takes nothing, or one partition of it."""
        self._counter(catalogue.PRODUCER_FAILURES).inc()

    def store_answered(self, call: StoreCall, seconds: float) -> None:
        """Report a call that the endpoint store answered."""
        self._distributions[catalogue.STORE_SECONDS.name].observe(call.value, (seconds,))

    def store_failed(self, call: StoreCall) -> None:
        """Report a call that the endpoint store did not answer."""
        self._counter(catalogue.STORE_FAILURES, call.value).inc()
