"""Windows come up at their deadline, whatever happened to it before."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder.collect.windows.queues import Deadlines
from forwarder.collect.windows.window import Window
from forwarder.formats.mparticle.context import shape_of
from forwarder.model import CloseReason


def window(deadline: int) -> Window:
    """Return an empty window that is due at ``deadline``."""
    age = CloseReason.AGE
    return Window(b"", b"", b"", [], 0, b"{}", shape_of({}), 0, 0, 0, 0, deadline, age)


_TIMES = st.integers(0, 5000)
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 4), _TIMES),
        st.tuples(st.just("close"), st.integers(0, 4), _TIMES),
        st.tuples(st.just("due"), st.integers(1, 3), _TIMES),
    ),
    max_size=30,
)


@settings(max_examples=500, deadline=None)
@given(_STEPS)
def test_what_is_due_is_what_a_scan_of_all_windows_finds(
    steps: list[tuple[str, int, int]],
) -> None:
    deadlines = Deadlines()
    waiting: dict[int, Window] = {}
    for step, number, time in steps:
        if step == "put":
            one = waiting.setdefault(number, window(time))
            one.deadline = time
            deadlines.put(one)
        elif step == "close" and number in waiting:
            waiting.pop(number).closed = True
        elif step == "due":
            _check_due(deadlines, waiting, time, number)


def _check_due(deadlines: Deadlines, waiting: dict[int, Window], now: int, limit: int) -> None:
    expected = {i for i, one in waiting.items() if one.deadline <= now}
    soonest = min((one.deadline for one in waiting.values()), default=None)
    told = deadlines.earliest()
    assert soonest is None or (told is not None and told <= soonest)
    found = deadlines.take_due(now, limit)
    numbers = {i for i, one in waiting.items() if any(one is other for other in found)}
    assert min(limit, len(expected)) == len(found) == len(numbers)
    assert numbers <= expected
    for number in numbers:
        waiting.pop(number).closed = True
    after = deadlines.earliest()
    assert after is None or after > now or len(found) == limit


def test_no_window_means_no_deadline() -> None:
    assert None is Deadlines().earliest()
    assert [] == Deadlines().take_due(10**15)


def test_without_a_limit_all_that_is_due_comes_at_once_in_order_of_seconds() -> None:
    deadlines = Deadlines()
    windows = [window(time) for time in (3000, 1500, 1200, 9000, 0)]
    for one in windows:
        deadlines.put(one)
    assert [0, 1500, 1200, 3000] == [one.deadline for one in deadlines.take_due(3000)]
    assert 9000 == deadlines.earliest()


def test_slices_of_one_second_put_nothing_back(monkeypatch: pytest.MonkeyPatch) -> None:
    deadlines = Deadlines()
    for _ in range(100):
        deadlines.put(window(1500))
    again: list[Window] = []
    monkeypatch.setattr(Deadlines, "put", lambda _, one: again.append(one))
    assert [2] * 50 == [len(deadlines.take_due(1500, 2)) for _ in range(50)]
    assert ([], None) == (again, deadlines.earliest())
