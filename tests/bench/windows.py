"""``python -m tests.bench.windows``: what open windows take, in memory and in stalls.

Every scenario runs in a process of its own on the pure pipeline, windows shed as a worker does:
after each poll, down to the limit. One upload of 1 KB is one event, a third of it as random as
ids and numbers are; estimate and RSS are in MiB, RSS is counted above the process that began, and
told by waiting event as B/event. Without a limit windows are packed from 64 MiB on, with one from
half of it.
"""

import argparse
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from hashlib import shake_128
from pathlib import Path
from typing import TypeVar

from forwarder.collect.pipeline import Pipeline
from forwarder.config.connection import Batching, Connection, Settings
from forwarder.config.targets import KinesisTarget
from forwarder.model import Collected, Partition
from forwarder.worker.memory import YoungCollections, tune_gc
from tests.bench.load import uploads
from tests.builders import NOW, START, Rec, lane_set

MIB = 1024 * 1024
POLL = 500
SLICE = 200
"""Windows shed in one call, as a worker does."""

HOUR_MS = 3_600_000
FOREVER = Batching(max_age_ms=100 * HOUR_MS, session_timeout_ms=HOUR_MS, session_max_ms=9 * HOUR_MS)
T = TypeVar("T")


class Timed:
    """Calls things and remembers the longest call of each kind, in milliseconds of CPU."""

    def __init__(self) -> None:
        self.longest: Counter[str] = Counter()
        self.spent = 0.0

    def __call__(self, name: str, call: Callable[[], T]) -> T:
        """Call it; nothing else runs meanwhile, so its time is the loop's stall."""
        begun = time.thread_time()
        result = call()
        took = time.thread_time() - begun
        self.spent += took
        self.longest[name] = max(self.longest[name], round(took * 1000))
        return result


def resident() -> int:
    """Return the process's resident memory in bytes."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


def records(count: int, devices: int, span_ms: int) -> Iterator[list[Rec]]:
    """Yield polls of uploads, the devices taking turns, over this much record time."""
    poll: list[Rec] = []
    for number, (_, value, _) in enumerate(uploads(count, devices)):
        before, pad, after = value.partition(b'"pad":"')
        width = min(160, after.index(b'"'))
        noise = shake_128(b"%d" % number).hexdigest(width // 2).encode()
        time_ms = START + span_ms * number // count
        poll.append(Rec(number, time_ms, before + pad + noise + after[len(noise) :]))
        if len(poll) == POLL:
            yield poll
            poll = []
    yield poll


def fill(pipeline: Pipeline, polls: Iterator[list[Rec]], limit: int, timed: Timed) -> Counter[str]:
    """Feed all polls, keeping to the limit (0: none); return windows closed by reason."""
    closed: Counter[str] = Counter()
    events = 0

    def count(out: Collected) -> None:
        nonlocal events
        closed.update({str(reason): number for (_, reason), number in out.closed.items()})
        events += sum(batch.count for batch in out.batches)

    young = YoungCollections()
    for poll in polls:
        count(timed("collect", lambda: pipeline.collect(poll, NOW)))  # noqa: B023  # called at once
        timed("collect garbage", lambda: young.add_records(len(poll)))  # noqa: B023
        while limit and (over := pipeline.memory_bytes() - limit) > 0:
            count(timed("shed", lambda: pipeline.shed(over, SLICE, NOW)))
    if events:
        closed["events in them"] = events
    return closed


def save(pipeline: Pipeline, timed: Timed) -> int:
    """Save all windows as a base does, slice by slice; return how many."""
    saving = pipeline.begin_checkpoint("acme", 1 << 40)
    count = 0
    while held := timed("save a slice", lambda: saving.take(MIB)):
        count += len(held)
    timed("settle", saving.settle)
    return count


def scenario(args: argparse.Namespace) -> str:
    """Run one scenario in this process; return its row."""
    sessions = args.events > 1
    settings = Settings(wait_for_complete_batch=sessions)
    acme = Connection(
        "acme", KinesisTarget("acme", "us-east-1"), batching=FOREVER, settings=settings
    )
    pipeline = Pipeline(Partition("raw", 0), lane_set(acme))
    limit = args.limit * MIB
    if limit:
        pipeline.compress_above(limit // 2)
    tune_gc()
    before, timed = resident(), Timed()
    count = args.devices * args.events
    closed = fill(
        pipeline, records(count, args.devices, 4 * HOUR_MS if sessions else 1), limit, timed
    )
    after, estimate = resident() - before, pipeline.memory_bytes()
    waiting = max(pipeline.waiting_events()["acme"], 1)
    each = timed.spent / count * 1e6
    saved = save(pipeline, timed) if args.save else 0
    calls = ", ".join(f"{name} {longest}" for name, longest in timed.longest.items())
    return (
        f"{args.devices:>9,} x {args.events:<4}{args.limit or '-':>6}{pipeline.open_windows():>11,}"
        f"{pipeline.waiting_bytes() / MIB:>8.0f}{estimate / MIB:>9.0f}{after / MIB:>7.0f}"
        f"{before / MIB:>6.0f}{after / waiting:>8.0f}{each:>7.1f}  longest ms: {calls}"
        f"{f'; {saved:,} saved' if saved else ''}; closed: {dict(closed) or 'none'}"
    )


def main() -> None:
    """Run one scenario, or each in a process of its own."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.windows", description=__doc__)
    parser.add_argument("--devices", type=int, default=1_000_000, help="(default: %(default)s)")
    parser.add_argument("--limit", type=int, default=512, help="MiB (default: %(default)s)")
    parser.add_argument("--events", type=int, default=0, help="a device; one scenario alone")
    parser.add_argument("--save", action="store_true", help="save all windows at the end")
    args = parser.parse_args()
    if args.events:
        sys.stdout.write(scenario(args) + "\n")
        return
    sys.stdout.write(
        f"{'devices x events':16}{'limit':>6}{'open':>11}{'events':>8}{'estimate':>9}{'RSS':>7}"
        f"{'base':>6}{'B/event':>8}{'µs':>7}\n"
    )
    for devices, events, limit in (
        (args.devices, 1, 0),
        (args.devices, 1, args.limit),
        (args.devices, 2, 2 * args.limit),
        (args.devices // 10, 10, args.limit),
        (args.devices // 100, 400, args.limit),
    ):
        size = ["--devices", str(devices), "--events", str(events), "--limit", str(limit)]
        command = [sys.executable, "-m", "tests.bench.windows", *size, "--save"]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
