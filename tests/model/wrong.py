"""What the mutations put in place of the right function: made of it, or instead of it."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from hashlib import blake2b
from typing import Any
from unittest import mock

from msgspec import structs

from forwarder.collect.duplicates import Duplicates
from forwarder.collect.encode import DocumentEncoder
from forwarder.collect.windows.misfits import Misfits
from forwarder.collect.windows.queues import UnsavedQueue
from forwarder.deliver.queue import DeliveryQueue
from forwarder.errors import FencedError, JournalError
from forwarder.journal import opening
from forwarder.journal.snapshot import SnapshotBuilder
from forwarder.model import LOWEST
from forwarder.worker import ticks
from forwarder.worker.ticks import TickLoop

Function = Callable[..., Any]


# ------------------------------------------------------------------ opening


def opened(change: Callable[[opening.Opening], None]) -> Callable[[Function], Function]:
    """Return what changes the result of an opening."""

    def make(right: Function) -> Function:
        def begin(*args: Any, **more: Any) -> opening.Opening:  # noqa: ANN401  # whatever it takes
            start: opening.Opening = right(*args, **more)
            change(start)
            return start

        return begin

    return make


def forget_unknown(start: opening.Opening) -> None:
    for name in start.unknown:
        del start.state.lanes[name]


def seek_read(start: opening.Opening) -> None:
    start.seek = start.state.read


def begin_at_need(start: opening.Opening) -> None:
    start.begin = start.seek


def only_todays_window(right: Function) -> Function:
    def apply(state: Any, window_ms: int, configured: Any) -> None:  # noqa: ANN401
        right(state, window_ms, configured)
        if state.look_back is not None:
            windows = state.look_back.windows[-1:]
            state.look_back = structs.replace(state.look_back, windows=windows)

    return apply


def forget_windows(right: Function) -> Function:
    def look_back(*args: Any) -> Any:  # noqa: ANN401
        found = right(*args)
        return found and structs.replace(found, windows=found.windows[-1:])

    return look_back


def one_read(start: opening.Opening) -> None:
    for name in start.state.lanes.keys() - set(start.unknown):
        start.state.lanes[name].read = start.state.read


def forget_acks(start: opening.Opening) -> None:
    for lane in start.state.lanes.values():
        lane.acked = frozenset()


# ------------------------------------------------------------------ collecting


def whole_offsets(right: Function) -> Function:
    def settled_to(gated: Any, name: bytes) -> tuple[int, int]:  # noqa: ANN401
        found: tuple[int, int] = right(gated, name)
        return found if found == LOWEST else (found[0], 1 << 30)

    return settled_to


def closed_only(right: Function) -> Function:  # noqa: ARG001
    return lambda gated, name: gated._closed.get(name, LOWEST)  # noqa: SLF001


def held_only(right: Function) -> Function:  # noqa: ARG001
    return lambda gated, name: gated._saved.get(name, LOWEST)  # noqa: SLF001


def reject_again(right: Function) -> Function:
    def reject(self: Any, *args: Any) -> None:  # noqa: ANN401
        self._read = 0
        right(self, *args)

    return reject


def saved_is_safe(right: Function) -> Function:  # noqa: ARG001
    def first(self: UnsavedQueue) -> Any:  # noqa: ANN401
        fresh = self._fresh.head()
        return None if fresh is None else fresh.unsaved

    return first


def newest_reach(right: Function) -> Function:
    def seen_from(self: Duplicates, offset: int) -> int:
        found: int = right(self, end := 1 << 62)
        return offset if found == end else found

    return seen_from


def remember_kept(right: Function) -> Function:
    def remember(self: Duplicates, names: dict[bytes, bool], offset: int, time: int) -> None:
        right(self, {name: again for name, again in names.items() if not again}, offset, time)

    return remember


# ------------------------------------------------------------------ ticks


def partial(right: Function) -> Function:
    def draw(self: Any) -> Any:  # noqa: ANN401
        pending = self._uncommitted.next
        rest = pending.batches[len(pending.batches) // 2 :] if len(pending.batches) > 1 else []
        pending.batches = pending.batches[: len(pending.batches) - len(rest)]
        result = right(self)
        self._uncommitted.next.batches = rest + self._uncommitted.next.batches
        return result

    return draw


def believe(right: Function) -> Function:
    """Take an unknown outcome for a failure that changed nothing, and go on."""

    def failed(self: Any, error: Exception) -> None:  # noqa: ANN401
        if type(error).__name__ == "FencedError":
            right(self, error)
            return
        self._journal._spoiled = False  # noqa: SLF001  # as a client that tries on
        pending = self._uncommitted.next
        pending.batches = [*getattr(self, "kept", ()), *pending.batches]

    return failed


def keep(right: Function) -> Function:
    def draw(self: Any) -> Any:  # noqa: ANN401
        self.kept = list(self._uncommitted.next.batches)
        return right(self)

    return draw


def believe_success(right: Function) -> Function:
    """Take a commit that nobody answered for one that succeeded."""

    async def ask(self: Any, kind: str, effect: Any) -> Any:  # noqa: ANN401
        try:
            return await right(self, kind, effect)
        except FencedError:
            raise
        except JournalError:
            if kind != "end":
                raise
            self._spoiled = False

    return ask


class Late:
    """A tick whose offset is asked for when it is sent."""

    def __init__(self, owner: Any, content: Any) -> None:  # noqa: ANN401
        self._owner = owner
        self._content = content

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return getattr(self._content, name)

    @property
    def offset(self) -> int:
        """Return W as of now."""
        lanes = [lane.name for lane in self._owner._lanes]  # noqa: SLF001
        firsts = [self._owner._pipeline.unsaved().get(name) for name in lanes]  # noqa: SLF001
        lowest: int = self._owner._progress.position  # noqa: SLF001
        for first in firsts:
            lowest = lowest if first is None else min(lowest, first[0])
        return lowest


def at_the_commit(right: Function) -> Function:
    def draw(self: Any) -> Any:  # noqa: ANN401
        drawn = right(self)
        return drawn and drawn._replace(content=Late(self, drawn.content))

    return draw


def any_tick_proves(right: Function) -> Function:
    def known(self: Any, *args: Any, **more: Any) -> Any:  # noqa: ANN401
        self.deliveries.lease.extend(self._clock.steady() + ticks.LEASE_SECONDS)
        return right(self, *args, **more)

    return known


# ------------------------------------------------------------------ bases


def no_base(right: Function) -> Function:
    def entries(state: Any, snap: Any) -> Any:  # noqa: ANN401
        return right(structs.replace(state, base_held=set()), snap)

    return entries


def no_draft(right: Function) -> Function:
    def entries(state: Any, snap: Any) -> Any:  # noqa: ANN401
        base = snap.draft if snap.base() else None
        return right(state, structs.replace(snap, draft=base))

    return entries


def settle_early(right: Function) -> Function:
    def steps(self: SnapshotBuilder) -> Iterator[None]:
        for step in right(self):
            for saving in self.savings.values():
                with suppress(RuntimeError):  # not all of it was taken yet
                    saving.settle()
            yield step

    return steps


def cut_at_newest(right: Function) -> Function:
    return lambda self, journal, _below: right(self, journal, self._ptrs[-1])


def base_in_replay(right: Function) -> Function:  # noqa: ARG001
    def prepare(self: Any) -> None:  # noqa: ANN401
        if self._state.base_offset is None:
            self.snapshots.build_now(self._make_builder())
        else:
            self.snapshots.start_if_due(self._make_builder)

    return prepare


def all_unknown(right: Function) -> Function:  # noqa: ARG001
    return lambda stored, configured, *_rest: stored.keys() - set(configured)


# ------------------------------------------------------------------ delivering


def after_the_sends(right: Function) -> Function:
    return lambda self, end: right(self, (end[0] + 2, 0))


def in_flight_is_done(right: Function) -> Function:
    def snapshot(self: DeliveryQueue, end: Any) -> Any:  # noqa: ANN401
        at, acked = right(self, end)
        return at, acked | self.in_flight

    return snapshot


def highest(right: Function) -> Function:
    def snapshot(self: DeliveryQueue, end: Any) -> Any:  # noqa: ANN401
        at, acked = right(self, end)
        if not acked:
            return at, acked
        last = max(acked)
        return (last[0], last[1] + 1), frozenset()

    return snapshot


def evict_for_good(right: Function) -> Function:
    def cut(self: DeliveryQueue) -> bool:
        before = self.readback_from
        has_cut: bool = right(self)
        self.readback_from = before
        return has_cut

    return cut


def join_a_gap(right: Function) -> Function:
    def join(self: DeliveryQueue, batches: Any) -> None:  # noqa: ANN401
        if self.readback_from is None:
            right(self, batches)
            return
        for address, batch in batches:
            self._add_all([(address, batch)], len(batch.payload))

    return join


def end_of_log(right: Function) -> Function:
    async def read(self: Any, lanes: Any, start: int, end: int, max_bytes: int) -> Any:  # noqa: ANN401
        stretch = await right(self, lanes, start, end, max_bytes)
        return stretch if stretch.records else stretch._replace(upto=end)

    return read


def two_of_a_line(right: Function) -> Function:
    def take(self: DeliveryQueue, *args: Any) -> Any:  # noqa: ANN401
        taken = right(self, *args)
        for _, batch in list(taken):
            line = self._behind.get(batch.key)
            if line and line[0] not in self.in_flight:
                self.in_flight.add(line[0])
                taken.append((line[0], self._batches[line[0]]))
        return taken

    return take


def overtake(right: Function) -> Function:
    """Put a batch that failed behind the others of its device."""

    def defer(self: DeliveryQueue, address: Any, until: float) -> None:  # noqa: ANN401
        batch = self._batches.get(address)
        right(self, address, until)
        line = self._behind.get(batch.key) if batch is not None else None
        if batch is not None and line and self._heads[batch.key] == address:
            line.append(address)
            self._heads[batch.key] = line.popleft()
            self._ready.add_later(self._heads[batch.key])

    return defer


def nothing(right: Function) -> Function:  # noqa: ARG001
    return lambda *_args, **_more: None


def true(right: Function) -> Function:  # noqa: ARG001
    return lambda *_args, **_more: True


def at_once(right: Function) -> Function:  # noqa: ARG001
    async def is_owner(self: Any) -> bool:  # noqa: ANN401, ARG001
        return True

    return is_owner


def keep_proof(right: Function) -> Function:
    def resume(self: Any) -> None:  # noqa: ANN401
        until = self.deliveries.lease.until
        right(self)
        self.deliveries.lease.extend(until)
        self.deliveries.release()

    return resume


class Short:
    """A digest of a key that takes one of two values; ids, derived in steps, are right."""

    def __init__(self, content: bytes, digest_size: int) -> None:
        self._content = content
        self.copy = blake2b(content, digest_size=digest_size).copy

    def digest(self) -> bytes:
        """Return as many bytes as the real one."""
        return bytes([sum(self._content) % 2]) * 16


def colliding(right: Function) -> Function:  # noqa: ARG001
    return Short


# ------------------------------------------------------------------ what fits


def open_only(right: Function) -> Function:  # noqa: ARG001
    return lambda self: self.windows.unsaved.first()


def write_on(right: Function) -> Function:
    """Draft and write bases while windows are in none."""

    def prepare(self: TickLoop) -> None:
        with mock.patch.object(self._pipeline, "has_pending_documents", new=False):
            right(self)

    return prepare


def whole_upload(right: Function) -> Function:
    def closings(self: Misfits) -> Any:  # noqa: ANN401
        return list(right(self))[:1]

    return closings


def context_lost(right: Function) -> Function:
    def slices(form: Any) -> Any:  # noqa: ANN401
        found = list(right(form))
        if len(found) > 1:
            found[-1] = ({**found[-1][0], "context": b"{}"}, found[-1][1])
        return found

    return slices


def last_settled(right: Function) -> Function:
    """Settle a whole window with the first slice of its documents."""

    def encode(self: DocumentEncoder, window: Any, *args: Any) -> Any:  # noqa: ANN401
        last = window.last
        made = right(self, window, *args)
        return structs.replace(made, last=last)

    return encode
