"""Read, need and watermark."""

from hypothesis import given
from hypothesis import strategies as st

from forwarder.journal import tick as ticks
from forwarder.journal.state import LaneState

POSITIONS = st.tuples(st.integers(0, 9), st.integers(0, 9))


def test_read_follows_the_position() -> None:
    assert ticks.max_read(5, 8) == 8


def test_read_stays_during_a_replay_below_it() -> None:
    assert ticks.max_read(5, 2) == 5


def test_need_is_the_position_when_nothing_waits() -> None:
    assert ticks.lowest_need((3, 1), 8, None) == (8, 0)


def test_need_stays_during_a_replay_below_it() -> None:
    assert ticks.lowest_need((3, 1), 2, None) == (3, 1)


def test_need_is_a_position_inside_a_record_where_an_event_of_it_waits() -> None:
    assert ticks.lowest_need((3, 1), 8, (5, 2)) == (5, 2)


def test_what_waits_above_what_is_collected_is_needed_from_there_on() -> None:
    assert ticks.lowest_need((3, 1), 8, (9, 2)) == (8, 0)
    assert ticks.lowest_need((9, 1), 8, (9, 2)) == (9, 1)


def test_the_watermark_is_the_lowest_need_of_all_lanes() -> None:
    assert ticks.lowest_watermark([LaneState(need=n) for n in ((7, 0), (4, 3), (9, 0))], 9) == 4


def test_the_watermark_without_lanes_is_what_was_read() -> None:
    assert ticks.lowest_watermark([], 9) == 9


@given(POSITIONS, st.lists(st.tuples(st.integers(0, 9), st.none() | POSITIONS)))
def test_need_never_falls_while_what_waits_lies_above_it(
    need: tuple[int, int], steps: list[tuple[int, tuple[int, int] | None]]
) -> None:
    for position, waiting in steps:
        above = max(waiting, need) if waiting is not None else None
        after = ticks.lowest_need(need, position, above)
        assert need <= after
        need = after
