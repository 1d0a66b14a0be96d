"""Faults put into the real code on purpose: each has to be found, or the model proves nothing.

A patch names what it replaces; where that is gone, applying it fails loudly.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any
from unittest import mock

import msgspec
from msgspec import structs

from forwarder import partition
from forwarder.bases import Bases
from forwarder.errors import FencedError, JournalError
from forwarder.keeper import Keeper
from forwarder.ledger import lanes as rules
from forwarder.ledger import opening, watermark
from forwarder.ledger import state as states
from forwarder.ledger import tick as ticks
from forwarder.ledger.cursor import Queue
from forwarder.ledger.draft import Draft
from forwarder.model import LOWEST
from forwarder.partition import OwnedPartition
from forwarder.pipeline import Pipeline
from forwarder.stages import device, gate, misfits, shapes
from forwarder.stages.encode import Encoder
from forwarder.stages.fit import Fit
from forwarder.stages.lane import Share
from forwarder.stages.misfits import Misfits
from forwarder.stages.window import Windows
from tests.model import world
from tests.model.journal import Journal

SOON = 8.0
"""Seconds after which a history counts as endless where a fault may make the code go in circles."""

Function = Callable[..., Any]
Patch = tuple[object, str, Callable[[Any], Any]]
"""Owner, name, and what makes the faulty one of the right one."""


class Mutation(msgspec.Struct, frozen=True):
    """A fault: the step of the protocol it breaks, what is wrong, and how to put it in."""

    name: str
    step: str
    wrong: str
    patches: tuple[Patch, ...]


def applied(mutation: Mutation) -> ExitStack:
    """Put the fault in; leaving the stack takes it out."""
    stack = ExitStack()
    stack.enter_context(mock.patch.object(world, "HANG", SOON))
    for owner, name, make in mutation.patches:
        if name not in vars(owner):
            text = f"{mutation.name}: {owner} has no {name} any more; say anew what is to be broken"
            raise LookupError(text)
        stack.enter_context(mock.patch.object(owner, name, make(vars(owner)[name])))
    return stack


# ------------------------------------------------------------------ opening


def _opened(change: Callable[[opening.Opening], None]) -> Callable[[Function], Function]:
    """Return what changes the result of an opening."""

    def make(right: Function) -> Function:
        def begin(*args: Any, **more: Any) -> opening.Opening:  # noqa: ANN401  # whatever it takes
            start: opening.Opening = right(*args, **more)
            change(start)
            return start

        return begin

    return make


def _forget_unknown(start: opening.Opening) -> None:
    for name in start.unknown:
        del start.state.lanes[name]


def _seek_read(start: opening.Opening) -> None:
    start.seek = start.state.read


def _one_read(start: opening.Opening) -> None:
    for name in start.state.lanes.keys() - set(start.unknown):
        start.state.lanes[name].read = start.state.read


def _forget_acks(start: opening.Opening) -> None:
    for lane in start.state.lanes.values():
        lane.acked = frozenset()


# ------------------------------------------------------------------ collecting


def _whole_offsets(right: Function) -> Function:
    def settled_to(gated: Any, name: bytes) -> tuple[int, int]:  # noqa: ANN401
        found: tuple[int, int] = right(gated, name)
        return found if found == LOWEST else (found[0], 1 << 30)

    return settled_to


def _closed_only(right: Function) -> Function:  # noqa: ARG001
    return lambda gated, name: gated.closed.get(name, LOWEST)


def _held_only(right: Function) -> Function:  # noqa: ARG001
    return lambda gated, name: gated.held_to.get(name, LOWEST)


def _reject_again(right: Function) -> Function:
    def reject(self: Any, *args: Any) -> None:  # noqa: ANN401
        self._read = 0
        right(self, *args)

    return reject


def _saved_is_safe(right: Function) -> Function:  # noqa: ARG001
    def first_unsaved(self: Windows) -> Any:  # noqa: ANN401
        waiting = [w for w in self.open.values() if w.saved is None and w.unsaved is not None]
        return min((w.unsaved for w in waiting if w.unsaved is not None), default=None)

    return first_unsaved


# ------------------------------------------------------------------ ticks


def _partial(right: Function) -> Function:
    def snapshot(self: Any, *args: Any, **more: Any) -> Any:  # noqa: ANN401
        rest = self._batches[len(self._batches) // 2 :] if len(self._batches) > 1 else []
        self._batches = self._batches[: len(self._batches) - len(rest)]
        result = right(self, *args, **more)
        self._batches = rest + self._batches
        return result

    return snapshot


def _believe(right: Function) -> Function:
    """Take an unknown outcome for a failure that changed nothing, and go on."""

    def failed(self: Any, error: Exception) -> None:  # noqa: ANN401
        if type(error).__name__ == "FencedError":
            right(self, error)
            return
        self._journal._spoiled = False  # noqa: SLF001  # as a client that tries on
        self._batches = [*getattr(self, "kept", ()), *self._batches]

    return failed


def _keep(right: Function) -> Function:
    def snapshot(self: Any, *args: Any, **more: Any) -> Any:  # noqa: ANN401
        self.kept = list(self._batches)
        return right(self, *args, **more)

    return snapshot


def _believe_success(right: Function) -> Function:
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


class _Late:
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
        firsts = [self._owner.pipeline.first_unsaved(name) for name in lanes]
        lowest: int = self._owner.position
        for first in firsts:
            lowest = lowest if first is None else min(lowest, first[0])
        return lowest


def _at_the_commit(right: Function) -> Function:
    def snapshot(self: Any, *args: Any, **more: Any) -> Any:  # noqa: ANN401
        drawn, content, records = right(self, *args, **more)
        return drawn, content and _Late(self, content), records

    return snapshot


def _any_tick_proves(right: Function) -> Function:
    def known(self: Any, *args: Any, **more: Any) -> Any:  # noqa: ANN401
        self._proved = self._assignment
        return right(self, *args, **more)

    return known


# ------------------------------------------------------------------ bases


def _no_base(right: Function) -> Function:
    def entries(state: Any, snap: Any) -> Any:  # noqa: ANN401
        return right(structs.replace(state, base_held=set()), snap)

    return entries


def _no_draft(right: Function) -> Function:
    def entries(state: Any, snap: Any) -> Any:  # noqa: ANN401
        base = snap.draft if snap.base() else None
        return right(state, structs.replace(snap, draft=base))

    return entries


def _settle_early(right: Function) -> Function:
    def steps(self: Draft) -> Iterator[None]:
        for step in right(self):
            for saving in self.savings.values():
                with suppress(RuntimeError):  # not all of it was taken yet
                    saving.settle()
            yield step

    return steps


def _cut_at_newest(right: Function) -> Function:
    return lambda self, journal, _below: right(self, journal, self._ptrs[-1])


def _base_in_replay(right: Function) -> Function:  # noqa: ARG001
    def prepare(self: Any) -> None:  # noqa: ANN401
        if self._state.base_offset is None:
            self._bases.make(self._draft())
        else:
            self._bases.begin(self._draft)

    return prepare


def _all_unknown(right: Function) -> Function:  # noqa: ARG001
    return lambda stored, configured, *_rest: stored.keys() - set(configured)


# ------------------------------------------------------------------ delivering


def _after_the_sends(right: Function) -> Function:
    return lambda self, end: right(self, (end[0] + 2, 0))


def _in_flight_is_done(right: Function) -> Function:
    def snapshot(self: Queue, end: Any) -> Any:  # noqa: ANN401
        at, acked = right(self, end)
        return at, acked | self.in_flight

    return snapshot


def _highest(right: Function) -> Function:
    def snapshot(self: Queue, end: Any) -> Any:  # noqa: ANN401
        at, acked = right(self, end)
        if not acked:
            return at, acked
        last = max(acked)
        return (last[0], last[1] + 1), frozenset()

    return snapshot


def _evict_for_good(right: Function) -> Function:
    def cut(self: Queue) -> bool:
        before = self.rb
        has_cut: bool = right(self)
        self.rb = before
        return has_cut

    return cut


def _join_a_gap(right: Function) -> Function:
    def join(self: Queue, batches: Any) -> None:  # noqa: ANN401
        if self.rb is None:
            right(self, batches)
            return
        for address, batch in batches:
            self._add(address, batch)

    return join


def _end_of_log(right: Function) -> Function:
    async def read(self: Any, lanes: Any, start: int, end: int, max_bytes: int) -> Any:  # noqa: ANN401
        stretch = await right(self, lanes, start, end, max_bytes)
        return stretch if stretch.records else stretch._replace(upto=end)

    return read


def _two_of_a_line(right: Function) -> Function:
    def take(self: Queue, *args: Any) -> Any:  # noqa: ANN401
        taken = right(self, *args)
        for _, batch in list(taken):
            line = self._by_key[self._line(batch)]
            if len(line) > 1 and line[1] not in self.in_flight:
                self.in_flight.add(line[1])
                taken.append((line[1], self._batches[line[1]]))
        return taken

    return take


def _overtake(right: Function) -> Function:
    """Put a batch that failed behind the others of its device."""

    def defer(self: Queue, address: Any, until: float) -> None:  # noqa: ANN401
        batch = self._batches.get(address)
        right(self, address, until)
        line = self._by_key.get(self._line(batch)) if batch is not None else None
        if line is not None and len(line) > 1 and line[0] == address:
            line.rotate(-1)
            self._ready.append(line[0])

    return defer


def _nothing(right: Function) -> Function:  # noqa: ARG001
    return lambda *_args, **_more: None


def _true(right: Function) -> Function:  # noqa: ARG001
    return lambda *_args, **_more: True


def _at_once(right: Function) -> Function:  # noqa: ARG001
    async def owns(self: Any) -> bool:  # noqa: ANN401, ARG001
        return True

    return owns


def _keep_proof(right: Function) -> Function:
    def assigned_again(self: Any) -> None:  # noqa: ANN401
        right(self)
        self._proved = self._assignment
        for one in self.deliveries.values():
            one.release()

    return assigned_again


class _Short:
    """A digest that takes one of two values."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def digest(self) -> bytes:
        """Return as many bytes as the real one."""
        return bytes([sum(self._content) % 2]) * 16


