"""``python -m tests.soak``: a soak of the size asked for; exit code 1 if anything is off.

With ``--pinpoint`` first, of the gateway and what is behind it.
"""

import argparse
import asyncio
import logging
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

from tests.soak import pinpoint, run


def arguments() -> argparse.Namespace:
    """Return the plan, and where everything may stay."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    gateway = "--pinpoint" in sys.argv
    parser.add_argument("--pinpoint", action="store_true", help="kill a gateway, too")
    for field in fields(pinpoint.Plan if gateway else run.Plan):
        parser.add_argument(
            f"--{field.name}", type=type(field.default), default=field.default,
            help="default: %(default)s",
        )  # fmt: skip
    parser.add_argument("--keep", type=Path, help="folder for configuration, logs and books")
    return parser.parse_args()


def main() -> int:
    """Run the soak and print what it found; keep everything if something is wrong."""
    args = vars(arguments())
    keep, gateway = args.pop("keep"), args.pop("pinpoint")
    folder = (keep or Path(tempfile.mkdtemp(prefix="soak-"))).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()

    def say(what: str) -> None:
        sys.stderr.write(f"{time.monotonic() - begun:7.1f} s  {what}\n")
        sys.stderr.flush()

    # Kafka is going to be away, and its clients here say so several times a second.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    say(f"in {folder}")
    text, bad = asyncio.run(perform(args, folder, say, gateway=gateway))
    sys.stdout.write(text + "\n")
    if not bad and keep is None:
        shutil.rmtree(folder)
    return 1 if bad else 0


async def perform(
    args: dict[str, Any], folder: Path, say: Callable[[str], None], *, gateway: bool
) -> tuple[str, bool]:
    """Run one of the two soaks; return what it found, and whether anything is wrong."""
    if gateway:
        killed = await pinpoint.soak(pinpoint.Plan(**args), folder, say)
        return killed.text(), bool(killed.faults)
    result = await run.soak(run.Plan(**args), folder, say)
    return result.text(), result.faults > 0


if __name__ == "__main__":
    sys.exit(main())
