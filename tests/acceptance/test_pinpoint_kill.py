"""The gateway's soak in short: whatever is killed, each event that was accepted is there once."""

from pathlib import Path

import pytest

from tests.services.kafka import MissingToolError, require_tools, skip_or_fail
from tests.soak.pinpoint import Plan, Result, deck, soak

ALONE = Plan(seconds=20.0, gateways=1, endpoints=10, pause=0.25, between=1.5, seed=3)
TOGETHER = Plan(seconds=20.0, gateways=2, endpoints=10, pause=0.25, between=1.5, seed=4)


@pytest.mark.service
@pytest.mark.parametrize(
    "plan", [ALONE, TOGETHER], ids=["one gateway with a file", "two gateways with a database"]
)
async def test_accepted_events_are_stored_once_through_kill_9_of_everything(
    plan: Plan, tmp_path: Path
) -> None:
    said: list[str] = []
    result = await performed(plan, tmp_path, said)

    assert not result.faults, "\n".join([*said, result.text()])
    assert all(result.figures[f"kill -9 of {kind}"] for kind in deck(plan.gateways))
    # Otherwise nothing was shown: apps did send again, and events did come twice into Kafka.
    assert result.figures["of them duplicates"] > 0


async def performed(plan: Plan, folder: Path, said: list[str]) -> Result:
    try:
        require_tools()
        return await soak(plan, folder, said.append)
    except MissingToolError as missing:
        skip_or_fail(str(missing))
        raise
