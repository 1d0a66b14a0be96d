"""Faults put into the real code on purpose: each has to be found, or the model proves nothing.

A patch names what it replaces; where that is gone, applying it fails loudly.
"""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from unittest import mock

import msgspec

from forwarder import native
from forwarder.collect.duplicates import Duplicates
from forwarder.collect.encode import DocumentEncoder
from forwarder.collect.lane import PartitionLane
from forwarder.collect.pipeline import Pipeline
from forwarder.collect.replay_filter import ReplayFilter
from forwarder.collect.windows import misfits
from forwarder.collect.windows.fit import RecordFit
from forwarder.collect.windows.misfits import Misfits
from forwarder.collect.windows.queues import UnsavedQueue
from forwarder.deliver.context import DeliveryResults, Lease
from forwarder.deliver.queue import DeliveryQueue
from forwarder.formats import ids
from forwarder.formats.mparticle import identity
from forwarder.journal import opening
from forwarder.journal import orphans as rules
from forwarder.journal import state as states
from forwarder.journal import tick as ticks
from forwarder.journal.snapshot import SnapshotBuilder
from forwarder.worker import ticks as worker_ticks
from forwarder.worker.partition import OpenPartition
from forwarder.worker.snapshots import Snapshots
from forwarder.worker.supervisor import PartitionSupervisor
from forwarder.worker.ticks import TickLoop
from tests.model import world, wrong
from tests.model.journal import Journal

SOON = 8.0
"""Seconds after which a history counts as endless where a fault may make the code go in circles."""

Patch = tuple[object, str, Callable[[Any], Any]]
"""Owner, name, and what makes the faulty one of the right one."""


class Mutation(msgspec.Struct, frozen=True):
    """A fault: the step of the protocol it breaks, what is wrong, and how to put it in."""

    name: str
    step: str
    wrong: str
    patches: tuple[Patch, ...]


def applied(mutation: Mutation) -> ExitStack:
    """Put the fault in; leaving the stack takes it out.

    Faults are put into the Python, which a native core would go around: it is left aside.
    """
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(native, "_chosen", None))
        stack.enter_context(mock.patch.object(world, "HANG", SOON))
        for owner, name, make in mutation.patches:
            if name not in vars(owner):
                text = f"{mutation.name}: {owner} has no {name} any more; say anew what is broken"
                raise LookupError(text)
            stack.enter_context(mock.patch.object(owner, name, make(vars(owner)[name])))
        return stack.pop_all()


