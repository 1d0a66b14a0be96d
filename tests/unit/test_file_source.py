"""The file source: what a line is, and where it may come from."""

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

import pytest

from forwarder.errors import ForwarderError, StartupError
from forwarder.model import Partition
from forwarder.sources import file
from forwarder.sources.file import PARTITION, FileSource, Line, read_line


class Nobody:
    """A listener that needs to know nothing."""

    async def on_revoked(self, partitions: frozenset[Partition]) -> None:
        """Accept."""

    async def on_assigned(self, partitions: frozenset[Partition]) -> None:
        """Accept."""


@pytest.mark.parametrize(
    ("line", "timestamp", "value"),
    [
        (b'{"events":[]}', 7, b'{"events":[]}'),
        (b'{"timestamp_unixtime_ms":5}', 5, b'{"timestamp_unixtime_ms":5}'),
        (b'{"timestamp_unixtime_ms":"5"}', 5, b'{"timestamp_unixtime_ms":"5"}'),
        (b'{"timestamp_unixtime_ms":"soon"}', 7, b'{"timestamp_unixtime_ms":"soon"}'),
        (b'{"timestamp_unixtime_ms":null}', 7, b'{"timestamp_unixtime_ms":null}'),
        (b'{"timestamp_ms": 3, "upload": {"a": 1.10} }', 3, b'{"a": 1.10}'),
        (b'{"upload":{"a":1},"timestamp_ms":0}', 0, b'{"a":1}'),
        (
            b'{"timestamp_ms":3,"upload":{"timestamp_unixtime_ms":4}}',
            3,
            b'{"timestamp_unixtime_ms":4}',
        ),
        (b'{"timestamp_ms":3}', 7, b'{"timestamp_ms":3}'),
        (b'{"upload":{}}', 7, b'{"upload":{}}'),
        (b'[{"a":1},{"timestamp_unixtime_ms":9}]', 9, b'[{"a":1},{"timestamp_unixtime_ms":9}]'),
        (b"[]", 7, b"[]"),
        (b' [{"timestamp_unixtime_ms":9}]', 9, b' [{"timestamp_unixtime_ms":9}]'),
        (b'[{"timestamp_unixtime_ms":"soon"},{"timestamp_unixtime_ms":9}]', 9, None),
        (b'{"timestamp_ms":"soon","timestamp_unixtime_ms":5}', 5, None),
        (b'{"timestamp_ms":3,"upload":{"a":1},"timestamp_unixtime_ms":{}}', 3, b'{"a":1}'),
        (b'{"timestamp_unixtime_ms":9223372036854775807}', 2**63 - 1, None),
        (b'{"timestamp_unixtime_ms":9223372036854775808}', 7, None),
        (b'{"timestamp_unixtime_ms":-99999999999999999999}', 7, None),
        (rb'{"timestamp_ms":3,"upload":{"cut":"\ud83d"}}', 3, rb'{"cut":"\ud83d"}'),
        (rb'{"timestamp_unixtime_ms":5,"cut":"\ud83d"}', 5, None),
        (rb'[{"timestamp_unixtime_ms":5,"cut":"\ud83d"}]', 5, None),
        (rb'{"cut":"\ud83d","broken":"' + b'\xff"}', 7, None),
        (b"not json", 7, b"not json"),
        (b"\xff\xfe", 7, b"\xff\xfe"),
    ],
)
def test_a_line_is_dated_and_keeps_its_bytes(
    line: bytes, timestamp: int, value: bytes | None
) -> None:
    assert Line(2, timestamp, line if value is None else value) == read_line(2, line, before_ms=7)


def test_depth_and_length_without_end_are_left_to_the_decoder() -> None:
    for line in (
        b"[" * 100_000,
        b'{"timestamp_ms":3,"upload":' + b"[" * 100_000,
        b'{"timestamp_unixtime_ms":' + b"9" * 100_000 + b"}",
    ):
        assert read_line(2, line, before_ms=7) == Line(2, 7, line)


Holding = Callable[[bytes], FileSource]


@pytest.fixture
def holding(tmp_path: Path) -> Holding:
    """Return the source of a file with the given content."""

    def write(content: bytes) -> FileSource:
        path = tmp_path / "events.ndjson"
        path.write_bytes(content)
        return FileSource(str(path))

    return write


async def drained(source: FileSource, start: int = 0) -> list[tuple[int, int, bytes | None]]:
    await source.start(Nobody())
    source.resume_at(PARTITION, start)
    found: list[tuple[int, int, bytes | None]] = []
    for _ in range(10_000):
        if source.exhausted():
            break
        for records in (await source.poll(50)).values():
            found += [(r.offset, r.timestamp, r.value) for r in records]
    else:
        pytest.fail("the file never came to its end")
    assert await source.poll(50) == {}
    return found


async def test_empty_lines_are_skipped_but_counted(holding: Holding) -> None:
    source = holding(b'\n{"timestamp_unixtime_ms":5}\n  \n\r\nlast')
    assert [(1, 5, b'{"timestamp_unixtime_ms":5}'), (4, 5, b"last")] == await drained(source)
    assert (source.position(PARTITION), await source.end(PARTITION)) == (5, 5)
    await source.stop()


