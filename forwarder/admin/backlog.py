"""How much of a partition's outbox each connection has not delivered yet."""

from collections.abc import Mapping

import msgspec

from forwarder.admin.contract import GroupSurvey
from forwarder.journal import outbox
from forwarder.journal.state import LaneState
from forwarder.model import Partition

LOOK_BYTES = 16 * 1024 * 1024
"""Stored bytes read for the connections of one partition that stand close to each other, unless
everything is to be counted: about 0.2 s."""

READ_BYTES = 4 * 1024 * 1024


class LaneBacklog(msgspec.Struct):
    """What waits for one connection; ``exact``: every record up to the end was counted."""

    batches: int = 0
    exact: bool = True
    oldest_ms: int | None = None


async def backlogs(
    survey: GroupSurvey,
    partition: Partition,
    lanes: Mapping[str, LaneState],
    between: tuple[int, int],
    *,
    deep: bool,
) -> dict[str, LaneBacklog]:
    """Count what waits behind every cursor, ``between`` the outbox's start and its end.

    One pass serves the connections whose cursors it meets. Not ``deep``: a pass ends after
    ``LOOK_BYTES``, and the numbers are then lower bounds; the oldest batch is always found.
    """
    first, end = between
    found = {name: LaneBacklog() for name in lanes}
    waiting = {name: lane for name, lane in lanes.items() if lane.cursor < (end, 0)}
    while waiting:
        start = max(first, min(lane.cursor[0] for lane in waiting.values()))
        stopped = await _pass(survey, partition, waiting, found, (start, end), deep=deep)
        for name in [name for name, lane in waiting.items() if lane.cursor[0] < stopped]:
            found[name].exact = stopped >= end
            del waiting[name]
    return found


async def _pass(  # noqa: PLR0913  # where, whose, what was found so far, and how far
    survey: GroupSurvey,
    partition: Partition,
    lanes: Mapping[str, LaneState],
    found: Mapping[str, LaneBacklog],
    between: tuple[int, int],
    *,
    deep: bool,
) -> int:
    at, end = between
    size = 0
    while at < end and (deep or size < LOOK_BYTES):
        records, at = await survey.outbox(partition, at, end, READ_BYTES)
        for offset, value in records:
            size += len(value)
            _count(lanes, found, offset, value)
    return at


def _count(
    lanes: Mapping[str, LaneState], found: Mapping[str, LaneBacklog], offset: int, value: bytes
) -> None:
    for address, batch in outbox.decode_record(offset, value):
        lane = lanes.get(batch.lane)
        if lane is None or address < lane.cursor or address in lane.acked:
            continue
        backlog = found[batch.lane]
        backlog.batches += 1
        if backlog.oldest_ms is None:
            backlog.oldest_ms = batch.closed_at
