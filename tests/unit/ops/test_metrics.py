import importlib
import pkgutil
import re
from itertools import product
from pathlib import Path

import pytest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as strictly
from prometheus_client.parser import text_string_to_metric_families

import forwarder
from forwarder import native
from forwarder.errors import ForwarderError, JournalError, StartupError
from forwarder.model import (
    DELIVERED,
    Batch,
    CloseReason,
    Collected,
    DeadLetter,
    Outcome,
    OutcomeKind,
    Reason,
    RecordOutcome,
    ReleaseCause,
    Released,
    Unused,
)
from forwarder.ops import catalogue, metrics_page
from forwarder.ops.definition import OPEN_LABELS, ConfiguredLabels, Definition
from forwarder.ops.metrics import ConnectionGauges, Metrics, PartitionGauges
from forwarder.ops.reporter import Chore, PartitionFailure
from forwarder.worker import supervisor

NOW = 1_700_000_000_000
KNOWN = ConfiguredLabels(
    topics=("raw",),
    connections={"acme": ("send_custom_events",), "beta": ()},
    retired=("former",),
)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics("1.2.3", known=KNOWN)


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
    document = Path(__file__).parents[3] / "docs" / "metrics.md"
    assert metrics_page.reference() == document.read_text()


UNITS = ("seconds", "bytes", "records", "batches", "shards")
"""Units that a name may end with; what counts things otherwise has none."""


@pytest.mark.parametrize("it", catalogue.DEFINITIONS, ids=lambda it: it.name)
def test_every_name_follows_the_conventions_of_prometheus(it: Definition) -> None:
    """https://prometheus.io/docs/practices/naming, and what promtool and OpenMetrics refuse."""
    base = it.name.removesuffix("_total")
    assert re.fullmatch(r"forwarder(_[a-z]+)+", it.name)
    assert not base.endswith(("_total", "_count", "_sum", "_bucket", "_created", "_gauge"))
    is_time = "Unix time" in it.advice
    assert is_time == base.endswith("_timestamp_seconds")
    assert base.endswith("_info") == ("Always 1" in it.advice)
    for unit in ("milliseconds", "ms", "kilobytes", "kb", "mb", "minutes", "hours", "percent"):
        assert unit not in base.split("_")
    for unit in ("seconds", "bytes"):
        assert (unit in base.split("_")) == base.endswith(f"_{unit}")
    if it.kind == "histogram":
        assert base.endswith(UNITS)
    for label in it.labels:
        assert re.fullmatch(r"[a-z]+", label)
        assert label not in {"le", "quantile", "job", "instance"}
        assert label not in base.split("_")


def test_what_is_exported_is_openmetrics_too(metrics: Metrics) -> None:
    text = openmetrics.generate_latest(metrics.registry).decode()  # type: ignore[no-untyped-call]
    names = {family.name for family in strictly(text)}  # type: ignore[no-untyped-call]
    assert {it.name.removesuffix("_total") for it in catalogue.DEFINITIONS} <= names


@pytest.mark.parametrize("it", catalogue.DEFINITIONS, ids=lambda it: it.name)
def test_every_series_of_a_counter_is_there_from_the_start(it: Definition) -> None:
    """An alert on growth sees no growth in a series that is born with it."""
    if it.kind == "gauge":
        return
    exported = {
        tuple(sample.labels[label] for label in it.labels): sample.value
        for family in Metrics("1", known=KNOWN).registry.collect()
        for sample in family.samples
        if sample.name == (it.name if it.kind == "counter" else f"{it.name}_count")
    }
    if OPEN_LABELS.intersection(it.labels):
        assert it.name in CODES
    elif it.labels == ("connection", "setting"):
        assert {("acme", "send_custom_events"): 0} == exported
    else:
        domains = [DOMAINS[it.name, label] for label in it.labels]
        assert dict.fromkeys(product(*domains), 0) == exported


CODES = {"forwarder_put_errors_total"}
"""Counters that appear when used: their label ``code`` is whatever a destination answers."""


