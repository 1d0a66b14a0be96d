"""Requests of Kafka's protocol that aiokafka 0.14 does not have: who holds a partition back.

KIP-664 (Kafka 2.8 and 3.0): DescribeProducers asks a partition's leader which producers have a
transaction open in it, ListTransactions every broker for the transactional ids it coordinates,
DescribeTransactions an id's coordinator since when its transaction lasts. The layouts are those of
Kafka's ``clients/src/main/resources/common/message``, each in its first version, which is flexible.
All that is used of the client's classes for requests is named here; a test sends each of them to a
real broker.
"""

from collections.abc import Sequence

from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    TaggedFields,
)

_TEXT = CompactString("utf-8")


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