async def test_line_ends_and_byte_order_mark_belong_to_no_upload(holding: Holding) -> None:
    source = holding(b'\xef\xbb\xbf{"a":1}\r\n{"b":2}\r\n')
    assert [b'{"a":1}', b'{"b":2}'] == [value for _, _, value in await drained(source)]
    await source.stop()


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 64, 1000])
async def test_how_a_file_is_cut_into_chunks_changes_nothing(
    holding: Holding, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file, "CHUNK_BYTES", chunk)
    lines = [b'{"timestamp_unixtime_ms":%d}' % n for n in range(20)]
    source = holding(b"\n".join(lines))
    expected = [(n, n, line) for n, line in enumerate(lines)]
    assert expected == await drained(source)
    await source.stop()


async def test_an_empty_file_is_exhausted_at_once(holding: Holding) -> None:
    source = holding(b"")
    assert await drained(source) == []
    await source.stop()


async def test_skipped_lines_still_date_the_ones_after_them(holding: Holding) -> None:
    source = holding(b'{"timestamp_unixtime_ms":5}\nundated\nundated too\n')
    assert [(2, 5, b"undated too")] == await drained(source, start=2)
    await source.stop()


async def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="No such file"):
        await FileSource(str(tmp_path / "nothing")).start(Nobody())


async def test_a_folder_is_no_file(tmp_path: Path) -> None:
    source = FileSource(str(tmp_path))
    await source.start(Nobody())
    source.resume_at(PARTITION, 0)
    with pytest.raises(ForwarderError, match="Is a directory"):
        await source.poll(50)
    await source.stop()


class Pipe:
    """Standard input as another program's output."""

    def __init__(self, reading: TextIO, write: int) -> None:
        self.reading = reading
        self.write = write


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipe]:
    read, write = os.pipe()
    with os.fdopen(read) as reading:
        monkeypatch.setattr("sys.stdin", reading)
        yield Pipe(reading, write)


async def test_standard_input_is_read_as_it_comes(pipe: Pipe) -> None:
    source = FileSource("-")
    await source.start(Nobody())
    source.resume_at(PARTITION, 0)
    assert await source.poll(10) == {}
    os.write(pipe.write, b'{"a":1}\n{"b"')
    assert [(0, b'{"a":1}')] == await offsets_and_values(source)
    assert not source.exhausted()
    assert await source.end(PARTITION) == 2
    os.write(pipe.write, b":2}\n")
    assert [(1, b'{"b":2}')] == await offsets_and_values(source)
    os.close(pipe.write)
    assert await source.poll(1000) == {}
    assert source.exhausted()
    await source.stop()
    assert not pipe.reading.closed


async def test_standard_input_cannot_go_back(pipe: Pipe) -> None:
    source = FileSource("-")
    await source.start(Nobody())
    source.resume_at(PARTITION, 0)
    os.write(pipe.write, b"1\n2\n3\n")
    assert [(0, b"1")] == await offsets_and_values(source)
    source.resume_at(PARTITION, 2)
    assert source.position(PARTITION) == 2
    assert [(2, b"3")] == await offsets_and_values(source)
    with pytest.raises(ForwarderError, match="cannot be read again"):
        source.resume_at(PARTITION, 1)
    os.close(pipe.write)


async def test_lines_come_one_a_poll_however_they_arrived(pipe: Pipe) -> None:
    source = FileSource("-")
    await source.start(Nobody())
    source.resume_at(PARTITION, 0)
    os.write(pipe.write, b"a\n\nb\nc")
    os.close(pipe.write)
    polled = []
    while not source.exhausted():
        if records := (await source.poll(1000)).get(PARTITION):
            polled.append([(record.offset, record.value) for record in records])
    assert [[(0, b"a")], [(2, b"b")], [(3, b"c")]] == polled


async def test_a_paused_source_keeps_what_it_has_read(holding: Holding) -> None:
    source = holding(b"a\nb\n")
    await source.start(Nobody())
    source.resume_at(PARTITION, 0)
    assert [(0, b"a")] == await offsets_and_values(source)
    source.pause(PARTITION)
    assert await source.poll(10) == {}
    assert not source.exhausted()
    source.resume(PARTITION)
    assert [(1, b"b")] == await offsets_and_values(source)
    source.resume_at(PARTITION, 0)
    assert [(0, b"a")] == await offsets_and_values(source)
    await source.stop()


async def test_a_quiet_pipe_holds_nothing_up(pipe: Pipe) -> None:
    source = FileSource("-")
    await source.start(Nobody())
    source.resume_at(PARTITION, 0)
    waiting = asyncio.ensure_future(source.poll(60_000))
    await asyncio.sleep(0)
    waiting.cancel()
    assert await asyncio.wait({waiting}) == ({waiting}, set())
    await source.stop()
    os.close(pipe.write)


async def offsets_and_values(source: FileSource) -> list[tuple[int, bytes | None]]:
    polled = await source.poll(5000)
    return [(record.offset, record.value) for record in polled[PARTITION]]
