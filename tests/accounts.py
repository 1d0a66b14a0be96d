"""The equations of docs/reliability.md, asked of what a worker exports."""

import re
from collections import defaultdict
from collections.abc import Mapping

_LABEL = re.compile(r'(\w+)="([^"]*)"')

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


def faults(figures: Mapping[str, float]) -> list[str]:
    """Return which equations one worker's scrape breaks: its samples as they are printed."""
    topics: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    lanes: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for printed, value in figures.items():
        name, _, rest = printed.partition("{")
        labels = dict(_LABEL.findall(rest))
        if "topic" in labels:
            topics[labels["topic"]][name] += value
        elif "connection" in labels:
            lanes[labels["connection"]][name.removeprefix("forwarder_")] += value
    if not any("events_waiting" in it for it in lanes.values()):
        return []  # a release of before
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
