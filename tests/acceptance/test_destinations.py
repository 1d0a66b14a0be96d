"""A broken destination delays itself alone, and is tried again until somebody mends it."""

import json
from collections.abc import Mapping
from typing import Any

from tests.acceptance.harness import Worker
from tests.acceptance.scene import Scene, numbers
from tests.services.ministack import CUSTOMER_ACCOUNT, REGION, MiniStack

GOOD, NO_STREAM, NO_TRUST = "good", "no-stream", "no-trust"
LANES = (GOOD, NO_STREAM, NO_TRUST)
MENDED = 90.0
"""Seconds: a paused lane is tried every 5 to 60 s."""


def connect(scene: Scene, lane: str, role: str) -> None:
    """Connect a stream of the customer's account through a role with ExternalId orgid:1."""
    scene.connect(
        {
            "name": lane,
            "credentials": {
                "aws_account_id": CUSTOMER_ACCOUNT,
                "org_id": "1",
                "role_name": f"{scene.name}-{role}",
            },
            "sink": {
                "type": "kinesis",
                "stream_name": f"{scene.name}-{lane}",
                "region": REGION,
            },
            "settings": {"send_as_batch": False},
        }
    )


def arrived(aws: MiniStack, scene: Scene, lane: str) -> list[int]:
    """Return the numbers of the events in a lane's stream."""
    stored = aws.read(f"{scene.name}-{lane}")
    return numbers(json.loads(record.value) for record in stored)


def troubles(worker: Worker) -> dict[str, Mapping[str, Any]]:
    """Return what /readyz says of lanes that are not flowing."""
    partitions = json.loads(worker.get("/readyz")[1])["partitions"].values()
    return {lane: it for p in partitions for lane, it in p.get("lanes", {}).items()}


async def test_broken_lanes_pause_alone_and_recover_without_a_restart(
    scene: Scene, ministack: MiniStack
) -> None:
    scene.variables = ministack.variables()
    ministack.make_role(f"{scene.name}-role", external_id="orgid:1")
    ministack.make_role(f"{scene.name}-wary", external_id="orgid:2")
    ministack.make_stream(f"{scene.name}-{GOOD}")
    ministack.make_stream(f"{scene.name}-{NO_TRUST}")
    for lane in LANES:
        connect(scene, lane, "wary" if lane == NO_TRUST else "role")
    worker = scene.worker()
    worker.start()
    await scene.feed([1, 2])
    await worker.until(lambda: arrived(ministack, scene, GOOD) == [1, 2], "the good lane delivers")
    await worker.until(lambda: {NO_STREAM, NO_TRUST} == set(troubles(worker)), "the others pause")

    reasons = {lane: it["reason"] for lane, it in troubles(worker).items()}
    assert {"paused"} == {it["state"] for it in troubles(worker).values()}
    assert f"{scene.name}-{NO_STREAM}" in reasons[NO_STREAM]
    assert "cannot assume (ARN) with ExternalId (ExternalId)" in reasons[NO_TRUST]
    said = {"connection": NO_TRUST, "status": "paused"}
    await worker.until(lambda: worker.logged("lane.status", **said), "the log says so, too")
    (line,) = worker.logged("lane.status", **said)
    assert f"{scene.name}-wary" in line["reason"], "the log names the role"
    assert "trust policy" in troubles(worker)[NO_TRUST]["remedy"]
    assert worker.get("/readyz")[0] == 200, "a broken destination does not block a rollout"
    await scene.feed([3])
    await worker.until(lambda: arrived(ministack, scene, GOOD) == [1, 2, 3], "it goes on")

    ministack.make_stream(f"{scene.name}-{NO_STREAM}")
    ministack.set_trust(f"{scene.name}-wary", "orgid:1")

    for lane in (NO_STREAM, NO_TRUST):
        await worker.until(
            lambda lane=lane: arrived(ministack, scene, lane) == [1, 2, 3],  # type: ignore[misc]
            f"{lane} delivers what has waited",
            MENDED,
        )
    await worker.until(lambda: not troubles(worker), "all lanes are well")
    assert worker.running
