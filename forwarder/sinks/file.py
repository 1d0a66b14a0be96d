"""Append batches and dead letters to NDJSON files; several processes may share one."""

import asyncio
import contextlib
import errno
import fcntl
import os
import threading
from collections.abc import Sequence
from pathlib import Path

import orjson
import pybase64

from forwarder.errors import JournalError
from forwarder.model import DELIVERED, Batch, DeadLetter, Outcome, OutcomeKind, Partition
from forwarder.sinks.contract import Throughput
from forwarder.sinks.requests import without_line_breaks

INLINE_BYTES = 256 * 1024
"""More than this is written by a thread: 0.1 ms of copying is what the event loop can spare."""
TAIL_CHUNK_BYTES = 64 * 1024
"""Bytes looked at in one step for the end of the last whole line."""
LOCK_RETRY_SECONDS = tuple(0.01 * 2**n for n in range(7))
"""Pauses between tries to get a file's lock, 1.3 s in all: a process that is well has it for some
milliseconds, and one that stands still for as long as it likes."""
LAST_RESORT = "check the path, its permissions and the space left"
ERRNO_REMEDIES = {
    errno.EACCES: "let this user write there",
    errno.EDQUOT: "raise the quota or make room",
    errno.ENOSPC: "make room on the disk",
    errno.EROFS: "choose a folder that can be written to",
}


class LineFile:
    """An append-only file of lines, each there as a whole or not at all.

    Written without a buffer: what was appended survives the process, though not the machine.
    Looking at the end, emptying and writing are done under a lock of the file, so that no process
    that shares it takes another's line under way for one that was torn.
    """

    def __init__(self, path: Path, *, truncate: bool = False) -> None:
        """Prepare; the first append makes the folder and the file, so that this cannot fail."""
        self._path = path
        self._truncate = truncate
        self._file: int | None = None
        self._lock = threading.Lock()

    def append(self, lines: bytes) -> None:
        """Write whole lines in one piece; raises OSError, and then none of them is there.

        BlockingIOError: somebody else is writing, here or in another process; never waits for it.
        """
        if not self._lock.acquire(blocking=False):
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        try:
            if (file := self._file) is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
                file = self._file = os.open(self._path, flags, 0o644)
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            try:
                self._append(file, lines)
            finally:
                fcntl.flock(file, fcntl.LOCK_UN)
        finally:
            self._lock.release()

    async def write(self, lines: bytes, pauses: Sequence[float]) -> None:
        """Append without holding up the event loop; raises as :meth:`append` does.

        ``pauses``: seconds to wait for a lock that somebody else has, one try after each.
        """
        for pause in (*pauses, None):
            try:
                if len(lines) <= INLINE_BYTES:
                    self.append(lines)
                else:
                    await asyncio.to_thread(self.append, lines)
            except BlockingIOError:
                if pause is None:
                    raise
                await asyncio.sleep(pause)
            else:
                return

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            file, self._file = self._file, None
            if file is not None:
                os.close(file)

    def _append(self, file: int, lines: bytes) -> None:
        if self._truncate:
            os.ftruncate(file, 0)
            self._truncate = False
        end = cut_torn_line(file)
        rest = memoryview(lines)
        try:
            # A short write is no error by itself; the next one tells why, or finishes.
            while rest:
                rest = rest[os.write(file, rest) :]
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(file, end)
            raise


def cut_torn_line(file: int) -> int:
    """Cut off a last line without its end, left by a process killed in its write; return the size.

    Nobody was told that such a line is stored.
    """
    size = os.lseek(file, 0, os.SEEK_END)
    if size == 0 or os.pread(file, 1, size - 1) == b"\n":
        return size
    end = size
    while end > 0:
        start = max(0, end - TAIL_CHUNK_BYTES)
        found = os.pread(file, end - start, start).rfind(b"\n")
        if found >= 0:
            end = start + found + 1
            break
        end = start
    os.ftruncate(file, end)
    return end


