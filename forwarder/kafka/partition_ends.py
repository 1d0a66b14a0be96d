"""Where partitions end, asked of their leaders, and what holds one back: an open transaction."""

import asyncio
from collections.abc import Collection
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import IncompatibleBrokerVersion, LeaderNotAvailableError, for_code
from aiokafka.protocol.offset import OffsetRequest
from msgspec.structs import replace

from forwarder.kafka.protocol import (
    DescribeProducersRequest,
    DescribeTransactionsRequest,
    ListTransactionsRequest,
)
from forwarder.model import OpenTransaction

_NO_REPLICA = -1
_LATEST = -1
_READ_UNCOMMITTED = 0


async def high_watermarks(
    client: Any,  # noqa: ANN401  # the client ships no types
    partitions: Collection[TopicPartition],
) -> dict[TopicPartition, int]:
    """Return the high watermark of each partition, asked of its leader now.

    A consumer with ``read_committed`` tells the last stable offset under the same name, and has no
    way to ask for this one. ``client`` knows the topics' metadata. Raises KafkaError.
    """
    by_leader: dict[int, dict[str, list[tuple[int, int]]]] = {}
    for tp in partitions:
        leader = client.cluster.leader_for_partition(tp)
        if leader is None or leader < 0:
            raise LeaderNotAvailableError(tp)
        by_leader.setdefault(leader, {}).setdefault(tp.topic, []).append((tp.partition, _LATEST))
    asked = [
        client.send(leader, OffsetRequest(_NO_REPLICA, _READ_UNCOMMITTED, list(topics.items())))
        for leader, topics in by_leader.items()
    ]
    found: dict[TopicPartition, int] = {}
    for answer in await asyncio.gather(*asked):
        for topic, listed in answer.topics:
            for number, error, _, offset in listed:
                if error:
                    raise for_code(error)
                found[TopicPartition(topic, number)] = offset
    return found


async def oldest_transaction(
    client: Any,  # noqa: ANN401  # as above
    topic: str,
    number: int,
) -> OpenTransaction | None:
    """Return the transaction that holds a partition back; None if none does, or Kafka is too old.

    ``client``: an aiokafka client with the topic's metadata. Raises KafkaError.
    """
    leader = client.cluster.leader_for_partition(TopicPartition(topic, number))
    if leader is None or leader < 0:
        raise LeaderNotAvailableError(topic, number)
    try:
        answer = await client.send(leader, DescribeProducersRequest(topic, number))
    except (IncompatibleBrokerVersion, NotImplementedError):
        return None
    _, error, _, producers, _ = answer.topics[0][1][0]
    if error:
        raise for_code(error)
    opened = [(start, pid, at) for pid, _, _, at, _, start, _ in producers if start >= 0]
    if not opened:
        return None
    _, producer_id, last_ms = min(opened)
    found = OpenTransaction(producer_id, wrote_ms=max(0, last_ms))
    if name := await _name(client, producer_id):
        return await _described(client, name, found)
    return found


async def _name(client: Any, producer_id: int) -> str:  # noqa: ANN401  # the client is not typed
    """Return the transactional id of a producer, empty if no broker that answers may tell it."""
    brokers = [broker.nodeId for broker in client.cluster.brokers()]
    asked = [client.send(broker, ListTransactionsRequest([producer_id])) for broker in brokers]
    for answer in await asyncio.gather(*asked, return_exceptions=True):
        if isinstance(answer, BaseException):
            continue
        for name, *_ in answer.transaction_states or ():
            return str(name)
    return ""


async def _described(client: Any, name: str, found: OpenTransaction) -> OpenTransaction:  # noqa: ANN401
    """Return what is found with its name, and with its begin and time limit if they are told."""
    named = replace(found, transactional_id=name)
    brokers = [broker.nodeId for broker in client.cluster.brokers()]
    # The coordinator alone answers; asking all is one step where asking for it would be two.
    asked = [client.send(broker, DescribeTransactionsRequest(name)) for broker in brokers]
    for answer in await asyncio.gather(*asked, return_exceptions=True):
        if isinstance(answer, BaseException):
            continue
        for error, _, _, timeout_ms, start_ms, producer_id, *_ in answer.transaction_states:
            if not error and producer_id == found.producer_id and start_ms > 0:
                return replace(named, since_ms=start_ms, timeout_ms=timeout_ms)
    return named
