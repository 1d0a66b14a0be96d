"""What is made of one batch: its records, lean and many at once, or itself where it cannot be read.

The client makes an object with ten fields of every record, one at a time, in Python; that takes
longer than all else it does. Here the records of a batch are made in one go, as the native core
has them or, where there is none, as the client's compiled reader does: nothing is wrapped.
"""

import struct
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from operator import attrgetter, lt
from types import ModuleType
from typing import Any, Protocol

from aiokafka.errors import CorruptRecordException, UnsupportedCodecError
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.legacy_records import _LegacyRecordBatchPy
from aiokafka.record.util import calc_crc32c

from forwarder import native
from forwarder.kafka import batch_layout, codecs
from forwarder.kafka.record_layout import (
    Dates,
    MalformedRecordError,
    ReadRecord,
    read_records,
)
from forwarder.model import Reason, Sealed

LIMIT = 64 * 1024 * 1024
"""Bytes a batch may unpack to unless a configuration says otherwise: 64 times the largest batch
that brokers take by default (``max.message.bytes``, 1 MiB)."""

HEADERS = 2
"""The format from which on there are headers, and a batch says at which offset it begins."""

_HEAD = struct.Struct(">q8xxIhiqqq6xi")
"""Of a batch of format 2 (KIP-98): base offset, checksum, attributes, last offset's distance, time
of the first and of the newest record, producer's id, count of records."""

_CHECKED_FROM = 21
"""Where what the checksum is of begins: the attributes."""

_CODEC, _DATED_BY_BROKER, _TRANSACTIONAL, _CONTROL = 0x07, 0x08, 0x10, 0x20

_UNPACKERS: dict[int, Callable[[bytes, int], bytes]] = {
    1: codecs.gzip,
    2: codecs.snappy,
    3: codecs.lz4,
    4: codecs.zstd,
}

_AT_ONCE = 1000
"""Records that the client makes in one go at least: there may be a million to pass over."""

_OFFSET, _TIME = attrgetter("offset"), attrgetter("timestamp")


class Bound:
    """The one bound of this process, in bytes."""

    limit = LIMIT


def unpack(codec: int, content: bytes) -> bytes:
    """Unpack what a batch's codec has packed; raises whatever is wrong with it."""
    if (unpacker := _UNPACKERS.get(codec)) is None:
        raise UnsupportedCodecError
    return unpacker(content, Bound.limit)


class RecordReader(Protocol):
    """The records of one batch, given in order and once each."""

    def take(self, most: int, /) -> list[Any]:
        """Return the next records, ``most`` of them at most; none once all were returned.

        Raises where the next one cannot be read; what came before was returned then.
        """


class FetchedBatch(Protocol):
    """One batch as a fetch brought it, of any format."""

    has_begin: bool
    base_offset: int
    next_offset: int
    producer_id: int | None
    is_control_batch: bool
    is_transactional: bool
    newest_ms: int

    @property
    def content(self) -> memoryview:
        """Return the bytes as they came."""

    def is_empty(self) -> bool:
        """Tell whether it has no records: of a compacted topic they may all be gone."""

    def validate_crc(self) -> bool:
        """Tell whether its bytes are those that were written."""

    def __next__(self) -> Any:  # noqa: ANN401  # the client ships no types
        """Return the first record of a control batch, in the client's form."""

    def open(self, first: int) -> RecordReader:
        """Unpack it and begin to read at an offset; raises whatever is wrong with it.

        Caller: whoever has found that its checksum is right. What is wrong from here on stays so.
        """


