"""Three brokers, of which the busiest dies: coordinators and leaders move, nothing is lost."""

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


async def busiest(admin: AIOKafkaAdminClient, scene: Scene) -> int:
    """Return the number of the broker that coordinates most: the group, its transactions."""
    wanted = [(scene.name, GROUP)]
    wanted += [(f"{scene.name}/{scene.topic}/{n}", TRANSACTION) for n in range(3)]
    found = [int(await admin.find_coordinator(key, kind)) for key, kind in wanted]
    return max(found, key=found.count)


async def test_a_dead_coordinator_costs_seconds_and_no_event(
    scene: Scene, brokers: list[Broker]
) -> None:
    scene.to_file(settings={"send_as_batch": False})
    worker = scene.worker()
    worker.start()
    before = range(20)
    await scene.feed(before, device="d1")
    await worker.until(lambda: scene.numbers() == list(before), "the first events arrive", 60)

    brokers[await busiest(scene.kafka.admin, scene) - 1].kill()

    wanted = range(40)
    await scene.feed(wanted[20:], device="d1")
    await worker.until(lambda: set(wanted) <= set(scene.numbers()), "all arrive", 45)
    assert list(wanted) == list(dict.fromkeys(scene.numbers())), "in their order"
    await worker.until_ready()
