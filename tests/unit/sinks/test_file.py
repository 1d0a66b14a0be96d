import asyncio
import base64
import errno
import fcntl
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from forwarder.errors import JournalError
from forwarder.model import DELIVERED, DeadLetter, OutcomeKind, Partition, Reason
from forwarder.sinks.file import FileDeadLetters, FileSink, LineFile
from tests.services.fake_kinesis import batch

INPUT = Partition("file", 0)


class Disk:
    """Stands in for ``os.write``: a disk that takes so many bytes in all, and so many a call."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room: int, step: int = 1 << 30) -> None:
        self.room = room
        self._step = step
        self._write = os.write
        monkeypatch.setattr(os, "write", self.write)

    def write(self, file: int, content: memoryview) -> int:
        taken = min(len(content), self.room, self._step)
        if taken == 0:
            raise OSError(errno.ENOSPC, "full")
        self.room -= taken
        return self._write(file, content[:taken])


def path_of(folder: Path) -> Path:
    return folder / "acme.ndjson"


async def test_a_folder_is_made_when_it_is_missing(tmp_path: Path) -> None:
    sink = FileSink(tmp_path / "a" / "b", "acme")
    assert not (tmp_path / "a").exists()
    assert await sink.put([batch(1)]) == [DELIVERED]
    await sink.close()
    assert (tmp_path / "a" / "b" / "acme.ndjson").read_bytes() == b'{"number":1}\n'


async def test_what_is_delivered_is_in_the_file_at_once(tmp_path: Path) -> None:
    sink = FileSink(tmp_path, "acme")
    await sink.put([batch(1), batch(2)])
    assert path_of(tmp_path).read_bytes() == b'{"number":1}\n{"number":2}\n'
    await sink.close()


async def test_a_file_is_appended_to_unless_told_otherwise(tmp_path: Path) -> None:
    for number, truncate in ((1, False), (2, False), (3, True), (4, False)):
        sink = FileSink(tmp_path, "acme", truncate=truncate)
        await sink.put([batch(number)])
        await sink.close()
    assert path_of(tmp_path).read_bytes() == b'{"number":3}\n{"number":4}\n'


async def test_a_document_with_line_breaks_is_one_line_all_the_same(tmp_path: Path) -> None:
    sink = FileSink(tmp_path, "acme")
    await sink.put([batch(1, b'{\r\n "a": 1\n}'), batch(2, b"{}")])
    await sink.close()
    assert b'{   "a": 1 }\n{}\n' == path_of(tmp_path).read_bytes()


async def test_emptying_happens_once(tmp_path: Path) -> None:
    sink = FileSink(tmp_path, "acme", truncate=True)
    await sink.put([batch(1)])
    await sink.put([batch(2)])
    await sink.close()
    assert path_of(tmp_path).read_bytes() == b'{"number":1}\n{"number":2}\n'


async def test_short_writes_are_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Disk(monkeypatch, room=1000, step=5)
    sink = FileSink(tmp_path, "acme")
    assert await sink.put([batch(1), batch(2)]) == [DELIVERED] * 2
    await sink.close()
    assert path_of(tmp_path).read_bytes() == b'{"number":1}\n{"number":2}\n'


@pytest.mark.parametrize("room", [0, 1, 12, 13, 14, 25])
async def test_a_full_disk_leaves_no_part_of_a_put(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    sink = FileSink(tmp_path, "acme")
    assert await sink.put([batch(0)]) == [DELIVERED]
    disk = Disk(monkeypatch, room)
    outcomes = await sink.put([batch(1), batch(2)])
    assert [outcome.kind for outcome in outcomes] == [OutcomeKind.CONFIGURATION] * 2
    assert outcomes[0].code == "ENOSPC"
    assert "make room on the disk" in outcomes[0].error
    assert path_of(tmp_path).read_bytes() == b'{"number":0}\n'
    disk.room = 1000
    assert await sink.put([batch(1), batch(2)]) == [DELIVERED] * 2
    await sink.close()
    assert path_of(tmp_path).read_bytes() == b'{"number":0}\n{"number":1}\n{"number":2}\n'


@pytest.mark.parametrize("torn", [b'{"numb', b"{" * 200_000])
@pytest.mark.parametrize("before", [b"", b'{"number":0}\n', b"0" * 70_000 + b"\n"])
async def test_a_line_torn_by_a_kill_is_cut_off(tmp_path: Path, before: bytes, torn: bytes) -> None:
    path_of(tmp_path).write_bytes(before + torn)
    sink = FileSink(tmp_path, "acme")
    assert await sink.put([batch(1)]) == [DELIVERED]
    await sink.close()
    assert path_of(tmp_path).read_bytes() == before + b'{"number":1}\n'


async def test_lines_of_overlapping_puts_stay_whole(tmp_path: Path) -> None:
    # Both sides of the size from which a thread writes, through two descriptors.
    sinks = [FileSink(tmp_path, "acme"), FileSink(tmp_path, "acme")]
    payloads = [b"%d" % (n % 10) * (1 + n * 20_000) for n in range(30)]
    puts = [sinks[n % 2].put([batch(n, payload)]) for n, payload in enumerate(payloads)]
    assert await asyncio.gather(*puts) == [[DELIVERED]] * 30
    for sink in sinks:
        await sink.close()
    assert sorted(path_of(tmp_path).read_bytes().splitlines()) == sorted(payloads)


def test_no_other_process_writes_between_a_look_and_a_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = path_of(tmp_path)
    write, attempts = os.write, []

    def intruded(file: int, content: memoryview) -> int:
        with path.open("rb") as other:
            try:
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                attempts.append("kept out")
        return write(file, content)

    monkeypatch.setattr(os, "write", intruded)
    lines = LineFile(path)
    lines.append(b"1\n")
    with path.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    lines.close()
    assert attempts == ["kept out"]


@contextmanager
def locked(path: Path, seconds: float = 10.0) -> Iterator[threading.Event]:
    """Hold a file's lock as another process would, until told to let go, or so long at most."""
    let_go = threading.Event()
    file = os.open(path, os.O_RDWR | os.O_CREAT)
    fcntl.flock(file, fcntl.LOCK_EX)

    def hold() -> None:
        let_go.wait(seconds)
        os.close(file)

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        yield let_go
    finally:
        let_go.set()
        holder.join()


