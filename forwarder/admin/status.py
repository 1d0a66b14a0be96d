"""``forwarder status``: how every partition and every connection stands, from Kafka alone."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial

from forwarder.admin.contract import GroupSurvey
from forwarder.admin.outbox_range import format_time
from forwarder.admin.partition_status import Document, PartitionSurvey, stall_document, unread
from forwarder.errors import JournalError
from forwarder.kafka.admin import GroupState
from forwarder.model import Partition
from forwarder.ops.stall import COMMITTED_REASONS, StallReason

AT_ONCE = 8
"""Partitions looked at concurrently."""

LEFT_AT_ONCE = 4
"""The same of topics that are not configured: a worker looks at them before it begins, and has to
hold so many states."""

LOOKS = 3
PAUSE_SECONDS = 0.5
"""A commit may be seen a moment before the records of its transaction are: while a worker runs,
a partition counts as one that would not open once it looked so this often."""


async def status(
    survey: GroupSurvey,
    keying_rules: Mapping[str, str],
    now_ms: int,
    topics: Sequence[str],
    *,
    deep: bool,
) -> Document:
    """Return how everything stands as one document; its keys are part of docs/commands.md.

    Raises JournalError if Kafka answers for no partition at all.
    """
    group = await survey.group()
    owners = {p: member.client_id for member in group.members for p in member.partitions}
    one_by_one = PartitionSurvey(survey, keying_rules, now_ms, deep=deep)
    looks = _PartitionScans(survey, asyncio.Semaphore(AT_ONCE), AT_ONCE)
    complaining = asyncio.ensure_future(survey.complaints())
    listed = await asyncio.gather(
        *(
            looks.look(one, partial(_look, one_by_one, one))
            for one in await survey.partitions(topics)
        )
    )
    if looks.silent and not looks.answered:
        raise looks.silent[0]
    for document in listed:
        owner = owners.get(Partition(document["topic"], document["number"]))
        _owned(document, owner, given_out=group.state == "Stable")
    if not topics:
        listed += await left_out(survey, keying_rules, now_ms, deep=deep)
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
    keying_rules: Mapping[str, str],
    now_ms: int,
    *,
    deep: bool = False,
    without: Collection[str] = (),
) -> list[Document]:
    """Return how partitions stand whose topic was read once and is not configured any more.

    Nobody owns them; those of which nothing is left are not returned. Topics named by ``without``
    are not looked at.
    """
    one_by_one = PartitionSurvey(survey, keying_rules, now_ms, deep=deep)
    free = asyncio.Semaphore(LEFT_AT_ONCE)
    # One for each topic: the rights to one that is finished may be gone, those to another not.
    looks: defaultdict[str, _PartitionScans] = defaultdict(
        lambda: _PartitionScans(survey, free, LEFT_AT_ONCE)
    )
    documents = await asyncio.gather(
        *(
            looks[one.topic].look(one, partial(one_by_one.look, one, left_out=True))
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
        """Create; ``free`` admits, ``first``: how many must be silent before no other is asked."""
        self.answered = 0
        self.silent: list[JournalError] = []
        self._survey = survey
        self._free = free
        self._first = first

    async def look(self, partition: Partition, ask: Callable[[], Awaitable[Document]]) -> Document:
        """Return what is told of a partition, or that Kafka does not answer for it."""
        async with self._free:
            if len(self.silent) >= self._first and not self.answered:
                return unread(partition, self.silent[0])
            try:
                document = await ask()
            except JournalError as error:
                self.silent.append(error)
                return unread(partition, error)
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
        document["stalled"] = stall_document(StallReason.UNOWNED, None)


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


async def _look(status: PartitionSurvey, partition: Partition) -> Document:
    """Look at one partition; what looks wrong is looked at again."""
    for _ in range(LOOKS - 1):
        document = await status.look(partition)
        if document["opens"]:
            return document
        await asyncio.sleep(PAUSE_SECONDS)
    return await status.look(partition)


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
