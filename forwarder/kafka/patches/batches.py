"""What the client makes of the batches it fetched, so that no batch can end a worker.

The client unpacks a whole batch at once, whatever that takes, and decodes the names of headers as
UTF-8. One batch that unpacks to a gigabyte, or one name in other bytes, would end every worker
that ever reads it, one after the other. Patched, a batch unpacks to a bound at most; one that
would be more, or cannot be read although its checksum is right, is one record: the batch as it
came, ``Sealed``. One whose checksum is wrong, or whose place or length cannot be true, is
damaged: what came before it is returned, then ``DamagedBatchError`` names the partition. On its way
a batch is damaged once, and right when it is fetched again; on a broker's disk it stays so.
"""

import contextlib
import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from aiokafka import TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException

from forwarder import native
from forwarder.kafka import batch_layout, codecs
from forwarder.kafka.patches.records import (
    HEADERS,
    LIMIT,
    Bound,
    FetchedBatch,
    MessageSet,
    RecordBatch,
    RecordReader,
    described,
    sealed,
    unpack,
)

AHEAD = 1_000_000
"""Offsets that a batch may lie beyond the high watermark of the answer that brought it: the leader
notes the watermark first and reads then, and may have taken more between the two."""

_CODECS = ("gzip", "snappy", "lz4", "zstd")


class DamagedBatchError(CorruptRecordException):  # type: ignore[misc]  # the client ships no types
    """The next batch of a partition is not what was written."""

    def __init__(self, partition: TopicPartition, what: str) -> None:
        super().__init__(f"{partition.topic}/{partition.partition}: {what}")
        self.partition = partition
        self.what = what


def install(limit: int = LIMIT) -> None:
    """Have every client of this process read batches so; ``limit``: unpacked bytes of one."""
    Bound.limit = limit
    fetcher.MemoryRecords = FetchedBatches
    fetcher.PartitionRecords = SkippingPartitionRecords
    fetcher.FetchResult = EndAwareFetchResult
    for module, headers in unpackers():
        for name in _CODECS:
            if hasattr(module, f"{name}_decode"):
                setattr(module, f"{name}_decode", _bounded(getattr(codecs, name), headers=headers))


def unpackers() -> list[tuple[ModuleType, bool]]:
    """Return the client's modules that unpack, and whether their format has headers."""
    names = (("default_records", True), ("legacy_records", False))
    found = []
    for package in ("aiokafka.record", "aiokafka.record._crecords"):
        with contextlib.suppress(ImportError):  # the compiled twins are not on every platform
            found += [(importlib.import_module(f"{package}.{name}"), has) for name, has in names]
    return found


def _bounded(unpack: Callable[[bytes, int], bytes], *, headers: bool) -> Callable[[Any], bytes]:
    check = batch_layout.check_records if headers else batch_layout.check_messages

    def bounded(content: Any) -> bytes:  # noqa: ANN401  # bytes, or a view of some
        found = unpack(bytes(content), Bound.limit)
        check(found)
        return found

    return bounded


class FetchedBatches:
    """The batches of one partition's fetch, in order."""

    def __init__(self, content: bytes | None) -> None:
        """Take the bytes as they came; brokers may send none at all for none."""
        self.next_offset = 0
        self.end: int | None = None
        self._content = content or b""
        self._at = 0

    def size_in_bytes(self) -> int:
        """Return how many bytes there are."""
        return len(self._content)

    def has_next(self) -> bool:
        """Tell whether there is another batch, good or not.

        The last one may be cut off where the fetch is full. The first one never is (KIP-74): the
        client would take it for one too large, and pass over the offset before anybody polls.
        """
        if self._at == 0:
            return len(self._content) > 0
        return batch_layout.is_complete(self._content, self._at)

    def read_plain(self, core: ModuleType, position: int, found: list[Any], most: int) -> int:
        """Add the records of what comes next as long as it is plain; return the position then.

        Plain is what the native core reads whole; there are less than ``most`` in ``found`` then.
        Whatever comes next is for ``next_batch``, which reads plain batches as well.
        """
        highest = None if self.end is None else self.end + AHEAD
        with contextlib.suppress(OverflowError):  # no offset is as high: next_batch says so
            self._at, self.next_offset, position = core.read_plain(
                self._content, self._at, self.next_offset, highest, position, most,
                batch_layout.COUNTED, unpack, found,
            )  # fmt: skip
        return position

    def next_batch(self) -> FetchedBatch:
        """Return the next batch; raises CorruptDataError, and whatever the client does."""
        content, at = self._content, self._at
        end = batch_layout.batch_end(content, at)
        if content[at + batch_layout.MAGIC] >= HEADERS:
            batch: FetchedBatch = RecordBatch(content, at, end)
        else:
            batch = MessageSet(memoryview(content)[at:end])
        self._check_place(batch, batch_layout.next_base_offset(content, end))
        self._at = end
        self.next_offset = batch.next_offset
        return batch

    def _check_place(self, batch: FetchedBatch, following: int | None) -> None:
        """Raise CorruptDataError for a batch that lies where none can: its offset has no checksum.

        Batches neither overlap nor go back, and none lies far beyond the end of the log. One that
        says it were later than the next one is told by that; gaps between them are nothing odd.
        ``following``: where the next one says that it begins.
        """
        begin, end = batch.base_offset, batch.next_offset
        overlaps = self._at > 0 and batch.has_begin and begin < self.next_offset
        if end <= max(begin, self.next_offset) or overlaps:
            text = f"offsets {begin} to {end - 1} where {self.next_offset} is the next"
        elif following is not None and following < end:
            text = f"offsets {begin} to {end - 1} before a batch that begins at {following}"
        elif self.end is not None and end > self.end + AHEAD:
            text = f"offsets {begin} to {end - 1} in a log that ends at {self.end}"
        else:
            return
        raise codecs.CorruptDataError(text)


