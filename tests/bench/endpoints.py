"""``python -m tests.bench.endpoints``: endpoints in a file and in PostgreSQL: bytes, times, rates.

Each store is filled through its own merges with endpoints as a mobile SDK sends them, then asked by
one caller after another, and by many at once. Both on this machine's disk, every answer durable.
"""

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from forwarder.config.gateway import GatewayLimits
from forwarder.gateway.endpoints.contract import EndpointStore, EndpointUpdate
from forwarder.gateway.endpoints.merge import make_merge
from forwarder.gateway.endpoints.postgres import PostgresStore
from forwarder.gateway.endpoints.sqlite import SqliteStore
from tests.services.postgres import PostgresServer

APP = uuid.UUID(int=7).hex
ARRIVAL = 1_767_225_600_000
A_FILL = 100
"""Endpoints in a request while a store is filled, 64 such requests at once."""
MERGE = make_merge(GatewayLimits())


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def endpoint_id(number: int) -> str:
    """Return an id as SDKs make them; in no order, so that indexes are met anywhere."""
    return str(uuid.UUID(int=number * 0x9E3779B97F4A7C15F39CC0605CEDC835 % (1 << 128)))


def update(number: int, at: int) -> EndpointUpdate:
    """Return what a mobile SDK says of its device: 640 bytes once stored."""
    given = {
        "Address": f"{number:064x}",
        "Attributes": {"interests": ["science", "music"], "app_build": ["412"]},
        "ChannelType": "APNS",
        "Demographic": {
            "AppVersion": "4.1.2",
            "Locale": "en_US",
            "Make": "apple",
            "Model": "iPhone15,2",
            "Platform": "ios",
            "PlatformVersion": "17.4.1",
            "Timezone": "America/Los_Angeles",
        },
        "Metrics": {"sessions": at},
        "OptOut": "NONE",
        "User": {"UserId": f"user-{number // 2}", "UserAttributes": {"plan": ["gold"]}},
    }
    return EndpointUpdate(given, ARRIVAL + at)


async def fill(store: EndpointStore, count: int) -> float:
    """Store so many endpoints; return the seconds that it took."""
    begun = time.perf_counter()
    starts = iter(range(0, count, A_FILL))

    async def lane() -> None:
        for start in starts:
            numbers = range(start, min(start + A_FILL, count))
            await store.merge(APP, {endpoint_id(n): update(n, 0) for n in numbers})

    await asyncio.gather(*(lane() for _ in range(64)))
    return time.perf_counter() - begun


async def timed(
    name: str, act: Callable[[int], Awaitable[object]], numbers: Sequence[int], lanes: int
) -> None:
    """Run something for each number, ``lanes`` at a time, and print how long each took."""
    took: list[float] = []
    left = iter(numbers)

    async def lane() -> None:
        for number in left:
            begun = time.perf_counter()
            await act(number)
            took.append(time.perf_counter() - begun)

    begun, spent = time.perf_counter(), time.process_time()
    await asyncio.gather(*(lane() for _ in range(lanes)))
    seconds, cpu = time.perf_counter() - begun, time.process_time() - spent
    took.sort()
    median, most = took[len(took) // 2] * 1e3, took[len(took) * 99 // 100] * 1e3
    each = cpu / len(took) * 1e6
    say(
        f"  {name:42}{lanes:5}{len(took) / seconds:10,.0f}/s{median:9.2f}{most:9.2f} ms"
        f"{each:8.0f} µs CPU"
    )


async def measure(store: EndpointStore, count: int, calls: int) -> None:
    """Ask a store that was filled with ``count`` endpoints."""
    chance = random.Random(1)  # noqa: S311  # the same for all
    at = iter(range(1, 1_000_000_000))

    def some(share: int = 1) -> list[int]:
        return [chance.randrange(count) for _ in range(calls // share)]

    async def read(number: int) -> None:
        assert await store.read(APP, endpoint_id(number)) is not None

    async def nothing(number: int) -> None:
        await store.merge(APP, {endpoint_id(number): EndpointUpdate({}, ARRIVAL)})

    async def change(number: int) -> None:
        await store.merge(APP, {endpoint_id(number): update(number, next(at))})

    async def user(number: int) -> None:
        assert len(await store.read_user(APP, f"user-{number // 2}")) == 2

    hot = some()[:2_000]
    await timed("read", read, some(4), 1)
    await timed("a user's endpoints", user, some(4), 1)
    await timed("merge that changes nothing", nothing, some(4), 1)
    await timed("merge that changes nothing", nothing, some(), 64)
    await timed("the same, of 2,000 that are active", nothing, hot * (calls // 2_000), 64)
    await timed("merge that changes", change, some(4), 1)
    await timed("merge that changes", change, some(), 64)
    await timed("merge that changes", change, some(), 512)


def size(folder: Path, pattern: str = "*") -> int:
    """Return the bytes that files take."""
    return sum(path.stat().st_size for path in folder.rglob(pattern) if path.is_file())


async def sqlite(count: int, calls: int) -> None:
    """Measure the file."""
    folder = Path(tempfile.mkdtemp(prefix="endpoints-"))
    try:
        store = await SqliteStore.open(folder / "endpoints.db", MERGE)
        seconds = await fill(store, count)
        await store.close()
        stored = size(folder)
        say(f"sqlite: {count:,} endpoints, {stored / count:,.0f} bytes each, {seconds:.0f} s")
        store = await SqliteStore.open(folder / "endpoints.db", MERGE)
        await measure(store, count, calls)
        await store.close()
    finally:
        shutil.rmtree(folder)


async def postgres(count: int, calls: int) -> None:
    """Measure a PostgreSQL with its own settings but for its memory and the log it keeps."""
    server = PostgresServer({"fsync": "on", "shared_buffers": "512MB", "max_wal_size": "4GB"})
    try:
        server.start()
        dsn = server.new_database()
        store = await PostgresStore.open(dsn, MERGE)
        seconds = await fill(store, count)
        stored = int(
            server.execute("VACUUM ANALYZE; SELECT pg_database_size(current_database())", dsn)
        )
        say(f"postgres: {count:,} endpoints, {stored / count:,.0f} bytes each, {seconds:.0f} s")
        await measure(store, count, calls)
        stored = int(server.execute("SELECT pg_database_size(current_database())", dsn))
        say(f"  {stored / count:,.0f} bytes each after all changes")
        await store.close()
    finally:
        server.remove()


def main() -> None:
    """Measure both."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.endpoints", description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000, help="endpoints in each store")
    parser.add_argument("--calls", type=int, default=40_000, help="calls of each kind")
    parser.add_argument("--only", choices=["sqlite", "postgres"])
    options = parser.parse_args()
    say(f"  {'':42}{'at once':>5}{'rate':>10}{'median':>11}{'p99':>9}")
    for name, run in (("sqlite", sqlite), ("postgres", postgres)):
        if options.only in {None, name}:
            asyncio.run(run(options.count, options.calls))


if __name__ == "__main__":
    main()
