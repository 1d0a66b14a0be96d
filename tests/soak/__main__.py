"""``python -m tests.soak``: a soak of the size asked for; exit code 1 if anything is off."""

import argparse
import asyncio
import logging
import shutil
import sys
import tempfile
import time
from dataclasses import fields
from pathlib import Path

from tests.soak.run import Plan, soak


def arguments() -> argparse.Namespace:
    """Return the plan, and where everything may stay."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    for field in fields(Plan):
        parser.add_argument(
            f"--{field.name}", type=type(field.default), default=field.default,
            help="default: %(default)s",
        )  # fmt: skip
    parser.add_argument("--keep", type=Path, help="folder for configuration, logs and books")
    return parser.parse_args()


def main() -> int:
    """Run the soak and print what it found; keep everything if something is wrong."""
    args = vars(arguments())
    keep = args.pop("keep")
    folder = (keep or Path(tempfile.mkdtemp(prefix="soak-"))).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()

    def say(what: str) -> None:
        sys.stderr.write(f"{time.monotonic() - begun:7.1f} s  {what}\n")
        sys.stderr.flush()

    # Kafka is going to be away, and its clients here say so several times a second.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    say(f"in {folder}")
    result = asyncio.run(soak(Plan(**args), folder, say))
    sys.stdout.write(result.text() + "\n")
    if result.faults == 0 and keep is None:
        shutil.rmtree(folder)
    return 1 if result.faults else 0


if __name__ == "__main__":
    sys.exit(main())
