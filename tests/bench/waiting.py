"""``python -m tests.bench.waiting``: memory of each event that waits, and the longest poll.

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
    """Fill a pipeline, close nothing, and print what it takes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, required=True)
    parser.add_argument("--events", type=int, required=True, help="a device")
    parser.add_argument("--roomy", type=int, default=0, help="MiB above which tails are compressed")
    args = parser.parse_args()
    settings = Settings(wait_for_complete_batch=args.events > 1)
    target = KinesisTarget("acme", "us-east-1")
    acme = Connection("acme", target, batching=FOREVER, settings=settings)
    pipeline = Pipeline(Partition("raw", 0), lane_set(acme))
    if args.roomy:
        pipeline.compress_above(args.roomy * MIB)
    tune_gc()
    before, timed = resident(), Timed()
    count = args.devices * args.events
    fill(pipeline, records(count, args.devices, HOUR_MS // 2), 0, timed)
    found = {
        "bytes_an_event": round((resident() - before) / count),
        "longest_poll_ms": max(timed.longest.values()),
        "windows": pipeline.open_windows(),
    }
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
