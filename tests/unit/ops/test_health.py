import asyncio

import pytest
from structlog.testing import capture_logs

from forwarder.model import DeadLetter, Partition, Reason
from forwarder.ops.catalogue import UNKNOWN_CONNECTION
from forwarder.ops.definition import ConfiguredLabels
from forwarder.ops.health import HEARTBEAT_TIMEOUT, NOT_JOINED, Health
from forwarder.ops.metrics import Metrics
from forwarder.ops.report import WorkerReport
from forwarder.ops.reporter import LaneStatus, PartitionFailure, Phase
from tests.doubles import LoopClock, own, run_virtually

ZERO, ONE = Partition("raw", 0), Partition("raw", 1)


class HandClock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def wall_ms(self) -> int:
        return round(self.now * 1000)

    def steady(self) -> float:
        return self.now


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def health(clock: HandClock) -> Health:
    return Health(clock)


@pytest.fixture
def report(clock: HandClock, health: Health) -> WorkerReport:
    known = ConfiguredLabels(connections={"acme": (), "old": ()})
    return WorkerReport(Metrics("1", known=known), health, clock, {"acme": True, "old": False})


def lanes(report: WorkerReport, connection: str, state: str) -> float | None:
    labels = {"connection": connection, "state": state}
    return report.metrics.registry.get_sample_value("forwarder_lanes", labels)


def reopens(report: WorkerReport, cause: str) -> float | None:
    name = "forwarder_partition_reopens_total"
    return report.metrics.registry.get_sample_value(name, {"cause": cause})


def test_a_loop_without_heartbeats_is_not_alive_until_it_beats_again(
    clock: HandClock, health: Health
) -> None:
    clock.now += HEARTBEAT_TIMEOUT
    assert health.alive()
    clock.now += 0.1
    assert not health.alive()
    health.heartbeat()
    assert health.alive()


def test_nothing_is_ready_before_the_group_is_joined(health: Health) -> None:
    assert not health.ready()
    described = {"ready": False, "joined": False, "reason": NOT_JOINED, "partitions": {}}
    assert described == health.described()


def test_a_member_without_a_partition_is_ready(health: Health) -> None:
    own(health, {})
    assert health.ready()


@pytest.mark.parametrize(
    ("phases", "ready"),
    [
        ([Phase.OPEN, Phase.OPEN], True),
        ([Phase.OPEN, Phase.OPENING], False),
        ([Phase.OPEN, Phase.REFUSED], True),
        ([Phase.REFUSED, Phase.REFUSED], True),
    ],
)
def test_ready_means_that_no_owned_partition_is_still_opening(
    health: Health, phases: list[Phase], *, ready: bool
) -> None:
    own(health, dict(zip((ZERO, ONE), phases, strict=True)))
    assert ready == health.ready()


def test_a_partition_that_moved_away_is_forgotten_with_its_lanes(health: Health) -> None:
    own(health, {ZERO: Phase.OPEN, ONE: Phase.OPENING})
    health.lane_status("acme", "raw/1", LaneStatus.PAUSED, "no stream")
    own(health, {ZERO: Phase.OPEN})
    assert ["raw/0"] == list(health.described()["partitions"])
    assert {} == health.lanes
    assert health.ready()


def test_a_broken_destination_is_a_detail_with_reason_and_remedy(
    clock: HandClock, health: Health
) -> None:
    own(health, {ZERO: Phase.OPEN})
    health.lane_status("acme", "raw/0", LaneStatus.PAUSED, "AccessDenied: allow kinesis:PutRecord")
    clock.now += 60
    health.lane_status("acme", "raw/0", LaneStatus.PAUSED, "ResourceNotFound: create the stream")
    health.lane_status("beta", "raw/0", LaneStatus.FLOWING, "")
    assert health.ready()
    assert {
        "acme": {
            "state": "paused",
            "since": "1970-01-01T00:16:40+00:00",
            "reason": "ResourceNotFound: create the stream",
            "remedy": "mend what the reason names; it is tried again by itself every 5 to 60 s",
        }
    } == health.described()["partitions"]["raw/0"]["lanes"]


def test_of_a_connection_the_worst_lane_is_shown_and_how_many_are_so(
    clock: HandClock, health: Health
) -> None:
    own(health, dict.fromkeys((ZERO, ONE, Partition("raw", 2)), Phase.OPEN))
    health.lane_status("acme", "raw/0", LaneStatus.BACKING_OFF, "Throttling")
    clock.now += 60
    told = "AccessDenied; allow it"
    health.lane_status("acme", "raw/1", LaneStatus.PAUSED, told, "allow it")
    clock.now += 60
    health.lane_status("acme", "raw/2", LaneStatus.PAUSED, told, "allow it")
    health.lane_status("beta", "raw/2", LaneStatus.FLOWING, "")
    assert {
        "acme": {
            "state": "paused",
            "since": "1970-01-01T00:17:40+00:00",
            "reason": "AccessDenied",
            "remedy": "allow it; it is tried again by itself every 5 to 60 s",
            "partitions": 2,
        }
    } == health.described()["connections"]


