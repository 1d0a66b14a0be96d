"""A process's metrics on a registry of their own: what the worker's and the gateway's share."""

from collections.abc import Callable, Collection, Iterator, Sequence

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.openmetrics import exposition as openmetrics_exposition
from prometheus_client.registry import Collector

from forwarder import native
from forwarder.ops import catalogue, definition, log_writer
from forwarder.ops.definition import ConfiguredLabels, Definition, Holder
from forwarder.ops.distribution import Buckets, Distribution
from forwarder.ops.series import END, Number, Numbers

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
CONTENT_TYPE_OPENMETRICS = openmetrics_exposition.CONTENT_TYPE_LATEST


class MetricSet:
    """The metrics of one process. Base of the worker's and the gateway's."""

    def __init__(
        self,
        definitions: Sequence[Definition],
        version: str,
        registry: CollectorRegistry | None,
        known: ConfiguredLabels,
    ) -> None:
        """Register every definition on ``registry``; each takes one of these.

        ``known``: label values that exist from the start. ``version``: shown as a label.
        """
        self.registry = registry or CollectorRegistry()
        self._known = known
        self._numbers: dict[str, Numbers] = {}
        self._distributions: dict[str, Distribution] = {}
        self._scraped: list[Callable[[bool], str]] = []
        self._others = CollectorRegistry()
        for registered in (self.registry, self._others):
            ProcessCollector(registry=registered)
            registered.register(_DroppedLines())
        for it in definitions:
            self._register(it)
        self._gauge(catalogue.BUILD_INFO, version, native.name()).set(1)

    def _register(self, it: Definition) -> None:
        """Make a metric, with the series it has from the start, unless another holds it."""
        if it.holder not in {Holder.CLIENT, Holder.DISTRIBUTION}:
            return
        if it.kind == "histogram":
            family = self._distributions[it.name] = Distribution(it, self.registry)
            family.ensure(definition.series(it, self._known))
            self._scraped.append(family.scraped)
            return
        numbers = self._numbers[it.name] = Numbers(it, self.registry)
        if it.kind == "counter":
            numbers.ensure(definition.series(it, self._known))
        self._scraped.append(numbers.scraped)

    def _counter(self, it: Definition, *values: str) -> Number:
        return self._numbers[it.name][values]

    def _gauge(self, it: Definition, *values: str) -> Number:
        return self._numbers[it.name][values]

    def _histogram(self, it: Definition, *values: str) -> Buckets:
        return self._distributions[it.name][values]

    def _keep_only(self, wanted: Collection[tuple[str, ...]], *gauges: Definition) -> None:
        """Remove the series of everything not ``wanted``, so that no old value is exported."""
        for it in gauges:
            self._numbers[it.name].keep_only(wanted)

    def render(self, *, openmetrics: bool = False) -> bytes:
        """Return everything in the text format that Prometheus scrapes, or as OpenMetrics 1.0."""
        if openmetrics:
            told: bytes = openmetrics_exposition.generate_latest(self._others)  # type: ignore[no-untyped-call]  # the library has no types there
            first, end = told.removesuffix(END), END
        else:
            first, end = generate_latest(self._others), b""
        return first + "".join([family(openmetrics) for family in self._scraped]).encode() + end

    def freeze(self) -> None:
        """Note how everything stands that has to add up; called on the loop, before a scrape."""

    def loop_lag(self, seconds: float) -> None:
        """Report how late a heartbeat of the event loop came."""
        self._histogram(catalogue.LOOP_LAG).observe(seconds)


class _DroppedLines(Collector):
    """What the log's writer counts itself: it may be told of by any thread, at any moment."""

    def collect(self) -> Iterator[Metric]:
        """Yield the family as it stands."""
        it = catalogue.LOG_LINES_DROPPED
        yield CounterMetricFamily(it.name, it.advice, value=log_writer.dropped())
