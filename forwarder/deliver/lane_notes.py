"""What a partition's state says of a lane that lags: for whoever looks without asking its worker.

Two fields of a lane's further fields (``LaneState.extra``): ``trouble``, why it is not being
delivered, and ``behind``, how much waits for it, known after an opening without reading it.
"""

from collections.abc import Mapping
from typing import Any

from forwarder.deliver.budget import NO_LAG, Lag

REASON_FIELD = "trouble"
"""``reason``, empty if there is none, and ``since`` when (milliseconds)."""

LAG_FIELD = "behind"
"""``batches`` and ``bytes`` of payload that were committed and not acknowledged, when the
``oldest`` of them was closed (0: unknown), and ``at`` what time that was so (milliseconds)."""

NOTE_INTERVAL_MS = 10_000
"""How long a note stands before the next: a lane that is throttled changes many times a second."""

MAX_REASON_CHARS = 300
"""Characters of a reason that are stored."""


def noted(
    extra: Mapping[str, Any], reason: str, lag: Lag | None, now_ms: int
) -> dict[str, Any] | None:
    """Return a lane's further fields as they are to be stored now; None: as they are.

    ``extra``: as they are stored. ``reason``: why the lane is not flowing, "" if it is. ``lag``:
    how much waits; None if all of it is in memory.
    """
    trouble = _trouble(extra.get(REASON_FIELD) or {}, reason, now_ms)
    behind = _behind(extra.get(LAG_FIELD) or {}, lag, now_ms)
    if trouble is None and behind is None:
        return None
    news = {REASON_FIELD: trouble, LAG_FIELD: behind}
    return {**extra, **{name: note for name, note in news.items() if note is not None}}


def is_quiet(extra: Mapping[str, Any]) -> bool:
    """Tell whether a lane's further fields say of nothing that waits: they stay as they are."""
    if not extra:
        return True
    trouble, behind = extra.get(REASON_FIELD) or {}, extra.get(LAG_FIELD) or {}
    return not trouble.get("reason", "") and not behind.get("batches")


def stored_lag(extra: Mapping[str, Any]) -> Lag:
    """Return what the last note said: up to ten seconds old, older if another release wrote on."""
    found = extra.get(LAG_FIELD) or {}
    return Lag(found.get("batches", 0), found.get("bytes", 0), found.get("oldest") or None)


def _trouble(before: Mapping[str, Any], reason: str, now_ms: int) -> dict[str, Any] | None:
    reason = reason[:MAX_REASON_CHARS]
    if reason == before.get("reason", ""):
        return None
    if 0 <= now_ms - before.get("since", 0) < NOTE_INTERVAL_MS:
        return None
    return {"reason": reason, "since": now_ms}


def _behind(before: Mapping[str, Any], lag: Lag | None, now_ms: int) -> dict[str, Any] | None:
    if lag is None and not before.get("batches"):
        return None
    if before and 0 <= now_ms - before.get("at", 0) < NOTE_INTERVAL_MS:
        return None
    batches, size, oldest = lag or NO_LAG
    now = {"at": now_ms, "batches": batches, "bytes": size, "oldest": oldest or 0}
    return None if before and {**before, "at": now_ms} == now else now
