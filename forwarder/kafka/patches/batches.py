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
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, NamedTuple

from aiokafka import TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatch, _DefaultRecordBatchPy
from aiokafka.record.legacy_records import _LegacyRecordBatchPy
from aiokafka.record.util import decode_varint_py

from forwarder.kafka import batch_layout, codecs
from forwarder.model import Reason, Sealed

LIMIT = 64 * 1024 * 1024
"""Bytes a batch may unpack to unless a configuration says otherwise: 64 times the largest batch
that brokers take by default (``max.message.bytes``, 1 MiB)."""

AHEAD = 1_000_000
"""Offsets that a batch may lie beyond the high watermark of the answer that brought it: the leader
notes the watermark first and reads then, and may have taken more between the two."""

_CODECS = ("gzip", "snappy", "lz4", "zstd")

HEADERS = 2
"""The format from which on there are headers, and a batch says at which offset it begins."""


class DamagedBatchError(CorruptRecordException):  # type: ignore[misc]  # the client ships no types
    """The next batch of a partition is not what was written."""

    def __init__(self, partition: TopicPartition, what: str) -> None:
        super().__init__(f"{partition.topic}/{partition.partition}: {what}")
        self.partition = partition
        self.what = what


class _Bound:
    """The one bound of this process, in bytes."""

    limit = LIMIT


def install(limit: int = LIMIT) -> None:
    """Have every client of this process read batches so; ``limit``: unpacked bytes of one."""
    _Bound.limit = limit
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
        found = unpack(bytes(content), _Bound.limit)
        check(found)
        return found

    return bounded


class _SealedRecord(NamedTuple):
    """One record in the client's form."""

    offset: int
    timestamp: int
    value: Sealed
    timestamp_type: int = 0
    key: bytes | None = None
    checksum: int | None = None
    headers: tuple[()] = ()


class RecordBatch:
    """One batch in the client's form, which can be given as a whole where it cannot be read."""

    def __init__(self, content: memoryview, tolerated: int | None = None) -> None:
        """Take the bytes as they came.

        ``tolerated``: the offset from which on it is read in the form that takes every name of a
        header; None: it is read in the client's fast form.
        """
        self.content = content
        self.opened = False
        self.tolerant = tolerated is not None
        magic = batch_layout.magic(content)
        self.has_begin = magic >= HEADERS
        self._batch = _client_form(content, magic, tolerated)
        self.producer_id = self._batch.producer_id
        self.is_control_batch = self._batch.is_control_batch
        self.is_transactional = self._batch.is_transactional
        self.next_offset = self._batch.next_offset
        self.base_offset = self._batch.base_offset if self.has_begin else 0

    def is_empty(self) -> bool:
        """Tell whether it has no records: of a compacted topic they may all be gone."""
        return self.has_begin and not batch_layout.record_count(self.content)

    def validate_crc(self) -> bool:
        """Tell whether its bytes are those that were written."""
        return bool(self._batch.validate_crc())

    def __next__(self) -> Any:  # noqa: ANN401
        return next(self._batch)

    def __iter__(self) -> Iterator[Any]:
        self.opened = True  # its checksum was right: what is wrong from here on stays so
        if not self.has_begin:
            batch_layout.check_message(self.content)
        else:
            batch_layout.check_count(batch_layout.record_count(self.content))
            if not self._batch.compression_type:
                batch_layout.check_records(self.content[batch_layout.RECORDS :])
        return iter(self._batch)

    def sealed(self, error: Exception, first: int, limit: int) -> _SealedRecord:
        """Return the one record that stands for those from ``first`` on, at the last one's offset.

        At the last one's: whoever has read it goes on behind the batch, and one who had read some
        of them, under a larger bound, has not read this. ``limit``: bytes it may unpack to.
        """
        last = self.next_offset - 1
        name = f"a batch of offsets {first} to {last}"
        if isinstance(error, codecs.UnpackedTooLargeError):
            much = str(error) or f"more than {limit} bytes (kafka.max_unpacked_batch)"
            reason, text = Reason.TOO_LARGE_UNPACKED, f"{name} unpacks to {much}"
        else:
            reason, text = Reason.UNREADABLE_BATCH, f"{name} cannot be read: {described(error)}"
        time = getattr(self._batch, "max_timestamp", 0)
        return _SealedRecord(last, time, Sealed(bytes(self.content), reason, text, first))


def _client_form(content: memoryview, magic: int, tolerated: int | None) -> Any:  # noqa: ANN401  # no types
    """Return the client's own batch: its compiled form does not look where its memory ends.

    That form has to be given a whole head, and is not given a set of the format before headers: of
    those there are few, and they have lengths inside.
    """
    if magic < HEADERS:
        return _LegacyRecordBatchPy(content, magic)
    return DefaultRecordBatch(content) if tolerated is None else _TolerantBatch(content, tolerated)


def described(error: Exception) -> str:
    """Return the kind of an error, and what it says where that quotes nothing."""
    quotes_nothing = isinstance(error, codecs.CorruptDataError)
    return str(error)[:200] if quotes_nothing else type(error).__name__