class SkippingPartitionRecords(fetcher.PartitionRecords):  # type: ignore[misc]  # the client ships no types
    """The client's own, which takes many records at once and goes on behind what it cannot read."""

    next_fetch_offset: int

    def __init__(
        self,
        tp: TopicPartition,
        records: FetchedBatches,
        aborted: Any,  # noqa: ANN401
        asked: int,
        *others: Any,  # noqa: ANN401
    ) -> None:
        """Create as the client's PartitionRecords; ``asked``: the offset fetched from."""
        super().__init__(tp, records, aborted, asked, *others)
        records.next_offset = self._asked = asked
        self._has_ended = False
        self._batch: FetchedBatch | None = None
        self._reader: RecordReader | None = None

    def ends_at(self, high: int | None) -> None:
        """Note the log's high watermark, as the answer told it. Caller: the result of a fetch."""
        if high is not None and high >= 0:
            self._records.end = high

    def take(self, most: int) -> list[Any]:
        """Return the next records, ``most`` of them; fewer at the end of what was fetched.

        Raises DamagedBatchError if nothing came before the damage. ``next_fetch_offset`` is behind
        what was returned or passed over.
        """
        found: list[Any] = []
        while len(found) < most and not self._has_ended:
            if self._batch is None:
                self._read_plain(found, most)
                self._begin_batch()
            else:
                self._read_batch(self._batch, found, most)
        return found

    def __next__(self) -> Any:  # noqa: ANN401
        for record in self.take(1):
            return record
        raise StopIteration

    def _unpack_records(self) -> None:
        """Begin nothing: the client's generator and this would refer to each other."""

    def _read_plain(self, found: list[Any], most: int) -> None:
        """Add the records of the next batches as long as none is any special."""
        rolled_back = self._aborted_transactions or self._aborted_producers
        core = native.core()
        if core is not None and self._check_crcs and not rolled_back:
            position = self.next_fetch_offset
            self.next_fetch_offset = self._records.read_plain(core, position, found, most)

    def _begin_batch(self) -> None:
        """Go to the next batch; find its records wanted or not, or that there is none."""
        self._has_ended = True
        try:
            if not self._records.has_next():
                return
            batch = self._records.next_batch()
            is_wanted = self._is_wanted(batch)
        except MemoryError:
            raise
        except Exception as error:  # whatever the client makes of nonsense
            if self.next_fetch_offset > self._asked:
                return  # what came before is good; fetched again, this comes first
            raise DamagedBatchError(self._tp, described(error)) from error
        self._has_ended = False
        if is_wanted:
            self._batch = batch
        else:
            self.next_fetch_offset = batch.next_offset

    def _is_wanted(self, batch: FetchedBatch) -> bool:
        """Tell whether a batch has records that anybody wrote and nobody has rolled back.

        Raises CorruptDataError for a wrong checksum, and whatever the client does.
        """
        if self._check_crcs and not batch.validate_crc():
            text = "its checksum is wrong"
            raise codecs.CorruptDataError(text)
        if self._isolation_level == fetcher.READ_COMMITTED and batch.producer_id is not None:
            self._consume_aborted_up_to(batch.base_offset)
            if batch.is_control_batch and self._contains_abort_marker(batch):
                self._aborted_producers.discard(batch.producer_id)
            if batch.is_transactional and batch.producer_id in self._aborted_producers:
                return False
        return not batch.is_control_batch

    def _contains_abort_marker(self, next_batch: FetchedBatch) -> bool:
        """Tell whether a control batch ends a transaction as aborted; an empty one ends none.

        Of a compacted topic the broker's cleaner keeps a producer's last batch as a bare head.
        """
        return not next_batch.is_empty() and bool(super()._contains_abort_marker(next_batch))

    def _read_batch(self, batch: FetchedBatch, found: list[Any], most: int) -> None:
        """Add records of a batch up to ``most``, or itself where it cannot be read further."""
        try:
            if self._reader is None:
                self._reader = batch.open(self.next_fetch_offset)
            records = self._reader.take(most - len(found))
        except MemoryError:
            self._has_ended = True
            raise
        except Exception as error:  # noqa: BLE001  # as above
            first = max(batch.base_offset, self.next_fetch_offset)
            if first < batch.next_offset:
                found.append(sealed(batch, error, first))
        else:
            if records:
                found += records
                self.next_fetch_offset = records[-1].offset + 1
                return
        self._batch = self._reader = None
        self.next_fetch_offset = batch.next_offset


class EndAwareFetchResult(fetcher.FetchResult):  # type: ignore[misc]  # as above
    """The client's own, which tells its records where their log ends, and takes many at once."""

    _partition_records: SkippingPartitionRecords | None

    def __init__(
        self,
        tp: TopicPartition,
        *,
        assignment: Any,  # noqa: ANN401
        partition_records: SkippingPartitionRecords,
        backoff: float,
    ) -> None:
        """Create as the client's FetchResult is."""
        super().__init__(
            tp, assignment=assignment, partition_records=partition_records, backoff=backoff
        )
        partition_records.ends_at(assignment.state_value(tp).highwater)

    def getall(self, max_records: int | None = None) -> list[Any]:
        """Return the next records, ``max_records`` at most, and move the position behind them."""
        if not self.check_assignment(self._topic_partition):
            return []
        if (fetched := self._partition_records) is None:
            return []
        most = sys.maxsize if max_records is None else max_records
        found = fetched.take(most)
        self._update_position()
        if len(found) < most:
            self._partition_records = None
        return found
