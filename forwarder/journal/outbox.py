"""The records of the outbox: batches of one lane, many to a record."""

from collections.abc import Iterable, Sequence
from typing import Annotated

import msgspec

from forwarder.journal.packing import VERSION, check_version, damaged, pack, unpack
from forwarder.model import Address, Batch, CloseReason, Position

RECORD_BYTES = 256 * 1024
"""Payload bytes of one record before compression, unless a single batch is larger: large
enough to compress well and to spare sends, small enough to read back in little memory."""


class _StoredBatch(msgspec.Struct, gc=False):
    """A batch as stored; field names are part of docs/formats.md."""

    id: str
    closed_at: int
    key: bytes
    F: Position
    L: Position
    n: int
    mpid: str
    at: int
    why: str
    payload: bytes


class _OutboxValue(msgspec.Struct):
    v: int
    lane: str
    batches: list[_StoredBatch]


class _OutboxVersion(msgspec.Struct):
    v: Annotated[int, msgspec.Meta(ge=0)]


_record = msgspec.msgpack.Decoder(_OutboxValue)
_version = msgspec.msgpack.Decoder(_OutboxVersion)


def group_by_lane(batches: Iterable[Batch]) -> list[list[Batch]]:
    """Share batches out to records: one lane to a record, order kept within each lane."""
    records: list[list[Batch]] = []
    nothing = list[Batch](), RECORD_BYTES + 1  # nothing more fits, so that a record is begun
    left: dict[str, tuple[list[Batch], int]] = {}
    lane, (record, size) = "", nothing
    for batch in batches:  # no calls: it runs for every batch, and one lane's come together
        if batch.lane != lane:
            left[lane] = record, size
            lane = batch.lane
            record, size = left.get(lane, nothing)
        size += len(batch.payload)
        if size > RECORD_BYTES:
            record, size = [], len(batch.payload)
            records.append(record)
        record.append(batch)
    return records


def encode_record(batches: Sequence[Batch]) -> bytes:
    """Return the value of one record; all batches belong to one lane."""
    stored = [
        _StoredBatch(
            b.id, b.closed_at, b.key, b.first, b.last, b.count, b.mpid, b.record_ms, b.reason,
            b.payload,
        )
        for b in batches
    ]  # fmt: skip
    return pack(_OutboxValue(VERSION, batches[0].lane, stored))


def decode_record(offset: int, value: bytes) -> list[tuple[Address, Batch]]:
    """Return the batches of one record under their addresses.

    ``window_key`` is not stored and comes back empty: only the tick that wrote it needs it.
    Raises RefusedError for a format of a later release and for damaged values.
    """
    raw = unpack(value)
    try:
        check_version(_version.decode(raw).v)
        record = _record.decode(raw)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise damaged(str(error)) from error
    return [((offset, i), _batch(record.lane, s)) for i, s in enumerate(record.batches)]


def _batch(lane: str, s: _StoredBatch) -> Batch:
    try:
        reason = CloseReason(s.why)
    except ValueError:
        reason = CloseReason.AGE  # a reason of a later release: for metrics only
    return Batch(
        lane, s.id, s.key, b"", s.F, s.L, s.n, s.closed_at, s.at, s.mpid, reason, s.payload
    )


def addressed_by_lane(
    offsets: Sequence[int], records: Sequence[Sequence[Batch]]
) -> dict[str, list[tuple[Address, Batch]]]:
    """Return the batches of a tick's records by lane, each with its address, in order.

    ``offsets``: where each record was stored. A record is of one lane, see ``group_by_lane``.
    """
    lanes: dict[str, list[tuple[Address, Batch]]] = {}
    for offset, record in zip(offsets, records, strict=True):
        found = lanes.setdefault(record[0].lane, [])
        for index, batch in enumerate(record):
            found.append(((offset, index), batch))  # in no frame of its own
    return lanes
