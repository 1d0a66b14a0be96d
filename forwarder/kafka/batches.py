"""What the client makes of the batches it fetched: patched so that no batch can end a worker.

The client unpacks a whole batch at once, whatever that takes, and decodes the names of headers as
UTF-8. One batch that unpacks to a gigabyte, or one name in other bytes, would end every worker
that ever reads it, one after the other. With ``install`` a batch unpacks to ``bound`` at most; one
that would be more, or cannot be read at all, is one record: the batch as it came, ``Sealed``.

All that is used of aiokafka 0.14's private names for this is named here, and its tests fail where
one of them is another.
"""

import contextlib
import importlib
import struct
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, NamedTuple

from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException, UnsupportedCodecError
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords, _MemoryRecordsPy
from aiokafka.record.util import decode_varint

from forwarder.kafka import codecs
from forwarder.model import Reason, Sealed

LIMIT = 64 * 1024 * 1024
"""Bytes a batch may unpack to unless a configuration says otherwise: 64 times the largest batch
that brokers take by default (``max.message.bytes``, 1 MiB)."""

LONG_RECORD = 4 * 1024
"""Bytes from which on a record's headers are counted: what is shorter has few of them."""

MOST_HEADERS = 1_000_000
"""Headers that the long records of one batch may have together: each takes two bytes of the batch
at least, and 64 of memory."""

COUNTED = 4 * 1024 * 1024
"""Unpacked bytes of a batch from which on headers are counted: there is no room for many below."""

_HEAD = 12
"""Bytes before what the length of a batch counts: its base offset, and that length."""

_LENGTH = struct.Struct(">8xi")
_MAGIC = 16
"""Where a batch says in which format it is; from 2 on there are headers."""

_RECORDS = 61
"""Where the records of a batch begin, packed or not, in format 2 (KIP-98)."""

_CODECS = ("gzip", "snappy", "lz4", "zstd")
_UNREADABLE = (
    CorruptRecordException,
    UnsupportedCodecError,
    ValueError,
    IndexError,
    AssertionError,
    struct.error,
)
"""What reading a batch raises whose checksum is right: it would be raised for ever."""


class _Bound:
    """The one bound of this process."""

    limit = LIMIT


def install(limit: int = LIMIT) -> None:
    """Have every client of this process read batches so; ``limit``: unpacked bytes of one."""
    _Bound.limit = limit
    fetcher.MemoryRecords = Fetched
    fetcher.PartitionRecords = Unpacked
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
    def bounded(content: Any) -> bytes:  # noqa: ANN401  # bytes, or a view of some
        found = unpack(bytes(content), _Bound.limit)
        if headers:
            count_headers(found)
        return found

    return bounded


def count_headers(records: bytes | memoryview) -> None:
    """Raise BeyondError for more than ``MOST_HEADERS``; what is malformed is left to the client."""
    if len(records) < COUNTED:
        return
    content, at, total = bytearray(records), 0, 0
    with contextlib.suppress(IndexError, ValueError):
        while at < len(content):
            size, start = decode_varint(content, at)
            if size >= LONG_RECORD:
                total += _headers(content, start)
            if size < 0:
                break
            at = start + size
    if total > MOST_HEADERS:
        message = f"{total} headers"
        raise codecs.BeyondError(message)


def _headers(content: bytearray, start: int) -> int:
    """Return how many headers the record has whose attributes are at ``start``."""
    at = start + 1
    for _ in ("timestamp", "offset"):
        _, at = decode_varint(content, at)
    for _ in ("key", "value"):
        size, at = decode_varint(content, at)
        at += max(0, size)
    return int(decode_varint(content, at)[0])


class _Record(NamedTuple):
    """One record in the client's form."""

    offset: int
    timestamp: int
    value: Sealed
    timestamp_type: int = 0
    key: bytes | None = None
    checksum: int | None = None
    headers: tuple[()] = ()


