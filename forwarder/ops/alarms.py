"""The alarm of a lane that lags so far that its batches may expire unsent."""

from collections.abc import Mapping

import structlog

log = structlog.get_logger()

LATE_SHARE = 0.5
"""Part of the outbox's retention beyond which a lane is late: the other half is left to act."""

LATE_REMEDY = (
    "mend the destination; until then raise retention.ms of the outbox topic"
    " (journal.outbox_retention); or give the backlog up by deliver_from in the connection's file"
)


def is_late(age: float, retention: float | None) -> bool:
    """Tell whether a batch ``age`` seconds old is in danger; None: the outbox is kept for ever."""
    return retention is not None and age > retention * LATE_SHARE


class LatenessAlarm:
    """Says which connections are late, once, and once more when they no longer are."""

    def __init__(self) -> None:
        """Create with no connection late."""
        self._late: set[str] = set()

    def update(self, seconds: Mapping[str, float], late: set[str]) -> None:
        """Take by connection how old its oldest batch is, and which of them are late now."""
        for lane in sorted(late - self._late):
            log.warning(
                "lane.late", connection=lane, seconds=round(seconds[lane]), remedy=LATE_REMEDY
            )
        for lane in sorted(self._late - late):
            log.info("lane.on_time", connection=lane, seconds=round(seconds.get(lane, 0.0)))
        self._late = set(late)