class FileSink:
    """One connection's batches in ``<folder>/<name>.ndjson``, one a line."""

    max_batches = 1000
    max_bytes = 4 * 1024 * 1024
    throughput = Throughput(1_000, 1_000_000)  # never throttled
    in_order = True  # the same input gives the same file, however puts and ticks fall

    def __init__(
        self,
        folder: Path,
        name: str,
        *,
        truncate: bool = False,
        pauses: Sequence[float] = LOCK_RETRY_SECONDS,
    ) -> None:
        """Prepare; the first put makes folder and file (``truncate``: and empties the file).

        ``pauses``: seconds between tries to get the file's lock.
        """
        self._pauses = pauses
        self._path = folder / f"{name}.ndjson"
        self._lines = LineFile(self._path, truncate=truncate)
        self._lock = asyncio.Lock()

    async def put(self, batches: Sequence[Batch]) -> Sequence[Outcome]:
        """Append the batches; all of them are there, or none. Waits a moment for others' writes."""
        if not batches:
            return []
        lines = b"\n".join([*[without_line_breaks(batch.payload) for batch in batches], b""])
        outcome = DELIVERED
        async with self._lock:
            try:
                await self._lines.write(lines, self._pauses)
            except BlockingIOError:
                text = lock_complaint(self._path)
                outcome = Outcome(OutcomeKind.TRANSIENT, "EAGAIN", text)
            except OSError as error:
                outcome = unwritable_outcome(self._path, error)
        return [outcome] * len(batches)

    async def close(self) -> None:
        """Close the file, in a thread: one of a put that was cancelled may be writing still."""
        await asyncio.to_thread(self._lines.close)


def lock_complaint(path: Path) -> str:
    """Say that another process holds the lock of a file."""
    return f"cannot write {path}: another process holds its lock; end it if it stands still"


def unwritable_outcome(path: Path, error: OSError) -> Outcome:
    """Return the outcome for a file that cannot be written until somebody acts, with the remedy."""
    number = error.errno or 0
    remedy = ERRNO_REMEDIES.get(number, LAST_RESORT)
    text = f"cannot write {path}: {os.strerror(number)}; {remedy}"
    return Outcome(OutcomeKind.CONFIGURATION, errno.errorcode.get(number, "Other"), text)


class FileDeadLetters:
    """Dead letters of a run without Kafka, one JSON object a line."""

    def __init__(
        self,
        path: Path,
        *,
        truncate: bool = False,
        pauses: Sequence[float] = LOCK_RETRY_SECONDS,
    ) -> None:
        """Prepare; the first dead letter makes the file.

        ``pauses``: seconds between tries to get the file's lock.
        """
        self._path = path
        self._pauses = pauses
        self._lines = LineFile(path, truncate=truncate)

    async def append(self, partition: Partition, dead_letters: Sequence[DeadLetter]) -> None:
        """Write dead letters of a partition, all or none; raises JournalError.

        Caller: a commit of the journal in memory, one at a time for each partition.
        """
        if not dead_letters:
            return
        lines = b"".join(dead_letter_line(partition, one) for one in dead_letters)
        try:
            await self._lines.write(lines, self._pauses)
        except BlockingIOError as error:
            raise JournalError(lock_complaint(self._path)) from error
        except OSError as error:
            raise JournalError(unwritable_outcome(self._path, error).error) from error

    def close(self) -> None:
        """Close the file."""
        self._lines.close()


def dead_letter_line(partition: Partition, letter: DeadLetter) -> bytes:
    """Return a dead letter as a line of JSON; its bytes may be anything, so they are base64."""
    told = orjson.dumps(
        {
            "reason": letter.reason,
            "topic": partition.topic,
            "partition": partition.number,
            "offset": letter.offset,
            "connection": letter.connection,
            "error": letter.error,
        },
    )
    # Base64 needs no escaping; the encoder would reserve eight times its length all the same.
    return b'%b,"value_base64":"%b"}\n' % (told[:-1], pybase64.b64encode(letter.value))
