"""Windows come up at their deadline, whatever happened to it; stale entries are dropped lazily."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder.collect.windows.queues import CHUNK_ENTRIES, Deadlines, LazyQueue
from forwarder.collect.windows.window import Window
from forwarder.formats.mparticle.document import shape_of
from forwarder.model import CloseReason


def window(deadline: int) -> Window:
    """Return an empty window that is due at ``deadline``."""
    age = CloseReason.AGE
    return Window(b"", b"", b"", b"{}", shape_of({}), 0, 0, 0, 0, deadline, age)


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


def test_a_lazy_queue_drops_stale_entries_wherever_they_stand() -> None:
    alive: set[int] = set()
    queue: LazyQueue[int] = LazyQueue(alive.__contains__)
    for number in range(20 * CHUNK_ENTRIES):
        alive.add(number)
        queue.append(number)
        if number % 100:
            alive.discard(number - 1)
    assert len(queue) < 2 * len(alive) + 3 * CHUNK_ENTRIES
    assert min(alive) == queue.head()
    assert alive <= set(queue)
    alive.clear()
    assert (None, 0) == (queue.head(), len(queue))
    alive.add(1)
    queue.append(1)
    assert (1, 1) == (queue.head(), len(queue))


def test_a_lazy_queue_without_stale_entries_looks_at_few_however_long_it_is() -> None:
    looks: list[int] = []

    def alive(entry: int) -> bool:
        looks.append(entry)
        return True

    queue: LazyQueue[int] = LazyQueue(alive)
    for number in range(20 * CHUNK_ENTRIES):
        queue.append(number)
        assert 2 * CHUNK_ENTRIES + 1 >= len(looks)
        looks.clear()
    assert list(range(20 * CHUNK_ENTRIES)) == list(queue)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 60)), max_size=150))
def test_a_lazy_queue_gives_the_first_entry_that_counts(steps: list[tuple[bool, int]]) -> None:
    alive: dict[int, None] = {}
    queue: LazyQueue[int] = LazyQueue(alive.__contains__, chunk=3)
    for number, (kill, which) in enumerate(steps):
        alive[number] = None
        queue.append(number)
        if kill:
            alive.pop(which, None)
        assert next(iter(alive), None) == queue.head()
        assert list(alive) == [one for one in queue if one in alive]
