from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram

from forwarder.ops.definition import Definition
from forwarder.ops.distribution import Distribution

BOUNDS = (0.5, 1.0, 10.0, 600.0)
AMOUNTS = st.sampled_from([0.0, 0.5, 0.50001, 1.0, 10.0, 599.0, 600.0, 601.0])
AGE = Definition("age_seconds", "histogram", ("lane",), "Age.", bounds=BOUNDS)


def samples(registry: CollectorRegistry) -> dict[tuple[str, str, str], float]:
    return {
        (sample.name, sample.labels["lane"], sample.labels.get("le", "")): sample.value
        for family in registry.collect()
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


@given(st.lists(st.tuples(st.sampled_from("ab"), st.lists(AMOUNTS))))
def test_many_at_once_are_counted_as_the_client_library_counts_them_one_by_one(
    polls: Sequence[tuple[str, Sequence[float]]],
) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    distribution = Distribution(AGE, ours)
    histogram = Histogram("age_seconds", "Age.", ["lane"], registry=theirs, buckets=BOUNDS)
    for lane, amounts in polls:
        distribution.observe(lane, amounts)
        child = histogram.labels(lane)
        for amount in amounts:
            child.observe(amount)
    assert samples(theirs) == pytest.approx(samples(ours))


def test_a_name_is_taken_once() -> None:
    registry = CollectorRegistry()
    Distribution(AGE, registry)
    with pytest.raises(ValueError, match="Duplicated"):
        Histogram("age_seconds", "Age.", registry=registry)
