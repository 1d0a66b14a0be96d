"""Books of what was stored: one JSON line for every put, as the oracles of loss read them."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

import msgspec

from tests.conservation import Landed, digest


class Put(NamedTuple):
    """One put as the books have it: what it stored, in order; ``at`` in wall-clock ms."""

    at: int
    worker: str
    stream: str
    fate: str
    records: list[Landed]


class _Document(msgspec.Struct):
    """What is read of a document."""

    message_id: str


_READ = msgspec.json.Decoder(_Document).decode


def puts(books: Path) -> Iterator[Put]:
    """Read the books, in the order in which puts were stored."""
    decode = msgspec.json.Decoder(tuple[int, str, str, str, list[tuple[str, bytes]]]).decode
    with books.open("rb") as lines:
        for line in lines:
            at, worker, stream, fate, records = decode(line)
            yield Put(at, worker, stream, fate, [Landed(*record) for record in records])


def landed(value: bytes) -> Landed:
    """Return what is noted of a record; what is no document of ours has no id."""
    value = value.removesuffix(b"\n")
    try:
        return Landed(_READ(value).message_id, digest(value))
    except msgspec.DecodeError:
        return Landed("", digest(value))


class Books:
    """A file to write puts into; unbuffered, so that it is complete whatever ends the process."""

    def __init__(self, file: IO[bytes]) -> None:
        """Take a file open for writing."""
        self._file = file

    def write(self, worker: str, stream: str, fate: str, values: Sequence[bytes]) -> None:
        """Note what one put stored: by whom, into what, and what became of the answer."""
        line = (time.time_ns() // 1_000_000, worker, stream, fate, [landed(v) for v in values])
        self._file.write(msgspec.json.encode(line) + b"\n")