class RecordBatch:
    """A batch of format 2."""

    has_begin = True

    def __init__(self, content: bytes, at: int, end: int) -> None:
        """Take the bytes as they came, ``content[at:end]``: a whole head at least."""
        (
            self.base_offset,
            self._crc,
            self._attributes,
            last,
            self._first_ms,
            self.newest_ms,
            self.producer_id,
            self._count,
        ) = _HEAD.unpack_from(content, at)
        self._whole, self._at, self._end = content, at, end
        self.next_offset = self.base_offset + last + 1
        self.is_control_batch = bool(self._attributes & _CONTROL)
        self.is_transactional = bool(self._attributes & _TRANSACTIONAL)

    @property
    def content(self) -> memoryview:
        """Return the bytes as they came."""
        return memoryview(self._whole)[self._at : self._end]

    def is_empty(self) -> bool:
        """Tell whether it has no records: of a compacted topic they may all be gone."""
        return not self._count

    def validate_crc(self) -> bool:
        """Tell whether its bytes are those that were written."""
        begin, core = self._at + _CHECKED_FROM, native.core()
        if core is None:
            return bool(calc_crc32c(memoryview(self._whole)[begin : self._end]) == self._crc)
        return bool(core.checksum(self._whole, begin, self._end) == self._crc)

    def __next__(self) -> Any:  # noqa: ANN401
        return next(DefaultRecordBatch(self.content))

    def open(self, first: int) -> RecordReader:
        """Unpack it and begin to read at an offset (``FetchedBatch``)."""
        batch_layout.check_count(self._count)
        core = native.core()
        if core is None:
            return self._open_in_python(first)
        return self._open_natively(core, first)

    def _open_natively(self, core: ModuleType, first: int) -> RecordReader:
        content, begin, end = self._records()
        batch_layout.check_records(content, begin, end)
        told = self._dates()
        return _NativeReader(
            core.RecordReader(
                content, begin, end, self._count, told.base_offset, told.time, told.alike, first
            )
        )

    def _open_in_python(self, first: int) -> RecordReader:
        if not self._attributes & _CODEC:
            batch_layout.check_records(self._whole, self._at + batch_layout.RECORDS, self._end)
        return _ClientReader(DefaultRecordBatch(self.content), first, self._read_again)

    def _read_again(self, number: int) -> Iterator[ReadRecord]:
        """Return the records by the letter, from the one of this number on."""
        content, begin, end = self._records()
        try:
            yield from read_records(content[begin:end], number, self._count, self._dates())
        except MalformedRecordError as error:
            raise CorruptRecordException(str(error)) from error

    def _records(self) -> tuple[bytes, int, int]:
        """Return where the records are, unpacked: in which bytes, from where to where."""
        content, begin, end = self._whole, self._at + batch_layout.RECORDS, self._end
        if codec := self._attributes & _CODEC:
            content, begin = unpack(codec, content[begin:end]), 0
            end = len(content)
        return content, begin, end

    def _dates(self) -> Dates:
        by_broker = bool(self._attributes & _DATED_BY_BROKER)
        return Dates(self.base_offset, self.newest_ms if by_broker else self._first_ms, by_broker)


class MessageSet:
    """A message of the formats before headers, or a packed set of them.

    The client's compiled form does not look where its memory ends: of those there are few, and
    they have lengths inside, so that it is not given any.
    """

    has_begin = False
    base_offset = 0

    def __init__(self, content: memoryview) -> None:
        """Take the bytes as they came."""
        self.content = content
        self._set = _LegacyRecordBatchPy(content, batch_layout.magic(content))
        self.producer_id = self._set.producer_id
        self.is_control_batch = self._set.is_control_batch
        self.is_transactional = self._set.is_transactional
        self.next_offset = self._set.next_offset
        self.newest_ms = getattr(self._set, "max_timestamp", 0)

    def is_empty(self) -> bool:
        """Return False: the cleaner leaves no set of them empty."""
        return False

    def validate_crc(self) -> bool:
        """Tell whether its bytes are those that were written."""
        return bool(self._set.validate_crc())

    def __next__(self) -> Any:  # noqa: ANN401
        return next(self._set)

    def open(self, first: int) -> RecordReader:
        """Unpack it and begin to read at an offset (``FetchedBatch``)."""
        batch_layout.check_message(self.content)
        return _ClientReader(self._set, first)


class _NativeReader:
    """The records as the native core makes them."""

    def __init__(self, records: RecordReader) -> None:
        self._take = records.take

    def take(self, most: int) -> list[Any]:
        """Return the next records (``RecordReader``)."""
        try:
            return self._take(most)
        except ValueError as error:
            raise CorruptRecordException(str(error)) from error


