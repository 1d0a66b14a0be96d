"""``python -m tests.faults``: the rows asked for; exit code 1 if anything was lost or reordered."""

import argparse
import asyncio
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path

from tests.faults import aws, report
from tests.faults.matrix import ROWS
from tests.faults.rows import Row
from tests.faults.run import run
from tests.faults.stage import Outcome, Plan
from tests.services.kafka import Broker


def arguments() -> argparse.Namespace:
    """Return which rows, how large, and where everything stays."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    for field in fields(Plan):
        parser.add_argument(
            f"--{field.name}", type=type(field.default), default=field.default,
            help="default: %(default)s",
        )  # fmt: skip
    parser.add_argument(
        "--only", action="append", choices=[row.name for row in ROWS], default=[],
        metavar="NAME", help="a row; may be given again. " + ", ".join(row.name for row in ROWS),
    )  # fmt: skip
    parser.add_argument(
        "--together", action="store_true", help="all rows beside each other, as lanes of one worker"
    )
    parser.add_argument("--keep", type=Path, help="folder for configuration, logs and books")
    return parser.parse_args()


async def matrix(
    runs: Sequence[Sequence[Row]], plan: Plan, folder: Path, say: Callable[[str], None]
) -> list[Outcome]:
    """Run these runs one after the other on one Kafka."""
    broker = Broker(folder / "kafka")
    await asyncio.to_thread(broker.start)
    found = []
    try:
        for number, rows in enumerate(runs):
            say(", ".join(f"{row.name} ({row.told})" for row in rows))
            place = folder / f"run-{number}"
            place.mkdir(parents=True, exist_ok=True)
            with aws.running(place / "books.ndjson") as fake:
                given = broker.bootstrap, fake, place / "books.ndjson"
                found.append(await run(rows, plan, given, place, say))
            say("so far:\n" + told(found))
    finally:
        await asyncio.to_thread(broker.stop)
    return found


def told(outcomes: Sequence[Outcome]) -> str:
    """Return all that runs found, for people."""
    lines = [line for one in outcomes for line in report.lines(one)]
    weighed = [report.memory(one, row) for one in outcomes for row in one.rows if row.weighed]
    wrong = [f"WRONG: {what}" for one in outcomes for what in report.wrong(one)]
    return "\n".join([report.table(lines), *weighed, *wrong])


def main() -> int:
    """Run what is asked for and print what it found."""
    args = vars(arguments())
    keep, only, together = args.pop("keep"), args.pop("only"), args.pop("together")
    rows = [row for row in ROWS if row.name in only or not only]
    folder = (keep or Path(tempfile.mkdtemp(prefix="faults-"))).resolve()
    begun = time.monotonic()

    def say(what: str) -> None:
        sys.stderr.write(f"{time.monotonic() - begun:7.1f} s  {what}\n")
        sys.stderr.flush()

    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    say(f"in {folder}")
    runs = [rows] if together else [[row] for row in rows]
    outcomes = asyncio.run(matrix(runs, Plan(**args), folder, say))
    sys.stdout.write(told(outcomes) + "\n")
    return 1 if sum(map(report.faults, outcomes)) else 0


if __name__ == "__main__":
    sys.exit(main())
