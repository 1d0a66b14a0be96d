"""Random histories of whole workers on a model of everything around them."""

import os
from collections import Counter

import pytest

from tests.model.history import history, play, quietly
from tests.model.runs import CHUNK, chunks

HISTORIES = 2_000

HAPPENED = """
bases deltas held replayed repeats skipped openings drained duplicates
closed.age closed.memory closed.session_end closed.session_timeout closed.single closed.size
letter.event_too_large letter.invalid_json letter.not_encodable letter.refused_by_sink
unknown_carried lane_expired lane_retired
fenced fetched_stale read_unstable state_cut rebalances forgotten kicked_out zombie_heard
owns.True owns.False put.zombie
put.up put.down put.mute put.closed put.picky put.half put.slow put.sleepy put.throttled
lane.backing_off lane.paused lane.flowing
end.drop end.mute end.late end.done_late end.refused_late end.slow end.stall end.unreached
send.drop send.mute send.late send.stall send_state.drop send_state.mute offsets.drop offsets.mute
init.drop init.mute init.late init.stall fetch.drop fetch.mute state.drop state.mute
read.drop read.mute cut.drop cut.mute
killed.outbox_sent killed.state_sent killed.offsets_sent killed.decided
killed.opening killed.open killed.busy killed.drafting
do.feed do.flow do.odd do.sleep do.kill do.deploy do.rebalance do.hear do.freeze do.trouble do.away
do.mood do.stale do.markers do.limits
""".split()  # noqa: SIM905  # words are easier to read
"""What a model must reach to prove anything about it."""


@pytest.fixture(scope="module")
def played() -> tuple[Counter[str], list[tuple[int, str]]]:
    """Play all histories once, on two cores where there are two."""
    seen: Counter[str] = Counter()
    faults: list[tuple[int, str]] = []
    jobs = min(2, os.cpu_count() or 1)
    for _, happened, broken in chunks(range(HISTORIES), jobs):
        seen.update(happened)
        faults += broken
        if faults:
            break
    return seen, faults


def test_whatever_happens_every_promise_is_kept(
    played: tuple[Counter[str], list[tuple[int, str]]],
) -> None:
    _, faults = played
    assert [] == faults, "python -m tests.model --histories 1 --seed N shows a shorter one"


def test_everything_that_may_happen_does(
    played: tuple[Counter[str], list[tuple[int, str]]],
) -> None:
    seen, _ = played
    assert [] == [what for what in HAPPENED if not seen[what]]


def test_a_seed_gives_the_same_history_each_time() -> None:
    with quietly():
        first, second = (play(*history(CHUNK))[1] for _ in range(2))
    assert first.seen == second.seen
    assert first.now == second.now
    assert history(1) != history(2)