@pytest.mark.parametrize("kept", [b'{"number":0}\n', b""], ids=["appended to", "emptied"])
@pytest.mark.parametrize("payload", [b"{}", b"1" * 300_000], ids=["inline", "in a thread"])
async def test_a_lock_that_another_holds_delays_its_own_lane_alone(
    tmp_path: Path, payload: bytes, kept: bytes
) -> None:
    path = path_of(tmp_path)
    path.write_bytes(b'{"number":0}\n{"under')
    sink = FileSink(tmp_path, "acme", truncate=not kept, pauses=(0.0, 0.0))
    with locked(path):
        outcomes = await sink.put([batch(1, payload), batch(2)])
        assert [(OutcomeKind.TRANSIENT, "EAGAIN")] * 2 == [(one.kind, one.code) for one in outcomes]
        assert f"cannot write {path}: another process holds its lock" in outcomes[0].error
        assert b'{"number":0}\n{"under' == path.read_bytes(), "the other's line is under way"
    assert [DELIVERED] == await sink.put([batch(1)])
    await sink.close()
    assert kept + b'{"number":1}\n' == path.read_bytes()


async def test_a_lock_that_another_holds_for_a_moment_is_waited_for(tmp_path: Path) -> None:
    sink = FileSink(tmp_path, "acme")
    with locked(path_of(tmp_path)) as let_go:
        put = asyncio.create_task(sink.put([batch(1)]))
        await asyncio.sleep(0)
        let_go.set()
        assert [DELIVERED] == await put
    await sink.close()


async def test_dead_letters_fail_where_another_holds_the_lock_for_long(tmp_path: Path) -> None:
    path = tmp_path / "dead-letters.ndjson"
    letters = FileDeadLetters(path, pauses=(0.0, 0.0))
    letter = DeadLetter(Reason.INVALID_JSON, 0, "", "", b"")
    with locked(path), pytest.raises(JournalError, match="another process holds its lock"):
        await letters.append(INPUT, [letter])
    await letters.append(INPUT, [letter])
    letters.close()
    assert 1 == len(path.read_bytes().splitlines())


async def test_dead_letters_wait_for_a_lock_and_hold_nobody_up_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "dead-letters.ndjson"
    letters = FileDeadLetters(path)
    with locked(path) as let_go:
        written = asyncio.create_task(
            letters.append(INPUT, [DeadLetter(Reason.INVALID_JSON, 0, "", "", b"")])
        )
        await asyncio.sleep(0)
        let_go.set()
        await written
    letters.close()
    assert 1 == len(path.read_bytes().splitlines())


async def test_a_path_that_cannot_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    sink = FileSink(tmp_path / "plain", "acme")
    (outcome,) = await sink.put([batch(1, b"needle")])
    await sink.close()
    assert (outcome.kind, outcome.code) == (OutcomeKind.CONFIGURATION, "EEXIST")
    assert f"cannot write {tmp_path / 'plain' / 'acme.ndjson'}: " in outcome.error
    assert "needle" not in outcome.error


async def test_nothing_appended_is_nothing_written(tmp_path: Path) -> None:
    lines = LineFile(tmp_path / "none")
    lines.close()
    letters = FileDeadLetters(tmp_path / "none")
    await letters.append(INPUT, [])
    letters.close()
    assert not (tmp_path / "none").exists()


async def test_dead_letters_hold_what_the_header_names(tmp_path: Path) -> None:
    letters = FileDeadLetters(tmp_path / "out" / "dead-letters.ndjson")
    letter = DeadLetter(Reason.INVALID_UTF8, 7, "acme", "not UTF-8 at byte 3", b"\xff\x00")
    await letters.append(INPUT, [letter, letter])
    letters.close()
    first, second = (tmp_path / "out" / "dead-letters.ndjson").read_text().splitlines()
    assert first == second
    told = json.loads(first)
    assert base64.b64decode(told.pop("value_base64")) == b"\xff\x00"
    assert list(told.items()) == [
        ("reason", "invalid_utf8"),
        ("topic", "file"),
        ("partition", 0),
        ("offset", 7),
        ("connection", "acme"),
        ("error", "not UTF-8 at byte 3"),
    ]


async def test_a_dead_letter_that_cannot_be_written_fails_the_tick(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    letters = FileDeadLetters(tmp_path / "plain" / "dead-letters.ndjson")
    with pytest.raises(JournalError, match="cannot write"):
        await letters.append(INPUT, [DeadLetter(Reason.INVALID_JSON, 0, "", "", b"")])
    letters.close()
