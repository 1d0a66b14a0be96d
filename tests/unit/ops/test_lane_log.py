"""What is said of connections: one line for all partitions, and not over and over."""

from collections.abc import Iterator, MutableMapping
from typing import Any

import pytest
from structlog.testing import capture_logs

from forwarder.ops.lane_log import (
    BACKOFF_LOG_SECONDS,
    GATHER_SECONDS,
    REASON_LOG_SECONDS,
    LaneStatusLog,
)

DENIED = ("AccessDenied; allow it", "allow it")
Lines = list[MutableMapping[str, Any]]


class Told:
    """A log whose time the test moves, a second at a time."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.log = LaneStatusLog(lambda: self.now)

    def all(self, state: str, partitions: range, reason: tuple[str, str] = ("", "")) -> None:
        for number in partitions:
            self.log.change("acme", f"raw/{number}", state, *reason)

    def wait(self, seconds: float) -> None:
        for _ in range(round(seconds)):
            self.now += 1.0
            self.log.write_due()


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def lines() -> Iterator[Lines]:
    with capture_logs() as logs:
        yield logs


def said(lines: Lines) -> list[tuple[str, int]]:
    return [(line["status"], line["partitions"]) for line in lines]


def test_a_broken_destination_is_one_line_for_all_partitions(told: Told, lines: Lines) -> None:
    told.all("paused", range(48), DENIED)
    told.wait(GATHER_SECONDS)
    told.wait(600)
    assert [
        {
            "event": "lane.status",
            "log_level": "warning",
            "connection": "acme",
            "status": "paused",
            "partitions": 48,
            "reason": "AccessDenied; allow it",
            "remedy": "allow it",
        }
    ] == lines


def test_that_it_flows_again_is_said_once_all_of_it_does(told: Told, lines: Lines) -> None:
    told.all("paused", range(48), DENIED)
    told.wait(5)
    told.all("flowing", range(47))
    told.wait(5)
    assert [("paused", 48)] == said(lines)
    told.all("flowing", range(47, 48))
    told.wait(5)
    assert [("paused", 48), ("flowing", 48)] == said(lines)
    assert "info" == lines[-1]["log_level"]


def test_the_number_of_partitions_is_said_again_after_a_while(told: Told, lines: Lines) -> None:
    told.all("paused", range(3), DENIED)
    told.wait(5)
    told.all("paused", range(3, 40), DENIED)
    told.wait(REASON_LOG_SECONDS - 5)
    assert [("paused", 3)] == said(lines)
    told.wait(10)
    assert [("paused", 3), ("paused", 40)] == said(lines)


def test_another_reason_is_said_after_a_while(told: Told, lines: Lines) -> None:
    told.all("paused", range(2), DENIED)
    told.wait(5)
    told.all("paused", range(2), ("no stream; create it", "create it"))
    told.wait(REASON_LOG_SECONDS + 1)
    assert ["AccessDenied; allow it", "no stream; create it"] == [one["reason"] for one in lines]


def test_a_worse_state_is_said_at_once(told: Told, lines: Lines) -> None:
    told.all("backing_off", range(4), ("slow down", ""))
    told.wait(2)
    told.all("paused", range(1, 2), DENIED)
    told.wait(2)
    told.all("stopped", range(2, 3), ("expired; accept the loss", ""))
    told.wait(2)
    assert [("backing_off", 4), ("paused", 1), ("stopped", 1)] == said(lines)


def test_a_lane_that_is_throttled_many_times_a_second_is_said_calmly(
    told: Told, lines: Lines
) -> None:
    for number in range(100):
        told.all("backing_off", range(48), (f"shard {number}", ""))
        told.wait(1)
        told.all("flowing", range(48))
        told.wait(1)
    assert len(lines) <= 2 * (200 / BACKOFF_LOG_SECONDS)
    assert {"backing_off", "flowing"} == {line["status"] for line in lines}


def test_a_lane_that_goes_on_backing_off_is_said_at_last(told: Told, lines: Lines) -> None:
    told.all("backing_off", range(1), ("a", ""))
    told.wait(2)
    told.all("flowing", range(1))
    told.wait(2)
    told.all("backing_off", range(1), ("b", ""))
    told.wait(BACKOFF_LOG_SECONDS + 2)
    assert ["backing_off", "flowing", "backing_off"] == [line["status"] for line in lines]


def test_what_passes_within_a_moment_is_not_said(told: Told, lines: Lines) -> None:
    told.all("backing_off", range(8), ("slow down", ""))
    told.all("flowing", range(8))
    told.wait(60)
    assert [] == lines


def test_a_partition_that_moved_away_counts_no_more(told: Told, lines: Lines) -> None:
    told.all("paused", range(2), DENIED)
    told.all("flowing", range(2, 3))
    told.wait(2)
    told.log.set_partitions(["raw/2"])
    told.wait(2)
    assert [("paused", 2), ("flowing", 1)] == said(lines)


def test_a_lane_that_fails_anew_after_its_partition_was_opened_anew_is_news(
    told: Told, lines: Lines
) -> None:
    told.all("paused", range(2), DENIED)
    told.wait(2)
    told.log.set_partitions([])
    told.wait(2)
    assert [("paused", 2)] == said(lines)
    told.all("paused", range(2), DENIED)
    told.wait(2)
    assert [("paused", 2), ("paused", 2)] == said(lines)


def test_connections_are_told_apart(told: Told, lines: Lines) -> None:
    told.log.change("acme", "raw/0", "paused", *DENIED)
    told.log.change("beta", "raw/0", "stopped", "gone", "")
    told.wait(2)
    assert [("acme", "paused"), ("beta", "stopped")] == [
        (line["connection"], line["status"]) for line in lines
    ]