class Domains(dict[tuple[str, str], tuple[str, ...]]):
    """By metric and label what values there are; told here a second time, from the enums."""

    def __missing__(self, asked: tuple[str, str]) -> tuple[str, ...]:
        name, label = asked
        if label == "connection":
            ours = ("acme", "beta")
            if name.removesuffix("_total").endswith(("routed", "accepted", "taken_over")):
                return (*ours, catalogue.UNKNOWN_CONNECTION)
            if name.removesuffix("_total").endswith(("released", "dead_lettered")):
                return (*ours, catalogue.UNKNOWN_CONNECTION)
            return ours
        return {"topic": ("raw",), "outcome": tuple(RecordOutcome)}[label]


NOBODY = catalogue.UNKNOWN_CONNECTION
DOMAINS = Domains(
    {
        ("forwarder_dead_letters_total", "connection"): ("acme", "beta", "", NOBODY),
        ("forwarder_dead_letters_total", "reason"): tuple(Reason),
        ("forwarder_lanes_forgotten_total", "connection"): ("former",),
        ("forwarder_unused_uploads_total", "reason"): tuple(Unused),
        ("forwarder_windows_closed_total", "reason"): tuple(CloseReason),
        ("forwarder_batches_closed_total", "reason"): tuple(CloseReason),
        ("forwarder_events_released_total", "cause"): tuple(ReleaseCause),
        ("forwarder_chores_failed_total", "chore"): tuple(Chore),
        ("forwarder_ticks_total", "result"): ("committed", "JournalError", "FencedError"),
        ("forwarder_partition_reopens_total", "cause"): ("JournalError", "FencedError", "other"),
        ("forwarder_partition_failures_total", "reason"): tuple(PartitionFailure),
    }
)


def kinds(error: type[JournalError]) -> list[type[JournalError]]:
    """Return an error and all that are derived from it."""
    return [error, *(kind for one in error.__subclasses__() for kind in kinds(one))]