class _Batch:
    """One batch in the client's form, which can be given as a whole where it cannot be read."""

    def __init__(self, batch: Any, content: memoryview) -> None:  # noqa: ANN401  # no types
        """Take the client's own batch, and its bytes as they came."""
        self._batch = batch
        self._content = content
        self.opened = False
        self.producer_id = batch.producer_id
        self.is_control_batch = batch.is_control_batch
        self.is_transactional = batch.is_transactional
        self.next_offset = batch.next_offset
        self.base_offset = getattr(batch, "base_offset", 0)

    def size(self) -> int:
        """Return how many bytes it has as it came."""
        return len(self._content)

    def validate_crc(self) -> bool:
        """Tell whether its bytes are those that were written."""
        return bool(self._batch.validate_crc())

    def __next__(self) -> Any:  # noqa: ANN401
        return next(self._batch)

    def __iter__(self) -> Iterator[Any]:
        self.opened = True  # its checksum was right: what is wrong from here on stays so
        if self._content[_MAGIC] > 1 and not self._batch.compression_type:
            count_headers(self._content[_RECORDS:])
        return iter(self._batch)

    def sealed(self, error: Exception, first: int) -> _Record:
        """Return the one record that stands for those from ``first`` on, at the last one's offset.

        At the last one's: whoever has read it goes on behind the batch, and one who had read some
        of them, under a larger bound, has not read this.
        """
        last = self.next_offset - 1
        name = f"a batch of offsets {first} to {last}"
        if isinstance(error, codecs.BeyondError):
            reason, much = (
                Reason.TOO_LARGE_UNPACKED,
                str(error) or f"more than {_Bound.limit} bytes",
            )
            text = f"{name} unpacks to {much} (kafka.max_unpacked_batch)"
        else:
            reason, text = Reason.UNREADABLE_BATCH, f"{name} cannot be read: {_described(error)}"
        time = getattr(self._batch, "max_timestamp", 0)
        return _Record(last, time, Sealed(bytes(self._content), reason, text, first))


def _described(error: Exception) -> str:
    """Return the kind of an error, and what it says where that quotes nothing."""
    quotes_nothing = isinstance(error, codecs.DamagedError)
    return str(error)[:200] if quotes_nothing else type(error).__name__


class Fetched:
    """The batches of one partition's fetch, in the client's fast form until that fails."""

    def __init__(self, content: bytes) -> None:
        """Take the bytes as they came."""
        self.last: _Batch | None = None
        self._content = memoryview(content)
        self._fast = MemoryRecords(content)
        self._taken = 0
        self._at = 0
        self._slow: Any = None

    def size_in_bytes(self) -> int:
        """Return how many bytes there are."""
        return int(self._fast.size_in_bytes())

    def has_next(self) -> bool:
        """Tell whether there is another batch."""
        return bool((self._slow or self._fast).has_next())

    def next_batch(self) -> _Batch:
        """Return the next batch."""
        content = self._content[self._at :]
        content = content[: _HEAD + _LENGTH.unpack_from(content)[0]]
        self._at += len(content)
        self._taken += 1
        batch = (self._slow or self._fast).next_batch()
        if self._slow is not None and content[_MAGIC] > 1:
            batch = _Tolerant(content)
        self.last = _Batch(batch, content)
        return self.last

    def again(self) -> None:
        """Give the last batch once more, in the form that reads every header."""
        self._slow = _MemoryRecordsPy(bytes(self._content))
        self._taken -= 1
        for _ in range(self._taken):
            self._slow.next_batch()
        if self.last is not None:
            self._at -= self.last.size()


class _Text(bytearray):
    """Bytes whose parts become text whatever they are."""

    def __getitem__(self, at: Any, /) -> Any:  # noqa: ANN401  # an index or a part
        found = super().__getitem__(at)
        return _Text(found) if isinstance(found, bytearray) else found

    def decode(self, encoding: str = "utf-8", errors: str = "replace") -> str:
        return super().decode(encoding, errors)


class _Tolerant(_DefaultRecordBatchPy):  # type: ignore[misc]  # the client ships no types
    """The client's own in Python, which is slower and can be told how to decode."""

    _buffer: Any

    def __iter__(self) -> "_Tolerant":
        self._maybe_uncompress()
        self._buffer = _Text(self._buffer)
        return self


class Unpacked(fetcher.PartitionRecords):  # type: ignore[misc]  # as above
    """The client's own, which goes on behind what it cannot read."""

    next_fetch_offset: int

    def _unpack_records(self) -> Iterator[Any]:
        while True:
            try:
                yield from super()._unpack_records()
            except UnicodeDecodeError:
                # What was given out before lies below its next offset, and is passed over.
                self._records.again()
            except _UNREADABLE as error:
                batch = self._records.last
                if batch is None or not batch.opened:
                    raise  # a checksum that is wrong: it is fetched again
                first = max(batch.base_offset, self.next_fetch_offset)
                self.next_fetch_offset = batch.next_offset
                if first < batch.next_offset:
                    yield self._consumer_record(self._tp, batch.sealed(error, first))
            else:
                return
