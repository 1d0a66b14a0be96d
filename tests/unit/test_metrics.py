from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from forwarder.model import Batch, CloseReason, Collected, DeadLetter, Reason
from forwarder.ops import catalogue
from forwarder.ops.metrics import LaneGauges, Metrics, PartitionGauges
from forwarder.sinks.base import DELIVERED, Kind, Outcome

NOW = 1_700_000_000_000


@pytest.fixture
def metrics() -> Metrics:
    return Metrics("1.2.3")


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"forwarder_{name}", labels)


def batch(lane: str, age: float, count: int = 1, reason: CloseReason = CloseReason.AGE) -> Batch:
    return Batch(
        lane=lane,
        id="id",
        key=b"k",
        window_key=b"k",
        first=(0, 0),
        last=(0, count),
        count=count,
        closed_at=NOW,
        record_ms=NOW - round(age * 1000),
        mpid="",
        reason=reason,
        payload=b"12345",
    )


def test_every_metric_has_the_prefix_labels_and_an_advice_in_sentences() -> None:
    for it in catalogue.DEFINITIONS:
        assert it.name.startswith("forwarder_")
        assert it.advice.endswith(".")
        assert (it.kind == "counter") == it.name.endswith("_total")


def test_what_is_defined_is_what_is_exported(metrics: Metrics) -> None:
    exported = {
        family.name: (family.type, family.documentation)
        for family in metrics.registry.collect()
        if family.name.startswith("forwarder_")
    }
    defined = {it.name.removesuffix("_total"): (it.kind, it.advice) for it in catalogue.DEFINITIONS}
    assert defined == exported


def test_the_documentation_is_current() -> None:
    document = Path(__file__).parents[2] / "docs" / "metrics.md"
    assert catalogue.reference() == document.read_text()


def test_two_workers_in_one_process_do_not_share_values() -> None:
    first, second = Metrics("1"), Metrics("1")
    first.reopened("JournalError")
    assert value(first, "partition_reopens_total", cause="JournalError") == 1.0
    assert value(second, "partition_reopens_total", cause="JournalError") is None


def test_a_poll_is_added_to_every_count_it_concerns(metrics: Metrics) -> None:
    poll = Collected(
        batches=[
            batch("acme", 1, reason=CloseReason.SIZE),
            batch("acme", 1, reason=CloseReason.SIZE),
            batch("beta", 1),
        ],
        records=3,
        uploads=4,
        events=9,
        tombstones=1,
        unmatched=2,
        accepted={"acme": 5, "beta": 1},
        filtered={("acme", "send_custom_events"): 2, ("acme", "replay"): 1},
        closed={("acme", CloseReason.SIZE): 1},
    )
    metrics.collected("raw", poll)
    metrics.collected("raw", poll)
    assert [6, 8, 18, 2, 4] == [
        value(metrics, f"{name}_total", topic="raw")
        for name in ("records", "uploads", "events", "tombstones", "unmatched_uploads")
    ]
    assert value(metrics, "events_accepted_total", connection="acme") == 10
    filtered = {"connection": "acme", "setting": "send_custom_events"}
    assert value(metrics, "events_filtered_total", **filtered) == 4
    closed = {"connection": "acme", "reason": "size"}
    assert value(metrics, "windows_closed_total", **closed) == 2
    assert value(metrics, "batches_closed_total", **closed) == 4
    assert value(metrics, "batches_closed_total", connection="beta", reason="age") == 2


def test_dead_letters_are_counted_by_reason_and_connection(metrics: Metrics) -> None:
    letters = [
        DeadLetter(Reason.INVALID_JSON, 1, "", "no JSON", b""),
        DeadLetter(Reason.EVENT_TOO_LARGE, 2, "acme", "too large", b""),
        DeadLetter(Reason.EVENT_TOO_LARGE, 3, "acme", "too large", b""),
    ]
    metrics.dead_letters(letters)
    assert value(metrics, "dead_letters_total", reason="invalid_json", connection="") == 1
    assert value(metrics, "dead_letters_total", reason="event_too_large", connection="acme") == 2


def test_delivered_batches_count_with_their_events_bytes_and_age(metrics: Metrics) -> None:
    metrics.delivered("acme", [batch("acme", 0.5, 3), batch("acme", 700, 1)], NOW)
    assert value(metrics, "batches_delivered_total", connection="acme") == 2
    assert value(metrics, "events_delivered_total", connection="acme") == 4
    assert value(metrics, "bytes_delivered_total", connection="acme") == 10
    assert value(metrics, "freshness_seconds_bucket", connection="acme", le="0.5") == 1
    assert value(metrics, "freshness_seconds_bucket", connection="acme", le="600.0") == 1
    assert value(metrics, "freshness_seconds_bucket", connection="acme", le="900.0") == 2
    assert value(metrics, "freshness_seconds_count", connection="acme") == 2
    assert value(metrics, "freshness_seconds_sum", connection="acme") == 700.5


