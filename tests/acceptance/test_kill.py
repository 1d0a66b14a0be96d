"""The soak in short: whatever happens to workers and broker, every event is there once."""

from pathlib import Path

import pytest

from tests.services.kafka import MissingToolError, require_tools, skip_or_fail
from tests.soak.disturb import FIRST
from tests.soak.run import Plan, soak

PLAN = Plan(seconds=60.0, rate=120.0, devices=300, partitions=4, pause=0.5, seed=7)


@pytest.mark.service
async def test_every_event_is_delivered_once_through_crashes_outages_and_deploys(
    tmp_path: Path,
) -> None:
    try:
        require_tools()
    except MissingToolError as missing:
        skip_or_fail(str(missing))
    said: list[str] = []

    result = await soak(PLAN, tmp_path, said.append)

    assert result.faults == 0, "\n".join([*said, result.text()])
    assert {one.kind for one in result.recoveries} >= {*FIRST}
