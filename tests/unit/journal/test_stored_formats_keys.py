"""Windows of every keying rule that was ever stored open right and close as they were keyed (L2).

``keys-input.json`` is what was fed. A worker of each rule read eight records of it, saved what it
had open from before the sixth, and stopped; both lanes stand in one base. The files are never
written again.
"""

import json
from pathlib import Path

import msgspec
import pytest
import zstandard

from forwarder.collect.pipeline import Pipeline
from forwarder.collect.replay_filter import ReplayFilter
from forwarder.config.connection import Batching
from forwarder.formats.ids import digest
from forwarder.journal import opening
from forwarder.journal import state as states
from forwarder.journal.opening import Restored, StartOrigin
from forwarder.journal.state import LaneState
from forwarder.model import Batch
from tests import builders
from tests.builders import NOW, Rec, connection, records

STORED = Path(__file__).parents[2] / "data" / "formats"
READ = 8
LANES = {
    "batches": connection("batches", batching=Batching(max_age_ms=3_600_000)),
    "sessions": connection(
        "sessions", batching=Batching(max_age_ms=3_600_000), wait_for_complete_batch=True
    ),
}
FORMER = {"batches": "device-1", "sessions": "session-1"}
TODAY = {"batches": "device-2", "sessions": "session-2"}


def fed() -> list[Rec]:
    return records(*json.loads((STORED / "keys-input.json").read_text()))


def base(name: str) -> dict[str, LaneState]:
    """Return the lanes of a stored base with the rules that hold for them from now on."""
    value = (STORED / name).read_bytes()
    found = Restored(
        commit=None, state=[(30, value)], state_start=30, state_end=31, outbox_start=0,
        outbox_end=0, first=0, input_start=0, input_end=13,
    )  # fmt: skip
    rules = {lane: builders.keying_rule(one) for lane, one in LANES.items()}
    start = opening.decide_stored(found, "forwarder", "raw-events", rules, NOW)
    assert (StartOrigin.STATE, 6) == (start.origin, start.seek)
    return start.state.lanes


def opened(lane: str, stored: LaneState) -> Pipeline:
    """Return a pipeline that has taken up what was stored of a lane."""
    held = [states.parse_window(form) for form in stored.held.values()]
    to = {digest(one.key): one.to for one in held}
    replay = ReplayFilter(stored.need, stored.read, stored.closed, to, list(stored.keying))
    lanes = builders.lane_set(LANES[lane])
    pipeline = Pipeline(builders.PARTITION, lanes, READ, replays={lane: replay})
    pipeline.restore(lane, held)
    return pipeline


def numbers(batches: list[Batch]) -> list[list[int]]:
    """Return the numbers of the events of each document."""
    documents = builders.documents(batches)
    return [[event["data"]["n"] for event in one["events"]] for one in documents]


def collected(lane: str, stored: LaneState, upto: int = 99) -> list[list[int]]:
    """Return the documents of what is saved, of the replay from ``need`` on, and of the rest."""
    pipeline = opened(lane, stored)
    poll = [one for one in fed() if stored.need[0] <= one.offset < upto]
    out = builders.merged([pipeline.collect(poll, NOW), pipeline.finish(NOW)])
    assert not out.dead_letters
    return numbers(out.batches)


def test_windows_of_the_former_rules_close_as_they_were_keyed() -> None:
    lanes = base("state-base-v1-keys-1.bin")
    for name, lane in lanes.items():
        assert [(FORMER[name], (0, 0)), (TODAY[name], (READ, 0))] == lane.keying
    # What was saved (0 to 5) and what is replayed (6, 7) mixes people, as it always did.
    alone = [[8], [9], [10]]
    batches = [[0, 1], [2, 4], [3, 5, 11], [6, 7], *alone, [12]]
    assert batches == collected("batches", lanes["batches"])
    sessions = [[0, 1], [2, 4], [3], [5], [6, 7], *alone, [11], [12]]
    assert sessions == collected("sessions", lanes["sessions"])


def test_windows_of_todays_rules_go_on() -> None:
    lanes = base("state-base-v2-keys-2.bin")
    expected = [[0, 8], [1, 9], [2], [3, 5, 11], [4], [6], [7, 12], [10]]
    for name, lane in lanes.items():
        assert [(TODAY[name], (0, 0))] == lane.keying
        assert expected == collected(name, lane)


@pytest.mark.parametrize("lane", LANES)
def test_what_former_rules_have_closed_is_not_collected_again(lane: str) -> None:
    stored = base("state-base-v1-keys-1.bin")[lane]
    pipeline = opened(lane, stored)
    pipeline.collect([one for one in fed() if stored.need[0] <= one.offset < READ], NOW)
    # All of it closes, is committed, and the worker dies: the next one replays from the same need.
    closed = {one.window_key: one.last for one in pipeline.finish(NOW).closings}
    stored.closed, stored.held = closed, {}
    assert [] == collected(lane, stored, READ)


def test_a_release_of_before_refuses_what_todays_has_written() -> None:
    value = zstandard.decompress((STORED / "state-base-v2-keys-2.bin").read_bytes())
    assert 2 == msgspec.msgpack.decode(value)["v"]  # it knows no other than 1
    value = zstandard.decompress((STORED / "state-base-v1-keys-1.bin").read_bytes())
    assert 1 == msgspec.msgpack.decode(value)["v"]
