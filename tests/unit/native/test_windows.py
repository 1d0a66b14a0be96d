"""The native core joins uploads to windows as Python does: every field, order and count."""

import gc
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import astuple, replace

from forwarder import native
from forwarder.collect.replay_filter import ReplayFilter
from forwarder.collect.windows import store as store_module
from forwarder.collect.windows import table
from forwarder.collect.windows.checkpoint import Checkpoint
from forwarder.collect.windows.joiner import JoinBounds
from forwarder.collect.windows.shares import Shares, make_shares
from forwarder.collect.windows.store import Added, WindowStore
from forwarder.collect.windows.tails import TailSizes
from forwarder.collect.windows.window import Window
from forwarder.config.connection import Batching
from forwarder.formats.contract import ContextShape, Reject, Upload
from forwarder.model import CloseReason, Piece
from tests import builders, cores
from tests.builders import PARTITION, START, connection, event, upload

core: Any = pytest.importorskip("forwarder.native._core", exc_type=ImportError)
pytestmark = pytest.mark.skipif(native.core() is None, reason="the native core is left aside")

_THOROUGH = settings(max_examples=300, deadline=None)
_SIZES = TailSizes(packed=2, first_look=2600, short=900, long=1800, at_once=100_000)

T = TypeVar("T")
Step: TypeAlias = tuple[str, Any]

_CONTEXTS = st.sampled_from([
    {}, {}, {}, {"b": ""}, {"b": "z" * 40}, {"b": "z" * 150}, {"b": "z" * 400},
    {"mpid": None}, {"mpid": "2", "b": ""}, {"a": None},
    {"deleted_user_attributes": ["k"]}, {"deleted_user_attributes": ["l"]},
    {"user_attributes": {"k": "v"}}, {"user_attributes": {"l": "v" * 30}},
    {"user_identities": [{"identity_type": "email", "identity": "i"}]},
    {"user_identities": [{"identity_type": "email", "identity": "me"}]},
    {"mpid": None, "user_identities": [{"identity_type": "email", "identity": "me"}]},
])  # fmt: skip
_UPLOADS = st.tuples(
    st.sampled_from([0, 0, 0, 1, 1, 2, 3]),
    st.sampled_from([1, 1, 1, 1, 2, 3, 0]),
    st.sampled_from([0, 0, 20, 100, 600]),
    st.sampled_from([0, 0, 0, 1, 40, 300, 1_000]),
    _CONTEXTS,
)
_POLLS = st.tuples(st.just("poll"), st.lists(_UPLOADS, min_size=4, max_size=12))
_STEPS: st.SearchStrategy[list[Step]] = st.lists(
    st.one_of(
        _POLLS, _POLLS, _POLLS,
        st.tuples(st.just("save"), st.sampled_from([0, 1, 3, 1000])),
        st.tuples(st.just("settle"), st.none()),
        st.tuples(st.just("expire"), st.integers(1, 4)),
        st.tuples(st.just("shed"), st.none()),
        st.tuples(st.just("compress"), st.sampled_from([0, 0, 2_000, 1 << 40])),
    ),
    min_size=4, max_size=12,
)  # fmt: skip
_DELETED: list[Step] = [
    ("poll", [(0, 1, 0, 0, {"deleted_user_attributes": [name]}) for name in "kl"])
]
"""What was deleted adds up: a newer context does not take the place of an older one."""
_SPREAD: list[Step] = [("poll", [(n % 7, 1, 0, 0, {}) for n in range(14)])] * 2
"""Keys in several parts of a table: each is found where it stands."""
_BATCHINGS = st.builds(
    Batching,
    max_age_ms=st.sampled_from([1, 900, 9_000]),
    max_events=st.sampled_from([1, 3, 50, 50]),
)


def _store_of(
    small_context: int, small_events: int, batching: Batching, shares: Shares
) -> WindowStore:
    """Return a store whose usual uploads have at most so many bytes."""
    lane = builders.lane_set(connection(batching=batching)).lanes[0]
    lane._fit.small_context_bytes = small_context  # noqa: SLF001  # smaller than need be
    lane._fit.small_events_bytes = small_events  # noqa: SLF001
    return lane.new_store(ReplayFilter(), _SIZES, shares)


