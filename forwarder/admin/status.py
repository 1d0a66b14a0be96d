"""``forwarder status``: how every partition and every connection stands, from Kafka alone."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from forwarder.admin import salvage
from forwarder.admin.backlog import LaneBacklog, backlogs
from forwarder.admin.contract import GroupSurvey
from forwarder.admin.outbox_range import format_time
from forwarder.deliver import lane_notes
from forwarder.errors import ForwarderError, JournalError, RefusedError
from forwarder.journal import commit as commits
from forwarder.journal import opening
from forwarder.journal import tick as ticks
from forwarder.journal.fold import StateFold
from forwarder.journal.opening import Opening, Restored, StartOrigin
from forwarder.journal.state import LaneState, PartitionState
from forwarder.kafka.admin import GroupState
from forwarder.model import LogEnds, Partition
from forwarder.ops.stall import COMMITTED_REASONS, STALL_TEXTS, Stall, StallReason

AT_ONCE = 8
"""Partitions looked at concurrently."""

LEFT_AT_ONCE = 4
"""The same of topics that are not configured: a worker looks at them before it begins, and has to
hold so many states."""

LASTING_MS = 10_000
"""How long a transaction is open before it is told as what holds a partition back."""

LOOKS = 3
PAUSE_SECONDS = 0.5
"""A commit may be seen a moment before the records of its transaction are: while a worker runs,
a partition counts as one that would not open once it looked so this often."""

Document = dict[str, Any]


async def status(
    survey: GroupSurvey, rules: Mapping[str, str], now_ms: int, topics: Sequence[str], *, deep: bool
) -> Document:
    """Return how everything stands as one document; its keys are part of docs/commands.md.

    Raises JournalError if Kafka answers for no partition at all.
    """
    group = await survey.group()
    owners = {p: member.client_id for member in group.members for p in member.partitions}
    looks = _PartitionScans(survey, asyncio.Semaphore(AT_ONCE), AT_ONCE)
    complaining = asyncio.ensure_future(survey.complaints())
    listed = await asyncio.gather(
        *(
            looks.look(one, partial(_partition, survey, rules, now_ms, one, deep=deep))
            for one in await survey.partitions(topics)
        )
    )
    if looks.silent and not looks.answered:
        raise looks.silent[0]
    for document in listed:
        owner = owners.get(Partition(document["topic"], document["number"]))
        _owned(document, owner, given_out=group.state == "Stable")
    if not topics:
        listed += await left_out(survey, rules, now_ms, deep=deep)
    return {
        "group": survey.group_id,
        "group_state": group.state,
        "at": format_time(now_ms),
        "retired_topics": list(survey.settings.journal.retired_topics),
        "members": _members(group),
        "partitions": listed,
        "connections": _summed(listed),
        "complaints": [{"what": x.what, "remedy": x.remedy} for x in await complaining],
    }


async def left_out(
    survey: GroupSurvey,
    rules: Mapping[str, str],
    now_ms: int,
    *,
    deep: bool = False,
    without: Collection[str] = (),
) -> list[Document]:
    """Return how partitions stand whose topic was read once and is not configured any more.

    Nobody owns them; those of which nothing is left are not returned. Topics named by ``without``
    are not looked at.
    """
    free = asyncio.Semaphore(LEFT_AT_ONCE)
    # One for each topic: the rights to one that is finished may be gone, those to another not.
    looks: defaultdict[str, _PartitionScans] = defaultdict(
        lambda: _PartitionScans(survey, free, LEFT_AT_ONCE)
    )
    documents = await asyncio.gather(
        *(
            looks[one.topic].look(
                one, partial(_look, survey, rules, now_ms, one, deep=deep, left_out=True)
            )
            for one in await survey.left_out()
            if one.topic not in without
        )
    )
    for document in documents:
        document["configured"] = False
        _owned(document, None, given_out=False)
    return [document for document in documents if "read" not in document or _is_left(document)]


class _PartitionScans:
    """Looks at partitions, as many at a time as ``free`` admits.

    Where none of the ``first`` answers, the others are not asked: there may be thousands.
    """

    def __init__(self, survey: GroupSurvey, free: asyncio.Semaphore, first: int) -> None:
        """Have looked at none."""
        self.answered = 0
        self.silent: list[JournalError] = []
        self._survey = survey
        self._free = free
        self._first = first

    async def look(self, partition: Partition, ask: Callable[[], Awaitable[Document]]) -> Document:
        """Return what is told of a partition, or that Kafka does not answer for it."""
        async with self._free:
            if len(self.silent) >= self._first and not self.answered:
                return _unread(partition, self.silent[0])
            try:
                document = await ask()
            except JournalError as error:
                self.silent.append(error)
                return _unread(partition, error)
            finally:
                await self._survey.leave(partition)
        self.answered += 1
        return document


def _owned(document: Document, owner: str | None, *, given_out: bool) -> None:
    """Note who owns a partition, in place; ``given_out``: the group is stable.

    What its last owner waited for says nothing where it has none: that one has gone.
    """
    document["owner"] = owner
    stalled = document.get("stalled")
    if owner is None and stalled and stalled["reason"] in COMMITTED_REASONS:
        document["stalled"] = stalled = None
    if owner is None and given_out and document.get("lag_read") and not stalled:
        document["stalled"] = _plainly(StallReason.UNOWNED, None)


def _is_left(document: Document) -> bool:
    """Tell whether a partition holds anything that is not finished; one never opened does not."""
    if not document["state_records"] and document["refusal"] is None:
        return False
    behind = any(one["batches_behind"] for one in document["connections"])
    odd = document["refusal"] is not None and document["input_exists"]
    return bool(behind or odd or document["held_windows"] or document["lag_commit"])


def _members(group: GroupState) -> list[Document]:
    return [
        {
            "client_id": member.client_id,
            "host": member.host,
            "partitions": sorted(map(str, member.partitions)),
        }
        for member in sorted(group.members, key=lambda member: member.client_id)
    ]


async def _partition(
    survey: GroupSurvey, rules: Mapping[str, str], now_ms: int, partition: Partition, *, deep: bool
) -> Document:
    """Look at one partition; what looks wrong is looked at again."""
    for _ in range(LOOKS - 1):
        document = await _look(survey, rules, now_ms, partition, deep=deep)
        if document["opens"]:
            return document
        await asyncio.sleep(PAUSE_SECONDS)
    return await _look(survey, rules, now_ms, partition, deep=deep)


async def _look(  # noqa: PLR0913  # what to look at, and how closely
    survey: GroupSurvey,
    rules: Mapping[str, str],
    now_ms: int,
    partition: Partition,
    *,
    deep: bool,
    left_out: bool = False,
) -> Document:
    try:
        there = not left_out or await survey.exists(partition)
        found = await survey.find(partition, left_out=left_out)
        judged = (
            _judge(survey, rules, now_ms, partition, found)
            if there
            else _deleted(survey, partition, found, None)
        )
        if left_out and judged.refusal and there and _is_another(found, judged.state):
            # What is there now under that name was never read, and is nothing that is left.
            there, judged = False, _deleted(survey, partition, found, judged.refusal)
        bounds = (found.outbox_start, found.outbox_end)
        waiting = await backlogs(survey, partition, judged.state.lanes, bounds, deep=deep)
        ends = await survey.ends(partition) if there else LogEnds(0, 0)
        high = max(found.input_end, ends.high) if there else 0
    except JournalError:
        raise
    except ForwarderError as error:
        return _unread(partition, error)
    state, start, refusal, held, _ = judged
    reads = start.state.read if start else state.read
    needs = [lane.need for lane in state.lanes.values()]
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
        "watermark": ticks.lowest_watermark(needs, reads) if commit is None else commit,
        "lag_read": max(0, high - reads),
        "lag_commit": max(0, high - (reads if commit is None else commit)),
        "tick": state.n,
        "base_offset": state.base_offset,
        "outbox_start": found.outbox_start,
        "outbox_end": found.outbox_end,
        "state_records": len(found.state),
        "state_bytes": sum(len(value) for _, value in found.state),
        "held_windows": held.total(),
        "intake_stopped": _stopped(survey, found),
        "stalled": await _stalled(survey, partition, found, judged, LogEnds(reads, high), now_ms),
        "connections": [
            _connection(name, lane, rules, waiting[name], judged, now_ms)
            for name, lane in sorted(state.lanes.items())
        ],
    }


async def _stalled(  # noqa: PLR0913, PLR0917  # what is known of it, each given once
    survey: GroupSurvey,
    partition: Partition,
    found: Restored,
    judged: "_OpeningPreview",
    rest: LogEnds,
    now_ms: int,
) -> Document | None:
    """Return what holds a partition back that has more to read, as far as Kafka knows it.

    ``rest``: up to where it is read, and where it ends.
    """
    read, high = rest
    if high <= read:
        return None
    if judged.refusal is not None:
        return {"reason": str(StallReason.REFUSED), "since": None, "what": str(judged.refusal)}
    if (stopped := _stopped(survey, found)) is not None:
        return _plainly(StallReason.INTAKE_STOPPED, stopped)
    if found.input_end <= read:
        return await _held(survey, partition, rest, now_ms)
    mark = commits.decode(found.commit)
    if mark is None or mark.paused not in set(StallReason):
        return None
    return _plainly(StallReason(mark.paused), format_time(mark.paused_since))


def _plainly(reason: StallReason, since: str | None) -> Document:
    return {"reason": str(reason), "since": since, "what": STALL_TEXTS[reason]}


async def _held(
    survey: GroupSurvey, partition: Partition, rest: LogEnds, now_ms: int
) -> Document | None:
    """Return the transaction that holds a partition back, if it has been open for a while."""
    read, high = rest
    transaction = await survey.open_transaction(partition)
    began = transaction.since_ms if transaction else 0
    if now_ms - began < LASTING_MS:
        return None
    if not began:  # its last record says nothing of that: a producer may write for hours
        await asyncio.sleep(PAUSE_SECONDS)
    # Producers that work have one open at any moment, and it has ended at the next.
    if (await survey.ends(partition)).stable > read:
        return None
    return _open(Stall(StallReason.OPEN_TRANSACTION, 0, read, high, transaction))


def _open(stall: Stall) -> Document:
    """Return an open transaction, with what Kafka tells of it."""
    document: Document = {"reason": str(stall.reason), "since": None, "what": stall.text()}
    if (found := stall.transaction) is not None:
        document["since"] = format_time(found.since_ms) if found.since_ms else None
        document["last_wrote"] = format_time(found.wrote_ms) if found.wrote_ms else None
        document["producer_id"] = found.producer_id
        document["transactional_id"] = found.transactional_id or None
        document["timeout_ms"] = found.timeout_ms or None
    return document


def _stopped(survey: GroupSurvey, found: Restored) -> str | None:
    """Return since when the guard has kept a partition from being collected, if it does."""
    if not survey.settings.limits.rejected_percent:
        return None  # whoever opens it with these settings collects
    try:
        mark = commits.decode(found.commit)
    except RefusedError:
        return None  # a later release's: that is told already
    return format_time(mark.stopped) if mark and mark.stopped else None


def _unread(partition: Partition, error: ForwarderError) -> Document:
    """Return what is said of a partition that cannot be looked at."""
    return {
        "topic": partition.topic,
        "number": partition.number,
        "configured": True,
        "opens": False,
        "refusal": str(error),
        "connections": [],
    }


def _judge(
    survey: GroupSurvey,
    rules: Mapping[str, str],
    now_ms: int,
    partition: Partition,
    found: Restored,
) -> "_OpeningPreview":
    """Return what an opening would begin with; where it would refuse, what can be read."""
    group, topic = survey.group_id, partition.topic
    ttl = survey.settings.journal.lane_ttl_ms
    fold = StateFold(group, topic)
    try:
        for offset, value in found.state:
            fold.take(offset, value)
        start = opening.decide_start(found, fold.state, topic, rules, now_ms)
    except RefusedError as refusal:
        return _OpeningPreview(_readable(found, group, topic), None, refusal, Counter(), ttl)
    if start.origin is not StartOrigin.STATE:
        fold.forget_windows()
    held = Counter(name for name, _, _ in fold.windows())
    return _OpeningPreview(start.state, start, None, held, ttl)


def _is_another(found: Restored, state: PartitionState) -> bool:
    """Tell whether the input topic was created again since it was read."""
    known = state.extra.get(opening.INPUT_ID, "")
    if known and found.input_id:
        return bool(known != found.input_id)
    return state.read > found.input_end


def _deleted(
    survey: GroupSurvey, partition: Partition, found: Restored, refusal: RefusedError | None
) -> "_OpeningPreview":
    """Return what can be read of a partition whose input topic is not there, or is another one.

    ``refusal``: what is said of another one.
    """
    group, topic = survey.group_id, partition.topic
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
    ttl = survey.settings.journal.lane_ttl_ms
    return _OpeningPreview(_readable(found, group, topic), None, refusal, held, ttl)


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


def _connection(  # noqa: PLR0913, PLR0917  # what is known of it, each given once
    name: str,
    lane: LaneState,
    rules: Mapping[str, str],
    backlog: LaneBacklog,
    judged: _OpeningPreview,
    now_ms: int,
) -> Document:
    start = judged.start
    new = start is not None and name in start.new
    noted = lane.extra.get(lane_notes.REASON_FIELD) or {}
    stopped = start.stopped.get(name) if start else None
    return {
        "connection": name,
        "lane": "new" if new else "known" if name in rules else "unknown",
        "cursor": list(lane.cursor),
        "acked_above": len(lane.acked),
        "need": lane.need[0],
        "read": lane.read,
        "held_windows": judged.held[name],
        "batches_behind": backlog.batches,
        "exact": backlog.exact,
        "seconds_behind": _age(backlog, now_ms),
        "seen": format_time(lane.seen) if lane.seen else None,
        "kept_until": None if name in rules else format_time(lane.seen + judged.ttl_ms),
        "stopped": str(stopped) if stopped else None,
        "error": noted.get("reason") or None,
        "error_since": format_time(noted["since"]) if noted.get("reason") else None,
    }


def _age(backlog: LaneBacklog, now_ms: int) -> float:
    return 0.0 if backlog.oldest_ms is None else max(0, now_ms - backlog.oldest_ms) / 1000


def _summed(partitions: Sequence[Document]) -> list[Document]:
    """Return every connection over all partitions."""
    total: dict[str, Document] = {}
    for document in (one for partition in partitions for one in partition["connections"]):
        name = document["connection"]
        before = total.setdefault(name, _nothing(name, document["lane"]))
        before["batches_behind"] += document["batches_behind"]
        before["exact"] = before["exact"] and document["exact"]
        before["seconds_behind"] = max(before["seconds_behind"], document["seconds_behind"])
        before["held_windows"] += document["held_windows"]
        before["partitions_stopped"] += document["stopped"] is not None
        before["error"] = before["error"] or document["stopped"] or document["error"]
        if document["lane"] != "new":
            before["lane"] = document["lane"]
        before["seen"] = max(filter(None, (before["seen"], document["seen"])), default=None)
    return [total[name] for name in sorted(total)]


def _nothing(name: str, lane: str) -> Document:
    return {
        "connection": name,
        "lane": lane,
        "batches_behind": 0,
        "exact": True,
        "seconds_behind": 0.0,
        "held_windows": 0,
        "partitions_stopped": 0,
        "seen": None,
        "error": None,
    }
