"""The alarm of a lane that lags, and for how long the outbox is kept."""

import asyncio
from collections.abc import Iterable, Mapping

import pytest
from structlog.testing import capture_logs

from forwarder.config.settings import Configuration, InputTopic, Kafka
from forwarder.errors import JournalError
from forwarder.journal.retention import EVERY, OutboxRetention
from forwarder.ops.alarms import LatenessAlarm, is_late
from tests import doubles
from tests.world import virtually

WEEK = 604_800.0


@pytest.mark.parametrize(
    ("late", "age", "retention"),
    [
        (False, 0.0, WEEK),
        (False, WEEK / 2, WEEK),
        (True, WEEK / 2 + 1, WEEK),
        (True, 2 * WEEK, WEEK),
        (False, 99 * WEEK, None),
    ],
)
def test_late_is_older_than_half_of_what_the_outbox_keeps(
    age: float, retention: float | None, *, late: bool
) -> None:
    assert late == is_late(age, retention)


def test_a_late_connection_is_said_once_and_once_more_when_it_is_over() -> None:
    lateness = LatenessAlarm()
    with capture_logs() as logs:
        lateness.update({"acme": 9.0, "beta": 1.0}, set())
        lateness.update({"acme": 4001.0, "beta": 1.0}, {"acme"})
        lateness.update({"acme": 4006.0, "beta": 1.0}, {"acme"})
        lateness.update({"acme": 0.0, "beta": 1.0}, set())
        lateness.update({"acme": 0.0, "beta": 1.0}, set())
    assert [("lane.late", "acme", 4001), ("lane.on_time", "acme", 0)] == [
        (line["event"], line["connection"], line["seconds"]) for line in logs
    ]
    assert all(word in logs[0]["remedy"] for word in ("mend", "outbox_retention", "deliver_from"))


class Cluster:
    """Answers for the settings of topics as told."""

    def __init__(self) -> None:
        self.found: dict[str, Mapping[str, str] | str] = {}
        self.asked = 0
        self.away = False

    async def settings(self, topics: Iterable[str]) -> dict[str, Mapping[str, str] | str]:
        self.asked += 1
        assert ["forwarder.outbox.raw"] == list(topics)
        if self.away:
            msg = "the broker is away"
            raise JournalError(msg)
        return self.found


def retention(cluster: Cluster) -> OutboxRetention:
    """Return what asks ``cluster`` by the clock of a virtual loop."""
    kafka = Kafka(bootstrap_servers=("b:9092",), topics=(InputTopic("raw"),))
    settings = Configuration(kafka=kafka, connections=())
    return OutboxRetention(settings, cluster, doubles.LoopClock())  # type: ignore[arg-type]  # no more is asked of it


@virtually
async def test_what_the_topic_says_counts_and_is_asked_once_in_a_while() -> None:
    cluster = Cluster()
    kept = retention(cluster)
    assert WEEK == kept.seconds("raw")
    cluster.found = {"forwarder.outbox.raw": {"retention.ms": "90000"}}
    await kept.refresh()
    assert 90.0 == kept.seconds("raw")
    cluster.found = {"forwarder.outbox.raw": {"retention.ms": "-1"}}
    await kept.refresh()
    assert (90.0, 1) == (kept.seconds("raw"), cluster.asked)
    await asyncio.sleep(EVERY)
    await kept.refresh()
    assert (None, 2) == (kept.seconds("raw"), cluster.asked)


@virtually
async def test_what_kafka_does_not_tell_is_as_configured() -> None:
    cluster = Cluster()
    kept = retention(cluster)
    cluster.away = True
    await kept.refresh()
    cluster.away, cluster.found = False, {"forwarder.outbox.raw": "TopicAuthorizationFailedError"}
    await asyncio.sleep(EVERY)
    await kept.refresh()
    assert (WEEK, 2) == (kept.seconds("raw"), cluster.asked)
