"""Why a partition's position stands still although its log goes on, and what to do about it."""

from datetime import UTC, datetime
from enum import StrEnum

import msgspec

from forwarder.model import OpenTransaction


class StallReason(StrEnum):
    """Everything that can keep a position where it is; the label of the metric.

    DELIVERY_BEHIND is told of no worker on Kafka, which reads back what its lanes lag behind: only
    the reading of a file waits for deliveries, and there nobody watches.
    """

    OPEN_TRANSACTION = "open_transaction"
    INTAKE_STOPPED = "intake_stopped"
    JOURNAL_BEHIND = "journal_behind"
    MEMORY_SHORT = "memory_short"
    DELIVERY_BEHIND = "delivery_behind"
    REFUSED = "refused"
    OPENING = "opening"
    REBALANCE = "rebalance"
    NOT_FETCHED = "not_fetched"
    UNAVAILABLE = "unavailable"
    UNOWNED = "unowned"


COMMITTED_REASONS = frozenset({StallReason.JOURNAL_BEHIND, StallReason.MEMORY_SHORT})
"""What only the owner knows, and commits; everything else whoever looks sees in Kafka."""

STALL_TEXTS = {
    StallReason.OPEN_TRANSACTION: "a transaction of a producer is open, and what lies behind its "
    "first record is not read before it ends",
    StallReason.INTAKE_STOPPED: "more records were rejected than limits.rejected_percent",
    StallReason.JOURNAL_BEHIND: "what was read has to be stored first: closed batches wait for "
    "Kafka to commit them (limits.in_flight), documents or a base of the state are being made",
    StallReason.MEMORY_SHORT: "open windows take limits.window_memory, and those that could close "
    "wait for Kafka to commit what has closed",
    StallReason.DELIVERY_BEHIND: "what was read of a file waits for its delivery",
    StallReason.REFUSED: "the partition is refused",
    StallReason.OPENING: "the partition is being opened, or has committed nothing since it failed",
    StallReason.REBALANCE: "the group is sharing its partitions out",
    StallReason.NOT_FETCHED: "Kafka has records, and no poll brings them",
    StallReason.UNAVAILABLE: "Kafka does not tell where the partition ends",
    StallReason.UNOWNED: "workers run, and none of them owns the partition",
}

STALL_REMEDIES = {
    StallReason.OPEN_TRANSACTION: "have its producer commit or abort; that of a dead one is "
    "aborted by Kafka after its transaction.timeout.ms, and one that hangs beyond it by hand: "
    "kafka-transactions.sh find-hanging, then abort",
    StallReason.INTAKE_STOPPED: "see intake in /readyz and the log event intake.stopped",
    StallReason.JOURNAL_BEHIND: "see forwarder_tick_seconds and the brokers' health, and "
    "forwarder_loop_lag_seconds; more partitions, brokers or workers share the load",
    StallReason.MEMORY_SHORT: "see forwarder_tick_seconds and the brokers' health; raise "
    "limits.window_memory or add workers",
    StallReason.DELIVERY_BEHIND: "mend the destination",
    StallReason.REFUSED: "do what the reason says; it is opened again about once a minute",
    StallReason.OPENING: "nothing unless it lasts: the log says with partition.reopens what fails",
    StallReason.REBALANCE: "nothing unless it lasts: then a member of the group does not answer",
    StallReason.NOT_FETCHED: "see poll.failed in the log; after a minute its fetching is begun "
    "anew, and a worker on which nothing moves ends and starts anew",
    StallReason.UNAVAILABLE: "see whether its leader is up, or whether it has one at all; nothing "
    "else is to be done, it goes on by itself",
    StallReason.UNOWNED: "nothing while a rebalance lasts; else kafka.topics of the workers that "
    "run lacks the topic",
}


class Stall(msgspec.Struct, frozen=True):
    """One position that stands still: why, since which wall-clock milliseconds, where.

    ``high``: the high watermark, None: Kafka does not tell it. ``transaction``: who holds it back,
    if that is the reason and Kafka tells. ``what`` and ``remedy``: of this one in particular, empty
    where there is no more to say than of all with this reason.
    """

    reason: StallReason
    since_ms: int
    position: int | None = None
    high: int | None = None
    transaction: OpenTransaction | None = None
    what: str = ""
    remedy: str = ""

    def text(self) -> str:
        """Return what holds it, for people."""
        if self.transaction is None:
            return self.what or STALL_TEXTS[self.reason]
        return (
            f"{transaction_text(self.transaction)}; what lies behind its first record is not read"
        )

    def advice(self) -> str:
        """Return what to do about it, for people."""
        return self.remedy or STALL_REMEDIES[self.reason]

    def described(self) -> dict[str, str | int | None]:
        """Return it as JSON can hold it, with what to do about it."""
        return {
            "reason": str(self.reason),
            "since": iso_time(self.since_ms),
            "position": self.position,
            "high_watermark": self.high,
            "what": self.text(),
            "remedy": self.advice(),
        }


def transaction_text(found: OpenTransaction) -> str:
    """Return a transaction for people: whose it is, since when, and when Kafka would end it.

    Where its begin is not told, when its producer wrote last: one that goes on writing may have
    been open for hours.
    """
    known = found.transactional_id
    name = f"transactional id {known}" if known else "its transactional id is not told"
    limit = f", for {found.timeout_ms / 1000:g} s at most" if found.timeout_ms else ""
    told = f"is open since {iso_time(found.since_ms)}" if found.since_ms else "is open"
    if not found.since_ms and found.wrote_ms:
        told = f"is open, and last wrote at {iso_time(found.wrote_ms)}"
    return f"the transaction of producer {found.producer_id} ({name}) {told}{limit}"


def iso_time(wall_ms: int) -> str:
    """Return wall-clock milliseconds as ISO 8601 in UTC."""
    return datetime.fromtimestamp(wall_ms / 1000, UTC).isoformat(timespec="seconds")
