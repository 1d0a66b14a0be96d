"""Why a lane is not being delivered, as stored: for whoever looks without asking its worker."""

from forwarder.journal.state import LaneState

FIELD = "trouble"
"""The field of a lane that holds it: ``reason``, empty if there is none, and ``since`` when."""

CALM_MS = 10_000
"""How long a note stands before the next: a lane that is throttled changes many times a second."""

LONGEST = 300


def note(lane: LaneState, reason: str, now_ms: int) -> bool:
    """Note what keeps a lane from being delivered; tell whether that has to be written."""
    before = lane.extra.get(FIELD) or {}
    reason = reason[:LONGEST]
    if reason == before.get("reason", ""):
        return False
    if 0 <= now_ms - before.get("since", 0) < CALM_MS:
        return False
    lane.extra = {**lane.extra, FIELD: {"reason": reason, "since": now_ms}}
    return True
