"""What may happen a million times is told once, and then in counts."""

import asyncio

import pytest
from structlog.testing import capture_logs

from forwarder.model import Collected, DeadLetter, Reason, Unused
from forwarder.ops.alarms import (
    COUNT_LOG_SECONDS,
    MAX_KINDS_NAMED,
    MIN_UNUSED_UPLOADS,
    UNUSED_LOG_SECONDS,
)
from forwarder.ops.catalogue import UNKNOWN_CONNECTION
from forwarder.ops.definition import ConfiguredLabels
from forwarder.ops.health import Health
from forwarder.ops.metrics import Metrics
from forwarder.ops.report import WorkerReport
from tests.doubles import LoopClock, run_virtually

JSON, LARGE = Reason.INVALID_JSON, Reason.EVENT_TOO_LARGE


def letter(reason: Reason, connection: str = "", offset: int = 0) -> DeadLetter:
    return DeadLetter(reason, offset, connection, "why", b"{")


def reporting() -> WorkerReport:
    clock = LoopClock(1_700_000_000_000)
    names = ["acme", *(f"c{number}" for number in range(100))]
    metrics = Metrics("1", known=ConfiguredLabels(connections=dict.fromkeys(names, ())))
    return WorkerReport(metrics, Health(clock), clock, dict.fromkeys(names, True))


def test_the_first_letter_of_a_kind_is_told_and_then_counts_once_a_minute() -> None:
    async def scenario() -> list[dict[str, object]]:
        report = reporting()
        pulse = asyncio.create_task(report.run_heartbeat())
        with capture_logs() as logs:
            for second in range(150):
                report.dead_letters("raw/3", [letter(JSON, offset=second)] * 1_000)
                if second == 70:
                    report.dead_letters("raw/3", [letter(LARGE, "acme", 7)])
                await asyncio.sleep(1.0)
            await asyncio.sleep(2 * COUNT_LOG_SECONDS)
        pulse.cancel()
        return [dict(line) for line in logs]

    lines = run_virtually(scenario())
    first = [line for line in lines if line["event"] == "dead_letters.first"]
    assert [("invalid_json", "", 0), ("event_too_large", "acme", 7)] == [
        (line["reason"], line["connection"], line["offset"]) for line in first
    ]
    assert all((line["partition"], line["error"]) == ("raw/3", "why") for line in first)
    counted = [line for line in lines if line["event"] == "dead_letters.counted"]
    assert 150_000 == 1 + sum(line["count"] for line in counted)  # type: ignore[misc]
    assert 3 == len(counted)
    assert all("redrive" in str(line["remedy"]) for line in lines)


def test_a_line_names_a_bounded_number_of_kinds_and_no_name_of_a_header() -> None:
    async def scenario() -> dict[str, object]:
        report = reporting()
        names = [*(f"c{number}" for number in range(100)), *(f"x{n}" for n in range(500))]
        for _ in range(2):
            report.dead_letters("raw/3", [letter(LARGE, name) for name in names])
        pulse = asyncio.create_task(report.run_heartbeat())
        with capture_logs() as logs:
            await asyncio.sleep(COUNT_LOG_SECONDS + 2)
        pulse.cancel()
        [line] = logs
        return dict(line)

    line = run_virtually(scenario())
    kinds = line["kinds"]
    assert isinstance(kinds, list)
    assert (MAX_KINDS_NAMED, 101 - MAX_KINDS_NAMED) == (len(kinds), line["more_kinds"])
    assert (UNKNOWN_CONNECTION, 999) == (kinds[0]["connection"], kinds[0]["count"])
    assert 1_099 == line["count"]


@pytest.mark.parametrize(
    ("uploads", "unused", "lines"),
    [
        (MIN_UNUSED_UPLOADS, MIN_UNUSED_UPLOADS, 2),
        (3 * MIN_UNUSED_UPLOADS, MIN_UNUSED_UPLOADS, 0),
        (MIN_UNUSED_UPLOADS - 1, MIN_UNUSED_UPLOADS - 1, 0),
    ],
)
def test_uploads_without_use_are_told_of_when_they_are_many(
    uploads: int, unused: int, lines: int
) -> None:
    async def scenario() -> list[dict[str, object]]:
        report = reporting()
        pulse = asyncio.create_task(report.run_heartbeat())
        poll = Collected(uploads=uploads, unused={Unused.MISSING: unused})
        with capture_logs() as logs:
            for _ in range(round(2 * UNUSED_LOG_SECONDS / COUNT_LOG_SECONDS) - 1):
                await asyncio.sleep(COUNT_LOG_SECONDS / 2)
                report.collected("raw/3", poll)
                await asyncio.sleep(COUNT_LOG_SECONDS / 2)
        pulse.cancel()
        return [dict(line) for line in logs]

    told = run_virtually(scenario())
    assert ["uploads.unused"] * lines == [line["event"] for line in told]
    assert all({"events_missing": unused} == line["unused"] for line in told)
