"""Run histories, many of them: ``python -m tests.model --histories 100000 --seed 1 --jobs 2``.

``--play SEED`` plays one history and says what came of it; ``--mutations`` looks for the
histories that find each mutation, and stores them for the tests.
"""

import argparse
import sys
import time
from collections import Counter

from tests.model import found
from tests.model.history import history, kind, play, quietly, shrink, text
from tests.model.mutations import MUTATIONS, Mutation, applied
from tests.model.runs import CHUNK, chunks

TRIES = 1_500
"""Histories after which a mutation counts as not found."""


def main() -> int:
    """Run what the command line asks for; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.model", description=__doc__)
    parser.add_argument("--histories", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=0, help="of the first history")
    parser.add_argument("--jobs", type=int, default=1, help="processes to use")
    parser.add_argument("--play", type=int, metavar="SEED", help="play one history")
    parser.add_argument("--mutations", nargs="*", metavar="NAME", help="find these, or all")
    asked = parser.parse_args()
    if asked.mutations is not None:
        return search(asked.mutations)
    if asked.play is not None:
        return one(asked.play)
    return many(range(asked.seed, asked.seed + asked.histories), asked.jobs)


def many(seeds: range, jobs: int) -> int:
    """Play all, print progress and what happened; stop at the first fault and shrink it."""
    began, done, seen = time.monotonic(), 0, Counter[str]()
    for part, happened, faults in chunks(seeds, jobs):
        seen.update(happened)
        done += len(part)
        if faults:
            return explain(*faults[0])
        if done % 1_000 < CHUNK or done == len(seeds):
            rate = done / (time.monotonic() - began)
            print(f"{done} histories, {rate:.1f} a second", flush=True)  # noqa: T201
    for what, times in sorted(seen.items()):
        print(f"{times:12,} {what}")  # noqa: T201
    return 0


def one(seed: int) -> int:
    """Play one history; return 1 if it breaks something."""
    with quietly():
        fault, world = play(*history(seed))
    for what, times in sorted(world.seen.items()):
        print(f"{times:12,} {what}")  # noqa: T201
    return explain(seed, fault) if fault is not None else 0


def explain(seed: int, fault: str) -> int:
    """Print a fault, and the shortest history that still shows it."""
    print(f"history {seed}: {fault}", flush=True)  # noqa: T201
    with quietly():
        setting, actions = shrink(*history(seed), kind(fault))
        again, _ = play(setting, actions)
    print(f"shrunk: {again}\n{text(setting, actions)}")  # noqa: T201
    return 1


def search(names: list[str]) -> int:
    """Find a short history for each mutation and store it."""
    missed = 0
    for mutation in MUTATIONS:
        if not names or mutation.name in names:
            missed += not _search(mutation)
    return 1 if missed else 0


def _search(mutation: Mutation) -> bool:
    with quietly(), applied(mutation):
        for seed in range(TRIES):
            fault, _ = play(*history(seed))
            if fault is not None:
                setting, actions = shrink(*history(seed), kind(fault), 120)
                fault = play(setting, actions)[0] or fault
                found.store(mutation.name, found.Found(seed, fault, setting, actions))
                what = f"history {seed}, {len(actions)} actions: {fault}"
                print(f"{mutation.name}: {what}", flush=True)  # noqa: T201
                return True
    print(f"{mutation.name}: not found in {TRIES} histories", flush=True)  # noqa: T201
    return False


if __name__ == "__main__":
    sys.exit(main())