class _LenientBytes(bytearray):
    """Bytes whose parts become text whatever they are."""

    def __getitem__(self, at: Any, /) -> Any:  # noqa: ANN401  # an index or a part
        found = super().__getitem__(at)
        return _LenientBytes(found) if isinstance(found, bytearray) else found

    def decode(self, encoding: str = "utf-8", errors: str = "replace") -> str:
        return super().decode(encoding, errors)


class _TolerantBatch(_DefaultRecordBatchPy):  # type: ignore[misc]  # the client ships no types
    """The client's own in Python, which is slower and can be told how to decode.

    It begins at an offset: to take every record before it apart would stand still for seconds.
    """

    _buffer: Any
    _pos: int

    def __init__(self, content: memoryview, first: int) -> None:
        super().__init__(content)
        self._first = first

    def __iter__(self) -> "_TolerantBatch":
        self._maybe_uncompress()
        records = self._buffer[self._pos :] if self._pos else self._buffer
        at, passed = batch_layout.first_from(records, self._first - self.base_offset)
        self._buffer = _LenientBytes(records)
        self._pos, self._next_record_index = at, passed
        return self

    def _read_msg(self, _: object = None) -> Any:  # noqa: ANN401
        """Read a record by numbers that end where the bytes do: the compiled ones go on."""
        return super()._read_msg(decode_varint_py)


class FetchedBatches:
    """The batches of one partition's fetch, in order."""

    def __init__(self, content: bytes | None) -> None:
        """Take the bytes as they came; brokers may send none at all for none."""
        self.last: RecordBatch | None = None
        self.next_offset = 0
        self.end: int | None = None
        self._content = memoryview(content or b"")
        self._at = 0
        self._again: RecordBatch | None = None

    def size_in_bytes(self) -> int:
        """Return how many bytes there are."""
        return len(self._content)

    def has_next(self) -> bool:
        """Tell whether there is another batch, good or not.

        The last one may be cut off where the fetch is full. The first one never is (KIP-74): the
        client would take it for one too large, and pass over the offset before anybody polls.
        """
        if self._again is not None:
            return True
        if self._at == 0:
            return len(self._content) > 0
        return batch_layout.is_complete(self._content, self._at)

    def next_batch(self) -> RecordBatch:
        """Return the next batch; raises CorruptDataError, and whatever the client does."""
        self.last = None
        if self._again is not None:
            self.last, self._again = self._again, None
            return self.last
        end = batch_layout.batch_end(self._content, self._at)
        batch = RecordBatch(self._content[self._at : end])
        self._check_place(batch, batch_layout.next_base_offset(self._content, end))
        self._at = end
        self.next_offset = batch.next_offset
        self.last = batch
        return batch

    def again(self, first: int) -> bool:
        """Give the last batch once more, from an offset on, so that no name of a header fails.

        False if it was given so already.
        """
        if self.last is None or self.last.tolerant:
            return False
        self._again = RecordBatch(self.last.content, first)
        return True

    def _check_place(self, batch: RecordBatch, following: int | None) -> None:
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


class SkippingPartitionRecords(fetcher.PartitionRecords):  # type: ignore[misc]  # as above
    """The client's own, which goes on behind what it cannot read."""

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

    def ends_at(self, high: int | None) -> None:
        """Note the log's high watermark, as the answer told it. Caller: the result of a fetch."""
        if high is not None and high >= 0:
            self._records.end = high

    def _contains_abort_marker(self, next_batch: Any) -> bool:  # noqa: ANN401
        """Tell whether a control batch ends a transaction as aborted; an empty one ends none.

        Of a compacted topic the broker's cleaner keeps a producer's last batch as a bare head.
        """
        return not next_batch.is_empty() and bool(super()._contains_abort_marker(next_batch))

    def _unpack_records(self) -> Iterator[Any]:
        """Yield what can be read; every turn of this is another batch, or one in its last form."""
        while True:
            try:
                yield from super()._unpack_records()
            except MemoryError:
                raise
            except Exception as error:  # whatever the client makes of nonsense
                batch = self._records.last
                if batch is None or not batch.opened:
                    if self.next_fetch_offset > self._asked:
                        return  # what came before is good; fetched again, this comes first
                    raise DamagedBatchError(self._tp, _damage(error)) from error
                if isinstance(error, UnicodeDecodeError) and self._records.again(
                    self.next_fetch_offset
                ):
                    continue
                first = max(batch.base_offset, self.next_fetch_offset)
                self.next_fetch_offset = batch.next_offset
                if first < batch.next_offset:
                    yield self._consumer_record(self._tp, batch.sealed(error, first, _Bound.limit))
            else:
                return


def _damage(error: Exception) -> str:
    """Return what is wrong with a batch that is not what was written."""
    return "its checksum is wrong" if "Invalid CRC" in str(error) else described(error)


class EndAwareFetchResult(fetcher.FetchResult):  # type: ignore[misc]  # as above
    """The client's own, which tells its records where their log ends."""

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
