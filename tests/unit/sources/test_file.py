"""The file source: what a line is, and where it may come from."""

import asyncio
import gzip
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

import pytest
import zstandard

from forwarder.errors import ForwarderError, StartupError
from forwarder.formats.registry import MPARTICLE
from forwarder.model import Partition
from forwarder.sources import file, file_lines
from forwarder.sources.file import PARTITION, FileSource
from forwarder.sources.file_lines import FileLine, read_line


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
    found = read_line(2, line, before_ms=7, record_time=MPARTICLE.record_time)
    assert (2, timestamp, line if value is None else value) == (
        found.offset,
        found.timestamp,
        found.value,
    )
    assert found.dated or found.timestamp == 7


def test_depth_and_length_without_end_are_left_to_the_decoder() -> None:
    for line in (
        b"[" * 100_000,
        b'{"timestamp_ms":3,"upload":' + b"[" * 100_000,
        b'{"timestamp_unixtime_ms":' + b"9" * 100_000 + b"}",
    ):
        assert read_line(2, line, before_ms=7, record_time=MPARTICLE.record_time) == FileLine(
            2, 7, line
        )


Holding = Callable[[bytes], FileSource]


@pytest.fixture
def holding(tmp_path: Path) -> Holding:
    """Return the source of a file with the given content."""

    def write(content: bytes) -> FileSource:
        path = tmp_path / "events.ndjson"
        path.write_bytes(content)
        return FileSource(str(path), MPARTICLE)

    return write


async def drained(source: FileSource, start: int = 0) -> list[tuple[int, int, bytes | None]]:
    await source.start(Nobody())
    source.resume_at(PARTITION, start)
    found: list[tuple[int, int, bytes | None]] = []
    for _ in range(10_000):
        if source.is_exhausted():
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
        await FileSource(str(tmp_path / "nothing"), MPARTICLE).start(Nobody())


@pytest.mark.parametrize("path", ["a\0b", "-"])
async def test_what_cannot_be_opened_is_said(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(StartupError, match=r"cannot be read: embedded null byte|stdin is closed"):
        await FileSource(path, MPARTICLE).start(Nobody())


async def test_a_folder_is_no_file(tmp_path: Path) -> None:
    source = FileSource(str(tmp_path), MPARTICLE)
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
    source = FileSource("-", MPARTICLE)
    await source.start(Nobody())
    source.resume_at(PARTITION, 0)
    assert await source.poll(10) == {}
    os.write(pipe.write, b'{"a":1}\n{"b"')
    assert [(0, b'{"a":1}')] == await offsets_and_values(source)
    assert not source.is_exhausted()
    assert await source.end(PARTITION) == 2
    os.write(pipe.write, b":2}\n")
    assert [(1, b'{"b":2}')] == await offsets_and_values(source)
    os.close(pipe.write)
    assert await source.poll(1000) == {}
    assert source.is_exhausted()
    await source.stop()
    assert not pipe.reading.closed


async def test_standard_input_cannot_go_back(pipe: Pipe) -> None:
    source = FileSource("-", MPARTICLE)
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
    source = FileSource("-", MPARTICLE)
    await source.start(Nobody())
    source.resume_at(PARTITION, 0)
    os.write(pipe.write, b"a\n\nb\nc")
    os.close(pipe.write)
    polled = []
    while not source.is_exhausted():
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
    assert not source.is_exhausted()
    source.resume(PARTITION)
    assert [(1, b"b")] == await offsets_and_values(source)
    source.resume_at(PARTITION, 0)
    assert [(0, b"a")] == await offsets_and_values(source)
    await source.stop()


async def test_a_quiet_pipe_holds_nothing_up(pipe: Pipe) -> None:
    source = FileSource("-", MPARTICLE)
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


# ---------------------------------------------------------------------- packed, odd, endless


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.ZstdCompressor().compress])
async def test_packed_files_are_read_by_what_they_begin_with(
    holding: Holding, pack: Callable[[bytes], bytes]
) -> None:
    source = holding(pack(b'\xef\xbb\xbf{"mpid":1}\r\n{"mpid"') + pack(b":2}"))
    assert [b'{"mpid":1}', b'{"mpid":2}'] == [value for _, _, value in await drained(source)]
    assert ("", []) == (source.fault(), source.remarks())
    await source.stop()