class _ClientReader:
    """The records as the client's own reader makes them, as long as nothing is wrong with any.

    It takes lengths for true, and so makes a record of what stands behind the end of a batch before
    it finds that too much; and it takes no header whose name is no UTF-8. So a record is returned
    only once what follows it, another or the end, was read as well. What it finds wrong is read
    ``again``, from the last record on that it made: by the letter, and from then on.
    """

    def __init__(
        self,
        records: Iterable[Any],
        first: int,
        again: Callable[[int], Iterator[ReadRecord]] | None = None,
    ) -> None:
        """Read what lies at ``first`` or above, and above the record before it.

        ``again`` is told by its number in the batch where to begin. Raises whatever is wrong with
        the whole: it is unpacked now.
        """
        self._records: Iterator[Any] = islice(records, None)  # the client's begins but once
        self._next = first
        self._again = again
        self._number = 0
        """Of records that were read in all."""
        self._last: list[Any] = []
        """The one that is not given out before what follows it was read."""
        self._found: list[Any] = []
        """What is wanted and was more than anybody asked for."""
        self._fault: Exception | None = None

    def take(self, most: int) -> list[Any]:
        """Return the next records (``RecordReader``)."""
        found, self._found = self._found, []
        while not found:
            if self._fault is not None:
                fault, self._fault = self._fault, None
                raise fault
            read = self._read(max(_AT_ONCE, min(most, batch_layout.MAX_RECORDS)))
            if not read and self._fault is None:
                break
            found = self._wanted(read)
        self._found = found[most:]
        return found[:most] if self._found else found

    def _read(self, most: int) -> list[Any]:
        """Return the next records, wanted or not, and note what is wrong behind them."""
        read, known = self._last, len(self._last)
        self._last = []
        try:
            read.extend(islice(self._records, most + 1 - known))
        except Exception as error:  # noqa: BLE001  # whatever the client makes of nonsense
            return self._doubted(read, self._number + len(read) - known, error)
        self._number += len(read) - known
        if len(read) > most:
            self._last = [read.pop()]
        else:
            self._records = iter(())  # the client's would begin anew
        return read

    def _doubted(self, read: list[Any], number: int, error: Exception) -> list[Any]:
        """Return what is sure of the records before a fault, of the ``number`` that were made."""
        if self._again is None:
            self._fault = error
            return read
        del read[-1:]
        self._records, self._again = self._again(max(0, number - 1)), None
        return read or self._read(_AT_ONCE)

    def _wanted(self, read: list[Any]) -> list[Any]:
        """Return those that lie where they are wanted, with a time that is a number."""
        if not read:
            return read
        offsets = list(map(_OFFSET, read))
        if offsets[0] < self._next or not all(map(lt, offsets, islice(offsets, 1, None))):
            read = [record for record in read if self._is_next(record.offset)]
        else:
            self._next = offsets[-1] + 1
        if None in map(_TIME, read):
            return [
                ReadRecord(one.offset, -1, one.key, one.value, one.headers)
                if one.timestamp is None
                else one
                for one in read
            ]
        return read

    def _is_next(self, offset: int) -> bool:
        if offset < self._next:
            return False
        self._next = offset + 1
        return True


def sealed(batch: FetchedBatch, error: Exception, first: int) -> ReadRecord:
    """Return the one record that stands for those from ``first`` on, at the last one's offset.

    At the last one's: whoever has read it goes on behind the batch, and one who had read some
    of them, under a larger bound, has not read this.
    """
    last = batch.next_offset - 1
    name = f"a batch of offsets {first} to {last}"
    if isinstance(error, codecs.UnpackedTooLargeError):
        much = str(error) or f"more than {Bound.limit} bytes (kafka.max_unpacked_batch)"
        reason, text = Reason.TOO_LARGE_UNPACKED, f"{name} unpacks to {much}"
    else:
        reason, text = Reason.UNREADABLE_BATCH, f"{name} cannot be read: {described(error)}"
    value = Sealed(bytes(batch.content), reason, text, first)
    return ReadRecord(last, batch.newest_ms, None, value)


def described(error: Exception) -> str:
    """Return the kind of an error, and what it says where that quotes nothing."""
    quotes_nothing = isinstance(error, codecs.CorruptDataError)
    return str(error)[:200] if quotes_nothing else type(error).__name__
