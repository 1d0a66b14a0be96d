"""``python -m tests.bench.lag``: what lanes cost that are down for an hour, and their way back.

One partition in virtual time, its outbox in a file; lanes, queues and read-backs are the real
ones, destinations count and drop. One lane stays up: its worst delay is in virtual time, so it
shows what waits for what, not what shares the processor.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from array import array
from collections.abc import Iterator, MutableMapping, Sequence
from pathlib import Path

import structlog

from forwarder.deliver.budget import Budget
from forwarder.model import DELIVERED, Batch, Outcome
from tests import doubles
from tests.bench.windows import MIB, resident
from tests.lagging import Destination, Partition, some

UP = "up"


class FileLog(MutableMapping[int, tuple[str, bytes]]):
    """Records by offset, in a file; two numbers of each are in memory."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w+b")
        self._places = array("q")
        self._names: list[str] = []
        self.bytes = 0

    def __setitem__(self, offset: int, record: tuple[str, bytes]) -> None:
        name, value = record
        if name not in self._names:
            self._names.append(name)
        while len(self._places) < 3 * offset:
            self._places.extend((-1, 0, 0))
        self._file.seek(0, 2)
        self._places.extend((self._file.tell(), len(value), self._names.index(name)))
        self._file.write(value)
        self.bytes += len(value)

    def __getitem__(self, offset: int) -> tuple[str, bytes]:
        place = self._places[3 * offset : 3 * offset + 3]
        if not place or place[0] < 0:
            raise KeyError(offset)
        self._file.seek(place[0])
        return self._names[place[2]], self._file.read(place[1])

    def __delitem__(self, offset: int) -> None:
        msg = f"an outbox is only added to, and offset {offset} is to go"
        raise AssertionError(msg)

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self._places) // 3))

    def __len__(self) -> int:
        return len(self._places) // 3


class Counting(Destination):
    """A destination that counts what it gets and keeps nothing of it."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.slowest = 0.0

    async def put(self, batches: Sequence[Batch]) -> Sequence[Outcome]:
        await asyncio.sleep(self.seconds)
        if self.outcome is DELIVERED:
            now = asyncio.get_running_loop().time()
            self.count += len(batches)
            self.slowest = max(self.slowest, *(now - b.closed_at / 1000 for b in batches))
        return [self.outcome] * len(batches)


def committed(partition: Partition, tick: int, args: argparse.Namespace) -> None:
    """Commit one second's batches of every lane."""
    now = round(asyncio.get_running_loop().time() * 1000)
    partition.commit(
        **{n: some(f"{n}.{tick}", args.batches, args.size, closed_at=now) for n in partition.lanes}
    )
    partition.committed.clear()


def row(name: str, partition: Partition) -> str:
    """Return how much waits, and what it takes here."""
    down = [lane for name, lane in partition.lanes.items() if name != UP]
    lags = [lane.lag() for lane in down]
    payload = sum(lag.bytes for lag in lags) / MIB
    return (
        f"{name:24}{sum(lag.batches for lag in lags):>10,}{payload:>10.1f}"
        f"{sum(len(lane.queue) for lane in down):>12,}{partition.resident() / MIB:>10.2f}"
        f"{resident() / MIB:>8.1f}"
    )


async def bench(args: argparse.Namespace, folder: Path) -> None:
    """Run the hour and the way back; print as it goes."""

    def show(text: str) -> None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    partition = Partition(Budget(args.limit * MIB))
    log = FileLog(folder / "outbox")
    partition.stored = log  # type: ignore[assignment]  # a mapping all the same
    for name in [f"down{i}" for i in range(args.lanes)] + [UP]:
        partition.lane(name, sink=Counting()).seconds = 0.02
    show(f"{'':24}{'waiting':>10}{'MiB':>10}{'in memory':>12}{'MiB':>10}{'RSS':>8}")
    committed(partition, 0, args)
    await asyncio.sleep(1)
    for name, sink in partition.sinks.items():
        if name != UP:
            sink.close_down()
    for tick in range(1, args.seconds + 1):
        committed(partition, tick, args)
        await asyncio.sleep(1)
        if tick in {60, args.seconds // 2, args.seconds}:
            show(row(f"down for {tick:,} s", partition))
    up = partition.sinks[UP]
    assert isinstance(up, Counting)
    before, up.slowest, highest = up.slowest, 0.0, 0
    size = sum(lane.lag().bytes for lane in partition.lanes.values())
    for sink in partition.sinks.values():
        sink.mend()
    began, spent, tick = asyncio.get_running_loop().time(), time.thread_time(), args.seconds
    while not partition.idle():
        tick += 1
        committed(partition, tick, args)
        for _ in range(20):
            await asyncio.sleep(0.05)
            highest = max(highest, partition.resident())
    took, cpu = asyncio.get_running_loop().time() - began, time.thread_time() - spent
    show(row("all delivered", partition))
    show(
        f"the way back: {took:.0f} s of virtual time; {cpu:.1f} CPU-s, "
        f"{cpu / size * MIB * 1000:.1f} ms a MiB of payload; "
        f"{highest / MIB:.1f} of {args.limit} MiB in memory at most; "
        f"{partition.seen / MIB:,.0f} MiB read of {log.bytes / MIB:,.0f} stored; "
        f"the lane that stayed up: {before:.3f} s at worst before, {up.slowest:.3f} s meanwhile"
    )
    await partition.close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.lag", description=__doc__)
    parser.add_argument("--lanes", type=int, default=10, help="(default: %(default)s)")
    parser.add_argument("--seconds", type=int, default=3600, help="(default: %(default)s)")
    parser.add_argument("--batches", type=int, default=5, help="a lane and second")
    parser.add_argument("--size", type=int, default=2048, help="bytes (default: %(default)s)")
    parser.add_argument("--limit", type=int, default=64, help="MiB (default: %(default)s)")
    args = parser.parse_args()
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory(), processors=[])
    with tempfile.TemporaryDirectory(prefix="lag-") as folder:
        doubles.run_virtually(bench(args, Path(folder)))


if __name__ == "__main__":
    main()
