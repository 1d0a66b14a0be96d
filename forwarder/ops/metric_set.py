"""A process's metrics on a registry of their own: what the worker's and the gateway's share."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Generic, TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.openmetrics import exposition as openmetrics_exposition
from prometheus_client.registry import Collector

from forwarder import native
from forwarder.ops import catalogue, definition, log_writer
from forwarder.ops.definition import ConfiguredLabels, Definition, Holder
from forwarder.ops.distribution import Distribution

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
CONTENT_TYPE_OPENMETRICS = openmetrics_exposition.CONTENT_TYPE_LATEST

# They would add a series to every counter, and say when the process began over and over.
disable_created_metrics()  # type: ignore[no-untyped-call]  # the library has no types there

M = TypeVar("M", bound=MetricWrapperBase)


class _Children(dict[tuple[str, ...], M], Generic[M]):
    """A metric by label values; each child is resolved once, for labels() costs 1.9 µs."""

    def __init__(self, metric: M) -> None:
        super().__init__()
        self._metric = metric

    def __missing__(self, values: tuple[str, ...]) -> M:
        child = self[values] = self._metric.labels(*values) if values else self._metric
        return child

    def ensure(self, wanted: Iterable[tuple[str, ...]]) -> None:
        """Have these series from now on: whoever watches for growth has to see the 0 before it."""
        for values in wanted:
            self[values]  # it is made when it is asked for

    def keep_only(self, wanted: Collection[tuple[str, ...]]) -> None:
        """Remove the series of everything not ``wanted``, so that no old value is exported."""
        for values in [known for known in self if known not in wanted]:
            self._metric.remove(*values)
            del self[values]


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
        self._counters: dict[str, _Children[Counter]] = {}
        self._gauges: dict[str, _Children[Gauge]] = {}
        self._histograms: dict[str, _Children[Histogram]] = {}
        self._distributions: dict[str, Distribution] = {}
        ProcessCollector(registry=self.registry)
        self.registry.register(_DroppedLines())
        for it in definitions:
            self._register(it)
        self._gauge(catalogue.BUILD_INFO, version, native.name()).set(1)

    def _register(self, it: Definition) -> None:
        """Make a metric, with the series it has from the start, unless another holds it."""
        name, registry = it.name, self.registry
        if it.holder is Holder.DISTRIBUTION:
            self._distributions[name] = Distribution(it, registry)
            for (value,) in definition.series(it, self._known):
                self._distributions[name].observe(value, ())
        elif it.holder is not Holder.CLIENT:
            return
        elif it.kind == "counter":
            self._counters[name] = _Children(Counter(name, it.advice, it.labels, registry=registry))
            self._counters[name].ensure(definition.series(it, self._known))
        elif it.kind == "gauge":
            self._gauges[name] = _Children(Gauge(name, it.advice, it.labels, registry=registry))
        else:
            histogram = Histogram(name, it.advice, it.labels, registry=registry, buckets=it.bounds)
            self._histograms[name] = _Children(histogram)
            self._histograms[name].ensure(definition.series(it, self._known))

    def _counter(self, it: Definition, *values: str) -> Counter:
        return self._counters[it.name][values]

    def _gauge(self, it: Definition, *values: str) -> Gauge:
        return self._gauges[it.name][values]

    def _histogram(self, it: Definition, *values: str) -> Histogram:
        return self._histograms[it.name][values]

    def _keep_only(self, wanted: Collection[tuple[str, ...]], *gauges: Definition) -> None:
        """Remove the series of everything not ``wanted``, so that no old value is exported."""
        for it in gauges:
            self._gauges[it.name].keep_only(wanted)

    def render(self, *, openmetrics: bool = False) -> bytes:
        """Return everything in the text format that Prometheus scrapes, or as OpenMetrics 1.0."""
        if openmetrics:
            text: bytes = openmetrics_exposition.generate_latest(self.registry)  # type: ignore[no-untyped-call]  # the library has no types there
            return text
        return generate_latest(self.registry)

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
