"""Rolling deploys on real processes: two workers, one after the other, old and new side by side."""

import signal
import time
from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from tests.acceptance.harness import Worker, until
from tests.acceptance.scene import Scene, numbers
from tests.builders import encoded, event, upload

pytestmark = pytest.mark.service

SINGLY = {"send_as_batch": False}
LONG = {"max_age": "1h"}
UNREACHABLE = {
    "type": "kinesis",
    "stream_name": "s",
    "region": "us-east-1",
    "endpoint_url": "http://127.0.0.1:1",
}
KEYS = {"access_key_id": "AKIAEXAMPLE", "secret_access_key": "not-a-secret"}


class Group:
    """Two workers of one group, rolled one after the other; every event is counted."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.pods = [scene.worker("pod-0"), scene.worker("pod-1")]
        self.fed = 0

    async def start(self) -> None:
        for pod in self.pods:
            pod.start()
        for pod in self.pods:
            await pod.until_ready()

    async def feed(self, count: int = 6, kind: str = "custom_event") -> list[int]:
        """Send events of as many devices, over both partitions; return their numbers."""
        which = list(range(self.fed, self.fed + count))
        self.fed += count
        now = time.time_ns() // 1_000_000
        rows = [
            (f"d{n}".encode(), encoded(upload(event(kind, n=n), device=f"d{n}")), now)
            for n in which
        ]
        await self.scene.kafka.send(self.scene.topic, rows)
        return which

    async def roll(self, order: Sequence[int] = (0, 1)) -> None:
        """Replace the pods by ones with the files as they are now, feeding between."""
        for number in order:
            pod = self.pods[number]
            pod.signal(signal.SIGTERM)
            assert await pod.ended() == 0
            pod.start()
            await pod.until_ready()
            await self.feed(2)

    async def arrives(self, wanted: Iterable[int], name: str = "acme") -> None:
        """Wait until these are there, and see that nothing came twice."""
        needed = set(wanted)
        await self.pods[0].until(
            lambda: needed <= set(self.scene.numbers(name)), f"{name} has everything"
        )
        found = self.scene.numbers(name)
        assert sorted(set(found)) == sorted(found), "nothing twice"

    def all(self) -> range:
        return range(self.fed)


@pytest.fixture
def group(scene: Scene) -> Group:
    return Group(scene)


def forget(scene: Scene, name: str) -> None:
    (scene.folder / "connections" / f"{name}.yaml").unlink()


async def test_connections_come_go_and_come_back_and_lose_nothing(group: Group) -> None:
    scene = group.scene
    pair = {"max_age": "1h", "max_events": 2}
    scene.to_file(settings=SINGLY)
    scene.to_file("patient", batching=pair)
    await group.start()
    before = await group.feed()
    await scene.feed([100], device="of-two")
    await group.arrives([*before, 100])

    scene.to_file("extra", settings=SINGLY)
    await group.roll((0, 1))
    added = await group.feed()
    await group.arrives(added, "extra")
    assert not {*before, 100} & set(scene.numbers("extra")), "a new one begins with what is new"

    forget(scene, "extra")
    forget(scene, "patient")
    scene.to_file("renamed", settings=SINGLY)
    await group.roll((1, 0))
    missed = await group.feed()
    await scene.feed([101], device="of-two")
    await group.arrives([101, *missed], "renamed")
    assert not set(missed) & set(scene.numbers("extra"))
    assert 100 not in scene.numbers("renamed"), "what waits belongs to the former name"
    assert [] == scene.delivered("patient"), "and is not cut off"

    scene.to_file("extra", settings=SINGLY)
    scene.to_file("patient", batching=pair)
    await group.roll((0, 1))
    await group.feed()
    await group.arrives([*range(added[0], group.fed), 101], "extra")
    await group.arrives([100, 101], "patient")
    assert [100, 101] in [numbers([document]) for document in scene.delivered("patient")]
    await group.arrives([*group.all(), 100, 101])


async def test_what_changes_under_a_name_applies_to_what_still_waits(group: Group) -> None:
    scene = group.scene
    scene.to_file(batching=LONG)
    stuck = {"name": "stuck", "sink": UNREACHABLE, "credentials": KEYS, "settings": SINGLY}
    scene.connect(stuck)
    await group.start()
    kept = await group.feed(4)
    left_out = await group.feed(4, "screen_view")
    await group.pods[0].until(lambda: open_windows(group, "acme") == 8, "all wait in windows")
    await group.pods[0].until(lambda: closed(group, "stuck") == 8, "a backlog is closed")
    # Later than every closing, and in whole seconds, as the file has it.
    since = int(time.time()) + 1
    await until(lambda: time.time() > since, "the second is over")
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(since))

    scene.to_file(settings={"send_screen_views": False, **SINGLY})
    scene.to_file("stuck", settings=SINGLY, deliver_from=at)
    await group.roll((0, 1))
    await group.arrives([*kept, *range(8, group.fed)])
    assert not set(left_out) & set(scene.numbers()), "a narrowed filter applies to what waits"
    await group.arrives(range(8, group.fed), "stuck")
    assert not {*kept, *left_out} & set(scene.numbers("stuck")), "the backlog is dropped"


def open_windows(group: Group, name: str) -> float:
    gauge = f'forwarder_open_windows{{connection="{name}"}}'
    return sum(pod.metrics().get(gauge, 0) for pod in group.pods)


def closed(group: Group, name: str) -> float:
    counter = f'forwarder_batches_closed_total{{connection="{name}"'
    samples = [pod.metrics().items() for pod in group.pods]
    return sum(value for of in samples for sample, value in of if sample.startswith(counter))


# ---------------------------------------------------------------------- stable names


def named(scene: Scene, name: str, pod: str) -> Worker:
    """Return a worker whose file takes its instance id from the environment, as a pod's does."""
    scene.sections["kafka"]["group_instance_id"] = "${POD_NAME}"
    worker = scene.worker(name)
    worker.variables = {**worker.variables, "POD_NAME": pod}
    return worker


