"""The demo as a person runs it, only shorter: what it shows, its exit code, what it leaves."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.cluster import Cluster
from tests.demo.connections import CONNECTIONS

ROOT = Path(__file__).parents[2]
SMALL = ("--devices", "100", "--events", "1500", "--seconds", "8", "--kill-after", "4")
SECONDS = 150

pytestmark = pytest.mark.usefixtures("kafka", "ministack")


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    """Return the folder that the demo takes for the system's temporary one."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    return folder


def start(temporary: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start the demo as a shell does in its background, with SIGINT ignored: the harder case."""
    demo = [sys.executable, "-u", "-m", "tests.demo", *arguments]
    return subprocess.Popen(
        ["/bin/sh", "-c", 'trap "" INT; exec "$@"', "sh", *demo],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(temporary), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    """Return everything that is still to be read; the demo ends within its time."""
    try:
        return process.communicate(timeout=SECONDS)[0]
    finally:
        process.kill()


def processes_in(folder: Path) -> Iterator[str]:
    """Yield the command lines of processes that work below ``folder``; all the demo's do."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink().is_relative_to(folder):
                yield (process / "cmdline").read_text()
        except OSError:  # it has ended, or is not ours to look at
            continue


def assert_nothing_left(temporary: Path) -> None:
    assert [] == list(temporary.iterdir())
    assert [] == list(processes_in(temporary))


def tallies(output: str) -> dict[str, list[int]]:
    """Return sent, delivered, lost, altered, extra, twice, repeated by connection."""
    rows = re.findall(r"^ *([a-z]+-[a-z]+)((?: +[\d,]+){7}) *$", output, re.MULTILINE)
    return {name: [int(n.replace(",", "")) for n in numbers.split()] for name, numbers in rows}


def assert_all_delivered(output: str) -> None:
    found = tallies(output)
    assert {shown.name for shown in CONNECTIONS} == found.keys(), output
    for sent, delivered, *faults, _ in found.values():
        assert sent > 0
        assert sent == delivered
        assert [0, 0, 0, 0] == faults
    assert "20 malformed records sent, 20 dead letters" in output


def test_a_worker_killed_in_the_middle_loses_nothing_and_everything_is_cleared_away(
    temporary: Path,
) -> None:
    process = start(temporary, *SMALL)
    output = finish(process)
    assert process.returncode == 0, output
    assert_all_delivered(output)
    assert re.search(r"worker (\d+) killed with -9.*\n.*worker (?!\1)\d+ started", output), output
    assert '"message_type": "events"' in output
    assert "drained and left: exit code 0" in output
    assert_nothing_left(temporary)


def test_without_kafka_the_same_traffic_goes_through_a_file(temporary: Path) -> None:
    process = start(temporary, *SMALL, "--without-kafka")
    output = finish(process)
    assert process.returncode == 0, output
    assert_all_delivered(output)
    assert "without Kafka the same worker reads a file" in output
    assert "killed" not in output.replace("no kill -9 this time", "")
    assert_nothing_left(temporary)


async def test_an_interrupted_demo_leaves_neither_processes_nor_topics(
    temporary: Path, kafka: str
) -> None:
    process = start(temporary, *SMALL, "--bootstrap", kafka)
    assert process.stdout is not None
    before = ""
    for line in process.stdout:
        before += line
        if "events sent; in the streams" in line:
            break
    assert list(processes_in(temporary)), before
    process.send_signal(signal.SIGTERM)
    output = finish(process)
    assert process.returncode == 130, before + output
    assert "interrupted; nothing is left behind" in output
    assert_nothing_left(temporary)
    (name,) = re.findall(r"forwarder-demo-[0-9a-f]+", before)[:1]
    async with Cluster(kafka) as cluster:
        assert not {topic for topic in await cluster.topics() if name in topic}


def test_figures_grow_out_of_pinpoints_stream_and_are_those_of_what_was_sent(
    temporary: Path,
) -> None:
    process = start(temporary, "--pinpoint", "--seconds", "8")
    output = finish(process)
    assert process.returncode == 0, output
    assert re.search(r"in the stream [\d,]+ records: \d+ daily users, \d+ sessions", output), output
    assert '"event_version": "3.1"' in output
    assert "the figures are those of an independent count" in output
    assert 2 == output.count("drained and left: exit code 0")
    assert_nothing_left(temporary)
