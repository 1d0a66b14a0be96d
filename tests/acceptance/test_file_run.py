"""``forwarder run --source``: people try their settings on a file; no Kafka, no AWS."""

import base64
import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from forwarder.config import loader
from tests import oracle
from tests.acceptance.harness import Site, Worker
from tests.acceptance.scene import documents
from tests.builders import START, Rec, encoded, event, upload
from tests.configurations import ROOT
from tests.expectation import LATER, identify
from tests.traffic import poison, traffic

PHONES = {
    "name": "phones",
    "match": {"platform": ["ios", "android"]},
    "sink": {"type": "kinesis", "stream_name": "s", "region": "us-east-1"},
    "settings": {"include_location_information": False, "send_screen_views": False},
}
SESSIONS = {
    "name": "sessions",
    "sink": {"type": "kinesis", "stream_name": "s", "region": "us-east-1"},
    "settings": {"wait_for_complete_batch": True, "int64_as_string": True},
}


@pytest.fixture
def source(folder: Site) -> Path:
    """Write an hour of traffic and some records that are no uploads; connect two lanes."""
    folder.connect(PHONES)
    folder.connect(SESSIONS)
    rows = [
        b'{"timestamp_ms":%d,"upload":%s}' % (one.timestamp_ms, one.value)
        for one in traffic(seed=3, devices=40, events=1_000, start_ms=START, span_ms=3_600_000)
    ]
    broken = [
        one.value for one in poison(seed=3, count=10, start_ms=START) if b"\n" not in one.value
    ]
    path = folder.folder / "events.ndjson"
    path.write_bytes(b"\n".join([*rows, *broken]) + b"\n")
    return path


def reading(folder: Site, source: str, out: str, name: str) -> Worker:
    """Return a run over a file, into a folder."""
    config = str(folder.configure("forwarder", 0))
    return folder.command(
        "run", "--config", config, "--source", source, "--sink", str(folder.folder / out), name=name
    )


def written(folder: Site, out: str) -> dict[str, bytes]:
    """Return every file of an output folder."""
    return {path.name: path.read_bytes() for path in (folder.folder / out).iterdir()}


def lines_of(path: Path) -> list[bytes]:
    """Return the lines of a file; only a line feed ends one."""
    return path.read_bytes().split(b"\n")[:-1]


async def test_the_same_input_gives_the_same_bytes_twice(folder: Site, source: Path) -> None:
    for out in ("once", "again"):
        run = reading(folder, str(source), out, out)
        run.start()
        assert await run.ended() == 0, run.tail()

    once = written(folder, "once")
    assert {"phones.ndjson", "sessions.ndjson", "dead-letters.ndjson"} == set(once)
    assert all(once.values())
    assert once == written(folder, "again")


async def test_a_second_run_into_a_folder_replaces_the_first(folder: Site, source: Path) -> None:
    for name in ("first", "second"):
        run = reading(folder, str(source), "out", name)
        run.start()
        assert await run.ended() == 0, run.tail()
        if name == "first":
            first = written(folder, "out")

    assert first == written(folder, "out")


@pytest.mark.parametrize("name", ["phones", "sessions"])
async def test_every_event_comes_out_as_the_settings_say(
    folder: Site, source: Path, name: str
) -> None:
    run = reading(folder, str(source), "out", "run")
    run.start()
    assert await run.ended() == 0, run.tail()

    connection = loader.load_connection(folder.folder / "connections" / f"{name}.yaml").connection
    records = [
        Rec(offset, json.loads(line)["timestamp_ms"], line.partition(b'"upload":')[2][:-1])
        for offset, line in enumerate(lines_of(source))
        if b'"upload"' in line
    ]
    expected = oracle.events(records, connection, LATER)
    found = [
        event
        for line in lines_of(folder.folder / "out" / f"{name}.ndjson")
        for event in oracle.exact(line)["events"]
    ]
    assert len(expected) == len(found)
    assert {identify(one): one for one in expected.values()} == {
        identify(one): one for one in found
    }


async def test_rejected_records_are_kept_with_their_bytes_and_do_not_fail_the_run(
    folder: Site, source: Path
) -> None:
    run = reading(folder, str(source), "out", "run")
    run.start()
    assert await run.ended() == 0, run.tail()

    lines = lines_of(source)
    rejected = [
        json.loads(line) for line in written(folder, "out")["dead-letters.ndjson"].splitlines()
    ]
    expected = list(poison(seed=3, count=10, start_ms=START))
    assert [one.reason for one in expected] == [one["reason"] for one in rejected]
    for one in rejected:
        assert [
            "reason",
            "topic",
            "partition",
            "offset",
            "connection",
            "error",
            "value_base64",
        ] == (list(one))
        assert ("file", 0, "") == (one["topic"], one["partition"], one["connection"])
        assert lines[one["offset"]] == base64.b64decode(one["value_base64"])


async def test_the_summary_goes_to_standard_error(folder: Site, source: Path) -> None:
    run = reading(folder, str(source), "out", "run")
    run.start()
    assert await run.ended() == 0, run.tail()

    assert run.output_file.read_bytes() == b""
    summary = run.log_file.read_text()
    assert "1,000" in summary or "1000" in summary
    assert "phones" in summary
    assert "sessions" in summary
    assert "10" in summary


