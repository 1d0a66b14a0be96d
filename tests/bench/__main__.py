"""``python -m tests.bench``: what an event costs a worker, as a whole process on a real broker.

Each load is measured beside floors and a plain alternative on the same topic: reading it with
aiokafka, reading and parsing it, and doing the job without any guarantee. Ratios come first, since
they hold on other machines too; every figure is CPU time, from rest to rest, a median of three.
"""

import argparse
import asyncio
import json
import logging
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from tests.bench import report, ways
from tests.bench.compare import FLOORS, Services, compare
from tests.bench.loads import LOADS
from tests.bench.sink_process import SinkProcess
from tests.bench.whole import Program
from tests.services.kafka import Broker

HERE = "worker"
OTHER = "other tree"
PURE = "pure Python"


def arguments() -> argparse.Namespace:
    """Return what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--load", nargs="+", choices=LOADS, metavar="NAME", help=", ".join(LOADS))
    parser.add_argument("--tree", type=Path, help="another commit's work tree, beside this one")
    parser.add_argument("--pure", action="store_true", help="without the native core, too")
    parser.add_argument("--bare", action="store_true", help="no floors, no plain alternative")
    parser.add_argument("--uploads", type=int, help="of a round, other than the load's")
    parser.add_argument("--rounds", type=int, help="other than the load's")
    parser.add_argument("--workers", type=int, default=1, help="workers in one group")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    if "--only" in sys.argv:
        ways.main()
        return
    args = arguments()
    programs = {HERE: Program()}
    if args.pure:
        programs[PURE] = Program(native=False)
    if args.tree:
        programs[OTHER] = Program(args.tree.resolve())
        if args.pure:
            programs[f"{OTHER}, {PURE}"] = Program(args.tree.resolve(), native=False)
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it tries again, and says so
    figures = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        broker = Broker(folder / "kafka")
        broker.start()
        stack.callback(broker.stop)
        sink = stack.enter_context(SinkProcess())
        for name in args.load or LOADS:
            load = LOADS[name]
            load = load._replace(
                uploads=args.uploads or load.uploads, rounds=args.rounds or load.rounds
            )
            found = asyncio.run(
                compare(
                    name,
                    load,
                    programs,
                    Services(broker.bootstrap, folder, sink),
                    floors=() if args.bare else FLOORS,
                    plain=not args.bare,
                    workers=args.workers,
                )
            )
            figures[name] = report.figures(load, found)
            sys.stdout.write(report.text(name, load, found))
            sys.stdout.flush()
    line = json.dumps(figures)
    sys.stdout.write(line + "\n")
    if args.json:
        args.json.write_text(line + "\n")


if __name__ == "__main__":
    main()
