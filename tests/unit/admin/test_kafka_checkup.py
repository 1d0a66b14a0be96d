"""What a checkup makes of settings, without a Kafka."""

import pytest

from forwarder.admin.kafka_checkup import KafkaCheckup
from forwarder.config.settings import Configuration, InputTopic, Kafka
from forwarder.ops.diagnosis import FindingGrade

KAFKA = Kafka(("127.0.0.1:1",), (InputTopic("raw"),), "g", dead_letter_topic="letters")


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
