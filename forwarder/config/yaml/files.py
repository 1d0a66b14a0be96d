"""Read a file of the configuration: never more than its bound, and nothing that never ends.

Opening a pipe without a writer, or reading one whose writer is silent, waits for ever.
"""

import errno
import os
import select
import stat
from pathlib import Path

PIPE_SILENCE_SECONDS = 60.0
"""Seconds without a byte after which a pipe is given up: time to type a passphrase before it."""

_READ_BYTES = 65_536


class NotAFileError(OSError):
    """What stands there is a pipe, a device or a socket."""

    def __init__(self) -> None:
        super().__init__(errno.EINVAL, "not a regular file")


def read_bounded(
    path: Path, most: int, *, pipes: bool = False, silence: float = PIPE_SILENCE_SECONDS
) -> bytes:
    """Return the first ``most`` + 1 bytes of a file: one more than its bound tells that it passes.

    ``pipes``: the file was named on the command line, where ``/dev/stdin`` and
    ``<(…)`` are pipes; they are read to their end, each byte within
    ``silence`` seconds. Else raises NotAFileError for what is no regular file. Raises OSError,
    or ValueError for what is no path.
    """
    # Without O_NONBLOCK the call waits for a pipe's writer; a terminal must not become ours.
    opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        mode = os.fstat(opened).st_mode
        # Of a folder the system says itself that it is one.
        if not (pipes or stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise NotAFileError
        return _read_until(opened, most + 1, silence)
    finally:
        os.close(opened)


def _read_until(opened: int, most: int, silence: float) -> bytes:
    """Return what is read of a descriptor until its end or ``most`` bytes."""
    found = bytearray()
    while len(found) < most:
        piece = _read_some(opened, min(_READ_BYTES, most - len(found)), silence)
        if not piece:
            break
        found += piece
    return bytes(found)


def _read_some(opened: int, most: int, silence: float) -> bytes:
    """Return the next bytes, none at the end; raises TimeoutError after ``silence`` seconds."""
    try:
        return os.read(opened, most)  # first: poll() does not tell of an end long since reached
    except BlockingIOError:
        _await(opened, silence)
    return os.read(opened, most)


def _await(opened: int, seconds: float) -> None:
    waiting = select.poll()
    waiting.register(opened, select.POLLIN)
    if not waiting.poll(seconds * 1_000):
        raise TimeoutError(errno.ETIMEDOUT, f"nothing has come out of it for {seconds:g} s")
