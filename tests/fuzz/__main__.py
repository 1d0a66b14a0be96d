"""``python -m tests.fuzz``: hold both cores against each other on mutated input; 1 if they differ.

``--cases 10000000`` records in all, half of them in each format; in ``--processes`` at once. A
tenth of them goes through the whole pipeline, the others through decoders. ``--block`` runs the one
that a difference names.
"""

import argparse
import itertools
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import cache

from tests import cores
from tests.fuzz.mutate import Mutator
from tests.fuzz.pairs import FORMS, Block, Difference, compared, mutated
from tests.fuzz.seeds import seeds

TOGETHER = 20
"""Blocks that a process is given at once: some thousand records."""
MOST = 20
"""Differences after which it is no use to go on."""
QUIET = 20.0
"""Seconds between two lines about how far it is."""

Task = tuple[Block, ...]
Outcome = tuple[int, list[Difference]]


@cache
def mutator(form: str) -> Mutator:
    """Return what makes values of a format: one for all blocks of a process."""
    return Mutator(seeds(form))


def run(task: Task) -> Outcome:
    """Compare some blocks; return the number of records, and the differences."""
    found = [compared(block, mutated(mutator(block.form))) for block in task]
    return sum(count for count, _ in found), [one for _, one in found if one is not None]


def tasks(seed: int) -> Iterator[Task]:
    """Yield blocks without end: of each format in turn, one task of ten in the whole pipeline."""
    for number in itertools.count():
        way = "collect" if number // len(FORMS) % 10 == 9 else "scan"
        numbers = range(number * TOGETHER, (number + 1) * TOGETHER)
        yield tuple(Block(seed, way, FORMS[number % len(FORMS)], one) for one in numbers)


def main() -> int:
    """Do it; return the exit code."""
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--block", help="seed:way:form:number, as a difference names it")
    args = parser.parse_args()
    if not cores.is_built():
        sys.stderr.write("there is no native core: make native\n")
        return 2
    if args.block:
        seed, way, form, number = args.block.split(":")
        count, found = run((Block(int(seed), way, form, int(number)),))
        show(found)
        return report(count, found)
    return report(*in_processes(args.cases, args.seed, args.processes))


def in_processes(cases: int, seed: int, processes: int) -> Outcome:
    """Compare so many records; what a process dies of is a difference as well."""
    begun = told = time.monotonic()
    waiting, count = tasks(seed), 0
    found: list[Difference] = []
    with ProcessPoolExecutor(processes) as pool:
        running: dict[Future[Outcome], Task] = {}
        while count < cases and len(found) < MOST:
            while len(running) < 2 * processes:
                task = next(waiting)
                running[pool.submit(run, task)] = task
            for done in wait(running, return_when=FIRST_COMPLETED).done:
                task = running.pop(done)
                try:
                    more, differences = done.result()
                except BrokenProcessPool:
                    lost = [task, *running.values()]
                    text = f"a process died, in one of the blocks {[str(one[0]) for one in lost]}"
                    show([Difference(str(task[0]), text, "", ())])
                    return count, [*found, Difference(str(task[0]), text, "", ())]
                count += more
                found += differences
                show(differences)
            if time.monotonic() - told > QUIET:
                told = time.monotonic()
                rate = count / (told - begun)
                sys.stdout.write(
                    f"{count:,} records, {len(found)} differences, {rate:,.0f} a second\n"
                )
                sys.stdout.flush()
        pool.shutdown(cancel_futures=True)
    return count, found


def report(count: int, found: list[Difference]) -> int:
    """Print what was found; return the exit code."""
    sys.stdout.write(f"{count:,} records, {len(found)} differences\n")
    return 1 if found else 0


def show(found: list[Difference]) -> None:
    """Print differences, at once: a run may be ended before it is through."""
    for one in found:
        sys.stdout.write(f"\n--block {one.block}\n native: {one.native}\n python: {one.python}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