async def test_a_single_connection_reads_standard_input(folder: Site) -> None:
    path = folder.connect({**PHONES, "match": {}})
    out = folder.folder / "out"
    run = folder.command("run", "--connection", str(path), "--source", "-", "--sink", str(out))
    uploads = [upload(event(n=n), timestamp_unixtime_ms=START + n) for n in (1, 2)]

    run.start(stdin=b"\n".join(map(encoded, uploads)))

    assert await run.ended() == 0, run.tail()
    (document,) = documents(out / "phones.ndjson")
    assert [1, 2] == [one["data"]["n"] for one in document["events"]]
    assert START + 2 == document["timestamp_unixtime_ms"]


async def test_without_sink_the_connections_own_sinks_are_used(folder: Site) -> None:
    own = {"type": "file", "path": "mine"}
    path = folder.connect({"name": "acme", "sink": own, "settings": {"send_as_batch": False}})
    run = folder.command("run", "--connection", str(path), "--source", "-")

    run.start(stdin=encoded(upload(event(n=1))))

    assert await run.ended() == 0, run.tail()
    (document,) = documents(path.parent / "mine" / "acme.ndjson")
    assert document["events"][0]["data"] == {"n": 1}


async def test_a_source_that_is_not_there_ends_it_with_1(folder: Site) -> None:
    folder.connect(PHONES)
    run = reading(folder, "nowhere.ndjson", "out", "run")

    run.start()

    assert await run.ended() == 1
    assert "nowhere.ndjson" in run.log_file.read_text()
    assert "Traceback" not in run.log_file.read_text()


# ---------------------------------------------------------------------- packed, cut, foreign

PACKERS: list[Callable[[bytes], bytes]] = [
    gzip.compress,
    zstandard.ZstdCompressor().compress,
]
LIMITED = (
    "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30)); "
    "runpy.run_module('forwarder', run_name='__main__')"
)


def run_over(folder: Site, source: str, out: str, stdin: bytes | None = None) -> "Ended":
    """Run one connection over a source to its end, with no more than 1 GiB of addresses."""
    path = folder.connect({**SESSIONS, "name": "all", "settings": {}})
    arguments = ["run", "--connection", str(path), "--source", source, "--sink", out]
    return subprocess.run(
        [sys.executable, "-c", LIMITED, *arguments],
        cwd=folder.folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        input=stdin,
        capture_output=True,
        check=False,
        timeout=120,
    )


Ended = subprocess.CompletedProcess[bytes]


@pytest.mark.parametrize("pack", PACKERS)
def test_packed_input_gives_the_same_bytes_from_a_file_and_from_standard_input(
    folder: Site, source: Path, pack: Callable[[bytes], bytes]
) -> None:
    content = source.read_bytes()
    half = content.index(b"\n", len(content) // 2) + 7
    packed = pack(content[:half]) + pack(content[half:])
    (folder.folder / "packed").write_bytes(packed)

    plain = run_over(folder, str(source), "plain")
    assert (0, 0, 0) == (
        plain.returncode,
        run_over(folder, "packed", "file").returncode,
        run_over(folder, "-", "pipe", stdin=packed).returncode,
    )

    assert written(folder, "plain") == written(folder, "file") == written(folder, "pipe")


@pytest.mark.parametrize("pack", PACKERS)
def test_what_was_read_of_a_file_that_was_cut_off_counts_and_the_exit_code_is_1(
    folder: Site, pack: Callable[[bytes], bytes]
) -> None:
    lines = [encoded(upload(event(n=n), timestamp_unixtime_ms=START + n)) for n in range(3_000)]
    packed = pack(b"\n".join(lines))
    (folder.folder / "cut").write_bytes(packed[: len(packed) * 3 // 4])

    run = run_over(folder, "cut", "out")

    assert 1 == run.returncode
    text = run.stderr.decode()
    assert "cut ends in the middle of its compressed data" in text
    assert "Traceback" not in text
    assert (
        0 < sum(len(one["events"]) for one in documents(folder.folder / "out/all.ndjson")) < 3_000
    )
    assert "read " in text


def test_another_format_is_named_and_ends_it_with_1(folder: Site) -> None:
    (folder.folder / "events").write_bytes('{"events":[]}\n'.encode("utf-16"))

    run = run_over(folder, "events", "out")

    assert 1 == run.returncode
    assert "events is UTF-16 text; it has to hold one upload a line as JSON" in run.stderr.decode()


def test_a_file_of_something_else_says_what_it_looks_like(folder: Site) -> None:
    (folder.folder / "events").write_bytes(b'[\n {"events": []}\n]\n')

    run = run_over(folder, "events", "out")

    assert "holds a JSON array over several lines; it has to hold" in run.stderr.decode()
    assert "jq -c '.[]'" in run.stderr.decode()


@pytest.mark.parametrize("pack", PACKERS)
def test_a_bomb_and_a_line_without_end_stop_only_themselves(
    folder: Site, pack: Callable[[bytes], bytes]
) -> None:
    good = encoded(upload(event(n=1), timestamp_unixtime_ms=START)) + b"\n"
    bomb = pack(b"{" * (64 << 20)) * 17  # a line of 1.1 GiB, more than the limit
    (folder.folder / "bomb").write_bytes(pack(good) + bomb + pack(b"\n" + good))

    run = run_over(folder, "bomb", "out")

    text = run.stderr.decode()
    assert "line 2 of bomb is longer than 32 MiB" in text
    assert "dead letters: 1 invalid_json" in text
    assert 2 == sum(len(one["events"]) for one in documents(folder.folder / "out/all.ndjson"))
    assert 0 == run.returncode
