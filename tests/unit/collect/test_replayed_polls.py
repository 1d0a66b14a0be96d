"""What is decided of a whole replayed poll at once is what is decided of each of its uploads."""

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.collect.keying import BY_DEVICE
from forwarder.collect.lane import CollectBounds
from forwarder.collect.replay_filter import ReplayFilter
from forwarder.collect.windows.store import WindowStore
from forwarder.collect.windows.tails import TailSizes
from forwarder.config.connection import Batching
from forwarder.formats.contract import Upload
from forwarder.formats.ids import digest
from forwarder.model import Collected, Position
from tests import builders
from tests.builders import NOW, connection, event, records, upload

DEVICES = ["a", "b", "c"]
KEY = b'"production","","%b",""#'
PLACES = st.tuples(st.integers(0, 13), st.integers(0, 2))


def of_none(_: WindowStore, __: Sequence[Upload]) -> bool:
    """Leave each upload to be asked of by itself."""
    return False


def replayed(
    chosen: Callable[[WindowStore, Sequence[Upload]], bool],
    *,
    as_batch: bool,
    need: Position,
    closed: dict[str, Position],
    size: int,
) -> Collected:
    """Collect twelve records of which ten are a replay, in polls of this size."""
    polls = records(
        *[upload(event(n=2 * n), event(n=2 * n + 1), device=DEVICES[n % 3]) for n in range(12)]
    )
    keys = {digest(KEY % device.encode()): place for device, place in closed.items()}
    known = ReplayFilter(need, 10, keys, keying=[(BY_DEVICE, (0, 0))])
    made = builders.pipeline(
        connection(batching=Batching(max_events=5), send_as_batch=as_batch), read=10, replay=known
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WindowStore, "wants_all", chosen)
        outs = [made.collect(polls[at : at + size], NOW) for at in range(0, 12, size)]
        return builders.merged([*outs, *builders.finished(made)])


@given(
    as_batch=st.booleans(),
    need=PLACES,
    closed=st.dictionaries(st.sampled_from(DEVICES), PLACES, max_size=2),
    size=st.integers(1, 12),
)
def test_a_poll_that_is_taken_whole_comes_out_as_one_of_which_each_upload_is_judged(
    *, as_batch: bool, need: Position, closed: dict[str, Position], size: int
) -> None:
    at_once = replayed(
        WindowStore.wants_all, as_batch=as_batch, need=need, closed=closed, size=size
    )
    each = replayed(of_none, as_batch=as_batch, need=need, closed=closed, size=size)
    assert each == at_once


def test_a_poll_of_which_nothing_is_settled_is_judged_at_once() -> None:
    said: list[bool] = []

    def told(store: WindowStore, uploads: Sequence[Upload]) -> bool:
        said.append(wants_all(store, uploads))
        return said[-1]

    wants_all = WindowStore.wants_all
    out = replayed(told, as_batch=True, need=(0, 0), closed={}, size=5)
    assert ([True, True], {"lane": 20}, {}) == (said, out.taken_over, out.settled)
    out = replayed(told, as_batch=True, need=(5, 1), closed={"a": (6, 1)}, size=5)
    assert ([False, False], {"lane": 7}) == (said[2:], out.taken_over)


def test_what_waits_for_its_documents_is_weighed_with_what_came_out_of_packs() -> None:
    bounds = CollectBounds(encoded_bytes=1, tails=TailSizes(packed=2, short=4096))
    made = builders.pipeline(connection(), bounds=bounds)
    made.compress_above(0)
    many = [upload(event(text="x" * 2000 + str(n)), device=str(n)) for n in range(40)]
    made.collect(records(*many), NOW)
    packed = made.memory_bytes()
    made.finish(NOW)
    waiting = [made.memory_bytes()]
    assert waiting[0] > max(packed, 38 * 2000)
    while made.has_pending_documents:
        made.expire(0, 0, NOW)
        waiting.append(made.memory_bytes())
    assert sorted(waiting, reverse=True) == waiting
    assert (40, 0) == (len(waiting), waiting[-1])


def test_events_that_wait_to_become_documents_each_count_as_memory() -> None:
    made = builders.pipeline(connection(send_as_batch=False), bounds=CollectBounds(encoded_bytes=1))
    made.collect(records(*[upload(event(text="x" * 2000)) for _ in range(10)]), NOW)
    assert 9 * 2000 < made.memory_bytes() < 9 * 4000
