"""``python -m tests.bench.instructions``: how many instructions the pipeline takes.

Every part runs the pure pipeline over the same records under callgrind, once with the native core
and once without it. A count is compared with the one recorded for this very Python in
``instructions.json``; on another there is nothing to compare with. ``--record`` writes it anew.
"""

import argparse
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from forwarder import native
from forwarder.collect.pipeline import Pipeline, compile_lanes
from forwarder.config import loader
from forwarder.config.connection import Connection, Settings
from forwarder.config.targets import KinesisTarget
from forwarder.formats.registry import BUILT_IN
from forwarder.model import Partition
from forwarder.worker import memory
from tests.bench.loads import LOADS, Load
from tests.builders import NOW, START, Rec, finished
from tests.corpus import entries

RECORDED = Path(__file__).parent / "instructions.json"
TOLERANCE = 0.05
POLL = 250
RUN_SECONDS = 600
MARK = "getsid"
"""A function that nobody else calls: callgrind writes down at each call what it counted since
the one before."""

Part = Callable[[], None]


def one_connection(*, single: bool = False) -> list[Connection]:
    """Return a connection that wants everything."""
    target = KinesisTarget("acme", "us-east-1")
    return [Connection("acme", target, settings=Settings(send_as_batch=not single))]


def over(load: Load, connections: list[Connection], count: int) -> Part:
    """Return the part that takes so many records of a load through the pipeline."""
    rows = islice(load.rows(1), count)
    records = [Rec(n, START + ms, value) for n, (_, value, ms) in enumerate(rows)]
    return through(records, connections, load.input)


def through(records: list[Rec], connections: list[Connection], form: str = "mparticle") -> Part:
    """Return the part that takes records through a pipeline, poll by poll, and closes all."""

    def run() -> None:
        pipeline = Pipeline(Partition("raw", 0), compile_lanes(connections, form, BUILT_IN))
        for start in range(0, len(records), POLL):
            pipeline.collect(records[start : start + POLL], NOW)
        for _ in finished(pipeline):
            pass

    return run


def corpus() -> Part:
    """Return the part that takes every entry of the corpus through its own connection."""
    parts = []
    for entry in entries():
        connection = loader.load_connection(entry / "connection.yaml", offline=True).connection
        (source,) = entry.glob("input.ndjson")
        lines = source.read_bytes().splitlines()
        records = [Rec(n, START + n, line) for n, line in enumerate(lines)]
        parts.append(through(records, [connection]))

    def run() -> None:
        for part in parts:
            part()

    return run


def parts() -> Iterator[tuple[str, Part]]:
    """Yield every part."""
    batches, single = one_connection(), one_connection(single=True)
    yield "uploads of 1 event", over(few("1-event"), batches, 1_000)
    yield "uploads of 5 events", over(few("5-events"), batches, 200)
    yield "1.0 events a document", over(LOADS["60k-1.0"], batches, 500)
    yield "every event a document", over(LOADS["individual"], single, 500)
    yield "records of Pinpoint", over(few("pinpoint"), batches, 500)
    yield "the corpus", corpus()


def few(name: str) -> Load:
    """Return a load of few devices, so that each has as much in a window as most have."""
    return LOADS[name]._replace(devices=30)


def count() -> None:
    """Run every part between two marks; callgrind is around this process."""
    memory.tune_gc()
    for _, part in list(parts()):
        part()  # what is compiled and remembered is there then
        os.getsid(0)
        part()
        os.getsid(0)


def counted(*, pure: bool) -> dict[str, int]:
    """Return the instructions of each part, counted in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="instructions-") as folder:
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out"]
        command += [f"--dump-before={MARK}"]
        command += [sys.executable, "-m", "tests.bench.instructions", "--count"]
        own = {"PYTHONHASHSEED": "0", native.VARIABLE: "0" if pure else "1"}
        answer = subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS,
            env={**os.environ, **own},
        )
        if answer.returncode:
            raise SystemExit(answer.stderr)
        found = [
            (
                int(file.suffix[1:]),
                int(re.findall(r"^summary: (\d+)", file.read_text(), re.MULTILINE)[0]),
            )
            for file in Path(folder).glob("out.*")
        ]
    costs = [cost for _, cost in sorted(found)][1::2]
    return dict(zip([name for name, _ in parts()], costs, strict=True))


def key(*, pure: bool) -> str:
    """Return what a count holds for: this Python as it was built, and the core."""
    built = f"{sysconfig.get_config_var('CONFIG_ARGS')} {platform.python_compiler()}"
    digest = hashlib.sha256(built.encode()).hexdigest()[:8]
    core = "python" if pure else "native"
    return f"{platform.machine()} {platform.python_version()} {digest} {core}"


def changes(found: dict[str, int], expected: dict[str, int]) -> Iterator[tuple[float, str]]:
    """Yield what differs by more than it may: how many times as much, and a line about it."""
    for name, cost in found.items():
        times = cost / expected.get(name, cost)
        if abs(times - 1) > TOLERANCE:
            yield times, f"{name}: {cost:,} instructions are {times:.3f} times what they were"


def main() -> None:
    """Count and compare; the exit code tells whether anything takes more than it may."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.instructions", description=__doc__)
    parser.add_argument("--record", action="store_true", help="write the counts of this Python")
    parser.add_argument("--count", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.count:
        count()
        return
    if shutil.which("valgrind") is None:
        msg = "valgrind is needed, which counts instructions"
        raise SystemExit(msg)
    recorded = json.loads(RECORDED.read_text()) if RECORDED.exists() else {}
    slower = False
    for pure in [True] if native.core() is None else [True, False]:
        name = key(pure=pure)
        found = counted(pure=pure)
        if args.record:
            recorded[name] = found
        for part, number in found.items():
            sys.stdout.write(f"{name}: {part}: {number:,}\n")
        if name not in recorded:
            sys.stdout.write(f"{name}: nothing is recorded; --record writes it\n")
        for times, line in changes(found, recorded.get(name, {})):
            sys.stdout.write(f"{name}: {line}; --record writes it, if it has to be\n")
            slower = slower or times > 1
    if args.record:
        RECORDED.write_text(json.dumps(recorded, indent=1, sort_keys=True) + "\n")
    raise SystemExit(slower)


if __name__ == "__main__":
    main()