async def test_packed_standard_input_is_read_as_it_comes(pipe: Pipe) -> None:
    source = FileSource("-", MPARTICLE)
    await source.start(Nobody())
    source.resume_at(PARTITION, 0)
    packed = gzip.compress(b'{"mpid":1}\n' * 50_000)
    os.write(pipe.write, packed[:5])
    assert await source.poll(10) == {}
    os.write(pipe.write, packed[5:])
    found = 0
    for _ in range(60_000):
        found += len((await source.poll(10)).get(PARTITION, ()))
        if found == 50_000:
            break
    assert 50_000 == found
    os.close(pipe.write)
    assert await source.poll(1000) == {}
    assert source.is_exhausted()


async def test_of_a_file_that_was_cut_off_the_beginning_is_read(holding: Holding) -> None:
    packed = gzip.compress(b"".join(b'{"mpid":%d}\n' % n for n in range(1_000)))
    source = holding(packed[: len(packed) // 2])
    found = [value for _, _, value in await drained(source)]
    assert 100 < len(found) < 1_000
    assert b'{"mpid":0}' == found[0]
    assert "ends in the middle of its compressed data" in source.fault()
    await source.stop()


async def test_another_format_ends_it_with_its_name(holding: Holding) -> None:
    source = holding(b"PAR1\x15\x04\x15")
    with pytest.raises(ForwarderError, match=r"events\.ndjson is a Parquet file; it has to hold"):
        await drained(source)
    await source.stop()


async def test_a_first_line_that_is_no_upload_is_remarked_on(holding: Holding) -> None:
    source = holding(b"\nmpid,event\n1,2\n")
    assert 2 == len(await drained(source))
    (remark,) = source.remarks()
    assert "events.ndjson holds what looks like CSV; it has to hold one upload a line" in remark
    await source.stop()


async def test_of_a_line_without_end_a_part_is_kept(
    holding: Holding, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_lines, "MAX_LINE_BYTES", 1_000)
    monkeypatch.setattr(file, "CHUNK_BYTES", 300)
    source = holding(b'{"mpid":1}\n' + b"x" * 5_000 + b"\n" + b"y" * 1_000 + b"\n" + b"z" * 1_001)
    lines = [value for _, _, value in await drained(source)]
    assert [b'{"mpid":1}', b"x" * 1_000, b"y" * 1_000, b"z" * 1_000] == lines
    (remark,) = source.remarks()
    assert "line 2 of" in remark
    assert "as are 1 others" in remark
    await source.stop()


# ---------------------------------------------------------------------- what time it is


async def test_a_line_from_the_future_keeps_its_own_time_and_moves_no_other(
    holding: Holding,
) -> None:
    minute = 60_000
    times = [minute, 9_000_000_000 * minute, 2 * minute, 3 * minute]
    source = holding(b"".join(b'{"timestamp_unixtime_ms":%d}\n' % time for time in times))
    await source.start(Nobody())
    source.resume_at(PARTITION, 0)
    found = []
    while not source.is_exhausted():
        for records in (await source.poll(50)).values():
            found += [(record.timestamp, source.now_ms()) for record in records]
    assert list(zip(times, [minute, minute, 2 * minute, 3 * minute], strict=True)) == found
    await source.stop()


async def test_a_file_read_again_from_an_earlier_line_tells_the_same_time(
    holding: Holding,
) -> None:
    source = holding(b"".join(b'{"timestamp_unixtime_ms":%d}\n' % (n * 10**7) for n in range(50)))
    await source.start(Nobody())
    source.resume_at(PARTITION, 0)
    before = {}
    for _ in range(30):
        for records in (await source.poll(50)).values():
            before[records[0].offset] = source.now_ms()
    source.resume_at(PARTITION, 7)
    again = {}
    while not source.is_exhausted():
        for records in (await source.poll(50)).values():
            again[records[0].offset] = source.now_ms()
    assert list(range(7, 50)) == list(again)
    assert {**again, **before} == {**before, **again}
    await source.stop()
