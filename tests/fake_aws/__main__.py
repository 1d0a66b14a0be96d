"""``python -m tests.fake_aws --port 0 --books FILE``: a fake AWS as a process; prints its port."""

import argparse
import asyncio
import contextlib
import sys
from pathlib import Path

import msgspec

from tests.fake_aws import UNLIMITED, UNLIMITED_FIREHOSE, FakeAws, Terms, control
from tests.fake_aws.books import Books
from tests.fake_aws.shards import Limits, firehose_limits


def main() -> None:
    """Serve until killed."""
    told = _parser().parse_args()
    terms = Terms(
        signed=not told.unsigned,
        open_streams=told.open_streams,
        stranger_secret=told.stranger_secret,
        keeps=told.keep or told.books is None,
        limits=UNLIMITED if told.unlimited else Limits(),
        firehose_limits=UNLIMITED_FIREHOSE if told.unlimited else firehose_limits(),
    )
    with contextlib.ExitStack() as open_files:
        books = None
        if told.books is not None:
            books = Books(open_files.enter_context(told.books.open("ab", buffering=0)))
        aws = FakeAws(terms, books=books, seed=told.seed)
        if told.world is not None:
            new = msgspec.json.decode(told.world.read_bytes(), type=control.NewWorld)
            control.make(aws.world, new)
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(_serve(aws, told.port))


async def _serve(aws: FakeAws, port: int) -> None:
    sys.stdout.write(f"{await aws.start(port)}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.fake_aws", description=__doc__)
    add = parser.add_argument
    add("--port", type=int, default=0, help="0: any that is free")
    add("--books", type=Path, help="write each put that stored something here, a line of JSON")
    add("--seed", type=int, default=0, help="of the dice that faults with a rate throw")
    add(
        "--world", type=Path, help="streams, roles and users to begin with, as POST /_control/world"
    )
    add("--keep", action="store_true", help="keep values in memory although there are books")
    add("--open-streams", action="store_true", help="a stream is made by its first put")
    add("--unlimited", action="store_true", help="shards take any number of records and bytes")
    add("--unsigned", action="store_true", help="believe signatures, for speed")
    add("--stranger-secret", metavar="SECRET", help="of every access key that nobody knows")
    return parser


if __name__ == "__main__":
    main()
