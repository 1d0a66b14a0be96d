"""Reads uploads from a file of NDJSON, plain, gzip or zstd, or from standard input."""

import asyncio
import os
import sys
from collections import deque
from collections.abc import Collection, Mapping, Sequence

from forwarder.errors import ForwarderError, StartupError
from forwarder.formats.contract import InputFormat
from forwarder.model import LogEnds, OpenTransaction, Partition, Record
from forwarder.sources.contract import Listener
from forwarder.sources.file_lines import (
    FORMAT_HEAD_BYTES,
    MAX_LINE_BYTES,
    FileLine,
    LineCutter,
    Unpacker,
    first_line_hint,
    foreign_format,
    read_line,
)

PARTITION = Partition("file", 0)
STDIN = "-"

CHUNK_BYTES = 256 * 1024
"""How much is read at a time: some milliseconds of work for everything behind it."""

LOOKAHEAD_LINES = 8
"""How many lines after one are asked whether it is right: fewer than half may lie, too."""

MAX_LEAP_MS = 3_600_000
"""What a line may be ahead of all before it and be believed at once; a file's usual distance."""

_LATEST_MS = 100_000_000_000_000  # the year 5138; as microseconds 1973
_PER_UNIT = 1_000
_UNITS = 2  # microseconds, nanoseconds; nothing larger fits into 64 bits

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_MIB = 1 << 20


class FileSource:
    """One partition, ``file/0``: the lines of a file in order, one a poll.

    What closes after a poll leaves in the order of the polls, and a pipe is cut anew at every
    run: with one line a poll the same input gives the same output, byte for byte. Offsets are
    line numbers from 0; empty lines are skipped but counted. A file can be read again from an
    earlier line, standard input cannot.
    """

    def __init__(self, path: str, form: InputFormat) -> None:
        """Create; ``start`` opens ``path``, or standard input for ``-``; it holds this format."""
        self._path = path
        self._form = form
        self._file = -1
        self._positioned = False
        self._flowing = asyncio.Event()
        self._from = 0
        self.hint = ""
        self._reset()

    def _reset(self) -> None:
        """Return to the state before the first byte."""
        self._unpacker = Unpacker()
        self._cutter = LineCutter()
        self._time = InputTime()
        self._head = b""
        self._known = self._begun = False
        self._read_ahead: deque[FileLine] = deque()
        self._lines: deque[tuple[FileLine, int]] = deque()
        self._last_ms = 0
        self._now_ms = 0
        self._ended = False

    async def start(self, listener: Listener) -> None:
        """Open the file and assign its one partition; raises StartupError."""
        if self._path == STDIN and sys.stdin is None:
            text = "stdin is closed: name a file, or give it something to read"
            raise StartupError(text)
        try:
            self._file = (
                sys.stdin.fileno() if self._path == STDIN else os.open(self._path, os.O_RDONLY)
            )
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            text = f"{self._display_name()} cannot be read: {reason}"
            raise StartupError(text) from error
        await listener.on_assigned(frozenset({PARTITION}))

    async def poll(self, timeout_ms: int) -> Mapping[Partition, Sequence[Record]]:
        """Return the next line; raises ForwarderError if it cannot be read."""
        wanting = False
        if not (self._lines and self._flowing.is_set()):
            try:
                async with asyncio.timeout(timeout_ms / 1000):
                    await self._flowing.wait()
                    wanting = not (self._lines or self._ended or self._advance())
                    if wanting:
                        await self._readable()
            except TimeoutError:
                return {}
        # A file is always ready, and everything else would starve.
        await asyncio.sleep(0)
        if not self._flowing.is_set():
            return {}
        if wanting:
            self._unpacker.feed(self._chunk())
            self._advance()
        if not self._lines:
            return {}
        line, self._now_ms = self._lines.popleft()
        return {PARTITION: [line]}

    def now_ms(self) -> int:
        """Return what time it was in the file when the last line came (see ``InputTime``)."""
        return self._now_ms

    def fault(self) -> str:
        """Return what kept the file from being read to its end; nothing: nothing did."""
        return f"{self._display_name()} {self._unpacker.fault}" if self._unpacker.fault else ""

    def remarks(self) -> list[str]:
        """Return what people should know of the file: lines cut, a format that is another one."""
        found = [f"{self._display_name()} {self.hint}"] if self.hint else []
        if cut := self._cutter.cut:
            longest = f"{MAX_LINE_BYTES // _MIB} MiB"
            first = f"line {cut[0] + 1} of {self._display_name()} is longer than {longest}"
            others = f", as are {len(cut) - 1} others" if len(cut) > 1 else ""
            found.append(f"{first}{others}; the rest of it was left out, write one upload a line")
        return found

    def resume_at(self, partition: Partition, offset: int) -> None:
        """Read on from line ``offset``; raises ForwarderError if it cannot go back."""
        if offset < self._next():
            self._rewind()
        while self._lines and self._lines[0][0].offset < offset:
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
        return max(self._next(), self._from) if known else None

    def _next(self) -> int:
        """Return the number of the first line that was not returned."""
        if self._lines:
            return self._lines[0][0].offset
        return self._read_ahead[0].offset if self._read_ahead else self._cutter.number

    async def end(self, partition: Partition) -> int:  # noqa: ARG002  # there is one only
        """Return the number of lines once all were read, until then one more than are known."""
        return self._cutter.number + (not self._ended)

    async def ends(self, partitions: Collection[Partition]) -> Mapping[Partition, LogEnds]:
        """Return the same for both: a file has no transactions."""
        end = await self.end(PARTITION)
        return {partition: LogEnds(end, end) for partition in partitions if partition == PARTITION}

    async def committed(self, partitions: Collection[Partition]) -> Mapping[Partition, int]:  # noqa: ARG002
        """Return nothing: there is no group."""
        return {}

    async def open_transaction(self, partition: Partition) -> OpenTransaction | None:  # noqa: ARG002
        """Return None: a file has no transactions."""
        return None

    def refusal(self, partition: Partition) -> None:
        """Return None: a file that cannot be read ends the run."""

    def restart_fetching(self) -> None:
        """Do nothing: nothing is fetched ahead."""

    async def is_owner(self, partition: Partition) -> bool:
        """Tell whether it is the file's one partition, which no other worker can take."""
        return partition == PARTITION

    async def is_member(self) -> bool:
        """Return True: there is no group."""
        return True

    def unseen_input(self) -> None:
        """Return None: a file that cannot be read has ended the start."""

    def is_exhausted(self) -> bool:
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

    def _advance(self) -> bool:
        """Take apart what was read, by one piece; False: more has to be read first."""
        piece = self._unpacker.read()
        self._ended = bool(self._unpacker.fault) or (not piece and self._unpacker.fed_all)
        known = self._identify(piece)
        for number, line in self._cutter.feed(known) if known else ():
            self._add_line(number, line)
        for number, line in self._cutter.finish() if self._ended else ():
            self._add_line(number, line)
        self._release_dated()
        return bool(piece) or self._ended

    def _chunk(self) -> bytes:
        try:
            return os.read(self._file, CHUNK_BYTES)
        except OSError as error:
            text = f"{self._display_name()} cannot be read: {error.strerror}"
            raise ForwarderError(text) from error

    def _identify(self, piece: bytes) -> bytes:
        """Hold back the first bytes until they tell what this is; raises ForwarderError."""
        if self._known:
            return piece
        self._head += piece
        tells = len(self._head) >= FORMAT_HEAD_BYTES or b"\n" in self._head
        if not (tells or self._ended):
            return b""
        self._known = True
        if other := foreign_format(self._head):
            text = f"{self._display_name()} {other}"
            raise ForwarderError(text)
        head, self._head = self._head, b""
        return head.removeprefix(_BYTE_ORDER_MARK)

    def _add_line(self, number: int, line: bytes) -> None:
        text = line.rstrip(b"\r")
        if not text.strip():
            return
        if not self._begun:
            self._begun = True
            self.hint = first_line_hint(text, self._form)
        record = read_line(number, text, self._last_ms, self._form.record_time)
        self._last_ms = record.timestamp
        self._read_ahead.append(record)

    def _release_dated(self) -> None:
        """Pass on the lines of which it is known what time it is then."""
        ahead = self._read_ahead
        while ahead:
            line, following = ahead[0], list[FileLine]()
            if line.dated and not self._time.is_sure(line.timestamp):
                if not (self._ended or len(ahead) > LOOKAHEAD_LINES):
                    return
                following = [ahead[i] for i in range(1, min(len(ahead), LOOKAHEAD_LINES + 1))]
            if line.dated:
                self._time.advance(
                    line.timestamp, [each.timestamp for each in following if each.dated]
                )
            ahead.popleft()
            if line.offset >= self._from:
                self._lines.append((line, self._time.now_ms))

    def _display_name(self) -> str:
        return "standard input" if self._path == STDIN else self._path

    def _rewind(self) -> None:
        try:
            os.lseek(self._file, 0, os.SEEK_SET)
        except OSError as error:
            name = self._display_name()
            text = f"{name} cannot be read again from an earlier line: {error.strerror}"
            raise ForwarderError(text) from error
        self._reset()


