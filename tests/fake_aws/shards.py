"""Streams: where a record goes, how much a shard takes in a second, and what was stored."""

from hashlib import md5
from typing import NamedTuple

import msgspec

MIB = 1024 * 1024
RECORDS_PER_SECOND = 1000.0
BYTES_PER_SECOND = float(MIB)
"""AWS limits of a shard: 1,000 records/s and 1 MB/s."""
LARGEST_RECORD = MIB
"""AWS's default: data and partition key together, before base64."""
REQUEST_BYTES = 10 * MIB
"""AWS limit of PutRecords since 2025, partition keys included; it was 5 MiB."""
MAX_RECORDS = 500
"""AWS limit of PutRecords and PutRecordBatch."""
FIREHOSE_LARGEST_RECORD = 1_024_000
FIREHOSE_REQUEST_BYTES = 4 * MIB
FIREHOSE_RECORDS_PER_SECOND = 100_000.0
"""AWS quotas of a delivery stream of most regions: 1 MiB/s and 100,000 records/s."""

_HASHES = 1 << 128
_FIRST_NUMBER = 49_590_338_271_490_256_608_559_692_538_361_571_095_921_575_989_136_588_898
"""Sequence numbers are about as long as AWS's."""
_GENERATION = 10**50


class Stored(NamedTuple):
    """A record as it can be read back."""

    partition_key: str
    sequence_number: str
    value: bytes
    at: float = 0.0


class Bucket:
    """A token bucket for records and bytes; None: any number."""

    def __init__(self, records: float | None, volume: float | None) -> None:
        """Take the amounts of a second; as much fits in."""
        self.records = records
        self.volume = volume
        self._records = records or 0.0
        self._volume = volume or 0.0
        self._at = 0.0

    def take(self, size: int, now: float) -> bool:
        """Take one record of ``size`` bytes, unless too little is left; ``now`` in seconds.

        What is larger than the bucket waits for a full one, and is owed afterwards.
        """
        since, self._at = max(0.0, now - self._at), now
        if self.records is not None:
            self._records = min(self.records, self._records + since * self.records)
            if self._records < 1:
                return False
        if self.volume is not None:
            self._volume = min(self.volume, self._volume + since * self.volume)
            if self._volume < min(size, self.volume) or not self.volume:
                return False
            self._volume -= size
        self._records -= 1
        return True


class Shard:
    """One shard: its range of hashes is [``start``, ``end``]."""

    def __init__(self, number: int, start: int, end: int, bucket: Bucket) -> None:
        """Begin empty."""
        self.number = number
        self.name = f"shardId-{number:012d}"
        self.start = start
        self.end = end
        self.bucket = bucket
        self.records: list[Stored] = []


class Limits(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What a stream takes; a rate of None is no limit. Rates are of each shard."""

    records_per_second: float | None = RECORDS_PER_SECOND
    bytes_per_second: float | None = BYTES_PER_SECOND
    largest_record: int = LARGEST_RECORD
    request_bytes: int = REQUEST_BYTES


class Stream:
    """A data stream; with ``keeps`` false, records are counted and forgotten."""

    def __init__(
        self, name: str, account: str, shards: int, limits: Limits, *, keeps: bool = True
    ) -> None:
        """Begin empty."""
        self.name = name
        self.account = account
        self.limits = limits
        self.keeps = keeps
        self.count = 0
        self.volume = 0
        self.throttled = 0
        self.order: list[Stored] = []
        self.generation = 0
        self._first = self._last = _FIRST_NUMBER
        self._split(shards)

    @property
    def records(self) -> list[bytes]:
        """Return the values stored since the stream was made, in order."""
        return [record.value for record in self.order]

    def renew(self) -> None:
        """Be a new stream of the same name, with nothing in it."""
        self.generation += 1
        self._first = self._last = _FIRST_NUMBER + self.generation * _GENERATION
        self.order = []
        self._split(len(self.shards))

    def shard(self, partition_key: str, explicit: str | None = None) -> Shard:
        """Return where a record goes: by the MD5 of its key, unless told."""
        key = md5(partition_key.encode(), usedforsecurity=False).digest()
        number = int.from_bytes(key, "big") if explicit is None else int(explicit)
        return self.shards[number * len(self.shards) // _HASHES]

    def store(self, shard: Shard, partition_key: str, value: bytes, at: float) -> str:
        """Store a record; return its sequence number."""
        self._last += 1
        number = str(self._last)
        self.count += 1
        self.volume += len(value)
        if self.keeps:
            stored = Stored(partition_key, number, value, at)
            shard.records.append(stored)
            self.order.append(stored)
        return number

    def knows(self, number: str) -> bool:
        """Tell whether a sequence number is one of this stream's."""
        return number.isdigit() and self._first < int(number) <= self._last

    def _split(self, count: int) -> None:
        bounds = [-(-_HASHES * number // count) for number in range(count + 1)]
        self.shards = [
            Shard(number, bounds[number], bounds[number + 1] - 1, self._bucket())
            for number in range(count)
        ]

    def _bucket(self) -> Bucket:
        return Bucket(self.limits.records_per_second, self.limits.bytes_per_second)


class DeliveryStream:
    """A Firehose stream, whose records can be read in the order in which they came."""

    def __init__(self, name: str, account: str, limits: Limits, *, keeps: bool = True) -> None:
        """Begin empty."""
        self.name = name
        self.account = account
        self.limits = limits
        self.keeps = keeps
        self.count = 0
        self.volume = 0
        self.throttled = 0
        self.records: list[bytes] = []
        self.renew()

    def renew(self) -> None:
        """Be a new stream of the same name, with nothing in it."""
        self.records = []
        self.bucket = Bucket(self.limits.records_per_second, self.limits.bytes_per_second)

    def store(self, value: bytes) -> str:
        """Store a record; return its id."""
        self.count += 1
        self.volume += len(value)
        if self.keeps:
            self.records.append(value)
        return f"{self.count:064d}"


def firehose_limits() -> Limits:
    """Return AWS's limits of a delivery stream."""
    return Limits(
        records_per_second=FIREHOSE_RECORDS_PER_SECOND,
        largest_record=FIREHOSE_LARGEST_RECORD,
        request_bytes=FIREHOSE_REQUEST_BYTES,
    )


def unlimited(limits: Limits) -> Limits:
    """Return limits without rates."""
    return msgspec.structs.replace(limits, records_per_second=None, bytes_per_second=None)