def _colliding(right: Function) -> Function:  # noqa: ARG001
    return lambda content, **_more: _Short(content)


# ------------------------------------------------------------------ what fits


def _open_only(right: Function) -> Function:  # noqa: ARG001
    return lambda self: self.windows.first_unsaved()


def _write_on(right: Function) -> Function:
    """Draft and write bases while windows are in none."""

    def prepare(self: OwnedPartition) -> None:
        with mock.patch.object(Pipeline, "is_behind", return_value=False):
            right(self)

    return prepare


def _whole_upload(right: Function) -> Function:
    def closings(self: Misfits) -> Any:  # noqa: ANN401
        return list(right(self))[:1]

    return closings


def _context_lost(right: Function) -> Function:
    def slices(form: Any) -> Any:  # noqa: ANN401
        found = list(right(form))
        if len(found) > 1:
            found[-1] = ({**found[-1][0], "context": b"{}"}, found[-1][1])
        return found

    return slices


def _last_settled(right: Function) -> Function:
    """Settle a whole window with the first slice of its documents."""

    def encode(self: Encoder, window: Any, *args: Any) -> Any:  # noqa: ANN401
        last = window.last
        made = right(self, window, *args)
        return structs.replace(made, last=last)

    return encode


# fmt: off
MUTATIONS = (
    Mutation("offsets", "O8", "closed windows are remembered by offsets, not positions",
             ((gate, "settled_to", _whole_offsets),)),
    Mutation("held_again", "O8", "a replay does not drop what a held window holds",
             ((gate, "settled_to", _closed_only),)),
    Mutation("closed_again", "O8", "a replay does not drop what a batch holds",
             ((gate, "settled_to", _held_only),)),
    Mutation("letters_again", "O8", "a replay makes the decoder's dead letters again",
             ((Pipeline, "_reject", _reject_again),)),
    Mutation("keying", "L2", "replayed events are keyed by today's rule",
             ((gate, "rule_at", lambda _right: lambda _gate, _position, today: today),)),
    Mutation("users", "C1", "people who share a device share its windows",
             ((device.Identity, "_digest", lambda _right: lambda _self, _raw: b""),)),
    Mutation("digest", "K3", "digests of keys collide",
             ((shapes, "blake2b", _colliding), (states, "blake2b", _colliding))),
    Mutation("unknown_lost", "O5", "unknown lanes are not carried",
             ((opening, "decide", _opened(_forget_unknown)),)),
    Mutation("seek_read", "O7", "collecting goes on where reading ended, not at the lowest need",
             ((opening, "decide", _opened(_seek_read)),)),
    Mutation("one_read", "O8", "one read for all lanes",
             ((opening, "decide", _opened(_one_read)),)),
    Mutation("acks_lost", "D4", "acknowledged addresses above the cursor are forgotten",
             ((opening, "decide", _opened(_forget_acks)),)),
    Mutation("held_free", "K1", "a saved window no longer holds need at its first unsaved event",
             ((Windows, "first_unsaved", _saved_is_safe),)),
    Mutation("read_falls", "K1", "read falls during a replay",
             ((watermark, "read", lambda _right: lambda _stored, position: position),)),
    Mutation("need_falls", "K1", "need falls during a replay",
             ((watermark, "need", lambda right: lambda _stored, position, first:
               right((0, 0), position, first)),)),
    Mutation("base_holds", "K3", "no index entry although the newest base holds the window",
             ((ticks, "_entries", _no_base),)),
    Mutation("draft_holds", "K3", "no index entry although the base in the making holds the window",
             ((ticks, "_entries", _no_draft),)),
    Mutation("closed_meanwhile", "K2", "a base lacks the windows closed while it was drafted",
             ((Draft, "note", _nothing),)),
    Mutation("settled_early", "K2", "windows count as saved once drafted, not once written",
             ((Draft, "steps", _settle_early),)),
    Mutation("kept_lost", "L1", "a base leaves out the windows of unknown lanes",
             ((Draft, "_kept", lambda _right: lambda _self, _name: ()),)),
    Mutation("base_in_replay", "K2", "a base is made before a replay has ended",
             ((OwnedPartition, "_prepare_base", _base_in_replay),)),
    Mutation("cut_high", "K5", "the state is cut below the newest ptr, not the last but one",
             ((Bases, "_cut", _cut_at_newest),)),
    Mutation("no_ttl", "L1", "unknown lanes are given up at once",
             ((rules, "forgotten", _all_unknown),)),
    Mutation("partial", "K1", "part of the closed batches waits for the next tick",
             ((OwnedPartition, "_snapshot", _partial),)),
    Mutation("unknown_is_failure", "K5", "an unknown outcome is taken for a failure",
             ((OwnedPartition, "journal_failed", _believe), (OwnedPartition, "_snapshot", _keep))),
    Mutation("unknown_is_success", "K5", "an unknown outcome is taken for a success",
             ((Journal, "_ask", _believe_success),)),
    Mutation("w_at_commit", "K1", "W is computed when the offsets are sent, not at the snapshot",
             ((OwnedPartition, "_snapshot", _at_the_commit),)),
    Mutation("any_tick_proves", "R3", "a tick begun before the assignment counts as the probe",
             ((OwnedPartition, "_commit_known", _any_tick_proves),)),
    Mutation("no_probe", "R3", "memory kept over a rebalance is used at once",
             ((OwnedPartition, "assigned_again", _keep_proof),)),
    Mutation("no_lease", "D3", "puts go on however old the last committed tick is",
             ((partition, "LEASE", lambda _right: 1e9),)),
    Mutation("open_at_once", "R4", "a fenced worker opens again without asking",
             ((Keeper, "_owns", _at_once),)),
    Mutation("cursor_late", "D4", "the cursor is computed after the tick's own sends",
             ((Queue, "snapshot", _after_the_sends),)),
    Mutation("ack_early", "D4", "what is in flight counts as acknowledged",
             ((Queue, "snapshot", _in_flight_is_done),)),
    Mutation("cursor_highest", "D4", "the cursor lies behind the highest acknowledged address",
             ((Queue, "snapshot", _highest),)),
    Mutation("evicted_lost", "D1", "what was cut from the queue is not read back",
             ((Queue, "_cut", _evict_for_good),)),
    Mutation("join_a_gap", "D1", "fresh batches join a queue that has a gap",
             ((Queue, "join", _join_a_gap),)),
    Mutation("end_of_log", "D2", "the last stable offset is taken for the end",
             ((Journal, "read", _end_of_log),)),
    Mutation("two_in_flight", "D3", "several puts of one device are in flight",
             ((Queue, "take", _two_of_a_line),)),
    Mutation("overtake", "D3", "a batch that failed lets later ones of its device go first",
             ((Queue, "defer", _overtake),)),
    Mutation("refused_lost", "D4", "a refused batch is acknowledged without a dead letter",
             ((OwnedPartition, "refused", _nothing),)),
    Mutation("no_hold", "K5", "puts ask nobody",
             ((OwnedPartition, "may_put", _true),)),
    Mutation("no_room", "C1", "whatever comes joins a window",
             ((Fit, "joins", _true),)),
    Mutation("alone_with_others", "C1", "an event is judged with a context of no upload",
             ((Fit, "room", lambda _right: lambda _self, _upload: 10**6),)),
    Mutation("lettered_again", "O8", "a replay makes the letters of misfits again",
             ((misfits, "lettered", lambda _right: lambda _gate, _upload, pieces: (pieces, 0)),)),
    Mutation("half_a_letter", "O8", "a letter closes its upload, not its events",
             ((Misfits, "closings", _whole_upload),)),
    Mutation("pending_free", "K1", "windows whose documents are still to be made hold no need",
             ((Share, "first_unsaved", _open_only),)),
    Mutation("pending_settled", "C2", "the first documents of a window settle all of it",
             ((Encoder, "encode", _last_settled),)),
    Mutation("pending_unsaved", "K2", "a base is written while windows are in none",
             ((Bases, "postpone", _nothing), (OwnedPartition, "_prepare_base", _write_on))),
    Mutation("context_cut", "K2", "a held window of several parts lacks its context",
             ((states, "slices", _context_lost),)),
)
# fmt: on