def assigned(worker: Worker) -> list[Any]:
    return [line["partitions"] for line in worker.logged("partitions.assigned")]


async def test_a_restart_with_a_stable_name_moves_no_partition(scene: Scene) -> None:
    scene.to_file(settings=SINGLY)
    scene.sections["kafka"]["session_timeout"] = "30s"
    pods = [named(scene, f"pod-{number}", f"pod-{number}") for number in range(2)]
    for pod in pods:
        pod.start()
    await pods[1].until(
        lambda: sorted(len(assigned(pod)[-1]) for pod in pods if assigned(pod)) == [1, 1],
        "each owns one",
    )
    before, calm = assigned(pods[0])[-1], len(assigned(pods[1]))

    for end in (signal.SIGTERM, signal.SIGKILL):
        pods[0].signal(end)
        await pods[0].ended()
        pods[0].start()
        await pods[0].until_ready()
        assert before == assigned(pods[0])[-1]

    await scene.feed(range(6))
    await pods[0].until(lambda: set(scene.numbers()) == set(range(6)), "it goes on")
    assert calm == len(assigned(pods[1])), "the other was left in peace"


def warnings_of_a_shared_name(worker: Worker) -> list[dict[str, Any]]:
    """Return what a worker says of another of its name: both take turns, or one is kept out.

    Which it is depends on who joins between the other's join and its sync.
    """
    said = worker.logged("group.unstable") + worker.logged("poll.failed")
    return [line for line in said if "kafka.group_instance_id" in line["remedy"]]


async def test_two_workers_of_one_name_are_warned_of_and_lose_nothing(scene: Scene) -> None:
    scene.to_file(settings=SINGLY)
    twins = [named(scene, f"twin-{number}", "pod-0") for number in range(2)]
    for twin in twins:
        twin.start()

    await scene.feed(range(6))
    await until(lambda: any(map(warnings_of_a_shared_name, twins)), "it is said", 120)
    twins[0].kill()
    await scene.feed(range(6, 12))
    await twins[1].until(lambda: set(scene.numbers()) == set(range(12)), "all arrive")