def test_a_worker_whose_lanes_are_all_well_lists_none(health: Health) -> None:
    own(health, {ZERO: Phase.OPEN})
    health.lane_status("acme", "raw/0", LaneStatus.BACKING_OFF, "Throttling")
    health.lane_status("acme", "raw/0", LaneStatus.FLOWING, "")
    assert "connections" not in health.described()


def test_a_refused_partition_keeps_its_reason_when_ownership_is_reported(health: Health) -> None:
    health.partition_phase("raw/0", Phase.REFUSED, "the state is lost; accept the loss")
    health.partitions_owned([ZERO])
    described = health.described()["partitions"]["raw/0"]
    assert described["reason"] == "the state is lost; accept the loss"


def test_what_the_worker_waits_for_is_told_with_its_remedy_until_it_goes_on(
    clock: HandClock, health: Health
) -> None:
    health.waiting_for("Kafka at b:1 did not tell", "start it")
    clock.now += 5
    health.waiting_for("Kafka at b:1 did not tell more", "start it")
    told = health.described()
    assert {
        "state": "waiting",
        "since": "1970-01-01T00:16:40+00:00",
        "reason": "Kafka at b:1 did not tell more",
        "remedy": "start it; it is tried again by itself every few seconds",
    } == told["kafka"]
    assert "reason" not in told
    health.waiting_for("", "")
    assert "kafka" not in health.described()


def test_a_partition_that_cannot_be_opened_says_why_and_what_to_do(health: Health) -> None:
    health.partition_phase("raw/0", Phase.OPENING, "Write is refused", "grant Write")
    health.partitions_owned([ZERO])
    described = health.described()["partitions"]["raw/0"]
    assert "Write is refused" == described["reason"]
    assert "grant Write; it is tried again by itself every few seconds" == described["remedy"]
    own(health, {ZERO: Phase.OPEN})
    assert "remedy" not in health.described()["partitions"]["raw/0"]


def test_since_is_the_time_of_the_last_change(clock: HandClock, health: Health) -> None:
    own(health, {ZERO: Phase.OPENING})
    clock.now += 5
    own(health, {ZERO: Phase.OPENING})
    assert health.described()["partitions"]["raw/0"]["since"] == "1970-01-01T00:16:40+00:00"
    own(health, {ZERO: Phase.OPEN})
    assert health.described()["partitions"]["raw/0"]["since"] == "1970-01-01T00:16:45+00:00"


def test_lanes_count_as_their_files_say_until_something_else_is_reported(
    report: WorkerReport,
) -> None:
    own(report, {ZERO: Phase.OPEN, ONE: Phase.OPEN})
    assert lanes(report, "acme", "flowing") == 2
    assert lanes(report, "old", "inactive") == 2
    report.lane_status("acme", "raw/1", LaneStatus.PAUSED, "no stream")
    assert lanes(report, "acme", "flowing") == 1
    assert lanes(report, "acme", "paused") == 1


def since(report: WorkerReport, state: str) -> float | None:
    labels = {"connection": "acme", "state": state}
    name = "forwarder_lane_since_timestamp_seconds"
    return report.metrics.registry.get_sample_value(name, labels)


def test_since_when_a_lane_is_in_a_state_is_the_earliest_of_its_partitions(
    clock: HandClock, report: WorkerReport
) -> None:
    own(report, {ZERO: Phase.OPEN, ONE: Phase.OPEN})
    assert 1000 == since(report, "flowing")
    clock.now += 5
    report.lane_status("acme", "raw/1", LaneStatus.PAUSED, "no stream")
    clock.now += 5
    report.lane_status("acme", "raw/0", LaneStatus.PAUSED, "no stream")
    assert (1005, None) == (since(report, "paused"), since(report, "flowing"))
    report.lane_status("acme", "raw/1", LaneStatus.FLOWING, "")
    assert (1010, 1010) == (since(report, "paused"), since(report, "flowing"))


def test_lanes_begin_anew_when_their_partition_is_opened_again(report: WorkerReport) -> None:
    own(report, {ZERO: Phase.OPEN})
    report.lane_status("acme", "raw/0", LaneStatus.PAUSED, "no stream")
    own(report, {ZERO: Phase.OPENING})
    assert lanes(report, "acme", "paused") == 0
    report.lane_status("acme", "raw/0", LaneStatus.STOPPED, "batches expired unsent")
    report.partition_phase("raw/0", Phase.OPEN, "")
    assert lanes(report, "acme", "stopped") == 1


