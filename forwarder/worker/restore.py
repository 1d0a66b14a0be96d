"""Put back what an opening found: replay filters, windows, entries of closed ones (O4 to O8).

In slices, for there may be gigabytes: the loop goes round between them, and nothing is in memory
in two forms at once.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

import structlog

from forwarder.collect.pipeline import Lane, Pipeline, ReplayFilter
from forwarder.config.connection import Status
from forwarder.journal import packing
from forwarder.journal import state as states
from forwarder.journal.fold import StateFold
from forwarder.journal.opening import Opening
from forwarder.journal.state import LaneState, PartitionState
from forwarder.model import HeldWindow
from forwarder.ops.reporter import LaneStatus, Reporter

log = structlog.get_logger()

SLICE_BYTES = 256 * 1024
"""Bytes of windows put back in one go, a few milliseconds' work."""

ENTRIES_PER_SLICE = 2_000
"""Entries of closed windows taken over in one go."""


def replay_filters(lanes: Iterable[Lane], state: PartitionState) -> dict[str, ReplayFilter]:
    """Return for every lane that is fed what it keeps out (O8).

    ``restore_windows`` completes them.
    """
    return {lane.name: _replay_filter(lane, state.lanes[lane.name]) for lane in lanes}


async def restore_windows(  # noqa: PLR0913, PLR0917  # the parts of an opening, each given once
    pipeline: Pipeline,
    replays: Mapping[str, ReplayFilter],
    lanes: Sequence[Lane],
    state: PartitionState,
    fold: StateFold,
    reporter: Reporter,
) -> None:
    """Put the windows of ``lanes`` back into the pipeline, and the rest aside for the next base.

    ``replays`` are the pipeline's: they take over what is known of the windows that closed.
    """
    size = 0
    waiting: dict[str, list[HeldWindow]] = {}
    aside: dict[str, dict[bytes, dict[str, Any]]] = {}
    for name, key, form in fold.windows(filter_rules(lanes)):
        if (replay := replays.get(name)) is not None:
            waiting.setdefault(name, []).append(_to_window(state, replay, name, key, form))
        else:
            aside.setdefault(name, {})[key] = form
        size += len(form["context"]) + _bytes(form)
        if size > SLICE_BYTES:
            _put_back(pipeline, state, waiting, aside, reporter)
            size = 0
            await asyncio.sleep(0)
    _put_back(pipeline, state, waiting, aside, reporter)
    for name, lane in state.lanes.items():
        await _index_closed(state, name, lane, replays.get(name))


def is_lane_active(lane: Lane) -> bool:
    """Tell whether a lane takes what is new."""
    return lane.connection.status is Status.ACTIVE


def report_opening(partition: str, start: Opening, reporter: Reporter) -> None:
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


def _to_window(
    state: PartitionState, replay: ReplayFilter, name: str, key: bytes, form: dict[str, Any]
) -> HeldWindow:
    held = states.parse_window(form)
    replay.note_saved(key, held.to)
    if odd := states.unknown_fields(form):
        state.odd[name, key] = (held.opened, odd)
    return held


def _bytes(form: dict[str, Any]) -> int:
    if states.is_packed(form):
        return len(memoryview(form["pieces"]))
    return sum([len(piece[4]) for piece in form["pieces"]])


def filter_rules(lanes: Iterable[Lane]) -> dict[str, str]:
    """Return by which rule each lane keeps events: windows kept by the same are not judged."""
    return {lane.name: lane.rule for lane in lanes}


def _put_back(
    pipeline: Pipeline,
    state: PartitionState,
    waiting: dict[str, list[HeldWindow]],
    aside: dict[str, dict[bytes, dict[str, Any]]],
    reporter: Reporter,
) -> None:
    for name, held in waiting.items():
        if events := pipeline.restore(name, held):
            reporter.taken_over(name, events)
    for name, forms in aside.items():
        state.kept.setdefault(name, []).append(packing.pack(forms))
    waiting.clear()
    aside.clear()


async def _index_closed(
    state: PartitionState, name: str, lane: LaneState, replay: ReplayFilter | None
) -> None:
    """Keep the entries packed from now on; the replay has them for as long as it goes on."""
    entries = iter(lane.closed.items())
    while some := dict(islice(entries, ENTRIES_PER_SLICE)):
        state.index(name).add(some)
        await asyncio.sleep(0)
    closed, lane.closed = lane.closed, {}
    if replay is not None:
        replay.take_closed(closed)


def _replay_filter(lane: Lane, stored: LaneState) -> ReplayFilter:
    return ReplayFilter(
        need=stored.need,
        # An inactive connection's need goes on rising while its read stays.
        read=max(stored.read, stored.need[0]),
        keying=stored.keying,
        accept_below=None if is_lane_active(lane) else stored.read,
    )
