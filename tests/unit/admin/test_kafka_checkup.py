"""What a checkup makes of settings, without a Kafka."""

from dataclasses import replace

import pytest

from forwarder.admin.kafka_checkup import KafkaCheckup
from forwarder.config.settings import Configuration, InputTopic, Kafka
from forwarder.ops.diagnosis import FindingGrade

KAFKA = Kafka(("127.0.0.1:1",), (InputTopic("raw"),), "g", dead_letter_topic="letters")


MINUTE = 60_000


@pytest.mark.parametrize(
    ("told", "grades"),
    [
        ({"retention.ms": str(30 * MINUTE)}, []),
        ({"retention.ms": str(30 * MINUTE - 1)}, [FindingGrade.FAIL]),
        ({"retention.ms": "-1"}, []),
        ({}, []),
        ({"retention.ms": "-1", "cleanup.policy": "compact"}, [FindingGrade.NOTE]),
        ("TopicAuthorizationFailedError", []),
    ],
)
def test_an_input_is_kept_for_as_long_as_a_replay_looks_back_for_duplicates(
    told: dict[str, str] | str, grades: list[FindingGrade]
) -> None:
    """The window, and two intervals between snapshots of ten minutes each."""
    topics = (InputTopic("raw"), InputTopic("retried", duplicates_ms=10 * MINUTE))
    checkup = KafkaCheckup(Configuration(replace(KAFKA, topics=topics), ()), "me")
    found = list(checkup._look_backs({"raw": told, "retried": told}))  # noqa: SLF001  # a part
    assert grades == [one.grade for one in found]
    assert all("topic retried" in one.what for one in found)


@pytest.mark.parametrize(
    ("letters", "grades"),
    [
        ({"cleanup.policy": "delete", "max.message.bytes": "2000000"}, []),
        ({"cleanup.policy": "compact,delete", "max.message.bytes": "2000000"}, [FindingGrade.FAIL]),
        ({"cleanup.policy": "delete", "max.message.bytes": "5000"}, [FindingGrade.NOTE]),
        ({"cleanup.policy": "delete", "max.message.bytes": "1000"}, [FindingGrade.FAIL]),
        ("TopicAuthorizationFailedError", []),
    ],
)
def test_a_dead_letter_topic_that_takes_no_letter_is_to_be_mended(
    letters: dict[str, str] | str, grades: list[FindingGrade]
) -> None:
    checkup = KafkaCheckup(Configuration(KAFKA, ()), "me")
    found = list(checkup._letters({"letters": letters}))  # noqa: SLF001  # a part of the look
    assert grades == [one.grade for one in found]
