"""``forwarder outbox show``: what is stored for a connection, batch by batch."""

from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple

from forwarder.admin import salvage
from forwarder.admin.contract import GroupSurvey
from forwarder.admin.outbox_range import OutboxRange, format_time, read_batches
from forwarder.errors import RefusedError
from forwarder.journal.state import LaneState
from forwarder.model import Address, Batch, Partition


class BatchFilter(NamedTuple):
    """Which batches of a connection to show; an empty text or None: any.

    ``key``: the beginning of the device key's digest in hexadecimal digits.
    """

    lane: str
    stretch: OutboxRange
    ids: frozenset[str] = frozenset()
    key: str = ""
    mpid: str = ""
    waiting: bool = False

    def has(self, batch: Batch) -> bool:
        """Tell whether a batch of the stretch is meant."""
        if self.ids and batch.id not in self.ids:
            return False
        return batch.key.hex().startswith(self.key) and self.mpid in {"", batch.mpid}


async def show_batches(
    survey: GroupSurvey, partitions: Sequence[Partition], wanted: BatchFilter, *, payload: bool
) -> AsyncIterator[dict[str, Any]]:
    """Yield one document a batch, partition after partition, in the order of the outbox."""
    for partition in partitions:
        lane = await _lane(survey, partition, wanted.lane)
        least = lane.cursor[0] if lane and wanted.waiting else 0
        stored = read_batches(survey, partition, wanted.lane, wanted.stretch, least)
        async for address, batch in stored:
            state = _delivery(lane, address)
            if wanted.has(batch) and (state != "delivered" or not wanted.waiting):
                yield _document(partition, address, batch, state, payload=payload)
        await survey.leave(partition)


async def _lane(survey: GroupSurvey, partition: Partition, name: str) -> LaneState | None:
    found = await survey.find(partition)
    try:
        state = salvage.salvage(found.state, survey.group_id, partition.topic).state
    except RefusedError:
        return None
    return state.lanes.get(name) if state else None


def _delivery(lane: LaneState | None, address: Address) -> str:
    """Return where a batch stands as of the last tick; without a cursor nobody knows."""
    if lane is None:
        return "unknown"
    return "delivered" if address < lane.cursor or address in lane.acked else "waiting"


def _document(
    partition: Partition, address: Address, batch: Batch, state: str, *, payload: bool
) -> dict[str, Any]:
    document = {
        "partition": str(partition),
        "address": list(address),
        "id": batch.id,
        "state": state,
        "closed_at": format_time(batch.closed_at),
        "closed_at_ms": batch.closed_at,
        "reason": str(batch.reason),
        "first": list(batch.first),
        "last": list(batch.last),
        "events": batch.count,
        "bytes": len(batch.payload),
        "mpid": batch.mpid,
        "device_key": batch.key.hex(),
    }
    if payload:
        document["payload"] = batch.payload.decode(errors="replace")
    return document