def test_every_error_that_ends_a_tick_has_its_series() -> None:
    for module in pkgutil.walk_packages(forwarder.__path__, "forwarder."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    names = sorted(error.__name__ for error in kinds(JournalError))
    assert names == sorted(catalogue.TICK_ERRORS)


def report_all(metrics: Metrics) -> None:
    """Report once whatever a worker can report of what it counts by a label."""
    lanes = ("acme", "nobody knows this one")
    outcomes = dict.fromkeys(RecordOutcome, 1)
    routed = dict.fromkeys(lanes, 1)
    poll = Collected(
        batches=[batch("acme", 1, reason=reason) for reason in CloseReason],
        outcome_records=outcomes,
        outcome_bytes=outcomes,
        unused=dict.fromkeys(Unused, 1),
        routed=routed,
        accepted=routed,
        taken_over=routed,
        filtered={("acme", "send_custom_events"): 1},
        closed={("acme", reason): 1 for reason in CloseReason},
    )
    metrics.collected("raw", poll)
    letters = [DeadLetter(reason, 1, "acme", "x", b"", events=1) for reason in Reason]
    for label in ("", *map(metrics.connection_label, lanes)):
        metrics.dead_letters([(label, letter) for letter in letters])
    for result in ("committed", *(error.__name__ for error in kinds(JournalError))):
        metrics.tick(0.1, result)
    for failed in (False, True):
        metrics.released("raw", Released(routed, 1, 1, failed=failed))
    for reason in PartitionFailure:
        metrics.partition_failed(reason)
    for chore in Chore:
        metrics.chore_failed(chore)
    metrics.lane_forgotten("former")
    metrics.passed_over("acme", 1)
    metrics.delivered("acme", [batch("acme", 1)], NOW)
    metrics.put("acme", 0.1, [DELIVERED])


def test_no_series_is_born_with_its_first_count(metrics: Metrics) -> None:
    def born() -> set[tuple[str, tuple[tuple[str, str], ...]]]:
        metrics.freeze()
        return {
            (sample.name, tuple(sample.labels.items()))
            for family in metrics.registry.collect()
            for sample in family.samples
        }

    before = born()
    report_all(metrics)
    assert set() == born() - before
    assert value(metrics, "partition_failures_total", reason="fault") == 1


def test_whatever_ends_an_opening_has_a_kind_that_is_counted(metrics: Metrics) -> None:
    told = [
        supervisor.describe_error(error("x"), opened=opened)
        for error in (
            *kinds(JournalError),
            StartupError,
            ForwarderError,
            supervisor.UnforeseenError,
        )
        for opened in (False, True)
    ]
    assert set(PartitionFailure) - {PartitionFailure.REFUSED} == set(told)
    for reason in PartitionFailure:
        assert value(metrics, "partition_failures_total", reason=reason) == 0


def test_a_lane_that_nobody_knows_has_a_counter_before_it_is_forgotten(metrics: Metrics) -> None:
    metrics.set_orphan_lanes({"gone": 7.0})
    assert value(metrics, "lanes_forgotten_total", connection="gone") == 0
    metrics.lane_forgotten("gone")
    assert value(metrics, "lanes_forgotten_total", connection="gone") == 1


def test_all_of_a_scrape_is_of_one_moment(metrics: Metrics) -> None:
    """It is rendered in a thread, while the loop goes on."""
    waits = {"acme": 3, "x-1": 1, "x-2": 1}
    metrics.watch_waiting_events(lambda: waits)
    metrics.collected("raw", Collected(records=2, accepted={"acme": 3}, routed={"acme": 3}))
    metrics.freeze()
    metrics.collected("raw", Collected(records=5, accepted={"acme": 4, "x-1": 2}))
    waits["acme"] = 7
    assert value(metrics, "records_total", topic="raw") == 2
    assert value(metrics, "events_accepted_total", connection="acme") == 3
    assert value(metrics, "events_waiting", connection="acme") == 3
    assert value(metrics, "events_waiting", connection="beta") == 0
    assert value(metrics, "events_waiting", connection=catalogue.UNKNOWN_CONNECTION) == 2
    metrics.freeze()
    assert value(metrics, "events_waiting", connection="acme") == 7
    assert value(metrics, "events_accepted_total", connection=catalogue.UNKNOWN_CONNECTION) == 2


def test_what_moves_between_openings_is_counted(metrics: Metrics) -> None:
    metrics.taken_over("acme", 2)
    metrics.passed_over("acme", 1)
    metrics.released("raw", Released({"acme": 4, "x": 5}, 1, 77, failed=True))
    metrics.released("raw", Released({"acme": 3}, 0, 1, failed=False))
    assert value(metrics, "events_taken_over_total", connection="acme") == 2
    assert value(metrics, "events_passed_over_total", connection="acme") == 1
    assert value(metrics, "events_released_total", connection="acme", cause="failed") == 4
    assert value(metrics, "events_released_total", connection="acme", cause="moved") == 3
    unknown = {"connection": catalogue.UNKNOWN_CONNECTION, "cause": "failed"}
    assert value(metrics, "events_released_total", **unknown) == 5
    assert value(metrics, "uncommitted_record_bytes_total", topic="raw") == 78


def test_two_workers_in_one_process_do_not_share_values() -> None:
    first, second = Metrics("1"), Metrics("1")
    first.reopened("JournalError")
    assert value(first, "partition_reopens_total", cause="JournalError") == 1.0
    assert value(second, "partition_reopens_total", cause="JournalError") == 0


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
        bytes=30,
        replayed=2,
        outcome_records={RecordOutcome.ROUTED: 2, RecordOutcome.TOMBSTONE: 1},
        outcome_bytes={RecordOutcome.ROUTED: 30},
        unused={Unused.EMPTY: 1},
        routed={"acme": 7},
        accepted={"acme": 5, "beta": 1},
        filtered={("acme", "send_custom_events"): 2},
        taken_over={"beta": 3},
        closed={("acme", CloseReason.SIZE): 1},
    )
    metrics.collected("raw", poll)
    metrics.collected("raw", poll)
    assert [6, 8, 18, 2, 4] == [
        value(metrics, f"{name}_total", topic="raw")
        for name in ("records", "uploads", "events", "tombstones", "unmatched_uploads")
    ]
    assert [60, 4] == [
        value(metrics, f"{name}_total", topic="raw")
        for name in ("record_bytes", "replayed_records")
    ]
    assert value(metrics, "accounted_records_total", topic="raw", outcome="tombstone") == 2
    assert value(metrics, "accounted_record_bytes_total", topic="raw", outcome="routed") == 60
    assert value(metrics, "unused_uploads_total", topic="raw", reason="events_empty") == 2
    assert value(metrics, "events_routed_total", connection="acme") == 14
    assert value(metrics, "events_taken_over_total", connection="beta") == 6
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
        DeadLetter(Reason.EVENT_TOO_LARGE, 2, "acme", "too large", b"", events=1),
        DeadLetter(Reason.EVENT_TOO_LARGE, 3, "acme", "too large", b"", events=4),
    ]
    metrics.dead_letters([(letter.connection, letter) for letter in letters])
    assert value(metrics, "dead_letters_total", reason="invalid_json", connection="") == 1
    assert value(metrics, "dead_letters_total", reason="event_too_large", connection="acme") == 2
    assert value(metrics, "events_dead_lettered_total", connection="acme") == 5


