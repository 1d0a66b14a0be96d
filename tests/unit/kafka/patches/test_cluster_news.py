"""An answer about the cluster that makes no sense ends nothing, and the next one is taken."""
# ruff: noqa: SLF001  # the client's own task is looked at

import asyncio
import io
import random
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import client as connecting
from aiokafka.client import AIOKafkaClient
from aiokafka.cluster import ClusterMetadata
from aiokafka.errors import KafkaConnectionError, KafkaError, KafkaProtocolError, KafkaTimeoutError
from aiokafka.protocol.metadata import MetadataResponse_v5

from forwarder.kafka.patches import connections
from tests.services.kafka import free_port

BROKERS = [(n, f"broker-{n}.kafka.internal", 9092, None) for n in (1, 2, 3)]
PARTITIONS: list[object] = [(0, p, 1 + p % 3, [1, 2, 3], [1, 2, 3], []) for p in range(4)]
TOPICS = [(0, f"topic-{t}", False, PARTITIONS) for t in range(3)]
ODD = [
    {"topics": None},
    {"topics": [(0, "topic-0", False, None)]},
    {"brokers": [(1, None, 9092, None)]},
    {"brokers": [(1, "", 9092, None)]},
    {"brokers": [(1, "broker", 0, None)]},
    {"brokers": [(1, "broker", -1, None)]},
    {"brokers": [(1, "broker", 1 << 16, None)]},
]


def answer(**odd: object) -> Any:  # noqa: ANN401  # the client ships no types
    right = {"brokers": BROKERS, "controller_id": 1, "topics": TOPICS}
    return SimpleNamespace(API_VERSION=5, **(right | odd))


class Link:
    """A connection that answers as told."""

    def __init__(self) -> None:
        self.next = answer()

    def connected(self) -> bool:
        return True

    async def send(self, _: object) -> object:
        if isinstance(self.next, BaseException):
            raise self.next
        return self.next


@pytest.fixture
async def link() -> AsyncIterator[tuple[AIOKafkaClient, Link]]:
    link = Link()
    client = AIOKafkaClient(bootstrap_servers="127.0.0.1:1")
    client.cluster.update_metadata(answer())

    async def connect(*_: object, **__: object) -> Link:
        return link

    client._get_conn = connect
    client._sync_task = asyncio.create_task(client._md_synchronizer())
    yield client, link
    await client.close()


@pytest.mark.parametrize("odd", ODD, ids=str)
async def test_after_an_answer_that_makes_no_sense_the_client_hears_of_the_next_one(
    link: tuple[AIOKafkaClient, Link], odd: dict[str, object]
) -> None:
    client, connection = link
    connection.next = answer(**odd)
    async with asyncio.timeout(10):
        assert not await client.force_metadata_update()
        assert {1, 2, 3} == {broker.nodeId for broker in client.cluster.brokers()}
        what, why = connections.explain(KafkaTimeoutError())
        assert (connections.CLUSTER_NEWS, KafkaProtocolError) == (what, type(why))
        connection.next = answer(brokers=BROKERS[:2])
        assert await client.force_metadata_update()
    assert {1, 2} == {broker.nodeId for broker in client.cluster.brokers()}
    assert "" == connections.explain(KafkaTimeoutError())[0]


@pytest.mark.parametrize("fault", [asyncio.CancelledError(), KeyError("odd")], ids=repr)
async def test_nothing_that_is_raised_on_the_way_ends_the_task_that_asks(
    link: tuple[AIOKafkaClient, Link], fault: BaseException
) -> None:
    client, connection = link
    connection.next = fault
    async with asyncio.timeout(10):
        assert not await client.force_metadata_update()
        connection.next = answer()
        assert await client.force_metadata_update()


async def test_the_task_that_asks_still_ends_where_it_is_told_to(
    link: tuple[AIOKafkaClient, Link],
) -> None:
    client, connection = link

    async def hang(_: object) -> object:
        return await asyncio.Event().wait()

    connection.send = hang  # type: ignore[method-assign]
    asked = client.force_metadata_update()
    await asyncio.sleep(0.01)
    async with asyncio.timeout(10):
        await client.close()
    assert not asked.done()


def test_whatever_bytes_come_the_client_takes_them_or_says_that_it_cannot() -> None:
    """Every other error would end the task that asks, or a start."""
    chance = random.Random(3)  # noqa: S311  # no secret
    good = MetadataResponse_v5(0, BROKERS, "cluster", 1, TOPICS).encode()
    taken = refused = 0
    for _ in range(5000):
        raw = bytearray(good)
        at, size = chance.randrange(len(raw)), chance.randrange(1, 9)
        raw[at : at + size] = chance.choice([b"\xff" * size, bytes(size), chance.randbytes(size)])
        try:
            decoded = MetadataResponse_v5.decode(io.BytesIO(bytes(raw)))
        except Exception:  # noqa: BLE001, S112  # the connection is closed then
            continue
        try:
            ClusterMetadata().update_metadata(decoded)
        except KafkaError:
            refused += 1
        else:
            taken += 1
    assert taken > 100
    assert refused > 20


@pytest.mark.parametrize("host", ["x" * 300, "broker..internal"])
async def test_a_broker_whose_name_is_none_cannot_be_reached_and_that_is_all(host: str) -> None:
    with pytest.raises(KafkaConnectionError):
        await connecting.create_conn(host, free_port(), client_id="me")
    assert host in connections.explain(KafkaTimeoutError())[0]
