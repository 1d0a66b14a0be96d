"""Reads uploads from a file of NDJSON, or from standard input."""

import asyncio
import os
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec

from forwarder.errors import ForwarderError, StartupError
from forwarder.model import Partition, Record
from forwarder.sources.base import Listener
from forwarder.stages import rawjson

PARTITION = Partition("file", 0)
STDIN = "-"

CHUNK_BYTES = 256 * 1024
"""How much is read at a time: some milliseconds of work for everything behind it."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


_Milliseconds = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""What a Kafka record can be dated with, and the journal can store."""


class Line(msgspec.Struct, frozen=True, gc=False):
    """One line as a record: its number from 0, its record time in ms, the upload's bytes."""

    offset: int
    timestamp: int
    value: bytes
    headers: tuple[tuple[str, bytes | None], ...] = ()


class _Content(msgspec.Struct, gc=False):
    """What dates a line: an upload's own field, or ``{"timestamp_ms": …, "upload": {…}}``."""

    timestamp_unixtime_ms: _Milliseconds | None = None
    timestamp_ms: _Milliseconds | None = None
    upload: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)


_content = msgspec.json.Decoder(_Content, strict=False)
_time = msgspec.json.Decoder(_Milliseconds | None, strict=False)


def read_line(number: int, line: bytes, before_ms: int) -> Line:
    """Return a line as a record; ``before_ms`` is the record time of the line before it.

    What is no JSON, or no upload, is passed on as it is: the decoder says so in a dead letter.
    """
    try:
        content = _content.decode(line)
    except RecursionError:
        return Line(number, before_ms, line)
    except msgspec.DecodeError:
        content = _slowly(line)
    if content.timestamp_ms is not None and (upload := bytes(content.upload)):
        return Line(number, content.timestamp_ms, upload)
    own_ms = content.timestamp_unixtime_ms
    return Line(number, before_ms if own_ms is None else own_ms, line)


def _slowly(line: bytes) -> _Content:
    """Read an array of uploads, or what msgspec refused; nothing of what cannot be read."""
    try:
        if line.lstrip()[:1] == b"[":
            times = (_tolerant(bytes(e)).timestamp_unixtime_ms for e in rawjson.elements(line))
            return _Content(next(filter(None, times), None))
        return _tolerant(line)
    except (ValueError, RecursionError):
        return _Content()


def _tolerant(value: bytes) -> _Content:
    fields = rawjson.fields(value)
    return _Content(
        _milliseconds(fields.get("timestamp_unixtime_ms")),
        _milliseconds(fields.get("timestamp_ms")),
        fields.get("upload", rawjson.ABSENT),
    )


def _milliseconds(raw: msgspec.Raw | None) -> int | None:
    """Return a time, if it is one."""
    try:
        return None if raw is None else _time.decode(raw)
    except msgspec.DecodeError:
        return None