class Decoded:
    """Uploads as a decoder makes them, one after the other, over record time."""

    def __init__(self) -> None:
        lane = builders.lane_set(connection()).lanes[0]
        self._decoder = lane.form.decoder(PARTITION, [lane.filter], sessions=False)
        self.offset, self.clock = 0, START

    def poll(self, some: Sequence[tuple[int, int, int, int, dict[str, Any]]]) -> list[Upload]:
        """Return uploads of (device, events, bytes more, milliseconds later, context)."""
        found: list[Upload] = []
        for device, events, more, later, context in some:
            self.clock += later
            value = upload(
                *(event(pad="p" * more) for _ in range(events)),
                device=f"d{device}",
                **{"mpid": "1", **context},
            )
            time = self.clock - 7 * (device % 2)
            made = self._decoder.decode(builders.encoded(value), self.offset, time, self.clock)
            assert not isinstance(made, Reject)
            found += made
            self.offset += 1
        return found


@dataclass
class Pair:
    """A store on each core, to which the same is done."""

    stores: list[WindowStore]
    saving: list[Checkpoint] | None = None

    def both(self, ask: Callable[[WindowStore], T]) -> list[T]:
        """Ask both stores; return what they answer."""
        return [ask(store) for store in self.stores]

    def do(self, kind: str, chosen: Any, decoded: Decoded) -> list[Any]:  # noqa: ANN401
        """Do one step to both; return what each makes of it."""
        if kind == "poll":
            for store in self.stores:
                store._shares.taking = bool(decoded.offset % 3)  # noqa: SLF001
            uploads = decoded.poll(chosen)
            return [
                _added(store.add_whole([replace(one) for one in uploads])) for store in self.stores
            ]
        if kind == "save":
            below = max(0, decoded.offset - chosen)
            self.saving = self.both(lambda store: Checkpoint(store, below))
            return [list(_taken(one)) for one in self.saving]
        if kind == "settle":
            for one in self.saving or ():
                one.settle()
            self.saving = None
            return [0, 0]
        if kind == "expire":
            return self.both(lambda store: _all(store.expire(decoded.clock, chosen)))
        if kind == "shed":
            return self.both(lambda store: _shed(store, decoded.clock))
        return self.both(lambda store: store.compress_above(chosen))


def _taken(saving: Checkpoint) -> Iterator[object]:
    while found := saving.take(200):
        yield from found


def _shed(store: WindowStore, clock: int) -> list[object]:
    found = store.eviction_candidate(clock)
    return [] if found is None else _all(store.shed(found.window))


def _added(found: tuple[int, Added | None]) -> tuple[object, ...]:
    accepted, added = found
    if added is None:
        return (accepted,)
    return accepted, _all(added.closed), len(added.misfits), added.touched


def _all(windows: Sequence[Window]) -> list[object]:
    return [_fields(window) for window in windows]


def _fields(window: Window) -> dict[str, object]:
    """Return all there is to know of a window, and which of its objects are one."""
    known = dict(zip(window.__struct_fields__, astuple(window), strict=True))
    pack = window.pack
    known["pack"] = None if pack is None else (pack.packed, list(pack.sizes), pack.living)
    known["one key"] = window.key is window.device
    known["one position"] = window.first is window.touched
    known["pieces"] = window.all_pieces()
    return known


def _state(store: WindowStore, clock: int) -> dict[str, object]:
    """Return all that shows of a store."""
    candidate = store.eviction_candidate(clock)
    return {
        "windows": [(key, _fields(window)) for key, window in _entries(store)],
        "counts": (store.memory, store.beside, store.waiting_bytes, store.waiting_events),
        "shared": (store._shares.saved, len(store._shares)),  # noqa: SLF001
        "cold": store._cold,  # noqa: SLF001
        "deadline": store.next_deadline(),
        "opened": store.oldest_opened(),
        "candidate": candidate and (candidate.score, _fields(candidate.window)),
        "unsaved": store.unsaved.first(),
        "unpacked": [one.key for one in store._unpacked if not one.closed],  # noqa: SLF001
    }


def _entries(store: WindowStore) -> list[tuple[bytes, Window]]:
    return [(key, window) for part in store.open.parts for key, window in part.items()]