class InputTime:
    """The record clock of a file: how far its lines let time advance, in milliseconds.

    Kafka's records are held against the machine's clock, and time passes by itself: whatever claims
    to be of the future is late by no more than that. A file is read long after, in no time: its own
    lines are all there is to tell the time by, and one that lies about it must not decide for the
    others. The answer follows from the lines alone, so that the same file closes the same windows
    again.
    """

    def __init__(self) -> None:
        """Create at the epoch."""
        self.now_ms = 0

    def is_sure(self, time_ms: int) -> bool:
        """Tell whether a line of this time needs no others to be believed."""
        return milliseconds(time_ms) <= self.now_ms + MAX_LEAP_MS

    def advance(self, time_ms: int, following: Sequence[int]) -> int:
        """Go to the time of the next line; return the time it is now.

        ``following``: the own times of up to ``LOOKAHEAD_LINES`` lines after it. A line far ahead
        of all before it is believed if half of these are, too, and as far as most of those are;
        equal times count once, since what lies often says the same. Where nothing follows it is
        believed.
        """
        time, limit = milliseconds(time_ms), self.now_ms + MAX_LEAP_MS
        if time > limit and (votes := set(map(milliseconds, following))):
            ahead = sorted(vote for vote in votes if vote > limit)
            if 2 * len(ahead) < len(votes):
                return self.now_ms
            most = ahead[len(ahead) // 2] - MAX_LEAP_MS
            time = min(time, next(vote for vote in ahead if vote >= most))
        self.now_ms = max(self.now_ms, time)
        return self.now_ms


def milliseconds(time: int) -> int:
    """Return a time that can only be micro- or nanoseconds as milliseconds."""
    for _ in range(_UNITS):
        if time < _LATEST_MS:
            break
        time //= _PER_UNIT
    return time
