"""What /livez, /readyz and /metrics say, with Kafka there and without."""

import json
import signal

from tests.acceptance.harness import Site
from tests.acceptance.scene import Scene


def to_file(site: Site) -> None:
    sink = {"type": "file", "path": str(site.folder / "out")}
    site.connect({"name": "acme", "sink": sink})


async def test_without_kafka_a_worker_is_alive_and_not_ready(folder: Site) -> None:
    to_file(folder)
    worker = folder.worker()

    worker.start()

    await worker.until(lambda: worker.get("/livez")[0], "the server answers")
    assert worker.get("/livez")[0] == 200
    assert worker.get("/readyz")[0] == 503
    assert worker.get("/metrics")[0] == 200
    worker.signal(signal.SIGTERM)
    assert await worker.ended() == 0
    assert "never awaited" not in worker.log_file.read_text()


async def test_a_worker_is_ready_once_its_partitions_are_open(scene: Scene) -> None:
    scene.to_file(settings={"send_as_batch": False})
    worker = scene.worker()

    worker.start()

    await worker.until_ready()
    detail = json.loads(worker.get("/readyz")[1])
    assert {"open"} == {p["state"] for p in detail["partitions"].values()}
    assert {f"{scene.topic}/0", f"{scene.topic}/1"} == set(detail["partitions"])
    assert worker.get("/livez")[0] == 200
    (starts,) = worker.logged("worker.starts")
    assert (scene.name, [scene.topic], 1) == (
        starts["group"],
        starts["topics"],
        starts["connections"],
    )


async def test_metrics_count_what_went_through(scene: Scene) -> None:
    scene.to_file(settings={"send_as_batch": False})
    worker = scene.worker()
    worker.start()
    await scene.feed(range(10))

    delivered = 'forwarder_events_delivered_total{connection="acme"}'
    await worker.until(lambda: worker.metrics().get(delivered) == 10, "ten events are counted")

    metrics = worker.metrics()
    assert metrics[f'forwarder_events_total{{topic="{scene.topic}"}}'] == 10
    assert metrics['forwarder_batches_delivered_total{connection="acme"}'] == 10
    assert metrics['forwarder_windows_closed_total{connection="acme",reason="single"}'] == 10
    assert metrics['forwarder_freshness_seconds_count{connection="acme"}'] == 10
    assert metrics['forwarder_ticks_total{result="committed"}'] >= 1


async def test_the_second_worker_on_a_port_says_so_and_ends_with_1(scene: Scene) -> None:
    scene.to_file()
    first = scene.worker("first")
    first.start()
    await first.until(lambda: first.get("/livez")[0], "the server answers")
    second = scene.worker("second")
    scene.configure("second", first.port)

    second.start()

    assert await second.ended() == 1
    assert f"cannot listen on 127.0.0.1:{first.port}" in second.log_file.read_text()
