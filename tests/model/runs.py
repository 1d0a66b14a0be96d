"""Play many histories, in several processes."""

import multiprocessing
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed

from tests.model.history import history, play, quietly

CHUNK = 50
"""Histories played in one go."""

LIFE = 40
"""Chunks after which a process is replaced."""

Played = tuple[range, Counter[str], list[tuple[int, str]]]
"""Which histories, what happened in them, and which of them broke what."""


def chunk(seeds: range) -> Played:
    """Play some histories; return what happened and what was broken."""
    seen: Counter[str] = Counter()
    faults = []
    with quietly():
        for seed in seeds:
            fault, world = play(*history(seed))
            seen.update(world.seen)
            if fault is not None:
                faults.append((seed, fault))
    return seeds, seen, faults


def chunks(seeds: range, jobs: int) -> Iterator[Played]:
    """Play histories a few at a time, in as many processes."""
    parts = [seeds[at : at + CHUNK] for at in range(0, len(seeds), CHUNK)]
    if jobs == 1:
        yield from map(chunk, parts)
        return
    for at in range(0, len(parts), LIFE * jobs):
        yield from _together(parts[at : at + LIFE * jobs], jobs)


def _together(parts: Sequence[range], jobs: int) -> Iterator[Played]:
    # New processes now and then keep their memory small. The executor's own way to that,
    # max_tasks_per_child, stands still for good in Python 3.11 (CPython issue 115634).
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        try:
            for future in as_completed([pool.submit(chunk, part) for part in parts]):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)
