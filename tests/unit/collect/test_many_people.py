"""What an event costs does not grow with the people behind one device, whatever they share."""

import pytest

from forwarder.config.connection import Batching
from tests import builders
from tests.builders import NOW, START, Json, Rec, connection, encoded, event
from tests.work import steps

FEW, MANY = 100, 400

SHARED: dict[str, list[Json]] = {
    "a session": [event(session_id=11)],
    "a session that each ends": [event(session_id=11), event("session_end", session_id=11)],
    "two sessions by turns": [event(session_id=11), event(session_id=12)],
    "no session": [event()],
    "no session, with ends": [event(), event("session_end")],
    "no session, with starts": [event("session_start"), event()],
}


def people(count: int, events: list[Json]) -> list[Rec]:
    """Return uploads of so many people of one device who have no mpid, two of each."""
    return [
        Rec(
            number,
            START + number,
            encoded({
                "mp_deviceid": "d-6",
                "user_identities": {"email": f"u{number % count}@acme.example"},
                "events": events,
            }),
        )
        for number in range(2 * count)
    ]  # fmt: skip


def cost(fed: list[Rec], *, complete: bool) -> float:
    """Return the steps an upload takes: collected, saved, taken up again, closed."""
    lane = connection(batching=Batching(), wait_for_complete_batch=complete)

    def live() -> None:
        pipeline = builders.pipeline(lane)
        for at in range(0, len(fed), 20):
            pipeline.collect(fed[at : at + 20], NOW)
        held = builders.saved(pipeline, len(fed))
        again = builders.pipeline(
            lane, read=len(fed), replay=builders.replay(len(fed), (len(fed), 0)), held=held
        )
        again.finish(NOW)
        pipeline.finish(NOW)

    return steps(live) / len(fed)


@pytest.mark.parametrize("complete", [False, True])
@pytest.mark.parametrize("events", SHARED.values(), ids=SHARED)
def test_an_upload_costs_the_same_however_many_share_its_device(
    events: list[Json], *, complete: bool
) -> None:
    assert cost(people(MANY, events), complete=complete) < 1.3 * cost(
        people(FEW, events), complete=complete
    )
