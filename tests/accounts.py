"""The equations of docs/reliability.md, asked of what a worker exports."""

from collections import defaultdict
from collections.abc import Iterable, Mapping

from prometheus_client.parser import text_string_to_metric_families

Sample = tuple[str, Mapping[str, str], float]

INPUT = (
    ("forwarder_records_total", "forwarder_accounted_records_total"),
    ("forwarder_record_bytes_total", "forwarder_accounted_record_bytes_total"),
)
LANE = (
    (("events_routed_total",), ("events_accepted_total", "events_filtered_total")),
    (
        ("events_accepted_total", "events_taken_over_total"),
        (
            "events_delivered_total",
            "events_dead_lettered_total",
            "events_passed_over_total",
            "events_released_total",
            "events_waiting",
        ),
    ),
)


def samples(text: str) -> list[Sample]:
    """Return everything that a scrape holds."""
    return [
        (sample.name, sample.labels, sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    ]


def faults(scraped: Iterable[Sample]) -> list[str]:
    """Return which equations one worker's scrape breaks."""
    topics: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    lanes: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for name, labels, value in scraped:
        if "topic" in labels:
            topics[labels["topic"]][name] += value
        elif "connection" in labels:
            lanes[labels["connection"]][name.removeprefix("forwarder_")] += value
    found = [
        f"{topic}: {whole} is {it[whole]:.0f}, {parts} is {it[parts]:.0f}"
        for topic, it in topics.items()
        for whole, parts in INPUT
        if it[whole] != it[parts]
    ]
    for lane, it in lanes.items():
        for left, right in LANE:
            if sum(it[name] for name in left) != sum(it[name] for name in right):
                told = ", ".join(f"{name} {it[name]:.0f}" for name in (*left, *right))
                found.append(f"{lane}: {told}")
    return found
