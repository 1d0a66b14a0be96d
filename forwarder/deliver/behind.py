"""How much waits for a lane that lags, as stored: known after an opening without reading it."""

from forwarder.deliver.budget import NOTHING, Lag
from forwarder.deliver.queue import Queue
from forwarder.journal.state import LaneState

FIELD = "behind"
"""The field of a lane that holds it: ``batches`` and ``bytes`` of payload that were committed and
not acknowledged, when the ``oldest`` of them was closed (0: unknown), and ``at`` what time."""

CALM_MS = 10_000
"""How long a note stands before the next."""


def note(lane: LaneState, queue: Queue, now_ms: int) -> bool:
    """Note how much waits if some of it has to be read back; tell whether that is to be written."""
    before = lane.extra.get(FIELD)
    if queue.rb is None and not (before and before.get("batches")):
        return False
    if before and 0 <= now_ms - before.get("at", 0) < CALM_MS:
        return False
    batches, size, oldest = queue.lag() if queue.rb is not None else NOTHING
    now = {"at": now_ms, "batches": batches, "bytes": size, "oldest": oldest or 0}
    if before and before | {"at": now_ms} == now:
        return False
    lane.extra = {**lane.extra, FIELD: now}
    return True


def of(lane: LaneState) -> Lag:
    """Return what the last note said: up to ten seconds old, older if another release wrote on."""
    found = lane.extra.get(FIELD) or {}
    oldest = found.get("oldest") or None
    return Lag(found.get("batches", 0), found.get("bytes", 0), oldest)