def test_a_record_from_the_future_is_fresh_and_one_of_last_week_in_the_last_bucket(
    metrics: Metrics,
) -> None:
    metrics.delivered("acme", [batch("acme", -90), batch("acme", 604_800)], NOW)
    assert value(metrics, "freshness_seconds_sum", connection="acme") == 604_800
    assert value(metrics, "freshness_seconds_bucket", connection="acme", le="0.5") == 1
    assert value(metrics, "freshness_seconds_bucket", connection="acme", le="86400.0") == 1
    assert value(metrics, "freshness_seconds_bucket", connection="acme", le="+Inf") == 2


def test_only_what_a_put_did_not_deliver_is_an_error(metrics: Metrics) -> None:
    throttled = Outcome(Kind.THROTTLED, "ProvisionedThroughputExceeded")
    metrics.put("acme", 0.02, [DELIVERED, throttled, throttled])
    labels = {"connection": "acme", "kind": "throttled", "code": throttled.code}
    assert value(metrics, "put_errors_total", **labels) == 2
    assert value(metrics, "put_errors_total", connection="acme", kind="delivered", code="") is None
    assert value(metrics, "put_seconds_bucket", connection="acme", le="0.025") == 1


def test_ticks_are_counted_by_result(metrics: Metrics) -> None:
    metrics.tick(0.03, "committed")
    metrics.tick(4.0, "FencedError")
    assert value(metrics, "ticks_total", result="FencedError") == 1
    assert value(metrics, "tick_seconds_count") == 2


def test_a_connection_that_is_gone_is_exported_no_more(metrics: Metrics) -> None:
    metrics.lanes({"acme": LaneGauges(open_windows=7, lag_seconds=2.5), "beta": LaneGauges()})
    metrics.lanes({"beta": LaneGauges(window_bytes=9)})
    assert value(metrics, "open_windows", connection="acme") is None
    assert value(metrics, "outbox_lag_seconds", connection="acme") is None
    assert value(metrics, "window_bytes", connection="beta") == 9


def test_the_learned_rate_is_there_only_while_puts_are_held_back(metrics: Metrics) -> None:
    metrics.lanes({"acme": LaneGauges(rate=0.25), "beta": LaneGauges()})
    assert value(metrics, "put_rate_shards", connection="acme") == 0.25
    assert value(metrics, "put_rate_shards", connection="beta") is None
    metrics.lanes({"acme": LaneGauges(), "beta": LaneGauges()})
    assert value(metrics, "put_rate_shards", connection="acme") is None


def test_a_partition_that_moved_away_is_exported_no_more(metrics: Metrics) -> None:
    metrics.partitions({("raw", "0"): PartitionGauges(5, 9), ("raw", "1"): PartitionGauges()})
    metrics.partitions({("raw", "1"): PartitionGauges(read_lag=3)})
    assert value(metrics, "commit_lag_records", topic="raw", partition="0") is None
    assert value(metrics, "read_lag_records", topic="raw", partition="1") == 3


def test_a_state_that_ended_goes_to_zero_so_that_an_alert_ends(metrics: Metrics) -> None:
    metrics.partition_states({"refused": 1})
    metrics.lane_states("acme", {"paused": (2, 17.0)})
    assert value(metrics, "lane_since_seconds", connection="acme", state="paused") == 17
    metrics.partition_states({"open": 1})
    metrics.lane_states("acme", {"flowing": (2, 18.0)})
    assert value(metrics, "partitions", state="refused") == 0
    assert value(metrics, "lanes", connection="acme", state="paused") == 0
    assert value(metrics, "lanes", connection="acme", state="flowing") == 2
    assert value(metrics, "lane_since_seconds", connection="acme", state="paused") is None


def test_what_is_rendered_can_be_scraped(metrics: Metrics) -> None:
    metrics.loop_lag(0.002)
    metrics.delivered('odd "name"\n', [batch("odd", 1)], NOW)
    scraped = {f.name for f in text_string_to_metric_families(metrics.render().decode())}
    assert {"forwarder_loop_lag_seconds", "forwarder_freshness_seconds"} <= scraped
    assert "process_resident_memory_bytes" in scraped
    assert b"_created" not in metrics.render()
    assert value(metrics, "info", version="1.2.3") == 1
