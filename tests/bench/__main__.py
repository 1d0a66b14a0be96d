"""``python -m tests.bench``: what an event costs a worker, as a whole process on a real broker.

Each load is measured beside floors and a plain alternative on the same topic: reading it with
aiokafka, reading and parsing it, and doing the job without any guarantee. Ratios come first, since
they hold on other machines too; every figure is CPU time, from rest to rest, a median of three.
Without ``--load`` or ``--other`` everything is measured, on a
machine of two cores with nothing else to do; ``--page`` then writes docs/performance.md and
docs/scaling.md.
"""

import argparse
import asyncio
import json
import logging
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.bench import environments, others, page, peers, report, ways
from tests.bench.compare import FLOORS, Services, compare
from tests.bench.loads import LOADS, Load
from tests.bench.sink_process import SinkProcess
from tests.bench.whole import Program
from tests.services.kafka import Broker

BEFORE = "ae87f47"
"""The last commit before there was a native core."""


def arguments() -> argparse.Namespace:
    """Return what was asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description=__doc__,
        epilog="python -m tests.bench --only WAY measures formats beside each other, and a gateway",
    )
    parser.add_argument("--load", nargs="+", choices=LOADS, metavar="NAME", help=", ".join(LOADS))
    parser.add_argument(
        "--other", nargs="+", choices=others.OTHERS, metavar="NAME", help=", ".join(others.OTHERS)
    )
    parser.add_argument("--tree", type=Path, help="another commit's work tree, beside this one")
    parser.add_argument("--pure", action="store_true", help="without the native core, too")
    parser.add_argument("--bare", action="store_true", help="no floors, no plain alternative")
    parser.add_argument("--uploads", type=int, help="of a round, other than the load's")
    parser.add_argument("--rounds", type=int, help="other than the load's")
    parser.add_argument("--workers", type=int, help="in one group, other than the load's")
    parser.add_argument("--peers", action="store_true", help="Bytewax and Quix Streams, too")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    parser.add_argument("--page", action="store_true", help="write the pages in docs, too")
    return parser.parse_args()


def programs(args: argparse.Namespace, load: Load, *, everything: bool) -> dict[str, Program]:
    """Return which programs run a load."""
    found = {report.WORKER: Program()}
    if args.pure or (everything and "pure" in load.others):
        found[report.PURE] = Program(native=False)
    if everything and "before" in load.others:
        found[report.BEFORE] = Program(others.archived(BEFORE, environments.FOLDER))
    if args.tree:
        found["other tree"] = Program(args.tree.resolve())
        if args.pure:
            found["other tree, pure Python"] = Program(args.tree.resolve(), native=False)
    return found


def is_everything(args: argparse.Namespace) -> bool:
    """Tell whether nothing was chosen."""
    return not (args.load or args.other or args.peers)


def sized(args: argparse.Namespace, load: Load) -> Load:
    """Return a load of the size that was asked for."""
    return load._replace(
        uploads=args.uploads or load.uploads,
        rounds=args.rounds or load.rounds,
        workers=args.workers or load.workers,
    )


def measured(args: argparse.Namespace, services: Services) -> dict[str, Any]:
    """Measure what was asked for; return the figures."""
    everything = is_everything(args)
    figures: dict[str, Any] = {"about": report.about(), "loads": {}, "others": {}}
    for name in args.load or (LOADS if everything else ()):
        load = sized(args, LOADS[name])
        running = compare(
            name,
            load,
            programs(args, load, everything=everything),
            services,
            floors=() if args.bare else FLOORS,
            plain=not args.bare,
        )
        found = asyncio.run(running)
        figures["loads"][name] = report.figures(load, found)
        sys.stdout.write(report.text(name, load, found))
        sys.stdout.flush()
    names = args.other or (others.OTHERS if everything else ())
    figures["others"] = others.run(list(names), services)
    if args.peers:
        figures["peers"] = asyncio.run(peers.measured(services))
        for name, spent in figures["peers"].items():
            sys.stdout.write(f"{name:24}{spent:8.1f} µs an event\n")
    return figures


def main() -> None:
    """Measure and print."""
    if "--only" in sys.argv:
        ways.main()
        return
    args = arguments()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it tries again, and says so
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        broker = Broker(folder / "kafka")
        broker.start()
        stack.callback(broker.stop)
        sink = stack.enter_context(SinkProcess())
        figures = measured(args, Services(broker.bootstrap, folder, sink))
    if is_everything(args):
        sys.stdout.write("\n".join(page.targets(figures)) + "\n")
    line = json.dumps(figures)
    sys.stdout.write(line + "\n")
    if args.json:
        args.json.write_text(line + "\n")
    if args.page:
        page.keep(figures)
        page.write()


if __name__ == "__main__":
    main()
