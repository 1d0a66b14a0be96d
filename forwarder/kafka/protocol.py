"""Requests of Kafka's protocol that aiokafka 0.14 does not have, and what their answers say.

* Who holds a partition back, KIP-664 (Kafka 2.8 and 3.0): DescribeProducers asks a partition's
  leader which producers have a transaction open in it, ListTransactions every broker for the
  transactional ids it coordinates, DescribeTransactions an id's coordinator since when its
  transaction lasts.
* The id that a topic got when it was created, KIP-516 (Metadata version 10, Kafka 2.8): another id
  means another topic. aiokafka asks for metadata up to version 5.
* What the principal may do, KIP-430 (Kafka 2.3), listed as bits by Metadata from version 8 on and
  by DescribeGroups version 3. Nothing is tried and nothing is changed.

The layouts are those of Kafka's ``clients/src/main/resources/common/message``. All that is used of
the client's classes for requests is named here; a test sends each of them to a real broker.
"""

import uuid
from collections.abc import Sequence
from io import BytesIO
from typing import Any

from aiokafka.errors import GroupAuthorizationFailedError
from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.admin import DescribeGroupsRequest_v3, DescribeGroupsResponse_v3
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    TaggedFields,
)

_TEXT = CompactString("utf-8")
_METADATA = 3
_DESCRIBE_GROUPS = 15
_NO_ID = bytes(16)

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

_UNKNOWN_OPERATIONS = -(2**31)

Operations = frozenset[str]
"""What is granted, by Kafka's names of operations."""