def test_an_opening_after_a_failure_is_counted_with_its_cause(report: WorkerReport) -> None:
    report.partition_opened("raw/0")
    assert reopens(report, "JournalError") == 0
    report.tick("raw/0", 1.0, "JournalError")
    report.partition_opened("raw/0")
    assert reopens(report, "JournalError") == 1
    report.partition_opened("raw/0")
    assert reopens(report, "JournalError") == 1
    assert reopens(report, "other") == 1


def test_what_failed_is_open_again_once_a_tick_has_committed_and_keeps_its_lanes(
    report: WorkerReport, health: Health
) -> None:
    def fails() -> None:
        report.partition_failed(ZERO, PartitionFailure.RUNNING)
        report.partition_phase("raw/0", Phase.OPENING, "too few replicas", "start the brokers")

    def opens() -> None:
        report.lane_status("acme", "raw/0", LaneStatus.STOPPED, "batches expired unsent")
        report.partition_opened("raw/0")

    own(report, {ZERO: Phase.OPEN})
    fails()
    opens()
    told = health.described()["partitions"]["raw/0"]
    assert ("opening", "too few replicas", False) == (
        told["state"], told["reason"], health.ready()
    )  # fmt: skip
    assert {"acme"} == told["lanes"].keys()
    fails()
    assert "lanes" not in health.described()["partitions"]["raw/0"]
    opens()
    report.tick("raw/0", 0.1, "committed")
    own(report, {ZERO: Phase.OPEN})
    told = health.described()["partitions"]["raw/0"]
    assert ("open", {"acme"}, True) == (told["state"], told["lanes"].keys(), health.ready())
    assert "reason" not in told


def test_a_partition_that_comes_back_from_another_worker_was_not_reopened(
    report: WorkerReport,
) -> None:
    report.partitions_owned([ZERO])
    report.partition_opened("raw/0")
    report.partitions_owned([ONE])
    report.partitions_owned([ZERO])
    report.partition_opened("raw/0")
    assert reopens(report, "other") == 0


def test_the_pulse_beats_every_second_and_tells_how_late_it_came() -> None:
    async def scenario() -> tuple[float, float | None, float | None]:
        clock = LoopClock()
        health = Health(clock)
        report = WorkerReport(Metrics("1"), health, clock, {})
        pulse = asyncio.create_task(report.run_heartbeat())
        await asyncio.sleep(10.5)
        pulse.cancel()
        sample = report.metrics.registry.get_sample_value
        count = sample("forwarder_loop_lag_seconds_count")
        return (
            health.heartbeat_age(),
            count,
            sample("forwarder_loop_lag_seconds_bucket", {"le": "0.001"}),
        )

    silence, count, in_time = run_virtually(scenario())
    assert pytest.approx(0.5) == silence
    assert (10.0, 10.0) == (count, in_time)


def test_the_pulse_says_what_a_connection_waits_for_once_for_all_partitions() -> None:
    async def scenario() -> list[tuple[str, str, int]]:
        clock = LoopClock()
        report = WorkerReport(Metrics("1"), Health(clock), clock, {"acme": True})
        own(report, {ZERO: Phase.OPEN, ONE: Phase.OPEN})
        pulse = asyncio.create_task(report.run_heartbeat())
        with capture_logs() as logs:
            for partition in (ZERO, ONE):
                report.lane_status("acme", str(partition), LaneStatus.PAUSED, "no stream")
            await asyncio.sleep(600)
            own(report, {ZERO: Phase.OPEN, ONE: Phase.OPENING})
            report.partition_phase("raw/1", Phase.OPEN, "")
            report.lane_status("acme", "raw/0", LaneStatus.FLOWING, "")
            await asyncio.sleep(600)
        pulse.cancel()
        return [(line["event"], line["status"], line["partitions"]) for line in logs]

    expected = [("lane.status", "paused", 2), ("lane.status", "flowing", 1)]
    assert expected == run_virtually(scenario())


def test_names_that_anybody_may_write_into_a_header_are_no_labels(report: WorkerReport) -> None:
    names = ["acme", "old", "", "x1", "x2"]
    letters = [DeadLetter(Reason.INVALID_JSON, 1, name, "", b"") for name in names]
    report.dead_letters("raw/0", letters)
    found = {
        sample.labels["connection"]: sample.value
        for metric in report.metrics.registry.collect()
        for sample in metric.samples
        if sample.name == "forwarder_dead_letters_total" and sample.value
    }
    assert {"acme": 1, "old": 1, "": 1, UNKNOWN_CONNECTION: 2} == found
