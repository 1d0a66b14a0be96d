"""The counters of what comes in and what becomes of it: all of a scrape are of one moment.

The equations of docs/reliability.md hold between them only then. The client library's own
counters are read one after the other, in a thread, while the loop goes on.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

from prometheus_client.core import Metric
from prometheus_client.registry import Collector, CollectorRegistry

from forwarder.ops.definition import ConfiguredLabels, Definition, series
from forwarder.ops.series import Labels, heads, labels_text, number_family, number_text

Values = Mapping[str, Mapping[Labels, float]]
"""By metric's name, then by its labels' values."""


class AtomicCounters(Collector):
    """Counts by name and labels, and one gauge that is measured. Caller: metrics, on the loop."""

    def __init__(
        self,
        definitions: Sequence[Definition],
        known: ConfiguredLabels,
        registry: CollectorRegistry,
    ) -> None:
        """Register counters, with 0, and one gauge, whose values :meth:`watch` has measured."""
        self._definitions = definitions
        [self._gauge] = [it for it in definitions if it.kind == "gauge"]
        self._counts: dict[str, dict[Labels, float]] = {
            it.name: {} if it is self._gauge else dict.fromkeys(series(it, known), 0.0)
            for it in definitions
        }
        self._measure: Callable[[], Mapping[str, int]] = dict
        self._frozen: Values | None = None
        # What stands before each family, and of each series the value that its line says.
        self._lines: dict[str, tuple[dict[bool, str], dict[Labels, tuple[float, str]]]] = {
            it.name: (heads(number_family(it)), {}) for it in definitions
        }
        registry.register(self)

    def add(self, it: Definition, labels: Labels, count: int) -> None:
        """Add ``count`` to the series of a counter that has these labels."""
        counts = self._counts[it.name]
        counts[labels] = counts.get(labels, 0) + count

    def add_each(
        self, it: Definition, counts: Mapping[str, int], labels: Mapping[str, Labels]
    ) -> None:
        """Add counts by name to the series of a counter; ``labels``: by name those of its series.

        For a thousand connections in one poll: without a call for each.
        """
        values = self._counts[it.name]
        for name, count in counts.items():
            of_name = labels[name]
            values[of_name] = values.get(of_name, 0) + count

    def watch(self, measure: Callable[[], Mapping[str, int]]) -> None:
        """Set what the gauge is measured by at every scrape: its values, by its one label."""
        self._measure = measure

    def freeze(self) -> None:
        """Note how everything stands now; what is scraped from now on is of this moment."""
        frozen = {name: dict(counts) for name, counts in self._counts.items()}
        for label, value in self._measure().items():
            frozen[self._gauge.name][label,] = value
        self._frozen = frozen

    def scraped(self, openmetrics: bool) -> str:  # noqa: FBT001  # which of two forms
        """Return every family as it is scraped; called in a thread of its own."""
        values = self._now()
        found = []
        for it in self._definitions:
            heads, lines = self._lines[it.name]
            found.append(heads[openmetrics])
            for labels, value in list(values[it.name].items()):
                known = lines.get(labels)
                if known is None or known[0] != value:
                    head = f"{it.name}{labels_text(it.labels, labels)}"
                    known = lines[labels] = value, f"{head} {number_text(value)}\n"
                found.append(known[1])
        return "".join(found)

    def collect(self) -> Iterator[Metric]:
        """Yield every family in the client library's form, for who asks the registry."""
        values = self._now()
        for it in self._definitions:
            family = number_family(it)
            for told, value in list(values[it.name].items()):
                family.add_metric(told, value)  # type: ignore[attr-defined]  # both families have it
            yield family

    def describe(self) -> Iterator[Metric]:
        """Yield the names alone, so that registering collects nothing."""
        for it in self._definitions:
            yield number_family(it)

    def _now(self) -> Values:
        return self._frozen if self._frozen is not None else self._counts
