"""Play many histories, in several processes."""

import multiprocessing
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed

from tests.model.history import history, play, quietly

CHUNK = 50
"""Histories played in one go."""

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
    with ProcessPoolExecutor(
        jobs, multiprocessing.get_context("spawn"), max_tasks_per_child=40
    ) as pool:
        try:
            for future in as_completed([pool.submit(chunk, part) for part in parts]):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)
