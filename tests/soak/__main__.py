"""``python -m tests.soak``: a soak of the size asked for; exit code 1 if anything is off."""

import argparse
import asyncio
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path

from tests.acceptance.cluster import Cluster
from tests.services.kafka import Broker
from tests.services.ministack import MiniStack
from tests.soak.run import Plan, Result, Soak


def arguments() -> argparse.Namespace:
    """Return the plan, and where logs may stay."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    for field in fields(Plan):
        parser.add_argument(
            f"--{field.name}", type=type(field.default), default=field.default, metavar="N",
            help="default: %(default)s",
        )  # fmt: skip
    parser.add_argument("--keep", type=Path, help="folder for configuration and logs")
    return parser.parse_args()


async def soak(plan: Plan, bootstrap: str, aws: MiniStack, folder: Path) -> Result:
    """Run one soak on these services."""
    begun = time.monotonic()

    def say(what: str) -> None:
        sys.stderr.write(f"{time.monotonic() - begun:6.1f} s  {what}\n")

    async with Cluster(bootstrap) as cluster:
        return await Soak(plan, cluster, aws, folder, say).run()


def main() -> int:
    """Start the services, run the soak and print what it found."""
    args = vars(arguments())
    keep = args.pop("keep")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-")))
        broker = Broker(folder / "kafka")
        broker.start()
        stack.callback(broker.stop)
        aws = stack.enter_context(MiniStack())
        site = keep or folder / "site"
        site.mkdir(parents=True, exist_ok=True)
        result = asyncio.run(soak(Plan(**args), broker.bootstrap, aws, site))
    sys.stdout.write(result.text() + "\n")
    return 1 if result.faults else 0


if __name__ == "__main__":
    sys.exit(main())
