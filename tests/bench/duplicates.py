"""``python -m tests.bench.duplicates``: what looking for duplicates costs.

CPU of the pure pipeline without and with a window that holds all events, of both formats, one in a
hundred events sent again; and resident memory of a million identities, each of a record of its own
and ten to a record. Best of several runs: other work on the machine makes them slower only.
"""

import argparse
import gc
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor

from forwarder.collect.duplicates import Duplicates
from forwarder.collect.pipeline import Pipeline, compile_lanes
from forwarder.config.connection import Connection, Settings
from forwarder.config.targets import FileTarget
from forwarder.formats.contract import ContextShape, Upload
from forwarder.formats.registry import BUILT_IN
from forwarder.model import DuplicateWindow, Partition
from tests.bench import load, pinpoint_load
from tests.bench.windows import resident
from tests.builders import NOW, START, Rec

WINDOW = [DuplicateWindow(10_000_000, 0)]
POLL = 500
AGAIN_EVERY, AGAIN_AFTER = 100, 2_000
_SHAPE = ContextShape(frozenset(), plain=True, dated=False)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.duplicates", description=__doc__)
    parser.add_argument("--events", type=int, default=60_000)
    parser.add_argument("--identities", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=3)
    asked = parser.parse_args()
    for form in ("mparticle", "pinpoint"):
        records = list(_retried(form, asked.events))
        off, on = (
            min(spent(form, records, looks=looks) for _ in range(asked.runs))
            for looks in (False, True)
        )
        count = len(records)
        each = [seconds / count * 1e6 for seconds in (off, on)]
        print(  # noqa: T201
            f"{form}: {each[0]:.2f} µs an event without, {each[1]:.2f} with duplicates: "
            f"+{each[1] - each[0]:.2f} µs, {each[1] / each[0]:.3f} times"
        )
    for together in (1, 10):
        # Each in a process of its own: what another run has freed would count as nothing.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as alone:
            size = alone.submit(identity_bytes, asked.identities, together).result()
        print(f"{size:.0f} bytes an identity, {together} to a record")  # noqa: T201


def _retried(form: str, count: int) -> Iterator[Rec]:
    """Yield records of one event, one in a hundred sent again a little later."""
    make = pinpoint_load.records if form == "pinpoint" else load.uploads
    rows = [(value, at) for _, value, at in make(count, 2_000)]
    if form == "mparticle":  # the load's request id is always the same
        rows = [
            (value.replace(b"0b6b1d0e-3f0c", b"0b6b1d0e-%04x" % (n & 0xFFFF), 1), at)
            for n, (value, at) in enumerate(rows)
        ]
    offset = 0
    for number, (value, at) in enumerate(rows):
        yield Rec(offset, START + at, value)
        offset += 1
        if number > AGAIN_AFTER and not number % AGAIN_EVERY:
            yield Rec(offset, START + at, rows[number - AGAIN_AFTER][0])
            offset += 1


def spent(form: str, records: Sequence[Rec], *, looks: bool) -> float:
    """Return the CPU seconds of a pipeline over these records."""
    chosen = Connection("acme", FileTarget("out"), settings=Settings())
    lanes = compile_lanes([chosen], form, BUILT_IN)
    found = Duplicates(WINDOW, 0) if looks else None
    pipeline = Pipeline(Partition("in", 0), lanes, duplicates=found)
    polls = [records[at : at + POLL] for at in range(0, len(records), POLL)]
    dropped = 0
    gc.collect()
    gc.freeze()
    began = time.process_time()
    for poll in polls:
        dropped += pipeline.collect(poll, NOW).duplicates
    took = time.process_time() - began
    if looks and not dropped:
        message = "nothing was found that came again"
        raise SystemExit(message)
    return took


def identity_bytes(count: int, together: int) -> float:
    """Return the resident bytes of an identity, of so many in the window."""
    found = Duplicates(WINDOW, 0)
    gc.collect()
    before = resident()
    numbers = iter(range(count))
    offset = 0
    while some := [next(numbers, None) for _ in range(together)]:
        names = [b"a1b2c3/endpoint-%d/%032x" % (n, n) for n in some if n is not None]
        if not names:
            break
        time_ms = int(START) + offset
        upload = Upload(
            offset, 0, time_ms, time_ms, b"d", b"d", b"", b"", ["tap"] * len(names), [], [],
            b"", b"{}", _SHAPE, duplicate_keys=names,
        )  # fmt: skip
        found.mark([Rec(offset, time_ms, b"")], [upload])
        offset += 1
    gc.collect()
    if found.identities() != count:
        message = f"{found.identities()} of {count} are remembered: fewer fit into the window"
        raise SystemExit(message)
    return (resident() - before) / count


if __name__ == "__main__":
    main()
