"""Three brokers, of which one dies: coordinators and leaders move, and nothing is lost."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tests.acceptance.cluster import Cluster
from tests.acceptance.scene import Scene
from tests.services.kafka import Broker, own_cluster

pytestmark = pytest.mark.service

GROUP, TRANSACTION = 0, 1
"""What a coordinator is asked for."""


@pytest.fixture(scope="module")
def brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Broker]]:
    brokers = own_cluster(tmp_path_factory.mktemp("kafka"))
    yield brokers
    for broker in brokers:
        broker.kill()


@pytest.fixture
async def scene(brokers: list[Broker], tmp_path: Path) -> AsyncIterator[Scene]:
    servers = ",".join(broker.bootstrap for broker in brokers)
    async with Cluster(servers) as cluster:
        scene = Scene.make(cluster, tmp_path, "three")
        admin = cluster.admin
        answer = await admin.create_topics([NewTopic(scene.topic, 3, 3)])
        assert [error[1] for error in answer.topic_errors] == [0]
        await cluster.until_there(scene.topic, 3)
        yield scene
        scene.close()


async def coordinator(admin: AIOKafkaAdminClient, key: str, kind: int) -> int:
    """Return the number of the broker that coordinates a group or a transactional id."""
    return int(await admin.find_coordinator(key, kind))


async def test_a_dead_coordinator_costs_seconds_and_no_event(
    scene: Scene, brokers: list[Broker]
) -> None:
    scene.to_file(settings={"send_as_batch": False})
    worker = scene.worker()
    worker.start()
    await scene.feed(range(20), device="d1")
    await worker.until(lambda: scene.numbers() == list(range(20)), "the first events arrive", 60)
    admin = scene.kafka.admin
    fed = 20
    for kind, key in ((TRANSACTION, f"{scene.name}/{scene.topic}/0"), (GROUP, scene.name)):
        for broker in brokers:
            if broker.pid is None:
                broker.start()
        dead = brokers[await coordinator(admin, key, kind) - 1]

        dead.kill()

        await scene.feed(range(fed, fed + 10), device="d1")
        fed += 10
        wanted = set(range(fed))
        await worker.until(lambda: wanted <= set(scene.numbers()), "all arrive", 45)  # noqa: B023
        await worker.until_ready()
    found = scene.numbers()
    assert list(dict.fromkeys(found)) == list(range(fed))
