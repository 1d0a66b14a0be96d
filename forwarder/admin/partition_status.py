"""How one partition of a group stands, from Kafka alone: what an opening would find, what waits.

A query: nobody is fenced and nothing is written.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from forwarder.admin import salvage
from forwarder.admin.backlog import LaneBacklog, backlogs
from forwarder.admin.contract import GroupSurvey
from forwarder.admin.outbox_range import format_time
from forwarder.deliver import lane_notes
from forwarder.errors import ForwarderError, JournalError, RefusedError
from forwarder.journal import opening
from forwarder.journal import tick as ticks
from forwarder.journal.commit import decode_metadata
from forwarder.journal.fold import StateFold
from forwarder.journal.opening import Opening, Restored, StartOrigin
from forwarder.journal.state import LaneState, PartitionState
from forwarder.model import LogEnds, Partition
from forwarder.ops.stall import STALL_TEXTS, Stall, StallReason

LASTING_MS = 10_000
"""How long a transaction is open before it is told as what holds a partition back."""

AGAIN_SECONDS = 0.5
"""Between two looks at a transaction of which it is not told since when it is open."""

Document = dict[str, Any]


class PartitionSurvey:
    """Looks at partitions, one by one. Caller: ``forwarder status``, and a worker's start.

    The keys of what it returns are part of docs/commands.md.
    """

    def __init__(
        self, survey: GroupSurvey, keying_rules: Mapping[str, str], now_ms: int, *, deep: bool
    ) -> None:
        """Create; ``keying_rules``: the keying rule of every configured connection.

        ``deep``: every batch that waits is counted, however many there are.
        """
        self._survey = survey
        self._keying_rules = keying_rules
        self._now_ms = now_ms
        self._deep = deep

    async def look(self, partition: Partition, *, left_out: bool = False) -> Document:
        """Return how one partition stands; of one that cannot be looked at, why not.

        ``left_out``: its topic is not configured. Raises JournalError if Kafka does not answer.
        """
        try:
            there = not left_out or await self._survey.exists(partition)
            found = await self._survey.find(partition, left_out=left_out)
            judged = (
                self._judge(partition, found) if there else self._deleted(partition, found, None)
            )
            if left_out and judged.refusal and there and _is_another(found, judged.state):
                # What is there now under that name was never read, and is nothing that is left.
                there, judged = False, self._deleted(partition, found, judged.refusal)
            bounds = (found.outbox_start, found.outbox_end)
            waiting = await backlogs(
                self._survey, partition, judged.state.lanes, bounds, deep=self._deep
            )
            ends = await self._survey.ends(partition) if there else LogEnds(0, 0)
            high = max(found.input_end, ends.high) if there else 0
        except JournalError:
            raise
        except ForwarderError as error:
            return unread(partition, error)
        state, start, refusal, held, _ = judged
        reads = start.state.read if start else state.read
        watermark = ticks.lowest_watermark(state.lanes.values(), reads)
        commit = found.commit.offset if found.commit else None
        return {
            "topic": partition.topic,
            "number": partition.number,
            "configured": True,
            "opens": start is not None,
            "refusal": str(refusal) if refusal else None,
            "input_exists": there,
            "input_start": found.input_start,
            "input_end": found.input_end,
            "input_high_watermark": high,
            "read": reads,
            "watermark": watermark if commit is None else commit,
            "lag_read": max(0, high - reads),
            "lag_commit": max(0, high - (reads if commit is None else commit)),
            "tick": state.n,
            "base_offset": state.base_offset,
            "outbox_start": found.outbox_start,
            "outbox_end": found.outbox_end,
            "state_records": len(found.state),
            "state_bytes": sum(len(value) for _, value in found.state),
            "held_windows": held.total(),
            "duplicates": _duplicates_document(start),
            "intake_stopped": self._stopped(found),
            "stalled": await self._stalled(partition, found, judged, LogEnds(reads, high)),
            "connections": [
                self._connection(name, lane, waiting[name], judged)
                for name, lane in sorted(state.lanes.items())
            ],
        }

    async def _stalled(
        self, partition: Partition, found: Restored, judged: "_OpeningPreview", rest: LogEnds
    ) -> Document | None:
        """Return what holds a partition back that has more to read, as far as Kafka knows it.

        ``rest``: up to where it is read, and where it ends.
        """
        read, high = rest
        if high <= read:
            return None
        if judged.refusal is not None:
            return {"reason": str(StallReason.REFUSED), "since": None, "what": str(judged.refusal)}
        if (stopped := self._stopped(found)) is not None:
            return stall_document(StallReason.INTAKE_STOPPED, stopped)
        if found.input_end <= read:
            return await self._held(partition, rest)
        mark = decode_metadata(found.commit)
        if mark is None or mark.paused not in set(StallReason):
            return None
        return stall_document(StallReason(mark.paused), format_time(mark.paused_since))

    async def _held(self, partition: Partition, rest: LogEnds) -> Document | None:
        """Return the transaction that holds a partition back, if it has been open for a while."""
        read, high = rest
        transaction = await self._survey.open_transaction(partition)
        began = transaction.since_ms if transaction else 0
        if self._now_ms - began < LASTING_MS:
            return None
        if not began:  # its last record says nothing of that: a producer may write for hours
            await asyncio.sleep(AGAIN_SECONDS)
        # Producers that work have one open at any moment, and it has ended at the next.
        if (await self._survey.ends(partition)).stable > read:
            return None
        return _transaction_document(
            Stall(StallReason.OPEN_TRANSACTION, 0, read, high, transaction)
        )

    def _stopped(self, found: Restored) -> str | None:
        """Return since when the circuit breaker has stopped collecting a partition, if it has."""
        if not self._survey.settings.limits.rejected_percent:
            return None  # whoever opens it with these settings collects
        try:
            mark = decode_metadata(found.commit)
        except RefusedError:
            return None  # a later release's: that is told already
        return format_time(mark.stopped) if mark and mark.stopped else None

    def _judge(self, partition: Partition, found: Restored) -> "_OpeningPreview":
        """Return what an opening would begin with; where it would refuse, what can be read."""
        group, topic = self._survey.group_id, partition.topic
        ttl = self._survey.settings.journal.lane_ttl_ms
        fold = StateFold(group, topic)
        try:
            for offset, value in found.state:
                fold.take(offset, value)
            topics = self._survey.settings.kafka.topics
            window = next((one.duplicates_ms for one in topics if one.name == topic), 0)
            start = opening.decide_start(
                found,
                fold.state,
                topic,
                self._keying_rules,
                self._now_ms,
                duplicates_ms=window,
            )
        except RefusedError as refusal:
            return _OpeningPreview(_readable(found, group, topic), None, refusal, Counter(), ttl)
        if start.origin is not StartOrigin.STATE:
            fold.forget_windows()
        held = Counter(name for name, _, _ in fold.windows())
        return _OpeningPreview(start.state, start, None, held, ttl)

    def _deleted(
        self, partition: Partition, found: Restored, refusal: RefusedError | None
    ) -> "_OpeningPreview":
        """Return what can be read of a partition whose input topic is not there, or is another one.

        ``refusal``: what is said of another one.
        """
        group, topic = self._survey.group_id, partition.topic
        refusal = refusal or RefusedError(
            f"the input topic {topic} is not there any more", "create it again"
        )
        fold, held = StateFold(group, topic), Counter[str]()
        try:
            for offset, value in found.state:
                fold.take(offset, value)
            held = Counter(name for name, _, _ in fold.windows())
        except RefusedError as error:
            refusal = error
        ttl = self._survey.settings.journal.lane_ttl_ms
        return _OpeningPreview(_readable(found, group, topic), None, refusal, held, ttl)

    def _connection(
        self, name: str, lane: LaneState, backlog: LaneBacklog, judged: "_OpeningPreview"
    ) -> Document:
        start = judged.start
        new = start is not None and name in start.new
        noted = lane.extra.get(lane_notes.REASON_FIELD) or {}
        stopped = start.stopped.get(name) if start else None
        return {
            "connection": name,
            "lane": "new" if new else "known" if name in self._keying_rules else "unknown",
            "cursor": list(lane.cursor),
            "acked_above": len(lane.acked),
            "need": lane.need[0],
            "read": lane.read,
            "held_windows": judged.held[name],
            "batches_behind": backlog.batches,
            "exact": backlog.exact,
            "seconds_behind": _age(backlog, self._now_ms),
            "seen": format_time(lane.seen) if lane.seen else None,
            "kept_until": None
            if name in self._keying_rules
            else format_time(lane.seen + judged.ttl_ms),
            "stopped": str(stopped) if stopped else None,
            "error": noted.get("reason") or None,
            "error_since": format_time(noted["since"]) if noted.get("reason") else None,
        }


def stall_document(reason: StallReason, since: str | None) -> Document:
    """Return why a partition is not read, and since when."""
    return {"reason": str(reason), "since": since, "what": STALL_TEXTS[reason]}


def _transaction_document(stall: Stall) -> Document:
    """Return an open transaction, with what Kafka tells of it."""
    document: Document = {"reason": str(stall.reason), "since": None, "what": stall.text()}
    if (found := stall.transaction) is not None:
        document["since"] = format_time(found.since_ms) if found.since_ms else None
        document["last_wrote"] = format_time(found.wrote_ms) if found.wrote_ms else None
        document["producer_id"] = found.producer_id
        document["transactional_id"] = found.transactional_id or None
        document["timeout_ms"] = found.timeout_ms or None
    return document


def unread(partition: Partition, error: ForwarderError) -> Document:
    """Return what is said of a partition that cannot be looked at."""
    return {
        "topic": partition.topic,
        "number": partition.number,
        "configured": True,
        "opens": False,
        "refusal": str(error),
        "connections": [],
    }


def _is_another(found: Restored, state: PartitionState) -> bool:
    """Tell whether the input topic was created again since it was read."""
    known = state.extra.get(opening.INPUT_ID, "")
    if known and found.input_id:
        return bool(known != found.input_id)
    return state.read > found.input_end


def _readable(found: Restored, group: str, topic: str) -> PartitionState:
    try:
        return salvage.salvage(found.state, group, topic).state or PartitionState()
    except RefusedError:
        return PartitionState()


class _OpeningPreview(NamedTuple):
    """One partition as an opening would find it; ``held``: saved windows of each lane.

    ``ttl_ms``: how long a lane that is not configured is kept.
    """

    state: PartitionState
    start: Opening | None
    refusal: RefusedError | None
    held: Counter[str]
    ttl_ms: int


def _duplicates_document(start: Opening | None) -> Document | None:
    """Return how far apart an opening looks for duplicates, and on how many offsets it looks back.

    None: it looks for none.
    """
    if start is None or start.state.look_back is None:
        return None
    window = start.state.look_back.windows[-1].window_ms
    return {"window_ms": window, "looks_back_to": start.begin, "offsets": start.seek - start.begin}


def _age(backlog: LaneBacklog, now_ms: int) -> float:
    return 0.0 if backlog.oldest_ms is None else max(0, now_ms - backlog.oldest_ms) / 1000
