from itertools import product

import pytest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as strictly

from forwarder.ops import gateway_catalogue as catalogue
from forwarder.ops.definition import ConfiguredLabels, Definition
from forwarder.ops.gateway_catalogue import NO_OPERATION, OPERATIONS, STATUSES, Refusal
from forwarder.ops.gateway_metrics import GatewayMetrics
from forwarder.ops.gateway_reporter import EventOutcome, StoreCall

KNOWN = ConfiguredLabels(("events", "raw"), apps=("a1", "production"))
DOMAINS = {
    "operation": OPERATIONS,
    "status": STATUSES,
    "reason": tuple(Refusal),
    "topic": KNOWN.topics,
    "app": KNOWN.apps,
    "call": tuple(StoreCall),
}


@pytest.fixture
def metrics() -> GatewayMetrics:
    return GatewayMetrics("1.2.3", known=KNOWN)


def value(metrics: GatewayMetrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"forwarder_{name}", labels)


def test_what_is_defined_is_what_is_exported(metrics: GatewayMetrics) -> None:
    exported = {
        family.name: (family.type, family.documentation)
        for family in metrics.registry.collect()
        if family.name.startswith("forwarder_")
    }
    defined = {it.name.removesuffix("_total"): (it.kind, it.advice) for it in catalogue.DEFINITIONS}
    assert defined == exported
    text = openmetrics.generate_latest(metrics.registry).decode()  # type: ignore[no-untyped-call]
    assert {*exported} <= {family.name for family in strictly(text)}  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("it", catalogue.DEFINITIONS, ids=lambda it: it.name)
def test_every_series_of_a_counter_is_there_from_the_start(
    metrics: GatewayMetrics, it: Definition
) -> None:
    assert it.advice.endswith(".")
    if it.kind == "gauge":
        return
    exported = {
        tuple(sample.labels[label] for label in it.labels): sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == (it.name if it.kind == "counter" else f"{it.name}_count")
    }
    outcomes = tuple(EventOutcome) if it is catalogue.EVENTS else ("accepted", "refused")
    domains = [{**DOMAINS, "outcome": outcomes}[label] for label in it.labels]
    assert dict.fromkeys(product(*domains), 0) == exported


def test_a_request_is_counted_with_its_bytes_and_its_time(metrics: GatewayMetrics) -> None:
    metrics.answered("PutEvents", 202, 4_000, 0.02)
    metrics.answered("PutEvents", 202, 1_000, 0.2)
    metrics.answered_early(NO_OPERATION, 404)
    metrics.refused(Refusal.ROUTE)
    assert 2 == value(metrics, "gateway_requests_total", operation="PutEvents", status="202")
    assert 5_000 == value(metrics, "gateway_request_bytes_total", operation="PutEvents")
    assert 2 == value(metrics, "gateway_answer_seconds_count", operation="PutEvents")
    assert 0.22 == pytest.approx(
        value(metrics, "gateway_answer_seconds_sum", operation="PutEvents")
    )
    assert 1 == value(metrics, "gateway_refusals_total", reason="route")
    assert 1 == value(metrics, "gateway_requests_total", operation=NO_OPERATION, status="404")
    assert 0 == value(metrics, "gateway_answer_seconds_count", operation=NO_OPERATION)


def test_what_became_of_events_is_counted(metrics: GatewayMetrics) -> None:
    metrics.events("a1", EventOutcome.ACCEPTED, 10)
    metrics.endpoints("a1", accepted=2, refused=0)
    metrics.endpoints("a1", accepted=0, refused=1)
    metrics.appended("events", 3, 900, 0.01)
    metrics.producer_failed()
    metrics.set_load(7, 3, 1_000)
    assert 10 == value(metrics, "gateway_events_total", app="a1", outcome="accepted")
    assert 2 == value(metrics, "gateway_endpoint_updates_total", app="a1", outcome="accepted")
    assert 1 == value(metrics, "gateway_endpoint_updates_total", app="a1", outcome="refused")
    assert 3 == value(metrics, "gateway_appended_records_total", topic="events")
    assert 900 == value(metrics, "gateway_appended_bytes_total", topic="events")
    assert 1 == value(metrics, "gateway_producer_failures_total")
    assert (7, 3, 1_000) == (
        value(metrics, "gateway_open_connections"),
        value(metrics, "gateway_under_way"),
        value(metrics, "gateway_buffered_bytes"),
    )
