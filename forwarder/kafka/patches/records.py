"""What is made of one batch: its records, lean and many at once, or itself where it cannot be read.

The client makes an object with ten fields of every record, one at a time, in Python; that takes
longer than all else it does. Here the records of a batch are made in one go, as the native core
has them or, where there is none, as the client's compiled reader does: nothing is wrapped.
"""

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import dropwhile, islice
from operator import attrgetter, lt
from types import ModuleType
from typing import Any, NamedTuple, Protocol

from aiokafka.errors import CorruptRecordException, UnsupportedCodecError
from aiokafka.record.default_records import DefaultRecordBatch, _DefaultRecordBatchPy
from aiokafka.record.legacy_records import _LegacyRecordBatchPy
from aiokafka.record.util import calc_crc32c, decode_varint_py

from forwarder import native
from forwarder.kafka import batch_layout, codecs
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

_OFFSET, _TIME = attrgetter("offset"), attrgetter("timestamp")


class Bound:
    """The one bound of this process, in bytes."""

    limit = LIMIT


def unpack(codec: int, content: bytes) -> bytes:
    """Unpack what a batch's codec has packed; raises whatever is wrong with it."""
    if (unpacker := _UNPACKERS.get(codec)) is None:
        raise UnsupportedCodecError
    return unpacker(content, Bound.limit)


class ReadRecord(NamedTuple):
    """One record, where neither the client nor the native core has made it as it has to be."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = ()


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
        content, begin, end = self._whole, self._at + batch_layout.RECORDS, self._end
        if codec := self._attributes & _CODEC:
            content, begin = unpack(codec, content[begin:end]), 0
            end = len(content)
        batch_layout.check_records(content, begin, end)
        by_broker = bool(self._attributes & _DATED_BY_BROKER)
        time = self.newest_ms if by_broker else self._first_ms
        return _NativeReader(
            core.RecordReader(
                content, begin, end, self._count, self.base_offset, time, by_broker, first
            )
        )

    def _open_in_python(self, first: int) -> RecordReader:
        if not self._attributes & _CODEC:
            batch_layout.check_records(self._whole, self._at + batch_layout.RECORDS, self._end)
        content = self.content
        return _ClientReader(DefaultRecordBatch(content), first, content)


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
        return _ClientReader(self._set, first, self.content)


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
    """The records as the client's own reader makes them.

    It raises where the name of a header is no UTF-8; from there on it is read in a form that takes
    every name.
    """

    def __init__(self, records: Iterable[Any], first: int, batch: memoryview) -> None:
        """Read what lies at ``first`` or above, and above the record before it.

        Raises whatever is wrong with the whole: it is unpacked now.
        """
        self._records: Iterator[Any] = dropwhile(lambda one: one.offset < first, records)
        self._next = first
        self._batch = batch
        self._is_tolerant = False
        self._fault: Exception | None = None

    def take(self, most: int) -> list[Any]:
        """Return the next records (``RecordReader``)."""
        found: list[Any] = []
        while not found:
            self._heed_fault()
            read: list[Any] = []
            try:
                read.extend(islice(self._records, most))
            except MemoryError:
                raise
            except Exception as error:  # noqa: BLE001  # whatever the client makes of nonsense
                self._fault = error
            else:
                if len(read) < most:
                    self._records = iter(())  # the client's would begin anew
            found = self._wanted(read)
            if not read and self._fault is None:
                break
        return found

    def _heed_fault(self) -> None:
        """Raise what the last call ran into, behind what it returned."""
        fault, self._fault = self._fault, None
        if isinstance(fault, UnicodeDecodeError) and not self._is_tolerant:
            self._is_tolerant = True
            self._records = islice(_TolerantBatch(self._batch, self._next), None)
        elif fault is not None:
            raise fault

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
        """Read a record by numbers that end where the bytes do: the compiled ones go on.

        Offset and time have 64 bits, as everywhere else: sums of what somebody made up go round.
        """
        read = super()._read_msg(decode_varint_py)
        offset, time = _in_64_bits(read.offset), _in_64_bits(read.timestamp)
        if (offset, time) == (read.offset, read.timestamp):
            return read
        return ReadRecord(offset, time, read.key, read.value, read.headers)


def _in_64_bits(number: int) -> int:
    return (number + (1 << 63)) % (1 << 64) - (1 << 63)


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
