"""``python -m tests.bench.shared``: what lanes that want the same uploads take, and its estimate.

Prints a JSON object. Runs in a process of its own, whose resident memory is what is counted.
"""

import argparse
import json
import sys

from forwarder.collect.pipeline import Pipeline
from forwarder.config.connection import Connection, Settings
from forwarder.config.targets import KinesisTarget
from forwarder.model import Partition
from forwarder.worker.memory import tune_gc
from tests.bench.windows import FOREVER, HOUR_MS, MIB, Timed, fill, records, resident
from tests.builders import lane_set


def main() -> None:
    """Fill a pipeline of several lanes, close nothing, and print what it takes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lanes", type=int, required=True)
    parser.add_argument("--devices", type=int, required=True)
    parser.add_argument("--events", type=int, required=True, help="a device")
    parser.add_argument("--roomy", type=int, default=0, help="MiB above which windows are packed")
    args = parser.parse_args()
    target = KinesisTarget("acme", "us-east-1")
    lanes = [
        Connection(f"acme-{number}", target, batching=FOREVER, settings=Settings())
        for number in range(args.lanes)
    ]
    pipeline = Pipeline(Partition("raw", 0), lane_set(*lanes))
    pipeline.compress_above((args.roomy or 1 << 20) * MIB)
    tune_gc()
    before, timed = resident(), Timed()
    count = args.devices * args.events
    fill(pipeline, records(count, args.devices, HOUR_MS // 2), 0, timed)
    took, estimate = resident() - before, pipeline.memory_bytes()
    found = {
        "resident_bytes": took,
        "estimate_bytes": estimate,
        "bytes_an_event": round(took / count),
        "estimate": round(estimate / took, 3),
        "cpu_us": round(timed.spent / count * 1e6, 2),
    }
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