class DescribeProducersResponse(Response):  # type: ignore[misc]  # the client ships no types
    """The producers of each partition that have written lately, and what they have open."""

    API_KEY = 61
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "topics",
            CompactArray(
                ("name", _TEXT),
                (
                    "partitions",
                    CompactArray(
                        ("partition_index", Int32),
                        ("error_code", Int16),
                        ("error_message", _TEXT),
                        (
                            "active_producers",
                            CompactArray(
                                ("producer_id", Int64),
                                ("producer_epoch", Int32),
                                ("last_sequence", Int32),
                                ("last_timestamp", Int64),
                                ("coordinator_epoch", Int32),
                                ("current_txn_start_offset", Int64),
                                ("tags", TaggedFields),
                            ),
                        ),
                        ("tags", TaggedFields),
                    ),
                ),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _DescribeProducers(RequestStruct):  # type: ignore[misc]  # the client ships no types
    API_KEY = 61
    API_VERSION = 0
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = DescribeProducersResponse
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(
                ("name", _TEXT),
                ("partition_indexes", CompactArray(Int32)),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class DescribeProducersRequest(Request[_DescribeProducers]):  # type: ignore[misc]
    """Asks the leader of one partition; needs Read on the topic."""

    API_KEY = 61

    def __init__(self, topic: str, number: int) -> None:
        self._topic = topic
        self._number = number

    def build(self, request_struct_class: type[_DescribeProducers]) -> _DescribeProducers:
        """Return the request as it is sent."""
        return request_struct_class([(self._topic, [self._number], {})], {})


class ListTransactionsResponse(Response):  # type: ignore[misc]  # the client ships no types
    """Transactional ids that one broker coordinates, as far as the principal may describe them."""

    API_KEY = 66
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("error_code", Int16),
        ("unknown_state_filters", CompactArray(_TEXT)),
        (
            "transaction_states",
            CompactArray(
                ("transactional_id", _TEXT),
                ("producer_id", Int64),
                ("transaction_state", _TEXT),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _ListTransactions(RequestStruct):  # type: ignore[misc]  # the client ships no types
    API_KEY = 66
    API_VERSION = 0
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = ListTransactionsResponse
    SCHEMA = Schema(
        ("state_filters", CompactArray(_TEXT)),
        ("producer_id_filters", CompactArray(Int64)),
        ("tags", TaggedFields),
    )


class ListTransactionsRequest(Request[_ListTransactions]):  # type: ignore[misc]
    """Asks one broker which of its transactional ids belong to some producers."""

    API_KEY = 66

    def __init__(self, producer_ids: Sequence[int]) -> None:
        self._producer_ids = list(producer_ids)

    def build(self, request_struct_class: type[_ListTransactions]) -> _ListTransactions:
        """Return the request as it is sent."""
        return request_struct_class([], self._producer_ids, {})


class DescribeTransactionsResponse(Response):  # type: ignore[misc]  # the client ships no types
    """The transaction of each id: its state, since when, and when Kafka will end it."""

    API_KEY = 65
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "transaction_states",
            CompactArray(
                ("error_code", Int16),
                ("transactional_id", _TEXT),
                ("transaction_state", _TEXT),
                ("transaction_timeout_ms", Int32),
                ("transaction_start_time_ms", Int64),
                ("producer_id", Int64),
                ("producer_epoch", Int16),
                (
                    "topics",
                    CompactArray(
                        ("topic", _TEXT),
                        ("partitions", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _DescribeTransactions(RequestStruct):  # type: ignore[misc]  # the client ships no types
    API_KEY = 65
    API_VERSION = 0
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = DescribeTransactionsResponse
    SCHEMA = Schema(("transactional_ids", CompactArray(_TEXT)), ("tags", TaggedFields))


class DescribeTransactionsRequest(Request[_DescribeTransactions]):  # type: ignore[misc]
    """Asks the coordinator of one transactional id."""

    API_KEY = 65

    def __init__(self, transactional_id: str) -> None:
        self._transactional_id = transactional_id

    def build(self, request_struct_class: type[_DescribeTransactions]) -> _DescribeTransactions:
        """Return the request as it is sent."""
        return request_struct_class([self._transactional_id], {})


class _Uuid(AbstractType):  # type: ignore[misc]  # the client ships no types
    @classmethod
    def encode(cls, value: bytes) -> bytes:
        return value

    @classmethod
    def decode(cls, buffer: BytesIO) -> bytes:
        return buffer.read(16)


class TopicMetadataResponse(Response):  # type: ignore[misc]  # the client ships no types
    """Id, partitions and rights of each topic."""

    API_KEY = _METADATA
    API_VERSION = 10
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", _TEXT),
                ("port", Int32),
                ("rack", _TEXT),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", _TEXT),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", _TEXT),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition_index", Int32),
                        ("leader_id", Int32),
                        ("leader_epoch", Int32),
                        ("replica_nodes", CompactArray(Int32)),
                        ("isr_nodes", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("authorized_operations", Int32),
        ("tags", TaggedFields),
    )


class _TopicMetadata(RequestStruct):  # type: ignore[misc]  # the client ships no types
    API_KEY = _METADATA
    API_VERSION = 10
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = TopicMetadataResponse
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(("topic_id", _Uuid), ("name", _TEXT), ("tags", TaggedFields)),
        ),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class TopicMetadataRequest(Request[_TopicMetadata]):  # type: ignore[misc]  # no types are shipped
    """Asks for ids of topics, with ``rights`` for what is granted on them; creates none.

    Brokers before 2.8 do not understand it.
    """

    API_KEY = _METADATA

    def __init__(self, topics: Sequence[str], *, rights: bool = False) -> None:
        self._topics = topics
        self._rights = rights

    def build(self, request_struct_class: type[_TopicMetadata]) -> _TopicMetadata:
        """Return the request as it is sent."""
        wanted: list[tuple[bytes, str, dict[str, object]]] = [
            (_NO_ID, topic, {}) for topic in self._topics
        ]
        return request_struct_class(wanted, False, False, self._rights, {})  # noqa: FBT003


class _GroupRights(DescribeGroupsRequest_v3):  # type: ignore[misc]  # the client ships no types
    # The client's own leaves out what this is about.
    RESPONSE_TYPE = DescribeGroupsResponse_v3


class GroupRightsRequest(Request[_GroupRights]):  # type: ignore[misc]  # as above
    """Asks what is granted on a group."""

    API_KEY = _DESCRIBE_GROUPS

    def __init__(self, group: str) -> None:
        self._group = group

    def build(self, request_struct_class: type[_GroupRights]) -> _GroupRights:
        """Return the request as it is sent."""
        return request_struct_class([self._group], True)  # noqa: FBT003


def topic_id(answer: Any) -> str:  # noqa: ANN401  # the client ships no types
    """Return the id in the answer as a UUID's text; empty if there is none."""
    error, _, found, *_ = answer.topics[0]
    return "" if error or found == _NO_ID else str(uuid.UUID(bytes=found))


def topic_rights(answer: Any) -> dict[str, Operations]:  # noqa: ANN401  # the client ships no types
    """Return what is granted on each topic that is there."""
    return {
        name: granted
        for error, name, _, _, _, bits, *_ in answer.topics
        if not error and (granted := _operations(bits)) is not None
    }


def group_rights(answer: Any) -> Operations | None:  # noqa: ANN401  # as above
    """Return what is granted on the group; None where the broker does not say."""
    error, _, _, _, _, _, bits = answer.groups[0]
    if error == GroupAuthorizationFailedError.errno:
        return frozenset()
    return None if error else _operations(bits)


def _operations(bits: int) -> Operations | None:
    """Return the operations that bits stand for; None where the broker does not say."""
    if bits == _UNKNOWN_OPERATIONS:
        return None
    return frozenset(name for number, name in _OPERATIONS.items() if bits & (1 << number))
