"""The soak in short: workers die, and every event is there once."""

from pathlib import Path

from tests.acceptance.cluster import Cluster
from tests.services.ministack import MiniStack
from tests.soak.run import Plan, Soak

PLAN = Plan(events=4_000, devices=120, kills=4, seconds=24.0, broken=20, seed=7)


async def test_every_event_is_delivered_though_workers_are_killed(
    cluster: Cluster, ministack: MiniStack, tmp_path: Path
) -> None:
    said: list[str] = []

    result = await Soak(PLAN, cluster, ministack, tmp_path, said.append).run()

    assert result.faults == 0, result.text()
    assert result.kills == 4
    assert result.events == 4_000
