"""The id that Kafka gives a topic when it is created: another one means another topic.

aiokafka 0.14 asks for metadata up to version 5; ids came with version 10 (KIP-516, Kafka 2.8).
"""

import uuid
from io import BytesIO
from typing import Any

from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

_METADATA = 3
_VERSION = 10
_NO_ID = bytes(16)


class _Uuid(AbstractType):  # type: ignore[misc]  # the client ships no types
    @classmethod
    def encode(cls, value: bytes) -> bytes:
        return value

    @classmethod
    def decode(cls, buffer: BytesIO) -> bytes:
        return buffer.read(16)


class _Answer(Response):  # type: ignore[misc]  # the client ships no types
    API_KEY = _METADATA
    API_VERSION = _VERSION
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString("utf-8")),
                ("port", Int32),
                ("rack", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", CompactString("utf-8")),
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


class _Question(RequestStruct):  # type: ignore[misc]  # the client ships no types
    API_KEY = _METADATA
    API_VERSION = _VERSION
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _Answer
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(
                ("topic_id", _Uuid), ("name", CompactString("utf-8")), ("tags", TaggedFields)
            ),
        ),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class TopicIdRequest(Request[_Question]):  # type: ignore[misc]  # the client ships no types
    """Asks for the id of one topic, creating none; brokers before 2.8 do not understand it."""

    API_KEY = _METADATA

    def __init__(self, topic: str) -> None:
        """Ask for ``topic``."""
        self._topic = topic

    def build(self, request_struct_class: type[_Question]) -> _Question:
        """Return the request as it is sent."""
        return request_struct_class([(_NO_ID, self._topic, {})], False, False, False, {})  # noqa: FBT003


def topic_id(answer: Any) -> str:  # noqa: ANN401  # the client ships no types
    """Return the id in the answer as a UUID's text; empty if there is none."""
    error, _, found, *_ = answer.topics[0]
    return "" if error or found == _NO_ID else str(uuid.UUID(bytes=found))
