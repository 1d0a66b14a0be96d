"""One worker reads topics of two formats: connections take part in both, as each match says."""

import json

import pytest

from forwarder import app
from forwarder.collect.pipeline import Pipeline
from forwarder.config.connection import Connection, Match, Settings
from forwarder.config.settings import (
    Configuration,
    InputTopic,
    JournalSettings,
    Kafka,
    LimitSettings,
)
from forwarder.config.targets import FileTarget
from forwarder.formats.contract import DUPLICATES
from forwarder.formats.pinpoint import kinds
from forwarder.journal.memory import MemoryJournals
from forwarder.model import Batch, Partition
from tests.builders import NOW, START, Rec, finished, merged
from tests.doubles import LoopClock, Notes
from tests.format_senders import SENDERS

FORMATS = {"uploads": "mparticle", "events": "pinpoint"}


def connection(name: str, written: str, *topics: str, application: str = "shop") -> Connection:
    match = Match(application=frozenset({application}), topic=frozenset(topics) if topics else None)
    return Connection(name, FileTarget("out", format=written), match=match, settings=Settings())


def delivered(*connections: Connection) -> dict[tuple[str, str], list[Batch]]:
    """Return by topic and connection the batches of one upload with one event in each topic."""
    limits = LimitSettings()
    plan = app.WorkerPlan("g", connections, JournalSettings(), limits, FORMATS)
    lanes = app.make_context(plan, {}, MemoryJournals(), LoopClock(), Notes()).lanes
    found: dict[tuple[str, str], list[Batch]] = {}
    for topic, form in FORMATS.items():
        assert [one.name for one in connections] == [lane.name for lane in lanes[topic].lanes]
        fed = Pipeline(Partition(topic, 0), lanes[topic])
        sender = SENDERS[form]
        value = sender.record(sender.event(1, session="s"))
        out = merged([fed.collect([Rec(0, START, value)], NOW), *finished(fed)])
        assert [] == out.dead_letters
        for batch in out.batches:
            found.setdefault((topic, batch.lane), []).append(batch)
    return found


@pytest.mark.parametrize("written", ["mparticle", "pinpoint"])
def test_every_connection_takes_part_in_topics_of_every_format(written: str) -> None:
    found = delivered(connection("all", written))
    assert {("uploads", "all"), ("events", "all")} == found.keys()
    key = "event_type" if written == "pinpoint" else "message_id"
    for (batch,) in found.values():
        assert key in json.loads(batch.payload)


def test_a_connection_of_one_topic_wants_nothing_of_another_and_stays_a_lane_there() -> None:
    found = delivered(
        connection("of events", "pinpoint", "events"),
        connection("of uploads", "mparticle", "uploads"),
        connection("of both", "pinpoint", "uploads", "events"),
        connection("of none", "mparticle", "elsewhere"),
    )
    assert {
        ("events", "of events"),
        ("uploads", "of uploads"),
        ("uploads", "of both"),
        ("events", "of both"),
    } == found.keys()


def test_an_app_is_known_by_its_id_and_by_its_package_where_it_has_both() -> None:
    by_id = connection("by id", "pinpoint", application="a1b2c3")
    by_package = connection("by package", "pinpoint", application="shop")
    assert {
        ("events", "by id"),
        ("events", "by package"),
        ("uploads", "by package"),
    } == delivered(by_id, by_package).keys()


def test_metrics_know_the_reasons_of_all_formats_that_are_read() -> None:
    topics = tuple(InputTopic(name, form) for name, form in FORMATS.items())
    chosen = connection("one", "pinpoint")
    for read, own in ((topics, True), (topics[:1], False)):
        configuration = Configuration(Kafka(("b:1",), read), (chosen,))
        reasons = app.metric_labels(configuration).connections["one"]
        assert own == (kinds.TEST_EVENTS in reasons)
        assert DUPLICATES not in reasons
        assert len(reasons) == len(set(reasons))
