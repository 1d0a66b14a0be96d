"""Metrics whose lines are kept: a scrape writes anew those of which the value has changed.

With a thousand connections there are seventy thousand lines, of which most say 0 for ever.
"""

from abc import abstractmethod
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Generic, Protocol, TypeVar

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from forwarder.ops.definition import Definition

Labels = tuple[str, ...]
"""The values of a metric's labels."""

END = b"# EOF\n"
"""The last line of OpenMetrics."""


class Series(Protocol):
    """What has one set of labels' values. Written on the loop; ``text`` is asked in a thread."""

    def text(self) -> str:
        """Return its lines as they stand, each with its end."""

    def add_to(self, family: Metric, labels: Labels) -> None:
        """Add its samples to the client library's form of the metric."""


S = TypeVar("S", bound=Series)


class Number:
    """The series of a counter or of a gauge."""

    def __init__(self, it: Definition, labels: Labels) -> None:
        """Begin with 0."""
        self.value = 0.0
        self._shown: float | None = None
        self._line = ""
        self._head = f"{it.name}{labels_text(it.labels, labels)} "

    def inc(self, count: float = 1) -> None:
        """Count."""
        self.value += count

    def set(self, value: float) -> None:
        """Set what it is now."""
        self.value = float(value)

    def text(self) -> str:
        """Return its line."""
        value = self.value
        if value != self._shown:
            self._line = f"{self._head}{number_text(value)}\n"
            self._shown = value
        return self._line

    def add_to(self, family: Metric, labels: Labels) -> None:
        """Add its sample."""
        family.add_metric(labels, self.value)  # type: ignore[attr-defined]  # all families have it


class Family(Collector, dict[Labels, S], Generic[S]):
    """A metric by its labels' values; a series is made when it is asked for.

    One without labels is there from the start.
    """

    def __init__(self, it: Definition, registry: CollectorRegistry) -> None:
        """Register a metric without series."""
        super().__init__()
        self.definition = it
        self._heads = heads(self._family())
        if not it.labels:
            self[()]  # it is made when it is asked for
        registry.register(self)

    def __hash__(self) -> int:  # type: ignore[override]  # a dict has none
        """Be known to a registry."""
        return id(self)

    def __missing__(self, values: Labels) -> S:
        child = self[values] = self._make(values)
        return child

    def ensure(self, wanted: Iterable[Labels]) -> None:
        """Have these series from now on: whoever watches for growth has to see the 0 before it."""
        for values in wanted:
            self[values]  # it is made when it is asked for

    def keep_only(self, wanted: Collection[Labels]) -> None:
        """Remove the series of everything not ``wanted``, so that no old value is exported."""
        for values in [known for known in self if known not in wanted]:
            del self[values]

    def scraped(self, openmetrics: bool) -> str:  # noqa: FBT001  # which of two forms
        """Return the metric as it is scraped; called in a thread of its own."""
        return self._heads[openmetrics] + "".join([one.text() for one in list(self.values())])

    def collect(self) -> Iterator[Metric]:
        """Yield the metric in the client library's form, for who asks the registry."""
        family = self._family()
        for labels, one in list(self.items()):
            one.add_to(family, labels)
        yield family

    def describe(self) -> Iterator[Metric]:
        """Yield the name alone, so that registering collects nothing."""
        yield self._family()

    @abstractmethod
    def _make(self, values: Labels) -> S:
        """Return a new series of these labels' values."""

    @abstractmethod
    def _family(self) -> Metric:
        """Return the metric in the client library's form, without samples."""


class Numbers(Family[Number]):
    """A counter or a gauge."""

    def _make(self, values: Labels) -> Number:
        return Number(self.definition, values)

    def _family(self) -> Metric:
        return number_family(self.definition)


def number_family(it: Definition) -> Metric:
    """Return a counter or a gauge in the client library's form, without samples."""
    if it.kind == "gauge":
        return GaugeMetricFamily(it.name, it.advice, labels=it.labels)
    return CounterMetricFamily(it.name.removesuffix("_total"), it.advice, labels=it.labels)


def heads(family: Metric) -> dict[bool, str]:
    """Return what stands before the lines of a metric: as OpenMetrics (True), or as before."""
    alone = _Alone(family)
    told: bytes = openmetrics.generate_latest(alone)  # type: ignore[no-untyped-call]  # the library has no types there
    return {False: generate_latest(alone).decode(), True: told.removesuffix(END).decode()}


def number_text(value: float) -> str:
    """Return a value, or a bound of a bucket, as lines have it."""
    text: str = floatToGoString(value)  # type: ignore[no-untyped-call]  # the library has no types there
    return text


def labels_text(names: Sequence[str], values: Sequence[str]) -> str:
    """Return labels as a line has them: in order of their names."""
    told = [
        f'{name}="{_escaped(value)}"' for name, value in sorted(zip(names, values, strict=True))
    ]
    return f"{{{','.join(told)}}}" if told else ""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


class _Alone(Collector):
    """A metric by itself."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterator[Metric]:
        """Yield it."""
        yield self._family