class FileSource:
    """One partition, ``file/0``: the lines of a file in order, one a poll.

    What closes after a poll leaves in the order of the polls, and a pipe is cut anew at every
    run: with one line a poll the same input gives the same output, byte for byte. Offsets are
    line numbers from 0; empty lines are skipped but counted. A file can be read again from an
    earlier line, standard input cannot.
    """

    def __init__(self, path: str) -> None:
        """Prepare to read ``path``, or standard input for ``-``."""
        self._path = path
        self._file = -1
        self._rest = b""
        self._lines: deque[Line] = deque()
        self._number = 0
        self._from = 0
        self._last_ms = 0
        self._positioned = False
        self._flowing = asyncio.Event()
        self._ended = False

    async def start(self, listener: Listener) -> None:
        """Open the file and assign its one partition; raises StartupError."""
        try:
            self._file = (
                sys.stdin.fileno() if self._path == STDIN else os.open(self._path, os.O_RDONLY)
            )
        except OSError as error:
            text = f"{self._path} cannot be read: {error.strerror}"
            raise StartupError(text) from error
        await listener.on_assigned(frozenset({PARTITION}))

    async def poll(self, timeout_ms: int) -> Mapping[Partition, Sequence[Record]]:
        """Return the next line; raises ForwarderError if it cannot be read."""
        if not (self._lines and self._flowing.is_set()):
            try:
                async with asyncio.timeout(timeout_ms / 1000):
                    await self._flowing.wait()
                    await self._readable()
            except TimeoutError:
                return {}
        # A file is always ready, and everything else would starve.
        await asyncio.sleep(0)
        if not self._flowing.is_set():
            return {}
        if not self._lines and not self._ended:
            self._lines.extend(self._read())
        return {PARTITION: [self._lines.popleft()]} if self._lines else {}

    def resume_at(self, partition: Partition, offset: int) -> None:
        """Read on from line ``offset``; raises ForwarderError if it cannot go back."""
        if offset < (self._lines[0].offset if self._lines else self._number):
            self._rewind()
        while self._lines and self._lines[0].offset < offset:
            self._lines.popleft()
        self._from = offset
        self._positioned = True
        self.resume(partition)

    def pause(self, partition: Partition) -> None:
        """Return no more until resumed."""
        if partition == PARTITION:
            self._flowing.clear()

    def resume(self, partition: Partition) -> None:
        """Go on where ``pause`` stopped."""
        if partition == PARTITION and self._positioned:
            self._flowing.set()

    def position(self, partition: Partition) -> int | None:
        """Return the number of the next line."""
        known = partition == PARTITION and self._positioned
        ahead = self._lines[0].offset if self._lines else max(self._number, self._from)
        return ahead if known else None

    async def end(self, partition: Partition) -> int:  # noqa: ARG002  # there is one only
        """Return the number of lines once all were read, until then one more than are known."""
        return self._number + (not self._ended)

    async def owns(self, partition: Partition) -> bool:
        """Return whether it is the one there is: nobody else reads along."""
        return partition == PARTITION

    async def joined(self) -> bool:
        """Return True: there is no group."""
        return True

    def exhausted(self) -> bool:
        """Tell whether the last line was returned."""
        return self._ended and not self._lines

    async def stop(self) -> None:
        """Close the file; standard input is left to whoever opened it."""
        descriptor, self._file = self._file, -1
        self._flowing.clear()
        if descriptor >= 0 and self._path != STDIN:
            os.close(descriptor)

    async def _readable(self) -> None:
        """Wait until a pipe has something; a thread in a blocking read could not be stopped."""
        if self._ended or self._lines:
            return
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        try:
            loop.add_reader(self._file, ready.set)
        except PermissionError:
            return  # regular files and /dev/null are always ready, and cannot be waited for
        try:
            await ready.wait()
        finally:
            loop.remove_reader(self._file)

    def _read(self) -> list[Line]:
        try:
            chunk = os.read(self._file, CHUNK_BYTES)
        except OSError as error:
            text = f"{self._path} cannot be read: {error.strerror}"
            raise ForwarderError(text) from error
        self._ended = not chunk
        *lines, rest = (self._rest + chunk).split(b"\n")
        if self._ended and rest:
            lines, rest = [rest], b""
        self._rest = rest
        return self._records(lines)

    def _records(self, lines: Sequence[bytes]) -> list[Line]:
        records = []
        for number, line in enumerate(lines, self._number):
            text = (
                line.rstrip(b"\r") if number else line.removeprefix(_BYTE_ORDER_MARK).rstrip(b"\r")
            )
            if not text.strip():
                continue
            record = read_line(number, text, self._last_ms)
            self._last_ms = record.timestamp
            if number >= self._from:
                records.append(record)
        self._number += len(lines)
        return records

    def _rewind(self) -> None:
        try:
            os.lseek(self._file, 0, os.SEEK_SET)
        except OSError as error:
            text = f"{self._path} cannot be read again from an earlier line: {error.strerror}"
            raise ForwarderError(text) from error
        self._rest, self._number, self._last_ms, self._ended = b"", 0, 0, False
        self._lines.clear()