@_THOROUGH
@given(
    _STEPS, _BATCHINGS, st.sampled_from([120, 400, 32 * 1024]), st.sampled_from([100, 1 << 20]),
    st.sampled_from([3, 1 << 20]),
)  # fmt: skip
@example(_DELETED, Batching(), 32 * 1024, 1 << 20, 1 << 20)
@example(_SPREAD, Batching(), 32 * 1024, 1 << 20, 3)
def test_both_cores_join_the_same(
    steps: list[Step], batching: Batching, context: int, events: int, split_from: int
) -> None:
    decoded, stores, shares = Decoded(), list[WindowStore](), list[Shares]()
    for which in (cores.NATIVE, cores.PYTHON):
        with cores.on(which):
            shares.append(make_shares())
            stores.append(_store_of(context, events, batching, shares[-1]))
    assert [True, False] == [store._joiner is not None for store in stores]  # noqa: SLF001
    pair = Pair(stores)
    with pytest.MonkeyPatch.context() as patched:
        for module in (table, store_module):
            patched.setattr(module, "SPLIT_FROM", split_from)
        for kind, chosen in [*steps, ("poll", [(0, 1, 0, 0, {})]), ("settle", None)]:
            if kind == "settle" and pair.saving is None:
                continue
            by_native, by_python = pair.do(kind, chosen, decoded)
            assert by_python == by_native
            by_native, by_python = pair.both(lambda store: _state(store, decoded.clock))
            assert by_python == by_native
        by_native, by_python = pair.both(lambda store: _all(store.expire(1 << 50)))
        assert by_python == by_native


def _store() -> WindowStore:
    shares = make_shares()
    shares.taking = True
    return _store_of(400, 4_000, Batching(max_age_ms=5_000, max_events=9), shares)


def _references(which: str) -> list[int]:
    """Return how many references there are to what uploads hold, once their store is gone."""
    decoded, watched = Decoded(), list[Upload]()
    with cores.on(which):
        store = _store()
    for number in range(0, 1_000, 25):
        uploads = decoded.poll(
            [
                ((n * n + number) % 6, (1, 1, 2, 0)[n % 4], 200, 100, {"a": n * number})
                for n in range(25)
            ]
        )
        watched += uploads
        store.add_whole(uploads)
        if number % 100 == 0:
            saving = Checkpoint(store, decoded.offset)
            list(_taken(saving))
            saving.settle()
    store.finish()
    del uploads, store, saving
    gc.collect()
    return [
        sys.getrefcount(one)
        for up in watched
        if up.piece is not None
        for one in (up.context, up.owner, up.piece, up.piece[4], up.time, up.clock)
    ]


def test_nothing_that_was_joined_is_kept_or_given_away() -> None:
    by_native, by_python = _references(cores.NATIVE), _references(cores.PYTHON)
    assert by_python == by_native


def test_what_all_windows_share_has_as_many_references_afterwards_as_before() -> None:
    decoded = Decoded()
    uploads = decoded.poll([(n % 5, 1, 10, 40, {}) for n in range(400)])
    shared = (uploads[0].shape, Window, Upload, CloseReason.AGE, CloseReason.END, uploads[7].time)
    counts = list[list[int]]()
    for _ in range(3):
        with cores.on(cores.NATIVE):
            store = _store()
        store.add_whole([replace(one) for one in uploads])
        store.finish()
        del store
        gc.collect()
        counts.append([sys.getrefcount(one) for one in shared])
    assert counts[1] == counts[2]


@pytest.mark.parametrize("length", [0, 2, 4])
def test_an_upload_that_is_no_usual_object_is_left_to_python(length: int) -> None:
    with cores.on(cores.NATIVE):
        store, decoded = _store(), Decoded()
    (one,) = decoded.poll([(0, 1, 0, 0, {})])
    broken: Piece = (0, 0, 1, 0, b"{}")
    one.piece = broken[:length]  # type: ignore[assignment]
    with pytest.raises((IndexError, ValueError)):
        store.add_whole([one])
    with pytest.raises(AttributeError):
        store.add_whole([object()])  # type: ignore[list-item]


class _Plain:
    clock = context = device = owner = piece = shape = time = None


class _Slotted:
    __slots__ = ("clock", "context", "device", "owner", "piece", "shape", "time")


class _Tracked(msgspec.Struct):
    dated: bool = False
    plain: bool = False


@pytest.mark.parametrize(
    "kinds",
    [(_Plain, Window, ContextShape), (_Slotted, Window, ContextShape), (Upload, Upload, Upload),
     (Upload, Window, _Tracked), (Upload, Window, int)],
)  # fmt: skip
def test_a_class_that_is_laid_out_otherwise_is_refused(kinds: tuple[type, ...]) -> None:
    with pytest.raises((TypeError, AttributeError)):
        core.Joiner(*kinds, CloseReason.AGE, JoinBounds(1, 1, 1, 1, 1))