def test_delivered_batches_count_with_their_events_bytes_and_age(metrics: Metrics) -> None:
    metrics.delivered("acme", [batch("acme", 0.5, 3), batch("acme", 700, 1)], NOW)
    assert value(metrics, "batches_delivered_total", connection="acme") == 2
    assert value(metrics, "events_delivered_total", connection="acme") == 4
    assert value(metrics, "delivered_bytes_total", connection="acme") == 10
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
    throttled = Outcome(OutcomeKind.THROTTLED, "ProvisionedThroughputExceeded")
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
    metrics.set_connections(
        {"acme": ConnectionGauges(open_windows=7, lag_seconds=2.5), "beta": ConnectionGauges()}
    )
    metrics.set_connections({"beta": ConnectionGauges(window_bytes=9)})
    assert value(metrics, "open_windows", connection="acme") is None
    assert value(metrics, "outbox_lag_seconds", connection="acme") is None
    assert value(metrics, "window_bytes", connection="beta") == 9


def test_the_learned_rate_is_there_only_while_puts_are_held_back(metrics: Metrics) -> None:
    metrics.set_connections({"acme": ConnectionGauges(rate=0.25), "beta": ConnectionGauges()})
    assert value(metrics, "put_rate_shards", connection="acme") == 0.25
    assert value(metrics, "put_rate_shards", connection="beta") is None
    metrics.set_connections({"acme": ConnectionGauges(), "beta": ConnectionGauges()})
    assert value(metrics, "put_rate_shards", connection="acme") is None


def test_a_partition_that_moved_away_is_exported_no_more(metrics: Metrics) -> None:
    metrics.set_partitions({("raw", "0"): PartitionGauges(5, 9), ("raw", "1"): PartitionGauges()})
    metrics.set_partitions({("raw", "1"): PartitionGauges(read_lag=3)})
    assert value(metrics, "commit_lag_records", topic="raw", partition="0") is None
    assert value(metrics, "read_lag_records", topic="raw", partition="1") == 3


def test_a_state_that_ended_goes_to_zero_so_that_an_alert_ends(metrics: Metrics) -> None:
    metrics.set_partition_states({"refused": 1})
    metrics.set_lane_states("acme", {"paused": (2, 17.0)})
    assert value(metrics, "lane_since_timestamp_seconds", connection="acme", state="paused") == 17
    metrics.set_partition_states({"open": 1})
    metrics.set_lane_states("acme", {"flowing": (2, 18.0)})
    assert value(metrics, "partitions", state="refused") == 0
    assert value(metrics, "lanes", connection="acme", state="paused") == 0
    assert value(metrics, "lanes", connection="acme", state="flowing") == 2
    assert value(metrics, "lane_since_timestamp_seconds", connection="acme", state="paused") is None


def test_what_is_rendered_can_be_scraped(metrics: Metrics) -> None:
    metrics.loop_lag(0.002)
    metrics.delivered('odd "name"\n', [batch("odd", 1)], NOW)
    scraped = {f.name for f in text_string_to_metric_families(metrics.render().decode())}
    assert {"forwarder_loop_lag_seconds", "forwarder_freshness_seconds"} <= scraped
    assert "process_resident_memory_bytes" in scraped
    assert b"_created" not in metrics.render()
    assert value(metrics, "build_info", version="1.2.3", core=native.name()) == 1
