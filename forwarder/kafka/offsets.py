"""Where partitions end for those who read everything, transactions that are open included."""

import asyncio
from collections.abc import Collection
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import LeaderNotAvailableError, for_code
from aiokafka.protocol.offset import OffsetRequest

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
