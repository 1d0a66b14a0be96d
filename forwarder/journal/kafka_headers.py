"""Records whose header names are no UTF-8: other clients write them, ours would end over one.

A name is bytes on the wire. The client decodes it while it unpacks what it fetched; the error of
one record would end every worker that ever reads it, one after the other.
"""

from collections.abc import Iterator
from typing import Any

from aiokafka.consumer import fetcher
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords, _MemoryRecordsPy

_MAGIC = 16
"""Where a batch says in which format it is; from 2 on there are headers."""


def allow_any() -> None:
    """Have the client read header names of any bytes; what is no UTF-8 is replaced."""
    fetcher.MemoryRecords = Fetched
    fetcher.PartitionRecords = Unpacked


class _Text(bytearray):
    """Bytes whose parts become text whatever they are."""

    def __getitem__(self, at: Any, /) -> Any:  # noqa: ANN401  # an index or a part
        found = super().__getitem__(at)
        return _Text(found) if isinstance(found, bytearray) else found

    def decode(self, encoding: str = "utf-8", errors: str = "replace") -> str:
        return super().decode(encoding, errors)


class _Batch(_DefaultRecordBatchPy):  # type: ignore[misc]  # the client ships no types
    """The client's own in Python, which is slower and can be told how to decode."""

    _buffer: Any

    def __iter__(self) -> "_Batch":
        self._maybe_uncompress()
        self._buffer = _Text(self._buffer)
        return self


class Fetched:
    """The batches of one partition's fetch, in the client's fast form until that fails."""

    def __init__(self, content: bytes) -> None:
        """Take the bytes as they came."""
        self._content = content
        self._fast = MemoryRecords(content)
        self._taken = 0
        self._slow: Any = None

    def size_in_bytes(self) -> int:
        """Return how many bytes there are."""
        return int(self._fast.size_in_bytes())

    def has_next(self) -> bool:
        """Tell whether there is another batch."""
        return bool((self._slow or self._fast).has_next())

    def next_batch(self) -> Any:  # noqa: ANN401  # the client ships no types
        """Return the next batch."""
        if self._slow is None:
            self._taken += 1
            return self._fast.next_batch()
        content = self._slow._next_slice  # noqa: SLF001  # it makes the fast form of it
        batch = self._slow.next_batch()
        return _Batch(content) if content is not None and content[_MAGIC] > 1 else batch

    def again(self) -> None:
        """Give the last batch once more, in the form that reads every header."""
        self._slow = _MemoryRecordsPy(self._content)
        for _ in range(self._taken - 1):
            self._slow.next_batch()


class Unpacked(fetcher.PartitionRecords):  # type: ignore[misc]  # as above
    """The client's own, which goes on where a header name is no UTF-8."""

    def _unpack_records(self) -> Iterator[Any]:
        try:
            yield from super()._unpack_records()
        except UnicodeDecodeError:
            self._records.again()
            # What was given out before lies below its next offset, and is passed over.
            yield from super()._unpack_records()
