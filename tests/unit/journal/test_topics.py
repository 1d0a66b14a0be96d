"""What the worker needs on Kafka, compared with what is there."""

import pytest

from forwarder.config.settings import Configuration, InputTopic, JournalSettings, Kafka
from forwarder.journal import topics
from forwarder.journal.kafka import TopicCheckCache
from forwarder.journal.topics import TopicNeed, TopicStatus
from forwarder.model import Partition

NEED = TopicNeed("t", 3, ("Read",), {"max.message.bytes": "100", "retention.ms": "-1"})


def configuration(*names: str, create: bool = True) -> Configuration:
    kafka = Kafka(("localhost:1",), tuple(map(InputTopic, names)), group_id="g")
    return Configuration(kafka, (), JournalSettings(create_topics=create))


def test_every_input_topic_has_an_outbox_and_a_state() -> None:
    found = topics.topic_needs(configuration("a", "b"), {"a": 4, "b": 7})
    expected = [
        ("a", 4),
        ("g.outbox.a", 4),
        ("g.state.a", 4),
        ("b", 7),
        ("g.outbox.b", 7),
        ("g.state.b", 7),
        ("forwarder-dead-letters", 1),
    ]
    assert expected == [(need.topic, need.partitions) for need in found]


def test_the_right_to_create_is_needed_only_where_topics_are_created() -> None:
    for create in (True, False):
        wanted = topics.topic_needs(configuration("a", create=create), {"a": 1})
        assert create == any("Create" in need.operations for need in wanted)
        assert all("Create" not in need.operations for need in wanted if not need.own)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"max.message.bytes": "100", "retention.ms": "-1"}, []),
        ({"max.message.bytes": "101", "retention.ms": "-1"}, []),
        ({}, []),
        ({"max.message.bytes": "99"}, ["max.message.bytes is 99, must be 100"]),
        ({"retention.ms": "5"}, ["retention.ms is 5, must be -1"]),
    ],
)
def test_only_what_would_lose_records_is_wrong(
    settings: dict[str, str], expected: list[str]
) -> None:
    assert expected == topics.topic_setting_faults(NEED, settings)


@pytest.mark.parametrize(("value", "fine"), [("1000", True), ("999", False), ("-1", True)])
def test_a_topic_may_keep_its_records_longer(value: str, fine: bool) -> None:  # noqa: FBT001
    need = TopicNeed("t", 1, (), {"retention.ms": "1000"})
    assert fine == (topics.topic_setting_faults(need, {"retention.ms": value}) == [])


@pytest.mark.parametrize("policy", ["compact", "compact,delete"])
def test_a_compacted_topic_is_wrong(policy: str) -> None:
    need = TopicNeed("t", 1, (), {"cleanup.policy": "delete"})
    assert topics.topic_setting_faults(need, {"cleanup.policy": policy}) != []


@pytest.mark.parametrize(
    ("counts", "settings", "mark"),
    [
        ({"t": 3}, {"t": {}}, TopicStatus.OK),
        ({"t": 9}, {"t": {}}, TopicStatus.OK),
        ({"t": 2}, {"t": {}}, TopicStatus.WRONG),
        ({}, {"t": "UnknownTopicOrPartitionError"}, TopicStatus.MISSING),
        ({}, {"t": "TopicAuthorizationFailedError"}, TopicStatus.DENIED),
        ({"t": 3}, {"t": "TopicAuthorizationFailedError"}, TopicStatus.DENIED),
        ({"t": 3}, {"t": {"retention.ms": "1"}}, TopicStatus.WRONG),
    ],
)
def test_every_need_is_marked(
    counts: dict[str, int], settings: dict[str, dict[str, str] | str], mark: TopicStatus
) -> None:
    [row] = topics.topic_report([NEED], counts, settings, "letters")
    assert mark == row.mark


def test_a_dead_letter_topic_of_the_users_own_is_never_wrong() -> None:
    [row] = topics.topic_report([NEED], {"t": 3}, {"t": {"max.message.bytes": "1"}}, "t")
    assert row.mark is TopicStatus.OK


def test_refused_rights_are_marked() -> None:
    settings = configuration("a")
    rows = topics.acl_report(settings, topics.topic_needs(settings, {}), {"group"})
    assert ["group g: Read"] == [row.text for row in rows if row.mark is TopicStatus.DENIED]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [({"max.message.bytes": "5"}, 5), ({}, 1_048_588), ("Error", 1_048_588), (None, 1_048_588)],
)
def test_an_unknown_limit_is_taken_for_kafkas_default(
    settings: dict[str, str] | str | None, expected: int
) -> None:
    assert expected == topics.message_limit(settings)


@pytest.mark.parametrize(
    ("counts", "found", "what", "remedy"),
    [
        ({}, {}, "topic t does not exist", "create it: 3 partitions, max.message.bytes=100"),
        ({"t": 2}, {}, "topic t: it has 2 partitions, needs 3", "give it 3 partitions"),
        ({"t": 3}, {"retention.ms": "5"}, "topic t: retention.ms is 5", "kafka-configs"),
        ({"t": 3}, "TopicAuthorizationFailedError", "DescribeConfigs is refused", "grant"),
    ],
)
def test_what_a_partition_waits_for_is_said_with_what_to_do(
    counts: dict[str, int], found: dict[str, str] | str, what: str, remedy: str
) -> None:
    fault = topics.topic_fault(NEED, 3, counts, {"t": found}, "letters")
    assert fault is not None
    assert what in fault[0]
    assert remedy in fault[1]


def test_a_partition_waits_only_for_what_it_needs_itself() -> None:
    assert topics.topic_fault(NEED, 2, {"t": 2}, {"t": {}}, "letters") is None


def test_the_needs_of_one_input_name_no_other() -> None:
    found = topics.topic_needs(configuration("a", "b"), {"a": 4, "b": 7}, {"b"})
    expected = ["b", "g.outbox.b", "g.state.b", "forwarder-dead-letters"]
    assert expected == [need.topic for need in found]


def test_a_look_at_topics_serves_each_partition_once_and_only_while_it_is_fresh() -> None:
    looks = TopicCheckCache()
    one, two, other = Partition("a", 1), Partition("a", 2), Partition("b", 1)
    assert not looks.use(one, 10.0)
    looks.add({one}, 10.0)
    assert [True, False, False] == [looks.use(p, 10.5) for p in (two, one, other)]
    assert not looks.use(two, 10.6)
    looks.add({one}, 11.0)
    assert looks.use(two, 11.5)
    looks.add({one}, 12.0)
    assert not looks.use(two, 13.1)
