"""One batch in the forms in which the client reads it: its fast one, and one that takes any name.

All that is used of aiokafka 0.14's private names for this is named here, and its tests fail where
one of them is another.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from aiokafka.record.default_records import DefaultRecordBatch, _DefaultRecordBatchPy
from aiokafka.record.legacy_records import _LegacyRecordBatchPy
from aiokafka.record.util import decode_varint_py

from forwarder.kafka import batch_layout, codecs
from forwarder.model import Reason, Sealed

HEADERS = 2
"""The format from which on there are headers, and a batch says at which offset it begins."""


class _Record(NamedTuple):
    """One record in the client's form."""

    offset: int
    timestamp: int
    value: Sealed
    timestamp_type: int = 0
    key: bytes | None = None
    checksum: int | None = None
    headers: tuple[()] = ()


class Batch:
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
        return self.has_begin and not batch_layout.count(self.content)

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
            batch_layout.check_count(batch_layout.count(self.content))
            if not self._batch.compression_type:
                batch_layout.check_records(self.content[batch_layout.RECORDS :])
        return iter(self._batch)

    def sealed(self, error: Exception, first: int, limit: int) -> _Record:
        """Return the one record that stands for those from ``first`` on, at the last one's offset.

        At the last one's: whoever has read it goes on behind the batch, and one who had read some
        of them, under a larger bound, has not read this. ``limit``: bytes it may unpack to.
        """
        last = self.next_offset - 1
        name = f"a batch of offsets {first} to {last}"
        if isinstance(error, codecs.BeyondError):
            much = str(error) or f"more than {limit} bytes (kafka.max_unpacked_batch)"
            reason, text = Reason.TOO_LARGE_UNPACKED, f"{name} unpacks to {much}"
        else:
            reason, text = Reason.UNREADABLE_BATCH, f"{name} cannot be read: {described(error)}"
        time = getattr(self._batch, "max_timestamp", 0)
        return _Record(last, time, Sealed(bytes(self.content), reason, text, first))


def _client_form(content: memoryview, magic: int, tolerated: int | None) -> Any:  # noqa: ANN401  # no types
    """Return the client's own batch: its compiled form does not look where its memory ends.

    That form has to be given a whole head, and is not given a set of the format before headers: of
    those there are few, and they have lengths inside.
    """
    if magic < HEADERS:
        return _LegacyRecordBatchPy(content, magic)
    return DefaultRecordBatch(content) if tolerated is None else _Tolerant(content, tolerated)


def described(error: Exception) -> str:
    """Return the kind of an error, and what it says where that quotes nothing."""
    quotes_nothing = isinstance(error, codecs.DamagedError)
    return str(error)[:200] if quotes_nothing else type(error).__name__


class _Text(bytearray):
    """Bytes whose parts become text whatever they are."""

    def __getitem__(self, at: Any, /) -> Any:  # noqa: ANN401  # an index or a part
        found = super().__getitem__(at)
        return _Text(found) if isinstance(found, bytearray) else found

    def decode(self, encoding: str = "utf-8", errors: str = "replace") -> str:
        return super().decode(encoding, errors)


class _Tolerant(_DefaultRecordBatchPy):  # type: ignore[misc]  # the client ships no types
    """The client's own in Python, which is slower and can be told how to decode.

    It begins at an offset: to take every record before it apart would stand still for seconds.
    """

    _buffer: Any
    _pos: int

    def __init__(self, content: memoryview, first: int) -> None:
        super().__init__(content)
        self._first = first

    def __iter__(self) -> "_Tolerant":
        self._maybe_uncompress()
        records = self._buffer[self._pos :] if self._pos else self._buffer
        at, passed = batch_layout.passed_over(records, self._first - self.base_offset)
        self._buffer = _Text(records)
        self._pos, self._next_record_index = at, passed
        return self

    def _read_msg(self, _: object = None) -> Any:  # noqa: ANN401
        """Read a record by numbers that end where the bytes do: the compiled ones go on."""
        return super()._read_msg(decode_varint_py)
