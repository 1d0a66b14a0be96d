"""The order in which windows close for want of memory, where they come and grow out of order."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder.collect.windows import eviction
from forwarder.collect.windows.eviction import EvictionQueue


class Waiting:
    """What the queue reads of a window; counts how often it is looked at."""

    looks = 0

    def __init__(self, opened: int, size_class: int = 0) -> None:
        self.opened = opened
        self.size_class = size_class
        self._closed = False

    @property
    def closed(self) -> bool:
        Waiting.looks += 1
        return self._closed

    def close(self) -> None:
        self._closed = True


_STEPS = st.lists(
    st.tuples(st.sampled_from(["open", "open", "open", "close"]), st.integers(0, 50)), max_size=200
)


@settings(max_examples=300, deadline=None)
@given(_STEPS, st.integers(1, 5))
def test_the_oldest_comes_first_in_whatever_order_they_came(
    steps: list[tuple[str, int]], few: int
) -> None:
    queue, waiting = EvictionQueue(), list[Any]()
    before, eviction._FEW_OLD = eviction._FEW_OLD, few  # noqa: SLF001  # else thousands are needed
    try:
        for step, number in steps:
            if step == "open":
                waiting.append(Waiting(number))
                queue.put(waiting[-1])
            elif waiting:
                waiting.pop(number % len(waiting)).close()
            first = queue.oldest()
            assert (first is None) == (not waiting)
            assert first is None or first.opened == min(one.opened for one in waiting)
            found = queue.candidate(100)
            assert first is (found.window if found else None)
    finally:
        eviction._FEW_OLD = before  # noqa: SLF001


def test_no_window_that_comes_out_of_order_makes_it_look_at_many() -> None:
    queue, most, waiting = EvictionQueue(), 0, list[Any]()
    for number in range(40_000):
        waiting.append(Waiting(-(number * 7919 % 40_000)))
        if number % 3 == 0:
            waiting[number * 31 % len(waiting)].close()
        before = Waiting.looks
        queue.put(waiting[-1])
        most = max(most, Waiting.looks - before)
    assert 0 < most < 10
