"""Logging decides nothing: whatever becomes of a line, whoever wrote it goes on."""

import contextlib
import errno
import io
import os
import sys
import threading
from collections.abc import Iterator

import pytest

from forwarder.ops import log_writer
from forwarder.ops.log_writer import LogWriter, QueuedStream

LONG = 20.0
"""Seconds after which something hangs; none of these takes a tenth."""


@pytest.fixture
def pipe() -> Iterator[tuple[io.FileIO, io.TextIOWrapper]]:
    """Open a pipe; its reading end may be closed by the test."""
    reads, writes = os.pipe()
    with contextlib.ExitStack() as stack:
        reader = stack.enter_context(io.FileIO(reads, "rb"))
        writer = stack.enter_context(io.TextIOWrapper(io.FileIO(writes, "wb"), write_through=True))
        yield reader, writer


class Failing(io.StringIO):
    """A stream in memory that fails while it is told to, after some bytes or at once."""

    def __init__(self) -> None:
        super().__init__()
        self.error: Exception | None = None

    def write(self, text: str) -> int:
        if self.error is not None:
            raise self.error
        return super().write(text)


def said(stream: io.StringIO) -> list[str]:
    return stream.getvalue().splitlines()


def accounted(written: bytes) -> tuple[int, int]:
    """Return how many numbered lines are there or said to be missing, and how many are missing."""
    expected, missing = 0, 0
    for line in written.decode().split("\n")[:-1]:
        if line.endswith(log_writer.NO_ROOM):
            count = int(line.split()[0])
            expected, missing = expected + count, missing + count
        else:
            assert expected == int(line), "in order, and nothing is missing without a word"
            expected += 1
    return expected, missing


def test_lines_come_out_in_the_order_they_were_put_in_by_each_thread() -> None:
    stream = io.StringIO()
    writer = LogWriter(stream)

    def put(name: str) -> None:
        for number in range(500):
            writer.put(f"{name} {number}\n")

    threads = [threading.Thread(target=put, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.close()
    for name in "abc":
        expected = [f"{name} {number}" for number in range(500)]
        assert expected == [line for line in said(stream) if line.startswith(name)]
    assert 0 == writer.dropped


def test_a_pipe_that_nobody_reads_costs_lines_and_no_time(
    pipe: tuple[io.FileIO, io.TextIOWrapper],
) -> None:
    reader, out = pipe
    writer = LogWriter(out, most_lines=100, most_bytes=2**30)
    for number in range(5_000):
        writer.put(f"{number:>1023}\n")
    assert not writer.flush(0.0)
    lost = writer.dropped
    assert 5_000 > lost > 4_000, "a pipe holds 64 KiB, the queue a hundred lines"
    written = b""
    while accounted(written) < (5_000, 0):
        written += reader.read(2**16)
    assert (5_000, lost) == accounted(written)
    writer.put("and goes on\n")
    assert reader.read(100) == b"and goes on\n"
    writer.close()


def test_bytes_are_bounded_as_lines_are(pipe: tuple[io.FileIO, io.TextIOWrapper]) -> None:
    writer = LogWriter(pipe[1], most_lines=2**30, most_bytes=2**20)
    for _ in range(100):
        writer.put("x" * 2**18 + "\n")
    assert writer.dropped >= 100 - 4 - 2


def test_how_many_are_missing_stands_where_they_are_missing() -> None:
    stream = Failing()
    writer = LogWriter(stream)
    writer.put("one\n")
    assert writer.flush(LONG)
    stream.error = OSError(errno.ENOSPC, "No space left on device")
    for number in range(3):
        writer.put(f"lost {number}\n")
        assert writer.flush(LONG)
    stream.error = None
    writer.put("two\n")
    writer.put("three\n")
    writer.close()
    missing = "3 lines were dropped here: No space left on device"
    assert ["one", missing, "two", "three"] == said(stream)
    assert 3 == writer.dropped


@pytest.mark.parametrize("number", [errno.EPIPE, errno.EIO, errno.EBADF, errno.ENOSPC])
def test_no_error_of_the_stream_reaches_whoever_logs(number: int) -> None:
    stream = Failing()
    stream.error = OSError(number, os.strerror(number))
    writer = LogWriter(stream)
    for _ in range(50):
        writer.put("line\n")
    assert writer.flush(LONG)
    assert 50 == writer.dropped


def test_a_reader_that_has_gone_costs_lines_alone(
    pipe: tuple[io.FileIO, io.TextIOWrapper],
) -> None:
    reader, out = pipe
    reader.close()
    writer = LogWriter(out)
    writer.put("line\n")
    assert writer.flush(LONG)
    assert 1 == writer.dropped


def test_a_stream_that_was_never_there_costs_lines_alone() -> None:
    writer = LogWriter(None)
    writer.put("line\n")
    assert writer.flush(0.0)
    assert 1 == writer.dropped


def test_a_closed_stream_costs_lines_alone() -> None:
    stream = io.StringIO()
    stream.close()
    writer = LogWriter(stream)
    writer.put("line\n")
    assert writer.flush(LONG)
    assert 1 == writer.dropped


def test_a_descriptor_that_would_block_is_waited_for(
    pipe: tuple[io.FileIO, io.TextIOWrapper],
) -> None:
    reader, out = pipe
    os.set_blocking(out.fileno(), False)
    writer = LogWriter(out)
    text = "x" * 2**17 + "\n"
    writer.put(text)
    read = b""
    while len(read) < len(text):
        read += reader.read(2**16)
    assert text.encode() == read
    assert 0 == writer.dropped


def test_a_line_torn_by_an_error_does_not_spoil_the_next(
    monkeypatch: pytest.MonkeyPatch, pipe: tuple[io.FileIO, io.TextIOWrapper]
) -> None:
    reader, out = pipe
    writer = LogWriter(out)
    real, room = os.write, [3]

    def tight(descriptor: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = real(descriptor, data[: room[0]])
        room[0] -= taken
        return taken

    monkeypatch.setattr(os, "write", tight)
    writer.put("first\n")
    assert writer.flush(LONG)
    room[0] = 10_000
    writer.put("second\n")
    assert writer.flush(LONG)
    lines = reader.read(1000).decode().splitlines()
    assert ["fir", "1 lines were dropped here: No space left on device", "second"] == lines


def test_whatever_a_line_does_to_the_thread_the_next_is_written() -> None:
    stream = Failing()
    writer = LogWriter(stream)
    stream.error = RuntimeError("odd")
    writer.put("lost\n")
    assert writer.flush(LONG)
    stream.error = None
    writer.put("next\n")
    writer.close()
    assert ["1 lines were dropped here: RuntimeError", "next"] == said(stream)
    assert 1 == writer.dropped


def test_what_is_printed_goes_the_same_way_as_what_is_logged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original = io.StringIO()
    monkeypatch.setattr(sys, "stderr", original)
    log_writer.install()
    stream = sys.stderr
    assert isinstance(stream, QueuedStream)
    stream.mask = lambda text: text.replace("hunter2", "****")
    sys.stderr.write("the password is hun")
    sys.stderr.write("ter2\nand a question: ")
    sys.stderr.flush()
    log_writer.uninstall()
    assert original is sys.stderr
    assert "the password is ****\nand a question: " == original.getvalue()


def test_after_the_end_lines_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    log_writer.install()
    writer = log_writer.writer_of(sys.stderr)
    sys.stderr.write("one\n")
    log_writer.uninstall()
    writer.put("too late\n")
    assert writer.flush(LONG)
    assert 1 == writer.dropped
