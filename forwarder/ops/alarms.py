"""Alarms: lanes that lag so far that batches may expire, dead letters, uploads without use.

What may happen a million times is logged once for the first of a kind, then in counts. The kinds
are few: they come from bounded sets of reasons and from configured names. Caller: the report and
the gauges, on the loop; ``log_due`` is called with each heartbeat, so that what came last is told
as well.
"""

from collections.abc import Mapping, Sequence

import structlog

from forwarder.model import DeadLetter, Unused

log = structlog.get_logger()

LATE_SHARE = 0.5
"""Part of the outbox's retention beyond which a lane is late: the other half is left to act."""

LATE_REMEDY = (
    "mend the destination; until then raise retention.ms of the outbox topic"
    " (journal.outbox_retention); or give the backlog up by deliver_from in the connection's file"
)

COUNT_LOG_SECONDS = 60.0
"""Seconds between two lines with counts."""

MAX_KINDS_NAMED = 20
"""Kinds that one line counts by name."""

MIN_UNUSED_UPLOADS = 100
"""Uploads without use within a minute below which nothing is said: a few are in every input."""

UNUSED_LOG_SECONDS = 600.0
"""Seconds between two lines about uploads without use: what an SDK sends, it sends all day."""

LETTERS_REMEDY = (
    "see forwarder dead-letters list; mend the cause, then send them back with "
    "forwarder dead-letters redrive"
)
UNUSED_REMEDY = (
    "compare what is sent with docs/mparticle-format.md: an upload has its events under the key "
    "events; heartbeats without any are harmless"
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


class DeadLetterAlarm:
    """Tells of dead letters: the first of each reason and connection, then a line a minute."""

    def __init__(self) -> None:
        """Create; no reason of any connection was seen yet."""
        self._seen: set[tuple[str, str]] = set()
        self._since: dict[tuple[str, str], int] = {}
        self._told = float("-inf")

    def add(self, partition: str, letters: Sequence[tuple[str, DeadLetter]], now: float) -> None:
        """Take committed letters under their connection's label; ``now`` in steady seconds."""
        for label, letter in letters:
            kind = (letter.reason.value, label)
            if kind in self._seen:
                self._since[kind] = self._since.get(kind, 0) + 1
                continue
            self._seen.add(kind)
            if not self._since:
                self._told = now
            log.warning(
                "dead_letters.first",
                reason=letter.reason.value,
                connection=label,
                partition=partition,
                offset=letter.offset,
                error=letter.error,
                remedy=LETTERS_REMEDY,
            )

    def log_due(self, now: float) -> None:
        """Log how many came since the last line, if a minute has passed."""
        if not self._since or now - self._told < COUNT_LOG_SECONDS:
            return
        self._told = now
        counts = sorted(self._since.items(), key=lambda one: (-one[1], one[0]))
        log.warning(
            "dead_letters.counted",
            count=sum(self._since.values()),
            kinds=[
                {"reason": reason, "connection": label, "count": count}
                for (reason, label), count in counts[:MAX_KINDS_NAMED]
            ],
            more_kinds=max(0, len(counts) - MAX_KINDS_NAMED),
            remedy=LETTERS_REMEDY,
        )
        self._since = {}


class UnusedUploadsAlarm:
    """Tells when most uploads are without events and come to nothing."""

    def __init__(self) -> None:
        """Create; the first call of :meth:`log_due` judges whatever came before it."""
        self._began = float("-inf")
        self._told = float("-inf")
        self._uploads = 0
        self._unused: dict[str, int] = {}

    def add(self, uploads: int, unused: Mapping[Unused, int]) -> None:
        """Count the uploads of one poll; ``unused``: those that came to nothing, by why."""
        self._uploads += uploads
        for reason, count in unused.items():
            self._unused[reason.value] = self._unused.get(reason.value, 0) + count

    def log_due(self, now: float) -> None:
        """Log once a minute is over in which they were many, and more than half of all."""
        if now - self._began < COUNT_LOG_SECONDS:
            return
        count = sum(self._unused.values())
        if (
            count >= MIN_UNUSED_UPLOADS
            and 2 * count > self._uploads
            and now - self._told >= UNUSED_LOG_SECONDS
        ):
            self._told = now
            log.warning(
                "uploads.unused",
                uploads=self._uploads,
                unused=dict(sorted(self._unused.items())),
                seconds=COUNT_LOG_SECONDS,
                remedy=UNUSED_REMEDY,
            )
        self._began, self._uploads, self._unused = now, 0, {}
