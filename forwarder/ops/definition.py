"""What a metric is: its name, its labels, and what it tells the operator to do."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from itertools import product

import msgspec
from msgspec.structs import replace

OPEN_LABELS = frozenset({"code"})
"""Labels of counters whose values are known only once they occur: what destinations answer."""


class Holder(StrEnum):
    """Who holds a metric's values."""

    CLIENT = "client"
    """The client library."""
    ATOMIC = "atomic"
    """One object for all of these, so that a scrape shows them as of one moment."""
    DISTRIBUTION = "distribution"
    """A histogram that takes many observations at once."""
    LOG = "log"
    """The log's writer."""


class ConfiguredLabels(msgspec.Struct, frozen=True):
    """What the configuration says of labels' values.

    ``topics``: those that a worker reads, or a gateway writes to. ``connections``: by name the
    settings by which one leaves events out; ``retired`` are those whose lanes are to be forgotten.
    ``apps``: names of those that a gateway serves.
    """

    topics: Sequence[str] = ()
    connections: Mapping[str, Sequence[str]] = {}
    retired: Sequence[str] = ()
    apps: Sequence[str] = ()


class Definition(msgspec.Struct, frozen=True):
    """One metric; ``advice`` is its help text: what it counts, and what to do about it.

    ``values`` are those of labels that no configuration decides, ``extra_connections`` further
    ones of the label ``connection``. ``bounds``: the upper bounds of a histogram's buckets.
    """

    name: str
    kind: str
    labels: tuple[str, ...]
    advice: str
    values: Mapping[str, Sequence[str]] = {}
    extra_connections: Sequence[str] = ()
    bounds: Sequence[float] = ()
    holder: Holder = Holder.CLIENT


def counter(
    name: str, labels: str, advice: str, more: Sequence[str] = (), **values: Sequence[str]
) -> Definition:
    """Define a counter; ``more`` are its extra connections."""
    name = f"forwarder_{name}_total"
    return Definition(name, "counter", tuple(labels.split()), advice, values, more)


def atomic(
    name: str, labels: str, advice: str, more: Sequence[str] = (), **values: Sequence[str]
) -> Definition:
    """Define a counter of the equations of docs/reliability.md."""
    return replace(counter(name, labels, advice, more, **values), holder=Holder.ATOMIC)


def gauge(name: str, labels: str, advice: str) -> Definition:
    """Define a gauge; ``labels``: their names."""
    return Definition(f"forwarder_{name}", "gauge", tuple(labels.split()), advice)


def histogram(name: str, labels: str, bounds: Sequence[float], advice: str) -> Definition:
    """Define a histogram; ``bounds``: the upper bounds of its buckets."""
    name = f"forwarder_{name}"
    return Definition(name, "histogram", tuple(labels.split()), advice, bounds=bounds)


def series(it: Definition, known: ConfiguredLabels) -> list[tuple[str, ...]]:
    """Return the values of the labels that a counter has from the start.

    Whoever watches for growth sees none in a series that is born with it. Empty where a label is
    in ``OPEN_LABELS``.
    """
    if OPEN_LABELS.intersection(it.labels):
        return []
    if it.labels == ("connection", "setting"):
        return [(name, setting) for name, off in known.connections.items() for setting in off]
    told: dict[str, Sequence[str]] = {
        "topic": known.topics,
        "app": known.apps,
        "connection": [*known.connections, *it.extra_connections],
        **it.values,
    }
    return list(product(*(told[label] for label in it.labels)))
