"""What writes the log: a bounded queue, and a thread of its own that empties it.

Nothing that logs ever waits for whoever reads the log, or fails with it: a pipe that nobody reads,
a reader that has gone (EPIPE), a full disk (ENOSPC) or a closed descriptor cost lines, which are
counted, and nothing else. Order is kept; once lines arrive again, one of them says how many are
missing in its place.
"""

import contextlib
import errno
import io
import os
import select
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import TextIO

MAX_QUEUED_LINES = 10_000
MAX_QUEUED_BYTES = 8 * 1024 * 1024
"""What waits for the log's reader at most; a worker writes a few lines a minute."""

WRITE_BYTES = 64 * 1024
"""Bytes given to the system at a time: what a pipe of Linux holds."""

FLUSH_SECONDS = 2.0
"""How long the end of the process waits for lines still queued."""

NO_ROOM = "whoever reads the log is too slow"

Notice = Callable[[int, str], str]
"""Return the line that says how many lines are missing, and why."""


def plain_notice(lines: int, why: str) -> str:
    """Return the line of a program whose log was not configured."""
    return f"{lines} lines were dropped here: {why}\n"


class LogWriter:
    """Write texts, in order, to a stream that may fail or stand still. Callers: any thread.

    The system's descriptor is written where the stream has one: a stream that a thread is blocked
    in cannot be flushed, and Python flushes them all as it ends.
    """

    def __init__(
        self,
        out: TextIO | None,
        most_lines: int = MAX_QUEUED_LINES,
        most_bytes: int = MAX_QUEUED_BYTES,
    ) -> None:
        """Begin with an empty queue; ``None`` is a stream that was closed before the start."""
        self.dropped = 0
        self.notice: Notice = plain_notice
        self._out = out
        self._descriptor = _descriptor(out)
        self._most_lines, self._most_bytes = most_lines, most_bytes
        # An entry is a text, or how many texts are missing in its place.
        self._queue: deque[bytes | int] = deque()
        self._bytes = 0
        self._overflow = 0
        self._unsaid, self._why = 0, ""
        self._torn = False
        self._busy = False
        self._ends = False
        # Reentrant: a finalizer may run, and log, wherever an object is made.
        self._changed = threading.Condition(threading.RLock())
        self._thread: threading.Thread | None = None

    def put(self, text: str) -> None:
        """Queue a text, a line as a rule; without room for it, count it. Never waits or raises."""
        data = text.encode("utf-8", "backslashreplace")
        with self._changed:
            full = len(self._queue) >= self._most_lines or self._bytes >= self._most_bytes
            if full or self._out is None or not self._runs():
                self.dropped += 1
                self._overflow += 1
                return
            missing, self._overflow = self._overflow, 0
            if missing:
                self._queue.append(missing)
            self._queue.append(data)
            self._bytes += len(data)
            self._changed.notify_all()

    def flush(self, seconds: float = FLUSH_SECONDS) -> bool:
        """Wait until everything queued is written or dropped; tell whether it was in time."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._queue and not self._busy, seconds)

    def close(self, seconds: float = FLUSH_SECONDS) -> None:
        """Flush, and let the thread end once the queue is empty."""
        self.flush(seconds)
        with self._changed:
            self._ends = True
            self._changed.notify_all()

    def _runs(self) -> bool:
        """Start the thread with the first text; tell whether there is one to write the next."""
        if self._ends:
            return False
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="log", daemon=True)
            try:
                self._thread.start()
            except RuntimeError:  # the limit of threads, or the interpreter is ending
                self._thread = None
                return False
        return True

    # ------------------------------------------------------------------ the thread

    def _work(self) -> None:
        while True:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._queue or self._overflow or self._ends)
                if not self._queue and not self._overflow:
                    self._thread = None
                    return
                entries = self._taken()
                self._busy = True
            try:
                self._write(entries)
            except Exception as error:  # noqa: BLE001  # without this thread all lines were lost
                self._note_lost(entries, type(error).__name__)

    def _taken(self) -> list[bytes | int]:
        """Take about a chunk of entries out of the queue; how many are missing, if it is empty."""
        entries: list[bytes | int] = []
        size = 0
        while self._queue and size < WRITE_BYTES:
            entry = self._queue.popleft()
            entries.append(entry)
            size += len(entry) if isinstance(entry, bytes) else 0
        self._bytes -= size
        if not self._queue and self._overflow:
            entries.append(self._overflow)
            self._overflow = 0
        return entries

    def _write(self, entries: list[bytes | int]) -> None:
        """Write the entries; what an error keeps from being written counts as dropped."""
        texts = [self._text(entry, NO_ROOM) for entry in entries]
        if self._unsaid:
            texts.insert(0, self._text(self._unsaid, self._why))
            entries.insert(0, self._unsaid)
            self._unsaid = 0
        if self._torn:
            texts[0] = b"\n" + texts[0]
        written, error = self._pass_on(b"".join(texts))
        if error is None:
            return
        lost = []
        for entry, text in zip(entries, texts, strict=True):
            written -= len(text)
            if written < 0:
                lost.append(entry)
        self._note_lost(lost, error.strerror or type(error).__name__)

    def _note_lost(self, entries: list[bytes | int], why: str) -> None:
        """Count what was not written; what it says that is missing was counted before."""
        lines = sum(isinstance(entry, bytes) for entry in entries)
        self._unsaid += lines + sum(entry for entry in entries if isinstance(entry, int))
        self._why = why
        with self._changed:
            self.dropped += lines

    def _text(self, entry: bytes | int, why: str) -> bytes:
        if isinstance(entry, bytes):
            return entry
        return self.notice(entry, why).encode("utf-8", "backslashreplace")

    def _pass_on(self, data: bytes) -> tuple[int, OSError | None]:
        """Return how many bytes were written, and what kept the others from it."""
        done = 0
        try:
            while done < len(data):
                done += self._some(data[done : done + WRITE_BYTES])
        except OSError as error:
            self._torn = self._torn if done == 0 else not data[:done].endswith(b"\n")
            return done, error
        self._torn = False
        return done, None

    def _some(self, data: bytes) -> int:
        if self._descriptor is None:
            return _to_stream(self._out, data)
        try:
            return os.write(self._descriptor, data)
        except BlockingIOError:  # whoever started us shares the pipe and set it so
            waiting = select.poll()
            waiting.register(self._descriptor, select.POLLOUT)
            waiting.poll()
            return 0


def _descriptor(out: TextIO | None) -> int | None:
    try:
        return out.fileno() if out is not None else None
    except (OSError, ValueError):  # a stream in memory, or a closed one
        return None


def _to_stream(out: TextIO | None, data: bytes) -> int:
    if out is None:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    try:
        out.write(data.decode("utf-8"))
        out.flush()
    except ValueError as error:  # it was closed
        raise OSError(errno.EBADF, os.strerror(errno.EBADF)) from error
    return len(data)


class QueuedStream(io.TextIOBase):
    """Standard error as everybody sees it: whatever is printed goes through the log's queue.

    Lines that are not complete wait for their end, or for a flush.
    """

    def __init__(self, writer: LogWriter, original: TextIO | None) -> None:
        """Wrap ``original``, to which ``writer`` writes."""
        self.writer = writer
        self.original = original
        self.mask: Callable[[str], str] = str
        self.hooks = threading.excepthook, sys.unraisablehook
        self._begun = ""
        self._lock = threading.RLock()

    def write(self, text: str) -> int:
        """Queue every complete line."""
        with self._lock:
            complete, line_end, rest = (self._begun + text).rpartition("\n")
            self._begun = rest
        if line_end:
            self.writer.put(self.mask(complete + line_end))
        return len(text)

    def flush(self) -> None:
        """Queue what has been begun: somebody waits for an answer to it."""
        with self._lock:
            begun, self._begun = self._begun, ""
        if begun:
            self.writer.put(self.mask(begun))

    def fileno(self) -> int:
        """Return the descriptor of the stream this stands for."""
        if self.original is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return self.original.fileno()

    def isatty(self) -> bool:
        """Tell whether people look at it."""
        return self.original is not None and self.original.isatty()

    def writable(self) -> bool:
        """Tell that it can be written to."""
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]  # the base class has a plain attribute
        """Return how texts are encoded, for whoever asks before printing."""
        return "utf-8"


def install() -> None:
    """Let standard error go through a queue from now on. Caller: the command line, at its start."""
    if not isinstance(sys.stderr, QueuedStream):
        sys.stderr = QueuedStream(LogWriter(sys.stderr), sys.stderr)


def uninstall() -> None:
    """Flush, for a bounded time, and put standard error back as it was."""
    stream = sys.stderr
    if isinstance(stream, QueuedStream):
        stream.flush()
        stream.writer.close()
        sys.stderr = stream.original
        # logs.py may have set others, which write through the queue that ends here.
        threading.excepthook, sys.unraisablehook = stream.hooks


def writer_of(out: TextIO | None) -> LogWriter:
    """Return what writes to a stream: its own queue, where it has one."""
    stream: object = out
    return stream.writer if isinstance(stream, QueuedStream) else LogWriter(out)


def dropped() -> int:
    """Return how many texts were dropped since the program began. Caller: the metrics."""
    return sys.stderr.writer.dropped if isinstance(sys.stderr, QueuedStream) else 0


def flush(seconds: float = FLUSH_SECONDS) -> None:
    """Wait a bounded time for queued lines, before the process ends without cleaning up."""
    if isinstance(sys.stderr, QueuedStream):
        with contextlib.suppress(RuntimeError):  # threads that wait may be refused at the very end
            sys.stderr.writer.flush(seconds)
