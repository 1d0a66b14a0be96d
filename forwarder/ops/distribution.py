"""Histograms that take many observations at once.

The client library's own costs 2.5 µs an observation, too much where a batch may be one event.
"""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

from prometheus_client.core import HistogramMetricFamily, Metric

from forwarder.ops.definition import Definition
from forwarder.ops.series import Family, Labels, labels_text, number_text


class Buckets:
    """The series of a histogram: counts per bucket; the upper bounds are inclusive."""

    def __init__(self, it: Definition, labels: Labels) -> None:
        """Begin with nothing observed; the last bucket (+Inf) is added to the bounds."""
        self._bounds = tuple(it.bounds)
        self._names = [*(number_text(bound) for bound in self._bounds), "+Inf"]
        self._counts = [0] * len(self._names)
        self._sum = 0.0
        self._observed, self._shown = 0, -1
        self._text = ""
        names, own = (*it.labels, "le"), labels_text(it.labels, labels)
        self._heads = [
            f"{it.name}_bucket{labels_text(names, (*labels, le))} " for le in self._names
        ]
        self._heads += [f"{it.name}_count{own} ", f"{it.name}_sum{own} "]

    def observe(self, amount: float) -> None:
        """Count one amount."""
        self._counts[bisect_left(self._bounds, amount)] += 1
        self._sum += amount
        self._observed += 1

    def observe_all(self, amounts: Sequence[float]) -> None:
        """Count every amount."""
        if not amounts:
            return
        if len(amounts) == 1:
            self.observe(amounts[0])
            return
        counts, bounds = self._counts, self._bounds
        lowest = bisect_left(bounds, min(amounts))
        if lowest == bisect_left(bounds, max(amounts)):  # as mostly
            counts[lowest] += len(amounts)
        else:
            for amount in amounts:
                counts[bisect_left(bounds, amount)] += 1
        self._sum += sum(amounts)
        self._observed += len(amounts)

    def text(self) -> str:
        """Return its lines."""
        observed = self._observed
        if observed != self._shown:
            values = self._cumulated()
            values += [values[-1], self._sum]
            lines = zip(self._heads, values, strict=True)
            self._text = "".join([f"{head}{number_text(value)}\n" for head, value in lines])
            self._shown = observed
        return self._text

    def add_to(self, family: Metric, labels: Labels) -> None:
        """Add its samples."""
        buckets = list(zip(self._names, self._cumulated(), strict=True))
        family.add_metric(labels, buckets, self._sum)  # type: ignore[attr-defined]  # a histogram's has it

    def _cumulated(self) -> list[float]:
        return list(accumulate(self._counts))


class Distribution(Family[Buckets]):
    """A histogram. Its bounds ascend."""

    def observe(self, value: str, amounts: Sequence[float]) -> None:
        """Count every amount under the only label's ``value``."""
        self[value,].observe_all(amounts)

    def _make(self, values: Labels) -> Buckets:
        return Buckets(self.definition, values)

    def _family(self) -> Metric:
        it = self.definition
        return HistogramMetricFamily(it.name, it.advice, labels=it.labels)
