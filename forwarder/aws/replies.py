"""What Kinesis and Firehose say of the records of a put, and whether it can be said of them.

Each action has its own form of receipt; what another one's answer holds is none.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Protocol

import msgspec

from forwarder.aws.receipts import MAX_SHARD_ID_CHARS, Receipts, is_number
from forwarder.model import DELIVERED, Outcome, OutcomeKind

_SHARD = re.compile(rf"[a-zA-Z0-9_.-]{{1,{MAX_SHARD_ID_CHARS}}}")
_ERROR: Any = msgspec.field(default=None, name="__type")
"""Where an error has its code, and an answer of success has nothing."""


class RecordResult(Protocol):
    """What an answer says of one record, whatever the action."""

    @property
    def error_code(self) -> str | None:
        """Return the code of the error that kept it from being stored."""

    @property
    def error_message(self) -> str | None:
        """Return the service's words about it."""

    @property
    def receipt(self) -> Outcome | None:
        """Return the answer for the record if a receipt says that it is stored."""


class PutReply(Protocol):
    """What the answer of a put is decoded into; ``error`` where it says of itself to be one."""

    @property
    def error(self) -> str | None:
        """Return the code of an error that it should not hold."""

    @property
    def each(self) -> Sequence[RecordResult]:
        """Return what is said of each record."""

    @property
    def failed(self) -> int | None:
        """Return how many records are said to have failed."""

    def stored(self) -> Sequence[Outcome | None]:
        """Return the answer for each record that a receipt says is stored, None for others.

        Only of an answer in which :func:`contradiction` has found nothing.
        """

    def register_receipts(self, receipts: Receipts) -> bool:
        """Tell whether all its receipts are given out for the first time, and note them."""


class KinesisRecordResult(msgspec.Struct, rename="pascal", gc=False):
    """What Kinesis says of one record: its number in a shard, or an error."""

    sequence_number: str | None = None
    shard_id: str | None = None
    error_code: str | None = None
    error_message: str | None = None

    @property
    def receipt(self) -> Outcome | None:
        """Return the answer for the record if a receipt says that it is stored."""
        number = self.sequence_number
        if self.error_code or not number or not self.shard_id or not is_number(number):
            return None
        return _stored(self.shard_id)


class PutRecordReply(KinesisRecordResult, rename="pascal", gc=False):
    """The answer of PutRecord."""

    error: str | None = _ERROR

    @property
    def each(self) -> Sequence[KinesisRecordResult]:
        """Return what is said of each record."""
        return (self,)

    @property
    def failed(self) -> int | None:
        """Return None: this answer has no count of failures."""
        return None

    def stored(self) -> Sequence[Outcome | None]:
        """Return the answer for the record if a receipt says that it is stored."""
        return [self.receipt]

    def register_receipts(self, receipts: Receipts) -> bool:
        """Tell whether its receipt is given out for the first time, and note it."""
        return _are_new((self,), receipts)


class PutRecordsReply(msgspec.Struct, rename="pascal", gc=False):
    """The answer of PutRecords."""

    records: list[KinesisRecordResult] = []
    failed_record_count: int | None = None
    error: str | None = _ERROR

    @property
    def each(self) -> Sequence[KinesisRecordResult]:
        """Return what is said of each record."""
        return self.records

    @property
    def failed(self) -> int | None:
        """Return how many records are said to have failed."""
        return self.failed_record_count

    def stored(self) -> Sequence[Outcome | None]:
        """Return the answer for each record that a receipt says is stored, None for others."""
        shards = [
            one.shard_id
            for one in self.records
            if one.shard_id and one.sequence_number and not one.error_code
        ]
        if len(shards) == len(self.records):  # registered as receipts: they are numbers
            return list(map(_stored, shards))
        return [one.receipt for one in self.records]

    def register_receipts(self, receipts: Receipts) -> bool:
        """Tell whether all its receipts are given out for the first time, and note them."""
        return _are_new(self.records, receipts)


class FirehoseRecordResult(msgspec.Struct, rename="pascal", gc=False):
    """What Firehose says of one record: an id of what is stored, or an error."""

    record_id: str | None = None
    error_code: str | None = None
    error_message: str | None = None

    @property
    def receipt(self) -> Outcome | None:
        """Return the answer for the record if a receipt says that it is stored."""
        return DELIVERED if self.record_id and not self.error_code else None


class PutRecordBatchReply(msgspec.Struct, rename="pascal", gc=False):
    """The answer of PutRecordBatch."""

    request_responses: list[FirehoseRecordResult] = []
    failed_put_count: int | None = None
    error: str | None = _ERROR

    @property
    def each(self) -> Sequence[FirehoseRecordResult]:
        """Return what is said of each record."""
        return self.request_responses

    @property
    def failed(self) -> int | None:
        """Return how many records are said to have failed."""
        return self.failed_put_count

    def stored(self) -> Sequence[Outcome | None]:
        """Return the answer for each record that a receipt says is stored, None for others."""
        return [one.receipt for one in self.request_responses]

    def register_receipts(self, receipts: Receipts) -> bool:
        """Tell whether all its receipts are given out for the first time, and note them."""
        new = True
        for one in self.request_responses:
            if one.record_id:
                new &= receipts.register(("record", one.record_id))
        return new


PUT_RECORD = msgspec.json.Decoder(PutRecordReply)
PUT_RECORDS = msgspec.json.Decoder(PutRecordsReply)
PUT_RECORD_BATCH = msgspec.json.Decoder(PutRecordBatchReply)


def contradiction(reply: PutReply, receipts: Receipts, count: int) -> str:
    """Say why an answer cannot be the one to a request of ``count`` records; empty if it can."""
    told = reply.each
    found = ""
    if reply.error is not None:
        found = "is an error that came as a success"
    elif len(told) != count:
        found = f"answered for {len(told)} of {count} records"
    elif reply.failed is not None and reply.failed != len([1 for one in told if one.error_code]):
        found = f"says that {reply.failed} records failed, and names others"
    # All are noted, also where the answer does not count: it may come once more. The numbers of
    # one answer belong together: with one that is old all of them are.
    if not reply.register_receipts(receipts):
        found = found or "names what was stored for another request"
    return found


def _are_new(told: Sequence[KinesisRecordResult], receipts: Receipts) -> bool:
    return receipts.register_all(
        [(one.shard_id or "", one.sequence_number) for one in told if one.sequence_number]
    )


@lru_cache(maxsize=4096)
def _stored(shard: str) -> Outcome | None:
    return Outcome(OutcomeKind.DELIVERED, shard=shard) if _SHARD.fullmatch(shard) else None
