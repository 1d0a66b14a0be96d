"""``forwarder run --source``: people try their settings on a file; no Kafka, no AWS."""

import base64
import json
from pathlib import Path

import pytest

from forwarder.config import loader
from tests import oracle
from tests.acceptance.harness import Site, Worker
from tests.acceptance.scene import documents
from tests.builders import START, Rec, encoded, event, upload
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
