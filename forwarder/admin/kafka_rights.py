"""What the principal may do, as the brokers say it: nothing is tried and nothing is changed.

Operations are listed as bits by metadata version 8 (topics) and DescribeGroups version 3
(KIP-430, Kafka 2.3). aiokafka 0.14 asks for neither.
"""

from typing import Any

from aiokafka.errors import GroupAuthorizationFailedError
from aiokafka.protocol.admin import DescribeGroupsRequest_v3, DescribeGroupsResponse_v3
from aiokafka.protocol.api import Request

from forwarder.kafka.topic_id import _METADATA, _NO_ID, _Question

_OPERATIONS = {
    3: "Read",
    4: "Write",
    5: "Create",
    6: "Delete",
    7: "Alter",
    8: "Describe",
    10: "DescribeConfigs",
}
"""Of Kafka's ``AclOperation`` those that a worker needs, by their number."""

_UNKNOWN = -(2**31)
_DESCRIBE_GROUPS = 15

Operations = frozenset[str]


class TopicRightsRequest(Request[_Question]):  # type: ignore[misc]  # the client ships no types
    """Asks what is granted on topics; brokers before 2.8 do not understand it."""

    API_KEY = _METADATA

    def __init__(self, topics: list[str]) -> None:
        """Ask for ``topics``."""
        self._topics = topics

    def build(self, request_struct_class: type[_Question]) -> _Question:
        """Return the request as it is sent."""
        wanted: list[tuple[bytes, str, dict[str, object]]] = [
            (_NO_ID, topic, {}) for topic in self._topics
        ]
        return request_struct_class(wanted, False, False, True, {})  # noqa: FBT003


class _GroupQuestion(DescribeGroupsRequest_v3):  # type: ignore[misc]  # the client ships no types
    # The client's own leaves out what this is about.
    RESPONSE_TYPE = DescribeGroupsResponse_v3


class GroupRightsRequest(Request[_GroupQuestion]):  # type: ignore[misc]  # as above
    """Asks what is granted on a group."""

    API_KEY = _DESCRIBE_GROUPS

    def __init__(self, group: str) -> None:
        """Ask for ``group``."""
        self._group = group

    def build(self, request_struct_class: type[_GroupQuestion]) -> _GroupQuestion:
        """Return the request as it is sent."""
        return request_struct_class([self._group], True)  # noqa: FBT003


def on_topics(answer: Any) -> dict[str, Operations]:  # noqa: ANN401  # the client ships no types
    """Return what is granted on each topic that is there."""
    return {
        name: granted
        for error, name, _, _, _, bits, *_ in answer.topics
        if not error and (granted := operations(bits)) is not None
    }


def on_group(answer: Any) -> Operations | None:  # noqa: ANN401  # as above
    """Return what is granted on the group; None where the broker does not say."""
    error, _, _, _, _, _, bits = answer.groups[0]
    if error == GroupAuthorizationFailedError.errno:
        return frozenset()
    return None if error else operations(bits)


def operations(bits: int) -> Operations | None:
    """Return the operations that bits stand for; None where the broker does not say."""
    if bits == _UNKNOWN:
        return None
    return frozenset(name for number, name in _OPERATIONS.items() if bits & (1 << number))
