"""What an opening puts back in place: gates, open windows, entries of closed ones (O4 to O8).

In slices, for there may be gigabytes: the loop goes round between them, and nothing is in memory
in two forms at once.
"""

import asyncio
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

import structlog

from forwarder.collect.pipeline import Lane, Pipeline
from forwarder.config.connection import Status
from forwarder.journal import packing
from forwarder.journal import state as states
from forwarder.journal.opening import Opening
from forwarder.journal.state import Fold, LaneState, PartitionState
from forwarder.model import Gate, Held
from forwarder.ops.reporter import LaneStatus, Phase, Reporter

log = structlog.get_logger()

SLICE_BYTES = 256 * 1024
"""Bytes of windows put back in one go, a few milliseconds' work."""

ENTRIES = 2_000
"""Entries of closed windows taken over, or let go, in one go."""


class Gates:
    """What a replay must not collect again, lane by lane; superfluous once it is over."""

    def __init__(self, lanes: Iterable[Lane], state: PartitionState) -> None:
        """Make the gate of every lane that is fed."""
        self._until = state.read
        self.by_lane = {lane.name: _gate(lane, state.lanes[lane.name]) for lane in lanes}

    def relax(self, position: int) -> None:
        """Let some of their memory go if the replay is over; called after every poll."""
        if position < self._until:
            return
        for gate in self.by_lane.values():
            for known in (gate.closed, gate.held_to):
                for _ in range(min(ENTRIES, len(known))):
                    known.popitem()


async def fill(
    pipeline: Pipeline,
    lanes: Sequence[Lane],
    state: PartitionState,
    fold: Fold,
    reporter: Reporter,
) -> Gates:
    """Put the windows of ``lanes`` back into the pipeline, and the rest aside for the next base."""
    gates = Gates(lanes, state)
    for name, gate in gates.by_lane.items():
        pipeline.guard(name, gate)
    size = 0
    waiting: dict[str, list[Held]] = {}
    aside: dict[str, dict[bytes, dict[str, Any]]] = {}
    for name, key, form in fold.windows(rules(lanes)):
        if name in gates.by_lane:
            waiting.setdefault(name, []).append(_typed(state, gates.by_lane[name], name, key, form))
        else:
            aside.setdefault(name, {})[key] = form
        size += len(form["context"]) + _bytes(form)
        if size > SLICE_BYTES:
            _put_back(pipeline, state, waiting, aside, reporter)
            size = 0
            await asyncio.sleep(0)
    _put_back(pipeline, state, waiting, aside, reporter)
    for name, lane in state.lanes.items():
        await _enter(state, name, lane)
    return gates


def is_active(lane: Lane) -> bool:
    """Tell whether a lane takes what is new."""
    return lane.connection.status is Status.ACTIVE


def report(partition: str, start: Opening, reporter: Reporter) -> None:
    """Report where an opened partition goes on, and which of its lanes cannot."""
    log.info(
        "partition.open",
        partition=partition,
        origin=start.origin.value,
        position=start.seek,
        read=start.state.read,
        tick=start.state.n,
        new=start.new,
        unknown=start.unknown,
    )
    for name, refusal in start.stopped.items():
        log.error("lane.stopped", partition=partition, connection=name, reason=str(refusal))
        reporter.lane_status(name, partition, LaneStatus.STOPPED, str(refusal))
    reporter.partition_phase(partition, Phase.OPEN, "")


def _typed(state: PartitionState, gate: Gate, name: str, key: bytes, form: dict[str, Any]) -> Held:
    held = states.window(form)
    gate.held_to[key] = held.to
    if odd := states.odd(form):
        state.odd[name, key] = (held.opened, odd)
    return held


def _bytes(form: dict[str, Any]) -> int:
    if states.is_unopened(form):
        return len(memoryview(form["pieces"]))
    return sum([len(piece[4]) for piece in form["pieces"]])


def rules(lanes: Iterable[Lane]) -> dict[str, str]:
    """Return by which rule each lane keeps events: windows kept by the same are not judged."""
    return {lane.name: lane.rule for lane in lanes}


def _put_back(
    pipeline: Pipeline,
    state: PartitionState,
    waiting: dict[str, list[Held]],
    aside: dict[str, dict[bytes, dict[str, Any]]],
    reporter: Reporter,
) -> None:
    for name, held in waiting.items():
        if events := pipeline.resume(name, held):
            reporter.taken_over(name, events)
    for name, forms in aside.items():
        state.kept.setdefault(name, []).append(packing.pack(forms))
    waiting.clear()
    aside.clear()


async def _enter(state: PartitionState, name: str, lane: LaneState) -> None:
    """Keep the entries packed from now on; a gate has them, too, for as long as it needs them."""
    entries = iter(lane.closed.items())
    while some := dict(islice(entries, ENTRIES)):
        state.index(name).add(some)
        await asyncio.sleep(0)
    lane.closed = {}


def _gate(lane: Lane, stored: LaneState) -> Gate:
    return Gate(
        need=stored.need,
        # An inactive connection's need goes on rising while its read stays.
        read=max(stored.read, stored.need[0]),
        closed=stored.closed,
        held_to={},
        keying=stored.keying,
        accept_below=None if is_active(lane) else stored.read,
    )