# fmt: off
MUTATIONS = (
    Mutation("offsets", "O8", "closed windows are remembered by offsets, not positions",
             ((ReplayFilter, "settled_to", wrong.whole_offsets),)),
    Mutation("held_again", "O8", "a replay does not drop what a held window holds",
             ((ReplayFilter, "settled_to", wrong.closed_only),)),
    Mutation("closed_again", "O8", "a replay does not drop what a batch holds",
             ((ReplayFilter, "settled_to", wrong.held_only),)),
    Mutation("letters_again", "O8", "a replay makes the decoder's dead letters again",
             ((Pipeline, "_reject", wrong.reject_again),)),
    Mutation("keying", "L2", "replayed events are keyed by today's rule",
             ((ReplayFilter, "rule_at", lambda _right: lambda _self, _position, today: today),)),
    Mutation("users", "C1", "people who share a device share its windows",
             ((identity.DeviceIdentity, "digest", lambda _right: lambda _self, _raw: b""),)),
    Mutation("digest", "K3", "digests of keys collide",
             ((ids, "blake2b", wrong.colliding),)),
    Mutation("unknown_lost", "O5", "unknown lanes are not carried",
             ((opening, "decide_start", wrong.opened(wrong.forget_unknown)),)),
    Mutation("seek_read", "O7", "collecting goes on where reading ended, not at the lowest need",
             ((opening, "decide_start", wrong.opened(wrong.seek_read)),)),
    Mutation("one_read", "O8", "one read for all lanes",
             ((opening, "decide_start", wrong.opened(wrong.one_read)),)),
    Mutation("acks_lost", "D4", "acknowledged addresses above the cursor are forgotten",
             ((opening, "decide_start", wrong.opened(wrong.forget_acks)),)),
    Mutation("held_free", "K1", "a saved window no longer holds need at its first unsaved event",
             ((UnsavedQueue, "first", wrong.saved_is_safe),)),
    Mutation("read_falls", "K1", "read falls during a replay",
             ((ticks, "max_read", lambda _right: lambda _stored, position: position),)),
    Mutation("need_falls", "K1", "need falls during a replay",
             ((ticks, "lowest_need", lambda right: lambda _stored, position, first:
               right((0, 0), position, first)),)),
    Mutation("base_holds", "K3", "no index entry although the newest base holds the window",
             ((ticks, "_entries", wrong.no_base),)),
    Mutation("draft_holds", "K3", "no index entry although the base in the making holds the window",
             ((ticks, "_entries", wrong.no_draft),)),
    Mutation("closed_meanwhile", "K2", "a base lacks the windows closed while it was drafted",
             ((SnapshotBuilder, "note", wrong.nothing),)),
    Mutation("settled_early", "K2", "windows count as saved once drafted, not once written",
             ((SnapshotBuilder, "steps", wrong.settle_early),)),
    Mutation("kept_lost", "L1", "a base leaves out the windows of unknown lanes",
             ((SnapshotBuilder, "_kept", lambda _right: lambda _self, _name: ()),)),
    Mutation("base_in_replay", "K2", "a base is made before a replay has ended",
             ((TickLoop, "_plan_snapshot", wrong.base_in_replay),)),
    Mutation("cut_high", "K5", "the state is cut below the newest ptr, not the last but one",
             ((Snapshots, "_cut", wrong.cut_at_newest),)),
    Mutation("no_ttl", "L1", "unknown lanes are given up at once",
             ((rules, "expired_orphans", wrong.all_unknown),)),
    Mutation("partial", "K1", "part of the closed batches waits for the next tick",
             ((TickLoop, "_draw", wrong.partial),)),
    Mutation("unknown_is_failure", "K5", "an unknown outcome is taken for a failure",
             ((TickLoop, "fail", wrong.believe),
              (TickLoop, "_draw", wrong.keep))),
    Mutation("unknown_is_success", "K5", "an unknown outcome is taken for a success",
             ((Journal, "_ask", wrong.believe_success),)),
    Mutation("w_at_commit", "K1", "W is computed when the offsets are sent, not at the snapshot",
             ((TickLoop, "_draw", wrong.at_the_commit),)),
    Mutation("any_tick_proves", "R3", "a tick begun before the assignment counts as the probe",
             ((TickLoop, "_apply", wrong.any_tick_proves),)),
    Mutation("no_probe", "R3", "memory kept over a rebalance is used at once",
             ((OpenPartition, "resume", wrong.keep_proof),)),
    Mutation("no_lease", "D3", "puts go on however old the last committed tick is",
             ((worker_ticks, "LEASE_SECONDS", lambda _right: 1e9),)),
    Mutation("open_at_once", "R4", "a fenced worker opens again without asking",
             ((PartitionSupervisor, "_confirm_ownership", wrong.at_once),)),
    Mutation("cursor_late", "D4", "the cursor is computed after the tick's own sends",
             ((DeliveryQueue, "cursor_and_acked", wrong.after_the_sends),)),
    Mutation("ack_early", "D4", "what is in flight counts as acknowledged",
             ((DeliveryQueue, "cursor_and_acked", wrong.in_flight_is_done),)),
    Mutation("cursor_highest", "D4", "the cursor lies behind the highest acknowledged address",
             ((DeliveryQueue, "cursor_and_acked", wrong.highest),)),
    Mutation("evicted_lost", "D1", "what was cut from the queue is not read back",
             ((DeliveryQueue, "_evict_newest", wrong.evict_for_good),)),
    Mutation("join_a_gap", "D1", "fresh batches join a queue that has a gap",
             ((DeliveryQueue, "enqueue", wrong.join_a_gap),)),
    Mutation("end_of_log", "D2", "the last stable offset is taken for the end",
             ((Journal, "read", wrong.end_of_log),)),
    Mutation("two_in_flight", "D3", "several puts of one device are in flight",
             ((DeliveryQueue, "take", wrong.two_of_a_line),)),
    Mutation("overtake", "D3", "a batch that failed lets later ones of its device go first",
             ((DeliveryQueue, "defer", wrong.overtake),)),
    Mutation("refused_lost", "D4", "a refused batch is acknowledged without a dead letter",
             ((DeliveryResults, "note_refused", wrong.nothing),)),
    Mutation("no_hold", "K5", "puts ask nobody",
             ((Lease, "allows", wrong.true),)),
    Mutation("no_room", "C1", "whatever comes joins a window",
             ((RecordFit, "try_join", wrong.true),)),
    Mutation("alone_with_others", "C1", "an event is judged with a context of no upload",
             ((RecordFit, "room", lambda _right: lambda _self, _upload: 10**6),)),
    Mutation("lettered_again", "O8", "a replay makes the letters of misfits again",
             ((misfits, "without_lettered",
               lambda _right: lambda _gate, _upload, pieces: (pieces, 0)),)),
    Mutation("half_a_letter", "O8", "a letter closes its upload, not its events",
             ((Misfits, "closings", wrong.whole_upload),)),
    Mutation("pending_free", "K1", "windows whose documents are still to be made hold no need",
             ((PartitionLane, "first_unsaved", wrong.open_only),)),
    Mutation("pending_settled", "C2", "the first documents of a window settle all of it",
             ((DocumentEncoder, "encode", wrong.last_settled),)),
    Mutation("pending_unsaved", "K2", "a base is written while windows are in none",
             ((Snapshots, "abandon", wrong.nothing),
              (TickLoop, "_plan_snapshot", wrong.write_on))),
    Mutation("no_look_back", "O7", "an opening reads no identities below the lowest need",
             ((opening, "decide_start", wrong.opened(wrong.begin_at_need)),)),
    Mutation("look_back_of_now", "K1", "how far the newest position looks back is stored for all",
             ((Duplicates, "seen_from", wrong.newest_reach),)),
    Mutation("window_of_today", "L2", "a replay looks for duplicates as far as today's window",
             ((opening, "_apply_window", wrong.only_todays_window),)),
    Mutation("dropped_unseen", "C0", "what was dropped does not count as having come before",
             ((Duplicates, "_remember", wrong.remember_kept),)),
    Mutation("window_lost", "K1", "the window of before goes while a lane needs what it held for",
             ((ticks, "_look_back", wrong.forget_windows),)),
    Mutation("context_cut", "K2", "a held window of several parts lacks its context",
             ((states, "split_window", wrong.context_lost),)),
)
# fmt: on
