"""``forwarder status``: how every partition and every connection stands, from Kafka alone."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from forwarder.audit.backlog import Backlog, backlogs
from forwarder.audit.moment import shown
from forwarder.audit.view import Group, Survey
from forwarder.errors import ForwarderError, RefusedError
from forwarder.ledger import opening, salvage, watermark
from forwarder.ledger.opening import Opening, Restored
from forwarder.ledger.state import LaneState, PartitionState
from forwarder.model import Partition

AT_ONCE = 8
"""Partitions looked at concurrently."""

Document = dict[str, Any]


async def status(
    survey: Survey, rules: Mapping[str, str], now_ms: int, topics: Sequence[str], *, deep: bool
) -> Document:
    """Return how everything stands as one document; its keys are part of docs/commands.md."""
    group = await survey.group()
    owners = {p: member.client_id for member in group.members for p in member.partitions}
    free = asyncio.Semaphore(AT_ONCE)

    async def look(partition: Partition) -> Document:
        async with free:
            return await _partition(survey, rules, now_ms, partition, deep=deep)

    listed = await asyncio.gather(*map(look, await survey.partitions(topics)))
    for document in listed:
        owner = owners.get(Partition(document["topic"], document["number"]))
        document["owner"] = owner
    return {
        "group": survey.group_id,
        "group_state": group.state,
        "at": shown(now_ms),
        "members": _members(group),
        "partitions": listed,
        "connections": _summed(listed),
    }


def _members(group: Group) -> list[Document]:
    return [
        {
            "client_id": member.client_id,
            "host": member.host,
            "partitions": sorted(map(str, member.partitions)),
        }
        for member in sorted(group.members, key=lambda member: member.client_id)
    ]


async def _partition(
    survey: Survey, rules: Mapping[str, str], now_ms: int, partition: Partition, *, deep: bool
) -> Document:
    document: Document = {"topic": partition.topic, "number": partition.number}
    try:
        found = await survey.find(partition)
        state, start, refusal = _judge(survey, rules, now_ms, partition, found)
        bounds = (found.outbox_start, found.outbox_end)
        waiting = await backlogs(survey, partition, state.lanes, bounds, deep=deep)
    except ForwarderError as error:
        return document | {"opens": False, "refusal": str(error), "connections": []}
    reads = start.state.read if start else state.read
    needs = [lane.need for lane in state.lanes.values()]
    commit = found.commit.offset if found.commit else None
    return document | {
        "opens": start is not None,
        "refusal": str(refusal) if refusal else None,
        "input_start": found.input_start,
        "input_end": found.input_end,
        "read": reads,
        "watermark": watermark.watermark(needs, reads) if commit is None else commit,
        "lag_read": max(0, found.input_end - reads),
        "lag_commit": max(0, found.input_end - (reads if commit is None else commit)),
        "tick": state.n,
        "base_offset": state.base_offset,
        "outbox_start": found.outbox_start,
        "outbox_end": found.outbox_end,
        "state_records": len(found.state),
        "state_bytes": sum(len(value) for _, value in found.state),
        "held_windows": sum(len(lane.held) for lane in state.lanes.values()),
        "connections": [
            _connection(name, lane, rules, waiting[name], start, now_ms)
            for name, lane in sorted(state.lanes.items())
        ],
    }


def _judge(
    survey: Survey,
    rules: Mapping[str, str],
    now_ms: int,
    partition: Partition,
    found: Restored,
) -> tuple[PartitionState, Opening | None, RefusedError | None]:
    """Return what an opening would begin with; where it would refuse, what can be read."""
    group, topic = survey.group_id, partition.topic
    try:
        start = opening.begin(found, group, topic, rules, now_ms)
    except RefusedError as refusal:
        try:
            state = salvage.salvage(found.state, group, topic).state
        except RefusedError:
            state = None
        return state or PartitionState(), None, refusal
    return start.state, start, None


def _connection(  # noqa: PLR0913, PLR0917  # what is known of it, each given once
    name: str,
    lane: LaneState,
    rules: Mapping[str, str],
    backlog: Backlog,
    start: Opening | None,
    now_ms: int,
) -> Document:
    new = start is not None and name in start.new
    trouble = lane.extra.get("trouble") or {}
    stopped = start.stopped.get(name) if start else None
    return {
        "connection": name,
        "lane": "new" if new else "known" if name in rules else "unknown",
        "cursor": list(lane.cursor),
        "acked_above": len(lane.acked),
        "need": lane.need[0],
        "read": lane.read,
        "held_windows": len(lane.held),
        "batches_behind": backlog.batches,
        "exact": backlog.exact,
        "seconds_behind": _age(backlog, now_ms),
        "seen": shown(lane.seen) if lane.seen else None,
        "stopped": str(stopped) if stopped else None,
        "error": trouble.get("reason") or None,
        "error_since": shown(trouble["since"]) if trouble.get("since") else None,
    }


def _age(backlog: Backlog, now_ms: int) -> float:
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
